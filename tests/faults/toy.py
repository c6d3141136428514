"""The toy project as the faults find it: a copy for each, at any point of the pipeline, and what must come out."""

import os
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from conftest import ROOT, Project

from stages.tracking.provenance import content_hash

TRACEBACK = "Traceback (most recent call last)"
TIMEOUT = 300  # seconds for a command of the toy project, which takes 40 at most on an idle machine
# the stages and what is given to each, in the order in which they run
STAGES = {
    "resolve": "", "obtain": "toy", "fetch": "toy", "preprocess": "toy", "detect": "toy", "train": "toy-tiny",
    "predict": "toy-tiny", "evaluate": "toy-tiny", "report": "", "explore": "toy",
}  # fmt: skip


@dataclass
class Outcome:
    """What came of one fault."""

    kind: str
    fault: str
    refused: bool  # the command said so and ended with an exit status that is not 0
    traceback: bool  # one with a line of this project's code, from the command or from its repetition
    recovered: bool  # the same command, without the fault, gave identical results
    note: str = ""  # what was wrong, and the end of what was printed
    used: bool = False  # a stage that was started alone, without DVC, took damaged input and ended well
    times: int = 1  # how many faults it stands for

    @property
    def held(self) -> bool:
        return self.recovered and not self.traceback and not self.note


def has_traceback(printed: str) -> bool:
    """Whether it has a traceback with a line of this project's; DVC's own are DVC's."""
    return any("/stages/" in part for part in printed.split(TRACEBACK)[1:])


def has_message(printed: str) -> bool:
    """Whether a person is told: by this project, by DVC or by make."""
    return any(line.lower().startswith(("error: ", "stopped;", "make: ***")) for line in printed.splitlines())


def outcome(
    kind: str, fault: str, status: int, printed: str, *, again: str, recovered: bool, wrong: str = "", message=True
) -> Outcome:
    """Of a command that printed and ended so.

    again: what its repetition printed. wrong: what else is. message: whether one must say why the command failed.
    """
    seen = has_traceback(printed) or has_traceback(again)
    if message and status and not has_message(printed):
        wrong = wrong or "it ended without a message"
    if seen or not recovered or wrong:
        ends = [text[-1500:] for text in (printed, again) if text.strip()]
        wrong = "\n".join([wrong or ("traceback" if seen else "not recovered"), *ends])
    return Outcome(kind, fault, status != 0, seen, recovered, wrong)


class Toy:
    """The project before each stage (`before[stage]`) and after all of them (`made`), each in a folder of its own.

    outs: the hash of every out, which each recovery must come to. of_stage: the outs of a stage.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.before: dict[str, Project] = {}
        self.made = Project(folder / "made")
        self.made.environment["DVC_SITE_CACHE_DIR"] = str(folder / "dvc")
        shutil.copy(ROOT / "Makefile", self.made.folder)
        shutil.copy(ROOT / "pyproject.toml", self.made.folder)
        (self.made.folder / ".venv").mkdir()
        (self.made.folder / ".venv/installed").touch()  # so that `make repro` takes the packages of this Python
        self.made.with_dvc()
        for stage, name in STAGES.items():
            self.before[stage] = self.copy(self.made, folder / f"before-{stage}")
            self.made.run("dvc", "repro", "--single-item", f"{stage}@{name}" if name else stage)
        lock = yaml.safe_load((self.made.folder / "dvc.lock").read_text())["stages"]
        self.of_stage = {
            name.partition("@")[0]: {out["path"]: out["md5"] for out in entry["outs"]} for name, entry in lock.items()
        }
        self.outs = {path: md5 for outs in self.of_stage.values() for path, md5 in outs.items()}

    @staticmethod
    def copy(project: Project, folder: Path) -> Project:
        shutil.copytree(project.folder, folder, symlinks=True)
        return project.at(folder)

    @contextmanager
    def copied(self, project: Project, name: str = "toy") -> Iterator[Project]:
        """A copy that goes afterwards."""
        place = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield self.copy(project, place / name)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    @staticmethod
    def remove(project: Project, out: str) -> None:
        path = project.folder / out
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def differing(self, project: Project, stage: str | None = None) -> list[str]:
        """The outs (of one stage, or all) that are not what they should be."""
        wanted = self.of_stage[stage] if stage else self.outs
        folder = project.folder
        return [
            path for path, md5 in wanted.items() if not (folder / path).exists() or content_hash(folder / path) != md5
        ]

    def run(self, project: Project, *command: str, **environment: str) -> tuple[int, str]:
        """The exit status of a command and what it printed; stages start from a process that has loaded packages."""
        path = f"{preloaded_path()}{os.pathsep}{project.environment['PATH']}"
        process = project.start(*command, **{"PATH": path, **environment})
        printed, _ = process.communicate(timeout=TIMEOUT)
        return process.returncode, printed

    def recover(self, project: Project, **environment: str) -> tuple[bool, str]:
        """Whether `make repro` comes to identical results, and what it printed, with the outs that differ."""
        status, printed = self.run(project, "make", "repro", **environment)
        differing = self.differing(project)
        if differing:
            printed += f"\ndiffering: {', '.join(differing)}"
        return status == 0 and not differing, printed

    def any_point(self, rng: random.Random) -> tuple[str, Project]:
        return rng.choice(list(self.before.items()))


_preloading = threading.Lock()


def preloaded_path() -> Path:
    """One server for all threads."""
    from conftest import preloaded_python

    with _preloading:
        return preloaded_python()
