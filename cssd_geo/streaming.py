"""Tiles flow from reading over computing to writing: each stage in its own thread, one tile ahead of the next."""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cssd_geo.inference import TileClassifier, TileResult
from cssd_geo.scene import Scene
from cssd_geo.tiles import Tile, TilePlan, Window

T = TypeVar("T")
Pixels = tuple[Tile, NDArray[Any], NDArray[np.bool_]]
"""A tile with values (band, y, x) and valid (y, x) of its padded window."""

_END: Any = object()


def classified_tiles(
    classifier: TileClassifier, scene: Scene, plan: TilePlan, *, parts: Collection[str] = ()
) -> Iterator[tuple[Tile, TileResult]]:
    """Classify all tiles of a plan, in its order; `parts` names what each result must have.

    While the caller writes a tile, the next one is computed, another one comes to the device, and another is read.

    Raises:
        SceneError: if the scene cannot be read.
    """
    tiles = _uploaded(classifier, one_ahead(read_tiles(scene, plan, classifier.bands)))
    if classifier.device.type != "cpu":  # on a CPU nothing moves, and one more tile would only take memory
        tiles = one_ahead(tiles)
    return one_ahead((tile, classifier.classify(*pixels, parts=parts)) for tile, pixels in tiles)


def _uploaded(classifier: TileClassifier, tiles: Iterator[Pixels]) -> Iterator[tuple[Tile, tuple[Tensor, Tensor]]]:
    return ((tile, classifier.upload(values, valid)) for tile, values, valid in tiles)


def read_tiles(scene: Scene, plan: TilePlan, bands: NDArray[np.intp]) -> Iterator[Pixels]:
    """Read all tiles of a plan; the rows that one shares with the one above are kept, not read again.

    Yields:
        Each tile with what `Scene.read` returns for its padded window.
    """
    kept: tuple[Window, NDArray[Any], NDArray[np.bool_]] | None = None
    for tile in plan:
        window = tile.padded
        values, valid = scene.blank(window, bands)
        shared = 0 if kept is None else _shared_rows(kept[0], window)
        if kept is not None and shared:
            values[:, :shared], valid[:shared] = kept[1][:, -shared:], kept[2][-shared:]
        fresh = Window(row=window.row + shared, col=window.col, height=window.height - shared, width=window.width)
        scene.read_into(values[:, shared:], valid[shared:], fresh, bands)
        last = min(plan.halo.total, window.height)
        kept = window, values[:, -last:].copy(), valid[-last:].copy()  # a copy, so that the tile can be freed
        yield tile, values, valid


def _shared_rows(above: Window, window: Window) -> int:
    """Rows of `window` that lie in the last rows of `above`."""
    if (above.col, above.width) != (window.col, window.width):
        return 0
    return max(0, above.row + above.height - window.row)


def one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items while the next one is being made in a thread. No more than one is ever waiting."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(next, items, _END)
        while (item := future.result()) is not _END:
            future = thread.submit(next, items, _END)
            yield item
            del item  # before the next one arrives, so that it can be freed
