"""dvc.yaml declares the code and parameters that decide a stage's outs; packages import only what the design allows."""

import ast
from pathlib import Path

import pytest
import yaml

from stages.config.dataset import DATASET
from stages.config.pipeline import read_pipeline
from stages.config.resolved import HEADER, resolved

ROOT = Path(__file__).parents[1]
STAGES = ("resolve", "obtain", "fetch", "preprocess", "detect", "train", "predict", "evaluate", "report", "explore")
SAME_SCRIPT = {
    "predict_cross": "predict", "submit_file": "submit", "submit_method": "submit", "evaluate_cross": "evaluate",
    "evaluate_submission": "evaluate",
}  # fmt: skip
# What a stage shows of params/resolved.yaml, besides the parameters that it acts on
SHOWN = {
    "evaluate": {"set.${item.set}"},
    "evaluate_cross": {"set.${item.set}"},
    "report": {"baselines", "experiments", "submissions"},
}
# No stage depends on these: they cannot change a figure. Parameters are tracked by value.
UNTRACKED = ("stages/__init__.py", "stages/config", "stages/tracking", "stages/system")
# Who may import whom, apart from itself. Scripts may import everything.
ALLOWED = {
    "system": set(),
    "data": {"system.errors", "system.files"},
    "predictions": {"data", "system.errors", "system.files"},
    "sources": {"data", "system.errors", "system.files", "system.processes"},
    "model": {"data", "system.errors", "system.files"},
    "inference": {"data", "model", "predictions", "system.errors", "system.files", "system.processes"},
    "metrics": {"data", "predictions", "system.errors", "system.files"},
    "reporting": {"data", "metrics", "predictions", "system.errors", "system.files"},
    "importing": {"config", "data", "sources", "system.errors", "system.files", "system.processes"},
    "exploring": {"data", "metrics", "predictions", "reporting", "system.errors", "system.files"},
    "submissions": {"data", "metrics", "predictions", "reporting", "sources", "system.errors"},
    "exporting": {"data", "inference", "model", "system.errors", "system.processes"},
    "landmarking": {
        "data",
        "exporting",
        "inference",
        "model",
        "predictions",
        "sources",
        "system.errors",
        "system.files",
    },
    "serving": {"data", "landmarking", "sources", "system.errors"},
    "config": {"data", "system.errors", "system.files"},
    "verification": {"config", "metrics.provenance_schema", "system", "tracking"},
    "tracking": {"config", "data", "metrics.provenance_schema", "system"},
}


def module_files(name: str) -> list[Path]:
    """The files behind `stages.a.b`: the module or the package, and the packages above it."""
    parts, files = name.split("."), []
    for depth in range(1, len(parts) + 1):
        path = ROOT.joinpath(*parts[:depth])
        files += [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
    return files


def imports(file: Path) -> set[str]:
    """Every module that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not followed here"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def project_imports(file: Path) -> set[Path]:
    """The project's own files that a file imports directly; empty ones do not count."""
    names = {name for name in imports(file) if name.split(".")[0] == "stages"}
    return {module for name in names for module in module_files(name) if module.stat().st_size}


def code_of(stage: str) -> set[str]:
    """The files that decide a stage's outs: all that it imports, directly or not, but for the untracked packages."""
    todo, seen = [ROOT / "stages" / f"{stage}.py"], set()
    while todo:
        file = todo.pop()
        if file not in seen and not str(file.relative_to(ROOT)).startswith(UNTRACKED):
            seen.add(file)
            todo += project_imports(file)
    return {str(file.relative_to(ROOT)) for file in seen}


def declared(stage: str) -> dict:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    return content.get("do", content)


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(f"{dep}/")


@pytest.mark.parametrize("stage", [*STAGES, *SAME_SCRIPT])
def test_every_file_that_a_stage_imports_is_in_a_declared_folder(stage):
    deps = [dep for dep in declared(stage)["deps"] if dep.startswith("stages/")]
    files = code_of(SAME_SCRIPT.get(stage, stage))
    assert not [file for file in files if not any(covers(dep, file) for dep in deps)]
    assert not [dep for dep in deps if not any(covers(dep, file) for file in files)], "declared and not imported"
    assert not [dep for dep in deps if any(covers(folder, dep) for folder in UNTRACKED)]


@pytest.mark.parametrize("stage", [*STAGES, *SAME_SCRIPT])
def test_a_stage_declares_exactly_the_parameters_it_loads(stage):
    """The sections named in the calls that load a dataset, an experiment or a submission in the script's `main`.

    A cross-dataset evaluation reads its recipe's section `evaluate` from the experiment's own predictions.
    """
    script = SAME_SCRIPT.get(stage, stage)
    tree = ast.parse((ROOT / "stages" / f"{script}.py").read_text())
    loaded: dict[str, set[str]] = {"datasets": set(), "recipes": set()}
    main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    for call in (node for node in ast.walk(main) if isinstance(node, ast.Call)):
        if ast.unparse(call.func) in ("load_dataset", "load_experiment", "load_submission", "load_measured"):
            for section in (argument.value for argument in call.args if isinstance(argument, ast.Constant)):
                loaded["datasets" if section in DATASET else "recipes"].add(section)
    if stage == "predict_cross":
        loaded |= {"recipes": set(), "correspondence.yaml": {"all"}}
    if "submi" in stage:
        loaded["submissions"] = {"all"}
    if script == "submit":
        loaded["correspondence.yaml"] = {"all"}
    trains, asks = loaded["recipes"] - {"evaluate"}, loaded["recipes"] & {"evaluate"}
    overrides = {f"set.${{item.set}}.{part}" for part, read in (("training", trains), ("evaluate", asks)) if read}
    if stage == "train":
        overrides.add("set.${item.set}.init_landmarks")  # by the correspondence of two schemes
    if overrides | SHOWN.get(stage, set()):  # what an experiment sets that differs from its recipe
        loaded["resolved.yaml"] = overrides | SHOWN.get(stage, set())
    listed: dict[str, set[str]] = {"datasets": set(), "recipes": set()}
    for entry in declared(stage).get("params", []):
        ((path, sections),) = entry.items()
        listed.setdefault(Path(path).parts[1], set()).update(sections or {"all"})
    assert loaded == listed


def test_only_obtain_and_predict_read_schemes_and_their_correspondence_from_params():
    readers = {file.stem for file in (ROOT / "stages").glob("*.py") if "stages.config.schemes" in imports(file)}
    assert readers == {"obtain", "predict", "submit", "evaluate_weights", "score", "landmarks"}


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_the_design_allows(package):
    allowed = {package, *ALLOWED[package]}
    for file in (ROOT / "stages" / package).rglob("*.py"):
        for name in imports(file):
            top, _, rest = name.partition(".")
            assert top != "dvc" or file.name == "dvc_files.py", f"{file} imports {name}"
            assert top != "mlflow" or package in ("tracking", "serving"), f"{file} imports {name}"
            assert top != "importlib", f"{file} imports {name}"
            if top == "stages" and rest:
                within = any(f"{rest}.".startswith(f"{part}.") or f"{part}.".startswith(f"{rest}.") for part in allowed)
                assert within, f"{file} imports {name}"


def test_no_import_circle():
    graph = {file: project_imports(file) - {file} for file in (ROOT / "stages").rglob("*.py")}
    done: set[Path] = set()

    def visit(file: Path, path: tuple[Path, ...]) -> None:
        assert file not in path, " → ".join(str(each.relative_to(ROOT)) for each in (*path, file))
        if file not in done:
            for imported in graph.get(file, ()):
                visit(imported, (*path, file))
            done.add(file)

    for file in graph:
        visit(file, ())


def test_scripts_alone_are_at_the_top_and_no_module_has_outgrown_its_idea():
    scripts = [file for file in (ROOT / "stages").glob("*.py") if file.name != "__init__.py"]
    assert not [file.name for file in scripts if '__name__ == "__main__"' not in file.read_text()]
    imported = {name for file in (ROOT / "stages").rglob("*.py") for name in imports(file)}
    assert not [file.name for file in scripts if f"stages.{file.stem}" in imported], "nothing imports a script"
    lengths = {file: len(file.read_text().splitlines()) for file in (ROOT / "stages").rglob("*.py")}
    assert not [f"{file}: {n} lines" for file, n in lengths.items() if n > 300]


def test_every_stage_says_what_it_does():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert not [stage for stage in stages if not declared(stage).get("desc")]


def test_dvc_yaml_names_folders_of_code():
    deps = [dep for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
            for dep in declared(stage)["deps"] if dep.startswith("stages/")]  # fmt: skip
    assert len(deps) <= 5 * (len(STAGES) + len(SAME_SCRIPT))  # lists of single files came to twelve a stage


def test_the_committed_resolved_yaml_is_what_the_pipeline_stands_for():
    text = HEADER + yaml.safe_dump(resolved(read_pipeline()), sort_keys=False, width=120, allow_unicode=True)
    assert (ROOT / "params/resolved.yaml").read_text(encoding="utf-8") == text, "run: python -m stages.check"
