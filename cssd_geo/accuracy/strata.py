"""How many pixels to label, and of which class: the design of a stratified random sample.

Equations are those of Olofsson et al. 2014 (see `areas`); Cochran 1977, "Sampling techniques", 3rd edition, for
the size.
"""

import math

import numpy as np
from numpy.typing import NDArray

from cssd_geo.accuracy.areas import LEAST_SAMPLES
from cssd_geo.errors import InputError

Counts = NDArray[np.int64]


def sample_size(pixels: Counts, *, users_accuracy: float | NDArray[np.float64], standard_error: float) -> int:
    """Pixels to draw for a standard error of the overall accuracy (eq. 13; Cochran 1977, eq. 5.25).

    Args:
        pixels: (K,) pixels that the map has of each class.
        users_accuracy: expected fraction 0..1, of all classes or (K,) of each; what is not known is guessed.
        standard_error: to aim at, a fraction; half of the 95 % interval is 1.96 times that.

    Raises:
        InputError: if there is no pixel, or a fraction is out of range.
    """
    if not ((np.asarray(users_accuracy) > 0) & (np.asarray(users_accuracy) < 1)).all():
        raise InputError(f"the expected user's accuracy is a fraction above 0 and below 1, not {users_accuracy}")
    if not 0 < standard_error < 1:
        raise InputError(f"the standard error to aim at is a fraction above 0 and below 1, not {standard_error}")
    total = _total(pixels)
    variance = np.broadcast_to(users_accuracy * (1 - np.asarray(users_accuracy)), pixels.shape)
    weights = pixels / total
    size = (weights * np.sqrt(variance)).sum() ** 2 / (standard_error**2 + (weights * variance).sum() / total)
    return math.ceil(round(float(size), 6))


def allocate(pixels: Counts, size: int, *, least: int) -> Counts:
    """(K,) pixels to draw of each class: in proportion to its area, but `least` of a rare one.

    A class that has fewer pixels than it should give gives all. Without `least`, rare classes would have next to
    no sample, and their user's accuracy next to no meaning (section 5.1.2 of the paper).

    Args:
        pixels: (K,) pixels that the map has of each class.
        size: to draw in all; more than there are means all.
        least: of each class.

    Raises:
        InputError: if there is no pixel, `least` is below 2, or `size` does not suffice for it.
    """
    if least < LEAST_SAMPLES:
        raise InputError(f"each class needs at least {LEAST_SAMPLES} pixels for its variance, not {least}")
    lowest = np.minimum(pixels, least)
    if size < lowest.sum():
        raise InputError(
            f"{size} pixels are too few for {(pixels > 0).sum()} classes with at least {least} each: ask for "
            f"{lowest.sum()} or more, or lower --per-class-least"
        )
    size = min(size, _total(pixels))
    rare = np.zeros(len(pixels), np.bool_)
    while True:  # what the rare ones take is missed by the others, which may make another one rare
        shares = _shares(pixels, size - int(lowest[rare].sum()), ~rare)
        more = ~rare & (shares < lowest)
        if not more.any():
            break
        rare |= more
    return np.where(rare, lowest, _rounded(shares))


def _total(pixels: Counts) -> int:
    total = int(pixels.sum())
    if not total:
        raise InputError("a map without classified pixels has none to draw")
    return total


def _shares(pixels: Counts, size: int, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(K,) of `size` in proportion to the pixels of the chosen classes."""
    of_chosen = np.where(chosen, pixels, 0)
    return np.asarray(size * (of_chosen / max(int(of_chosen.sum()), 1)), np.float64)


def _rounded(shares: NDArray[np.float64]) -> Counts:
    """Whole numbers with the same sum: those with the largest remainders are rounded up."""
    whole = np.floor(shares + 1e-9).astype(np.int64)
    missing = round(float(shares.sum())) - int(whole.sum())
    whole[np.argsort(whole - shares, kind="stable")[:missing]] += 1
    return whole
