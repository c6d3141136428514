"""Image names that no file has because another program, system or camera wrote them."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path


def wrong_names(images: Sequence[str], folder: Path) -> dict[int, str]:
    """By row, what is wrong with an image's name and how to correct it; `folder` is where names start from.

    A name that a file has is not wrong, however odd; one that is wrong in no way known here is left to the check of the
    images.
    """
    return {row: fault for row, name in enumerate(images) if (fault := _fault(name, folder))}


def _fault(name: str, folder: Path) -> str | None:
    odd = "\\" in name or name != name.strip() or not name.isascii() or name[1:3] == ":/"
    heic = name.strip().lower().endswith((".heic", ".heif"))
    if not odd and not heic:
        return None
    if heic:
        return "HEIC is not read. Convert the images to JPEG or PNG and name those"
    try:
        if (folder / name).is_file():
            return None
    except ValueError:  # a name that no file system allows
        return None
    if name[1:3] in (":/", ":\\"):
        return f"it is an absolute path. Write the path within {folder}, with /"
    if "\\" in name:
        return f"it holds a backslash. Write the path within {folder} with /, as in {name.replace(chr(92), '/')!r}"
    if name != name.strip():
        return "a blank is before or behind it. Remove it"
    for form in ("NFC", "NFD"):
        if (folder / unicodedata.normalize(form, name)).is_file():
            return f"the file has that name in another Unicode form ({form}; macOS writes NFD). Give both the same"
    return None


def listed(rows: dict[int, str], images: Sequence[str], locations: Sequence[str]) -> list[str]:
    """One fault for each way in which names are wrong: the first row, and how many more there are."""
    kinds: dict[str, list[int]] = {}
    for row, fault in rows.items():
        kinds.setdefault(fault.split(". ")[0], []).append(row)
    return [
        f"{locations[same[0]]}: its image is {images[same[0]]!r}{f' (and {len(same) - 1} more)' * (len(same) > 1)}: "
        f"{rows[same[0]]}"
        for same in kinds.values()
    ]
