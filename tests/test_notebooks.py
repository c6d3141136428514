"""The notebooks run from top to bottom on the demo faces, from either folder, and are committed without outputs."""

import ast
import importlib.util
import re
import shutil

import nbformat
import pytest
from conftest import ROOT, TOY_RECIPE, Project
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = ("explore_dataset", "compare_runs", "study_failures", "find_landmarks")
EXPERIMENTS = """
datasets:
  demo: {source: stages/sources/demo}
experiments:
  demo-quick: {dataset: demo, recipe: tiny, init: random}
  demo-slow: {dataset: demo, recipe: slow, init: random}
"""


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", nbformat.NO_CONVERT)


def code_of(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Project:
    """Two small experiments on a few demo faces, trained, evaluated and logged in MLflow."""
    project = Project(tmp_path_factory.mktemp("notebooks"))
    project.change("params/datasets/demo.yaml", "train: 800, test: 300, size: 256", "train: 48, test: 24, size: 128")
    (project.folder / "params/pipeline.yaml").write_text(EXPERIMENTS)
    slow = TOY_RECIPE.replace("lr: 0.01,", "lr: 0.001,").replace("epochs: 4,", "epochs: 3,")
    (project.folder / "params/recipes/slow.yaml").write_text(slow)
    shutil.copytree(ROOT / "notebooks", project.folder / "notebooks")
    del project.environment["LANDMARKS_TRACKING"]
    project.make()
    return project


def execute(book: nbformat.NotebookNode, project: Project, folder: str) -> nbformat.NotebookNode:
    """Run the notebook in a folder of the project. Raises the errors of its cells."""
    client = NotebookClient(book, timeout=120, resources={"metadata": {"path": str(project.folder / folder)}})
    return client.execute(env=project.environment)


def outputs_of(cells: list[nbformat.NotebookNode], kind: str) -> list[str]:
    """The outputs of a MIME type; nothing may be printed besides."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "stream"]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def test_a_dataset_is_explored(evaluated):
    cells = execute(read("explore_dataset"), evaluated, "notebooks").cells
    assert len(outputs_of(cells, "image/png")) == 4
    train, val, test = map(int, outputs_of(cells, "text/plain")[0].splitlines()[1].split()[2:])
    assert (train + val, test) == (48, 24)


def test_the_failure_cases_of_an_experiment_are_studied(evaluated):
    cells = execute(read("study_failures"), evaluated, "notebooks").cells
    assert len(outputs_of(cells, "image/png")) == 6


def test_the_landmarks_of_a_photograph_are_found(evaluated, yunet):
    """By a model that has hardly begun to learn, whose validation split is too small to say what errors to expect."""
    shutil.copy(yunet, evaluated.folder / "models")
    cells = execute(read("find_landmarks"), evaluated, "notebooks").cells
    assert len(outputs_of(cells, "image/png")) == 2
    faces, landmarks = outputs_of(cells, "text/html")
    assert faces.count("<tr") == 1 + 1
    assert "98 rows" in landmarks


def test_an_experiment_is_compared_with_the_mean_shape_baseline_and_with_another_experiment(evaluated):
    """In one kernel, started in the project's root: all cells run a second time, with another B in the first one."""
    book, again = read("compare_runs"), read("compare_runs")
    settings = next(cell for cell in again.cells if cell.cell_type == "code")
    assert "None" in settings.source
    settings.source = settings.source.replace("None", '"demo-slow"')
    for cell in again.cells:
        cell.id += "-again"
    both = nbformat.from_dict({**book, "cells": book.cells + again.cells})
    cells = execute(both, evaluated, "").cells
    first, second = cells[: len(book.cells)], cells[len(book.cells) :]
    assert len(outputs_of(first, "image/png")) == len(outputs_of(second, "image/png")) == 3
    table = "".join(outputs_of(first, "text/markdown"))
    assert "B better on" in table
    assert "100\N{NO-BREAK SPACE}%" in table, "the mean shape is better than a model that has hardly begun to learn"
    assert "demo-slow" not in "".join(outputs_of(first, "text/plain"))
    differing = next(text for text in outputs_of(second, "text/plain") if "train.lr" in text)
    assert "train.epochs" in differing
    assert "train.seed" not in differing


def test_a_page_is_made_of_a_notebook_or_says_what_was_wrong_with_it(evaluated):
    """nbconvert comes with make notebook; without it that is said."""
    if importlib.util.find_spec("nbconvert"):
        assert "reports/notebooks/study_failures.html" in evaluated.stage("notebooks", "study_failures")
        page = (evaluated.folder / "reports/notebooks/study_failures.html").read_text()
        assert page.count("<img ") == 6
        assert not re.search(r"(src|href)=.https?:", page), "it needs no network"
        evaluated.change("notebooks/study_failures.ipynb", "demo-quick", "demo-quik")
        printed = evaluated.stage("notebooks", "study_failures", fails=True)
        assert "notebooks/study_failures.ipynb: InputError: there is no experiment 'demo-quik'" in printed
    else:
        assert "error: nbconvert is not installed: make notebooks" in evaluated.stage("notebooks", fails=True)


def test_experiments_on_different_faces_are_not_compared(evaluated):
    book = read("compare_runs")
    evaluated.change("params/pipeline.yaml", "datasets:\n", "datasets:\n  toy: {source: data/toy}\n")
    evaluated.change("params/pipeline.yaml", "demo-slow: {dataset: demo", "demo-slow: {dataset: toy")
    book.cells = [cell for cell in book.cells if cell.cell_type == "code"][:2]
    book.cells[0].source = book.cells[0].source.replace("None", '"demo-slow"')
    with pytest.raises(CellExecutionError, match="A and B need the same test faces; .*'demo-slow': 'toy'"):
        execute(book, evaluated, "")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_committed_without_outputs(name):
    book = read(name)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert book.metadata.kernelspec.name == "python3"
    assert all(cell.id for cell in book.cells)
    assert not [cell.id for cell in code_of(name) if cell.outputs or cell.execution_count or cell.metadata]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_call_the_library_and_have_no_logic_of_their_own(name):
    logic = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.Try)
    for cell in code_of(name):
        tree = ast.parse(cell.source.removeprefix("%matplotlib inline\n"))
        assert not [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, logic)]


def test_every_notebook_is_executed_here():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(NOTEBOOKS)
