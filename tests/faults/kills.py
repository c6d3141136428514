"""Kills of dvc, of a stage or of everything, at random moments of the pipeline."""

import os
import random
import signal
import time
from contextlib import suppress

import psutil
from conftest import still_running

from stages.system.parent import is_dvc
from tests.faults.toy import TIMEOUT, Outcome, Toy, outcome

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TARGETS = ("dvc", "the stage", "the group")
LATEST = 9.0  # seconds after the start: the check, DVC's start, the first stage, its commit and the start of the next
TRACKED = 0.25  # share of the kills with MLflow, which takes its time


def is_stage(process: psutil.Process) -> bool:
    """Whether it is the Python process of a stage that DVC started."""
    words = process.cmdline()
    return words[1:2] == ["-m"] and words[2].startswith("stages.") and "DVC_STAGE" in process.environ()


def below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def first(processes: list[psutil.Process], wanted) -> psutil.Process | None:
    for process in processes:
        with suppress(psutil.Error):
            if wanted(process):
                return process
    return None


def one(toy: Toy, rng: random.Random, number: int) -> Outcome:
    how, target = rng.choice(SIGNALS), rng.choice(TARGETS)
    moment, tracking = rng.uniform(0, LATEST), "on" if rng.random() < TRACKED else "off"
    stage, before = toy.any_point(rng)
    with toy.copied(before) as project:
        started = time.monotonic()
        process = project.start("make", "repro", PYTHONUNBUFFERED="1", LANDMARKS_TRACKING=tracking)
        make = psutil.Process(process.pid)
        time.sleep(moment)
        victim, running = None, below(make)
        while target != "the group" and process.poll() is None:
            running = below(make)
            victim = first(running, is_dvc if target == "dvc" else is_stage)
            if victim:
                break
            time.sleep(0.02)
        running_stage = first(running, is_stage)
        where = "no stage"
        with suppress(psutil.Error):
            where = running_stage.environ()["DVC_STAGE"] if running_stage else "no stage"
        with suppress(ProcessLookupError, psutil.Error):
            if victim:
                victim.send_signal(how)
            else:
                os.killpg(process.pid, how)
        after = time.monotonic() - started
        status = process.wait(TIMEOUT)
        recovered, again = toy.recover(project, LANDMARKS_TRACKING=tracking)
        left = still_running(running, 20)
        for survivor in left:
            survivor.kill()
        printed, _ = process.communicate(timeout=TIMEOUT)
        fault = f"{how.name} to {target} before {stage}, {after:.1f} s after the start, in {where}, MLflow {tracking}"
        wrong = "a process of the killed run did not end" if left else ""
        return outcome(
            "kills", fault, status, printed, again=again, recovered=recovered, wrong=wrong, message=False
        )  # who is killed says nothing
