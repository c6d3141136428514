"""The whole report from predictions: metrics with their intervals, the experiments' pages, and the results page."""

import contextlib
import io
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from stages import evaluate, report
from stages.config.schemes import load_dataset_scheme
from stages.data.crops import windows, write_index
from stages.data.faces import Faces
from stages.data.scheme import write_scheme
from stages.inference.perturbation import perturbations
from stages.predictions.table import Made, Predictions, write_predictions
from stages.sources.demo.render import render
from stages.system.files import write_json
from tests.bench.measure import Figure

ROOT = Path(__file__).parents[2]
SUBSETS = ("largepose", "expression", "illumination", "makeup", "occlusion", "blur")  # and test itself
RECIPES = ("quick", "paper-128")  # two experiments, so that they are compared
CROP = 64  # px; only the gallery's are read


def made_up(n: int) -> Faces:
    """n faces of one shape, scaled and moved, each in a third of the subsets."""
    random = np.random.default_rng(0)
    shape = render(1, "test", 0, 256).landmarks
    landmarks = shape * random.uniform(0.5, 2, (n, 1, 1)) + random.normal(0, 3, (n, len(shape), 2))
    low, high = landmarks.min(1), landmarks.max(1)
    member = random.random((n, len(SUBSETS))) < 1 / 3
    names = [tuple(name for name, chosen in zip(SUBSETS, row, strict=True) if chosen) for row in member]
    ids = [f"face-{i}" for i in range(n)]
    visible = random.random(landmarks.shape[:2]) < 0.9
    return Faces(ids, ["test"] * n, ids, (low + high) / 2, (high - low).max(1), landmarks, visible, names)


def lay_out(faces: Faces) -> None:
    """The project's parameters and code, and the faces' crops, in the working directory."""
    Path("params").mkdir()
    Path("models").mkdir()
    for name in ("dvc.yaml", "stages", "models/random", "params/datasets", "params/recipes", "params/schemes"):
        Path(name).symlink_to(ROOT / name)
    experiments = {f"demo-{recipe}": {"dataset": "demo", "recipe": recipe, "init": "random"} for recipe in RECIPES}
    content = {"datasets": {"demo": {"source": "stages/sources/demo"}}, "experiments": experiments}
    Path("params/pipeline.yaml").write_text(json.dumps(content))  # JSON is YAML too
    write_scheme(load_dataset_scheme("wflw", "inter_ocular", "demo"), "demo")
    crops = Path("data/crops/demo")
    crops.mkdir(parents=True)
    for split in ("train", "test"):
        np.save(crops / f"{split}.npy", np.zeros((len(faces), CROP, CROP, 3), np.uint8))
        write_index(crops / f"{split}.parquet", faces, windows(faces, CROP, 2.1875))


def write_random_predictions(name: str, faces: Faces, seed: int) -> None:
    """What the train and predict stages leave of an experiment."""
    random = np.random.default_rng(seed)

    def points() -> np.ndarray:
        return faces.landmarks + random.standard_t(3, faces.landmarks.shape) * faces.side[:, None, None] / 60

    made = Made(
        dataset="demo", landmarks=list(range(98)), protocol="exact", flip_test=False, batch=32, input_px=128, box=1.25,
        model="0" * 32, cost={"parameters": 1, "megabytes": 1.0, "gflops": 1.0}, workload="none",
    )  # fmt: skip
    scores, perturbed = random.random(faces.landmarks.shape[:2]), {name: points() for name, *_ in perturbations()}
    write_predictions(
        Path("data/predictions") / f"{name}.parquet", Predictions(faces, points(), scores, perturbed, made)
    )
    folder = Path("data/training") / name
    write_json(folder / "training.json", {
        "epochs": 1, "seed": seed, "checkpoint": {"epoch": 1}, "lock": "0", "cpu": "", "threads": 1, "isa": "",
        "device": "cpu", "processes": 1,
    })  # fmt: skip
    (folder / "history.csv").write_text("epoch,train/loss,lr,val/nme\n1,0.1,0.01,5.0\n2,0.1,0.01,5.0\n")


def whole_report(n: int) -> tuple[float, float]:
    """Seconds from predicted points to the finished pages, and the most memory, GiB, that this process has taken."""
    home, faces = Path.cwd(), made_up(n)
    os.environ["LANDMARKS_TRACKING"] = "off"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        try:
            os.chdir(folder)
            lay_out(faces)
            for seed, recipe in enumerate(RECIPES):
                write_random_predictions(f"demo-{recipe}", faces, seed)
            began = time.perf_counter()
            for recipe in RECIPES:
                evaluate.main(f"demo-{recipe}")
            report.main()
            took = time.perf_counter() - began
        finally:
            os.chdir(home)
    return took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of KiB


def small_and_large(small: int = 2500, large: int = 20_000) -> list[Figure]:
    figures = []
    for n, goal in ((small, 60), (large, 300)):
        took, memory = whole_report(n)
        how = f"two experiments of {n} faces × 98 landmarks × {1 + len(SUBSETS)} subsets, 10,000 resamples, two cores"
        figures.append(Figure(f"the whole report, {n} faces", took, "s", how, at_most=goal))
        goal = 2 if n == small else None
        figures.append(Figure(f"the whole report, {n} faces: memory", memory, "GiB", how, at_most=goal))
    return figures
