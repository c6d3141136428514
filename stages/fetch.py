"""Read a dataset's annotations into the face table, check all of it, and record the hash of every file it rests on.

    python -m stages.fetch demo

Reads params/datasets/<dataset>.yaml and the dataset's files, which stay where they are; writes data/raw/<dataset>:
faces.parquet, checksums.csv and, where the source makes its images, images/. Nothing in it names this machine.
"""

import argparse
import csv
from collections import Counter
from pathlib import Path

from stages import errors, params
from stages.data import checks, places, sources
from stages.data.faces import write_faces
from stages.data.files import atomic_folder


def main(name: str) -> None:
    dataset = params.dataset(name, "about", "source", "landmarks", "normalisers")
    source, root = dataset.source, places.data_root(name, dataset.source)
    target = Path("data/raw") / name
    with atomic_folder(target) as out:
        faces, faults = sources.read(name, dataset, root, out)
        made = out / "images"
        images = made if made.is_dir() else places.images_folder(name, root, source)
        hashes, image_faults = checks.image_checksums(images, faces.image)
        faults += image_faults + checks.normaliser_faults(faces, dataset.normalisers)
        if not faults:  # a row left out would be counted twice
            differing = checks.count_faults(faces, source.counts, sources.SPLITS)
            if source.partial:
                print(*(f"warning: {name}: {each}" for each in differing), sep="\n", end="\n" * bool(differing))
            else:
                faults += [f"{each} (source.partial: true reads part of the data on purpose)" for each in differing]
        errors.refuse(faults, f"dataset {name}", "Nothing was written. Mend these, then run the same command again.")

        folder, annotations = sources.annotations(name, source, root)
        hashes += checks.checksums(folder, annotations)
        with open(out / "checksums.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("image", "bytes", "sha256"), *sorted(hashes)])
        write_faces(faces, out / "faces.parquet")
    members = Counter(subset for subsets in faces.subsets for subset in subsets)
    counts = [f"{faces.split.count(split)} {split}" for split in sources.SPLITS]
    print(f"{target}: {', '.join(counts)} faces", *(f"{n} {subset}" for subset, n in sorted(members.items())), sep=", ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name in params/datasets/")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.dataset))
