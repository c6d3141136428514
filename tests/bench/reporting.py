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
import pyarrow.parquet as pq

from stages import analyse, params, report
from stages.data.crops import windows, write_index
from stages.data.faces import Faces
from stages.data.sources.demo import render
from stages.measure.evaluation import evaluate
from stages.model.displaced import displacements
from stages.record import write_json
from tests.bench.measure import Figure

ROOT = Path(__file__).parents[2]
SUBSETS = ("largepose", "expression", "illumination", "makeup", "occlusion", "blur")  # and test itself
RECIPES = ("quick", "paper-128")  # two experiments, so that they are compared
CROP = 64  # px; only the gallery's are read


def made_up(n: int) -> Faces:
    """n heads of one shape, moved about, each in a third of the subsets."""
    random = np.random.default_rng(0)
    shape = render(1, "test", 0, 256).landmarks
    landmarks = shape * random.uniform(0.5, 2, (n, 1, 1)) + random.normal(0, 3, (n, len(shape), 2))
    low, high = landmarks.min(1), landmarks.max(1)
    member = random.random((n, len(SUBSETS))) < 1 / 3
    names = [tuple(name for name, of in zip(SUBSETS, row, strict=True) if of) for row in member]
    ids = [f"face-{i}" for i in range(n)]
    visible = random.random(landmarks.shape[:2]) < 0.9
    return Faces(ids, ["test"] * n, ids, (low + high) / 2, (high - low).max(1), landmarks, visible, names)


def lay_out(faces: Faces) -> None:
    """The project's parameters and the faces' crops, in the working directory."""
    Path("params").mkdir()
    for name in ("dvc.yaml", "stages", "params/datasets", "params/recipes"):
        Path(name).symlink_to(ROOT / name)
    listed = {f"demo-{recipe}": {"dataset": "demo", "recipe": recipe} for recipe in RECIPES}
    content = {"datasets": ["demo"], "experiments": listed, "crossings": {}}
    Path("params/pipeline.yaml").write_text(json.dumps(content))  # JSON is YAML too
    crops = Path("data/crops/demo")
    crops.mkdir(parents=True)
    np.save(crops / "test.npy", np.zeros((len(faces), CROP, CROP, 3), np.uint8))
    write_index(crops / "test.parquet", faces, windows(faces, CROP, 2.1875))


def measure_and_analyse(name: str, recipe: str, faces: Faces, seed: int) -> None:
    """What evaluate does after the last prediction, then the stage analyse."""
    random, of = np.random.default_rng(seed), params.dataset("demo", "normalisers").normalisers

    def wrong() -> np.ndarray:
        return faces.landmarks + random.standard_t(3, faces.landmarks.shape) * faces.side[:, None, None] / 60

    scores = random.random(faces.landmarks.shape[:2])
    off = {name: wrong() for name, *_ in displacements()}
    result = evaluate(faces, wrong(), scores, of.definitions(), of.official, displaced=off)
    Path("data/predictions").mkdir(exist_ok=True)
    pq.write_table(result.predictions(), f"data/predictions/{name}.parquet")
    folder = Path("reports/experiments") / name
    write_json(folder / "metrics.json", result.metrics(result))
    result.ced().to_csv(folder / "ced.csv", index=False, float_format="%.6f")
    hashes = dict.fromkeys(("data", "params", "code", "model"), "0" * 32)
    write_json(folder / "provenance.json", {
        "experiment": name, "dataset": "demo", "recipe": recipe, "protocol": "exact", "normaliser": of.official,
        "run": None, "fingerprint": "0" * 32, "hashes": hashes, "outside_crop": 0.0,
        "environment": {"lock": "0", "cpu": "", "threads": 1, "isa": ""},
        "training": {"epochs": 1, "input_px": 128, "seed": 1, "device": "cpu"},
    })  # fmt: skip
    analyse.main(name)


def whole_report(n: int) -> tuple[float, float]:
    """Seconds from predicted points to the finished pages, and the most memory, GiB, that this process has taken."""
    home, faces = Path.cwd(), made_up(n)
    os.environ["LANDMARKS_TRACKING"] = "off"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        try:
            os.chdir(folder)
            lay_out(faces)
            began = time.perf_counter()
            for seed, recipe in enumerate(RECIPES):
                measure_and_analyse(f"demo-{recipe}", recipe, faces, seed)
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
