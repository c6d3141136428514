"""What results, models and fetch recorded of the files they were made of: MD5 and SHA-256, by file."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from stages.config.dataset import Dataset
from stages.metrics.provenance_schema import Provenance
from stages.tracking.provenance import MEASURED, SUBMITTED, code_hash

RAW, MODELS = Path("data/raw"), Path("models")
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Fingerprint:
    """path: a file or a folder. digest: as `recorded_in` says it is."""

    path: Path
    digest: str
    recorded_in: Path


def read_results(folder: Path) -> dict[str, Provenance]:
    """What every result that can be read was made of, by its name; git or DVC guards the files themselves."""
    results = {}
    for file in sorted(folder.glob("*/provenance.json")):
        try:
            results[file.parent.name] = Provenance.model_validate_json(file.read_bytes())
        except ValidationError:
            continue
    return results


def result_fingerprints(results: Mapping[str, Provenance], folder: Path) -> list[Fingerprint]:
    """The MD5 of crops, weights, initial weights and predictions."""
    fingerprints = []
    for name, made in results.items():
        hashes, experiment = made.hashes, made.experiment or name
        files = {Path("data/crops") / made.dataset: hashes.data}
        if made.kind == "submission":
            files[Path("data/predictions") / f"{name}.parquet"] = hashes.predictions
        else:
            files |= {MODELS / experiment / WEIGHTS: hashes.model, MODELS / made.init: hashes.init}
        record = folder / name / "provenance.json"
        fingerprints += [Fingerprint(path, md5, record) for path, md5 in files.items() if md5]
    return fingerprints


def of_other_code(results: Mapping[str, Provenance]) -> list[str]:
    """The results that were made with other code than that of this folder."""
    now = {kind: code_hash(*stages) for kind, stages in (("submission", SUBMITTED), ("experiment", MEASURED))}
    return [name for name, made in results.items() if made.hashes.code != now.get(made.kind, now["experiment"])]


def weight_fingerprints() -> Iterator[Fingerprint]:
    """The SHA-256 of the weights of every model."""
    for file in sorted(MODELS.glob(f"*/{DESCRIPTION}")):
        try:
            recorded = json.loads(file.read_bytes())["weights_sha256"]
        except (ValueError, KeyError, TypeError):  # a model of an earlier version; DVC guards the file
            continue
        yield Fingerprint(file.with_name(WEIGHTS), recorded, file)


def image_fingerprints(dataset: Dataset) -> Iterator[Fingerprint]:
    """The SHA-256 of every image and annotation file that fetch has read, but for what archives hold."""
    raw, location = RAW / dataset.name, dataset.location
    record, written = raw / "checksums.csv", raw / "images"
    if not record.is_file():
        return
    with open(record, newline="", encoding="utf-8", errors="replace") as file:
        rows = [row for row in csv.reader(file) if len(row) == 3][1:]
    folders = [written] if written.is_dir() else [location / getattr(dataset.source.files, "images", "")]
    folders += [location] if location.is_dir() else []
    for name, _, sha256 in rows:
        places = [folder / name for folder in folders if "\0" not in name]
        if place := next((place for place in places if place.is_file()), places[0] if location.is_dir() else None):
            yield Fingerprint(place, sha256, record)
