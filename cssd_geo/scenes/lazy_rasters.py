"""Windows of rasters as dask arrays: the lazy face of what is read window by window."""

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.scenes.sources import Source
from cssd_geo.tiles import Window

if TYPE_CHECKING:
    import dask.array as da


class LazyRaster:
    """Just enough of an array, (band, y, x), for dask to slice: each slice is one read of its window."""

    ndim = 3

    def __init__(
        self, source: Source, bands: NDArray[np.intp], size: tuple[int, int], dtype: np.dtype[Any]
    ) -> None:
        self._source, self._bands = source, bands
        self.shape, self.dtype = (len(bands), *size), dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        parts = [slice(part, part + 1) if isinstance(part, Integral) else part for part in index]
        values = self._slice(self._bands[parts[0]], *parts[1:])
        return values[tuple(0 if isinstance(part, Integral) else slice(None) for part in index)]

    def _slice(self, bands: NDArray[np.intp], down: slice, across: slice) -> NDArray[Any]:
        rows, cols = range(self.shape[1])[down], range(self.shape[2])[across]
        if not (len(bands) and len(rows) and len(cols)):
            return np.empty((len(bands), len(rows), len(cols)), self.dtype)
        return self._read(Window.around(np.array(rows), np.array(cols)), bands)[:, :: rows.step, :: cols.step]

    def _read(self, window: Window, bands: NDArray[np.intp]) -> NDArray[Any]:
        out = np.empty((len(bands), *window.shape), self.dtype)
        self._source.read(window, bands, out)
        return out


class LazyMask(LazyRaster):
    """The same for a mask, (1, y, x), by what reads a window (y, x) of it."""

    def __init__(self, read: Callable[[Window], Any], size: tuple[int, int]) -> None:
        self._read_mask, self._bands = read, np.arange(1)
        self.shape, self.dtype = (1, *size), np.dtype(np.bool_)

    def _read(self, window: Window, bands: NDArray[np.intp]) -> NDArray[Any]:
        mask: NDArray[np.bool_] = self._read_mask(window)
        return mask[None][bands]


def lazy(raster: LazyRaster, block_shape: tuple[int, int]) -> "da.Array":
    """Make a dask array in chunks of whole blocks and all bands."""
    import dask.array as da  # noqa: PLC0415 - takes most of a second, for which few commands need to wait

    return da.from_array(raster, chunks=(-1, *block_shape), name=False, asarray=False, inline_array=True)
