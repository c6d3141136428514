"""The benchmark: its fast data path gives the batch of a plain implementation, and every figure can be measured."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.config.experiment import load_recipe
from stages.exporting import engines
from stages.model import augment
from stages.model.examples import step_generator
from tests.bench import cpu, data, exactness, gpu, landmarking, measure, network, reporting, waiting
from tests.bench.__main__ import GROUPS

SECTIONS = ("model", "input", "target", "augment", "train")
CPU = torch.device("cpu")


def tiny():
    """The modern recipe with a network and an input that take no time."""
    recipe = load_recipe("modern", "wflw", *SECTIONS)
    recipe.model = recipe.model.model_copy(
        update={"width": 4, "stem": 8, "bottlenecks": 1, "modules": [1, 1, 1], "blocks": 1}
    )
    recipe.input = recipe.input.model_copy(update={"size": 64})
    recipe.train = recipe.train.model_copy(update={"batch": 4, "precision": "fp32", "compile": False})
    return recipe


def with_evaluation(recipe):
    recipe.evaluate = load_recipe("modern", "wflw", "evaluate").evaluate
    return recipe


def without_changes_of_light(recipe):
    plain = recipe.augment.model_copy(update=dict.fromkeys(("grey", "light", "blur", "noise", "occlusion"), 0.0))
    return SimpleNamespace(input=recipe.input, target=recipe.target, augment=plain)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs of about the input's scale, so that sampling in one step or in two hardly differs."""
    return data.photographs(tmp_path_factory.mktemp("photos"), 2, size=512)


def test_the_fast_data_path_gives_the_batch_of_a_plain_implementation(photos, tmp_path):
    recipe = without_changes_of_light(load_recipe("modern", "wflw", *SECTIONS))
    examples = data.cut_examples(photos, recipe, tmp_path / "train.npy", faces=12)
    index, order = np.arange(12), examples.flip_order.numpy()
    images, maps, _ = examples.batch(examples.draw(index, recipe, step_generator(1, 0, 3), CPU), recipe, CPU)
    expected_images, expected_maps = data.obvious_batch(photos, index, recipe, step_generator(1, 0, 3), order)
    assert grey_levels(images.numpy() - expected_images) < 1
    np.testing.assert_allclose(maps.numpy(), expected_maps, atol=1e-5)
    # shifted by one pixel they would differ more
    assert grey_levels(np.roll(images.numpy(), 1, axis=3) - expected_images) > 2.5


def grey_levels(difference: np.ndarray) -> float:
    """The mean size of differences between normalised images (n, 3, s, s), in 0 … 255."""
    return float((np.abs(difference) * 255 * np.reshape(augment.STD, (3, 1, 1))).mean())


def test_sampling_face_by_face_and_by_one_grid_are_the_same():
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 96, 96, 3), np.uint8))
    strong = SimpleNamespace(scale=0.5, rotation=180, rotation_share=1, shift=0.3, flip=0.5)
    changes, _ = augment.draw_changes(8, strong, 64, torch.Generator().manual_seed(0))
    windows = augment.chain(augment.plain_windows(8, 96, 2, 64, 1.25), changes)
    by_face, by_grid = augment.warp(crops, windows, 64), augment.warp_by_grid(crops, windows, 64)
    assert (by_grid == 0).any()  # windows that reach beyond the crop are among them
    torch.testing.assert_close(by_face, by_grid, atol=0.02, rtol=0)


@pytest.mark.skipif(not landmarking.PHOTOGRAPHS.is_dir(), reason="no photographs of faces in ../shared/data/lfpw")
def test_a_photograph_and_a_video_are_measured_end_to_end(tmp_path, monkeypatch, yunet):
    monkeypatch.setattr(landmarking, "load_recipe", lambda *_: tiny())
    monkeypatch.setattr(landmarking, "SIZE", 64)
    monkeypatch.setattr(landmarking, "FRAMES", 2)
    monkeypatch.setattr(landmarking.detector, "FILE", yunet)
    monkeypatch.setattr(landmarking.detector, "download", lambda *_: yunet)
    figures = landmarking.pictures(tmp_path)
    assert [figure.unit for figure in figures] == ["ms", "frames/s"] * 2
    assert all(figure.value > 0 for figure in figures)


def test_time_in_threads_at_once_counts_once():
    assert network.covered([(0.0, 2.0), (1.0, 3.0), (1.5, 1.8), (5.0, 6.0)]) == 4.0


def test_every_group_has_its_function():
    for module, function, _ in GROUPS.values():
        assert callable(getattr(importlib.import_module(f"tests.bench.{module}"), function))


def test_every_figure_can_be_measured_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "RECIPES", {"modern": 3.0})
    monkeypatch.setattr(landmarking, "SIZE", 64)
    monkeypatch.setattr(engines, "REPEATS", 1)
    monkeypatch.setattr(waiting, "in_own_process", lambda setting, steps: waiting.step_times(tiny(), steps))
    threads = torch.get_num_threads()
    figures = [
        *exactness.all_figures(tmp_path / "absent"),
        *data.reading(rows=50, images=1, repeats=1),
        *data.codec(batch=2, repeats=1),
        *data.training_path(faces=4, photos=1, repeats=1, batch=2),
        *cpu.on_cpu({"modern": tiny()}, size=64, batches=(8,), repeats=1),
        *network.faces_by_recipe(recipes={"modern": with_evaluation(tiny())}, faces=4),
        *landmarking.by_engine(tmp_path, tiny()),
        *network.epoch(tiny(), faces=8, photos=1, size=112),
        *waiting.busy_and_idle(steps=1, rounds=1),
        *reporting.small_and_large(60, 80),
        *gpu.throughput(CPU, tiny(), batch=2, faces=4, photos=1, steps=1, matrix=16),
    ]
    assert torch.get_num_threads() == threads
    missing = [figure for figure in figures if isinstance(figure, measure.Missing)]
    figures = [figure for figure in figures if isinstance(figure, measure.Figure)]
    assert "exactness" in [entry.name for entry in missing]
    assert all(np.isfinite(figure.value) and figure.value > 0 for figure in figures)
    workloads = [(figure.workload, figure.device) for figure in figures if figure.workload]
    assert workloads == [("W4, stem 8, 1 bottlenecks, modules 1-1-1, 1 blocks, 64 px, flip test", "CPU")]

    measure.write(tmp_path / "benchmarks.json", measure.machine(), figures, missing, [])
    written = json.loads((tmp_path / "benchmarks.json").read_text())
    assert {figure["name"] for figure in written["figures"]} == {figure.name for figure in figures}
    assert written["machine"]["cpu"]
    lines = measure.table(figures).splitlines()
    assert len(lines) == len(figures) + 1


def test_the_figures_of_a_gpu_stay_where_a_machine_without_one_measures(tmp_path):
    file, own, of_gpu = (
        tmp_path / "benchmarks.json",
        measure.Figure("a", 1.0, "ms", ""),
        measure.Figure("b", 2, "s", ""),
    )
    measure.write(file, {"gpu": "Card"}, [own], [], [of_gpu])
    measure.write(file, {"gpu": None}, [own], [], [])
    written = json.loads(file.read_text())
    assert written["gpu"] == {
        "machine": {"gpu": "Card"},
        "figures": [{"name": "b", "value": 2, "unit": "s", "how": ""}],
    }
    assert written["machine"] == {"gpu": None}


def test_figures_of_numpy_are_written_with_whether_their_goals_are_reached(tmp_path):
    two = np.float64(2)
    figures = [
        measure.Figure("t", two, "s", "", best=two, at_most=3, baseline=two),
        measure.Figure("r", two, "×", "", at_least=3),
    ]
    measure.write(tmp_path / "benchmarks.json", {}, figures, [], [])
    written = json.loads((tmp_path / "benchmarks.json").read_text())["figures"]
    assert [(figure["value"], figure["reached"]) for figure in written] == [(2, True), (2, False)]
