"""What `make bench` measured: reports/benchmarks.json. Inference times, and the figures of a GPU."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from stages.reporting.tables import folded, markdown_table
from stages.system.errors import InputError, validation_faults

DEVICES = ("CPU", "GPU")


class _Measurement(BaseModel):
    name: str = ""
    value: float
    unit: str = ""
    how: str = ""
    at_least: float | None = None
    workload: str | None = None  # of inference times
    device: str | None = None


class _Machine(BaseModel):
    date: str
    cpu: str
    cores: int
    gpu: str | None
    torch: str = ""


class _OfGpu(BaseModel):
    """Measured on a machine with a GPU, which may be another one than that of the other figures."""

    machine: _Machine
    figures: list[_Measurement]


class Times(BaseModel):
    machine: _Machine | None = None
    figures: list[_Measurement] = []
    gpu: _OfGpu | None = None

    def of(self, workload: str, device: str) -> float | None:
        """The milliseconds a face on one of DEVICES."""
        figures = self.figures + (self.gpu.figures if self.gpu else [])
        times = {(entry.workload, entry.device): entry.value for entry in figures if entry.workload}
        return times.get((workload, device))

    def measured_on(self) -> str:
        """The machines and the dates."""
        if self.machine is None:
            return "not run here yet"
        own = f"CPU: {self.machine.cores} cores of {self.machine.cpu}; {self.machine.date}"
        return own + (f". GPU: {self.gpu.machine.gpu}; {self.gpu.machine.date}" if self.gpu else "; no GPU available")

    def gpu_section(self) -> str:
        """Training and inference on a GPU; empty where none was measured."""
        if self.gpu is None:
            return ""
        machine = self.gpu.machine
        rows = [
            (
                each.name.removeprefix("GPU, "), f"{each.value:.4g}", each.unit,
                "" if each.at_least is None else f"≥ {each.at_least:g}", each.how,
            )
            for each in self.gpu.figures
        ]  # fmt: skip
        table = markdown_table(("figure", "value", "unit", "goal", "how"), rows)
        where = f"{machine.gpu}, torch {machine.torch}, {machine.date}, nothing else on the GPU (`make bench`)."
        return folded("Training and inference on a GPU", f"{where}\n\n{table}")


def read_times(path: Path) -> Times:
    """No times where the file is missing. Raises `InputError` where `make bench` did not write it."""
    try:
        return Times.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Times()
    except ValidationError as error:
        raise InputError(f"{path}: {validation_faults(error)[0]}. Make it again: make bench.") from None
