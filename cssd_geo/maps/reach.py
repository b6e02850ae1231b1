"""How far a map's classes look around themselves, as its tags tell, in pixels of the grid that it lies on now.

A map that is cropped or resampled keeps its tags. Its receptive field then still counts the pixels of the grid
that it was classified on, so the tags tell how large these were. So do those of a scene in sensor geometry, whose
pixels lie askew on the map from the start.
"""

import json
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.crs import CRS

from cssd_geo.grid import Grid
from cssd_geo.maps.layer import PIXEL_TAG, RECEPTIVE_FIELD_TAG
from cssd_geo.options import RECEPTIVE_FIELD


def reach_tags(receptive_field: int, grid: Grid) -> dict[str, str]:
    """Return the tags of a map classified on `grid`: its receptive field, and the steps from pixel to pixel.

    The steps are a 2 x 2 matrix in the units of the CRS: columns to x and rows to x, then both to y. They are null
    where there is no transform, or ground control points stand in for it.
    """
    steps = _steps(grid)
    crs = None if grid.crs is None else grid.crs.to_wkt()
    pixel = {"steps": None if steps is None else steps.tolist(), "crs": crs}
    return {RECEPTIVE_FIELD_TAG: str(receptive_field), PIXEL_TAG: json.dumps(pixel)}


def receptive_field_of(dataset: Any) -> int:
    """Receptive field of an open map, that of the default window if no tag tells it."""
    text = dataset.tags().get(RECEPTIVE_FIELD_TAG, "")
    return int(text) if text.isdecimal() else RECEPTIVE_FIELD


def pixels_across(dataset: Any) -> float | None:
    """How many pixels of an open map a pixel that it was classified with is across, in the middle of the map.

    Of rows and columns the larger number counts, also for a pixel that lies askew now. It is 1 where no tag tells
    what the pixels were.

    Returns:
        None if it cannot be known: one of the grids has no transform or no CRS, or PROJ does not relate them.
    """
    text = dataset.tags().get(PIXEL_TAG)
    if text is None:
        return 1.0
    try:
        pixel = json.loads(text)
        before = None if pixel["steps"] is None else np.array(pixel["steps"], np.float64).reshape(2, 2)
        crs = None if pixel["crs"] is None else CRS.from_wkt(pixel["crs"])  # no more: other texts may be addresses
    except (ValueError, KeyError, TypeError, AttributeError):  # not as it was written
        return None
    grid = Grid.of(dataset)
    if before is None:
        return 1.0 if _steps(grid) is None else None
    now = _steps_in(crs, grid)
    if now is None or not np.linalg.det(now):
        return None
    return float(np.linalg.norm(np.linalg.solve(now, before), np.inf))


def _steps(grid: Grid) -> NDArray[np.float64] | None:
    if grid.transform is None or grid.gcps:
        return None
    return np.array([[grid.transform.a, grid.transform.b], [grid.transform.d, grid.transform.e]])


def _steps_in(crs: CRS | None, grid: Grid) -> NDArray[np.float64] | None:
    """Steps from pixel to pixel in another CRS, in the middle of a grid; None if it cannot be known."""
    steps = _steps(grid)
    if steps is None or grid.transform is None or crs == grid.crs:
        return steps
    if crs is None or grid.crs is None:
        return None
    middle = np.array([grid.width, grid.height]) / 2
    places = middle[:, None] + [[0, 1, 0], [0, 0, 1]]  # and its neighbours
    try:
        to_crs = pyproj.Transformer.from_crs(grid.crs.to_wkt(), crs.to_wkt(), always_xy=True)
        points = np.array(to_crs.transform(*(grid.transform @ places)))
    except ProjError:
        return None
    return np.asarray(points[:, 1:] - points[:, :1]) if np.isfinite(points).all() else None
