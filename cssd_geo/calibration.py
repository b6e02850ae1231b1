"""From two heads to one probability that means what it says."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.errors import InputError

_LARGEST_WEIGHT = 20.0
_LEAST_WEIGHT = 1e-3
"""Least weight of the spectral head."""
_PRIOR_DEVIATION = np.array([0.25, 0.5])
"""Standard deviations of the prior of the two weights, main and spectral."""
_NEAR_WORTH = 20.0
"""All pixels beside training ones together count as this many pixels apart from them, at most."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """p = softmax(main * main logits + spectral * spectral logits).

    Two numbers do both jobs: their ratio says how much each head is worth where fields are new, their size is
    the inverse of the temperature of Guo et al. 2017 (On Calibration of Modern Neural Networks, section 4.2).
    """

    main: float = 0.5
    spectral: float = 4.0
    pixels: int = 0
    """Held-out pixels that it was fitted on; 0 means not fitted."""

    def __post_init__(self) -> None:
        weights = (self.main, self.spectral)
        if not all(np.isfinite(w) and w >= 0 for w in weights) or sum(weights) <= 0:
            raise InputError(f"calibration: weights are not negative and not both 0: {weights}")

    def combine(self, main: Any, spectral: Any) -> Any:
        """Return the calibrated logits, for numpy arrays and torch tensors alike."""
        return self.main * main + self.spectral * spectral

    def alone(self, main: Any, spectral: Any) -> tuple[Any, Any]:
        """Return each head's logits as sharp as both together: what `combine` gives if the other agrees."""
        return 2 * self.main * main, 2 * self.spectral * spectral

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON header."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_json`.

        Raises:
            InputError: if a key is missing or a value is no number.
        """
        try:
            numbers = {"main": float(values["main"]), "spectral": float(values["spectral"])}
            return cls(**numbers, pixels=int(values["pixels"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"not a calibration: {error!r}") from error


def fit_calibration(
    main: Floats,
    spectral: Floats,
    classes: NDArray[np.int64],
    *,
    apart: NDArray[np.bool_],
    share: Floats,
) -> Calibration:
    """Find the two weights that make held-out classes most likely.

    A normal prior around the default weights counts as much as a handful of pixels, so that a few held-out pixels
    do not make the map sure of itself. Pixels whose neighbours were trained on flatter the window, and they look
    more alike than fields that are new: all together they count as much as a few. Pixels of a model that had only
    a part of the labels count by that part. The negative log-likelihood is convex in both weights:
    it has one minimum.

    Args:
        main: (n, K) logits of held-out pixels.
        spectral: (n, K) likewise, of the spectral head.
        classes: (n,) their true class indexes.
        apart: (n,) True: no neighbour of the pixel was trained on.
        share: (n,) training pixels of the model that made the logits, as a share, 0 to 1, of those of the model
            that the weights are for.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - so that loading a model does not wait for it
    from scipy.special import log_softmax  # noqa: PLC0415 - likewise

    rows, usual = np.arange(len(classes)), np.array([Calibration.main, Calibration.spectral])
    worth = np.where(apart, 1.0, min(1.0, _NEAR_WORTH / max((~apart).sum(), 1))) * share

    def loss(weights: Floats) -> tuple[float, Floats]:
        log_p = log_softmax(weights[0] * main + weights[1] * spectral, axis=1)
        expected = np.exp(log_p)
        slopes = [worth @ ((expected * z).sum(1) - z[rows, classes]) for z in (main, spectral)]
        pull = (weights - usual) / _PRIOR_DEVIATION**2
        surprise = -worth @ log_p[rows, classes] + pull @ (weights - usual) / 2
        return float(surprise) / worth.sum(), (np.array(slopes) + pull) / worth.sum()

    bounds = [(0.0, _LARGEST_WEIGHT), (_LEAST_WEIGHT, _LARGEST_WEIGHT)]  # never both 0
    found = minimize(loss, x0=usual, jac=True, bounds=bounds, method="L-BFGS-B")
    return Calibration(main=float(found.x[0]), spectral=float(found.x[1]), pixels=len(classes))


def cross_fitted(
    main: Floats,
    spectral: Floats,
    classes: NDArray[np.int64],
    polygons: NDArray[np.int64],
    *,
    apart: NDArray[np.bool_],
    share: Floats,
) -> Floats:
    """Combine the heads at held-out pixels with weights fitted on other held-out polygons: (n, K) logits.

    Two halves of the polygons swap roles, so that no pixel is judged by weights that saw its polygon. Polygons of
    each class go to either half in turn: weights fitted on some classes only would judge the others badly.
    Arguments as for `fit_calibration`; (n,) polygon of each pixel.
    """
    half = _turns(polygons, classes) % 2 == 0
    combined = np.empty(main.shape)
    for judged in (half, ~half):
        others = ~judged
        fit = Calibration()
        if others.any():
            seen = (main[others], spectral[others], classes[others])
            fit = fit_calibration(*seen, apart=apart[others], share=share[others])
        combined[judged] = fit.combine(main[judged], spectral[judged])
    return combined


def _turns(polygons: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.intp]:
    """(n,) rank of each pixel's polygon when polygons are sorted by class, then by their number."""
    _, pixel, polygon = np.unique(polygons, return_index=True, return_inverse=True)
    _, first, klass = np.unique(classes[pixel], return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first[klass], kind="stable"))
    return place[polygon]
