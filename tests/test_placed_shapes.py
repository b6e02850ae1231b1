"""Shapes burnt window by window label what they label as a whole, and say the same of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import NORTH_UP, UTM, pixel_box, write_polygons, write_raster

from cssd_geo.evaluation import evaluate
from cssd_geo.grid import Grid
from cssd_geo.labels import Labels
from cssd_geo.maps import class_rasters
from cssd_geo.tiles import TilePlan, Window
from cssd_geo.vectors.legend import Entry
from cssd_geo.vectors.placed_shapes import PlacedShapes
from cssd_geo.vectors.shapes import Shapes

HEIGHT, WIDTH = 13, 17
GRID = Grid(height=HEIGHT, width=WIDTH, transform=NORTH_UP, crs=UTM)


def _triangle(corners: list[tuple[float, float]]) -> Any:
    return shapely.convex_hull(shapely.MultiPoint(corners))


CORNER = st.tuples(st.floats(-4, WIDTH + 4, width=16), st.floats(-4, HEIGHT + 4, width=16))
AREA = st.lists(CORNER, min_size=3, max_size=5, unique=True).map(_triangle)
LINE = st.lists(CORNER, min_size=2, max_size=4, unique=True).map(shapely.LineString)
POINT = CORNER.map(shapely.Point)


def _placed(shapes: list[Any]) -> PlacedShapes:
    geometries = shapely.transform(np.array(shapes, object), lambda x, y: NORTH_UP @ (x, y), interleaved=False)
    found = Shapes(
        geometries=geometries,
        classes=np.arange(len(shapes)) % 3,
        legend=tuple(Entry(name=name) for name in "abc"),
        crs=UTM.to_wkt(),
    )
    return PlacedShapes(found, GRID, None, all_touched=False, name="l.gpkg")


def _columns(*parts: Labels) -> NDArray[np.int64]:
    rows = [np.column_stack([p.rows, p.cols, p.classes, p.polygons]) for p in parts]
    together = np.concatenate(rows)
    return together[np.lexsort((together[:, 1], together[:, 0]))]


@settings(max_examples=40)
@given(
    shapes=st.one_of(st.lists(AREA | LINE, min_size=1, max_size=6), st.lists(POINT, min_size=1, max_size=40)),
    sizes=st.tuples(st.integers(1, HEIGHT), st.integers(1, WIDTH)),
)
def test_windows_together_are_the_whole(shapes: list[Any], sizes: tuple[int, int]) -> None:
    whole, parted = _placed(shapes), _placed(shapes)
    every = whole.burn(Window(row=0, col=0, height=HEIGHT, width=WIDTH))
    plan = TilePlan(height=HEIGHT, width=WIDTH, tile_height=sizes[0], tile_width=sizes[1])
    found = [parted.burn(tile.core) for tile in plan]
    np.testing.assert_array_equal(_columns(*found), _columns(every))
    assert parted.notes() == whole.notes()
    assert len({*zip(every.rows.tolist(), every.cols.tolist(), strict=True)}) == len(every.rows)


def test_a_vector_is_compared_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that covers the whole of a map took 120 bytes for each of its pixels."""
    path = write_raster(tmp_path / "map.tif", np.ones((1, 40, 30), np.uint8), nodata=0)
    labels = write_polygons(tmp_path / "l.gpkg", [(pixel_box(0, 0, 40, 25), "1"), (pixel_box(0, 20, 40, 10), "2")])
    whole, windows, burn = evaluate(path, labels), list[Window](), PlacedShapes.burn

    def watched(shapes: PlacedShapes, window: Window) -> Labels:
        windows.append(window)
        return burn(shapes, window)

    monkeypatch.setattr(class_rasters, "_STEP", 8)
    monkeypatch.setattr(PlacedShapes, "burn", watched)
    found = evaluate(path, labels)
    assert max(window.pixels for window in windows) == 64
    np.testing.assert_array_equal(found.accuracy.confusion, whole.accuracy.confusion)
    assert found.notes == whole.notes
    assert "200 pixels claimed by two classes were left out." in found.notes
