"""Tiles on their way to a device, as far as a machine without a GPU can tell."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scenes import coordinate_cube, random_model, write_raster

from cssd_geo.compute import transfer
from cssd_geo.compute.transfer import load
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.engine.streaming import this_machine
from cssd_geo.products import open_scene

CPU = torch.device("cpu")
HERE = this_machine("cpu", "float32")


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    below=st.integers(0, 5),
    right=st.integers(0, 5),
    bands_last=st.booleans(),
)
def test_a_tile_in_a_larger_shape_is_itself_and_invalid_beyond(
    *, height: int, width: int, below: int, right: int, bands_last: bool
) -> None:
    values, valid = coordinate_cube(3, height, width) + 1, np.ones((height, width), np.bool_)
    if bands_last:
        values = np.ascontiguousarray(values.transpose(1, 2, 0)).transpose(2, 0, 1)
    loaded = load(values, valid, CPU, (height + below, width + right))
    assert (loaded.height, loaded.width) == (height, width)
    expected = np.pad(values, ((0, 0), (0, below), (0, right)))
    np.testing.assert_array_equal(loaded.stored.numpy(), expected)
    assert loaded.stored.permute(1, 2, 0).is_contiguous() or not bands_last, "a CPU is slow at turning them over"
    np.testing.assert_array_equal(loaded.valid.numpy(), np.pad(valid, ((0, below), (0, right))))


def test_on_a_cpu_nothing_moves() -> None:
    values, valid = coordinate_cube(3, 4, 5), np.ones((4, 5), np.bool_)
    loaded = load(values, valid, CPU)
    assert loaded.stored.numpy().base is not None
    assert np.shares_memory(loaded.stored.numpy(), values)
    assert np.shares_memory(loaded.valid.numpy(), valid)


def test_values_in_another_byte_order_are_the_same_values() -> None:
    values, valid = coordinate_cube(3, 4, 5), np.ones((4, 5), np.bool_)
    swapped = values.astype(values.dtype.newbyteorder())
    np.testing.assert_array_equal(load(swapped, valid, CPU).stored.numpy(), values)


def full(monkeypatch: pytest.MonkeyPatch, *, times: int) -> None:
    """Let memory run out, so many times, as a tile is copied to a device that has what is copied in one shape."""
    copying, left = transfer._copying, iter(range(times))

    @contextmanager
    def until_it_is_full(device: torch.device) -> Iterator[None]:
        with copying(device):
            yield
            if next(left, None) is not None:
                raise torch.OutOfMemoryError

    monkeypatch.setattr(transfer, "_copying", until_it_is_full)


def test_a_tile_for_which_there_is_no_memory_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    values, valid = coordinate_cube(3, 4, 5), np.ones((4, 5), np.bool_)
    full(monkeypatch, times=1)
    loaded = load(values, valid, CPU, (9, 9))
    assert np.shares_memory(loaded.stored.numpy(), values)
    assert loaded.valid.shape == (loaded.height, loaded.width) == (4, 5)
    assert load(values, valid, CPU, (9, 9)).valid.shape == (9, 9), "the next one may find room"


def test_where_memory_runs_out_for_the_next_tile_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = open_scene(write_raster(tmp_path / "s.tif", coordinate_cube(5, 50, 70) % 977))
    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    plan, parts = classifier.plan(scene, 24), ("disagreement", "probabilities")
    expected = list(HERE.results(classifier, scene, plan, parts=parts))
    classifier.device = torch.device("meta")
    monkeypatch.setattr(classifier, "load", lambda values, valid, shape, at: load(values, valid, CPU, shape, at))
    full(monkeypatch, times=3)
    for (tile, result), (same, alone) in zip(
        HERE.results(classifier, scene, plan, parts=parts), expected, strict=True
    ):
        assert tile == same
        for part in ("class_map", "confidence", *parts):
            np.testing.assert_array_equal(getattr(result, part), getattr(alone, part))


@pytest.mark.parametrize("tile_size", [13, 24, 100])
def test_tiles_of_one_shape_have_the_results_of_tiles_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tile_size: int
) -> None:
    cube = coordinate_cube(5, 50, 70) % 977
    cube[:, 30:, 40:] = -5
    scene = open_scene(write_raster(tmp_path / "s.tif", cube, nodata=-5))
    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    plan, parts = classifier.plan(scene, tile_size), ("disagreement", "probabilities")
    one_by_one = list(HERE.results(classifier, scene, plan, parts=parts))

    shapes, as_on_a_gpu = set(), load

    def noted(*args: Any) -> Any:
        loaded = as_on_a_gpu(*args)
        shapes.add(tuple(loaded.valid.shape))
        return loaded

    classifier.device = torch.device("meta")  # any that is no CPU: tiles get one shape
    monkeypatch.setattr(classifier, "load", lambda values, valid, shape, at: noted(values, valid, CPU, shape, at))
    for (tile, result), (same, expected) in zip(
        HERE.results(classifier, scene, plan, parts=parts), one_by_one, strict=True
    ):
        assert tile == same
        for part in ("class_map", "confidence", *parts):
            np.testing.assert_array_equal(getattr(result, part), getattr(expected, part))
    assert shapes == {(plan.largest.height, plan.largest.width)}
