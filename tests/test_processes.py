"""Worker processes are counted by what the job may use and has to do."""

import os

import pytest

from stages.system.processes import cores, processes


@pytest.mark.parametrize(("allowed", "jobs", "workers"), [(3, 50, 3), (64, 5, 5), (64, 0, 1), (1, 9, 1)])
def test_workers_are_as_many_as_the_jobs_cores_and_no_more_than_its_work(monkeypatch, allowed, jobs, workers):
    """A machine of 128 cores of which a scheduler grants a few."""
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    assert cores() == allowed
    with processes(jobs) as pool:  # nothing is submitted, so none is started
        assert pool._max_workers == workers
