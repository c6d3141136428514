"""What is wrong with a CSV file, and how to correct it."""

import codecs

import numpy as np

_INDEX = ("", "Unnamed: 0")  # what pandas calls the index that it writes unless it is told not to
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def encoding_fault(data: bytes) -> str | None:
    """Why bytes are not a text in UTF-8 (with or without Excel's byte-order mark), or None."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16. Save it as UTF-8 (Excel: Save as, CSV UTF-8)"
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"it is not a CSV file in UTF-8 ({error}). Save it as UTF-8 (Excel: Save as, CSV UTF-8)"
    if b"\0" in data.split(b"\n", 1)[0]:
        return "it is not a CSV file: its first line holds zero bytes. If it is UTF-16, save it as UTF-8"
    return None


def header_faults(header: list[str], count: int) -> list[str]:
    """What keeps a file with this header from being read as faces of `count` landmarks."""
    if not header:
        return ["it is empty"]
    for mark, plural in _SEPARATORS.items():
        if "image_name" not in header and any("image_name" in name.split(mark) for name in header):
            return [f"its values are separated by {plural} ({mark!r}). Write commas between the values and points "
                    "in the decimals (pandas: read_csv(…, sep=…, decimal=…), to_csv(…, index=False))"]  # fmt: skip
    expected = ["image_name", "scale", "center_w", "center_h", *point_columns(count)]
    points = sum(name.startswith("original_") for name in header)
    if points != 2 * count and points % 2 == 0 and {*point_columns(points // 2)} <= {*header}:
        return [f"it has {points // 2} landmarks per face, and the dataset's scheme (params/schemes) has {count}"]
    visible = [f"visible_{i}" for i in range(count)]
    if any(name in header for name in visible):
        expected += visible
    faults = [f"column {name} is missing" for name in expected if name not in header]
    index = [name for name in header if name in _INDEX]
    if index:
        faults.append("its first line has a column without a name, the index of pandas: write it with index=False")
    known = [*expected, "box_size", "group", *index]
    faults += [f"unknown column {name!r}" for name in header if name not in known]
    if len(set(header)) != len(header):
        faults.append("a column of its header is duplicated")
    return faults


def number_fault(names: list[str], fields: list[str]) -> str | None:
    """The first of the fields that is not a number, or None."""
    for name, text in zip(names, fields, strict=True):
        try:
            float(text)
        except ValueError:
            decimal = text.count(",") == 1 and number_fault([name], [text.replace(",", ".")]) is None
            return f"{name} is {text!r}, not a number" + (": write decimals with a point" if decimal else "")
    return None


def valid_rows(columns: dict[str, np.ndarray], locations: list[str], faults: list[str]) -> np.ndarray:
    """The indices of the rows that are finite and whose box has a size; the faults of the others go to `faults`."""
    finite, scale = np.isfinite(np.stack(list(columns.values()), 1)), columns["scale"]
    box_size = columns.get("box_size", 200 * scale)
    consistent = np.abs(box_size - 200 * scale) <= 0.01 * np.abs(box_size)
    v = np.stack([columns[name] for name in columns if name.startswith("visible_")] or [2 + 0 * scale], 1)
    stated = np.isin(v, (0, 1, 2))
    annotated = (v != 0).any(1)
    valid = finite.all(1) & (scale > 0) & consistent & stated.all(1) & annotated
    for i in np.flatnonzero(~valid):
        if not stated[i].all():
            wrong = np.argmin(stated[i])
            fault = f"visible_{wrong} is {v[i, wrong]:g}; it is 2 (visible), 1 (hidden) or 0 (not annotated)"
        elif not finite[i].all():
            name = list(columns)[np.argmin(finite[i])]
            fault = f"{name} is {columns[name][i]}"
            if "visible_0" in columns and name.startswith("original_"):
                fault += f", and visible_{name.split('_')[1]} does not say that it is not annotated (0)"
        elif not annotated[i]:
            fault = "none of its landmarks is annotated. Leave the row out"
        elif scale[i] <= 0:
            fault = f"scale is {scale[i]:g}, so the face's box has no size"
        else:
            fault = f"box_size is {box_size[i]:g}, and 200 × scale is {200 * scale[i]:g}"
        faults.append(f"{locations[i]}: {fault}")
    return np.flatnonzero(valid)


def grouped_rows(groups: list[str], rows: np.ndarray, locations: list[str], faults: list[str]) -> np.ndarray:
    """Those of the rows that have a group; the faults of the others go to `faults`."""
    faults += [f"{locations[i]}: group is blank" for i in rows if not groups[i].strip()]
    return np.array([i for i in rows if groups[i].strip()], int)


def point_columns(count: int) -> list[str]:
    return [f"original_{i}_{axis}" for i in range(count) for axis in "xy"]
