"""HDF5 files as scenes: windows of one or several datasets, in any order of axes, read from any thread."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.budget import Blocks
from cssd_geo.errors import SceneError
from cssd_geo.files.hdf5_links import UNREADABLE
from cssd_geo.files.locations import absolute
from cssd_geo.formats.hdf5_files import dataset_of, open_hdf5, words_of
from cssd_geo.scenes.sources import LEAST_CACHE
from cssd_geo.tiles import Window, cuts

_PIECE_BYTES = 1 << 25
"""What is read at a time, of which the bands that are asked for are taken."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A dataset that holds some bands of a scene, in file order."""

    dataset: str
    axes: str
    """Its axes as letters, b, y and x: "yxb"."""
    bands: tuple[int, ...]
    """Indexes from 0 in the dataset of the bands that the scene has."""
    flags: str | None = None
    """A dataset of the same shape that says of each value what is wrong with it."""
    bad_flags: int = 0
    """Bits of `flags` that make a value unusable: it is read as nodata."""


class Hdf5Source:
    """Datasets of one file. HDF5 lets one thread in at a time, so that all threads share one handle."""

    def __init__(self, path: str, parts: Sequence[Part], fill: float, swath: str | None = None) -> None:
        """Take parts of a file.

        Args:
            path: the file.
            parts: the scene's bands, part by part.
            fill: what a flagged value is read as.
            swath: a dataset (y, x) that is 0 where nothing was measured.
        """
        self._path, self._parts, self._fill, self._swath = path, tuple(parts), fill, swath
        self._lock = threading.Lock()
        self._file: Any = None

    def __reduce__(self) -> tuple[type["Hdf5Source"], tuple[Any, ...]]:
        return Hdf5Source, (absolute(self._path), self._parts, self._fill, self._swath)

    def dataset(self, name: str) -> Any:
        """Return an open dataset."""
        with self._lock:
            if self._file is None:
                self._file = open_hdf5(self._path)
        return dataset_of(self._file, name)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, height and width."""
        first = self._parts[0]
        sizes = dict(zip(first.axes, self.dataset(first.dataset).shape, strict=True))
        return sum(len(part.bands) for part in self._parts), sizes["y"], sizes["x"]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of all values, in this machine's byte order."""
        stored: np.dtype[Any] = self.dataset(self._parts[0].dataset).dtype
        return stored.newbyteorder("=")

    @property
    def blocks(self) -> Blocks:
        """See `Source`."""
        chunks = self.dataset(self._parts[0].dataset).chunks
        height, width = self._block(self._parts[0])
        return Blocks(height=height, width=width, divisible=chunks is None)

    @property
    def bands_last(self) -> bool:
        """See `Source`."""
        return all(part.axes.endswith("b") for part in self._parts)

    @property
    def cache_bytes(self) -> int:
        """See `Source`: for GDAL, which only writes here; HDF5 has a cache of its own, 1 MiB a dataset."""
        return LEAST_CACHE

    @property
    def decoding_bytes(self) -> int:
        """See `Source`."""
        pixel = max(max(part.bands) + 1 for part in self._parts) * self.dtype.itemsize
        return 2 * max(_PIECE_BYTES, *(int(np.prod(self._block(part))) * pixel for part in self._parts))

    def has_mask(self) -> bool:
        """Whether the file says where nothing was measured."""
        return self._swath is not None

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        """See `Source`."""
        first = 0
        for part in self._parts:
            here = np.flatnonzero((bands >= first) & (bands < first + len(part.bands)))
            if here.size:
                picks = np.array(part.bands)[bands[here] - first]
                for piece in self._pieces(part, window, int(np.ptp(picks)) + 1):
                    rows, cols = piece.relative_to(window).slices
                    out[_as_slice(here), rows, cols] = self._read(part, piece, picks)
            first += len(part.bands)

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        """See `Source`."""
        if self._swath is None:
            return None
        with self._reading(self._swath, window):
            measured: NDArray[np.bool_] = self.dataset(self._swath)[window.slices] != 0
        return measured

    def _read(self, part: Part, window: Window, picks: NDArray[np.intp]) -> NDArray[Any]:
        """(band, y, x): the bands between the first and the last are read in one go, then some are taken."""
        rows, cols = window.slices
        low = int(picks.min())
        places = {"b": slice(low, int(picks.max()) + 1), "y": rows, "x": cols}
        index = tuple(places[axis] for axis in part.axes)
        taken = tuple(_as_slice(picks - low) if axis == "b" else slice(None) for axis in part.axes)
        with self._reading(part.dataset, window):
            values: NDArray[Any] = self.dataset(part.dataset)[index][taken]
        if part.flags is not None:
            with self._reading(part.flags, window):
                flags = self.dataset(part.flags)[index][taken]
            values[flags & part.bad_flags != 0] = self._fill
        return values.transpose([part.axes.index(axis) for axis in "byx"])

    def _block(self, part: Part) -> tuple[int, int]:
        """Height and width of what is stored in one piece: rows, where a dataset is not chunked."""
        dataset = self.dataset(part.dataset)
        sizes = dict(zip(part.axes, dataset.chunks or dataset.shape, strict=True))
        return sizes["y"] if dataset.chunks else 1, sizes["x"]

    def _pieces(self, part: Part, window: Window, bands: int) -> Iterator[Window]:
        """Cut a window along blocks, so that each is decoded once and little lies beside what was asked for."""
        most = max(1, _PIECE_BYTES // (bands * self.dtype.itemsize))
        height, width = self._block(part)
        rows, cols = window.slices
        if height * window.width <= most:
            height, width = most // (height * window.width) * height, cols.stop
        else:
            width *= max(1, most // (height * width))
        for down in cuts(rows, height):
            for across in cuts(cols, width):
                yield Window(
                    row=down.start,
                    col=across.start,
                    height=down.stop - down.start,
                    width=across.stop - across.start,
                )

    @contextmanager
    def _reading(self, name: str, window: Window) -> Iterator[None]:
        try:
            yield
        except SceneError:
            raise
        except UNREADABLE as error:
            raise SceneError(f"{self._path}, {name}, cannot be read at {window}: {words_of(error)}") from error


def _as_slice(indexes: NDArray[np.intp]) -> NDArray[np.intp] | slice:
    """The same indexes as a slice where they follow each other, which numpy need not gather one by one."""
    first = int(indexes[0])
    return slice(first, first + len(indexes)) if (np.diff(indexes) == 1).all() else indexes
