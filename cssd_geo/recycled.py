"""Memory for arrays that come one after the other: the next one gets that of one that is gone.

Systems hand out fresh memory page by page, cleared, as it is first written: that is much of the time of reading.
"""

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Empty = Callable[[Sequence[int], np.dtype[Any]], NDArray[Any]]
"""Makes an array of a shape and type, to be written."""


class _Lent:
    """What arrays are made of by numpy, which keeps it as long as any of them is there."""

    def __init__(self, piece: NDArray[np.uint8]) -> None:
        self.__array_interface__ = piece.__array_interface__


class Recycled:
    """Makes arrays of about one size. Safe to use from several threads."""

    def __init__(self) -> None:
        self._idle: list[NDArray[np.uint8]] = []

    def empty(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Make an array, to be written. Its memory is taken again once no view of it is left, nor a tensor."""
        nbytes = math.prod(shape) * dtype.itemsize
        piece = self._piece(nbytes)
        lent = _Lent(piece[:nbytes])
        weakref.finalize(lent, self._idle.append, piece).atexit = False
        return np.asarray(lent).view(dtype).reshape(shape)

    def _piece(self, nbytes: int) -> NDArray[np.uint8]:
        """An idle one, given up where it is too small; else a new one."""
        try:
            piece = self._idle.pop()
        except IndexError:
            piece = np.empty(nbytes, np.uint8)
        return piece if piece.nbytes >= nbytes else np.empty(nbytes, np.uint8)
