"""What is written is what is read back, with rasterio and GDAL's command line as oracles; or nothing is."""

import json
import os
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from disks import small_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from cssd_geo.classes import ClassTable
from cssd_geo.errors import InputError, OutputError
from cssd_geo.files.outputs import GEOTIFF, check_target
from cssd_geo.files.rasters import open_raster
from cssd_geo.grid import Grid
from cssd_geo.maps import raster_writer
from cssd_geo.maps.class_tables import read_classes
from cssd_geo.maps.layer import Layer, class_map_layer, percent_layer, probability_layer
from cssd_geo.maps.raster_writer import RasterWriter
from cssd_geo.tiles import TilePlan, Window

UTM = CRS.from_epsg(32633)
TRANSFORM = Affine(30.123456789012345, 0.0, 399_960.1, 0.0, -30.123456789012345, 5_800_020 + 1 / 3)
ROTATED = Affine(30.1, 4.3, 399_960.1, 4.7, -29.9, 5_800_020.7)
TABLE = ClassTable.from_names(["Wald & <Moor>", 'Äcker "brach"', "水"], ids=[1, 2, 7])
TAGS = {"TIFFTAG_SOFTWARE": "cssd-geo 0.1.0", "CSSD_GEO_MODEL": "modèle.safetensors"}


def _grid(height: int, width: int, **changes: Any) -> Grid:
    return Grid(**{"height": height, "width": width, "transform": TRANSFORM, "crs": UTM} | changes)


def _ids(table: ClassTable, height: int, width: int, seed: int = 0) -> NDArray[Any]:
    """Noise on the left, where the overviews have to choose, and unclassified in a corner."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(np.array([0, *table.ids], table.dtype), (height, width))
    ids[:, width // 2 :] = table.ids[-1]
    ids[: height // 3, : width // 4] = 0
    return ids


def _write(layer: Layer, grid: Grid, pixels: NDArray[Any], tile: int = 256, seed: int = 0) -> None:
    plan = TilePlan(height=grid.height, width=grid.width, tile_height=tile, tile_width=tile)
    order = np.random.default_rng(seed).permutation(len(plan))
    with RasterWriter(layer, grid) as writer:
        for index in order.tolist():
            window = plan[index].core
            writer.write(pixels[(..., *window.slices)], window)
        writer.finalise()


def _class_map(path: Path, table: ClassTable = TABLE) -> Layer:
    return class_map_layer(path, table, TAGS)


def _classes_in(path: Path) -> ClassTable | None:
    with open_raster(path) as dataset:
        return read_classes(dataset)


def _gdalinfo(path: Path) -> Any:
    gdalinfo = shutil.which("gdalinfo")
    if gdalinfo is None:
        pytest.skip("gdalinfo, the oracle, is not installed")
    command = [gdalinfo, "-json", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile=st.integers(7, 160),
    classes=st.sampled_from([1, 3, 255, 256, 300]),
    seed=st.integers(0, 99),
)
def test_any_size_and_tile_order_reads_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, *, height: int, width: int, tile: int, classes: int, seed: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "map.tif"
    table = ClassTable.from_names([f"class {i}" for i in range(classes)])
    ids = _ids(table, height, width, seed)
    _write(_class_map(path, table), _grid(height, width), ids, tile, seed)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), ids)
        assert dataset.dtypes == ("uint8" if classes < 256 else "uint16",)
        assert Grid.of(dataset) == _grid(height, width)
        colours = dataset.colormap(1)
        assert [colours[i][:3] for i in table.ids] == list(table.colours)


def test_counting_classes_takes_less_memory_than_the_pixels(tmp_path: Path) -> None:
    ids = np.full((512, 8192), TABLE.ids[-1], np.uint8)
    with RasterWriter(_class_map(tmp_path / "map.tif"), _grid(*ids.shape)) as writer:
        tracemalloc.start()
        writer.write(ids, Window(row=0, col=0, height=512, width=8192))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert writer.counts[TABLE.ids[-1]] == ids.size
    assert peak < ids.nbytes


@pytest.mark.parametrize("tile", [100, 512])
def test_a_large_class_map_is_a_cog_whose_overviews_invent_no_class(tmp_path: Path, tile: int) -> None:
    path, ids = tmp_path / "map.tif", _ids(TABLE, 1100, 1301)
    _write(_class_map(path), _grid(1100, 1301), ids, tile)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), ids)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.nodata == 0
        assert dataset.compression.value == "DEFLATE"
        levels = dataset.overviews(1)
    assert levels == [2, 4]
    for level in range(len(levels)):
        with rasterio.open(path, overview_level=level) as overview:
            assert set(np.unique(overview.read(1))) <= {0, *TABLE.ids}
    assert _names(tmp_path) == {"map.tif", "map.tif.aux.xml"}


def test_overviews_take_the_mode_and_not_the_mean_of_the_colours(tmp_path: Path) -> None:
    greys = ((50, 50, 50), (100, 100, 100), (150, 150, 150))
    table = ClassTable(ids=(1, 2, 3), names=("dark", "between", "light"), colours=greys)
    path, ids = tmp_path / "map.tif", np.ones((530, 600), np.uint8)
    ids[:, 1::2] = 3  # GDAL averages colours and takes the class of the nearest one: 2, which is nowhere
    _write(_class_map(path, table), _grid(530, 600), ids)
    with rasterio.open(path, overview_level=0) as overview:
        assert set(np.unique(overview.read(1))) <= {1, 3}


def test_gdalinfo_sees_layout_colours_names_counts_and_provenance(tmp_path: Path) -> None:
    path, ids = tmp_path / "map.tif", _ids(TABLE, 600, 700)
    _write(_class_map(path), _grid(600, 700), ids)
    info = _gdalinfo(path)
    band, table = info["bands"][0], info["rat"]
    assert info["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    assert {key: info["metadata"][""][key] for key in TAGS} == TAGS
    assert band["colorInterpretation"] == "Palette"
    assert band["colorTable"]["entries"][1] == [*TABLE.colours[0], 255]
    assert band["colorTable"]["entries"][0][3] == 0
    assert band["noDataValue"] == 0
    assert len(band["overviews"]) == 1
    assert table["tableType"] == "thematic"
    fields = [field["name"] for field in table["fieldDefn"]]
    assert fields == ["Value", "Class", "Red", "Green", "Blue", "Alpha", "Count"]
    assert [field["usage"] for field in table["fieldDefn"]] == [5, 2, 6, 7, 8, 9, 1]
    named = zip((0, *TABLE.ids), ("unclassified", *TABLE.names), strict=True)
    expected = [(value, name, int((ids == value).sum())) for value, name in named]
    assert [(row["f"][0], row["f"][1], row["f"][6]) for row in table["row"]] == expected
    assert [row["f"][5] for row in table["row"]] == [0, *[255] * len(TABLE.ids)]


def test_gdalinfo_shows_the_category_names(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    _write(_class_map(path), _grid(20, 30), _ids(TABLE, 20, 30))
    _gdalinfo(path)  # skips where it is absent
    text = subprocess.run(["gdalinfo", str(path)], check=True, capture_output=True, text=True).stdout
    names = ["unclassified", *TABLE.names]
    assert [f"{value}: {name}" in text for value, name in zip((0, *TABLE.ids), names, strict=True)] == [True] * 4


@pytest.mark.parametrize(("names", "block"), [(1, 512), (32, 512), (33, 256), (400, 128)])
def test_strips_are_whole_blocks_of_a_bounded_size(tmp_path: Path, names: int, block: int) -> None:
    table = ClassTable.from_names([f"class {i}" for i in range(names)])
    writer = RasterWriter(probability_layer(tmp_path / "p.tif", table, {}), _grid(1300, 9000))
    seen = np.zeros((1300, 9000), np.int64)
    for strip in writer.strips():
        seen[strip.slices] += 1
        assert strip.row % block == strip.col % block == 0
        assert strip.pixels * names * 4 <= 2**25
    assert (seen == 1).all()


def test_blocks_of_many_bands_are_small(tmp_path: Path) -> None:
    """GDAL has several of them in memory: of 400 bands and 512 x 512 pixels each has 420 MB."""
    table = ClassTable.from_names([f"class {i}" for i in range(33)])
    layer, grid = probability_layer(tmp_path / "p.tif", table, {}), _grid(20, 30)
    _write(layer, grid, np.random.default_rng(0).random((33, 20, 30), np.float32))
    with rasterio.open(layer.path) as dataset:
        assert set(dataset.block_shapes) == {(256, 256)}


@pytest.mark.parametrize(
    "crs", [UTM, CRS.from_epsg(4326), CRS.from_string("+proj=laea +lat_0=52.1 +ellps=bessel")]
)
@pytest.mark.parametrize("transform", [TRANSFORM, ROTATED, Affine(-2.0, 0.0, 0.1, 0.0, 3.0, 7.7)])
def test_the_grid_is_kept_to_the_last_digit(tmp_path: Path, crs: CRS, transform: Affine) -> None:
    path, grid = tmp_path / "map.tif", _grid(40, 70, crs=crs, transform=transform)
    _write(_class_map(path), grid, _ids(TABLE, 40, 70))
    with rasterio.open(path) as dataset:
        assert tuple(dataset.transform) == tuple(transform)
        assert dataset.crs == _as_tiff_states(crs, tmp_path)


def _as_tiff_states(crs: CRS, folder: Path) -> CRS:
    """GeoTIFF drops or renames parts of some definitions (`unknown` names): compare with what it makes of it."""
    profile = {"driver": "GTiff", "height": 1, "width": 1, "count": 1, "dtype": "uint8", "transform": TRANSFORM}
    path = folder / "crs.tif"
    with rasterio.open(path, "w", crs=crs, **profile):
        pass
    with rasterio.open(path) as dataset:
        return dataset.crs


def test_a_crs_beyond_geotiff_is_kept_beside_the_class_table(tmp_path: Path) -> None:
    rotated_pole = "+proj=ob_tran +o_proj=longlat +o_lon_p=-162 +o_lat_p=39.25 +lon_0=180 +to_meter=0.0174532925"
    crs = CRS.from_string(rotated_pole)
    path, grid = tmp_path / "map.tif", _grid(40, 70, crs=crs)
    _write(_class_map(path), grid, _ids(TABLE, 40, 70))
    _write(percent_layer(tmp_path / "c.tif", "confidence", TAGS), grid, np.zeros((40, 70), np.uint8))
    for name in ("map.tif", "c.tif"):
        with rasterio.open(tmp_path / name) as dataset:
            assert dataset.crs == _as_tiff_states(crs, tmp_path)
            assert tuple(dataset.transform) == tuple(TRANSFORM)
    assert len(_gdalinfo(path)["rat"]["row"]) == 4


def test_ground_control_points_are_kept(tmp_path: Path) -> None:
    corners = [(0, 0, 14.1, 52.3), (0, 70, 14.2, 52.31), (40, 0, 14.11, 52.1), (20.25, 35.5, 14.15, 52.2)]
    points = tuple(GroundControlPoint(row=r, col=c, x=x, y=y, z=38.5) for r, c, x, y in corners)
    scene, path = tmp_path / "scene.tif", tmp_path / "map.tif"
    profile = {"driver": "GTiff", "height": 40, "width": 70, "count": 2, "dtype": "uint16"}
    with rasterio.open(scene, "w", gcps=points, crs="EPSG:4326", **profile):
        pass
    with rasterio.open(scene) as dataset:
        grid = Grid.of(dataset)
    _write(_class_map(path), grid, _ids(TABLE, 40, 70))
    with rasterio.open(path) as dataset:
        back, crs = dataset.gcps
    assert [(p.row, p.col, p.x, p.y, p.z) for p in back] == [(p.row, p.col, p.x, p.y, p.z) for p in points]
    assert crs == grid.crs
    assert crs.to_epsg() == 4326


@pytest.mark.parametrize("crs", [None, UTM])
def test_a_scene_without_a_georeference_gets_a_map_without_one(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, crs: CRS | None
) -> None:
    path, grid = tmp_path / "map.tif", _grid(600, 40, transform=None, crs=crs)
    _write(_class_map(path), grid, _ids(TABLE, 600, 40))
    assert _classes_in(path) == TABLE
    assert not recwarn.list
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(path) as dataset:
        assert Grid.of(dataset) == grid


@pytest.mark.parametrize("name", ["confidence", "disagreement"])
def test_percent(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.TIF"
    percent = np.random.default_rng(1).integers(0, 101, (600, 530)).astype(np.uint8)
    percent[:300, :300] = 255
    _write(percent_layer(path, name, TAGS), _grid(600, 530), percent)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), percent)
        assert dataset.nodata == 255
        assert dataset.descriptions == (f"{name} in percent",)
        assert dataset.tags()["CSSD_GEO_MODEL"] == TAGS["CSSD_GEO_MODEL"]
    with rasterio.open(path, overview_level=0) as overview:
        small = overview.read(1)
    assert (small[:150, :150] == 255).all()
    assert small[small != 255].max() <= 100
    assert _names(tmp_path) == {path.name}


def test_probabilities(tmp_path: Path) -> None:
    path = tmp_path / "probabilities.tif"
    values = np.random.default_rng(1).random((3, 530, 600), np.float32)
    values[:, :200, :300] = np.nan
    _write(probability_layer(path, TABLE, TAGS), _grid(530, 600), values, tile=200)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), values)
        assert np.isnan(dataset.nodata)
        assert dataset.descriptions == TABLE.names
        assert dataset.overviews(3) == [2]
    assert _names(tmp_path) == {"probabilities.tif"}


def test_opening_the_map_leaves_the_side_file_alone(tmp_path: Path) -> None:
    path, side = tmp_path / "map.tif", tmp_path / "map.tif.aux.xml"
    _write(_class_map(path), _grid(40, 70), _ids(TABLE, 40, 70))
    before = side.read_bytes(), side.stat().st_mtime_ns
    with rasterio.open(path) as dataset:
        dataset.read(1)
        dataset.colormap(1)
    _gdalinfo(path)
    assert (side.read_bytes(), side.stat().st_mtime_ns) == before
    assert _names(tmp_path) == {"map.tif", "map.tif.aux.xml"}


@pytest.mark.parametrize("name", ["s3:", "http:", "zip+file:", "netcdf:x", "GTIFF_DIR:1", "a!b.zip"])
def test_a_relative_path_is_a_path_whatever_gdal_knows_by_its_name(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, ids = Path(name, "map.tif"), _ids(TABLE, 40, 70)
    path.parent.mkdir()
    _write(_class_map(path), _grid(40, 70), ids)
    assert _names(path.parent) == {"map.tif", "map.tif.aux.xml"}
    with rasterio.open(path.absolute()) as dataset:
        np.testing.assert_array_equal(dataset.read(1), ids)


def test_blocks_may_come_from_another_thread(tmp_path: Path) -> None:
    path, ids = tmp_path / "map.tif", _ids(TABLE, 300, 200)
    with RasterWriter(_class_map(path), _grid(300, 200)) as writer:
        window = Window(row=0, col=0, height=300, width=200)
        thread = Thread(target=writer.write, args=(ids, window))
        thread.start()
        thread.join()
        writer.finalise()
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), ids)


# ---- whole or absent


@pytest.fixture(params=["absent", "present"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A target that a failing test must leave as it was."""
    path = tmp_path / "out" / "map.tif"
    path.parent.mkdir()
    old = {"map.tif": b"the old map", "map.tif.aux.xml": b"<PAMDataset/>"} if request.param == "present" else {}
    for name, content in old.items():
        (path.parent / name).write_bytes(content)
    yield path
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == old


def _fail(error: BaseException) -> Callable[..., None]:
    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


def _write_rows(target: Path, rows: int, then: Callable[[RasterWriter], None]) -> None:
    """Write the first `rows` of 40 rows, and `then` do what the test is about."""
    with RasterWriter(_class_map(target), _grid(40, 70)) as writer:
        writer.write(_ids(TABLE, rows, 70), Window(row=0, col=0, height=rows, width=70))
        then(writer)


def test_leaving_without_finalise_leaves_nothing(target: Path) -> None:
    _write_rows(target, rows=40, then=lambda _: None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_exception_in_the_block_leaves_nothing(target: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        _write_rows(target, rows=20, then=_fail(error()))


def test_missing_pixels_are_not_finalised(target: Path) -> None:
    with pytest.raises(OutputError, match="1400 of 2800 pixels"):
        _write_rows(target, rows=20, then=RasterWriter.finalise)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize(
    "place",
    ["rasterio.shutil.copy", "cssd_geo.maps.pam.serialise", "cssd_geo.maps.raster_writer._checksum", "os.fsync"],
)
def test_failures_while_finalising_leave_nothing(
    target: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: BaseException
) -> None:
    def finalise(writer: RasterWriter) -> None:
        monkeypatch.setattr(place, _fail(error))
        writer.finalise()

    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        _write_rows(target, rows=40, then=finalise)
    if expected is OutputError:
        assert str(target) in str(caught.value)
        assert "No space left on device" in str(caught.value)


def _stop_renames(
    monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, *, afterwards: bool = False
) -> None:
    """Let renames to a name fail or, as a signal does, stop the program once they are done."""
    rename = Path.replace

    def replace(self: Path, to: Path) -> Path:
        if to.name == name and not afterwards:
            raise error
        renamed = rename(self, to)
        if to.name == name:
            raise error
        return renamed

    monkeypatch.setattr(Path, "replace", replace)


def test_a_failing_rename_leaves_the_old_pair(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stop_renames(monkeypatch, "map.tif", OSError(5, "Input/output error"))
    with pytest.raises(OutputError, match="Input/output error"):
        _write(_class_map(target), _grid(40, 70), _ids(TABLE, 40, 70))


def _old_and_new(tmp_path: Path) -> tuple[Path, bytes]:
    """A map of other classes with all that may lie beside it, and the side file that is to replace its own."""
    path, ids = tmp_path / "map.tif", _ids(TABLE, 40, 70)
    (tmp_path / "new").mkdir()
    _write(_class_map(tmp_path / "new" / "map.tif"), _grid(40, 70), ids)
    _write(_class_map(path, ClassTable.from_names(["a", "b", "c"])), _grid(40, 70), np.ones_like(ids))
    for suffix in (".ovr", ".msk"):
        (tmp_path / f"map.tif{suffix}").write_bytes(b"old")
    return path, (tmp_path / "new" / "map.tif.aux.xml").read_bytes()


def test_a_map_that_a_signal_met_while_it_was_renamed_has_its_own_side_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, side = _old_and_new(tmp_path)
    _stop_renames(monkeypatch, "map.tif", KeyboardInterrupt(), afterwards=True)
    with pytest.raises(KeyboardInterrupt):
        _write(_class_map(path), _grid(40, 70), _ids(TABLE, 40, 70))
    assert _names(tmp_path) == {"new", "map.tif", "map.tif.aux.xml"}
    assert (tmp_path / "map.tif.aux.xml").read_bytes() == side
    with rasterio.open(path) as dataset:
        assert read_classes(dataset) == TABLE


def test_a_map_whose_side_file_cannot_be_renamed_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = _old_and_new(tmp_path)
    _stop_renames(monkeypatch, "map.tif.aux.xml", OSError(5, "Input/output error"))
    with pytest.raises(OutputError, match="Input/output error"):
        _write(_class_map(path), _grid(40, 70), _ids(TABLE, 40, 70))
    assert _names(tmp_path) == {"new", "map.tif"}
    with rasterio.open(path) as dataset:
        assert read_classes(dataset) == TABLE


def test_what_a_signal_met_before_the_map_was_renamed_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = _old_and_new(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.glob("map.tif*")}
    _stop_renames(monkeypatch, "map.tif", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        _write(_class_map(path), _grid(40, 70), _ids(TABLE, 40, 70))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


def test_pixels_that_the_disk_lost_are_noticed(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = rasterio.shutil.copy

    def lossy_copy(source: Path, *args: Any, **options: Any) -> None:
        with rasterio.open(source, "r+") as dataset:
            dataset.write(np.zeros((1, 5, 5), np.uint8), window=((30, 35), (60, 65)))
        copy(source, *args, **options)

    monkeypatch.setattr(rasterio.shutil, "copy", lossy_copy)
    with pytest.raises(OutputError, match="read back differs"):
        _write(_class_map(target), _grid(40, 70), _ids(TABLE, 40, 70))


def test_a_failure_to_open_leaves_nothing(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster_writer, "_colormap", _fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt), RasterWriter(_class_map(target), _grid(40, 70)):
        pass


def test_a_folder_that_vanished_is_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "map.tif"
    with pytest.raises(OutputError, match="gone"), RasterWriter(_class_map(path), _grid(40, 70)):
        pass


@pytest.mark.parametrize("kilobytes", [30, 500, 900, 1500, 2200])
def test_a_full_disk_is_an_output_error(tmp_path: Path, kilobytes: int) -> None:
    ids = np.random.default_rng(0).choice(np.array([0, *TABLE.ids], np.uint8), (1700, 1900))
    with small_disk(tmp_path, kilobytes) as disk:
        with pytest.raises(OutputError, match="MB are free"):
            _write(_class_map(disk / "map.tif"), _grid(1700, 1900), ids, tile=300)
        assert _names(disk) == set()


def test_overwriting_replaces_the_map_and_all_that_described_it(tmp_path: Path) -> None:
    for name in ("c.tif", "c.tif.aux.xml", "c.tif.ovr", "c.tif.msk", "c.txt"):
        (tmp_path / name).write_bytes(b"old")
    values = np.full((40, 70), 50, np.uint8)
    _write(percent_layer(tmp_path / "c.tif", "confidence", TAGS), _grid(40, 70), values)
    assert _names(tmp_path) == {"c.tif", "c.txt"}
    with rasterio.open(tmp_path / "c.tif") as dataset:
        assert dataset.files == [str(tmp_path / "c.tif")]
        np.testing.assert_array_equal(dataset.read(1), values)


@pytest.mark.parametrize(
    ("block", "window"),
    [
        (np.zeros((20, 30), np.uint8), Window(row=0, col=0, height=30, width=20)),
        (np.zeros((2, 20, 30), np.uint8), Window(row=0, col=0, height=20, width=30)),
        (np.zeros((20, 30), np.uint16), Window(row=0, col=0, height=20, width=30)),
        (np.zeros((20, 30), np.uint8), Window(row=21, col=0, height=20, width=30)),
        (np.zeros((20, 30), np.uint8), Window(row=0, col=-1, height=20, width=30)),
        (np.full((20, 30), 6, np.uint8), Window(row=0, col=0, height=20, width=30)),
    ],
    ids=["transposed", "bands", "dtype", "below", "left", "value of no class"],
)
def test_blocks_that_do_not_fit_are_refused(tmp_path: Path, block: NDArray[Any], window: Window) -> None:
    layer = _class_map(tmp_path / "map.tif")
    with pytest.raises(InputError), RasterWriter(layer, _grid(40, 70)) as writer:
        writer.write(block, window)


def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    writer = RasterWriter(_class_map(tmp_path / "map.tif"), _grid(4, 7))
    with pytest.raises(OutputError, match="not open"):
        writer.write(_ids(TABLE, 4, 7), Window(row=0, col=0, height=4, width=7))


# ---- reading back


def test_classes_survive_the_loss_of_the_side_file_and_of_the_tag(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    _write(_class_map(path), _grid(40, 70), _ids(TABLE, 40, 70))
    side = (tmp_path / "map.tif.aux.xml").rename(tmp_path / "kept")
    assert _classes_in(path) == TABLE
    with rasterio.open(path) as dataset:
        bare = dict.fromkeys(("driver", "height", "width", "count", "dtype", "crs", "transform", "nodata"))
        profile = {key: dataset.profile[key] for key in bare}
        colours = dataset.colormap(1)
    with rasterio.open(tmp_path / "bare.tif", "w", **profile) as dataset:
        dataset.write_colormap(1, colours)
    assert _classes_in(tmp_path / "bare.tif") is None
    side.rename(tmp_path / "bare.tif.aux.xml")
    assert _classes_in(tmp_path / "bare.tif") == TABLE


def test_category_names_take_the_colours_of_the_tiff(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    profile = {"driver": "GTiff", "height": 4, "width": 7, "count": 1, "dtype": "uint8", "transform": TRANSFORM}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write_colormap(1, {1: (10, 20, 30, 255)})
    names = "<CategoryNames><Category>none</Category><Category>a</Category></CategoryNames>"
    text = f'<PAMDataset><PAMRasterBand band="1">{names}</PAMRasterBand></PAMDataset>'
    (tmp_path / "map.tif.aux.xml").write_text(text)
    assert _classes_in(path) == ClassTable(ids=(1,), names=("a",), colours=((10, 20, 30),))


@pytest.mark.parametrize("tag", ["", "{", "[]", "{}", "[[[", '[{"id": 1}]', "[" * 100_000])
def test_a_damaged_tag_is_refused(tmp_path: Path, tag: str) -> None:
    path = tmp_path / "map.tif"
    profile = {"driver": "GTiff", "height": 4, "width": 7, "count": 1, "dtype": "uint8", "transform": TRANSFORM}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.update_tags(CSSD_GEO_CLASSES=tag)
    if tag:
        with pytest.raises(InputError, match="CSSD_GEO_CLASSES is damaged"):
            _classes_in(path)
    else:
        assert _classes_in(path) is None  # GDAL drops empty tags


# ---- before any work


def test_a_free_target_passes_and_leaves_no_trace(tmp_path: Path) -> None:
    check_target(tmp_path / "map.tif", overwrite=False, suffixes=GEOTIFF)
    check_target(tmp_path / "map.TIFF", overwrite=True, suffixes=GEOTIFF)
    assert _names(tmp_path) == set()


def test_targets_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.tif").mkdir()
    for path, reason in [
        (tmp_path / "map.png", "map.tif"),
        (tmp_path / "map", "map.tif"),
        (tmp_path / "folder.tif", "is a folder"),
        (tmp_path / "missing" / "map.tif", "create it first"),
        (tmp_path / "file" / "map.tif", "there is no folder"),
    ]:
        with pytest.raises(OutputError, match=reason):
            check_target(path, overwrite=True, suffixes=GEOTIFF)


def test_an_existing_target_is_refused_unless_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    path.touch()
    with pytest.raises(OutputError, match="exists"):
        check_target(path, overwrite=False, suffixes=GEOTIFF)
    check_target(path, overwrite=True, suffixes=GEOTIFF)


def test_a_folder_that_takes_no_file_is_refused() -> None:
    folder = Path("/proc/self/fd")  # refuses new files even to the administrator
    if not folder.is_dir() or os.name != "posix":
        pytest.skip("needs a folder that refuses root, as Linux has in /proc")
    with pytest.raises(OutputError, match="takes no new file"):
        check_target(folder / "map.tif", overwrite=False, suffixes=GEOTIFF)
