"""Spectra in which classes differ and fields do not: the start that makes few labels go far.

Bands of a hyperspectral scene are almost copies of each other, so gradient descent on standardised bands first
learns what varies most: light, soil, the state of a field. In coordinates where the variation within classes is
the same in every direction, the same descent sees what tells classes apart. A linear map of whitened bands is a
linear map of bands, so the network stays what it is: the whitening is folded into it after training.

That pays where neighbouring pixels tell how fields of a class differ. Where labelled pixels of a class differ by
much more, fields differ in other ways than their pixels do, and whitened bands show the noise of both; in plain
bands the published stages do better than ours then (`NetworkConfig.for_plain_bands`).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cssd_geo.learning.discriminant import MOST_VARIATION, Discriminant

_ROWS = 4096
"""Pixels that are whitened at a time: in float64 they take several times the memory of all of them."""

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
        white = torch.zeros_like(pixels)
        for start in range(1, len(pixels), _ROWS):
            rows = slice(start, start + _ROWS)
            white[rows] = torch.from_numpy((pixels[rows].double().numpy() - self.centre) @ self.matrix.T)
        return white

    @torch.no_grad()
    def fold_into(self, linear: nn.Linear) -> None:
        """Make a map of whitened bands one of bands."""
        weight = linear.weight.double() @ torch.from_numpy(self.matrix)
        bias = linear.bias.double() - weight @ torch.from_numpy(self.centre)
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def choose_whitening(
    choice: str, discriminant: Discriminant, spectra: NDArray[Any]
) -> tuple[Whitening | None, str]:
    """Whiten always, never, or where it pays (auto); also say in a sentence what was done and why.

    Args:
        choice: of `WHITENING`.
        discriminant: of the labelled spectra.
        spectra: (n, S) the same spectra.
    """
    variation = discriminant.variation
    pays = variation <= MOST_VARIATION  # False where it is NaN
    whiten = choice == "always" or (choice == "auto" and pays)
    done = f"Bands were {'' if whiten else 'not '}whitened{'' if choice == 'auto' else ' (as asked)'}"
    stages = "" if whiten else ", the network's stages are as published"
    why = (
        "nothing tells how pixels of a class differ, as no class has two labelled pixels with neighbours"
        if np.isnan(variation)
        else f"labelled pixels of a class vary {variation:.2f} times as much as neighbouring pixels do, and "
        f"whitening pays up to {MOST_VARIATION:g}"
    )
    told = f"{done}{stages}: {why}." if choice == "auto" else f"{done}{stages}. {why[0].upper()}{why[1:]}."
    if choice == "auto" and variation > MOST_VARIATION:
        told += " It does so too where every field that is mapped has labels: then choose --whitening always."
    return Whitening.of(discriminant, spectra) if whiten else None, told
