"""What made a result: hashes of data, parameters and code, and the machine's traits that its last bits depend on."""

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from stages.config.experiment import Experiment, Submitted
from stages.data.scheme import read_scheme, scheme_file
from stages.system.files import digest
from stages.tracking.variant import variant

LOCK = Path("constraints.txt")
MEASURED = ("train", "predict", "evaluate")  # the stages whose code decides a figure
SUBMITTED = ("submit_file", "evaluate_submission")  # … of somebody else's predictions


def dvc_hash(path: Path) -> str:
    """The hash that DVC gives a file or a folder: from dvc.lock in a stage that DVC runs, else computed in its way."""
    if os.environ.get("DVC_STAGE"):
        # DVC has just checked or made the stage's deps, so its lock file is current and nothing need be read again
        locked = _locked_outs().get(path.as_posix())
        if locked is not None:
            return locked
    return content_hash(path)


def _locked_outs() -> dict[str, str]:
    """The hash of every out in dvc.lock, by path."""
    lock = Path("dvc.lock")
    stages = ((yaml.safe_load(lock.read_text(encoding="utf-8")) or {}) if lock.exists() else {}).get("stages", {})
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def _is_ignored(path: Path) -> bool:
    """Whether .dvcignore names it."""
    return path.suffix == ".pyc" or any(
        part == "__pycache__" or (part.startswith(".") and part.endswith(".tmp")) for part in path.parts
    )


def hashed_files(path: Path) -> list[Path]:
    """The files that DVC's hash of a file or a folder covers; none where there is nothing."""
    if path.is_file():
        return [path]
    return [file for file in path.rglob("*") if file.is_file() and not _is_ignored(file.relative_to(path))]


def folder_hash(listing: Mapping[str, str]) -> str:
    """The hash that DVC gives a folder of these files: MD5 by path relative to the folder."""
    entries = [{"md5": md5, "relpath": name} for name, md5 in sorted(listing.items())]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


def content_hash(path: Path) -> str:
    """The hash that DVC gives to what is in a file or a folder now."""
    if path.is_file():
        return digest(path, "md5")
    return folder_hash({file.relative_to(path).as_posix(): digest(file, "md5") for file in hashed_files(path)})


def short_hash(content: object) -> str:
    """A hash of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def code_hash(*stages: str) -> str:
    """One hash of the code that dvc.yaml declares for these stages."""
    declared = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    deps = {dep for stage in stages for dep in declared[stage]["do"]["deps"] if dep.startswith("stages/")}
    return short_hash({dep: content_hash(Path(dep)) for dep in sorted(deps)})


def environment() -> dict[str, str | int]:
    """The traits that a result's last bits depend on: locked packages, CPU model, threads, instruction-set cap, GPU."""
    import torch  # 1.5 s, for the stages that ask alone

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.partition(":")[2].strip()
            for line in info.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        cpu = models[0] if models else cpu
    caps = {
        name: os.environ[name]
        for name in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR")
        if name in os.environ
    }
    isa = torch.backends.cpu.get_cpu_capability() + "".join(f" {name}={value}" for name, value in caps.items())
    lock = digest(LOCK)[:32] if LOCK.exists() else "none"
    return {"lock": lock, "cpu": cpu, "threads": torch.get_num_threads(), "isa": isa, **_graphics()}


def _graphics() -> dict[str, str | int]:
    """The GPU, its driver, the CUDA that torch was built with and the number of processes; nothing without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {}
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        driver = ""
    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": driver or "unknown",
        "cuda": torch.version.cuda or f"ROCm {torch.version.hip}",
        "world_size": int(os.environ.get("WORLD_SIZE", 1)),  # as torchrun sets it
    }


@dataclass(frozen=True)
class Identity:
    """What identifies an experiment's MLflow run: everything that decides its figures."""

    experiment: str
    dataset: str
    recipe: str
    init: str
    hashes: Mapping[str, str]  # of its data, parameters, code and initial weights
    parameters: Mapping[str, object]
    labels: Mapping[str, str]  # that decide nothing: its entry in params/pipeline.yaml, the variant and the seed

    @property
    def fingerprint(self) -> str:
        """One hash of all of it; the run is found by it."""
        return short_hash([self.experiment, dict(self.hashes)])

    def of_training(self) -> str:
        """One hash of what decides the weights: a checkpoint is resumed only where it is the same."""
        recipe = {name: section for name, section in self.parameters.items() if name != "evaluate"}
        hashes = {name: self.hashes[name] for name in ("data", "init")}
        hashes |= {"scheme": dvc_hash(scheme_file(self.dataset)), "code": code_hash("train")}
        return short_hash([self.experiment, recipe, hashes])

    def tags(self) -> dict[str, str]:
        names = {"dataset": self.dataset, "recipe": self.recipe} | ({"init": self.init} if self.init else {})
        hashes = {"initial_weights" if name == "init" else name: value for name, value in self.hashes.items()}
        return names | hashes | dict(self.labels)


def identify(experiment: Experiment | Submitted) -> Identity:
    """The identity of the experiment whose model it is, as parameters, data, code and initial weights are now."""
    if isinstance(experiment, Submitted):
        return _identify_submission(experiment)
    scheme = read_scheme(experiment.trained_on).model_dump()
    hashes = {
        "data": dvc_hash(Path("data/crops") / experiment.trained_on),
        "params": short_hash([experiment.parameters, scheme]),
        "code": code_hash(*MEASURED),
        "init": dvc_hash(experiment.initial_weights),
    }
    dataset, recipe = experiment.parameters["dataset"], experiment.parameters["recipe"]
    logged = {**recipe, "source": dataset["source"], "crops": dataset["crops"], "landmarks": dataset["landmarks"]}
    differs = variant(experiment)
    labels = {"entry": experiment.entry, "variant": differs, "seed": str(recipe["train"]["seed"])}
    labels["series"] = f"{experiment.entry} {differs}".strip()  # what the runs of several seeds have in common
    return Identity(
        experiment.model_name, experiment.trained_on, experiment.recipe_name, experiment.init, hashes, logged, labels
    )


def series_key(experiment: Experiment | Submitted, identity: Identity) -> str:
    """A hash of all that identifies an experiment but its seed: experiments with the same key are one series."""
    if isinstance(experiment, Submitted):
        hashes = {name: identity.hashes[name] for name in ("data", "code")}
        return short_hash([experiment.dataset, experiment.parameters | {"seed": None}, hashes])
    recipe = dict(experiment.parameters["recipe"])
    recipe["train"] = {key: value for key, value in recipe["train"].items() if key != "seed"}
    hashes = {name: value for name, value in identity.hashes.items() if name != "params"}
    if experiment.init_entry != experiment.init:  # each seed starts from another one's same seed
        hashes["init"] = experiment.init_entry or hashes["init"]
    scheme = read_scheme(experiment.trained_on).model_dump()
    return short_hash([experiment.trained_on, experiment.parameters["dataset"], scheme, recipe, hashes])


def _identify_submission(submitted: Submitted) -> Identity:
    """By its predictions, wherever they come from."""
    described = submitted.described
    hashes = {
        "data": dvc_hash(submitted.crops),
        "params": short_hash(submitted.parameters),
        "code": code_hash(*SUBMITTED),
        "predictions": dvc_hash(submitted.predictions),
    }
    title = described.about.title
    labels = {"entry": submitted.entry, "variant": title, "series": submitted.entry, "kind": "submission"}
    if submitted.seed is not None:
        labels["seed"] = str(submitted.seed)
    source = {name: value for name, value in described.model_dump(exclude_none=True).items() if name != "about"}
    logged = described.about.model_dump() | source
    return Identity(submitted.name, submitted.dataset, title, "", hashes, logged, labels)


def changed_since(experiment: Experiment | Submitted, hashes: Mapping[str, str]) -> list[str]:
    """Which of code, parameters, data and initial weights are no longer those of results with these hashes.

    Nothing large is read: data and weights are as dvc.lock has them, and what is not at hand counts as unchanged.
    """
    if isinstance(experiment, Submitted):
        return [] if hashes.get("code") == code_hash(*SUBMITTED) else ["code"]
    now = {"code": code_hash(*MEASURED)}
    if scheme_file(experiment.trained_on).exists():
        now["params"] = short_hash([experiment.parameters, read_scheme(experiment.trained_on).model_dump()])
    outs = _locked_outs()
    for name, path in (("data", experiment.crops), ("init", experiment.initial_weights)):
        if path.as_posix() in outs:
            now[name] = outs[path.as_posix()]
    words = {"code": "code", "params": "parameters", "data": "data", "init": "initial weights"}
    return [words[name] for name in words if name in now and hashes.get(name) != now[name]]
