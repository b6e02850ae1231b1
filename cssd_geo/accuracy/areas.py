"""What a stratified random sample says of a map: its accuracy, and the area of each class, with intervals.

Olofsson, Foody, Herold, Stehman, Woodcock and Wulder 2014, "Good practices for estimating area and assessing
accuracy of land change", Remote Sensing of Environment 148, 42-57, doi 10.1016/j.rse.2014.02.015; equations are
numbered as there. The strata are the classes of the map: of each, pixels were drawn at random, and a class of
which more were drawn than its share weighs no more for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cssd_geo.accuracy.metrics import Accuracy
from cssd_geo.errors import InputError
from cssd_geo.files.json_values import json_ready
from cssd_geo.messages import column_width, figure, listed, padded

Z_95 = 1.96
"""Standard errors on either side that make the 95 % confidence interval, as in the paper."""
LEAST_SAMPLES = 2
"""With fewer sampled pixels of a class, nothing is known of their variance."""
_RULE_OF_THREE = 3
"""Where none of n pixels is of a kind, up to 3 / n of all may be, at 95 % confidence."""

Fractions = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """Figures with their standard errors, of one shape; NaN where the sample does not tell."""

    value: Fractions
    standard_error: Fractions

    @property
    def half_width(self) -> Fractions:
        """Half of the 95 % confidence interval: in 19 of 20 samples the truth lies within `value` ± this."""
        return Z_95 * self.standard_error

    def scaled(self, factor: float) -> "Estimate":
        """Return the same in another unit."""
        return Estimate(value=factor * self.value, standard_error=factor * self.standard_error)

    def to_json(self, index: tuple[int, ...] = ()) -> dict[str, float | None]:
        """Plain values of one figure; NaN, which JSON does not know, becomes None."""
        figures = {"value": self.value, "standard_error": self.standard_error, "half_width_95": self.half_width}
        return dict(json_ready({name: figure[index] for name, figure in figures.items()}))


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaEstimates:
    """Area-adjusted accuracy and areas by the stratified estimators. Fractions 0 to 1, areas in `unit`.

    They hold for the classified part of the map, from which the sample was drawn: sampled pixels that the map left
    unclassified belong to no stratum. The intervals are those of the paper, without a correction for strata of
    which many pixels were drawn, and so rather too wide there; only a stratum that was drawn whole has no error.
    They are too narrow for a rare class of which the sample holds but a few pixels that the map missed.
    """

    accuracy: Accuracy
    """The confusion matrix of the sample, and the names."""
    mapped_pixels: NDArray[np.int64]
    """(K,) pixels that the map has of each class: the sizes of the strata."""
    pixel_area: float = 1.0
    """Area of a pixel in `unit`."""
    unit: str = "pixels"
    """Unit of the areas, such as ha."""

    def __post_init__(self) -> None:
        names, sizes = self.accuracy.names, self.mapped_pixels
        if sizes.shape != (len(names),) or (sizes < 0).any() or not sizes.any():
            raise InputError(
                f"the strata of {len(names)} classes have as many numbers of pixels, not all 0: {sizes.tolist()}"
            )
        if not 0 < self.pixel_area < np.inf:
            raise InputError(f"the area of a pixel is above 0, not {self.pixel_area}")
        for name, size, sampled in zip(names, sizes.tolist(), self.samples.tolist(), strict=True):
            if sampled > size:
                raise InputError(f"{sampled} pixels of {name} were sampled, but the map has {size} of them")

    @cached_property
    def samples(self) -> NDArray[np.int64]:
        """(K,) sampled pixels of each stratum, n_i."""
        return self.accuracy.mapped

    @cached_property
    def weights(self) -> Fractions:
        """(K,) share of each class in the map, W_i."""
        return np.asarray(self.mapped_pixels / self.mapped_pixels.sum(), np.float64)

    @property
    def total_area(self) -> float:
        """Area of the classified part of the map."""
        return float(self.mapped_pixels.sum() * self.pixel_area)

    @cached_property
    def mapped_area(self) -> Fractions:
        """(K,) what counting the pixels of the map would give, which its errors bias."""
        return np.asarray(self.mapped_pixels * self.pixel_area, np.float64)

    @cached_property
    def proportions(self) -> Fractions:
        """(K, K) estimated share of the area by map (rows) and reference (columns), p_ij (eq. 4).

        NaN in the row of a class that the map has but the sample has not.
        """
        return self.weights[:, None] * self._rates

    @property
    def overall_accuracy(self) -> Estimate:
        """Share of the area that the map has right (eqs. 1 and 5)."""
        variance = (self.weights**2 * self._variances.diagonal()).sum()
        return _estimate(self.proportions.trace(), variance)

    @cached_property
    def users_accuracy(self) -> Estimate:
        """(K,) share of the area mapped as a class that is of that class (eqs. 2 and 6)."""
        known = self.samples > 0
        return Estimate(
            value=np.where(known, self._rates.diagonal(), np.nan),
            standard_error=np.where(known, np.sqrt(self._variances.diagonal()), np.nan),
        )

    @cached_property
    def producers_accuracy(self) -> Estimate:
        """(K,) share of a class's area that the map has right (eqs. 3 and 7); NaN where none was found."""
        shares = self.proportions.sum(axis=0)
        found = ~(shares <= 0)  # NaN stays
        whole = np.where(found, shares, np.nan)
        value = self.proportions.diagonal() / whole
        variances = self.weights[:, None] ** 2 * self._variances
        own = variances.diagonal()
        others = np.where(np.eye(len(own), dtype=bool), 0, variances).sum(axis=0)
        return _estimate(value, ((1 - value) ** 2 * own + value**2 * others) / whole**2)

    @cached_property
    def area(self) -> Estimate:
        """(K,) area of each class, the map's errors taken into account (eqs. 9 and 10, times the whole area)."""
        variance = (self.weights[:, None] ** 2 * self._variances).sum(axis=0)
        return _estimate(self.proportions.sum(axis=0), variance).scaled(self.total_area)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the sample does not tell and what would help, one sentence each."""
        return tuple(self._notes())

    @cached_property
    def _rates(self) -> Fractions:
        """(K, K) n_ij / n_i: 0 without a stratum, NaN without a sample of it."""
        counts, sampled = self.accuracy.confusion[:, :-1].T, self.samples[:, None]
        missing = np.where(self.mapped_pixels > 0, np.nan, 0.0)[:, None]
        return np.where(sampled > 0, counts / np.maximum(sampled, 1), missing)

    @cached_property
    def _variances(self) -> Fractions:
        """(K, K) of `_rates`: NaN with fewer than two samples, 0 where the stratum was drawn whole."""
        rates, sampled = self._rates, self.samples
        degrees = np.where(sampled < LEAST_SAMPLES, np.nan, sampled - 1.0)
        whole = (sampled >= self.mapped_pixels)[:, None]
        return np.where(whole, 0, rates * (1 - rates) / degrees[:, None])

    @property
    def _uniform(self) -> NDArray[np.bool_]:
        """(K,) True: all samples of the stratum are of one class, but there are pixels that were not drawn."""
        enough = (self.samples >= LEAST_SAMPLES) & (self.samples < self.mapped_pixels)
        return np.asarray(enough & (self._rates.max(axis=1) == 1), np.bool_)

    def _notes(self) -> Iterator[str]:
        rows = list(zip(self.accuracy.names, self.samples.tolist(), self.mapped_pixels.tolist(), strict=True))
        few = [(name, sampled, size) for name, sampled, size in rows if sampled < min(LEAST_SAMPLES, size)]
        without = listed(f"{name} ({size} pixels)" for name, sampled, size in few if not sampled)
        single = listed(f"{name} ({size} pixels)" for name, sampled, size in few if sampled)
        if without:
            yield f"The sample has no pixel mapped as {without}, so accuracy and areas are not known: label some."
        if single:
            yield (
                f"The sample has one pixel mapped as {single}, so what depends on it has no interval: label at "
                f"least {LEAST_SAMPLES}, better 50."
            )
        most = np.minimum(1.0, _RULE_OF_THREE / np.maximum(self.samples, 1))
        uniform = np.flatnonzero(self._uniform).tolist()
        alike = listed(f"{rows[i][0]} ({self.samples[i]} pixels: {100 * most[i]:.1f} %)" for i in uniform)
        if uniform:
            yield (
                f"All sampled pixels mapped as {alike} are of one class, so their part of the intervals is zero: "
                "up to about 3/n of what is mapped so, the percentage beside, may be of another (rule of three)."
            )
        if self.accuracy.unclassified:
            yield (
                f"{self.accuracy.unclassified} of the sampled pixels are unclassified in the map: they belong to "
                "no stratum, and areas are those of the classified part."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values for programs."""
        return {
            "description": "accuracy of the map, by area (Olofsson et al. 2014)",
            "unit": self.unit,
            "pixel_area": self.pixel_area,
            "total_area": self.total_area,
            "overall_accuracy": self.overall_accuracy.to_json(),
            "classes": [self._class_to_json(index) for index in range(len(self.accuracy.names))],
            "proportions": json_ready(self.proportions.tolist()),
        }

    def _class_to_json(self, index: int) -> dict[str, Any]:
        return {
            "name": self.accuracy.names[index],
            "samples": int(self.samples[index]),
            "mapped_pixels": int(self.mapped_pixels[index]),
            "mapped_area": float(self.mapped_area[index]),
            "area": self.area.to_json((index,)),
            "users_accuracy": self.users_accuracy.to_json((index,)),
            "producers_accuracy": self.producers_accuracy.to_json((index,)),
        }

    def to_text(self) -> str:
        """Return a table for a terminal; ± is half of the 95 % confidence interval."""
        width = column_width(["class", *self.accuracy.names])
        mapped, area = f"mapped, {self.unit}", f"area, {self.unit}"
        head = f"{'class':<{width}}  {'n':>5}  {mapped:>14}  {area:>14} {'±':>12}  "
        head += "  ".join(f"{name:>6} {'±':>5}" for name in ("UA %", "PA %"))
        overall = self.overall_accuracy.scaled(100)
        share, margin = figure(float(overall.value), 1, 6), figure(float(overall.half_width), 1)
        return "\n".join(
            [
                "Accuracy of the map, by area, from a stratified random sample (Olofsson et al. 2014)",
                "± is half of the 95 % interval",
                "",
                head,
                *(self._row(index, width) for index in range(len(self.accuracy.names))),
                "",
                f"overall accuracy (OA)  {share} % ± {margin} %",
            ]
        )

    def _row(self, index: int, width: int) -> str:
        digits = 0 if self.unit == "pixels" else 2
        area, users, producers = self.area, self.users_accuracy.scaled(100), self.producers_accuracy.scaled(100)
        rates = "  ".join(
            f"{figure(rate.value[index], 1, 6)} {figure(rate.half_width[index], 1, 5)}"
            for rate in (users, producers)
        )
        return (
            f"{padded(self.accuracy.names[index], width)}  {self.samples[index]:>5}  "
            f"{figure(self.mapped_area[index], digits, 14)}  {figure(area.value[index], digits, 14)} "
            f"{figure(area.half_width[index], digits, 12)}  {rates}"
        )


def _estimate(value: ArrayLike, variance: ArrayLike) -> Estimate:
    return Estimate(value=np.asarray(value, np.float64), standard_error=np.sqrt(np.asarray(variance, np.float64)))
