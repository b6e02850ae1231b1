"""Which labelled pixels train and which test: spatially honest by whole polygons, or random and said so.

Pixels next to each other look alike, and their windows overlap. A test pixel beside a training pixel
therefore measures memory, not skill. `split_polygons` holds out whole polygons and drops the training pixels
whose windows would share a pixel with a test window. See Roberts et al. 2017, "Cross-validation strategies
for data with temporal, spatial, hierarchical, or phylogenetic structure", Ecography 40(8), 913-929.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cssd_geo.accuracy.split_search import prepare_search
from cssd_geo.errors import InputError, LabelError


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Labelled pixels that train and that test; the others lie in the buffer and do neither."""

    train: NDArray[np.bool_]
    """(n,) True: trains."""
    test: NDArray[np.bool_]
    """(n,) True: held out for testing. Never one that trains."""


def separation(receptive_field: int) -> int:
    """Distance from which the window of a test pixel shares no pixel with what training reads around its own.

    An even window reaches one pixel farther up and left. Training flips windows, so it reads as far to all sides.

    Args:
        receptive_field: side length of the square of pixels that decide one pixel's class.
    """
    return receptive_field // 2 * 2 + 1


def split_polygons(
    *,
    rows: NDArray[Any],
    cols: NDArray[Any],
    classes: NDArray[Any],
    polygons: NDArray[Any],
    buffer: int,
    fraction: float,
    seed: int,
    tested: NDArray[np.bool_] | None = None,
) -> Split:
    """Hold out whole polygons, and drop the training pixels closer than `buffer` to a test pixel.

    Every class keeps at least one training pixel. The split is searched for: compact groups of polygons
    around random points, improved one polygon at a time, scored by the logarithms of the training and test
    pixels of each class, so that a rare class weighs as much as a common one.

    Args:
        rows: (n,) row of each labelled pixel.
        cols: (n,) column of each labelled pixel.
        classes: (n,) class index, 0 to K - 1.
        polygons: (n,) id of the polygon (part) that the pixel lies in; any integers.
        buffer: pixels by which the rows or the columns of training and test pixels differ at least; see
            `separation`.
        fraction: of the pixels of a class that the search aims to test, between 0 and 1.
        seed: of the random search; the same seed gives the same split.
        tested: (n,) True for pixels whose polygons are not to be held out, because they were before.

    Raises:
        InputError: if an argument cannot be used.
        LabelError: if nothing can be held out.
    """
    _check(fraction=fraction, rows=rows, cols=cols, classes=classes, polygons=polygons)
    if buffer < 1:
        raise InputError(f"the buffer is a distance, so at least 1 pixel, not {buffer}")
    points = np.column_stack([rows, cols]).astype(np.int64)
    may_test = np.ones(len(points), np.bool_) if tested is None else ~tested
    block, search = prepare_search(points, classes, polygons, may_test=may_test, buffer=buffer, fraction=fraction)
    if search.block_totals.max(initial=0) < 2:  # noqa: PLR2004 - one to train, one to test
        raise LabelError(
            "no class has two polygons, so none can be held out for testing: draw at least two polygons, far "
            "apart, for each class, or use --split random (which overrates the map)"
        )
    test = search.best(np.random.default_rng(seed))[block]
    train = separate(points, classes, polygons, test, buffer)
    if not test.any():
        raise LabelError(
            "no polygon can be held out without leaving a class untrained: training pixels closer than "
            f"{buffer} pixels to a test pixel are dropped, and the polygons lie too close together. Draw more "
            "polygons, farther apart, or use --split random (which overrates the map)"
        )
    return Split(train=train, test=test)


def polygon_folds(
    *,
    rows: NDArray[Any],
    cols: NDArray[Any],
    classes: NDArray[Any],
    polygons: NDArray[Any],
    buffer: int,
    folds: int,
    seed: int,
) -> list[Split]:
    """Hold out polygons several times, each polygon once at most; arguments as for `split_polygons`.

    Fewer folds come back where no further polygon can be held out, and some polygons may never be.

    Raises:
        InputError: if an argument cannot be used.
        LabelError: if nothing can be held out even once.
    """
    found = list[Split]()
    tested = np.zeros(len(classes), np.bool_)
    for number in range(folds):
        try:
            split = split_polygons(
                rows=rows,
                cols=cols,
                classes=classes,
                polygons=polygons,
                buffer=buffer,
                fraction=1 / folds,
                seed=seed + number,
                tested=tested,
            )
        except LabelError:
            if not found:
                raise
            break
        found.append(split)
        tested |= split.test
    return found


def random_folds(*, classes: NDArray[Any], folds: int, seed: int) -> list[Split]:
    """Hold out random pixels of each class, each once. Their neighbours train, so the accuracy is overrated.

    Args:
        classes: (n,) class index of each labelled pixel. Each class keeps at least one pixel for training.
        folds: how often, at least 2.
        seed: the same seed gives the same folds.

    Raises:
        InputError: if the number of folds cannot be used.
        LabelError: if no class has two pixels.
    """
    _check(fraction=1 / folds, classes=classes)
    fold = np.full(len(classes), folds)
    for members in _shuffled(classes, seed):
        if len(members) > 1:
            fold[members] = np.arange(len(members)) % folds
    return _splits_of(fold, folds, tested=np.zeros(len(classes), np.bool_))


def near_folds(
    *, classes: NDArray[Any], polygons: NDArray[Any], tested: NDArray[np.bool_], folds: int, seed: int
) -> list[Split]:
    """Hold out what `polygon_folds` could not: each pixel once, beside pixels that train, so it is overrated.

    Whole polygons where a class has several, single pixels where it has but one; no distance is kept.

    Args:
        classes: (n,) class index of each labelled pixel. Each class keeps at least one pixel for training.
        polygons: (n,) id of the polygon that the pixel lies in; any integers.
        tested: (n,) True for pixels that are not to be held out, because they were before.
        folds: how often, at least 2.
        seed: the same seed gives the same folds.

    Raises:
        InputError: if an argument cannot be used.
        LabelError: if no class has two pixels.
    """
    _check(fraction=1 / folds, classes=classes, polygons=polygons, tested=tested)
    rng, fold = np.random.default_rng(seed), np.full(len(classes), folds)
    for k in np.unique(classes):
        members = np.flatnonzero(classes == k)
        part = np.unique(polygons[members], return_inverse=True)[1]
        part = part if part.any() else np.arange(len(members))
        size = np.bincount(part)
        if len(size) > 1:
            order = np.lexsort([rng.random(len(size)), -size])  # the largest first, dealt in turn
            dealt = np.empty(len(size), np.intp)
            dealt[order] = (np.arange(len(size)) + rng.integers(folds)) % folds
            fold[members] = dealt[part]
    return _splits_of(fold, folds, tested)


def few_shot(*, classes: NDArray[Any], shots: int, seed: int, most: float = 1.0) -> NDArray[np.bool_]:
    """Pick at most `shots` pixels of each class at random, and at most a share of them, but at least one.

    The pixels of fewer shots are among those of more shots with the same seed, so that learning curves are
    comparable.

    Args:
        classes: (n,) class index of each pixel to pick from.
        shots: pixels of each class, at least 1.
        seed: the same seed gives the same pixels.
        most: share of a class, 0 to 1, that may be picked, so that something is left to test.

    Returns:
        (n,) True: picked.

    Raises:
        InputError: if `shots` is below 1.
    """
    if shots < 1:
        raise InputError(f"shots must be at least 1, not {shots}")
    picked = np.zeros(len(classes), np.bool_)
    for members in _shuffled(classes, seed):
        picked[members[: max(1, min(shots, int(most * len(members))))]] = True
    return picked


def _splits_of(fold: NDArray[np.intp], folds: int, tested: NDArray[np.bool_]) -> list[Split]:
    """Each fold below `folds` tests once, but for pixels `tested` before, and all others train."""
    if (fold == folds).all():
        raise LabelError("no class has two labelled pixels, so none can be held out: label more pixels")
    tests = [(fold == number) & ~tested for number in range(folds)]
    return [Split(train=~test, test=test) for test in tests if test.any()]


def _check(*, fraction: float, classes: NDArray[Any], **others: NDArray[Any]) -> None:
    if not 0 < fraction < 1:
        raise InputError(f"the fraction to hold out lies between 0 and 1, not {fraction}")
    for name, values in others.items():
        if len(values) != len(classes):
            raise InputError(f"{name} has {len(values)} values for {len(classes)} labelled pixels")
    if not len(classes):
        raise LabelError("there are no labelled pixels to split: do the labels overlap the scene?")


def _shuffled(classes: NDArray[Any], seed: int) -> Iterator[NDArray[np.intp]]:
    rng = np.random.default_rng(seed)
    return (rng.permutation(np.flatnonzero(classes == k)) for k in np.unique(classes))


# Exact separation


def _distance(points: NDArray[np.int64], test: NDArray[np.bool_], most: int) -> NDArray[np.float64]:
    """Chebyshev distance of each point to the nearest that tests; infinite from `most` on."""
    tree = cKDTree(points[test], balanced_tree=False, compact_nodes=False)
    distance = np.zeros(len(points))
    distance[~test], _ = tree.query(points[~test], p=np.inf, distance_upper_bound=most)
    return distance


def separate(
    points: NDArray[np.int64],
    classes: NDArray[Any],
    polygons: NDArray[Any],
    test: NDArray[np.bool_],
    buffer: int,
) -> NDArray[np.bool_]:
    """Return the pixels that may train; where a class has none, take test polygons back (changes `test`)."""
    while test.any():
        distance = _distance(points, test, buffer)
        train = distance >= buffer
        lost = np.setdiff1d(classes, classes[train])
        if not lost.size:
            return train
        # Few polygons are in the way of the pixel that is farthest from all tests.
        pixel = points[np.argmax(np.where(classes == lost[0], distance, -1.0))]
        in_the_way = test & (np.abs(points - pixel).max(axis=1) < buffer)
        test &= ~np.isin(polygons, polygons[in_the_way])
    return ~test
