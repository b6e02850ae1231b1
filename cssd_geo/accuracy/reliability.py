"""Whether a confidence means what it says: of the pixels that are sure to 80 %, are 80 % right?

Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2: reliability diagram and expected
calibration error, in bins of the same width.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from cssd_geo.files.json_values import json_ready

BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Confidence against accuracy, arrays (BINS,)."""

    pixels: NDArray[np.int64]
    """In each bin of confidence, 0 to 1."""
    confidence: NDArray[np.float64]
    """Mean confidence of a bin's pixels, 0 to 1; NaN where there is none."""
    accuracy: NDArray[np.float64]
    """Share of a bin's pixels that are right; NaN where there is none."""

    @classmethod
    def of(cls, logits: NDArray[np.float64], classes: NDArray[np.int64]) -> Self:
        """Compare calibrated logits (n, K) with the true class indexes (n,)."""
        shares = softmax(logits, axis=1)
        best, right = shares.max(1), shares.argmax(1) == classes
        bins = np.minimum((best * BINS).astype(np.int64), BINS - 1)
        pixels = np.bincount(bins, minlength=BINS)
        nothing = np.full(BINS, np.nan)
        sums = (np.bincount(bins, values, minlength=BINS) for values in (best, right.astype(np.float64)))
        confidence, accuracy = (np.divide(total, pixels, where=pixels > 0, out=nothing.copy()) for total in sums)
        return cls(pixels=pixels, confidence=confidence, accuracy=accuracy)

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance of confidence and accuracy over the pixels, 0 to 1 (Guo et al. 2017, equation 3)."""
        filled = self.pixels > 0
        distance = np.abs(self.confidence - self.accuracy)[filled]
        return float((distance * self.pixels[filled]).sum() / max(self.pixels.sum(), 1))

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN becomes None."""
        bins = zip(self.pixels.tolist(), self.confidence.tolist(), self.accuracy.tolist(), strict=True)
        return {
            "expected_calibration_error": self.expected_calibration_error,
            "bins": [json_ready({"pixels": n, "confidence": c, "accuracy": a}) for n, c, a in bins],
        }
