"""What cross-validation reports: intervals that cover, calibration errors that mean something."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from scipy.stats import beta, binomtest, t

from cssd_geo.accuracy.metrics import clustered_interval
from cssd_geo.accuracy.reliability import BINS, Reliability
from cssd_geo.classes import ClassTable
from cssd_geo.learning.validation import Predictions, judge
from cssd_geo.pictures import reliability_png

TABLE = ClassTable.from_names(["a", "b", "c"])


def predictions(seed: int, n: int = 300, polygons: int = 20, *, apart: bool = True) -> Predictions:
    random = np.random.default_rng(seed)
    classes = random.integers(3, size=n)
    main, spectral = random.normal(size=(2, n, 3)) + 2 * np.eye(3)[classes]
    return Predictions(
        main=main,
        spectral=spectral,
        baselines={"dice": random.integers(3, size=n)},
        classes=classes,
        polygons=random.integers(polygons, size=n),
        apart=np.full(n, apart),
        share=np.ones(n),
    )


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Polygons of very different sizes, each right or wrong nearly as a whole."""
    random = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        sizes = random.integers(5, 80, size=30)
        shares = random.beta(3, 1.5, size=30)  # mean 2 / 3
        right = np.concatenate([random.random(n) < p for n, p in zip(sizes, shares, strict=True)])
        low, high = clustered_interval(right, np.repeat(np.arange(30), sizes))
        covered.append(low <= 2 / 3 <= high)
    assert 0.91 <= np.mean(covered) <= 0.99


def test_an_interval_needs_two_polygons() -> None:
    assert np.isnan(clustered_interval([True, False], [4, 4])).all()
    low, high = clustered_interval([True, True, False, False], [4, 4, 9, 9])
    assert (low, high) == pytest.approx((0, 1)), "two polygons that contradict each other say nothing"


@pytest.mark.parametrize("polygons", [3, 10, 30])
def test_the_interval_covers_near_100_percent(polygons: int) -> None:
    """Fields of one size, mostly all right: once all were, and the interval was 100 to 100 %."""
    random, share = np.random.default_rng(polygons), 0.96
    clusters, covered = np.repeat(np.arange(polygons), 30), []
    for _ in range(300):
        shares = random.beta(share, 1 - share, size=polygons)
        right = random.random(30 * polygons) < shares[clusters]
        low, high = clustered_interval(right, clusters)
        covered.append(low <= share <= high)
    assert np.mean(covered) >= 0.85


@given(sizes=st.lists(st.integers(1, 60), min_size=2, max_size=30), data=st.data())
def test_the_interval_is_never_empty_and_holds_the_estimate(sizes: list[int], data: st.DataObject) -> None:
    right = [data.draw(st.integers(0, size)) for size in sizes]
    pixels = np.concatenate([np.arange(size) < k for size, k in zip(sizes, right, strict=True)])
    low, high = clustered_interval(pixels, np.repeat(np.arange(len(sizes)), sizes))
    n, m, share = sum(sizes), len(sizes), sum(right) / sum(sizes)
    assert 0 <= low <= share <= high <= 1
    assert high - low > 0.01
    variance = m / (m - 1) * sum((k - share * size) ** 2 for k, size in zip(right, sizes, strict=True)) / n**2
    if variance > 1e-12:  # else see below
        independent = share * (1 - share) / variance * (t.ppf(0.975, n - 1) / t.ppf(0.975, m - 1)) ** 2
        good, bad = (of * min(n, independent) for of in (share, 1 - share))
        expected = beta.ppf(0.025, good, bad + 1), beta.ppf(0.975, good + 1, bad)
        assert (low, high) == pytest.approx(expected), "Korn and Graubard's"


@given(n=st.integers(2, 40))
def test_polygons_that_agree_count_as_one_pixel_each(n: int) -> None:
    """Clopper and Pearson's interval of n right of n: the lower end is the n-th root of 2.5 %."""
    clusters = np.repeat(np.arange(n), 3)
    assert clustered_interval(np.full(3 * n, True), clusters) == pytest.approx((0.025 ** (1 / n), 1))
    assert clustered_interval(np.full(3 * n, False), clusters) == pytest.approx((0, 1 - 0.025 ** (1 / n)))
    thirds = clustered_interval(np.tile([True, True, False], n), clusters)
    expected = binomtest(2 * n // 3, n).proportion_ci(method="exact") if n % 3 == 0 else thirds
    assert thirds == pytest.approx((expected[0], expected[1]))


def test_a_calibrated_confidence_has_no_error_and_a_sharpened_one_does() -> None:
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(40_000, 4))
    shares = np.exp(log_softmax(logits, axis=1))
    classes = (shares.cumsum(1) > random.random((40_000, 1))).argmax(1)
    found = Reliability.of(logits, classes)
    assert found.expected_calibration_error < 0.01
    assert Reliability.of(3 * logits, classes).expected_calibration_error > 0.1
    assert found.pixels.sum() == 40_000
    assert reliability_png(found).startswith(b"\x89PNG")


@given(n=st.integers(1, 60), k=st.integers(2, 5), sharp=st.floats(0, 5), seed=st.integers(0, 2**31))
def test_the_calibration_error_is_that_of_guo_et_al(n: int, k: int, sharp: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, classes = sharp * random.normal(size=(n, k)), random.integers(k, size=n)
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for shares, klass in zip(softmax(logits, axis=1).tolist(), classes.tolist(), strict=True):
        best = max(shares)
        bins[min(int(best * BINS), BINS - 1)].append((best, shares.index(best) == klass))
    found = Reliability.of(logits, classes)
    assert found.pixels.tolist() == [len(each) for each in bins]
    means = np.array([np.mean(each, axis=0) if each else (np.nan, np.nan) for each in bins])
    np.testing.assert_allclose(np.column_stack([found.confidence, found.accuracy]), means)
    error = sum(len(each) / n * abs(sure - right) for each, (sure, right) in zip(bins, means, strict=True) if each)
    assert found.expected_calibration_error == pytest.approx(error)


def test_sure_and_always_wrong_is_an_error_of_one() -> None:
    logits = 100 * np.eye(3)
    found = Reliability.of(logits, np.array([1, 2, 0]))
    assert found.expected_calibration_error == pytest.approx(1)
    assert found.pixels.tolist() == [0] * (BINS - 1) + [3]
    bins = json.loads(json.dumps(found.to_json()))["bins"]
    assert bins[0] == {"pixels": 0, "confidence": None, "accuracy": None}
    assert bins[-1] == {"pixels": 3, "confidence": 1.0, "accuracy": 0.0}


def test_the_report_has_all_and_is_plain_json() -> None:
    found = judge(predictions(0), TABLE, "how")
    report = json.loads(json.dumps(found.to_json(), allow_nan=False))
    low, high = report["map"]["overall_accuracy_95"]
    assert low < report["map"]["overall_accuracy"] < high
    assert report["baselines"]["dice"]["total"] == 300
    assert found.best_baseline == "dice"


def test_the_report_for_a_terminal_has_the_same_figures() -> None:
    found = judge(predictions(0), TABLE, "how")
    text, (low, high) = found.to_text(), found.interval
    assert text.startswith(found.map.to_text())
    assert re.search(
        rf"^OA, 95 % interval +{100 * low:.1f} to {100 * high:.1f} %  polygons count", text, re.MULTILINE
    )
    error = found.reliability.expected_calibration_error
    assert re.search(rf"^calibration error +{error:.3f}  of the confidence", text, re.MULTILINE)
    for name, one in {"CSSD, the map": found.map, "  main head .window.": found.main, **found.baselines}.items():
        shares = f"{100 * one.overall_accuracy:.1f} +{100 * one.average_accuracy:.1f}"
        assert re.search(rf"^{name} +{shares} +{one.kappa:.3f} +{one.total}$", text, re.MULTILINE), name
    assert "at least as good" not in text


def test_the_report_says_so_where_a_baseline_is_better_or_a_figure_has_no_value() -> None:
    lone = predictions(0, n=40, polygons=1)
    zeros, sure = np.zeros_like(lone.classes), 9 * np.eye(3)[np.zeros_like(lone.classes)]
    lone = replace(lone, classes=zeros, baselines={"dice": zeros}, main=sure, spectral=sure)
    text = judge(lone, TABLE, "how").to_text()
    assert re.search(r"^OA, 95 % interval +-    it takes two polygons or more$", text, re.MULTILINE)
    assert re.search(r"^dice +100.0 +100.0 +- +40$", text, re.MULTILINE)
    assert "The dice is at least as good here." in text
    assert "nan" not in text


def test_two_heads_together_beat_each_alone() -> None:
    found = judge(predictions(1, n=3000), TABLE, "how")
    assert found.map.overall_accuracy > max(found.main.overall_accuracy, found.spectral.overall_accuracy)
    assert found.reliability.expected_calibration_error < 0.05


def test_pixels_beside_training_ones_weigh_the_heads_and_count_for_nothing_else() -> None:
    few, others = predictions(0, n=6), predictions(1, n=400, apart=False)
    found = judge(Predictions.joined([others, few]), TABLE, "how")
    alone = judge(few, TABLE, "how")
    assert found.map.total == found.baselines["dice"].total == found.reliability.pixels.sum() == 6
    for one, two in ((found.main, alone.main), (found.baselines["dice"], alone.baselines["dice"])):
        np.testing.assert_array_equal(one.confusion, two.confusion)
    assert found.reliability.expected_calibration_error != alone.reliability.expected_calibration_error


def test_parts_are_joined_in_order() -> None:
    one, two = predictions(0, n=7), predictions(1, n=5)
    both = Predictions.joined([one, two])
    np.testing.assert_array_equal(both.main, np.concatenate([one.main, two.main]))
    np.testing.assert_array_equal(both.baselines["dice"][7:], two.baselines["dice"])
    assert len(both.classes) == len(both.polygons) == len(both.spectral) == 12
