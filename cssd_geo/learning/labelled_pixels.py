"""The labelled pixels that can be used: not masked, with data, in bands that tell something, in one unit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.bands import Bands
from cssd_geo.errors import LabelError, SceneError
from cssd_geo.labels import Labels
from cssd_geo.learning.labelled_scenes import LabelledScenes
from cssd_geo.learning.reflectances import Reflectances, Stored
from cssd_geo.learning.windows import read_pixels, unmasked_pixels
from cssd_geo.messages import listed
from cssd_geo.scenes.fill_checks import fill_notes, remedy, suspect_fill
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_checks import scaled_twice
from cssd_geo.scenes.validity import usable
from cssd_geo.spectra.band_choice import ranges

_STUCK = 0.9
"""Share of the labelled pixels with one value, a mean over the classes, from which a band tells nothing. Where the
atmosphere lets no light through, a corrected band is 0 but for a few pixels, and looks as if it told classes."""
_FAR = 50.0
"""Scenes whose labelled pixels differ by such a factor are in other units, which are 100 times apart or more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pixels:
    """Labelled pixels of one scene."""

    scene: Scene
    chosen: NDArray[np.intp]
    """(n,) indexes of all labelled pixels."""
    classes: NDArray[np.int64]
    """(n,) class index of each."""
    stored: NDArray[Any]
    """(n, S) values of the good bands."""
    valid: NDArray[np.bool_]
    """(n,) True: usable."""


def read_labelled_pixels(scenes: LabelledScenes) -> tuple[LabelledScenes, Reflectances, tuple[str, ...]]:
    """Read the labelled pixels; leave out those that are masked or nodata, and bands that tell nothing at them.

    Water-vapour bands are often nodata everywhere, which would leave no pixel.

    Returns:
        What is left, the spectra of its labelled pixels (n, S), and notes.

    Raises:
        LabelError: if a class has no pixel left.
        SceneError: if a scene cannot be read, or values of two are in other units.
    """
    kept, notes = _unmasked(scenes)
    found = _read(kept)
    dropped = _bands_that_tell_nothing(found, kept.bands)
    if dropped:
        numbers = scenes.members[0].scene.band_numbers
        notes += [f"Bands {why} were dropped: {ranges(numbers[bands])}." for why, bands in dropped.items()]
        kept = kept.without_bands(np.logical_or.reduce(list(dropped.values())))
        del found  # before they are read again, so that they can be freed
        found = _read(kept)
    good = kept.bands.good_indexes
    order = np.argsort(np.concatenate([part.chosen for part in found]))
    valid = np.concatenate([part.valid for part in found])[order]
    spectra = Reflectances.of([Stored.of(part.stored, part.scene, good) for part in found]).select(order[valid])
    labels = kept.labels.select(valid)
    missing = _without_pixels(labels)
    if missing:
        raise LabelError(f"every labelled pixel of {missing} is nodata in the scene: label other places")
    if not valid.all():
        missed = f"{(~valid).sum()} of {len(valid)} labelled pixels"
        notes.append(f"{missed} are nodata in the scene and were left out.")
    notes += _fill_notes(found, good)
    notes += [note for part in found for note in scaled_twice(part.scene, good, part.stored[part.valid].T)]
    kept = replace(kept, labels=labels)
    _require_one_scale(kept, spectra)
    return kept, spectra, tuple(notes)


def _unmasked(scenes: LabelledScenes) -> tuple[LabelledScenes, list[str]]:
    """Leave out labelled pixels that a mask of their scene excludes; their values need not even be read."""
    allowed = np.empty(len(scenes.labels), np.bool_)
    for scene, chosen, cols in scenes.by_scene(scenes.labels.cols):
        allowed[chosen] = unmasked_pixels(scene, scenes.labels.rows[chosen], cols)
    kept = replace(scenes, labels=scenes.labels.select(allowed))
    missing = _without_pixels(kept.labels)
    if missing:
        raise LabelError(
            f"every labelled pixel of {missing} is excluded by a mask of the scene or lies outside of the "
            "area of interest: label other places, give a mask that holds them, or leave these classes out "
            "(train --classes FILE)"
        )
    excluded = f"{(~allowed).sum()} of {len(allowed)} labelled pixels are excluded by a mask"
    return kept, [] if allowed.all() else [f"{excluded} or an area of interest and were left out."]


def _read(scenes: LabelledScenes) -> list[_Pixels]:
    found = []
    for scene, chosen, cols in scenes.by_scene(scenes.labels.cols):
        stored, valid = read_pixels(scene, scenes.labels.rows[chosen], cols, scenes.bands.good_indexes)
        classes = scenes.labels.classes[chosen]
        found.append(_Pixels(scene=scene, chosen=chosen, classes=classes, stored=stored, valid=valid))
    return found


def _without_pixels(labels: Labels) -> str:
    return listed(name for name, n in zip(labels.table.names, labels.counts(), strict=True) if not n)


def _bands_that_tell_nothing(found: Sequence[_Pixels], bands: Bands) -> dict[str, NDArray[np.bool_]]:
    """Why good bands are of no use in some scene, and which (band,) they are.

    Raises:
        LabelError: if it is all of them.
    """
    good = bands.good_indexes
    empty, constant, stuck = (np.zeros(len(bands), np.bool_) for _ in range(3))
    for part in found:
        data = usable(part.stored.T[:, :, None], part.scene.nodata[good])[:, :, 0]  # (S,n)
        none = ~data.any(axis=1)
        same = np.array([(b[seen] == b[seen][:1]).all() for b, seen in zip(part.stored.T, data, strict=True)])
        name = part.scene.name
        if none.all():
            raise LabelError(
                f"all labelled pixels of {name} are nodata in every band: check that labels and scene overlap"
            )
        if same.all() and len(found) == 1:
            raise LabelError("all labelled pixels have the same spectrum: check that labels and scene overlap")
        empty[good] |= none
        constant[good] |= same & ~none & ~same.all()  # one spectrum in one of several scenes says nothing of bands
        stuck[good] |= _stuck(part, data) & ~same.all()
    constant &= ~empty
    stuck &= ~(empty | constant)
    if (empty | constant)[good].all():
        raise LabelError("no band tells labelled pixels apart in all of the scenes: check that all show data")
    reasons = {"without data at the labelled pixels": empty, "with one value at all labelled pixels": constant}
    if not (empty | constant | stuck)[good].all():
        reasons["with one value at nearly all labelled pixels"] = stuck
    return {why: bands for why, bands in reasons.items() if bands.any()}


def _stuck(part: _Pixels, data: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which bands (S,) have one value at most pixels of each class, and at nearly all of them together.

    `data` (S, n) tells where bands have data. A band that shows one class alone is kept.
    """
    bands = zip(part.stored.T, data, strict=True)
    # where most pixels with data have one value, it is their median
    common = np.array([_middle(band[seen] if seen.any() else band) for band, seen in bands])
    same = (part.stored == common) & data.T
    members = [part.classes == k for k in np.unique(part.classes)]
    shares = np.stack([same[of].sum(0) / np.maximum(data.T[of].sum(0), 1) for of in members])  # (class, S)
    nearly: NDArray[np.bool_] = (shares.min(0) > 0.5) & (shares.mean(0) >= _STUCK)  # noqa: PLR2004 - most of them
    return nearly


def _middle(values: NDArray[Any]) -> Any:
    """The median, or the upper of two."""
    middle = len(values) // 2
    return np.partition(values, middle)[middle]


def _fill_notes(found: Sequence[_Pixels], bands: NDArray[np.intp]) -> Iterator[str]:
    """Tell of pixels that look like nodata which their scene does not declare: labelled ones, else others."""
    for part in found:
        suspect = suspect_fill(part.stored[part.valid].T, len(part.stored))
        if suspect is None:
            yield from fill_notes(part.scene, bands)
        else:
            value, count = suspect
            yield (
                f"{count} of {len(part.stored)} labelled pixels of {part.scene.name} are {value} in every band, "
                f"and that is not declared as nodata: the model learns them like all others. {remedy(value)}"
            )


def _require_one_scale(scenes: LabelledScenes, spectra: Reflectances) -> None:
    """Refuse scenes in different units, as where one declares no scale: a network would tell the scenes apart.

    The classes that each has in common with the first are compared, or all where there is none.
    """
    classes = scenes.labels.classes
    (first, theirs, _), *others = scenes.by_scene(scenes.labels.cols)
    for scene, ours, _ in others:
        shared = np.intersect1d(classes[ours], classes[theirs])
        means = [
            spectra[part[np.isin(classes[part], shared)] if shared.size else part].mean(axis=0)
            for part in (ours, theirs)
        ]
        ratio = float(np.median(np.abs(means[0])) / max(np.median(np.abs(means[1])), 1e-30))
        if not 1 / _FAR < ratio < _FAR:
            raise SceneError(
                f"values of {scene.name} are {ratio:,.4g} times those of {first.name} at the labelled pixels, so "
                "that they are not in one unit: write their scales into their metadata (gdal_edit.py -scale)"
            )
