"""Exported ONNX files, from what `stages.export` measured: reports/experiments/<name>/exports.json."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from stages.metrics.results import Result
from stages.reporting.tables import error, folded, markdown_table
from stages.system.errors import InputError, validation_faults


class _Times(BaseModel):
    threads: int
    batch: int
    pytorch: float
    onnx: float


class Export(BaseModel):
    """A file; differences in px of the input window, NME in percent, milliseconds a face."""

    file: str
    weights_md5: str
    flip_test: bool
    precision: str
    megabytes: float
    largest_px: float
    mean_px: float
    nme_pytorch: float
    nme_onnx: float
    milliseconds: list[_Times]
    cpu: str
    date: str


def read_exports(folder: Path) -> dict[str, list[Export]]:
    """By experiment. Raises `InputError` where `stages.export` did not write a file."""
    exports = {}
    for path in sorted(folder.glob("*/exports.json")):
        try:
            exports[path.parent.name] = TypeAdapter(list[Export]).validate_json(path.read_bytes())
        except ValidationError as error:
            raise InputError(f"{path}: {validation_faults(error)[0]}. Delete it, and export the model again.") from None
    return exports


def section(results: Sequence[Result], exports: dict[str, list[Export]]) -> str:
    """The table of those of the results' own weights; empty without any."""
    rows = []
    for result in results:
        for made in exports.get(result.name, []):
            if made.weights_md5 == result.provenance.hashes.model:
                times = [f"{t.onnx:.1f} ({t.pytorch:.1f})" for t in made.milliseconds]
                heads = [f"{t.threads} thread{'s' * (t.threads > 1)}, batch {t.batch}" for t in made.milliseconds]
                rows.append((
                    made.file + ", flip test" * made.flip_test, f"{made.megabytes:.1f}", f"{made.largest_px:.1g}",
                    f"{made.mean_px:.1g}", error(made.nme_onnx), error(made.nme_pytorch),
                    "<br>".join(f"{head}: {time}" for head, time in zip(heads, times, strict=True)),
                    f"{made.cpu}, {made.date}",
                ))  # fmt: skip
    if not rows:
        return ""
    header = ("file", "MB", "largest px", "mean px", "NME", "NME in PyTorch", "ms a face (PyTorch)", "measured on")
    what = "Differences of ONNX Runtime from PyTorch, over all landmarks of the test faces, in px of the input window."
    return folded("Exported ONNX files: size, parity and time", f"{what}\n\n{markdown_table(header, rows)}")
