"""Where pixels come from: a raster file or an xarray array, read window by window from any thread."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Protocol

import dask.array as da
import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray
from rasterio.enums import Interleaving, MaskFlags

from cssd_geo.budget import Blocks
from cssd_geo.errors import SceneError
from cssd_geo.grid import open_raster, read_valid, read_window
from cssd_geo.tiles import Window

_MOST_DECODERS = 8
"""Threads: as many blocks as a tile has across."""
_LEAST_CACHE = 64_000_000
_CACHED_BLOCKS = 2
"""Blocks, over all bands, that GDAL keeps: it decodes the one and hands out bands of the other."""


class Source(Protocol):
    """Where pixels come from. Safe to use from several threads."""

    @property
    def blocks(self) -> Blocks:
        """The pieces in which pixels are stored."""

    @property
    def bands_last(self) -> bool:
        """Whether the values of a pixel are stored side by side, and best read so."""

    @property
    def cache_bytes(self) -> int:
        """Memory for blocks of which a part is read, so that none is decoded for each of its bands."""

    @property
    def decoding_bytes(self) -> int:
        """Memory for blocks while they are decoded."""

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        """Fill (band, y, x) with the given band indexes, as stored; `window` lies within the scene."""

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        """Return (y, x), True means usable, where the source has a mask beside its values; else None."""


class RasterSource:
    """A raster file, with one open handle a thread: GDAL's handles must not be shared between threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()

    def __reduce__(self) -> tuple[type["RasterSource"], tuple[str]]:
        return RasterSource, (self._path,)

    def dataset(self) -> Any:
        """Return this thread's handle."""
        if not hasattr(self._local, "dataset"):
            with rasterio.Env(GDAL_NUM_THREADS=str(_decoders())):
                self._local.dataset = open_raster(self._path)
        return self._local.dataset

    @property
    def blocks(self) -> Blocks:
        """See `Source`."""
        dataset = self.dataset()
        height, width = dataset.block_shapes[0]
        raw = height == 1 and dataset.compression is None and dataset.driver != "GTiff"
        return Blocks(height=height, width=width, divisible=raw)

    @property
    def bands_last(self) -> bool:
        """See `Source`."""
        return self.blocks.divisible and self.dataset().interleaving is Interleaving.pixel

    @property
    def cache_bytes(self) -> int:
        """See `Source`."""
        return max(_LEAST_CACHE, _CACHED_BLOCKS * self._block_bytes())

    @property
    def decoding_bytes(self) -> int:
        """See `Source`."""
        return 0 if self.dataset().compression is None else _decoders() * self._block_bytes()

    def _block_bytes(self) -> int:
        dataset, blocks = self.dataset(), self.blocks
        return int(blocks.height * blocks.width * dataset.count * np.dtype(dataset.dtypes[0]).itemsize)

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        """See `Source`."""
        whole = self.blocks.divisible  # else GDAL reads whole rows of a raw file
        with rasterio.Env(GDAL_ONE_BIG_READ=whole), self._forgetting() as dataset:
            read_window(dataset, window, (bands + 1).tolist(), out)

    def has_mask(self) -> bool:
        """Whether the file has a mask band or a mask file. What nodata values say is no mask."""
        return MaskFlags.per_dataset in self.dataset().mask_flag_enums[0]

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        """See `Source`."""
        if not self.has_mask():
            return None
        with self._forgetting() as dataset:
            return read_valid(dataset, window)

    @contextmanager
    def _forgetting(self) -> Iterator[Any]:
        """Close the handle if reading fails: GDAL 3.10 hands out what it kept of broken blocks the next time."""
        try:
            yield self.dataset()
        except SceneError:
            self._local.__dict__.pop("dataset").close()
            raise


class ArraySource:
    """An xarray DataArray (band, y, x)."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    @property
    def blocks(self) -> Blocks:
        """See `Source`."""
        chunks = self._array.chunksizes
        height, width = (max(chunks.get(d, (self._array.sizes[d],))) for d in ("y", "x"))
        return Blocks(height=height, width=width, divisible=not chunks)

    @property
    def bands_last(self) -> bool:
        """See `Source`."""
        return False

    @property
    def cache_bytes(self) -> int:
        """See `Source`."""
        return _LEAST_CACHE

    @property
    def decoding_bytes(self) -> int:
        """See `Source`."""
        return 0

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        """See `Source`."""
        rows, cols = window.slices
        out[...] = self._array[bands, rows, cols].to_numpy()

    def mask(self, window: Window) -> None:
        """See `Source`: an array has none."""


class LazyRaster:
    """Just enough of an array, (band, y, x), for dask to slice: each slice is one read of its window."""

    ndim = 3

    def __init__(self, source: RasterSource, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self._source, self.shape, self.dtype = source, shape, dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        parts = [slice(part, part + 1) if isinstance(part, Integral) else part for part in index]
        values = self._slice(np.arange(self.shape[0])[parts[0]], *parts[1:])
        return values[tuple(0 if isinstance(part, Integral) else slice(None) for part in index)]

    def _slice(self, bands: NDArray[np.intp], down: slice, across: slice) -> NDArray[Any]:
        rows, cols = range(self.shape[1])[down], range(self.shape[2])[across]
        if not (len(bands) and len(rows) and len(cols)):
            return np.empty((len(bands), len(rows), len(cols)), self.dtype)
        top, left = min(rows[0], rows[-1]), min(cols[0], cols[-1])
        window = Window(row=top, col=left, height=abs(rows[-1] - rows[0]) + 1, width=abs(cols[-1] - cols[0]) + 1)
        return self._read(window, bands)[:, :: rows.step, :: cols.step]

    def _read(self, window: Window, bands: NDArray[np.intp]) -> NDArray[Any]:
        out = np.empty((len(bands), window.height, window.width), self.dtype)
        self._source.read(window, bands, out)
        return out


class LazyMask(LazyRaster):
    """The same for the file's mask, (1, y, x)."""

    def _read(self, window: Window, bands: NDArray[np.intp]) -> NDArray[Any]:
        return read_valid(self._source.dataset(), window)[None][bands]


def lazy(raster: LazyRaster, block_shape: tuple[int, int]) -> da.Array:
    """Make a dask array in chunks of whole blocks and all bands."""
    return da.from_array(raster, chunks=(-1, *block_shape), name=False, asarray=False, inline_array=True)


def _decoders() -> int:
    """Threads that decode compressed blocks side by side."""
    return min(_MOST_DECODERS, os.cpu_count() or 1)
