"""`python -m stages.export`: an ONNX file gives the landmarks of the folder it was made of."""

import json
import shutil
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import Project
from test_landmarks import run, save_model

from stages import export
from stages.data.crops import read_crops
from stages.exporting import engines, graph, parity
from stages.exporting.onnx_file import OnnxFile
from stages.exporting.openvino_file import OpenVinoFile
from stages.inference.calibration import Calibration
from stages.inference.uncertainty import Uncertainty
from stages.landmarking import landmarker
from stages.landmarking.landmarker import OnnxLandmarker, load
from stages.model import checkpoint, heatmap
from stages.model.predict import FusedNetwork
from stages.predictions.detections import BoxMap
from stages.reporting.exports import read_exports, section
from stages.system.errors import InputError
from stages.system.files import digest

CALIBRATION = Calibration(
    boxes=BoxMap(0.02, 0.11, 0.7), errors=Uncertainty(constants=[-3, -4, -3], height=-0.5, width=0.8, bound=2, faces=30)
)
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
for package in PACKAGES:
    pytest.importorskip(package, reason=f"{package} is not installed: make onnx")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with models/three, three.onnx and crops of drawn faces."""
    folder = tmp_path_factory.mktemp("export")
    project = Project(folder / "project")
    for stage in ("obtain", "fetch", "preprocess"):
        project.stage(stage, "toy")
    shutil.copytree(project.folder / "data/crops/toy", folder / "crops")
    save_model(folder / "models/three", "three", 3, [[0, 1]])
    (folder / "models/three/calibration.json").write_text(CALIBRATION.model_dump_json())
    export.main(folder / "models/three", folder / "three.onnx", folder / "crops", True)
    return folder


def test_the_decoder_in_the_graph_is_the_benchmarks_also_at_borders():
    generator = torch.Generator().manual_seed(1)
    points = 40 * torch.rand(6, 5, 2, generator=generator) - 4
    maps = heatmap.encode(points, 32, 1.5) + 0.02 * torch.randn(6, 5, 32, 32, generator=generator)
    cells, peaks = heatmap.decode(maps)
    found, scores = graph.decode(maps)
    torch.testing.assert_close(found, cells, atol=3e-5, rtol=0)
    torch.testing.assert_close(scores, peaks)


@pytest.mark.parametrize("faces", [1, 3, 12])
def test_any_number_of_faces_gives_the_points_of_pytorch(exported, faces):
    file = OnnxFile(exported / "three.onnx", threads=1)
    model, _ = checkpoint.load(exported / "models/three")
    windows = np.random.default_rng(faces).integers(0, 256, (faces, 64, 64, 3)).astype(np.float32)
    points, confidences, spreads = file.run(windows)
    network = graph.LandmarkGraph(model, False, torch.tensor([1, 0, 2]))
    with torch.inference_mode():
        expected, peaks, widths, _ = network(torch.from_numpy(windows))
    np.testing.assert_allclose(points, expected, atol=1e-3)
    np.testing.assert_allclose(confidences, peaks, atol=1e-6, rtol=1e-4)
    np.testing.assert_allclose(spreads, widths, atol=1e-3)


def test_the_file_says_what_it_is(exported):
    file = OnnxFile(exported / "three.onnx")
    weights = exported / "models/three/model.safetensors"
    assert (file.input.size, file.input.box, file.input.stretch) == (64, 1.25, False)
    assert (file.scheme.scheme, file.scheme.flip_pairs, file.flip_test) == ("three", [[0, 1]], True)
    assert file.facts["weights_sha256"] == digest(weights)
    assert file.facts["version"]
    assert file.calibration == CALIBRATION
    (left, right, mouth) = file.facts["mean_shape"]
    assert left[0] < 31.5 < right[0]
    assert mouth[1] > left[1]


def test_it_takes_the_place_of_the_folder(exported, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(1).integers(0, 255, (90, 120, 3), np.uint8))
    tables = [
        run(exported / model, tmp_path / "a.png", out=tmp_path / model, whole_image=True, flip_test=True)
        for model in ("models/three", "three.onnx")
    ]
    points, expected = ([table.filter(regex=what).to_numpy() for table in tables] for what in (r"^[xy]\d", "expected"))
    np.testing.assert_allclose(*points, atol=0.01)
    np.testing.assert_allclose(*expected, atol=0.01)
    assert (expected[0] > 0).all()


# ---- engines


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_openvino_gives_the_landmarks_of_onnx_runtime(exported, precision):
    """Of heat maps with clear peaks: random weights give none, so the network is left to the two runtimes alone."""
    pytest.importorskip("openvino", reason="openvino is not installed: make openvino")
    windows = np.random.default_rng(3).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    ours, theirs = OpenVinoFile(exported / "three.onnx", precision, threads=1), OnnxFile(exported / "three.onnx", 1)
    (maps,) = ours.compiled(windows).values()
    (expected,) = theirs.session.run([graph.MAPS], {graph.INPUT: windows})
    scale = np.abs(expected).max()
    np.testing.assert_allclose(maps / scale, expected / scale, atol=1e-5 if precision == "fp32" else 0.03)
    for found, decoded in zip(ours.run(windows)[:2], heatmap.decode(torch.from_numpy(maps)), strict=True):
        np.testing.assert_array_equal(found, heatmap.to_input(decoded) if decoded.ndim == 3 else decoded)
    assert ours.facts == theirs.facts


def test_bf16_predicts_what_fp32_does_but_for_rounding(exported):
    model, description = checkpoint.load(exported / "models/three")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact, fast = (FusedNetwork(model, precision)(images) for precision in ("fp32", "bf16"))
    assert fast.dtype == torch.float32
    assert 0 < (fast - exact).abs().max() < 0.03 * exact.abs().max()


@pytest.mark.parametrize(
    ("given", "engine", "precision", "message"),
    [
        ("models/three", "onnxruntime", "auto", "onnxruntime runs ONNX files: python -m stages.export"),
        ("three.onnx", "pytorch", "auto", "is an ONNX file, which PyTorch does not run"),
        ("three.onnx", "onnxruntime", "bf16", "give --engine openvino, or --precision fp32"),
    ],
)
def test_engines_and_models_that_do_not_go_together_are_refused(exported, given, engine, precision, message):
    with pytest.raises(InputError, match=message):
        load(exported / given, engine=engine, precision=precision)


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize("installed", [True, False])
def test_the_fastest_that_is_there_runs_unless_told_otherwise(exported, monkeypatch, able, installed):
    monkeypatch.setattr(landmarker, "computes_bf16", lambda device: able)
    monkeypatch.setattr(landmarker, "is_installed", lambda: installed)
    folder, file = load(exported / "models/three"), exported / "three.onnx"
    assert (folder.engine, folder.precision) == ("pytorch", "bf16" if able else "fp32")
    monkeypatch.setattr(landmarker, "OpenVinoFile", lambda path, precision: OnnxFile(path))
    found = load(file)
    assert (found.engine, found.precision) == (("openvino", "bf16") if able and installed else ("onnxruntime", "fp32"))
    assert load(file, precision="fp32").precision == "fp32"


def test_every_engine_is_measured_on_the_same_faces(exported, monkeypatch):
    monkeypatch.setattr(engines, "REPEATS", 1)
    model, _ = checkpoint.load(exported / "models/three")
    crops = read_crops(exported / "crops", "test")
    rows = engines.measure(model, exported / "three.onnx", crops, np.array([1, 0, 2]))
    assert [(row["engine"], row["precision"]) for row in rows] == engines.available()
    assert engines.available()[0] == ("plain", "fp32")
    exact = {row["engine"]: row["nme"] for row in rows[1:] if row["precision"] == "fp32"}
    assert max(exact.values()) - min(exact.values()) < 1e-3
    assert all(time["value"] > 0 for row in rows for time in row["milliseconds"])


@pytest.fixture(autouse=True)
def any_peak(monkeypatch):
    """Random weights give no peaks worth the name: all landmarks are compared."""
    monkeypatch.setattr(parity, "PEAK", -np.inf)


def test_landmarks_without_a_peak_are_left_out_and_counted(exported, monkeypatch):
    file, crops = OnnxFile(exported / "three.onnx"), read_crops(exported / "crops", "test")
    model, _ = checkpoint.load(exported / "models/three")
    monkeypatch.setattr(parity, "PEAK", np.inf)
    compared = parity.compare(model, file, crops, np.array([1, 0, 2]))
    assert (compared.flat, compared.largest_px) == (3 * len(crops), 0)
    assert f"{compared.flat} of {compared.flat} landmarks have a confidence below" in export.told(compared)


def test_a_difference_above_the_limit_leaves_no_file(exported, tmp_path, monkeypatch):
    exact = OnnxFile.run

    def moved(self, crops):
        points, *shape = exact(self, crops)
        points[:, 2, 0] += 0.02
        return points, *shape

    monkeypatch.setattr(OnnxFile, "run", moved)
    monkeypatch.setattr(graph, "write", lambda path, *_: shutil.copy(exported / "three.onnx", path))
    with pytest.raises(InputError, match=r"by up to 0\.02 px .*landmark 2; 1 landmarks above 0\.01 px"):
        export.main(exported / "models/three", tmp_path / "moved.onnx", exported / "crops", True)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_said_to_agree_that_is_no_number(exported):
    file, crops = OnnxFile(exported / "three.onnx"), read_crops(exported / "crops", "test")
    model, _ = checkpoint.load(exported / "models/three")
    compared = parity.compare(model, file, crops, np.array([1, 0, 2]))
    assert compared.largest_px < 0.01
    assert compared.nme_onnx == pytest.approx(compared.nme_pytorch, abs=1e-3)
    with pytest.raises(InputError, match="nothing was written"):
        parity.require(parity.Parity(**vars(compared) | {"largest_px": float("nan")}))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_missing_package_is_named_with_what_installs_it(exported, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    model, _ = checkpoint.load(exported / "models/three")
    use = {"onnxruntime": lambda: OnnxFile(exported / "three.onnx")}
    with pytest.raises(InputError, match=f"{package} is not installed.*make onnx"):
        use.get(package, lambda: graph.write(tmp_path / "x.onnx", model, None, None, {}))()


def test_a_damaged_a_foreign_and_an_absent_file_are_named(exported, tmp_path):
    import onnx

    content = (exported / "three.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut\.onnx is not an ONNX file that can be run"):
        OnnxFile(tmp_path / "cut.onnx")
    foreign = onnx.load(exported / "three.onnx")
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match=r"foreign\.onnx does not say its scheme"):
        OnnxFile(tmp_path / "foreign.onnx")
    with pytest.raises(InputError, match=r"there is no file .*absent\.onnx"):
        OnnxFile(tmp_path / "absent.onnx")


def test_the_flip_test_has_to_be_in_the_file(exported, tmp_path):
    import onnx

    plain = onnx.load(exported / "three.onnx")
    for entry in plain.metadata_props:
        entry.value = json.dumps(False) if entry.key == "flip_test" else entry.value
    onnx.save(plain, tmp_path / "plain.onnx")
    with pytest.raises(InputError, match="export it with --flip-test"):
        OnnxLandmarker(tmp_path / "plain.onnx", flip_test=True)


def test_the_report_lists_what_was_exported_of_the_results_own_weights(exported, tmp_path, monkeypatch):
    (tmp_path / "three").mkdir()
    monkeypatch.setattr(export, "EXPERIMENTS", tmp_path)
    monkeypatch.setattr(graph, "write", lambda path, *_: shutil.copy(exported / "three.onnx", path))
    for _ in range(2):  # the second takes the place of the first
        export.main(exported / "models/three", tmp_path / "three.onnx", exported / "crops", True)
    weights = digest(exported / "models/three/model.safetensors", "md5")
    results = [
        SimpleNamespace(name="three", provenance=SimpleNamespace(hashes=SimpleNamespace(model=model)))
        for model in (weights, "other")
    ]
    exports = read_exports(tmp_path)
    told = section(results[:1], exports)
    assert told.count("| three.onnx, flip test") == 1
    assert told.count("| pytorch fp32 ") == told.count("| PyTorch fp32, untuned ") == 1
    assert section(results[1:], exports) == ""
    (tmp_path / "three/exports.json").write_text("[{}]")
    with pytest.raises(InputError, match=r"exports\.json: 0\.file: missing"):
        read_exports(tmp_path)
