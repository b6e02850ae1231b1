"""The stratified estimators: the paper's worked example, Stehman's ratio estimator, and what must always hold."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cssd_geo.accuracy import areas
from cssd_geo.accuracy.areas import AreaEstimates, Estimate
from cssd_geo.accuracy.metrics import Accuracy
from cssd_geo.errors import InputError

NAMES = ("deforestation", "forest gain", "stable forest", "stable non-forest")
PIXELS = [200_000, 150_000, 3_200_000, 6_450_000]
SAMPLE = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
"""Table 8 of Olofsson et al. 2014: rows are the map."""

TEXT = """\
Accuracy of the map, by area, from a stratified random sample (Olofsson et al. 2014)
± is half of the 95 % interval

class                  n      mapped, ha        area, ha            ±    UA %     ±    PA %     ±
deforestation         75       18,000.00       21,157.76     6,157.63    88.0   7.4    74.9  21.3
forest gain           75       13,500.00       11,686.15     3,755.83    73.3  10.1    84.7  25.4
stable forest        165      288,000.00      285,769.93    15,509.84    92.7   4.0    93.5   3.4
stable non-forest    325      580,500.00      581,386.15    16,281.66    96.3   2.1    96.2   1.8

overall accuracy (OA)    94.7 % ± 1.8 %"""


def estimates(
    by_map: list[list[int]] | NDArray[np.int64],
    pixels: list[int],
    *,
    unclassified: int = 0,
    pixel_area: float = 1.0,
    unit: str = "pixels",
) -> AreaEstimates:
    """Of sample counts whose rows are the map and whose columns are the reference."""
    confusion = np.pad(np.array(by_map, np.int64).T, ((0, 0), (0, 1)))
    confusion[0, -1] = unclassified
    names = NAMES if len(pixels) == 4 else tuple(f"class {i}" for i in range(len(pixels)))
    return AreaEstimates(
        accuracy=Accuracy(confusion=confusion, names=names),
        mapped_pixels=np.array(pixels, np.int64),
        pixel_area=pixel_area,
        unit=unit,
    )


def example() -> AreaEstimates:
    return estimates(SAMPLE, PIXELS, pixel_area=0.09, unit="ha")


def test_the_worked_example_of_the_paper() -> None:
    found = example()
    np.testing.assert_allclose(found.weights, [0.020, 0.015, 0.320, 0.645])
    table_9 = [
        [0.0176, 0, 0.0013, 0.0011],
        [0, 0.0110, 0.0016, 0.0024],
        [0.0019, 0, 0.2967, 0.0213],
        [0.0040, 0.0020, 0.0179, 0.6212],
    ]
    np.testing.assert_allclose(found.proportions, table_9, atol=0.5e-4)
    assert found.overall_accuracy.value == pytest.approx(0.95, abs=0.005)
    assert found.overall_accuracy.half_width == pytest.approx(0.02, abs=0.005)
    np.testing.assert_allclose(found.users_accuracy.value, [0.88, 0.73, 0.93, 0.96], atol=0.005)
    np.testing.assert_allclose(found.users_accuracy.half_width, [0.07, 0.10, 0.04, 0.02], atol=0.005)
    np.testing.assert_allclose(found.producers_accuracy.value, [0.75, 0.85, 0.93, 0.96], atol=0.005)
    np.testing.assert_allclose(found.area.value, [21_158, 11_686, 285_770, 581_386], atol=0.5)
    np.testing.assert_allclose(found.area.half_width, [6_158, 3_756, 15_510, 16_282], atol=0.5)


def test_producers_intervals_follow_the_paper_s_equation() -> None:
    """The paper prints 0.21, 0.23, 0.03 and 0.01; with its table 8, its equation 7 gives 0.25 and 0.02 for two."""
    np.testing.assert_allclose(example().producers_accuracy.half_width, [0.21, 0.25, 0.03, 0.02], atol=0.005)


@st.composite
def samples(draw: st.DrawFn) -> AreaEstimates:
    """At least two samples of each stratum, and strata larger than their samples."""
    k = draw(st.integers(1, 5))
    counts = np.array(draw(st.lists(st.integers(0, 30), min_size=k * k, max_size=k * k))).reshape(k, k)
    counts[np.diag_indices(k)] += 2
    sizes = draw(st.lists(st.integers(200, 10**9), min_size=k, max_size=k))
    return estimates(counts, sizes, pixel_area=draw(st.floats(1e-3, 1e3)))


@given(samples())
def test_areas_sum_to_the_whole_and_all_is_defined(found: AreaEstimates) -> None:
    assert found.proportions.sum() == pytest.approx(1)
    np.testing.assert_allclose(found.proportions.sum(axis=1), found.weights)
    assert found.area.value.sum() == pytest.approx(found.total_area)
    assert found.mapped_area.sum() == pytest.approx(found.total_area)
    for estimate in (found.overall_accuracy, found.users_accuracy, found.producers_accuracy):
        assert ((estimate.value >= 0) & (estimate.value <= 1 + 1e-12)).all()
        assert (estimate.standard_error >= 0).all()
    by_map = found.accuracy.confusion[:, :-1].T
    alike = (by_map.max(axis=1) == by_map.sum(axis=1)).any()
    assert any("rule of three" in note for note in found.notes) == alike
    assert len(found.notes) == alike
    json.dumps(found.to_json(), allow_nan=False)


@given(samples(), st.integers(1, 50))
def test_a_proportional_sample_needs_no_adjustment(found: AreaEstimates, factor: int) -> None:
    accuracy = found.accuracy
    plain = AreaEstimates(accuracy=accuracy, mapped_pixels=found.samples * (factor + 1))
    assert plain.overall_accuracy.value == pytest.approx(accuracy.overall_accuracy)
    np.testing.assert_allclose(plain.users_accuracy.value, accuracy.users_accuracy)
    np.testing.assert_allclose(plain.producers_accuracy.value, accuracy.producers_accuracy)
    np.testing.assert_allclose(plain.area.value, accuracy.n * (factor + 1))


@given(samples())
def test_intervals_are_those_of_stehman_s_estimators(found: AreaEstimates) -> None:
    """Stehman 2014, doi 10.1080/01431161.2014.930207, works on the single samples: means, and ratios of means."""
    by_map = found.accuracy.confusion[:, :-1].T
    k = len(by_map)

    def ratio(of: NDArray[np.float64], to: NDArray[np.float64]) -> tuple[float, float]:
        """Value and standard error where a sample of cell (map, reference) counts of[cell] to to[cell]."""
        whole, part, variance = 0.0, 0.0, 0.0
        for i in range(k):
            y, x = (np.repeat(values[i], by_map[i]) for values in (of, to))
            part, whole = part + found.weights[i] * y.mean(), whole + found.weights[i] * x.mean()
        for i in range(k):
            y, x = (np.repeat(values[i], by_map[i]) for values in (of, to))
            residual = y - part / whole * x
            variance += found.weights[i] ** 2 * residual.var(ddof=1) / len(y)
        return part / whole, math.sqrt(variance) / whole

    right, every = np.eye(k), np.ones((k, k))
    overall = ratio(right, every)
    assert (overall[0], overall[1]) == pytest.approx(
        (found.overall_accuracy.value.item(), found.overall_accuracy.standard_error.item())
    )
    for j in range(k):
        of_class, mapped = np.zeros((k, k)), np.zeros((k, k))
        of_class[:, j], mapped[j] = 1, 1
        for estimate, (value, error) in (
            (found.area.scaled(1 / found.total_area), ratio(of_class, every)),
            (found.producers_accuracy, ratio(right * of_class, of_class)),
            (found.users_accuracy, ratio(right * mapped, mapped)),
        ):
            assert estimate.value[j] == pytest.approx(value, abs=1e-9)
            assert estimate.standard_error[j] == pytest.approx(error, abs=1e-9)


def test_a_stratum_with_one_sample_has_no_variance_and_says_so() -> None:
    found = estimates([[1, 0], [3, 7]], [1000, 2000])
    np.testing.assert_allclose(found.area.value, [1000 + 600, 1400])
    assert np.isnan(found.area.half_width).all()
    assert np.isnan(found.overall_accuracy.half_width)
    assert found.users_accuracy.half_width[1] > 0, "which depends on its own stratum alone"
    assert np.isnan(found.users_accuracy.half_width[0])
    assert len(found.notes) == 1
    assert found.notes[0].startswith(
        "The sample has one pixel mapped as class 0 (1000 pixels), so what depends on"
    )


def test_a_stratum_without_samples_leaves_areas_unknown_and_says_so() -> None:
    found = estimates([[0, 0], [3, 7]], [1000, 2000])
    assert np.isnan(found.area.value).all()
    assert np.isnan(found.overall_accuracy.value)
    assert np.isnan(found.producers_accuracy.value).all()
    np.testing.assert_allclose(found.users_accuracy.value, [np.nan, 0.7])
    assert "no pixel mapped as class 0 (1000 pixels)" in found.notes[0]
    assert found.to_json()["classes"][0]["area"] == {
        "value": None, "standard_error": None, "half_width_95": None,
    }  # fmt: skip
    assert "nan" not in found.to_text()
    none, one = estimates([[0, 0, 0], [1, 0, 0], [2, 3, 4]], [10, 20, 3000]).notes
    assert "no pixel mapped as class 0 (10 pixels), so" in none
    assert "one pixel mapped as class 1 (20 pixels), so" in one


def test_strata_without_an_error_say_how_many_there_may_be() -> None:
    found = estimates([[50, 0, 0], [0, 20, 0], [1, 2, 97]], [1000, 2000, 9000])
    assert found.users_accuracy.half_width[:2].tolist() == [0, 0], "by the paper's estimators"
    assert len(found.notes) == 1
    assert found.notes[0].startswith(
        "All sampled pixels mapped as class 0 (50 pixels: 6.0 %), class 1 (20 pixels: 15.0 %) are of one class"
    )
    wrong = estimates([[0, 5], [1, 7]], [1000, 2000])
    assert "class 0 (5 pixels: 60.0 %) are of one class" in wrong.notes[0], "all wrong has no variance either"
    assert "class 0 (2 pixels: 100.0 %)" in estimates([[2, 0], [1, 7]], [1000, 2000]).notes[0]


def test_a_stratum_that_was_drawn_whole_has_no_error() -> None:
    alone = estimates([[1, 0], [3, 7]], [1, 2000])
    assert alone.notes == ()
    assert alone.users_accuracy.standard_error[0] == 0
    rest = 2000 * math.sqrt(0.3 * 0.7 / 9)
    np.testing.assert_allclose(alone.area.standard_error, [rest, rest])
    assert estimates([[5, 0], [3, 7]], [5, 2000]).notes == (), "none are left to be of another class"


def test_a_class_that_the_map_never_has_still_has_an_area() -> None:
    found = estimates([[8, 2], [0, 0]], [1000, 0])
    np.testing.assert_allclose(found.area.value, [800, 200])
    assert (found.area.half_width > 0).all()
    np.testing.assert_allclose(found.producers_accuracy.value, [1, 0])
    np.testing.assert_allclose(found.users_accuracy.value, [0.8, np.nan])
    assert found.notes == ()
    nowhere = estimates([[10, 0], [0, 0]], [1000, 0])
    np.testing.assert_allclose(nowhere.producers_accuracy.value, [1, np.nan])


def test_samples_where_the_map_is_unclassified_change_nothing_and_are_told() -> None:
    with_some = estimates(SAMPLE, PIXELS, unclassified=7, pixel_area=0.09, unit="ha")
    assert with_some.to_text() == example().to_text()
    assert with_some.notes[0].startswith("7 of the sampled pixels are unclassified in the map")


def test_text_is_an_aligned_table() -> None:
    assert example().to_text() == TEXT
    in_pixels = estimates([[8, 2], [1, 3]], [1000, 1000]).to_text()
    assert re.search(r"^class 0 +10 +1,000 +1,050 +", in_pixels, re.MULTILINE)


def test_json_has_every_figure() -> None:
    facts = example().to_json()
    assert facts["unit"] == "ha"
    assert facts["total_area"] == pytest.approx(900_000)
    first = facts["classes"][0]
    assert (first["name"], first["samples"], first["mapped_pixels"]) == ("deforestation", 75, 200_000)
    assert first["area"]["value"] == pytest.approx(21_158, abs=0.5)
    assert first["area"]["half_width_95"] == pytest.approx(1.96 * first["area"]["standard_error"])


@pytest.mark.parametrize(
    ("pixels", "area", "message"),
    [
        ([200_000, 150_000, 3_200_000], 1.0, "strata of 4 classes have as many numbers of pixels"),
        ([0, 0, 0, 0], 1.0, "not all 0"),
        ([-1, 150_000, 3_200_000, 6_450_000], 1.0, "numbers of pixels"),
        ([74, 150_000, 3_200_000, 6_450_000], 1.0, "75 pixels of deforestation were sampled, but the map has 74"),
        (PIXELS, 0.0, "area of a pixel is above 0, not 0"),
        (PIXELS, math.nan, "area of a pixel is above 0, not nan"),
    ],
)
def test_strata_that_cannot_be(pixels: list[int], area: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AreaEstimates(accuracy=example().accuracy, mapped_pixels=np.array(pixels), pixel_area=area)


def test_figures_are_worked_out_once_however_many_classes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of a table grows with the cube of the number of classes: 500 took a minute."""
    calls, estimate = list[int](), areas._estimate

    def counted(*figures: Any) -> Estimate:
        calls.append(len(calls))
        return estimate(*figures)

    monkeypatch.setattr(areas, "_estimate", counted)
    times = []
    for count in (3, 30):
        confusion = np.hstack([np.full((count, count), 2), np.zeros((count, 1), np.int64)])
        accuracy = Accuracy(confusion=confusion, names=tuple(map(str, range(count))))
        found = AreaEstimates(accuracy=accuracy, mapped_pixels=np.full(count, 1000))
        found.to_text()
        found.to_json()
        times.append(len(calls))
    assert times[1] == 2 * times[0]
