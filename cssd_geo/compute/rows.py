"""Rows of pixels that flow through the stages of a network strip by strip, in memory that is used again and again.

Fresh memory is handed out page by page as it is first written, which takes longer than much of what is computed.
"""

import math
from collections.abc import Sequence

from torch import Tensor


class Buffer:
    """Memory for one result at a time."""

    def __init__(self) -> None:
        self._values: Tensor | None = None

    def take(self, like: Tensor, shape: Sequence[int]) -> Tensor:
        """A tensor of the type and on the device of `like`, to be written; what was taken before is lost."""
        size = math.prod(shape)
        if self._values is None or len(self._values) < size:
            self._values = None  # before the new one is there
            self._values = like.new_empty(size)
        return self._values[:size].view(*shape)


class Rows:
    """The input of a stage: fresh rows below the last ones of the strip before."""

    def __init__(self, keep: int) -> None:
        """Prepare; so many rows of a strip are needed again by the next one."""
        self._keep = keep
        self._rows: Tensor | None = None
        self._buffers = Buffer(), Buffer()

    @property
    def empty(self) -> bool:
        """Whether no strip has come yet."""
        return self._rows is None

    def clear(self) -> None:
        """Begin anew, in the same memory."""
        self._rows = None

    def extend(self, like: Tensor, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Make room for fresh rows: returns all rows and, as a part of them, the fresh ones, to be written."""
        before = self._rows
        kept = 0 if before is None else min(self._keep, len(before))
        room, other = self._buffers
        rows = room.take(like, (kept + shape[0], *shape[1:]))
        if before is not None:
            rows[:kept] = before[len(before) - kept :]
        self._rows, self._buffers = rows, (other, room)
        return rows, rows[kept:]
