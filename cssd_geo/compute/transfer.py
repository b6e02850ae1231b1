"""Tiles come to the device that computes. On a GPU: through pinned memory, while another tile is computed.

There all tiles get one shape, what is added is invalid, so that memory is taken once and kernels are chosen once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Loaded(NamedTuple):
    """A tile on the device, its halo included."""

    stored: Tensor
    """(B, y, x) stored values; y and x may be larger than the tile."""
    valid: Tensor
    """(y, x), True means usable; False beyond the tile."""
    height: int
    """Rows of the tile."""
    width: int
    """Columns of the tile."""


def load(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    device: torch.device,
    shape: tuple[int, int] | None = None,
) -> Loaded:
    """Bring a tile to a device.

    Args:
        values: (B, h, v) stored values.
        valid: (h, v).
        device: where to. On a CPU nothing moves, unless there is a shape.
        shape: (y, x) that the tile is extended to, below and at the right; None: its own.
    """
    native = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    parts, (height, width) = (torch.from_numpy(native), torch.from_numpy(valid)), valid.shape
    on_gpu = device.type == "cuda"
    if on_gpu or shape is not None:
        with _copying(device):
            staged = [_extended(part, shape or (height, width), pinned=on_gpu) for part in parts]
            parts = (staged[0].to(device, non_blocking=True), staged[1].to(device, non_blocking=True))
    return Loaded(*parts, height, width)


def _extended(tensor: Tensor, shape: tuple[int, int], *, pinned: bool) -> Tensor:
    """Copy (., h, v) to (., y, x), in the same order in memory: zero, or False, beyond."""
    height, width = tensor.shape[-2:]
    bands_last = tensor.dim() > len(shape) and tensor.stride(0) == 1
    sizes = (*shape, len(tensor)) if bands_last else (*tensor.shape[:-2], *shape)
    room = torch.empty(sizes, dtype=tensor.dtype, pin_memory=pinned)
    room = room.permute(2, 0, 1) if bands_last else room
    room[..., :height, :width] = tensor
    room[..., height:, :].zero_()
    room[..., :height, width:].zero_()
    return room


@contextmanager
def _copying(device: torch.device) -> Iterator[None]:
    """Let copies to a GPU run beside what it computes, and wait for them."""
    if device.type != "cuda":
        yield
        return
    stream = _stream(device)  # pragma: no cover - needs a GPU
    with torch.cuda.stream(stream):  # pragma: no cover
        yield
    stream.synchronize()  # pragma: no cover


@cache
def _stream(device: torch.device) -> Any:  # pragma: no cover - needs a GPU
    """One for all copies: memory that is freed goes back to the stream that it was taken on."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
