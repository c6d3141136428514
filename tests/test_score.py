"""`python -m stages.score` on published predictions: SPIGA's on 300W and LFPW, whose figures are known."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import score
from stages.config.schemes import corresponding_landmarks, load_dataset_scheme
from stages.system.errors import InputError

ROOT = Path(__file__).parents[1]
DATA = ROOT / "../shared/data"
SPIGA, SPIGA_LFPW = DATA / "predictions/spiga_300w_public.json", DATA / "predictions/spiga_lfpw.csv"
W300, LFPW, WFLW = DATA / "annotations/300w", DATA / "lfpw", DATA / "annotations/wflw"

pytestmark = pytest.mark.skipif(not SPIGA.is_file(), reason="no ../shared/data/predictions: SPIGA's published ones")


def figures(printed: str) -> dict[str, float]:
    """NME by subset, of the first table."""
    table = printed[printed.index("| subset") :].partition("\n\n")[0]
    return {row[1].strip(): float(row[3].split()[0]) for row in (line.split("|") for line in table.splitlines()[2:])}


def lfpw(change=lambda table: table) -> pd.DataFrame:
    return change(pd.read_csv(SPIGA_LFPW))


def points_of(table: pd.DataFrame) -> np.ndarray:
    return table.iloc[:, 1:].to_numpy().reshape(len(table), 68, 2)


def with_points(table: pd.DataFrame, points: np.ndarray) -> pd.DataFrame:
    return pd.concat(
        [table[["image_name"]], pd.DataFrame(points.reshape(len(table), -1), columns=table.columns[1:])], axis=1
    )


def measure(tmp_path, table: pd.DataFrame, **options) -> None:
    table.to_csv(tmp_path / "predictions.csv", index=False)
    score.main("lfpw", tmp_path / "predictions.csv", annotations=LFPW, **options)


def test_the_published_predictions_give_their_published_figures(capsys):
    score.main("300w", SPIGA, annotations=W300)
    printed = capsys.readouterr()
    assert figures(printed.out) == {"test": 2.994, "common": 2.587, "challenge": 4.662}
    assert "no image is read" in printed.out
    assert "counted from 0 in the file, from 1 in the annotation, so moved by +1" in printed.out
    assert "x -0.68 [-0.76, -0.58], y +0.22" in printed.out
    assert "STAR" in printed.out
    assert "warning" not in printed.err


def test_the_wrong_numbering_is_noticed_and_the_right_one_named(capsys):
    score.main("300w", SPIGA, annotations=W300, origin=1)
    printed = capsys.readouterr()
    assert figures(printed.out)["test"] == 3.423
    assert "another numbering of pixels: moved by +1 px" in printed.err
    assert "NME 2.994 instead of 3.423" in printed.err
    assert "--origin 0" in printed.err


def test_another_method_is_compared_with_an_experiment_face_by_face(capsys):
    score.main("lfpw", SPIGA_LFPW, annotations=LFPW, experiment="lfpw-modern-128")
    printed = capsys.readouterr().out
    assert figures(printed)["test"] == 2.687
    assert "spiga_lfpw.csv is better" in printed
    ours = pd.read_csv(ROOT / "reports/experiments/lfpw-modern-128/faces.csv")["nme"].mean()
    row = next(line for line in printed.splitlines() if "spiga_lfpw.csv is better" in line)
    assert float(row.split("|")[5].split()[0]) == pytest.approx(2.687 - ours, abs=0.006)


def test_an_experiment_on_other_faces_or_an_unknown_one_is_refused():
    with pytest.raises(InputError, match="demo-quick is measured on demo"):
        score.main("lfpw", SPIGA_LFPW, annotations=LFPW, experiment="demo-quick")
    with pytest.raises(InputError, match="no results of 'lfpw-modrn'.*lfpw-modern-128"):
        score.main("lfpw", SPIGA_LFPW, annotations=LFPW, experiment="lfpw-modrn")


def test_a_missing_face_is_a_failure_and_makes_the_mean_infinite(tmp_path, capsys):
    measure(tmp_path, lfpw(lambda table: table.iloc[2:]))
    printed = capsys.readouterr()
    row = next(line for line in printed.out.splitlines() if line.startswith("| test"))
    assert [cell.strip() for cell in row.split("|")[2:6]] == [
        "224",
        "∞",
        f"{100 * 2 / 224:.2f}",
        f"{100 * 2 / 224:.2f}",
    ]
    assert "2: test/testset/image_0001.jpg, test/testset/image_0002.jpg" in printed.err
    assert "The 222 faces that have a prediction alone read NME 2." in printed.out


def test_nan_in_all_coordinates_is_the_same_as_no_row(tmp_path, capsys):
    table = lfpw()
    table.iloc[:2, 1:] = np.nan
    measure(tmp_path, table)
    blank = capsys.readouterr()
    measure(tmp_path, lfpw(lambda table: table.iloc[2:]))
    assert capsys.readouterr() == blank


def test_doubled_and_foreign_faces(tmp_path, capsys):
    with pytest.raises(InputError, match=r"faces with two predictions.*\n.*image_0001.jpg: row 1 and row 225"):
        measure(tmp_path, lfpw(lambda table: pd.concat([table, table.iloc[:1]])))
    foreign = lfpw(lambda table: pd.concat([table, table.iloc[:1].assign(image_name="trainset/image_0001.jpg")]))
    measure(tmp_path, foreign)
    printed = capsys.readouterr()
    assert figures(printed.out)["test"] == 2.687
    assert "not in the test split, left out, 1: trainset/image_0001.jpg (row 225)" in printed.err


MIRROR = [16 - i for i in range(17)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p[..., ::-1], "x and y are swapped.*with y first 2.69 %"),
        (lambda p: p[:, [*MIRROR, *range(17, 68)]], "16 landmarks are in another order.*left and right are exchanged"),
        (lambda p: p[:, [*range(36), 45, *range(37, 45), 36, *range(46, 68)]], "2 landmarks .* 36 at 45, 45 at 36"),
        (lambda p: p / 564, "shares of something, not px"),
        (lambda p: p * 0.25, "not on the faces"),
        (lambda p: p[:, :51], "its faces have 51 landmarks, and lfpw has 68"),
        (lambda p: p + (np.arange(224) % 2)[:, None, None], "mix two numberings of pixels.*read NME 2.8"),
        (lambda p: p + (np.arange(224) > 150)[:, None, None], "mix two numberings of pixels"),
    ],
)
def test_what_cannot_be_right_is_refused_with_what_to_do(tmp_path, capsys, change, said):
    table = lfpw()
    points = change(points_of(table))
    columns = [f"{axis}{k}" for k in range(points.shape[1]) for axis in "xy"]
    changed = pd.concat([table[["image_name"]], pd.DataFrame(points.reshape(224, -1), columns=columns)], axis=1)
    with pytest.raises(InputError, match=f"(?s){said}"):
        measure(tmp_path, changed)
    assert capsys.readouterr().out == "", "no figure is shown of what is refused"


@pytest.mark.parametrize(("moved", "hint"), [(0, None), (-1, "+1 px"), (-0.5, "+0.5 px"), (1, "-1 px")])
def test_a_half_and_a_whole_pixel_are_noticed(tmp_path, capsys, moved, hint):
    table = lfpw()
    measure(tmp_path, with_points(table, points_of(table) + moved))
    warning = capsys.readouterr().err
    assert (f"moved by {hint}" in warning) if hint else not warning


def test_landmarks_of_another_scheme_are_converted_and_it_is_said(tmp_path, capsys):
    """Predictions of 98 landmarks that hold SPIGA's 68 at the corresponding places give SPIGA's figure."""
    table, wide = lfpw(), np.full((224, 98, 2), 50.0)
    pairs = corresponding_landmarks(
        load_dataset_scheme("wflw", "box_side", "wflw"), load_dataset_scheme("300w", "box_side", "lfpw")
    )
    for one, other in pairs:
        wide[:, one] = points_of(table)[:, other]
    columns = [f"original_{k}_{axis}" for k in range(98) for axis in "xy"]
    converted = pd.concat([table[["image_name"]], pd.DataFrame(wide.reshape(224, -1), columns=columns)], axis=1)
    with pytest.raises(
        InputError, match="98 landmarks, and lfpw has 68. If they are those of scheme wflw.*--scheme wflw"
    ):
        measure(tmp_path, converted)
    measure(tmp_path, converted, scheme_name="wflw")
    printed = capsys.readouterr().out
    assert figures(printed)["test"] == 2.687
    assert "68 of the dataset's 68 landmarks, taken from the 98 of scheme wflw (params/correspondence.yaml)" in printed


def test_several_faces_of_an_image_are_told_apart_by_their_boxes(tmp_path, capsys):
    """WFLW's faces with an attribute, 515 of which share their image with another, in any order."""
    annotated = pd.read_csv(WFLW / "face_landmarks_wflw_test_attributes_union.csv")
    folder = tmp_path / "wflw"
    folder.mkdir()
    annotated.to_csv(folder / "face_landmarks_wflw_test.csv", index=False)
    shuffled = annotated.sample(frac=1, random_state=1)
    shuffled.to_csv(tmp_path / "p.csv", index=False)
    assert annotated["image_name"].duplicated(keep=False).sum() > 500
    score.main("wflw", tmp_path / "p.csv", annotations=folder)
    printed = capsys.readouterr()
    assert figures(printed.out)["test"] == 0
    assert "test has 1966 faces, and 2500 were published" in printed.err
    assert "do not compare, since the faces differ" in printed.out


def test_a_file_of_another_dataset_is_named_as_such():
    with pytest.raises(InputError, match="none of its 689 predictions.*another dataset"):
        score.main("300w-private", SPIGA, annotations=W300)


def test_the_command_ends_with_one_message_and_writes_nothing(tmp_path):
    shutil.copy(SPIGA, tmp_path / "cut.json")
    os.truncate(tmp_path / "cut.json", 10_000)
    before = sorted(path.name for path in tmp_path.iterdir())
    command = [sys.executable, "-m", "stages.score", "--dataset", "300w", "--annotations", str(W300)]
    ended = subprocess.run(
        [*command, "--predictions", str(tmp_path / "cut.json")], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "cut.json is not valid JSON" in ended.stderr
    assert "cut off" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not ended.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_coco_results_name_their_images_by_an_annotation_file(tmp_path, capsys):
    table = lfpw()
    flat = np.concatenate([points_of(table), np.ones((224, 68, 1))], 2).reshape(224, -1)
    results = [{"image_id": i, "category_id": 1, "keypoints": row.tolist(), "score": 1.0} for i, row in enumerate(flat)]
    images = [{"id": i, "file_name": name} for i, name in enumerate(table["image_name"])]
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "images.json").write_text(json.dumps({"images": images, "annotations": []}))
    score.main("lfpw", tmp_path / "results.json", annotations=LFPW, coco_images=tmp_path / "images.json")
    assert figures(capsys.readouterr().out)["test"] == 2.687


def test_a_poor_method_is_measured_and_not_accused_of_anything(tmp_path, capsys):
    """The mean shape of the training faces, laid into the face boxes."""
    train, test = (pd.read_csv(LFPW / f"face_landmarks_lfpw_{split}.csv") for split in ("train", "test"))
    shapes = train.filter(like="original_").to_numpy().reshape(-1, 68, 2)
    boxes = [(table[["center_w", "center_h"]].to_numpy(), 200 * table["scale"].to_numpy()) for table in (train, test)]
    (center, side), (test_center, test_side) = boxes
    mean = ((shapes - center[:, None]) / side[:, None, None]).mean(0)
    points = test_center[:, None] + mean * test_side[:, None, None]
    measure(tmp_path, with_points(lfpw(), points)[lfpw().columns].assign(image_name=test["image_name"]), origin=1)
    printed = capsys.readouterr()
    assert figures(printed.out)["test"] == pytest.approx(15.6, abs=0.1)
    assert not printed.err


def test_a_column_of_face_ids_decides(tmp_path, capsys):
    table = lfpw()
    named = table.assign(face_id="test/" + table["image_name"], image_name="any.jpg").sample(frac=1, random_state=0)
    measure(tmp_path, named)
    assert figures(capsys.readouterr().out)["test"] == 2.687


def test_a_file_without_any_prediction_is_refused(tmp_path):
    table = lfpw()
    table.iloc[:, 1:] = np.nan
    with pytest.raises(InputError, match="no prediction"):
        measure(tmp_path, table)
