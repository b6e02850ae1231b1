"""Compare a class map with a reference that it was not trained on."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.accuracy.areas import AreaEstimates
from cssd_geo.accuracy.matching import Matching, match_classes, numbering_note
from cssd_geo.accuracy.metrics import Accuracy, confusion_matrix
from cssd_geo.errors import CssdGeoError, InputError, LabelError, SceneError
from cssd_geo.exclusion import LARGEST_BUFFER, Exclusion, read_exclusion
from cssd_geo.files.fingerprints import fingerprint
from cssd_geo.files.locations import is_there
from cssd_geo.maps.class_rasters import Strays, bounded_cache, classes_of, open_class_map
from cssd_geo.maps.layer import LABELS_TAG, MODEL_TAG
from cssd_geo.maps.training_labels import have_trained
from cssd_geo.messages import listed
from cssd_geo.options import true_or_false, whole_number
from cssd_geo.reference import Pairs, read_reference
from cssd_geo.stratified import estimate_areas, require_apart, require_sample, unlabelled_notes
from cssd_geo.vectors.class_fields import MAP_ID_FIELD, MAP_NAME_FIELD
from cssd_geo.vectors.remapping import Remapping, rules_of
from cssd_geo.vectors.vector_files import field_names, is_vector, require_vector


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy of a map, and what a reader must know of how it was found."""

    accuracy: Accuracy
    """Of the compared pixels, each of which counts the same: not the map's where they are a stratified sample."""
    notes: tuple[str, ...]
    areas: AreaEstimates | None = None
    """The map's accuracy and areas, by the stratified estimators, if the reference was declared such a sample."""


@bounded_cache()
def evaluate(
    class_map: str | Path,
    reference: str | Path,
    *,
    class_field: str | None = None,
    layer: str | None = None,
    exclude: str | Path | None = None,
    exclude_layer: str | None = None,
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
        class_field: as for `train`.
        layer: layer of a vector with several.
        exclude: polygons, such as those trained on, that do not count; or a raster on the map's grid, not 0 where
            they lie, which knows of none beside the map.
        exclude_layer: layer of an `exclude` with several.
        buffer: leave out pixels nearer than this to the excluded polygons too (Chebyshev distance), also where
            these lie beside the map. If None, the `separation` for the map's receptive field, 17 if no tag tells
            it: then no counted pixel's window shares a pixel with what training reads around an excluded one.
            Where the map now has smaller or rotated pixels, it is so many more of them, and a note says so.
        stratified: the reference holds the points of a stratified random sample of the map's classes, as `sample`
            draws it: also estimate accuracy and areas by area, with confidence intervals.
        remap: what becomes of the reference's classes, a file as `read_remapping` reads it; they stay as they are
            if None.

    Raises:
        SceneError: if the map cannot be read or is no class map.
        LabelError: if the reference cannot be read, has no pixel or no class in common with the map, has only
            names where the map has only numbers, or is no sample of it although `stratified` says so; then also if
            the map has several classes with one name.
        InputError: if an argument is of another kind, `buffer` is negative or above 10,000, `exclude` is given
            with `stratified`, `exclude_layer` or `buffer` without `exclude`, a layer or field of what is no
            vector, or `remap` cannot be read or leaves classes of a stratified sample out.
    """
    stratified = true_or_false("stratified", stratified)
    buffer = None if buffer is None else whole_number("buffer", buffer)
    _require_options(exclude, exclude_layer, buffer, stratified=stratified)
    _require_paths(reference, *([] if exclude is None else [exclude]))
    require_vector("--class-field", reference, value=class_field)
    require_vector("--layer", reference, value=layer)
    dataset = _open_map(class_map, reference)
    rules = rules_of(remap)
    drawn = require_sample(dataset, reference, layer, rules) if stratified else 0
    found = read_reference(dataset, reference, class_field=class_field, layer=layer, remap=rules)
    mapped = classes_of(dataset)
    matching = match_classes(mapped, found.table, str(class_map), str(reference), ids_given=found.ids_given)
    if stratified:
        require_apart(dataset, mapped, matching)
    excluded = None if exclude is None else read_exclusion(exclude, exclude_layer, dataset, buffer)
    strays = Strays(mapped, dataset.nodata)
    confusion, left = _compare(found.pairs, matching, strays, excluded)
    if not confusion.sum():
        apart = f"{' '.join(found.notes()) or 'nothing overlaps.'} Check that both show the same place"
        why = excluded.why_all if excluded is not None and left else apart
        raise LabelError(f"{reference} has no pixel to compare with {class_map}: {why}")
    notes = (*_training_notes(dataset, reference, layer), *found.notes(), *numbering_note(mapped, found.table))
    notes += () if excluded is None else tuple(excluded.notes(left, left + int(confusion.sum())))
    accuracy = Accuracy(confusion=confusion, names=matching.names)
    if not stratified:
        notes += _missing_notes(accuracy, matching)
        notes += strays.notes(f"compared pixels of {Path(class_map).name}")
        return Evaluation(accuracy=accuracy, notes=(*notes, *_sample_notes(reference, layer)))
    areas, more = estimate_areas(dataset, mapped, matching, accuracy)
    notes += (*unlabelled_notes(drawn, int(confusion.sum())), *more)
    return Evaluation(accuracy=accuracy, notes=notes, areas=areas)


def _open_map(class_map: str | Path, reference: str | Path) -> Any:
    """Open the map; tell a scene that stands in its place from it."""
    try:
        return open_class_map(class_map)
    except SceneError as error:
        if is_there(class_map) and _is_our_map(reference):
            raise SceneError(
                f"{class_map} is no class map, but {reference} is: give that first, then polygons or a raster of "
                "classes to compare it with"
            ) from error
        raise


def _is_our_map(path: str | Path) -> bool:
    try:
        return MODEL_TAG in open_class_map(path).tags()
    except CssdGeoError:
        return False


def _require_paths(*given: Any) -> None:
    for each in given:
        if not isinstance(each, str | Path):
            raise InputError(
                f"a reference and what is excluded are paths, not {type(each).__name__}: write it to a file "
                "first, such as a GeoPackage"
            )


def _require_options(
    exclude: str | Path | None, exclude_layer: str | None, buffer: int | None, *, stratified: bool
) -> None:
    if buffer is not None and not 0 <= buffer <= LARGEST_BUFFER:
        raise InputError(f"buffer is a number of pixels from 0 to {LARGEST_BUFFER}, not {buffer}")
    if exclude is None and buffer is not None:
        raise InputError(f"a buffer of {buffer} pixels around which polygons? Name their file too (--exclude)")
    if exclude is None and exclude_layer is not None:
        raise InputError(
            f"a layer ({exclude_layer!r}) of which excluded polygons? Name their file too (--exclude)"
        )
    if stratified and exclude is not None:
        raise InputError("--stratified is about the whole map, which --exclude is not: leave one of them out")
    if exclude is not None:
        require_vector("--exclude-layer", exclude, value=exclude_layer)


def _compare(
    pairs: Iterable[Pairs], matching: Matching, strays: Strays, excluded: Exclusion | None
) -> tuple[NDArray[np.int64], int]:
    """The confusion matrix, and how many labelled pixels were left out of it."""
    confusion, left = np.zeros((len(matching.names), len(matching.names) + 1), np.int64), 0
    for pair in pairs:
        counted = slice(None) if excluded is None else ~excluded.near[pair.rows, pair.cols]
        truth = matching.reference_indexes(pair.reference[counted])
        mapped = matching.map_indexes(strays.sift(pair.mapped[counted], pair.known[counted]))
        confusion += confusion_matrix(truth, mapped, len(matching.names))
        left += len(pair.reference) - len(truth)
    return confusion, left


def _missing_notes(accuracy: Accuracy, matching: Matching) -> tuple[str, ...]:
    """Tell of classes that only the reference has: mostly other names for the same."""
    of_map = set(matching.of_map.tolist())
    missing = [name for i, name in enumerate(matching.names) if i not in of_map and accuracy.n[i]]
    if not missing:
        return ()
    advice = "--classes gives them other names, or leaves them out"
    return (f"Not classes of the map, so that all of their pixels are errors: {listed(missing)}; {advice}.",)


def _training_notes(dataset: Any, reference: str | Path, layer: str | None) -> tuple[str, ...]:
    """Tell where a map is compared with the very file, or layer of a file, that its model was trained on."""
    tags = dataset.tags()
    try:
        trained = LABELS_TAG in tags and have_trained(tags, fingerprint(reference), layer)
    except OSError:  # no file of its own
        return ()
    advice = "what train said of held-out polygons is the accuracy to report (cssd-geo info MODEL)"
    return (f"{Path(reference).name} trained the map, so these figures overrate it: {advice}.",) if trained else ()


def _sample_notes(reference: str | Path, layer: str | None) -> tuple[str, ...]:
    """Tell where a stratified sample was not declared one: its rare classes then weigh too much."""
    if not is_vector(reference) or not {MAP_ID_FIELD, MAP_NAME_FIELD} <= set(field_names(reference, layer)):
        return ()
    drawn = f"{Path(reference).name} is a sample that `cssd-geo sample` drew, with more points in rare classes"
    return (f"{drawn}: these figures are not those of the map; give --stratified for them.",)
