"""The linear discriminant of the bands: what few labels say about spectra, in closed form.

A few labelled pixels in hundreds of bands do not fix the covariance within classes. The pixels around them help:
two neighbours mostly lie in one field, so their difference shows, without any label, how spectra vary within it
(Green et al. 1988, IEEE Trans. Geosci. Remote Sens. 26(1), 65-74, take it as the noise). As a prior it counts as
much as S labelled pixels; these are shrunk towards the identity besides (Ledoit and Wolf 2004, J. Multivar. Anal.
88, 365-411).
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

_LEAST_VARIANCE = 1e-6
"""As a share of the largest variance: a covariance is singular if no class varies, as with one pixel a class."""
_ALIKE = 0.7
"""Share of the pairs of neighbours, the most alike, that are taken to lie in one field."""
MOST_VARIATION = 2.1
"""Where labelled pixels vary more than this many times as much as neighbours, neighbours do not tell how fields
differ. Scenes filled with fields that differ as their pixels do have 1.2 to 1.3, the demo and Berlin 1.5 to 2.0,
Indian Pines 2.2 to 3.7, all labels of a run together (docs/trials.md)."""
_TRUST = 0.4
"""Factor for the logits then."""

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
    variation: float
    """Variance within classes of the labelled spectra where that of neighbouring pixels is 1, a mean over all
    directions: how much more the fields of a class differ than their pixels. NaN where nothing tells."""

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
        residuals = bands - means[classes]
        neighbours, free = _covariance_of_neighbours(differences.astype(np.float64)), len(bands) - len(means)
        if neighbours is None:
            ratio = variation = np.nan
        elif not free:  # labels say nothing of what varies within classes
            ratio, variation = 1.0, np.nan
        else:
            ratio = float(np.mean((residuals @ _inverse_root(neighbours)) ** 2))
            variation = ratio * len(bands) / free
        whitening = _inverse_root(_covariance(residuals, neighbours, ratio))
        white = (means - centre) @ whitening  # (K,S)
        weight, bias = white @ whitening, -0.5 * (white**2).sum(1)
        bias -= bias.mean()
        spread = max(np.std((bands - centre) @ weight.T + bias), 1e-12)
        return cls(
            weight=weight / spread,
            bias=(bias - weight @ centre) / spread,
            centre=centre,
            whitening=whitening,
            variation=variation,
        )

    def less_trusted(self) -> Self:
        """Scale the logits down, for where neighbours do not tell how fields differ: the covariance lacks that."""
        return replace(self, weight=_TRUST * self.weight, bias=_TRUST * self.bias)


def _covariance_of_neighbours(differences: Floats) -> Floats | None:
    """Covariance (S, S) of the pixels of a field, from (m, S) differences between neighbours; None if too few."""
    if len(differences) <= 1:
        return None
    size = (differences**2).sum(1)
    alike = differences[size <= np.quantile(size, _ALIKE)]
    covariance: Floats = alike.T @ alike / (2 * len(alike))
    return covariance


def _covariance(residuals: Floats, neighbours: Floats | None, ratio: float) -> Floats:
    """Covariance within classes, (S, S), from (n, S) spectra less their class's mean, and that of neighbours.

    `ratio` times the neighbours' is as likely as can be for the labelled spectra.
    """
    labelled: Floats = ledoit_wolf(residuals, assume_centered=True)[0]
    if neighbours is None:
        return labelled
    n, s = residuals.shape
    covariance: Floats = (n * labelled + s * ratio * neighbours) / (n + s)
    return covariance


def _inverse_root(covariance: Floats) -> Floats:
    variances, axes = np.linalg.eigh(covariance)
    scales = 1 / np.sqrt(np.maximum(variances, _LEAST_VARIANCE * max(variances[-1], 1e-12)))
    root: Floats = (axes * scales) @ axes.T
    return root
