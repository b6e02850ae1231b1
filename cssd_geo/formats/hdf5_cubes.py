"""A dataset of HDF5 that holds a cube, in any order of axes: cut into the pieces in which it is best read."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.files.hdf5_links import DAMAGED
from cssd_geo.formats.hdf5_chunks import ChunkDecoder
from cssd_geo.scenes.sources import decoders
from cssd_geo.tiles import Window, cuts

_PIECE_BYTES = 1 << 25
"""What HDF5 reads at a time, of which the bands that are asked for are taken."""
_COPIES = 3
"""Copies of a piece in memory while it is read: the chunk as it is stored, inflated, and in order."""


class StoredCube:
    """A dataset and its axes, read by any thread."""

    def __init__(self, dataset: Any, axes: str, *, decoding: bool = True) -> None:
        """Take a dataset.

        Args:
            dataset: of h5py.
            axes: a letter each: b, y and x; a dot for one of length 1 that means nothing.
            decoding: chunks are decoded here, where they can be.
        """
        self._dataset, self._axes, self._order = dataset, axes, axes.replace(".", "")
        self._decoder = ChunkDecoder.of(dataset) if decoding else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, height and width."""
        return self._of_axes(self._dataset.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its values, in this machine's byte order."""
        stored: np.dtype[Any] = self._dataset.dtype
        return stored.newbyteorder("=")

    @property
    def bands_last(self) -> bool:
        """Whether the values of a pixel lie side by side."""
        return self._order.endswith("b")

    @property
    def in_chunks(self) -> bool:
        """Whether it is stored in pieces that can only be read whole."""
        return self._dataset.chunks is not None

    @property
    def block(self) -> tuple[int, int, int]:
        """Bands, height and width of what is stored in one piece."""
        if self.in_chunks:
            return self._of_axes(self._dataset.chunks)
        count, _, width = self.shape
        return 1 if self._order.startswith("b") else count, 1, width

    @property
    def decoders(self) -> int:
        """Threads that read its pieces side by side; HDF5 itself lets in one."""
        return 1 if self._decoder is None else decoders(self._decoder.nbytes)

    @property
    def decoding_bytes(self) -> int:
        """Memory for pieces that are being read."""
        if self._decoder is not None:
            return _COPIES * self.decoders * self._decoder.nbytes
        return _COPIES * max(_PIECE_BYTES, int(np.prod(self.block)) * self.dtype.itemsize)

    def pieces(self, window: Window, bands: NDArray[np.intp]) -> Iterator[tuple[slice, Window]]:
        """Cut what is asked for along blocks, so that each is decoded once and little lies beside it."""
        depth, height, width = self._steps(window)
        for layer in np.unique(bands // depth):
            here = bands[bands // depth == layer]
            deep = slice(int(here.min()), int(here.max()) + 1)
            for down in cuts(window.slices[0], height):
                for across in cuts(window.slices[1], width):
                    size = down.stop - down.start, across.stop - across.start
                    yield deep, Window(row=down.start, col=across.start, height=size[0], width=size[1])

    def read(self, bands: slice, window: Window) -> NDArray[Any]:
        """Return (band, y, x); it may be read-only.

        Raises:
            Exception: one of `UNREADABLE`, if the file is damaged.
        """
        rows, cols = window.slices
        places = {"b": bands, "y": rows, "x": cols, ".": slice(0, 1)}
        index = tuple(places[axis] for axis in self._axes)
        decoded = self._decoded(index)
        values: NDArray[Any] = self._dataset[index] if decoded is None else decoded
        single = tuple(i for i, axis in enumerate(self._axes) if axis == ".")
        return values.squeeze(single).transpose([self._order.index(axis) for axis in "byx"])

    def _decoded(self, index: tuple[slice, ...]) -> NDArray[Any] | None:
        """What lies in one chunk; None where HDF5 has to read: several of them, one never written, or damaged."""
        if self._decoder is None:
            return None
        size = self._decoder.shape
        first = tuple(part.start // length * length for part, length in zip(index, size, strict=True))
        inner = tuple(slice(part.start - at, part.stop - at) for part, at in zip(index, first, strict=True))
        if any(part.stop > length for part, length in zip(inner, size, strict=True)):
            return None
        try:
            skipped, stored = self._dataset.id.read_direct_chunk(first)
            return None if skipped else self._decoder.decode(stored)[inner]
        except DAMAGED:  # HDF5 knows what to give for it, or says what is wrong
            return None

    def _steps(self, window: Window) -> tuple[int, int, int]:
        """Bands, rows and columns read at once: a chunk that is decoded here, else as many as make a piece."""
        depth, height, width = self.block
        if self._decoder is not None:
            return depth, height, width
        most = max(1, _PIECE_BYTES // (depth * self.dtype.itemsize))
        if height * window.width <= most:
            height, width = most // (height * window.width) * height, window.slices[1].stop
        else:
            width *= max(1, most // (height * width))
        pixels = min(height, window.height) * min(width, window.width)
        return depth * max(1, most // pixels), height, width

    def _of_axes(self, lengths: tuple[int, ...]) -> tuple[int, int, int]:
        known = dict(zip(self._axes, lengths, strict=True))
        return known["b"], known["y"], known["x"]
