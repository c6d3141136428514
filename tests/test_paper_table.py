"""The results as a table for a paper: LaTeX, CSV, and what stands in bold, with twenty rows and with few."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from result_copies import leave_twenty
from test_report import leave, list_in_pipeline, of_method, render, root, table_rows  # noqa: F401

from stages import report
from stages.metrics.results import read_results
from stages.reporting import ced_figures, latex
from stages.system.errors import InputError

DEMO = ROOT / "reports/experiments/demo-quick"
LFPW = sorted((ROOT / "reports/experiments").glob("lfpw-*"))


@pytest.fixture(scope="module")
def twenty(tmp_path_factory) -> Path:
    """A project with twenty rows of the demo, two of them of three seeds, and the committed ones of LFPW."""
    folder = tmp_path_factory.mktemp("twenty")
    entries = leave_twenty(DEMO, folder / "reports/experiments")
    for path in LFPW:
        shutil.copytree(path, folder / "reports/experiments" / path.name)
    shutil.copy(ROOT / "reports/benchmarks.json", folder / "reports")
    (folder / "params").mkdir()
    pipeline = {"datasets": {"demo": {"source": "any"}}, "experiments": entries, "baseline": "demo-quick-05"}
    (folder / "params/pipeline.yaml").write_text(json.dumps(pipeline))
    return folder


@pytest.fixture(scope="module")
def content(twenty) -> report.Content:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(twenty)
        return report.read()


def test_twenty_rows_are_sorted_and_compared_with_the_baseline(content):
    demo = next(section.board for section in content.sections if section.key[0] == "demo")
    assert len(demo.entries) == 20
    values = [entry.nme("test").value for entry in demo.entries]
    assert values == sorted(values)
    assert demo.baseline == "demo-quick-05"
    differences = [cells["difference", ""] for cells in demo.cells]
    assert differences.count("baseline") == 1
    assert differences[0].startswith("-")
    assert differences[-1].startswith("+")


def test_at_most_eight_curves_are_coloured_and_the_baseline_is_one(content):
    demo = next(section.board for section in content.sections if section.key[0] == "demo")
    shown = [entry.name for entry in ced_figures.coloured(demo)]
    assert len(shown) == 8
    assert "demo-quick-05" in shown
    assert shown[:7] == [entry.name for entry in demo.entries[:7]]
    figure = ced_figures.ced_figures({"": demo})[""]()
    assert len(figure.axes[0].lines) == 20
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0].endswith("  demo-quick-long")
    assert labels[-2:] == ["12 others", "95 % interval"]
    assert [entry.name for entry in ced_figures.banded(demo)] == ["demo-quick-long", "demo-quick-05"]
    assert len(figure.axes[0].collections) == 2


def test_what_is_the_same_for_all_rows_is_above_the_table(content):
    text = report.texts(content)["results.md"]
    section = text[text.index("## demo, ") : text.index("## lfpw, ")]
    head, _, below = section.partition("| method")
    assert "protocol exact" in head
    assert "recipe quick" in head
    assert "**demo-quick-05** (`baseline` in params/pipeline.yaml)" in head
    assert "protocol" not in below.partition("\n\n")[0]
    assert of_method(text, "demo-quick-05")["method"].endswith("<br>lr=0.0025 width=12")
    lfpw = text[text.index("## lfpw, ") : text.index("## Provenance")]
    assert "so not made by `make repro`: measured on Intel(R) Xeon(R) Processor, 2 threads" in lfpw
    assert "not made by" not in section


def test_many_subsets_leave_the_other_figures_to_a_second_table(content):
    """Six subsets beside them would be wider than a page of GitHub; of twenty rows it is folded."""
    text = report.texts(content)["results.md"]
    text = text[text.index("## demo, ") : text.index("## lfpw, ")]
    first, _, second = text.partition("<summary>Failure rates, AUC and cost of the same rows</summary>")
    assert list(of_method(first, "demo-quick-05")) == [
        "method", "NME [95 %] ↓", "Δ NME [95 %]",
        *(f"<sub>{name}</sub>" for name in ("blur", "expression", "illumination", "largepose", "makeup", "occlusion")),
    ]  # fmt: skip
    assert table_rows(second)[0][:3] == ["method", "FR@8 ↓", "FR@10 ↓"]


def test_the_csv_has_every_figure_in_full(content):
    table = pd.read_csv(io.StringIO(report.texts(content)["results.csv"]))
    assert len(table) == sum(len(result.metrics) for result in content.results)
    assert not table.duplicated(["name", "subset"]).any()
    for result in content.results[:3]:
        for subset, entry in result.metrics.items():
            (row,) = table[(table["name"] == result.name) & (table["subset"] == subset)].to_dict("records")
            assert row["nme"] == entry.nme
            assert row["fr_0.10_high"] == entry.at["0.10"].fr_ci95[1]
            assert np.isnan(row["nme_low"]) if entry.nme_ci95 is None else row["nme_low"] == entry.nme_ci95[0]
    seeds = table[(table["entry"] == "demo-quick-long") & (table["subset"] == "test")]
    assert seeds["seed"].tolist() == [1, 2, 3]
    assert set(seeds["variant"]) == {"epochs=30"}
    documented = report.texts(content)["results.md"].partition("Columns of results.csv")[2].partition("</details>")[0]
    names = {name for cells in table_rows(documented)[2:] for name in cells[0].strip("`").split(", ")}
    assert {column.replace("_0.10", "_0.08") for column in table.columns} == names


def test_the_same_results_give_the_same_text(twenty, content, monkeypatch):
    monkeypatch.chdir(twenty)
    assert report.texts(report.read()) == report.texts(content)


def compile_latex(folder: Path, table: str) -> None:
    """Raises where pdflatex does."""
    text = "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n" + table
    (folder / "table.tex").write_text(text + "\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert ended.returncode == 0, ended.stdout[-2000:]
    assert "Overfull \\hbox" not in ended.stdout
    assert (folder / "table.pdf").stat().st_size > 1000


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removesuffix(r"\\").split(" & ")]


def test_the_latex_table_has_the_figures_of_the_page(content):
    demo = next(section.board for section in content.sections if section.key[0] == "demo")
    text = latex.table(demo)
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\midrule") == 1
    rows = [cells_of(line) for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 21
    assert len({len(row) for row in rows}) == 1
    assert rf"{{l{'r' * (len(rows[0]) - 1)}}}" in text
    assert rows[0][1] == r"NME~$\downarrow$"
    (row,) = (row for row in rows if row[0] == "demo-quick-05")
    (nme,) = (
        cells["nme", "test"] for entry, cells in zip(demo.entries, demo.cells, strict=True) if entry.name == row[0]
    )
    assert row[2] == "baseline"
    assert rows[1][0] == "demo-quick-long (3 seeds)"
    assert rows[1][2].startswith("$-$")
    assert "-0." not in text.replace("$-$", "")
    assert row[1] == nme.replace("\N{NO-BREAK SPACE}", "~")


def test_names_and_published_figures_are_escaped(root):  # noqa: F811
    faces = {"test": 2500, "largepose": 326}
    leave(root, "wflw-a_b", faces, entry="wflw-a_b", set={"train.loss": "50%_&#"})
    leave(root, "wflw-c", faces)
    text = report.latex_tables("wflw")
    assert r"wflw-a\_b" in text
    assert text.count(r"\midrule") == 2
    assert r"HRNetV2-W18 (HRNet repository, released model) & 4.60 & -- & 7.86 & -- & 4.64" in text
    assert latex.escape("50%_&#$") == r"50\%\_\&\#\$"
    with pytest.raises(InputError, match="lfpw: no results"):
        report.latex_tables("lfpw")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_table_compiles(twenty, root, monkeypatch):  # noqa: F811
    leave(root, "wflw-a_b", {"test": 2500, "largepose": 326})
    leave(root, "wflw-c&d#%", {"test": 2500, "largepose": 326})
    published = report.latex_tables("wflw")
    assert "SPIGA" in published
    monkeypatch.chdir(twenty)
    compile_latex(root, report.latex_tables(None) + published)


def test_the_best_is_bold_only_where_it_is_significantly_better(root):  # noqa: F811
    rng = np.random.default_rng(3)
    faces = rng.lognormal(-3, 0.4, 300)
    noise = [rng.normal(0, 0.002, 300) for _ in range(3)]
    blur = np.arange(150)
    for name, errors in (
        ("wflw-a", faces + noise[0]), ("wflw-bb", 0.9 * faces + noise[1]), ("wflw-ccc", 1.1 * faces + noise[2])
    ):  # fmt: skip
        leave(root, name, {}, errors={"test": errors, "blur": errors[blur], "makeup": errors[:40]})
    text = render(root)
    best = of_method(text, "wflw-bb")
    assert best["NME [95 %] ↓"].startswith("**")
    assert best["blur"].startswith("**")
    assert not best["makeup"].startswith("*")  # too few faces for a test
    assert sum(line.count("**") for line in text.splitlines() if line.startswith("| [wflw-")) == 4
    equal = 0.9 * faces + noise[1] + np.where(np.arange(300) % 2, 0.001, -0.001)  # in the mean
    leave(root, "wflw-dddd", {}, errors={"test": equal, "blur": equal[blur], "makeup": equal[:40]})
    text = render(root)
    assert of_method(text, "wflw-dddd")
    assert "**" not in of_method(text, "wflw-bb")["NME [95 %] ↓"]


def test_the_baseline_is_the_named_one_or_the_first_listed(root):  # noqa: F811
    for name in ("wflw-b", "wflw-cc", "wflw-a"):
        leave(root, name, {"test": 30})
    list_in_pipeline(root, "wflw-cc", "wflw-b")
    assert "**wflw-cc** (the first of them in params/pipeline.yaml)" in render(root)
    list_in_pipeline(root, "wflw-cc", "wflw-b", baseline=["wflw-a"])
    assert "**wflw-a** (`baseline` in params/pipeline.yaml)" in render(root)
    assert "not made by `make repro`" in render(root)
    assert "<sup>" in of_method(render(root), "wflw-a")["method"]
    assert "<sup>" not in of_method(render(root), "wflw-b")["method"]


def test_a_protocol_that_differs_is_a_column(root):  # noqa: F811
    leave(root, "wflw-a", {"test": 30})
    leave(root, "wflw-b", {"test": 30}, protocol="paper")
    text = render(root)
    assert [of_method(text, name)["protocol"] for name in ("wflw-a", "wflw-b")] == ["exact", "paper"]


def test_the_page_of_an_experiment_says_how_it_was_made(root):  # noqa: F811
    parameters = {"train": {"lr": 0.002, "epochs": 16}, "model": {"width": 18}}
    leave(root, "wflw-a", {"test": 30}, recipe="quick", set={"train.lr": 0.002, "train.seed": 4}, parameters=parameters)
    render(root)
    page = (root / "reports/pages/wflw-a.md").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "[quick](../../params/recipes/quick.yaml)" in page
    facts = {cells[0]: cells[1] for cells in table_rows(page) if len(cells) == 2}
    assert facts["set differently"] == "**train.lr 0.002**"
    assert facts["train"] == "**lr 0.002**, epochs 16"
    assert facts["seed"] == "1"
    assert "wflw-a-3fa1b2c4" in facts["MLflow run"]
    assert facts["learning rate"] == "at most 0.001, in the last epoch 0.0001"
    index = page.partition("All landmarks by number")[2].partition("</details>")[0]
    (numbers,) = (cells for cells in table_rows(index) if cells[0] == "**0**")
    assert numbers == ["**0**", "2.00", "**1**", "3.00", "**2**", "4.00"]
    (result,) = read_results(root / "reports/experiments")
    assert result.provenance.variant == "lr=0.002"
