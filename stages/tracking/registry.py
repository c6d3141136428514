"""Models in MLflow: logged from code into the run of their results, registered, and had back as a folder of weights."""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.system.errors import InputError
from stages.tracking import store
from stages.tracking.faults import explain

URI = re.compile(r"(models|runs):/")
CODE = Path(__file__).parents[1]
# What the served model's code imports; a test compares them
REQUIREMENTS = (
    "filelock", "mlflow", "numpy", "opencv-python-headless", "pandas", "pillow", "psutil", "pyarrow", "pydantic",
    "safetensors", "scipy", "torch", "tqdm",
)  # fmt: skip


def is_uri(model: str) -> bool:
    """Whether it names a model in MLflow: models:/NAME@ALIAS, models:/NAME/VERSION or runs:/RUN/NAME."""
    return bool(URI.match(model))


def registered_name(dataset: str) -> str:
    """One registered model for a dataset; its versions are experiments."""
    return f"landmarks-{dataset}"


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """A failure of the store as an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of MLflow, its database driver or the network
        raise InputError(f"{what}: {explain(error)}") from None


def _store() -> str:
    """The URI of the tracking store, which is MLflow's registry too. Raises `InputError` where there is none."""
    if not store.mlflow_available():
        raise InputError("MLflow cannot be imported: make repro installs it.")
    uri = store.store_uri(store.project_root())
    database = store.embedded_database(uri)
    if database and not database.exists():
        raise InputError(f"there is no MLflow database {database} yet: dvc repro makes it.")
    if database:
        store.correct_paths(database)
    return uri


def client():
    from mlflow import MlflowClient

    uri = _store()
    return MlflowClient(uri, uri)


@contextmanager
def _default_store() -> Iterator[None]:
    """What MLflow's functions that take no client use: our store, and nothing said of what they do."""
    uri = _store()
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # its database's migrations turn it on again
    try:
        mlflow.set_tracking_uri(uri)  # it sets the environment's too
        mlflow.set_registry_uri(uri)
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
            yield
    finally:
        mlflow.set_tracking_uri(before)
        mlflow.set_registry_uri(None)


@contextmanager
def local_model(uri: str) -> Iterator[Path]:
    """A folder with the weights, description and calibration of a model in MLflow, until the end of the block.

    Raises `InputError` where there is no such model, or it is not one that `log_model` has logged.
    """
    with TemporaryDirectory() as folder:
        with _errors(uri), _default_store():
            from mlflow.artifacts import download_artifacts

            place = Path(download_artifacts(uri, dst_path=folder))
        for model in (place / "artifacts/model", place):
            if (model / "model.json").is_file():
                yield model
                return
        raise InputError(f"{uri} is not a model of python -m stages.register.")


def requirements(constraints: Path) -> list[str]:
    """`name==version` of what a served model needs, as pinned."""
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", constraints.read_text(encoding="utf-8"), re.MULTILINE))
    pinned = {name.lower(): version for name, version in pinned.items()}
    return [f"{name}=={pinned[name]}" for name in REQUIREMENTS]


def log_model(name: str, files: dict[str, Path], detector: Path, run_id: str, **described) -> str:
    """Log a model into a run, from code; returns its URI.

    files: model.json and so on, by the names they get. described: signature and input_example.
    """
    entries = client()
    import mlflow
    from mlflow.models import Model

    with TemporaryDirectory() as folder, _errors(f"{name} cannot be logged"), _default_store():
        model = Path(folder) / "model"
        model.mkdir()
        for file, path in files.items():
            shutil.copyfile(path, model / file)  # MLflow takes no links
        entry = entries.create_logged_model(
            entries.get_run(run_id).info.experiment_id, re.sub(r"[/:.%\"']", "_", name), run_id, model_type="landmarks"
        )
        return Model.log(
            None, mlflow.pyfunc, run_id=run_id, model_id=entry.model_id,
            python_model=str(CODE / "serving/from_code.py"), code_paths=[str(CODE)],
            artifacts={"model": str(model), "detector": str(detector.resolve())},
            pip_requirements=requirements(Path("constraints.txt")), **described,
        ).model_uri  # fmt: skip


def versions(name: str) -> list:
    """The versions of a registered model, newest first."""
    with _errors(name):
        found = client().search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: -int(version.version))


def register(uri: str, name: str, tags: dict[str, str]) -> str:
    """The number of the new version."""
    with _errors(f"{uri} cannot be registered"), _default_store():
        import mlflow

        return str(mlflow.register_model(uri, name, tags=tags).version)


def holder(name: str, alias: str):
    """The version that has the alias; None where none has."""
    with _errors(name):
        found = client().search_registered_models(f"name = '{name}'")
        held = found[0].aliases.get(alias) if found else None
        return held and client().get_model_version(name, held)


def give_alias(name: str, alias: str, version: str) -> None:
    with _errors(f"{name}@{alias}"):
        client().set_registered_model_alias(name, alias, version)
