"""What a map is compared with: pixels of a vector or of another raster, beside the map's own, part by part."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # no public name; WarpedVRT lets it out as it is
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from cssd_geo.accuracy.matching import Ids, look_up
from cssd_geo.classes import UNCLASSIFIED, ClassTable
from cssd_geo.errors import LabelError, SceneError
from cssd_geo.files.rasters import open_raster, read_known
from cssd_geo.grid import Grid
from cssd_geo.label_files import place_shapes, remap_table
from cssd_geo.maps.class_rasters import Strays, classes_of, reading_plan, require_class_raster
from cssd_geo.maps.layer import MODEL_TAG
from cssd_geo.tiles import Window
from cssd_geo.vectors.longitudes import turn_of
from cssd_geo.vectors.placed_shapes import PlacedShapes
from cssd_geo.vectors.remapping import Remapping
from cssd_geo.vectors.vector_files import is_vector

_WARP_TOLERANCE = 1e-6
"""Pixels. With GDAL's default, 0.125, one pixel in 18 was compared with another than its nearest."""

_HALF_A_TURN = 180
_WHOLE_EDGES = {"SAMPLE_GRID": "YES", "SAMPLE_STEPS": "ALL"}
"""By default GDAL finds out what to read from 21 points of each edge: not enough where longitudes jump."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Pixels to compare, arrays (n,)."""

    rows: Ids
    cols: Ids
    mapped: NDArray[Any]
    """Values of the map."""
    known: NDArray[np.bool_]
    """False where they are nodata."""
    reference: Ids
    """Ids of the reference."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a map is compared with."""

    pairs: Iterator[Pairs]
    table: ClassTable
    notes: Callable[[], tuple[str, ...]]
    """What to tell of it, once all pairs were read."""
    ids_given: bool = True
    """Whether the ids are its own; else its names were numbered."""


def read_reference(
    dataset: Any,
    reference: str | Path,
    *,
    class_field: str | None,
    layer: str | None,
    remap: Remapping | None,
) -> Reference:
    """Open a reference; its pixels are read, part by part, when they are asked for.

    Args:
        dataset: the open map.
        reference: a vector, or a raster of class ids on any grid.
        class_field: as `read_labels` takes it, likewise `layer`.
        layer: see there.
        remap: what becomes of the reference's classes.

    Raises:
        LabelError: if it cannot be read or holds no classes.
    """
    grid = Grid.of(dataset)
    if is_vector(reference):
        shapes = place_shapes(reference, grid, class_field=class_field, layer=layer, remap=remap)
        pairs = _pairs_within(dataset, shapes)
        return Reference(pairs=pairs, table=shapes.table, notes=shapes.notes, ids_given=shapes.ids_given)
    with _blamed_on(reference):
        raster = open_raster(reference)
        require_class_raster(raster)
        if raster.dtypes[0].startswith("complex"):
            raise LabelError(f"{reference} holds {raster.dtypes[0]} values; a reference has whole numbers")
        own = classes_of(raster)
    table, new_ids, notes = (own, None, ()) if remap is None else remap_table(own, remap)
    if MODEL_TAG in raster.tags() and MODEL_TAG not in dataset.tags():
        notes += (f"{Path(reference).name} is a map by cssd-geo: are the arguments swapped? MAP comes first.",)
    strays, seen = Strays(own, raster.nodata), [raster]
    if not Grid.of(raster).same_as(grid):
        seen = _nearest(raster, grid, str(reference))
        notes += (
            f"{Path(reference).name} is on another grid: each pixel of the map was compared with its nearest one.",
        )
    pairs = _pairs_of(dataset, seen, grid, strays, new_ids)
    return Reference(pairs=pairs, table=table, notes=lambda: (*notes, *strays.notes("reference pixels")))


@contextmanager
def _blamed_on(reference: str | Path) -> Iterator[None]:
    """Tell that what cannot be opened or read is the reference, not the map."""
    try:
        yield
    except SceneError as error:
        raise LabelError(f"{reference} cannot be used as a reference: {error}") from error


def _nearest(raster: Any, grid: Grid, name: str) -> list[WarpedVRT]:
    """A raster on the grid of the map, by nearest pixels; where longitudes may jump also a turn to either side."""
    if grid.crs is None or raster.crs is None or grid.transform is None:
        raise LabelError(
            f"{name} is on another grid than the map, and one of them has no CRS or transform: assign it "
            "(gdal_edit.py -a_srs, -a_ullr), or give a vector"
        )
    try:
        return [_warped(raster, grid, moved) for moved in _turns(raster, grid)]
    except CPLE_BaseError as error:  # GDAL quotes both CRSs, on a hundred lines
        raise LabelError(
            f"{name} has a CRS that PROJ cannot relate to that of the map: check both (gdalinfo), and assign "
            "the right one (gdal_edit.py -a_srs), or give a vector in the CRS of the map"
        ) from error


def _warped(raster: Any, grid: Grid, moved: dict[str, Any]) -> WarpedVRT:
    nodata = UNCLASSIFIED if raster.nodata is None else raster.nodata
    return WarpedVRT(
        raster,
        **moved,
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=Resampling.nearest,
        src_nodata=nodata,  # too, else GDAL 3.12 moves valid pixels of this value to another class
        nodata=nodata,
        tolerance=_WARP_TOLERANCE,
    )


def _turns(raster: Any, grid: Grid) -> list[dict[str, Any]]:
    """How to move a raster in degrees that ends at the date line, or lies a turn away from the map."""
    turn, there = turn_of(pyproj.CRS(raster.crs.to_wkt())), Grid.of(raster)
    if turn is None or there.transform is None or there.gcps or not (_jumps(grid) or _jumps(there)):
        return [{}]
    here = grid.middle[0] if grid.crs is not None and grid.crs.is_geographic else 0.0
    nearest = round((here - there.middle[0]) / turn)
    moves = [Affine.translation(turn * (nearest + more), 0) for more in (0, -1, 1)]
    return [{"src_transform": move @ there.transform, **_WHOLE_EDGES} for move in moves]


def _jumps(grid: Grid) -> bool:
    """Whether longitudes may jump within a grid, or between it and another one."""
    if grid.degrees is None:
        return True
    west, _, east, _ = grid.degrees
    return not -_HALF_A_TURN <= west < east <= _HALF_A_TURN


def _pairs_of(
    dataset: Any, seen: Sequence[Any], grid: Grid, strays: Strays, new_ids: Ids | None
) -> Iterator[Pairs]:
    """All pixels of two rasters on one grid, part by part; those without a reference are left out.

    The reference is the first of `seen` that has data there.
    `new_ids`, where there are any, is a lookup from ids of the reference to those that they were remapped to.
    """
    for tile in reading_plan(grid):
        with _blamed_on(seen[0].name):
            truth = strays.sift(*_first_known(seen, tile.core))
        if new_ids is not None:
            truth = look_up(new_ids, truth, otherwise=UNCLASSIFIED)
        rows, cols = np.nonzero(truth)
        mapped, known = read_known(dataset, tile.core)
        yield Pairs(
            rows=rows + tile.core.row,
            cols=cols + tile.core.col,
            mapped=mapped[rows, cols],
            known=known[rows, cols],
            reference=truth[rows, cols],
        )


def _first_known(rasters: Sequence[Any], window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read as `read_known` does, from the first of some rasters that has data."""
    values, known = read_known(rasters[0], window)
    for raster in rasters[1:]:
        more, there = read_known(raster, window)
        values, known = np.where(known, values, more), known | there
    return values, known


def _pairs_within(dataset: Any, shapes: PlacedShapes) -> Iterator[Pairs]:
    """The pixels that shapes label, part by part."""
    ids = np.array(shapes.table.ids)
    for tile in reading_plan(Grid.of(dataset)):
        found = shapes.burn(tile.core)
        if len(found):
            mapped, known = read_known(dataset, tile.core)
            at = found.rows - tile.core.row, found.cols - tile.core.col
            yield Pairs(
                rows=found.rows, cols=found.cols, mapped=mapped[at], known=known[at], reference=ids[found.classes]
            )
