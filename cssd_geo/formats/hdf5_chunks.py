"""Chunks of HDF5 datasets, decoded here: HDF5 lets one thread in at a time, and decodes in that one."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cssd_geo.scenes.sources import WORTH_A_THREAD

_SHUFFLE, _DEFLATE = 2, 1
"""HDF5's numbers of the filters that are known here."""


@dataclass(frozen=True, kw_only=True)
class ChunkDecoder:
    """What turns a chunk as it is stored into values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    shuffled: bool
    """Whether the first bytes of all values come first, then the second ones, and so on."""

    @classmethod
    def of(cls, dataset: Any) -> "ChunkDecoder | None":
        """Return that of an h5py dataset; None where HDF5 has to decode, or where chunks are small."""
        as_stored = dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype))  # not 12 of 16 bits
        if dataset.chunks is None or not as_stored:
            return None
        creation = dataset.id.get_create_plist()
        filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
        if filters not in ([_DEFLATE], [_SHUFFLE, _DEFLATE]):
            return None
        found = cls(shape=dataset.chunks, dtype=dataset.dtype, shuffled=_SHUFFLE in filters)
        return found if found.nbytes >= WORTH_A_THREAD else None

    @property
    def nbytes(self) -> int:
        """Bytes of a chunk's values; at the rim of a dataset chunks are as large as elsewhere."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def decode(self, stored: bytes) -> NDArray[Any]:
        """Return the values of a chunk.

        Raises:
            zlib.error, ValueError: if it is damaged.
        """
        values = zlib.decompress(stored, bufsize=self.nbytes)
        if self.shuffled:
            planes = np.frombuffer(values, np.uint8).reshape(self.dtype.itemsize, -1)
            return _interleaved(planes).view(self.dtype).reshape(self.shape)
        return np.frombuffer(values, self.dtype).reshape(self.shape)


def _interleaved(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The transpose (n, bytes), plane by plane: numpy takes twice as long to turn all of them at once."""
    values = np.empty(planes.shape[::-1], np.uint8)
    for place, plane in enumerate(planes):
        values[:, place] = plane
    return values


def decodes(path: Path, name: str, shape: tuple[int, ...]) -> bool:
    """Whether a variable of NetCDF is a dataset of this name and shape, and `Hdf5Source` can decode its chunks.

    Where a part of a variable was never written its dataset is smaller; where it is named like a dimension its
    dataset has another name.
    """
    with h5py.File(path) as file:
        found = file.get(name)
        return isinstance(found, h5py.Dataset) and found.shape == shape and ChunkDecoder.of(found) is not None
