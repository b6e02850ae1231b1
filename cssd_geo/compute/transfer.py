"""Tiles come to the device that computes. On a GPU: through pinned memory, while another tile is computed.

There all tiles get one shape, what is added is invalid, so that memory is taken once and kernels are chosen once.
A tile for which the GPU has no memory stays where it is, and comes there piece by piece when it is computed.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A tile on the device, its halo included; or on the CPU, where the device's memory is short."""

    stored: Tensor
    """(B, y, x) stored values; y and x may be larger than the tile."""
    valid: Tensor
    """(y, x), True means usable; False beyond the tile."""
    height: int
    """Rows of the tile."""
    width: int
    """Columns of the tile."""
    at: tuple[int, int] = (0, 0)
    """Row and column of its first pixel in the scene."""


def load(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    device: torch.device,
    shape: tuple[int, int] | None = None,
    at: tuple[int, int] = (0, 0),
) -> Loaded:
    """Bring a tile to a device.

    Args:
        values: (B, h, v) stored values.
        valid: (h, v).
        device: where to. On a CPU nothing moves, unless there is a shape.
        shape: (y, x) that the tile is extended to, below and at the right; None: its own.
        at: row and column of its first pixel in the scene.
    """
    native = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
    height, width = valid.shape
    here = Loaded(torch.from_numpy(native), torch.from_numpy(valid), height, width, at)
    if device.type != "cuda" and shape is None:
        return here
    try:
        return _copied(here, device, shape or valid.shape)
    except torch.OutOfMemoryError:
        _say_that_memory_is_short(device)
        return here


def _copied(tile: Loaded, device: torch.device, shape: tuple[int, int]) -> Loaded:
    with _copying(device):
        staged = (_extended(part, shape, pinned=device.type == "cuda") for part in tile[:2])
        stored, valid = (part.to(device, non_blocking=True) for part in staged)
    return tile._replace(stored=stored, valid=valid)


@cache
def _say_that_memory_is_short(device: torch.device) -> None:
    """Say so once, not for every tile."""
    _log.warning("out of memory on %s: tiles come there piece by piece where needed, which is slower", device)


def _extended(tensor: Tensor, shape: tuple[int, int], *, pinned: bool) -> Tensor:
    """Copy (., h, v) to (., y, x), in the same order in memory: zero, or False, beyond."""
    height, width = tensor.shape[-2:]
    bands_last = tensor.dim() > len(shape) and tensor.stride(0) == 1
    sizes = (*shape, len(tensor)) if bands_last else (*tensor.shape[:-2], *shape)
    room = torch.empty(sizes, dtype=tensor.dtype, pin_memory=pinned, device="cpu")
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
    stream = _stream(device)
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all copies: memory that is freed goes back to the stream that it was taken on."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
