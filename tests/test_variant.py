"""What differs from a recipe, as it was committed and as it is for a dataset."""

import subprocess

from stages.config.experiment import load_experiment
from stages.tracking.process import committed
from stages.tracking.variant import changed_values, variant

BEFORE = "{model: {width: 18}, train: {lr: 0.001, batch: 16}, datasets: {wflw: {train: {batch: 8}}}}"


def test_what_was_changed_in_a_recipe_is_what_is_different_for_the_dataset():
    after = "{model: {width: 18}, train: {lr: 0.002, batch: 32}, datasets: {wflw: {train: {batch: 8}}}}"
    assert changed_values(BEFORE, BEFORE, "wflw") == {}
    assert changed_values(BEFORE, after, "wflw") == {"train.lr": 0.002}
    assert changed_values(BEFORE, after, "cofw") == {"train.lr": 0.002, "train.batch": 32}


def test_a_variant_is_what_the_entry_sets_and_what_is_not_committed(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.folder.parent))
    project.change("params/pipeline.yaml", "init: random}", "init: random, set: {model.width: 6}, seeds: [1, 2]}")
    recipe = project.folder / "params/recipes/tiny.yaml"
    assert committed(recipe.relative_to(project.folder)) is None
    assert variant(load_experiment("toy-tiny-s2")) == "width=6", "without git"
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@t")
    for command in ((*git, "init", "-q"), (*git, "add", "params"), (*git, "commit", "-qm", "toy")):
        subprocess.run(command, check=True)
    assert variant(load_experiment("toy-tiny-s2")) == "width=6"
    project.change("params/recipes/tiny.yaml", "milestones: [3]", "milestones: [2]")
    assert variant(load_experiment("toy-tiny-s2")) == "milestones=[2] width=6"
    text = recipe.read_text()
    recipe.write_text("no recipe")
    subprocess.run((*git, "commit", "-qam", "broken"), check=True)
    recipe.write_text(text)
    assert variant(load_experiment("toy-tiny-s2")) == "width=6", "what was committed is no recipe"
