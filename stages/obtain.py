"""See that a dataset's files are at hand, and resolve its landmark scheme.

    python -m stages.obtain lfpw
    python -m stages.obtain 300w --annotations-only

Reads params/datasets/<dataset>.yaml and params/schemes; writes data/schemes/<dataset>.json. The files themselves are
where params/pipeline.yaml says (`source: data/lfpw`), a dependency of the fetch stage: an archive that has a URL is
downloaded there, and for any other file that is missing the message says where to get it. With --annotations-only (in
params/pipeline.yaml `images: false`) the annotation files of the test faces are enough.
"""

import argparse

from stages.config.experiment import load_dataset
from stages.config.schemes import load_dataset_scheme
from stages.data.scheme import scheme_file, write_scheme
from stages.sources.download import download
from stages.sources.readers import require_files
from stages.sources.test_faces import require_test_files
from stages.system import errors
from stages.system.files import digest


def main(name: str, annotations_only: bool = False) -> None:
    dataset = load_dataset(name, "about", "source", "landmarks")
    location = dataset.location
    scheme = load_dataset_scheme(dataset.landmarks.scheme, dataset.landmarks.normaliser, name)
    url, sha256 = dataset.source.url, dataset.source.sha256
    if url and not location.exists():
        download(url, sha256, location)
    if not location.is_file():  # an archive is opened by fetch
        (require_test_files if annotations_only else require_files)(name, dataset.about, dataset.source, location)
    elif sha256 and (actual := digest(location)) != sha256:
        raise errors.InputError(f"{location}: its SHA-256 is {actual}, and source.sha256 is {sha256}. It is not used.")
    write_scheme(scheme, name)
    print(f"{name}: its files are in {location}; {scheme_file(name)}: {scheme.count} landmarks, scheme {scheme.scheme}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="a name in params/pipeline.yaml")
    parser.add_argument("--annotations-only", action="store_true", help="of its test faces, without images")
    arguments = parser.parse_args()
    errors.run(lambda: main(arguments.dataset, arguments.annotations_only))
