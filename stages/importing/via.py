"""VGG Image Annotator 2 (https://www.robots.ox.ac.uk/~vgg/software/via/): its project, or its exported annotations.

Two ways to annotate faces are read. A polyline or polygon with K points is a face. Point regions are the landmarks of a
face, one face an image, or one for each value of a region attribute `face`; a region attribute whose values differ
within every face names the landmarks, else the order in which they were set numbers them. A region attribute `visible`
says 2 (visible), 1 (hidden) or 0 (not annotated). A rectangle around a single face is its box.
"""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from stages.importing.annotations import NO_BOX, Annotations, is_number, nothing, read_json, tidy
from stages.sources.visibility import NOT_ANNOTATED, VISIBLE

FACE, SEEN = "face", "visible"
Point = tuple[float, float, int]  # x, y, v


def read(path: Path) -> Annotations:
    """The faces of one file."""
    try:
        content = read_json(path)
    except ValueError as error:
        return nothing(f"{path}: {error}")
    if isinstance(content, dict) and "images" in content and "annotations" in content:
        return nothing(f"{path}: it is a COCO file: give it with --coco")
    entries = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries or not all(map(_is_entry, entries.values())):
        return nothing(f"{path}: it is no project of VGG Image Annotator 2 and none of its annotation files (JSON)")

    left_out, faults, outlines, pointed, boxes = Counter(), [], [], [], {}
    for entry in entries.values():
        place = f"{path}, {entry['filename']}"
        regions = entry.get("regions") or []
        for i, region in enumerate(regions.values() if isinstance(regions, dict) else regions):
            shape, said = region.get("shape_attributes") or {}, region.get("region_attributes") or {}
            kind, where = shape.get("name"), f"{place}, region {i + 1}"
            v = str(said.get(SEEN) or VISIBLE)
            x, y = (shape.get(f"all_points_{axis}", [shape.get(f"c{axis}")]) for axis in "xy")
            if kind == "rect" and all(is_number(shape.get(key)) for key in ("x", "y", "width", "height")):
                boxes.setdefault(entry["filename"], []).append(_square(shape))
            elif kind not in ("point", "polyline", "polygon"):
                left_out[f"regions of another shape ({kind})"] += 1
            elif not (isinstance(x, list) and isinstance(y, list) and len(x) == len(y) and all(map(is_number, x + y))):
                faults.append(f"{where}: its points are not numbers x and y")
            elif v not in ("0", "1", "2"):
                faults.append(f"{where}: {SEEN} is {v!r}; it is 2 (visible), 1 (hidden) or 0 (not annotated)")
            elif kind == "point":
                pointed.append((entry["filename"], str(said.get(FACE) or ""), where, said, (x[0], y[0], int(v))))
            else:
                outlines.append((entry["filename"], where, [(a, b, int(v)) for a, b in zip(x, y, strict=True)]))
    if pointed and outlines:
        faults.append(f"{path}: it has both points and outlines: annotate all faces in one way")
    faces, names, more = _named(pointed) if pointed else (outlines, [], [])
    count = len(names) or Counter(len(points) for *_, points in faces).most_common(1)[0][0] if faces else 0
    faults += more
    faults += [f"{place}: it has {len(points)} landmarks, and most others have {count}"
               for _, place, points in faces if len(points) != count]  # fmt: skip
    faces = [face for face in faces if len(face[2]) == count]
    used = Counter(image for image, *_ in faces)
    left_out["images without a face"] += len({entry["filename"] for entry in entries.values()} - set(used))
    table = np.array([points for *_, points in faces], np.float64).reshape(len(faces), count, 3)
    single = {image: box[0] for image, box in boxes.items() if len(box) == 1 and used[image] == 1}
    left_out["rectangles that are not round a single face"] += sum(map(len, boxes.values())) - len(single)
    return tidy(
        Annotations(
            images=[image for image, *_ in faces],
            places=[place for _, place, _ in faces],
            points=table[..., :2].copy(),
            v=table[..., 2].astype(int),
            boxes=np.array([single.get(image, NO_BOX) for image, *_ in faces], np.float64).reshape(-1, 3),
            names=names,
            left_out=left_out,
            faults=faults,
        )
    )


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
        return False
    regions = entry.get("regions") or []
    regions = list(regions.values()) if isinstance(regions, dict) else regions
    return isinstance(regions, list) and all(
        isinstance(region, dict)
        and all(isinstance(region.get(f"{of}_attributes", {}), dict) for of in ("shape", "region"))
        for region in regions
    )


def _square(rect: dict) -> tuple[float, float, float]:
    side = max(rect["width"], rect["height"])
    return (rect["x"] + rect["width"] / 2, rect["y"] + rect["height"] / 2, side) if side > 0 else NO_BOX


def _named(pointed: list[tuple]) -> tuple[list[tuple[str, str, list[Point]]], list[str], list[str]]:
    """Faces of single points, the landmarks' names (none where they are numbered by their order), and the faults."""
    faces: dict[tuple[str, str], list] = defaultdict(list)
    for image, face, where, said, point in pointed:
        faces[image, face].append((where, said, point))
    keys = [key for key in pointed[0][3] if key not in (FACE, SEEN)]
    key = next((key for key in keys if all(_differ(key, members) for members in faces.values())), None)
    places = {who: members[0][0].rpartition(", region")[0] + (f", face {who[1]}" if who[1] else "")
              for who, members in faces.items()}  # fmt: skip
    if key is None:
        return [(who[0], places[who], [point for *_, point in members]) for who, members in faces.items()], [], []
    names = list(dict.fromkeys(str(said[key]) for members in faces.values() for _, said, _ in members))
    numbered = all(name.isdecimal() and len(name) < 10 for name in names)
    if numbered:
        names.sort(key=int)
    rows = []
    for who, members in faces.items():
        points = {str(said[key]): point for _, said, point in members}
        rows.append((who[0], places[who], [points.get(name, (0.0, 0.0, NOT_ANNOTATED)) for name in names]))
    return rows, [] if numbered else names, []


def _differ(key: str, members: list) -> bool:
    """Whether an attribute has a value in every region of a face, and no value twice."""
    values = [str(said.get(key) or "") for _, said, _ in members]
    return "" not in values and len(set(values)) == len(values)
