"""Truncations, flipped bits and blocks of zeros in every kind of file that the pipeline makes or keeps."""

import fnmatch
import os
import random
import signal
import threading
from dataclasses import replace
from pathlib import Path

from conftest import Project

from tests.faults.toy import STAGES, Outcome, Toy, outcome

# kind of file: pattern, the stage that reads it (started alone before `make repro` runs)
FILES = {
    "landmark scheme": ("data/schemes/*.json", "fetch"),
    "face table": ("data/raw/toy/faces.parquet", "preprocess"),
    "image checksums": ("data/raw/toy/checksums.csv", "preprocess"),
    "crops": ("data/crops/toy/*.npy", "train"),
    "crop table": ("data/crops/toy/*.parquet", "train"),
    "detections": ("data/detections/toy.*", "predict"),
    "weights": ("models/toy-tiny/model.safetensors", "predict"),
    "model description": ("models/toy-tiny/model.json", "predict"),
    "training history": ("data/training/toy-tiny/*", "evaluate"),
    "predictions": ("data/predictions/*.parquet", "evaluate"),
    "calibration": ("data/calibration/*.json", "evaluate"),
    "galleries": ("data/galleries/toy-tiny/*", "report"),
    "results": ("reports/experiments/toy-tiny/*.*", "report"),
    "pictures": ("reports/experiments/toy-tiny/pictures/*", "report"),
    "report": ("reports/results.*", None),
    "figures": ("reports/figures/**", None),
    "pages": ("reports/pages/*", None),
    "explorer": ("data/explorer/**", None),
    "resolved parameters": ("params/resolved.yaml", "train"),
    "training checkpoint": (".training/toy-tiny-*/last.pt", "train"),
    "lock file": ("dvc.lock", "predict"),
    "DVC's readers and writers": (".dvc/tmp/rwlock", None),
    "object in the cache": (".dvc/cache/files/**", None),
    "images": ("data/toy/images/*", "fetch"),
    "annotations": ("data/toy/*.csv", "fetch"),
    "inference times": ("reports/benchmarks.json", "report"),
}
GIVEN = ("images", "annotations", "inference times")  # the person's own: put back before the command is repeated
WAYS = ("truncated", "a bit flipped", "a block of zeros")
BLOCK = 512
_once = threading.Lock()


def damage(path: Path, how: str, rng: random.Random) -> bool:
    """Damage a file; False where it is as it was."""
    whole = path.read_bytes()
    content = bytearray(whole)
    place = rng.randrange(max(len(content), 1))
    if how == "truncated":
        del content[place:]
    elif how == "a bit flipped" and content:
        content[place] ^= 1 << rng.randrange(8)
    elif how == "a block of zeros":
        content[place : place + BLOCK] = bytes(len(content[place : place + BLOCK]))
    path.chmod(0o644)
    path.write_bytes(content)
    return content != whole


def interrupted(toy: Toy) -> Project:
    """The project whose training was killed after its third epoch, with the checkpoint and the one before it."""
    with _once:
        folder = toy.folder / "interrupted"
        if not folder.exists():
            project = toy.copy(toy.before["train"], folder)
            process = project.start("python", "-m", "stages.train", "toy-tiny", PYTHONUNBUFFERED="1")
            for line in process.stdout:
                if line.startswith("epoch 3/"):
                    break
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        return toy.made.at(folder)


def files(project: Project, kind: str) -> list[Path]:
    paths = sorted(path for path in project.folder.rglob("*") if path.is_file() and not path.is_symlink())
    pattern = FILES[kind][0].replace("**", "*")
    return [path for path in paths if fnmatch.fnmatch(path.relative_to(project.folder).as_posix(), pattern)]


def one(toy: Toy, rng: random.Random, number: int) -> Outcome:
    kinds = list(FILES)  # 26: in steps of 7, which have no divisor with it, a few come from all over the pipeline
    return inject(toy, kinds[7 * number % len(kinds)], rng.choice(WAYS), rng)


def inject(toy: Toy, kind: str, how: str, rng: random.Random) -> Outcome:
    """Damage a file of the kind, start the stage that reads it, then `make repro`."""
    state = interrupted(toy) if kind == "training checkpoint" else toy.made
    with toy.copied(state) as project:
        path = rng.choice(files(project, kind))
        whole = path.read_bytes()
        if kind == "object in the cache":  # DVC needs it where the out that it is a copy of has gone
            for out in toy.of_stage["train"]:
                toy.remove(project, out)
        changed = damage(path, how, rng)
        stage, status, printed, used = FILES[kind][1], 0, "", ""
        if stage:
            words = [word for word in (f"stages.{stage}", STAGES[stage]) if word]
            status, printed = toy.run(project, "python", "-m", *words)
            if not status and (differing := toy.differing(project, stage)):
                used = f", and {stage} alone used it: {', '.join(differing)}"
        if kind in GIVEN:
            path.write_bytes(whole)
        recovered, again = toy.recover(project)
        name = path.relative_to(project.folder).as_posix()
        fault = f"{kind}: {name} {how}{'' if changed else ' (no byte changed)'}{used}"
        result = outcome("damage", fault, status, printed, again=again, recovered=recovered)
        return replace(result, used=bool(used))
