"""Which faces belong together: those of one person or video, which must be on one side of every split."""

import re

from stages.data.faces import Faces


def read_groups(faces: Faces, pattern: str | None) -> list[str]:
    """Fill the column `group` by the first group of a regular expression, searched for in the image's name.

    Returns the faults: names without it, or a column that the annotation files have already.
    """
    if pattern is None:
        return []
    if "group" in faces.extra:
        return ["source.group is set, and the annotation files have a column group: keep one of them"]
    matches = [re.search(pattern, image) for image in faces.image]
    faces.extra = {**faces.extra, "group": [match[1] or "" if match else "" for match in matches]}
    return [
        f"face {face}: source.group ({pattern}) finds nothing in its image's name {image}"
        for face, image, group in zip(faces.face_id, faces.image, faces.extra["group"], strict=True)
        if not group
    ]
