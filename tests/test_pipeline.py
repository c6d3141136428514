"""dvc.yaml says exactly what each stage reads; the wings import only what the design lets them."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = ("fetch", "preprocess", "train", "evaluate", "cross", "analyse", "report")


def module_files(name: str) -> list[Path]:
    """The files behind `stages.a.b`: the module or the package, and the packages above it."""
    parts, found = name.split("."), []
    for depth in range(1, len(parts) + 1):
        path = ROOT.joinpath(*parts[:depth])
        found += [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
    return found


def imports(file: Path) -> set[str]:
    """Every module that a file imports, inside of functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports are not followed here"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def code_of(stage: str) -> set[str]:
    """The project's own files that a stage imports, directly or not; empty ones do not count."""
    todo, seen = [ROOT / "stages" / f"{stage}.py"], set()
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            todo += [f for name in imports(file) if name.split(".")[0] == "stages" for f in module_files(name)]
    return {str(file.relative_to(ROOT)) for file in seen if file.stat().st_size}


def declared(stage: str) -> dict:
    content = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]
    return content.get("do", content)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_the_code_it_imports(stage):
    code = {dep for dep in declared(stage)["deps"] if dep.endswith(".py")}
    assert code == code_of(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_the_parameters_it_reads(stage):
    """The sections named in the calls params.dataset(…, "crops") and params.recipe(…) of the stage's `main`; all of
    layouts.yaml where it calls params.partners."""
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text())
    read = {"datasets": set(), "recipes": set()}
    main = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    for call in (node for node in ast.walk(main) if isinstance(node, ast.Call)):
        if ast.unparse(call.func) in ("params.dataset", "params.recipe"):
            kind = call.func.attr + "s"
            read[kind] |= {a.value for a in call.args if isinstance(a, ast.Constant)}
        elif ast.unparse(call.func) == "params.partners":
            read["layouts.yaml"] = {"all"}
    listed = {"datasets": set(), "recipes": set()}
    for entry in declared(stage).get("params", []):
        ((path, sections),) = entry.items()
        listed.setdefault(Path(path).parts[1], set()).update(sections or {"all"})
    assert read == listed


def test_the_wings_import_only_what_the_design_lets_them():
    allowed = {"data": {"data"}, "model": {"data", "model"}, "measure": {"data.faces", "measure"}}
    for wing, may in allowed.items():
        for file in (ROOT / "stages" / wing).rglob("*.py"):
            for name in imports(file):
                top, _, rest = name.partition(".")
                assert top not in ("mlflow", "dvc"), f"{file} imports {name}"
                if top == "stages" and rest and not rest.startswith("errors"):
                    assert any(f"{rest}.".startswith(f"{m}.") or f"{m}.".startswith(f"{rest}.") for m in may), (
                        file,
                        name,
                    )
    assert {f.name for f in (ROOT / "stages").rglob("*.py") if "mlflow" in imports(f)} == {"tracking.py", "views.py"}
