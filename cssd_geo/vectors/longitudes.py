"""Shapes at the date line and the poles, where longitudes jump by a turn: put together where a scene lies."""

from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely import GeometryType

Geometries = NDArray[Any]
"""(n,) shapely geometries with longitude and latitude; None for one without a place."""

_HALF = 0.5
_EARTH = 1e-9
"""Share of a turn: an edge that is shorter than a turn by less than this goes once around the Earth."""


def turn_of(crs: pyproj.CRS) -> float | None:
    """A whole turn in the units of a geographic CRS, which may be degrees or grads; None for any other CRS."""
    return 2 * np.pi / crs.axis_info[0].unit_conversion_factor if crs.is_geographic else None


def in_one_piece(shapes: Geometries, turn: float, near: float, *, at_a_pole: bool) -> Geometries:
    """Take jumps over the date line out of points, lines and polygons: longitudes go on from the first one.

    An edge of more than half a turn may be a short one over the date line or a long one around the Earth. It is
    taken for the short one where the scene lies on that side of the Earth. An outline whose ends do not meet then
    goes around a pole, as it does in any scene with a pole in it.

    Args:
        shapes: wrapped, or as they were drawn.
        turn: a whole turn in their units.
        near: longitude of the scene.
        at_a_pole: whether the scene has a pole in it.
    """
    pieces = shapes.copy()
    beyond = abs((near + turn / 2) % turn - turn / 2) >= turn / 4
    for i in np.flatnonzero(_with_jumps(shapes, turn)) if beyond or at_a_pole else ():
        if beyond or goes_around(shapes[i], turn):
            pieces[i] = put_together(shapes[i], turn)
    return pieces


def on_the_turn(shapes: Geometries, turn: float, near: float) -> Geometries:
    """Move each shape by whole turns to where its middle is nearest to the scene; see `in_one_piece`.

    What goes around the Earth goes on beyond its ends.
    """
    moved = _nearest(shapes, turn, near)
    west, _, east, _ = shapely.bounds(moved).T
    is_whole = (shapely.get_type_id(moved) == GeometryType.POLYGON) & shapely.is_valid(moved)
    for i in np.flatnonzero(is_whole & (np.abs(east - west - turn) < turn * _EARTH)):
        moved[i] = _one(shapely.union_all(_thrice(moved[[i]], turn)), moved[i])
    return moved


def goes_around(shape: Any, turn: float) -> bool:
    """Whether an outline of polygons goes around a pole, if its long edges are short ones over the date line."""
    outlines = shapely.get_exterior_ring(shapely.get_parts([shape]))
    return any(_jumps(shapely.get_coordinates(outline), turn).sum() for outline in outlines)


def put_together(shape: Any, turn: float) -> Any:
    """Take the long edges of a shape for short ones over the date line, wherever it lies."""
    if not goes_around(shape, turn):
        return shapely.set_coordinates(shape, _unwrapped(shapely.get_coordinates(shape), turn))
    if shapely.get_type_id(shape) != GeometryType.POLYGON:
        return shapely.geometrycollections([put_together(part, turn) for part in shapely.get_parts(shape)])
    rings = [_over_the_pole(ring, turn) for ring in shapely.get_rings(shape)]
    outline, *holes = shapely.polygons(rings)
    if not shapely.is_valid([outline, *holes]).all():
        return shapely.Polygon(rings[0], rings[1:])
    there = _nearest(np.array(holes, object), turn, sum(outline.bounds[::2]) / 2)
    return _one(outline - shapely.union_all(_thrice(there, turn)), outline)


def _over_the_pole(ring: Any, turn: float) -> Any:
    """Close a ring that goes around the pole on its side of the equator; any other one stays in one piece."""
    places = _unwrapped(shapely.get_coordinates(ring), turn)
    if places[0, 0] == places[-1, 0]:
        return shapely.linearrings(places)
    pole = np.copysign(turn / 4, places[:, 1].mean())
    return shapely.linearrings(np.vstack([places, (places[-1, 0], pole), (places[0, 0], pole)]))


def _nearest(shapes: Geometries, turn: float, near: float) -> Geometries:
    """Move each shape by whole turns to where its middle is nearest to a longitude."""
    west, _, east, _ = shapely.bounds(shapes).T
    away = (near - (west + east) / 2) / turn
    return _moved(shapes, turn * np.rint(np.where(np.isfinite(away), away, 0)))


def _thrice(shapes: Geometries, turn: float) -> Geometries:
    """Shapes where they are and a turn away on both sides."""
    return np.concatenate([_moved(shapes, by) for by in (-turn, 0, turn)])


def _one(found: Any, otherwise: Any) -> Any:
    return found if shapely.get_type_id(found) == GeometryType.POLYGON else otherwise


def _with_jumps(shapes: Geometries, turn: float) -> NDArray[np.bool_]:
    """(n,) True: a shape has an edge that may be one over the date line."""
    places, owner = shapely.get_coordinates(shapes, return_index=True)
    inside = np.diff(owner, prepend=-1) == 0
    found = np.zeros(len(shapes), np.bool_)
    found[owner[inside & (_jumps(places, turn) != 0)]] = True
    return found


def _jumps(places: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """(n,) 1 or -1 at the end of each edge over the date line, by its direction, else 0."""
    step = np.diff(places[:, 0], prepend=places[:1, 0]) / turn
    return np.where((np.abs(step) > _HALF) & (np.abs(step) < 1 - _EARTH), np.sign(step), 0)


def _unwrapped(places: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    return places - np.column_stack([turn * np.cumsum(_jumps(places, turn)), np.zeros(len(places))])


def _moved(shapes: Geometries, by: Any) -> Geometries:
    places, owner = shapely.get_coordinates(shapes, return_index=True)
    places[:, 0] += np.broadcast_to(by, len(shapes))[owner]
    return np.asarray(shapely.set_coordinates(shapes.copy(), places))
