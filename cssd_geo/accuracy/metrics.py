"""Accuracy from a confusion matrix, with the names and formulas of the field.

Congalton 1991, "A review of assessing the accuracy of classifications of remotely sensed data", Remote
Sensing of Environment 37(1), 35-46: error matrix, overall, producer's and user's accuracy. Cohen 1960, "A
coefficient of agreement for nominal scales", Educational and Psychological Measurement 20(1), 37-46: kappa.
"""

import csv
import io
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, stdtrit

from cssd_geo.errors import InputError
from cssd_geo.files.json_values import json_ready
from cssd_geo.messages import column_width, figure, padded

UNCLASSIFIED_INDEX = -1
"""Class index of a pixel that the map left unclassified."""


def confusion_matrix(reference: ArrayLike, predicted: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Count the pixels of each pair of reference and mapped class.

    Args:
        reference: (n,) class indices 0..K-1.
        predicted: (n,) class indices 0..K-1, or -1 where the map is unclassified.
        n_classes: K.

    Returns:
        (K, K + 1) pixels; rows are the reference, columns the map, the last column unclassified. A reference
        pixel that the map left unclassified thus stays in the matrix, as an error.

    Raises:
        InputError: if the lengths differ or an index is out of range.
    """
    rows = _indices("reference", reference, range(n_classes))
    cols = _indices("predicted", predicted, range(UNCLASSIFIED_INDEX, n_classes))
    if len(rows) != len(cols):
        raise InputError(f"each reference pixel needs one predicted pixel: {len(rows)} against {len(cols)}")
    width = n_classes + 1
    cells = rows * width + np.where(cols == UNCLASSIFIED_INDEX, n_classes, cols)
    return np.bincount(cells, minlength=n_classes * width).reshape(n_classes, width).astype(np.int64)


def _indices(name: str, values: ArrayLike, allowed: range) -> NDArray[np.int64]:
    array = np.asarray(values).ravel()
    if array.size and array.dtype.kind not in "iu":
        raise InputError(f"{name} holds class indices, so integers, not {array.dtype}")
    if array.size and not (array.min() in allowed and array.max() in allowed):
        raise InputError(
            f"{name} holds class indices from {allowed.start} to {allowed.stop - 1}, not "
            f"{array.min()} to {array.max()}"
        )
    return array.astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Accuracy:
    """What a confusion matrix says about a map. Fractions, 0 to 1; NaN where a figure is not defined.

    A class without reference pixels is not measured: its figures are NaN, and `average_accuracy` leaves it
    out. Pixels that wrongly bear its name in the map still count as errors of the class that they are.
    """

    confusion: NDArray[np.int64]
    """(K, K + 1) pixels as from `confusion_matrix`: rows reference, columns map, the last unclassified."""
    names: tuple[str, ...]
    """Name of each class, in the order of the rows."""

    def __post_init__(self) -> None:
        expected = (len(self.names), len(self.names) + 1)
        if self.confusion.shape != expected:
            raise InputError(
                f"a confusion matrix of {len(self.names)} classes has the shape {expected}, the last column "
                f"being the unclassified pixels, not {self.confusion.shape}"
            )
        if self.confusion.size and self.confusion.min() < 0:
            raise InputError(f"a confusion matrix counts pixels; {self.confusion.min()} is negative")

    @cached_property
    def n(self) -> NDArray[np.int64]:
        """(K,) reference pixels of each class."""
        return np.asarray(self.confusion.sum(axis=1), np.int64)

    @cached_property
    def mapped(self) -> NDArray[np.int64]:
        """(K,) reference pixels that the map assigns to each class, rightly or not."""
        return np.asarray(self.confusion[:, :-1].sum(axis=0), np.int64)

    @cached_property
    def correct(self) -> NDArray[np.int64]:
        """(K,) reference pixels of each class that the map has right."""
        return self.confusion.diagonal().astype(np.int64)

    @cached_property
    def total(self) -> int:
        """Reference pixels in all."""
        return int(self.confusion.sum())

    @cached_property
    def unclassified(self) -> int:
        """Reference pixels that the map left unclassified; each is an error."""
        return int(self.confusion[:, -1].sum())

    @property
    def overall_accuracy(self) -> float:
        """Fraction of the reference pixels that the map has right (Congalton 1991)."""
        return float(_ratio(self.correct.sum(), self.total))

    @property
    def accuracy_where_classified(self) -> float:
        """Overall accuracy of what the map classifies; other pixels may have no data or lie beside its area."""
        return float(_ratio(self.correct.sum(), self.total - self.unclassified))

    @property
    def average_accuracy(self) -> float:
        """Mean producer's accuracy of the classes that occur in the reference: each weighs the same."""
        measured = self.producers_accuracy[self.n > 0]
        return float(_ratio(measured.sum(), len(measured)))

    @property
    def kappa(self) -> float:
        """Agreement beyond chance (Cohen 1960); NaN where chance alone gives full agreement."""
        # As fractions in float: the product of two counts of a large map would overflow int64.
        chance = float((_ratio(self.n, self.total) * _ratio(self.mapped, self.total)).sum())
        return float(_ratio(self.overall_accuracy - chance, 1 - chance))

    @property
    def kappa_text(self) -> str:
        """For a reader: "-" where it is NaN."""
        return figure(self.kappa, 3)

    @cached_property
    def producers_accuracy(self) -> NDArray[np.float64]:
        """(K,) fraction of a class's reference pixels that the map has right (Congalton 1991)."""
        return _ratio(self.correct, self.n)

    @cached_property
    def users_accuracy(self) -> NDArray[np.float64]:
        """(K,) fraction of the pixels mapped as a class that are of that class (Congalton 1991).

        NaN without reference pixels: a sample that holds no pixel of a class would always give zero.
        """
        return np.where(self.n > 0, _ratio(self.correct, self.mapped), np.nan)

    @cached_property
    def f1(self) -> NDArray[np.float64]:
        """(K,) harmonic mean of producer's and user's accuracy: 2 correct / (reference + mapped)."""
        return np.where(self.n > 0, _ratio(2 * self.correct, self.n + self.mapped), np.nan)

    def to_json(self) -> dict[str, Any]:
        """Plain values; NaN, which JSON does not know, becomes None."""
        facts = {
            "overall_accuracy": self.overall_accuracy,
            "average_accuracy": self.average_accuracy,
            "kappa": self.kappa,
            "total": self.total,
            "unclassified": self.unclassified,
            "accuracy_where_classified": self.accuracy_where_classified,
            "classes": [self._class_to_json(index) for index in range(len(self.names))],
            "confusion_matrix": self.confusion.tolist(),
        }
        return dict(json_ready(facts))

    def _class_to_json(self, index: int) -> dict[str, Any]:
        return {
            "name": self.names[index],
            "n": int(self.n[index]),
            "mapped": int(self.mapped[index]),
            "producers_accuracy": self.producers_accuracy[index],
            "users_accuracy": self.users_accuracy[index],
            "f1": self.f1[index],
        }

    def to_text(self) -> str:
        """Return a table for a terminal: figures per class in percent, then those of the whole map."""
        width = column_width(["unclassified", *self.names])
        head = f"{'class':<{width}}  {'n':>9}  {'PA %':>6}  {'UA %':>6}  {'F1 %':>6}"
        figures = zip(self.producers_accuracy, self.users_accuracy, self.f1, strict=True)
        rows = zip(self.names, self.n, figures, strict=True)
        body = [_text_row(name, width, int(n), values) for name, n, values in rows]
        if self.unclassified:
            body.append(f"{'unclassified':<{width}}  {self.unclassified:>9}  of the pixels above; errors")
            if self.unclassified < self.total:
                body[-1] += f" (of all others {figure(100 * self.accuracy_where_classified, 1)} % are right)"
        return "\n".join([head, *body, "", *self._summary()])

    def _summary(self) -> list[str]:
        measured = f"over {(self.n > 0).sum()} of {len(self.names)} classes"
        return [
            f"overall accuracy (OA)  {figure(100 * self.overall_accuracy, 1, 6)} %",
            f"average accuracy (AA)  {figure(100 * self.average_accuracy, 1, 6)} %  {measured}",
            f"kappa                  {self.kappa_text:>6}",
            f"reference pixels (n)   {self.total:>6}",
        ]

    def to_csv(self) -> str:
        """Return the confusion matrix with names and margins as CSV: rows reference, columns map."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["reference / map", *self.names, "unclassified", "total"])
        for name, row in zip(self.names, self.confusion.tolist(), strict=True):
            writer.writerow([name, *row, sum(row)])
        writer.writerow(["total", *self.confusion.sum(axis=0).tolist(), self.total])
        return text.getvalue()


def clustered_interval(right: ArrayLike, clusters: ArrayLike) -> tuple[float, float]:
    """Find a 95 % confidence interval of the share of right pixels, where pixels come in clusters (polygons).

    Pixels of one polygon are right or wrong together, so the polygons count and not their pixels. The variance is
    that of a ratio of two totals over clusters (Cochran 1977, Sampling Techniques, 3rd ed., chapter 9A, ratio to
    size). The interval is that of as many independent pixels as have this variance (Korn and Graubard 1998, Survey
    Methodology 24, 193-201), so that it is never empty: ten polygons without an error do not prove that there is
    none.

    Args:
        right: (n,) whether each pixel is right.
        clusters: (n,) cluster of each pixel; any integers.

    Returns:
        Both ends, 0 to 1, with the share between them; NaN where there are fewer than two clusters.
    """
    _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    sizes = np.bincount(cluster)
    m = len(sizes)
    if m < 2:  # noqa: PLR2004 - one cluster does not vary
        return math.nan, math.nan
    correct = np.bincount(cluster, np.asarray(right, np.float64)).astype(np.int64)
    n, n_correct = int(sizes.sum()), int(correct.sum())
    residuals = (correct * n - n_correct * sizes) / n  # exactly 0 where all polygons have one share
    variance = float((residuals**2).sum() / (m * (m - 1) * sizes.mean() ** 2))
    share = n_correct / n
    return _exact_interval(share, _effective_size(share, variance, pixels=n, clusters=m))


def _effective_size(share: float, variance: float, *, pixels: int, clusters: int) -> float:
    """Independent pixels that tell as much of the share, fewer where few clusters tell little of the variance.

    Clusters that are all alike have no variance; then each counts as one pixel.
    """
    if variance <= 0:
        return clusters
    few = float(stdtrit(pixels - 1, 0.975) / stdtrit(clusters - 1, 0.975)) ** 2
    return min(pixels, few * share * (1 - share) / variance)


def _exact_interval(share: float, size: float) -> tuple[float, float]:
    """95 % interval of Clopper and Pearson of a share of `size` independent pixels, whole numbers or not."""
    right, wrong = share * size, (1 - share) * size
    low = float(betaincinv(right, wrong + 1, 0.025)) if right > 0 else 0.0
    high = float(betaincinv(right + 1, wrong, 0.975)) if wrong > 0 else 1.0
    return low, high


def _ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """Divide, with NaN instead of a warning where the whole is zero."""
    over, below = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    quotient = np.full(over.shape, np.nan)
    np.divide(over, below, out=quotient, where=below > 0)
    return quotient


def _text_row(name: str, width: int, n: int, figures: tuple[float, ...]) -> str:
    note = "" if n else "  no reference pixel: not measured"
    shares = "  ".join(figure(100 * share, 1, 6) for share in figures)
    return f"{padded(name, width)}  {n:>9}  {shares}{note}"
