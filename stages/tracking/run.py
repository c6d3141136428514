"""An MLflow run: one per experiment and fingerprint, found or created by whichever stage comes first.

    with track("demo-quick", fingerprint, "train", params=params, tags=tags, data=data) as run:
        run.log({"train/loss": 0.1, "val/nme": 4.2}, step=epoch)

A run that files name `demo-quick-1a2b3c4d` is in MLflow `demo-quick lr=0.002 1a2b3c4d`: what differs from its recipe
comes first, since the page cuts long names.

The store is `mlflow.db` at the root of the repository that owns the pipeline, or what `MLFLOW_TRACKING_URI` names;
`LANDMARKS_TRACKING=off` turns tracking off. No failure of the store stops a stage: the first one is reported on
stderr, and the rest of the stage runs untracked. Runs are addressed by their id; `mlflow.start_run` is not used.
"""

import functools
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Thread

from stages.system.errors import Stopped, stop_deferred
from stages.tracking import process
from stages.tracking.faults import NotStored, warn
from stages.tracking.store import (
    REQUEST_TIMEOUT,
    TAG_LENGTH,
    TIMEOUT,
    UPLOAD_RATE,
    DataInput,
    Known,
    answers_within,
    embedded_database,
    known,
    mlflow_available,
    open_run,
    project_root,
    store_uri,
    within,
)

METRICS_PER_CALL, PARAM_LENGTH = 1000, 6000  # MLflow's limits
TITLE_LENGTH = 100  # about
DIGITS = 6  # significant ones, of a logged value
KEY = re.compile(r"\w[\w.: -]*(/\w[\w.: -]*)*", re.ASCII)


class Run:
    """An MLflow run that a stage logs to; all calls do nothing where tracking is off or its store has failed."""

    def __init__(self, name: str):
        self.name = name
        self.id: str | None = None
        self._client = None  # None: nothing is tracked, or not any more
        self._timeout: float | None = None  # s for one call; None: no limit
        self._owns = False  # this process sets the run's status
        self._tags: set[str] = set()  # the names of the run's tags
        self._monitor = None

    def log(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log `metrics` (keys like `val/nme`) of one step in one call. Raises ValueError for a key MLflow refuses."""
        self.log_history([(step, metrics)])

    def log_history(self, rows: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Log (step, metrics) for many steps, in as few calls as MLflow allows; six significant digits of each.

        An NME is logged before other metrics: MLflow's page Compare opens on the metric that a run had first.
        """
        rows = [
            (step, sorted(metrics.items(), key=lambda item: not item[0].endswith("/nme"))) for step, metrics in rows
        ]
        values = [
            (_checked(key), float(f"{value:.{DIGITS}g}"), step) for step, metrics in rows for key, value in metrics
        ]
        if self._client is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        # MLflow would store an infinity as 1.8e308, which flattens every chart: it is logged as NaN
        entities = [Metric(key, v if math.isfinite(v) else math.nan, now, int(step)) for key, v, step in values]
        for start in range(0, len(entities), METRICS_PER_CALL):
            batch = entities[start : start + METRICS_PER_CALL]
            self._call(lambda client, batch=batch: client.log_batch(self.id, metrics=batch))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Store the file `path` with the run, under `folder`."""
        if self._client is None:
            return
        self._call(lambda client: client.log_artifact(self.id, str(path), folder or None), path)

    def picture(self, path: Path, key: str) -> None:
        """Store the picture `path` under `key`, by which the UI's image grid shows it beside those of other runs."""
        if self._client is None:
            return
        from mlflow import Image

        self._call(lambda client: client.log_image(self.id, Image(str(path)), key=_checked(key)), path)

    def external_model(self, facts: Mapping[str, str]) -> None:
        """Enter a model whose weights are not here, by what is declared of it, as the model that the run measures."""
        if self._client is None:
            return
        from mlflow import create_external_model, set_tracking_uri

        def enter(client):
            experiment = client.get_run(self.id).info.experiment_id
            name = re.sub(r"[/:.%\"']", "_", self.name)  # what MLflow allows in the name of a model
            set_tracking_uri(client.tracking_uri)  # this function of MLflow takes no client
            create_external_model(name, self.id, params=dict(facts), model_type="landmarks", experiment_id=experiment)

        self._call(enter)

    @property
    def tracked(self) -> bool:
        """Whether the store has taken everything so far."""
        return self._client is not None

    def has(self, what: str) -> bool:
        """Whether some stage has marked `what` as logged, at any time."""
        return f"logged.{what}" in self._tags

    def mark(self, what: str) -> None:
        """Record in the run that `what` has been logged, so that no later stage logs it again."""
        key = _checked(f"logged.{what}")
        self._call(lambda client: client.set_tag(self.id, key, "true"))
        if self._client is not None:
            self._tags.add(key)

    def _call(self, work: Callable, file: Path | None = None) -> None:
        """`work(client)`, waiting as long as the file that it uploads may take; a failure ends the run's tracking."""
        client = self._client
        if client is None:
            return
        extra = file.stat().st_size / UPLOAD_RATE if file else 0.0
        # cut off in a call, SQLAlchemy would keep the database's lock; a server does the call by itself
        with nullcontext() if self._timeout else stop_deferred(signal.SIGINT):
            try:
                with answers_within(extra):
                    within(self._timeout and self._timeout + extra, lambda: work(client))
            except Exception as error:
                if file and self._timeout:
                    error, error.__cause__ = NotStored(file.name), error
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        warn(error, f"{self.name} continues without tracking (to enter it later: python -m stages.log_restored)")
        self._client = None
        if self._monitor is not None:  # its thread may hang on the dead server: do not wait for it
            Thread(target=self._monitor.finish, daemon=True).start()
            self._monitor = None

    def _open(self, labels: dict[str, str], values: dict[str, str], data: DataInput | None, afterwards: bool) -> None:
        try:
            uri, self._timeout = _store()
            opening = functools.partial(open_run, uri, _title(labels), labels, values, data, afterwards)
            self._client, entry, self._owns = within(self._timeout, opening)
            self.id, self._tags = entry.info.run_id, set(entry.data.tags)
        except Exception as error:
            self._give_up(error)

    def _watch(self) -> None:
        """Log the machine's load every 10 s; a resumed run continues at its next step."""

        def start(client):
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            self._monitor = SystemMetricsMonitor(self.id, resume_logging=True, tracking_uri=client.tracking_uri)
            self._monitor.start()

        self._call(start)

    def _close(self, status: str) -> None:
        def end(client):
            if self._monitor is not None:
                self._monitor.finish()
            if self._owns:
                client.set_terminated(self.id, status)

        self._call(end)


def _title(labels: Mapping[str, str]) -> str:
    """A run's name in MLflow: experiment, what differs from its recipe, and the fingerprint's first eight digits."""
    name, variant = labels["experiment"], labels.get("variant", "")
    room = TITLE_LENGTH - len(name)
    variant = variant if len(variant) <= room else f"{variant[: room - 1]}…"
    return " ".join(part for part in (name, variant, labels["fingerprint"][:8]) if part)


def _store() -> tuple[str, float | None]:
    """The store's URI, and the seconds that one call may take; None: no limit."""
    uri = store_uri(project_root())
    limit = None if embedded_database(uri) else max(TIMEOUT, float(os.environ[REQUEST_TIMEOUT]))
    return uri, limit


def _is_on() -> bool:
    return os.environ.get("LANDMARKS_TRACKING", "").lower() != "off" and mlflow_available()


def find(experiment: str, fingerprint: str) -> Known | None:
    """What the store has of a run; it is not opened. None where nothing is tracked, or the store has failed."""
    if not _is_on():
        return None
    try:
        uri, limit = _store()
        return within(limit, lambda: known(uri, {"experiment": experiment, "fingerprint": fingerprint}))
    except Exception as error:
        warn(error, f"{experiment} is not looked up")
        return None


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
    afterwards: bool = False,
) -> Iterator[Run]:
    """The run of (experiment, fingerprint), RUNNING inside the block; after it FINISHED, FAILED or KILLED.

    afterwards: one that is FINISHED is only added to: its times, its status and the tags that it has stay.
    system_metrics: log the machine's load too, where the environment says MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING=true.

    The experiment's other runs that a killed process of this host has left RUNNING are set to KILLED. A param that was
    logged with another value keeps the first one; the tag `latest.<param>` has the new one.
    """
    run = Run(f"{experiment}-{fingerprint[:8]}")
    identity = {"experiment": _checked(experiment), "fingerprint": _checked(fingerprint), "stage": stage}
    values = {_checked(key): str(value)[:PARAM_LENGTH] for key, value in _flat(params)}
    tags = {**tags, **process.commit(), **process.dvc_experiment(), **identity}
    labels = {_checked(key): str(value)[:TAG_LENGTH] for key, value in tags.items()}
    status = "FAILED"
    try:
        if _is_on():
            with stop_deferred(signal.SIGINT):  # a run that it has opened is closed
                run._open(labels, values, data, afterwards)
            if system_metrics and os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in ("true", "1"):
                run._watch()
        yield run
        status = "FINISHED"
    except (KeyboardInterrupt, Stopped):
        status = "KILLED"
        raise
    finally:
        with stop_deferred(signal.SIGINT):
            run._close(status)


def _flat(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _checked(key: str) -> str:
    if not KEY.fullmatch(key) or len(key) > 250:
        raise ValueError(f"MLflow refuses the key {key!r}: use letters, digits, '_', '-', '.', and '/' between names")
    return key
