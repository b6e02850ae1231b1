"""Which pixels count, said beside the scene: a raster on its grid or polygons in any CRS; read by windows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.enums import TransformDirection
from shapely import GeometryType

from cssd_geo.errors import LabelError, SceneError
from cssd_geo.files.locations import is_there
from cssd_geo.files.rasters import read_known
from cssd_geo.grid import Grid
from cssd_geo.headers.raw_files import check_length
from cssd_geo.messages import without_secrets
from cssd_geo.scenes.sources import RasterSource
from cssd_geo.tiles import Window
from cssd_geo.vectors.burning import burn_mask, extents, near, single_geometries
from cssd_geo.vectors.longitudes import in_one_piece, turn_of
from cssd_geo.vectors.placement import datum_notes, to_pixels, way
from cssd_geo.vectors.shapes import read_geometries
from cssd_geo.vectors.vector_files import is_vector

_SEGMENTS = 100
"""Pieces of an edge as long as all shapes, before it is brought to another CRS, where straight lines bend."""


class RasterMask:
    """A raster on the scene's grid: pixels count where it is neither 0 nor nodata."""

    def __init__(self, source: RasterSource) -> None:
        self._source = source

    def read(self, window: Window) -> NDArray[np.bool_]:
        """Return (y, x), True means usable; `window` lies within the scene.

        Raises:
            SceneError: if the file cannot be read there.
        """
        with self._source.reading() as dataset:
            values, known = read_known(dataset, window)
        told: NDArray[np.bool_] = known & (values != 0)
        return told


class ShapeMask:
    """Polygons in pixel coordinates (x = column, y = row): pixels count whose centre lies inside of any."""

    def __init__(self, polygons: NDArray[Any]) -> None:
        self._polygons, self._extents = polygons, extents(polygons)

    def read(self, window: Window) -> NDArray[np.bool_]:
        """Return (y, x), True means usable."""
        return burn_mask(self._polygons[near(self._extents, window)], window)


def open_valid_mask(path: str | Path, grid: Grid, *, follow_links: bool = False) -> tuple[RasterMask, str]:
    """Open a raster on the scene's grid as a mask, and say so in a sentence; reads no pixel.

    Args:
        path: the raster.
        grid: of the scene.
        follow_links: let it refer to files outside of its folder.

    Raises:
        SceneError: if it is no raster of one band, or lies on another grid.
    """
    source = _open_mask_raster(path, follow_links=follow_links)
    dataset = source.dataset()
    if dataset.count != 1 or dataset.dtypes[0].startswith("complex"):
        held = f"{dataset.count} bands of {dataset.dtypes[0]}"
        raise SceneError(f"{path} holds {held}; a valid mask has one band: 0 or nodata where pixels do not count")
    differences = Grid.of(dataset).differences(grid)
    if differences:
        raise SceneError(
            f"{path} is not on the scene's grid: {'; '.join(differences)}. Resample it (nearest) to the scene, "
            "or give polygons (--aoi)"
        )
    return RasterMask(source), without_secrets(f"Pixels count only where {path} is neither 0 nor nodata.")


def open_aoi(path: str | Path, grid: Grid, layer: str | None = None) -> tuple[ShapeMask, str]:
    """Read an area of interest, polygons of any vector in any CRS, and say in sentences what of it counts.

    Args:
        path: anything that GDAL reads as a vector.
        grid: of the scene.
        layer: needed where there are several.

    Raises:
        SceneError: if it is no vector, has no CRS, no such layer or no area, or lies elsewhere than the scene.
    """
    try:
        if not is_vector(path):
            raise SceneError(f"{path} is no vector that GDAL can read; a raster is given as --valid-mask")
        geometries, crs = read_geometries(path, layer)
        polygons = _polygons(geometries)
        if not len(polygons):
            raise SceneError(f"{path} holds {len(geometries)} shapes but no area: an area of interest is polygons")
        pixels = to_pixels(_bendable(polygons, crs, grid), crs, grid, Path(path).name)
        doubts = datum_notes(crs, grid, Path(path).name)
    except LabelError as error:
        raise SceneError(str(error).replace("--layer", "--aoi-layer")) from error
    meeting = _meet(pixels, grid)
    if not meeting.any():
        raise SceneError(f"{path} lies elsewhere than the scene, {_apart(pixels, grid)}: check its CRS")
    note = f"Pixels count only inside of {path}: {meeting.sum()} of its {len(pixels)} polygons meet the scene"
    lost = int(shapely.is_missing(pixels).sum())
    if lost:
        note += f", {lost} cannot be brought to its CRS and do not count"
    return ShapeMask(pixels[meeting]), " ".join([f"{note}.", *doubts])


def _open_mask_raster(path: str | Path, *, follow_links: bool) -> RasterSource:
    source = RasterSource(str(path), follow_links)
    try:
        dataset = source.dataset()
    except SceneError as error:
        if is_there(path) and is_vector(path):
            raise SceneError(f"{path} is a vector, not a raster: give it as area of interest (--aoi)") from error
        raise
    check_length(dataset)  # else GDAL reads zeros
    return source


def _polygons(geometries: NDArray[Any]) -> NDArray[Any]:
    """Return the polygons among geometries and their parts."""
    parts, _ = single_geometries(geometries)
    chosen: NDArray[Any] = parts[(shapely.get_type_id(parts) == GeometryType.POLYGON) & (shapely.area(parts) > 0)]
    return chosen


def _meet(pixels: NDArray[Any], grid: Grid) -> NDArray[np.bool_]:
    """Tell which polygons in pixel coordinates share more than an edge with the scene."""
    left, top, right, bottom = shapely.bounds(pixels).T
    # False without a place, as bounds are NaN then
    near: NDArray[np.bool_] = (right > 0) & (bottom > 0) & (left < grid.width) & (top < grid.height)
    near[near] = shapely.intersects(pixels[near], shapely.box(0, 0, grid.width, grid.height))
    return near


def _bendable(polygons: NDArray[Any], crs: str | None, grid: Grid) -> NDArray[Any]:
    """Give long edges more points, where the scene's CRS is another, in which they may be curves."""
    if crs is None or grid.crs is None or not grid.is_placed:
        return polygons
    theirs, ours = pyproj.CRS(crs), pyproj.CRS(grid.crs.to_wkt())
    if theirs == ours:
        return polygons
    if (turn := turn_of(theirs)) is not None:
        near, _ = way(theirs, ours).transform(*grid.middle, direction=TransformDirection.INVERSE)
        polygons = in_one_piece(polygons, turn, near, at_a_pole=grid.has_a_pole)
    left, bottom, right, top = shapely.total_bounds(polygons)
    return np.asarray(shapely.segmentize(polygons, max(right - left, top - bottom) / _SEGMENTS))


def _apart(pixels: NDArray[Any], grid: Grid) -> str:
    """Say where shapes lie, in pixels of the scene."""
    left, top, right, bottom = shapely.total_bounds(pixels)
    if not np.isfinite([left, top, right, bottom]).all():
        return "at a place that does not exist in the scene's CRS"
    where = f"at columns {left:,.0f} to {right:,.0f} and rows {top:,.0f} to {bottom:,.0f}"
    return f"{where}, while the scene has {grid.width:,} columns and {grid.height:,} rows"
