"""Weights as the compiled loops multiply with them: in panels of `LANES` columns.

Shapes: C values of a pixel that are added up, D sums of one; n panels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute import kernels

LANES = 16
"""Columns of a panel: as in `numbers.h`."""
_SUMS_OF_WEIGHTS = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
"""Of three weights in a row, as `convolution.h` wants them: Lavin and Gray 2016, doi 10.1109/CVPR.2016.435."""
_TILED_DEPTH = 32
"""Values of a piece of which there is a multiple, zeros at the end: as in `products.h`."""


def in_pairs(kind: torch.dtype, depth: int) -> bool:
    """Whether so many values can be multiplied: of bfloat16 processors multiply two at a time."""
    return kind != torch.bfloat16 or depth % 2 == 0


def of_matrix(weight: Tensor, own: int) -> Tensor:
    """A weight (D+K,C), of which `own`, D, come first.

    Where products of bfloat16 cost next to nothing, those of float32 are made of them: then it is in pieces.
    """
    panels = torch.cat([in_panels(part).flatten(0, 1) for part in weight.tensor_split([own])])
    panels = panels.view(-1, LANES, weight.shape[1])
    pieces = kernels.pieces(weight.dtype)
    if pieces > 1:
        panels = _in_pieces(functional.pad(panels, (0, -weight.shape[1] % _TILED_DEPTH)), pieces)
    return _in_columns(panels)


def of_convolution(weight: Tensor, kind: torch.dtype) -> Tensor:
    """A weight (D,C,3,3), for values of a type: its nine matrices, or sums of them, as in `convolution.h`."""
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


def _in_pieces(panels: Tensor, count: int) -> Tensor:
    """Panels (n,LANES,C) of float32 as (n,P,LANES,C) of bfloat16 whose sum over P they are."""
    pieces = []
    for _ in range(count):
        pieces.append(panels.bfloat16())
        panels = panels - pieces[-1].float()
    return torch.stack(pieces, dim=1)
