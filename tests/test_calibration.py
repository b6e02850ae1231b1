"""Two heads to one probability, and the loss that trains them."""

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch.nn import functional

from cssd_geo.calibration import Calibration, cross_fitted, fit_calibration
from cssd_geo.errors import InputError
from cssd_geo.learning.fitting import distillation_loss
from cssd_geo.network import Logits


def sample(n: int = 4000, k: int = 4, *, main: float, spectral: float, seed: int = 0) -> tuple[Any, Any, Any]:
    """Logits of two heads, and classes drawn from softmax(main * first + spectral * second)."""
    random = np.random.default_rng(seed)
    first, second = random.normal(0, 2, (2, n, k))
    noise = random.gumbel(size=(n, k))
    return first, second, (main * first + spectral * second + noise).argmax(1)


def likelihood(weights: tuple[float, float], first: Any, second: Any, classes: NDArray[np.int64]) -> float:
    log_p = log_softmax(weights[0] * first + weights[1] * second, axis=1)
    return float(log_p[np.arange(len(classes)), classes].mean())


def fitted(
    first: Any, second: Any, classes: NDArray[np.int64], *, apart: Any = 1, share: Any = 1.0
) -> Calibration:
    """Pixels apart from training ones, judged by a model that had all labels, unless told otherwise."""
    apart, share = (np.broadcast_to(value, classes.shape) for value in (np.asarray(apart, np.bool_), share))
    return fit_calibration(first, second, classes, apart=apart, share=share)


def judged_by_others(
    first: Any, second: Any, classes: NDArray[np.int64], polygons: NDArray[np.int64], *, share: Any = 1.0
) -> Any:
    share = np.broadcast_to(share, classes.shape)
    return cross_fitted(first, second, classes, polygons, apart=np.ones(len(classes), np.bool_), share=share)


@pytest.mark.parametrize(("main", "spectral"), [(1.0, 0.5), (0.2, 1.5), (0.7, 0.7)])
def test_the_weights_that_made_the_classes_are_found_again(main: float, spectral: float) -> None:
    first, second, classes = sample(main=main, spectral=spectral)
    found = fitted(first, second, classes)
    assert (found.main, found.spectral) == pytest.approx((main, spectral), abs=0.08)
    assert found.pixels == len(classes)


@given(
    weights=st.tuples(*[st.just(0.0) | st.floats(1e-3, 20)] * 2).filter(any),
    head=st.lists(st.floats(-50, 50), min_size=2),
)
def test_a_head_alone_says_what_two_heads_of_one_opinion_say(
    weights: tuple[float, float], head: list[float]
) -> None:
    calibration, logits = Calibration(main=weights[0], spectral=weights[1]), np.array(head)
    main, spectral = (logits / w if w else logits for w in weights)  # of one opinion, once they are weighed
    one, other = calibration.alone(main, spectral)
    for weight, alone in zip(weights, (one, other), strict=True):
        if weight:
            np.testing.assert_allclose(alone, 2 * logits, rtol=1e-9, atol=1e-12)
    if all(weights):
        np.testing.assert_allclose(calibration.combine(main, spectral), one, rtol=1e-9, atol=1e-12)


def test_a_head_whose_logits_are_huge_and_say_nothing_has_no_vote() -> None:
    _, second, classes = sample(n=300, main=0, spectral=1.0)
    noise = np.random.default_rng(1).normal(0, 1e6, second.shape)
    found = fitted(noise, second, classes)
    assert found.main < 1e-6
    right = (found.combine(noise, second).argmax(1) == classes).mean()
    assert right == pytest.approx((second.argmax(1) == classes).mean(), abs=0.02)


def test_no_other_weights_are_more_likely() -> None:
    first, second, classes = sample(n=20_000, main=0.8, spectral=0.3)
    found = fitted(first, second, classes)
    best = likelihood((found.main, found.spectral), first, second, classes)
    for change in ((0.05, 0), (-0.05, 0), (0, 0.05), (0, -0.05), (0.05, -0.05)):
        weights = (found.main + change[0], found.spectral + change[1])
        assert likelihood(weights, first, second, classes) < best


@pytest.mark.parametrize("seed", range(4))
def test_the_weights_are_the_most_likely_under_the_prior_that_the_design_names(seed: int) -> None:
    """Searched for without slopes, pixel by pixel, in the numbers of DESIGN.md."""
    first, second, classes = sample(n=60, k=3, main=0.3, spectral=1.5, seed=seed)
    apart = np.arange(60) < 15
    share = np.where(np.arange(60) % 2, 0.5, 1.0)

    def surprise(weights: NDArray[np.float64]) -> float:
        total = ((weights[0] - 0.5) / 0.25) ** 2 / 2 + ((weights[1] - 4) / 0.5) ** 2 / 2
        for i, klass in enumerate(classes):
            worth = share[i] * (1 if apart[i] else 20 / 45)
            total -= worth * log_softmax(weights[0] * first[i] + weights[1] * second[i])[klass]
        return float(total)

    best = minimize(surprise, (0.5, 4.0), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-8}).x
    found = fitted(first, second, classes, apart=apart, share=share)
    assert (found.main, found.spectral) == pytest.approx(tuple(best), abs=2e-3)


@settings(max_examples=12)
@given(copies=st.integers(1, 40), seed=st.integers(0, 20))
def test_many_pixels_beside_training_ones_count_as_much_as_a_few(copies: int, seed: int) -> None:
    first, second, classes = sample(n=20, k=3, main=0.5, spectral=4.0, seed=seed)
    many = fitted(
        *(np.concatenate([values] * copies) for values in (first, second, classes)),
        apart=np.zeros(20 * copies, np.bool_),
    )
    few = fitted(first, second, classes, apart=np.zeros(20, np.bool_))
    assert (many.main, many.spectral) == pytest.approx((few.main, few.spectral), abs=1e-3)
    assert many.pixels == 20 * copies


def test_pixels_apart_from_training_ones_outweigh_those_beside() -> None:
    """Beside, the window looks perfect; apart, it says nothing."""
    first, second, classes = sample(n=400, k=3, main=0.0, spectral=2.0)
    flattered = 5 * np.eye(3)[classes] + first
    apart = np.arange(400) % 4 == 0
    main = np.where(apart[:, None], first, flattered)
    assert fitted(main, second, classes).main > 0.5
    assert fitted(main, second, classes, apart=apart).main < 0.25


@settings(max_examples=12)
@given(quarters=st.integers(1, 4), seed=st.integers(0, 20))
def test_pixels_count_by_the_share_of_labels_that_their_model_had(quarters: int, seed: int) -> None:
    """Four times a pixel whose model had a quarter is once a pixel whose model had all."""
    first, second, classes = sample(n=20, k=3, main=0.5, spectral=4.0, seed=seed)
    main, spectral, labels = (np.concatenate([values] * 4) for values in (first, second, classes))
    share = np.full(80, quarters / 4)
    parts = fitted(main, spectral, labels, share=share)
    whole = fitted(*(np.concatenate([values] * quarters) for values in (first, second, classes)))
    assert (parts.main, parts.spectral) == pytest.approx((whole.main, whole.spectral), abs=1e-3)
    halves = np.arange(80) % 2
    judged = judged_by_others(main, spectral, labels, halves, share=share)
    assert np.array_equal(judged, judged_by_others(main, spectral, labels, halves)) == (quarters == 4)


def test_a_head_of_noise_gets_no_weight() -> None:
    first, _, classes = sample(main=1.0, spectral=0.0)
    noise = np.random.default_rng(1).normal(0, 2, first.shape)
    assert fitted(first, noise, classes).spectral < 0.05


def test_weights_stay_finite_where_every_pixel_is_right() -> None:
    logits = 5 * np.eye(3)
    found = fitted(logits, logits, np.arange(3))
    assert 0 < found.main <= 20


def test_one_weight_stays_positive_where_every_pixel_is_wrong() -> None:
    logits = 5 * np.eye(3)
    found = fitted(logits, logits, np.array([1, 2, 0]))
    assert found.main >= 0
    assert found.spectral > 0


def test_calibrated_confidence_is_the_share_of_right_pixels() -> None:
    first, second, classes = sample(n=20000, main=0.5, spectral=0.2)
    overconfident = fitted(3 * first, 3 * second, classes)
    logits = overconfident.combine(3 * first, 3 * second)
    confidence = np.exp(log_softmax(logits, axis=1)).max(1)
    right = logits.argmax(1) == classes
    for low in (0.3, 0.5, 0.7):
        chosen = (confidence >= low) & (confidence < low + 0.2)
        assert right[chosen].mean() == pytest.approx(confidence[chosen].mean(), abs=0.03)


def test_numpy_and_torch_combine_alike() -> None:
    main, spectral = np.random.default_rng(0).normal(size=(2, 5, 3))
    calibration = Calibration(main=1.5, spectral=0.25)
    combined = calibration.combine(torch.from_numpy(main), torch.from_numpy(spectral))
    np.testing.assert_array_equal(combined.numpy(), calibration.combine(main, spectral))


def test_no_pixel_is_judged_by_weights_that_saw_its_polygon() -> None:
    first, second, classes = sample(n=90, k=3, main=1.0, spectral=0.5)
    polygons = np.repeat([3, 7, 20, 21, 40], 18)
    even = np.isin(polygons, [3, 20, 40])
    combined = judged_by_others(first, second, classes, polygons)
    for judged in (even, ~even):
        fit = fitted(first[~judged], second[~judged], classes[~judged])
        np.testing.assert_array_equal(combined[judged], fit.combine(first, second)[judged])


def test_halves_hold_all_classes_in_whatever_order_the_polygons_were_drawn() -> None:
    first, second, _ = sample(n=120, k=2, main=1.0, spectral=0.5)
    polygons = np.repeat(np.arange(12), 10)
    by_turns, by_class = polygons % 2, polygons // 6
    for classes, even in ((by_turns, polygons // 2 % 2 == 0), (by_class, polygons % 2 == 0)):
        combined = judged_by_others(first, second, classes, polygons)
        for judged in (even, ~even):
            assert set(classes[judged]) == {0, 1}
            fit = fitted(first[~judged], second[~judged], classes[~judged])
            np.testing.assert_array_equal(combined[judged], fit.combine(first, second)[judged])


def test_one_polygon_alone_is_judged_with_the_default_weights() -> None:
    first, second, classes = sample(n=20, k=3, main=1.0, spectral=0.5)
    combined = judged_by_others(first, second, classes, np.zeros(20, np.int64))
    np.testing.assert_array_equal(combined, Calibration().combine(first, second))


@given(main=st.floats(0, 50), spectral=st.floats(0.01, 50), pixels=st.integers(0, 10**9))
def test_json_gives_back_the_same(main: float, spectral: float, pixels: int) -> None:
    calibration = Calibration(main=main, spectral=spectral, pixels=pixels)
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


@pytest.mark.parametrize(("main", "spectral"), [(0, 0), (-1, 2), (np.nan, 1), (1, np.inf)])
def test_impossible_weights_are_refused(main: float, spectral: float) -> None:
    with pytest.raises(InputError, match="calibration: weights"):
        Calibration(main=main, spectral=spectral)


@pytest.mark.parametrize(
    "values",
    [{}, {"main": 1, "spectral": 1}, {"main": "x", "spectral": 1, "pixels": 0},
     {"main": 10**400, "spectral": 1, "pixels": 0}, {"main": 1, "spectral": 1, "pixels": float("inf")}, [], None],
)  # fmt: skip
def test_what_is_no_calibration_is_refused(values: Any) -> None:
    with pytest.raises(InputError, match=re.escape("not a calibration: ")):
        Calibration.from_json(values)


def heads(batch: int = 6, classes: int = 4) -> tuple[Logits, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    main, spectral = torch.randn(2, batch, classes, generator=generator, dtype=torch.float64)
    return Logits(main.requires_grad_(), spectral.requires_grad_()), torch.arange(batch) % classes


def test_without_distillation_the_loss_is_two_plain_cross_entropies() -> None:
    logits, target = heads()
    loss = distillation_loss(logits, target, epsilon=0.0, temperature=4.0, spectral_weight=0.7)
    expected = functional.cross_entropy(logits.main, target)
    expected = expected + 0.7 * functional.cross_entropy(logits.spectral, target)
    torch.testing.assert_close(loss, expected)


def test_the_loss_is_the_formula() -> None:
    logits, target = heads()
    loss = distillation_loss(logits, target, epsilon=0.3, temperature=2.0, spectral_weight=0.5)
    main, spectral = logits.main.detach().numpy(), logits.spectral.detach().numpy()
    soft = 0.3 * np.exp(log_softmax(spectral / 2.0, axis=1)) + 0.7 * np.eye(4)[target.numpy()]
    expected = -(soft * (log_softmax(main, axis=1) + 0.5 * log_softmax(spectral, axis=1))).sum(1).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_target_sends_no_gradient_to_the_teacher() -> None:
    logits, target = heads()
    distillation_loss(logits, target, epsilon=0.5, temperature=4.0, spectral_weight=0.0).backward()  # type: ignore[no-untyped-call]
    assert logits.main.grad is not None
    assert logits.main.grad.abs().sum() > 0
    assert logits.spectral.grad is None or not logits.spectral.grad.any()


def test_the_loss_stays_finite_for_extreme_logits() -> None:
    extreme = torch.tensor([[1e4, -1e4], [-1e4, 1e4]])
    loss = distillation_loss(
        Logits(extreme, -extreme), torch.tensor([0, 0]), epsilon=0.1, temperature=4.0, spectral_weight=1.0
    )
    assert torch.isfinite(loss)
