"""The notebooks run from top to bottom on the drawn faces, from either folder, and are kept without what they made."""

import ast
import sys

import nbformat
import pytest
from conftest import ROOT, TOY_RECIPE, Project
from nbclient import NotebookClient

NOTEBOOKS = ("explore_dataset", "compare_runs", "study_failures")
EXPERIMENTS = """
datasets: [demo]
crossings: {}
experiments:
  demo-quick: {dataset: demo, recipe: tiny}
  demo-slow: {dataset: demo, recipe: slow}
"""

MAKE = """
from stages import evaluate, fetch, preprocess, train
if __name__ == "__main__":
    fetch.main("demo")
    preprocess.main("demo")
    for experiment in ("demo-quick", "demo-slow"):
        train.main(experiment)
        evaluate.main(experiment)
"""  # the stages in one process: to import all of it six times would take half a minute


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", nbformat.NO_CONVERT)


def code_of(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Project:
    """Two small experiments on few drawn faces, trained, measured and entered in MLflow."""
    project = Project(tmp_path_factory.mktemp("notebooks"))
    project.change("params/datasets/demo.yaml", "train: 800, test: 300, size: 256", "train: 48, test: 24, size: 128")
    (project.folder / "params/pipeline.yaml").write_text(EXPERIMENTS)
    slow = TOY_RECIPE.replace("lr: 0.01,", "lr: 0.001,").replace("epochs: 4,", "epochs: 3,")
    (project.folder / "params/recipes/slow.yaml").write_text(slow)
    (project.folder / "notebooks").mkdir()
    del project.environment["LANDMARKS_TRACKING"]
    project.run(sys.executable, "-c", MAKE)
    return project


def execute(book: nbformat.NotebookNode, project: Project, folder: str) -> nbformat.NotebookNode:
    """Run the notebook in a folder of the project; an error in it is raised."""
    client = NotebookClient(book, timeout=120, resources={"metadata": {"path": str(project.folder / folder)}})
    return client.execute(env=project.environment)


def shown(cells: list[nbformat.NotebookNode], kind: str) -> list[str]:
    outputs = [each for cell in cells for each in cell.get("outputs", [])]
    assert not [each for each in outputs if each.output_type == "stream"]
    return [each.data[kind] for each in outputs if kind in each.get("data", {})]


def test_a_dataset_is_explored(measured):
    cells = execute(read("explore_dataset"), measured, "notebooks").cells
    assert len(shown(cells, "image/png")) == 4
    train, val, test = map(int, shown(cells, "text/plain")[0].splitlines()[1].split()[2:])
    assert (train + val, test) == (48, 24)


def test_the_failures_of_an_experiment_are_studied(measured):
    cells = execute(read("study_failures"), measured, "notebooks").cells
    assert len(shown(cells, "image/png")) == 6


def test_an_experiment_is_compared_with_the_mean_shape_and_then_with_another(measured):
    """In one kernel, started in the project's root: the cells are run a second time with another name in the first."""
    book, again = read("compare_runs"), read("compare_runs")
    start = next(cell for cell in again.cells if cell.cell_type == "code")
    assert "None" in start.source
    start.source = start.source.replace("None", '"demo-slow"')
    for cell in again.cells:
        cell.id += "-again"
    both = nbformat.from_dict({**book, "cells": book.cells + again.cells})
    cells = execute(both, measured, "").cells
    one, two = cells[: len(book.cells)], cells[len(book.cells) :]
    assert len(shown(one, "image/png")) == len(shown(two, "image/png")) == 3
    assert "mean shape is better" in "".join(shown(one, "text/markdown"))
    assert "demo-slow" not in "".join(shown(one, "text/plain"))
    differing = next(text for text in shown(two, "text/plain") if "train.lr" in text)
    assert "train.epochs" in differing
    assert "train.seed" not in differing


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_are_kept_without_outputs(name):
    book = read(name)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert book.metadata.kernelspec.name == "python3"
    assert all(cell.id for cell in book.cells)
    assert not [cell.id for cell in code_of(name) if cell.outputs or cell.execution_count or cell.metadata]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebooks_call_the_library_and_hold_no_logic_of_their_own(name):
    logic = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.Try)
    for cell in code_of(name):
        tree = ast.parse(cell.source.removeprefix("%matplotlib inline\n"))
        assert not [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, logic)]


def test_every_notebook_is_executed_here():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(NOTEBOOKS)
