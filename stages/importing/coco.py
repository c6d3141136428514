"""COCO key points (https://cocodataset.org/#format-data), as CVAT, Label Studio and conversions of labelme write them.

An annotation's key points are x, y, v for each landmark; its box is bbox (x, y, width, height), or center and scale
where it has these, as mmpose's files of the face benchmarks do: they are the box of HRNet's CSV files.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from stages.importing.annotations import NO_BOX, Annotations, is_number, nothing, read_json, tidy

KINDS = {
    "crowd": "annotations of crowds (iscrowd)",
    "none": "annotations without key points",
    "category": "annotations of other categories",
    "image": "annotations without an image",
}


def read(path: Path, category: str | None = None) -> Annotations:
    """The faces of one file; of the category of that name, where several have key points."""
    try:
        content = read_json(path)
    except ValueError as error:
        return nothing(f"{path}: {error}")
    if fault := _form_fault(content):
        return nothing(f"{path}: {fault}")
    images, faults = _images(content["images"], path)
    chosen, fault = _category(content, category)
    if fault:
        return nothing(f"{path}: {fault}")
    names = [str(name) for name in chosen.get("keypoints") or []]
    if double := [name for name, n in Counter(names).items() if n > 1]:
        faults.append(f"{path}, category {chosen.get('name')}: several key points are named {', '.join(double)}")

    rows, left_out = [], Counter()
    for position, annotation in enumerate(content["annotations"]):
        place = f"{path}, annotation {annotation.get('id', f'number {position + 1}')}"
        kind = _left_out(annotation, chosen, images)
        if kind is not None:
            left_out[KINDS[kind]] += 1
            continue
        points, box = annotation["keypoints"], _box(annotation)
        if not isinstance(points, list) or len(points) % 3 or not all(map(is_number, points)):
            faults.append(f"{place}: its key points are not x, y, v, three numbers for each")
        elif wrong := sorted({v for v in points[2::3] if v not in (0, 1, 2)}):
            faults.append(f"{place}: v is {wrong[0]:g}; it is 2 (visible), 1 (hidden) or 0 (not annotated)")
        elif isinstance(box, str):
            faults.append(f"{place}: {box}")
        else:
            rows.append((images[annotation["image_id"]], place, points, box, annotation.get("id")))
    count = len(names) or Counter(len(row[2]) // 3 for row in rows).most_common(1)[0][0] if rows else 0
    source = f"category {chosen.get('name')} names" if names else "most others have"
    faults += [
        f"{place}: it has {len(points) // 3} key points, and {source} {count}"
        for _, place, points, *_ in rows
        if len(points) != 3 * count
    ]
    faults += _repeated_ids(rows)
    rows = [row for row in rows if len(row[2]) == 3 * count]
    table = np.array([row[2] for row in rows], np.float64).reshape(len(rows), count, 3)
    used = {row[0] for row in rows}
    sizes = {image["file_name"]: (image.get("width"), image.get("height")) for image in content["images"]
             if isinstance(image.get("file_name"), str) and image["file_name"] in used}  # fmt: skip
    left_out["images without a face"] += len(set(images.values()) - used)
    return tidy(
        Annotations(
            images=[row[0] for row in rows],
            places=[row[1] for row in rows],
            points=table[..., :2].copy(),
            v=table[..., 2].astype(int),
            boxes=np.array([row[3] for row in rows], np.float64).reshape(-1, 3),
            names=names,
            sizes={name: size for name, size in sizes.items() if all(type(n) is int and n > 0 for n in size)},
            left_out=left_out,
            faults=faults,
        )
    )


def _form_fault(content: object) -> str | None:
    """Why a JSON file is not COCO's, by what other tools write."""
    if isinstance(content, list):
        return "it is a list, as Label Studio's own JSON is or a file of results: export the annotations as COCO"
    if not isinstance(content, dict):
        return "it holds no COCO annotations. Export them as COCO key points"
    if "_via_img_metadata" in content:
        return "it is a project of VGG Image Annotator: give it with --via"
    if "shapes" in content:
        return "it is labelme's file of one image: convert the folder to one COCO file (labelme2coco)"
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(content.get(key), list)]
    if missing:
        return f"it has no list {', '.join(missing)}, which COCO files have. Export the annotations as COCO key points"
    for key in ("images", "annotations", "categories"):
        for i, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                return f"{key}, entry {i + 1}: it is {type(entry).__name__}, not an object. Export the file again"
    return None


def _images(entries: list[dict], path: Path) -> tuple[dict, list[str]]:
    """The file name of each image by its id, and the faults of the entries."""
    images, faults = {}, []
    for i, entry in enumerate(entries):
        place, name, key = (
            f"{path}, image {entry.get('id', f'number {i + 1}')}",
            entry.get("file_name"),
            entry.get("id"),
        )
        if not isinstance(key, int | str):
            faults.append(f"{place}: its id is {key!r}, not a number")
        elif not isinstance(name, str) or not name.strip():
            faults.append(f"{place}: it has no file_name")
        elif key in images and images[key] != name:
            faults.append(f"{place}: two images have this id, {images[key]} and {name}. Give each its own")
        else:
            images[key] = name
    return images, faults


def _category(content: dict, wanted: str | None) -> tuple[dict, str | None]:
    """The category whose annotations are read, and why it cannot be told."""
    categories = content["categories"]
    with_points = {str(entry.get("category_id")) for entry in content["annotations"] if entry.get("keypoints")}
    chosen = [category for category in categories if str(category.get("id")) in with_points]
    named = ", ".join(str(category.get("name")) for category in chosen or categories)
    if wanted is not None:
        chosen = [category for category in categories if category.get("name") == wanted]
        if not chosen:
            return {}, f"it has no category {wanted!r}, only {named}"
    if len(chosen) > 1:
        return {}, f"key points are in several categories ({named}): choose one with --category"
    if not chosen:
        return {}, "none of its annotations has key points of a category that it names. Export COCO key points"
    points = chosen[0].get("keypoints") or []
    if not isinstance(points, list):
        return {}, f"category {named}: its keypoints are not a list of names"
    return chosen[0], None


def _left_out(annotation: dict, category: dict, images: dict) -> str | None:
    """Why an annotation is no face that is read, or None."""
    if annotation.get("category_id") != category.get("id"):
        return "category"
    if annotation.get("iscrowd"):
        return "crowd"
    if not annotation.get("keypoints") or annotation.get("num_keypoints") == 0:
        return "none"
    key = annotation.get("image_id")
    return None if isinstance(key, int | str) and key in images else "image"


def _box(annotation: dict) -> tuple[float, float, float] | str:
    """Centre and side of the square box, NaN where there is none, or what is wrong with it."""
    center, scale = annotation.get("center"), annotation.get("scale")
    if isinstance(center, list) and len(center) == 2 and all(map(is_number, center)) and is_number(scale) and scale > 0:
        return *center, round(200 * scale, 9)
    box = annotation.get("bbox")
    if not box or (isinstance(box, list) and not any(box)):
        return NO_BOX
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return "its bbox is not x, y, width, height"
    x, y, width, height = box
    return (x + width / 2, y + height / 2, max(width, height)) if max(width, height) > 0 else NO_BOX


def _repeated_ids(rows: list[tuple]) -> list[str]:
    """Annotations whose id another one has that is not the same."""
    first: dict = {}
    faults = []
    for image, place, points, _, key in rows:
        if key is not None and first.setdefault(str(key), (image, points)) != (image, points):
            faults.append(f"{place}: another annotation has the same id. Give each its own")
    return faults
