"""Little is read and stands for all: every n-th pixel is in its place, and a sample's shares are the scene's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import coordinate_cube, write_raster
from test_scene import LAYOUTS, holed_cube

from cssd_geo.products import open_scene
from cssd_geo.scenes import previews
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.masks import ShapeMask
from cssd_geo.scenes.previews import every_nth, sample_pixels
from cssd_geo.scenes.scene import Scene

BANDS, HEIGHT, WIDTH = 4, 21, 34
EVERY = np.arange(BANDS)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    folder, cube = tmp_path_factory.mktemp("previews"), holed_cube()
    files = {name: folder / f"{name}.{'dat' if 'driver' in LAYOUTS[name] else 'tif'}" for name in LAYOUTS}
    scenes = {n: open_scene(write_raster(path, cube, nodata=-5, **LAYOUTS[n])) for n, path in files.items()}
    return scenes | {"chunks": scene_of_array(scenes["tiles"].cube.chunk({"y": 5, "x": 7}))}


@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize("layout", [*LAYOUTS, "chunks"])
@given(most=st.integers(1, 40), bands=st.permutations(range(BANDS)))
def test_every_nth_pixel_is_where_it_belongs(
    stored: dict[str, Scene], layout: str, most: int, bands: list[int]
) -> None:
    values, valid = every_nth(stored[layout], np.array(bands), most)
    step = -(-WIDTH // most)
    expected = holed_cube()[bands][:, min(step, HEIGHT) // 2 :: step, min(step, WIDTH) // 2 :: step]
    np.testing.assert_array_equal(valid, (expected != -5).all(axis=0))
    np.testing.assert_array_equal(values[:, valid], expected[:, valid])
    assert max(valid.shape) <= most
    assert min(valid.shape) >= 1


@pytest.mark.parametrize("layout", [*LAYOUTS, "chunks"])
def test_small_scenes_are_sampled_whole(stored: dict[str, Scene], layout: str) -> None:
    sample = sample_pixels(stored[layout], EVERY)
    cube = holed_cube().reshape(BANDS, -1)
    assert sample.exact
    np.testing.assert_array_equal(sample.values, cube)
    np.testing.assert_array_equal(sample.valid, (cube != -5).all(axis=0))


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene that counts as large: nodata at the left quarter, and in one of its bands everywhere."""
    monkeypatch.setattr(previews, "_MOST_VALUES", 30_000)
    cube = coordinate_cube(3, 400, 600)
    cube[:, :, :150], cube[1] = -5, -5
    return open_scene(write_raster(tmp_path / "s.tif", cube, nodata=-5, tiled=True, blockxsize=32, blockysize=16))


def test_a_large_scene_is_sampled_here_and_there(large: Scene) -> None:
    sample = sample_pixels(large, np.arange(3))
    assert not sample.exact
    assert sample.values.size <= 30_000
    assert sample.empty.tolist() == [False, True, False]
    assert 1 - sample.valid.mean() == pytest.approx(0.25, abs=0.1)
    rows, cols = np.divmod(sample.values[0, sample.valid], 1000)
    assert cols.min() >= 150
    assert np.ptp(rows) > 300
    assert np.ptp(cols) > 350
    assert len(np.unique(sample.values[0, sample.valid])) == sample.valid.sum(), "no pixel twice"


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 256, "blockysize": 256}, {"blockysize": 32}])
def test_few_large_blocks_are_sampled_here_and_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: dict[str, Any]
) -> None:
    monkeypatch.setattr(previews, "_MOST_VALUES", 30_000)
    cube = coordinate_cube(3, 400, 600)
    cube[:, :, 450:] = -5
    scene = open_scene(write_raster(tmp_path / "s.tif", cube, nodata=-5, **layout))
    sample = sample_pixels(scene, np.arange(3))
    assert sample.values.size > 20_000
    assert 1 - sample.valid.mean() == pytest.approx(0.25, abs=0.1)


def test_masks_leave_their_share_and_are_looked_through(large: Scene) -> None:
    area = shapely.box(200, 100, 260, 160)
    sample = sample_pixels(large.with_mask(ShapeMask(np.array([area])), ""), np.arange(3))
    assert sample.valid.any()
    assert sample.unmasked_share == pytest.approx(0.015, abs=0.01)
    rows, cols = np.divmod(sample.values[0, sample.valid], 1000)
    assert (rows.min() >= 100, rows.max() < 160, cols.min() >= 200, cols.max() < 260) == (True,) * 4
    nothing = sample_pixels(large.with_mask(ShapeMask(np.array([], object)), ""), np.arange(3))
    assert (nothing.values.shape, nothing.unmasked_share) == ((3, 0), 0)


def test_time_is_bounded_too(large: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sample_pixels(large, np.arange(3)).values
    monkeypatch.setattr(previews, "_SECONDS", -1.0)
    begun = sample_pixels(large, np.arange(3)).values
    assert 0 < begun.size < whole.size / 10
    np.testing.assert_array_equal(begun, whole[:, : begun.shape[1]])


class Counting:
    """A source that counts how often each pixel is read."""

    def __init__(self, scene: Scene) -> None:
        self.source, self.reads = scene.source, np.zeros((scene.grid.height, scene.grid.width), int)
        self.largest = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def read(self, window: Any, bands: Any, out: Any) -> None:
        self.reads[window.slices] += 1
        self.largest = max(self.largest, window.height * window.width)
        self.source.read(window, bands, out)


def test_what_is_stored_in_one_piece_is_read_in_parts() -> None:
    scene = scene_of_array(xr.DataArray(np.ones((3, 600, 40), np.int16), dims=("band", "y", "x")))
    source: Any = Counting(scene)
    every_nth(replace(scene, source=source), EVERY[:3], 300)
    assert 0 < source.largest <= previews._ROWS * 40


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_pixel_is_read_twice(stored: dict[str, Scene], layout: str) -> None:
    source: Any = Counting(stored[layout])
    every_nth(replace(stored[layout], source=source), EVERY, 11)
    assert source.reads.max() == 1
