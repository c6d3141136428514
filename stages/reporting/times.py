"""What `make bench` measured: reports/benchmarks.json. Inference times, and all figures of a CPU and of a GPU."""

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
    at_most: float | None = None  # the goal …
    at_least: float | None = None  # … where more is better
    reached: bool | None = None  # whether the goal is
    workload: str | None = None  # of inference times
    device: str | None = None

    @property
    def goal(self) -> str:
        sign, goal = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        if goal is None:
            return ""
        return f"{sign} {goal:g}" + (", **missed**" if self.reached is False else "")


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

    def sections(self) -> list[str]:
        """Everything that was measured on a CPU and on a GPU, with the goals; those that were not measured left out."""
        told = []
        if self.machine and self.figures:
            where = f"{self.machine.cores} cores of {self.machine.cpu}, torch {self.machine.torch}, {self.machine.date}"
            told.append(_section("Speed and exactness on a CPU", where, self.figures))
        if self.gpu:
            made = self.gpu.machine
            where = f"{made.gpu}, torch {made.torch}, {made.date}, nothing else on the GPU"
            told.append(_section("Training and inference on a GPU", where, self.gpu.figures))
        return told


def _section(title: str, where: str, figures: list[_Measurement]) -> str:
    rows = [(each.name.removeprefix("GPU, "), f"{each.value:.4g}", each.unit, each.goal, each.how) for each in figures]
    table = markdown_table(("figure", "value", "unit", "goal", "how"), rows)
    return folded(title, f"{where} (`make bench`).\n\n{table}")


def read_times(path: Path) -> Times:
    """No times where the file is missing. Raises `InputError` where `make bench` did not write it."""
    try:
        return Times.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Times()
    except ValidationError as error:
        raise InputError(f"{path}: {validation_faults(error)[0]}. Make it again: make bench.") from None
