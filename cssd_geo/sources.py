"""Where pixels come from: a raster file or an xarray array, read window by window from any thread."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
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
from cssd_geo.raster_facts import alpha_indexes, spectral_indexes
from cssd_geo.tiles import Window

_MOST_DECODERS = 8
"""Threads: as many blocks as a tile has across."""
_OPENING = {"CPL_VSIL_GZIP_WRITE_PROPERTIES": "NO"}
"""Else GDAL leaves a file beside each compressed raw file that it opens."""
_RUN_BYTES = 8192
"""Of a line of a raw file that are read at once: systems read pages of 4096 bytes, so less is wasteful."""
_LEAST_CACHE = 64_000_000
_CACHED_BLOCKS = 2
"""Blocks, over all bands, that GDAL keeps: it decodes the one and hands out bands of the other."""
_PIECE_BYTES = 1 << 25
"""Of an array that are read at once and then sorted into a tile."""
_GAP = 64
"""Unwanted bands that are rather read than left out, where bands lie side by side."""


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


class StoredSource(Source, Protocol):
    """A source that reads files, which may hold a mask beside the values."""

    def has_mask(self) -> bool:
        """Whether `mask` ever returns one."""


class RasterSource:
    """A raster file, with one open handle a thread: GDAL's handles must not be shared between threads."""

    def __init__(self, path: str, follow_links: bool = False) -> None:  # noqa: FBT001, FBT002 - for `__reduce__`
        self._path, self._follow_links = path, follow_links
        self._local = threading.local()

    def __reduce__(self) -> tuple[type["RasterSource"], tuple[str, bool]]:
        return RasterSource, (self._path, self._follow_links)

    def dataset(self) -> Any:
        """Return this thread's handle."""
        if not hasattr(self._local, "dataset"):
            with rasterio.Env(GDAL_NUM_THREADS=str(_decoders()), **_OPENING):
                self._local.dataset = open_raster(self._path, follow_links=self._follow_links)
        return self._local.dataset

    @cached_property
    def blocks(self) -> Blocks:
        """See `Source`."""
        dataset = self.dataset()
        height, width = dataset.block_shapes[0]
        raw = height == 1 and dataset.compression is None and dataset.driver != "GTiff"
        if not raw:
            return Blocks(height=height, width=width)
        value = np.dtype(dataset.dtypes[0]).itemsize * (dataset.count if self._pixels_together() else 1)
        return Blocks(height=height, width=width, divisible=True, least_run=-(-_RUN_BYTES // value))

    @property
    def bands_last(self) -> bool:
        """See `Source`."""
        return self.blocks.divisible and self._pixels_together()

    def _pixels_together(self) -> bool:
        return self.dataset().interleaving is Interleaving.pixel

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
            read_window(dataset, window, self._indexes[bands].tolist(), out)

    def has_mask(self) -> bool:
        """Whether the file has a mask band, a mask file or transparency. What nodata values say is no mask."""
        return self._has_own_mask or bool(self._alpha)

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        """See `Source`."""
        if not self.has_mask():
            return None
        with self._forgetting() as dataset:
            masks = [read_valid(dataset, window)] if self._has_own_mask else []
            masks += [read_window(dataset, window, index) > 0 for index in self._alpha]
        usable: NDArray[np.bool_] = np.logical_and.reduce(masks)
        return usable

    @cached_property
    def _indexes(self) -> NDArray[np.intp]:
        """Of the spectral bands, in the file, counted from 1."""
        return np.array(spectral_indexes(self.dataset()), np.intp)

    @cached_property
    def _alpha(self) -> list[int]:
        return alpha_indexes(self.dataset())

    @cached_property
    def _has_own_mask(self) -> bool:
        flags = self.dataset().mask_flag_enums[int(self._indexes[0]) - 1]
        return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags

    @contextmanager
    def _forgetting(self) -> Iterator[Any]:
        """Close the handle if reading fails: GDAL 3.10 hands out what it kept of broken blocks the next time."""
        dataset = self.dataset()
        try:
            yield dataset
        except SceneError:
            self._local.__dict__.pop("dataset").close()
            raise


class ArraySource:
    """An xarray DataArray with the dimensions band, y and x, in whatever order they are stored.

    Files are read in pieces of whole chunks and contiguous bands, in the order in which they are stored: HDF5 is
    slow at lists of indexes, and xarray at arrays that were transposed. xarray locks files, opens them again in
    other processes, and closes them with the last array.
    """

    def __init__(
        self, array: xr.DataArray, *, name: str | None = None, same: tuple[float, float] | None = None
    ) -> None:
        """Take an array.

        Args:
            array: lazy or not; it is never computed as a whole.
            name: of its file, for errors.
            same: a stored value, and what is given in its place: some files have two fill values.
        """
        self._stored = array.variable
        self._axes = [array.dims.index(dimension) for dimension in ("band", "y", "x")]
        self._chunks = _chunks(array)
        self._name, self._same = name or str(array.name or "array"), same

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
        return _LEAST_CACHE

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
            for first, end in _pieces(low, high, bands_step):
                chosen = slice(*np.searchsorted(ascending, (first, end)))
                for top, bottom in _pieces(window.row, window.row + window.height, rows_step):
                    piece = self._piece(slice(first, end), slice(top, bottom), window.slices[1])
                    part = out[:, top - window.row : bottom - window.row]
                    for into, of in _runs(order[chosen], ascending[chosen] - first):
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
        except (OSError, RuntimeError, KeyError) as error:  # KeyError: h5py, of damaged metadata
            where = f"bands {bands.start + 1} to {bands.stop}, rows {rows.start + 1} to {rows.stop}"
            raise SceneError(f"{self._name} cannot be read at {where}: {error}") from error
        if self._same is not None:
            values = np.where(values == self._same[0], values.dtype.type(self._same[1]), values)
        return np.asarray(values.transpose(self._axes))

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


def _pieces(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut a range at the multiples of `step`."""
    return pairwise([start, *range((start // step + 1) * step, stop, step), stop])


def _runs(into: NDArray[np.intp], of: NDArray[np.intp]) -> Iterator[tuple[slice, slice]]:
    """Pairs of slices that select the same as the pairs of indexes, which are many more."""
    cuts = np.flatnonzero((np.diff(into) != 1) | (np.diff(of) != 1)) + 1
    for here, there in zip(np.split(into, cuts), np.split(of, cuts), strict=True):
        if len(here):
            yield slice(here[0], here[-1] + 1), slice(there[0], there[-1] + 1)


class ChosenBands:
    """Some bands of another source, in an order of their own."""

    def __init__(self, whole: Source, indexes: NDArray[np.intp]) -> None:
        """Choose: `indexes` are those of the bands in `whole`, from 0, none twice."""
        self.whole = whole
        self._indexes = indexes

    @property
    def blocks(self) -> Blocks:
        """See `Source`."""
        return self.whole.blocks

    @property
    def bands_last(self) -> bool:
        """See `Source`."""
        return self.whole.bands_last

    @property
    def cache_bytes(self) -> int:
        """See `Source`."""
        return self.whole.cache_bytes

    @property
    def decoding_bytes(self) -> int:
        """See `Source`."""
        return self.whole.decoding_bytes

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        """See `Source`."""
        self.whole.read(window, self._indexes[bands], out)

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        """See `Source`."""
        return self.whole.mask(window)


class LazyRaster:
    """Just enough of an array, (band, y, x), for dask to slice: each slice is one read of its window."""

    ndim = 3

    def __init__(self, source: Source, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
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
    """The same for a mask, (1, y, x), by what reads a window (y, x) of it."""

    def __init__(self, read: Callable[[Window], Any], height: int, width: int) -> None:
        self._read_mask, self.shape, self.dtype = read, (1, height, width), np.dtype(np.bool_)

    def _read(self, window: Window, bands: NDArray[np.intp]) -> NDArray[Any]:
        mask = self._read_mask(window)
        return np.ones((len(bands), window.height, window.width), np.bool_) if mask is None else mask[None][bands]


def lazy(raster: LazyRaster, block_shape: tuple[int, int]) -> da.Array:
    """Make a dask array in chunks of whole blocks and all bands."""
    return da.from_array(raster, chunks=(-1, *block_shape), name=False, asarray=False, inline_array=True)


def _decoders() -> int:
    """Threads that decode compressed blocks side by side."""
    return min(_MOST_DECODERS, os.cpu_count() or 1)
