"""Inconsistent results are marked and their figures shown nowhere; those that evaluate writes all pass."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_report import leave

from stages import report
from stages.metrics.consistency import area, result_faults
from stages.metrics.per_face import FaceErrors, table
from stages.metrics.results import read_all, read_results
from stages.metrics.summary import auc, ced
from stages.system.errors import InputError

ERRORS = np.random.default_rng(6).lognormal(-2.6, 0.6, 60)
BLUR = np.arange(60) < 20


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An experiment as evaluate writes it, its files with six decimals."""
    monkeypatch.chdir(tmp_path)
    experiment = leave(tmp_path, "demo-quick", {"test": 60}, errors={"test": ERRORS, "blur": ERRORS[BLUR]})
    pd.read_csv(experiment / "ced.csv").to_csv(experiment / "ced.csv", index=False, float_format="%.6f")
    subsets = [("blur",) if blurred else () for blurred in BLUR]
    errors = FaceErrors([f"f{i}" for i in range(60)], 100 * ERRORS, subsets)
    table(errors).to_csv(experiment / "faces.csv", index=False, float_format="%.8g")
    return experiment


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def spoil(folder: Path, subset: str, key: str, value: object) -> None:
    content = json.loads((folder / "metrics.json").read_text())
    content[subset][key] = value
    (folder / "metrics.json").write_text(json.dumps(content))


def faults(folder: Path) -> list[str]:
    """Those of the one experiment beside which there is no other."""
    (result,) = read_results(folder.parent)
    return list(result_faults(result))


def test_results_of_the_pipeline_are_consistent(folder):
    assert faults(folder) == []
    assert report.main() == []


def test_errors_that_are_equal_to_the_last_digit_in_the_file_are_consistent(tmp_path):
    errors = np.sort(ERRORS)
    errors[1] = errors[0] + 1e-12  # 1e-10 %, and the file has six decimals
    folder = leave(tmp_path, "demo-quick", {}, errors={"test": errors})
    steps = pd.read_csv(folder / "ced.csv")
    steps.to_csv(folder / "ced.csv", index=False, float_format="%.6f")
    assert len(steps) == 60
    assert pd.read_csv(folder / "ced.csv")["nme"].duplicated().any()
    assert faults(folder) == []


@pytest.mark.parametrize("largest", [34.0, 3.4e4, 1e7])
def test_results_are_consistent_whatever_the_size_of_an_error(tmp_path, largest):
    """As of a face whose eye corners almost coincide; shares are rounded, and a rounded share times an error is not."""
    errors = np.append(ERRORS[:6], largest)  # of 7 faces: no share has six decimals
    folder = leave(tmp_path, "demo-quick", {}, errors={"test": errors})
    pd.read_csv(folder / "ced.csv").to_csv(folder / "ced.csv", index=False, float_format="%.6f")
    names = [f"f{i}" for i in range(7)]
    table(FaceErrors(names, 100 * errors, [()] * 7)).to_csv(folder / "faces.csv", index=False, float_format="%.8g")
    assert faults(folder) == []
    spoil(folder, "test", "nme", 100 * errors.mean() * (1 + 1e-5) + 1e-5)
    assert [fault.split(": is")[0] for fault in faults(folder)] == ["test: nme", "test: nme"]


def test_figures_at_any_threshold_are_checked(tmp_path):
    errors = {"test": ERRORS, "blur": ERRORS[BLUR]}
    folder = leave(tmp_path, "aflw-quick", {}, errors=errors, thresholds=(0.01, 0.07, 0.2))
    pd.read_csv(folder / "ced.csv").to_csv(folder / "ced.csv", index=False, float_format="%.6f")
    assert faults(folder) == []
    spoil(folder, "blur", "auc_0.07", 99.0)
    assert faults(folder)[0].startswith("blur: auc_0.07: is 99.0000, and the area under the CED")


@pytest.mark.parametrize("column", ["nme", "share"])
def test_a_decreasing_ced_is_named(folder, column):
    steps = pd.read_csv(folder / "ced.csv")
    steps.loc[[3, 4], column] = steps.loc[[4, 3], column].to_numpy()
    steps.to_csv(folder / "ced.csv", index=False, float_format="%.6f")
    assert "test: ced: is not increasing" in faults(folder)


@pytest.mark.parametrize("n", [0, 1, 2, 300])
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_results_of_any_number_of_faces_are_consistent(tmp_path, n, missing):
    nme = np.random.default_rng(n).lognormal(-2.6, 0.6, n).round(2)  # with ties, some at a threshold
    nme[: min(missing, n)] = np.inf
    leave(tmp_path, "demo-quick", {}, errors={"test": nme, "none": nme[:0]})
    assert list(result_faults(*read_results(tmp_path / "reports/experiments"))) == []


@pytest.mark.parametrize("threshold", [8.0, 10.0])
def test_the_area_under_the_steps_is_the_auc(threshold):
    nme = 100 * ERRORS.round(3)
    assert area(*ced(nme), threshold) == pytest.approx(100 * auc(nme, threshold), rel=1e-12)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("fr_0.08", 5.0, "fr_0.08: is 5.0000, and by the CED"),
        ("fr_0.10_ci95", [0.0, 1.0], "fr_0.10_ci95: [0.0000, 1.0000] does not contain"),
        ("fr_0.10", None, "fr_0.10, auc_0.10: null, yet there are 20 faces"),
        ("auc_0.10", 99.0, "auc_0.10: is 99.0000, and the area under the CED"),
        ("nme", 4.2, "nme: is 4.2000, and the CED's mean"),
        ("nme", None, "nme: null, yet every face has an error"),
        ("nme_ci95", [6.0, 5.0], "nme_ci95: [6.0000, 5.0000] is no interval"),
        ("nme_ci95", [0.1, 5.0], "nme_ci95: [0.1000, 5.0000] is no interval"),
        ("n", 19, "ced: its shares are not those of 19 faces"),
        ("n", 61, "n: is 61, and the whole test split has 60"),
        ("n", 21, "n: is 21, and faces.csv has 20"),
    ],
)
def test_an_inconsistent_figure_is_named_and_marked(folder, capsys, key, value, message):
    spoil(folder, "blur", key, value)
    assert any(fault.startswith(f"blur: {message}") for fault in faults(folder))
    assert report.main() == ["demo-quick"]
    printed = capsys.readouterr().err
    assert printed.startswith("warning: demo-quick is damaged or contradicts itself")
    assert f"blur: {message}" in printed
    assert "dvc repro --force" in printed


def test_faces_of_another_run_are_named(folder):
    faces = pd.read_csv(folder / "faces.csv", keep_default_na=False)
    faces.assign(nme=faces["nme"] + 0.1).to_csv(folder / "faces.csv", index=False)
    assert any(fault.startswith("test: nme: is ") and "the mean of faces.csv" in fault for fault in faults(folder))


def test_a_subset_in_only_one_file_is_named(folder):
    change(folder / "faces.csv", "blur", "pose")
    assert {"blur: n: is 20, and faces.csv has 0", "pose: not in metrics.json"} <= set(faults(folder))


def test_details_of_another_number_of_landmarks_are_named(folder):
    content = json.loads((folder / "details.json").read_text())
    (folder / "details.json").write_text(json.dumps(content | {"landmarks": [1.0]}))
    assert faults(folder) == ["details.json: is of another number of landmarks than provenance.json"]


def test_an_inconsistent_experiment_keeps_no_other_from_the_page(folder, tmp_path):
    leave(tmp_path, "demo-other", {}, errors={"test": ERRORS})
    spoil(folder, "blur", "nme", 4.2)
    assert report.main() == ["demo-quick"]
    text, page = (Path("reports") / file for file in ("results.md", "pages/demo-quick.md"))
    shown = [line for line in text.read_text().splitlines() if "demo-quick" in line]
    assert len(shown) == 1  # marked, and in no other table and no comparison
    assert shown[0].startswith("| [demo-quick](pages/demo-quick.md)")
    assert "blur: nme: is 4.2000, and the CED's mean" in shown[0]
    assert "Paired comparisons: " not in text.read_text()
    assert "blur: nme: is 4.2000" in page.read_text()
    assert "dvc repro --force" in page.read_text()
    assert (Path("reports/pages") / "demo-other.md").read_text().startswith("# demo-other\n\nDataset demo")


def test_damaged_results_are_told_apart_from_those_asked_for(folder, tmp_path):
    (leave(tmp_path, "demo-other", {}, errors={"test": ERRORS}) / "ced.csv").unlink()
    results, damaged = read_all(folder.parent)
    assert [result.name for result in results] == ["demo-quick"]
    assert list(damaged) == ["demo-other"]
    assert [result.name for result in read_results(folder.parent, ["demo-quick"])] == ["demo-quick"]
    with pytest.raises(InputError, match="demo-other/ced.csv: missing"):
        read_results(folder.parent, ["demo-quick", "demo-other"])
