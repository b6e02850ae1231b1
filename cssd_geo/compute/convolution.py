"""3x3 convolutions of rows of pixels, with what follows, by torch."""

import torch
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute.folded import Affine


class Convolution:
    """One without padding, from C features to D filters."""

    def __init__(self, affine: Affine, *, gelu: bool = False, dtype: torch.dtype, device: torch.device) -> None:
        """Prepare.

        Args:
            affine: (D,C,3,3) and (D,).
            gelu: whether results are GELUs.
            dtype: of all values.
            device: where to compute.
        """
        weight, self._bias = (part.to(device, dtype) for part in affine)
        self._gelu, self._weight = gelu, weight.contiguous(memory_format=torch.channels_last)

    def __call__(self, rows: Tensor, out: Tensor) -> None:
        """Write what becomes of rows (r+2,x+2,C) into `out`, (r,x,D)."""
        image = functional.conv2d(rows[None].permute(0, 3, 1, 2), self._weight, self._bias)
        filtered = image.permute(0, 2, 3, 1)[0]
        out.copy_(torch.ops.aten.gelu_(filtered) if self._gelu else filtered)
