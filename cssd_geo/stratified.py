"""A stratified random sample as the reference of a map: what makes it one, and the areas that it tells."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cssd_geo.accuracy.areas import AreaEstimates
from cssd_geo.accuracy.matching import Matching
from cssd_geo.accuracy.metrics import Accuracy
from cssd_geo.classes import ClassTable
from cssd_geo.errors import InputError, LabelError
from cssd_geo.grid import Grid
from cssd_geo.maps.class_rasters import count_pixels
from cssd_geo.messages import listed
from cssd_geo.reference import read_reference
from cssd_geo.vectors.class_fields import MAP_ID_FIELD, is_missing
from cssd_geo.vectors.remapping import Remapping
from cssd_geo.vectors.vector_files import is_vector, read_layer


def require_sample(dataset: Any, reference: str | Path, layer: str | None, rules: Remapping | None) -> int:
    """Refuse what cannot be a sample of this map, or not a whole one: areas would look exact and be wrong.

    Returns:
        How many pixels were drawn, labelled or not; 0 if the reference does not tell.

    Raises:
        InputError: if rules leave classes out.
        LabelError: if the reference is no sample, or one of another map.
    """
    dropped = () if rules is None else [rule.old for rule in rules.rules if rule.new is None]
    if rules is not None and dropped:
        raise InputError(
            f"{rules.name} leaves out {listed(dropped)}, but a sample counts as a whole, also points of no "
            "class of the map: take such lines out of the file, or leave --stratified out"
        )
    advice = "--stratified is for the points of `cssd-geo sample`; leave it out to compare every pixel"
    if not is_vector(reference):
        raise LabelError(f"{reference} is no vector: {advice}")
    points = read_layer(reference, layer)
    if not points.holds_points:
        raise LabelError(f"{reference} holds other shapes than points: {advice}")
    if MAP_ID_FIELD not in points.fields:
        return 0
    drawn_ids = points.fields[MAP_ID_FIELD].tolist()
    added = sum(map(is_missing, drawn_ids))
    if added:
        raise LabelError(
            f"{added} of {len(drawn_ids)} points of {reference} were never drawn: their {MAP_ID_FIELD} is empty. "
            "Whoever chooses points chooses the result: delete them, or draw a larger sample"
        )
    pairs = read_reference(dataset, reference, class_field=MAP_ID_FIELD, layer=layer, remap=None).pairs
    as_drawn = [kept for pair in pairs for kept in ((pair.mapped == pair.reference) & pair.known).tolist()]
    if not all(as_drawn):
        raise LabelError(
            f"{reference} was drawn from another map: {as_drawn.count(False)} of {len(as_drawn)} points have "
            f"another class than in {MAP_ID_FIELD}; draw a sample of {dataset.name}, or leave --stratified out"
        )
    return len(as_drawn)


def require_apart(dataset: Any, mapped: ClassTable, matching: Matching) -> None:
    """Raise a LabelError if several classes of a map are matched as one: each was sampled at a rate of its own."""
    indexes = matching.map_indexes(np.array(mapped.ids)).tolist()
    times = Counter(indexes)
    merged = [name for name, index in zip(mapped.names, indexes, strict=True) if times[index] > 1]
    if merged:
        raise LabelError(
            f"{dataset.name}: its classes {listed(merged)} count as one, though they were sampled apart: give "
            "them names that differ in more than case, or leave --stratified out"
        )


def unlabelled_notes(drawn: int, labelled: int) -> tuple[str, ...]:
    """What a reader must know of points that were drawn, but have no label: mostly those that are hard to tell."""
    if labelled >= drawn:
        return ()
    advice = "label them too, as leaving out the hard ones overrates the map"
    return (f"{drawn - labelled} of {drawn} points are not labelled and do not count: {advice}.",)


def estimate_areas(
    dataset: Any, mapped: ClassTable, matching: Matching, accuracy: Accuracy
) -> tuple[AreaEstimates, tuple[str, ...]]:
    """Weigh the accuracy of a sample by the pixels that the map has of each class.

    Returns:
        Areas in hectares, or in pixels where the map has no projected CRS; and notes.
    """
    grid = Grid.of(dataset)
    counts, strays = count_pixels(dataset, mapped)
    pixels = np.zeros(len(matching.names), np.int64)
    np.add.at(pixels, matching.map_indexes(np.array(mapped.ids)), counts)
    if grid.pixel_hectares is None:
        advice = "for hectares, project it (gdalwarp, an equal-area CRS) before a sample is drawn"
        areas = AreaEstimates(accuracy=accuracy, mapped_pixels=pixels)
        unit: tuple[str, ...] = (f"Areas are in pixels, because the map has no projected CRS: {advice}.",)
    else:
        area = grid.pixel_hectares
        areas = AreaEstimates(accuracy=accuracy, mapped_pixels=pixels, pixel_area=area, unit="ha")
        unit = grid.hectare_notes
    return areas, (*strays.notes(f"pixels of {Path(dataset.name).name}"), *areas.notes, *unit)
