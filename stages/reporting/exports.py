"""Exported ONNX files, from what `stages.export` measured: reports/experiments/<name>/exports.json."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from stages.metrics.results import Result
from stages.reporting.tables import error, folded, markdown_table
from stages.system.errors import InputError, validation_faults


class _Time(BaseModel):
    threads: int
    batch: int
    value: float


class _Engine(BaseModel):
    engine: str
    precision: str
    nme: float | None = None
    milliseconds: list[_Time]


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
    engines: list[_Engine] = []
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
    """Files and engines of the results' own weights; empty without any."""
    files = [
        made
        for result in results
        for made in exports.get(result.name, [])
        if made.weights_md5 == result.provenance.hashes.model
    ]
    if not files:
        return ""
    what = "Differences of ONNX Runtime from PyTorch, over all landmarks of the test faces, in px of the input window."
    header = ("file", "MB", "largest px", "mean px", "NME", "NME in PyTorch")
    rows = [
        (_title(made), f"{made.megabytes:.1f}", f"{made.largest_px:.1g}", f"{made.mean_px:.1g}", error(made.nme_onnx),
         error(made.nme_pytorch))
        for made in files
    ]  # fmt: skip
    engines = "\n\n".join(_engines(made) for made in files if made.engines)
    return folded("Exported files: size, parity, engines", f"{what}\n\n{markdown_table(header, rows)}\n\n{engines}")


def _title(made: Export) -> str:
    return made.file + ", flip test" * made.flip_test


def _engines(made: Export) -> str:
    """What each engine loses in NME and how long a face takes; in brackets, how many times as fast as the first row,
    the network as the published code runs it: batch norms apart, channels first."""
    plain = made.engines[0]
    rows = [
        (
            "PyTorch fp32, untuned" if each is plain else f"{each.engine} {each.precision}",
            "" if each.nme is None else f"{each.nme - made.nme_pytorch:+z.4f}",
            *(
                f"{time.value:.1f}" + ("" if each is plain else f" ({base.value / time.value:.1f} ×)")
                for time, base in zip(each.milliseconds, plain.milliseconds, strict=True)
            ),
        )
        for each in made.engines
    ]
    heads = [f"{t.threads} thread{'s' * (t.threads > 1)}, batch {t.batch}" for t in plain.milliseconds]
    what = f"{_title(made)}: milliseconds a face and change of NME (percentage points), on {made.cpu}, {made.date}:"
    return f"{what}\n\n{markdown_table(('engine', 'ΔNME', *heads), rows)}"
