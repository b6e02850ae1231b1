"""Reading on where a scene cannot be read: what fails counts as without data, block by block, and is listed."""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cssd_geo.errors import SceneError
from cssd_geo.recycled import Empty
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Window


class Readable(Protocol):
    """What tiles are read from: see `Scene`."""

    def room(
        self, window: Window, bands: NDArray[np.intp], empty: Empty = np.empty
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Make arrays for `read_into`, which writes all of them."""

    def read_into(
        self, values: NDArray[Any], valid: NDArray[np.bool_], window: Window, bands: NDArray[np.intp]
    ) -> None:
        """Read a window into parts of arrays that `room` made."""


class Tolerant:
    """A scene that is read without errors. Which blocks fail depends on the file, not on the windows.

    There is one exception: where a file lacks only the padding of a block at its edge, small windows can be read
    but large ones cannot.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._bad: dict[tuple[int, int], Window] = {}

    def room(
        self, window: Window, bands: NDArray[np.intp], empty: Empty = np.empty
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """See `Scene.room`."""
        return self._scene.room(window, bands, empty)

    def read_into(
        self, values: NDArray[Any], valid: NDArray[np.bool_], window: Window, bands: NDArray[np.intp]
    ) -> None:
        """See `Scene.read_into`; pixels of blocks that cannot be read become 0 and not valid."""
        try:
            self._scene.read_into(values, valid, window, bands)
        except SceneError:
            for index, block, part in self._blocks(window):
                rows, cols = part.relative_to(window).slices
                stored, seen = values[:, rows, cols], valid[rows, cols]
                try:
                    self._scene.read_into(stored, seen, part, bands)
                except SceneError:
                    stored[...], seen[...] = 0, False
                    self._bad[index] = block

    def unreadable(self, window: Window) -> list[Window]:
        """Blocks that touch a window and were found to be unreadable."""
        return [block for index, block, _ in self._blocks(window) if index in self._bad] if self._bad else []

    def add(self, blocks: Iterable[Window]) -> None:
        """Take over blocks that the same scene could not read elsewhere."""
        size = self._scene.source.blocks
        self._bad |= {(block.row // size.height, block.col // size.width): block for block in blocks}

    def _blocks(self, window: Window) -> Iterator[tuple[tuple[int, int], Window, Window]]:
        """Place, extent, and part within a window, of each block of the file that it touches."""
        whole, size = self._scene.grid.window, self._scene.source.blocks
        inside = window.common(whole)
        if inside is None:
            return
        for down in range(inside.row // size.height, (inside.row + inside.height - 1) // size.height + 1):
            for across in range(inside.col // size.width, (inside.col + inside.width - 1) // size.width + 1):
                block = Window(
                    row=down * size.height, col=across * size.width, height=size.height, width=size.width
                ).common(whole)
                part = None if block is None else block.common(inside)
                if block is not None and part is not None:
                    yield (down, across), block, part
