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
from stages.sources.images.reading import MAX_PIXELS

MAX_RATIO = 1100  # no compression of HDF5 stores more bytes in one
_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError)  # h5py's errors for damaged files
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
    if not h5py.is_hdf5(path):
        return none, [f"{path}: it is not a MATLAB v7.3 file. In MATLAB: save(…, '-v7.3')"]
    try:
        with h5py.File(path, "r") as file:
            return _read_variables(file, path, split, folder, count)
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno:  # of the file system, such as a full disk
            raise
        return none, [f"{path}: it is damaged ({error}). Get the file again."]


def _read_variables(file, path: Path, split: str, folder: Path, count: int) -> tuple[Faces, list[str]]:
    import h5py

    images_name, points_name = _VARIABLES[split]
    none = split_faces(split, [], np.empty((0, count, 2)))
    faults = [fault for name in (images_name, points_name) if (fault := _variable_fault(file, name))]
    if faults:
        return none, [f"{path}: {fault}" for fault in faults]
    cells, points = file[images_name], file[points_name]
    if h5py.check_ref_dtype(cells.dtype) is not h5py.Reference:
        return none, [f"{path}: {images_name} is not a cell array of images"]
    if points.dtype.kind not in "iuf":
        return none, [f"{path}: {points_name} is {points.dtype}, not numbers"]
    if points.shape != (3 * count, cells.size):
        shape = "×".join(map(str, points.shape[::-1]))
        return none, [f"{path}: {points_name} is {shape}, and {cells.size} images of {count} landmarks need "
                      f"{cells.size}×{3 * count}"]  # fmt: skip
    cells, points = cells[()].ravel(), points[()].astype(np.float64)
    (folder / split).mkdir(parents=True, exist_ok=True)
    kept = []
    for i, cell in enumerate(tqdm(cells, f"unpacking {path.name}", unit="image", disable=None)):
        image = _read_image(file, cell)
        if isinstance(image, str):
            fault = image
        elif not np.isfinite(points[:, i]).all():
            fault = f"{points_name} has a value that is NaN or infinite"
        else:
            _write_image(image, folder / split / f"{i + 1:04d}.png")
            kept.append(i)
            continue
        faults.append(f"{path}, face {i + 1}: {fault}")
    x, y, occluded = points[:, kept].T.reshape(-1, 3, count).transpose(1, 0, 2)
    names = [f"{split}/{i + 1:04d}.png" for i in kept]
    return split_faces(split, names, np.stack([x, y], -1), visible=occluded == 0), faults


def _variable_fault(file, name: str) -> str | None:
    """Why the variable cannot be used, or None. A link is not followed: it may lead to any file of the machine."""
    import h5py

    names = list(file)
    if name in names and not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return f"variable {name} is a link to elsewhere, which is not followed"
    variable = file[name] if name in names else None
    if not isinstance(variable, h5py.Dataset):
        return f"variable {name} is missing (there is {', '.join(names)})"
    return _storage_fault(variable, f"variable {name}")


def _storage_fault(dataset, what: str) -> str | None:
    """Why the data of an HDF5 dataset are not in its file, or not as many as it claims; or None."""
    if dataset.shape is None:
        return f"{what} is empty"
    if dataset.external or dataset.is_virtual:
        return f"{what} has its data in another file, which is not read"
    if dataset.size * dataset.dtype.itemsize > MAX_RATIO * dataset.id.get_storage_size():
        return f"{what} claims {'×'.join(map(str, dataset.shape))} values, and the file does not hold them"
    return None


def _read_image(file, cell) -> np.ndarray | str:
    """(H, W) or (H, W, 3) uint8, the image that a cell refers to, or its fault."""
    import h5py

    if not cell:
        return "its cell holds no image"
    try:
        stored = file[cell]
        if not isinstance(stored, h5py.Dataset):
            return "its cell holds no image"
        if "MATLAB_empty" in stored.attrs or (stored.shape is not None and 0 in stored.shape):
            return "its image has zero size"
        if stored.dtype != np.uint8 or len(stored.shape or ()) not in (2, 3) or stored.shape[:-2] not in ((), (3,)):
            return f"its image is {stored.dtype} of shape {stored.shape}, not bytes, grey or RGB"
        if fault := _storage_fault(stored, "its image"):
            return fault
        if stored.shape[-1] * stored.shape[-2] > MAX_PIXELS:
            return f"its image claims {stored.shape[-2]}×{stored.shape[-1]} px, more than a photograph has"
        return stored[()].T
    except _UNREADABLE as error:
        return f"its image cannot be read ({error}). Get the file again."


def _write_image(pixels: np.ndarray, path: Path) -> None:
    _, png = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    path.write_bytes(png)
