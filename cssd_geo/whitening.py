"""Spectra in which classes differ and fields do not: the start that makes few labels go far.

Bands of a hyperspectral scene are almost copies of each other, so gradient descent on standardised bands first
learns what varies most: light, soil, the state of a field. In coordinates where the variation within classes is
the same in every direction, the same descent sees what tells classes apart. A linear map of whitened bands is a
linear map of bands, so the network stays what it is: the whitening is folded into it after training.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Whitening:
    """whitened = matrix @ (bands - centre)."""

    matrix: Floats
    """(S, S) symmetric."""
    centre: Floats
    """(S,)."""

    @classmethod
    def within_classes(cls, spectra: NDArray[np.float32], classes: NDArray[np.int64]) -> Self:
        """Whiten the pooled covariance within classes, shrunk as by Ledoit and Wolf (2004, J. Multivar. Anal. 88).

        Args:
            spectra: (n, S) normalised spectra of the training pixels.
            classes: (n,) class index of each; each class from 0 has at least one.
        """
        bands = spectra.astype(np.float64)
        means = np.stack([bands[classes == k].mean(0) for k in range(int(classes.max()) + 1)])
        covariance, _ = ledoit_wolf(bands - means[classes], assume_centered=True)
        variances, axes = np.linalg.eigh(covariance)
        # the shrunk covariance is singular only where no class varies at all, such as one pixel a class
        scales = 1 / np.sqrt(np.maximum(variances, 1e-6 * max(variances[-1], 1e-12)))
        matrix, centre = (axes * scales) @ axes.T, means.mean(0)
        spread = np.std((bands - centre) @ matrix)
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
