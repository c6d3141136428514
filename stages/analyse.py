"""Tell all that an experiment's predictions hold: where it fails, under every normaliser, and whether it knows.

    python -m stages.analyse demo-quick

Reads data/predictions/<experiment>.parquet and the test split's faces, and writes what a person reads into
reports/experiments/<experiment>/: faces.csv, details.json, details/ (figures) and README.md. The worst and the median
faces of every subset are drawn into data/failures/<experiment>/, whose pictures stay out of git.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

from stages import errors, params, provenance, record
from stages.data.crops import Crops, read_crops
from stages.data.files import atomic, atomic_folder
from stages.data.geometry import apply, invert
from stages.measure import details_figures, details_page, figures, lint
from stages.measure.breakdown import mean_face, yaw
from stages.measure.details import details
from stages.measure.per_face import FaceErrors, table
from stages.measure.predictions import Predictions, read_predictions, subset_rows
from stages.measure.results import read_measured

SHOWN = 12  # of the worst and of the median faces
PICTURES = {
    "landmarks": "Error by landmark and group",
    "conditions": "Error against pose, size and occlusion",
    "robustness": "Error against how far the face box is shifted or scaled",
    "calibration": "Error against score, and the error left when the least certain faces are put aside",
}


def failures(crops: Crops, found: Predictions, nme: np.ndarray, rows: np.ndarray) -> bytes:
    """A JPEG of a subset's worst faces, the worst first, then of those about its median."""
    order = np.flatnonzero(rows)[np.argsort(-nme[rows], kind="stable")]
    middle = max(len(order) // 2 - SHOWN // 2, 0)
    chosen = np.concatenate([order[:SHOWN], order[middle : middle + SHOWN]])
    kinds = ["worst"] * min(SHOWN, len(order)) + ["median"] * SHOWN
    errors = [f"{nme[row]:.1f} %" if np.isfinite(nme[row]) else "no prediction" for row in chosen]
    captions = [f"{kind}: {error}" for kind, error in zip(kinds, errors, strict=False)]
    to_crop = invert(crops.to_image[chosen])
    predicted, truth = (apply(to_crop, points[chosen]) for points in (found.points, found.faces.landmarks))
    images = np.stack([crops.images[i] for i in chosen])
    return figures.encode(figures.gallery(images, predicted, truth, captions), "jpg")


def main(name: str) -> None:
    experiment = params.experiment(name)
    dataset = params.dataset(experiment.dataset, "about", "landmarks", "normalisers")
    recipe = params.recipe(experiment.recipe, experiment.dataset, "input")
    report = Path("reports/experiments") / name
    measured = read_measured(report)
    lint.check([measured])
    crops = read_crops(Path("data/crops") / experiment.dataset, "test")
    faces = crops.faces
    found = read_predictions(Path("data/predictions") / f"{name}.parquet", faces)
    official, marks = dataset.normalisers.official, dataset.landmarks
    told = details(found, dataset.normalisers.definitions(), official, marks.groups, marks.flip_pairs, recipe.input.box)
    nme = found.nme[official]

    pictures = Path("data/failures") / name
    with atomic_folder(pictures) as out:
        for subset, rows in subset_rows(faces.subsets).items():
            (out / f"{subset}.jpg").write_bytes(failures(crops, found, nme, rows))
    with atomic_folder(report / "details") as out:
        shape = mean_face(faces.landmarks, faces.center, faces.side)
        drawn = {
            "landmarks": details_figures.landmark_figure(shape, told),
            "calibration": details_figures.calibration_figure(told["calibration"]),
        }
        if told["conditions"]:
            drawn["conditions"] = details_figures.conditions_figure(told["conditions"])
        if told["robustness"]:
            drawn["robustness"] = details_figures.robustness_figure(told["robustness"])
        for figure, content in drawn.items():
            (out / f"{figure}.png").write_bytes(figures.encode(content, "png"))
        if dataset.about.share_pictures:  # else they stay out of git, in DVC's cache
            shutil.copy(pictures / "test.jpg", out / "faces.jpg")
    shown = {f"details/{figure}.png": PICTURES[figure] for figure in drawn}
    if dataset.about.share_pictures:
        shown["details/faces.jpg"] = "The twelve worst faces, and twelve about the median"

    turned = yaw(faces.landmarks, marks.groups, marks.flip_pairs)
    columns = {"side": faces.side, "visible": faces.visible.mean(1), "score": found.scores.mean(1)}
    columns |= {} if turned is None else {"yaw": turned}
    with atomic(report / "faces.csv") as temporary:
        rows = table(FaceErrors(faces.face_id, nme, faces.subsets), **columns)
        rows.to_csv(temporary, index=False, float_format="%.8g")
    record.write_json(report / "details.json", told)
    with atomic(report / "README.md") as temporary:
        text = details_page.render(name, measured.provenance, measured.metrics, told, shown)
        temporary.write_text(text, encoding="utf-8")
    with record.tracked(provenance.identify(name), len(faces), "analyse") as run:
        record.log_analysis(run, name)
    print(f"{report / 'README.md'}: {len(faces)} faces; MLflow run {run.name}")


if __name__ == "__main__":
    errors.run(lambda: main(sys.argv[1]))
