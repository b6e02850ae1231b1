from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cssd_geo.accuracy import split_search, splits
from cssd_geo.accuracy.splits import Split, few_shot, near_folds, polygon_folds, random_folds, split_polygons
from cssd_geo.errors import InputError, LabelError

Labels = dict[str, NDArray[np.int64]]
SEEDS = st.integers(0, 2**31)


def labels_of(polygon_raster: NDArray[np.int64], class_of_polygon: NDArray[np.int64]) -> Labels:
    """Labelled pixels of a raster of polygon ids, 0 where there is none."""
    rows, cols = np.nonzero(polygon_raster)
    polygons = polygon_raster[rows, cols]
    return {"rows": rows, "cols": cols, "polygons": polygons, "classes": class_of_polygon[polygons]}


def boxes(*corners: tuple[int, int, int, int, int], shape: tuple[int, int] = (60, 90)) -> Labels:
    """Labelled pixels of rectangles: row, column, height, width, class."""
    raster = np.zeros(shape, np.int64)
    for index, (row, col, height, width, _) in enumerate(corners, start=1):
        raster[row : row + height, col : col + width] = index
    return labels_of(raster, np.array([-1, *(corner[4] for corner in corners)]))


@st.composite
def scenes(draw: st.DrawFn) -> Labels:
    """Overlapping rectangles of a few classes in a small scene that is rarely square."""
    height, width = draw(st.integers(4, 40)), draw(st.integers(4, 60))
    count, n_classes = draw(st.integers(1, 25)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(SEEDS))
    raster = np.zeros((height, width), np.int64)
    for index in range(1, count + 1):
        row, col = rng.integers(height), rng.integers(width)
        raster[row : row + rng.integers(1, 7), col : col + rng.integers(1, 9)] = index
    return labels_of(raster, rng.integers(n_classes, size=count + 1))


def distances(labels: Labels, of: NDArray[np.bool_], to: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Chebyshev distances of all pairs, by brute force."""
    points = np.column_stack([labels["rows"], labels["cols"]])
    return np.asarray(np.abs(points[of][:, np.newaxis] - points[to][np.newaxis]).max(axis=2), np.int64)


def check_honest(labels: Labels, split: Split, buffer: int) -> None:
    assert split.test.any()
    assert not (split.train & split.test).any()
    assert distances(labels, split.train, split.test).min() >= buffer
    held_out = np.unique(labels["polygons"][split.test])
    np.testing.assert_array_equal(np.isin(labels["polygons"], held_out), split.test)
    assert set(labels["classes"][split.train]) == set(labels["classes"])


def drops_only_the_buffer(labels: Labels, split: Split, buffer: int) -> bool:
    dropped = ~split.train & ~split.test
    return bool((distances(labels, dropped, split.test).min(axis=1) < buffer).all()) if dropped.any() else True


def can_hold_out_one(labels: Labels, buffer: int) -> bool:
    """Whether any polygon, at most half of its class, leaves every class trained."""
    ids, first = np.unique(labels["polygons"], return_index=True)
    for polygon, klass in zip(ids, labels["classes"][first], strict=True):
        test = labels["polygons"] == polygon
        far = distances(labels, np.ones_like(test), test).min(axis=1) >= buffer
        small = test.sum() <= (labels["classes"] == klass).sum() / 2
        if small and set(labels["classes"][far]) == set(labels["classes"]):
            return True
    return False


@settings(max_examples=40, deadline=None)
@given(labels=scenes(), buffer=st.integers(1, 17), fraction=st.floats(0.05, 0.5), seed=SEEDS)
def test_polygon_split_is_honest_or_impossible(labels: Labels, buffer: int, fraction: float, seed: int) -> None:
    try:
        split = split_polygons(tested=None, **labels, buffer=buffer, fraction=fraction, seed=seed)
    except LabelError:
        assert not can_hold_out_one(labels, buffer)
        return
    check_honest(labels, split, buffer)
    assert drops_only_the_buffer(labels, split, buffer)


@settings(max_examples=20, deadline=None)
@given(labels=scenes(), buffer=st.integers(1, 12), seed=SEEDS, units=st.integers(1, 60))
def test_grouped_search_is_as_honest(labels: Labels, buffer: int, seed: int, units: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_search, "_UNITS", units)
        try:
            split = split_polygons(tested=None, **labels, buffer=buffer, fraction=0.25, seed=seed)
        except LabelError:
            assume(False)
    check_honest(labels, split, buffer)
    assert drops_only_the_buffer(labels, split, buffer)


@settings(max_examples=40, deadline=None)
@given(labels=scenes(), buffer=st.integers(1, 12), seed=SEEDS)
def test_separation_takes_test_polygons_back_until_every_class_trains(
    labels: Labels, buffer: int, seed: int
) -> None:
    polygons = np.unique(labels["polygons"])
    wanted = np.random.default_rng(seed).random(len(polygons)) < 0.5
    test = np.isin(labels["polygons"], polygons[wanted])
    asked = test.copy()
    points = np.column_stack([labels["rows"], labels["cols"]])
    train = splits.separate(points, labels["classes"], labels["polygons"], test, buffer)
    assert not (test & ~asked).any()
    split = splits.Split(train=train, test=test)
    if test.any():
        check_honest(labels, split, buffer)
    else:
        assert train.all()


@settings(max_examples=10, deadline=None)
@given(labels=scenes(), seed=SEEDS)
def test_a_seed_gives_the_same_split(labels: Labels, seed: int) -> None:
    def split() -> Split | str:
        try:
            return split_polygons(tested=None, **labels, buffer=4, fraction=0.25, seed=seed)
        except LabelError as error:
            return str(error)

    one, two = split(), split()
    if isinstance(one, Split) and isinstance(two, Split):
        np.testing.assert_array_equal(one.train, two.train)
        np.testing.assert_array_equal(one.test, two.test)
    else:
        assert one == two


def test_class_with_one_polygon_trains_and_is_not_measured() -> None:
    labels = boxes((0, 0, 8, 8, 0), (0, 40, 8, 8, 0), (30, 0, 8, 8, 1), (30, 40, 8, 8, 1), (50, 80, 5, 5, 2))
    split = split_polygons(tested=None, **labels, buffer=16, fraction=0.25, seed=0)
    assert split.train[labels["classes"] == 2].all()
    assert (split.train | split.test).all()
    assert split.test.sum() == 128


def test_classes_need_not_be_numbered_without_gaps() -> None:
    labels = boxes((0, 0, 8, 8, 3), (0, 40, 8, 8, 3), (30, 0, 8, 8, 9), (50, 80, 5, 5, 7))
    split = split_polygons(tested=None, **labels, buffer=16, fraction=0.25, seed=0)
    assert set(labels["classes"][split.test]) == {3}


def test_a_road_network_across_the_scene_is_not_held_out() -> None:
    raster = np.zeros((60, 90), np.int64)
    raster[::20], raster[:, ::30] = 1, 1
    raster[3:6, 3:6], raster[50:53, 80:83] = 2, 3
    raster[10:18, 10:18], raster[48:56, 40:48], raster[10:18, 70:78] = 4, 5, 6
    labels = labels_of(raster, np.array([-1, 0, 0, 0, 1, 1, 1]))
    split = split_polygons(tested=None, **labels, buffer=16, fraction=0.25, seed=0)
    check_honest(labels, split, 16)
    assert not split.test[labels["polygons"] == 1].any()
    assert set(labels["classes"][split.test]) == set(labels["classes"])


def test_touching_tiny_polygons_are_held_out_in_compact_groups() -> None:
    rows, cols = (axis.ravel() for axis in np.mgrid[:40, :70])
    rng = np.random.default_rng(1)
    polygons = (rows // 2) * 100 + cols // 2
    classes = rng.integers(4, size=polygons.max() + 1)[polygons]
    labels = {"rows": rows, "cols": cols, "polygons": polygons, "classes": classes}
    split = split_polygons(tested=None, **labels, buffer=8, fraction=0.25, seed=0)
    check_honest(labels, split, 8)
    # A scattered tenth of the polygons would leave no training pixel at all.
    assert split.train.mean() > 0.4
    assert split.test.mean() > 0.15


def test_many_pixels_are_grouped_and_the_split_stays_exact() -> None:
    rows, cols = (axis.ravel() for axis in np.mgrid[:200, :300])
    polygons = (rows // 10) * 100 + cols // 10
    labels = {"rows": rows, "cols": cols, "polygons": polygons, "classes": polygons % 5}
    split = split_polygons(tested=None, **labels, buffer=16, fraction=0.25, seed=0)
    raster = split.test.reshape(200, 300)
    near = np.zeros_like(raster)
    for row, col in zip(*np.nonzero(raster), strict=True):
        near[max(row - 15, 0) : row + 16, max(col - 15, 0) : col + 16] = True
    np.testing.assert_array_equal(split.train, ~near.ravel())
    assert set(labels["classes"][split.test]) == set(labels["classes"])
    assert split.train.mean() > 0.5


def test_one_polygon_per_class_is_an_error_that_names_the_remedy() -> None:
    labels = boxes((0, 0, 8, 8, 0), (0, 40, 8, 8, 1))
    with pytest.raises(LabelError, match=r"two polygons.*--split random"):
        split_polygons(tested=None, **labels, buffer=16, fraction=0.25, seed=0)


def test_polygons_within_the_buffer_are_an_error_that_names_the_remedy() -> None:
    labels = boxes((0, 0, 4, 4, 0), (0, 6, 4, 4, 0), (6, 0, 4, 4, 1), (6, 6, 4, 4, 1))
    with pytest.raises(LabelError, match=r"closer than 16 pixels.*--split random"):
        split_polygons(tested=None, **labels, buffer=16, fraction=0.25, seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fraction": 0.0}, "between 0 and 1, not 0.0"),
        ({"fraction": 1.0}, "between 0 and 1, not 1.0"),
        ({"buffer": 0}, "at least 1 pixel, not 0"),
        ({"rows": np.zeros(3, np.int64)}, "rows has 3 values for 32"),
        ({"classes": np.arange(32)}, "several"),
    ],
)
def test_arguments_that_cannot_be_used(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = boxes((0, 0, 4, 4, 0), (0, 40, 4, 4, 0)) | {
        "buffer": 16,
        "fraction": 0.25,
        "seed": 0,
    }
    with pytest.raises(InputError, match=message):
        split_polygons(**(arguments | changes))


def test_no_labelled_pixels_is_an_error() -> None:
    none = np.zeros(0, np.int64)
    with pytest.raises(LabelError, match="no labelled pixels"):
        random_folds(classes=none, folds=3, seed=0)
    with pytest.raises(LabelError, match="no labelled pixels"):
        split_polygons(rows=none, cols=none, classes=none, polygons=none, buffer=16, fraction=0.25, seed=0)


CLASSES = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(lambda values: np.array(values, np.int64))


@given(classes=CLASSES, folds=st.integers(2, 7), seed=SEEDS)
def test_random_folds_test_every_pixel_once_and_are_stratified(
    classes: NDArray[np.int64], folds: int, seed: int
) -> None:
    sizes = np.bincount(classes)
    if sizes.max() < 2:
        with pytest.raises(LabelError, match="no class has two"):
            random_folds(classes=classes, folds=folds, seed=seed)
        return
    found = random_folds(classes=classes, folds=folds, seed=seed)
    tested = np.sum([split.test for split in found], axis=0)
    np.testing.assert_array_equal(tested, sizes[classes] > 1)
    for split in found:
        np.testing.assert_array_equal(split.train, ~split.test)
        assert set(classes[split.train]) == set(classes)
        counts = np.bincount(classes[split.test], minlength=len(sizes))
        assert all(abs(m - n / folds) < 1 or n < 2 for n, m in zip(sizes, counts, strict=True))
    again = random_folds(classes=classes, folds=folds, seed=seed)
    assert all((one.test == two.test).all() for one, two in zip(found, again, strict=True))


@settings(max_examples=20, deadline=None)
@given(labels=scenes(), buffer=st.integers(1, 9), folds=st.integers(2, 4), seed=SEEDS)
def test_polygon_folds_are_honest_and_test_no_polygon_twice(
    labels: Labels, buffer: int, folds: int, seed: int
) -> None:
    try:
        found = polygon_folds(**labels, buffer=buffer, folds=folds, seed=seed)
    except LabelError:
        assert not can_hold_out_one(labels, buffer)
        return
    assert 1 <= len(found) <= folds
    for split in found:
        check_honest(labels, split, buffer)
    assert np.sum([split.test for split in found], axis=0).max() == 1


def test_folds_reach_polygons_that_one_split_leaves_out() -> None:
    corners = [(row, col, 6, 6, k) for k, row in enumerate((0, 40)) for col in (0, 40, 80)]
    found = polygon_folds(**boxes(*corners), buffer=16, folds=3, seed=0)
    assert len(found) == 3
    assert np.logical_or.reduce([split.test for split in found]).all(), "every polygon tests once"


@given(labels=scenes(), folds=st.integers(2, 5), tested=st.floats(0, 1), seed=SEEDS)
def test_near_folds_hold_out_once_what_was_not_held_out(
    labels: Labels, folds: int, tested: float, seed: int
) -> None:
    classes, polygons = labels["classes"], labels["polygons"]
    before = np.random.default_rng(seed).random(len(classes)) < tested
    pixels = np.bincount(classes)
    arguments: Any = {"classes": classes, "polygons": polygons, "folds": folds, "seed": seed}
    if pixels.max() < 2:
        with pytest.raises(LabelError, match="no class has two"):
            near_folds(**arguments, tested=before)
        return
    found = near_folds(**arguments, tested=before)
    held = np.sum([np.zeros(len(classes), np.int64), *(split.test for split in found)], axis=0)
    np.testing.assert_array_equal(held, ~before & (pixels[classes] > 1))
    for split in found:
        assert split.test.any()
        np.testing.assert_array_equal(split.train, ~split.test)
        assert set(classes[split.train]) == set(classes)
    whole = near_folds(**arguments, tested=np.zeros_like(before))
    several = [k for k in np.unique(classes) if len(np.unique(polygons[classes == k])) > 1]
    for polygon in np.unique(polygons[np.isin(classes, several)]):
        assert sum(split.test[polygons == polygon].any() for split in whole) == 1, "held out as a whole"
    again = near_folds(**arguments, tested=before)
    assert all((one.test == two.test).all() for one, two in zip(found, again, strict=True))


def test_near_folds_are_stratified() -> None:
    classes = np.repeat([0, 1, 2], [30, 12, 7])
    for split in near_folds(
        classes=classes, polygons=np.arange(49), tested=np.zeros(49, np.bool_), folds=3, seed=0
    ):
        counts = np.bincount(classes[split.test])
        assert all(abs(m - n / 3) < 1 for n, m in zip((30, 12, 7), counts, strict=True))


@given(seed=SEEDS)
def test_near_folds_do_not_hold_out_large_polygons_together(seed: int) -> None:
    """Dealt in turn, the largest first, whatever the order of their ids."""
    sizes = np.random.default_rng(seed).permutation([50, 40, 30, 3, 2, 2, 1, 1, 1, 1])
    polygons = np.repeat(np.arange(10), sizes)
    for split in near_folds(
        classes=np.zeros_like(polygons), polygons=polygons, tested=np.zeros(131, np.bool_), folds=3, seed=seed
    ):
        assert (sizes[np.unique(polygons[split.test])] >= 30).sum() == 1


@given(classes=CLASSES, shots=st.integers(1, 30), seed=SEEDS)
def test_few_shot_picks_at_most_shots_and_at_most_the_share(
    classes: NDArray[np.int64], shots: int, seed: int
) -> None:
    picked = few_shot(classes=classes, shots=shots, seed=seed)
    halves = few_shot(classes=classes, shots=shots, seed=seed, most=0.5)
    sizes = np.bincount(classes)
    all_counts, half_counts = (np.bincount(classes[part], minlength=5) for part in (picked, halves))
    for n, all_of, half_of in zip(sizes, all_counts, half_counts, strict=False):
        assert all_of == min(n, shots)
        assert half_of == (0 if n == 0 else shots if n >= 2 * shots else max(1, n // 2))


@given(classes=CLASSES, shots=st.integers(1, 30), seed=SEEDS)
def test_fewer_shots_are_among_more_shots(classes: NDArray[np.int64], shots: int, seed: int) -> None:
    fewer = few_shot(classes=classes, shots=shots, seed=seed)
    more = few_shot(classes=classes, shots=shots + 3, seed=seed)
    assert not (fewer & ~more).any()


def test_no_shots_is_an_error() -> None:
    with pytest.raises(InputError, match="at least 1, not 0"):
        few_shot(classes=np.array([0, 1]), shots=0, seed=0)


@given(seed=st.integers(0, 999), buffer=st.integers(1, 12))
def test_distances_are_looked_for_no_farther_than_the_buffer(seed: int, buffer: int) -> None:
    """Whole scenes may be labelled: to look for the nearest of what is far away takes most of the time."""
    random = np.random.default_rng(seed)
    points = random.integers(0, 40, (30, 2))
    test = random.random(30) < 0.2
    test[0] = True
    exact = np.abs(points[:, None] - points[test]).max(axis=2).min(axis=1)
    exact[test] = 0
    np.testing.assert_array_equal(splits._distance(points, test, buffer), np.where(exact < buffer, exact, np.inf))
