"""Files of predictions: their forms, which prediction is of which face, and conventions that differ."""

import json

import numpy as np
import pytest

from stages.data.faces import Faces
from stages.predictions.table import Predictions, write_predictions
from stages.submissions import conventions, reading
from stages.submissions.matching import match, match_images
from stages.submissions.submission import Submission
from stages.system.errors import InputError

K = 5
RNG = np.random.default_rng(3)
POINTS = RNG.uniform(20, 80, (3, K, 2)).round(3)
IMAGES = ["a/one.jpg", "a/two.jpg", "b/three.png"]


def faces(images, points) -> Faces:
    n = len(images)
    return Faces(
        [f"test/{image}#{i}" for i, image in enumerate(images)], ["test"] * n, list(images), np.full((n, 2), 50.0),
        np.full(n, 60.0), np.asarray(points, float), np.ones((n, K), bool), [()] * n,
    )  # fmt: skip


def submission(images, points, boxes=None) -> Submission:
    return Submission("csv", list(images), np.array(points, float), [f"row {i + 1}" for i in range(len(images))], boxes)


def csv(names, points, header="x{k},y{k}", first=0) -> str:
    columns = ",".join(header.format(k=k + first) for k in range(K))
    rows = [",".join([name, *map(str, face.ravel())]) for name, face in zip(names, points, strict=True)]
    return "\n".join([f"image_name,{columns}", *rows])


def write(form, tmp_path):
    """The three faces in one of the forms; and the options it needs."""
    path = tmp_path / f"predictions-{form}"
    if form == "csv":
        path.write_text(csv(IMAGES, POINTS))
    elif form == "csv from 1":
        path.write_text(csv(IMAGES, POINTS, first=1))
    elif form == "hrnet":
        path.write_text(csv(IMAGES, POINTS, "original_{k}_x,original_{k}_y"))
    elif form == "spiga":
        path.write_text(
            json.dumps([{"imgpath": i, "landmarks": p.tolist()} for i, p in zip(IMAGES, POINTS, strict=True)])
        )
    elif form == "coco":
        flat = [np.concatenate([face, np.ones((K, 1))], 1).ravel().tolist() for face in POINTS]
        path.write_text(json.dumps([{"image_id": i + 7, "keypoints": p, "score": 1} for i, p in enumerate(flat)]))
        names = [{"id": i + 7, "file_name": image} for i, image in enumerate(IMAGES)]
        (tmp_path / "images.json").write_text(json.dumps({"images": names}))
        return path, {"coco_images": tmp_path / "images.json"}
    elif form == "pts":
        for image, face in zip(IMAGES, POINTS, strict=True):
            file = (path / image).with_suffix(".pts")
            file.parent.mkdir(parents=True, exist_ok=True)
            body = "\n".join(f"{x} {y}" for x, y in face)
            file.write_text(f"version: 1\nn_points: {K}\n{{\n{body}\n}}\n")
    else:
        write_predictions(path, Predictions(faces(IMAGES, POINTS), POINTS, np.ones((3, K))))
    return path, {}


@pytest.mark.parametrize("form", ["csv", "csv from 1", "hrnet", "spiga", "coco", "pts", "parquet"])
def test_every_form_is_recognised_and_gives_the_same_points(form, tmp_path):
    path, options = write(form, tmp_path)
    read = reading.read(path, **options)
    matching = match(read, faces(IMAGES, POINTS), "the file")
    np.testing.assert_array_equal(matching.predicted(read), POINTS)
    assert not matching.elsewhere
    assert not matching.beside


def test_a_byte_order_mark_and_spaces_do_not_matter(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("\ufeff" + csv(IMAGES, POINTS).replace(",", ", "))
    np.testing.assert_array_equal(reading.read(path).points, POINTS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("image_name;x0;y0\na;1;2", "separated by commas"),
        ("image_name,x0,y0,x2,y2\na,1,2,3,4", "columns x0, y0"),
        ("x0,y0\n1,2", "column image_name is missing"),
        ("image_name,x0,y0\na,1,left", "row 1: y0 is 'left', not a number"),
        ("image_name,x0,y0,x1,y1\na,1,2,3,nan", r"row 1 \(a\): landmark 1 is at \(3, nan\)"),
        ("image_name,x0,y0,x1,y1\na,1,2,3,4\nb,1,2", r"row 2 \(b\): landmark 1 is at \(nan, nan\)"),
        ("image_name,x0,y0\na,1,inf", "landmark 0 is at"),
        ('[{"imgpath": "a", "landmarks": [[1, 2], [3', "not valid JSON.*cut off"),
        ('[{"imgpath": "a", "landmarks": [[1, 2]]}, {"imgpath": "b", "landmarks": [[1, 2], [3, 4]]}]', "entry 1: 2"),
        ('[{"imgpath": "a", "points": [[1, 2]]}]', "landmarks is missing"),
        ('[{"imgpath": "a", "landmarks": "none"}]', "not a list of points"),
        ('{"imgpath": "a"}', "a list of faces is expected"),
        ('[{"image_id": 1, "keypoints": [1, 2, 1]}]', "--coco-images"),
        ("PAR1 and no more", "no readable parquet"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_what_is_wrong(content, said, tmp_path):
    path = tmp_path / "p"
    path.write_text(content)
    with pytest.raises(InputError, match=f"(?s){said}") as error:
        reading.read(path)
    assert str(path) in str(error.value)


def test_a_face_that_is_nan_throughout_has_no_prediction(tmp_path):
    points = POINTS.copy()
    points[1] = np.nan
    (tmp_path / "p.csv").write_text(csv(IMAGES, points))
    assert np.isnan(reading.read(tmp_path / "p.csv").points[1]).all()


def test_images_are_matched_by_path_then_by_name_where_that_is_one_image():
    known = ["helen/1.jpg", "lfpw/1.jpg", "ibug/9.png"]
    given = ["images/test/9.jpg", "lfpw/1.png", "1.jpg", "./helen/1.jpg"]
    images, by_name = match_images(given, known)
    assert images == {"images/test/9.jpg": "ibug/9.png", "lfpw/1.png": "lfpw/1.jpg", "./helen/1.jpg": "helen/1.jpg"}
    assert by_name == 1


def test_an_image_of_another_folder_is_not_taken_for_one_that_is_there_by_its_path():
    images, _ = match_images(["trainset/1.png", "testset/1.png"], ["testset/1.png"])
    assert images == {"testset/1.png": "testset/1.png"}


def test_several_faces_of_one_image_are_matched_by_box():
    near, far = POINTS[0], POINTS[0] + 200
    truth = faces(["a.jpg", "a.jpg"], [near, far])
    assert match(submission(["a.jpg", "a.jpg"], [far + 3, near + 3]), truth, "f").rows.tolist() == [1, 0]
    boxes = np.array([[0, 0, 100, 100], [200, 200, 300, 300]])  # the boxes decide, not what was predicted in them
    assert match(submission(["a.jpg", "a.jpg"], [far, near], boxes), truth, "f").rows.tolist() == [0, 1]


def test_a_face_is_missing_and_another_one_beside_it_is_left_out():
    truth = faces(["a.jpg", "a.jpg"], [POINTS[0], POINTS[0] + 200])
    matching = match(submission(["a.jpg"], [POINTS[0] + 201]), truth, "f")
    assert matching.rows.tolist() == [-1, 0]
    given = submission(["a.jpg", "a.jpg"], [POINTS[0] + 500, POINTS[0] + 1])
    matching = match(given, faces(["a.jpg"], POINTS[:1]), "f")
    assert matching.rows.tolist() == [1]
    assert matching.beside == ["a.jpg (row 1)"]


def test_a_doubled_face_is_refused():
    with pytest.raises(InputError, match=r"test/a.jpg#0: row [12] and row [12]"):
        match(submission(["a.jpg", "a.jpg"], [POINTS[0], POINTS[0] + 1]), faces(["a.jpg"], POINTS[:1]), "f")


def test_missing_faces_are_kept_and_foreign_ones_left_out_but_not_both():
    truth = faces(IMAGES, POINTS)
    assert match(submission(IMAGES[:2], POINTS[:2]), truth, "f").rows.tolist() == [0, 1, -1]
    foreign = match(submission([*IMAGES, "c/other.jpg"], [*POINTS, POINTS[0]]), truth, "f")
    assert foreign.rows.tolist() == [0, 1, 2]
    assert foreign.elsewhere == ["c/other.jpg (row 4)"]
    with pytest.raises(InputError, match=r"(?s)1 of 3 test faces have no prediction.*thre\.png"):
        match(submission([*IMAGES[:2], "b/thre.png"], POINTS), truth, "f")
    with pytest.raises(InputError, match="(?s)none of its 1 predictions.*another dataset"):
        match(submission(["z.jpg"], POINTS[:1]), truth, "f")


def test_the_median_offset_has_the_interval_of_the_sign_test():
    """P(x(k) ≤ median ≤ x(n+1−k)) ≥ 95 % for any distribution: simulated coverage."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(400):
        truth = np.zeros((60, K, 2))
        moved = rng.exponential(1.0, (60, 1, 2))  # median ln 2
        offset = conventions.measure_offset(truth + moved, truth)
        covered += offset.x_ci95[0] <= np.log(2) <= offset.x_ci95[1]
    assert covered / 400 >= 0.93
    few = conventions.measure_offset(truth[:4] + 1, truth[:4])
    assert (few.x, few.x_ci95, few.n) == (1.0, None, 4)


@pytest.mark.parametrize("by", [1, -1])
def test_a_numbering_that_is_off_by_one_is_noticed_and_a_right_one_is_not(by):
    rng = np.random.default_rng(1)
    truth = rng.uniform(0, 200, (300, K, 2))
    points, size = truth + rng.normal(0, 1.5, truth.shape), np.full(300, 60.0)
    assert conventions.likely_shift(points, truth, size) is None
    shift = conventions.likely_shift(points + by, truth, size)
    assert shift.by == -by
    assert shift.nme == pytest.approx(conventions.nme(points, truth, size).mean(), rel=1e-12)
    assert conventions.likely_shift(points + [0.8, 0], truth, size) is None, "x alone is no numbering"


def test_an_order_is_recognised_and_a_bad_predictor_is_not_accused():
    rng = np.random.default_rng(1)
    truth, size = np.tile(POINTS[0] * 3, (50, 1, 1)) + rng.normal(0, 20, (50, 1, 2)), np.full(50, 60.0)
    points = truth + rng.normal(0, 2, truth.shape)
    assert conventions.order(points, truth, size) is None
    swapped = [0, 3, 2, 1, 4]
    places, before, after = conventions.order(points[:, swapped], truth, size)
    assert places.tolist() == swapped
    assert after < before / 2
    assert conventions.order(np.tile(truth.mean(0), (50, 1, 1)), truth, size) is None
