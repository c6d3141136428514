"""What `python -m stages.landmarks` costs: the network by each engine, a photograph end to end, a video."""

import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch

from stages.config.experiment import load_recipe
from stages.config.schemes import load_dataset_scheme
from stages.data.crops import Crops
from stages.data.faces import Faces
from stages.data.geometry import corners
from stages.exporting import engines, graph
from stages.inference.calibration import Calibration
from stages.landmarking import detector, media, overlay
from stages.landmarking.landmarker import Landmarker
from stages.model import checkpoint
from stages.model.hrnet import HRNet
from tests.bench.measure import Figure, Missing, seconds, timed
from tests.bench.network import LANDMARKS, SIZE, build

PHOTOGRAPHS = Path("../shared/data/lfpw/images")
FRAMES, VIDEO = 60, (640, 480)


def engines_and_pictures() -> list[Figure | Missing]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            figures = by_engine(Path(folder), load_recipe("modern", "wflw", "model", "input"))
        except ImportError as error:
            figures = [Missing("the network by each engine", f"{error.name} is not installed")]
        return figures + pictures(Path(folder))


def by_engine(folder: Path, recipe) -> list[Figure]:
    """Every engine, and how many times as fast as the published network the fastest is; crops are noise."""
    model, size = with_statistics(build(recipe)), round(SIZE / recipe.input.box * 2.1875)
    n, rng = max(engines.SIZES), np.random.default_rng(0)
    nothing = np.full((n, LANDMARKS, 2), np.nan)
    images = rng.integers(0, 256, (n, size, size, 3), np.uint8)
    side, center = np.full(n, size / 2.1875), np.full((n, 2), (size - 1) / 2)
    faces = Faces(
        face_id=[str(i) for i in range(n)], split=["test"] * n, image=[""] * n, center=center, side=side,
        landmarks=nothing, visible=np.zeros((n, LANDMARKS), bool), subsets=[[]] * n,
    )  # fmt: skip
    crops = Crops(images, faces, np.tile([[1.0, 0, 0], [0, 1, 0]], (n, 1, 1)))
    scheme = load_dataset_scheme("wflw", "inter_ocular", "wflw")
    facts = {
        "scheme": scheme.model_dump(), "input": recipe.input.model_dump(), "flip_test": False,
        "calibration": Calibration().model_dump(),
    }  # fmt: skip
    graph.write(folder / "network.onnx", model, recipe.input, None, facts)
    rows = engines.measure(model, folder / "network.onnx", crops, None, nme=False)
    plain, figures = rows[0], []
    for row in rows[1:]:
        for time, base in zip(row["milliseconds"], plain["milliseconds"], strict=True):
            how = f"HRNetV2-W18, {SIZE}×{SIZE}, {time['threads']} threads, batch {time['batch']}, windows to landmarks"
            figures.append(Figure(
                f"{row['engine']} {row['precision']}, {time['threads']} threads, batch {time['batch']}", time["value"],
                "ms a face", how, baseline=base["value"], baseline_is="the published network, untuned, fp32",
            ))  # fmt: skip
    for batch, goal in ((1, 4.0), (8, 3.5)):
        ratio = max(figure.ratio for figure in figures if f"2 threads, batch {batch}" in figure.name)
        name = f"the fastest engine, batch {batch}: times the published network"
        figures.append(Figure(name, ratio, "×", "2 threads, in the same run", at_least=goal))
    return figures


def with_statistics(model: HRNet) -> HRNet:
    """`model` with batch norms that fit its activations: of random weights alone they would fade to denormal numbers,
    which fp32 computes many times as slowly."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in norms:
        module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))
    return model.eval()


def pictures(folder: Path) -> list[Figure | Missing]:
    """A photograph with one face, from its file to the drawn one, and a video of one face."""
    names = sorted(file for file in PHOTOGRAPHS.rglob("*") if file.suffix in media.IMAGES)
    if not names:
        return [Missing("a photograph and a video end to end", f"there are no photographs in {PHOTOGRAPHS}")]
    if not detector.FILE.is_file():
        return [Missing("a photograph and a video end to end", f"{detector.FILE} is not there")]
    finder = detector.FaceBoxes(None)
    photographs = (picture.image for picture in media.read_images(names))
    photo = next(image for image in photographs if len(finder(image)[1]) == 1)
    cv2.imwrite(str(folder / "photo.jpg"), photo[..., ::-1])
    frame = cv2.resize(photo, VIDEO)
    film(folder / "film.mp4", frame)

    def run(landmarker: Landmarker, image: np.ndarray) -> np.ndarray:
        center, side, _ = finder(image)
        points, *_ = landmarker.predict(image, center, side)
        return overlay.draw(image, corners(center, side), points, [""] * len(side))

    figures = []
    for name, recipe in (("modern", "modern"), ("quick", "quick")):
        of = load_recipe(recipe, "wflw", "model", "input")
        (folder / name).mkdir()
        scheme = load_dataset_scheme("wflw", "inter_ocular", "wflw").model_dump()
        checkpoint.save(folder / name, with_statistics(build(of)), {"input": of.input.model_dump(), "scheme": scheme})
        landmarker = Landmarker(folder / name)
        how = f"recipe {name}, {landmarker.precision}, 2 cores; decode, detect, landmarks, draw, encode"

        def photograph(landmarker: Landmarker = landmarker) -> None:
            (picture,) = media.read_images([folder / "photo.jpg"])
            overlay.write_image(folder / "out.jpg", run(landmarker, picture.image))

        what = f"one photograph of {photo.shape[1]}×{photo.shape[0]} px with one face, {name}"
        figures.append(timed(what, seconds(photograph, 9, warmup=2), 1, how, unit="ms", at_most=150))

        def video(landmarker: Landmarker = landmarker) -> None:
            with overlay.VideoFile(folder / f"{landmarker.name}.mp4", 25) as written:
                for picture in media.Video(str(folder / "film.mp4")):
                    written.add(run(landmarker, picture.image))

        rate = FRAMES / seconds(video, 3).min()
        goal = 25 if name == "quick" else None
        what = f"video of {VIDEO[0]}×{VIDEO[1]} px with one face, {name}"
        figures.append(Figure(what, rate, "frames/s", how, at_least=goal))
    return figures


def film(path: Path, frame: np.ndarray) -> None:
    """The photograph, moving a little."""
    with overlay.VideoFile(path, 25) as written:
        for i in range(FRAMES):
            written.add(np.roll(frame, i % 20 - 10, axis=1))
