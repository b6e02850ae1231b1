"""Tiles flow from reading over computing to writing: each stage in its own thread, one tile ahead of the next."""

import sys
from collections import deque
from collections.abc import Collection, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cssd_geo.compute.transfer import Loaded
from cssd_geo.compute.workers import threads_for
from cssd_geo.engine.busy import Busy
from cssd_geo.engine.inference import TileClassifier, TileResult, choose_device, choose_precision
from cssd_geo.scenes.unreadable import Readable
from cssd_geo.tiles import Tile, TilePlan, Window

T = TypeVar("T")
Pixels = tuple[Tile, NDArray[Any], NDArray[np.bool_]]
"""A tile with values (band, y, x) and valid (y, x) of its padded window."""

_END: Any = object()


@dataclass(frozen=True, kw_only=True)
class ThisMachine:
    """Where tiles are computed: here, one after the other."""

    device: torch.device
    precision: torch.dtype
    busy: Busy = field(default_factory=Busy)
    """How long reading and computing were at work."""

    @property
    def classifier_device(self) -> torch.device:
        """Of the classifier, which plans and computes."""
        return self.device

    def results(
        self,
        classifier: TileClassifier,
        scene: Readable,
        plan: TilePlan,
        *,
        parts: Collection[str] = (),
        skip: Collection[int] = (),
    ) -> Iterator[tuple[Tile, TileResult]]:
        """Classify the tiles of a plan in its order, but for those in `skip`; `parts`: what results must have.

        While the caller writes a tile, the next one is computed, another one comes to the device, and another is
        read.

        Raises:
            SceneError: if the scene cannot be read.
        """
        read = one_ahead(self.busy.each("reading", read_tiles(scene, plan, classifier.bands, skip)))
        tiles = _loaded(classifier, plan, read)
        if classifier.device.type != "cpu":  # on a CPU nothing moves, and one more tile would only take memory
            tiles = one_ahead(tiles)
        return one_ahead(_classified(classifier, tiles, parts, self.busy))


def this_machine(device: str, precision: str) -> ThisMachine:
    """Choose device and precision; raises an InputError as `choose_device` and `choose_precision` do."""
    place = choose_device(device)
    return ThisMachine(device=place, precision=choose_precision(precision, place))


def _loaded(
    classifier: TileClassifier, plan: TilePlan, tiles: Generator[Pixels]
) -> Generator[tuple[Tile, Loaded]]:
    """Tiles on the device; on a GPU all of them have the shape of the largest one, as long as memory suffices."""
    shape = None if classifier.device.type == "cpu" else (plan.largest.height, plan.largest.width)
    with closing(tiles):
        for tile, values, valid in tiles:
            yield tile, classifier.load(values, valid, shape)


def _classified(
    classifier: TileClassifier, tiles: Generator[tuple[Tile, Loaded]], parts: Collection[str], busy: Busy
) -> Iterator[tuple[Tile, TileResult]]:
    """Two tiles at a time on a CPU with several threads: the other keeps them at work in the last part of one."""

    def classify(tile: Tile, pixels: Loaded) -> tuple[Tile, TileResult]:
        with busy.at("computing"):
            return tile, classifier.classify(pixels, parts=parts)

    at_once = min(2, threads_for(sys.maxsize)) if classifier.device.type == "cpu" else 1
    with closing(tiles), ThreadPoolExecutor(at_once) as threads:
        computing: deque[Future[tuple[Tile, TileResult]]] = deque()
        for item in tiles:
            computing.append(threads.submit(classify, *item))
            del item  # so that it can be freed when it is computed
            if len(computing) == at_once:
                yield computing.popleft().result()
        for result in computing:
            yield result.result()


def read_tiles(
    scene: Readable, plan: TilePlan, bands: NDArray[np.intp], skip: Collection[int] = ()
) -> Iterator[Pixels]:
    """Read the tiles of a plan, but for those in `skip`; pixels that one shares with those before are kept.

    Yields:
        Each tile with what `Scene.read` returns for its padded window.
    """
    above: dict[int, _Part] = {}  # the last rows of a tile of each column that is visited
    left: _Part | None = None  # the last columns of the tile before
    for tile in plan:
        if tile.index in skip:
            continue
        window = tile.padded
        values, valid = scene.blank(window, bands)
        over = above.pop(window.col, None)
        rows = 0 if over is None else over.copy_rows(window, values, valid)
        cols = 0 if left is None else left.copy_columns(window, values, valid)
        fresh = Window(
            row=window.row + rows, col=window.col + cols, height=window.height - rows, width=window.width - cols
        )
        scene.read_into(values[:, rows:, cols:], valid[rows:, cols:], fresh, bands)
        last = min(plan.halo.total, window.height), min(plan.halo.total, window.width)
        above[window.col] = _Part(window, values[:, -last[0] :].copy(), valid[-last[0] :].copy())
        left = _Part(window, values[:, :, -last[1] :].copy(), valid[:, -last[1] :].copy())
        if len(above) > plan.abreast:
            del above[next(iter(above))]
        yield tile, values, valid


class _Part(NamedTuple):
    """The last rows or columns of a tile: a copy, so that the tile can be freed."""

    window: Window
    """Of the whole tile."""
    values: NDArray[Any]
    valid: NDArray[np.bool_]

    def copy_rows(self, window: Window, values: NDArray[Any], valid: NDArray[np.bool_]) -> int:
        """Fill in the first rows of a tile below; returns how many."""
        if (self.window.col, self.window.width) != (window.col, window.width):
            return 0
        rows = max(0, self.window.row + self.window.height - window.row)
        if rows:
            values[:, :rows], valid[:rows] = self.values[:, -rows:], self.valid[-rows:]
        return rows

    def copy_columns(self, window: Window, values: NDArray[Any], valid: NDArray[np.bool_]) -> int:
        """Fill in the first columns of a tile to the right; returns how many."""
        if (self.window.row, self.window.height) != (window.row, window.height):
            return 0
        cols = max(0, self.window.col + self.window.width - window.col)
        if cols:
            values[:, :, :cols], valid[:, :cols] = self.values[:, :, -cols:], self.valid[:, -cols:]
        return cols


def one_ahead(items: Iterator[T]) -> Generator[T]:
    """Yield items while the next one is being made in a thread. No more than one is ever waiting."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(next, items, _END)
        while (item := future.result()) is not _END:
            future = thread.submit(next, items, _END)
            yield item
            del item  # before the next one arrives, so that it can be freed
