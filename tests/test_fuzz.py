"""Files of others, mutated at random (a fixed seed): each is read, or refused by a message; nothing else happens.

FUZZ=10000 pytest tests/test_fuzz.py takes more mutations of each kind; SEED=… takes others.
"""

import io
import json
import os
import random
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from conftest import PIPELINE, TOY_DATASET, TOY_RECIPE, TOY_SCHEME

from stages.config.dataset import CsvForm, ListsForm, MatForm
from stages.config.experiment import load_dataset, load_recipe
from stages.config.pipeline import read_pipeline
from stages.config.schemes import load_scheme
from stages.config.submission import load_submission_file
from stages.importing import coco, via
from stages.sources import csv_files, lists, mat, pts
from stages.sources.archives import unpack
from stages.sources.images.reading import damage, lacks_pixels, read_image
from stages.submissions import reading
from stages.system.errors import InputError

ROOT = Path(__file__).parents[1]
MUTATIONS, SEED = int(os.environ.get("FUZZ", "50")), int(os.environ.get("SEED", "0"))
TOKENS = """nan NaN inf Infinity -1 -0 0 1e308 1e999 0x10 1_0 2.5 "" null true [] {} [[ , : - " .. /etc/passwd é x
    &a,*a !!python/object:os.system <<:""".encode().split()
TOKENS += [b"9" * 400, b"9" * 5000, b"[" * 9000, b"\xff", b"\0", b"\n", b" "]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Up to four changes: a bit, a word more, another word, a piece less or twice, a cut, lines shuffled."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        kind, start = rng.randrange(8), rng.randrange(max(len(content), 1))
        stop = min(len(content), start + rng.randint(1, 60))
        words = list(re.finditer(rb"-?[\d.]+|\w+", content)) if kind in (2, 3) else []
        if kind == 0 and content:
            content[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[start:start] = rng.choice(TOKENS)
        elif words:
            word = rng.choice(words)
            content[word.start() : word.end()] = rng.choice(TOKENS)
        elif kind == 4:
            del content[start:stop]
        elif kind == 5:
            content[start:start] = content[start:stop]
        elif kind == 6:
            del content[start:]
        elif kind == 7:
            lines = bytes(content).split(b"\n")
            rng.shuffle(lines)
            content = bytearray(b"\n".join(lines))
    return bytes(content)


# ---- a valid file of each kind, and how it is read

CSV = b"image_name,scale,center_w,center_h,visible_0,visible_1,group,"
CSV += b"original_0_x,original_0_y,original_1_x,original_1_y\n"
ROWS = b"a.png,0.2,50,60,2,1,g,41,52,63,54\nb.png,0.2,50,60,0,1,h,,,63,54\n"
PTS = b"version: 1\nn_points: 2\n{\n1.5 2\n3 4\n}\n"
PREDICTED = b"image,x_min,y_min,x_max,y_max,x0,y0,x1,y1\na.png,1,2,3,4,1,2,3,4\nb.png,1,2,3,4,1,2,3,4\n"
FACE = {"keypoints": [1, 2, 2, 3, 4, 1], "num_keypoints": 2, "bbox": [1, 1, 5, 5], "category_id": 1}
COCO = {
    "images": [{"id": i, "file_name": f"{i}.jpg", "width": 90, "height": 90} for i in (1, 2)],
    "categories": [{"id": 1, "name": "face", "keypoints": ["left", "right"]}],
    "annotations": [{"id": i, "image_id": i, **FACE} for i in (1, 2)],
}
POINT = {"shape_attributes": {"name": "point", "cx": 1, "cy": 2}, "region_attributes": {"landmark": "0", "face": "1"}}
LINE = {"shape_attributes": {"name": "polyline", "all_points_x": [1, 2], "all_points_y": [1, 2]}}
RECT = {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}, "region_attributes": {}}
VIA = {f"{i}.jpg1": {"filename": f"{i}.jpg", "regions": [shape, RECT]} for i, shape in enumerate((POINT, LINE))}
RESULTS = [{"image_id": i, "keypoints": [1, 2, 2, 3, 4, 2], "bbox": [1, 2, 3, 4]} for i in (1, 2)]
SPIGA = [{"imgpath": f"{i}.png", "landmarks": [[1, 2], [3, 4]], "bbox": [1, 2, 3, 4]} for i in (1, 2)]
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)


def mat_file() -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        cells = [file.create_dataset(f"cell{i}", data=IMAGE.T).ref for i in range(2)]
        file.create_dataset("IsT", data=np.array([cells], dtype=object), dtype=h5py.ref_dtype)
        file["phisT"] = np.ones((6, 2))
    return content.getvalue()


def tar_file(mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode, format=tarfile.PAX_FORMAT) as file:
        for name in ("a/b.txt", "a/" + "x" * 200, "ü.txt"):
            member = tarfile.TarInfo(name)
            member.size = 3
            file.addfile(member, io.BytesIO(b"abc"))
    return content.getvalue()


def zip_file() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("a/b.txt", "a/c.txt", "ü.txt"):
            file.writestr(name, "abc" * 30)
    return content.getvalue()


def image_file(extension: str, *options: int) -> bytes:
    return cv2.imencode(extension, IMAGE, options)[1].tobytes()


def read_picture(path: Path) -> None:
    if not damage(path.read_bytes()):
        lacks_pixels(path.read_bytes())
    read_image(path, "exif")


def read_mat(path: Path) -> None:
    mat.read(MatForm(train=None, test=path.name), Path(), Path("out"), 2, ("test",))


def read_list(path: Path) -> None:
    lists.read(ListsForm(images=".", train=None, test=path.name, attributes=["p"]), Path(), None, 2, ("test",))


def read_csv(path: Path) -> None:
    csv_files.read(CsvForm(images=".", train=None, test=path.name), Path(), None, 2, ("test",))


def read_archive(path: Path) -> None:
    shutil.rmtree("unpacked", ignore_errors=True)
    unpack(path, Path("unpacked"))


def read_results(path: Path) -> None:
    Path("images.json").write_text(json.dumps(COCO))
    reading.read(path, "coco", Path("images.json"))


def read_ids(path: Path) -> None:
    Path("results.json").write_text(json.dumps(RESULTS))
    reading.read(Path("results.json"), "coco", path)


KINDS: dict[str, tuple[str, bytes, Callable[[Path], object]]] = {
    "annotations in CSV": ("a.csv", CSV + ROWS, read_csv),
    "annotations in a list": ("a.txt", b"1.5 2 30 40 1 2 30 40 0 a/b.jpg\n" * 3, read_list),
    "annotations in .pts": ("a.pts", PTS, lambda path: pts.read_pts(path, 2)),
    "annotations in .mat": ("a.mat", mat_file(), read_mat),
    "annotations in COCO": ("a.json", json.dumps(COCO).encode(), coco.read),
    "annotations in VIA": ("a.json", json.dumps(VIA).encode(), via.read),
    "predictions in CSV": ("p.csv", PREDICTED, reading.read),
    "predictions in JSON": ("p.json", json.dumps(SPIGA).encode(), reading.read),
    "predictions in COCO": ("p.json", json.dumps(RESULTS).encode(), read_results),
    "ids of predictions": ("i.json", json.dumps(COCO).encode(), read_ids),
    "a dataset": ("params/datasets/toy.yaml", TOY_DATASET.encode(), lambda path: load_dataset("toy", "about")),
    "a recipe": ("params/recipes/tiny.yaml", TOY_RECIPE.encode(), lambda path: load_recipe("tiny", "toy", "train")),
    "a scheme": ("params/schemes/three.yaml", TOY_SCHEME.encode(), lambda path: load_scheme("three")),
    "the pipeline": ("params/pipeline.yaml", PIPELINE.encode(), lambda path: read_pipeline()),
    "a submission": (
        "params/submissions/x.yaml", (ROOT / "params/submissions/dlib.yaml").read_bytes(),
        lambda path: load_submission_file("x"),
    ),
    "a tar": ("a.tar", tar_file("w"), read_archive),
    "a compressed tar": ("a.tgz", tar_file("w:gz"), read_archive),
    "a zip": ("a.zip", zip_file(), read_archive),
    "a JPEG": ("i.jpg", image_file(".jpg"), read_picture),
    "a progressive JPEG": ("i.jpg", image_file(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1), read_picture),
    "a PNG": ("i.png", image_file(".png"), read_picture),
    "a BMP": ("i.bmp", image_file(".bmp"), read_picture),
    "a TIFF": ("i.tif", image_file(".tif"), read_picture),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")  # Pillow and zipfile warn of some damages that they read
def test_a_mutated_file_is_read_or_refused_and_nothing_else(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, whole, read = KINDS[kind]
    for folder in ("datasets", "recipes", "schemes", "submissions"):
        (tmp_path / "params" / folder).mkdir(parents=True)
    Path("params/pipeline.yaml").write_text(PIPELINE)
    path, rng = Path(name), random.Random(SEED)
    path.write_bytes(whole)
    read(path)
    before = sorted(os.listdir(tmp_path.parent))
    for number in range(MUTATIONS):
        path.write_bytes(mutated(whole, rng))
        try:
            read(path)
        except InputError as error:
            str(error).encode()  # so that it can be printed
        except Exception as error:
            error.add_note(f"{kind}, mutation {number} of seed {SEED}: {path.resolve()}")
            raise
    assert sorted(os.listdir(tmp_path.parent)) == before
