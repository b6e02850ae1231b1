"""Geometries in pixel coordinates to pixels: block by block, of each shape only the vertices that matter there."""

# Shapes are not clipped to a block: that would make new vertices, and edges between them would move by rounding.
# Vertices are left out instead, and what GDAL burns in the block stays the same to the bit.

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely import GeometryType

from cssd_geo.files.rasters import unplaced
from cssd_geo.tiles import Window

Indexes = NDArray[np.int64]
Places = NDArray[np.float64]

_BLOCK = 512 * 512
"""Pixels that are burnt in one go; to begin takes GDAL most of a millisecond."""
_VERTICES = 16_384
"""Vertices within a block, unless it is small: GDAL looks at all edges for each row."""
_SMALL_BLOCK = 64 * 64
"""Pixels of a block that is not worth dividing, whatever lies in it."""
_FEW = 256
"""Vertices of a shape that is not worth cutting."""
_NOWHERE = -2_000_000_000
"""Column and row of what has no place."""
_COLLECTIONS = (
    GeometryType.MULTIPOINT,
    GeometryType.MULTILINESTRING,
    GeometryType.MULTIPOLYGON,
    GeometryType.GEOMETRYCOLLECTION,
)
_SAME_PLACE = 1e-4
"""Pixels: more than GDAL's tolerance within which vertices are the same."""
_LAYERS = 64
"""Lists into which shapes are sorted at a time: one for each bit of a number."""


def single_geometries(geometries: NDArray[Any]) -> tuple[NDArray[Any], Indexes]:
    """Take geometries apart, collections within collections too; empty parts are left out.

    Returns:
        (m,) parts, None for a geometry that is None, and (m,) the index of the geometry that each belongs to.
    """
    parts, owners = np.array(geometries, object), np.arange(len(geometries))
    while (several := np.isin(shapely.get_type_id(parts), _COLLECTIONS)).any():
        times = np.where(several, shapely.get_num_geometries(parts), 1)
        owners = np.repeat(owners, times)
        parts = np.concatenate(
            [shapely.get_parts(p) if many else [p] for p, many in zip(parts, several, strict=True)]
        )
    kept = shapely.is_missing(parts) | ~shapely.is_empty(parts)
    return parts[kept], owners[kept].astype(np.int64)


def extents(parts: NDArray[Any]) -> Indexes:
    """(n, 4) first column and row, last column and row of parts in pixel coordinates; far away without a place."""
    bounds = shapely.bounds(parts)
    placed = np.isfinite(bounds).all(axis=1, keepdims=True)
    return np.where(placed, np.floor(np.clip(bounds, -1e9, 1e9)), _NOWHERE).astype(np.int64)


def near(extents: Indexes, window: Window) -> NDArray[np.bool_]:
    """Tell which extents (n, 4) meet a window: (n,)."""
    left, top, right, bottom = extents.T
    across = (right >= window.col) & (left < window.col + window.width)
    found: NDArray[np.bool_] = across & (bottom >= window.row) & (top < window.row + window.height)
    return found


def burn(parts: NDArray[Any], window: Window, *, all_touched: bool) -> tuple[Indexes, Indexes, Indexes]:
    """Tell which pixels of a window each of some parts labels, as if it were burnt alone.

    Args:
        parts: (n,) points, lines and polygons in pixel coordinates, or None.
        window: the pixels that matter.
        all_touched: count the pixels that a part touches, not only those whose centre it covers. Whether one that
            is touched at a corner alone counts is up to GDAL's rounding, which depends on the window.

    Returns:
        (m,) index of the part, row and column, for each pixel of each part; in no order.
    """
    where = extents(parts)
    points = np.flatnonzero((shapely.get_type_id(parts) == GeometryType.POINT) & near(where, window))
    found = [np.column_stack([points, where[points, 1], where[points, 0]])]
    others = np.flatnonzero(shapely.get_dimensions(parts) > 0)
    for block, chosen, cut in _blocks(parts[others], window):
        there = extents(cut)
        for layer in _side_by_side(there, block):
            box, ids = _around(there[layer], block), range(1, len(layer) + 1)
            dtype = np.min_scalar_type(len(layer))
            burnt = _burnt(zip(cut[layer], ids, strict=True), box, dtype, all_touched=all_touched)
            rows, cols = np.nonzero(burnt)
            owners = others[chosen[layer]][burnt[rows, cols] - 1]
            found.append(np.column_stack([owners, rows + box.row, cols + box.col]))
    owners, rows, cols = np.concatenate(found).T
    return owners, rows, cols


def burn_mask(parts: NDArray[Any], window: Window, *, all_touched: bool = False) -> NDArray[np.bool_]:
    """(y, x) True: a pixel of a window that any of some parts labels; see `burn`."""
    mask = np.zeros(window.shape, np.bool_)
    for block, _, cut in _blocks(parts, window):
        mask[block.relative_to(window).slices] = _burnt(cut, block, np.uint8, all_touched=all_touched)
    return mask


def _burnt(shapes: Iterable[Any], window: Window, dtype: Any, *, all_touched: bool) -> NDArray[Any]:
    with unplaced():  # at the scene's corner, pixel coordinates look like no georeference
        burnt: NDArray[Any] = rasterize(
            shapes,
            out_shape=window.shape,
            transform=Affine.translation(window.col, window.row),
            all_touched=all_touched,
            dtype=dtype,
        )
    return burnt


def _blocks(parts: NDArray[Any], window: Window) -> Iterator[tuple[Window, Indexes, NDArray[Any]]]:
    """Divide a window until its parts are quickly burnt.

    Yields:
        Each block that shapes are near to, the (k,) indexes of these, and (k,) the shapes cut to it.
    """
    where = extents(parts)
    chosen = np.flatnonzero(near(where, window))
    chosen = chosen[_may_meet(parts[chosen], window)]
    if not len(chosen):
        return
    window = _around(where[chosen], window)
    cut = parts[chosen]
    for i in np.flatnonzero(shapely.get_num_coordinates(cut) > _FEW):
        cut[i] = _cut(cut[i], window)
    if _is_quick(cut, window):
        yield window, chosen, cut
        return
    for half in _halves(window):
        for block, some, smaller in _blocks(cut, half):
            yield block, chosen[some], smaller


def _may_meet(parts: NDArray[Any], window: Window) -> NDArray[np.bool_]:
    """Tell which of some parts may label pixels of a window: not lines that pass it by, as most long ones do."""
    right, bottom = window.col + window.width, window.row + window.height
    box = shapely.box(window.col - 1, window.row - 1, right + 1, bottom + 1)
    met: NDArray[np.bool_] = (shapely.get_dimensions(parts) != 1) | shapely.intersects(parts, box)
    return met


def _around(extents: Indexes, window: Window) -> Window:
    """The part of a window that extents (n, 4), each of which meets it, reach over."""
    return Window.around(extents[:, 1::2], extents[:, ::2]).common(window) or window


def _is_quick(parts: NDArray[Any], window: Window) -> bool:
    """Whether parts are burnt as quickly in a window as in its halves."""
    if not _SMALL_BLOCK < window.pixels <= _BLOCK:
        return window.pixels <= _BLOCK
    places = shapely.get_coordinates(parts) - [window.col, window.row]
    within = (places >= 0) & (places < [window.width, window.height])
    return int(within.all(axis=1).sum()) <= _VERTICES


def _halves(window: Window) -> tuple[Window, Window]:
    if window.height > window.width:
        half = window.height // 2
        return replace(window, height=half), replace(window, row=window.row + half, height=window.height - half)
    half = window.width // 2
    return replace(window, width=half), replace(window, col=window.col + half, width=window.width - half)


def _cut(part: Any, window: Window) -> Any:
    """Leave out vertices of a line or polygon that change no pixel of a window; none is moved, and none made."""
    if shapely.get_type_id(part) != GeometryType.POLYGON:
        return shapely.linestrings(_without_idle(shapely.get_coordinates(part), window))
    rings = shapely.get_rings(part)
    rings = rings[near(extents(rings), window)]
    for i in np.flatnonzero(shapely.get_num_coordinates(rings) > _FEW):
        if (places := _from_pivot(shapely.get_coordinates(rings[i]))) is not None:
            rings[i] = shapely.linearrings(_without_idle(places, window))
    return shapely.polygons(rings[0], holes=rings[1:])


def _from_pivot(ring: Places) -> Places | None:
    """Let a ring begin at the vertex where GDAL sees which way round it goes; None if GDAL looks at all of them.

    It depends on that whether a pixel counts whose centre lies on a horizontal edge.
    """
    x, y = ring.T
    lowest = np.flatnonzero(y == y.min())
    turned = np.roll(ring[:-1], -lowest[np.argmax(x[lowest])], axis=0)
    away = turned[1:] - turned[0]
    is_lone = (np.abs(away) > _SAME_PLACE).any(axis=1).all()
    turns = away[0, 0] * away[-1, 1] != away[0, 1] * away[-1, 0]
    return np.concatenate([turned, turned[:1]]) if is_lone and turns else None


def _without_idle(places: Places, window: Window) -> Places:
    """Leave vertices out where a line stays beyond one side of a window, but for the ends of that run.

    Whether an odd or an even number of edges passes by there is the same without them, and edges that may meet
    the window stay what they are. So do the first two vertices and the last two.
    """
    for axis, first, size in ((1, window.row, window.height), (0, window.col, window.width)):
        along = places[:, axis]
        beyond = (along > first + size + 1).astype(np.int8) - (along < first - 1)
        kept = np.ones(len(places), np.bool_)
        middle = beyond[1:-1]
        kept[2:-2] = ((middle == 0) | (middle != beyond[:-2]) | (middle != beyond[2:]))[1:-1]
        places = places[kept]
    return places


def _side_by_side(extents: Indexes, window: Window) -> Iterator[list[int]]:
    """Sort extents (n, 4) into lists (of indexes) of such that do not meet in a window."""
    corner = np.array([window.col, window.row])
    boxes = np.hstack([np.maximum(extents[:, :2] - corner, 0), extents[:, 2:] - corner + 1]).tolist()
    waiting = list(range(len(boxes)))
    while waiting:
        taken = np.zeros(window.shape, np.uint64)
        layers = [list[int]() for _ in range(1 + _LAYERS)]
        for i in waiting:
            left, top, right, bottom = boxes[i]
            box = taken[top:bottom, left:right]
            free = ~int(np.bitwise_or.reduce(box, axis=None)) & (2**_LAYERS - 1)
            lowest = free & -free  # 0 where all are taken
            box |= np.uint64(lowest)
            layers[lowest.bit_length()].append(i)
        waiting, *full = layers
        yield from filter(None, full)
