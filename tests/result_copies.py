"""Copies of real results with other errors, whose metrics, CED and faces agree: many experiments without training."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from stages.metrics.per_face import FaceErrors, read_face_errors
from stages.metrics.per_face import table as face_table
from stages.metrics.summary import ced, summarise


def copy_result(
    source: Path, folder: Path, factor: float, noise: int, repeat: int = 1, seed: int = 1, **provenance
) -> Path:
    """A copy of the result `source` as `folder`, every face's error × `factor` × a lognormal drawn from `noise`.

    repeat: how often the faces are taken, for larger subsets. seed: of the training. provenance: keys that differ.
    """
    shutil.copytree(source, folder)
    faces, rng = read_face_errors(source / "faces.csv"), np.random.default_rng(noise)
    nme = factor * np.tile(faces.nme, repeat)
    if noise:
        nme = nme * rng.lognormal(0, 0.1, len(nme))
    nme = np.array([float(f"{error:.8g}") for error in nme])
    names = [f"{i}/{name}" for i in range(repeat) for name in faces.face_id]
    subsets = [subset for _ in range(repeat) for subset in faces.subsets]
    copied = FaceErrors(names, nme, subsets)
    face_table(copied).to_csv(folder / "faces.csv", index=False, float_format="%.8g")
    old = json.loads((source / "metrics.json").read_text())
    marks = [float(key[3:]) for key in old["test"] if key.startswith("fr_") and not key.endswith("ci95")]
    metrics, steps = {}, []
    for subset, rows in copied.rows().items():
        errors = nme[rows] / 100
        metrics[subset] = summarise(errors, 1, marks) | {"nme_mean_shape": old[subset]["nme_mean_shape"]}
        x, y = ced(errors)
        steps.append(pd.DataFrame({"subset": subset, "nme": 100 * x, "share": y}))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    pd.concat(steps).to_csv(folder / "ced.csv", index=False, float_format="%.6f")
    for file, values in (
        ("provenance.json", {"name": folder.name, "experiment": folder.name} | provenance),
        ("training.json", {"seed": seed}),
    ):
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | values))
    return folder


def leave_twenty(source: Path, experiments: Path, repeat: int = 1) -> dict[str, dict]:
    """Twenty rows of the experiment `source`: eighteen with a learning rate and a width each, two with three seeds.

    Returns the entries as params/pipeline.yaml would list them.
    """
    entries = {}
    made = json.loads((source / "provenance.json").read_text())
    base = {"dataset": made["dataset"], "recipe": made["recipe"]}
    for i in range(18):
        changes = {"train.lr": round(0.0005 * (1 + i % 6), 4), "model.width": 12 + 6 * (i // 6)}
        name = f"{made['dataset']}-quick-{i + 1:02d}"
        entries[name] = base | {"set": changes}
        keys = {"entry": name, "set": changes, "series": name}
        copy_result(source, experiments / name, 0.8 + 0.04 * i, i, repeat, **keys)
    for i, suffix in enumerate(("long", "short")):
        name = f"{made['dataset']}-quick-{suffix}"
        entries[name] = base | {"set": {"train.epochs": 30 - 20 * i}, "seeds": [1, 2, 3]}
        for seed in (1, 2, 3):
            changes = {"train.epochs": 30 - 20 * i, "train.seed": seed}
            keys = {"entry": name, "set": changes, "series": name}
            copy_result(
                source, experiments / f"{name}-s{seed}", 0.7 + 0.5 * i + 0.01 * seed, 100 + seed, repeat, seed, **keys
            )
    return entries
