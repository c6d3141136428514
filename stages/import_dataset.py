"""Make a dataset of your own faces: read their annotations, check them, and write all that the pipeline needs.

    python -m stages.import_dataset --coco train.json --test-coco test.json --images DIR --name mine
    python -m stages.import_dataset --via project.json --images DIR --name mine
    python -m stages.import_dataset --pts DIR --name mine

--coco is COCO key points, as CVAT, Label Studio and labelme export them; --via is VGG Image Annotator 2, its project or
its exported annotations (JSON); --pts is a folder of .pts files beside their images. Faults are listed all at once, and
nothing is written then. Else this writes

    data/<name>                        annotations as CSV files, links to the images (--copy: copies)
    params/datasets/<name>.yaml        what the dataset is
    params/schemes/<name>.yaml         its landmarks, unless --scheme names a scheme that is there
    params/pipeline.yaml               two more lines: the dataset, and an experiment <name>-quick
    data/<name>-contact-sheet.jpg      some faces with numbered landmarks: look at it; git ignores it

Which landmarks swap in a mirror is found by their names and by the symmetry of the mean face, and shown for approval.
"""

import os
import sys
from pathlib import Path

from stages.config.pipeline import PARAMS, read_pipeline
from stages.config.reading import parameter_file
from stages.importing import coco, install, pipeline_text, pts_folder, scheme, sheet, via
from stages.importing.arguments import parse
from stages.importing.dataset import Imported, Wishes, examine, record, require_readable
from stages.system import errors
from stages.system.errors import InputError, refuse
from stages.system.files import atomic, digest


def read(arguments) -> tuple[list, list]:
    """The annotations of the training files and of the test files."""
    if arguments.coco:
        train, test = ([coco.read(path, arguments.category) for path in paths or []]
                       for paths in (arguments.coco, arguments.test_coco))  # fmt: skip
    elif arguments.via:
        train, test = ([via.read(path) for path in paths or []] for paths in (arguments.via, arguments.test_via))
    else:
        train, test = [pts_folder.read(arguments.pts, arguments.hidden)], []
    return train, test


def require_free(arguments, images: Path) -> None:
    """Raise `InputError` where something of that name is there already, and is not to be replaced."""
    name, pipeline = arguments.name, read_pipeline()
    paths = [parameter_file(PARAMS / "datasets", name)]
    paths += [] if arguments.scheme else [PARAMS / "schemes" / f"{name}.yaml"]
    faults = [] if arguments.replace else [f"{path} is there already" for path in paths if path.exists()]
    listed, experiment = pipeline.datasets.get(name), pipeline.experiments.get(f"{name}-quick")
    where = "params/pipeline.yaml: "
    if listed and os.path.normpath(listed.source) != f"data/{name}":
        faults.append(f"{where}dataset {name} is in {listed.source}, which an import does not write: remove the line")
    elif (listed or experiment) and not arguments.replace:
        faults.append(f"{where}it lists {name if listed else f'{name}-quick'} already")
    if experiment and experiment.dataset != name:
        faults.append(f"{where}experiment {name}-quick is of dataset {experiment.dataset}: rename it")
    faults += install.folder_faults(Path("data") / name, images, arguments.replace)
    refuse(faults, f"import of {name}", "Choose another --name, or let --replace overwrite an earlier import.")


def approved(contact_sheet: Path, arguments) -> bool:
    """Whether a person at the terminal agrees; without one, what is shown is taken."""
    if arguments.yes or not sys.stdin.isatty():
        return True
    return input(f"Look at {contact_sheet}: are the landmarks and their pairs right? [y/N] ").strip().lower() in (
        "y",
        "yes",
    )


def write(imported: Imported, arguments, images: Path) -> None:
    """All files, or none."""
    name, faces = arguments.name, imported.faces
    target, dataset, pipeline = Path("data") / name, PARAMS / "datasets" / f"{name}.yaml", PARAMS / "pipeline.yaml"
    has_test = "test" in faces.split
    inside = install.is_inside(images, target)
    folder = os.path.relpath(images.resolve(), target.resolve()) if inside else install.IMAGES
    annotations = {"images": folder, "train": "train.csv", "test": "test.csv" if has_test else None}
    inputs = [Path(path) for path in (arguments.coco or arguments.via or []) + (arguments.test_coco or [])]
    inputs += arguments.test_via or []
    origin_of = ", ".join(path.name for path in inputs) or "a folder of .pts files"
    about = {
        "title": arguments.title or name,
        "licence": arguments.licence,
        "citation": "none",
        "homepage": "",
        "obtain": f"imported by stages.import_dataset from {origin_of}",
        "share_pictures": False,
    }
    source = {"form": "csv", "csv": annotations} | imported.source
    if arguments.origin:
        source["origin"] = arguments.origin
    landmarks = {"scheme": arguments.scheme or name, "normaliser": imported.proposal.normaliser}
    texts = {dataset: install.dataset_text(name, about, source, landmarks)}
    texts[pipeline] = pipeline_text.with_dataset(pipeline.read_text(encoding="utf-8"), name)
    if not arguments.scheme:
        texts[PARAMS / "schemes" / f"{name}.yaml"] = scheme.text(imported.proposal, name)
    with install.restored(*texts), install.dataset_folder(target, images) as out:
        if not inside:
            (out / install.IMAGES).mkdir()
            install.place_images(faces.image, images, out / install.IMAGES, arguments.copy)
        for split in ("train", "test")[: 1 + has_test]:
            install.write_csv(faces.of(split), out / f"{split}.csv")
        (out / install.RECORD).write_text(record(imported, {str(path): digest(path) for path in inputs}), "utf-8")
        for path, text in texts.items():
            with atomic(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        require_readable(name)


def show(imported: Imported) -> None:
    """What was read and found."""
    faces, proposal = imported.faces, imported.proposal
    counts = " and ".join(f"{imported.split.count(split)} {split}" for split in ("train", "test"))
    print(f"read: {len(faces)} faces of {proposal.scheme.count} landmarks in {len(set(faces.image))} images; {counts}")
    absent, hidden = (~faces.annotated).sum(), (faces.annotated & ~faces.visible).sum()
    if absent or hidden:
        print(f"  of {faces.visible.size} landmarks {hidden} hidden, {absent} not annotated")
    for remark in imported.remarks:
        print(f"  {remark}")
    print(f"swap in a mirror ({proposal.pairs_told}):")
    for line in scheme.pair_lines(proposal):
        print(f"  {line}")
    groups = ", ".join(f"{name} ({len(members)})" for name, members in proposal.scheme.groups.items())
    print(f"groups: {groups}")
    landmarks = {"inter_ocular": proposal.scheme.inter_ocular, "inter_pupil": proposal.scheme.inter_pupil}
    eyes = landmarks.get(proposal.normaliser)
    print(f"errors are divided by: {proposal.normaliser}{f', landmarks {eyes[0]} and {eyes[1]}' if eyes else ''}")
    for warning in imported.warnings:
        print(f"warning: {warning}", file=sys.stderr)


def main(arguments) -> None:
    first = (arguments.coco or arguments.via or [None])[0]
    images = arguments.pts or arguments.images or first.parent
    if not images.is_dir():
        raise InputError(f"there is no folder {images}: give the folder of the images with --images")
    require_free(arguments, images)
    wishes = Wishes(
        arguments.scheme, arguments.normaliser, arguments.eyes, arguments.boxes, arguments.split_by_folder,
        arguments.group, arguments.test_share,
    )  # fmt: skip
    imported = examine(*read(arguments), images, wishes)
    if arguments.pts and arguments.origin is None:
        imported.remarks.append("pixels are taken to count from 0; if these .pts files count from 1, as most do, give "
                                "--origin 1")  # fmt: skip
    contact_sheet = Path("data") / f"{arguments.name}-contact-sheet.jpg"
    with install.restored(contact_sheet):
        picture = sheet.draw(
            imported.faces, sheet.choose(imported.faces), images, imported.source.get("orientation", "ignore"),
            imported.proposal.scheme.flip_pairs, imported.proposal.mean,
        )  # fmt: skip
        sheet.write(picture, contact_sheet)
        show(imported)
        if not approved(contact_sheet, arguments):
            raise InputError(
                "not approved, so nothing was written. --scheme names a scheme that you have written, --eyes the "
                "corners of the eyes, --boxes the boxes."
            )
        write(imported, arguments, images)
    made = [f"data/{arguments.name}", f"params/datasets/{arguments.name}.yaml"]
    landmarks = f"params/schemes/{arguments.scheme or arguments.name}.yaml"
    made += [] if arguments.scheme else [landmarks]
    print(f"written: {', '.join(made)}, and two lines in params/pipeline.yaml")
    print(f"next: look at {contact_sheet}; if a pair is wrong there, correct {landmarks}")
    print(f"then: dvc repro (or make repro), which trains and measures {arguments.name}-quick")


if __name__ == "__main__":
    arguments = parse(__doc__)
    errors.run(lambda: main(arguments))
