import csv
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as oracle

from cssd_geo.accuracy import metrics
from cssd_geo.accuracy.metrics import Accuracy, confusion_matrix
from cssd_geo.errors import InputError

TABLE = """\
class                   n    PA %    UA %    F1 %
low vegetation          8    75.0   100.0    85.7
roof                    2   100.0    66.7    80.0
soil                    0       -       -       -  no reference pixel: not measured
unclassified            1  of the pixels above; errors (of all others 88.9 % are right)

overall accuracy (OA)    80.0 %
average accuracy (AA)    87.5 %  over 2 of 3 classes
kappa                   0.565
reference pixels (n)       10"""

Pairs = tuple[int, NDArray[np.int64], NDArray[np.int64]]


@st.composite
def pairs(draw: st.DrawFn, lowest: int = -1) -> Pairs:
    """Number of classes, reference and predicted class indices."""
    k = draw(st.integers(1, 6))
    both = draw(st.lists(st.tuples(st.integers(0, k - 1), st.integers(lowest, k - 1)), max_size=80))
    reference, predicted = np.array(both, np.int64).reshape(-1, 2).T
    return k, reference, predicted


def accuracy_of(pair: Pairs) -> Accuracy:
    k, reference, predicted = pair
    names = tuple(f"class {index}" for index in range(k))
    return Accuracy(confusion=confusion_matrix(reference, predicted, k), names=names)


@given(pairs())
def test_confusion_matrix_against_sklearn(pair: Pairs) -> None:
    k, reference, predicted = pair
    ours = confusion_matrix(reference, predicted, k)
    assert ours.sum() == len(reference)
    if len(reference):
        labels = [*range(k), -1]
        theirs = oracle.confusion_matrix(reference, predicted, labels=labels)
        np.testing.assert_array_equal(ours, theirs[:k])


@given(pairs())
def test_per_class_figures_against_sklearn(pair: Pairs) -> None:
    k, reference, predicted = pair
    accuracy = accuracy_of(pair)
    if not len(reference):
        return
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        reference, predicted, labels=range(k), zero_division=np.nan
    )
    measured = support > 0
    np.testing.assert_array_equal(accuracy.n, support)
    np.testing.assert_allclose(accuracy.producers_accuracy[measured], recall[measured])
    np.testing.assert_allclose(accuracy.users_accuracy[measured], precision[measured])
    np.testing.assert_allclose(accuracy.f1[measured], f1[measured])
    for figure in (accuracy.producers_accuracy, accuracy.users_accuracy, accuracy.f1):
        assert np.isnan(figure[~measured]).all()
    assert accuracy.overall_accuracy == pytest.approx(oracle.accuracy_score(reference, predicted))
    assert accuracy.average_accuracy == pytest.approx(recall[measured].mean())


@given(pairs())
def test_kappa_against_sklearn(pair: Pairs) -> None:
    _, reference, predicted = pair
    kappa = accuracy_of(pair).kappa
    if not len(reference) or len(set(reference) | set(predicted)) == 1:
        assert math.isnan(kappa)  # sklearn divides zero by zero here, and warns
    else:
        assert kappa == pytest.approx(oracle.cohen_kappa_score(reference, predicted), abs=1e-12)


@given(pairs())
def test_reports_hold_for_any_matrix(pair: Pairs) -> None:
    accuracy = accuracy_of(pair)
    plain = json.loads(json.dumps(accuracy.to_json(), allow_nan=False))
    assert plain["total"] == accuracy.total
    assert len(accuracy.to_text().splitlines()) >= pair[0] + 6
    rows = list(csv.reader(accuracy.to_csv().splitlines()))
    assert [[int(cell) for cell in row[1:-2]] for row in rows[1:-1]] == accuracy.confusion[:, :-1].tolist()


def test_a_worked_example() -> None:
    confusion = np.array([[65, 4, 22, 24], [6, 81, 5, 8], [0, 11, 85, 19], [4, 7, 3, 90]])
    accuracy = Accuracy(confusion=np.pad(confusion, ((0, 0), (0, 1))), names=("a", "b", "c", "d"))
    assert accuracy.overall_accuracy == pytest.approx(321 / 434)
    np.testing.assert_allclose(accuracy.producers_accuracy, [65 / 115, 81 / 100, 85 / 115, 90 / 104])
    np.testing.assert_allclose(accuracy.users_accuracy, [65 / 75, 81 / 103, 85 / 115, 90 / 141])
    assert accuracy.kappa == pytest.approx(0.65, abs=0.005)


def test_unclassified_pixels_are_errors_of_their_class() -> None:
    accuracy = accuracy_of((2, np.array([0, 0, 0, 1]), np.array([0, -1, -1, 1])))
    np.testing.assert_array_equal(accuracy.confusion, [[1, 0, 2], [0, 1, 0]])
    assert accuracy.unclassified == 2
    assert accuracy.overall_accuracy == 0.5
    np.testing.assert_allclose(accuracy.producers_accuracy, [1 / 3, 1])
    np.testing.assert_allclose(accuracy.users_accuracy, [1, 1])


def test_empty_reference_is_undefined_without_warnings() -> None:
    accuracy = accuracy_of((3, np.zeros(0, np.int64), np.zeros(0, np.int64)))
    figures = [accuracy.overall_accuracy, accuracy.average_accuracy, accuracy.kappa]
    assert np.isnan([*figures, *accuracy.producers_accuracy, *accuracy.users_accuracy, *accuracy.f1]).all()
    assert accuracy.to_json()["kappa"] is None
    assert "-" in accuracy.to_text()


def test_plain_empty_lists_are_an_empty_reference() -> None:
    assert confusion_matrix([], [], 2).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_one_class_all_right() -> None:
    accuracy = accuracy_of((1, np.zeros(5, np.int64), np.zeros(5, np.int64)))
    assert accuracy.overall_accuracy == accuracy.average_accuracy == 1.0
    assert math.isnan(accuracy.kappa)


def test_all_wrong() -> None:
    accuracy = accuracy_of((3, np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])))
    assert accuracy.overall_accuracy == accuracy.average_accuracy == 0.0
    assert accuracy.kappa == pytest.approx(-1.0)
    np.testing.assert_array_equal(accuracy.f1, [0, 0, np.nan])


def test_a_class_without_reference_pixels_is_not_measured_but_its_errors_count() -> None:
    accuracy = accuracy_of((2, np.array([0, 0]), np.array([0, 1])))
    assert accuracy.average_accuracy == 0.5
    assert math.isnan(accuracy.users_accuracy[1])
    assert accuracy.to_json()["classes"][1] == {
        "name": "class 1",
        "n": 0,
        "mapped": 1,
        "producers_accuracy": None,
        "users_accuracy": None,
        "f1": None,
    }


def test_counts_of_a_large_map_do_not_overflow() -> None:
    confusion = np.array([[3_000_000_000, 0, 0], [0, 5_000_000_000, 0]])
    assert Accuracy(confusion=confusion, names=("a", "b")).kappa == pytest.approx(1.0)


@given(pairs())
def test_those_that_the_map_classifies_have_an_accuracy_of_their_own(pair: Pairs) -> None:
    _, reference, predicted = pair
    classified = predicted >= 0
    expected = np.mean(reference[classified] == predicted[classified]) if classified.any() else np.nan
    assert accuracy_of(pair).accuracy_where_classified == pytest.approx(expected, nan_ok=True)


def test_text_is_an_aligned_table() -> None:
    reference, predicted = np.array([0] * 8 + [1] * 2), np.array([0] * 6 + [1, -1] + [1] * 2)
    accuracy = Accuracy(
        confusion=confusion_matrix(reference, predicted, 3), names=("low vegetation", "roof", "soil")
    )
    assert accuracy.to_text() == TABLE
    assert "are right" not in accuracy_of((2, reference, np.full(10, -1))).to_text(), "none is classified"
    assert "unclassified" not in accuracy_of((2, reference, reference)).to_text()


def test_a_long_name_moves_the_figures_of_its_own_line_only() -> None:
    long = "land principally occupied by agriculture, with significant areas of natural vegetation"
    head, own, other = Accuracy(confusion=np.diag([1, 1, 0])[:2], names=(long, "roof")).to_text().splitlines()[:3]
    assert own.startswith(f"{long}          1   100.0")
    assert len(head) == len(other) <= 80


def test_names_take_as_many_places_as_a_terminal_gives_them() -> None:
    names = ("玉米地", "lagüna", "lagu\u0308na")  # as one character, and as a letter and an accent
    rows = Accuracy(confusion=np.diag([1, 2, 3, 0])[:3], names=names).to_text().splitlines()[1:4]
    assert rows == [
        "玉米地                1   100.0   100.0   100.0",
        "lagüna                2   100.0   100.0   100.0",
        "lagu\u0308na                3   100.0   100.0   100.0",
    ]


def test_csv_quotes_names_and_has_margins() -> None:
    names = ('grass, "mown"', "roof\nflat")
    accuracy = Accuracy(confusion=np.array([[2, 1, 0], [0, 3, 4]]), names=names)
    assert "\r" not in accuracy.to_csv()
    rows = list(csv.reader(accuracy.to_csv().splitlines(keepends=True)))
    assert rows == [
        ["reference / map", *names, "unclassified", "total"],
        [names[0], "2", "1", "0", "3"],
        [names[1], "0", "3", "4", "7"],
        ["total", "2", "4", "4", "10"],
    ]


@pytest.mark.parametrize(
    ("reference", "predicted", "message"),
    [
        ([0, 1], [0], "2 against 1"),
        ([0, 2], [0, 0], "reference holds class indices from 0 to 1, not 0 to 2"),
        ([-1, 0], [0, 0], "reference holds class indices from 0 to 1, not -1 to 0"),
        ([0, 0], [-2, 0], "predicted holds class indices from -1 to 1, not -2 to 0"),
        ([0.0, 1.0], [0, 0], "integers, not float64"),
    ],
)
def test_indices_that_cannot_be_used(reference: list[int], predicted: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        confusion_matrix(reference, predicted, 2)


@pytest.mark.parametrize(
    ("confusion", "message"), [(np.zeros((2, 2), np.int64), r"shape \(2, 3\)"), (-np.eye(2, 3), "negative")]
)
def test_matrices_that_cannot_be_used(confusion: NDArray[np.int64], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Accuracy(confusion=confusion, names=("a", "b"))


def test_figures_are_worked_out_once_however_many_classes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of a JSON file grows with the cube of the number of classes."""
    calls, ratio = list[int](), metrics._ratio

    def counted(part: Any, whole: Any) -> NDArray[np.float64]:
        calls.append(len(calls))
        return ratio(part, whole)

    monkeypatch.setattr(metrics, "_ratio", counted)
    Accuracy(confusion=np.eye(3, 4, dtype=np.int64), names=("a", "b", "c")).to_json()
    few = len(calls)
    Accuracy(confusion=np.eye(30, 31, dtype=np.int64), names=tuple(map(str, range(30)))).to_json()
    assert len(calls) == 2 * few
