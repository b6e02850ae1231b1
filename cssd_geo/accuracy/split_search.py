"""The search for polygons to hold out: compact groups around random points, improved polygon by polygon."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.spatial import cKDTree

from cssd_geo.errors import InputError

_STARTS = 64
"""Random starts of the search; `_MOVES` may be used up before the last of them."""
_MOVES = 60_000
"""Toggled blocks in all: about two seconds. A count and not a time, so that a seed gives the same split."""
_UNITS = 12_000
"""Units that the search looks at; more pixels than that are grouped, as pairs of units fill the memory."""
_NO_TRAINING = 1000.0
"""Cost of a class that loses its last training pixel: more than all else together can be worth."""
_NO_TEST = 500.0
"""Cost of holding out nothing: worse than any split that can be used, better than any that cannot."""


# Blocks are what the search holds out or not: polygons; where there are very many, neighbouring polygons of
# one class. Units are what it counts: pixels; where there are very many, the pixels of a block in a square.


def prepare_search(
    points: NDArray[np.int64],
    classes: NDArray[Any],
    polygons: NDArray[Any],
    *,
    may_test: NDArray[np.bool_],
    buffer: int,
    fraction: float,
) -> tuple[NDArray[np.intp], "_Search"]:
    """Return the block of each pixel, and the search over the blocks."""
    klass = np.unique(classes, return_inverse=True)[1]
    block, unit = _group(points, klass, _polygon_index(klass, polygons))
    unit_block, block_class = _first(unit, block), _first(block, klass)
    reach = _reach(_centres(unit, points), unit_block, buffer)
    search = _Search(
        unit_class=block_class[unit_block],
        unit_size=np.bincount(unit),
        block_class=block_class,
        block_size=np.bincount(block),
        block_may_test=np.bincount(block, ~may_test) == 0,
        centres=_centres(block, points),
        reach_units=reach.indices,
        reach_start=reach.indptr,
        totals=np.bincount(klass),
        block_totals=np.bincount(block_class),
        fraction=fraction,
    )
    return block, search


def _polygon_index(klass: NDArray[np.intp], polygons: NDArray[Any]) -> NDArray[np.intp]:
    ids, polygon = np.unique(polygons, return_inverse=True)
    mixed = np.flatnonzero(_first(polygon, klass)[polygon] != klass)
    if mixed.size:
        raise InputError(f"a polygon has one class, but the pixels of {ids[polygon[mixed[0]]]} have several")
    return polygon


def _group(
    points: NDArray[np.int64], klass: NDArray[np.intp], polygon: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return block and unit of each pixel: polygons and pixels, or squares that grow until there are few."""
    points = points - points.min(axis=0)
    step = 1
    while True:
        block = polygon
        if polygon.max() >= _UNITS:
            squares = (_centres(polygon, points) // step).astype(np.int64)[polygon]
            block = _number(klass, *squares.T)
        unit = _number(block, *(points // step).T)
        if unit.max() < _UNITS or step > points.max():
            return block, unit
        step *= 2


def _number(*keys: NDArray[Any]) -> NDArray[np.intp]:
    """Number the distinct tuples of `keys` from 0."""
    flat = np.ravel_multi_index(keys, [int(key.max()) + 1 for key in keys])
    return np.unique(flat, return_inverse=True)[1]


def _first(group: NDArray[np.intp], values: NDArray[np.intp]) -> NDArray[np.intp]:
    return values[np.unique(group, return_index=True)[1]]


def _centres(group: NDArray[np.intp], points: NDArray[np.int64]) -> NDArray[np.float64]:
    sums = [np.bincount(group, weights=axis) for axis in points.T]
    return np.column_stack(sums) / np.bincount(group)[:, np.newaxis]


def _reach(centres: NDArray[np.float64], unit_block: NDArray[np.intp], buffer: int) -> Any:
    """(units, blocks) sparse by columns: the units closer than `buffer` to one of the block, and its own."""
    pairs = cKDTree(centres).query_pairs(buffer - 0.5, p=np.inf, output_type="ndarray")
    own = np.arange(len(centres))
    unit = np.concatenate([pairs[:, 0], pairs[:, 1], own])
    block = unit_block[np.concatenate([pairs[:, 1], pairs[:, 0], own])]
    # Building the matrix merges duplicates: a unit is often close to several units of a block.
    shape = (len(centres), int(unit_block.max()) + 1)
    return coo_array((np.ones(len(unit), np.int32), (unit, block)), shape=shape).tocsc()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """The question, with K classes numbered without gaps."""

    unit_class: NDArray[np.intp]
    unit_size: NDArray[np.intp]
    """(u,) pixels."""
    block_class: NDArray[np.intp]
    block_size: NDArray[np.intp]
    """(b,) pixels."""
    block_may_test: NDArray[np.bool_]
    """(b,) False: never held out."""
    centres: NDArray[np.float64]
    """(b, 2) mean row and column."""
    reach_units: NDArray[np.int32]
    """Units that cannot train when a block tests, block after block."""
    reach_start: NDArray[np.int32]
    """(b + 1,) where each block's units begin."""
    totals: NDArray[np.intp]
    """(K,) pixels."""
    block_totals: NDArray[np.intp]
    """(K,) blocks."""
    fraction: float

    def best(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """(b,) True: held out. The best of several climbs, the most promising start first."""
        starts = [_Climb(self, self.compact_group(rng)) for _ in range(_STARTS)]
        # From nothing held out, the climb finds a split that leaves every class trained, where there is one.
        climbs = [_Climb(self, np.zeros(len(self.block_class), np.bool_))]
        climbs += sorted(starts, key=lambda climb: climb.score, reverse=True)
        moves = _MOVES
        for climb in climbs:
            moves -= climb.climb(rng, moves)
        return max(climbs, key=lambda climb: climb.score).test

    def compact_group(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Of each class the blocks nearest to any of a few random points, until its share is reached.

        Tests scattered over the scene would put all other pixels into the buffer.
        """
        points = self.centres[rng.integers(len(self.centres), size=rng.choice([1, 2, 4, 8]))]
        distance, _ = cKDTree(points).query(self.centres, p=np.inf)
        share = self.fraction * rng.uniform(0.3, 1.0)
        test = np.zeros(len(self.block_class), np.bool_)
        for k, total in enumerate(self.totals):
            candidates = (self.block_class == k) & (self.block_size <= self.limit[k]) & self.block_may_test
            blocks = np.flatnonzero(candidates)
            blocks = blocks[np.argsort(distance[blocks], kind="stable")]
            after = np.cumsum(self.block_size[blocks])
            test[blocks[(after - self.block_size[blocks] < share * total) & (after <= self.limit[k])]] = True
        return test

    @property
    def limit(self) -> NDArray[np.float64]:
        """(K,) most pixels that a class may lose to testing: so never all of its polygons."""
        return self.totals.astype(np.float64) * max(self.fraction, 0.5)

    def score(self, train: NDArray[Any], test: NDArray[Any]) -> float:
        """Worth of (K,) training and test pixels; testing beyond the fraction is worth nothing more."""
        useful = np.log1p(train) + np.log1p(np.minimum(test, self.fraction * self.totals))
        return float(useful.sum() - _NO_TRAINING * (train == 0).sum() - _NO_TEST * (test.sum() == 0))

    def reached(self, block: int) -> NDArray[np.int32]:
        """Units that cannot train when `block` tests, each once."""
        return self.reach_units[self.reach_start[block] : self.reach_start[block + 1]]


class _Climb:
    """One way to hold out blocks, improved by toggling single blocks."""

    def __init__(self, search: _Search, test: NDArray[np.bool_]) -> None:
        self.search, self.test = search, test
        k = len(search.totals)
        self._tests_near = np.zeros(len(search.unit_class), np.int32)
        for block in np.flatnonzero(test).tolist():
            self._tests_near[search.reached(block)] += 1
        free = self._tests_near == 0
        self._train = np.bincount(search.unit_class[free], search.unit_size[free], minlength=k)
        self._tested = np.bincount(search.block_class[test], search.block_size[test], minlength=k)
        self._limit = search.limit
        self.score = search.score(self._train, self._tested)

    def climb(self, rng: np.random.Generator, moves: int) -> int:
        """Toggle blocks as long as that improves the score, at most `moves` times; return the moves made."""
        used, improved = 0, True
        while improved and used < moves:
            order = rng.permutation(len(self.test))[: moves - used]
            used += len(order)
            improved = sum(self._toggle(block) for block in order.tolist()) > 0
        return used

    def _toggle(self, block: int) -> bool:
        """Toggle `block` if that improves the score."""
        search, k = self.search, self.search.block_class[block]
        if not search.block_may_test[block]:
            return False
        sign = -1 if self.test[block] else 1
        tested = self._tested.copy()
        tested[k] += sign * search.block_size[block]
        if tested[k] > self._limit[k]:
            return False
        units = search.reached(block)
        changed = units[self._tests_near[units] == (0 if sign > 0 else 1)]
        change = np.bincount(search.unit_class[changed], search.unit_size[changed], minlength=len(search.totals))
        score = search.score(self._train - sign * change, tested)
        if score <= self.score + 1e-9:  # rounding is no improvement
            return False
        self.test[block] = not self.test[block]
        self._tests_near[units] += sign
        self._train, self._tested, self.score = self._train - sign * change, tested, score
        return True
