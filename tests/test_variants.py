"""Variants of an experiment in params/pipeline.yaml: keys set differently, and one experiment a seed."""

import json
import shutil

import pytest
from conftest import Project
from test_versioned_data import repro, stale

from stages.config.experiment import load_experiment
from stages.config.pipeline import read_pipeline
from stages.config.resolved import resolved, write_resolved
from stages.system.errors import InputError


@pytest.fixture
def here(tmp_path, monkeypatch) -> Project:
    """The folder of a project, to be in."""
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def write(project: Project, experiments: str, rest: str = "") -> None:
    (project.folder / "params/pipeline.yaml").write_text(
        f"datasets:\n  toy: {{source: data/toy}}\nexperiments:\n{experiments}{rest}"
    )


def test_a_variant_is_its_recipe_with_some_keys_set(here):
    write(
        here, "  wide: {dataset: toy, recipe: tiny, set: {model.width: 8, train.lr: 0.02, evaluate.flip_test: true}}\n"
    )
    experiment = load_experiment("wide", "model", "train", "evaluate")
    assert (experiment.recipe.model.width, experiment.recipe.train.lr, experiment.recipe.train.epochs) == (8, 0.02, 4)
    assert experiment.recipe.evaluate.flip_test
    assert experiment.parameters["recipe"]["train"]["lr"] == 0.02
    assert (experiment.entry, experiment.init) == ("wide", "random")


def test_an_entry_with_seeds_is_one_experiment_a_seed_and_so_is_what_refers_to_it(here):
    shutil.copy("params/datasets/toy.yaml", "params/datasets/other.yaml")
    write(
        here,
        "  toy-base: {dataset: toy, recipe: tiny, seeds: [1, 7]}\n"
        "  tuned: {dataset: toy, recipe: tiny, init: toy-base, set: {train.lr: 0.001}, seeds: [7]}\n"
        "  from-one: {dataset: toy, recipe: tiny, init: toy-base-s1}\n",
        "cross_dataset:\n  there: {experiment: toy-base, dataset: other}\nbaseline: toy-base\n",
    )
    path = here.folder / "params/pipeline.yaml"
    path.write_text(path.read_text().replace("datasets:\n", "datasets:\n  other: {source: data/toy}\n", 1))
    pipeline = read_pipeline()
    assert list(pipeline.experiments) == ["toy-base-s1", "toy-base-s7", "tuned-s7", "from-one"]
    assert pipeline.experiments["tuned-s7"].init == "toy-base-s7"
    assert pipeline.experiments["tuned-s7"].changes == {"train.lr": 0.001, "train.seed": 7}
    assert {name: cross.experiment for name, cross in pipeline.cross_dataset.items()} == {
        "there-s1": "toy-base-s1",
        "there-s7": "toy-base-s7",
    }
    assert pipeline.baselines == ["toy-base"]
    one, other = load_experiment("toy-base-s1", "train"), load_experiment("toy-base-s7", "train")
    assert (one.recipe.train.seed, other.recipe.train.seed) == (1, 7)
    assert one.entry == other.entry == "toy-base"


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (
            "set: {train.lrr: 0.1}",
            r"set: train.lrr is not a key of a recipe, such as train.lr. Did you mean train.lr\?",
        ),
        ("set: {lr: 0.1}", "set: lr is not a key of a recipe, such as train.lr"),
        ("set: {train: {lr: 0.1}}", "set: train is not a key of a recipe"),
        ("set: 3", "x.set: "),
        ("seeds: [1, 1]", "seeds: one is there twice"),
        ("seeds: []", "x.seeds: "),
        ("seeds: 3", "x.seeds: "),
        ("seeds: [-1]", "x.seeds.0: "),
        ("seeds: [1], set: {train.seed: 2}", "seeds and set: train.seed say the same"),
        ("seed: [1]", "x.seed: unknown key; did you mean seeds"),
        ("init: toy-base", "x.init: toy-base has seeds; name one of toy-base-s1, toy-base-s7"),
        ("init: toy-base, seeds: [1, 2]", "x.init: toy-base has seeds"),
    ],
)
def test_a_variant_that_cannot_be_is_refused_with_its_key(here, entry, fault):
    write(
        here,
        f"  toy-base: {{dataset: toy, recipe: tiny, seeds: [1, 7]}}\n  x: {{dataset: toy, recipe: tiny, {entry}}}\n",
    )
    with pytest.raises(InputError, match=fault):
        read_pipeline()


@pytest.mark.parametrize(
    ("experiments", "fault"),
    [
        (
            "  a: {dataset: toy, recipe: tiny, seeds: [1]}\n  a-s1: {dataset: toy, recipe: tiny}\n",
            "it makes a-s1|a-s1, w",
        ),
        (
            "  a.b: {dataset: toy, recipe: tiny}\n  a_b: {dataset: toy, recipe: tiny}\n",
            "differs from it only in . and _",
        ),
    ],
)
def test_two_entries_never_make_one_name(here, experiments, fault):
    write(here, experiments)
    with pytest.raises(InputError, match=fault):
        read_pipeline()


def test_a_value_that_no_recipe_can_have_is_refused_where_it_is_set(here):
    write(here, "  x: {dataset: toy, recipe: tiny, set: {train.lr: -1, model.width: 2.5}}\n")
    with pytest.raises(
        InputError, match=r"recipes/tiny.yaml with what experiments.x of params/pipeline.yaml sets"
    ) as error:
        write_resolved()
    assert "train.lr" in str(error.value)
    assert "model.width" in str(error.value)


def test_a_baseline_is_an_experiment(here):
    write(here, "  toy-base: {dataset: toy, recipe: tiny}\n", "baseline: toy-bas\n")
    (here.folder / "reports/experiments").mkdir(parents=True)
    with pytest.raises(
        InputError, match=r"baseline: there is no experiment or submission toy-bas. Did you mean toy-base\?"
    ):
        read_pipeline()
    (here.folder / "reports/experiments/toy-bas").mkdir()  # made elsewhere
    assert read_pipeline().baselines == ["toy-bas"]


def test_the_file_for_dvc_has_every_default_and_keeps_training_apart_from_evaluation(here):
    write(here, "  x.2: {dataset: toy, recipe: tiny, set: {train.lr: 0.1, evaluate.batch: 4}, seeds: [3]}\n")
    content = resolved(read_pipeline())
    assert content["experiments"] == {"x.2-s3": {"dataset": "toy", "recipe": "tiny", "init": "random", "set": "x_2-s3"}}
    assert content["set"] == {
        "x_2-s3": {
            "training": {"train.lr": 0.1, "train.seed": 3}, "evaluate": {"evaluate.batch": 4}, "init_landmarks": "",
        }
    }  # fmt: skip
    assert (content["cross_dataset"], content["baselines"]) == ({}, [])
    assert write_resolved()
    assert not write_resolved()


# ---- by DVC


VARIANTS = (
    "  toy-base: {dataset: toy, recipe: tiny}\n"
    "  toy-lr.2: {dataset: toy, recipe: tiny, set: {train.lr: 0.02}, seeds: [1, 2]}\n"
)
PARTS = ("train", "predict", "evaluate")


def of(*names: str, stages: tuple[str, ...] = PARTS) -> set[str]:
    return {f"{stage}@{name}" for stage in stages for name in names}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    """Two entries, three trainings, made by dvc repro."""
    project = Project(tmp_path_factory.mktemp("variants"))
    project.change("params/recipes/tiny.yaml", "epochs: 4", "epochs: 1")
    project.change("params/recipes/tiny.yaml", "milestones: [3]", "milestones: []")
    project.with_dvc()
    write(project, VARIANTS)
    assert "was out of date when DVC read it, and now it is not: run the same command again" in project.run(
        "dvc", "repro", fails=True
    )
    assert repro(project) >= of("toy-base", "toy-lr.2-s1", "toy-lr.2-s2") | {"report", "explore@toy"}
    return project


@pytest.fixture
def copied(made, tmp_path) -> Project:
    shutil.copytree(made.folder, tmp_path / "copy", symlinks=True)
    return made.at(tmp_path / "copy")


def test_variants_and_seeds_differ_in_what_is_set(made):
    results = {name: json.loads((made.folder / f"reports/experiments/{name}/provenance.json").read_text())
               for name in ("toy-base", "toy-lr.2-s1", "toy-lr.2-s2")}  # fmt: skip
    assert [made["entry"] for made in results.values()] == ["toy-base", "toy-lr.2", "toy-lr.2"]
    assert results["toy-lr.2-s2"]["set"] == {"train.lr": 0.02, "train.seed": 2}
    assert results["toy-base"]["series"] != results["toy-lr.2-s1"]["series"] == results["toy-lr.2-s2"]["series"]
    assert len({made["hashes"]["model"] for made in results.values()}) == 3
    assert stale(made) == set()


def test_what_is_set_for_evaluation_trains_nothing_and_another_variant_runs_nothing(copied):
    copied.change("params/pipeline.yaml", "set: {train.lr: 0.02}", "set: {train.lr: 0.02, evaluate.batch: 4}")
    copied.stage("check")
    again = of("toy-lr.2-s1", "toy-lr.2-s2", stages=("predict", "evaluate"))
    assert repro(copied) == again | {"resolve", "report", "explore@toy"}
    copied.change("params/pipeline.yaml", "seeds: [1, 2]", "seeds: [1, 2, 3]")
    copied.stage("check")
    assert repro(copied) == of("toy-lr.2-s3") | {"resolve", "report", "explore@toy"}


def test_a_value_for_a_recipe_that_no_experiment_uses_is_said(copied):
    value = "params/recipes/paper.yaml:train.lr=0.5"
    assert "warning: params/recipes/paper.yaml was changed, and no experiment uses it. In use: tiny" in copied.run(
        "dvc", "exp", "run", "-S", value
    )
