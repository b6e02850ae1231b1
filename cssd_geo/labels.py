"""Labelled pixels: which pixel is which class, by whose polygon, and whether they suffice to train on."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.classes import UNCLASSIFIED_NAME, ClassTable
from cssd_geo.errors import LabelError
from cssd_geo.messages import listed

Indexes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labelled pixels of a scene; arrays (n,), one entry a pixel, each pixel at most once."""

    rows: Indexes
    cols: Indexes
    classes: Indexes
    """Index from 0 into `table`."""
    polygons: Indexes
    """Which polygon (part of a multi-polygon, or patch of a label raster) labelled the pixel."""
    table: ClassTable
    notes: tuple[str, ...] = ()
    """What was repaired or left out, one sentence each, for a report."""
    ids_given: bool = True
    """Whether the ids are those of the label file; else its names were numbered."""

    def __len__(self) -> int:
        return len(self.rows)

    def counts(self) -> Indexes:
        """(K,) pixels of each class."""
        return np.bincount(self.classes, minlength=len(self.table))

    def uncontested(self) -> tuple["Labels", int]:
        """Return each pixel once, by row and column, without those that two classes claim, and how many these are.

        Where several polygons of one class have a pixel, it is the first one's.
        """
        pixels = self.rows * (self.cols.max(initial=0) + 1) + self.cols
        order = np.lexsort((self.polygons, pixels))
        first = np.flatnonzero(np.diff(pixels[order], prepend=-1))
        clash = np.zeros(len(first), np.bool_)
        if len(first):
            classes = self.classes[order]
            clash = np.minimum.reduceat(classes, first) != np.maximum.reduceat(classes, first)
        return self.select(order[first[~clash]]), int(clash.sum())

    def select(self, chosen: NDArray[Any]) -> "Labels":
        """Return the pixels chosen by a mask (n,) or by indexes."""
        return replace(
            self,
            rows=self.rows[chosen],
            cols=self.cols[chosen],
            classes=self.classes[chosen],
            polygons=self.polygons[chosen],
        )


def require_trainable(labels: Labels, least: int) -> None:
    """Check that there are two classes, none of them named like no class, and at least `least` pixels of each.

    Raises:
        LabelError: with the name, or the counts.
    """
    for name in labels.table.names:
        if name.strip().lower() == UNCLASSIFIED_NAME:
            raise LabelError(
                f"a class is named {name!r}, as pixels without a class are in every map: rename it, or leave it "
                "out (train --classes FILE)"
            )
    counts = dict(zip(labels.table.names, labels.counts().tolist(), strict=True))
    pixels = listed(f"{name}: {count}" for name, count in counts.items())
    why = "".join(f" {note}" for note in labels.notes)
    if len(counts) < 2:  # noqa: PLR2004 - a classifier tells at least two apart
        raise LabelError(f"the labels hold one class only ({pixels} pixels): label at least one other.{why}")
    if min(counts.values()) < least:
        few = listed(name for name, count in counts.items() if count < least)
        raise LabelError(
            f"too few labelled pixels for {few}; at least {least} are needed. Pixels: {pixels}.{why} Label more, "
            "or leave a class out (train --classes FILE)"
        )
