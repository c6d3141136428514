"""A test split for a dataset that has none."""

from collections.abc import Mapping

from stages.data.faces import Faces


def assign_split(
    faces: Faces, checksums: Mapping[str, str], share: float, source: str = "train", target: str = "test"
) -> Faces:
    """Move a share of the images of split `source` to `target`, chosen by a hash of their content (`checksums`).

    So all faces of an image, and of a copy of it under another name, are on one side.
    """
    chosen = {image for image in set(faces.image) if int(checksums[image][8:16], 16) < share * 2**32}
    faces.split = [
        target if split == source and image in chosen else split
        for split, image in zip(faces.split, faces.image, strict=True)
    ]
    return faces
