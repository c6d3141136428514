"""Parameters are typed: a wrong one is reported with its file and its key."""

from pathlib import Path

import pytest
import yaml

from stages.config import experiment, pipeline, reading, resolved, schemes
from stages.config.dataset import DATASET
from stages.config.experiment import load_dataset, load_experiment, load_recipe
from stages.config.pipeline import read_pipeline
from stages.config.reading import read_yaml
from stages.config.recipe import RECIPE
from stages.config.reference import reference
from stages.config.schemes import corresponding_landmarks, initial_landmarks, load_dataset_scheme, load_scheme
from stages.system.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def change(tmp_path, monkeypatch):
    """Changes one value of a file in a copy of params/, which is read from then on."""
    for file in (ROOT / "params").rglob("*.yaml"):
        copy = tmp_path / file.relative_to(ROOT / "params")
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(file.read_text())
    for module in (pipeline, experiment, schemes):
        monkeypatch.setattr(module, "PARAMS", tmp_path)

    def change(file: str, key: str, value: object) -> None:
        content = yaml.safe_load((tmp_path / file).read_text())
        *path, last = key.split(".")
        section = content
        for part in path:
            section = section[part]
        section[last] = value
        (tmp_path / file).write_text(yaml.safe_dump(content))

    return change


def scheme_of(name: str):
    dataset = load_dataset(name, "landmarks")
    return load_dataset_scheme(dataset.landmarks.scheme, dataset.landmarks.normaliser, name)


@pytest.mark.parametrize("file", sorted((ROOT / "params/datasets").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_dataset_is_valid_and_every_landmark_is_in_one_group(file):
    load_dataset(file.stem, *DATASET)
    scheme = scheme_of(file.stem)
    assert sorted(i for group in scheme.groups.values() for i in group) == list(range(scheme.count))


@pytest.mark.parametrize("file", sorted((ROOT / "params/schemes").glob("*.yaml")), ids=lambda file: file.stem)
def test_mirroring_twice_changes_nothing(file):
    order = load_scheme(file.stem).flip_order()
    assert (order[order] == range(len(order))).all()


def test_a_file_is_parsed_once_however_many_experiments_read_it(change, monkeypatch):
    change("pipeline.yaml", "experiments.demo-quick", {"dataset": "demo", "recipe": "quick", "seeds": list(range(40))})
    change("pipeline.yaml", "cross_dataset", {})
    change("pipeline.yaml", "baseline", [])
    parsed, load = [], yaml.load
    monkeypatch.setattr(reading.yaml, "load", lambda text, loader: parsed.append(text) or load(text, loader))
    reading._parsed.cache_clear()
    names = list(read_pipeline().experiments)
    assert len(names) >= 40
    for name in names:
        load_experiment(name)
    assert len(parsed) == len(set(parsed))


def test_an_edited_file_is_read_again_and_what_was_read_may_be_changed(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("a: [1]")
    read_yaml(file)["a"].append(2)
    assert read_yaml(file) == {"a": [1]}
    file.write_text("a: [3]")
    assert read_yaml(file) == {"a": [3]}


@pytest.mark.parametrize("file", sorted((ROOT / "params/recipes").glob("*.yaml")), ids=lambda file: file.stem)
@pytest.mark.parametrize("dataset", ["demo", "300w", "aflw"])
def test_every_recipe_is_valid_for_every_dataset(file, dataset):
    assert load_recipe(file.stem, dataset, *RECIPE).train.epochs >= 1


def test_an_experiment_has_only_the_sections_that_were_asked_for():
    loaded = load_experiment("demo-quick", "train")
    assert (loaded.dataset, loaded.trained_on, loaded.kind) == ("demo", "demo", "experiment")
    assert loaded.recipe.train.epochs == 16
    with pytest.raises(AttributeError):
        _ = loaded.recipe.evaluate


def test_a_cross_dataset_evaluation_has_the_model_and_recipe_of_its_experiment():
    loaded = load_experiment("demo-quick-on-demo-68")
    assert (loaded.dataset, loaded.trained_on, loaded.model_name) == ("demo-68", "demo", "demo-quick")
    assert (loaded.kind, loaded.recipe_name) == ("cross_dataset", "quick")


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
def test_a_wrong_recipe_parameter_is_reported_with_its_file_and_key(change, key, value, message):
    change("recipes/quick.yaml", key, value)
    with pytest.raises(InputError) as error:
        load_recipe("quick", "demo", "train", "input", "augment")
    assert "quick.yaml" in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize("thresholds", [[0.07], [0.08, 0.1], [0.05, 0.08, 0.1, 1]])
def test_a_dataset_has_thresholds_of_its_own(change, thresholds):
    change("datasets/demo.yaml", "evaluation.thresholds", thresholds)
    assert load_dataset("demo", "evaluation").evaluation.thresholds == thresholds


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([], "evaluation.thresholds: List should have at least 1"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], "evaluation.thresholds: List should have at most 4"),
        ([0.1, 0.08], "evaluation.thresholds: each must be larger than the one before it"),
        ([0.1, 0.1], "evaluation.thresholds: each must be larger than the one before it"),
        ([0.075], "evaluation.thresholds: two decimals at most (0.08 is 8 % of the normaliser)"),
        ([8], "evaluation.thresholds.0: Input should be less than or equal to 1"),
        ([0.0], "evaluation.thresholds.0: Input should be greater than 0"),
    ],
)
def test_wrong_thresholds_are_reported(change, thresholds, message):
    change("datasets/demo.yaml", "evaluation.thresholds", thresholds)
    with pytest.raises(InputError) as error:
        load_dataset("demo", "evaluation")
    assert message in str(error.value)


def test_all_faults_of_a_file_are_reported_at_once(change):
    change("recipes/quick.yaml", "train.epochs", 0)
    change("recipes/quick.yaml", "train.batch", "big")
    change("recipes/quick.yaml", "input.size", 100)
    with pytest.raises(InputError, match=r"3 faults(.|\n)*input.size(.|\n)*train.epochs(.|\n)*train.batch"):
        load_recipe("quick", "demo", "train")


def test_an_unknown_dataset_recipe_or_experiment_is_reported_with_those_that_exist():
    with pytest.raises(InputError, match=r"wlfw.yaml.*Known.*demo"):
        load_dataset("wlfw", "crops")
    with pytest.raises(InputError, match=r"quikc.yaml. Did you mean quick\?"):
        load_recipe("quikc", "demo", "train")
    with pytest.raises(InputError, match=r"there is no experiment 'demo-quikc'.*Did you mean demo-quick\?"):
        load_experiment("demo-quikc")
    with pytest.raises(InputError, match=r"dataset 'wflw' is not listed.*wflw: \{source: data/wflw\}"):
        _ = load_dataset("wflw").location


def test_an_experiment_whose_dataset_is_not_listed_is_refused(change):
    change("pipeline.yaml", "experiments.lfpw-quick", {"dataset": "lfpw", "recipe": "quick", "init": "random"})
    with pytest.raises(InputError, match="lfpw-quick: dataset lfpw is not listed"):
        read_pipeline()


def test_an_experiment_without_initial_weights_starts_from_random_ones(change):
    change("pipeline.yaml", "experiments.again", {"dataset": "demo", "recipe": "quick"})
    assert load_experiment("again").init == "random"


@pytest.mark.parametrize(
    ("cross", "message"),
    [
        ({"experiment": "demo-slow", "dataset": "demo"}, "experiment demo-slow is not listed under experiments"),
        ({"experiment": "demo-quick", "dataset": "demo"}, "demo-quick is trained on demo itself"),
        ({"experiment": "demo-quick", "dataset": "lfpw"}, "dataset lfpw is not listed under datasets"),
    ],
)
def test_a_cross_dataset_evaluation_of_what_is_not_listed_is_refused(change, cross, message):
    change("pipeline.yaml", "cross_dataset.there", cross)
    with pytest.raises(InputError, match=f"cross_dataset.there: {message}"):
        load_experiment("there")


def test_a_cross_dataset_evaluation_with_the_name_of_an_experiment_is_refused(change):
    change("pipeline.yaml", "cross_dataset.demo-quick", {"experiment": "demo-quick", "dataset": "demo-68"})
    with pytest.raises(InputError, match="demo-quick: an experiment has the same name"):
        read_pipeline()


BAD_NAMES = [
    "../../x",
    "/etc/x",
    "x; touch F; true",
    "make-up (heavy)",
    "pose/left",
    "größe",
    "",
    ".x",
    "-x",
    "a" * 101,
    "a" * 300,
    "../..",
    "a/b",
    "$(touch F)",
    "a\n",
    "a b",
    "a.",
    "a.tmp",
    "a.pyc",
    "a.dvc",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_a_folder_a_shell_or_mlflow_cannot_bear_is_refused(change, name):
    for load in (load_dataset, load_scheme, lambda name: load_recipe(name, "demo")):
        with pytest.raises(InputError, match="is not a name"):
            load(name)
    with pytest.raises(InputError):
        load_experiment(name)
    change("pipeline.yaml", "experiments", {name: {"dataset": "demo", "recipe": "quick", "init": "random"}})
    with pytest.raises(InputError, match=r"pipeline.yaml(.|\n)*(should match pattern|cannot end with)"):
        read_pipeline()


@pytest.mark.parametrize("name", [*BAD_NAMES, "test"])
def test_a_subset_s_name_is_checked_where_parameters_are_read(change, name):
    change("datasets/wflw.yaml", "source.csv.subsets", {name: "blur.csv"})
    with pytest.raises(
        InputError, match=r"wflw.yaml(.|\n)*(should match pattern|cannot end with|cannot be named test)"
    ):
        load_dataset("wflw", "source")


def test_no_experiment_is_named_random(change):
    change("pipeline.yaml", "experiments.random", {"dataset": "demo", "recipe": "quick", "init": "random"})
    with pytest.raises(InputError, match="experiments.random: the name stands for weights drawn at random"):
        read_pipeline()


def test_no_experiment_is_named_as_a_file_of_weights(change, tmp_path, monkeypatch):
    change("pipeline.yaml", "experiments", {"i.pth": {"dataset": "demo", "recipe": "quick", "init": "random"}})
    change("pipeline.yaml", "cross_dataset", {})
    read_pipeline()
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    Path("models/i.pth").touch()
    with pytest.raises(
        InputError, match=r"experiments.i.pth: models/i.pth is a file of weights, which DVC would remove"
    ):
        read_pipeline()


@pytest.mark.parametrize("name", ["raw", "schemes", "crops", "training", "predictions", "galleries"])
def test_a_dataset_may_have_any_name_but_its_files_no_folder_that_stages_write(change, name):
    change(
        "pipeline.yaml", "datasets", {"demo": {"source": "stages/sources/demo"}, name: {"source": f"data/my-{name}"}}
    )
    change("pipeline.yaml", "cross_dataset", {})
    read_pipeline()
    for source in (f"data/{name}", f"./data/x/../{name}/", f"data/{name}/mine", "data", "."):
        change("pipeline.yaml", f"datasets.{name}.source", source)
        with pytest.raises(InputError, match=rf"datasets.{name}.source: .* has what the stages make"):
            read_pipeline()


def test_names_that_differ_only_in_capitals_are_refused(change):
    change("pipeline.yaml", "datasets.Demo", {"source": "data/Demo"})
    change("pipeline.yaml", "cross_dataset.Demo-Quick", {"experiment": "demo-quick", "dataset": "demo-68"})
    with pytest.raises(InputError, match="4 faults") as error:
        read_pipeline()
    for name in ("demo", "Demo", "demo-quick", "Demo-Quick"):
        assert f"- {name}: another name differs from it only in capitals" in str(error.value)


def test_corresponding_landmarks_are_the_same_point_of_the_face():
    """What each scheme says by itself, the group of a landmark and its mirror, agrees for every pair."""
    wflw, ibug = scheme_of("wflw"), scheme_of("300w")
    pairs = corresponding_landmarks(wflw, ibug)
    assert [other for _, other in pairs] == list(range(68))
    groups = [{i: name for name, members in each.groups.items() for i in members} for each in (wflw, ibug)]
    assert all(groups[0][one] == groups[1][other] for one, other in pairs)
    orders = [each.flip_order().tolist() for each in (wflw, ibug)]
    assert {(orders[0][one], orders[1][other]) for one, other in pairs} == set(pairs)


def test_a_correspondence_holds_both_ways_and_a_scheme_corresponds_to_itself():
    there = corresponding_landmarks(scheme_of("demo"), scheme_of("lfpw"))
    back = corresponding_landmarks(scheme_of("lfpw"), scheme_of("demo"))
    assert len(there) == len(back) == 68
    assert {(other, one) for one, other in there} == set(back)
    assert [other for _, other in back] == sorted(other for _, other in back)
    assert corresponding_landmarks(scheme_of("300w"), scheme_of("lfpw")) == [(i, i) for i in range(68)]


def test_initial_weights_of_another_scheme_name_the_landmarks_that_correspond():
    there = corresponding_landmarks(scheme_of("lfpw"), scheme_of("demo"))
    assert initial_landmarks("300w", "drawn", "wflw") == sorted(there)
    assert initial_landmarks("300w", "drawn", "300w") is None
    assert initial_landmarks("cofw", "drawn", "wflw") == []
    assert initial_landmarks("300w", "random", None) is None


def test_of_a_model_folder_that_no_experiment_makes_the_scheme_is_read_there(tmp_path, monkeypatch):
    monkeypatch.setattr(schemes, "PARAMS", schemes.PARAMS.absolute())
    monkeypatch.chdir(tmp_path)
    Path("models/drawn").mkdir(parents=True)
    Path("models/drawn/model.json").write_text('{"scheme": {"scheme": "wflw"}}')
    assert len(initial_landmarks("300w", "drawn", None)) == 68
    Path("models/drawn/model.json").write_text("{")
    assert initial_landmarks("300w", "drawn", None) is None


def test_schemes_without_a_correspondence_are_refused():
    with pytest.raises(InputError, match=r"does not say which landmarks of wflw and cofw correspond"):
        corresponding_landmarks(scheme_of("demo"), scheme_of("cofw"))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([[98, 0]], r"landmarks \[98\] do not exist in wflw"),
        ([[0, 0], [1, 0]], r"landmarks \[0\] of 300w are duplicated"),
    ],
)
def test_a_wrong_correspondence_is_refused(change, pairs, message):
    change("correspondence.yaml", "correspondences", [{"schemes": ["wflw", "300w"], "pairs": pairs}])
    with pytest.raises(InputError, match=message):
        corresponding_landmarks(scheme_of("demo"), scheme_of("lfpw"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("flip_pairs", [[0, 98]], r"landmarks \[98\] are named"),
        ("flip_pairs", [[0, 1], [1, 2]], "names a landmark more than once"),
        ("inter_ocular", [60, 99], r"landmarks \[99\] are named"),
        ("inter_pupil", [[96], [98]], r"landmarks \[98\] are named"),
        ("groups", {"eyes": [-1]}, r"landmarks \[-1\] are named"),
    ],
)
def test_a_scheme_names_only_landmarks_that_exist(change, key, value, message):
    change("schemes/wflw.yaml", key, value)
    with pytest.raises(InputError, match=rf"wflw.yaml(.|\n)*{message}"):
        load_scheme("wflw")


def test_the_official_normaliser_must_be_defined_by_the_scheme(change):
    change("datasets/aflw.yaml", "landmarks.normaliser", "inter_ocular")
    with pytest.raises(
        InputError, match=r"aflw.yaml(.|\n)*normaliser is inter_ocular, which scheme aflw does not define"
    ):
        scheme_of("aflw")


def test_a_url_must_be_pinned_by_its_checksum(change):
    change("datasets/lfpw.yaml", "source.url", "https://example.org/lfpw.zip")
    with pytest.raises(InputError, match="sha256 is needed with url"):
        load_dataset("lfpw", "source")


def test_a_recipe_can_differ_for_one_dataset(change):
    change("recipes/quick.yaml", "datasets", {"demo": {"train": {"lr": 0.5}}})
    assert load_recipe("quick", "demo", "train").train.lr == 0.5
    assert load_recipe("quick", "lfpw", "train").train.lr != 0.5


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
def test_a_wrong_difference_for_one_dataset_is_refused(change, special, message):
    change("recipes/quick.yaml", "datasets", special)
    with pytest.raises(InputError) as error:
        load_recipe("quick", "demo", "train")
    assert "quick.yaml" in str(error.value)
    assert message in str(error.value)


def test_numbers_are_read_as_yaml_1_2_writes_them(change, tmp_path):
    text = (ROOT / "params/recipes/quick.yaml").read_text()
    (tmp_path / "recipes/x.yaml").write_text(text.replace("lr: 0.001", "lr: 1e-3"))
    assert load_recipe("x", "demo", "train").train.lr == 0.001


@pytest.mark.parametrize(
    ("text", "value"),
    [("010", 10), ("0o10", 8), ("0x10", 16), ("+7", 7), ("1:30", None), ("1_000", None), ("yes", None), ("true", None)],
)
def test_whole_numbers_are_those_of_yaml_1_2(change, tmp_path, text, value):
    quick = (ROOT / "params/recipes/quick.yaml").read_text()
    (tmp_path / "recipes/x.yaml").write_text(quick.replace("epochs: 16", f"epochs: {text}"))
    if value is None:
        with pytest.raises(InputError, match=r"train.epochs: Input should be a valid integer"):
            load_recipe("x", "demo", "train")
    else:
        assert load_recipe("x", "demo", "train").train.epochs == value


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", ".NaN", "1e999", "true", "9" * 5000])
@pytest.mark.parametrize(
    ("file", "key", "line"),
    [("recipes/quick.yaml", "lr", "lr: 0.001"), ("datasets/demo.yaml", "context", "context: 2.1875")],
)
def test_a_number_that_is_none_is_refused_in_every_file(change, tmp_path, file, key, line, text):
    whole = (ROOT / "params" / file).read_text()
    assert line in whole
    (tmp_path / file).write_text(whole.replace(line, f"{key}: {text}"))
    with pytest.raises(InputError, match=rf"{Path(file).name}(.|\n)*({key}: Input should be|is not valid YAML)"):
        load_recipe("quick", "demo", "train") if "recipes" in file else load_dataset("demo", "crops")


@pytest.mark.parametrize("key", ["train.epochs", "train.batch", "model.width", "evaluate.batch", "train.seed"])
def test_a_number_beyond_all_use_is_refused(change, key):
    change("recipes/quick.yaml", key, 10**30)
    with pytest.raises(InputError, match=r"quick.yaml is not valid YAML: a number is too large"):
        load_recipe("quick", "demo")
    change("recipes/quick.yaml", key, 10**12)
    bound = "less than 4294967296" if key == "train.seed" else "less than or equal to 1000000"
    with pytest.raises(InputError, match=rf"{key}: Input should be {bound}"):
        load_recipe("quick", "demo")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("input", "size", 10240), ("input", "box", 1e308), ("target", "sigma", 1e9), ("train", "lr", 1e300),
        ("train", "gamma", 1e9), ("train", "weight_decay", 1e9),
    ],
)  # fmt: skip
def test_a_quantity_beyond_all_use_is_refused(change, section, key, value):
    change("recipes/quick.yaml", f"{section}.{key}", value)
    with pytest.raises(InputError, match=rf"quick.yaml(.|\n)*{section}.{key}: Input should be less than or equal to"):
        load_recipe("quick", "demo")


def test_faces_beyond_all_use_are_refused(change):
    change("datasets/demo.yaml", "source.demo.train", 10**12)
    with pytest.raises(InputError, match=r"source.demo.train: Input should be less than or equal to 1000000"):
        load_dataset("demo")


def test_a_key_that_is_there_twice_is_refused(tmp_path, change):
    text = (ROOT / "params/pipeline.yaml").read_text()
    (tmp_path / "pipeline.yaml").write_text(text.replace("  demo-68: {", "  demo: {"))
    with pytest.raises(InputError, match="is not valid YAML: demo is there twice"):
        read_pipeline()


def test_words_that_old_yaml_takes_for_truth_values_are_names(tmp_path, change):
    text = (ROOT / "params/pipeline.yaml").read_text()
    (tmp_path / "pipeline.yaml").write_text(text.replace("  demo: {", "  no: {source: data/no}\n  demo: {"))
    assert list(read_pipeline().datasets) == ["no", "demo", "demo-68"]


def test_the_parameter_reference_is_up_to_date_and_has_every_key():
    page = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    assert page == reference(), "run: python -m stages.parameters > docs/parameters.md"
    for section, model in (RECIPE | DATASET).items():
        for key in model.model_fields:
            assert f"| `{section}.{key}` |" in page
    undocumented = [line for line in page.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert all("source." in line for line in undocumented), undocumented


def test_crops_larger_than_the_recipes_use_are_told_with_what_to_set(change, capsys):
    """448 px hold a 256 px input of 1.25 boxes at their own scale, 224 px one of 128 px."""
    change("pipeline.yaml", "datasets.lfpw", {"source": "data/lfpw"})
    assert resolved.oversized_crops(read_pipeline()) == [], "no experiment, no statement"
    change("pipeline.yaml", "experiments.a", {"dataset": "lfpw", "recipe": "quick"})
    (told,) = resolved.oversized_crops(read_pipeline())
    assert "448 px wide and its recipes use 224: crops.size: 224 in params/datasets/lfpw.yaml" in told
    assert "takes 0.15 GB for 1000 faces instead of 0.60" in told
    change("pipeline.yaml", "experiments.b", {"dataset": "lfpw", "recipe": "modern"})
    assert resolved.oversized_crops(read_pipeline()) == []
