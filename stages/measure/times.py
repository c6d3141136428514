"""How long a face takes, from what `make bench` measured: reports/benchmarks.json."""

from pathlib import Path

from pydantic import BaseModel, ValidationError

from stages.errors import InputError
from stages.measure.cells import NOTHING

DEVICES = ("CPU", "GPU")


class _Figure(BaseModel):
    value: float
    workload: str | None = None  # of those that tell how long a face takes
    device: str | None = None


class _Machine(BaseModel):
    date: str
    cpu: str
    cores: int
    gpu: str | None


class Times(BaseModel):
    machine: _Machine | None = None
    figures: list[_Figure] = []

    def cells(self, workload: str | None) -> tuple[str, ...]:
        """The milliseconds a face on each of DEVICES, for the table."""
        known = {(each.workload, each.device): f"{each.value:.3g}" for each in self.figures if each.workload}
        return tuple(known.get((workload, device), NOTHING) for device in DEVICES)

    def about(self) -> str:
        """Where and when they were measured."""
        if self.machine is None:
            return "here it has not run"
        of = self.machine
        gpu = f", GPU: {of.gpu}" if of.gpu else "; no GPU was at hand"
        return f"CPU: {of.cores} cores of {of.cpu}{gpu}; {of.date}"


def read_times(path: Path) -> Times:
    """None are known where the file is missing. Raises `InputError` where it is none of `make bench`."""
    try:
        return Times.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Times()
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the file"
        raise InputError(f"{path}: {where}: {fault['msg']}. Make it again: make bench.") from None
