"""Products of pixels with a matrix, one for all or one for each group, as one thread computes them fastest.

Where the kernels are compiled they multiply float32, faster than torch, and go on with the products while these
are in the processor's registers. Else products are torch's. On x86 it gives those of matrices to MKL, which
takes two to three times as long on processors of AMD as oneDNN, to which convolutions go. On a single thread 1x1
convolutions go there only if they are dilated, which changes nothing with a single tap. On a GPU products are
torch's own, and on ARM too, where oneDNN may have nothing but its slow reference for such convolutions in
bfloat16.
"""

import platform

import torch
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute import kernels
from cssd_geo.compute.kernels import Then

_CONVOLVES = platform.machine() in {"x86_64", "AMD64"} and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def project_into(
    out: Tensor, rows: Tensor, weight: Tensor, bias: Tensor, *, then: Then = "plain", rest: Tensor | None = None
) -> None:
    """Multiply every pixel, weight @ pixel + bias, and go on with the products.

    Args:
        out: (r,x,M), where they go.
        rows: (r,x,C).
        weight: (M+N,C).
        bias: (M+N,).
        then: what is to become of them; for a gate, M is C.
        rest: (r,x,N), where the last of them go as they are.
    """
    if rest is None:
        rest = rows.new_empty(*rows.shape[:2], 0, dtype=torch.promote_types(rows.dtype, torch.float32))
    if kernels.project(rows, weight, bias, out, rest=rest, then=then):
        return
    products, last = project(rows, weight, bias).tensor_split([out.shape[2]], dim=2)
    rest.copy_(last)
    if then == "gelu":
        activate_into(out, products)
    elif then == "plain":
        out.copy_(products)
    elif not kernels.gate(rows, products, out):
        torch.mul(rows, products.sigmoid_(), out=out)


def activate_into(out: Tensor, values: Tensor) -> None:
    """Write the GELU of values, (r,x,C), which may be written over, into `out`."""
    if not kernels.gelu(values, out):
        out.copy_(torch.ops.aten.gelu_(values))


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
