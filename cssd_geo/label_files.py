"""Vectors or rasters to labelled pixels: which pixel is which class, by whose polygon, and what was left out."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.classes import MAX_CLASS_ID, UNCLASSIFIED, ClassTable
from cssd_geo.errors import LabelError, SceneError
from cssd_geo.files.rasters import is_whole, open_raster, read_known
from cssd_geo.grid import Grid
from cssd_geo.labels import Labels
from cssd_geo.maps.class_rasters import AS_WHOLE, bounded_cache, note_of_zeros, reading_plan, require_class_raster
from cssd_geo.maps.class_tables import table_of_values
from cssd_geo.maps.patches import number_patches
from cssd_geo.scenes.lookup import GeometryLookup
from cssd_geo.tiles import Window
from cssd_geo.vectors.burning import burn_mask, single_geometries
from cssd_geo.vectors.legend import entries_of, tabulate
from cssd_geo.vectors.placed_shapes import PlacedShapes, clash_notes
from cssd_geo.vectors.placement import to_pixels
from cssd_geo.vectors.remapping import Remapping
from cssd_geo.vectors.shapes import read_geometries, read_shapes
from cssd_geo.vectors.vector_files import is_vector

Indexes = NDArray[np.int64]


def read_labels(
    path: str | Path,
    grid: Grid,
    *,
    class_field: str | None = None,
    layer: str | None = None,
    all_touched: bool = False,
    lookup: GeometryLookup | None = None,
    remap: Remapping | None = None,
) -> Labels:
    """Read labelled polygons, lines or points, in any CRS, or a label raster on the scene's grid.

    Args:
        path: anything that GDAL reads as a vector or a raster.
        grid: the grid of the scene.
        class_field: attribute with the class; guessed where only one is plausible. "layer": each layer of the file
            is a class. A field named "colour" or "color" with "#rrggbb" gives the classes their colours.
        layer: layer of a data source with several.
        all_touched: label every pixel that a polygon touches, not only those whose centre it covers.
        lookup: of a scene in sensor geometry: labels lie on its map, and go through it to the sensor's pixels.
        remap: what becomes of the classes; they stay as they are if None.

    Raises:
        LabelError: if the file is neither, has no CRS, no such field or layer, or no pixel in the scene, or if
            `remap` does not fit its classes.
    """
    place = grid if lookup is None else lookup.grid
    if is_vector(path):
        shapes = place_shapes(
            path, place, class_field=class_field, layer=layer, all_touched=all_touched, remap=remap
        )
        found = shapes.burn(place.window)
        labels = replace(found, notes=shapes.notes())
    else:
        labels = _read_label_raster(path, place, remap)
    if lookup is not None:
        labels = _on_sensor(labels, lookup)
    if not len(labels):
        raise LabelError(
            f"no pixel of the scene is labelled by {path}: {' '.join(labels.notes) or 'nothing overlaps.'} "
            "Check that labels and scene show the same place"
        )
    return labels


def place_shapes(
    path: str | Path,
    grid: Grid,
    *,
    class_field: str | None,
    layer: str | None,
    remap: Remapping | None,
    all_touched: bool = False,
) -> PlacedShapes:
    """Read the shapes of a vector as `read_labels` does, but label no pixel yet."""
    shapes = read_shapes(path, layer=layer, class_field=class_field)
    return PlacedShapes(shapes, grid, remap, all_touched=all_touched, name=Path(path).name)


def read_mask(path: str | Path, grid: Grid, layer: str | None = None, *, margin: int = 0) -> NDArray[np.bool_]:
    """Return (y, x): True where a pixel is touched by any shape of a vector, or not 0 in a raster on the grid.

    Args:
        path: the vector or raster.
        grid: the grid of the scene.
        layer: layer of a vector with several.
        margin: pixels on each side that the result is larger by than the grid: shapes beside the scene lie there.
            A raster has nothing beyond its edges, so all is False there.

    Raises:
        LabelError: if the file is neither, has no CRS or no such layer, or lies on another grid.
    """
    wider = Window(row=-margin, col=-margin, height=grid.height + 2 * margin, width=grid.width + 2 * margin)
    if not is_vector(path):
        mask = np.zeros(wider.shape, np.bool_)
        for window, ids, _ in _read_ids(_open_label_raster(path, grid)):
            mask[margin:, margin:][window.slices] = ids != UNCLASSIFIED
        return mask
    geometries, crs = read_geometries(path, layer)
    return burn_mask(
        to_pixels(single_geometries(geometries)[0], crs, grid, Path(path).name), wider, all_touched=True
    )


def _on_sensor(labels: Labels, lookup: GeometryLookup) -> Labels:
    """Bring labels from pixels of a map to the sensor's: each once, though the map may show one many times."""
    rows, cols, seen = lookup.sensor_pixels(labels.rows, labels.cols)
    notes = labels.notes
    if not seen.all():
        notes += (f"{(~seen).sum()} of {len(seen)} labelled pixels of the map were not seen by the sensor.",)
    found, clashes = replace(labels, rows=rows, cols=cols).select(seen).uncontested()
    return replace(found, notes=(*notes, *clash_notes(clashes)))


def _read_label_raster(path: str | Path, grid: Grid, remap: Remapping | None) -> Labels:
    dataset = _open_label_raster(path, grid)
    rows, cols, ids, notes = _labelled_pixels(dataset)
    table, more = _raster_table(path, dataset, ids)
    notes = (*notes, *more)
    if remap is not None:
        table, by_id, renamed = remap_table(table, remap)
        kept = by_id[ids] != UNCLASSIFIED
        rows, cols, ids, notes = rows[kept], cols[kept], by_id[ids[kept]], (*notes, *renamed)
    classes = np.searchsorted(table.ids, ids).astype(np.int64)
    polygons = number_patches(rows, cols, classes)
    return Labels(rows=rows, cols=cols, classes=classes, polygons=polygons, table=table, notes=notes)


def remap_table(table: ClassTable, remap: Remapping) -> tuple[ClassTable, Indexes, tuple[str, ...]]:
    """Give the classes of a raster new names and ids.

    Returns:
        The new table; a lookup from old id to new id, 0 where a class is left out; and notes.

    Raises:
        LabelError: if the rules do not fit the classes.
    """
    legend, notes = remap.apply(entries_of(table))
    new, lookup = tabulate(legend)
    by_id = np.zeros(table.ids[-1] + 1, np.int64)
    by_id[list(table.ids)] = np.array([*new.ids, UNCLASSIFIED])[lookup]
    return new, by_id, notes


def _open_label_raster(path: str | Path, grid: Grid) -> Any:
    """Open a raster of class ids on the scene's grid."""
    try:
        dataset = open_raster(path)
    except SceneError as error:
        raise LabelError(
            f"{path} is no vector, and cannot be read as a raster of classes: {error}. If it holds polygons or "
            "points, save them as GeoPackage in your GIS"
        ) from error
    differences = Grid.of(dataset).differences(grid)
    if differences:
        raise LabelError(
            f"{path} is not on the scene's grid: {'; '.join(differences)}. Resample it (nearest) to the scene, "
            "or give polygons"
        )
    try:
        require_class_raster(dataset)
    except SceneError as error:
        raise LabelError(str(error)) from error
    if not is_whole(dataset.dtypes[0]):
        raise LabelError(f"{path} holds {dataset.dtypes[0]} values; a label raster has whole numbers: {AS_WHOLE}")
    return dataset


@bounded_cache()
def _labelled_pixels(dataset: Any) -> tuple[Indexes, Indexes, Indexes, tuple[str, ...]]:
    """Rows, columns and ids (n,) of the pixels of a raster that have a class, row by row, and notes."""
    parts, zeros = [], 0
    for window, ids, more in _read_ids(dataset):
        rows, cols = np.nonzero(ids)
        parts.append((rows + window.row, cols + window.col, ids[rows, cols].astype(np.int64)))
        zeros += more
    rows, cols, found = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(rows * dataset.width + cols, kind="stable")
    return rows[order], cols[order], found[order], (note_of_zeros(zeros, "pixels"),) if zeros else ()


def _read_ids(dataset: Any) -> Iterator[tuple[Window, NDArray[Any], int]]:
    """Ids (y, x), part by part, 0 where there is nodata; and how many are 0 where another value means nodata."""
    for tile in reading_plan(Grid.of(dataset)):
        try:
            ids, valid = read_known(dataset, tile.core)
        except SceneError as error:
            raise LabelError(str(error)) from error
        zeros = 0 if dataset.nodata in (None, UNCLASSIFIED) else int((valid & (ids == UNCLASSIFIED)).sum())
        ids[~valid] = UNCLASSIFIED
        yield tile.core, ids, zeros


def _raster_table(path: str | Path, dataset: Any, ids: Indexes) -> tuple[ClassTable, tuple[str, ...]]:
    present = np.unique(ids).tolist()
    if not present or present[0] < 1 or present[-1] > MAX_CLASS_ID:
        raise LabelError(f"{path}: classes are values 1 to {MAX_CLASS_ID}, 0 is unlabelled; found {present[:5]}")
    return table_of_values(dataset, present)
