"""Tiled = whole = patch by patch, on real files; outputs on the scene's grid; nodata is never a class."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
import xarray as xr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio._env import get_gdal_config  # no public name
from rasterio.control import GroundControlPoint
from scenes import NORTH_UP, ROTATED, UTM, control_points, random_model, write_raster
from scipy.special import softmax
from test_scene import LAYOUTS

import cssd_geo
from cssd_geo.bands import Bands
from cssd_geo.budget import parse_size
from cssd_geo.classes import ClassTable
from cssd_geo.classification import classify
from cssd_geo.compute import kernels
from cssd_geo.engine.devices import choose_device
from cssd_geo.engine.inference import TileClassifier, predict_pixels
from cssd_geo.errors import InputError, OutputError, SceneError
from cssd_geo.grid import Grid
from cssd_geo.maps.class_rasters import open_class_map
from cssd_geo.maps.class_tables import read_classes
from cssd_geo.maps.reach import pixels_across, receptive_field_of
from cssd_geo.model import Model
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.products import open_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.tiles import TilePlan, Window

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """With it, `auto` would not be exact."""
    monkeypatch.setattr("cssd_geo.engine.devices._has_bfloat16", lambda _: False)


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


@given(
    tile_size=st.integers(4, 45),
    precision=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    discriminant=st.booleans(),
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_logits_do_not_depend_on_the_tiles(
    tmp_path: Path, *, tile_size: int, precision: torch.dtype, discriminant: bool
) -> None:
    """To the last bit, where the kernels multiply: what torch's products are depends on how many there are."""
    kind = torch.float64 if precision == torch.float64 else torch.float32
    model = random_model(bands=5, dtype=kind, discriminant=discriminant)
    scene = open_scene(noisy_scene(tmp_path / "s.tif"))
    classifier, bands = TileClassifier(model, scene, CPU, precision), np.arange(5)
    whole = classifier.plan(scene, 100)[0]
    values, valid = scene.read(whole.padded, bands)
    expected = classifier.logits(values, valid, at=whole.padded.corner)
    allowed = 0 if kernels.compiled() else 8 * float(torch.finfo(precision).eps)
    seen = valid[8:-7, 8:-7]
    for tile in classifier.plan(scene, tile_size):
        rows, cols = tile.core.slices
        inside = torch.from_numpy(seen[rows, cols])
        found = classifier.logits(*scene.read(tile.padded, bands), at=tile.padded.corner)
        for part, all_of_it in zip(found, expected, strict=True):
            assert part.shape == (*inside.shape, 3)
            torch.testing.assert_close(part[inside], all_of_it[rows, cols][inside], rtol=0, atol=allowed)


def test_files_do_not_depend_on_the_tiles(tmp_path: Path) -> None:
    model, scene = random_model(bands=5), noisy_scene(tmp_path / "s.tif")
    whole = probabilities(model, scene, 64, tmp_path)
    for tile_size in (7, 16, 36):
        part = probabilities(model, scene, tile_size, tmp_path)
        np.testing.assert_allclose(part, whole, rtol=0, atol=2e-7)  # one unit in the last place of float32


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same pixels in every layout, with a hole and scattered ones."""
    folder, random = tmp_path_factory.mktemp("stored"), np.random.default_rng(4)
    cube = random.uniform(500, 2500, (5, 61, 83)).astype(np.int16)
    cube[:, 20:31, 40:60], cube[:, random.random((61, 83)) < 0.02] = -9999, -9999
    files = {name: folder / f"{name}.{'dat' if 'driver' in LAYOUTS[name] else 'tif'}" for name in LAYOUTS}
    return {name: write_raster(path, cube, nodata=-9999, **LAYOUTS[name]) for name, path in files.items()}


def three_classes(dtype: torch.dtype = torch.float64) -> Model:
    """A model that finds each of its classes in that scene."""
    return random_model(bands=5, seed=5, dtype=dtype)


Maps = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def maps_of(scene: Path, model: Model, folder: Path, **options: Any) -> tuple[TilePlan, Maps]:
    """The plan, and class map and confidence as written; made on the CPU."""
    ids, percent = folder / "ids.tif", folder / "percent.tif"
    done = classify(scene, model, ids, confidence=percent, overwrite=True, device="cpu", **options)
    with rasterio.open(ids) as first, rasterio.open(percent) as second:
        return done.plan, (first.read(1), second.read(1))


@pytest.fixture(scope="module")
def expected(stored: dict[str, Path]) -> Maps:
    """Map and confidence of the whole scene as one tile, from an array in memory."""
    model, cube = three_classes(), open_scene(stored["strips"]).cube.compute()
    whole = classify(cube, model, tile_size=100, precision="float32").compute()
    assert len(np.unique(whole)) == 4, "all three classes, and nothing"
    return whole.to_numpy(), whole.confidence.to_numpy()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_map_does_not_depend_on_how_pixels_are_stored_and_cut(
    stored: dict[str, Path], expected: Maps, layout: str, tmp_path: Path
) -> None:
    for tile_size in (None, 13):
        _, maps = maps_of(stored[layout], three_classes(), tmp_path, tile_size=tile_size, precision="float32")
        np.testing.assert_array_equal(maps, expected)


@pytest.mark.parametrize("layout", ["deflated strips", "bip"])
def test_memory_decides_on_the_tiles_and_not_on_the_map(
    stored: dict[str, Path], expected: Maps, layout: str, tmp_path: Path
) -> None:
    model, scene = three_classes(), open_scene(stored[layout])
    needs = TileClassifier(model, scene, CPU).needs(scene)
    sizes = []
    for side in (30, 40, 60, 80, 1000):
        memory = needs.fixed + side * side * needs.per_pixel
        plan, maps = maps_of(stored[layout], model, tmp_path, memory=memory, precision="float32")
        np.testing.assert_array_equal(maps, expected)
        assert needs.of(plan) <= memory
        sizes.append(plan.largest.pixels)
    assert sizes == sorted(sizes)
    assert len(set(sizes)) >= 4, "more memory, larger tiles"
    assert sizes[-1] == (61 + 15) * (83 + 15), "with plenty the scene is one tile"


def test_gdal_keeps_as_many_blocks_as_is_planned_for_and_no_longer(
    stored: dict[str, Path], tmp_path: Path
) -> None:
    scene, kept = open_scene(stored["deflated tiles"]), set()

    def note(*_: int) -> None:
        kept.add(get_gdal_config("GDAL_CACHEMAX"))

    with rasterio.Env(GDAL_CACHEMAX=77_000_000):
        classify(scene, three_classes(), tmp_path / "map.tif", tile_size=40, on_tile=note)
        assert get_gdal_config("GDAL_CACHEMAX") == 77_000_000
    assert kept == {scene.source.cache_bytes}


def disagreement_of(scene: Path, model: Model, folder: Path, **options: Any) -> NDArray[np.uint8]:
    """The disagreement as written; made on the CPU."""
    path = folder / "disagreement.tif"
    options |= {"disagreement": path, "device": "cpu", "precision": "float32"}
    classify(scene, model, folder / "beside.tif", overwrite=True, **options)
    with rasterio.open(path) as dataset:
        percent: NDArray[np.uint8] = dataset.read(1)
    return percent


@pytest.mark.parametrize("layout", ["deflated strips", "bip"])
def test_the_disagreement_does_not_depend_on_how_pixels_are_stored_and_cut(
    stored: dict[str, Path], expected: Maps, layout: str, tmp_path: Path
) -> None:
    model = three_classes()
    whole = disagreement_of(stored["strips"], model, tmp_path, tile_size=100)
    np.testing.assert_array_equal(whole == 255, expected[0] == 0)
    assert len(np.unique(whole)) > 10, "it is no constant"
    needs = TileClassifier(model, open_scene(stored[layout]), CPU).needs(open_scene(stored[layout]))
    little = needs.fixed + 40 * 40 * needs.per_pixel
    for options in ({"tile_size": 13}, {"memory": little}, {}):
        part = disagreement_of(stored[layout], model, tmp_path, **options)
        np.testing.assert_array_equal(part, whole)


def test_asking_for_the_disagreement_changes_nothing_else(
    stored: dict[str, Path], expected: Maps, tmp_path: Path
) -> None:
    shares, beside = [], tmp_path / "beside.tif"
    for more in ({}, {"disagreement": beside}):
        options = {"probabilities": tmp_path / "p.tif", "precision": "float32", **more}
        _, maps = maps_of(stored["tiles"], three_classes(), tmp_path, **options)
        np.testing.assert_array_equal(maps, expected)
        with rasterio.open(tmp_path / "p.tif") as dataset:
            shares.append(dataset.read())
        assert beside.exists() is bool(more)
    np.testing.assert_array_equal(*shares)


@pytest.mark.parametrize("count", [1, 2])
def test_the_map_does_not_depend_on_the_threads(
    stored: dict[str, Path], expected: Maps, count: int, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        _, maps = maps_of(stored["tiles"], three_classes(), tmp_path, tile_size=32, precision="float32")
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(maps, expected)


def test_too_little_memory_is_an_error_that_says_how_much_would_do(
    stored: dict[str, Path], tmp_path: Path
) -> None:
    model = three_classes()
    for memory in (0, 1_000_000, -5):
        with pytest.raises(
            InputError, match=r"B of memory are too little .*: give at least \d+ MB, better "
        ) as caught:
            maps_of(stored["bip"], model, tmp_path, memory=memory)
        assert list(tmp_path.iterdir()) == []
    amount = parse_size(str(caught.value).partition("at least ")[2].partition(",")[0])
    maps_of(stored["bip"], model, tmp_path, memory=amount)


def test_bfloat16_moves_few_pixels_and_only_near_ties(stored: dict[str, Path], tmp_path: Path) -> None:
    model, scene = three_classes(torch.float32), stored["tiles"]
    shares = tmp_path / "shares.tif"
    _, (exact, percent) = maps_of(scene, model, tmp_path, precision="float32", probabilities=shares)
    with rasterio.open(shares) as dataset:
        second, first = np.sort(dataset.read(), axis=0)[-2:]
    for tile_size in (None, 32):
        _, (short, rounded) = maps_of(scene, model, tmp_path, precision="bfloat16", tile_size=tile_size)
        valid, moved = exact > 0, short != exact
        np.testing.assert_array_equal(short > 0, valid)
        np.testing.assert_array_equal(rounded == 255, ~valid)
        assert (rounded != percent)[valid].any(), "it is another computation"
        assert moved[valid].mean() < 0.02
        assert (first - second)[moved].max(initial=0) < 0.02
        assert np.abs(rounded[valid].astype(int) - percent[valid]).max() <= 2


def test_a_data_array_takes_memory_and_precision_too(stored: dict[str, Path], expected: Maps) -> None:
    model, cube = three_classes(), open_scene(stored["tiles"]).cube
    scene = scene_of_array(cube)
    needs = TileClassifier(model, scene, CPU).needs(scene)
    little = needs.fixed + 40 * 40 * needs.per_pixel
    small = classify(cube, model, memory=little, device="cpu", precision="float32")
    large = classify(cube, model, device="cpu", precision="float32")
    assert small.data.npartitions > large.data.npartitions
    for lazy in (small, large):
        np.testing.assert_array_equal((lazy, lazy.confidence), expected)
    short = classify(cube, model, device="cpu", precision="bfloat16")
    assert (short.confidence.to_numpy() != expected[1]).any()
    with pytest.raises(InputError, match="too little"):
        classify(cube, model, memory=1000)
    with pytest.raises(InputError, match="precision 'half' is unknown; choose from auto, float32, bfloat16"):
        classify(cube, model, precision="half")


def test_the_map_is_what_single_windows_say(tmp_path: Path) -> None:
    """The file, pixel by pixel, against `forward` on windows cut with plain numpy."""
    model, path = random_model(bands=5), noisy_scene(tmp_path / "s.tif")
    classify(path, model, tmp_path / "map.tif", confidence=tmp_path / "c.tif", tile_size=16)
    apart = disagreement_of(path, model, tmp_path, tile_size=16)
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
        main, spectral = (softmax(2 * w * head[0].numpy()) for w, head in zip((1.3, 0.4), heads, strict=True))
        assert abs(int(apart[row, col]) - 100 * 0.5 * np.abs(main - spectral).sum()) <= 0.5 + 1e-4
    assert (class_map[~valid] == 0).all()
    assert (class_map[valid] > 0).all()
    for layer in (percent, apart):
        assert (layer[~valid] == 255).all()
        assert (layer[valid] <= 100).all()


@pytest.mark.parametrize(
    "transform", [NORTH_UP, ROTATED, Affine(0.1, 0, 3, 0, 0.1, 4)], ids=["north", "turned", "south up"]
)
def test_outputs_lie_where_the_scene_lies(transform: Affine, tmp_path: Path) -> None:
    scene = noisy_scene(tmp_path / "s.tif", transform=transform)
    classify(
        scene, random_model(bands=5), tmp_path / "map.tif",
        confidence=tmp_path / "c.tif", disagreement=tmp_path / "d.tif",
    )  # fmt: skip
    for name in ("map.tif", "c.tif", "d.tif"):
        with rasterio.open(tmp_path / name) as ours, rasterio.open(scene) as theirs:
            assert ours.transform == theirs.transform, "to the last digit"
            assert (ours.crs, ours.shape) == (theirs.crs, theirs.shape)


@pytest.mark.parametrize("step", [1 / 3, 1])
def test_a_map_tells_which_pixels_it_was_classified_with(step: float, tmp_path: Path) -> None:
    """Also after another program has cropped and resampled it."""
    model = random_model(bands=5)
    classify(noisy_scene(tmp_path / "s.tif", transform=ROTATED), model, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        window, shape = rasterio.windows.Window(7, 5, 9, 12), (round(12 / step), round(9 / step))
        part = dataset.read(window=window, out_shape=(1, *shape))
        place = dataset.window_transform(window) @ Affine.scale(step)
        changed = write_raster(tmp_path / "part.tif", part, transform=place, nodata=0)
        with rasterio.open(changed, "r+") as other:
            other.update_tags(**dataset.tags())
    with rasterio.open(changed) as dataset:
        assert receptive_field_of(dataset) == model.network.config.receptive_field
        assert pixels_across(dataset) == pytest.approx(1 / step)


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    scene = tmp_path / "s.tif"
    points = [GroundControlPoint(row, col, 10 + col / 3, 50 - row / 7) for row in (0, 23) for col in (0, 37)]
    write_raster(scene, np.random.default_rng(0).uniform(1, 9, (5, 23, 37)), transform=None, crs=UTM, gcps=points)
    classify(scene, random_model(bands=5), tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        found, crs = dataset.gcps
    assert crs == UTM
    assert [(p.row, p.col, p.x, p.y) for p in found] == [(p.row, p.col, p.x, p.y) for p in points]


def test_a_lazy_map_can_be_saved(tmp_path: Path) -> None:
    model, path = random_model(bands=5), noisy_scene(tmp_path / "s.tif")
    lazy = cssd_geo.classify(open_scene(path).cube, model, tile_size=16)
    lazy.to_zarr(tmp_path / "map.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "map.zarr", consolidated=False) as saved:
        np.testing.assert_array_equal(saved.class_map.fillna(0), lazy)


def test_a_lazy_map_that_is_saved_as_a_raster_tells_what_the_file_does(tmp_path: Path) -> None:
    """Names and colours, how far its windows reach, and what trained it: `evaluate` goes by these."""
    table = ClassTable(
        ids=(1, 2, 7), names=("bare soil", "grass", "a_b"), colours=((9, 8, 7), (1, 2, 3), (4, 5, 6))
    )
    model = replace(random_model(bands=5), classes=table, provenance={"labels": {"fingerprint": "abc"}})
    path = noisy_scene(tmp_path / "s.tif")
    classify(path, model, tmp_path / "map.tif", confidence=tmp_path / "c.tif")
    lazy = classify(open_scene(path).cube, model, tile_size=16)
    lazy.rio.to_raster(tmp_path / "lazy.tif")
    lazy.confidence.rio.to_raster(tmp_path / "lazy_c.tif")
    ours = {"TIFFTAG_SOFTWARE", "CSSD_GEO_MODEL", "CSSD_GEO_LABELS", "CSSD_GEO_PIXEL", "CSSD_GEO_RECEPTIVE_FIELD"}
    for saved, file in (("lazy.tif", "map.tif"), ("lazy_c.tif", "c.tif")):
        with rasterio.open(tmp_path / saved) as of_lazy, rasterio.open(tmp_path / file) as of_file:
            tags, others = of_lazy.tags(), of_file.tags()
            assert {name: tags[name] for name in ours} == {name: others[name] for name in ours}
            assert tags.get("CSSD_GEO_CLASSES") == others.get("CSSD_GEO_CLASSES")
    with open_class_map(tmp_path / "lazy.tif") as dataset:
        assert read_classes(dataset) == table
    with pytest.raises(SceneError, match="beside a map and holds confidence"):
        open_class_map(tmp_path / "lazy_c.tif")


@pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning", "ignore:Transform that is:UserWarning"
)
@pytest.mark.parametrize("kind", ["north up", "rotated", "control points"])
@pytest.mark.parametrize(
    "cut", [{"y": slice(5, 20), "x": slice(3, 30)}, {"y": slice(None, None, -1), "x": slice(4, None, 2)}], ids=str
)
def test_a_lazy_map_of_a_part_lies_where_the_part_lies(kind: str, cut: dict[str, slice], tmp_path: Path) -> None:
    """rioxarray goes by the place of the whole where no x and y tell another one."""
    place: dict[str, Any] = {"transform": NORTH_UP if kind == "north up" else ROTATED}
    if kind == "control points":
        place = {"transform": None, "gcps": control_points(ROTATED, 25, 37)}
    path = write_raster(tmp_path / "s.tif", np.random.default_rng(0).uniform(900, 2500, (5, 25, 37)), **place)
    part = open_scene(path).cube.isel(cut)
    lazy = classify(part, random_model(bands=5))
    lazy.rio.to_raster(tmp_path / "part.tif")
    with rasterio.open(tmp_path / "part.tif") as dataset:
        assert Grid.of(dataset).same_as(scene_of_array(part).grid)
    assert lazy.rio.transform() == (scene_of_array(part).grid.transform or Affine.identity())
    assert lazy.confidence.encoding["grid_mapping"] == lazy.encoding["grid_mapping"] == "spatial_ref"


def test_a_lazy_map_has_its_crs_in_netcdf(tmp_path: Path) -> None:
    lazy = classify(open_scene(noisy_scene(tmp_path / "s.tif")).cube, random_model(bands=5))
    lazy.to_netcdf(tmp_path / "map.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "map.nc", engine="h5netcdf", decode_coords="all") as saved:
        assert (
            saved.class_map.encoding["grid_mapping"] == saved.confidence.encoding["grid_mapping"] == "spatial_ref"
        )
    with rasterio.open(tmp_path / "map.nc") as dataset:
        assert dataset.crs == UTM


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


def test_a_data_array_without_a_scale_is_taken_like_its_file_and_says_so(tmp_path: Path) -> None:
    model, path = random_model(bands=5), noisy_scene(tmp_path / "s.tif")
    with rasterio.open(path) as dataset:
        cube = dataset.read()
    other = write_raster(tmp_path / "percent.tif", np.where(cube == -9999, -9999, cube * 100), nodata=-9999)
    model = replace(model, mean=np.nanmean(np.where(cube == -9999, np.nan, cube), axis=(1, 2)))
    notes = classify(other, model, tmp_path / "map.tif").notes
    with pytest.warns(UserWarning, match=r"taken as 0\.01 times what they say"):
        lazy = classify(open_scene(other).cube, model)
    assert "they were taken as" in notes[0]
    assert lazy.attrs["comment"] == notes[0].replace("percent.tif", str(open_scene(other).cube.name))
    with rasterio.open(tmp_path / "map.tif") as dataset:
        np.testing.assert_array_equal(lazy.compute(), dataset.read(1))
    assert "comment" not in classify(open_scene(path).cube, model).attrs


def test_what_a_data_array_would_not_heed_is_refused(tmp_path: Path) -> None:
    model, cube = random_model(bands=5), open_scene(noisy_scene(tmp_path / "s.tif")).cube
    files: list[Any] = [{"output": tmp_path / "no.tif"}, {"confidence": tmp_path / "no.tif"}]
    for options in (*files, {"client": object()}, {"restart": True}, {"on_tile": print}, {"on_error": "skip"}):
        with pytest.raises(
            InputError, match=f"lazy map, which does not heed {next(iter(options))}: leave that out"
        ):
            classify(cube, model, **options)


def test_what_is_no_scene_is_named(tmp_path: Path) -> None:
    values: Any
    for values in (np.zeros((5, 4, 4)), xr.Dataset(), None):
        with pytest.raises(InputError, match=f"DataArray, not {type(values).__name__}"):
            classify(values, random_model(bands=5), tmp_path / "map.tif")


def test_sizes_may_be_numpys_numbers(tmp_path: Path) -> None:
    model, scene = random_model(bands=5), noisy_scene(tmp_path / "s.tif")
    plan = classify(scene, model, tmp_path / "map.tif", tile_size=np.int64(16), memory=np.int64(2e9)).plan  # type: ignore[call-overload]
    assert len(plan) == 6
    wrong: Any
    for name, wrong in (("tile_size", 32.5), ("tile_size", True), ("memory", "2GB")):
        with pytest.raises(InputError, match=f"{name} must be a whole number, not {wrong!r}"):
            classify(scene, model, tmp_path / "other.tif", **{name: wrong})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_is_forked_off_classifies(tmp_path: Path) -> None:
    """Threads of torch and of GDAL, which the parent had used, once kept the child waiting for ever."""
    network = CSSD(NetworkConfig(bands=40, classes=3)).eval()  # of the usual size: torch computes it in threads
    replace(random_model(bands=40), network=network).save(tmp_path / "m.safetensors")
    write_raster(tmp_path / "s.tif", np.random.default_rng(0).uniform(1, 9, (40, 60, 70)))
    script = (
        "import os, cssd_geo, torch\n"
        "torch.set_num_threads(4)\n"
        "model = cssd_geo.load_model('m.safetensors')\n"
        "torch.ones(600, 600) @ torch.ones(600, 600) + torch.ones(600, 600).exp()\n"
        "cssd_geo.classify('s.tif', model, 'parents.tif')\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    cssd_geo.classify('s.tif', model, 'map.tif')\n"
        "    os._exit(0)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, check=True, timeout=90)
    assert (tmp_path / "map.tif").is_file()


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
    model, output = random_model(bands=5), tmp_path / "map.tif"
    for other in (scene, output, tmp_path / "no" / ".." / "map.tif"):
        with pytest.raises(OutputError, match="each needs a file of its own"):
            classify(scene, model, output, confidence=other, overwrite=True)
        with pytest.raises(OutputError, match="each needs a file of its own"):
            classify(scene, model, output, disagreement=other, overwrite=True)
    with pytest.raises(OutputError, match="each needs a file of its own"):
        classify(scene, model, output, confidence=tmp_path / "c.tif", disagreement=tmp_path / "c.tif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.tif"]
    with pytest.raises(InputError, match="output"):
        classify(scene, random_model(bands=5))  # type: ignore[call-overload]


def test_no_file_that_a_scene_is_read_from_is_replaced(tmp_path: Path) -> None:
    pixels = noisy_scene(tmp_path / "pixels.tif")
    rasterio.shutil.copy(pixels, tmp_path / "scene.vrt", driver="VRT")
    before = pixels.read_bytes()
    with pytest.raises(OutputError, match=r"pixels\.tif would be the scene and the class map"):
        classify(tmp_path / "scene.vrt", random_model(bands=5), pixels, overwrite=True)
    assert pixels.read_bytes() == before


def test_no_mask_is_replaced(tmp_path: Path) -> None:
    scene, mask = noisy_scene(tmp_path / "s.tif"), tmp_path / "mask.tif"
    with rasterio.open(scene) as dataset:
        write_raster(mask, np.ones((1, dataset.height, dataset.width), np.uint8))
    opened, before = open_scene(scene, valid_mask=mask), mask.read_bytes()
    outputs: Any
    for outputs in ({"output": mask}, {"output": tmp_path / "map.tif", "confidence": mask}):
        with pytest.raises(OutputError, match=r"mask\.tif would be the valid mask and the"):
            classify(opened, random_model(bands=5), overwrite=True, **outputs)
    assert mask.read_bytes() == before


def test_an_unreadable_scene_leaves_nothing_behind(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "s.tif", np.ones((5, 64, 64), np.int16), compress="deflate", tiled=True,
                         blockxsize=16, blockysize=16)  # fmt: skip
    scene.write_bytes(scene.read_bytes()[:-400])
    with pytest.raises(SceneError, match="cannot be read at row"):
        classify(scene, random_model(bands=5), tmp_path / "map.tif", tile_size=16)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.tif"]


def test_a_scene_without_valid_pixels_is_all_unclassified(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "s.tif", np.full((5, 9, 8), -1.0), nodata=-1)
    apart, shares = tmp_path / "d.tif", tmp_path / "p.tif"
    done = classify(scene, random_model(bands=5), tmp_path / "map.tif", disagreement=apart, probabilities=shares)
    assert done.pixels == {"class 0": 0, "class 1": 0, "class 2": 0, "unclassified": 72}
    with rasterio.open(tmp_path / "p.tif") as dataset:
        assert np.isnan(dataset.read()).all()
    with rasterio.open(tmp_path / "d.tif") as dataset:
        assert (dataset.read(1) == dataset.nodata).all()


def test_progress_counts_every_pixel_once(tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    scene = noisy_scene(tmp_path / "s.tif")
    classify(
        scene, random_model(bands=5), tmp_path / "map.tif", tile_size=10, on_tile=lambda a, b: said.append((a, b))
    )
    assert said[-1] == (23 * 37, 23 * 37)
    assert len(said) == 3 * 4
    assert all(before < after for (before, _), (after, _) in pairwise(said))


@pytest.mark.parametrize("tile_size", [8, 128])
def test_scattered_pixels_are_those_of_the_whole_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile_size: int
) -> None:
    monkeypatch.setattr("cssd_geo.engine.inference._SCATTERED_TILE", tile_size)
    scene = open_scene(noisy_scene(tmp_path / "s.tif"))
    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    window = classifier.plan(scene, 100)[0].padded
    whole = classifier.logits(*scene.read(window, np.arange(5)), at=window.corner)
    random = np.random.default_rng(0)
    rows, cols = random.integers(5, 23, 40), random.integers(6, 19, 40)
    main, spectral = predict_pixels(classifier, scene, rows, cols)
    np.testing.assert_allclose(main, whole.main.numpy()[rows, cols], rtol=0, atol=1e-10)
    np.testing.assert_allclose(spectral, whole.spectral.numpy()[rows, cols], rtol=0, atol=1e-10)


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="tpu"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(InputError, match="no CUDA GPU"):
            choose_device("cuda")


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_the_gpu_is_that_of_the_caller_in_all_threads(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A thread that begins is on the first GPU, whatever `torch.cuda.set_device` chose in another."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    assert choose_device(name) == torch.device("cuda", 1)


def test_a_process_that_is_forked_off_leaves_the_gpu_to_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA does not survive a fork, but torch goes on seeing the GPU."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda._is_in_bad_fork", lambda: True)
    assert choose_device("auto").type == "cpu"
    with pytest.raises(InputError, match="forked off cannot use the GPU of its parent: use --device cpu or auto"):
        choose_device("cuda")


def test_windows_beyond_the_scene_are_invalid_not_invented(tmp_path: Path) -> None:
    scene = open_scene(noisy_scene(tmp_path / "s.tif"))
    _, valid = scene.read(Window(row=-50, col=100, height=4, width=5), np.arange(5))
    assert not valid.any()
