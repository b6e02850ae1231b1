"""Draw a stratified random sample of a class map, to be labelled: the reference of an accuracy that holds for it.

The map is read twice, part by part: once to count the pixels of each class, once to find those whose rank within
their class, in the order of reading, was drawn.
"""

import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.transform import GCPTransformer

from cssd_geo.accuracy.matching import NONE_OF_THESE, only_numbered
from cssd_geo.accuracy.strata import allocate, sample_size
from cssd_geo.classes import ClassTable
from cssd_geo.errors import InputError, OutputError, SceneError
from cssd_geo.files.outputs import check_target, write_whole
from cssd_geo.grid import Grid
from cssd_geo.maps.class_rasters import (
    bounded_cache,
    classes_of,
    count_ids,
    count_pixels,
    open_class_map,
    read_ids,
    reading_plan,
    require_map_path,
)
from cssd_geo.options import (
    LARGEST_SEED,
    SAMPLE_LEAST,
    SAMPLE_STANDARD_ERROR,
    SAMPLE_USERS_ACCURACY,
    number,
    true_or_false,
    whole_number,
)
from cssd_geo.vectors.choices import with_choices
from cssd_geo.vectors.class_fields import CLASS_FIELD, MAP_ID_FIELD, MAP_NAME_FIELD

_NAME = re.compile(r"(?!gpkg|sqlite_)\w[\w .-]*", re.IGNORECASE)
"""Names that a layer of a GeoPackage can have."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceSample:
    """What was drawn; arrays (K,) in the order of the classes, (n,) in the order of the ids."""

    output: Path
    classes: ClassTable
    mapped_pixels: Ids
    """(K,) pixels that the map has of each class: the sizes of the strata."""
    samples: Ids
    """(K,) pixels drawn of each class."""
    rows: Ids
    """(n,) rows in the map, from 0."""
    cols: Ids
    """(n,) columns in the map, from 0."""
    notes: tuple[str, ...] = ()
    """What could not be drawn, one sentence each."""


@bounded_cache()
def sample(
    class_map: str | Path,
    output: str | Path,
    *,
    size: int | None = None,
    per_class_least: int = SAMPLE_LEAST,
    standard_error: float = SAMPLE_STANDARD_ERROR,
    users_accuracy: float = SAMPLE_USERS_ACCURACY,
    seed: int = 0,
    overwrite: bool = False,
) -> ReferenceSample:
    """Draw pixels of a class map at random within its classes, and write their centres as points to be labelled.

    Unclassified pixels are never drawn. The order of the points tells nothing of their class.

    Args:
        class_map: a map that `classify` wrote, or any raster of class ids.
        output: GeoPackage to write, in the map's CRS: fields id, row, col, map_id, map_name (hide these while
            labelling) and class_name (empty: to be filled in). Where the map has names, GIS programs that know
            enumerations of GeoPackages offer these and `NONE_OF_THESE` to choose from.
        size: pixels to draw. If None, as many as `standard_error` needs (Olofsson et al. 2014, eq. 13), and no
            fewer than `per_class_least` of each class.
        per_class_least: pixels of a rare class; the others share the rest by area. A class with fewer gives all.
        standard_error: of the overall accuracy to aim at, a fraction; without a `size` only.
        users_accuracy: what to expect of each class, a fraction; likewise.
        seed: the same map and seed give the same pixels.
        overwrite: replace an output that exists.

    Raises:
        InputError: if an option cannot be used.
        SceneError: if the map cannot be read, has several bands, holds values that are no class ids or has no
            classified pixel.
        OutputError: if the output exists and `overwrite` is false, or cannot be written.
    """
    require_map_path(class_map)
    target = Path(output)
    seed, per_class_least = whole_number("seed", seed), whole_number("per_class_least", per_class_least)
    size = None if size is None else whole_number("size", size)
    standard_error = number("standard_error", standard_error)
    users_accuracy = number("users_accuracy", users_accuracy)
    overwrite = true_or_false("overwrite", overwrite)
    _require_options(size, standard_error, users_accuracy, seed)
    check_target(target, overwrite=overwrite, suffixes=(".gpkg",), inputs=[class_map])
    _require_closed(target)
    dataset = open_class_map(class_map)
    table = classes_of(dataset)
    mapped, strays = count_pixels(dataset, table)
    if not mapped.any():
        raise SceneError(f"{class_map} has no classified pixel to draw: give another map")
    if size is None:
        needed = sample_size(mapped, users_accuracy=users_accuracy, standard_error=standard_error)
        size = max(needed, int(np.minimum(mapped, per_class_least).sum()))
    samples = allocate(mapped, size, least=per_class_least)
    rows, cols, classes = _draw(dataset, table, mapped, samples, seed)
    x, y = _centres(Grid.of(dataset), rows, cols, str(class_map))
    fields = _fields(table, rows, cols, classes)
    layer = target.stem if _NAME.fullmatch(target.stem) else "points"
    points = _geopackage(shapely.points(x, y), fields, Grid.of(dataset).crs, layer)
    write_whole(target, _with_classes(points, layer, table))
    return ReferenceSample(
        output=target,
        classes=table,
        mapped_pixels=mapped,
        samples=samples,
        rows=rows,
        cols=cols,
        notes=strays.notes(f"pixels of {Path(class_map).name}"),
    )


def _require_options(size: int | None, standard_error: float, users_accuracy: float, seed: int) -> None:
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed must be from 0 to {LARGEST_SEED}, not {seed}")
    if size is not None and (standard_error, users_accuracy) != (SAMPLE_STANDARD_ERROR, SAMPLE_USERS_ACCURACY):
        raise InputError(
            f"a size of {size} leaves nothing to find from a standard error and a user's accuracy: leave it or "
            "them out"
        )


def _require_closed(target: Path) -> None:
    """Refuse a GeoPackage that is open: its journal would be played back into the new one."""
    for suffix in ("-wal", "-journal"):
        if target.with_name(target.name + suffix).exists():
            raise OutputError(
                f"{target} is open in another program ({target.name}{suffix} exists): close it first"
            )


def _draw(dataset: Any, table: ClassTable, mapped: Ids, samples: Ids, seed: int) -> tuple[Ids, Ids, Ids]:
    """Draw `samples` (K,) pixels of each class: rows, columns and class indexes (n,), in random order."""
    random = np.random.default_rng(seed)
    found = _find(dataset, table, _ranks(mapped, samples, random))
    rows, cols, classes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = random.permutation(len(rows))
    return rows[order], cols[order], classes[order]


def _ranks(mapped: Ids, samples: Ids, random: np.random.Generator) -> list[Ids]:
    """For each class the drawn ranks, ascending."""
    pairs = zip(mapped.tolist(), samples.tolist(), strict=True)
    return [np.sort(random.choice(pixels, size=drawn, replace=False, shuffle=False)) for pixels, drawn in pairs]


def _find(dataset: Any, table: ClassTable, ranks: list[Ids]) -> Iterator[tuple[Ids, Ids, Ids]]:
    """Rows, columns and class indexes (n,) of the pixels with these ranks within their class, part by part."""
    seen = np.zeros(len(table), np.int64)
    for tile in reading_plan(Grid.of(dataset)):
        ids = read_ids(dataset, tile.core)
        counts = count_ids(ids, table)
        order = np.argsort(ids, axis=None, kind="stable")  # class by class, in the order of reading
        starts = np.searchsorted(ids.ravel()[order], table.ids)
        for index in np.flatnonzero(counts).tolist():
            first, end = np.searchsorted(ranks[index], (seen[index], seen[index] + counts[index]))
            if end > first:
                places = order[starts[index] + ranks[index][first:end] - seen[index]]
                rows, cols = np.divmod(places, tile.core.width)
                yield rows + tile.core.row, cols + tile.core.col, np.full(len(rows), index)
        seen += counts


def _fields(table: ClassTable, rows: Ids, cols: Ids, classes: Ids) -> dict[str, NDArray[Any]]:
    return {
        "id": np.arange(1, len(rows) + 1),
        "row": rows,
        "col": cols,
        MAP_ID_FIELD: np.array(table.ids)[classes],
        MAP_NAME_FIELD: np.array(table.names, object)[classes],
        CLASS_FIELD: np.full(len(rows), None, object),
    }


def _geopackage(points: NDArray[Any], fields: dict[str, NDArray[Any]], crs: Any, layer: str) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")  # a map may have none
        pyogrio.raw.write(
            file,
            shapely.to_wkb(points),
            list(fields.values()),
            list(fields),
            geometry_type="Point",
            crs=None if crs is None else crs.to_wkt(),
            driver="GPKG",
            layer=layer,
        )
    return file.getvalue()


def _with_classes(package: bytes, layer: str, table: ClassTable) -> bytes:
    """Offer the names of a map's classes, where it has some, and `NONE_OF_THESE`, which is no number."""
    if only_numbered(table):
        return package
    return with_choices(package, layer, CLASS_FIELD, list(dict.fromkeys((*table.names, NONE_OF_THESE))))


def _centres(grid: Grid, rows: Ids, cols: Ids, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map coordinates (n,) of pixel centres."""
    if grid.crs is not None and not grid.is_placed:
        raise SceneError(
            f"{name} has a CRS but no transform, so that nothing says where its pixels lie: give it one "
            "(gdal_edit.py -a_ullr)"
        )
    if not grid.gcps:
        as_qgis_shows_it = Affine.scale(1, -1)  # where there is no georeference
        x, y = (grid.transform or as_qgis_shows_it) @ (cols + 0.5, rows + 0.5)
        return x, y
    points = GCPTransformer(list(grid.gcps))
    x, y = (np.asarray(values) for values in points.xy(rows, cols))
    there = points.rowcol(x, y, op=np.asarray)
    if not all(np.array_equal(np.floor(a), b) for a, b in zip(there, (rows, cols), strict=True)):
        raise SceneError(
            f"{name} has ground control points that do not tell pixels apart: warp it (gdalwarp) first"
        )
    return x, y
