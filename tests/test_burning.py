"""Any geometry in any CRS burns what rasterio burns after pyproj has transformed it."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj.network import set_network_enabled  # type: ignore[attr-defined]
from pyproj.transformer import TransformerGroup
from rasterio.crs import CRS
from rasterio.features import geometry_mask, rasterize
from scenes import NORTH_UP, ROTATED, UTM

from cssd_geo.errors import LabelError
from cssd_geo.grid import Grid
from cssd_geo.label_files import read_labels
from cssd_geo.tiles import Window
from cssd_geo.vectors import burning
from cssd_geo.vectors.burning import burn, burn_mask, extents, near, single_geometries
from cssd_geo.vectors.placement import datum_notes, to_pixels

HEIGHT, WIDTH = 31, 47
CRSS = {
    "latitude first": "EPSG:4326",
    "longitude first": "OGC:CRS84",
    "three axes": "EPSG:4979",
    "northing first": "EPSG:31468",
    "compound": "EPSG:32633+5773",
    "compound geographic": "EPSG:4326+5773",
    "us feet": "+proj=tmerc +lat_0=52 +lon_0=13 +ellps=GRS80 +units=us-ft",
    "custom, other datum": "+proj=laea +lat_0=52 +lon_0=14 +ellps=bessel +towgs84=598.1,73.7,418.2",
    "the scene's": "EPSG:32633",
}
COORDINATES = st.tuples(st.floats(-8, WIDTH + 8), st.floats(-8, HEIGHT + 8))
POINTS = COORDINATES.map(shapely.Point)
LINES = st.lists(COORDINATES, min_size=2, max_size=4, unique=True).map(shapely.LineString)
AREAS = st.tuples(COORDINATES, st.floats(0.1, 9)).map(lambda c: shapely.Point(*c[0]).buffer(c[1], quad_segs=3))
RINGS = AREAS.map(lambda a: a.difference(a.centroid.buffer(1.5)))
SINGLE = POINTS | LINES | AREAS | RINGS
MULTIPLE = (
    st.lists(POINTS, min_size=1, max_size=3).map(shapely.MultiPoint)
    | st.lists(LINES, min_size=1, max_size=3).map(shapely.MultiLineString)
    | st.lists(AREAS, min_size=1, max_size=3).map(lambda a: shapely.MultiPolygon([*a, shapely.Polygon()]))
)
COLLECTIONS = st.lists(SINGLE | MULTIPLE, max_size=3).map(shapely.GeometryCollection)
GEOMETRIES = SINGLE | MULTIPLE | COLLECTIONS | COLLECTIONS.map(lambda c: shapely.GeometryCollection([c, c]))


WHOLE = Window(row=0, col=0, height=HEIGHT, width=WIDTH)


def _grid(**changes: Any) -> Grid:
    return Grid(**{"height": HEIGHT, "width": WIDTH, "transform": NORTH_UP, "crs": UTM} | changes)


def _placed(geometry: Any, transform: Any) -> Any:
    return shapely.transform(geometry, lambda x, y: transform @ (x, y), interleaved=False)


def _mask(geometry: Any, transform: Any, *, all_touched: bool) -> NDArray[np.bool_]:
    """(y, x) by rasterio, part by part, as a collection burns in one piece otherwise."""
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    for part in single_geometries(np.array([geometry]))[0]:
        mask |= ~geometry_mask([part], (HEIGHT, WIDTH), transform, all_touched=all_touched)
    return mask


def _burnt(geometries: list[Any], crs: str | None, grid: Grid, *, all_touched: bool = False) -> NDArray[np.bool_]:
    parts = to_pixels(single_geometries(np.array(geometries, object))[0], crs, grid, "l.gpkg")
    return burn_mask(parts, WHOLE, all_touched=all_touched)


@settings(max_examples=50, deadline=None)
@given(geometry=GEOMETRIES, name=st.sampled_from(sorted(CRSS)), rotated=st.booleans(), all_touched=st.booleans())
def test_any_geometry_in_any_crs_burns_what_rasterio_burns(
    geometry: Any, name: str, *, rotated: bool, all_touched: bool
) -> None:
    transform = ROTATED if rotated else NORTH_UP
    away = pyproj.Transformer.from_crs(UTM.to_wkt(), CRSS[name], always_xy=True).transform
    home = pyproj.Transformer.from_crs(CRSS[name], UTM.to_wkt(), always_xy=True).transform
    there = shapely.transform(_placed(geometry, transform), away, interleaved=False)
    back = shapely.transform(there, home, interleaved=False)
    expected = _mask(_placed(back, ~transform), NORTH_UP @ ~NORTH_UP, all_touched=all_touched)
    found = _burnt([there], CRSS[name], _grid(transform=transform), all_touched=all_touched)
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=15, deadline=None)
@given(
    shapes=st.lists(AREAS, min_size=2, max_size=4),
    name=st.sampled_from(sorted(CRSS)),
    suffix=st.sampled_from(["gpkg", "shp", "fgb", "gml"]),
)
def test_files_in_any_crs_label_what_rasterio_burns(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[Any], name: str, suffix: str
) -> None:
    """GML stores coordinates in the order of the authority, the others longitude or easting first."""
    away = pyproj.Transformer.from_crs(UTM.to_wkt(), CRSS[name], always_xy=True).transform
    there = [shapely.transform(_placed(shape, NORTH_UP), away, interleaved=False) for shape in shapes]
    if suffix == "shp" and "towgs84" in CRSS[name]:
        return  # its .prj cannot hold the shift, which is told
    if suffix == "gml" and (CRSS[name].startswith(("+", "OGC")) or "+" in CRSS[name] or "4979" in CRSS[name]):
        return  # it has no way to say such a CRS of two axes
    path = tmp_path_factory.mktemp("f") / f"l.{suffix}"
    options = {"driver": "GML"} if suffix == "gml" else {}
    crs = pyproj.CRS(CRSS[name]).to_wkt() if CRSS[name].startswith("+") else CRSS[name]
    kinds = [np.array(["a"] * len(shapes), object)]
    pyogrio.raw.write(path, shapely.to_wkb(there), kinds, ["k"], geometry_type="Polygon", crs=crs, **options)
    clear = [_mask(s.buffer(0.02), NORTH_UP @ ~NORTH_UP, all_touched=False) for s in shapes]
    sure = [_mask(s.buffer(-0.02), NORTH_UP @ ~NORTH_UP, all_touched=False) for s in shapes]
    if not np.any(sure):
        return
    labels = read_labels(path, _grid(), class_field="k")
    found = np.zeros((HEIGHT, WIDTH), np.bool_)
    found[labels.rows, labels.cols] = True
    assert not (np.any(sure, axis=0) & ~found).any()
    assert not (found & ~np.any(clear, axis=0)).any()


@given(st.lists(GEOMETRIES | st.none(), min_size=1, max_size=4))
def test_parts_are_simple_not_empty_and_know_their_owner(geometries: list[Any]) -> None:
    parts, owners = single_geometries(np.array(geometries, object))
    assert set(shapely.get_type_id(parts).tolist()) <= {-1, 0, 1, 3}
    assert not (shapely.is_empty(parts)).any()
    for i, geometry in enumerate(geometries):
        mine = [part for part in parts[owners == i] if part is not None]
        assert np.isclose(shapely.area(mine).sum(), 0 if geometry is None else geometry.area)
        assert np.isclose(shapely.length(mine).sum(), 0 if geometry is None else geometry.length)


def test_places_that_the_scenes_crs_lacks_are_outside() -> None:
    far = shapely.box(1e6, 1e6, 2e6, 2e6)  # metres that a file calls degrees
    assert to_pixels(np.array([far]), "EPSG:4326", _grid(), "l").tolist() == [None]
    near = shapely.transform(
        _placed(shapely.box(3, 4, 9, 8), NORTH_UP),
        pyproj.Transformer.from_crs(UTM.to_wkt(), "EPSG:4326", always_xy=True).transform,
        interleaved=False,
    )
    found = _burnt([far, near, None], "EPSG:4326", _grid())
    assert np.argwhere(found).min(0).tolist() == [4, 3]
    assert found.sum() == 24


@pytest.mark.parametrize(("top", "bottom"), [(3, 9), (0, 9), (0, 1), (-2, 9)])
def test_shapes_drawn_over_a_scene_without_georeference_in_qgis_or_by_its_rows(top: int, bottom: int) -> None:
    grid, shape = _grid(transform=None, crs=None), shapely.box(2, top, 7, bottom)
    drawn = shapely.transform(shape, lambda x, y: (x, -y), interleaved=False)  # QGIS shows it below zero
    for each in (shape, drawn):
        found = _burnt([each], None, grid)
        assert np.argwhere(found).min(0).tolist() == [max(top, 0), 2]
        assert found.sum() == 5 * (bottom - max(top, 0))


LOCAL = 'LOCAL_CS["a building",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'


def test_a_crs_that_cannot_be_related_is_an_error() -> None:
    with pytest.raises(LabelError, match="its CRS cannot be used with the scene's"):
        to_pixels(np.array([shapely.box(0, 0, 1, 1)]), LOCAL, _grid(), "l.gpkg")


@pytest.mark.parametrize("crs", [None, LOCAL])
def test_shapes_without_a_crs_are_drawn_over_a_scene_whose_own_is_no_place_on_the_earth(crs: str | None) -> None:
    """ENVI calls it Arbitrary, and then GIS programs know none."""
    grid = _grid(crs=CRS.from_wkt(LOCAL))
    found = _burnt([_placed(shapely.box(3, 4, 9, 8), grid.transform)], crs, grid)
    assert np.argwhere(found).min(0).tolist() == [4, 3]
    assert found.sum() == 24


def test_a_scene_with_a_crs_but_no_transform_has_no_place() -> None:
    advice = (
        r"no transform, so that nothing says where l\.gpkg lies in it: georeference the scene first \(gdalwarp"
    )
    with pytest.raises(LabelError, match=advice):
        to_pixels(np.array([shapely.box(12, 51, 13, 52)]), "EPSG:4326", _grid(transform=None), "l.gpkg")


def test_lines_and_points_burn_in_a_scene_without_a_crs() -> None:
    shapes = [shapely.Point(4.5, 3.5), shapely.LineString([(9.5, 9.5), (12.5, 9.5)])]
    found = _burnt(shapes, None, _grid(transform=None, crs=None))
    assert np.argwhere(found).tolist() == [[3, 4], [9, 9], [9, 10], [9, 11], [9, 12]]


def test_a_datum_that_cannot_be_related_is_told(tmp_path: Path) -> None:
    """The same polygon with its shift, in a GeoPackage, and without, in a shapefile: some 700 m apart."""
    crs = CRSS["custom, other datum"]
    away = pyproj.Transformer.from_crs(UTM.to_wkt(), crs, always_xy=True).transform
    there = shapely.transform(_placed(shapely.box(3, 4, 42, 28), NORTH_UP), away, interleaved=False)
    kinds, found = [np.array(["a"], object)], {}
    for suffix in ("gpkg", "shp"):
        path, wkt = tmp_path / f"l.{suffix}", pyproj.CRS(crs).to_wkt()
        pyogrio.raw.write(path, shapely.to_wkb([there]), kinds, ["k"], geometry_type="Polygon", crs=wkt)
        found[suffix] = read_labels(path, _grid(), class_field="k")
    assert found["gpkg"].notes == ()
    assert len(found["gpkg"]) == 39 * 24
    assert "cannot be related to the scene's: places may be off by 100 m and more" in found["shp"].notes[0]


@pytest.mark.parametrize("name", sorted(set(CRSS) - {"custom, other datum"}))
def test_datums_that_can_be_related_are_not_told(name: str) -> None:
    assert datum_notes(CRSS[name], _grid(), "l.gpkg") == ()


@pytest.fixture
def no_british_grid() -> Iterator[None]:
    """PROJ without the grid of Great Britain: as it is installed, it has none and fetches none."""
    set_network_enabled(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if TransformerGroup(27700, 25830).best_available:
            pytest.skip("PROJ has the grid of Great Britain here")
    yield
    set_network_enabled(None)


def _british(pixel: float, crs: int = 25830) -> Grid:
    """A scene at a place where the Ordnance Survey says how its grid and ETRS89 differ."""
    east, north = pyproj.Transformer.from_crs(4258, 25830, always_xy=True).transform(-3.04045490691, 53.7791102576)
    transform = Affine(pixel, 0, east - WIDTH * pixel / 2, 0, -pixel, north + HEIGHT * pixel / 2)
    return _grid(transform=transform, crs=CRS.from_epsg(crs))


@pytest.mark.usefixtures("no_british_grid")
def test_a_missing_grid_is_told_where_it_matters(tmp_path: Path) -> None:
    path, grid = tmp_path / "l.gpkg", _british(0.2)
    point, kinds = shapely.Point(331534.564, 431920.794), [np.array(["a"], object)]
    pyogrio.raw.write(path, shapely.to_wkb([point]), kinds, ["k"], geometry_type="Point", crs="EPSG:27700")
    labels = read_labels(path, grid, class_field="k")
    assert max(abs(labels.rows[0] - HEIGHT // 2), abs(labels.cols[0] - WIDTH // 2)) > 3
    (note,) = labels.notes
    assert note.startswith(
        "Places of l.gpkg may be off by 3 m: PROJ lacks the grid uk_os_OSTN15_NTv2_OSGBtoETRS.tif"
    )
    assert "to 0.03 m" in note
    assert "PROJ_NETWORK=ON" in note


@pytest.mark.usefixtures("no_british_grid")
@pytest.mark.parametrize(
    ("crs", "grid"),
    [
        ("EPSG:27700", _british(10)),
        ("EPSG:4258", _british(0.2)),
        ("EPSG:27700", _british(0.2, 27700)),
        ("EPSG:27700", _grid(transform=Affine(1e-6, 0, -3.04, 0, -1e-6, 53.7), crs=CRS.from_epsg(4258))),
    ],
    ids=["pixels are large", "no grid is needed", "one CRS", "pixels are no metres"],
)
def test_a_missing_grid_is_not_told_where_it_does_not_matter(crs: str, grid: Grid) -> None:
    assert datum_notes(crs, grid, "l.gpkg") == ()


@pytest.mark.parametrize("middle", [(25.0, -10.0), (1e9, 1e9)])
def test_a_place_that_no_datum_of_the_earth_knows_needs_no_note(middle: tuple[float, float]) -> None:
    moon = [f"+proj={kind} +R=1737400 +no_defs +type=crs" for kind in ("eqc", "longlat")]
    transform = Affine(0.5, 0, middle[0], 0, -0.5, middle[1])
    assert datum_notes(moon[1], _grid(transform=transform, crs=CRS.from_string(moon[0])), "l.gpkg") == ()
    assert datum_notes("EPSG:27700", _grid(transform=transform, crs=CRS.from_epsg(25830)), "l.gpkg") == ()


def test_points_are_pixels_without_burning_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(burning, "rasterize", None)
    places = [(0.0, 0.0), (46.99, 30.99), (3.0, 2.5), (47.0, 3.0), (3.2, 2.7)]
    found = burn(np.array([shapely.Point(place) for place in places]), WHOLE, all_touched=False)
    assert np.transpose(found).tolist() == [[0, 0, 0], [1, 30, 46], [2, 2, 3], [4, 2, 3]]
    part = Window(row=2, col=3, height=4, width=5)
    found = burn(np.array([shapely.Point(4.5, 3.5), shapely.Point(2.5, 3.5)]), part, all_touched=False)
    assert np.transpose(found).tolist() == [[0, 3, 4]]


# Large shapes and many: burnt block by block, and cut to each


def _walk(steps: list[tuple[int, int]]) -> NDArray[np.float64]:
    """Places in quarters of a pixel: many centres and corners of pixels lie on an edge, and some repeat."""
    return np.asarray(np.cumsum(steps, axis=0) / 4)


def _with_holes(holes: list[tuple[int, int, int, int]]) -> Any:
    boxes = [shapely.box(x / 4, y / 4, (x + across) / 4, (y + down) / 4) for x, y, across, down in holes]
    return shapely.box(-4, -5.5, 40, 30).difference(shapely.union_all(boxes))


STEPS = st.tuples(st.integers(-40, 40), st.integers(-40, 40))
SQUARE = st.tuples(st.sampled_from([-32, 0, 32]), st.just(0)) | st.tuples(st.just(0), st.sampled_from([-20, 20]))
PATHS = st.lists(STEPS | SQUARE, min_size=3, max_size=40).map(_walk) | st.lists(
    SQUARE, min_size=4, max_size=20
).map(lambda steps: _walk(steps) + 0.5)
HOLES = st.tuples(st.integers(-20, 160), st.integers(-20, 120), st.integers(1, 60), st.integers(1, 60))
ROUGH = (
    PATHS.map(shapely.LineString)
    | PATHS.map(shapely.Polygon)  # most cross themselves
    | st.lists(HOLES, max_size=5).map(_with_holes)
)
WINDOWS = st.builds(
    Window,
    row=st.integers(-9, 30),
    col=st.integers(-9, 40),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
)


# What GDAL takes the direction of a ring from: its lowest vertex, or where that is no corner the sign of its area
TURNED = [
    ([(0.5, 0.5), (8.5, 0.5), (8.5, -4.5), (8.5, -9.5), (16.5, -9.5)], 0, -1),
    ([(8.5, 0.5), (0.5, 0.5), (0.5, -4.5), (-7.5, -4.5), (0.5, -4.5), (-7.5, -4.5)], 0, 3),
    ([(0.5, -4.5), (0.5, 0.5), (8.5, 0.5), (8.5, -4.5), (8.5, 0.5), (16.5, 0.5), (16.5, 5.5)], -1, 3),
]


def _alone(shape: Any, window: Window, *, all_touched: bool = False) -> NDArray[np.bool_]:
    """(y, x) by rasterio, of a shape as it is."""
    there = Affine.translation(window.col, window.row)
    return np.asarray(
        rasterize([shape], (window.height, window.width), transform=there, all_touched=all_touched) > 0
    )


@settings(max_examples=60, deadline=None)
@given(shape=ROUGH, bend=st.floats(0.5, 2), window=WINDOWS, all_touched=st.booleans())
def test_a_shape_cut_to_a_window_burns_what_the_whole_one_burns(
    shape: Any, bend: float, window: Window, *, all_touched: bool
) -> None:
    for exact in (shape, shapely.transform(shape, lambda x, y: (x * bend, y), interleaved=False)):
        for part in single_geometries(np.array([exact], object))[0]:
            _require_same_when_cut(part, window, all_touched=all_touched)


@pytest.mark.parametrize(("corners", "row", "col"), TURNED)
def test_a_ring_that_is_cut_goes_the_same_way_round(corners: list[Any], row: int, col: int) -> None:
    """Else centres on its horizontal edges change sides."""
    window = Window(row=row, col=col, height=3, width=4)
    _require_same_when_cut(shapely.Polygon(corners), window, all_touched=False)


def _require_same_when_cut(part: Any, window: Window, *, all_touched: bool) -> None:
    if not near(extents(np.array([part])), window).all():
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(burning, "_FEW", 3)
        cut = burning._cut(part, window)
    expected = _alone(part, window, all_touched=all_touched)
    np.testing.assert_array_equal(_alone(cut, window, all_touched=all_touched), expected)


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(ROUGH | PATHS.map(lambda path: shapely.Point(path[0])), min_size=1, max_size=8),
    window=WINDOWS,
    limits=st.tuples(st.integers(1, 300), st.integers(1, 40), st.integers(1, 60), st.sampled_from([1, 2, 64])),
)
def test_blocks_together_are_each_shape_alone(
    shapes: list[Any], window: Window, limits: tuple[int, int, int, int]
) -> None:
    parts = single_geometries(np.array(shapes, object))[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(burning, "_FEW", 3)
        for name, limit in zip(("_BLOCK", "_VERTICES", "_SMALL_BLOCK", "_LAYERS"), limits, strict=True):
            patch.setattr(burning, name, limit)
        owners, rows, cols = burn(parts, window, all_touched=False)
        mask = burn_mask(parts, window)
    times = np.zeros((len(parts), window.height, window.width), int)
    np.add.at(times, (owners, rows - window.row, cols - window.col), 1)
    expected = np.array([_alone(part, window) for part in parts])
    np.testing.assert_array_equal(times, expected)
    np.testing.assert_array_equal(mask, expected.any(axis=0))


@pytest.fixture
def edges_looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each time that GDAL burns, how many edges it looks at in all rows."""
    looks = list[int]()

    def watched(shapes: Any, *, out_shape: tuple[int, int], **options: Any) -> Any:
        given = list(shapes)
        vertices = shapely.get_num_coordinates([each[0] if isinstance(each, tuple) else each for each in given])
        looks.append(int(vertices.sum()) * out_shape[0])
        return rasterize(given, out_shape=out_shape, **options)

    monkeypatch.setattr(burning, "rasterize", watched)
    return looks


def test_an_outline_of_many_vertices_is_not_looked_at_as_a_whole_for_each_row(
    edges_looked_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(burning, "_VERTICES", 500)
    window = Window(row=0, col=0, height=300, width=400)
    coast = shapely.Point(200, 150).buffer(140, quad_segs=2000)
    mask = burn_mask(np.array([coast]), window)
    assert sum(edges_looked_at) < 0.3 * shapely.get_num_coordinates(coast) * window.height
    np.testing.assert_array_equal(mask, _alone(coast, window))


def test_many_shapes_are_burnt_side_by_side(edges_looked_at: list[int]) -> None:
    corners = np.stack(np.meshgrid(np.arange(20) * 7.0, np.arange(20) * 6.0), axis=-1).reshape(-1, 2)
    parcels = shapely.box(*corners.T, *(corners + np.array([8, 7])).T)
    owners, _, _ = burn(parcels, Window(row=0, col=0, height=200, width=200), all_touched=False)
    assert len(edges_looked_at) <= 9  # extents of neighbours meet, also over corners
    assert np.bincount(owners).tolist() == [8 * 7] * 400
