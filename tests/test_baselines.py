"""The usual methods, which have to be given what they need: a baseline that is not tuned flatters ours."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import GridSearchCV

from cssd_geo.learning.baselines import BASELINES, support_vectors


def _spectra(classes: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """(n, 6) Brightness varies much and tells nothing; small differences of neighbouring bands tell the class."""
    random = np.random.default_rng(seed)
    brightness = random.normal(0, 1, (len(classes), 1))
    contrast = np.where(classes == 1, 0.05, -0.05)[:, None] * np.array([1, -1] * 3)
    return np.asarray(brightness + contrast + random.normal(0, 0.01, (len(classes), 6)))


def test_a_class_with_one_pixel_does_not_keep_the_others_from_being_tuned() -> None:
    classes, truth = np.repeat([0, 1], 20), np.repeat([0, 1], 200)
    train, test = _spectra(classes, 0), _spectra(truth, 1)
    with_one = np.concatenate([train, np.array([[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]])])
    for spectra, ids in ((train, classes), (with_one, np.append(classes, 2))):
        assert (support_vectors(spectra, ids, test, 0) == truth).mean() > 0.95


@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 1, 1]])
def test_classes_of_single_pixels_are_learned_without_a_search(classes: list[int]) -> None:
    """Nothing to search with, or one class alone."""
    train = np.array([[0.0, 0.0], [1.0, 1.0], [1.1, 1.0]])
    assert set(support_vectors(train, np.array(classes), train, 0).tolist()) <= set(classes)


def test_the_search_is_among_some_of_many_classes_and_the_machine_knows_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classes, searched = np.repeat(np.arange(5), 6), list[int]()

    def fit(search: GridSearchCV, spectra: NDArray[np.float64], ids: NDArray[np.int64]) -> GridSearchCV:
        searched.append(len(np.unique(ids)))
        return whole(search, spectra, ids)

    whole = GridSearchCV.fit
    monkeypatch.setattr(GridSearchCV, "fit", fit)
    monkeypatch.setattr("cssd_geo.learning.baselines._CLASSES", 3)
    train = 10.0 * classes[:, None] + np.random.default_rng(0).normal(size=(len(classes), 4))
    np.testing.assert_array_equal(support_vectors(train, classes, train, 0), classes)
    assert searched == [3]


@pytest.mark.parametrize("method", BASELINES.values())
def test_held_out_spectra_are_predicted_some_at_a_time(
    method: Callable[..., NDArray[np.int64]], monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = np.repeat([0, 1], 20)
    train, test = _spectra(classes, 0), _spectra(np.arange(90) % 2, 1)
    at_once = method(train, classes, test, 0)
    monkeypatch.setattr("cssd_geo.learning.baselines._AT_ONCE", 40)
    np.testing.assert_array_equal(method(train, classes, test, 0), at_once)
    assert not len(method(train, classes, test[:0], 0))
