"""The machine that made a result is recorded with it."""

import subprocess

import pytest
import torch

from stages.metrics.provenance_schema import Environment
from stages.tracking import provenance

ON_CPU = {"lock", "cpu", "threads", "isa"}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setenv("WORLD_SIZE", "8")


def smi(answer):
    def run(command, **options):
        assert command[0] == "nvidia-smi"
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 0, answer, "")

    return run


def test_without_a_gpu_the_cpu_and_the_packages_are_recorded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert provenance.environment().keys() == ON_CPU


@pytest.mark.parametrize(
    ("answer", "driver"),
    [
        ("570.86.15\n", "570.86.15"),
        ("", "unknown"),
        (FileNotFoundError("nvidia-smi"), "unknown"),
        (subprocess.CalledProcessError(9, "nvidia-smi"), "unknown"),
        (subprocess.TimeoutExpired("nvidia-smi", 10), "unknown"),
    ],
)
def test_the_gpu_its_driver_cuda_and_the_processes_are_recorded(gpu, monkeypatch, answer, driver):
    monkeypatch.setattr(subprocess, "run", smi(answer))
    recorded = provenance.environment()
    assert {key: value for key, value in recorded.items() if key not in ON_CPU} == {
        "gpu": "NVIDIA H100 80GB HBM3", "driver": driver, "cuda": "12.8", "world_size": 8,
    }  # fmt: skip
    Environment.model_validate(recorded)  # as the report reads it
