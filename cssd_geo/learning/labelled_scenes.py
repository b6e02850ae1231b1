"""One or several scenes with their labels, as one set of labelled pixels to split, train on and test."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.accuracy.matching import only_numbered
from cssd_geo.bands import Bands
from cssd_geo.classes import ClassTable
from cssd_geo.errors import LabelError, SceneError
from cssd_geo.grid import Grid
from cssd_geo.labels import Labels
from cssd_geo.learning.reflectances import Reflectances, Stored
from cssd_geo.learning.windows import read_windows
from cssd_geo.messages import listed
from cssd_geo.options import LARGEST_WINDOW
from cssd_geo.scenes.scene import Scene
from cssd_geo.spectra.band_choice import ranges
from cssd_geo.spectra.resampling import MATCH_TOLERANCE_NM
from cssd_geo.vectors.legend import Entry, entries_of, name_key, tabulate

_GAP = 2 * LARGEST_WINDOW
"""Columns between two scenes: more than the receptive field of any window."""

Indexes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScene:
    """A scene and the labels that belong to it."""

    scene: Scene
    labels: Labels
    path: Path | None = None
    """The label file, for labels that come from one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScenes:
    """Scenes side by side in one plane of pixels, in which columns are counted on from scene to scene.

    Between two of them lies a gap that is wider than any receptive field. So no window and no buffer reaches from
    one into another, and what splits pixels by their distance need not know of scenes. With one scene the plane is
    the scene.
    """

    members: tuple[LabelledScene, ...]
    """As they were given, except that all scenes have the same good bands."""
    labels: Labels
    """Of all scenes, in the plane, with one table of classes. Polygons of one file are the same in all scenes."""

    @property
    def bands(self) -> Bands:
        """The bands that all scenes have."""
        return self.members[0].scene.bands

    def by_scene(self, cols: Indexes) -> Iterator[tuple[Scene, NDArray[np.intp], Indexes]]:
        """Yield each scene that columns (n,) of the plane lie in, with their indexes, and as its own columns."""
        starts = _starts([member.scene for member in self.members])
        owners = np.searchsorted(starts, cols, side="right") - 1
        for i, member in enumerate(self.members):
            chosen = np.flatnonzero(owners == i)
            if chosen.size:
                yield member.scene, chosen, cols[chosen] - starts[i]

    def read_windows(self, labels: Labels, reach: int) -> tuple[Reflectances, Indexes]:
        """Read the good bands of the squares around labelled pixels: values and lookup of a `windows.PixelTable`.

        Raises:
            SceneError: if a scene cannot be read.
        """
        good, side = self.bands.good_indexes, 2 * reach + 1
        nothing = np.zeros(len(good))
        parts = [Stored(values=nothing[None], scale=nothing, offset=nothing)]  # one blank row for all scenes
        lookup, count = np.zeros((len(labels), side, side), np.int64), 0
        for scene, chosen, cols in self.by_scene(labels.cols):
            table = read_windows(scene, labels.rows[chosen], cols, good, reach)
            lookup[chosen] = np.where(table.lookup > 0, table.lookup + count, 0)
            parts.append(Stored.of(table.values[1:], scene, good))
            count += len(table.values) - 1
        return Reflectances.of(parts), lookup

    def without_bands(self, bad: NDArray[np.bool_]) -> "LabelledScenes":
        """Mark bands, (band,), as bad in all scenes.

        Raises:
            SceneError: if none is left.
        """
        members = tuple(replace(member, scene=member.scene.without_bands(bad)) for member in self.members)
        _require_good_bands([member.scene for member in members])
        return replace(self, members=members)


def unite(members: Sequence[LabelledScene]) -> tuple[LabelledScenes, tuple[str, ...]]:
    """Lay scenes side by side and give their labels one table of classes, united by name.

    Returns:
        The scenes, and notes on how they were united.

    Raises:
        SceneError: if scenes have other bands than the first, or no good band in common.
        LabelError: if classes have names in some label files, only numbers in others, and nothing relates these.
    """
    scenes, notes = _with_common_bands([member.scene for member in members])
    parts = [member.labels for member in members]
    table, classes, more = _one_table(parts)
    polygons, shared = _polygons(members)
    labels = Labels(
        rows=np.concatenate([part.rows for part in parts]),
        cols=np.concatenate([part.cols + start for part, start in zip(parts, _starts(scenes), strict=True)]),
        classes=np.concatenate([index[part.classes] for part, index in zip(parts, classes, strict=True)]),
        polygons=polygons,
        table=table,
        notes=tuple(note for part in parts for note in part.notes),
        ids_given=any(part.ids_given for part in parts),
    )
    placed = tuple(replace(member, scene=scene) for member, scene in zip(members, scenes, strict=True))
    return LabelledScenes(members=placed, labels=labels), (*notes, *more, *shared, *_overlaps(members))


def _starts(scenes: Sequence[Scene]) -> Indexes:
    """First column of each scene in the plane."""
    widths = [scene.grid.width + _GAP for scene in scenes[:-1]]
    return np.cumsum([0, *widths])


# Bands


def _with_common_bands(scenes: Sequence[Scene]) -> tuple[Sequence[Scene], list[str]]:
    """Mark bands as bad that are bad in any scene; and notes."""
    first, *others = scenes
    for scene in others:
        _require_same(scene, first)
    notes = [note for scene in others for note in _position_notes(scene, first)]
    good = np.array([scene.bands.good for scene in scenes])  # (scene, band)
    bad = np.logical_not(good.all(axis=0))
    lost = np.flatnonzero(good.any(axis=0) & bad)
    if lost.size:
        scenes = [scene.without_bands(bad) for scene in scenes]
        notes += [
            f"Bands that are bad in one of the scenes were dropped in all: {ranges(first.band_numbers[lost])}."
        ]
    _require_good_bands(scenes)
    return scenes, notes


def _position_notes(scene: Scene, first: Scene) -> Iterator[str]:
    """Say so where the wavelengths of one of two scenes could not be compared with the other's."""
    for blank, known in ((scene, first), (first, scene)):
        if blank.bands.wavelength_nm is None and known.bands.wavelength_nm is not None:
            yield (
                f"Bands of {blank.name}, which has no wavelengths, were taken for those of {known.name} by their "
                "position."
            )


def _require_good_bands(scenes: Sequence[Scene]) -> None:
    if any(scenes[0].bands.good):
        return
    if len(scenes) == 1:
        raise SceneError(f"{scenes[0].name} marks every band as bad: check the bad-band list (bbl) in its header")
    raise SceneError("no band is good in all of the scenes: check the bad-band lists (bbl) in their headers")


def _require_same(scene: Scene, first: Scene) -> None:
    """Check that two scenes have the same bands in the same order."""
    ours, theirs = scene.bands, first.bands
    advice = "train on scenes of one sensor and product"
    if len(ours) != len(theirs):
        raise SceneError(f"{scene.name} has {len(ours)} bands but {first.name} has {len(theirs)}: {advice}")
    if ours.wavelength_nm is None or theirs.wavelength_nm is None:
        return
    apart = np.abs(np.subtract(ours.wavelength_nm, theirs.wavelength_nm))
    off = np.flatnonzero((apart > MATCH_TOLERANCE_NM) & np.array(ours.good) & np.array(theirs.good))
    if off.size:
        i = int(off[0])
        here, there = ours.wavelength_nm[i], theirs.wavelength_nm[i]
        raise SceneError(
            f"{scene.name}: {off.size} of {len(ours)} bands lie elsewhere than those of {first.name}, first band "
            f"{scene.band_numbers[i]} at {here:.1f} nm, not {there:.1f} nm (tolerance {MATCH_TOLERANCE_NM:g} nm): "
            f"{advice}"
        )


# Classes and polygons


def labels_within(labels: Labels, grid: Grid) -> Labels:
    """Return labels that a program made, as int64; checks that they are labels of a scene with this grid.

    Raises:
        LabelError: if a number is missing or lies outside of the scene or the table, or a pixel is there twice.
    """
    ends = {"rows": grid.height, "cols": grid.width, "classes": len(labels.table), "polygons": 2**62}
    found = {name: np.asarray(getattr(labels, name)) for name in ends}
    for name, values in found.items():
        if values.dtype.kind not in "iu" or values.shape != (len(labels),):
            raise LabelError(
                f"labels: {name} must be {len(labels)} whole numbers, one for each pixel, not {values.dtype} of "
                f"the shape {values.shape}"
            )
        if values.size and not 0 <= values.min() <= values.max() < ends[name]:
            raise LabelError(
                f"labels: {name} must be from 0 to {ends[name] - 1}, not {values.min()} to {values.max()}: were "
                "they read for another scene?"
            )
    wide: dict[str, Any] = {name: values.astype(np.int64) for name, values in found.items()}
    whole = replace(labels, **wide)
    twice = len(whole) - len(np.unique(whole.rows * grid.width + whole.cols))
    if twice:
        raise LabelError(f"labels: {twice} pixels are there more than once: each has one class and one polygon")
    return whole


def _one_table(parts: Sequence[Labels]) -> tuple[ClassTable, list[Indexes], tuple[str, ...]]:
    """Unite tables by name: the table, for each the new index of its classes, and notes."""
    if len(parts) == 1:
        return parts[0].table, [np.arange(len(parts[0].table))], ()
    legends, notes = _legends(parts)
    every = [entry for legend in legends for entry in legend]
    agree = _ids_agree(every)
    if not agree:
        every = [replace(entry, id=None) for entry in every]
    table, index = tabulate(every)
    if not agree:
        shown = listed(f"{i} = {name}" for i, name in zip(table.ids, table.names, strict=True))
        said = f"The label files number their classes differently, so they were renumbered by name: {shown}."
        notes = (*notes, said)
    return table, np.split(index, np.cumsum([len(legend) for legend in legends])[:-1]), notes


def _legends(parts: Sequence[Labels]) -> tuple[list[Sequence[Entry]], tuple[str, ...]]:
    """What each of some label files says of its classes; numbers alone get the names that other files give them.

    Raises:
        LabelError: if some files have only numbers, and those with names do not say which is which.
    """
    bare = [only_numbered(labels.table) for labels in parts]
    legends: list[Sequence[Entry]] = [
        entries_of(labels.table, with_ids=labels.ids_given or numbers)
        for labels, numbers in zip(parts, bare, strict=True)
    ]
    if all(bare) or not any(bare):
        return legends, ()
    named, alone = (
        [entry for legend, numbers in zip(legends, bare, strict=True) if numbers is which for entry in legend]
        for which in (False, True)
    )
    names = {entry.id: entry.name for entry in named if entry.id is not None}
    if not names or not _ids_agree(named):
        both = [listed(dict.fromkeys(entry.name for entry in entries)) for entries in (alone, named)]
        raise LabelError(
            f"some label files have only numbers for their classes ({both[0]}), others names ({both[1]}), and "
            "nothing says which is which: write the numbers into a field class_id of those with names, or both "
            "into a file for --classes (from,to,id)"
        )
    for place in np.flatnonzero(bare):
        legends[place] = [
            entry if entry.id not in names else replace(entry, name=names[entry.id]) for entry in legends[place]
        ]
    meaning = listed(f"{number} = {name}" for number, name in sorted(names.items()))
    return legends, (f"Classes that only have numbers were matched by them: check that they mean {meaning}.",)


def _ids_agree(entries: Sequence[Entry]) -> bool:
    """Whether each class has one id, and each id is of one class."""
    pairs = {(name_key(entry.name), entry.id) for entry in entries if entry.id is not None}
    return len(pairs) == len({key for key, _ in pairs}) == len({number for _, number in pairs})


def _polygons(members: Sequence[LabelledScene]) -> tuple[Indexes, tuple[str, ...]]:
    """Number the polygons of all scenes; those of a file that labels several are the same polygons in each.

    They show the same places, so that they must be held out together.
    """
    files, sizes = _files(members), np.zeros(len(members), np.int64)
    np.maximum.at(sizes, files, [member.labels.polygons.max(initial=-1) + 1 for member in members])
    starts = np.cumsum(sizes) - sizes
    found = [member.labels.polygons + starts[file] for member, file in zip(members, files, strict=True)]
    shared = [m.path.name for i, m in enumerate(members) if files[i] < i and m.path is not None]
    note = f"{listed(dict.fromkeys(shared))} labels several scenes: a polygon is held out in all of them together."
    return np.concatenate(found), (note,) if shared else ()


def _files(members: Sequence[LabelledScene]) -> list[int]:
    """Index of the first of the members that has the same label file; labels of no file are on their own."""
    files = [i if member.path is None else member.path.resolve() for i, member in enumerate(members)]
    return [files.index(file) for file in files]


def _overlaps(members: Sequence[LabelledScene]) -> Iterator[str]:
    """Tell which scenes show the same place with other label files: what trains in one may test in the other."""
    places = [
        (member, file, member.scene.map_grid.degrees)
        for member, file in zip(members, _files(members), strict=True)
    ]
    for (one, here, ours), (other, there, theirs) in combinations(places, 2):
        if ours is None or theirs is None or here == there:
            continue
        (west, south, east, north), (left, bottom, right, top) = ours, theirs
        if west < right and left < east and south < top and bottom < north:
            yield (
                f"{one.scene.name} and {other.scene.name} show the same place in part: if their labels do, the "
                "accuracy is overrated, unless one label file serves both."
            )
