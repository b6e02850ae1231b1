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

from cssd_geo.errors import InputError, LabelError
from cssd_geo.split_search import prepare_search


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Labelled pixels that train and that test; the others are dropped."""

    train: NDArray[np.bool_]
    """(n,) True: trains."""
    test: NDArray[np.bool_]
    """(n,) True: held out for testing. Never one that trains."""
    unmeasured: tuple[int, ...]
    """Classes that have labelled pixels but none for testing: their accuracy is not known."""
    description: str
    """How the split was made, in one sentence for reports."""

    @property
    def dropped(self) -> int:
        """Pixels that neither train nor test because they lie in the buffer."""
        return int((~self.train & ~self.test).sum())


def split_polygons(
    *,
    rows: NDArray[Any],
    cols: NDArray[Any],
    classes: NDArray[Any],
    polygons: NDArray[Any],
    buffer: int,
    fraction: float,
    seed: int,
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
        buffer: side length of the receptive field in pixels. Windows of two pixels overlap where both their
            rows and their columns differ by less.
        fraction: of the pixels of a class that the search aims to test, between 0 and 1.
        seed: of the random search; the same seed gives the same split.

    Raises:
        InputError: if an argument cannot be used.
        LabelError: if nothing can be held out.
    """
    _check(fraction=fraction, rows=rows, cols=cols, classes=classes, polygons=polygons)
    if buffer < 1:
        raise InputError(f"the buffer is the side length of a receptive field, so at least 1 pixel, not {buffer}")
    points = np.column_stack([rows, cols]).astype(np.int64)
    block, search = prepare_search(points, classes, polygons, buffer, fraction)
    if search.block_totals.max(initial=0) < 2:  # noqa: PLR2004 - one to train, one to test
        raise LabelError(
            "no class has two polygons, so none can be held out for testing: draw at least two polygons, far "
            "apart, for each class, or use --split random (which overrates the map)"
        )
    test = search.best(np.random.default_rng(seed))[block]
    train = _separate(points, classes, polygons, test, buffer)
    return _polygon_split(train, test, classes, polygons, buffer)


def split_random(*, classes: NDArray[Any], fraction: float, seed: int) -> Split:
    """Hold out random pixels of each class. Their neighbours train, so the accuracy is overrated.

    Args:
        classes: (n,) class index of each labelled pixel.
        fraction: of the pixels of each class to test, between 0 and 1. Each class of two or more pixels keeps
            at least one for training and one for testing.
        seed: the same seed gives the same split.

    Raises:
        InputError: if the fraction cannot be used.
        LabelError: if no class has two pixels.
    """
    _check(fraction=fraction, classes=classes)
    test = np.zeros(len(classes), np.bool_)
    for members in _shuffled(classes, seed):
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        test[members[:count]] = True
    if not test.any():
        raise LabelError("no class has two labelled pixels, so none can be held out: label more pixels")
    description = (
        f"Random pixels were held out ({test.sum()} of {len(test)}); their neighbours trained the model, so "
        "the accuracy is overrated and does not carry over to other places."
    )
    return Split(train=~test, test=test, unmeasured=_unmeasured(classes, test), description=description)


def few_shot(*, classes: NDArray[Any], shots: int, seed: int) -> NDArray[np.bool_]:
    """Pick at most `shots` pixels of each class at random; of a class with few pixels half, but at least one.

    The pixels of fewer shots are among those of more shots with the same seed, so that learning curves are
    comparable.

    Args:
        classes: (n,) class index of each pixel to pick from.
        shots: pixels of each class, at least 1.
        seed: the same seed gives the same pixels.

    Returns:
        (n,) True: picked.

    Raises:
        InputError: if `shots` is below 1.
    """
    if shots < 1:
        raise InputError(f"shots must be at least 1, not {shots}")
    picked = np.zeros(len(classes), np.bool_)
    for members in _shuffled(classes, seed):
        picked[members[: max(1, min(shots, len(members) // 2))]] = True
    return picked


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


def _unmeasured(classes: NDArray[Any], test: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.setdiff1d(classes, classes[test]).tolist())


def _polygon_split(
    train: NDArray[np.bool_],
    test: NDArray[np.bool_],
    classes: NDArray[Any],
    polygons: NDArray[Any],
    buffer: int,
) -> Split:
    if not test.any():
        raise LabelError(
            "no polygon can be held out without leaving a class untrained: training pixels closer than "
            f"{buffer} pixels to a test pixel are dropped, and the polygons lie too close together. Draw "
            "more polygons, farther apart, or use --split random (which overrates the map)"
        )
    held, of, dropped = len(np.unique(polygons[test])), len(np.unique(polygons)), (~train & ~test).sum()
    description = (
        f"Whole polygons were held out ({held} of {of}, {test.sum()} pixels), and the {dropped} training "
        f"pixels closer than {buffer} pixels to a test pixel were dropped, which leaves {train.sum()}."
    )
    return Split(train=train, test=test, unmeasured=_unmeasured(classes, test), description=description)


# Exact separation


def _distance(points: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Chebyshev distance of each point to the nearest of `others`."""
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    distance, _ = tree.query(points, p=np.inf)
    return np.asarray(distance, np.float64)


def _separate(
    points: NDArray[np.int64],
    classes: NDArray[Any],
    polygons: NDArray[Any],
    test: NDArray[np.bool_],
    buffer: int,
) -> NDArray[np.bool_]:
    """Return the pixels that may train; where a class has none, take test polygons back (changes `test`)."""
    while test.any():
        distance = np.where(test, 0.0, _distance(points, points[test]))
        train = distance >= buffer
        lost = np.setdiff1d(classes, classes[train])
        if not lost.size:
            return train
        # Few polygons are in the way of the pixel that is farthest from all tests.
        pixel = points[np.argmax(np.where(classes == lost[0], distance, -1.0))]
        in_the_way = test & (np.abs(points - pixel).max(axis=1) < buffer)
        test &= ~np.isin(polygons, polygons[in_the_way])
    return ~test
