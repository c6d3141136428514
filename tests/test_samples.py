"""Each benchmark's sample through the whole pipeline, from HRNet's files and from the authors' own."""

import json
import os
import shutil
from pathlib import Path

import h5py
import pandas as pd
import pytest
from conftest import ROOT, TOY_RECIPE, Project

from stages.data.faces import read_faces

SAMPLES = ROOT / "../shared/data/samples"
LANDMARKS = {"wflw": 98, "300w": 68, "cofw": 29, "aflw": 19}
FACES = {"wflw": 4, "300w": 2, "cofw": 2, "aflw": 2}
TRAIN = {"wflw": "wflw_train", "300w": "300w_train", "aflw": "aflw_train"}  # HRNet's names of the files to train on
TEST = {"wflw": "wflw_test", "300w": "300w_valid", "aflw": "aflw_test"}

pytestmark = pytest.mark.skipif(not SAMPLES.is_dir(), reason="no ../shared/data/samples: the benchmarks' sample faces")


def rows(name: str) -> pd.DataFrame:
    return pd.read_csv(SAMPLES / name / f"face_landmarks_{name}_test.csv")


def published_layout(folder: Path) -> dict[str, Path]:
    """The samples under the names that HRNet's README gives, the test faces serving as training faces too."""
    for name in ("wflw", "300w", "aflw"):
        (folder / name).mkdir(parents=True)
        os.symlink((SAMPLES / name / "images").resolve(), folder / name / "images")
        for split in (TRAIN[name], TEST[name]):
            shutil.copy(
                SAMPLES / name / f"face_landmarks_{name}_test.csv", folder / name / f"face_landmarks_{split}.csv"
            )
    return {name: folder / name for name in ("wflw", "300w", "aflw")} | {"cofw": SAMPLES / "cofw"}


def authors_layout(folder: Path) -> dict[str, Path]:
    """The same faces as WFLW's lists, and as .pts files beside 300W's images (COFW has no other form than its own)."""
    lists = folder / "wflw/list_98pt_rect_attr_train_test"
    lists.mkdir(parents=True)
    os.symlink((SAMPLES / "wflw/images").resolve(), folder / "wflw/images")
    lines = []
    for _, row in rows("wflw").iterrows():
        points = row.filter(like="original").to_numpy(float)
        x, y = points[::2], points[1::2]
        box = [int(v) for v in (x.min(), y.min(), x.max(), y.max())]
        lines.append(
            " ".join(map(repr, points.tolist())) + f" {' '.join(map(str, box))} 1 0 0 0 1 0 {row['image_name']}"
        )
    for split in ("train", "test"):
        (lists / f"list_98pt_rect_attr_{split}.txt").write_text("\n".join(lines) + "\n")
    parts = ("afw", "lfpw/trainset", "helen/trainset", "helen/testset", "lfpw/testset", "ibug")
    for part in parts:
        place = folder / "300w/images" / part
        place.mkdir(parents=True)
        for _, row in rows("300w").iterrows() if part in ("afw", "helen/testset") else ():
            shutil.copy(SAMPLES / "300w/images" / row["image_name"], place)
            points = row.filter(like="original").to_numpy(float).reshape(-1, 2).tolist()
            text = "\n".join(["version: 1", "n_points:  68", "{", *(f"{x!r} {y!r}" for x, y in points), "}"])
            (place / row["image_name"]).with_suffix(".pts").write_text(text + "\n")
    return {name: folder / name for name in ("wflw", "300w")}


def whole_way(folder: Path, roots: dict[str, Path], forms: dict[str, str]) -> Project:
    """All stages on all of the samples, with one epoch of a tiny network."""
    project = Project(folder)
    recipe = TOY_RECIPE.replace("epochs: 4", "epochs: 1").replace("checkpoint: best", "checkpoint: last")
    (folder / "params/recipes/tiny.yaml").write_text(recipe)
    for name, root in roots.items():
        project.change(f"params/datasets/{name}.yaml", "\n  form: csv" if name in TRAIN else "\n  form: mat",
                       f"\n  partial: true\n  form: {forms.get(name, 'csv' if name in TRAIN else 'mat')}")  # fmt: skip
        project.change(f"params/datasets/{name}.yaml", "size: 448", "size: 112")
        (folder / "data" / name).symlink_to(root.resolve())
    datasets = "".join(f"  {name}: {{source: data/{name}}}\n" for name in roots)
    experiments = "".join(f"  {name}-tiny: {{dataset: {name}, recipe: tiny, init: random}}\n" for name in roots)
    (folder / "params/pipeline.yaml").write_text(
        f"datasets:\n{datasets}experiments:\n{experiments}cross_dataset: {{}}\n"
    )
    project.make()
    return project


def test_every_sample_goes_through_all_stages_in_both_forms(tmp_path):
    published = whole_way(tmp_path / "a", published_layout(tmp_path / "hrnet"), {})
    authors = whole_way(tmp_path / "b", authors_layout(tmp_path / "own"), {"wflw": "lists", "300w": "pts"})
    for project, names in ((published, LANDMARKS), (authors, ("wflw", "300w"))):
        page = (project.folder / "reports/results.md").read_text()
        for name in names:
            metrics = json.loads((project.folder / f"reports/experiments/{name}-tiny/metrics.json").read_text())
            assert metrics["test"]["n"] == FACES[name]
            assert f"{name}-tiny" in page
            assert not list((project.folder / f"reports/experiments/{name}-tiny").rglob("*.jpg")), "no picture in git"
    for name in ("wflw", "300w"):
        one, other = (read_faces(p.folder / f"data/raw/{name}/faces.parquet").of("test") for p in (published, authors))
        order = [
            [i for i, image in enumerate(other.image) if Path(image).name == Path(each).name] for each in one.image
        ]
        for i, candidates in enumerate(order):
            same = [j for j in candidates if (one.landmarks[i] == other.landmarks[j]).all()]
            assert len(same) == 1
            assert (one.center[i] == other.center[same[0]]).all()
            assert one.side[i] == other.side[same[0]]
    lists = json.loads((authors.folder / "reports/experiments/wflw-tiny/metrics.json").read_text())
    assert set(lists) == {"test", "largepose", "occlusion"}, "the flags that the lists set"
    with h5py.File(SAMPLES / "cofw/COFW_test_color.mat") as file:
        hidden = file["phisT"][58:].T > 0.5
    cofw = read_faces(published.folder / "data/raw/cofw/faces.parquet").of("test")
    assert (cofw.visible == ~hidden).all()
