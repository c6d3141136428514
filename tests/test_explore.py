"""`python -m stages.explore`: the data it writes, in exact numbers, and the page, driven in headless Chromium."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from browser import PROGRAM, Browser

from stages import explore
from stages.data.crops import write_index
from stages.data.faces import Faces
from stages.data.geometry import apply, window_to_image
from stages.data.scheme import DatasetScheme, write_scheme
from stages.exploring.methods import colours
from stages.metrics.results import read_all
from stages.predictions.table import Made, Predictions, write_predictions
from stages.system.errors import InputError

ROOT = Path(__file__).parents[1]
TITLE = "Toy <b>& co</b>"
DATASET = f"""
about: {{title: "{TITLE}", licence: none, citation: none, homepage: "", obtain: made here, share_pictures: true}}
source: {{form: csv, csv: {{images: images, train: train.csv, test: test.csv, subsets: {{blur: blur.csv}}}}}}
landmarks: {{scheme: five, normaliser: inter_ocular}}
crops: {{size: 64, context: 2.0, val_share: 0.2}}
evaluation: {{thresholds: [0.08, 0.10]}}
"""
SCHEME = DatasetScheme(
    count=5, flip_pairs=[[0, 1]], groups={"eyes": [0, 1], "nose": [2], "mouth": [3, 4]}, inter_ocular=[0, 1],
    scheme="five", normaliser="inter_ocular",
)  # fmt: skip
SHAPE = np.array([[75.0, 80], [125, 80], [100, 100], [100, 110], [100, 130]])  # 50 px between the eyes


def toy_faces(n: int) -> Faces:
    """n faces of one shape, the last of which lacks its last landmark; two are blurred, sides grow."""
    landmarks = np.repeat(SHAPE[None], n, 0)
    landmarks[-1, 4] = np.nan
    visible = np.isfinite(landmarks).all(-1)
    visible[0, 3] = False
    images = [f"face{i}.png" for i in range(n)]
    images[1] = "<img src=x>.png"
    side, subsets = 100 + 10.0 * (np.arange(n) % 90), [("blur",) if i in (2, 4) else () for i in range(n)]
    ids = [f"test/{name}" for name in images]
    return Faces(ids, ["test"] * n, images, np.full((n, 2), 100.0), side, landmarks, visible, subsets)


def write_method(name: str, faces: Faces, moved: np.ndarray, landmarks=(0, 1, 2, 3, 4), dataset: str = "toy") -> None:
    """Predictions that are the annotation, or the shape where there is none, and `moved` (N, K, 2) px."""
    points = np.repeat(SHAPE[None, list(landmarks)], len(faces), 0) + moved
    made = Made(dataset=dataset, landmarks=list(landmarks), protocol="exact", flip_test=False, batch=8, input_px=64,
                box=1.25, model="", cost={}, workload="")  # fmt: skip
    path = Path("data/predictions") / f"{name}.parquet"
    scores = np.ones(points.shape[:2])
    expected = 2 * scores if name == "even" else None  # px
    write_predictions(path, Predictions(faces, points, scores, made=made, expected=expected))


def make_toy(folder: Path, n: int) -> Faces:
    """A dataset and three methods: `even` is 5 px off everywhere and expects 2 px; `mouth` is 5 px times a face's
    number off in landmark 3 and has no prediction of face 3; `two` predicts landmarks 2 and 0 alone."""
    for name in ("params/datasets", "data/predictions", "data/crops/toy"):
        (folder / name).mkdir(parents=True)
    (folder / "params/pipeline.yaml").write_text("datasets:\n  toy: {source: data/toy}\n")
    (folder / "params/datasets/toy.yaml").write_text(DATASET)
    write_scheme(SCHEME, "toy")
    faces = toy_faces(n)
    write_method("even", faces, np.broadcast_to([3.0, 4], (n, 5, 2)))
    mouth = np.zeros((n, 5, 2))
    mouth[:, 3, 0] = 5 * np.arange(n)
    mouth[3] = np.nan
    write_method("mouth", faces, mouth)
    write_method("two", faces, np.full((n, 2, 2), [0.0, 1]), landmarks=(2, 0))
    return faces


def write_crops(faces: Faces, size: int = 64) -> np.ndarray:
    """Crops of so many px, each of one colour, or of none without images; returns 64 crop px → image px."""
    to_image = window_to_image(faces.center, faces.side * 2, 64)
    images = np.empty((len(faces), size, size, 3), np.uint8)
    for i, image in enumerate(images):
        image[...] = 30 * i % 256, (200 - 30 * i) % 256, 90
    np.save("data/crops/toy/test.npy", images)
    write_index(Path("data/crops/toy/test.parquet"), faces, to_image)
    return to_image


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Faces:
    monkeypatch.chdir(tmp_path)
    return make_toy(tmp_path, 6)


def summary() -> dict:
    text = Path("data/explorer/toy/data/summary.js").read_text()
    return json.loads(text.removeprefix("window.EXPLORER = ").removesuffix(";\n"))


def points(file: str) -> tuple[str, *tuple[list, ...]]:
    """The name under which a file gives its coordinates, these, and expected errors where there are some."""
    script = Path(f"data/explorer/toy/data/{file}.js").read_text()
    name, *lists = script.removeprefix("window.EXPLORER.receive(").removesuffix(");\n").split(", JSON.parse('")
    return json.loads(name), *(json.loads(values.removesuffix("')")) for values in lists)


def test_the_errors_of_every_face_are_those_of_its_landmarks(toy):
    write_crops(toy)
    explore.main("toy")
    content = summary()
    even, mouth, two = (next(m for m in content["methods"] if m["name"] == name) for name in ("even", "mouth", "two"))
    assert [m["name"] for m in content["methods"]] == ["two", "even", "mouth"], "by NME, failures last"
    assert even["nme"] == [10] * 6  # 5 px of 50
    assert even["means"] == [10] * 5
    assert mouth["nme"] == [0, 2, 4, float("inf"), 8, 12.5]  # 5 px a face in one of five landmarks; of four in the last
    assert mouth["means"] == [0, 0, 0, 24, 0]  # the mean of 0, 10, 20, 40 and 50
    assert mouth["groups"]["mouth"] == [0, 5, 10, float("inf"), 20, 50]
    assert (two["landmarks"], two["nme"], list(two["groups"])) == ([2, 0], [2] * 6, ["eyes", "nose"])
    assert len({m["colour"] for m in content["methods"]}) == 3
    assert (content["threshold"], content["landmarks"], content["suspects"]) == (8, 5, None)


def test_faces_are_told_with_what_they_are_filtered_by(toy):
    write_crops(toy)
    explore.main("toy")
    content, faces = summary(), summary()["faces"]
    assert faces["id"] == list(toy.face_id)
    assert faces["side"] == [100, 110, 120, 130, 140, 150]
    assert faces["normaliser"] == [50] * 6
    assert faces["scale"] == [round(2 * side / 64, 6) for side in faces["side"]]
    assert [[content["subsets"][i] for i in row] for row in faces["subsets"]] == [[], [], ["blur"], [], ["blur"], []]
    assert faces["yaw"][:5] == pytest.approx([0] * 5)
    assert np.isnan(faces["yaw"][5]), "its mouth is not annotated"
    assert content["hidden"] == {"0": [3]}


def test_coordinates_are_hundredths_of_a_crop_px(toy):
    to_image = write_crops(toy)
    explore.main("toy")
    name, values = points("truth")
    assert name == "truth"
    assert values[-2:] == [None, None], "not annotated"
    truth = np.array(values, float).reshape(6, 5, 2) / 100
    np.testing.assert_allclose(apply(to_image, truth), toy.landmarks, atol=0.005 * 1.5 * to_image[-1, 0, 0])
    given = [points(str(i)) for i in range(3)]
    numbers = {name: values for name, values, *_ in given}
    assert {name: len(values) for name, values in numbers.items()} == {"even": 60, "mouth": 60, "two": 24}
    assert numbers["mouth"][30:40] == [None] * 10
    assert {name: expected for name, _, *expected in given} == {
        "even": [[400] * 30],
        "mouth": [],
        "two": [],
    }  # 2 px of 50


def test_pictures_are_the_crops_and_a_sheet_of_their_middles(toy):
    write_crops(toy)
    explore.main("toy")
    folder = Path("data/explorer/toy")
    assert sorted(path.name for path in folder.glob("faces/*")) == [f"{i:05d}.jpg" for i in range(6)]
    large, sheet = cv2.imread(str(folder / "faces/00002.jpg")), cv2.imread(str(folder / "sheets/000.jpg"))
    assert (large.shape, sheet.shape) == ((64, 64, 3), (128, 16 * 128, 3))
    np.testing.assert_allclose(large[32, 32], (90, 140, 60), atol=3)  # blue, green, red of face 2
    np.testing.assert_allclose(sheet[64, 2 * 128 + 64], (90, 140, 60), atol=3)
    assert summary()["thumb"] == {"first": 8, "side": 48, "px": 128, "columns": 16}  # 1.5 of the crop's 2 boxes


def test_the_same_input_gives_the_same_bytes(toy):
    write_crops(toy)

    def digests() -> dict[str, str]:
        explore.main("toy")
        files = sorted(path for path in Path("data/explorer/toy").rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    assert digests() == digests()


def test_a_dataset_without_images_is_drawn_as_landmarks(toy):
    write_crops(toy, size=0)
    explore.main("toy")
    assert not summary()["pictures"]
    assert not list(Path("data/explorer/toy").glob("faces"))
    values = np.array(points("truth")[1][:10]).reshape(5, 2) / 100
    expected = (SHAPE - 100) / (2 * 100 / 448) + 223.5  # the window is two boxes wide, 448 px
    np.testing.assert_allclose(values, expected, atol=0.005)


def test_suspect_annotations_are_read_where_there_are_some(toy, monkeypatch):
    write_crops(toy)
    path = Path("reports/label-suspects/toy.csv")
    path.parent.mkdir(parents=True)
    rows = {"face_id": [toy.face_id[4], toy.face_id[2], toy.face_id[4]], "landmark": [1, 2, 3],
            "distance_px": [1.0, 2, 3], "distance_percent": [2.0, 4, 6], "spread_percent": [0.5, 0.5, 0.5],
            "score": [4.0, 8, 12]}  # fmt: skip
    pd.DataFrame(rows).to_csv(path, index=False)
    explore.main("toy")
    assert summary()["suspects"] == {"2": [[2, 2, 4, 0.5, 8]], "4": [[3, 3, 6, 0.5, 12], [1, 1, 2, 0.5, 4]]}
    pd.DataFrame(rows | {"face_id": ["x", "y", "x"], "landmark": [1, 2, 5]}).to_csv(path, index=False)
    with pytest.raises(
        InputError, match=r"(?s)toy.csv: 3 faults.*face x: not one of the 6.*landmark 5: the faces have 5"
    ):
        explore.main("toy")


def test_a_method_has_the_colour_of_its_recipe_in_the_report_and_no_two_are_alike():
    results, _ = read_all(ROOT / "reports/experiments")
    names = [result.name for result in results if result.is_experiment]
    assert {"demo-quick", "lfpw-quick"} <= set(names)
    assert colours(["demo-quick"], results)["demo-quick"] == colours(["lfpw-quick"], results)["lfpw-quick"]
    many = [*names, *(f"other-{i}" for i in range(20))]
    chosen = colours(many, results)
    assert len(set(chosen.values())) == len(many)


def test_what_is_not_at_hand_is_said_with_what_to_do(toy, capsys):
    with pytest.raises(InputError, match=r"data/crops/toy/test.parquet is missing: run dvc repro"):
        explore.main("toy")
    write_crops(toy)
    with pytest.raises(InputError, match="toys"):
        explore.main("toys")
    write_method("elsewhere", toy, np.zeros((6, 5, 2)), dataset="other")
    write_method("old", toy.where(np.arange(3)), np.zeros((3, 5, 2)))
    explore.main("toy")
    said = capsys.readouterr().err
    assert "warning: old is left out" in said
    assert "elsewhere" not in said
    for path in Path("data/predictions").glob("*.parquet"):
        path.unlink()
    with pytest.raises(InputError, match=r"no predictions of the test faces of toy.*dvc repro"):
        explore.main("toy")


# ---- in a browser

browsed = pytest.mark.skipif(PROGRAM is None, reason="no Chromium or Chrome on the PATH to open the page with")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    window = Browser(tmp_path_factory.mktemp("chromium"))
    yield window
    window.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The address of an explorer of six faces."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("explored")
        patch.chdir(folder)
        write_crops(make_toy(folder, 6))
        explore.main("toy")
    return (folder / "data/explorer/toy/index.html").as_uri()


def see(browser: Browser, page: str, state: str = "") -> None:
    """Open the page, and wait until its coordinates have come."""
    browser.open(page + state)
    browser.wait("typeof coordinates !== 'undefined' && coordinates.size === 4")


def order(browser: Browser) -> list[int]:
    """The faces of the grid as they are read."""
    return browser.run(
        "[...document.querySelectorAll('.tile')].map(t => [t.getBoundingClientRect(), Number(t.dataset.face)])"
        ".sort(([a], [b]) => a.y - b.y || a.x - b.x).map(([, face]) => face)"
    )


def text(browser: Browser, selector: str) -> str:
    return browser.run(f"document.querySelector({selector!r}).innerText")


@browsed
def test_the_grid_has_the_worst_faces_of_a_method_first(browser, page):
    see(browser, page, "#sort=error:mouth")
    assert order(browser) == [3, 5, 4, 2, 1, 0]
    assert text(browser, ".tile[data-face='3'] .value") == "failed"
    assert text(browser, ".tile[data-face='5'] .value").startswith("12.50")
    assert browser.run("[...document.querySelectorAll('.tile.fails')].length") == 2, "∞ and 12.5 are above 8 %"
    assert "∞" in text(browser, "#methods tbody")
    assert browser.said == [], "no error, and nothing from the network"


@browsed
def test_faces_are_sorted_by_the_difference_of_two_methods(browser, page):
    see(browser, page)
    browser.run("one('sort').value = 'difference', one('sort').dispatchEvent(new Event('change'))")
    for select, name in (("a", "mouth"), ("b", "even")):
        browser.run(f"one('{select}').value = methodNumber('{name}')")
        browser.run(f"one('{select}').dispatchEvent(new Event('change'))")
    assert order(browser) == [3, 5, 4, 2, 1, 0]
    assert text(browser, ".tile[data-face='5'] .value").startswith("+2.50")
    assert text(browser, ".tile[data-face='0'] .value").startswith("−10.00")
    assert "sort=difference:mouth:even" in browser.run("location.hash")
    browser.run("one('ascending').click()")
    assert order(browser) == [0, 1, 2, 4, 5, 3]


@browsed
def test_faces_are_filtered_by_subset_yaw_size_and_name(browser, page):
    see(browser, page, "#sort=dataset&subset=blur&order=lowest")
    assert order(browser) == [2, 4]
    assert text(browser, "#count") == "2 of 6 test faces"
    assert text(browser, "#methods tbody tr:last-child td:nth-child(2)") == "6.00", "the mean of 4 and 8"
    for state, faces in (
        ("side=115-140", [2, 3, 4]),
        ("yaw=0-10", [0, 1, 2, 3, 4]),
        ("yaw=1-", []),
        ("find=FACE3", [3]),
    ):
        see(browser, page, f"#sort=dataset&order=lowest&{state}")
        assert order(browser) == faces, state


@browsed
def test_a_link_opens_at_a_face_and_keys_lead_on(browser, page):
    see(browser, page, "#face=test/face4.png&methods=even&sort=error:mouth")
    browser.wait("!large.box.hidden && large.image.naturalWidth === 64")
    assert (text(browser, "#name"), text(browser, "#position")) == ("face4.png", "3 of 6")
    assert browser.run("[...view.shown].map(m => E.methods[m].name)") == ["even"]
    browser.press("ArrowRight")
    assert text(browser, "#name") == "face2.png"
    assert "face=test/face2.png" in browser.run("location.hash")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert text(browser, "#name") == "face5.png"
    browser.press("3")
    assert "methods=even,mouth" in browser.run("location.hash")
    assert browser.run("one('link').hash === location.hash")
    browser.press("Escape")
    assert browser.run("large.box.hidden")
    assert "face=" not in browser.run("location.hash")
    assert browser.said == []


@browsed
def test_the_landmark_under_the_pointer_is_told_with_its_errors(browser, page):
    see(browser, page, "#face=test/face4.png&methods=even")
    browser.wait("!large.box.hidden && large.image.naturalWidth === 64")
    place = browser.run(
        "(r => toCanvas(large.drawn, ...truth(4).slice(6, 8)).map((v, i) => v + [r.x, r.y][i]))"
        "(large.canvas.getBoundingClientRect())"
    )
    browser.move(*place)
    assert text(browser, "#landmark") == "Landmark 3, mouth"
    rows = browser.run("[...document.querySelectorAll('#at tbody tr')].map(r => [...r.cells].map(c => c.innerText))")
    # two does not predict it; even is 5 px off as everywhere; mouth 20 px, 24 % in the mean of the faces it predicts
    for row, figures in zip(rows[1:], ([5, 10, 10, 4], [20, 40, 24]), strict=True):
        assert [float(cell) for cell in row[1:] if cell != "–"] == pytest.approx(figures, abs=0.04)
    assert (rows[0], rows[1][0], rows[2][0]) == (["two", "–", "–", "–", "–"], "even", "mouth")


@browsed
def test_names_are_text_and_a_wrong_link_is_said(browser, page):
    see(browser, page, "#face=test/nobody.png&methods=even,ghost")
    assert "no method ghost, face test/nobody.png" in text(browser, "#count")
    assert text(browser, "h1") == TITLE
    see(browser, page, "#face=test/<img src=x>.png")
    assert text(browser, "#name") == "<img src=x>.png"
    assert browser.run("document.querySelectorAll('img, h1 b').length") == 0
    assert browser.said == []


@browsed
def test_of_2500_faces_only_those_in_sight_are_in_the_page(browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_crops(make_toy(tmp_path, 2500), size=0)
    explore.main("toy")
    see(browser, (tmp_path / "data/explorer/toy/index.html").as_uri(), "#sort=dataset")
    assert order(browser)[:6] == [2499, 2498, 2497, 2496, 2495, 2494]
    assert len(order(browser)) < 80
    browser.run("grid.box.scrollTop = grid.box.scrollHeight")
    browser.wait("document.querySelector('.tile[data-face=\"0\"]')")
    assert len(order(browser)) < 80
    see(browser, (tmp_path / "data/explorer/toy/index.html").as_uri(), "#face=test/face1000.png&sort=dataset")
    browser.press("Escape")
    assert 1000 in order(browser), "closing returns to where the face is"
