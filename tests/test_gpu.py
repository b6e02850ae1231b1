"""The same maps on a GPU. What can be tested without one is elsewhere, in `test_transfer` and `test_dense`."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from dense_cases import Case, build, case_of, patch_by_patch
from scenes import coordinate_cube, random_model, write_raster, write_two_fields
from test_transfer import full

from cssd_geo.budget import parse_size
from cssd_geo.classification import classify
from cssd_geo.compute.transfer import load
from cssd_geo.dense import DenseNetwork
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.engine.streaming import this_machine
from cssd_geo.forecast import forecast
from cssd_geo.model import load_model
from cssd_geo.network import Logits, NetworkConfig
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.runs.job import plan_job
from cssd_geo.runs.layers import Outputs
from cssd_geo.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
GPU = torch.device("cuda")
CONFIG = NetworkConfig(bands=9, classes=4, window=6, spectral_features=64, spatial_features=8)


@pytest.fixture(autouse=True)
def _all_memory() -> Iterator[None]:
    """Give back what other tests took, and the whole of it to the next one."""
    torch.cuda.empty_cache()
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def dense(case: Case, dtype: torch.dtype, *, on_device: bool = True) -> Logits:
    """On the GPU; from a tile that is there, or whose strips are copied there."""
    network = DenseNetwork(case.network, case.gain, case.bias, dtype=dtype, device=GPU)
    tile = (part.to(GPU) if on_device else part for part in (case.stored, case.valid))
    return Logits(*(head.double().cpu() for head in network(*tile)))


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("sharpness", [None, 3.0])
@pytest.mark.parametrize("window", [1, 6, 10])
@pytest.mark.parametrize("plain", [True, False])
def test_dense_is_patch_by_patch(*, window: int, sharpness: float | None, plain: bool, on_device: bool) -> None:
    config = replace(CONFIG, window=window, sharpness=sharpness)
    if plain:
        config = replace(config, strided_spectral=True, activation=False, discriminant=False)
    case = case_of(config, 45, 70, seed=window)
    with torch.no_grad():
        one_by_one = patch_by_patch(case)
    for found, expected in zip(dense(case, torch.float64, on_device=on_device), one_by_one, strict=True):
        torch.testing.assert_close(found[case.usable], expected[case.usable], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 2e-5), (torch.bfloat16, 3e-2)])
def test_fewer_digits_are_nearly_the_same(dtype: torch.dtype, allowed: float) -> None:
    case = case_of(CONFIG, 60, 90)
    for found, expected in zip(dense(case, dtype), dense(case, torch.float64), strict=True):
        apart = (found - expected)[case.usable].norm() / expected[case.usable].norm()
        assert apart < allowed


def test_out_of_memory_goes_on_with_smaller_pieces(caplog: pytest.LogCaptureFixture) -> None:
    config = NetworkConfig(bands=9, classes=4)
    case = Case(
        network=build(config).float(),
        stored=torch.randn(9, 600, 700),
        valid=torch.ones(600, 700, dtype=torch.bool),
        gain=torch.ones(9),
        bias=torch.zeros(9),
    )
    expected = dense(case, torch.float32)
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(4e8 / total)
    with caplog.at_level(logging.WARNING, "cssd_geo.dense"):
        found = dense(case, torch.float32)
    assert "going on with" in caplog.text
    for some, every in zip(found, expected, strict=True):
        torch.testing.assert_close(some, every, rtol=0, atol=1e-4)


@pytest.mark.parametrize("bands_last", [True, False])
def test_a_tile_comes_whole_and_in_its_order(*, bands_last: bool) -> None:
    values, valid = coordinate_cube(3, 40, 50), np.ones((40, 50), np.bool_)
    if bands_last:
        values = np.ascontiguousarray(values.transpose(1, 2, 0)).transpose(2, 0, 1)
    loaded = load(values, valid, GPU, (44, 60))
    assert loaded.stored.device.type == loaded.valid.device.type == "cuda"
    np.testing.assert_array_equal(loaded.stored.cpu().numpy(), np.pad(values, ((0, 0), (0, 4), (0, 10))))
    np.testing.assert_array_equal(loaded.valid.cpu().numpy(), np.pad(valid, ((0, 4), (0, 10))))
    assert loaded.stored.permute(1, 2, 0).is_contiguous() is bands_last


def test_tiles_that_do_not_fit_come_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raster(tmp_path / "s.tif", coordinate_cube(5, 300, 400) % 977)
    scene, model = open_scene(path), random_model(bands=5, dtype=torch.float32)
    here = this_machine("cuda", "float32")
    classifier = TileClassifier(model, scene, here.device, here.precision)
    plan = classifier.plan(scene, 100)
    expected = [result for _, result in here.results(classifier, scene, plan)]
    full(monkeypatch, times=5)
    for (_, result), other in zip(here.results(classifier, scene, plan), expected, strict=True):
        np.testing.assert_array_equal(result.class_map, other.class_map)
        np.testing.assert_array_equal(result.confidence, other.confidence)


def test_a_recorded_tile_is_the_one_that_is_computed_step_by_step(tmp_path: Path) -> None:
    scene, model = open_scene(holed(tmp_path / "s.tif")), random_model(bands=12, dtype=torch.float32)
    here, parts = this_machine("cuda", "float32"), ("disagreement", "probabilities")
    classifier = TileClassifier(model, scene, here.device, here.precision)
    plan = classifier.plan(scene, 200)
    shape = plan.largest.height, plan.largest.width
    tiles = [
        classifier.load(*scene.read(tile.padded, classifier.bands), shape, at=tile.padded.corner) for tile in plan
    ]
    expected = [classifier.classify(tile, parts=parts) for tile in tiles]
    classifier.rehearse(scene, plan, parts)
    assert classifier._recorded
    for tile, other in zip(tiles, expected, strict=True):
        found = classifier.classify(tile, parts=parts)
        assert np.mean(found.class_map != other.class_map) < 1e-3, "but for near-ties"
        for part, apart in (("confidence", 1), ("disagreement", 1), ("probabilities", 1e-4)):
            one, same = (np.asarray(getattr(result, part), np.float64) for result in (found, other))
            np.testing.assert_allclose(one, same, rtol=0, atol=apart)


def holed(path: Path) -> Path:
    random = np.random.default_rng(0)
    cube = random.integers(500, 2500, (12, 1, 1)) + random.integers(-400, 400, (12, 333, 517))
    cube[:, :40, :60], cube[3, 120:150, 200:260] = -9999, -9999
    return write_raster(path, cube.astype(np.int16), nodata=-9999)


@pytest.mark.parametrize("tile_size", [None, 100])
def test_a_map_is_that_of_the_cpu(tmp_path: Path, tile_size: int | None) -> None:
    scene, model, maps = holed(tmp_path / "s.tif"), random_model(bands=12, dtype=torch.float32), {}
    for device in ("cpu", "cuda"):
        paths = [tmp_path / f"{device}-{part}.tif" for part in ("map", "confidence", "disagreement")]
        options: dict[str, Any] = {"confidence": paths[1], "disagreement": paths[2], "tile_size": tile_size}
        classify(scene, model, paths[0], device=device, precision="float32", **options)
        maps[device] = [rasterio.open(path).read(1).astype(int) for path in paths]
    (classes, *percents), (same, *others) = maps["cpu"], maps["cuda"]
    np.testing.assert_array_equal(classes == 0, same == 0)
    assert np.mean(classes != same) < 1e-4, "but for near-ties"
    for percent, other in zip(percents, others, strict=True):
        assert np.abs(percent - other).max() <= 1


def test_what_is_trained_on_a_gpu_serves_anywhere(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    options = TrainingOptions(epochs=12)
    train(made.scene, made.labels, options=options, device="cuda").model.save(tmp_path / "m.safetensors")
    model = load_model(tmp_path / "m.safetensors")
    for device in ("cuda", "cpu"):
        classify(made.scene, model, tmp_path / "map.tif", device=device, overwrite=True)
        with rasterio.open(tmp_path / "map.tif") as dataset:
            found = dataset.read(1)
        labelled = made.truth > 0
        np.testing.assert_array_equal(found == 0, ~labelled)
        assert np.mean(found[labelled] == made.truth[labelled]) > 0.9


def test_a_forecast_tells_of_the_memory(tmp_path: Path) -> None:
    scene, model = open_scene(holed(tmp_path / "s.tif")), random_model(bands=12, dtype=torch.float32)
    outputs = Outputs(class_map=tmp_path / "map.tif")
    found = forecast(plan_job(scene, model, outputs, this_machine("cuda", "auto"), memory=parse_size("500MB")))
    assert found.gpu_free is not None
    assert found.trial.gpu_bytes is not None
    assert 0 < found.trial.gpu_bytes < found.gpu_free
