"""Which labels train and which test, as the options ask."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cssd_geo.classes import listed
from cssd_geo.errors import LabelError
from cssd_geo.labels import Labels
from cssd_geo.options import TrainingOptions
from cssd_geo.splits import Split, few_shot, polygon_folds, random_folds

Indexes = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Indexes of labelled pixels; none is in both."""

    train: Indexes
    test: Indexes


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

    Args:
        labels: all labelled pixels.
        options: split, folds, shots, pixels_per_class and seed count here.
        receptive_field: pixels that decide one pixel's class, as a side length; held-out polygons keep this
            distance to training pixels.

    Raises:
        LabelError: if nothing can be held out, or a class has nothing left to train on.
    """
    splits = _hold_out(labels, options, receptive_field)
    folds = tuple(
        Fold(train=_limited(labels, np.flatnonzero(split.train), options), test=np.flatnonzero(split.test))
        for split in splits
    )
    train = _limited(labels, np.arange(len(labels)), options)
    return Sampling(train=train, folds=folds, description=_describe(labels, options, splits))


def _hold_out(labels: Labels, options: TrainingOptions, receptive_field: int) -> list[Split]:
    if options.split == "polygons":
        return polygon_folds(
            rows=labels.rows,
            cols=labels.cols,
            classes=labels.classes,
            polygons=labels.polygons,
            buffer=receptive_field,
            folds=options.folds,
            seed=options.seed,
        )
    if options.split == "random":
        return random_folds(classes=labels.classes, folds=options.folds, seed=options.seed)
    return []


def _limited(labels: Labels, chosen: Indexes, options: TrainingOptions) -> Indexes:
    """Those of the chosen pixels that train: few shots, or at most so many of each class."""
    classes = labels.classes[chosen]
    if options.shots is not None:
        kept = chosen[few_shot(classes=classes, shots=options.shots, seed=options.seed)]
    else:
        order = np.random.default_rng(options.seed).permutation(chosen)
        members = (order[labels.classes[order] == k] for k in range(len(labels.table)))
        kept = np.sort(np.concatenate([pixels[: options.pixels_per_class] for pixels in members]))
    counts = np.bincount(labels.classes[kept], minlength=len(labels.table))
    lost = [name for name, count in zip(labels.table.names, counts, strict=True) if not count]
    if lost:
        raise LabelError(f"nothing is left to train {listed(lost)} on: label more polygons, farther apart")
    return kept


def _describe(labels: Labels, options: TrainingOptions, splits: list[Split]) -> str:
    if not splits:
        return "Nothing was held out: the accuracy is not known and the confidence is not calibrated."
    tested = np.logical_or.reduce([split.test for split in splits])
    if options.split == "random":
        return (
            f"Cross-validation, {len(splits)} folds of random pixels ({tested.sum()} of {len(labels)}): their "
            "neighbours trained, so the accuracy is overrated and does not carry over to other places."
        )
    held, of = len(np.unique(labels.polygons[tested])), len(np.unique(labels.polygons))
    return (
        f"Cross-validation, {len(splits)} folds of whole polygons: {held} of {of} were held out ({tested.sum()} "
        f"of {len(labels)} pixels), and what lay so near that windows would overlap did not train. The model "
        "itself was then trained on all labels."
    )
