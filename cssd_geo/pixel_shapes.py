"""Geometries in any CRS brought to the pixels of a scene."""

from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.transform import GCPTransformer

from cssd_geo.errors import LabelError
from cssd_geo.grid import Grid


def to_pixels(geometries: NDArray[Any], crs: str | None, grid: Grid, name: str) -> NDArray[Any]:
    """Bring geometries into the scene's pixel coordinates (x = column, y = row): any CRS, rotation or GCPs.

    Args:
        geometries: (n,) shapely geometries.
        crs: theirs, as pyproj reads it; None where it is not known.
        grid: of the scene.
        name: of their file, for messages.

    Returns:
        (n,) geometries; where a place does not exist in the scene's CRS, coordinates are not finite.

    Raises:
        LabelError: if one of the two has a CRS and the other has none.
    """
    if crs is None and grid.crs is not None:
        raise LabelError(f"{name} has no CRS: assign it in your GIS (QGIS: Layer, Set Layer CRS), then try again")
    if crs is not None and grid.crs is None:
        raise LabelError(
            f"{name} has a CRS but the scene has none: georeference the scene (gdal_edit -a_srs) first"
        )
    if crs is not None and grid.crs is not None:
        to_scene = pyproj.Transformer.from_crs(crs, grid.crs.to_wkt(), always_xy=True)
        geometries = shapely.transform(geometries, to_scene.transform, interleaved=False)
    if grid.gcps:
        inverse = GCPTransformer(list(grid.gcps))
        return np.asarray(
            shapely.transform(
                geometries, lambda x, y: inverse.rowcol(x, y, op=np.asarray)[::-1], interleaved=False
            )
        )
    to_pixel = ~(grid.transform or Affine.identity())

    def moved(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        with np.errstate(invalid="ignore"):  # infinity times 0
            pixels = to_pixel * (x, y)
        return tuple(np.where(np.isnan(values), np.inf, values) for values in pixels)  # so that rings stay closed

    return np.asarray(shapely.transform(geometries, moved, interleaved=False))
