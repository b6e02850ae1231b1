"""Tiled = whole = patch by patch, on real files; outputs on the scene's grid; nodata is never a class."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from scenes import NORTH_UP, ROTATED, UTM, random_model, write_raster

import cssd_geo
from cssd_geo.bands import Bands
from cssd_geo.classification import _ahead, classify
from cssd_geo.errors import InputError, OutputError, SceneError
from cssd_geo.inference import TileClassifier, choose_device, predict_pixels
from cssd_geo.model import Model
from cssd_geo.scene import open_scene
from cssd_geo.tiles import Window

CPU = torch.device("cpu")


def noisy_scene(
    path: Path, height: int = 23, width: int = 37, bands: int = 5, transform: Affine = NORTH_UP
) -> Path:
    """Random values with a nodata corner and hole; float64, so that equality can be exact."""
    random = np.random.default_rng(height * width)
    cube = random.uniform(500, 2500, (bands, height, width))
    cube[:, :4, :6], cube[1, 12:15, 20:26] = -9999, -9999
    return write_raster(path, cube, nodata=-9999, transform=transform)


def probabilities(model: Model, scene: Path, tile_size: int | None, out: Path) -> NDArray[np.float32]:
    classify(scene, model, out / "map.tif", probabilities=out / "p.tif", tile_size=tile_size, overwrite=True)
    with rasterio.open(out / "p.tif") as dataset:
        values: NDArray[np.float32] = dataset.read()
    return values


@given(tile_size=st.integers(1, 45))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_logits_do_not_depend_on_the_tiles(tile_size: int, tmp_path: Path) -> None:
    model, scene = random_model(bands=5), open_scene(noisy_scene(tmp_path / "s.tif"))
    classifier, bands = TileClassifier(model, scene, CPU), np.arange(5)
    whole = classifier.plan(scene, 100)[0]
    values, valid = scene.read(whole.padded, bands)
    expected = classifier.logits(values, valid)
    seen = valid[8:-7, 8:-7]
    for tile in classifier.plan(scene, tile_size):
        rows, cols = tile.core.slices
        inside = torch.from_numpy(seen[rows, cols])
        for part, all_of_it in zip(classifier.logits(*scene.read(tile.padded, bands)), expected, strict=True):
            found = part[:, inside]
            torch.testing.assert_close(found, all_of_it[:, rows, cols][:, inside], rtol=0, atol=1e-10)


def test_files_do_not_depend_on_the_tiles(tmp_path: Path) -> None:
    model, scene = random_model(bands=5), noisy_scene(tmp_path / "s.tif")
    whole = probabilities(model, scene, 64, tmp_path)
    for tile_size in (7, 16, 36):
        part = probabilities(model, scene, tile_size, tmp_path)
        np.testing.assert_allclose(part, whole, rtol=0, atol=2e-7)  # one unit in the last place of float32


def test_the_map_is_what_single_windows_say(tmp_path: Path) -> None:
    """The file, pixel by pixel, against `forward` on windows cut with plain numpy."""
    model, path = random_model(bands=5), noisy_scene(tmp_path / "s.tif")
    classify(path, model, tmp_path / "map.tif", confidence=tmp_path / "c.tif", tile_size=16)
    with rasterio.open(path) as dataset:
        cube = dataset.read()
    valid = (cube != -9999).all(0)
    inputs = np.where(valid, (cube - model.mean[:, None, None]) / model.std[:, None, None], 0)
    frame = ((8, 7), (8, 7))
    inputs, seen = np.pad(inputs, ((0, 0), *frame)), np.pad(valid, frame)
    with rasterio.open(tmp_path / "map.tif") as ids, rasterio.open(tmp_path / "c.tif") as confidence:
        class_map, percent = ids.read(1), confidence.read(1)
    for row, col in np.argwhere(valid)[::5]:
        window = torch.from_numpy(inputs[None, :, row : row + 16, col : col + 16])
        with torch.inference_mode():
            heads = model.network(window, torch.from_numpy(seen[None, None, row : row + 16, col : col + 16]))
        shares = torch.softmax((1.3 * heads.main + 0.4 * heads.spectral)[0], 0)
        assert class_map[row, col] == int(shares.argmax()) + 1
        assert abs(int(percent[row, col]) - 100 * float(shares.max())) <= 0.5 + 1e-4
    assert (class_map[~valid] == 0).all()
    assert (percent[~valid] == 255).all()
    assert (class_map[valid] > 0).all()
    assert (percent[valid] <= 100).all()


@pytest.mark.parametrize(
    "transform", [NORTH_UP, ROTATED, Affine(0.1, 0, 3, 0, 0.1, 4)], ids=["north", "turned", "south up"]
)
def test_outputs_lie_where_the_scene_lies(transform: Affine, tmp_path: Path) -> None:
    scene = noisy_scene(tmp_path / "s.tif", transform=transform)
    classify(scene, random_model(bands=5), tmp_path / "map.tif", confidence=tmp_path / "c.tif")
    for name in ("map.tif", "c.tif"):
        with rasterio.open(tmp_path / name) as ours, rasterio.open(scene) as theirs:
            assert ours.transform == theirs.transform, "to the last digit"
            assert (ours.crs, ours.shape) == (theirs.crs, theirs.shape)


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    scene = tmp_path / "s.tif"
    points = [GroundControlPoint(row, col, 10 + col / 3, 50 - row / 7) for row in (0, 23) for col in (0, 37)]
    write_raster(scene, np.random.default_rng(0).uniform(1, 9, (5, 23, 37)), transform=None, crs=UTM, gcps=points)
    classify(scene, random_model(bands=5), tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        found, crs = dataset.gcps
    assert crs == UTM
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]


def test_a_data_array_gives_a_lazy_one_that_equals_the_file(tmp_path: Path) -> None:
    model, path = random_model(bands=5), noisy_scene(tmp_path / "s.tif")
    classify(path, model, tmp_path / "map.tif", confidence=tmp_path / "c.tif", tile_size=11)
    lazy = cssd_geo.classify(open_scene(path).cube, model, tile_size=16)
    assert dask.is_dask_collection(lazy.data)
    assert dask.is_dask_collection(lazy.confidence.data)
    assert lazy.rio.transform() == NORTH_UP
    assert lazy.rio.crs == UTM
    with rasterio.open(tmp_path / "map.tif") as ids, rasterio.open(tmp_path / "c.tif") as confidence:
        computed = lazy.compute()
        np.testing.assert_array_equal(computed, ids.read(1))
        np.testing.assert_array_equal(computed.confidence, confidence.read(1))
    part = lazy[5:9, 30:].compute()
    np.testing.assert_array_equal(part, computed[5:9, 30:])


def test_a_data_array_in_memory_and_in_other_chunks_gives_the_same(tmp_path: Path) -> None:
    model, cube = random_model(bands=5), open_scene(noisy_scene(tmp_path / "s.tif")).cube
    expected = classify(cube, model).compute()
    for other in (cube.compute(), cube.chunk({"band": 2, "y": 5, "x": 13}), cube.transpose("y", "x", "band")):
        assert isinstance(other, xr.DataArray)
        np.testing.assert_array_equal(classify(other, model, tile_size=9).compute(), expected)


def test_bands_that_the_model_does_not_use_are_not_looked_at(tmp_path: Path) -> None:
    model = random_model(bands=5)
    wide = replace(model, bands=Bands(good=(True, True, False, True, True, True)))
    with rasterio.open(noisy_scene(tmp_path / "s.tif")) as dataset:
        cube = dataset.read()
    garbage = np.full((1, *cube.shape[1:]), np.nan)
    odd = write_raster(tmp_path / "odd.tif", np.concatenate([cube[:2], garbage, cube[2:]]), nodata=-9999)
    plain = probabilities(model, tmp_path / "s.tif", 20, tmp_path)
    np.testing.assert_allclose(probabilities(wide, odd, 20, tmp_path), plain, rtol=0, atol=2e-7)


def test_scale_and_offset_lead_to_the_same_map(tmp_path: Path) -> None:
    model, path = random_model(bands=5), noisy_scene(tmp_path / "s.tif")
    with rasterio.open(path) as dataset:
        cube = dataset.read()
    stored = np.where(cube == -9999, -9999, (cube - 100) / 0.5)
    scaled = write_raster(tmp_path / "scaled.tif", stored, nodata=-9999)
    with rasterio.open(scaled, "r+") as dataset:
        dataset.scales, dataset.offsets = [0.5] * 5, [100.0] * 5
    plain = probabilities(model, path, None, tmp_path)
    np.testing.assert_allclose(probabilities(model, scaled, None, tmp_path), plain, atol=1e-6)


def test_a_scene_of_other_bands_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="has 5 bands but the model was trained on 4"):
        classify(noisy_scene(tmp_path / "s.tif"), random_model(bands=4), tmp_path / "map.tif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.tif"]


def test_outputs_must_be_different_files(tmp_path: Path) -> None:
    scene = noisy_scene(tmp_path / "s.tif")
    for other in (scene, tmp_path / "map.tif"):
        with pytest.raises(OutputError, match="different files"):
            classify(scene, random_model(bands=5), tmp_path / "map.tif", confidence=other, overwrite=True)
    with pytest.raises(InputError, match="output"):
        classify(scene, random_model(bands=5))  # type: ignore[call-overload]


def test_an_unreadable_scene_leaves_nothing_behind(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "s.tif", np.ones((5, 64, 64), np.int16), compress="deflate", tiled=True,
                         blockxsize=16, blockysize=16)  # fmt: skip
    scene.write_bytes(scene.read_bytes()[:-400])
    with pytest.raises(SceneError, match="cannot be read at row"):
        classify(scene, random_model(bands=5), tmp_path / "map.tif", tile_size=16)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.tif"]


def test_a_scene_without_valid_pixels_is_all_unclassified(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "s.tif", np.full((5, 9, 8), -1.0), nodata=-1)
    done = classify(scene, random_model(bands=5), tmp_path / "map.tif", probabilities=tmp_path / "p.tif")
    assert done.pixels == {"class 0": 0, "class 1": 0, "class 2": 0, "unclassified": 72}
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert np.isnan(dataset.read()).all()


def test_progress_counts_every_pixel_once(tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    scene = noisy_scene(tmp_path / "s.tif")
    classify(
        scene, random_model(bands=5), tmp_path / "map.tif", tile_size=10, on_tile=lambda a, b: said.append((a, b))
    )
    assert said[-1] == (23 * 37, 23 * 37)
    assert len(said) == 3 * 4
    assert all(before < after for (before, _), (after, _) in pairwise(said))


def test_scattered_pixels_are_those_of_the_whole_map(tmp_path: Path) -> None:
    scene = open_scene(noisy_scene(tmp_path / "s.tif"))
    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    whole = classifier.logits(*scene.read(classifier.plan(scene, 100)[0].padded, np.arange(5)))
    random = np.random.default_rng(0)
    rows, cols = random.integers(5, 23, 40), random.integers(6, 19, 40)
    main, spectral = predict_pixels(classifier, scene, rows, cols)
    np.testing.assert_allclose(main, whole.main.numpy()[:, rows, cols].T, rtol=0, atol=1e-10)
    np.testing.assert_allclose(spectral, whole.spectral.numpy()[:, rows, cols].T, rtol=0, atol=1e-10)


def test_reading_ahead_keeps_the_order_and_passes_errors_on() -> None:
    assert list(_ahead(range(9), lambda i: i * i)) == [(i, i * i) for i in range(9)]

    def fail_at_four(i: int) -> int:
        if i == 4:
            raise SceneError("broken at 4")
        return i

    results = _ahead(range(9), fail_at_four)
    assert [next(results)[0] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(SceneError, match="broken at 4"):
        next(results)


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="tpu"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(InputError, match="no CUDA GPU"):
            choose_device("cuda")


def test_windows_beyond_the_scene_are_invalid_not_invented(tmp_path: Path) -> None:
    scene = open_scene(noisy_scene(tmp_path / "s.tif"))
    _, valid = scene.read(Window(row=-50, col=100, height=4, width=5), np.arange(5))
    assert not valid.any()
