"""Which labels train and which test, as the options ask."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cssd_geo.accuracy.splits import Split, few_shot, near_folds, polygon_folds, random_folds, separation
from cssd_geo.errors import LabelError
from cssd_geo.labels import Labels
from cssd_geo.messages import listed
from cssd_geo.options import TrainingOptions

Indexes = NDArray[np.intp]

_ENOUGH = 50
"""Held-out pixels that suffice to weigh the two heads; where there are fewer, more are held out for that."""
_MOST = 0.5
"""A model of at least this share of the labels stands for the one of all; with less, the report says so."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Indexes of labelled pixels; none is in both."""

    train: Indexes
    test: Indexes
    apart: bool
    """True: no pixel that tests is so near one that trains that their windows would overlap."""
    share: float
    """Training pixels here, as a share, 0 to 1, of those of the final model."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What the final model trains on, and the folds that say how good it is."""

    train: Indexes
    """Of the labelled pixels, for the final model."""
    folds: tuple[Fold, ...]
    """Empty where nothing is held out. No pixel is tested twice."""
    description: str
    """How the test labels were held out, in a sentence or two."""


def draw(labels: Labels, options: TrainingOptions, receptive_field: int) -> Sampling:
    """Draw what trains, and hold out labels for testing, fold by fold.

    Where polygons cannot be held out apart, or hardly any pixels, further folds hold out labels beside those that
    train: they weigh the heads, and judge the map only where nothing else does, which the description then says.

    Args:
        labels: all labelled pixels.
        options: split, folds, shots, pixels_per_class and seed count here.
        receptive_field: pixels that decide one pixel's class, as a side length; held-out polygons keep the
            `separation` that follows from it to training pixels.

    Raises:
        LabelError: if nothing can be held out, or a class has nothing left to train on.
    """
    apart, near = _hold_out(labels, options, receptive_field)
    train = _limited(labels, np.arange(len(labels)), options)

    def fold(split: Split, *, apart: bool) -> Fold:
        rest = _limited(labels, np.flatnonzero(split.train), options)
        test = np.flatnonzero(split.test)
        return Fold(train=rest, test=test, apart=apart, share=len(rest) / len(train))

    folds = (*(fold(split, apart=True) for split in apart), *(fold(split, apart=False) for split in near))
    return Sampling(train=train, folds=folds, description=_describe(labels, options, folds, trained=len(train)))


def _hold_out(labels: Labels, options: TrainingOptions, receptive_field: int) -> tuple[list[Split], list[Split]]:
    """Labels held out at a distance, and, where these are few, others held out without one."""
    if options.split == "none":
        return [], []
    if options.split == "random":
        return [], random_folds(classes=labels.classes, folds=options.folds, seed=options.seed)
    apart = _apart(labels, options, receptive_field)
    tested = np.logical_or.reduce([np.zeros(len(labels), np.bool_), *(split.test for split in apart)])
    if tested.sum() >= _ENOUGH:
        return apart, []
    near = near_folds(
        classes=labels.classes, polygons=labels.polygons, tested=tested, folds=options.folds, seed=options.seed
    )
    return apart, near


def _apart(labels: Labels, options: TrainingOptions, receptive_field: int) -> list[Split]:
    """Whole polygons held out at a distance; nothing where they are too few or too close together."""
    try:
        return polygon_folds(
            rows=labels.rows,
            cols=labels.cols,
            classes=labels.classes,
            polygons=labels.polygons,
            buffer=separation(receptive_field),
            folds=options.folds,
            seed=options.seed,
        )
    except LabelError:
        return []


def _limited(labels: Labels, chosen: Indexes, options: TrainingOptions) -> Indexes:
    """Those of the chosen pixels that train: at most so many of each class, drawn at random."""
    most = options.pixels_per_class if options.shots is None else options.shots
    kept = chosen[few_shot(classes=labels.classes[chosen], shots=most, seed=options.seed)]
    counts = np.bincount(labels.classes[kept], minlength=len(labels.table))
    lost = [name for name, count in zip(labels.table.names, counts, strict=True) if not count]
    if lost:
        raise LabelError(f"nothing is left to train {listed(lost)} on: label more polygons, farther apart")
    return kept


def _describe(labels: Labels, options: TrainingOptions, folds: Sequence[Fold], *, trained: int) -> str:
    apart, near = ([fold for fold in folds if fold.apart is wanted] for wanted in (True, False))
    beside = sum(len(fold.test) for fold in near)
    if not folds:
        return "Nothing was held out: the accuracy is not known and the confidence is not calibrated."
    if options.split == "random":
        return (
            f"Cross-validation, {len(near)} folds of random pixels ({beside} of {len(labels)}): their "
            "neighbours trained, so the accuracy is overrated and does not carry over to other places."
        )
    if not apart:
        return (
            "No polygon could be held out at a distance from those that train, so "
            f"{len(near)} folds of labels were held out beside them ({beside} of {len(labels)} pixels): the "
            "accuracy is overrated and does not carry over to other places. Draw more polygons of each class, "
            "farther apart, to know it."
        )
    tested = np.concatenate([fold.test for fold in apart])
    held, of = len(np.unique(labels.polygons[tested])), len(np.unique(labels.polygons))
    times = "1 fold" if len(apart) == 1 else f"{len(apart)} folds"
    drawn = "" if trained == len(labels) else f"{trained} pixels drawn from "
    text = (
        f"Cross-validation, {times} of whole polygons: {held} of {of} were held out ({len(tested)} "
        f"of {len(labels)} pixels), and what lay so near that windows would overlap did not train. The model "
        f"itself is trained on {drawn}all labels."
    )
    least = min(fold.share for fold in apart)
    if least < _MOST:
        text += (
            f" A model that was tested had no more than {100 * least:.0f} % of these to train on, so the map may "
            "well be better than tested. Labels that lie farther apart would tell."
        )
    if near:
        text += (
            f" As these are few, {beside} more pixels were held out beside those that train, to weigh the two "
            "heads; the accuracy does not count them."
        )
    return text
