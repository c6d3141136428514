"""Values that a dataset's file still has from the file that it was copied from."""

from stages.config.dataset import Dataset
from stages.config.experiment import load_dataset
from stages.config.pipeline import PARAMS, read_pipeline
from stages.system.errors import InputError


def copied_values(dataset: Dataset) -> dict[str, str]:
    """Which of `about.title` and `source.counts` another dataset's file has too, and that file.

    `dataset` is one with the sections about and source. A title may be that of another dataset of the same files. Files
    that cannot be read are passed over.
    """
    copied: dict[str, str] = {}
    listed = read_pipeline().datasets
    for path in sorted((PARAMS / "datasets").glob("*.yaml")):
        try:
            other = load_dataset(path.stem, "about", "source")
        except InputError:
            continue
        if other.name == dataset.name:
            continue
        elsewhere = other.name in listed and listed[other.name].source != listed[dataset.name].source
        if other.about.title == dataset.about.title and (elsewhere or other.source.files != dataset.source.files):
            copied.setdefault("about.title", str(path))
        if other.source.counts == dataset.source.counts:
            copied.setdefault("source.counts", str(path))
    return copied
