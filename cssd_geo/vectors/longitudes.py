"""Shapes near the date line, where longitudes jump by a turn: brought to the turn on which a scene lies."""

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

Longitudes = NDArray[np.float64]

_HALF = 0.5
_EARTH = 1e-9
"""Share of a turn: an edge that lacks less goes once around, as those of a box of the whole Earth do."""


def turn_of(crs: pyproj.CRS) -> float | None:
    """A whole turn in the units of a geographic CRS, which may be degrees or grads; None for any other CRS."""
    return 2 * np.pi / crs.axis_info[0].unit_conversion_factor if crs.is_geographic else None


def in_one_piece(x: Longitudes, owner: NDArray[np.int64], turn: float, near: float) -> Longitudes:
    """Take jumps over the date line out of the longitudes of shapes.

    An edge of more than half a turn may be a short one over the date line or a long one around the Earth. It is
    taken for the short one where the scene lies on that side of the Earth.

    Args:
        x: (n,) longitudes of all vertices.
        owner: (n,) index of the shape that each belongs to, ascending.
        turn: a whole turn in their units.
        near: longitude of the scene.

    Returns:
        (n,) the same but for whole turns: those of a shape go on from its first.
    """
    if abs((near + turn / 2) % turn - turn / 2) < turn / 4:
        return x
    first = np.diff(owner, prepend=-1) != 0
    step = np.where(first, 0, np.diff(x, prepend=0) / turn)
    over = (np.abs(step) > _HALF) & (np.abs(step) < 1 - _EARTH)
    turns = np.cumsum(np.where(over, -np.sign(step), 0))
    return np.asarray(x + turn * (turns - turns[first][np.cumsum(first) - 1]))


def on_the_turn(x: Longitudes, owner: NDArray[np.int64], turn: float, near: float) -> Longitudes:
    """Move each shape by whole turns to where its middle is nearest to the scene; see `in_one_piece`."""
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    if not len(first):
        return x
    middle = (np.minimum.reduceat(x, first) + np.maximum.reduceat(x, first)) / 2
    turns = np.where(np.isfinite(middle), np.rint((near - middle) / turn), 0)
    return np.asarray(x + turn * np.repeat(turns, np.diff(first, append=len(x))))


def unwrapped(shapes: NDArray[np.object_], turn: float, near: float) -> NDArray[np.object_]:
    """Return shapes with longitudes `in_one_piece`."""
    places, owner = shapely.get_coordinates(shapes, return_index=True)
    places[:, 0] = in_one_piece(places[:, 0], owner, turn, near)
    return np.asarray(shapely.set_coordinates(shapes.copy(), places))
