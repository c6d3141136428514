"""Inference times, from what `make bench` measured: reports/benchmarks.json."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from stages.reporting.tables import NOTHING
from stages.system.errors import InputError, validation_faults

DEVICES = ("CPU", "GPU")


class _Measurement(BaseModel):
    value: float
    workload: str | None = None  # of inference times
    device: str | None = None


class _Machine(BaseModel):
    date: str
    cpu: str
    cores: int
    gpu: str | None


class Times(BaseModel):
    machine: _Machine | None = None
    figures: list[_Measurement] = []

    def cells(self, workload: str) -> tuple[str, ...]:
        """The milliseconds a face on each of DEVICES, for the table."""
        times = {(entry.workload, entry.device): f"{entry.value:.3g}" for entry in self.figures if entry.workload}
        return tuple(times.get((workload, device), NOTHING) for device in DEVICES)

    def measured_on(self) -> str:
        """The machine and the date."""
        if self.machine is None:
            return "not run here yet"
        gpu = f", GPU: {self.machine.gpu}" if self.machine.gpu else "; no GPU available"
        return f"CPU: {self.machine.cores} cores of {self.machine.cpu}{gpu}; {self.machine.date}"


def read_times(path: Path) -> Times:
    """No times where the file is missing. Raises `InputError` where `make bench` did not write it."""
    try:
        return Times.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Times()
    except ValidationError as error:
        raise InputError(f"{path}: {validation_faults(error)[0]}. Make it again: make bench.") from None
