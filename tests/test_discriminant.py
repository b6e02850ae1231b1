"""The linear discriminant: the formula where labels suffice, better than it where neighbours help."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cssd_geo.learning.discriminant import Discriminant
from cssd_geo.learning.whitening import Whitening

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


def fields(
    seed: int, *, classes: int = 5, bands: int = 40, per_class: int = 6
) -> tuple[Floats, Ids, Floats, Floats, Ids]:
    """Training spectra and classes, neighbours' differences, test spectra and classes; bands vary together."""
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(bands, bands)) * np.geomspace(3, 0.01, bands)
    means = random.normal(size=(classes, bands))
    known, unknown = np.repeat(np.arange(classes), per_class), np.repeat(np.arange(classes), 200)
    train, test = (means[k] + random.normal(size=(len(k), bands)) @ mixing.T for k in (known, unknown))
    left, right = random.normal(size=(2, 3000, bands)) @ mixing.T
    return train, known, left - right, test, unknown


def predicted(found: Discriminant, spectra: Floats) -> Ids:
    return np.asarray((spectra @ found.weight.T + found.bias).argmax(1), np.int64)


@given(
    seed=st.integers(0, 10**6), bands=st.integers(2, 30), per_class=st.integers(2, 40), count=st.integers(0, 50)
)
@settings(max_examples=25, deadline=None)
def test_logits_are_those_of_gaussians_of_one_covariance(
    seed: int, bands: int, per_class: int, count: int
) -> None:
    train, known, differences, test, _ = fields(seed, bands=bands, per_class=per_class)
    found = Discriminant.fit(train, known, differences[:count])
    means = np.stack([train[known == k].mean(0) for k in range(5)])
    from_means = (test[:, None] - means) @ found.whitening  # (n,K,S)
    expected = -0.5 * (from_means**2).sum(2)  # log-densities, but for a constant
    logits = test @ found.weight.T + found.bias
    apart, wanted = (z - z.mean(1, keepdims=True) for z in (logits, expected))
    factor = (apart * wanted).sum() / (wanted**2).sum()
    assert factor > 0
    np.testing.assert_allclose(apart, factor * wanted, atol=1e-6 * np.abs(apart).max())
    np.testing.assert_allclose(found.centre, means.mean(0))
    assert (found.weight @ found.centre + found.bias).mean() == pytest.approx(0, abs=1e-9)
    assert np.std(train @ found.weight.T + found.bias) == pytest.approx(1)


@given(seed=st.integers(0, 10**6), per_class=st.integers(2, 9), factor=st.floats(0.2, 5))
@settings(max_examples=25, deadline=None)
def test_the_covariance_is_that_of_labels_and_neighbours(seed: int, per_class: int, factor: float) -> None:
    """Σ = (n Σ_labels + S r Σ_neighbours) / (n + S), r the scale of Σ_neighbours likeliest for the labels."""
    random, known = np.random.default_rng(seed), np.repeat(np.arange(5), per_class)
    mixing = np.eye(12) + 0.1 * random.normal(size=(12, 12))
    train = factor * random.normal(size=(len(known), 12)) @ mixing.T
    differences = random.normal(size=(3000, 12)) @ mixing.T
    found = Discriminant.fit(train, known, differences)
    residuals = train - np.stack([train[known == k].mean(0) for k in range(5)])[known]
    size = np.linalg.norm(differences, axis=1)
    alike = differences[np.argsort(size)[: round(0.7 * len(size))]]
    neighbours = alike.T @ alike / len(alike) / 2
    scale = np.einsum("ns,st,nt->", residuals, np.linalg.inv(neighbours), residuals) / residuals.size
    n, s = residuals.shape
    assert found.variation == pytest.approx(scale * n / (n - 5), rel=1e-6)
    expected = (n * LedoitWolf(assume_centered=True).fit(residuals).covariance_ + s * scale * neighbours) / (n + s)
    np.testing.assert_allclose(np.linalg.inv(found.whitening @ found.whitening), expected, rtol=1e-6, atol=1e-9)


def test_enough_labels_give_the_classes_of_scikit_learn() -> None:
    train, known, differences, test, unknown = fields(1, per_class=2000, bands=12)
    theirs = LinearDiscriminantAnalysis().fit(train, known).predict(test)
    ours = predicted(Discriminant.fit(train, known, differences), test)
    assert (ours == theirs).mean() > 0.99
    assert (ours == unknown).mean() > 0.9


def test_neighbours_help_where_labels_are_few() -> None:
    gains = []
    for seed in range(5):
        train, known, differences, test, unknown = fields(seed)
        alone, helped = (Discriminant.fit(train, known, some) for some in (differences[:0], differences))
        right = [(predicted(found, test) == unknown).mean() for found in (alone, helped)]
        gains.append(right[1] - right[0])
    assert min(gains) > 0.02


@given(seed=st.integers(0, 10**6), per_class=st.integers(1, 4), count=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_one_pixel_a_class_and_bands_without_variation_stay_finite(seed: int, per_class: int, count: int) -> None:
    train, known, differences, _, _ = fields(seed, per_class=per_class)
    train[:, 3] = differences[:, 3] = 0
    found = Discriminant.fit(train, known, differences[:count])
    assert all(np.isfinite(part).all() for part in (found.weight, found.bias, found.whitening))
    assert np.std(train @ found.weight.T + found.bias) == pytest.approx(1)


@given(seed=st.integers(0, 10**6), per_class=st.integers(5, 30), factor=st.floats(0.1, 10))
@settings(max_examples=25, deadline=None)
def test_variation_compares_labelled_pixels_with_neighbours(seed: int, per_class: int, factor: float) -> None:
    train, known, differences, _, _ = fields(seed, per_class=per_class, bands=20)
    alike = Discriminant.fit(train, known, differences).variation
    assert alike == pytest.approx(1.3, abs=0.5), "a little more than 1: the pairs least alike are left out"
    means = np.stack([train[known == k].mean(0) for k in range(5)])[known]
    wider = Discriminant.fit(means + factor * (train - means), known, differences).variation
    assert wider == pytest.approx(factor**2 * alike)


def test_trusting_it_less_makes_it_less_sure_of_the_same_classes() -> None:
    train, known, differences, test, _ = fields(2, per_class=20)
    found = Discriminant.fit(train, known, differences)
    less = found.less_trusted()
    logits, scaled = (test @ each.weight.T + each.bias for each in (found, less))
    np.testing.assert_allclose(scaled, 0.4 * logits)
    assert less.whitening is found.whitening


def test_variation_is_unknown_without_neighbours_or_with_one_label_a_class() -> None:
    train, known, differences, _, _ = fields(0)
    assert np.isnan(Discriminant.fit(train, known, differences[:1]).variation)
    assert np.isnan(Discriminant.fit(train[::6], known[::6], differences).variation)


def test_with_one_label_a_class_the_neighbours_are_the_covariance() -> None:
    random = np.random.default_rng(0)
    differences = random.normal(size=(3000, 12)) @ random.normal(size=(12, 12))
    train = random.normal(size=(5, 12))
    found = Discriminant.fit(train, np.arange(5), differences)
    size = np.linalg.norm(differences, axis=1)
    alike = differences[size <= np.quantile(size, 0.7)]
    whitened = found.whitening @ alike.T @ alike @ found.whitening
    np.testing.assert_allclose(whitened, whitened[0, 0] * np.eye(len(whitened)), atol=1e-6 * whitened[0, 0])


def test_whitening_evens_out_what_varies_within_classes() -> None:
    train, known, differences, test, unknown = fields(3, per_class=500, bands=10)
    found = Discriminant.fit(train, known, differences)

    def spread(spectra: Floats) -> float:
        """Largest of the variances within classes, as a multiple of the smallest."""
        residual = spectra - np.stack([spectra[unknown == k].mean(0) for k in range(5)])[unknown]
        variances = np.linalg.eigvalsh(np.cov(residual.T))
        return float(variances.max() / variances.min())

    assert spread((test - found.centre) @ found.whitening) < 1e-3 * spread(test)


def test_whitening_takes_little_more_memory_than_its_result() -> None:
    """Windows of scattered labels hold millions of pixels."""
    spectra = np.random.default_rng(0).normal(0, 1, (300, 20))
    whitening = Whitening.of(Discriminant.fit(spectra, np.arange(300) % 3, np.diff(spectra, axis=0)), spectra)
    pixels = torch.from_numpy(np.tile(spectra, (200, 1)).astype(np.float32))
    pixels[0] = 0
    expected = (pixels.double().numpy() - whitening.centre) @ whitening.matrix.T
    tracemalloc.start()
    white = whitening.apply(pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(white[1:], expected[1:], rtol=1e-5, atol=1e-5)
    assert not white[0].any()
    assert peak < pixels.nbytes  # what torch itself allocates is not traced
