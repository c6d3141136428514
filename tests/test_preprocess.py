"""The preprocess stage, stopped half-way: nothing half-written, no process left, the same command makes it whole."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from conftest import Project, still_running

from stages.data.crops import read_crops


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@contextmanager
def half_way(project: Project) -> Iterator[tuple[subprocess.Popen, list[psutil.Process]]]:
    """A preprocess one of whose images never comes, as from a file server that hangs; and its workers."""
    image = project.folder / "data/toy/images/train7.png"
    kept = image.rename(image.with_suffix(".kept"))
    os.mkfifo(image)
    process, writer = project.start("python", "-m", "stages.preprocess", "toy"), None
    try:
        deadline = time.monotonic() + 60
        while writer is None:
            assert time.monotonic() < deadline, "no worker has come to the image"
            try:
                writer = os.open(image, os.O_WRONLY | os.O_NONBLOCK)  # possible once a worker reads
            except OSError:
                time.sleep(0.05)
        time.sleep(1)  # all the others are cut
        yield process, psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.communicate()
        if writer is not None:
            os.close(writer)
        kept.replace(image)


def test_annotations_that_count_from_another_origin_give_the_same_crops(cut_project, tmp_path):
    other = Project(tmp_path)
    for file in ("train.csv", "test.csv", "test_blur.csv"):
        table = pd.read_csv(tmp_path / "data/toy" / file)
        moved = [name for name in table if name.startswith(("center", "original"))]
        table[moved] += 1.5
        table.to_csv(tmp_path / "data/toy" / file, index=False)
    other.change("params/datasets/toy.yaml", "  form: csv\n", "  form: csv\n  origin: 1.5\n")
    other.stage("obtain", "toy")
    other.stage("fetch", "toy")
    other.stage("preprocess", "toy")
    for split in ("train", "test"):
        ours, theirs = (read_crops(each.folder / "data/crops/toy", split) for each in (cut_project, other))
        assert np.abs(ours.images.astype(int) - theirs.images).max() <= 1
        np.testing.assert_allclose(theirs.landmarks(), ours.landmarks(), atol=1e-6)
        np.testing.assert_allclose(theirs.faces.landmarks, ours.faces.landmarks + 1.5, atol=1e-6)


def test_a_killed_preprocess_takes_its_processes_along_and_is_healed(cut_project):
    crops = cut_project.folder / "data/crops"
    before = contents(crops / "toy")
    with half_way(cut_project) as (process, workers):
        assert workers
        process.kill()
        assert still_running(workers, 5) == []
        assert contents(crops / "toy") == before, "the crops of the last run are whole"
        assert len(os.listdir(crops)) == 2
    cut_project.stage("preprocess", "toy")
    assert os.listdir(crops) == ["toy"]
    assert contents(crops / "toy") == before


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["it alone", "its group"])
def test_a_preprocess_that_is_stopped_ends_though_an_image_never_comes_and_leaves_nothing(
    cut_project, how, status, kill
):
    crops = cut_project.folder / "data/crops"
    before = contents(crops)
    with half_way(cut_project) as (process, workers):
        kill(process.pid, how)
        printed, _ = process.communicate(timeout=15)
        assert process.returncode == status
        assert still_running(workers, 0.1) == []
    assert "stopped" in printed
    assert "Traceback" not in printed
    assert contents(crops) == before
