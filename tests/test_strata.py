"""The size and the allocation of a sample: the paper's example, and what must always hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cssd_geo.accuracy.strata import allocate, sample_size
from cssd_geo.errors import InputError

PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
EXPECTED = np.array([0.70, 0.60, 0.90, 0.95])

sizes = st.lists(st.integers(0, 10**7), min_size=1, max_size=8).filter(any)


def test_the_size_of_the_paper_s_example() -> None:
    """Olofsson et al. 2014, section 5.1.1: 641 samples for a standard error of 0.01."""
    assert sample_size(PIXELS, users_accuracy=EXPECTED, standard_error=0.01) == 641


def test_the_allocation_of_the_paper_s_example() -> None:
    """It gives 75 to each rare class and the rest, in steps of five, to the others."""
    found = allocate(PIXELS, 640, least=75)
    assert found.sum() == 640
    np.testing.assert_allclose(found, [75, 75, 165, 325], atol=3)


@given(sizes, st.floats(0.5, 0.99), st.floats(0.005, 0.2))
def test_the_size_reaches_the_standard_error(pixels: list[int], expected: float, aim: float) -> None:
    counts = np.array(pixels)
    size, total = sample_size(counts, users_accuracy=expected, standard_error=aim), counts.sum()
    assert 1 <= size <= total
    correction = 1 - size / total  # in proportion to the area, drawn without replacement
    assert math.sqrt(expected * (1 - expected) / size * correction) <= aim * (1 + 1e-6)


@given(sizes, st.integers(2, 100), st.integers(0, 5000))
def test_every_class_gets_its_least_and_the_rest_is_by_area(pixels: list[int], least: int, more: int) -> None:
    counts = np.array(pixels)
    lowest = np.minimum(counts, least)
    size = int(lowest.sum()) + more
    found = allocate(counts, size, least=least)
    assert found.sum() == min(size, counts.sum())
    assert (found >= lowest).all()
    assert (found <= counts).all()
    common = found > lowest
    rates = found[common] / counts[common]
    slack = 1 / counts[common]
    assert (np.abs(rates[:, None] - rates) <= slack[:, None] + slack + 1e-12).all()


def test_more_than_there_are_is_all() -> None:
    assert allocate(np.array([3, 0, 1000]), 5000, least=50).tolist() == [3, 0, 1000]


@pytest.mark.parametrize(
    ("pixels", "size", "least", "message"),
    [
        ([1000, 1000, 7], 106, 50, "106 pixels are too few for 3 classes with at least 50 each: ask for 107 or"),
        ([1000], 10, 1, "at least 2 pixels for its variance, not 1"),
        ([0, 0], 10, 2, "without classified pixels"),
    ],
)
def test_designs_that_cannot_be(pixels: list[int], size: int, least: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        allocate(np.array(pixels), size, least=least)


@pytest.mark.parametrize(
    ("accuracy", "error", "message"),
    [
        (1.0, 0.01, "user's accuracy is a fraction above 0 and below 1, not 1"),
        (math.nan, 0.01, "user's accuracy is a fraction"),
        (np.array([0.9, 0.9, 1.0, 0.9]), 0.01, "user's accuracy is a fraction"),
        (0.9, 0.0, "standard error to aim at is a fraction above 0 and below 1, not 0"),
        (0.9, math.nan, "standard error to aim at is a fraction"),
    ],
)
def test_aims_that_cannot_be(accuracy: float | NDArray[np.float64], error: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample_size(PIXELS, users_accuracy=accuracy, standard_error=error)
