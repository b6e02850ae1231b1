"""The geometry look-up table: what a map shows is what numpy's indexing says, whatever is read at a time."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from scenes import coordinate_cube, pixel_box, write_polygons, write_raster
from stores import turned_table

from cssd_geo.errors import SceneError
from cssd_geo.grid import Grid
from cssd_geo.label_files import read_labels, read_mask
from cssd_geo.labels import Labels
from cssd_geo.scenes import lookup as lookup_module
from cssd_geo.scenes.lookup import NOWHERE, GeometryLookup
from cssd_geo.tiles import Window

HEIGHT, WIDTH = 31, 22
MAP = Affine(0.001, 0.0, 13.0, 0.0, -0.001, 52.0)
SENSOR_GRID = Grid(height=HEIGHT, width=WIDTH, transform=None, crs=None)


def _map_grid(shape: tuple[int, ...]) -> Grid:
    return Grid(height=shape[0], width=shape[1], transform=MAP, crs=CRS.from_epsg(4326))


def _lookup(*, turns: float = 0.6) -> GeometryLookup:
    samples, lines = turned_table(HEIGHT, WIDTH, turns=turns)
    return GeometryLookup.of_table(samples, lines, grid=_map_grid(samples.shape), height=HEIGHT, width=WIDTH)


def _on_map(lookup: GeometryLookup, values: NDArray[np.int32], nodata: int) -> NDArray[np.int32]:
    """The whole map, in plain numpy."""
    return np.where(lookup.rows == NOWHERE, nodata, values[..., lookup.rows, lookup.cols])


@given(st.data())
def test_any_window_of_the_map_is_the_sensors_pixels(data: st.DataObject) -> None:
    lookup = _lookup(turns=data.draw(st.floats(-3, 3)))
    bands = data.draw(st.sampled_from([None, 1, 3]))
    cube = coordinate_cube(bands or 1, HEIGHT, WIDTH)
    values = cube if bands else cube[0]
    height, width = lookup.grid.height, lookup.grid.width
    row, col = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(
        row=row,
        col=col,
        height=data.draw(st.integers(1, height - row)),
        width=data.draw(st.integers(1, width - col)),
    )
    most, largest = data.draw(st.integers(1, 400)), 0

    def read(part: Window) -> NDArray[np.int32]:
        nonlocal largest
        assert part.clip(height=HEIGHT, width=WIDTH) == part
        largest = max(largest, part.pixels)
        return values[..., *part.slices]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup_module, "_PIXELS_AT_ONCE", most)
        taken = lookup.take(read, window, nodata=-7, dtype=np.dtype(np.int32))
    assert largest <= max(most, WIDTH)
    np.testing.assert_array_equal(taken, _on_map(lookup, values, -7)[..., *window.slices])


def test_products_count_from_one_and_mark_interpolated_pixels_as_negative() -> None:
    samples, lines = np.array([[1, -2, 0], [-9999, 2, 1]]), np.array([[1, -3, 0], [-9999, 1, 2]])
    lookup = GeometryLookup.of_table(samples, lines, grid=_map_grid((2, 3)), height=3, width=2, fill=-9999)
    np.testing.assert_array_equal(lookup.rows, [[0, 2, -1], [-1, 0, 1]])
    np.testing.assert_array_equal(lookup.cols, [[0, 1, -1], [-1, 1, 0]])
    ones = np.array([[1, -1]])
    lookup = GeometryLookup.of_table(ones, ones, grid=_map_grid((1, 2)), height=3, width=2)
    assert (lookup.rows.tolist(), lookup.cols.tolist()) == ([[0, 0]], [[0, 0]])


@pytest.mark.parametrize(
    ("samples", "lines", "message"),
    [
        ([[1, 3]], [[1, 1]], "points at columns that the image does not have: 3, counted from 1, of 2"),
        ([[1, 2]], [[1, -9]], "points at rows that the image does not have: 9, counted from 1, of 3"),
        ([[1, 0]], [[1, 1]], "rows without columns"),
        ([[0, 0]], [[0, 0]], "places no pixel on the map"),
        ([[1, 2, 1]], [[1, 1, 1]], r"for a map of \(1, 2\) pixels"),
        ([[1, 2, 1]], [[1, 1]], r"for a map of \(1, 2\) pixels"),
    ],
)
def test_tables_of_another_image_are_refused(
    samples: list[list[int]], lines: list[list[int]], message: str
) -> None:
    with pytest.raises(SceneError, match=message):
        GeometryLookup.of_table(np.array(samples), np.array(lines), grid=_map_grid((1, 2)), height=3, width=2)


def test_labels_go_from_the_map_to_each_sensor_pixel_once(tmp_path: Path) -> None:
    lookup = _lookup()
    window = Window(row=12, col=9, height=11, width=8)
    shapes = [(pixel_box(12, 9, 11, 8, MAP), "a"), (pixel_box(0, 0, 1, 1, MAP), "b")]
    labels = read_labels(write_polygons(tmp_path / "l.gpkg", shapes, crs="EPSG:4326"), SENSOR_GRID, lookup=lookup)
    rows, cols = lookup.rows[window.slices], lookup.cols[window.slices]
    expected = sorted(set(zip(rows.ravel().tolist(), cols.ravel().tolist(), strict=True)))
    assert len(expected) < window.pixels, "the map shows some pixels twice, else this tests nothing"
    assert sorted(zip(labels.rows.tolist(), labels.cols.tolist(), strict=True)) == expected
    assert any("1 of 89 labelled pixels of the map were not seen" in note for note in labels.notes)
    mask = lookup.sensor_mask(read_mask(tmp_path / "l.gpkg", lookup.grid))
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask[labels.rows, labels.cols].all()


def test_a_sensor_pixel_that_two_classes_claim_on_the_map_is_left_out(tmp_path: Path) -> None:
    twice = GeometryLookup(
        grid=_map_grid((2, 4)),
        rows=np.array([[0, 0, 0, 0], [1, 1, 1, 1]], np.int32),
        cols=np.array([[0, 1, 1, 2], [0, 1, 1, 2]], np.int32),
        height=2,
        width=3,
    )
    shapes = [(pixel_box(0, 0, 2, 2, MAP), "a"), (pixel_box(0, 2, 2, 2, MAP), "b")]
    path = write_polygons(tmp_path / "l.gpkg", shapes, crs="EPSG:4326")
    grid = Grid(height=2, width=3, transform=None, crs=None)
    expected = [(0, 0, "a"), (0, 2, "b"), (1, 0, "a"), (1, 2, "b")]
    vector = read_labels(path, grid, lookup=twice)
    assert _table(vector) == expected
    assert any("2 pixels claimed by two classes" in note for note in vector.notes)
    ids = np.array([[[1, 1, 2, 2], [1, 1, 2, 2]]], np.uint8)
    raster = write_raster(tmp_path / "l.tif", ids, transform=MAP, crs=CRS.from_epsg(4326))
    assert [(r, c) for r, c, _ in _table(read_labels(raster, grid, lookup=twice))] == [
        (r, c) for r, c, _ in expected
    ]


@given(st.floats(-3, 3))
def test_the_sensors_grid_on_the_map_is_turned_as_the_table_is(turns: float) -> None:
    lookup = _lookup(turns=turns)
    found, rows_and_cols = lookup.sensor_grid, np.nonzero(lookup.rows != NOWHERE)
    assert (found.height, found.width, found.crs) == (HEIGHT, WIDTH, lookup.grid.crs)
    assert found.transform is not None
    steps = np.array([[found.transform.a, found.transform.b], [found.transform.d, found.transform.e]]) / 0.001
    np.testing.assert_allclose(np.abs(np.linalg.det(steps)), 1, rtol=0.02)
    np.testing.assert_allclose(steps @ steps.T, np.eye(2), atol=0.1)
    x, y = MAP @ (rows_and_cols[1] + 0.5, rows_and_cols[0] + 0.5)
    col, row = ~found.transform @ (x, y)
    middle = np.mean(lookup.rows[rows_and_cols]), np.mean(lookup.cols[rows_and_cols])
    np.testing.assert_allclose((row.mean() - 0.5, col.mean() - 0.5), middle, atol=1e-6)
    assert np.abs(np.floor(row) - lookup.rows[rows_and_cols]).max() <= 1
    assert np.abs(np.floor(col) - lookup.cols[rows_and_cols]).max() <= 1


def test_a_single_line_on_the_map_has_no_step_between_lines() -> None:
    line = np.zeros((1, 5), np.int32)
    lookup = GeometryLookup(grid=_map_grid((1, 5)), rows=line + 2, cols=line + np.arange(5), height=9, width=5)
    transform = lookup.sensor_grid.transform
    assert transform is not None
    np.testing.assert_allclose([transform.a, transform.b, transform.d, transform.e], [0.001, 0, 0, 0], atol=1e-9)


def _table(labels: Labels) -> list[tuple[int, int, str]]:
    names = [labels.table.names[c] for c in labels.classes]
    return sorted(zip(labels.rows.tolist(), labels.cols.tolist(), names, strict=True))


def test_points_label_the_sensor_pixel_that_the_map_shows_there(tmp_path: Path) -> None:
    lookup = _lookup()
    spots = [(14, 12), (20, 16)]
    shapes = [(shapely.Point(MAP * (col + 0.3, row + 0.6)), str(row)) for row, col in spots]
    labels = read_labels(
        write_polygons(tmp_path / "l.geojson", shapes, crs="EPSG:4326"), SENSOR_GRID, lookup=lookup
    )
    assert _table(labels) == sorted((int(lookup.rows[s]), int(lookup.cols[s]), str(s[0])) for s in spots)


@pytest.mark.parametrize(
    ("middle", "turn"), [((13.0, 52.0), 0.4), ((-179.8, -30.0), 2.0), ((0.0, 0.0), 0.0), ((-100.0, 65.0), -1.0)]
)
def test_a_swath_without_a_table_shows_the_nearest_pixel(middle: tuple[float, float], turn: float) -> None:
    """Also over the date line."""
    squeeze = np.cos(np.radians(middle[1]))
    place = (
        Affine.translation(*middle)
        @ Affine.scale(1 / squeeze, 1)
        @ Affine.rotation(np.degrees(turn))
        @ Affine.scale(0.01)
    )
    row, col = np.mgrid[:40, :25].astype(np.float64)
    longitude, latitude = place @ (col, row)
    longitude = (longitude + 180) % 360 - 180
    assert (np.ptp(longitude) > 300) == (middle[0] == -179.8), "one swath lies over the date line"
    longitude[3, 4], latitude[20, 7] = -32767, 95
    lookup = GeometryLookup.of_places(longitude, latitude)
    transform = lookup.grid.transform
    assert transform is not None
    assert lookup.grid.crs == CRS.from_epsg(4326)
    x, y = transform @ tuple(np.indices((lookup.grid.width, lookup.grid.height)) + 0.5)
    placed = np.flatnonzero((longitude != -32767) & (latitude != 95))
    east = ((longitude.ravel()[placed] - middle[0] + 180) % 360 - 180) * squeeze
    across = ((x.T[..., None] - middle[0] + 180) % 360 - 180) * squeeze - east
    away = np.hypot(across, y.T[..., None] - latitude.ravel()[placed])
    shown = lookup.rows != NOWHERE
    found = away[shown, np.searchsorted(placed, lookup.rows[shown] * 25 + lookup.cols[shown])]
    np.testing.assert_allclose(found, away.min(axis=-1)[shown], atol=1e-4)
    assert found.max() <= 0.0076
    assert away.min(axis=-1)[~shown].min() >= 0.0074
    assert away.min(axis=(0, 1)).max() <= 0.0072, "each lies in a pixel of the map"
    assert 950 < shown.sum() < 1100, "as many map pixels as sensor pixels"
    assert shown.size < 6000


def test_a_swath_that_lies_nowhere_is_refused() -> None:
    nowhere = np.full((3, 4), -32767.0)
    with pytest.raises(SceneError, match="lies nowhere"):
        GeometryLookup.of_places(nowhere, nowhere)
