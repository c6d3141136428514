"""Own annotations are imported whole by one command, or refused with all their faults."""

import csv
import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Project, draw_toy
from PIL import Image
from test_symmetry import FILES, needs_samples, real

from stages import fetch, import_dataset, obtain
from stages.config.dataset import DATASET
from stages.config.experiment import load_dataset
from stages.config.pipeline import read_pipeline
from stages.config.schemes import load_scheme
from stages.data.faces import read_faces
from stages.importing import install, pipeline_text, sheet
from stages.importing.arguments import parse
from stages.importing.mirror import find_pairs, named_pairs
from stages.importing.scheme import groups, propose
from stages.system.errors import InputError

NAMES = ["left_eye", "right_eye", "mouth"]
SHARED = ROOT / "../shared/data"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with params/ and drawn faces in given/: images/ and their landmarks as ROWS."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "params", "params")
    monkeypatch.setattr(sheet, "TILE", 96)  # it takes most of the time of an import
    draw_toy(Path("given"), 24, 6)
    return tmp_path


def rows(split="train"):
    """Image and landmarks (3, 2) of each drawn face."""
    with open(f"given/{split}.csv") as file:
        return [(row["image_name"], [[float(row[f"original_{k}_{axis}"]) for axis in "xy"] for k in range(3)])
                for row in csv.DictReader(file)]  # fmt: skip


def coco(split="train", names=NAMES, path=None):
    """A COCO file of the drawn faces as a dictionary that can be changed; `save` writes it."""
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "face", "keypoints": names}]}
    for i, (image, points) in enumerate(rows(split)):
        low, high = np.min(points, 0), np.max(points, 0)
        content["images"].append({"id": i, "file_name": image, "width": 120, "height": 120})
        content["annotations"].append({
            "id": 100 + i, "image_id": i, "category_id": 1, "iscrowd": 0, "num_keypoints": 3,
            "keypoints": [value for x, y in points for value in (x, y, 2)],
            "bbox": [*(low - 4).tolist(), *(high - low + 8).tolist()],
        })  # fmt: skip
    return content


def save(content, name="given/a.json"):
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content))
    return name


def run(*words, name="mine"):
    import_dataset.main(parse("", [*map(str, words), "--name", name, "--yes"]))


def imported(*words, capsys=None):
    """Import, obtain and fetch; the face table."""
    run(*words)
    obtain.main("mine")
    fetch.main("mine")
    return read_faces(Path("data/raw/mine/faces.parquet"))


def refused(*words):
    """The message of an import that is refused; nothing may have changed."""
    before = snapshot()
    with pytest.raises(InputError) as error:
        run(*words)
    assert snapshot() == before
    return str(error.value)


def snapshot():
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.parts[0] != "given"}


IMAGES = ("--images", "given/images")


def test_a_coco_set_is_imported_to_the_last_bit_and_fetched(place, capsys):
    comments = [line for line in Path("params/pipeline.yaml").read_text().splitlines() if "#" in line]
    given = dict(rows()) | dict(rows("test"))
    faces = imported("--coco", save(coco()), "--test-coco", save(coco("test"), "given/b.json"), *IMAGES)
    assert [faces.split.count(split) for split in ("train", "test")] == [24, 6]
    assert all(np.array_equal(faces.landmarks[i], given[image]) for i, image in enumerate(faces.image))
    assert faces.visible.all()

    scheme, dataset, pipeline = load_scheme("mine"), load_dataset("mine", *DATASET), read_pipeline()
    assert (scheme.flip_pairs, scheme.groups) == ([[0, 1]], {"eyes": [0, 1], "mouth": [2]})
    assert (scheme.inter_pupil, dataset.landmarks.normaliser) == ([[0], [1]], "inter_pupil")
    assert pipeline.datasets["mine"].source == "data/mine"
    made = pipeline.experiments["mine-quick"]
    assert (made.dataset, made.recipe, made.init, made.changes) == ("mine", "quick", "random", {})
    assert [line for line in Path("params/pipeline.yaml").read_text().splitlines() if "#" in line] == comments
    assert dataset.source.model_fields_set == {"form", "csv"}
    assert "#   0 left_eye\n" in Path("params/schemes/mine.yaml").read_text()
    with Image.open("data/mine-contact-sheet.jpg") as picture:
        assert picture.size == (3 * 96, 2 * 96)
    printed = capsys.readouterr().out
    assert "read: 30 faces of 3 landmarks in 30 images; 24 train and 6 test" in printed
    assert "0 ↔ 1  left_eye ↔ right_eye" in printed
    assert "then: dvc repro (or make repro), which trains and measures mine-quick" in printed


def test_the_images_are_links_to_files_and_a_copy_outlives_its_original(place):
    file = save(coco())
    run("--coco", file, *IMAGES)
    assert Path("data/mine/images/train0.png").resolve() == place / "given/images/train0.png"
    run("--coco", file, *IMAGES, "--copy", "--replace")
    assert not Path("data/mine/images/train0.png").is_symlink()
    assert Path("data/mine/images/train0.png").read_bytes() == Path("given/images/train0.png").read_bytes()


def test_v_says_what_is_hidden_and_what_is_not_annotated(place, capsys):
    content = coco()
    one, other = content["annotations"][0]["keypoints"], content["annotations"][1]["keypoints"]
    one[6:9], other[6:9] = [0, 0, 0], [*other[6:8], 1]
    faces = imported("--coco", save(content), *IMAGES)
    rows_of = {image: i for i, image in enumerate(faces.image)}
    assert np.isnan(faces.landmarks[rows_of["train0.png"], 2]).all()
    assert faces.annotated.sum() == 71
    assert not faces.visible[rows_of["train1.png"], 2]
    assert (faces.annotated & ~faces.visible).sum() == 1
    assert "of 72 landmarks 1 hidden, 1 not annotated" in capsys.readouterr().out


def test_a_file_that_knows_no_v_but_1_has_visible_landmarks(place, capsys):
    content = coco()
    for annotation in content["annotations"]:
        annotation["keypoints"][2::3] = [1, 1, 1]
    assert imported("--coco", save(content), *IMAGES).visible.all()
    assert "no landmark has v = 2" in capsys.readouterr().out


def test_what_is_no_face_is_counted_and_left_out(place, capsys):
    content = coco()
    annotations = content["annotations"]
    annotations[0]["iscrowd"] = 1
    annotations[1]["num_keypoints"] = 0
    del annotations[2]["keypoints"]
    annotations[3]["image_id"] = 999
    annotations[4]["keypoints"][2::3] = [0, 0, 0]
    annotations.append({**annotations[5], "id": 7})
    annotations.append({"id": 8, "image_id": 6, "category_id": 2, "bbox": [0, 0, 9, 9]})
    content["categories"].append({"id": 2, "name": "person"})
    run("--coco", save(content), *IMAGES)
    printed = capsys.readouterr().out
    assert "read: 19 faces" in printed
    for line in (
        "annotations of crowds (iscrowd): 1",
        "annotations without key points: 2",
        "annotations without an image: 1",
        "annotations of other categories: 1",
        "faces without an annotated landmark: 1",
        "faces that repeat another one (same image and landmarks): 1",
        "images without a face: 4",
        "coordinates of landmarks with v = 0 (not annotated), not used: 3",
    ):
        assert line in printed


def test_all_faults_are_listed_at_once_with_annotation_and_remedy(place):
    content = coco()
    a, images = content["annotations"], content["images"]
    a[0]["keypoints"] = a[0]["keypoints"][:6]
    a[1]["keypoints"][2] = 3
    a[2]["keypoints"] = "10,20,2"
    a[3]["keypoints"][0] = float("nan")
    a[4]["bbox"] = [1, 2]
    a[5]["id"] = a[6]["id"]
    images[7]["file_name"] = "absent.png"
    images[8].update(width=240, height=240)
    images[10]["id"] = 9
    a[11]["keypoints"][:2] = [500.0, 30.0]
    a[12]["keypoints"] = [*([400.0, 400.0, 2] * 2), 420.0, 430.0, 2]
    del images[13]["file_name"]
    message = refused("--coco", save(content), *IMAGES)
    for fault in (
        "annotation 100: it has 2 key points, and category face names 3",
        "annotation 101: v is 3; it is 2 (visible), 1 (hidden) or 0 (not annotated)",
        "annotation 102: its key points are not x, y, v, three numbers for each",
        "annotation 103: its key points are not x, y, v",
        "annotation 104: its bbox is not x, y, width, height",
        "annotation 106: another annotation has the same id",
        "annotation 107: there is no image 'absent.png' in given/images (which holds 30 images)",
        "given/images/train8.png: it is 120×120 px, and was annotated as 240×240. Give the images that were annotated",
        "image 9: two images have this id, train9.png and train10.png",
        "annotation 111: landmark 0 is at (500, 30), far outside of its image train11.png, which is 120×120 px",
        "annotation 112: 100% of its landmarks are outside of its image train12.png, which is 120×120 px",
        "image 13: it has no file_name",
    ):
        assert fault in message
    assert message.endswith("Nothing was written. Fix these, then run the same command again.")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"images": [{"id": 1, "file_', "it ends too early (line 1): get or export the file again"),
        ("", "it is no JSON (it is empty)"),
        ("image_name,scale,center_w\n", "it is a CSV file of HRNet's form, which needs no import"),
        ("not json at all", "it is no JSON (it begins with 'not json at all')"),
        ('{"images": {}, "annotations": []}', "it has no list images, categories, which COCO files have"),
        ('{"images": [3], "annotations": [], "categories": []}', "images, entry 1: it is int, not an object"),
        ("[]", "it is a list, as Label Studio's own JSON is"),
        ('{"_via_img_metadata": {}}', "it is a project of VGG Image Annotator: give it with --via"),
        ('{"images": [], "annotations": [], "categories": []}', "none of its annotations has key points"),
        ("{" * 9, "it is not valid JSON"),
    ],
)
def test_a_file_that_is_not_coco_is_refused_with_what_it_is(place, text, fault):
    assert f"given/a.json: {fault}" in refused("--coco", save(text), *IMAGES)


def test_missing_files_and_folders_are_named(place):
    assert "given/none.json: there is no such file" in refused("--coco", "given/none.json", *IMAGES)
    assert "there is no folder given/none" in refused("--coco", save(coco()), "--images", "given/none")


def test_names_of_another_system_or_folder_find_their_images(place, capsys):
    content = coco()
    odd = unicodedata.normalize("NFD", "müller, eins.png")
    Path("given/images/sub").mkdir()
    for old, new in (("train0.png", odd), ("train1.png", "sub/train1.png")):
        Path("given/images", old).rename(Path("given/images", new))
    for image, name in zip(
        content["images"],
        [unicodedata.normalize("NFC", odd), "train1.png", "C:\\work\\train2.png", "/home/ann/images/train3.png",
         "images/train4.png", "../upload/train5.png", "./train6.png", "train7%2Epng"],
        strict=False,
    ):  # fmt: skip
        image["file_name"] = name
    faces = imported("--coco", save(content), *IMAGES)
    assert {odd, "sub/train1.png", *(f"train{i}.png" for i in range(2, 24))} == set(faces.image)
    assert "images found by the end of their names: 8" in capsys.readouterr().out


def test_an_image_that_is_a_fifo_or_starts_a_program_is_refused(place):
    content = coco()
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "fifo.png", "eps.png"
    Path("given/images/sub").mkdir()
    os.mkfifo("given/images/sub/fifo.png")  # which the bare name finds
    Path("given/images/eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n")
    message = refused("--coco", save(content), *IMAGES)
    assert "given/images/sub/fifo.png: cannot be read (it is no regular file)" in message
    assert "given/images/eps.png: it is a file of format EPS" in message


def test_a_name_that_may_be_two_images_is_refused_and_so_are_two_names_of_one_image(place):
    content = coco()
    for folder in ("one", "two"):
        Path("given/images", folder).mkdir()
        shutil.copy("given/images/train0.png", f"given/images/{folder}/same.png")
    content["images"][0]["file_name"] = "same.png"
    content["images"][1]["file_name"], content["images"][2]["file_name"] = "p1/train5.png", "p2/train5.png"
    message = refused("--coco", save(content), *IMAGES)
    assert "image 'same.png' may be one/same.png or two/same.png: write the folder, too" in message
    assert (
        "given/images/train5.png: images of different names would all be this one: p1/train5.png, p2/train5.png"
        in message
    )


def test_the_boxes_of_persons_are_not_used_and_those_of_faces_are(place, capsys):
    content = coco()
    faces = imported("--coco", save(content), *IMAGES)
    widest = {image["file_name"]: max(a["bbox"][2:]) for image, a in zip(content["images"], content["annotations"],
                                                                         strict=True)}  # fmt: skip
    assert faces.side == pytest.approx([widest[image] for image in faces.image], abs=1e-9)
    assert "face boxes: of the annotations, 1." in capsys.readouterr().out
    for annotation in content["annotations"]:
        annotation["bbox"] = [10, 5, 60, 110]
    tight = imported("--coco", save(content), *IMAGES, "--replace")
    assert (tight.side < faces.side).all()
    assert "not plausible boxes of faces" in capsys.readouterr().out
    forced = imported("--coco", save(content), *IMAGES, "--replace", "--boxes", "annotation")
    assert (forced.side == 110).all()


def test_faces_without_a_box_among_others_get_one_of_the_same_kind(place, capsys):
    content = coco()
    del content["annotations"][0]["bbox"]
    faces = imported("--coco", save(content), *IMAGES)
    assert faces.side[faces.image.index("train0.png")] == pytest.approx(np.median(faces.side), rel=0.25)
    assert "1 that are absent or not plausible are the landmarks', enlarged as much" in capsys.readouterr().out
    message = refused("--coco", "given/a.json", *IMAGES, "--replace", "--boxes", "annotation")
    assert "annotation 100: it has no box, and --boxes annotation needs one" in message


def test_a_set_is_split_by_share_by_person_and_by_folder(place, capsys):
    file = save(coco())
    faces = imported("--coco", file, *IMAGES, "--test-share", "0.4", "--group", r"^train(\d)")
    assert {"train", "test"} == set(faces.split)
    sides = {group: {s for s, g in zip(faces.split, faces.extra["group"], strict=True) if g == group}
             for group in faces.extra["group"]}  # fmt: skip
    assert all(len(side) == 1 for side in sides.values())
    assert "persons or videos by --group: 9" in capsys.readouterr().out or len(sides) == 10
    assert "--group (x(.)) finds nothing" in refused("--coco", file, *IMAGES, "--replace", "--group", "x(.)")

    for i in range(24):
        folder = Path("given/images", "Train" if i < 16 else "valid" if i < 20 else "test")
        folder.mkdir(exist_ok=True)
        Path(f"given/images/train{i}.png").rename(folder / f"train{i}.png")
    faces = imported("--coco", file, *IMAGES, "--split-by-folder", "--replace")
    assert [faces.split.count(split) for split in ("train", "test")] == [20, 4]
    Path("given/images/test/train20.png").rename("given/images/train20.png")
    message = refused("--coco", file, *IMAGES, "--split-by-folder", "--replace")
    assert "no folder of its image train20.png is named train, val or test" in message


def test_photographs_annotated_as_a_viewer_turns_them_are_turned(place):
    content = coco()
    for image in content["images"]:
        path = Path("given/images", image["file_name"])
        with Image.open(path) as picture:
            wide = picture.resize((160, 120))
        exif = Image.Exif()
        exif[0x0112] = 6
        image["file_name"] = f"{path.stem}.jpg"
        wide.save(path.with_suffix(".jpg"), exif=exif)
        image.update(width=120, height=160)
    run("--coco", save(content), *IMAGES)
    assert load_dataset("mine", "source").source.orientation == "exif"


def test_via_outlines_and_points_are_the_same_faces_as_coco_s(place):
    reference = imported("--coco", save(coco()), *IMAGES, "--boxes", "landmarks")

    def via(regions, **settings):
        entries = {f"{image}1": {"filename": image, "size": 1, "regions": regions(points), "file_attributes": {}}
                   for image, points in rows()}  # fmt: skip
        return save({"_via_img_metadata": entries} if settings.get("project", True) else entries, "given/via.json")

    def outline(points):
        x, y = map(list, zip(*points, strict=True))
        return [{"shape_attributes": {"name": "polyline", "all_points_x": x, "all_points_y": y},
                 "region_attributes": {}}]  # fmt: skip

    def single(points):
        named = [{"shape_attributes": {"name": "point", "cx": x, "cy": y}, "region_attributes": {"landmark": name}}
                 for name, (x, y) in zip(NAMES, points, strict=True)]  # fmt: skip
        return dict(enumerate([named[0], *named[:0:-1]])) if points[0][0] < 45 else dict(enumerate(named))

    for file in (via(outline), via(outline, project=False), via(single)):
        faces = imported("--via", file, *IMAGES, "--replace")
        assert faces.image == reference.image
        assert load_scheme("mine").count == 3
        order = [0, 1, 2]
        if "left_eye" in (text := Path("params/schemes/mine.yaml").read_text()):
            order = sorted(range(3), key=lambda k: text.index(f" {NAMES[k]}\n"))
        assert np.array_equal(faces.landmarks, reference.landmarks[:, order])
        assert load_scheme("mine").flip_pairs == [sorted(order.index(k) for k in (0, 1))]


def test_via_says_what_is_hidden_and_a_rectangle_is_the_face_s_box(place):
    entries = {}
    for image, points in rows():
        regions = [{"shape_attributes": {"name": "point", "cx": x, "cy": y},
                    "region_attributes": {"name": name, "visible": "1" if name == "mouth" else "2"}}
                   for name, (x, y) in zip(NAMES, points, strict=True)]  # fmt: skip
        low, high = np.min(points, 0), np.max(points, 0)
        regions.append({"shape_attributes": {"name": "rect", "x": low[0] - 2, "y": low[1] - 2,
                                             "width": high[0] - low[0] + 4, "height": 9}})  # fmt: skip
        entries[image] = {"filename": image, "regions": regions}
    del entries["train0.png"]["regions"][2]
    faces = imported("--via", save(entries), *IMAGES, "--boxes", "annotation")
    i = faces.image.index("train0.png")
    assert faces.annotated[i].tolist() == [True, True, False]
    assert not faces.visible[:, 2].any()
    assert faces.visible[:, :2].all()
    x = np.delete(faces.landmarks[..., 0], i, 0)
    assert np.delete(faces.side, i) == pytest.approx(np.ptp(x, 1) + 4)


def test_a_folder_of_pts_files_is_imported_with_its_subfolders(place, capsys):
    Path("given/pts/one").mkdir(parents=True)
    for image, points in rows():
        shutil.copy(f"given/images/{image}", "given/pts/one")
        lines = "\n".join(f"{x!r} {y!r}" for x, y in points)
        Path("given/pts/one", image).with_suffix(".pts").write_text(f"version: 1\nn_points: 3\n{{\n{lines}\n}}\n")
    faces = imported("--pts", "given/pts", "--origin", "1")
    given = dict(rows())
    assert all(np.array_equal(faces.landmarks[i], given[Path(name).name]) for i, name in enumerate(faces.image))
    assert load_dataset("mine", "source").source.origin == 1
    run("--pts", "given/pts", "--replace")
    assert "if these .pts files count from 1, as most do, give --origin 1" in capsys.readouterr().out
    assert load_dataset("mine", "source").source.origin == 0
    Path("given/pts/one/train3.pts").write_text("version: 1\nn_points: 1\n{\n1 2\n}\n")
    Path("given/pts/one/train4.png").unlink()
    message = refused("--pts", "given/pts", "--replace")
    assert "train3.pts: n_points is 1 and 1 points follow, where 3 are needed" in message
    assert "train4.pts: there is no image of the same name next to it" in message


def test_nothing_is_overwritten_unasked_and_a_person_s_own_files_never(place):
    file = save(coco())
    run("--coco", file, *IMAGES)
    message = refused("--coco", file, *IMAGES)
    for path in ("params/datasets/mine.yaml", "params/schemes/mine.yaml", "data/mine"):
        assert f"{path} is there already" in message
    assert "params/pipeline.yaml: it lists mine already" in message
    before = snapshot()
    run("--coco", file, *IMAGES, "--replace")
    assert snapshot() == before
    Path("data/mine/notes.txt").write_text("mine")
    assert "data/mine is there and holds notes.txt" in refused("--coco", file, *IMAGES, "--replace")
    with pytest.raises(InputError, match=r"params/datasets/lfpw.yaml is there already"):
        run("--coco", file, *IMAGES, name="lfpw")


def test_images_that_are_in_the_dataset_s_folder_stay_there(place):
    Path("data").mkdir()
    Path("given").rename("data/mine")
    Path("given").symlink_to("data/mine")
    file = save(coco(), "data/mine/a.json")
    Path("data/mine/train.csv").unlink()
    Path("data/mine/test.csv").unlink()
    obtained = imported("--coco", file, "--images", "data/mine/images")
    assert len(obtained) == 24
    assert not Path("data/mine/images/train0.png").is_symlink()
    assert Path(file).is_file()


def test_a_failure_while_writing_leaves_nothing(place, monkeypatch):
    file = save(coco())

    def fail(*_):
        raise InputError("the disk is full")

    for part in ("record", "require_readable"):
        with monkeypatch.context() as patch:
            patch.setattr(import_dataset, part, fail)
            assert refused("--coco", file, *IMAGES) == "the disk is full"
    with monkeypatch.context() as patch:
        patch.setattr(install, "write_csv", fail)
        assert refused("--coco", file, *IMAGES) == "the disk is full"
    assert not Path("data/mine").exists()


def test_what_is_not_approved_is_not_written(place, monkeypatch):
    file = save(coco())
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: "")
    before = snapshot()
    with pytest.raises(InputError, match="not approved, so nothing was written"):
        import_dataset.main(parse("", ["--coco", file, *IMAGES, "--name", "mine"]))
    assert snapshot() == before


def test_a_scheme_that_is_there_is_checked_against_the_landmarks(place):
    file = save(coco())
    message = refused("--coco", file, *IMAGES, "--scheme", "300w")
    assert "scheme 300w has 68 landmarks, and the annotations have 3" in message
    Path("params/schemes/own.yaml").write_text("{count: 3, flip_pairs: [[0, 2]], groups: {}}")
    message = refused("--coco", file, *IMAGES, "--scheme", "own")
    assert "params/schemes/own.yaml: flip_pairs does not fit the landmarks" in message
    Path("params/schemes/own.yaml").write_text("{count: 3, flip_pairs: [[0, 1]], groups: {}, inter_ocular: [0, 1]}")
    run("--coco", file, *IMAGES, "--scheme", "own")
    assert load_dataset("mine", "landmarks").landmarks.model_dump() == {"scheme": "own", "normaliser": "inter_ocular"}
    assert not Path("params/schemes/mine.yaml").exists()
    content = coco()
    for annotation in content["annotations"][:8]:
        annotation["keypoints"][:3] = [0, 0, 2] if annotation["id"] == 103 else [0, 0, 0]
    message = refused("--coco", save(content), *IMAGES, "--replace", "--scheme", "own", "--normaliser", "inter_ocular")
    assert "annotation 103: landmark 0 is at (0, 0), outside image and face: if the files mark hidden" in message
    assert "write v = 0 or 1 (COCO), or give --hidden negative (.pts)" in message
    assert "landmarks [0] are not annotated, so its inter_ocular distance cannot measure an error" in message
    assert "give --normaliser box_side" in message
    run("--coco", save({**content, "annotations": content["annotations"][4:]}), *IMAGES, "--replace", "--scheme", "own")
    assert load_dataset("mine", "landmarks").landmarks.normaliser == "box_side"


def test_shares_of_the_image_s_size_are_refused(place):
    content = coco()
    for annotation in content["annotations"]:
        annotation["keypoints"] = [v if i % 3 == 2 else v / 120 for i, v in enumerate(annotation["keypoints"])]
    assert "they are shares of the image's size, and px are needed" in refused("--coco", save(content), *IMAGES)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("datasets: {}\nexperiments: {}\n", "  mine: {source: data/mine}"),
        ("datasets:\n    a: {source: b}\n\n# end\nexperiments: # c\n    e: {dataset: a, recipe: r, init: random}\n",
         "    mine: {source: data/mine}"),
    ],
)  # fmt: skip
def test_lines_are_added_to_the_pipeline_in_the_file_s_own_form(text, line):
    added = pipeline_text.with_dataset(text, "mine")
    assert line in added.splitlines()
    assert pipeline_text.with_dataset(added, "mine") == added
    assert [comment in added for comment in ("# end", "# c")] == [comment in text for comment in ("# end", "# c")]


def test_a_pipeline_that_cannot_be_edited_safely_is_left_with_what_to_add():
    with pytest.raises(InputError, match=r"mine: \{source: data/mine\}"):
        pipeline_text.with_dataset("datasets: {a: {source: b}}\nexperiments: {}\n", "mine")


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["left_eye", "nose", "right_eye"], [[0, 2]]),
        (["l_eye", "r_eye", "L-brow", "R-brow"], [[0, 1], [2, 3]]),
        (["eye_left", "eye_right"], [[0, 1]]),
        (["LeftEye1", "RightEye1", "LeftEye2", "RightEye2"], [[0, 1], [2, 3]]),
        (["left eye", "right eye", "eyeL", "eyeR"], [[0, 1], [2, 3]]),
        (["lefteye", "righteye", "bridge", "lip_l"], [[0, 1]]),
        (["1", "2"], []),
    ],
)
def test_names_that_differ_in_left_and_right_are_pairs(names, pairs):
    assert named_pairs(names) == pairs


@needs_samples
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("n", [30, None])
def test_the_mean_face_s_symmetry_finds_the_pairs_of_every_scheme(name, n):
    shapes, pairs = real(name, n)
    found, told, _ = find_pairs(shapes, [])
    assert found == sorted(sorted(pair) for pair in pairs)
    assert float(told.split("residual ")[1]) < 0.06


@needs_samples
def test_names_that_number_both_eyes_one_way_round_are_overruled_by_the_mean_face():
    shapes, pairs = real("300w")
    names = [f"p{k}" for k in range(68)]
    for i in range(6):
        names[36 + i], names[42 + i] = f"right_eye_{i}", f"left_eye_{i}"
    found, told, _ = find_pairs(shapes, names)
    assert found == sorted(sorted(pair) for pair in pairs)
    assert "the names pair 36 (right_eye_0) with 42 (left_eye_0), and the mirror lays it on 45 (left_eye_3)" in told
    proposal = propose(shapes, names)
    assert (proposal.scheme.inter_ocular, proposal.normaliser) == ([36, 45], "box_side") or proposal.scheme.groups


@needs_samples
def test_eye_corners_are_found_from_names_of_all_parts():
    shapes, _ = real("300w", 200)
    parts = load_scheme("300w").groups
    part = {k: group.rstrip("s") for group, members in parts.items() for k in members}
    order = load_scheme("300w").flip_order()
    mean = np.nanmean(shapes, 0)
    names = [part[k] + f"_{min(k, order[k])}" + ("" if order[k] == k else "_right" if mean[k, 0] < 0 else "_left")
             for k in range(68)]  # fmt: skip
    proposal = propose(shapes, names)
    assert (proposal.scheme.inter_ocular, proposal.normaliser) == ([36, 45], "inter_ocular")
    assert {name: sorted(members) for name, members in proposal.scheme.groups.items()} == parts


def test_groups_need_names_that_say_them():
    assert groups(["a", "b"], 2) == {"all": [0, 1]}
    assert groups([], 2) == {"all": [0, 1]}
    assert groups(["left eyebrow", "lefteye", "Chin", "x"], 4) == {"brows": [0], "eyes": [1], "jaw": [2], "other": [3]}


@needs_samples
def test_lfpw_as_coco_gives_the_landmarks_of_its_csv_files_to_the_last_bit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "params", "params")
    with open(SHARED / "lfpw/face_landmarks_lfpw_test.csv") as file:
        table = {row["image_name"]: np.array([[float(row[f"original_{k}_{a}"]) for a in "xy"] for k in range(68)])
                 for row in csv.DictReader(file)}  # fmt: skip
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "face"}]}
    for i, (image, points) in enumerate(table.items()):
        content["images"].append({"id": i, "file_name": image})
        content["annotations"].append({"id": i, "image_id": i, "category_id": 1,
                                       "keypoints": np.insert(points, 2, 2, 1).ravel().tolist()})  # fmt: skip
    Path("a.json").write_text(json.dumps(content))
    run("--coco", "a.json", "--images", SHARED / "lfpw/images", "--scheme", "300w", "--origin", "1.8")
    obtain.main("mine")
    fetch.main("mine")
    faces = read_faces(Path("data/raw/mine/faces.parquet"))
    assert len(faces) == len(table) == 224
    assert all(np.array_equal(faces.landmarks[i], table[image]) for i, image in enumerate(faces.image))


@needs_samples
def test_the_coco_samples_are_read_with_their_boxes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "params", "params")
    file = SHARED / "samples/coco/wflw.json"
    run("--coco", file, "--test-coco", file, "--images", SHARED / "samples/wflw/images", "--scheme", "wflw")
    obtain.main("mine")
    fetch.main("mine")
    faces = read_faces(Path("data/raw/mine/faces.parquet")).of("test")
    scales = [annotation["scale"] for annotation in json.loads(file.read_text())["annotations"]]
    assert sorted(faces.side) == pytest.approx(sorted(200 * scale for scale in scales))


def test_the_template_names_every_key():
    text = (ROOT / "params/datasets/template.yaml").read_text()
    for section in DATASET.values():
        assert not [key for key in section.model_fields if f"{key}:" not in text]


def test_a_network_trained_on_an_imported_set_beats_the_mean_shape(tmp_path):
    project = Project(tmp_path)
    (tmp_path / "data/toy").rename(tmp_path / "given")
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "face", "keypoints": NAMES}]}
    for split in ("train", "test"):
        with open(tmp_path / f"given/{split}.csv") as file:
            for i, row in enumerate(csv.DictReader(file), len(content["images"])):
                points = [[float(row[f"original_{k}_{axis}"]) for axis in "xy"] for k in range(3)]
                content["images"].append({"id": i, "file_name": row["image_name"]})
                content["annotations"].append({"id": i, "image_id": i, "category_id": 1,
                                               "keypoints": [v for x, y in points for v in (x, y, 2)]})  # fmt: skip
    (tmp_path / "given/a.json").write_text(json.dumps(content))
    (tmp_path / "params/pipeline.yaml").write_text("datasets: {}\nexperiments: {}\ncross_dataset: {}\n")
    project.stage("import_dataset", "--coco", "given/a.json", "--images", "given/images", "--name", "mine")
    project.change("params/pipeline.yaml", "recipe: quick", "recipe: tiny")
    project.change("params/datasets/mine.yaml", "size: 448", "size: 112")
    project.change("params/recipes/tiny.yaml", "epochs: 4", "epochs: 40")
    project.change("params/recipes/tiny.yaml", "milestones: [3]", "milestones: [32]")
    project.make()
    test = json.loads((tmp_path / "reports/experiments/mine-quick/metrics.json").read_text())["test"]
    page = (tmp_path / "reports/pages/mine-quick.md").read_text()
    assert "Dataset mine, recipe tiny" in page
    assert test["nme"] < test["nme_mean_shape"]
    assert "worse than the mean-shape baseline" not in page
