"""What a scene reads is what rasterio reads; what its cube carries is enough to have the scene back."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rioxarray
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import Interleaving
from rasterio.windows import Window as RasterioWindow
from scenes import NORTH_UP, ROTATED, UTM, control_points, coordinate_cube, write_raster, write_stack
from scipy.io import netcdf_file

from cssd_geo.budget import Blocks
from cssd_geo.errors import InputError, LabelError, SceneError
from cssd_geo.grid import Grid
from cssd_geo.products import open_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.validity import usable, valid_pixels
from cssd_geo.tiles import Window
from cssd_geo.vectors.vector_files import is_vector

BANDS, HEIGHT, WIDTH = 4, 21, 34
EVERY = np.arange(BANDS)
WHOLE = Window(row=0, col=0, height=HEIGHT, width=WIDTH)
SOUTH_UP = Affine(30.0, 0.0, 400_000.5, 0.0, 30.0, 5_800_000.25)
QUARTER_TURN = NORTH_UP @ Affine.rotation(90)
DEGREES = Affine(5e-6, 2e-6, 13.4, 1.5e-6, -4e-6, 52.5)
GRIDS = {
    "north up": NORTH_UP,
    "south up": SOUTH_UP,
    "rotated": ROTATED,
    "quarter turn": QUARTER_TURN,
    "tiny": DEGREES,
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "tiles": {"tiled": True, "blockxsize": 32, "blockysize": 16, "interleave": "pixel"},
    "tiles, band by band": {"tiled": True, "blockxsize": 16, "blockysize": 32, "interleave": "band"},
    "deflated tiles": {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
    "deflated strips": {"blockysize": 7, "compress": "deflate", "interleave": "band"},
    "zstd strips": {"blockysize": 4, "compress": "zstd", "interleave": "pixel"},
    "strips": {"blockysize": 1},
    "bsq": {"driver": "ENVI", "interleave": "bsq"},
    "bil": {"driver": "ENVI", "interleave": "bil"},
    "bip": {"driver": "ENVI", "interleave": "bip"},
}
"""Ways in which the same pixels can be stored: options for `write_raster`."""
ungeoreferenced = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def _cube(dtype: str = "int32") -> NDArray[Any]:
    return coordinate_cube(BANDS, HEIGHT, WIDTH).astype(dtype)


def _write_mask(path: Path, mask: NDArray[np.bool_], *, internal: bool = True) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)


def _points(points: Any) -> list[tuple[float, ...]]:
    return [(p.row, p.col, p.x, p.y) for p in points]


# Reading


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nodata here and there, not in the same pixels of every band; tiled, so that windows cross blocks."""
    random = np.random.default_rng(1)
    cube = _cube()
    cube[random.random(cube.shape) < 0.05] = -5
    path = tmp_path_factory.mktemp("holed") / "holed.tif"
    return write_raster(path, cube, nodata=-5, tiled=True, blockxsize=16, blockysize=16)


@settings(max_examples=100, deadline=None)
@given(
    row=st.integers(-30, 30),
    col=st.integers(-40, 40),
    height=st.integers(1, 60),
    width=st.integers(1, 80),
    bands=st.lists(st.integers(0, BANDS - 1), min_size=1, max_size=4, unique=True),
)
def test_any_window_equals_rasterios_boundless_read(
    holed: Path, *, row: int, col: int, height: int, width: int, bands: list[int]
) -> None:
    scene = open_scene(holed)
    values, valid = scene.read(Window(row=row, col=col, height=height, width=width), np.array(bands))
    with rasterio.open(holed) as dataset:
        indexes = [b + 1 for b in bands]
        area = RasterioWindow(col, row, width, height)
        stored = dataset.read(indexes, window=area, boundless=True, fill_value=-7)
    expected = ((stored != -5) & (stored != -7)).all(axis=0)
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(values, np.where(stored == -7, 0, stored))
    assert values.dtype == stored.dtype


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    """The same pixels in every layout, with holes."""
    folder, cube = tmp_path_factory.mktemp("stored"), holed_cube()
    files = {name: folder / f"{name}.{'dat' if 'driver' in LAYOUTS[name] else 'tif'}" for name in LAYOUTS}
    return {n: open_scene(write_raster(path, cube, nodata=-5, **LAYOUTS[n])) for n, path in files.items()}


def holed_cube() -> NDArray[np.int32]:
    cube = coordinate_cube(BANDS, HEIGHT, WIDTH)
    cube[np.random.default_rng(2).random(cube.shape) < 0.03] = -5
    return cube


def expected_in(cube: NDArray[Any], window: Window, bands: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """What reading a window returns, in plain numpy; -5 is nodata."""
    frame = 100
    values = np.pad(cube[bands], ((0, 0), (frame, frame), (frame, frame)))
    valid = np.pad((cube[bands] != -5).all(axis=0), frame)
    rows, cols = window.relative_to(Window(row=-frame, col=-frame, height=1, width=1)).slices
    return values[:, rows, cols], valid[rows, cols]


@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("layout", LAYOUTS)
@given(
    row=st.integers(-30, 30),
    col=st.integers(-40, 40),
    height=st.integers(1, 60),
    width=st.integers(1, 80),
    bands=st.lists(st.integers(0, BANDS - 1), min_size=1, max_size=4, unique=True).map(np.array),
)
def test_any_window_of_any_layout_is_the_same(
    stored: dict[str, Scene], layout: str, *, row: int, col: int, height: int, width: int, bands: NDArray[np.intp]
) -> None:
    window = Window(row=row, col=col, height=height, width=width)
    found, expected = stored[layout].read(window, bands), expected_in(holed_cube(), window, bands)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_window_is_read_into_a_part_of_arrays_and_nothing_else_is_touched(stored: dict[str, Scene]) -> None:
    window = Window(row=-2, col=3, height=9, width=50)
    for name, scene in stored.items():
        values, valid = scene.room(Window(row=0, col=0, height=20, width=60), EVERY)
        values[...], valid[...] = 9, True  # as what was there before
        part = values[:, 5:14, 4:54]
        scene.read_into(part, valid[5:14, 4:54], window, EVERY)
        expected = expected_in(holed_cube(), window, EVERY)
        np.testing.assert_array_equal(part, expected[0], err_msg=name)
        np.testing.assert_array_equal(valid[5:14, 4:54], expected[1], err_msg=name)
        outside = np.ones(valid.shape, np.bool_)
        outside[5:14, 4:54] = False
        assert (values[:, outside] == 9).all(), name
        assert valid[outside].all(), name


def test_blocks_are_those_of_the_file_and_only_raw_ones_are_read_in_part(stored: dict[str, Scene]) -> None:
    item = stored["bsq"].cube.dtype.itemsize
    assert {name: scene.source.blocks for name, scene in stored.items()} == {
        "tiles": Blocks(height=16, width=32),
        "tiles, band by band": Blocks(height=32, width=16),
        "deflated tiles": Blocks(height=16, width=16),
        "deflated strips": Blocks(height=7, width=WIDTH),
        "zstd strips": Blocks(height=4, width=WIDTH),
        "strips": Blocks(height=1, width=WIDTH),
        "bsq": Blocks(height=1, width=WIDTH, divisible=True, least_run=8192 // item),
        "bil": Blocks(height=1, width=WIDTH, divisible=True, least_run=8192 // item),
        "bip": Blocks(height=1, width=WIDTH, divisible=True, least_run=-(-8192 // (item * len(EVERY)))),
    }


@pytest.mark.parametrize("processors", [1, 2])
def test_values_of_a_pixel_lie_side_by_side_where_the_file_has_them_so(
    stored: dict[str, Scene], monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    """Of blocks only where several are decoded at a time, or none is: one by one, GDAL is faster band by band."""
    monkeypatch.setattr("cssd_geo.scenes.sources.processors", lambda: processors)
    monkeypatch.setattr("cssd_geo.scenes.sources.WORTH_A_THREAD", 1)
    for name, scene in stored.items():
        with rasterio.open(str(scene.path)) as dataset:
            best_so = processors > 1 or name in ("bip", "tiles")
            together = dataset.interleaving is Interleaving.pixel and best_so
        scene = open_scene(str(scene.path))  # noqa: PLW2901 - nothing is known of it yet
        values, _ = scene.room(WHOLE, EVERY)
        assert scene.source.bands_last is together, name
        assert values.flags.c_contiguous is not together, name
        assert values.transpose(1, 2, 0).flags.c_contiguous is together, name


@pytest.mark.parametrize(
    ("interleave", "side", "threads"), [("pixel", 16, 1), ("pixel", 64, 4), ("band", 64, 1), ("band", 256, 4)]
)
def test_threads_decode_what_is_worth_their_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interleave: str, side: int, threads: int
) -> None:
    """Many small pieces take GDAL longer to hand over than to decode."""
    monkeypatch.setattr("cssd_geo.scenes.sources.processors", lambda: 4)
    cube, tiles = np.zeros((10, 300, 300), np.int16), {"tiled": True, "blockxsize": side, "blockysize": side}
    path = write_raster(tmp_path / "s.tif", cube, compress="deflate", interleave=interleave, **tiles)
    piece = side * side * 2 * (10 if interleave == "pixel" else 1)
    assert open_scene(path).source.decoding_bytes == threads * piece


def test_gdal_keeps_whole_blocks_of_all_bands(stored: dict[str, Scene], tmp_path: Path) -> None:
    """Else a block of which a part is read would be decoded for each of its bands."""
    for name, scene in stored.items():
        assert scene.source.cache_bytes == 64_000_000, f"{name}: enough for many of its blocks"
        decoded = "compress" in LAYOUTS[name]
        assert (scene.source.decoding_bytes > 0) is decoded, name
    cube = np.zeros((40, 1024, 1024), np.int16)
    path = write_raster(
        tmp_path / "large.tif", cube, tiled=True, blockxsize=1024, blockysize=1024, compress="deflate", zlevel=1
    )
    assert open_scene(path).source.cache_bytes == 2 * cube.nbytes


def test_blocks_of_an_array_are_its_chunks() -> None:
    array = xr.DataArray(holed_cube(), dims=("band", "y", "x"))
    assert scene_of_array(array).source.blocks == Blocks(height=HEIGHT, width=WIDTH, divisible=True)
    chunked = scene_of_array(array.chunk({"band": 1, "y": 8, "x": 13}))
    assert chunked.source.blocks == Blocks(height=8, width=13)
    assert chunked.source.cache_bytes == 64_000_000
    assert chunked.source.decoding_bytes == 0
    assert not chunked.source.bands_last
    assert chunked.source.mask(WHOLE) is None


def test_only_the_bands_asked_for_decide_validity(tmp_path: Path) -> None:
    cube = _cube()
    cube[2] = -5
    scene = open_scene(write_raster(tmp_path / "s.tif", cube, nodata=-5))
    assert scene.read(WHOLE, np.array([0, 1, 3]))[1].all()
    assert not scene.read(WHOLE, EVERY)[1].any()


def test_each_band_has_its_own_nodata(tmp_path: Path) -> None:
    files = []
    for band, nodata in enumerate((7, None, 1_000_009)):
        plane = _cube()[:1]
        plane[0, band, 5], plane[0, 9, 9] = 7, 1_000_009
        files.append(write_raster(tmp_path / f"{band}.tif", plane, nodata=nodata))
    scene = open_scene(write_stack(tmp_path / "stack.vrt", files))
    np.testing.assert_array_equal(scene.nodata, [7, np.nan, 1_000_009])
    values, valid = scene.read(WHOLE, np.arange(3))
    np.testing.assert_array_equal(valid, (values[0] != 7) & (values[2] != 1_000_009))
    assert (~valid).sum() == 3  # 7 in band 1: planted, and that of row 0; 1,000,009 in band 3
    array = scene_of_array(scene.cube)
    np.testing.assert_array_equal(array.nodata, scene.nodata)
    np.testing.assert_array_equal(array.read(WHOLE, np.arange(3))[1], valid)
    np.testing.assert_array_equal(scene_of_array(scene.cube[1:]).nodata, scene.nodata[1:])


@pytest.mark.parametrize("nodata", [-9999.0, 3.4e38, -3.4028234663852886e38, 0.1, np.nan, None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_nodata_nan_and_infinity_are_not_data(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    cube = _cube(dtype)
    cube[0, 2, 3] = np.nan if nodata is None else nodata
    cube[1, 4, 5], cube[2, 6, 7], cube[3, 8, 9] = np.nan, np.inf, -np.inf
    scene = open_scene(write_raster(tmp_path / "s.tif", cube, nodata=nodata))
    _, valid = scene.read(WHOLE, EVERY)
    assert np.argwhere(~valid).tolist() == [[2, 3], [4, 5], [6, 7], [8, 9]]
    np.testing.assert_array_equal(scene_of_array(scene.cube).read(WHOLE, EVERY)[1], valid)


@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("float32", -1.7976931348623157e308), ("uint16", -9999.0), ("int16", -99.5), ("uint8", 1e9)],
)
def test_nodata_that_the_type_cannot_hold_matches_nothing(dtype: str, nodata: float) -> None:
    values = np.array([0, 1, 241, 55537], np.int64).astype(dtype).reshape(1, 2, 2)  # 55537: -9999 wrapped
    assert usable(values, np.array([nodata])).all()


def test_nodata_that_the_type_cannot_hold_travels_with_the_cube(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", _cube("uint16"))
    vrt = tmp_path / "s.vrt"
    rasterio.shutil.copy(path, vrt, driver="VRT")
    text = vrt.read_text()
    vrt.write_text(text.replace("<ColorInterp>", "<NoDataValue>0.5</NoDataValue><ColorInterp>"))
    scene = open_scene(vrt)
    assert scene.read(WHOLE, EVERY)[1].all()
    np.testing.assert_array_equal(scene_of_array(scene.cube).nodata, scene.nodata)


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize("nodata", [None, -5])
def test_a_mask_counts_beside_nodata(tmp_path: Path, nodata: int | None, *, internal: bool) -> None:
    cube = _cube("int16")
    cube[1, 3, 4] = -5
    path = write_raster(tmp_path / "s.tif", cube, nodata=nodata)
    mask = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.7
    mask[3, 4] = True
    _write_mask(path, mask, internal=internal)
    assert (tmp_path / "s.tif.msk").exists() is not internal
    scene = open_scene(path)
    expected = mask.copy()
    expected[3, 4] = nodata is None
    values, valid = scene.read(WHOLE, EVERY)
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(values, cube)
    # the cube holds the values as stored, and the mask beside them; a scene of it knows both
    np.testing.assert_array_equal(scene.cube, cube)
    np.testing.assert_array_equal(scene.cube.coords["valid"], mask)
    seen, known = scene_of_array(scene.cube).read(WHOLE, EVERY)
    np.testing.assert_array_equal(known, expected)
    np.testing.assert_array_equal(seen[:, expected], cube[:, expected])
    part = scene_of_array(scene.cube[:, 4:, ::2])
    np.testing.assert_array_equal(
        part.read(Window(row=0, col=0, height=HEIGHT - 4, width=WIDTH // 2), EVERY)[1], expected[4:, ::2]
    )


def test_a_scene_shows_itself_in_one_line(holed: Path) -> None:
    scene = open_scene(holed)
    size = f"{HEIGHT} x {WIDTH} pixels of {scene.dtype}"
    assert (
        repr(scene)
        == f"<Scene {scene.name}: {size}, {BANDS} bands, {BANDS} good, wavelengths unknown, EPSG:32633>"
    )


def test_scenes_can_be_looked_for_in_lists_and_be_keys(holed: Path) -> None:
    one, other = open_scene(holed), open_scene(holed)
    assert one in [other, one]
    assert one != other
    assert {one: 1, other: 2}[one] == 1


def test_a_damaged_file_says_where(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", np.tile(_cube(), (1, 20, 20)), compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(
        SceneError, match=r"s.tif cannot be read at row 300, column 0 \(50 x 60 pixels\).*copy the file again"
    ):
        open_scene(path).read(Window(row=300, col=0, height=50, width=60), EVERY)


def test_a_scene_in_another_process_reads_the_same(holed: Path) -> None:
    scene = open_scene(holed)
    there = pickle.loads(pickle.dumps(scene.source))  # noqa: S301 - our own
    here, other = np.empty((2, *scene.cube.shape), scene.cube.dtype)
    scene.source.read(WHOLE, EVERY, here)
    there.read(WHOLE, EVERY, other)
    np.testing.assert_array_equal(other, here)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(scene.cube)), scene.cube)  # noqa: S301


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_is_forked_off_reads_the_same_while_its_parent_reads(tmp_path: Path) -> None:
    """With a handle in common, each read where the other one had left off."""
    cube = np.random.default_rng(0).integers(0, 9999, (BANDS, 600, 600), np.int16)
    write_raster(tmp_path / "s.tif", cube, tiled=True, blockxsize=64, blockysize=64, interleave="band")
    script = (
        "import os, numpy as np\n"
        "from cssd_geo import open_scene\n"
        "from cssd_geo.tiles import Window\n"
        "cube, scene = np.load('cube.npy'), open_scene('s.tif')\n"
        f"every = np.arange({BANDS})\n"
        "scene.read(Window(row=0, col=0, height=9, width=9), every)\n"
        "child = os.fork()\n"
        "random, wrong = np.random.default_rng(child and 1), 0\n"
        "for row, col in random.integers(0, 500, (100, 2)).tolist():\n"
        "    values, _ = scene.read(Window(row=row, col=col, height=99, width=99), every)\n"
        "    wrong += not np.array_equal(values, cube[:, row : row + 99, col : col + 99])\n"
        "if child:\n"
        "    wrong += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "os._exit(min(wrong, 255))\n"
    )
    np.save(tmp_path / "cube.npy", cube)
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], cwd=tmp_path, check=True, timeout=90)


# The cube


def _indexes(size: int) -> st.SearchStrategy[Any]:
    """Slices, whole numbers, lists. Not slices that begin before the array: dask gets these wrong."""
    bounds = st.one_of(st.none(), st.integers(-size, size + 5))
    slices = st.builds(slice, bounds, bounds, st.sampled_from([None, 1, 2, 3, -1, -2, -5]))
    return st.one_of(slices, st.integers(0, size - 1), st.lists(st.integers(0, size - 1), max_size=3))


@settings(max_examples=50, deadline=None)
@given(band=_indexes(BANDS), row=_indexes(HEIGHT), col=_indexes(WIDTH))
def test_the_cube_indexes_like_the_array_that_rasterio_reads(holed: Path, band: Any, row: Any, col: Any) -> None:
    with rasterio.open(holed) as dataset:
        stored = xr.DataArray(dataset.read(), dims=("band", "y", "x"))
    lazy = open_scene(holed).cube
    np.testing.assert_array_equal(lazy[band, row, col], stored[band, row, col])
    np.testing.assert_array_equal(
        lazy.isel(y=row).isel(x=col).isel(band=band), stored.isel(y=row).isel(x=col).isel(band=band)
    )


@pytest.mark.parametrize(
    ("profile", "block"),
    [
        ({"tiled": True, "blockxsize": 256, "blockysize": 128}, (256, 512)),
        ({"blockysize": 10}, (370, 700)),
        ({"tiled": True, "blockxsize": 512, "blockysize": 512}, (512, 512)),
    ],
)
def test_chunks_are_whole_blocks_of_the_file(
    tmp_path: Path, profile: dict[str, Any], block: tuple[int, int]
) -> None:
    cube = np.zeros((2, 900, 700), np.uint8)
    scene = open_scene(write_raster(tmp_path / "s.tif", cube, **profile))
    with rasterio.open(tmp_path / "s.tif") as dataset:
        rows, cols = dataset.block_shapes[0]
    assert scene.block_shape[0] % rows == 0 or scene.block_shape[0] == 900
    assert scene.block_shape[1] % cols == 0 or scene.block_shape[1] == 700
    assert scene.cube.data.chunksize == (2, *scene.block_shape)
    assert scene.block_shape == block


def _there_and_back(path: Path) -> tuple[Scene, Scene]:
    scene = open_scene(path)
    return scene, scene_of_array(scene.cube)


@pytest.mark.parametrize("name", GRIDS)
def test_a_cube_gives_the_scene_back_to_the_last_digit(tmp_path: Path, name: str) -> None:
    path = write_raster(tmp_path / "s.tif", _cube("int16"), transform=GRIDS[name], nodata=-9999)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1,) * BANDS, (3.0,) * BANDS
    scene, back = _there_and_back(path)
    assert back.grid == scene.grid == Grid(height=HEIGHT, width=WIDTH, transform=GRIDS[name], crs=UTM)
    assert back.bands == scene.bands
    assert scene.cube.rio.nodata == -9999
    assert scene.cube.rio.crs == UTM
    for given_, found in ((scene.nodata, back.nodata), (scene.scale, back.scale), (scene.offset, back.offset)):
        np.testing.assert_array_equal(found, given_)
    assert (scene.scale[0], scene.offset[0]) == (0.1, 3.0)


def test_scales_that_differ_between_bands_travel_with_the_cube(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", _cube())
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1.0, 0.5, 0.25, 0.125), (0.0, 1.0, 2.0, 3.0)
    scene, back = _there_and_back(path)
    np.testing.assert_array_equal(back.scale, [1.0, 0.5, 0.25, 0.125])
    np.testing.assert_array_equal(back.offset, scene.offset)
    np.testing.assert_array_equal(scene_of_array(scene.cube[::-2]).scale, [0.125, 0.5])


@ungeoreferenced
def test_scenes_with_control_points_or_without_a_georeference_come_back(tmp_path: Path) -> None:
    points = control_points(ROTATED, HEIGHT, WIDTH)
    scene, back = _there_and_back(write_raster(tmp_path / "gcps.tif", _cube(), transform=None, gcps=points))
    assert (scene.grid.transform, scene.grid.crs) == (None, UTM)
    assert _points(back.grid.gcps) == _points(scene.grid.gcps) == _points(points)
    assert back.grid.same_as(scene.grid)
    scene, back = _there_and_back(write_raster(tmp_path / "none.tif", _cube(), transform=None, crs=None))
    assert back.grid == scene.grid == Grid(height=HEIGHT, width=WIDTH, transform=None, crs=None)


steps = st.sampled_from([1, 2, 3, -1, -2])
cuts = st.builds(lambda a, b, step: slice(a, b, step) if step > 0 else slice(b, a, step),
                 st.integers(0, 9), st.integers(11, 20), steps)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from([*GRIDS, "gcps"]),
    down=cuts,
    across=cuts,
    lines=st.sampled_from([(), ("y",), ("x",), ("y", "x")]),
)
def test_a_sliced_cube_knows_where_its_pixels_lie(
    tmp_path_factory: pytest.TempPathFactory, name: str, down: slice, across: slice, lines: tuple[str, ...]
) -> None:
    folder, cube = tmp_path_factory.getbasetemp(), _cube()
    transform = GRIDS.get(name, ROTATED)
    if name == "gcps":
        points = control_points(transform, HEIGHT, WIDTH)
        path = write_raster(folder / "sliced.tif", cube, transform=None, gcps=points)
    else:
        path = write_raster(folder / "sliced.tif", cube, transform=transform)
    cut = open_scene(path).cube.isel(y=down, x=across)
    cut = cut.isel({line: slice(0, 1) for line in lines})  # a single line does not know its step any more
    grid = scene_of_array(cut).grid
    pixel = grid.transform or rasterio.transform.from_gcps(list(grid.gcps))
    values = cut[0].to_numpy()
    for row, col in ((0, 0), (values.shape[0] - 1, values.shape[1] - 1)):
        stored_row, stored_col = divmod(int(values[row, col]), 1000)
        expected = transform @ (stored_col + 0.5, stored_row + 0.5)
        size = abs(transform.a) + abs(transform.b)
        assert np.abs(np.subtract(pixel * (col + 0.5, row + 0.5), expected)).max() < 1e-5 * size


@pytest.mark.parametrize("x", [[5.0] * 4, [np.nan] * 4, [0.0, 1.0, np.nan, 3.0], [0.0, 1.0, 2.0, np.inf]])
def test_a_cube_whose_coordinates_name_no_places_is_refused(x: list[float]) -> None:
    array = xr.DataArray(np.ones((2, 3, 4)), {"y": [3.0, 2.0, 1.0], "x": x}, dims=("band", "y", "x"))
    with pytest.raises(SceneError, match="not evenly spaced in x"):
        scene_of_array(array)


def test_a_cube_with_gaps_is_refused(tmp_path: Path) -> None:
    for name, transform in GRIDS.items():
        cube = open_scene(write_raster(tmp_path / "s.tif", _cube(), transform=transform)).cube
        with pytest.raises(SceneError, match="not evenly spaced"):
            scene_of_array(cube.isel(x=[0, 1, 5])), name


# Arrays of other origin


def test_an_array_of_rioxarray_is_the_same_scene(tmp_path: Path) -> None:
    cube = _cube("int16")
    cube[:, 3, 5] = -9999
    path = write_raster(tmp_path / "s.tif", cube, nodata=-9999)
    scene = open_scene(path)
    for masked in (False, True):
        array = rioxarray.open_rasterio(path, masked=masked)
        assert isinstance(array, xr.DataArray)
        other = scene_of_array(array.transpose("x", "band", "y"))
        assert other.grid == scene.grid
        np.testing.assert_array_equal(other.nodata, scene.nodata)
        values, valid = other.read(WHOLE, EVERY)
        assert np.argwhere(~valid).tolist() == [[3, 5]]
        np.testing.assert_array_equal(values[:, valid], cube[:, valid])


@pytest.mark.parametrize("opened", ["rioxarray", "xarray"])
def test_the_nodata_of_a_file_is_none_of_its_scaled_values(tmp_path: Path, opened: str) -> None:
    """A stored 1000 becomes 0, and the 0 that means nodata becomes NaN."""
    cube = np.full((2, 3, 4), 1500, np.uint16)
    cube[:, 0, 0], cube[:, 1, 1] = 0, 1000
    path = write_raster(tmp_path / "s.tif", cube, nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5, 0.5), (-500.0, -500.0)
    if opened == "xarray":
        open_scene(path).cube.to_netcdf(tmp_path / "s.nc", engine="h5netcdf")
        array = xr.open_dataset(tmp_path / "s.nc", engine="h5netcdf")["s"]
    else:
        array = rioxarray.open_rasterio(path, mask_and_scale=True)
    window = Window(row=0, col=0, height=3, width=4)
    values, valid = scene_of_array(array).read(window, np.arange(2))
    assert np.argwhere(~valid).tolist() == [[0, 0]]
    assert values[0, 1, 1] == 0


def _envi_scene(path: Path) -> Path:
    """Bands that do not ascend, one of them bad, and a scale."""
    write_raster(path, _cube("int16"), driver="ENVI")
    header = path.with_suffix(".hdr")
    lists = {
        "wavelength": "0.9,0.8,0.6,0.5",
        "fwhm": ".01,.01,.01,.01",
        "bbl": "1,1,0,1",
        "wavelength units": "um",
    }
    told = "".join(f"{key} = {{{value}}}\n" for key, value in lists.items()).replace("{um}", "um")
    header.write_text(f"{header.read_text()}\n{told}reflectance scale factor = 10000\n")
    return path


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1), [2], [3, 0, 2]], ids=str)
def test_an_array_of_an_envi_scene_has_its_bands_also_sliced(tmp_path: Path, order: Any) -> None:
    path = _envi_scene(tmp_path / "s.dat")
    scene, array = open_scene(path), rioxarray.open_rasterio(path)
    assert isinstance(array, xr.DataArray)
    other = scene_of_array(array.isel(band=order))
    assert other.bands == scene.bands.take(np.arange(BANDS)[order])
    assert (other.scale == 1e-4).all()
    assert other.notes == ()
    again = scene_of_array(other.with_scale(0.5).cube)
    assert (again.scale == 0.5).all()


@pytest.mark.parametrize("order", [slice(None, None, -1), [2], [3, 0, 2]], ids=str)
def test_scales_that_rioxarray_lists_stay_with_their_bands(order: Any) -> None:
    scales, offsets = (1e-4, 2e-4, 3e-4, 4e-4), (0.0, 0.1, 0.2, 0.3)
    array = xr.DataArray(_cube(), dims=("band", "y", "x"), attrs={"scales": scales, "offsets": offsets})
    array = array.assign_coords(band=np.arange(1, BANDS + 1))
    chosen = scene_of_array(array).take_bands(np.arange(BANDS)[order], "chosen")
    for scene in (scene_of_array(array.isel(band=order)), scene_of_array(chosen.cube)):
        np.testing.assert_array_equal(scene.scale, np.array(scales)[order])
        np.testing.assert_array_equal(scene.offset, np.array(offsets)[order])


def test_a_crs_that_stayed_behind_in_a_dataset_is_told(tmp_path: Path) -> None:
    open_scene(write_raster(tmp_path / "s.tif", _cube())).cube.to_netcdf(tmp_path / "s.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as opened:
        scene = scene_of_array(opened["s"])
    assert scene.grid.crs is None
    assert "it is in the variable spatial_ref, without which" in scene.notes[0]
    with xr.open_dataset(tmp_path / "s.nc", engine="h5netcdf", decode_coords="all") as opened:
        scene = scene_of_array(opened["s"])
    assert (scene.grid.crs, scene.notes) == (UTM, ())


def test_bands_without_numbers_count_from_one() -> None:
    assert scene_of_array(xr.DataArray(_cube(), dims=("band", "y", "x"))).band_numbers[0] == 1


def test_lists_of_one_array_are_not_those_of_several_put_together() -> None:
    """Each of them numbers its bands from 1, and the first one's attributes are kept."""
    near = xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"), attrs={"bbl": "1,0"})
    near = near.assign_coords(band=[1, 2], wavelength_nm=("band", [500.0, 700.0]))
    far = near.assign_coords(wavelength_nm=("band", [1500.0, 1700.0]))
    assert scene_of_array(near).bands.good == (True, False)
    both = scene_of_array(xr.concat([near, far], "band"))
    assert (both.bands.wavelength_nm, both.bands.good) == ((500, 700, 1500, 1700), (True,) * 4)
    single = [near.isel(band=[0]).drop_vars("wavelength_nm").assign_attrs(bbl="1") for _ in range(3)]
    stacked = xr.concat(single, "band").assign_attrs(wavelength=[500.0, 600.0, 700.0])
    assert scene_of_array(stacked).bands.wavelength_nm == (500, 600, 700)


def test_a_copy_that_rioxarray_wrote_of_an_envi_scene_is_the_same_scene(tmp_path: Path) -> None:
    path = _envi_scene(tmp_path / "s.dat")
    array = rioxarray.open_rasterio(path)
    assert isinstance(array, xr.DataArray)
    array.rio.to_raster(tmp_path / "copy.tif")
    scene, other = open_scene(path), open_scene(tmp_path / "copy.tif")
    assert (other.bands.wavelength_nm, other.bands.good) == (scene.bands.wavelength_nm, scene.bands.good)
    np.testing.assert_array_equal(other.scale, scene.scale)


def test_what_an_array_says_of_its_bands_in_doubt_is_a_note() -> None:
    array = xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"), attrs={"bbl": "1,0,1", "wavelength": 460.0})
    scene = scene_of_array(array.assign_coords(wavelength=("band", [0.7, 0.8]), fwhm=("band", [9.0, 9.0])))
    assert (scene.bands.wavelength_nm, scene.bands.fwhm_nm) == ((700, 800), (9, 9))
    assert [note.partition(" for ")[0].partition(" from ")[0] for note in scene.notes] == [
        "The list bbl does not hold one number",
        "The file gives no unit",
        "The band widths (FWHM)",
    ]
    assert scene_of_array(array).bands.wavelength_nm is None


def test_units_of_coordinates_count() -> None:
    array = xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"))
    told = {"wavelength": ("band", [0.7, 0.8], {"units": "um"}), "fwhm": ("band", [9.0, 9.0], {"units": "nm"})}
    scene = scene_of_array(array.assign_coords(told))
    assert (scene.bands.wavelength_nm, scene.bands.fwhm_nm, scene.notes) == ((700, 800), (9, 9), ())


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_nodata_that_an_array_cannot_hold_is_no_pixels(dtype: str) -> None:
    array = xr.DataArray(np.zeros((2, 3, 4), dtype), dims=("band", "y", "x"), attrs={"_FillValue": -9999})
    scene = scene_of_array(array)
    assert np.isnan(scene.nodata).all()
    assert scene.read(Window(row=0, col=0, height=3, width=4), np.arange(2))[1].all()


def test_values_that_were_made_whole_numbers_have_no_nan_for_nodata() -> None:
    array = xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x")).rio.write_nodata(np.nan)
    assert np.isnan(scene_of_array(array.astype(np.int16).assign_attrs(array.attrs)).nodata).all()


def test_attributes_that_are_no_lists_of_numbers_do_no_harm() -> None:
    attributes = {"spec": [[1, 2], [3]], "bands": [{"nodata": 0}, {"nodata": 0}]}
    array = xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"), attrs=attributes)
    assert scene_of_array(array).notes == ()


@pytest.mark.parametrize(
    ("axis", "attributes", "expected"),
    [
        ([700, 800], {"units": "nm"}, [700, 800]),
        ([0.7, 0.8], {"units": "um"}, [700, 800]),
        ([700.0, 800.0], {"long_name": "Wavelength", "units": "nm"}, [700, 800]),
        ([700.0, 800.0], {"standard_name": "radiation_wavelength", "units": "nm"}, [700, 800]),
        ([700.5, 801.2], {}, [700.5, 801.2]),
        (["band 1 (700 nm)", "band 2 (800 nm)"], {}, [700, 800]),
    ],
)
@pytest.mark.parametrize("cut", [slice(None), slice(None, None, -1), [1]], ids=str)
def test_wavelengths_may_be_the_axis_of_the_bands(
    axis: list[Any], attributes: dict[str, str], expected: list[float], cut: Any
) -> None:
    array = xr.DataArray(np.zeros((2, 3, 4)), dims=("wavelength", "y", "x"))
    array = array.assign_coords(wavelength=("wavelength", axis, attributes)).rename(wavelength="band")
    scene = scene_of_array(array.isel(band=cut))
    assert scene.bands.wavelength_nm == tuple(np.array(expected)[cut])
    assert scene.notes == ()
    assert scene.band_numbers.tolist() == list(range(1, len(scene.bands) + 1))


@pytest.mark.parametrize("axis", [[700.0, 800.0], [1300, 1400]])
def test_an_axis_that_may_be_wavelengths_is_told(axis: list[float]) -> None:
    array = xr.DataArray(np.zeros((2, 3, 4)), {"band": axis}, dims=("band", "y", "x"))
    assert [note.partition(":")[0] for note in scene_of_array(array).notes] == [
        f"The coordinate band runs from {axis[0]:g} to {axis[1]:g}, without a unit"
    ]
    assert scene_of_array(array.assign_coords(wavelength_nm=("band", [500.0, 600.0]))).notes == ()
    for plain in (
        array.assign_coords(band=[400, 401]),
        array.assign_coords(band=[1.0, 2.0]),
        array.drop_vars("band"),
    ):
        assert scene_of_array(plain).notes == ()


def test_bands_of_stac_items_have_their_widths() -> None:
    array = xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"))
    told = {"center_wavelength": ("band", [0.7, 0.8]), "full_width_half_max": ("band", [0.01, 0.02])}
    bands = scene_of_array(array.assign_coords(told)).bands
    assert (bands.wavelength_nm, bands.fwhm_nm) == ((700, 800), (10, 20))


def test_coordinates_alone_give_the_transform() -> None:
    rows, cols = np.arange(5), np.arange(7)
    array = xr.DataArray(
        np.zeros((2, 5, 7)), dims=("band", "y", "x"), coords={"y": 100.0 - 10 * rows, "x": 3.0 + 20 * cols}
    )
    assert scene_of_array(array).grid.transform == Affine(20.0, 0.0, -7.0, 0.0, -10.0, 105.0)
    assert scene_of_array(array.drop_vars(["x", "y"])).grid.transform is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: np.zeros((2, 3, 4)), r"DataArray, not ndarray.*dims=\(\"band\", \"y\", \"x\"\)"),
        (lambda: xr.Dataset({"a": ("x", [1])}), "DataArray, not Dataset: of a Dataset take the variable"),
        (
            lambda: xr.DataArray(np.zeros((3, 4)), dims=("y", "x")),
            r"band, y and x, not y, x: name them so \(\.rename",
        ),
        (lambda: xr.DataArray(np.zeros((2, 3, 4), complex), dims=("band", "y", "x")), "complex128"),
        (lambda: xr.DataArray(np.zeros((2, 3, 4), bool), dims=("band", "y", "x")), "bool"),
        (
            lambda: xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"), attrs={"scales": (1.0, 2.0, 3.0)}),
            "3 values of scale for 2 bands",
        ),
        (
            lambda: xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"), attrs={"scale_factor": 0.0}),
            r"scale is \[0.0, 0.0\] .* no scale 0",
        ),
        (
            lambda: xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"), attrs={"nodata": "none"}),
            r"nodata is no number \(.*'none'\): correct it",
        ),
        (
            lambda: xr.DataArray(_cube(), dims=("band", "y", "x"), attrs={"scale_factor": "none"}),
            r"the array's scale is no number \(.*'none'\): correct it",
        ),
        (lambda: xr.DataArray(np.zeros((2, 0, 4)), dims=("band", "y", "x")), r"empty \(2 band, 0 y, 4 x\)"),
        (lambda: xr.DataArray(np.zeros((0, 3, 4)), dims=("band", "y", "x")), r"empty \(0 band, 3 y, 4 x\)"),
    ],
)
def test_arrays_that_are_no_scene_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((SceneError, InputError), match=message):
        scene_of_array(make())


@pytest.mark.parametrize("path", ["", None, xr.DataArray(np.zeros((2, 3, 4)), dims=("band", "y", "x"))])
def test_a_scene_is_opened_by_its_path_alone(path: Any) -> None:
    with pytest.raises(InputError, match=r"by its path, not an? \w+.*; scene_of_array takes a DataArray"):
        open_scene(path)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="here it is float64")
def test_values_that_are_too_long_are_refused() -> None:
    array = xr.DataArray(np.zeros((2, 3, 4), np.longdouble), dims=("band", "y", "x"))
    with pytest.raises(SceneError, match=r"holds float\d+ values, too long .* use \.astype\('float64'\)"):
        scene_of_array(array)


# Files that are no scene


def test_what_cannot_be_opened_is_said_in_one_line(tmp_path: Path) -> None:
    text, arrays = tmp_path / "notes.txt", tmp_path / "scene.mat"
    text.write_text("no raster")
    with h5py.File(
        arrays, "w", userblock_size=512
    ) as file:  # as MATLAB 7.3 writes it: GDAL would swap rows and columns
        file["cube"] = np.zeros((3, 4, 5))
    for path, message in (
        (tmp_path / "missing.tif", "does not exist"),
        (text, "not a raster that can be read"),
        (arrays, r"holds arrays of MATLAB, .* write them to a GeoTIFF first \(docs/formats\.md"),
        (tmp_path, "is a folder, and no sensor product that is known"),
    ):
        with pytest.raises(SceneError, match=message) as caught:
            open_scene(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("flight.zip", b"PK\x03\x04rest", r"archive \(zip\): unpack it first"),
        ("flight.tar.gz", b"\x1f\x8brest", r"compressed \(gzip\): unpack it first"),
        ("EO1H.L1R", b"\x0e\x03\x13\x01rest", r"HDF4, which this GDAL lacks: convert it to GeoTIFF or ENVI"),
        ("scene.tif", b"", "is empty: copy it again"),
        ("scene.IMG", b"values", r"its ENVI header is missing: it belongs beside it, as scene\.hdr"),
        ("flight_rd_rf", b"values", r"as flight_rd_rf\.hdr"),
        ("scene.tif", b"<html>404", "is damaged, or not what its name says: copy it again"),
        ("scene.nc", b"<html>404", "is damaged, or not what its name says: copy it again"),
        ("scene.rsw", b"RSW\0values", r"rarer format, make a GeoTIFF of it first \(gdal_translate\)"),
    ],
)
def test_files_that_are_no_rasters_as_they_are_say_what_to_do(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        SceneError, match=rf"not a raster that can be read: .* supported file format\. .*{message}"
    ):
        open_scene(tmp_path / name)


@pytest.mark.parametrize("path", ["/proc/self/clear_refs", "a" * 300 + ".tif", f"/{'a' * 300}"])
def test_what_the_system_does_not_let_us_read_is_an_error_of_ours(path: str) -> None:
    with pytest.raises(SceneError, match=r"does not exist or is no file: |is not a raster that can be read: "):
        open_scene(path)


@pytest.mark.parametrize("name", ["scene.tif", "scene.h5", "scene.img", "fields.gpkg"])
def test_a_pipe_is_no_file_and_nobody_waits_for_its_writer(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    with _written_to(path):
        for read in (open_scene, is_vector):
            with pytest.raises((SceneError, LabelError), match=rf"{name} does not exist or is no file: check"):
                read(path)


@contextmanager
def _written_to(pipe: Path) -> Iterator[None]:
    """Write nothing to a pipe, again and again, so that who waits for it all the same does not do so for ever."""
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            pipe.write_bytes(b"")

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        try:
            yield
        finally:
            over.set()
            reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # for which the last writer waits
            writing.result()
            os.close(reader)


def test_a_header_with_something_before_its_first_word_is_named(tmp_path: Path) -> None:
    (tmp_path / "scene.dat").write_bytes(b"values")
    (tmp_path / "Scene.HDR").write_text("ENVI\nsamples = 1\n", encoding="utf-8-sig")
    with pytest.raises(SceneError, match=r"Its header, Scene\.HDR, does not begin with the word ENVI"):
        open_scene(tmp_path / "scene.dat")


@pytest.mark.parametrize("dtype", ["CInt16", "CInt32", "CFloat32", "CFloat64"])
def test_complex_values_are_refused(tmp_path: Path, dtype: str) -> None:
    files = [write_raster(tmp_path / "s.tif", _cube())] * 2
    with pytest.raises(SceneError, match=r"complex.* a scene has real numbers"):
        open_scene(write_stack(tmp_path / "c.vrt", files, kind=dtype))


def test_bands_of_several_types_are_refused(tmp_path: Path) -> None:
    files = [write_raster(tmp_path / f"{dtype}.tif", _cube(dtype)[:1]) for dtype in ("float32", "int32")]
    stack = write_stack(tmp_path / "stack.vrt", files)
    with pytest.raises(SceneError, match=r"several types \(float32, int32\)"):
        open_scene(stack)


def test_a_container_names_its_subdatasets_and_these_open(tmp_path: Path) -> None:
    path = tmp_path / "two.nc"
    with netcdf_file(str(path), "w") as container:
        for name, size in (("y", 5), ("x", 7), ("b", 3)):
            container.createDimension(name, size)
        for name in ("one", "two"):
            container.createVariable(name, "i4", ("b", "y", "x"))[:] = np.arange(105).reshape(3, 5, 7)
    with pytest.raises(SceneError, match=r"To use one \(3 b, 5 y, 7 x\) without wavelengths, rename"):
        open_scene(path)
    assert open_scene(f"netcdf:{path}:two").cube.shape == (3, 5, 7)


# Grids


def test_grids_with_other_control_points_differ() -> None:
    grid = Grid(height=5, width=7, transform=None, crs=UTM, gcps=tuple(control_points(ROTATED, 5, 7)))
    again = Grid(height=5, width=7, transform=None, crs=UTM, gcps=tuple(control_points(ROTATED, 5, 7)))
    moved = Grid(height=5, width=7, transform=None, crs=UTM, gcps=tuple(control_points(NORTH_UP, 5, 7)))
    assert grid.same_as(again)
    assert not grid.same_as(moved)
    assert not grid.same_as(Grid(height=5, width=7, transform=None, crs=UTM))
    assert isinstance(again.gcps[0], GroundControlPoint)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_a_block_that_cannot_be_decoded_never_reads_as_data(interleave: str, tmp_path: Path) -> None:
    cube = np.random.default_rng(1).integers(0, 4000, (6, 64, 64)).astype(np.int16)
    blocks: dict[str, Any] = {"blockxsize": 16, "blockysize": 16, "compress": "deflate", "interleave": interleave}
    path = write_raster(tmp_path / "scene.tif", cube, tiled=True, **blocks)
    with rasterio.open(path) as dataset:
        begin = int(dataset.get_tag_item("BLOCK_OFFSET_1_2", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[begin : begin + 60] = b"\xff" * 60
    path.write_bytes(data)
    scene, every = open_scene(path), np.arange(6)
    damaged = Window(row=32, col=16, height=16, width=16)
    for window in (
        Window(row=0, col=0, height=64, width=64),
        damaged,
        damaged,
        Window(row=38, col=25, height=9, width=9),
    ):
        with pytest.raises(SceneError, match="cannot be read at"):
            scene.read(window, every)
        values, _ = scene.read(Window(row=0, col=32, height=64, width=32), every)
        assert (values == cube[:, :, 32:]).all()


# What is no measurement


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("nodata", [np.nan, -99.0, 0.0, 7.0])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), clipped=st.booleans())
def test_the_largest_number_of_16_bits_is_no_data(dtype: str, nodata: float, *, seed: int, clipped: bool) -> None:
    random, largest = np.random.default_rng(seed), np.iinfo(dtype).max
    values = random.integers(0, 9, (3, 5, 4)).astype(dtype)
    if clipped:
        values[random.random(values.shape) < 0.2] = largest
    expected = values.astype(np.int64) != nodata
    if dtype.endswith("int16"):
        expected &= values != largest
    np.testing.assert_array_equal(usable(values, np.full(3, nodata)), expected)
    np.testing.assert_array_equal(valid_pixels(values, np.full(3, nodata)), expected.all(axis=0))


def test_clipped_pixels_are_not_valid_in_files_and_arrays(tmp_path: Path) -> None:
    cube = _cube("uint16")
    cube[2, 4, 5] = 65535
    scene = open_scene(write_raster(tmp_path / "s.tif", cube))
    masked = scene.cube.assign_coords(valid=(("y", "x"), np.ones(scene.grid.shape, np.bool_)))  # becomes float
    for each in (scene, scene_of_array(scene.cube), scene_of_array(masked)):
        assert np.argwhere(~each.read(WHOLE, EVERY)[1]).tolist() == [[4, 5]]


@given(
    dtype=st.sampled_from(
        ["int8", "uint8", "int16", "uint16", "int32", "int64", "uint64", "float16", "float32", "float64"]
    ),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_a_pixel_is_valid_if_each_of_its_values_is_data(dtype: str, data: st.DataObject) -> None:
    """Value by value, in words; numbers at the ends of the type, NaN, infinity and nodata among them."""
    kind = np.dtype(dtype)
    real = kind.kind == "f"
    ends = [np.finfo(kind) if real else np.iinfo(kind)][0]
    odd = [ends.min, ends.max, 0, 1, 7, *([np.nan, np.inf, -np.inf, 9e29, -1.1e30] if real else [])]
    with np.errstate(over="ignore"):  # what is too large for the type is infinite
        cube = np.array(data.draw(st.lists(st.sampled_from([5, 6, *odd]), min_size=24, max_size=24)), kind)
    ordinary = data.draw(st.lists(st.booleans(), min_size=24, max_size=24))
    cube[np.array(ordinary)] = 5
    values = cube.reshape(3, 2, 4) if data.draw(st.booleans()) else cube.reshape(2, 4, 3).transpose(2, 0, 1)
    choices = st.sampled_from([np.nan, -9999.0, 7.0, 1e300, float(ends.min), float(ends.max)])
    nodata = np.array(
        data.draw(st.one_of(choices.map(lambda v: [v] * 3), st.lists(choices, min_size=3, max_size=3)))
    )

    def is_data(value: Any, fill: float) -> bool:
        if real:
            with np.errstate(over="ignore"):
                return bool(abs(value) < 1e30) and value != kind.type(fill)
        clipped = kind.itemsize == 2 and value == ends.max
        return not clipped and (np.isnan(fill) or int(value) != fill)

    expected = [[all(is_data(values[b, y, x], nodata[b]) for b in range(3)) for x in range(4)] for y in range(2)]
    assert valid_pixels(values, nodata).tolist() == expected
