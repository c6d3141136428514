"""MLflow: one flat run per experiment and fingerprint, found or created by whichever stage comes first.

    with track("demo-quick", fingerprint, "train", params=params, tags=tags, data=data) as run:
        run.log({"train/loss": 0.1, "val/nme": 4.2}, step=epoch)

The store is `mlflow.db` at the root of the repository that owns the pipeline, or what `MLFLOW_TRACKING_URI` names;
`LANDMARKS_TRACKING=off` does without. No failure of the store ever stops a stage: the first one is told on stderr,
and the rest of the stage runs untracked. Runs are addressed by their id; nothing of `mlflow.start_run` is used.
"""

import functools
import json
import logging
import math
import os
import re
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from filelock import FileLock

from stages import origin
from stages.errors import Stopped

EXPERIMENT = "hrnet-landmarks"  # one for all datasets: the runs of one MLflow experiment compare in its UI

# A server that is down may cost 10 s a stage. The first failure is the last call, so the bound is on a single one;
# MLflow's own settings cannot hold it (they bound neither name look-ups nor database logins), a thread does.
PATIENCE = 8.0  # s
UPLOAD_RATE = 2e6  # bytes/s that an upload may take on top of that
LOCK_PATIENCE = 120.0  # s, for other processes that are opening their runs in the same embedded database

SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "4",  # s for one answer
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",  # MLflow still waits a random time below 1 s
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # failures are told here, once
}

METRICS_A_CALL, PARAMS_A_CALL, PARAM_LENGTH, TAG_LENGTH = 1000, 100, 6000, 5000  # MLflow's limits
KEY = re.compile(r"\w[\w.: -]*(/\w[\w.: -]*)*", re.ASCII)


@dataclass(frozen=True)
class DataInput:
    """The data a stage reads, as MLflow records it."""

    name: str
    digest: str  # DVC's hash: an md5, with ".dir" for a folder
    source: str  # path or URL
    context: str  # "training" or "test"
    rows: int  # faces


class Run:
    """An MLflow run that a stage logs to; the same calls do nothing where tracking is off or its store has failed."""

    def __init__(self, name: str):
        self.name = name
        self.id: str | None = None
        self._client = None  # None: nothing is tracked, or no more
        self._patience: float | None = None  # s for one call; None waits for as long as it takes
        self._holds = False  # this process answers for the run's status
        self._standing: set[str] = set()  # the names of the run's tags
        self._monitor = None

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log `metrics` (keys like `val/nme`) of one step in one call. Raises ValueError for a key MLflow refuses."""
        self.log_history([(step, metrics)])

    def log_history(self, rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Log (step, metrics) for many steps, in as few calls as MLflow allows."""
        values = [(_checked(key), float(value), step) for step, metrics in rows for key, value in metrics.items()]
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        # MLflow would store an infinity as 1.8e308, and the chart would show nothing else: it is logged as NaN
        entities = [Metric(key, v if math.isfinite(v) else math.nan, now, int(step)) for key, v, step in values]
        for start in range(0, len(entities), METRICS_A_CALL):
            batch = entities[start : start + METRICS_A_CALL]
            self._call(lambda client, batch=batch: client.log_batch(self.id, metrics=batch))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Store the file `path` with the run, under `folder`."""
        seconds = path.stat().st_size / UPLOAD_RATE
        self._call(lambda client: client.log_artifact(self.id, str(path), folder or None), extra=seconds)

    def picture(self, path: Path, key: str) -> None:
        """Store the picture `path` under `key`, by which the UI's image grid sets it beside those of other runs."""
        if self._client is None:
            return
        from mlflow import Image

        seconds = path.stat().st_size / UPLOAD_RATE
        self._call(lambda client: client.log_image(self.id, Image(str(path)), key=_checked(key)), extra=seconds)

    def has(self, what: str) -> bool:
        """Whether some stage has marked `what` as logged, be it long ago."""
        return f"logged.{what}" in self._standing

    def mark(self, what: str) -> None:
        """Remember with the run that `what` has been logged, so that no later stage logs it again."""
        key = _checked(f"logged.{what}")
        self._call(lambda client: client.set_tag(self.id, key, "true"))
        if self._client is not None:
            self._standing.add(key)

    def _call(self, work: Callable, extra: float = 0.0) -> None:
        """`work(client)`, waiting at most the patience and `extra` seconds; a failure ends the tracking of the run."""
        client = self._client
        if client is None:
            return
        try:
            _within(self._patience and self._patience + extra, lambda: work(client))
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        _warn(error, f"{self.name} goes on without tracking")
        self._client = None
        if self._monitor is not None:  # its thread may hang on the dead server: nobody waits for it
            Thread(target=self._monitor.finish, daemon=True).start()
            self._monitor = None

    def _open(self, labels: dict[str, str], values: dict[str, str], data: DataInput | None) -> None:
        try:
            uri = store(Path(os.environ.get("DVC_ROOT") or origin.CODE).resolve())
            database = Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None
            if database is None:
                self._patience = max(PATIENCE, float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]))
            opening = functools.partial(_enter, uri, database, self.name, labels, values, data)
            self._client, entry, self._holds = _within(self._patience, opening)
            self.id, self._standing = entry.info.run_id, set(entry.data.tags)
        except Exception as error:
            self._give_up(error)

    def _watch(self) -> None:
        """Log the machine's load every 10 s; a run that was watched before goes on at its next step."""

        def start(client):
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._monitor = SystemMetricsMonitor(self.id, resume_logging=True, tracking_uri=client.tracking_uri)
            self._monitor.start()

        self._call(start)

    def _close(self, status: str) -> None:
        def end(client):
            if self._monitor is not None:
                self._monitor.finish()
            if self._holds:
                client.set_terminated(self.id, status)

        self._call(end)


@contextmanager
def track(
    experiment: str,
    fingerprint: str,
    stage: str,
    *,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    data: DataInput | None = None,
    system_metrics: bool = False,
) -> Iterator[Run]:
    """The run of (experiment, fingerprint), RUNNING inside the block; after it FINISHED, FAILED or KILLED.

    The experiment's other runs that a killed process of this host has left RUNNING are set to KILLED. A param that
    stands with another value keeps its first one; the tag `latest.<param>` tells the new one.
    """
    run = Run(f"{experiment}-{fingerprint[:8]}")
    identity = {"experiment": _checked(experiment), "fingerprint": _checked(fingerprint), "stage": stage}
    values = {_checked(key): str(value)[:PARAM_LENGTH] for key, value in _flat(params)}
    labels = {_checked(key): str(value)[:TAG_LENGTH] for key, value in {**tags, **origin.commit(), **identity}.items()}
    if os.environ.get("LANDMARKS_TRACKING", "").lower() != "off" and _mlflow():
        run._open(labels, values, data)
        if system_metrics:
            run._watch()
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except (KeyboardInterrupt, Stopped):
        status = "KILLED"
        raise
    finally:
        run._close(status)


def store(root: Path) -> str:
    """The tracking URI in use: `MLFLOW_TRACKING_URI`, else the database at `root`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlflow.db'}"


def _enter(uri: str, database: Path | None, name: str, tags: dict, params: dict, data: DataInput | None) -> tuple:
    """(client, run, whether we hold it): the run of these tags, found or created, RUNNING and described."""
    from mlflow import MlflowClient

    # On the embedded database one process at a time: MLflow's schema migration and our find-or-create both race.
    with FileLock(f"{database}.lock", timeout=LOCK_PATIENCE) if database else nullcontext():
        artifacts = (database.parent / "mlartifacts").as_uri() if database else None
        if database:
            _settle(database, artifacts)
        client = MlflowClient(uri)
        group = _experiment(client, artifacts)
        search = functools.partial(client.search_runs, [group], order_by=["attributes.start_time ASC"])
        mine = f"tags.experiment = '{tags['experiment']}'"
        this = f"{mine} and tags.fingerprint = '{tags['fingerprint']}'"
        found = search(this)
        holder = found[0].data.tags if found and found[0].info.status == "RUNNING" else {}
        taken = origin.is_living(holder) and not origin.is_me(holder)
        if not taken:  # a run that another living process is filling keeps that process as its holder
            tags |= origin.me()
        if not found:
            client.create_run(group, run_name=name, tags=tags)
            found = search(this)  # more than one: another machine was quicker, or MLflow asked its server twice
            for extra in found[1:]:
                if origin.is_me(extra.data.tags):
                    client.delete_run(extra.info.run_id)
        run = found[0]
        _describe(client, run, params, tags, data)
        if run.info.status != "RUNNING":
            client.update_run(run.info.run_id, status="RUNNING")
        for other in search(f"{mine} and tags.host = '{socket.gethostname()}' and attributes.status = 'RUNNING'"):
            if other.info.run_id != run.info.run_id and not origin.is_living(other.data.tags):
                client.set_terminated(other.info.run_id, "KILLED")
    return client, run, not taken


def _settle(database: Path, artifacts: str) -> None:
    """See that the embedded database exists and names the folder `artifacts`, wherever the repository has moved to."""
    if not database.exists():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        database.parent.mkdir(parents=True, exist_ok=True)
        new = database.with_name(f"{database.name}.new")  # a process killed on the way leaves no half-made database
        new.unlink(missing_ok=True)
        SqlAlchemyStore(f"sqlite:///{new}", artifacts).engine.dispose()
        new.rename(database)
    # MLflow stores absolute paths. (What is no database fails here at once; MLflow would try to open it for 100 s.)
    with closing(sqlite3.connect(database)) as file, file:
        known = file.execute("SELECT artifact_location FROM experiments WHERE name = ?", [EXPERIMENT]).fetchone()
        if known and known[0].startswith("file:") and known[0] != artifacts:
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                moved = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                file.execute(moved, [artifacts, len(known[0]) + 1, len(known[0]), known[0]])


def _experiment(client, artifacts: str | None) -> str:
    """The id of our MLflow experiment, made or restored where needed."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        except Exception:  # another machine may have made it meanwhile
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _describe(client, run, params: dict, tags: dict, data: DataInput | None) -> None:
    """Log tags, params and the data, leaving out what already stands in the run `run`."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

    first, standing = run.data.params, run.data.tags
    for key, value in params.items():
        if first.get(key, value) != value or f"latest.{key}" in standing:
            tags[f"latest.{key}"] = value[:TAG_LENGTH]
    new = [Param(key, value) for key, value in params.items() if key not in first]
    labels = [RunTag(key, value) for key, value in tags.items() if standing.get(key) != value]
    for start in range(0, max(len(new), len(labels)), PARAMS_A_CALL):
        batch = slice(start, start + PARAMS_A_CALL)
        client.log_batch(run.info.run_id, params=new[batch], tags=labels[batch])
    if data is not None:
        # MLflow tells a run's inputs apart by name and digest alone: the training and the test split of one folder
        # would be one, so the context is part of the name.
        name = f"{data.name}-{data.context}"
        if (name, data.digest) not in {
            (known.dataset.name, known.dataset.digest) for known in run.inputs.dataset_inputs
        }:
            kind, place = ("http", "url") if "://" in data.source else ("local", "uri")
            source, profile = json.dumps({place: data.source}), json.dumps({"num_rows": data.rows})
            dataset = Dataset(name, data.digest, kind, source, profile=profile)
            context = InputTag("mlflow.data.context", data.context)
            client.log_inputs(run.info.run_id, [DatasetInput(dataset, [context])])


@functools.cache
def _mlflow() -> bool:
    """Whether mlflow can be imported, with its settings made before and its chatter silenced."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # "Retrying …" for each call
    try:
        import mlflow  # noqa: F401  (1.5 s: only stages that track pay it)
    except Exception as error:
        _warn(error, "nothing is tracked (install mlflow, or set LANDMARKS_TRACKING=off)")
        return False
    return True


def _within(seconds: float | None, work: Callable):
    """`work()`; with `seconds`, in a thread that is left to itself when the time is up (TimeoutError)."""
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


def _flat(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _checked(key: str) -> str:
    if not KEY.fullmatch(key) or len(key) > 250:
        raise ValueError(f"MLflow takes no key {key!r}: use letters, digits, '_', '-', '.', and '/' between names")
    return key


def _warn(error: Exception, rest: str) -> None:
    """One line on stderr, without the password that a store's URL may hold."""
    place = os.environ.get("MLFLOW_TRACKING_URI") or "mlflow.db"
    text = str(error).strip().partition("\n")[0] or "no answer in time"
    text = re.sub(r"//[^/@\s]*@", "//", f"MLflow at {place}: {type(error).__name__}: {text}")
    print(f"warning: {text[:400]}; {rest}", file=sys.stderr)
