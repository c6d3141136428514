"""Inference times, from what `make bench` measured: reports/benchmarks.json."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

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

    def of(self, workload: str, device: str) -> float | None:
        """The milliseconds a face on one of DEVICES."""
        times = {(entry.workload, entry.device): entry.value for entry in self.figures if entry.workload}
        return times.get((workload, device))

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
