"""Which labels train and which test, as the options ask."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cssd_geo.classes import listed
from cssd_geo.errors import LabelError
from cssd_geo.labels import Labels
from cssd_geo.options import TrainingOptions
from cssd_geo.splits import Split, few_shot, split_polygons, split_random


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Labels that train and labels that test; none is in both."""

    train: Labels
    test: Labels
    description: str
    """How the test labels were held out, in a sentence or two."""


def draw(labels: Labels, options: TrainingOptions, receptive_field: int) -> Sampling:
    """Hold out labels for testing and draw the training labels from the others.

    Args:
        labels: all labelled pixels.
        options: split, test_fraction, shots, pixels_per_class and seed count here.
        receptive_field: pixels that decide one pixel's class, as a side length; held-out polygons keep this
            distance to training pixels.

    Raises:
        LabelError: if nothing can be held out, or a class has nothing left to train on.
    """
    split = _hold_out(labels, options, receptive_field)
    left = labels.select(split.train)
    if options.shots is not None:
        train = left.select(few_shot(classes=left.classes, shots=options.shots, seed=options.seed))
    else:
        train = left.select(_at_most(left, options.pixels_per_class, options.seed))
    lost = [name for name, count in zip(labels.table.names, train.counts(), strict=True) if not count]
    if lost:
        raise LabelError(f"nothing is left to train {listed(lost)} on: label more polygons, farther apart")
    return Sampling(train=train, test=labels.select(split.test), description=split.description)


def _hold_out(labels: Labels, options: TrainingOptions, receptive_field: int) -> Split:
    if options.split == "polygons":
        return split_polygons(
            rows=labels.rows,
            cols=labels.cols,
            classes=labels.classes,
            polygons=labels.polygons,
            buffer=receptive_field,
            fraction=options.test_fraction,
            seed=options.seed,
        )
    if options.split == "random":
        return split_random(classes=labels.classes, fraction=options.test_fraction, seed=options.seed)
    every = np.ones(len(labels), np.bool_)
    text = "Nothing was held out: the accuracy is not known and the confidence is not calibrated."
    return Split(train=every, test=~every, unmeasured=(), description=text)


def _at_most(labels: Labels, count: int, seed: int) -> NDArray[np.bool_]:
    """(n,) mask of at most `count` pixels of each class, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(labels))
    keep = np.zeros(len(labels), np.bool_)
    for index in range(len(labels.table)):
        keep[order[labels.classes[order] == index][:count]] = True
    return keep
