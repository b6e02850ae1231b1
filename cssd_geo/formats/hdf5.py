"""HDF5 files as scenes: windows of one or several datasets, in any order of axes, read from any thread."""

import threading
from collections import deque
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
from cssd_geo.formats.hdf5_cubes import StoredCube
from cssd_geo.formats.hdf5_files import dataset_of, open_hdf5
from cssd_geo.messages import one_line
from cssd_geo.scenes.sources import LEAST_CACHE, Change
from cssd_geo.threads import Threads
from cssd_geo.tiles import Window


@dataclass(frozen=True, kw_only=True)
class Part:
    """A dataset that holds some bands of a scene, in file order."""

    dataset: str
    axes: str
    """Its axes as letters, b, y and x, such as "yxb"; a dot for one of length 1 that means nothing."""
    bands: tuple[int, ...]
    """Indexes from 0 in the dataset of the bands that the scene has."""
    flags: str | None = None
    """A dataset of the same shape that says of each value what is wrong with it."""
    bad_flags: int = 0
    """Bits of `flags` that make a value unusable."""
    fill: float = np.nan
    """What an unusable value is read as."""
    change: Change | None = None
    """What becomes of stored values: some files have two fill values, or a valid range."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """All that is read for it."""
        return (self.dataset,) if self.flags is None else (self.dataset, self.flags)


class Hdf5Source:
    """Datasets of one file, of which all threads share one handle."""

    def __init__(self, path: str, parts: Sequence[Part], swath: str | None = None) -> None:
        """Take parts of a file.

        Args:
            path: the file.
            parts: the scene's bands, part by part.
            swath: a dataset (y, x) that is 0 where nothing was measured.
        """
        self._path, self._parts, self._swath = absolute(path), tuple(parts), swath
        self._lock = threading.Lock()
        self._file: Any = None
        self._cubes: dict[str, StoredCube] = {}

    def __reduce__(self) -> tuple[type["Hdf5Source"], tuple[Any, ...]]:
        return Hdf5Source, (self._path, self._parts, self._swath)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of all values, in this machine's byte order."""
        return self._first.dtype

    @property
    def blocks(self) -> Blocks:
        """See `Source`."""
        _, height, width = self._first.block
        return Blocks(height=height, width=width, divisible=not self._first.in_chunks)

    @property
    def bands_last(self) -> bool:
        """See `Source`."""
        return all(self._cube(part).bands_last for part in self._parts)

    @property
    def cache_bytes(self) -> int:
        """See `Source`: for GDAL, which only writes here; HDF5 has a cache of its own, of some MiB a dataset."""
        return LEAST_CACHE

    @property
    def decoding_bytes(self) -> int:
        """See `Source`."""
        return max(sum(self._stored(part, name).decoding_bytes for name in part.datasets) for part in self._parts)

    def has_mask(self) -> bool:
        """Whether the file says where nothing was measured."""
        return self._swath is not None

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        """See `Source`."""
        first = 0
        for part in self._parts:
            here = np.flatnonzero((bands >= first) & (bands < first + len(part.bands)))
            if here.size:
                self._read(part, window, np.array(part.bands)[bands[here] - first], out, here)
            first += len(part.bands)

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        """See `Source`."""
        if self._swath is None:
            return None
        with self._reading(self._swath, window):
            measured: NDArray[np.bool_] = self._dataset(self._swath)[window.slices] != 0
        return measured

    def _read(
        self, part: Part, window: Window, picks: NDArray[np.intp], out: NDArray[Any], into: NDArray[np.intp]
    ) -> None:
        """Fill the bands `into` of `out` with the bands `picks` of a part's dataset."""

        def put(piece: tuple[slice, Window]) -> None:
            bands, place = piece
            chosen = np.flatnonzero((picks >= bands.start) & (picks < bands.stop))
            rows, cols = place.relative_to(window).slices
            values = self._values(part, bands, place)[_as_slice(picks[chosen] - bands.start)]
            out[_as_slice(into[chosen]), rows, cols] = values

        cube = self._cube(part)
        with Threads(cube.decoders) as threads:
            deque(threads.map(put, cube.pieces(window, picks)), maxlen=0)

    def _values(self, part: Part, bands: slice, window: Window) -> NDArray[Any]:
        """(band, y, x) of a piece, with one value for all that cannot be used."""
        with self._reading(part.dataset, window):
            values = self._cube(part).read(bands, window)
        if part.change is not None:
            values = part.change(values)
        if part.flags is None:
            return values
        with self._reading(part.flags, window):
            flags = self._stored(part, part.flags).read(bands, window)
        return np.where(flags & part.bad_flags, values.dtype.type(part.fill), values)

    @property
    def _first(self) -> StoredCube:
        return self._cube(self._parts[0])

    def _cube(self, part: Part) -> StoredCube:
        return self._stored(part, part.dataset)

    def _stored(self, part: Part, name: str) -> StoredCube:
        """A cube, or its flags; where their chunks differ, HDF5 decodes, in pieces of many of them."""
        if name not in self._cubes:
            chunks = {self._dataset(each).chunks for each in part.datasets}
            self._cubes[name] = StoredCube(self._dataset(name), part.axes, decoding=len(chunks) == 1)
        return self._cubes[name]

    def _dataset(self, name: str) -> Any:
        with self._lock:
            if self._file is None:
                self._file = open_hdf5(self._path)
        return dataset_of(self._file, name)

    @contextmanager
    def _reading(self, name: str, window: Window) -> Iterator[None]:
        try:
            yield
        except SceneError:
            raise
        except UNREADABLE as error:
            raise SceneError(f"{self._path}, {name}, cannot be read at {window}: {one_line(error)}") from error


def _as_slice(indexes: NDArray[np.intp]) -> NDArray[np.intp] | slice:
    """The same indexes as a slice where they follow each other, which numpy need not gather one by one."""
    first = int(indexes[0])
    return slice(first, first + len(indexes)) if (np.diff(indexes) == 1).all() else indexes
