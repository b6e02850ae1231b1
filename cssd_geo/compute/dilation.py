"""Dilation with a structuring element of weights, and its way back, in parts that stay in the processor's cache.

Shapes: B images, C channels, y x x pixels; channels are last in memory.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from cssd_geo.compute import kernels

_STRIP_VALUES = 1 << 20
"""Values that pass through the dilation at a time: 4 MB in float32, so that nine passes stay in the cache."""
_GPU_STRIP_VALUES = 1 << 25
"""Likewise on a GPU, where each pass is a launch: few of them, and 134 MB a result."""
_BACKWARD_VALUES = 1 << 18
"""Likewise on the way back, where several results are at hand at a time."""


class Dilation(torch.autograd.Function):
    """max over a 3x3 neighbourhood of element * values, (B,C,y,x) -> (B,C,y-2,x-2), channels last in memory.

    Row strip by row strip, so that the nine passes find their values in the cache (6 times faster than nine
    passes over a whole tile). Its own gradient, because torch would keep nine copies of the features for the
    backward pass; here the winners are found again by comparing.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, element: Tensor) -> Tensor:
        """Dilate, and keep what the way back needs."""
        best = dilate(values, element, _empty_dilated(values))
        ctx.save_for_backward(values, element, best)
        return best

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of values and element."""
        values, element, best = ctx.saved_tensors
        to_values = torch.zeros_like(values, memory_format=torch.channels_last)
        to_element = values.new_zeros(len(values), 9, values.shape[1])
        images = [_pixels(each) for each in (values, best, gradients[0], to_values)]
        if not kernels.dilate_back(*images, element=element, to_element=to_element):
            _dilate_back(*images, element=element, to_element=to_element)
        return to_values, to_element.sum((0, 2)).view_as(element)


def _dilate_back(*images: Tensor, element: Tensor, to_element: Tensor) -> None:
    """What `kernels.dilate_back` does."""
    values, best, gradients, to_values = (each.permute(0, 3, 1, 2) for each in images)
    some = max(1, _at_a_time(values, _BACKWARD_VALUES) // values[0].numel())
    parts = zip(
        *(torch.split(every, some) for every in (values, best, gradients, to_values, to_element)), strict=True
    )
    for part, won, gradient, to_part, to_weights in parts:
        for i, weight in enumerate(element.flatten().tolist()):
            near = _tap(part, i)
            share = (near * weight).eq_(won).mul_(gradient)  # what flows back to the winner
            _tap(to_part, i).add_(share, alpha=weight)
            to_weights[:, i] = share.mul_(near).sum((2, 3))


def dilate(values: Tensor, element: Tensor, out: Tensor) -> Tensor:
    """Write the maximum over a 3x3 neighbourhood of element * values into `out`: (B,C,y,x) -> (B,C,y-2,x-2)."""
    pairs = zip(values.permute(0, 2, 3, 1), out.permute(0, 2, 3, 1), strict=True)
    if all(kernels.dilate(image, element, dilated) for image, dilated in pairs):
        return out
    kind = _pass_type(values)
    weights = element.to(kind)
    for rows, part in _row_strips(values):
        strip, wide = out[:, :, rows], part.to(kind)
        best = strip if strip.dtype == kind else torch.empty_like(strip, dtype=kind)
        torch.mul(_tap(wide, 0), weights[0, 0], out=best)
        candidate = torch.empty_like(best)
        for i in range(1, 9):
            torch.mul(_tap(wide, i), weights[i // 3, i % 3], out=candidate)
            torch.maximum(best, candidate, out=best)
        if best is not strip:
            strip.copy_(best)
    return out


def _pass_type(values: Tensor) -> torch.dtype:
    """In which type the passes compute: float32 at least on a CPU, where each would convert there and back.

    The result is the same: the largest of the rounded products is the largest product, rounded.
    """
    return torch.promote_types(values.dtype, torch.float32) if values.device.type == "cpu" else values.dtype


def _tap(values: Tensor, i: int) -> Tensor:
    """The i-th of nine views, shifted by one row and column each, row by row."""
    y, x = divmod(i, 3)
    return values[:, :, y : values.shape[2] - 2 + y, x : values.shape[3] - 2 + x]


def _pixels(images: Tensor) -> Tensor:
    """(B,C,y,x) as (B,y,x,C), side by side in memory; without a copy where channels are last there."""
    return images.permute(0, 2, 3, 1).contiguous()


def _row_strips(values: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the result of a 3x3 operation on (B,C,y,x), and the rows of `values` that they need."""
    batch, channels, height, width = values.shape
    step = max(1, _at_a_time(values, _STRIP_VALUES) // (batch * channels * width))
    for top in range(0, height - 2, step):
        bottom = min(top + step, height - 2)
        yield slice(top, bottom), values[:, :, top : bottom + 2]


def _at_a_time(values: Tensor, on_a_cpu: int) -> int:
    """How many values pass at a time on the device where these are."""
    return on_a_cpu if values.device.type == "cpu" else _GPU_STRIP_VALUES


def _empty_dilated(values: Tensor) -> Tensor:
    """Room for what (B,C,y,x) is dilated to, channels last in memory."""
    batch, channels, height, width = values.shape
    return values.new_empty(batch, height - 2, width - 2, channels).permute(0, 3, 1, 2)
