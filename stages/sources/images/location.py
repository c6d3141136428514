"""Where the images of a dataset are. Knows no reader, so that a stage that only reads images depends on none."""

from pathlib import Path


def images_folder(dataset: str, files, location: Path) -> Path:
    """The folder that the face table's image names are relative to.

    It is data/raw/<dataset>/images where fetch wrote them (drawn faces, COFW's .mat files, archives), else the folder
    `files.images` (the parameters of the dataset's form) under `location`, where the dataset's files are.
    """
    written = Path("data/raw") / dataset / "images"
    return written if written.is_dir() else location / files.images
