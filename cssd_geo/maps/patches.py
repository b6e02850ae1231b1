"""Patches of a class raster: pixels of one class that touch each other."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Indexes = NDArray[np.int64]


def number_patches(rows: Indexes, cols: Indexes, classes: Indexes) -> Indexes:
    """(n,) number of the patch of each pixel, counted from 0 class by class; touching corners connect.

    The time depends on the number of pixels alone, not on how many classes there are, nor how large the raster is.

    Args:
        rows: (n,) rows of the pixels, which come row by row, and from left to right in each.
        cols: (n,) their columns.
        classes: (n,) their classes.
    """
    if not len(rows):
        return np.empty(0, np.int64)
    breaks = (np.diff(rows) != 0) | (np.diff(cols) != 1) | (np.diff(classes) != 0)
    first = np.flatnonzero(np.concatenate([[True], breaks]))  # of each run of pixels side by side
    last = np.concatenate([first[1:], [len(rows)]]) - 1
    klass = classes[first]
    upper, lower = _meetings(rows[first], cols[first], cols[last])
    same = klass[upper] == klass[lower]
    edges = upper[same].astype(np.int32), lower[same].astype(np.int32)  # scipy 1.11 counts nothing with others
    graph = coo_array((np.ones(len(edges[0]), np.bool_), edges), shape=(len(first), len(first)))
    _, patch = connected_components(graph, directed=False)
    begin = np.unique(patch, return_index=True)[1]  # the first run of each patch
    number = np.empty(len(begin), np.int64)
    number[np.lexsort([begin, klass[begin]])] = np.arange(len(begin))
    return np.repeat(number[patch], last - first + 1)


def _meetings(row: Indexes, left: Indexes, right: Indexes) -> tuple[Indexes, Indexes]:
    """All pairs of runs, (m,) indexes each, of which the second lies in the next row and touches the first."""
    span = int(right.max()) + 2
    below = (row + 1) * span
    start = np.searchsorted(row * span + right, below + left - 1)
    count = np.searchsorted(row * span + left, below + right + 1, side="right") - start
    upper = np.repeat(np.arange(len(row)), count)
    return upper, np.arange(len(upper)) + np.repeat(start + count - np.cumsum(count), count)
