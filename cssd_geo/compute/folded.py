"""A trained network, rewritten for maps: what the ways to compute it, `flow` and `strips`, are made of."""

from dataclasses import dataclass
from typing import NamedTuple, Self

from torch import Tensor

from cssd_geo.tiles import Halo

MARGIN = 3
"""Pixels beyond the window, on each side, that its votes depend on: a dilation and two convolutions of 3 x 3."""


class Affine(NamedTuple):
    """What is multiplied with, and what is added."""

    weight: Tensor
    bias: Tensor

    def copied(self) -> Self:
        """The same in memory of its own, in float64 on the CPU."""
        return type(self)(*(part.detach().cpu().double().clone() for part in self))


@dataclass(frozen=True, kw_only=True)
class Folded:
    """All tensors are float64 and on the CPU. S bands, C spectral features, D spatial features, K classes."""

    spectral: Affine
    """(C,S), and K more rows where the spectral head is a map of the bands, too."""
    teacher: Affine | None
    """(K,C) where it is one of the features."""
    attention: Affine
    """(C,C)."""
    element: Tensor
    """(3,3), what neighbours are weighted with."""
    spatial: Affine
    """(D,C,3,3)."""
    classifier: Affine
    """(K,D,3,3)."""
    activation: bool
    """Whether spectral and spatial features are GELUs."""
    window: int
    halo: Halo
    sharpness: float | None
    """Of the pooling weights; None: they are the cosines."""

    @property
    def bands(self) -> int:
        """S."""
        return self.spectral.weight.shape[1]

    @property
    def features(self) -> int:
        """C."""
        return len(self.attention.bias)

    @property
    def filters(self) -> int:
        """D."""
        return len(self.spatial.bias)

    @property
    def classes(self) -> int:
        """K."""
        return len(self.classifier.bias)
