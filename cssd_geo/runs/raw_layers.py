"""Results as plain numbers in a file, tile after tile in the order of the plan, until all of a layer is there."""

import os
import zlib
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.tiles import Tile


class RawLayer:
    """Tiles of (band, y, x) in C order; nothing but pixels, and holes where none has come yet. A context manager.

    A tile lies in one piece, at the place that the number of pixels before it gives, so that it is written at
    once. Not mapped into memory: there, a full disk kills the program instead of raising an error.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], *, bands: int, pixels: int) -> None:
        self.path, self.dtype, self.bands = path, dtype, bands
        self._pixels = pixels
        self._handle = -1

    @property
    def size(self) -> int:
        """Bytes when all pixels are there."""
        return self._pixels * self.bands * self.dtype.itemsize

    @property
    def allocated(self) -> int:
        """Bytes that the file takes on the disk so far."""
        return self.path.stat().st_blocks * 512 if self.path.exists() else 0

    def __enter__(self) -> Self:
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._handle)

    def write(self, block: NDArray[Any], tile: Tile) -> int:
        """Write (band, y, x), or (y, x) for a single band, of a tile.

        Returns:
            Its checksum.

        Raises:
            OSError: if the disk does not take it.
        """
        data = np.ascontiguousarray(block, self.dtype).data.cast("B")
        rest, position = data, self._position(tile)
        while rest:
            written = os.pwrite(self._handle, rest, position)
            rest, position = rest[written:], position + written
        return zlib.crc32(data)

    def read(self, tile: Tile, rows: slice = slice(None)) -> NDArray[Any]:
        """Read rows of a tile, all if none are given: (band, rows, x), zeros where nothing has been written.

        Raises:
            OSError: if it cannot be read.
        """
        start, stop, _ = rows.indices(tile.core.height)
        found = np.zeros((self.bands, stop - start, tile.core.width), self.dtype)
        for index, band in enumerate(found):
            row = index * tile.core.height + start
            _read(self._handle, band.data.cast("B"), self._position(tile) + row * band[:1].nbytes)
        return found

    def checksum(self, tile: Tile) -> int:
        """What `write` returned for a tile, if nothing there has changed since."""
        return zlib.crc32(self.read(tile).data.cast("B"))

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        os.fsync(self._handle)

    def _position(self, tile: Tile) -> int:
        return tile.pixels_before * self.bands * self.dtype.itemsize


def _read(handle: int, into: memoryview, position: int) -> None:
    """Fill with what a file holds from a position on, up to its end."""
    while into and (count := os.preadv(handle, [into], position)):
        into, position = into[count:], position + count
