"""Rasters of class ids, read part by part: which classes they hold, where, and how many pixels of each."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.classes import UNCLASSIFIED, ClassTable
from cssd_geo.errors import LabelError, SceneError
from cssd_geo.grid import Grid, is_whole, open_raster, read_valid, read_window
from cssd_geo.maps.class_tables import read_classes
from cssd_geo.tiles import Halo, TilePlan, Window, plan_tiles

_STEP = 2048
"""Side length of the parts."""


def open_class_map(path: str | Path) -> Any:
    """Open a map of class ids with rasterio.

    Raises:
        SceneError: if it does not exist, is no raster or holds other than whole numbers.
    """
    dataset = open_raster(path)
    if not is_whole(dataset.dtypes[0]):
        raise SceneError(f"{path} holds {dataset.dtypes[0]} values; a class map has whole numbers")
    return dataset


def parts_of(grid: Grid) -> TilePlan:
    """Return the parts in which rasters on `grid` are read."""
    return plan_tiles(
        height=grid.height, width=grid.width, tile_height=_STEP, tile_width=_STEP, halo=Halo(before=0, after=0)
    )


def classes_of(dataset: Any) -> ClassTable:
    """The names that a raster carries, or where it has none its values as names.

    Raises:
        LabelError: if values without names are no class ids.
    """
    named = read_classes(dataset)
    if named is not None:
        return named
    found: set[int] = set()
    for tile in parts_of(Grid.of(dataset)):
        found |= set(np.unique(read_ids(dataset, tile.core)).tolist())
    ids = sorted(value for value in found if value != UNCLASSIFIED)
    if not ids or ids[0] < 1 or not all(float(i).is_integer() for i in ids):
        raise LabelError(f"{dataset.name} holds no class ids (whole numbers from 1); found {ids[:5]}")
    return ClassTable.from_names([str(int(i)) for i in ids], [int(i) for i in ids])


def read_ids(dataset: Any, window: Window) -> NDArray[Any]:
    """Values (y, x) of the first band, 0 where it has nodata or NaN."""
    values = read_window(dataset, window)
    return np.where(read_valid(dataset, window) & np.isfinite(values), values, UNCLASSIFIED)


def count_ids(ids: NDArray[Any], table: ClassTable) -> NDArray[np.int64]:
    """(K,) pixels of each class among ids of any shape; what is no class does not count."""
    known = np.where((ids >= 0) & (ids <= table.ids[-1]), ids, UNCLASSIFIED).astype(np.int64)
    return np.bincount(known.ravel(), minlength=table.ids[-1] + 1)[list(table.ids)]


def count_pixels(dataset: Any, table: ClassTable) -> NDArray[np.int64]:
    """(K,) pixels of each class in a whole map."""
    counts = np.zeros(len(table), np.int64)
    for tile in parts_of(Grid.of(dataset)):
        counts += count_ids(read_ids(dataset, tile.core), table)
    return counts
