"""Read a dataset's annotations into the face table, check all of it, and record the checksum of every file it uses.

    python -m stages.fetch demo
    python -m stages.fetch 300w --annotations-only

Reads the dataset's files where params/pipeline.yaml says they are; writes data/raw/<dataset>: faces.parquet,
checksums.csv and, where the source makes its images or is an archive, images/. With --annotations-only (in
params/pipeline.yaml `images: false`) only the test faces are read, and no image.
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

from stages.config.copied import copied_values
from stages.config.experiment import load_dataset
from stages.data.faces import Faces, write_faces
from stages.data.scheme import DatasetScheme, read_scheme
from stages.data.splits import assign_split
from stages.sources import checks, readers
from stages.sources.images.checksums import Checksum, checksums, image_checksums
from stages.sources.scheme_checks import scheme_findings
from stages.sources.test_faces import read_annotation
from stages.sources.unread import unread
from stages.system import errors
from stages.system.files import atomic_folder


def whole_findings(dataset, faces: Faces, scheme: DatasetScheme) -> tuple[list[str], list[str]]:
    """The faults and the warnings of a dataset whose faces are sound one by one."""
    source, copied = dataset.source, copied_values(dataset)
    faults, warnings = scheme_findings(faces, scheme)
    warnings += checks.face_warnings(faces, scheme)
    if "about.title" in copied:
        warnings.append(f"about.title is still that of {copied['about.title']}: reports name the data so")
    differing = checks.count_faults(faces, source.counts, readers.SPLITS)
    if source.partial:
        return faults, warnings + differing
    remedy = "by source.counts; set source.partial: true to read part of the data"
    if "source.counts" in copied:
        remedy = f"source.counts is that of {copied['source.counts']}: remove it"
    return faults + [f"{fault} ({remedy})" for fault in differing], warnings


def write(out: Path, faces: Faces, files: list[Checksum]) -> None:
    with open(out / "checksums.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("image", "bytes", "sha256"), *sorted(files)])
    write_faces(faces, out / "faces.parquet")


def tell(target: Path, faces: Faces, lines: list[str]) -> None:
    """What was read."""
    members = Counter(subset for subsets in faces.subsets for subset in subsets)
    counts = [f"{faces.split.count(split)} {split}" for split in readers.SPLITS]
    print(f"{target}: {', '.join(counts)} faces", *(f"{n} {subset}" for subset, n in sorted(members.items())), sep=", ")
    for line in checks.visibility_counts(faces) + lines:
        print(f"{target}: {line}")


def fetch_annotation(name: str) -> None:
    """The test faces of a dataset whose images are not at hand."""
    dataset, target = load_dataset(name, "about", "source"), Path("data/raw") / name
    location = readers.locate(dataset.source, dataset.location)
    with atomic_folder(target) as out:
        faces, differing = read_annotation(name, dataset.about, dataset.source, read_scheme(name), location, out)
        source = dataset.source.model_copy(update={"partial": True})
        write(out, faces, checksums(location, readers.annotations(source, location, ("test",))))
    for fault in differing:
        print(f"warning: {name}: {fault}", file=sys.stderr)
    tell(target, faces, ["no image is read, so none is checked"])


def main(name: str) -> None:
    dataset, scheme, target = load_dataset(name, "about", "source"), read_scheme(name), Path("data/raw") / name
    source, location = dataset.source, dataset.location
    with atomic_folder(target) as out:
        with readers.opened(source, location, out) as folder:
            readers.require_files(name, dataset.about, source, folder)
            faces, faults = readers.read(name, source, scheme.count, folder, out)
            faults = [fault.replace(str(folder), str(location)) for fault in faults]  # of an archive
            annotations = checksums(folder, readers.annotations(source, folder))
            left_out = unread(source, folder, faces)
        written = out / "images"
        images = written if written.is_dir() else location / source.files.images
        hashes, image_faults, remarks = image_checksums(images, faces.image)
        if location.is_file() and source.form != "mat":
            image_faults = [fault.replace(str(images), f"{location}/{source.files.images}") for fault in image_faults]
        if source.test_share is not None and not image_faults:
            faces = assign_split(
                faces, {image: sha256 for image, _, sha256 in hashes}, source.test_share, target="test"
            )
            if missing := [split for split in readers.SPLITS if split not in faces.split]:
                faults.append(f"source.test_share leaves no face in {missing[0]}: there are too few images")
        faults += image_faults + checks.face_faults(faces, scheme)
        warnings: list[str] = []
        if not faults:  # else a faulty row would be reported a second time, as a wrong count or an odd mean face
            faults, warnings = whole_findings(dataset, faces, scheme)
        errors.refuse(faults, f"dataset {name}", "Nothing was written. Fix these, then run the same command again.")

        write(out, faces, hashes + annotations)
    for sentence in remarks.sentences(source.orientation):
        print(f"note: {name}: {sentence}")
    for warning in warnings:
        print(f"warning: {name}: {warning}", file=sys.stderr)
    tell(target, faces, left_out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name in params/pipeline.yaml")
    parser.add_argument("--annotations-only", action="store_true", help="of its test faces, without images")
    arguments = parser.parse_args()
    errors.run(lambda: (fetch_annotation if arguments.annotations_only else main)(arguments.dataset))
