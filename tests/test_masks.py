"""Which pixels count, said beside the scene: masks say what rasterio says, and nothing outside of them matters."""

import pickle
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from scenes import (
    NORTH_UP,
    ROTATED,
    UTM,
    control_points,
    coordinate_cube,
    pixel_box,
    random_model,
    write_polygons,
    write_raster,
    write_two_fields,
)

import cssd_geo
from cssd_geo.engine.streaming import read_tiles
from cssd_geo.errors import InputError, LabelError, SceneError
from cssd_geo.grid import Grid
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.masks import ShapeMask, open_aoi, open_valid_mask
from cssd_geo.scenes.sources import Source
from cssd_geo.tiles import Halo, TilePlan, Window

HEIGHT, WIDTH = 21, 34
GRID = Grid(height=HEIGHT, width=WIDTH, transform=NORTH_UP, crs=UTM)
WHOLE = Window(row=0, col=0, height=HEIGHT, width=WIDTH)
ONES = np.ones((HEIGHT, WIDTH), np.uint8)
QUICK = TrainingOptions(epochs=2, windows_per_class=6, baseline=False, split="none")


def seen_through(polygons: list[shapely.Polygon], transform: Affine = NORTH_UP) -> NDArray[np.bool_]:
    """What rasterio says of the whole scene at once."""
    return np.asarray(geometry_mask(polygons, (HEIGHT, WIDTH), transform, invert=True))


def write_mask(path: Path, allowed: NDArray[Any], **options: Any) -> Path:
    return write_raster(path, allowed[None], **options)


coordinates = st.tuples(st.floats(-10, WIDTH + 10), st.floats(-10, HEIGHT + 10))
polygons_in_pixels = st.lists(
    st.lists(coordinates, min_size=3, max_size=6).map(lambda points: shapely.MultiPoint(points).convex_hull),
    min_size=1,
    max_size=4,
).map(lambda shapes: [shape for shape in shapes if shape.geom_type == "Polygon"])
windows = st.builds(
    lambda top, left, bottom, right: Window(row=top, col=left, height=bottom + 1, width=right + 1).clip(
        height=HEIGHT, width=WIDTH
    ),
    st.integers(0, HEIGHT - 1),
    st.integers(0, WIDTH - 1),
    st.integers(0, HEIGHT),
    st.integers(0, WIDTH),
)


# Areas of interest


@settings(max_examples=200, deadline=None)
@given(polygons=polygons_in_pixels, window=windows)
def test_any_window_is_what_rasterio_says_of_the_whole(polygons: list[Any], window: Window) -> None:
    mask = ShapeMask(np.array(polygons, object))
    expected = seen_through(polygons, Affine.identity()) if polygons else np.zeros((HEIGHT, WIDTH), bool)
    np.testing.assert_array_equal(mask.read(window), expected[window.slices])


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED], ids=["north up", "rotated"])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3035"])
def test_an_area_in_any_crs_on_any_grid(tmp_path: Path, transform: Affine, crs: str) -> None:
    areas = [pixel_box(3, 5, 7, 11, transform), pixel_box(-5, 28, 11, 20, transform)]
    to_theirs = pyproj.Transformer.from_crs(32633, crs, always_xy=True).transform
    moved = [(shapely.transform(area, to_theirs, interleaved=False), "in") for area in areas]
    path = write_polygons(tmp_path / "aoi.gpkg", moved, crs=crs)
    mask, _ = open_aoi(path, replace(GRID, transform=transform))
    np.testing.assert_array_equal(mask.read(WHOLE), seen_through(areas, transform))


def test_a_scene_with_control_points_has_areas_too(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "aoi.gpkg", [(pixel_box(3, 5, 7, 11, ROTATED), "in")])
    grid = replace(GRID, transform=None, gcps=tuple(control_points(ROTATED, HEIGHT, WIDTH)))
    np.testing.assert_array_equal(
        open_aoi(path, grid)[0].read(WHOLE), seen_through([shapely.box(5, 3, 16, 10)], Affine.identity())
    )


@pytest.mark.parametrize("by_points", [False, True])
def test_straight_lines_of_another_crs_are_curves_here(tmp_path: Path, *, by_points: bool) -> None:
    """A box of two degrees by one: halfway along its northern edge, a parallel lies 2 km off the straight line."""
    box = shapely.box(12, 52, 18, 53)
    path = write_polygons(tmp_path / "aoi.geojson", [(box, "in")], crs="EPSG:4326")
    grid = Grid(height=300, width=900, transform=Affine(500, 0, 290_000, 0, -500, 5_900_000), crs=UTM)
    to_degrees = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform
    rows, cols = np.mgrid[:300, :900]
    lon, lat = to_degrees(*(grid.transform @ (cols + 0.5, rows + 0.5)))  # type: ignore[operator]
    expected = (lon > 12) & (lon < 18) & (lat > 52) & (lat < 53)
    if by_points:
        grid = replace(grid, transform=None, gcps=tuple(control_points(grid.transform, 300, 900)))
    found = open_aoi(path, grid)[0].read(Window(row=0, col=0, height=300, width=900))
    assert expected.any()
    assert not expected.all()
    assert (found != expected).mean() < 1e-4


def test_every_kind_of_area_counts_once_and_holes_do_not(tmp_path: Path) -> None:
    holed = pixel_box(1, 1, 12, 12) - pixel_box(4, 4, 3, 5)
    several = shapely.MultiPolygon([pixel_box(15, 2, 3, 3), pixel_box(16, 20, 4, 9)])
    mixed = shapely.GeometryCollection(
        [several, pixel_box(2, 25, 5, 5), shapely.LineString([(4e5, 5.8e6), (5e5, 5.8e6)])]
    )
    over = pixel_box(10, 10, 6, 6)
    path = tmp_path / "aoi.gpkg"
    shapes = [holed, mixed, over, shapely.Point(400_500, 5_799_900), None]
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(shapes)), [np.arange(5)], ["k"], geometry_type="Unknown", crs="EPSG:32633"
    )
    expected = seen_through([holed, several, pixel_box(2, 25, 5, 5), over])
    np.testing.assert_array_equal(open_aoi(path, GRID)[0].read(WHOLE), expected)


def test_areas_elsewhere_are_told_beside_those_that_count(tmp_path: Path) -> None:
    to_degrees = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform
    around = pixel_box(-20, -20, HEIGHT + 40, WIDTH + 40) - pixel_box(-9, -9, HEIGHT + 18, WIDTH + 18)
    here, beside, around = (
        shapely.transform(shape, to_degrees, interleaved=False)
        for shape in (pixel_box(2, 2, 4, 4), pixel_box(90, 2, 4, 4), around)
    )
    shapes = [(here, "in"), (beside, "in"), (around, "in"), (shapely.box(190, 95, 200, 99), "in")]
    mask, note = open_aoi(write_polygons(tmp_path / "aoi.gpkg", shapes, crs="EPSG:4326"), GRID)
    assert mask.read(WHOLE).sum() == 16
    assert note.endswith("1 of its 4 polygons meet the scene, 1 cannot be brought to its CRS and do not count.")
    with pytest.raises(SceneError, match="lies elsewhere than the scene"):
        open_aoi(write_polygons(tmp_path / "around.gpkg", shapes[2:3], crs="EPSG:4326"), GRID)


def test_areas_along_the_border_meet_the_scene_from_inside_alone(tmp_path: Path) -> None:
    inside = [(0, 0, HEIGHT, 1), (0, WIDTH - 1, HEIGHT, 1), (0, 0, 1, WIDTH), (HEIGHT - 1, 0, 1, WIDTH)]
    outside = [(0, -1, HEIGHT, 1), (0, WIDTH, HEIGHT, 1), (-1, 0, 1, WIDTH), (HEIGHT, 0, 1, WIDTH)]
    shapes = [(pixel_box(*where), "in") for where in (*inside, *outside)]
    mask, note = open_aoi(write_polygons(tmp_path / "aoi.gpkg", shapes), GRID)
    assert note.endswith("4 of its 8 polygons meet the scene.")
    border = np.ones((HEIGHT, WIDTH), np.bool_)
    border[1:-1, 1:-1] = False
    np.testing.assert_array_equal(mask.read(WHOLE), border)


def _line(folder: Path) -> Path:
    path = folder / "line.gpkg"
    wkb = shapely.to_wkb(np.array([shapely.LineString([NORTH_UP @ (1, 1), NORTH_UP @ (5, 5)])]))
    pyogrio.raw.write(path, wkb, [np.arange(1)], ["k"], geometry_type="LineString", crs="EPSG:32633")
    return path


def _two_layers(folder: Path) -> Path:
    path = folder / "two.gpkg"
    for name in ("fields", "lakes"):
        wkb = shapely.to_wkb(np.array([pixel_box(2, 2, 4, 4)]))
        pyogrio.raw.write(
            path,
            wkb,
            [np.arange(1)],
            ["k"],
            layer=name,
            geometry_type="Polygon",
            crs="EPSG:32633",
            append=name == "lakes",
        )
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f / "no.gpkg", "no.gpkg does not exist"),
        (_line, "line.gpkg holds 1 shapes but no area"),
        (_two_layers, r"2 layers \(fields, lakes\): name one with --aoi-layer$"),
        (
            lambda f: write_polygons(f / "far.gpkg", [(pixel_box(500, 700, 9, 9), "in")]),
            "at columns 700 to 709 and rows 500 to 509, while the scene has 34 columns and 21 rows: check its CRS",
        ),
        (
            lambda f: write_polygons(f / "beside.gpkg", [(pixel_box(0, WIDTH, 9, 9), "in")]),
            "lies elsewhere than the scene",
        ),
        (
            lambda f: write_polygons(f / "p.gpkg", [(shapely.box(190, 95, 200, 99), "in")], crs="EPSG:4326"),
            "does not exist in the scene's CRS",
        ),
        (
            lambda f: write_polygons(f / "aoi.gpkg", [(pixel_box(2, 2, 3, 3), "in")], crs=None),
            "aoi.gpkg has no CRS: assign it",
        ),
        (lambda f: write_mask(f / "mask.tif", ONES), "given as --valid-mask"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_areas_that_are_none_are_refused(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        open_aoi(make(tmp_path), GRID)


def test_a_layer_is_chosen(tmp_path: Path) -> None:
    assert open_aoi(_two_layers(tmp_path), GRID, "lakes")[0].read(WHOLE).sum() == 16
    scene = write_raster(tmp_path / "scene.tif", coordinate_cube(1, HEIGHT, WIDTH))
    with pytest.raises(InputError, match=r"a layer .'lakes'. of which area"):
        open_scene(scene, aoi_layer="lakes")


def test_an_area_needs_a_scene_that_knows_its_place(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "aoi.gpkg", [(pixel_box(2, 2, 3, 3), "in")])
    with pytest.raises(SceneError, match="the scene has none: georeference the scene"):
        open_aoi(path, Grid(height=HEIGHT, width=WIDTH, transform=None, crs=None))


def test_an_area_of_an_unknown_datum_is_told(tmp_path: Path) -> None:
    """The .prj file of a shapefile cannot hold the shift of a datum without a name."""
    crs = pyproj.CRS("+proj=laea +lat_0=52 +lon_0=14 +ellps=bessel +towgs84=598.1,73.7,418.2").to_wkt()
    to_theirs = pyproj.Transformer.from_crs(32633, crs, always_xy=True).transform
    area = shapely.transform(pixel_box(-50, -50, 200, 200), to_theirs, interleaved=False)
    notes = [open_aoi(write_polygons(tmp_path / f, [(area, "in")], crs=crs), GRID)[1] for f in ("a.gpkg", "a.shp")]
    assert notes[0].endswith("1 of its 1 polygons meet the scene.")
    assert re.search(r"meet the scene\. The datum of a\.shp \(.*Bessel", notes[1])
    assert "cannot be related to the scene's: places may be off by 100 m and more." in notes[1]


# Rasters


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", None), ("uint8", 7), ("int16", -1), ("float32", -9.0), ("float64", np.nan)]
)
def test_a_mask_counts_where_it_is_neither_0_nor_nodata(tmp_path: Path, dtype: str, nodata: float | None) -> None:
    random = np.random.default_rng(0)
    values = random.integers(0, 8, (HEIGHT, WIDTH)).astype(dtype)
    if nodata is not None:
        values[random.random(values.shape) < 0.3] = nodata
    expected = (values != 0) & ~np.isnan(values)
    if nodata is not None:
        expected &= values != nodata
    path = write_mask(tmp_path / "mask.tif", values, nodata=nodata)
    np.testing.assert_array_equal(open_valid_mask(path, GRID)[0].read(WHOLE), expected)


def test_nan_in_a_mask_does_not_count_though_nobody_declared_it(tmp_path: Path) -> None:
    values = ONES.astype(np.float32)
    values[2:5, 7], values[9, 3] = np.nan, np.inf
    path = write_mask(tmp_path / "mask.tif", values)
    np.testing.assert_array_equal(open_valid_mask(path, GRID)[0].read(WHOLE), np.isfinite(values))


def test_a_block_of_a_mask_that_cannot_be_read_cannot_be_read_a_second_time(tmp_path: Path) -> None:
    """GDAL, decoding several blocks at once, keeps a broken one in its cache as if it had been read."""
    side, values = 256, np.random.default_rng(0).integers(0, 9, (768, 768)).astype(np.uint8)
    tiled = {"compress": "deflate", "tiled": True, "blockxsize": side, "blockysize": side}
    path = write_mask(tmp_path / "mask.tif", values, **tiled)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40_000] = b"\xff" * 40_000  # more than a block takes
    path.write_bytes(data)
    mask, failed = open_valid_mask(path, replace(GRID, height=768, width=768))[0], 0
    for row in [*range(0, 768, 100)] * 3:
        window = Window(row=row, col=0, height=50, width=768)
        try:
            allowed = mask.read(window)
        except SceneError:
            failed += 1
        else:
            np.testing.assert_array_equal(allowed, values[window.slices] != 0)
    assert failed > 0
    assert failed % 3 == 0


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f / "no.tif", "no.tif does not exist"),
        (lambda f: write_mask(f / "m.tif", ONES[1:]), "not on the scene's grid: 20 x 34 pixels against 21 x 34"),
        (
            lambda f: write_mask(f / "m.tif", ONES, crs=CRS.from_epsg(32632)),
            "not on the scene's grid: EPSG:32632 against EPSG:32633. Resample",
        ),
        (
            lambda f: write_mask(f / "m.tif", ONES, transform=NORTH_UP @ Affine.translation(0.5, 0)),
            r"transform \(400015.5, 30.0, .* against \(400000.5, 30.0",
        ),
        (lambda f: write_mask(f / "m.tif", ONES, transform=None, crs=None), "transform none against"),
        (lambda f: write_raster(f / "m.tif", np.ones((3, HEIGHT, WIDTH), np.uint8)), "holds 3 bands of uint8"),
        (lambda f: write_mask(f / "m.tif", ONES.astype(np.complex64)), "holds 1 bands of complex64"),
        (
            lambda f: write_polygons(f / "a.geojson", [(pixel_box(2, 2, 3, 3), "in")]),
            r"a.geojson is a vector, not a raster: give it as area of interest \(--aoi\)",
        ),
    ],
)  # fmt: skip
def test_masks_that_do_not_fit_say_how(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(SceneError, match=message):
        open_valid_mask(make(tmp_path), GRID)


@pytest.mark.parametrize("code", [2193, 31467, 2180, 3035, 3067, 4326, 27700])
def test_one_crs_in_two_ways_of_writing_is_one(tmp_path: Path, code: int) -> None:
    written = CRS.from_wkt(pyproj.CRS.from_epsg(code).to_wkt("WKT1_ESRI"))
    grid = replace(GRID, crs=CRS.from_epsg(code))
    path = write_mask(tmp_path / "m.tif", ONES, crs=written)
    assert open_valid_mask(path, grid)[0].read(WHOLE).all()
    ours = Grid(height=HEIGHT, width=WIDTH, transform=NORTH_UP, crs=written)
    assert ours.same_as(grid)
    assert grid.differences(ours) == []


@pytest.mark.parametrize("other", ["EPSG:31468", "EPSG:25833", "+proj=tmerc +lon_0=9 +x_0=3500000 +ellps=bessel"])
def test_other_crss_are_others_however_alike(other: str) -> None:
    grid = replace(GRID, crs=CRS.from_epsg(31467))
    assert replace(GRID, crs=CRS.from_string(other)).differences(grid) == [
        f"{CRS.from_string(other).to_string()} against EPSG:31467"
    ]


def test_a_mask_may_lie_a_hundredth_of_a_pixel_beside_the_scene(tmp_path: Path) -> None:
    for shift, fits in ((0.004, True), (0.02, False)):
        path = write_mask(tmp_path / "m.tif", ONES, transform=NORTH_UP @ Affine.translation(shift, 0))
        if fits:
            assert open_valid_mask(path, GRID)[0].read(WHOLE).all()
        else:
            with pytest.raises(SceneError, match="not on the scene's grid"):
                open_valid_mask(path, GRID)


def test_a_mask_may_lead_elsewhere_if_that_is_allowed(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "s.tif", np.ones((3, HEIGHT, WIDTH), np.int16))
    write_mask(tmp_path / "mask.tif", ONES)
    (tmp_path / "sub").mkdir()
    mask = tmp_path / "sub" / "mask.vrt"
    place = f"<SRS>EPSG:32633</SRS><GeoTransform>{', '.join(map(str, NORTH_UP.to_gdal()))}</GeoTransform>"
    source = "<SimpleSource><SourceFilename relativeToVRT='1'>../mask.tif</SourceFilename></SimpleSource>"
    band = f"<VRTRasterBand dataType='Byte' band='1'>{source}</VRTRasterBand>"
    mask.write_text(f"<VRTDataset rasterXSize='{WIDTH}' rasterYSize='{HEIGHT}'>{place}{band}</VRTDataset>")
    with pytest.raises(SceneError, match=r"mask\.vrt refers to .*--follow-links"):
        open_scene(scene, valid_mask=mask)
    assert open_scene(scene, valid_mask=mask, follow_links=True).read(WHOLE, np.arange(3))[1].all()


# Scenes

Masked = tuple[Path, dict[str, Any], NDArray[np.bool_]]


@pytest.fixture
def masked(tmp_path: Path) -> Masked:
    """A scene with nodata, a mask file and an area of interest, and where all three leave a pixel."""
    cube = coordinate_cube(3, HEIGHT, WIDTH)
    cube[1, 4:8, 6] = -5
    scene = write_raster(tmp_path / "scene.tif", cube, nodata=-5, tiled=True, blockxsize=16, blockysize=16)
    values = np.random.default_rng(0).integers(0, 3, (HEIGHT, WIDTH)).astype(np.uint8)
    area = pixel_box(2, 3, 9, 20)
    choice: dict[str, Any] = {
        "valid_mask": write_mask(tmp_path / "mask.tif", values),
        "aoi": write_polygons(tmp_path / "aoi.gpkg", [(area, "in")]),
    }
    return scene, choice, (cube != -5).all(axis=0) & (values > 0) & seen_through([area])


def test_all_masks_count_together_in_windows_and_in_the_cube(masked: Masked) -> None:
    path, choice, expected = masked
    scene = open_scene(path, **choice)
    np.testing.assert_array_equal(scene.read(WHOLE, np.arange(3))[1], expected)
    assert scene.cube.coords["valid"].chunks is not None, "lazy, as the cube is"
    assert scene.cube.coords["valid"].dims == ("y", "x")
    again = scene_of_array(scene.cube)
    np.testing.assert_array_equal(again.read(WHOLE, np.arange(3))[1], expected)
    assert scene.notes == (
        f"Pixels count only where {choice['valid_mask']} is neither 0 nor nodata.",
        f"Pixels count only inside of {choice['aoi']}: 1 of its 1 polygons meet the scene.",
    )


def test_masks_add_to_the_file_s_own(tmp_path: Path, masked: Masked) -> None:
    _, choice, _ = masked
    path = write_raster(tmp_path / "own.tif", coordinate_cube(2, HEIGHT, WIDTH))
    own = np.random.default_rng(5).random((HEIGHT, WIDTH)) < 0.5
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(own)
    scene = open_scene(path, aoi=choice["aoi"])
    expected = own & seen_through([pixel_box(2, 3, 9, 20)])
    np.testing.assert_array_equal(scene.read(WHOLE, np.arange(2))[1], expected)
    np.testing.assert_array_equal(scene.cube.coords["valid"], expected)


def test_masks_work_in_threads_and_in_other_processes(masked: Masked) -> None:
    path, choice, expected = masked
    scene = open_scene(path, **choice)
    sent = pickle.loads(pickle.dumps(scene))  # noqa: S301 - our own
    np.testing.assert_array_equal(sent.read(WHOLE, np.arange(3))[1], expected)
    plan = list(TilePlan(height=HEIGHT, width=WIDTH, tile_height=2, tile_width=3))
    with ThreadPoolExecutor(8) as threads:
        for tile, (_, valid) in zip(
            plan, threads.map(lambda t: scene.read(t.core, np.arange(3)), plan), strict=True
        ):
            np.testing.assert_array_equal(valid, expected[tile.core.slices])


class Watched:
    """A source that remembers which windows were read."""

    def __init__(self, source: Source) -> None:
        self.source, self.windows = source, list[Window]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        self.windows.append(window)
        self.source.read(window, bands, out)


@settings(max_examples=30, deadline=None)
@given(
    plan=st.builds(
        TilePlan,
        height=st.just(HEIGHT),
        width=st.just(WIDTH),
        tile_height=st.integers(3, 25),
        tile_width=st.integers(3, 40),
        halo=st.builds(Halo, before=st.integers(0, 4), after=st.integers(0, 4)),
    ),
    row=st.integers(0, 14),
    col=st.integers(0, 27),
)
def test_what_lies_outside_is_not_read_and_changes_no_tile(
    tmp_path_factory: pytest.TempPathFactory, plan: TilePlan, row: int, col: int
) -> None:
    folder = tmp_path_factory.mktemp("outside")
    cube = coordinate_cube(2, HEIGHT, WIDTH) + 1
    whole = open_scene(write_raster(folder / "scene.tif", cube))
    area = shapely.box(col, row, col + 5, row + 6)
    source: Any = Watched(whole.source)
    scene = replace(whole, source=source).with_mask(ShapeMask(np.array([area])), "")
    inside = seen_through([area], Affine.identity())
    framed, frame = (
        np.pad(np.where(inside, cube, 0), ((0, 0), (60, 60), (60, 60))),
        Window(row=-60, col=-60, height=1, width=1),
    )
    for tile, values, valid in read_tiles(scene, plan, np.arange(2)):
        rows, cols = tile.padded.relative_to(frame).slices
        np.testing.assert_array_equal(np.where(valid, values, 0), framed[:, rows, cols])
    assert source.windows
    assert all(inside[window.slices].any() for window in source.windows)


def test_training_and_classification_are_those_of_a_scene_without_its_outside(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    area = pixel_box(0, 0, 60, 50)
    aoi = write_polygons(tmp_path / "aoi.gpkg", [(area, "in")])
    with rasterio.open(made.scene) as dataset:
        cube = dataset.read()
    cube[:, :, 50:] = -9999
    cut = write_raster(tmp_path / "cut.tif", cube, nodata=-9999)
    chosen = open_scene(made.scene, aoi=aoi)
    one, other = (cssd_geo.train(scene, made.labels, options=QUICK) for scene in (chosen, open_scene(cut)))
    assert one.model.digest() == replace(other.model, provenance=one.model.provenance).digest()
    assert "are excluded by a mask or an area of interest and were left out." in " ".join(one.notes)
    cssd_geo.classify(chosen, one.model, tmp_path / "one.tif", tile_size=17, precision="float32")
    cssd_geo.classify(cut, one.model, tmp_path / "other.tif", precision="float32")
    with rasterio.open(tmp_path / "one.tif") as first, rasterio.open(tmp_path / "other.tif") as second:
        found = first.read(1)
        np.testing.assert_array_equal(found, second.read(1))
    np.testing.assert_array_equal(found == 0, (np.arange(90) >= 50) | (made.truth == 0))


def test_bands_without_data_are_found_beside_a_mask(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        cube = dataset.read()
    cube[[3, 7]], cube[5] = -9999, 1234
    scene = write_raster(tmp_path / "vapour.tif", cube, nodata=-9999)
    aoi = write_polygons(tmp_path / "aoi.gpkg", [(pixel_box(0, 0, 60, 50), "in")])
    trained = cssd_geo.train(open_scene(scene, aoi=aoi, bands="2-12"), made.labels, options=QUICK)
    assert "Bands without data at the labelled pixels were dropped: 4, 8." in trained.notes
    assert "Bands with one value at all labelled pixels were dropped: 6." in trained.notes
    assert trained.model.bands.good == tuple(i not in {3, 5, 7} for i in range(1, 12))


def test_a_class_outside_of_the_area_is_an_error(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    labels = [(pixel_box(5, 8, 9, 9), "maize"), (pixel_box(5, 70, 9, 9), "wheat")]
    aoi = write_polygons(tmp_path / "aoi.gpkg", [(pixel_box(0, 0, 60, 40), "in")])
    with pytest.raises(
        LabelError, match=r"every labelled pixel of wheat is excluded by a mask .* area of interest: .*--classes"
    ):
        cssd_geo.train(open_scene(made.scene, aoi=aoi), write_polygons(tmp_path / "l.gpkg", labels), options=QUICK)


def test_a_map_of_nothing_is_made_where_a_mask_leaves_nothing(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "s.tif", np.ones((3, HEIGHT, WIDTH), np.int16))
    mask = write_mask(tmp_path / "mask.tif", np.zeros((HEIGHT, WIDTH), np.uint8))
    done = cssd_geo.classify(open_scene(scene, valid_mask=mask), random_model(bands=3), tmp_path / "map.tif")
    assert done.pixels["unclassified"] == HEIGHT * WIDTH
