"""Training windows are the scene around a pixel, edges and holes included; samples are what was asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import coordinate_cube, write_raster

from cssd_geo.classes import ClassTable
from cssd_geo.errors import LabelError
from cssd_geo.labels import Labels
from cssd_geo.learning.sampling import draw
from cssd_geo.learning.windows import TrainingWindows, read_pixels, read_windows
from cssd_geo.network import NetworkConfig
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.tiles import Halo, Window

HEIGHT, WIDTH = 19, 31
HALO = Halo(before=4, after=3)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def holed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cube = coordinate_cube(3, HEIGHT, WIDTH)
    cube[:, np.random.default_rng(2).random((HEIGHT, WIDTH)) < 0.1] = -5
    path = tmp_path_factory.mktemp("holed") / "s.tif"
    return write_raster(path, cube, nodata=-5, tiled=True, blockxsize=16, blockysize=16)


pixels = st.lists(st.tuples(st.integers(0, HEIGHT - 1), st.integers(0, WIDTH - 1)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(where=pixels, reach=st.integers(0, 25), bands=st.sampled_from([[0, 1, 2], [2], [2, 0]]))
def test_each_window_is_what_the_scene_reads_there(
    holed: Path, where: list[tuple[int, int]], reach: int, bands: list[int]
) -> None:
    scene = open_scene(holed)
    rows, cols = np.array(where, np.int64).T
    table = read_windows(scene, rows, cols, np.array(bands), reach)
    side = 2 * reach + 1
    assert table.lookup.shape == (len(where), side, side)
    assert not table.values[0].any()
    for (row, col), lookup in zip(where, table.lookup, strict=True):
        values, valid = scene.read(
            Window(row=row - reach, col=col - reach, height=side, width=side), np.array(bands)
        )
        np.testing.assert_array_equal(lookup > 0, valid)
        np.testing.assert_array_equal(table.values[lookup].transpose(2, 0, 1), np.where(valid, values, 0))
    used = np.unique(table.lookup)
    assert len(np.unique(table.values[1:], axis=0)) == len(table.values) - 1 == (used > 0).sum()  # each pixel once


@settings(max_examples=40, deadline=None)
@given(where=pixels)
def test_scattered_pixels_are_those_of_the_scene(holed: Path, where: list[tuple[int, int]]) -> None:
    scene = open_scene(holed)
    rows, cols = np.array(where, np.int64).T
    values, valid = read_pixels(scene, rows, cols, np.array([1, 2]))
    stored, seen = scene.read(Window(row=0, col=0, height=HEIGHT, width=WIDTH), np.array([1, 2]))
    np.testing.assert_array_equal(values, stored[:, rows, cols].T)
    np.testing.assert_array_equal(valid, seen[rows, cols])


def _training_windows(holed: Path) -> TrainingWindows:
    rows, cols = (a.ravel() for a in np.mgrid[0:HEIGHT:3, 0:WIDTH:4])
    table = read_windows(open_scene(holed), rows, cols, np.arange(3), HALO.before)
    return TrainingWindows(
        pixels=torch.from_numpy(table.values.astype(np.float64)), lookup=torch.from_numpy(table.lookup), halo=HALO
    )


def test_neighbours_differ_as_the_scene_does_and_copies_of_a_pixel_do_not_count() -> None:
    scene = np.random.default_rng(0).normal(size=(6, 9, 3))
    scene[1, 3:5, 0], scene[2, 4] = 7, np.nan  # alike in one band; not valid
    twice = scene.repeat(2, axis=1)  # as if resampled to cells half as wide

    def differences(values: NDArray[np.float64]) -> set[tuple[float, ...]]:
        rows = np.arange(1, values[..., 0].size + 1).reshape(values.shape[:2])
        lookup = torch.from_numpy(np.where(np.isnan(values[..., 0]), 0, rows)[None])
        pixels = torch.from_numpy(np.concatenate([np.zeros((1, 3)), values.reshape(-1, 3)]))
        found = TrainingWindows(pixels=pixels, lookup=lookup, halo=HALO).neighbour_differences()
        return {tuple(row) for row in found.tolist()}

    steps = np.diff(scene, axis=1).astype(np.float32).reshape(-1, 3)
    expected = {tuple(row) for row in steps[~np.isnan(steps).any(axis=1)].tolist()}
    assert differences(scene) == differences(twice) == expected


def _draw(
    windows: TrainingWindows, seed: int, context_swap: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Bands (B, R, R, S) and valid (B, R, R) of every window."""
    chosen = torch.arange(len(windows.lookup))
    random = torch.Generator().manual_seed(seed)
    pixels, lookup = windows.augmented(chosen, CPU, random, context_swap=context_swap)
    assert sorted(set(lookup.flatten().tolist()) - {0}) == list(range(1, len(pixels) + 1)), (
        "each once, none unused"
    )
    table = torch.cat([torch.zeros(1, pixels.shape[1], dtype=pixels.dtype), pixels])
    return table[lookup].numpy(), (lookup > 0).numpy()


def _flipped(windows: TrainingWindows) -> dict[tuple[bool, bool], NDArray[np.float64]]:
    """What each of the four flips gives, by arithmetic in another way: mirrored squares, then cropped."""
    squares = windows.pixels[windows.lookup].numpy()
    side = HALO.total + 1
    return {
        (down, across): squares[:, :: -1 if down else 1, :: -1 if across else 1][:, :side, :side]
        for down in (False, True)
        for across in (False, True)
    }


def test_flips_keep_the_centre_and_all_four_occur(holed: Path) -> None:
    windows = _training_windows(holed)
    expected = _flipped(windows)
    centres = windows.pixels[windows.centre_rows].numpy()
    seen = list[tuple[bool, bool]]()
    for seed in range(40):
        bands, valid = _draw(windows, seed, 0.0)
        assert bands.shape == (len(centres), HALO.total + 1, HALO.total + 1, 3)
        np.testing.assert_array_equal(bands[:, HALO.before, HALO.before], centres)
        np.testing.assert_array_equal(valid, bands.any(axis=-1))
        matching = [flip for flip, square in expected.items() if np.array_equal(square, bands)]
        assert len(matching) == 1
        seen += matching
    assert len(set(seen)) == 4
    assert 27 < np.sum(seen) < 53, "of 80 coins"


def test_swapped_windows_keep_their_centre_in_surroundings_of_another(holed: Path) -> None:
    windows = _training_windows(holed)
    near = slice(HALO.before - 2, HALO.before + 3)
    for seed in range(5):
        bands, valid = _draw(windows, seed, 1.0)
        own = next(
            square
            for square in _flipped(windows).values()
            if np.array_equal(square[:, near, near], bands[:, near, near])
        )
        around, contexts = bands.copy(), own.copy()
        around[:, near, near] = contexts[:, near, near] = 0
        sources = [np.flatnonzero((contexts == square).all(axis=(1, 2, 3))) for square in around]
        assert all(len(source) == 1 for source in sources)
        taken = [int(source[0]) for source in sources]
        assert sorted(taken) == list(range(len(bands)))  # every surrounding is used once
        assert taken != sorted(taken)
        np.testing.assert_array_equal(valid, bands.any(axis=-1))


def test_the_share_of_swapped_windows_is_the_one_asked_for(holed: Path) -> None:
    windows = _training_windows(holed)
    flips = list(_flipped(windows).values())
    swapped = []
    for seed in range(60):
        bands, _ = _draw(windows, seed, 0.3)
        swapped.append(min((square != bands).any(axis=(1, 2, 3)).mean() for square in flips))
    assert 0.25 < np.mean(swapped) < 0.33  # a window now and then gets its own surroundings


def test_the_same_seed_draws_the_same_windows(holed: Path) -> None:
    windows = _training_windows(holed)
    for swap in (0.0, 0.5):
        np.testing.assert_array_equal(_draw(windows, 7, swap)[0], _draw(windows, 7, swap)[0])
    assert any(not np.array_equal(_draw(windows, 7, 0.5)[0], _draw(windows, seed, 0.5)[0]) for seed in (8, 9))


# Sampling


def _labels(sizes: tuple[int, ...] = (40, 25, 9), polygons: int = 4, distance: int = 40) -> Labels:
    """Polygons in a line, `distance` pixels apart, of each class in turn."""
    parts = []
    for k, size in enumerate(sizes):
        for p in range(polygons):
            rows, cols = np.arange(size), np.full(size, (p * len(sizes) + k) * distance)
            parts.append(np.column_stack([rows, cols, np.full(size, k), np.full(size, p * len(sizes) + k)]))
    rows, cols, classes, owners = np.concatenate(parts).T.astype(np.int64)
    names = [f"class {k}" for k in range(len(sizes))]
    return Labels(rows=rows, cols=cols, classes=classes, polygons=owners, table=ClassTable.from_names(names))


@pytest.mark.parametrize("shots", [None, 1, 7])
@pytest.mark.parametrize("split", ["polygons", "random", "none"])
def test_nothing_trains_and_tests_and_every_class_trains(split: str, shots: int | None) -> None:
    labels = _labels()
    options = TrainingOptions(split=split, shots=shots, folds=4, seed=3)
    sampling = draw(labels, options, receptive_field=16)
    assert sampling.description
    assert len(sampling.folds) == (0 if split == "none" else 4)
    tested = np.concatenate([np.zeros(0, np.int64), *(fold.test for fold in sampling.folds)])
    assert len(set(tested.tolist())) == len(tested), "no pixel tests twice"
    for train in (sampling.train, *(fold.train for fold in sampling.folds)):
        counts = np.bincount(labels.classes[train], minlength=3)
        assert len(set(train.tolist())) == len(train)
        assert (counts > 0).all()
        assert shots is None or (counts <= shots).all()
    for fold in sampling.folds:
        assert not set(fold.train.tolist()) & set(fold.test.tolist())
    if shots is None:
        assert len(sampling.train) == len(labels), "the final model trains on all"
    if split == "random":
        assert len(tested) == len(labels)


@pytest.mark.parametrize("distance", [9, 40])
def test_polygons_are_held_out_whole_and_at_a_distance(distance: int) -> None:
    labels = _labels(distance=distance)
    for fold in draw(labels, TrainingOptions(split="polygons"), receptive_field=16).folds:
        train, test = labels.select(fold.train), labels.select(fold.test)
        assert not set(train.polygons.tolist()) & set(test.polygons.tolist())
        for polygon in set(test.polygons.tolist()):
            assert (test.polygons == polygon).sum() == (labels.polygons == polygon).sum()
        points = [np.column_stack([part.rows, part.cols]) for part in (train, test)]
        assert np.abs(points[0][:, None] - points[1]).max(axis=2).min() >= 17


@pytest.mark.parametrize(("distance", "told"), [(3, True), (40, False)])
def test_what_the_models_that_are_tested_had_to_learn_from_is_told(distance: int, *, told: bool) -> None:
    """Polygons 3 pixels apart: most of them lie in the way of one that is held out."""
    sampling = draw(_labels(polygons=12, distance=distance), TrainingOptions(), receptive_field=16)
    assert [fold.share for fold in sampling.folds] == [
        len(fold.train) / len(sampling.train) for fold in sampling.folds
    ]
    least = min(fold.share for fold in sampling.folds if fold.apart)
    assert (least < 0.5) == told
    text = f"no more than {100 * least:.0f} % of these to train on, so the map may well be better"
    assert (text in sampling.description) == told


@pytest.mark.parametrize(("size", "near"), [(50, 0), (49, 98)])
def test_a_fold_alone_is_told_of_as_one(size: int, near: int) -> None:
    """Two polygons side by side, and one far away, which is all that can be held out; 49 pixels are too few."""
    labels = _labels(sizes=(size, size), polygons=3, distance=12)
    labels = labels.select(np.isin(labels.polygons, (0, 1, 4)))
    sampling = draw(labels, TrainingOptions(), receptive_field=16)
    assert sampling.description.startswith("Cross-validation, 1 fold of whole polygons: 1 of 3")
    assert "The model itself is trained on all labels." in sampling.description
    assert sum(len(fold.test) for fold in sampling.folds if not fold.apart) == near
    told = f"As these are few, {near} more pixels were held out beside those that train"
    assert (told in sampling.description) == (near > 0)


@pytest.mark.parametrize("window", [9, 10])
def test_no_test_window_shares_a_pixel_with_what_a_training_window_holds(tmp_path: Path, window: int) -> None:
    """Training windows are flipped, so that an even one reaches as far on each side."""
    height, width, side = 60, 100, 20
    rows, cols = (a.ravel() for a in np.mgrid[:height, :width])
    fields = rows // side * (width // side) + cols // side
    table = ClassTable.from_names(["a", "b"])
    labels = Labels(rows=rows, cols=cols, classes=fields % 2, polygons=fields, table=table)
    config = NetworkConfig(bands=1, classes=2, window=window)
    halo, scene = config.halo, open_scene(write_raster(tmp_path / "s.tif", coordinate_cube(1, height, width) + 1))
    folds = draw(labels, TrainingOptions(), config.receptive_field).folds
    assert any(fold.apart for fold in folds)
    for fold in folds:
        train, test = labels.select(fold.train), labels.select(fold.test)
        squares = read_windows(scene, train.rows, train.cols, np.arange(1), halo.before)
        windows = TrainingWindows(
            pixels=torch.from_numpy(squares.values), lookup=torch.from_numpy(squares.lookup), halo=halo
        )
        trained, random = np.zeros((height, width), np.bool_), torch.Generator().manual_seed(1)
        for _ in range(12):
            pixels, _ = windows.augmented(torch.arange(len(train)), CPU, random, context_swap=0.5)
            trained[tuple(np.divmod(pixels[:, 0].numpy() - 1, 1000))] = True
        tested = np.zeros((height, width), np.bool_)
        for row, col in zip(test.rows.tolist(), test.cols.tolist(), strict=True):
            square = Window(row=row, col=col, height=1, width=1).grow(halo).clip(height=height, width=width)
            assert square is not None
            tested[square.slices] = True
        assert trained.any()
        assert tested.any()
        assert not (trained & tested).any()


def test_a_cap_leaves_that_many_pixels_of_each_class_drawn_over_all_its_polygons() -> None:
    labels = _labels()
    sampling = draw(labels, TrainingOptions(split="none", pixels_per_class=50), receptive_field=16)
    train = labels.select(sampling.train)
    assert train.counts().tolist() == [50, 50, 36]
    assert len(set(train.polygons.tolist())) == 12
    again = draw(labels, TrainingOptions(split="none", pixels_per_class=50), receptive_field=16)
    other = draw(labels, TrainingOptions(split="none", pixels_per_class=50, seed=1), receptive_field=16)
    assert sampling.train.tolist() == again.train.tolist() != other.train.tolist()


def test_a_class_without_a_pixel_to_train_on_is_named() -> None:
    labels = _labels()
    without = labels.select(labels.classes != 1)
    with pytest.raises(LabelError, match="nothing is left to train class 1 on"):
        draw(without, TrainingOptions(split="random"), receptive_field=16)
