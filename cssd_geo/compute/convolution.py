"""3x3 convolutions of rows of pixels, with what follows: compiled where the kernels multiply, else torch's."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute import kernels, panels
from cssd_geo.compute.kernels import Then


class Convolution:
    """One without padding, from C features to D filters."""

    def __init__(
        self, weight: Tensor, bias: Tensor, *, then: Then = "plain", dtype: torch.dtype, device: torch.device
    ) -> None:
        """Prepare.

        Args:
            weight: (D,C,3,3).
            bias: (D,).
            then: what follows; no gate.
            dtype: of all values.
            device: where to compute.
        """
        weight, bias = (part.detach().to(device, torch.float64, copy=True) for part in (weight, bias))
        self._then = then
        self._weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self._bias = bias.to(dtype)
        self._exact = weight, panels.in_panels(bias).to(torch.promote_types(dtype, torch.float32))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_panels"}  # of this processor

    @cached_property
    def _panels(self) -> Tensor | None:
        """The weight for `kernels.convolve`; None where torch convolves."""
        return panels.of_convolution(self._exact[0], self._bias.dtype)

    @property
    def compiled(self) -> bool:
        """Whether a result is the same to the last bit in whatever part of a scene it is computed."""
        return self._panels is not None

    def __call__(self, rows: Tensor, out: Tensor, at: tuple[int, int]) -> None:
        """Write what becomes of rows (r+2,x+2,C) into `out`, (r,x,D), whose first pixel is `at` row and column."""
        packed, start = self._panels, self._exact[1]
        if packed is not None and kernels.convolve(rows, packed, start, out, at=at, then=self._then):
            return
        image = functional.conv2d(rows[None].permute(0, 3, 1, 2), self._weight, self._bias)
        filtered = image.permute(0, 2, 3, 1)[0]
        out.copy_(torch.ops.aten.gelu_(filtered) if self._then == "gelu" else filtered)
