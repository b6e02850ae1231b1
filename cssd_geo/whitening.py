"""Spectra in which classes differ and fields do not: the start that makes few labels go far.

Bands of a hyperspectral scene are almost copies of each other, so gradient descent on standardised bands first
learns what varies most: light, soil, the state of a field. In coordinates where the variation within classes is
the same in every direction, the same descent sees what tells classes apart. A linear map of whitened bands is a
linear map of bands, so the network stays what it is: the whitening is folded into it after training.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cssd_geo.discriminant import Discriminant

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Whitening:
    """whitened = matrix @ (bands - centre)."""

    matrix: Floats
    """(S, S) symmetric."""
    centre: Floats
    """(S,)."""

    @classmethod
    def of(cls, discriminant: Discriminant, spectra: NDArray[Any]) -> Self:
        """Whiten as the discriminant does, so that (n, S) labelled spectra have the variance 1 on average."""
        matrix, centre = discriminant.whitening, discriminant.centre
        spread = float(np.std((spectra - centre) @ matrix))
        return cls(matrix=matrix / max(spread, 1e-12), centre=centre)

    def apply(self, pixels: Tensor) -> Tensor:
        """Whiten (P, S) pixels; the first row, which stands for what is not valid, stays zero."""
        white = torch.from_numpy((pixels.double().numpy() - self.centre) @ self.matrix.T).to(pixels.dtype)
        white[0] = 0
        return white

    @torch.no_grad()
    def fold_into(self, linear: nn.Linear) -> None:
        """Make a map of whitened bands one of bands."""
        weight = linear.weight.double().cpu() @ torch.from_numpy(self.matrix)
        bias = linear.bias.double().cpu() - weight @ torch.from_numpy(self.centre)
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
