"""Pixels of an xarray array, lazy or not, read in the order in which they are stored."""

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cssd_geo.budget import Blocks
from cssd_geo.errors import SceneError
from cssd_geo.files.hdf5_links import UNREADABLE
from cssd_geo.scenes.sources import LEAST_CACHE, Change
from cssd_geo.tiles import Window, cuts

_PIECE_BYTES = 1 << 25
"""Bytes of an array that are read at once and then sorted into a tile."""
_GAP = 64
"""Unwanted bands that are rather read than left out, where bands lie side by side."""


class ArraySource:
    """An xarray DataArray with the dimensions band, y and x, in whatever order they are stored.

    Files are read in pieces of whole chunks and contiguous bands, in the order in which they are stored: HDF5 is
    slow at lists of indexes, and xarray at arrays that were transposed. xarray locks files, opens them again in
    other processes, and closes them with the last array.
    """

    def __init__(self, array: xr.DataArray, *, name: str | None = None, change: Change | None = None) -> None:
        """Take an array.

        Args:
            array: lazy or not; it is never computed as a whole.
            name: of its file, for errors.
            change: what becomes of stored values: some files have two fill values, or a valid range.
        """
        self._stored = array.variable
        self._axes = [array.dims.index(dimension) for dimension in ("band", "y", "x")]
        self._chunks = _chunks(array)
        self._name, self._change = name or str(array.name or "array"), change

    @property
    def blocks(self) -> Blocks:
        """See `Source`."""
        height, width = (self._chunks.get(d, self._stored.sizes[d]) for d in ("y", "x"))
        return Blocks(height=height, width=width, divisible=not self._chunks)

    @property
    def bands_last(self) -> bool:
        """See `Source`."""
        return self._stored.dims[-1] == "band"

    @property
    def cache_bytes(self) -> int:
        """See `Source`."""
        return LEAST_CACHE

    @property
    def decoding_bytes(self) -> int:
        """See `Source`."""
        return 0 if self._is_dask else _PIECE_BYTES

    @property
    def _is_dask(self) -> bool:
        return self._stored.chunks is not None

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        """See `Source`."""
        order = np.argsort(bands, kind="stable")
        ascending = bands[order]
        rows_step, bands_step = self._steps(window)
        for low, high in _ranges(ascending, gap=_GAP if self.bands_last else self._chunks.get("band", 1)):
            for chunk in cuts(slice(low, high), bands_step):
                chosen = slice(*np.searchsorted(ascending, (chunk.start, chunk.stop)))
                for rows in cuts(window.slices[0], rows_step):
                    piece = self._piece(chunk, rows, window.slices[1])
                    part = out[:, rows.start - window.row : rows.stop - window.row]
                    for into, of in _runs(order[chosen], ascending[chosen] - chunk.start):
                        part[into] = piece[of]

    def _steps(self, window: Window) -> tuple[int, int]:
        """Rows and bands that are read at once: whole chunks, of `_PIECE_BYTES` if these are no larger."""
        if self._is_dask:  # a chunk that is read in pieces would be computed for each
            return self._stored.sizes["y"], self._stored.sizes["band"]
        row = window.width * self._stored.dtype.itemsize
        deep = self._stored.sizes["band"] if self.bands_last else 1
        bands, rows = self._chunks.get("band", deep), self._chunks.get("y", 1)
        rows = max(_PIECE_BYTES // (bands * row) // rows, 1) * rows
        return rows, max(_PIECE_BYTES // (min(rows, window.height) * row) // bands, 1) * bands

    def _piece(self, bands: slice, rows: slice, cols: slice) -> NDArray[Any]:
        """Read (band, y, x) of contiguous bands."""
        try:
            values = self._stored.isel(band=bands, y=rows, x=cols).to_numpy()
        except UNREADABLE as error:
            where = f"bands {bands.start + 1} to {bands.stop}, rows {rows.start + 1} to {rows.stop}"
            raise SceneError(f"{self._name} cannot be read at {where}: {error}") from error
        if self._change is not None:
            values = self._change(values)
        return np.asarray(values.transpose(self._axes))

    def has_mask(self) -> bool:
        """See `Source`: an array has none."""
        return False

    def mask(self, window: Window) -> None:
        """See `Source`: an array has none."""


def _chunks(array: xr.DataArray) -> dict[Any, int]:
    """Size of the chunks along each dimension: dask's, or else those of the file; empty if it has none."""
    if array.chunks is not None:
        return {dimension: max(sizes) for dimension, sizes in array.chunksizes.items()}
    stored = array.encoding.get("preferred_chunks") or {}
    return {d: int(size) for d, size in stored.items() if d in array.dims and isinstance(size, Integral)}


def _ranges(ascending: NDArray[np.intp], gap: int) -> Iterator[tuple[int, int]]:
    """Begin and end of what is read at once: no more than `gap` indexes between two that are wanted."""
    for part in np.split(ascending, np.flatnonzero(np.diff(ascending) > gap + 1) + 1):
        if len(part):
            yield int(part[0]), int(part[-1]) + 1


def _runs(into: NDArray[np.intp], of: NDArray[np.intp]) -> Iterator[tuple[slice, slice]]:
    """Pairs of slices that select the same as the pairs of indexes, which are many more."""
    breaks = np.flatnonzero((np.diff(into) != 1) | (np.diff(of) != 1)) + 1
    for here, there in zip(np.split(into, breaks), np.split(of, breaks), strict=True):
        if len(here):
            yield slice(here[0], here[-1] + 1), slice(there[0], there[-1] + 1)
