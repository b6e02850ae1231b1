"""Products of pixels with a matrix, one for all or one for each group, as a thread of torch computes them fastest.

On x86 torch gives products of matrices to MKL, which takes two to three times as long on processors of AMD as
oneDNN, to which convolutions go. On a single thread 1x1 convolutions go there only if they are dilated, which
changes nothing with a single tap. On a GPU products are torch's own, and on ARM too, where oneDNN may have nothing
but its slow reference for such convolutions in bfloat16.
"""

import platform
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute.folded import Affine

Then = Literal["plain", "gelu", "gate"]
"""What becomes of products with pixels: nothing more, their GELU, or the pixels times their sigmoid."""
_CONVOLVES = platform.machine() in {"x86_64", "AMD64"} and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Projection:
    """A product of every pixel, weight @ pixel + bias, and what follows."""

    def __init__(
        self, affine: Affine, *, then: Then = "plain", rest: int = 0, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Prepare.

        Args:
            affine: (M+N,C) and (M+N,).
            then: what becomes of the first M products of a pixel; for a gate, M is C.
            rest: N, how many of them stay as they are.
            dtype: of the pixels.
            device: where to compute.
        """
        self._then, self._own = then, len(affine.bias) - rest
        self.weight, self._bias = (part.to(device, dtype).contiguous() for part in affine)

    def __call__(self, rows: Tensor, out: Tensor, rest: Tensor | None = None) -> None:
        """Write what becomes of rows (r,x,C) into `out`, (r,x,M), and the last products into `rest`, (r,x,N)."""
        products, last = project(rows, self.weight, self._bias).tensor_split([self._own], dim=2)
        if rest is not None:
            rest.copy_(last)
        if self._then == "gate":
            torch.mul(rows, products.sigmoid_(), out=out)
        else:
            out.copy_(torch.ops.aten.gelu_(products) if self._then == "gelu" else products)


def project(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Multiply every pixel by torch, weight @ pixel + bias: (r,x,C), (M,C), (M,) -> (r,x,M)."""
    if not _on_onednn(rows):
        return functional.linear(rows, weight, bias)
    return _convolve(rows, weight, bias, groups=1)


def project_groups(rows: Tensor, weight: Tensor) -> Tensor:
    """Multiply every pixel of every group: (r,x,J,C), (J,M,C) -> (r,x,J,M)."""
    if not _on_onednn(rows):
        pixels = rows.flatten(0, 1).transpose(0, 1)  # (J,r*x,C)
        return (pixels @ weight.transpose(1, 2)).transpose(0, 1).reshape(*rows.shape[:3], -1)
    products = _convolve(rows.flatten(2), weight.flatten(0, 1), None, groups=len(weight))
    return products.view(*rows.shape[:3], -1)


def _on_onednn(rows: Tensor) -> bool:
    return _CONVOLVES and rows.device.type == "cpu" and rows.dtype != torch.float64


def _convolve(rows: Tensor, weight: Tensor, bias: Tensor | None, *, groups: int) -> Tensor:
    image, taps = rows[None].permute(0, 3, 1, 2), weight[:, :, None, None]
    return functional.conv2d(image, taps, bias, dilation=2, groups=groups).permute(0, 2, 3, 1)[0]


def forbid_tf32(device: torch.device, dtype: torch.dtype) -> None:
    """Let float32 have all of its 23 bits in convolutions on a GPU: unless told, torch takes 10."""
    if device.type != "cpu" and dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False  # global, so never set back: other threads may convolve
