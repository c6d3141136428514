"""Tracking that fails: the stages go on, with one warning each, and nothing is said to be entered that is not."""

import functools
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from conftest import Project
from test_tracking import answering, no_server, silent_server

from tests.faults.toy import STAGES, Outcome, Toy, outcome

LIMIT = 10.0  # seconds that a stage may take more than with tracking that works
TRACKING = ("train", "predict", "evaluate")
NO_STORE = "no database " * 100
_once = threading.Lock()


def remote(server):
    @contextmanager
    def faulty(project: Project) -> Iterator[dict[str, str]]:
        with server() as uri:
            yield {"MLFLOW_TRACKING_URI": uri}

    return faulty


@contextmanager
def locked(project: Project) -> Iterator[dict[str, str]]:
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield {}
        database.rollback()


@contextmanager
def damaged(project: Project) -> Iterator[dict[str, str]]:
    path = project.folder / "mlflow.db"
    whole = path.read_bytes()
    path.write_text(NO_STORE)
    yield {}
    path.write_bytes(whole)


@contextmanager
def read_only(project: Project) -> Iterator[dict[str, str]]:
    """By a trigger, since no permission keeps root from writing."""
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
        for table in ("runs", "metrics", "tags", "params"):
            refuse = "BEGIN SELECT RAISE(ABORT, 'attempt to write a readonly database'); END"
            database.execute(f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} {refuse}")
        database.commit()
        yield {}
        for table in ("runs", "metrics", "tags", "params"):
            database.execute(f"DROP TRIGGER no_{table}")
        database.commit()


@contextmanager
def other_schema(project: Project) -> Iterator[dict[str, str]]:
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
        (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        database.execute("UPDATE alembic_version SET version_num = '0c779009ac13'")
        database.commit()
        yield {}
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
        database.commit()


FAULTS = {
    "a dead port": remote(no_server),
    "a server that never answers": remote(silent_server),
    "a server of 500s": remote(lambda: answering(500, b"")),
    "a server of other pages": remote(lambda: answering(200, b"<p>")),
    "a locked database": locked,
    "a read-only database": read_only,
    "no database": damaged,
    "a database of another schema": other_schema,
}


def run(toy: Toy, project: Project, **environment: str) -> tuple[int, str, list[int], float]:
    """The worst exit status of the stages that track, what they printed, warnings of each, seconds of the longest."""
    statuses, printed, warnings, seconds = [], [], [], []
    for stage in TRACKING:
        started = time.monotonic()
        status, text = toy.run(
            project, "python", "-m", f"stages.{stage}", STAGES[stage], LANDMARKS_TRACKING="on", **environment
        )
        seconds.append(time.monotonic() - started)
        statuses.append(status)
        printed.append(text)
        warnings.append(text.count("warning: MLflow"))
    return max(statuses), "".join(printed), warnings, max(seconds)


def one(toy: Toy, rng: random.Random, number: int) -> Outcome:
    names = list(FAULTS)
    return inject(toy, names[3 * number % len(names)])


def with_store(toy: Toy) -> Project:
    """The project before its training, with a database of no run of it."""
    with _once:
        folder = toy.folder / "with-store"
        if not folder.exists():
            project = toy.copy(toy.before["train"], folder)
            status, printed = toy.run(project, "python", "-c", STORE, LANDMARKS_TRACKING="on")
            assert status == 0, printed
        return toy.made.at(folder)


STORE = """
from stages.tracking.run import track
with track("another", "0" * 32, "train", params={}, tags={}):
    pass
"""


@functools.cache
def usual_seconds(toy: Toy) -> float:
    """What the longest stage takes with tracking that works."""
    with toy.copied(with_store(toy)) as project:
        return run(toy, project)[3]


def inject(toy: Toy, name: str) -> Outcome:
    """Train, predict and measure while tracking fails, then `make repro` while it works."""
    usual = usual_seconds(toy)
    with toy.copied(with_store(toy)) as project:
        with FAULTS[name](project) as environment:
            status, printed, warnings, longest = run(toy, project, **environment)
        wrong = ""
        if status:
            wrong = "a stage failed"
        elif max(warnings) != 1:
            wrong = f"warnings of each stage: {warnings}"
        elif longest - usual > LIMIT:
            wrong = f"a stage took {longest:.0f} s, and {usual:.0f} s where tracking works"
        elif lost := [path for stage in TRACKING for path in toy.differing(project, stage)]:
            wrong = f"results differ: {', '.join(lost)}"
        elif "entered in MLflow" in printed:
            wrong = "it is said to be entered"
        recovered, again = toy.recover(project, LANDMARKS_TRACKING="on")
        with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
            query = "SELECT count(*) FROM latest_metrics WHERE key = 'test/nme'"
            ((entered,),) = database.execute(query)
        if not wrong and entered != 1:
            wrong = "the run is not in MLflow afterwards"
        fault = f"{name} (the longest stage {longest:.1f} s, usually {usual:.1f} s)"
        return outcome("tracking", fault, status, printed, again=again, recovered=recovered, wrong=wrong)
