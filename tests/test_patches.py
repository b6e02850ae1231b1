"""Patches of classes: scipy labels each class alone as the oracle, in a time that grows with the classes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from scipy import ndimage

from cssd_geo.maps import patches
from cssd_geo.maps.patches import number_patches


@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)))
def test_patches_are_those_of_each_class_alone(ids: NDArray[np.int64]) -> None:
    expected, found = np.full(ids.shape, -1), 0
    for value in np.unique(ids[ids > 0]).tolist():
        labelled, count = ndimage.label(ids == value, structure=np.ones((3, 3)))
        expected[labelled > 0] = labelled[labelled > 0] - 1 + found
        found += count
    rows, cols = np.nonzero(ids)
    np.testing.assert_array_equal(number_patches(rows, cols, ids[rows, cols]), expected[rows, cols])


def test_the_work_does_not_grow_with_the_number_of_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, meetings = list[int](), patches._meetings

    def counted(*runs: Any) -> Any:
        calls.append(len(runs[0]))
        return meetings(*runs)

    monkeypatch.setattr(patches, "_meetings", counted)
    for classes in (2, 500):
        ids = 1 + np.arange(1000).reshape(25, 40) % classes
        rows, cols = np.nonzero(ids)
        number_patches(rows, cols, ids[rows, cols])
    assert calls == [1000, 1000]  # each pixel is a run of its own; all classes together
