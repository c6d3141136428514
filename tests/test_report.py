"""The report: rendered from whatever has results, complete, and the same bytes for the same results."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from matplotlib.image import imread
from scipy.stats import binomtest

from stages import report
from stages.metrics.paired_tests import compare
from stages.metrics.per_face import FaceErrors
from stages.metrics.per_face import table as face_table
from stages.metrics.results import read_results
from stages.metrics.schema import Metrics
from stages.metrics.summary import ced, summarise
from stages.reporting import ced_figures, gallery, published
from stages.reporting.experiment_figures import landmark_figure
from stages.reporting.figures import ced_figure, encode, share_band, styles, training_curve
from stages.reporting.tables import auc, difference, failure_rate, folded, markdown_table, nme
from stages.system.errors import InputError

BENCHMARKS = {
    "machine": {"date": "2026-01-02 03:04 UTC", "cpu": "Some CPU", "cores": 2, "gpu": None},
    "figures": [
        {"name": "landmarks outside", "value": 0.0, "unit": "landmarks"},
        {"name": "CPU, W18", "value": 41.234, "unit": "ms a face", "workload": "W18, 256 px", "device": "CPU"},
    ],
}
THRESHOLDS = (0.08, 0.10)
WFLW = {"test": 2500, "largepose": 326, "blur": 773}


def mean(value: float) -> dict:
    return {"nme": value, "ci95": [value - 0.5, value + 0.5]}


def some_details(n: int, landmarks: int, subsets: list[str]) -> dict:
    """details.json of an experiment with `landmarks` landmarks."""
    shares = np.arange(31) / 100
    return {
        "n": n, "normaliser": "inter_ocular", "without_prediction": [],
        "averages": {"inter_ocular": {"faces": 5.0, "visible": 4.0, "pooled": 4.5}},
        "percentiles": {subset: {"50": 4.0, "90": 8.0} for subset in subsets},
        "landmarks": [2.0 + i for i in range(landmarks)],
        "mean_face": [[0.1 * i, 0.1 * i * i] for i in range(landmarks)],
        "groups": {"eyes": mean(3.0), "jaw": mean(7.0)}, "group_sizes": {"eyes": 2, "jaw": 1},
        "conditions": {"yaw": [{"low": 0, "high": 10, "n": 20} | mean(3), {"low": 60, "high": 90, "n": 9} | mean(9)]},
        "robustness": {
            "shift": [{"by": 0} | mean(5), {"by": 5} | mean(6)], "scale": [{"by": 0} | mean(5), {"by": 20} | mean(7)],
            "mean": mean(6.5),
        },
        "calibration": {
            "rank_correlation_faces": 0.84, "rank_correlation_landmarks": 0.5,
            "reliability": [{"n": 5, "score": 0.3, "error": 9.0, "median": 7.0},
                            {"n": 5, "score": 0.8, "error": 2.0, "median": 1.0}],
            "rejected": shares.tolist(), "nme_left": (5 - shares).tolist(),
            "nme_left_at_best": (5 - 9 * shares).tolist(),
        },
        "outside_input": {"landmarks": 0.0123, "faces": 4, "nme": 30.0},
    }  # fmt: skip


@cache
def summary(errors: bytes, thresholds: tuple[float, ...]) -> dict:
    """A subset's entry of metrics.json; cached, since many tests have the same errors."""
    return summarise(np.frombuffer(errors), 1, thresholds) | {"nme_mean_shape": 12.34}


def list_in_pipeline(root: Path, *entries: str, baseline: Sequence[str] = ()) -> None:
    """params/pipeline.yaml with these experiments; the others are results that `make repro` does not make."""
    (root / "params").mkdir(exist_ok=True)
    experiments = {name: {"dataset": name.partition("-")[0], "recipe": "quick"} for name in entries}
    named = {experiment["dataset"]: {"source": "data/any"} for experiment in experiments.values()}
    content = {"datasets": named, "experiments": experiments, "baseline": list(baseline)}
    (root / "params/pipeline.yaml").write_text(json.dumps(content))  # JSON is YAML too


def leave(
    root: Path,
    name: str,
    faces: dict[str, int],
    normaliser: str = "inter_ocular",
    protocol: str = "exact",
    errors=None,
    thresholds: Sequence[float] = THRESHOLDS,
    **provenance,
) -> Path:
    """What evaluate writes of an experiment, with random errors where none are given (fractions, per subset).

    The faces of a subset are the first ones of test. provenance: keys that differ from those of an experiment.
    """
    folder = root / "reports/experiments" / name
    (folder / "pictures").mkdir(parents=True)
    if not (root / "params/pipeline.yaml").exists():
        list_in_pipeline(root)
    rng = np.random.default_rng(len(name))
    if errors is None:
        test = rng.lognormal(-3.2, 0.5, max(faces.values()))
        errors = {subset: test[:n] for subset, n in faces.items()}
    metrics = {subset: summary(np.asarray(e, float).tobytes(), tuple(thresholds)) for subset, e in errors.items()}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    steps = [pd.DataFrame({"subset": s, "nme": 100 * ced(e)[0], "share": ced(e)[1]}) for s, e in errors.items()]
    pd.concat(steps).to_csv(folder / "ced.csv", index=False)
    whole = errors.get("test", np.empty(0))
    subsets = [[s for s, e in errors.items() if s != "test" and i < len(e)] for i in range(len(whole))]
    face_errors = FaceErrors([f"f{i}" for i in range(len(whole))], 100 * whole, subsets)
    face_table(face_errors).to_csv(folder / "faces.csv", index=False)
    dataset, _, recipe = name.partition("-")
    machine = {"lock": "f" * 32, "cpu": "Some CPU", "threads": 2, "isa": "AVX2"}
    content = {
        "name": name, "kind": "experiment", "experiment": name, "dataset": dataset, "trained_on": dataset,
        "recipe": recipe, "init": "random", "protocol": protocol, "normaliser": normaliser,
        "landmarks": [0, 1, 2], "landmark_count": 3, "run": f"{name}-3fa1b2c4", "fingerprint": "3fa1b2c4" * 4,
        "series": None, "environment": machine, "input_px": 128, "outside_input": 0.0123,
        "hashes": {"data": "d" * 32, "params": "a" * 32, "code": "c" * 32, "init": "b" * 32, "model": "e" * 32},
        "cost": {"parameters": 1_910_000, "megabytes": 7.7, "gflops": 0.58}, "workload": "W18, 128 px",
    } | provenance  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(content))
    details = some_details(len(whole), len(content["landmarks"]), list(errors))
    if content["kind"] == "experiment":
        training = {"epochs": 18, "seed": 1, "checkpoint": {"epoch": 17, "val/nme": 4.5}, "device": "cpu"}
        (folder / "training.json").write_text(json.dumps(training | machine | {"processes": 1}))
        history = {"epoch": [1, 2], "train/loss": [0.2, 0.1], "lr": [1e-3, 1e-4], "val/nme": [5.0, 4.5]}
        pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    else:
        details["robustness"] = None
    (folder / "details.json").write_text(json.dumps(details))
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/benchmarks.json").write_text(json.dumps(BENCHMARKS))
    list_in_pipeline(tmp_path)
    return tmp_path


def render(root: Path) -> str:
    """The texts of the report, without its figures, which take most of its time."""
    files = report.texts(report.read())
    for name, text in files.items():
        (root / "reports" / name).parent.mkdir(exist_ok=True)
        (root / "reports" / name).write_text(text, encoding="utf-8")
    return files["results.md"]


def table_rows(text: str) -> list[list[str]]:
    """The cells of all rows of all tables."""
    lines = (line for line in text.replace("\N{NO-BREAK SPACE}", " ").splitlines() if line[:1] == "|")
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def row(text: str, *begins: str) -> list[str]:
    """The cells of the first row whose first cells are these."""
    return next(cells for cells in table_rows(text) if tuple(cells[: len(begins)]) == begins)


def of_method(text: str, name: str) -> dict[str, str]:
    """The cells of an experiment, or of an entry with seeds, in the table of its section, by their heads; the two lines
    of a cell whose head has two are two cells."""
    head: list[str] = []
    for cells in table_rows(text):
        if cells[0] == "method":
            head = cells
        elif head and (cells[0].startswith(f"[{name}]") or cells[0].startswith(f"{name}, seeds")):
            by_line = {}
            for lines, cell in zip((line.split("<br>") for line in head), cells, strict=True):
                by_line |= zip(lines, cell.split("<br>", len(lines) - 1), strict=True)
            return by_line
    raise AssertionError(f"{name} has no row")


def test_without_results_the_page_says_how_to_make_some(root):
    report.main()
    text = (root / "reports/results.md").read_text()
    assert text.startswith("# Results\n")
    assert "There are no results yet" in text
    assert "dvc repro" in text
    assert (root / "reports/results.csv").read_text().startswith("dataset,trained_on,name,")
    assert list((root / "reports/figures").iterdir()) == list((root / "reports/pages").iterdir()) == []


def test_every_experiment_that_has_results_is_shown(root):
    leave(root, "demo-quick", {"test": 300})
    leave(root, "wflw-paper", WFLW, protocol="paper")
    (root / "reports/experiments/demo-broken").mkdir()  # no metrics.json: no results
    text = render(root)
    metrics = json.loads((root / "reports/experiments/demo-quick/metrics.json").read_text())["test"]
    low, high = metrics["nme_ci95"]
    cells = of_method(text, "demo-quick")
    assert cells["NME [95 %] ↓"] == f"{metrics['nme']:.2f} [{low:.2f}, {high:.2f}]"
    assert [cells["FR@8 ↓"], cells["FR@10 ↓"]] == [f"{metrics[key]:.2f}" for key in ("fr_0.08", "fr_0.10")]
    assert [cells["AUC@8 ↑"], cells["AUC@10 ↑"]] == [f"{metrics[key]:.1f}" for key in ("auc_0.08", "auc_0.10")]
    assert cells["M params"] == "1.91"
    wflw = json.loads((root / "reports/experiments/wflw-paper/metrics.json").read_text())
    assert of_method(text, "wflw-paper")["blur"] == f"{wflw['blur']['nme']:.2f}"
    head = text[text.index("## demo, ") : text.index("| method")]
    assert (
        "300 test faces, protocol exact, input of 128 px. The mean shape's NME is 12.34. Made with: recipe quick"
        in head
    )
    assert "2500 test faces (of them largepose 326, blur 773), protocol paper" in text
    assert row(text, "demo-quick", "demo-quick-3fa1b2c4")[2:] == ["dddddddd", "aaaaaaaa", "cccccccc", "eeeeeeee"]
    assert row(text, "demo-quick", "3fa1b2c4" * 4)[2] == "d" * 32
    assert row(text, "demo-quick", "evaluate") == ["demo-quick", "evaluate", "Some CPU", "2", "AVX2", "f" * 32]
    assert "broken" not in text


def test_the_time_of_a_face_is_that_measured_for_the_same_workload(root):
    for name, workload in (("demo-a", "W18, 256 px"), ("demo-bb", "W18, 256 px, flip test")):
        leave(root, name, {"test": 30}, workload=workload)
    text = render(root)
    costs = text[text.index("Cost of a face") :]
    assert "CPU: 2 cores of Some CPU; 2026-01-02 03:04 UTC; no GPU available" in costs
    assert [row(costs, name)[4:6] for name in ("demo-a", "demo-bb")] == [["41.2", "–"], ["–"] * 2]


def test_the_figures_of_a_gpu_are_shown_with_its_name_and_date(root):
    machine = {"date": "2026-01-03 04:05 UTC", "cpu": "Other CPU", "cores": 16, "gpu": "Some GPU", "torch": "2.11"}
    figures = [
        {
            "name": "GPU, batch 16: training",
            "value": 364.9,
            "unit": "images/s",
            "how": "256×256",
            "at_least": 4000.0,
            "reached": False,
        },
        {"name": "GPU, W18", "value": 2.5, "unit": "ms a face", "workload": "W18, 256 px", "device": "GPU"},
    ]
    change_json(root / "reports/benchmarks.json", gpu={"machine": machine, "figures": figures})
    leave(root, "demo-a", {"test": 30}, workload="W18, 256 px")
    text = render(root)
    costs = text[text.index("Cost of a face") :]
    assert "2026-01-02 03:04 UTC. GPU: Some GPU; 2026-01-03 04:05 UTC" in costs
    assert row(costs, "demo-a")[4:6] == ["41.2", "2.5"]
    of_gpu = text[text.index("Training and inference on a GPU") :]
    assert "Some GPU, torch 2.11, 2026-01-03 04:05 UTC" in of_gpu
    assert row(of_gpu, "batch 16: training")[1:] == ["364.9", "images/s", "≥ 4000, **missed**", "256×256"]


def test_the_figures_of_a_cpu_are_shown_with_their_goals_whether_reached_or_missed(root):
    figures = [
        {"name": "decode", "value": 0.07, "unit": "ms a face", "how": "64×64", "at_most": 0.1, "reached": True},
        {"name": "read", "value": 2.6, "unit": "times", "how": "24 files", "at_most": 1.5, "reached": False},
        {"name": "speed", "value": 1.8, "unit": "times", "how": "fp32", "at_least": 2, "reached": False},
    ]
    change_json(root / "reports/benchmarks.json", figures=figures)
    leave(root, "demo-a", {"test": 30})
    text = render(root)
    of_cpu = text[text.index("Speed and exactness on a CPU") :]
    assert "2 cores of Some CPU" in of_cpu
    goals = ["≤ 0.1", "≤ 1.5, **missed**", "≥ 2, **missed**"]
    assert [row(of_cpu, name)[3] for name in ("decode", "read", "speed")] == goals


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"machine": {"cpu": 1}}', "machine.date: missing. Make it again"), ("[", "Make it again: make bench")],
)
def test_damaged_benchmarks_are_refused(root, content, message):
    (root / "reports/benchmarks.json").write_text(content)
    with pytest.raises(InputError, match=message):
        report.main()


def test_without_benchmarks_there_are_no_times(root):
    (root / "reports/benchmarks.json").unlink()
    leave(root, "demo-a", {"test": 30})
    assert "measured by `make bench` (not run here yet)" in render(root)


def change_json(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def leave_seeds(root: Path, entry: str, errors: dict[int, np.ndarray], **provenance) -> None:
    """The experiments of an entry with seeds; errors: of every seed the fractions (N,) of the faces."""
    for seed, fractions in errors.items():
        made = {"entry": entry, "series": entry, "set": {"train.lr": 0.002, "train.seed": seed}} | provenance
        folder = leave(root, f"{entry}-s{seed}", {}, errors={"test": fractions}, recipe="quick", **made)
        change_json(folder / "training.json", seed=seed)


def test_seeds_of_an_entry_are_one_row_with_their_mean_and_deviation(root):
    leave_seeds(root, "wflw-a", {1: np.full(9, 0.04), 2: np.full(9, 0.05)})
    leave(root, "wflw-other", {}, errors={"test": np.full(9, 0.05)}, entry="wflw-other", series="t")
    text = render(root)
    cells = of_method(text, "wflw-a")
    assert cells["method"].startswith("wflw-a, seeds [1](pages/wflw-a-s1.md), [2](pages/wflw-a-s2.md)<br>lr=0.002")
    assert cells["NME [95 %] ↓"] == "4.50 ± 0.71"  # the standard deviation of 4 and 5: 1/√2
    assert cells["AUC@8 ↑"] == "43.8"  # of 50 and 37.5
    below = row(text[text.index("Failure rates and AUC of all subsets") :], "wflw-a")
    assert below[4] == "43.8 ± 8.8"
    assert of_method(text, "wflw-other")["NME [95 %] ↓"] == "5.00"
    assert {"wflw-a-s1", "wflw-a-s2"} <= set(pd.read_csv(root / "reports/results.csv")["name"])


def test_seeds_are_apart_where_something_else_differs(root):
    """As where one of them was made by other code; and the same seed twice is no series."""
    leave_seeds(root, "wflw-a", {1: np.full(9, 0.04)}, series="old")
    leave_seeds(root, "wflw-a", {2: np.full(9, 0.05)}, series="new")
    assert [of_method(render(root), f"wflw-a-s{seed}")["NME [95 %] ↓"] for seed in (1, 2)] == ["4.00", "5.00"]
    leave_seeds(root, "wflw-b", {1: np.full(9, 0.04), 2: np.full(9, 0.05)})
    change_json(root / "reports/experiments/wflw-b-s2/training.json", seed=1)
    assert of_method(render(root), "wflw-b-s2")


def test_seeds_are_compared_by_the_mean_over_them_of_every_face(root):
    rng = np.random.default_rng(1)
    faces, noise = rng.lognormal(-3, 0.4, 200), rng.normal(0, 0.001, (4, 200))
    leave_seeds(root, "wflw-a", {1: faces + noise[0], 2: faces - noise[1]})
    leave_seeds(root, "wflw-b", {1: 0.9 * faces + noise[2], 2: 0.9 * faces - noise[3]})
    first, second = (np.mean([read_faces(root, f"wflw-{x}-s{seed}") for seed in (1, 2)], 0) for x in "ab")
    (expected,) = compare(first, second, {"test": np.ones(200, bool)}).values()
    low, high = expected.ci95
    text = render(root)
    assert of_method(text, "wflw-b")["Δ NME [95 %]"] == f"{expected.mean:+.2f} [{low:+.2f}, {high:+.2f}]"
    assert of_method(text, "wflw-a")["Δ NME [95 %]"] == "baseline"
    assert of_method(text, "wflw-b")["NME [95 %] ↓"].startswith(f"**{second.mean():.2f} ± ")
    assert "The baseline of Δ is **wflw-a** (the first by name)." in text
    printed = report.compare_experiments("wflw-a", "wflw-b").replace("\N{NO-BREAK SPACE}", " ")
    assert "A = wflw-a (mean over seeds 1, 2), B = wflw-b (mean over seeds 1, 2)" in printed
    assert row(printed, "test")[4] == f"{expected.mean:+.2f} [{low:+.2f}, {high:+.2f}]"
    assert row(report.compare_experiments("wflw-a-s1", "wflw-b"), "test")[3] == f"{second.mean():.2f}"


def read_faces(root: Path, name: str) -> np.ndarray:
    """The NMEs (N,) in percent of a result's faces."""
    return pd.read_csv(root / "reports/experiments" / name / "faces.csv")["nme"].to_numpy()


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)


def leave_cross_dataset(
    root: Path, name: str, experiment: str, dataset: str, landmarks: list[int], count: int, **made
) -> Path:
    return leave(
        root, name, {"test": 40}, kind="cross_dataset", experiment=experiment, dataset=dataset,
        trained_on=experiment.partition("-")[0], landmarks=landmarks, landmark_count=count, **made,
    )  # fmt: skip


def test_every_link_of_every_page_has_a_target(root):
    folder = leave(root, "demo-quick", {"test": 30})
    for name in ("faces.jpg", "failures.jpg"):
        (folder / "pictures" / name).write_bytes(b"a picture")
    leave_cross_dataset(root, "demo-quick-on-lfpw", "demo-quick", "lfpw", [0, 2], 5, recipe="quick")
    leave_cross_dataset(root, "gone-quick-on-lfpw", "gone-quick", "lfpw", [0, 2], 5, recipe="quick")
    report.main()
    text = (root / "reports/results.md").read_text()
    files = [link for link in links(text) if not link.startswith("#")]
    assert {Path(file).name for file in files} == {
        "ced-demo-inter_ocular.png", "demo-quick.md", "demo-quick-on-lfpw.md", "gone-quick-on-lfpw.md", "results.csv",
        "simulations.md",
    }  # fmt: skip
    (root / "params/recipes").mkdir()
    (root / "params/recipes/quick.yaml").touch()
    shutil.copy(ROOT / "reports/simulations.md", root / "reports")
    assert all((root / "reports" / file).is_file() for file in files)
    headings = {"#" + line.lstrip("# ").lower().replace(" ", "-") for line in text.splitlines() if line[:1] == "#"}
    assert set(links(text)) - set(files) <= headings
    pages = {page.name: links(page.read_text()) for page in (root / "reports/pages").iterdir()}
    assert all((root / "reports/pages" / file).is_file() for page in pages.values() for file in page)
    assert sorted(Path(file).name for file in pages["demo-quick.md"]) == [
        "calibration.png", "conditions.png", "faces.jpg", "failures.jpg", "landmarks.png", "numbers.png", "quick.yaml",
        "results.md", "robustness.png", "training.png",
    ]  # fmt: skip
    assert "demo-quick.md" in pages["demo-quick-on-lfpw.md"]
    assert "gone-quick.md" not in pages["gone-quick-on-lfpw.md"]  # no results of its experiment
    assert "../figures/demo-quick-on-lfpw/training.png" not in pages["demo-quick-on-lfpw.md"]


def test_the_page_of_an_experiment_has_its_error_analysis(root):
    leave(root, "demo-quick", {"test": 300, "blur": 40})
    render(root)
    text = (root / "reports/pages/demo-quick.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert row(text, "blur", "40")[3:7] == ["4.00", "8.00", "–", "–"]
    assert row(text, "subset")[7:] == ["FR@8", "FR@10", "AUC@8", "AUC@10", "mean shape"]
    assert row(text, "inter-ocular distance (outer eye corners) (official)")[1:] == ["5.00", "4.00", "4.50"]
    assert row(text, "90 %")[1:] == ["4.90", "4.10"]  # coverage
    assert "Spearman ρ (confidence, error): 0.84 over faces, 0.50 over landmarks." in text
    assert "NME, perturbed boxes: 6.50 [6.00, 7.00] %" in text
    assert "1.23 % of the landmarks, of 4 faces, are outside the model's input; their mean error is 30.00 %." in text
    assert "The checkpoint is that of epoch 17 of 18, with a validation NME of 4.50 %." in text


def test_the_error_analysis_of_the_results_page_is_one_row_per_experiment(root):
    leave(root, "demo-quick", {"test": 300})
    cells = row(render(root), "[demo-quick](pages/demo-quick.md)")
    assert cells[1:] == ["8.00", "–", "jaw 7.00", "3.00 (0–10°, n 20)", "9.00 (60–90°, n 9)", "0.84", "4.90", "6.50"]


def test_cross_dataset_evaluations_are_in_the_matrix_and_in_no_section(root):
    leave(root, "demo-quick", {"test": 30})
    leave(root, "lfpw-quick", {"test": 30}, landmarks=[0, 1, 2, 3, 4], landmark_count=5)
    folder = leave_cross_dataset(root, "demo-quick-on-lfpw", "demo-quick", "lfpw", [0, 2], 5)
    text = render(root)
    matrix = text[text.index("## Cross-dataset evaluation") : text.index("## Provenance")]
    assert "| lfpw (2 of 5 landmarks, inter-ocular) |" in matrix.replace("  ", " ").replace("  ", " ")
    entry = Metrics.model_validate(json.loads((folder / "metrics.json").read_text())["test"])
    assert row(matrix, "demo-quick", "demo") == ["demo-quick", "demo", nme(entry).replace("\N{NO-BREAK SPACE}", " ")]
    assert row(matrix, "lfpw-quick", "lfpw")[2] == "*3.00*"  # landmarks 0 and 2 of 2, 3, 4, 5, 6 %
    assert row(matrix, "mean-shape baseline")[2] == "12.34"
    assert "demo-quick-on-lfpw" not in text[: text.index("## Cross-dataset evaluation")]
    assert row(text, "demo-quick-on-lfpw", "demo-quick-on-lfpw-3fa1b2c4")
    page = (root / "reports/pages/demo-quick-on-lfpw.md").read_text()
    assert "the model of [demo-quick](demo-quick.md) (trained on demo) on lfpw, by 2 of 5 landmarks" in page


def test_a_model_on_its_own_dataset_is_not_in_the_matrix_where_faces_differ_in_their_landmarks(root):
    """By some of the landmarks its error follows from theirs only where every face has all of them."""
    folder = leave(root, "lfpw-quick", {"test": 30}, landmarks=[0, 1, 2, 3, 4], landmark_count=5)
    change_json(folder / "details.json", annotation={"landmarks": 150, "not_annotated": 1, "hidden": 0})
    leave_cross_dataset(root, "demo-quick-on-lfpw", "demo-quick", "lfpw", [0, 2], 5)
    matrix = render(root).partition("## Cross-dataset evaluation")[2].partition("## Provenance")[0]
    assert "lfpw-quick" not in matrix


def columns(text: str, *begins: str) -> list[str]:
    return [name for name in row(text, *begins) if "@" in name]


def test_each_dataset_has_its_own_thresholds_as_columns(root):
    leave(root, "aflw-paper", {"test": 60}, "box_side", thresholds=(0.07,))
    leave(root, "wflw-paper", WFLW, thresholds=(0.1,))
    leave(root, "wflw-older", WFLW, thresholds=(0.08, 0.1))
    sections = render(root).split("\n## ")
    aflw, wflw = (next(part for part in sections if part.startswith(name)) for name in ("aflw", "wflw"))
    assert columns(aflw, "method") == ["FR@7 ↓", "AUC@7 ↑"]
    assert columns(aflw, "method", "NME [95 %]") == ["FR@7 [95 %]", "AUC@7 [95 %]"]
    assert columns(wflw, "method") == ["FR@8 ↓", "FR@10 ↓", "AUC@8 ↑", "AUC@10 ↑"]
    measured = of_method(wflw, "wflw-paper")
    assert (measured["FR@8 ↓"], measured["AUC@8 ↑"]) == ("–", "–")  # its evaluation is older than the file's threshold
    assert measured["AUC@10 ↑"] != "–"
    drawn = [ced_figures.ced_figures({"": section.board})[""]() for section in report.read().sections]
    assert [figure.axes[0].get_xlim()[1] for figure in drawn] == pytest.approx([7, 10])


def test_published_figures_are_compared_at_the_same_threshold(tmp_path, monkeypatch):
    file = tmp_path / "published.yaml"
    method = "{method: A, nme: {test: 1.5}, fr_0.07: {test: 2.5}, auc_0.07: {test: 81}, auc_0.10: {test: 86}}"
    file.write_text(f"aflw: {{normaliser: box_side, n: {{test: 50}}, methods: [{method}]}}")
    monkeypatch.setattr(published, "FILE", file)
    published._read.cache_clear()
    metrics = {"test": Metrics.model_validate(summarise(np.full(50, 0.035), 1, [0.07]))}
    table = published.comparison_table(
        [published.Measured("ours", "here", metrics)], published.published("aflw"), "box_side"
    )
    monkeypatch.undo()
    published._read.cache_clear()
    assert row(table, "method") == ["method", "source", "NME test", "FR@7 test", "AUC@7 test", "AUC@10 test"]
    assert row(table, "A")[2:] == ["1.50", "2.50", "81.0", "86.0"]
    assert row(table, "ours")[2] == "3.50"
    assert row(table, "ours")[4:] == ["50.0", "–"]  # not measured at 10 %


def test_results_from_before_a_key_was_written_are_shown(root):
    """The committed results of experiments that no clone can make again."""
    shutil.copytree(ROOT / "reports/experiments", root / "reports/experiments")
    names = {path.name for path in (root / "reports/experiments").iterdir()}
    content = report.read()
    assert content.damaged == {}
    render(root)
    assert {page.stem for page in (root / "reports/pages").iterdir()} == names


@pytest.mark.parametrize(("baseline", "said"), [(29.2, True), (99.0, False), (None, False)])
def test_a_model_that_is_worse_than_the_mean_shape_is_marked(root, baseline, said):
    folder = leave(root, "demo-quick", {}, errors={"test": np.full(30, 0.34)})
    spoil(folder, "nme_mean_shape", baseline)
    words = "worse than the mean-shape baseline (34.00 % against 29.20 %): it has learned nothing that helps"
    text = render(root)
    assert (f"</sup> W{words[1:]}." in text) == (" <sup>a, b</sup>" in of_method(text, "demo-quick")["method"]) == said
    page = (root / "reports/pages/demo-quick.md").read_text()
    assert (f"**Note**: {words}." in page) == ("Usual causes: too few epochs" in page) == said


def test_experiments_on_other_faces_are_not_compared_and_keep_no_others_from_it(root):
    """As where the dataset has changed between two of them."""
    for name in ("demo-a", "demo-bb", "demo-ccc"):
        leave(root, name, {"test": 30})
    faces = root / "reports/experiments/demo-ccc/faces.csv"
    faces.write_text(faces.read_text().replace("f7,", "other7,"))
    text = render(root)
    assert of_method(text, "demo-a")["Δ NME [95 %]"] == "baseline"
    assert of_method(text, "demo-bb")["Δ NME [95 %]"] != "–" == of_method(text, "demo-ccc")["Δ NME [95 %]"]
    compared = text.partition("Paired comparisons: ")[2].partition("</details>")[0]
    assert row(compared, "demo-a", "demo-bb")
    assert "demo-ccc" not in compared
    assert "measured on other faces" in text


def test_landmarks_are_numbered_as_in_the_dataset(root):
    leave_cross_dataset(root, "demo-quick-on-lfpw", "demo-quick", "lfpw", [7, 9], 10)
    (result,) = read_results(root / "reports/experiments")
    figure = landmark_figure(result.details, result.provenance.landmarks)
    assert [text.get_text() for text in figure.axes[0].texts] == ["9", "7"]


def test_the_same_results_give_the_same_bytes(root):
    leave(root, "demo-quick", {"test": 30})
    outs = (
        "results.md",
        "results.csv",
        "pages/demo-quick.md",
        "figures/ced-demo-inter_ocular.png",
        "figures/demo-quick/landmarks.png",
    )
    report.main()
    before = [(root / "reports" / out).read_bytes() for out in outs]
    report.main()
    assert [(root / "reports" / out).read_bytes() for out in outs] == before
    assert not any(b"matplotlib" in content.lower() for content in before)


def test_the_tables_are_aligned_in_the_source(root):
    leave(root, "wflw-paper", WFLW)
    leave(root, "demo-quick", {"test": 7})
    block = []
    for line in [*render(root).splitlines(), ""]:
        if line[:1] == "|":
            block.append(line)
        elif block:
            assert len({len(line) for line in block}) == 1
            assert len({tuple(i for i, c in enumerate(row) if c == "|") for row in block}) == 1
            block = []


def test_published_figures_are_shown_below_ours_on_the_same_faces(root):
    leave(root, "wflw-paper", WFLW, protocol="paper")
    text = render(root)
    head = row(text, "published method")
    assert head == [
        "published method",
        "source",
        "known of it",
        "NME ↓",
        "largepose",
        "blur",
        "FR@10 ↓",
        "AUC@10 ↑",
    ]
    published_rows = text[text.index("| published method") :]
    released = row(published_rows, "HRNetV2-W18", "HRNet repository, released model")
    assert released[3:] == ["4.60", "7.86", "5.36", "4.64", "–"]
    assert released[2] == "epoch chosen on test; box: annotated landmarks, × 1.25; extra data: ImageNet"
    assert row(text, "D-ViT †", "a results listing")[3] == "3.75"
    nme = [float(cells[3]) for cells in table_rows(published_rows)[2:12]]
    assert nme == sorted(nme)
    assert "† A secondary source" in text


def test_the_whole_split_is_compared_by_its_number_of_faces(root):
    """300W's usual test split is what papers call full; its test is another one."""
    leave(root, "300w-paper", {"test": 689, "common": 554})
    text = render(root)
    assert row(text, "published method") == ["published method", "source", "known of it", "NME ↓", "common"]
    assert row(text, "HRNetV2-W18", "HRNet repository, released model")[3:] == ["3.34", "2.91"]


@pytest.mark.parametrize(
    ("faces", "normaliser", "message"),
    [
        ({"test": 4}, "inter_ocular", "These are not the faces of the published figures (test 2500,"),
        (WFLW, "inter_pupil", "No figure on wflw has been published under this normaliser."),
    ],
)
def test_figures_that_do_not_compare_are_not_shown_side_by_side(root, faces, normaliser, message):
    leave(root, "wflw-paper", faces, normaliser)
    text = render(root)
    assert message in text
    assert "HRNet repository" not in text


def test_two_normalisers_share_no_figure_and_no_table(root):
    leave(root, "aflw-paper", {"test": 50}, "box_side")
    leave(root, "aflw-eyes", {"test": 50}, "inter_ocular")
    report.main()
    text = (root / "reports/results.md").read_text()
    assert "## aflw, box side" in text
    assert "## aflw, inter-ocular" in text
    assert {f.name for f in (root / "reports/figures").glob("*.png")} == {
        "ced-aflw-box_side.png",
        "ced-aflw-inter_ocular.png",
    }


def spoil(folder: Path, key: str, value: object) -> None:
    content = json.loads((folder / "metrics.json").read_text())
    content["test"][key] = value
    (folder / "metrics.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value"), [("nme", "low"), ("fr_0.10", 101), ("n", 2.5), ("nme_ci95", [1]), ("auc_0.08", float("nan"))]
)
def test_a_damaged_metrics_file_is_named_with_its_key(root, key, value):
    folder = leave(root, "demo-quick", {"test": 30})
    spoil(folder, key, value)
    with pytest.raises(InputError) as caught:
        read_results(root / "reports/experiments")
    assert f"demo-quick/metrics.json: test.{key}" in str(caught.value)
    assert "dvc repro --force" in str(caught.value)
    assert f"demo-quick/metrics.json: test.{key}" in row(render(root), "[demo-quick](pages/demo-quick.md)")[1]


def test_every_damaged_file_is_named_at_once_and_keeps_no_sound_experiment_from_the_page(root, capsys):
    (leave(root, "demo-a", {"test": 30}) / "provenance.json").unlink()
    (leave(root, "demo-b", {"test": 30}) / "metrics.json").write_text('{"test": {"n"')
    (leave(root, "demo-c", {"test": 30}) / "ced.csv").write_text("subset,nme\ntest,1\n")
    change_json(leave(root, "demo-f", {"test": 30}) / "training.json", epochs=None)
    (leave(root, "demo-g", {"test": 30}) / "history.csv").write_text("epoch,lr\n1,0.1\n")
    change_json(leave(root, "demo-h", {"test": 30}) / "details.json", groups=3)
    (leave(root, "demo-d", {"test": 30}) / "ced.csv").write_bytes(b"\xff\xfe\x00")
    leave(root, "demo-e", {"blur": 30})
    (leave(root, "demo-i", {"test": 30}) / "metrics.json").unlink()
    leave(root, "demo-sound", {"test": 30})
    assert report.main() == [f"demo-{letter}" for letter in "abcdefghi"]
    text, printed = (root / "reports/results.md").read_text(), capsys.readouterr().err
    assert of_method(text, "demo-sound")
    assert "demo-a" not in text.split("## demo, ")[1]
    for fault in (
        "demo-a/provenance.json: missing",
        "demo-b/metrics.json: Invalid JSON",
        "demo-c/ced.csv: share",
        "demo-d/ced.csv: ",
        "demo-e/metrics.json: test: missing",
        "demo-f/training.json: epochs: ",
        "demo-g/history.csv: column train/loss: missing",
        "demo-h/details.json: groups: ",
        "demo-i/metrics.json: missing",
    ):
        assert fault in printed
        name = fault.partition("/")[0]
        assert fault in row(text, f"[{name}](pages/{name}.md)")[1]
        assert fault in (root / f"reports/pages/{name}.md").read_text()


def test_the_stage_warns_of_damaged_results_and_ends_well(root):
    spoil(leave(root, "demo-quick", {"test": 30}), "nme", "low")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-m", "stages.report"], cwd=root, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.startswith("warning: demo-quick is damaged")
    assert "metrics.json: test.nme" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_every_kind_of_figure_has_its_digits():
    entry = Metrics.model_validate(summarise(np.full(200, 0.0349), 1, THRESHOLDS))
    assert nme(entry) == "3.49\N{NO-BREAK SPACE}[3.49,\N{NO-BREAK SPACE}3.49]"  # no space at which it is broken
    assert (failure_rate(4.639), auc(60.56), failure_rate(None)) == ("4.64", "60.6", "–")
    assert difference(-0.0021, (-0.0131, 0.0049)) == "+0.00\N{NO-BREAK SPACE}[-0.01,\N{NO-BREAK SPACE}+0.00]"


def test_an_undefined_figure_is_a_dash_and_one_without_a_prediction_infinite():
    nothing = Metrics.model_validate(summarise(np.array([]), 1, THRESHOLDS))
    infinite = Metrics.model_validate(summarise(np.array([0.05, np.inf]), 1, THRESHOLDS))
    assert (nme(nothing), nme(infinite)) == ("–", "∞")


def test_a_fold_has_its_title_and_its_body():
    assert folded("more", "| a |\n") == "<details><summary>more</summary>\n\n| a |\n\n</details>\n"


def test_a_bar_in_a_cell_is_escaped():
    assert markdown_table(("a", "b"), [("x|y", 1)]) == "| a    |   b |\n|:-----|----:|\n| x\\|y |   1 |\n"


def measured(counts: dict[str, int], published_counts: dict[str, int] | None = None) -> published.Measured:
    metrics = {
        subset: Metrics.model_validate(summarise(np.full(n, 0.05), 1, THRESHOLDS)) for subset, n in counts.items()
    }
    return published.Measured("here", "here", metrics, published_counts)


@pytest.mark.parametrize(
    ("counts", "published_counts", "subset", "n", "matching"),
    [
        ({"test": 2500, "blur": 773}, None, "blur", 773, "blur"),
        ({"test": 2500, "blur": 770}, None, "blur", 773, None),  # other faces
        ({"test": 689}, None, "full", 689, "test"),  # another name for the whole split
        ({"test": 689}, None, "test", 600, None),
        ({"test": 500, "blur": 9}, None, "blur", None, "blur"),  # sources differ in the number of faces
        ({"test": 500}, None, "blur", None, None),
        ({"test": 4, "blur": 2}, {"test": 2500, "blur": 773}, "blur", 773, "blur"),  # a sample
        ({"test": 4}, {"test": 2500}, "full", 2500, "test"),
    ],
)
def test_a_published_subset_matches_ours_of_the_same_faces(counts, published_counts, subset, n, matching):
    assert published.matching_subset(measured(counts, published_counts).counted(), subset, n) == matching


def test_a_sample_is_compared_by_the_published_counts_with_a_warning():
    sample = measured({"test": 4}, {"test": 2500, "blur": 773})
    text = published.comparison_table([sample], published.published("wflw"), "inter_ocular")
    columns = row(text, "method", "source")
    assert dict(zip(columns, row(text, "here", "here"), strict=True))["NME test"] == "5.00"
    assert "These do not compare, since the faces differ: test has 4 faces here and 2500 there." in text
    assert published.comparison_table([sample], [], "inter_ocular") == ""


def test_the_published_figures_are_complete_with_their_normaliser_and_source():
    benchmarks = {name: published.published(name) for name in ("wflw", "300w", "cofw", "aflw")}
    assert {name: len(figures) for name, figures in benchmarks.items()} == {
        "wflw": 75,
        "300w": 28,
        "cofw": 11,
        "aflw": 6,
    }
    assert {(f.method, f.dataset) for figures in benchmarks.values() for f in figures if f.secondary} == {
        ("D-ViT", "wflw"), ("D-ViT", "300w"), ("PropNet", "cofw"), ("SH-FAN", "cofw"), ("SH-FAN", "wflw"),
        ("SH-FAN", "300w"),
    }  # fmt: skip
    spiga = {(f.metric, f.subset): f.value for f in benchmarks["wflw"] if f.method == "SPIGA"}
    assert (spiga["nme", "largepose"], spiga["auc_0.10", "test"]) == (7.141, 60.56)
    assert {f.normaliser for f in benchmarks["aflw"]} == {"box_side"}
    assert published.published("demo") == []


def test_a_wrong_key_of_the_published_figures_is_named(tmp_path, monkeypatch):
    file = tmp_path / "published.yaml"
    file.write_text("wflw: {normaliser: inter_ocular, n: {test: 2500}, methods: [{method: A, nmes: {test: 4}}]}")
    monkeypatch.setattr(published, "FILE", file)
    published._read.cache_clear()
    with pytest.raises(InputError, match="wflw.methods.0.nmes"):
        published.published("wflw")
    file.write_text("wflw: {normaliser: inter_ocular, n: {test: 2500}, methods: [{method: A, nme: {tset: 4}}]}")
    with pytest.raises(InputError, match="A: tset: unknown subset"):
        published.published("wflw")
    monkeypatch.undo()
    published._read.cache_clear()


def test_one_recipe_from_other_initial_weights_has_another_style(root):
    leave(root, "lfpw-quick", {"test": 30})
    leave(root, "lfpw-tuned", {"test": 30}, recipe="quick", init="demo-quick")
    recipes = [result.provenance.training_recipe for result in read_results(root / "reports/experiments")]
    assert recipes == ["quick", "quick from demo-quick"]
    assert len(set(styles(recipes).values())) == 2


def test_the_colour_of_a_recipe_does_not_depend_on_the_others():
    alone = styles(["paper"])["paper"]
    assert styles(["modern", "paper", "quick"])["paper"] == alone
    many = styles(f"recipe{i}" for i in range(20))
    assert len(set(many.values())) == 20


def test_the_ced_is_drawn_as_steps():
    figure = ced_figure({"a": (np.array([2.0, 5.0, 12.0]), np.array([0.25, 0.5, 1.0]))}, styles(["a"]), "t", "box")
    (line,) = figure.axes[0].lines
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xydata().tolist() == [[0, 0], [2, 25], [5, 50], [10, 50]]


def test_the_band_of_a_ced_is_the_exact_binomial_interval_at_each_nme():
    low, high = share_band(np.array([0.0, 75.0, 100.0]), 8)
    exact = [100 * np.array(binomtest(count, 8).proportion_ci(0.95, "exact")) for count in (0, 6, 8)]
    np.testing.assert_allclose(np.transpose([low, high]), exact)
    steps = ced(np.array([2, 3, 4, 5, 6, 7, 9, 11.0]))
    figure = ced_figure({"a": steps}, styles(["a"]), "t", "box", limit=12, banded={"a": 8})
    (band,) = figure.axes[0].collections
    edges = band.get_paths()[0].vertices
    assert edges[:, 1].max() == pytest.approx(high[2])
    assert edges[:, 1].min() == pytest.approx(low[0])


def test_the_gallery_draws_every_point_at_its_position(tmp_path):
    grey = np.full((5, 64, 64, 3), 90, np.uint8)
    truth = np.tile(np.array([[16.0, 16.0], [48.0, 48.0]]), (5, 1, 1))
    predicted = truth + np.array([0, 10.0])
    predicted[4, 1] = np.nan  # a landmark without a prediction
    truth[3, 1] = np.nan  # one that is not annotated
    captions = [f"face {i}" for i in range(5)]
    figure = gallery.gallery_figure(grey, predicted, truth, captions)
    (axes,) = figure.axes
    assert (len(axes.images), len(axes.lines)) == (5, 3 * 5)
    for face in range(5):  # a pixel's centre is half a pixel from its edge
        left, right, bottom, top = axes.images[face].get_extent()
        for line, points in zip(axes.lines[3 * face + 1 : 3 * face + 3], (truth, predicted), strict=True):
            share = (points[face] + 0.5) / 64
            expected = np.stack([left + share[:, 0] * (right - left), top - share[:, 1] * (top - bottom)], 1)
            np.testing.assert_allclose(line.get_xydata(), expected)
    content = gallery.encode(figure)
    assert content == gallery.encode(gallery.gallery_figure(grey, predicted, truth, captions))
    assert len(content) < 300_000
    (tmp_path / "faces.jpg").write_bytes(content)
    pixels = imread(tmp_path / "faces.jpg").astype(int)  # the first face is at the top left
    magenta = (pixels[..., 0] > 180) & (pixels[..., 1] < 110)
    assert magenta[: len(pixels) // 2, : pixels.shape[1] // 4].any()


def test_a_point_outside_its_face_is_not_drawn_on_the_next_one(tmp_path):
    grey, truth = np.full((2, 64, 64, 3), 90, np.uint8), np.full((2, 1, 2), 32.0)
    predicted = truth.copy()
    predicted[0, 0, 0] += 64  # in the middle of the second face
    predicted[1] = np.nan
    (tmp_path / "faces.jpg").write_bytes(gallery.encode(gallery.gallery_figure(grey, predicted, truth, ["", ""])))
    pixels = imread(tmp_path / "faces.jpg").astype(int)
    magenta = pixels[..., 0] - pixels[..., 1] > 40
    first, second = (magenta[:250, i * pixels.shape[1] // 4 :][:, : pixels.shape[1] // 4] for i in (0, 1))
    assert first.any()
    assert not second[:, 4:].any()


def test_the_training_curve_marks_the_best_epoch():
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "train/loss": [0.3, 0.2, 0.1], "val/nme": [9.0, 5.25, 6.0], "lr": [1e-3, 1e-3, 1e-4]}
    )
    figure = training_curve(history)
    assert figure.axes[1].get_title(loc="right") == "best: 5.25 % at epoch 2"
    assert encode(figure).startswith(b"\x89PNG")
