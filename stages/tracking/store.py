"""The MLflow store: which one it is, its database and experiment, and a run found or created in it."""

import functools
import json
import logging
import math
import os
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.parse import quote, unquote

from filelock import FileLock

from stages.tracking import process
from stages.tracking.faults import CERTIFICATE, warn

EXPERIMENT = "hrnet-landmarks"  # one for all datasets: the runs of one MLflow experiment compare in its UI

# A server that is down may cost 10 s per stage. Nothing is called after the first failure, so the bound is on a single
# call; MLflow's own settings cannot keep it (they bound neither name look-ups nor database logins), a thread does.
TIMEOUT = 8.0  # s
UPLOAD_RATE = 2e6  # bytes/s; an upload may take that much longer
LOCK_TIMEOUT = 120.0  # s, for other processes that are opening their runs in the same embedded database

REQUEST_TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"
SETTINGS = {
    REQUEST_TIMEOUT: "4",  # s for one answer
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",  # MLflow still waits a random time below 1 s
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # failures are reported here, once
}

PARAMS_PER_CALL, TAG_LENGTH = 100, 5000  # MLflow's limits


@dataclass(frozen=True)
class DataInput:
    """The data a stage reads, as MLflow records it."""

    name: str
    digest: str  # DVC's hash: an md5, with ".dir" for a folder
    source: str  # path or URL
    context: str  # "training" or "test"
    rows: int  # faces


def project_root() -> Path:
    """The repository that owns the pipeline."""
    return Path(os.environ.get("DVC_ROOT") or process.CODE).resolve()


def store_uri(root: Path) -> str:
    """The tracking URI in use: `MLFLOW_TRACKING_URI`, else the database at `root`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or database_uri(root / "mlflow.db")


def database_uri(database: Path) -> str:
    """The URI of an embedded database.

    A path with a percent or a question mark is made relative: MLflow does not quote them in the folder it looks for.
    """
    path = str(database)
    return f"sqlite:///{quote(os.path.relpath(path)) if re.search('[%?]', path) else path}"


def embedded_database(uri: str) -> Path | None:
    """The file of an embedded database; None where the store is a server."""
    return Path(unquote(uri.removeprefix("sqlite:///"))).absolute() if uri.startswith("sqlite:///") else None


@functools.cache
def mlflow_available() -> bool:
    """Whether mlflow can be imported; its settings are made before, its chatter is silenced."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if not os.environ.get(CERTIFICATE):  # MLflow takes "" for leave to send the password to any server
        os.environ.pop(CERTIFICATE, None)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # "Retrying …" for each call
    try:
        import mlflow  # noqa: F401  (1.5 s, only where something is tracked)
    except Exception as error:
        warn(error, "nothing is tracked (install mlflow, or set LANDMARKS_TRACKING=off)")
        return False
    return True


def within(seconds: float | None, work: Callable):
    """`work()`; with `seconds`, in a thread that is abandoned when the time is up (TimeoutError)."""
    if seconds is None:
        return work()
    answer: Future = Future()

    def serve():
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=serve, daemon=True).start()
    return answer.result(seconds)


@contextmanager
def answers_within(extra: float) -> Iterator[None]:
    """Let MLflow wait `extra` seconds longer for an answer: its server gives it after it has passed an upload on."""
    usual = os.environ[REQUEST_TIMEOUT]
    os.environ[REQUEST_TIMEOUT] = str(math.ceil(float(usual) + extra))
    try:
        yield
    finally:
        os.environ[REQUEST_TIMEOUT] = usual


def _alone(database: Path | None):
    """One process at a time on the embedded database: MLflow's schema migration and our find-or-create both race."""
    return FileLock(f"{database}.lock", timeout=LOCK_TIMEOUT) if database else nullcontext()


def _same(tags: dict) -> str:
    """The filter of the runs that have the experiment and the fingerprint of `tags`."""
    return f"tags.experiment = '{tags['experiment']}' and tags.fingerprint = '{tags['fingerprint']}'"


@dataclass(frozen=True)
class Known:
    """What the store has of an experiment and fingerprint."""

    tags: frozenset[str] = frozenset()  # names of the tags of its run
    deleted: str = ""  # the id of the run where somebody has deleted it and there is no other
    id: str = ""  # of its run
    left: bool = False  # its run is RUNNING, and the process of this host that wrote it has ended


def known(uri: str, tags: dict) -> Known:
    """What the store has of the experiment and the fingerprint of `tags`. Changes nothing."""
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    database = embedded_database(uri)
    if database and not database.exists():
        return Known()
    with _alone(database):
        client = MlflowClient(uri)
        group = client.get_experiment_by_name(EXPERIMENT)
        runs = group and client.search_runs([group.experiment_id], _same(tags), ViewType.ALL)
    if not runs:
        return Known()
    for run in runs:
        if run.info.lifecycle_stage == "active":
            has = run.data.tags
            here = run.info.status == "RUNNING" and has.get("host") == socket.gethostname()
            return Known(frozenset(has), id=run.info.run_id, left=here and not process.is_alive(has))
    return Known(deleted=runs[0].info.run_id)


def open_run(uri: str, name: str, tags: dict, params: dict, data: DataInput | None, afterwards: bool = False) -> tuple:
    """(client, run, whether we own it): the run of these tags, found or created, RUNNING and described.

    afterwards: a run that is FINISHED keeps its status, its times and the tags that it has.
    """
    from mlflow import MlflowClient

    database = embedded_database(uri)
    with _alone(database):
        artifacts = (database.parent / "mlartifacts").as_uri() if database else None
        if database:
            _prepare(database, artifacts)
        client = MlflowClient(uri)
        group = _experiment(client, artifacts)
        search = functools.partial(client.search_runs, [group], order_by=["attributes.start_time ASC"])
        mine = f"tags.experiment = '{tags['experiment']}'"
        runs = search(_same(tags))
        if afterwards and runs and runs[0].info.status == "FINISHED":
            new = {key: value for key, value in tags.items() if key not in runs[0].data.tags}
            _describe(client, runs[0], params, new, data)
            return client, runs[0], False
        owner = runs[0].data.tags if runs and runs[0].info.status == "RUNNING" else {}
        taken = process.is_alive(owner) and not process.is_this(owner)
        if not taken:  # a run that another process is writing keeps that process as its owner
            tags |= process.this_process()
        if not runs:
            client.create_run(group, run_name=name, tags=tags | {"mlflow.user": process.user()})
            runs = search(_same(tags))  # more than one: another machine was faster, or MLflow asked its server twice
            for extra in runs[1:]:
                if process.is_this(extra.data.tags):
                    client.delete_run(extra.info.run_id)
        run = runs[0]
        _describe(client, run, params, tags, data)
        if run.info.status != "RUNNING":
            client.update_run(run.info.run_id, status="RUNNING")
        for other in search(f"{mine} and tags.host = '{socket.gethostname()}' and attributes.status = 'RUNNING'"):
            if other.info.run_id != run.info.run_id and not process.is_alive(other.data.tags):
                client.set_terminated(other.info.run_id, "KILLED")
    return client, run, not taken


def _prepare(database: Path, artifacts: str) -> None:
    """Create the embedded database where there is none; correct its paths."""
    if not database.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        database.parent.mkdir(parents=True, exist_ok=True)
        new = database.with_name(f"{database.name}.new")  # a process killed meanwhile leaves no half-made database
        new.unlink(missing_ok=True)
        SqlAlchemyStore(database_uri(new), artifacts).engine.dispose()
        new.rename(database)
    correct_paths(database)


def correct_paths(database: Path) -> None:
    """Correct the path of an embedded database's artifacts if the repository moved: MLflow stores absolute ones.

    A file that is not a database fails here at once; MLflow would retry for 100 s.
    """
    artifacts = (database.parent / "mlartifacts").as_uri()
    with closing(sqlite3.connect(database)) as file, file:
        known = file.execute("SELECT artifact_location FROM experiments WHERE name = ?", [EXPERIMENT]).fetchone()
        if known and known[0].startswith("file:") and known[0] != artifacts:
            columns = {
                "experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location",
                "model_versions": "storage_location",
            }  # fmt: skip
            for table, column in columns.items():
                moved = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                file.execute(moved, [artifacts, len(known[0]) + 1, len(known[0]), known[0]])


def _experiment(client, artifacts: str | None) -> str:
    """The id of our MLflow experiment, created or restored where needed."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        try:
            return client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        except Exception:  # another machine may have created it meanwhile
            experiment = client.get_experiment_by_name(EXPERIMENT)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _describe(client, run, params: dict, tags: dict, data: DataInput | None) -> None:
    """Log tags, params and the data, leaving out what the run already has."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

    logged, known_tags = run.data.params, run.data.tags
    for key, value in params.items():
        if logged.get(key, value) != value or f"latest.{key}" in known_tags:
            tags[f"latest.{key}"] = value[:TAG_LENGTH]
    new = [Param(key, value) for key, value in params.items() if key not in logged]
    labels = [RunTag(key, value) for key, value in tags.items() if known_tags.get(key) != value]
    for start in range(0, max(len(new), len(labels)), PARAMS_PER_CALL):
        batch = slice(start, start + PARAMS_PER_CALL)
        client.log_batch(run.info.run_id, params=new[batch], tags=labels[batch])
    if data is not None:
        # MLflow identifies a run's inputs by name and digest alone: the training and the test split of one folder
        # would be the same, so the context is part of the name.
        name = f"{data.name}-{data.context}"
        if (name, data.digest) not in {
            (known.dataset.name, known.dataset.digest) for known in run.inputs.dataset_inputs
        }:
            kind, place = ("http", "url") if "://" in data.source else ("local", "uri")
            source, profile = json.dumps({place: data.source}), json.dumps({"num_rows": data.rows})
            dataset = Dataset(name, data.digest, kind, source, profile=profile)
            context = InputTag("mlflow.data.context", data.context)
            client.log_inputs(run.info.run_id, [DatasetInput(dataset, [context])])


def typed(command: str) -> str:
    """A command of MLflow as a person types it in the project's folder."""
    store = "" if os.environ.get("MLFLOW_TRACKING_URI") else "MLFLOW_TRACKING_URI=sqlite:///mlflow.db "
    return store + command
