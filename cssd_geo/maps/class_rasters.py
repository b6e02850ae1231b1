"""Rasters of class ids, read part by part: which classes they hold, where, and how many pixels of each."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from cssd_geo.classes import MAX_CLASS_ID, UNCLASSIFIED, ClassTable
from cssd_geo.errors import InputError, SceneError
from cssd_geo.files.locations import is_there
from cssd_geo.files.rasters import is_whole, open_raster, read_known
from cssd_geo.grid import Grid
from cssd_geo.headers.raw_files import check_length
from cssd_geo.maps.class_tables import read_classes
from cssd_geo.maps.layer import CLASSES_TAG, MODEL_TAG
from cssd_geo.messages import listed
from cssd_geo.tiles import TilePlan, Window
from cssd_geo.vectors.vector_files import is_vector

AS_WHOLE = "gdal_translate -ot UInt16 makes them so"
"""What to do with a raster of classes in floating point."""
_STEP = 1024
"""Side length of the parts."""
_CACHE = "GDAL_CACHEMAX"
_CACHE_BYTES = 512_000_000
"""Enough for a row of parts of two rasters in strips, each 250,000 columns wide."""


@contextmanager
def bounded_cache() -> Iterator[None]:
    """Keep GDAL from filling a twentieth of the machine with blocks, as it does unless the user says otherwise."""
    with rasterio.Env(**({} if _CACHE in os.environ else {_CACHE: _CACHE_BYTES})):
        yield


def open_class_map(path: str | Path) -> Any:
    """Open a map of class ids with rasterio.

    Raises:
        InputError: if it is no path.
        SceneError: if it does not exist, is no raster, holds other than whole numbers or cannot hold classes.
    """
    require_map_path(path)
    try:
        dataset = open_raster(path)
    except SceneError as error:
        if is_there(path) and is_vector(path):
            raise SceneError(
                f"{path} is a vector, and a class map is a raster: where both are given, the map comes first"
            ) from error
        raise
    if not is_whole(dataset.dtypes[0]):
        raise SceneError(f"{path} holds {dataset.dtypes[0]} values; a class map has whole numbers: {AS_WHOLE}")
    require_class_raster(dataset)
    return dataset


def require_map_path(path: Any) -> None:
    """Raise an InputError that says what to do with what is no path, such as a lazy map."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            f"a class map is given by its path, not as {type(path).__name__}: write it first, as .rio.to_raster "
            "does with a DataArray"
        )


def require_class_raster(dataset: Any) -> None:
    """Refuse an open raster that cannot hold classes, whatever its values are.

    Raises:
        SceneError: if it has several bands, but for alpha, is another output of `classify` than the map, or has
            raw data that are shorter than its header says: GDAL would read zeros.
    """
    check_length(dataset)
    if sum(kind != ColorInterp.alpha for kind in dataset.colorinterp) != 1:
        held = f"{dataset.count} bands of {dataset.dtypes[0]}"
        raise SceneError(
            f"{dataset.name} holds {held}; a class raster has one: give another file, or take out the band with "
            "the classes (gdal_translate -b)"
        )
    tags = dataset.tags()
    if MODEL_TAG in tags and CLASSES_TAG not in tags:
        held = dataset.descriptions[0] or "no classes"
        raise SceneError(f"{dataset.name} was written beside a map and holds {held}: give the class map itself")


def reading_plan(grid: Grid) -> TilePlan:
    """Return the parts in which rasters on `grid` are read."""
    return TilePlan(height=grid.height, width=grid.width, tile_height=_STEP, tile_width=_STEP)


def classes_of(dataset: Any) -> ClassTable:
    """The names that a raster carries, or where it has none its values as names.

    Raises:
        SceneError: if it cannot be read, its table of names is damaged, or values without names are no class ids.
    """
    try:
        named = read_classes(dataset)
    except InputError as error:
        raise SceneError(str(error)) from error
    return _table_of_ids(dataset) if named is None else named


def _table_of_ids(dataset: Any) -> ClassTable:
    """Classes named by their values."""
    found: set[int] = set()
    allowed = f"whole numbers from 1 to {MAX_CLASS_ID}"
    for tile in reading_plan(Grid.of(dataset)):
        values = np.unique(read_ids(dataset, tile.core))
        wrong = values[(values < UNCLASSIFIED) | (values > MAX_CLASS_ID) | (values % 1 != 0)]
        if wrong.size:
            raise SceneError(
                f"{dataset.name} holds values that are no class ids ({allowed}), such as "
                f"{listed(f'{value:.15g}' for value in wrong[:5].tolist())}: give a raster of classes"
            )
        found |= set(values.astype(np.int64).tolist())
    ids = sorted(found - {UNCLASSIFIED})
    if not ids:
        raise SceneError(f"{dataset.name} holds no class ids ({allowed}): its values are all 0 or no data")
    return ClassTable.from_names([str(i) for i in ids], ids)


def read_ids(dataset: Any, window: Window) -> NDArray[Any]:
    """Values (y, x) of the first band, 0 where it has nodata or NaN."""
    values, known = read_known(dataset, window)
    return np.where(known, values, UNCLASSIFIED)


class Strays:
    """Pixels that have data but no class: values without a name, and 0 where another value means nodata.

    What a raster holds passes `sift` part by part; then `notes` says what was no class.
    """

    def __init__(self, table: ClassTable, nodata: float | None) -> None:
        """Look for other values than those of `table` in a raster with this nodata value, if it has any."""
        self._ids = np.array(table.ids)
        self._zero_is_nodata = nodata is None or nodata == UNCLASSIFIED
        self._pixels = Counter[float]()

    def sift(self, values: NDArray[Any], known: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Ids of classes, in the shape of `values`, and 0 where there is no class or `known` is False."""
        of_class = known & np.isin(values, self._ids)
        stray = known & ~of_class & ~(self._zero_is_nodata & (values == UNCLASSIFIED))
        found, pixels = np.unique(values[stray], return_counts=True)
        self._pixels.update(dict(zip(found.tolist(), pixels.tolist(), strict=True)))
        return np.where(of_class, values, UNCLASSIFIED).astype(np.int64)

    def notes(self, pixels: str) -> tuple[str, ...]:
        """What was found, one sentence each; `pixels` says which were looked at, such as "pixels of map.tif"."""
        zeros = self._pixels[UNCLASSIFIED]
        unnamed = {value: count for value, count in self._pixels.items() if value != UNCLASSIFIED}
        found = list[str]()
        if unnamed:
            count, values = sum(unnamed.values()), listed(f"{value:.15g}" for value in sorted(unnamed))
            found.append(f"{count:,} {pixels} have values without a name, which count as no class: {values}.")
        if zeros:
            found.append(note_of_zeros(zeros, pixels))
        return tuple(found)


def note_of_zeros(count: int, pixels: str) -> str:
    """What to say of pixels of a raster that have the value 0 although another one is its nodata."""
    return (
        f"{count:,} {pixels} have the value 0, which means unlabelled here: number classes from 1 if 0 is a class."
    )


def count_ids(ids: NDArray[Any], table: ClassTable) -> NDArray[np.int64]:
    """(K,) pixels of each class among ids of any shape; what is no class does not count."""
    known = np.where((ids >= 0) & (ids <= table.ids[-1]), ids, UNCLASSIFIED).astype(np.int64)
    return np.bincount(known.ravel(), minlength=table.ids[-1] + 1)[list(table.ids)]


def count_pixels(dataset: Any, table: ClassTable) -> tuple[NDArray[np.int64], Strays]:
    """(K,) pixels of each class in a whole map, and those of none."""
    counts, strays = np.zeros(len(table), np.int64), Strays(table, dataset.nodata)
    for tile in reading_plan(Grid.of(dataset)):
        counts += count_ids(strays.sift(*read_known(dataset, tile.core)), table)
    return counts, strays
