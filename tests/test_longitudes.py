"""Shapes on both sides of the date line, which GIS files cut, wrap or leave as they were drawn."""

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
from rasterio.crs import CRS
from scenes import control_points

from cssd_geo.errors import LabelError
from cssd_geo.grid import Grid
from cssd_geo.label_files import read_labels, read_mask
from cssd_geo.scenes.masks import open_aoi
from cssd_geo.tiles import Window
from cssd_geo.vectors.burning import burn_mask, single_geometries
from cssd_geo.vectors.placement import to_pixels

HEIGHT, WIDTH = 20, 30
WEST = 179.85
WHOLE = Window(row=0, col=0, height=HEIGHT, width=WIDTH)


def _grid(west: float, crs: str = "EPSG:4326", *, by_points: bool = False) -> Grid:
    """Over the date line if it begins at WEST: column 15 does there."""
    transform = Affine(0.01, 0, west, 0, -0.01, 10)
    points = tuple(control_points(transform, HEIGHT, WIDTH)) if by_points else ()
    return Grid(
        height=HEIGHT,
        width=WIDTH,
        transform=None if points else transform,
        crs=CRS.from_user_input(crs),
        gcps=points,
    )


def _moved(shape: Any, change: Any) -> Any:
    return shapely.transform(shape, lambda places: np.column_stack([change(places[:, 0]), places[:, 1]]))


def _wrapped(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((x + 180) % 360 - 180)


def _cut(shape: Any) -> Any:
    """As RFC 7946 asks for: a part on each side."""
    sides = shapely.box(0, -90, 180, 90), shapely.box(180, -90, 360, 90)
    west, east = (shape.intersection(side) for side in sides)
    return shapely.GeometryCollection([west, _moved(east, lambda x: x - 360)])


def _burnt(shape: Any, crs: str, grid: Grid) -> NDArray[np.bool_]:
    parts = to_pixels(single_geometries(np.array([shape], object))[0], crs, grid, "l.gpkg")
    return burn_mask(parts, Window(row=0, col=0, height=HEIGHT, width=WIDTH))


PLACES = st.tuples(
    st.integers(-5, WIDTH + 4), st.integers(-5, HEIGHT + 4), st.integers(1, 12), st.integers(1, 12), st.booleans()
)


def _shape(place: tuple[int, int, int, int, bool]) -> Any:
    col, row, width, height, hole = place
    left, top = WEST + 0.01 * col + 0.003, 10 - 0.01 * row - 0.003
    shape = shapely.box(left, top - 0.01 * height, left + 0.01 * width, top)
    inner = shapely.buffer(shape, -0.0113, join_style="mitre")
    return shape.difference(inner) if hole else shape


@settings(max_examples=60, deadline=None)
@given(
    place=PLACES,
    how=st.sampled_from(["drawn", "wrapped", "cut"]),
    turned=st.sampled_from([-360, 0]),
    by_points=st.booleans(),
)
def test_labels_lie_where_they_do_away_from_the_date_line(
    place: tuple[int, int, int, int, bool], how: str, turned: int, *, by_points: bool
) -> None:
    shape = _shape(place)
    expected = _burnt(_moved(shape, lambda x: x - 90), "EPSG:4326", _grid(WEST - 90))
    given = {"drawn": shape, "wrapped": _moved(shape, _wrapped), "cut": _cut(shape)}[how]
    grid = _grid(WEST + turned, by_points=by_points)
    np.testing.assert_array_equal(_burnt(given, "EPSG:4326", grid), expected)


@pytest.mark.parametrize("west", [-200.0, -180.0, 0.0, 20.0])
def test_every_place_has_its_pixel_in_a_scene_around_the_earth(west: float) -> None:
    grid = Grid(height=1, width=WIDTH, transform=Affine(12, 0, west, 0, -12, 6), crs=CRS.from_epsg(4326))
    there = np.array([west + 12 * col + 5 for col in range(WIDTH)], np.float64)
    for x in (there, _wrapped(there), there % 360):
        placed = to_pixels(shapely.points(x, 0.0), "EPSG:4326", grid, "l.gpkg")
        np.testing.assert_array_equal(np.floor(shapely.get_x(placed)), np.arange(WIDTH))


@pytest.mark.parametrize("crs", ["EPSG:32660", "EPSG:32601", "EPSG:3832"])
def test_labels_in_a_projected_crs(crs: str) -> None:
    there = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    shape = _shape((8, 4, 12, 9, False))
    given = shapely.transform(shape, lambda places: np.column_stack(there.transform(*places.T)))
    expected = _burnt(shape, "EPSG:4326", _grid(WEST))
    assert expected[:, :15].any()
    assert expected[:, 15:].any()
    np.testing.assert_array_equal(_burnt(given, crs, _grid(WEST)), expected)


def test_a_box_of_the_whole_earth_stays_one() -> None:
    for west in (12.0, -100.0, 60.0, -179.0, 178.0):
        for box in (shapely.box(-180, -90, 180, 90), shapely.box(0, -90, 360, 90)):
            assert _burnt(box, "EPSG:4326", _grid(west)).all(), west


def test_an_edge_of_more_than_half_a_turn_is_one_over_the_date_line_only_near_there() -> None:
    wide = shapely.box(-179.9, -80, 179.9, 80)
    for west in (12.0, 89.5, -89.5):
        assert _burnt(wide, "EPSG:4326", _grid(west)).all()
        assert not _burnt(wide, "EPSG:4326", _grid(180 - west)).any()
    cols = np.arange(WIDTH)
    np.testing.assert_array_equal(_burnt(wide, "EPSG:4326", _grid(WEST))[0], (cols >= 5) & (cols < 25))


@pytest.mark.parametrize("how", ["drawn", "wrapped", "cut"])
@pytest.mark.parametrize("crs", ["EPSG:32701", "EPSG:4326", "EPSG:4258"])
def test_an_area_of_interest_over_the_date_line(tmp_path: Path, how: str, crs: str) -> None:
    if crs == "EPSG:32701":
        transform = Affine(300, 0, 175_000, 0, -300, 8_000_000)
        grid = Grid(height=HEIGHT, width=WIDTH, transform=transform, crs=CRS.from_user_input(crs))
        to_degrees = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        corner, other = transform @ (4, 17), transform @ (26, 3)
        box = shapely.transform(
            shapely.box(*corner, *other), lambda places: np.column_stack(to_degrees.transform(*places.T))
        )
        drawn = _moved(box, lambda x: x % 360)
        assert drawn.bounds[0] < 180 < drawn.bounds[2]
    else:
        grid, drawn = _grid(WEST, crs), shapely.box(WEST + 0.04, 10 - 0.17, WEST + 0.26, 10 - 0.03)
    given = {"drawn": drawn, "wrapped": _moved(drawn, _wrapped), "cut": _cut(drawn)}[how]
    path = tmp_path / "aoi.gpkg"
    parts = shapely.get_parts(given)
    pyogrio.raw.write(path, shapely.to_wkb(parts), [], [], geometry_type="Polygon", crs="EPSG:4326")
    expected = np.zeros((HEIGHT, WIDTH), np.bool_)
    expected[3:17, 4:26] = True
    mask, _ = open_aoi(path, grid)
    np.testing.assert_array_equal(mask.read(WHOLE), expected)
    assert (read_mask(path, grid) & expected).sum() == expected.sum()


def _centres(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cols, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    assert grid.transform is not None
    x, y = grid.transform @ (cols, rows)
    return x, y


def _in_crs(shape: Any, crs: str, other: str) -> Any:
    there = pyproj.Transformer.from_crs(crs, other, always_xy=True)
    return shapely.transform(shape, lambda places: np.column_stack(there.transform(*places.T)))


def _write(path: Path, shape: Any, crs: str) -> Path:
    names = [np.array(["a"], object)]
    pyogrio.raw.write(path, shapely.to_wkb([shape]), names, ["class_name"], geometry_type="Polygon", crs=crs)
    return path


def _disc(x: float, y: float, radius: float) -> Any:
    return shapely.segmentize(shapely.Point(x, y).buffer(radius), radius / 100)


OUTLINES = {
    "around the pole": _disc(100_000, -50_000, 900_000),
    "with a hole at the pole": _disc(0, 0, 1_500_000).difference(_disc(50_000, 0, 400_000)),
    "across 180 degrees": _disc(-20_000, -1_300_000, 500_000),
}
"""In polar stereographic coordinates, as densely drawn as a coast."""


@pytest.mark.parametrize("crs", ["EPSG:3031", "EPSG:4326"])
@pytest.mark.parametrize("outline", OUTLINES)
@pytest.mark.parametrize(
    ("scene", "transform"),
    [
        ("EPSG:3031", Affine(80_000, 0, -1_600_000, 0, -80_000, 1_600_000)),
        ("EPSG:3031", Affine(30_000, 0, 300_000, 0, -30_000, -200_000)),
        ("EPSG:4326", Affine(0.2, 0, 174, 0, -0.2, -80)),
        ("EPSG:4326", Affine(0.2, 0, -186, 0, -0.2, -75)),
        ("EPSG:4326", Affine(0.2, 0, 100, 0, -0.2, -80)),
    ],
)
def test_outlines_at_the_pole_and_over_the_date_line(
    tmp_path: Path, scene: str, transform: Affine, outline: str, crs: str
) -> None:
    grid = Grid(height=50, width=40, transform=transform, crs=CRS.from_user_input(scene))
    to_polar = pyproj.Transformer.from_crs(scene, "EPSG:3031", always_xy=True)
    drawn = OUTLINES[outline]
    expected = shapely.contains_xy(drawn, *to_polar.transform(*_centres(grid)))
    path = _write(tmp_path / "a.gpkg", _in_crs(drawn, "EPSG:3031", crs), crs)
    if not expected.any():
        with pytest.raises(LabelError, match="lie outside of the scene"):
            read_labels(path, grid)
        return
    labels, found = read_labels(path, grid), np.zeros(grid.shape, np.bool_)
    found[labels.rows, labels.cols] = True
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(open_aoi(path, grid)[0].read(grid.window), expected)
    assert labels.notes == ()


def test_an_outline_around_the_pole_may_lie_in_a_collection(tmp_path: Path) -> None:
    grid = Grid(height=50, width=40, transform=Affine(0.2, 0, 100, 0, -0.2, -80), crs=CRS.from_epsg(4326))
    outline = _in_crs(OUTLINES["around the pole"], "EPSG:3031", "EPSG:4326")
    several = shapely.GeometryCollection([shapely.Point(100, -79), shapely.MultiPolygon([outline]), outline])
    alone = open_aoi(_write(tmp_path / "a.gpkg", outline, "EPSG:4326"), grid)[0].read(grid.window)
    path = tmp_path / "several.gpkg"
    pyogrio.raw.write(path, shapely.to_wkb([several]), [], [], geometry_type="Unknown", crs="EPSG:4326")
    np.testing.assert_array_equal(open_aoi(path, grid)[0].read(grid.window), alone)
    assert alone.any()


def test_labels_far_from_a_scene_do_not_reach_around_the_earth_to_it(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.gpkg", OUTLINES["across 180 degrees"], "EPSG:3031")
    grid = Grid(height=50, width=60, transform=Affine(0.2, 0, 20, 0, -0.2, -75), crs=CRS.from_epsg(4326))
    with pytest.raises(LabelError, match="lie outside of the scene"):
        read_labels(path, grid)


@pytest.mark.parametrize("turned", [-360, 0])
@pytest.mark.parametrize("west", [-180, 0])
def test_the_whole_earth_covers_a_scene_over_the_date_line(west: float, turned: float) -> None:
    box = shapely.box(west, -90, west + 360, 90)
    for shape in (box, shapely.segmentize(box, 10)):
        assert _burnt(shape, "EPSG:4326", _grid(WEST + turned)).all()


def test_a_wrapped_outline_that_crosses_itself_too_is_repaired_where_it_lies(tmp_path: Path) -> None:
    bowtie = shapely.Polygon([(179.9, 9.86), (180.1, 9.96), (180.1, 9.86), (179.9, 9.96)])
    path = _write(tmp_path / "a.gpkg", _moved(bowtie, _wrapped), "EPSG:4326")
    labels, found = read_labels(path, _grid(WEST)), np.zeros((HEIGHT, WIDTH), np.bool_)
    found[labels.rows, labels.cols] = True
    np.testing.assert_array_equal(found, shapely.contains_xy(shapely.make_valid(bowtie), *_centres(_grid(WEST))))
    assert labels.notes == ("1 invalid geometries were repaired.",)
