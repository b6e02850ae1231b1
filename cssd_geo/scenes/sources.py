"""Where pixels come from, window by window and from any thread; and raster files as such a source."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Interleaving, MaskFlags

from cssd_geo.budget import Blocks
from cssd_geo.errors import SceneError
from cssd_geo.files.locations import absolute
from cssd_geo.files.rasters import open_raster, read_valid, read_window
from cssd_geo.headers.raster_facts import alpha_indexes, spectral_indexes
from cssd_geo.machine import processors
from cssd_geo.tiles import Window

_MOST_DECODERS = 8
"""Threads: as many blocks as a tile has across."""
_DECODING_BYTES = 160_000_000
"""Bytes of blocks that are decoded side by side; a single block may be larger."""
WORTH_A_THREAD = 64_000
"""Bytes that are decoded at once: GDAL takes 0.1 ms to hand them to a thread, as long as to inflate 30 kB."""
_OPENING = {"CPL_VSIL_GZIP_WRITE_PROPERTIES": "NO"}
"""Without this GDAL leaves a file beside each compressed raw file that it opens."""
_RUN_BYTES = 8192
"""Bytes of a line of a raw file that are read at once: systems read pages of 4096 bytes, so less is wasteful."""
LEAST_CACHE = 64_000_000
"""Bytes of the cache, however small the blocks."""
_CACHED_BLOCKS = 2
"""Blocks, over all bands, that GDAL keeps: it decodes the one and hands out bands of the other."""

Change = Callable[[NDArray[Any]], NDArray[Any]]
"""A function applied to stored values, e.g. to replace several nodata values by one."""


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

    def has_mask(self) -> bool:
        """Whether `mask` ever returns one."""


class RasterSource:
    """A raster file, with open handles for each thread: GDAL's must not be shared between threads.

    Whole blocks of a GeoTIFF go straight from the decoder to where they are wanted. Else GDAL keeps each one, band
    by band, for whoever asks for another part of it: that takes longer than most decoding.
    """

    def __init__(self, path: str, follow_links: bool = False) -> None:  # noqa: FBT001, FBT002 - for `__reduce__`
        self._path, self._follow_links = absolute(path), follow_links
        self._local = threading.local()

    def __reduce__(self) -> tuple[type["RasterSource"], tuple[str, bool]]:
        return RasterSource, (self._path, self._follow_links)

    def dataset(self) -> Any:
        """Return this thread's handle."""
        return self._handle(direct=False)

    def _handle(self, *, direct: bool) -> Any:
        """This thread's handle; one that is direct keeps no blocks of GeoTIFFs."""
        handles = self._handles()
        if direct not in handles:
            handles[direct] = self._open(min(self._decoders, processors()), direct=direct)
        return handles[direct]

    def _handles(self) -> dict[bool, Any]:
        """This thread's handles, the direct one under True.

        A process that was forked off has its own: with those of its parent it would share the place in the file
        at which each of them reads on.
        """
        if not hasattr(self._local, "handles"):
            self._local.handles = {}
        handles: dict[bool, Any] = self._local.handles.setdefault(os.getpid(), {})
        return handles

    def _open(self, threads: int, *, direct: bool = False) -> Any:
        """Open the file; GDAL decodes its blocks in so many threads."""
        with rasterio.Env(GDAL_NUM_THREADS=str(threads), GTIFF_DIRECT_IO=direct, **_OPENING):
            return open_raster(self._path, follow_links=self._follow_links)

    @cached_property
    def _decoders(self) -> int:
        """Threads that decode blocks side by side."""
        with self._open(1) as dataset:
            return decoders(_decoded_bytes(dataset))

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
        """See `Source`. If one thread decodes, GDAL copies faster band by band; otherwise in the stored order."""
        as_stored = self.blocks.divisible or self._in_plain_tiles or self._decoders > 1
        return self._pixels_together() and as_stored

    @property
    def _in_plain_tiles(self) -> bool:
        """Whether it is a GeoTIFF in tiles without compression."""
        dataset = self.dataset()
        tiled = self.blocks.width < dataset.width
        return bool(dataset.driver == "GTiff" and dataset.compression is None and tiled)

    def _pixels_together(self) -> bool:
        return self.dataset().interleaving is Interleaving.pixel

    @property
    def cache_bytes(self) -> int:
        """See `Source`."""
        return max(LEAST_CACHE, _CACHED_BLOCKS * _block_bytes(self.dataset()))

    @property
    def decoding_bytes(self) -> int:
        """See `Source`."""
        return 0 if self.dataset().compression is None else self._decoders * _decoded_bytes(self.dataset())

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        """See `Source`."""
        whole = self.blocks.divisible  # else GDAL reads whole rows of a raw file
        with rasterio.Env(GDAL_ONE_BIG_READ=whole), self.reading(direct=self._is_direct(window)) as dataset:
            read_window(dataset, window, self._indexes[bands].tolist(), out)

    def _is_direct(self, window: Window) -> bool:
        """Whether GDAL need not keep the blocks of a window, as nothing of them is left for another read.

        Not those of strips without compression: reading them so, GDAL 3.10 takes zeros where a file ends too soon.
        """
        dataset, blocks = self.dataset(), self.blocks
        compressed = dataset.driver == "GTiff" and dataset.compression is not None
        if not (compressed or self._in_plain_tiles):
            return False
        rows = (window.row, window.row + window.height, blocks.height, dataset.height)
        cols = (window.col, window.col + window.width, blocks.width, dataset.width)
        return all(
            start % step == 0 and (stop % step == 0 or stop == end) for start, stop, step, end in (rows, cols)
        )

    def has_mask(self) -> bool:
        """Whether the file has a mask band, a mask file or transparency. What nodata values say is no mask."""
        return self._has_own_mask or bool(self._alpha)

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        """See `Source`."""
        if not self.has_mask():
            return None
        with self.reading() as dataset:
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
    def reading(self, *, direct: bool = False) -> Iterator[Any]:
        """Lend this thread's handle; close it if reading fails, as GDAL 3.10 hands out broken blocks next time."""
        dataset = self._handle(direct=direct)
        try:
            yield dataset
        except SceneError:
            self._handles().pop(direct).close()
            raise


def decoders(block: int) -> int:
    """Threads that decode blocks of so many bytes: as processors and memory allow, and as is worth their while."""
    if block < WORTH_A_THREAD:
        return 1
    return max(1, min(_DECODING_BYTES // block, _MOST_DECODERS, processors()))


def _decoded_bytes(dataset: Any) -> int:
    """Bytes of what is decoded at once: a block over all bands, or of one band where each has its own."""
    apart = dataset.interleaving is Interleaving.band
    return _block_bytes(dataset) // (dataset.count if apart else 1)


def _block_bytes(dataset: Any) -> int:
    """Bytes of a block over all bands; 8 a value where numpy lacks the type, which is refused later."""
    (height, width), kind = dataset.block_shapes[0], dataset.dtypes[0]
    return int(height * width * dataset.count * (np.dtype(kind).itemsize if kind in np.sctypeDict else 8))
