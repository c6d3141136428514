"""The N-th open, write, fsync or rename of a stage fails, by a preloaded library.

A patch of Python's own functions would not reach what PyTorch, Arrow, OpenCV, HDF5 and SQLite write.
"""

import atexit
import errno
import functools
import os
import random
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import preloaded
from conftest import Project

from tests.faults.toy import STAGES, Outcome, Toy, outcome

CALLS = ("open", "write", "fsync", "rename")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
WRITING = [stage for stage in STAGES if stage != "resolve"]  # which finds its file up to date
_once = threading.Lock()


class Failing:
    """A `python` whose stages can be told which call shall fail: the library, and a server that has loaded it."""

    def __init__(self, folder: Path):
        self.library = folder / "failing_calls.so"
        source = Path(__file__).with_name("failing_calls.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, source, "-ldl"], check=True)
        self.server = preloaded.Server(folder / "bin", LD_PRELOAD=str(self.library))
        self.number_of = functools.cache(self._number_of)

    def run(self, project: Project, stage: str, **environment: str) -> tuple[int, str]:
        """The exit status of a stage and what it printed; FAULT_…: which call fails."""
        path = f"{self.server.path}{os.pathsep}{project.environment['PATH']}"
        words = [word for word in (f"stages.{stage}", STAGES[stage]) if word]
        folder = {"FAULT_FOLDER": str(project.folder), "LD_PRELOAD": str(self.library)}
        process = project.start("python", "-m", *words, **folder, **environment, PATH=path)
        printed, _ = process.communicate(timeout=300)
        return process.returncode, printed

    def _number_of(self, toy: Toy, stage: str, call: str) -> int:
        """How many such calls the stage makes."""
        with toy.copied(toy.made) as project, tempfile.NamedTemporaryFile("r") as counted:
            status, printed = self.run(project, stage, FAULT_CALL=call, FAULT_COUNT=counted.name)
            assert status == 0, printed
            return int(counted.read())


@functools.cache
def failing() -> Failing:
    folder = Path(tempfile.mkdtemp(prefix="failing-"))
    python = Failing(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(python.server.stop)
    return python


def one(toy: Toy, rng: random.Random, number: int) -> Outcome:
    with _once:
        python = failing()
    stage, call, error = rng.choice(WRITING), rng.choice(CALLS), rng.choice(ERRORS)
    stays, exists, part = rng.random() < 0.5, rng.random() < 0.5, rng.random()
    return inject(toy, python, stage, call, error, part, stays=stays, exists=exists)


def inject(
    toy: Toy, python: Failing, stage: str, call: str, error: int, part: float, *, stays: bool, exists: bool
) -> Outcome:
    """part: of the calls that the stage makes. stays: all later ones fail too. exists: the outs of a former run do."""
    calls = python.number_of(toy, stage, call)
    nth = 1 + int(part * max(calls, 1))
    fault = {"FAULT_CALL": call, "FAULT_NUMBER": str(nth), "FAULT_ERRNO": str(error)}
    fault |= {"FAULT_STAYS": "1"} if stays else {}
    with toy.copied(toy.made if exists else toy.before[stage]) as project:
        status, printed = python.run(project, stage, **fault)
        wrong = ""
        if exists and status and (lost := toy.differing(project, stage)):
            wrong = f"the results of before are gone: {', '.join(lost)}"
        if not status and (differing := toy.differing(project, stage)):
            wrong = f"it ended well with other results: {', '.join(differing)}"
        last, again = python.run(project, stage)
        recovered = last == 0 and not toy.differing(project, stage)
        words = f"{call} {nth} of {calls}{' and all later' if stays else ''}: {errno.errorcode[error]} in {stage}"
        return outcome("writes", words, status, printed, again=again, recovered=recovered, wrong=wrong)
