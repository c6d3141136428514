"""The results page: made of whatever has been measured, complete, and the same bytes for the same results."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from stages import report
from stages.errors import InputError
from stages.measure import page, published
from stages.measure.cells import decimals, failures, nme, table
from stages.measure.figures import ced_figure, encode, gallery, styles, training_curve
from stages.measure.metrics import ced, summarise
from stages.measure.results import Metrics, read_experiments
from stages.measure.times import Times

BENCHMARKS = {
    "machine": {"date": "2026-01-02 03:04 UTC", "cpu": "Some CPU", "cores": 2, "gpu": None},
    "figures": [
        {"name": "landmarks outside", "value": 0.0, "unit": "landmarks"},
        {"name": "CPU, W18", "value": 41.234, "unit": "ms a face", "workload": "W18, 256 px", "device": "CPU"},
    ],
}
WFLW = {"test": 2500, "largepose": 326, "blur": 773}


def leave(
    root: Path, name: str, faces: dict[str, int], normaliser: str = "inter_ocular", protocol: str = "exact", errors=None
) -> Path:
    """What evaluate leaves of an experiment, with drawn errors where none are given (fractions, per subset)."""
    folder = root / "reports/experiments" / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(name))
    errors = errors or {subset: rng.lognormal(-3.2, 0.5, n) for subset, n in faces.items()}
    metrics = {subset: summarise(e, 1) | {"nme_mean_shape": 12.34} for subset, e in errors.items()}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    steps = [pd.DataFrame({"subset": s, "nme": 100 * ced(e)[0], "share": ced(e)[1]}) for s, e in errors.items()]
    pd.concat(steps).to_csv(folder / "ced.csv", index=False)
    dataset, recipe = name.split("-")
    content = {
        "experiment": name, "dataset": dataset, "recipe": recipe, "protocol": protocol, "normaliser": normaliser,
        "run": f"{name}-3fa1b2c4", "fingerprint": "3fa1b2c4" * 4,
        "hashes": {"data": "d" * 32, "params": "a" * 32, "code": "c" * 32, "model": "e" * 32},
        "environment": {"lock": "f" * 32, "cpu": "Some CPU", "threads": 2, "isa": "AVX2"},
        "training": {"epochs": 18, "input_px": 128, "seed": 1, "device": "cpu"}, "outside_crop": 0.0123,
    }  # fmt: skip
    (folder / "provenance.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/benchmarks.json").write_text(json.dumps(BENCHMARKS))
    return tmp_path


def made(root: Path) -> str:
    report.main()
    return (root / "reports/results.md").read_text(encoding="utf-8")


def row(text: str, *begins: str) -> list[str]:
    """The cells of the first row whose first cells are these."""
    rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|")
    return next(cells for cells in rows if tuple(cells[: len(begins)]) == begins)


def test_without_results_the_page_says_how_to_make_some(root):
    text = made(root)
    assert "No experiment has been measured yet" in text
    assert "dvc repro" in text
    assert list((root / "reports/figures").iterdir()) == []


def test_every_experiment_that_has_results_is_shown(root):
    leave(root, "demo-quick", {"test": 300})
    leave(root, "wflw-paper", WFLW, protocol="paper")
    (root / "reports/experiments/demo-broken").mkdir()  # no metrics.json: not measured
    text = made(root)
    metrics = json.loads((root / "reports/experiments/demo-quick/metrics.json").read_text())["test"]
    low, high = metrics["nme_ci95"]
    cells = row(text, "demo-quick", "demo", "exact", "inter-ocular", "128", "18", "300")
    assert cells[7] == f"{metrics['nme']:.2f} [{low:.2f}, {high:.2f}]"
    assert cells[8:10] == [f"{metrics[key]:.1f}" for key in ("fr_0.08", "fr_0.10")]
    assert cells[10:] == [f"{metrics[key]:.1f}" for key in ("auc_0.08", "auc_0.10")] + ["12.3"]
    assert row(text, "wflw-paper", "wflw", "paper")
    assert row(text, "demo-quick", "demo-quick-3fa1b2c4")[2:] == ["dddddddd", "aaaaaaaa", "cccccccc", "eeeeeeee"]
    assert row(text, "demo-quick", "3fa1b2c4" * 4)[2] == "d" * 32
    assert row(text, "demo-quick", "evaluate") == ["demo-quick", "evaluate", "Some CPU", "2", "AVX2", "f" * 32]
    assert "broken" not in text


def test_the_time_of_a_face_is_that_measured_for_the_same_work(root):
    for name, workload in (("demo-a", "W18, 256 px"), ("demo-bb", "W18, 256 px, flip test"), ("demo-ccc", None)):
        path = leave(root, name, {"test": 30}) / "provenance.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"workload": workload}))
    text = made(root)
    costs = text[text.index("What a face costs") :]
    assert "CPU: 2 cores of Some CPU; no GPU was at hand; 2026-01-02" in costs
    assert [row(costs, name)[4:6] for name in ("demo-a", "demo-bb", "demo-ccc")] == [
        ["41.2", "–"],
        ["–"] * 2,
        ["–"] * 2,
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [('{"machine": {"cpu": 1}}', "machine.date: Field required. Make it again"), ("[", "Make it again: make bench")],
)
def test_benchmarks_that_are_none_are_told(root, content, message):
    (root / "reports/benchmarks.json").write_text(content)
    with pytest.raises(InputError, match=message):
        report.main()


def test_without_benchmarks_no_time_is_told(root):
    (root / "reports/benchmarks.json").unlink()
    leave(root, "demo-a", {"test": 30})
    assert "measured by `make bench` (here it has not run)" in made(root)


def reseed(folder: Path, seed: int, series: str | None) -> None:
    content = json.loads((folder / "provenance.json").read_text())
    content["training"]["seed"], content["series"] = seed, series
    (folder / "provenance.json").write_text(json.dumps(content))


def test_trainings_that_differ_in_their_seed_alone_are_one_row(root):
    shift = {"wflw-a": 0.04, "wflw-bb": 0.05, "wflw-other": 0.05, "wflw-same": 0.05}
    folders = {name: leave(root, name, {}, errors={"test": np.full(9, nme)}) for name, nme in shift.items()}
    for name, seed, kind in (("wflw-a", 1, "s"), ("wflw-bb", 2, "s"), ("wflw-other", 1, "t"), ("wflw-same", 1, "t")):
        reseed(folders[name], seed, kind)
    text = made(root)
    cells = row(text, "wflw-a, wflw-bb (seeds 1, 2)")
    assert cells[6:8] == ["9", "4.50 ± 0.71"]  # the deviation of 4 and 5: 1/√2
    overview = text[: text.index("## ")]
    assert "wflw-other" in overview
    assert "wflw-same" in overview  # the same seed twice is no series


def test_every_link_of_the_page_leads_somewhere(root):
    folder = leave(root, "demo-quick", {"test": 30})
    (folder / "figures").mkdir()
    for name in ("faces.jpg", "training.png"):
        (folder / "figures" / name).write_bytes(b"a picture")
    text = made(root)
    links = re.findall(r"\]\(([^)]+)\)", text)
    files = [link for link in links if not link.startswith("#")]
    assert {Path(file).name for file in files} == {"ced-demo-inter_ocular.png", "faces.jpg", "training.png"}
    assert all((root / "reports" / file).is_file() for file in files)
    headings = {"#" + line.lstrip("# ").lower().replace(" ", "-") for line in text.splitlines() if line[:1] == "#"}
    assert set(links) - set(files) <= headings


def test_the_same_results_give_the_same_bytes(root):
    leave(root, "demo-quick", {"test": 30})
    outs = ("results.md", "figures/ced-demo-inter_ocular.png")
    made(root)
    before = [(root / "reports" / out).read_bytes() for out in outs]
    made(root)
    assert [(root / "reports" / out).read_bytes() for out in outs] == before
    assert b"matplotlib" not in before[1].lower()


def test_the_tables_are_aligned_in_the_source(root):
    leave(root, "wflw-paper", WFLW)
    leave(root, "demo-quick", {"test": 7})
    block = []
    for line in [*made(root).splitlines(), ""]:
        if line[:1] == "|":
            block.append(line)
        elif block:
            assert len({len(each) for each in block}) == 1
            assert len({tuple(i for i, c in enumerate(each) if c == "|") for each in block}) == 1
            block = []


def test_published_figures_stand_beside_ours_on_the_same_faces(root):
    leave(root, "wflw-paper", WFLW, protocol="paper")
    text = made(root)
    columns = row(text, "method", "source")
    ours = dict(zip(columns, row(text, "**wflw-paper**", "here, protocol paper"), strict=True))
    metrics = json.loads((root / "reports/experiments/wflw-paper/metrics.json").read_text())
    assert ours["NME largepose"] == f"{metrics['largepose']['nme']:.2f}"
    assert ours["NME makeup"] == "–"  # not measured here
    released = dict(zip(columns, row(text, "HRNetV2-W18", "HRNet repository, released model"), strict=True))
    assert (released["NME test"], released["NME blur"], released["FR@10 test"]) == ("4.60", "5.36", "4.64")
    assert row(text, "D-ViT †", "a results listing")[2] == "3.75"
    assert "† A secondary source" in text


def test_the_whole_split_is_compared_by_its_number_of_faces(root):
    """300W's usual test split is what papers call full; its test is another one."""
    leave(root, "300w-paper", {"test": 689, "common": 554})
    text = made(root)
    ours = dict(zip(row(text, "method", "source"), row(text, "**300w-paper**"), strict=True))
    assert ours["NME full"] == f"{read_experiments(root / 'reports/experiments')[0].metrics['test'].nme:.2f}"
    assert ours["NME common"] != "–"
    assert (ours["NME test"], ours["NME challenge"]) == ("–", "–")


@pytest.mark.parametrize(
    ("faces", "normaliser", "said"),
    [
        ({"test": 4}, "inter_ocular", "These are not the faces of the published figures (test 2500,"),
        (WFLW, "inter_pupil", "No figure on wflw has been published under this normaliser."),
    ],
)
def test_what_does_not_compare_is_not_set_side_by_side(root, faces, normaliser, said):
    leave(root, "wflw-paper", faces, normaliser)
    text = made(root)
    assert said in text
    assert "HRNet repository" not in text


def test_two_normalisers_share_no_figure_and_no_table(root):
    leave(root, "aflw-paper", {"test": 50}, "box_side")
    leave(root, "aflw-eyes", {"test": 50}, "inter_ocular")
    text = made(root)
    assert "## aflw, box side" in text
    assert "## aflw, inter-ocular" in text
    assert {f.name for f in (root / "reports/figures").iterdir()} == {
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
        report.main()
    assert f"demo-quick/metrics.json: test.{key}" in str(caught.value)
    assert "dvc repro --force" in str(caught.value)
    assert not (root / "reports/results.md").exists()


def test_every_damaged_file_is_named_at_once(root):
    (leave(root, "demo-a", {"test": 30}) / "provenance.json").unlink()
    (leave(root, "demo-b", {"test": 30}) / "metrics.json").write_text('{"test": {"n"')
    (leave(root, "demo-c", {"test": 30}) / "ced.csv").write_text("subset,nme\ntest,1\n")
    (leave(root, "demo-d", {"test": 30}) / "ced.csv").write_bytes(b"\xff\xfe\x00")
    leave(root, "demo-e", {"blur": 30})
    with pytest.raises(InputError) as caught:
        report.main()
    for fault in (
        "demo-a/provenance.json: missing",
        "demo-b/metrics.json: Invalid JSON",
        "demo-c/ced.csv: share",
        "demo-d/ced.csv: ",
        "demo-e/metrics.json: test: missing",
    ):
        assert fault in str(caught.value)


def test_the_stage_ends_with_one_message_for_damaged_results(root):
    spoil(leave(root, "demo-quick", {"test": 30}), "nme", "low")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-m", "stages.report"], cwd=root, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("interval", "places"), [((4.94, 5.48), 2), ((3.0, 6.0), 1), ((30, 70), 0), ((4.999, 5.001), 2), (None, 1)]
)
def test_a_figure_has_the_digits_that_its_interval_justifies(interval, places):
    assert decimals(interval) == places


def test_a_figure_that_n_does_not_define_is_a_dash_or_infinite():
    nothing = Metrics.model_validate(summarise(np.array([]), 1))
    lost = Metrics.model_validate(summarise(np.array([0.05, np.inf]), 1))
    assert (nme(nothing), failures(nothing, nothing.fr_008)) == ("–", "–")
    assert (nme(lost), failures(lost, lost.fr_008)) == ("∞", "50")


def test_a_bar_in_a_cell_does_not_end_it():
    assert table(("a", "b"), [("x|y", 1)]) == "| a    |   b |\n| ---- | --: |\n| x\\|y |   1 |\n"


def test_the_published_figures_are_all_there_and_carry_their_terms():
    found = {name: published.published(name) for name in ("wflw", "300w", "cofw", "aflw")}
    assert {name: len(figures) for name, figures in found.items()} == {"wflw": 65, "300w": 18, "cofw": 11, "aflw": 6}
    assert {(f.method, f.dataset) for figures in found.values() for f in figures if f.secondary} == {
        ("D-ViT", "wflw"), ("D-ViT", "300w"), ("PropNet", "cofw"), ("SH-FAN", "cofw")
    }  # fmt: skip
    spiga = {(f.metric, f.subset): f.value for f in found["wflw"] if f.method == "SPIGA"}
    assert (spiga["nme", "largepose"], spiga["auc_0.10", "test"]) == (7.141, 60.56)
    assert {f.normaliser for f in found["aflw"]} == {"box_side"}
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


def test_a_recipe_s_colour_does_not_depend_on_its_neighbours():
    alone = styles(["paper"])["paper"]
    assert styles(["modern", "paper", "quick"])["paper"] == alone
    many = styles(f"recipe{i}" for i in range(20))
    assert len(set(many.values())) == 20


def test_the_ced_is_drawn_as_the_steps_it_consists_of():
    figure = ced_figure({"a": (np.array([2.0, 5.0, 12.0]), np.array([0.25, 0.5, 1.0]))}, styles(["a"]), "t", "box")
    (line,) = figure.axes[0].lines
    assert line.get_drawstyle() == "steps-post"
    assert line.get_xydata().tolist() == [[0, 0], [2, 25], [5, 50], [10, 50]]


def test_the_gallery_draws_every_point_where_it_lies(tmp_path):
    grey = np.full((5, 64, 64, 3), 90, np.uint8)
    truth = np.tile(np.array([[16.0, 16.0], [48.0, 48.0]]), (5, 1, 1))
    predicted = truth + np.array([0, 10.0])
    predicted[4, 1] = np.nan  # a landmark without a prediction
    figure = gallery(grey, predicted, truth, [f"face {i}" for i in range(5)])
    shown = [[line.get_xydata() for line in axes.lines] for axes in figure.axes]
    assert len(shown) == 5
    np.testing.assert_array_equal(shown[0][-2], truth[0])
    np.testing.assert_array_equal(shown[0][-1], predicted[0])
    content = encode(figure, "jpg")
    assert content == encode(gallery(grey, predicted, truth, [f"face {i}" for i in range(5)]), "jpg")
    assert len(content) < 300_000
    (tmp_path / "faces.jpg").write_bytes(content)
    pixels = imread(tmp_path / "faces.jpg").astype(int)  # the first face lies at the top left
    magenta = (pixels[..., 0] > 180) & (pixels[..., 1] < 110)
    assert magenta[: len(pixels) // 2, : pixels.shape[1] // 4].any()


def test_the_training_curve_marks_the_best_epoch():
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "train/loss": [0.3, 0.2, 0.1], "val/nme": [9.0, 5.25, 6.0], "lr": [1e-3, 1e-3, 1e-4]}
    )
    figure = training_curve(history)
    assert figure.axes[1].get_title(loc="right") == "best: 5.25 % at epoch 2"
    assert encode(figure, "png").startswith(b"\x89PNG")


def test_the_page_is_made_without_touching_a_file():
    assert page.render([], {}, Times()).startswith("# Results\n")
