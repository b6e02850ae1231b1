"""Weights as the kernels multiply with them: in panels of `LANES` columns.

Shapes: C values of a pixel that are added up, D sums of one; n panels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute import kernels
from cssd_geo.compute.kernels import LANES

_SUMS_OF_WEIGHTS = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
"""Of three weights in a row, as `convolution.h` wants them: Lavin and Gray 2016, doi 10.1109/CVPR.2016.435."""
_TILED_DEPTH = 32
"""Values of a piece of which there is a multiple, zeros at the end: as in `products.h`."""
_PIECES = 3
"""Of bfloat16, whose sum is a float32: as in `kernels.cpp`."""


def of_matrix(weight: Tensor, bias: Tensor, own: int) -> tuple[Tensor, Tensor] | None:
    """What `kernels.project` takes instead of the weight (D+K,C) and bias (D+K,), of which `own`, D, come first.

    None where it cannot multiply these. Where products of bfloat16 cost next to nothing, those of float32 are made
    of them.
    """
    if weight.device.type != "cpu" or not kernels.in_pairs(weight.dtype, weight.shape[1]):
        return None
    panels, start = (
        torch.cat([in_panels(part).flatten(0, 1) for part in each.tensor_split([own])]) for each in (weight, bias)
    )
    panels = panels.view(-1, LANES, weight.shape[1])
    if weight.dtype == torch.float32 and kernels.has("project_pieces_plain", torch.float32):
        panels = _in_pieces(functional.pad(panels, (0, -weight.shape[1] % _TILED_DEPTH)))
    return _in_columns(panels), start.to(torch.promote_types(start.dtype, torch.float32))


def of_convolution(weight: Tensor, kind: torch.dtype) -> Tensor | None:
    """What `kernels.convolve` takes instead of the weight (D,C,3,3) for values of a type; None where it cannot."""
    if weight.device.type != "cpu" or not kernels.multiplies("convolve_plain", kind, depth=weight.shape[1]):
        return None
    matrices = weight.permute(2, 3, 0, 1).flatten(0, 1)  # (9,D,C)
    if kernels.matrices(kind) != len(matrices):
        sums = torch.tensor(_SUMS_OF_WEIGHTS, dtype=torch.float64, device="cpu")
        matrices = torch.einsum("iy,dcyx,jx->ijdc", sums, weight.double(), sums).flatten(0, 1)  # (16,D,C)
    return torch.stack([_in_columns(in_panels(matrix.to(kind))) for matrix in matrices])


def in_panels(rows: Tensor) -> Tensor:
    """Rows (D,...) as panels, the last one filled with zeros: (n,LANES,...)."""
    filled = rows.new_zeros(-(-len(rows) // LANES) * LANES, *rows.shape[1:])
    filled[: len(rows)] = rows
    return filled.view(-1, LANES, *rows.shape[1:])


def _in_columns(panels: Tensor) -> Tensor:
    """Panels (...,LANES,C) as they are multiplied, (...,C,LANES); of bfloat16, in pairs: (...,C/2,LANES,2)."""
    together = 2 if panels.dtype == torch.bfloat16 else 1
    return panels.view(*panels.shape[:-1], panels.shape[-1] // together, together).transpose(-3, -2).contiguous()


def _in_pieces(panels: Tensor) -> Tensor:
    """Panels (n,LANES,C) of float32 as (n,P,LANES,C) of bfloat16 whose sum over P they are."""
    pieces = []
    for _ in range(_PIECES):
        pieces.append(panels.bfloat16())
        panels = panels - pieces[-1].float()
    return torch.stack(pieces, dim=1)
