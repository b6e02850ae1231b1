"""Results as plain numbers in a file, written and read window by window, until all of a layer is there."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.tiles import Window


class RawLayer:
    """(band, y, x) in C order; nothing but pixels, and holes where none has come yet. A context manager.

    Not mapped into memory: there, a full disk kills the program instead of raising an error.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any], *, bands: int, height: int, width: int) -> None:
        self.path, self.dtype = path, dtype
        self._bands, self._height, self._width = bands, height, width
        self._handle = -1

    @property
    def size(self) -> int:
        """Bytes when all pixels are there."""
        return self._bands * self._height * self._width * self.dtype.itemsize

    @property
    def allocated(self) -> int:
        """Bytes that the file takes on the disk so far."""
        return self.path.stat().st_blocks * 512 if self.path.exists() else 0

    def __enter__(self) -> Self:
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def write(self, block: NDArray[Any], window: Window) -> int:
        """Write (band, y, x), or (y, x) for a single band, and return its checksum.

        Raises:
            OSError: if the disk does not take it.
        """
        data = np.ascontiguousarray(block, self.dtype).data.cast("B")
        begin = 0
        for position, size in self._pieces(window):
            _write(self._handle, data[begin : begin + size], position)
            begin += size
        return zlib.crc32(data)

    def read(self, window: Window) -> NDArray[Any]:
        """Read (band, y, x); zeros where nothing has been written.

        Raises:
            OSError: if it cannot be read.
        """
        data = bytearray()
        for position, size in self._pieces(window):
            data += os.pread(self._handle, size, position).ljust(size, b"\0")
        return np.frombuffer(data, self.dtype).reshape(self._bands, window.height, window.width)

    def checksum(self, window: Window) -> int:
        """What `write` returned for the window, if nothing there has changed since."""
        return zlib.crc32(self.read(window).data.cast("B"))

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        os.fsync(self._handle)

    def _pieces(self, window: Window) -> Iterator[tuple[int, int]]:
        """Position and size in bytes of each piece of a window that lies in one in the file."""
        whole = window.width == self._width
        rows, each = (1, window.height) if whole else (window.height, 1)
        for band in range(self._bands):
            for row in range(window.row, window.row + rows):
                position = (band * self._height + row) * self._width + window.col
                yield position * self.dtype.itemsize, each * window.width * self.dtype.itemsize


def _write(handle: int, data: memoryview, position: int) -> None:
    while len(data):
        written = os.pwrite(handle, data, position)
        data, position = data[written:], position + written
