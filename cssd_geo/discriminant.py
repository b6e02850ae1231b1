"""The linear discriminant of the bands: what few labels say about spectra, in closed form.

A few labelled pixels in hundreds of bands do not fix the covariance within classes. The pixels around them help:
two neighbours mostly lie in one field, so their difference shows, without any label, how spectra vary within it
(Green et al. 1988, IEEE Trans. Geosci. Remote Sens. 26(1), 65-74, take it as the noise). As a prior it counts as
much as S labelled pixels; these are shrunk towards the identity besides (Ledoit and Wolf 2004, J. Multivar. Anal.
88, 365-411).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

_LEAST_VARIANCE = 1e-6
"""Of the largest: a covariance is singular where no class varies at all, such as one pixel a class."""
_ALIKE = 0.7
"""Share of the pairs of neighbours, the most alike, that are taken to lie in one field."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Discriminant:
    """Classes as Gaussians of one covariance and one frequency: log-probabilities are linear in the bands.

    logits = weight @ bands + bias, but for what all classes have in common and for a factor that makes the logits
    of the labelled pixels vary by 1; how sharp they should be is left to the calibration.
    """

    weight: Floats
    """(K, S)."""
    bias: Floats
    """(K,)."""
    centre: Floats
    """(S,) mean of the classes' means."""
    whitening: Floats
    """(S, S) symmetric; whitening @ (bands - centre) varies as much in every direction, within classes."""

    @classmethod
    def fit(cls, spectra: NDArray[Any], classes: NDArray[np.int64], differences: NDArray[Any]) -> Self:
        """Find it from labelled spectra.

        Args:
            spectra: (n, S) of labelled pixels.
            classes: (n,) class index of each; each class from 0 has at least one.
            differences: (m, S) between neighbouring pixels, labelled or not; m may be 0.
        """
        bands = spectra.astype(np.float64)
        means = np.stack([bands[classes == k].mean(0) for k in range(int(classes.max()) + 1)])
        centre = means.mean(0)
        whitening = _inverse_root(_covariance(bands - means[classes], differences.astype(np.float64)))
        white = (means - centre) @ whitening  # (K,S)
        weight, bias = white @ whitening, -0.5 * (white**2).sum(1)
        bias -= bias.mean()
        spread = max(np.std((bands - centre) @ weight.T + bias), 1e-12)
        return cls(
            weight=weight / spread, bias=(bias - weight @ centre) / spread, centre=centre, whitening=whitening
        )


def _covariance(residuals: Floats, differences: Floats) -> Floats:
    """Covariance within classes, (S, S), from (n, S) spectra less their class's mean and (m, S) differences."""
    labelled: Floats = ledoit_wolf(residuals, assume_centered=True)[0]
    if len(differences) <= 1:
        return labelled
    size = (differences**2).sum(1)
    alike = differences[size <= np.quantile(size, _ALIKE)]
    neighbours = alike.T @ alike / (2 * len(alike))
    inverse_root = _inverse_root(neighbours)
    neighbours *= np.mean((residuals @ inverse_root) ** 2)  # as likely as can be for the labelled ones
    n, s = residuals.shape
    covariance: Floats = (n * labelled + s * neighbours) / (n + s)
    return covariance


def _inverse_root(covariance: Floats) -> Floats:
    variances, axes = np.linalg.eigh(covariance)
    scales = 1 / np.sqrt(np.maximum(variances, _LEAST_VARIANCE * max(variances[-1], 1e-12)))
    root: Floats = (axes * scales) @ axes.T
    return root
