"""Chunks of HDF5 datasets, decoded here: HDF5 lets one thread in at a time, and decodes in that one."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        """Return that of an h5py dataset; None where HDF5 has to decode: not in chunks, or by another filter."""
        if dataset.chunks is None:
            return None
        creation = dataset.id.get_create_plist()
        filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
        if filters not in ([_DEFLATE], [_SHUFFLE, _DEFLATE]):
            return None
        return cls(shape=dataset.chunks, dtype=dataset.dtype, shuffled=_SHUFFLE in filters)

    @property
    def nbytes(self) -> int:
        """Of a chunk's values; at the rim of a dataset chunks are as large as elsewhere."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def decode(self, stored: bytes) -> NDArray[Any]:
        """Return the values of a chunk.

        Raises:
            zlib.error, ValueError: if it is damaged.
        """
        values = zlib.decompress(stored, bufsize=self.nbytes)
        if len(values) != self.nbytes:
            raise ValueError(f"a chunk has {len(values)} bytes, not {self.nbytes}")
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
