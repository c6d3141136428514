"""COFW's own format: one MATLAB v7.3 (HDF5) file per split, which holds images and landmarks.

IsTr, IsT: cell arrays of images, grey and colour; HDF5 stores each transposed, (W, H) or (3, W, H). phisTr, phisT:
N×87, 29 x, 29 y, 29 flags (1 = occluded), transposed too. The values are used unchanged. The box is that of the
landmarks (geometry.landmark_box); the detector's boxes in bboxesTr, bboxesT are not used.
"""

from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from stages.data.faces import Faces, concatenate
from stages.sources.assemble import split_faces

_VARIABLES = {"train": ("IsTr", "phisTr"), "test": ("IsT", "phisT")}


def files(form, root: Path, splits: tuple[str, ...]) -> list[str]:
    """The .mat files, relative to the root; `form` is config.dataset.MatForm."""
    return [getattr(form, split) for split in splits if getattr(form, split)]


def folders(form, splits: tuple[str, ...]) -> list[str]:
    return []


def read(form, root: Path, out: Path, count: int, splits: tuple[str, ...]) -> tuple[Faces, list[str]]:
    """The faces of both files, their images written to out/images as PNG, and the faults."""
    parts, faults = [], []
    for split in splits:
        if name := getattr(form, split):
            part, file_faults = _read_file(root / name, split, out / "images", count)
            parts.append(part)
            faults += file_faults
    return concatenate(parts), faults


def _read_file(path: Path, split: str, folder: Path, count: int) -> tuple[Faces, list[str]]:
    import h5py  # only this format needs it

    none = split_faces(split, [], np.empty((0, count, 2)))
    images_name, points_name = _VARIABLES[split]
    if not h5py.is_hdf5(path):
        return none, [f"{path}: it is not a MATLAB v7.3 file. In MATLAB: save(…, '-v7.3')"]
    with h5py.File(path) as file:
        missing = [name for name in (images_name, points_name) if not isinstance(file.get(name), h5py.Dataset)]
        if missing:
            return none, [f"{path}: variable {name} is missing (there is {', '.join(file)})" for name in missing]
        cells, points = file[images_name][()].ravel(), file[points_name][()]
        if points.ndim != 2 or points.shape != (3 * count, len(cells)):
            shape = "×".join(map(str, points.shape[::-1]))
            return none, [f"{path}: {points_name} is {shape}, and {len(cells)} images of {count} landmarks need "
                          f"{len(cells)}×{3 * count}"]  # fmt: skip
        if h5py.check_ref_dtype(cells.dtype) is not h5py.Reference:
            return none, [f"{path}: {images_name} is not a cell array of images"]
        (folder / split).mkdir(parents=True, exist_ok=True)
        faults, kept = [], []
        for i, cell in enumerate(tqdm(cells, f"unpacking {path.name}", unit="image", disable=None)):
            fault = _write_image(file[cell], folder / split / f"{i + 1:04d}.png")
            if not fault and not np.isfinite(points[:, i]).all():
                fault = f"{points_name} has a value that is NaN or infinite"
            if fault:
                faults.append(f"{path}, face {i + 1}: {fault}")
            else:
                kept.append(i)
    x, y, occluded = points[:, kept].T.reshape(-1, 3, count).transpose(1, 0, 2)
    names = [f"{split}/{i + 1:04d}.png" for i in kept]
    return split_faces(split, names, np.stack([x, y], -1), visible=occluded == 0), faults


def _write_image(stored, path: Path) -> str | None:
    """Write one cell's image, grey or colour as stored; returns its fault if it is not an image."""
    if stored.dtype != np.uint8 or stored.ndim not in (2, 3) or (stored.ndim == 3 and stored.shape[0] != 3):
        return f"its image is {stored.dtype} of shape {stored.shape}, not bytes, grey or RGB"
    if 0 in stored.shape or "MATLAB_empty" in stored.attrs:
        return "its image has zero size"
    pixels = stored[()].T  # (H, W) or (H, W, 3)
    _, png = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    path.write_bytes(png)
    return None
