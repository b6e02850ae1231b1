"""What is recorded once and started as a whole, as far as a machine without a GPU can tell."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import coordinate_cube, random_model, write_raster
from torch import Tensor

from cssd_geo.compute.recorded import Recorded
from cssd_geo.engine.inference import TileClassifier, TileResult
from cssd_geo.engine.streaming import this_machine
from cssd_geo.products import open_scene
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import TilePlan

PARTS = ("disagreement", "probabilities")


def sums(left: Tensor, right: Tensor) -> Mapping[str, Tensor]:
    return {"sum": left + right, "twice": 2 * left}


def test_a_recording_does_what_was_recorded_with_other_values() -> None:
    recorded = Recorded(sums, torch.zeros(2, 3), torch.ones(2, 3))
    left, right = torch.arange(6.0).view(2, 3), torch.full((2, 3), 7.0)
    found = recorded(left, right)
    torch.testing.assert_close(found["sum"], left + 7)
    torch.testing.assert_close(found["twice"], 2 * left)
    torch.testing.assert_close(recorded(right, right)["sum"], torch.full((2, 3), 14.0))
    torch.testing.assert_close(left, torch.arange(6.0).view(2, 3))


def test_a_recording_takes_what_is_like_its_examples() -> None:
    recorded = Recorded(sums, torch.zeros(2, 3), torch.ones(2, 3))
    fits = torch.ones(2, 3)
    assert recorded.takes(fits, fits)
    for other in (torch.ones(3, 3), torch.ones(2, 3, dtype=torch.int16), torch.ones(3, 2).T):
        assert not recorded.takes(fits, other)


def made(tmp_path: Path) -> tuple[TileClassifier, Scene, TilePlan]:
    cube = coordinate_cube(5, 70, 90) % 977
    cube[:, :25, :25], cube[2, 40:45, 50:80] = -1, -1
    scene, here = open_scene(write_raster(tmp_path / "s.tif", cube, nodata=-1)), this_machine("cpu", "float32")
    classifier = TileClassifier(random_model(bands=5, dtype=torch.float32), scene, here.device, here.precision)
    return classifier, scene, classifier.plan(scene, 32)


def results(classifier: TileClassifier, scene: Scene, plan: TilePlan) -> list[TileResult]:
    shape = plan.largest.height, plan.largest.width
    tiles = (
        classifier.load(*scene.read(tile.padded, classifier.bands), shape, at=tile.padded.corner) for tile in plan
    )
    return [classifier.classify(tile, parts=PARTS) for tile in tiles]


def test_rehearsed_results_are_those_of_panels(tmp_path: Path) -> None:
    classifier, scene, plan = made(tmp_path)
    expected = results(classifier, scene, plan)
    classifier.rehearse(scene, plan, PARTS)
    assert classifier._recorded
    for found, other in zip(results(classifier, scene, plan), expected, strict=True):
        np.testing.assert_array_equal(found.class_map, other.class_map)
        for part, apart in (("confidence", 1), ("disagreement", 1), ("probabilities", 1e-5)):
            one, same = (np.asarray(getattr(result, part), np.float64) for result in (found, other))
            np.testing.assert_allclose(one, same, rtol=0, atol=apart)


def test_a_recording_stays_where_it_was_made(tmp_path: Path) -> None:
    classifier, scene, plan = made(tmp_path)
    classifier.rehearse(scene, plan, PARTS)
    assert not pickle.loads(pickle.dumps(classifier))._recorded  # noqa: S301 - our own


def test_what_cannot_be_recorded_is_computed_step_by_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    classifier, scene, plan = made(tmp_path)
    expected = results(classifier, scene, plan)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr(classifier.network, "in_one_piece", full)
    classifier.rehearse(scene, plan, PARTS)
    assert "step by step" in caplog.text
    assert "no memory left" in caplog.text
    for found, other in zip(results(classifier, scene, plan), expected, strict=True):
        np.testing.assert_array_equal(found.class_map, other.class_map)
