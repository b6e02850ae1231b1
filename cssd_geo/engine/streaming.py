"""Tiles flow from reading over computing to writing: each stage in its own thread, one tile ahead of the next."""

import sys
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from cssd_geo.compute.transfer import Loaded
from cssd_geo.compute.workers import threads_for
from cssd_geo.engine.busy import Busy
from cssd_geo.engine.devices import choose_device, choose_precision
from cssd_geo.engine.inference import TileClassifier, TileResult
from cssd_geo.recycled import Recycled
from cssd_geo.scenes.unreadable import Readable
from cssd_geo.threads import Threads
from cssd_geo.tiles import Tile, TilePlan, Window

T = TypeVar("T")
R = TypeVar("R")
Pixels = tuple[Tile, NDArray[Any], NDArray[np.bool_]]
"""A tile with values (band, y, x) and valid (y, x) of its padded window."""

_END: Any = object()


@dataclass(frozen=True, kw_only=True)
class ThisMachine:
    """Where tiles are computed: here."""

    device: torch.device
    precision: torch.dtype

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
        busy: Busy | None = None,
    ) -> Iterator[tuple[Tile, TileResult]]:
        """Classify the tiles of a plan in its order, but for those in `skip`; `parts`: what results must have.

        While the caller writes a tile, the next one is computed, another one comes to the device, and others are
        read; `busy` is told of reading and computing.

        Raises:
            SceneError: if the scene cannot be read.
        """
        busy = busy or Busy()
        read = one_ahead(busy.each("reading", read_tiles(scene, plan, classifier.bands, skip)))
        loaded = _loaded(classifier, plan, read)
        if classifier.device.type == "cpu":  # nothing moves there, and one more tile would only take memory
            return one_ahead(_classified(classifier, loaded, parts, busy))
        rehearse = partial(classifier.rehearse, scene, plan, parts)
        return one_ahead(_classified(classifier, _beside(rehearse, one_ahead(loaded)), parts, busy))


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
            yield tile, classifier.load(values, valid, shape, at=tile.padded.corner)


def _classified(
    classifier: TileClassifier, tiles: Generator[tuple[Tile, Loaded]], parts: Collection[str], busy: Busy
) -> Iterator[tuple[Tile, TileResult]]:
    """Two tiles at a time on a CPU with several threads: the other keeps them at work in the last part of one."""

    def classify(item: tuple[Tile, Loaded]) -> tuple[Tile, TileResult]:
        with busy.at("computing"):
            return item[0], classifier.classify(item[1], parts=parts)

    at_once = min(2, threads_for(sys.maxsize)) if classifier.device.type == "cpu" else 1
    with closing(tiles), closing(side_by_side(classify, tiles, at_once)) as results:
        yield from results


def _beside(work: Callable[[], object], items: Generator[T]) -> Generator[T]:
    """Yield items, the first of which is made while some other work is done."""
    with closing(items), Threads(1) as thread:
        done = thread.submit(work)
        for item in items:
            done.result()
            yield item
            del item  # before the next one arrives, so that it can be freed


def read_tiles(
    scene: Readable, plan: TilePlan, bands: NDArray[np.intp], skip: Collection[int] = ()
) -> Generator[Pixels]:
    """Read the tiles of a plan, but for those in `skip`; pixels that one shares with those before are kept.

    Yields:
        Each tile with what `Scene.read` returns for its padded window.
    """
    above: dict[int, _Part] = {}  # the last rows of a tile of each column that is visited
    left: _Part | None = None  # the last columns of the tile before
    memory = Recycled()

    def read(step: _Step) -> tuple[_Step, NDArray[Any], NDArray[np.bool_]]:
        values, valid = scene.room(step.tile.padded, bands, memory.empty)
        fresh = values[:, step.rows :, step.cols :], valid[step.rows :, step.cols :]
        scene.read_into(*fresh, step.fresh, bands)
        return step, values, valid

    with closing(side_by_side(read, _steps(plan, skip), plan.at_once)) as tiles:
        for step, values, valid in tiles:
            col, over = step.tile.padded.col, above.pop(step.tile.padded.col, None)
            if over is not None and step.rows:
                values[:, : step.rows], valid[: step.rows] = over.values[:, -step.rows :], over.valid[-step.rows :]
            if left is not None and step.cols:
                values[:, :, : step.cols] = left.values[:, :, -step.cols :]
                valid[:, : step.cols] = left.valid[:, -step.cols :]
            rows, cols = (min(plan.halo.total, length) for length in valid.shape)
            _keep(above, col, _Part.of(values[:, -rows:], valid[-rows:]), plan.abreast)
            left = _Part.of(values[:, :, -cols:], valid[:, -cols:])
            yield step.tile, values, valid
            del values, valid  # before the next ones are made, so that they can be freed


class _Part(NamedTuple):
    """The last rows or columns of a tile: a copy, so that the tile can be freed."""

    values: NDArray[Any]
    valid: NDArray[np.bool_]

    @classmethod
    def of(cls, values: NDArray[Any], valid: NDArray[np.bool_]) -> "_Part":
        """Copy, in the order in memory that values have: turning them over takes five times as long."""
        return cls(values.copy("K"), valid.copy())


class _Step(NamedTuple):
    """A tile, and how much of it those that were visited before have read."""

    tile: Tile
    rows: int
    """The first ones of its padded window."""
    cols: int
    """Likewise."""

    @property
    def fresh(self) -> Window:
        """What is left to be read."""
        window = self.tile.padded
        return Window(
            row=window.row + self.rows,
            col=window.col + self.cols,
            height=window.height - self.rows,
            width=window.width - self.cols,
        )


def _steps(plan: TilePlan, skip: Collection[int]) -> Iterator[_Step]:
    """The tiles that are visited, those in `skip` left out."""
    above: dict[int, Window] = {}
    left: Window | None = None
    for tile in plan:
        if tile.index in skip:
            continue
        window = tile.padded
        over, rows, cols = above.pop(window.col, None), 0, 0
        if over is not None:
            rows = max(0, over.row + over.height - window.row)
        if left is not None and left.row == window.row:
            cols = max(0, left.col + left.width - window.col)
        _keep(above, window.col, window, plan.abreast)
        left = window
        yield _Step(tile, rows, cols)


def _keep(above: dict[int, T], col: int, part: T, abreast: int) -> None:
    """Keep what is the last of a column of tiles, and no more than of those that are visited abreast."""
    above[col] = part
    if len(above) > abreast:
        del above[next(iter(above))]


def side_by_side(work: Callable[[T], R], items: Iterator[T], at_once: int) -> Generator[R]:
    """Yield the results of items in their order; so many items are worked on at a time, each in its thread."""

    def work_on(lent: list[T]) -> R:
        return work(lent.pop())  # a thread keeps what it was given until after its result is there

    with Threads(at_once) as threads:
        working: deque[Future[R]] = deque()
        for item in items:
            working.append(threads.submit(work_on, [item]))
            del item  # so that it can be freed when its result is there
            if len(working) == at_once:
                yield working.popleft().result()
        while working:
            yield working.popleft().result()


def one_ahead(items: Iterator[T]) -> Generator[T]:
    """Yield items while the next one is being made in a thread. No more than one is ever waiting."""
    with Threads(1) as thread:
        future = thread.submit(next, items, _END)
        while (item := future.result()) is not _END:
            future = thread.submit(next, items, _END)
            yield item
            del item  # before the next one arrives, so that it can be freed
