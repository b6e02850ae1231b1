"""Compare a class map with a reference that it was not trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from scipy.ndimage import maximum_filter

from cssd_geo.accuracy.areas import AreaEstimates
from cssd_geo.accuracy.matching import Ids, Matching, look_up, match_classes, numbering_note
from cssd_geo.accuracy.metrics import Accuracy, confusion_matrix
from cssd_geo.classes import UNCLASSIFIED, ClassTable
from cssd_geo.errors import InputError, LabelError, SceneError
from cssd_geo.grid import Grid, open_raster
from cssd_geo.labels import Labels, read_labels, read_mask, remap_table
from cssd_geo.maps.class_rasters import classes_of, count_pixels, open_class_map, parts_of, read_ids
from cssd_geo.maps.layer import RECEPTIVE_FIELD_TAG
from cssd_geo.options import RECEPTIVE_FIELD
from cssd_geo.tiles import tiles_of_pixels
from cssd_geo.vectors.class_fields import MAP_ID_FIELD
from cssd_geo.vectors.remapping import Remapping, read_remapping
from cssd_geo.vectors.vector_files import field_names, is_vector
from cssd_geo.vectors.vectors import holds_points

_WARP_TOLERANCE = 1e-6
"""Pixels. With GDAL's default, 0.125, one pixel in 18 was compared with another than its nearest."""
_SQUARE_METRES = 10_000
"""In a hectare."""
_TRUE_AREA = 0.01
"""A projection that shows areas larger or smaller by more than this share is worth a note."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy of a map, and what a reader must know of how it was found."""

    accuracy: Accuracy
    notes: tuple[str, ...]
    areas: AreaEstimates | None = None
    """Accuracy and areas by the stratified estimators, where the reference was declared such a sample."""


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Pixels to compare, arrays (n,)."""

    rows: Ids
    cols: Ids
    mapped: Ids
    """Ids of the map."""
    reference: Ids
    """Ids of the reference."""


def evaluate(
    class_map: str | Path,
    reference: str | Path,
    *,
    class_field: str | None = None,
    layer: str | None = None,
    exclude: str | Path | None = None,
    buffer: int | None = None,
    stratified: bool = False,
    remap: str | Path | Remapping | None = None,
) -> Evaluation:
    """Compare a class map with a reference, pixel by pixel of the map.

    Classes are matched by name, or by id where one side has only numbers, and a note says so. Reference pixels
    that the map left unclassified count as errors.

    Args:
        class_map: a map that `classify` wrote, or any raster of class ids.
        reference: a vector in any CRS, or a raster of class ids; on another grid, the nearest pixel counts.
        class_field: attribute of a vector with the class; guessed where only one is plausible.
        layer: layer of a vector with several.
        exclude: polygons, such as those trained on, that do not count.
        buffer: nor do pixels nearer than this to them (Chebyshev distance). If None, the receptive field that the
            map says it was made with, 16 if it does not: no counted pixel's window then holds an excluded pixel.
        stratified: the reference holds the points of a stratified random sample of the map's classes, as `sample`
            draws it: also estimate accuracy and areas by area, with confidence intervals.
        remap: what becomes of the reference's classes, a file as `read_remapping` reads it; they stay as they are
            if None.

    Raises:
        SceneError: if the map cannot be read.
        LabelError: if the reference cannot be read, has no pixel or no class in common with the map, or is no
            sample of it although `stratified` says so.
        InputError: if `buffer` is negative, `exclude` is given with `stratified`, or `remap` cannot be read.
    """
    if buffer is not None and buffer < 0:
        raise InputError(f"buffer is a number of pixels from 0, not {buffer}")
    if stratified and exclude is not None:
        raise InputError("--stratified is about the whole map, which --exclude is not: leave one of them out")
    dataset = open_class_map(class_map)
    grid = Grid.of(dataset)
    if stratified:
        _require_sample(dataset, reference, grid, layer)
    rules = read_remapping(remap) if isinstance(remap, str | Path) else remap
    pairs, table, notes = _reference(dataset, reference, grid, class_field=class_field, layer=layer, remap=rules)
    mapped_classes = classes_of(dataset)
    matching = match_classes(mapped_classes, table, str(class_map), str(reference))
    distance = _receptive_field(dataset) if buffer is None else buffer
    ignored = None if exclude is None else _near(exclude, grid, distance)
    confusion = np.zeros((len(matching.names), len(matching.names) + 1), np.int64)
    for pair in pairs:
        truth = matching.reference_indexes(pair.reference)
        counted = (truth >= 0) if ignored is None else (truth >= 0) & ~ignored[pair.rows, pair.cols]
        mapped = matching.map_indexes(pair.mapped[counted])
        confusion += confusion_matrix(truth[counted], mapped, len(matching.names))
    if not confusion.sum():
        reason = "check that they overlap" if exclude is None else f"none is {distance} pixels away from {exclude}"
        raise LabelError(f"{reference} has no pixel to compare with {class_map}: {reason}")
    notes += numbering_note(mapped_classes, table)
    if exclude is not None:
        notes = (*notes, f"Pixels nearer than {distance} pixels to {Path(exclude).name} were left out.")
    accuracy = Accuracy(confusion=confusion, names=matching.names)
    if not stratified:
        return Evaluation(accuracy=accuracy, notes=notes)
    areas = _areas(dataset, grid, mapped_classes, matching, accuracy)
    return Evaluation(accuracy=accuracy, notes=(*notes, *areas.notes, *_unit_notes(grid)), areas=areas)


def _require_sample(dataset: Any, reference: str | Path, grid: Grid, layer: str | None) -> None:
    """Refuse what cannot be a sample of this map: areas would look exact and be wrong."""
    advice = "--stratified is for the points of `cssd-geo sample`; leave it out to compare every pixel"
    if not is_vector(reference):
        raise LabelError(f"{reference} is no vector: {advice}")
    if not holds_points(reference, layer):
        raise LabelError(f"{reference} holds other shapes than points: {advice}")
    if MAP_ID_FIELD not in field_names(reference, layer):
        return
    drawn = read_labels(reference, grid, class_field=MAP_ID_FIELD, layer=layer)
    changed = sum(np.sum(pair.mapped != pair.reference) for pair in _pairs_at(dataset, drawn, grid))
    if changed:
        raise LabelError(
            f"{reference} was drawn from another map: {changed} of {len(drawn)} points have another class than in "
            f"{MAP_ID_FIELD}; draw a sample of {dataset.name}, or leave --stratified out"
        )


def _areas(dataset: Any, grid: Grid, mapped: ClassTable, matching: Matching, accuracy: Accuracy) -> AreaEstimates:
    pixels = np.zeros(len(matching.names), np.int64)
    np.add.at(pixels, matching.map_indexes(np.array(mapped.ids)), count_pixels(dataset, mapped))
    if grid.pixel_area is None:
        return AreaEstimates(accuracy=accuracy, mapped_pixels=pixels)
    hectares = grid.pixel_area / _SQUARE_METRES
    return AreaEstimates(accuracy=accuracy, mapped_pixels=pixels, pixel_area=hectares, unit="ha")


def _unit_notes(grid: Grid) -> tuple[str, ...]:
    """What a reader must know of the unit of areas."""
    if grid.pixel_area is None:
        advice = "for hectares, project it (gdalwarp, an equal-area CRS) before a sample is drawn"
        return (f"Areas are in pixels, because the map has no projected CRS: {advice}.",)
    if abs(grid.areal_scale - 1) > _TRUE_AREA:
        scale = f"{grid.areal_scale:.2f} times as large as they are in the middle of the map"
        return (f"Hectares are the projection's, which shows areas {scale}: use an equal-area CRS.",)
    return ()


def _reference(
    dataset: Any,
    reference: str | Path,
    grid: Grid,
    *,
    class_field: str | None,
    layer: str | None,
    remap: Remapping | None,
) -> tuple[Iterator[_Pairs], ClassTable, tuple[str, ...]]:
    if is_vector(reference):
        labels = read_labels(reference, grid, class_field=class_field, layer=layer, remap=remap)
        return _pairs_at(dataset, labels, grid), labels.table, labels.notes
    try:
        raster = open_raster(reference)
    except SceneError as error:
        raise LabelError(f"{reference} cannot be used as a reference: {error}") from error
    if raster.dtypes[0].startswith("complex"):
        raise LabelError(f"{reference} holds {raster.dtypes[0]} values; a reference has whole numbers")
    table, new_ids, notes = classes_of(raster), None, tuple[str, ...]()
    if remap is not None:
        table, new_ids, notes = remap_table(table, remap)
    if Grid.of(raster).same_as(grid):
        return _pairs_of(dataset, raster, grid, new_ids), table, notes
    if grid.crs is None or raster.crs is None or grid.transform is None:
        raise LabelError(f"{reference} is on another grid than the map, and one of them has no CRS or transform")
    nearest = WarpedVRT(
        raster,
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=Resampling.nearest,
        nodata=UNCLASSIFIED if raster.nodata is None else raster.nodata,
        tolerance=_WARP_TOLERANCE,
    )
    note = f"{Path(reference).name} is on another grid: each pixel of the map was compared with its nearest one."
    return _pairs_of(dataset, nearest, grid, new_ids), table, (*notes, note)


def _pairs_of(dataset: Any, reference: Any, grid: Grid, new_ids: Ids | None) -> Iterator[_Pairs]:
    """All pixels of two rasters on one grid, part by part; those without a reference are left out.

    `new_ids`, where there are any, is a lookup from ids of the reference to those that they were remapped to.
    """
    for tile in parts_of(grid):
        truth = read_ids(reference, tile.core).astype(np.int64)
        if new_ids is not None:
            truth = look_up(new_ids, truth, otherwise=UNCLASSIFIED)
        rows, cols = np.nonzero(truth)
        mapped = read_ids(dataset, tile.core)[rows, cols].astype(np.int64)
        yield _Pairs(
            rows=rows + tile.core.row, cols=cols + tile.core.col, mapped=mapped, reference=truth[rows, cols]
        )


def _pairs_at(dataset: Any, labels: Labels, grid: Grid) -> Iterator[_Pairs]:
    """The pixels of some labels, part by part."""
    ids = np.array(labels.table.ids)
    for tile, chosen in tiles_of_pixels(parts_of(grid), labels.rows, labels.cols):
        rows, cols = labels.rows[chosen], labels.cols[chosen]
        mapped = read_ids(dataset, tile.core)[rows - tile.core.row, cols - tile.core.col]
        yield _Pairs(rows=rows, cols=cols, mapped=mapped.astype(np.int64), reference=ids[labels.classes[chosen]])


def _receptive_field(dataset: Any) -> int:
    text = dataset.tags().get(RECEPTIVE_FIELD_TAG, "")
    return int(text) if text.isdecimal() else RECEPTIVE_FIELD


def _near(exclude: str | Path, grid: Grid, buffer: int) -> NDArray[np.bool_]:
    """(y, x) True within the excluded polygons and nearer than `buffer` to them."""
    mask = read_mask(exclude, grid)
    if buffer <= 1:
        return mask
    near: NDArray[np.bool_] = maximum_filter(mask, size=2 * buffer - 1, mode="constant", cval=0)
    return near
