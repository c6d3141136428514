"""Parameters are typed: a wrong one names its file and its key."""

from pathlib import Path

import pytest
import yaml

from stages import params, sections
from stages.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of params/ that `params` reads, with a function that changes one value of a file in it."""
    for file in (ROOT / "params").rglob("*.yaml"):
        copy = tmp_path / file.relative_to(ROOT / "params")
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(file.read_text())
    monkeypatch.setattr(params, "PARAMS", tmp_path)

    def change(file: str, key: str, value: object) -> None:
        content = yaml.safe_load((tmp_path / file).read_text())
        *path, last = key.split(".")
        place = content
        for part in path:
            place = place[part]
        place[last] = value
        (tmp_path / file).write_text(yaml.safe_dump(content))

    return change


@pytest.mark.parametrize("file", sorted((ROOT / "params/datasets").glob("*.yaml")), ids=lambda f: f.stem)
def test_every_dataset_file_is_valid_and_its_mirror_is_its_own_inverse(file):
    landmarks = params.dataset(file.stem, *sections.DATASET).landmarks
    grouped = sorted(i for group in landmarks.groups.values() for i in group)
    assert grouped == list(range(landmarks.count)), "every landmark is in one group"


@pytest.mark.parametrize("file", sorted((ROOT / "params/recipes").glob("*.yaml")), ids=lambda f: f.stem)
@pytest.mark.parametrize("dataset", ["demo", "300w", "aflw"])
def test_every_recipe_is_valid_for_every_dataset(file, dataset):
    assert params.recipe(file.stem, dataset, *sections.RECIPE).train.epochs >= 1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.epochs", 2.5, "train.epochs"),
        ("train.epochs", "many", "train.epochs"),
        ("train.lr", "fast", "train.lr"),
        ("train.lr", -0.1, "train.lr"),
        ("train.epoch", 3, "train.epoch: unknown key; did you mean epochs?"),
        ("input.size", 100, "input.size"),
        ("augment.flip", 1.5, "augment.flip"),
        ("train.loss", "l3", "train.loss"),
        ("training", {}, "training: unknown section"),
    ],
)
def test_a_wrong_recipe_parameter_names_its_file_and_key(folder, key, value, message):
    folder("recipes/quick.yaml", key, value)
    with pytest.raises(InputError) as error:
        params.recipe("quick", "demo", "train", "input", "augment")
    assert "quick.yaml" in str(error.value)
    assert message in str(error.value)


def test_all_faults_of_a_section_are_told_at_once(folder):
    folder("recipes/quick.yaml", "train.epochs", 0)
    folder("recipes/quick.yaml", "train.batch", "big")
    with pytest.raises(InputError, match=r"2 faults(.|\n)*train.epochs(.|\n)*train.batch"):
        params.recipe("quick", "demo", "train")


def test_an_unknown_dataset_recipe_or_experiment_is_named_with_those_that_exist():
    with pytest.raises(InputError, match=r"wlfw.yaml.*Known.*demo"):
        params.dataset("wlfw", "crops")
    with pytest.raises(InputError, match=r"quikc.yaml. Did you mean quick\?"):
        params.recipe("quikc", "demo", "train")
    with pytest.raises(InputError, match="demo-quick"):
        params.experiment("demo-slow")


def test_an_experiment_whose_dataset_is_not_listed_is_refused(folder):
    folder("pipeline.yaml", "experiments.lfpw-quick", {"dataset": "lfpw", "recipe": "quick"})
    with pytest.raises(InputError, match="lfpw-quick: dataset lfpw is not listed"):
        params.pipeline()


@pytest.mark.parametrize(
    ("crossing", "message"),
    [
        ({"experiment": "demo-slow", "dataset": "demo"}, "experiment demo-slow is not listed under experiments"),
        ({"experiment": "demo-quick", "dataset": "demo"}, "demo-quick is trained on demo itself"),
        ({"experiment": "demo-quick", "dataset": "lfpw"}, "dataset lfpw is not listed under datasets"),
    ],
)
def test_a_crossing_of_what_is_not_listed_is_refused(folder, crossing, message):
    folder("pipeline.yaml", "crossings.there", crossing)
    with pytest.raises(InputError, match=f"crossings.there: {message}"):
        params.crossing("there")


def test_an_unknown_crossing_is_named():
    with pytest.raises(InputError, match="there is no crossing 'nowhere'"):
        params.crossing("nowhere")


def test_partners_are_the_same_point_of_the_face():
    """What each dataset says by itself, where a landmark lies and which is its mirror, agrees for every pair."""
    one, other = (params.dataset(name, "landmarks").landmarks for name in ("wflw", "300w"))
    pairs = params.partners("wflw", "300w")
    assert [theirs for _, theirs in pairs] == list(range(68))
    group = [{i: name for name, members in marks.groups.items() for i in members} for marks in (one, other)]
    assert all(group[0][a] == group[1][b] for a, b in pairs)
    mirrored = [dict(p for a, b in marks.flip_pairs for p in ((a, b), (b, a))) for marks in (one, other)]
    assert {(mirrored[0].get(a, a), mirrored[1].get(b, b)) for a, b in pairs} == set(pairs)


def test_partners_go_both_ways_and_one_layout_has_all_in_common():
    there, back = params.partners("demo", "lfpw"), params.partners("lfpw", "demo")
    assert len(there) == len(back) == 68
    assert {(b, a) for a, b in there} == set(back)
    assert [theirs for _, theirs in back] == sorted(theirs for _, theirs in back)
    assert params.partners("300w", "lfpw") == [(i, i) for i in range(68)]


def test_datasets_without_partners_are_told(folder):
    with pytest.raises(InputError, match=r"cofw: in no layout's list of datasets"):
        params.partners("demo", "cofw")
    folder("layouts.yaml", "layouts.cofw", {"landmarks": 29, "datasets": ["cofw"]})
    with pytest.raises(InputError, match=r"no partners of wflw \(demo\) and cofw \(cofw\)"):
        params.partners("demo", "cofw")
    folder("layouts.yaml", "layouts.cofw", {"landmarks": 28, "datasets": ["cofw"]})
    with pytest.raises(InputError, match="cofw: its layout cofw has 28 landmarks, and its own file says 29"):
        params.partners("demo", "cofw")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layouts.300w.datasets", ["lfpw", "demo"], "of more than one layout: demo"),
        ("partners", [{"layouts": ["wflw", "300w"], "pairs": [[98, 0]]}], r"landmarks \[98\] do not exist in wflw"),
        ("partners", [{"layouts": ["wflw", "300w"], "pairs": [[0, 0], [1, 0]]}], r"\[0\] stand twice in 300w"),
        ("partners", [{"layouts": ["wflw", "lbf"], "pairs": []}], "there is no layout lbf"),
    ],
)
def test_wrong_partners_are_refused(folder, key, value, message):
    folder("layouts.yaml", key, value)
    with pytest.raises(InputError, match=message):
        params.partners("demo", "lfpw")


def test_flip_pairs_and_eye_corners_must_exist(folder):
    folder("datasets/demo.yaml", "landmarks.flip_pairs", [[0, 98]])
    with pytest.raises(InputError, match=r"landmarks \[98\] are named"):
        params.dataset("demo", "landmarks")


def test_a_recipe_can_differ_for_one_dataset(folder):
    folder("recipes/quick.yaml", "datasets", {"demo": {"train": {"lr": 0.5}}})
    assert params.recipe("quick", "demo", "train").train.lr == 0.5
    assert params.recipe("quick", "lfpw", "train").train.lr != 0.5


@pytest.mark.parametrize(
    ("special", "message"),
    [
        (["demo"], "datasets holds, for a dataset's name, sections"),
        ({"demo": None}, "datasets holds, for a dataset's name, sections"),
        ({"demo": {"train": 3}}, "datasets.demo.train: unknown section, or one without keys"),
        ({"lfpw": {"training": {"lr": 0.5}}}, "datasets.lfpw.training: unknown section"),
        ({"wlfw": {"train": {"lr": 0.5}}}, "datasets.wlfw: there is no such dataset"),
        ({"demo": {"train": {"rate": 0.5}}}, "train.rate: unknown key"),
    ],
)
def test_a_wrong_difference_for_one_dataset_is_refused(folder, special, message):
    folder("recipes/quick.yaml", "datasets", special)
    with pytest.raises(InputError) as error:
        params.recipe("quick", "demo", "train")
    assert "quick.yaml" in str(error.value)
    assert message in str(error.value)


def test_numbers_are_read_as_yaml_1_2_writes_them(tmp_path, monkeypatch):
    text = (ROOT / "params/recipes/quick.yaml").read_text()
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/x.yaml").write_text(text.replace("lr: 0.001", "lr: 1e-3"))
    monkeypatch.setattr(params, "PARAMS", tmp_path)
    assert params.recipe("x", "demo", "train").train.lr == 0.001
