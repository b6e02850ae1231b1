"""What `--dry-run` says comes true, roughly, and is said before anything is written."""

from dataclasses import replace
from pathlib import Path

import pytest
from crashing import write_scene
from scenes import random_model

from cssd_geo.classification import classify
from cssd_geo.cli.forecast import show
from cssd_geo.engine.streaming import this_machine
from cssd_geo.errors import OutputError
from cssd_geo.forecast import Forecast, Trial, forecast
from cssd_geo.products import open_scene
from cssd_geo.runs import journal
from cssd_geo.runs.job import plan_job
from cssd_geo.runs.layers import DiskSpace, Outputs
from cssd_geo.runs.unfinished import folder_of, tiles_done

MODEL = random_model(bands=5, seed=5)
HERE = this_machine("cpu", "auto")


def forecast_of(folder: Path, tile_size: int) -> Forecast:
    scene = open_scene(write_scene(folder))
    outputs = Outputs(class_map=folder / "map.tif", probabilities=folder / "p.tif")
    return forecast(plan_job(scene, MODEL, outputs, HERE, tile_size=tile_size, memory=10**9))


@pytest.mark.parametrize(("tile_size", "tiles"), [(8, 2), (50, 2), (64, 2), (100, 1)])
def test_two_tiles_stand_for_all(tmp_path: Path, tile_size: int, tiles: int) -> None:
    found = forecast_of(tmp_path, tile_size)
    assert found.trial.tiles == tiles
    best, worst = found.trial.seconds
    assert 0 < best <= worst < 60
    assert found.trial.gpu_bytes is found.gpu_free is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scene.tif"]


def test_the_room_is_what_the_run_takes(tmp_path: Path) -> None:
    room, taken = forecast_of(tmp_path, 32).room, []
    assert room.unfinished == 61 * 83 * (1 + 3 * 4)
    assert room.free > 1_000_000

    def measure(*_: int) -> None:
        taken.append(sum(path.stat().st_size for path in folder_of(tmp_path / "map.tif").glob("*.raw")))

    shares = tmp_path / "p.tif"
    classify(
        tmp_path / "scene.tif", MODEL, tmp_path / "map.tif", probabilities=shares, tile_size=32, on_tile=measure
    )
    assert taken[-1] == room.unfinished
    assert sum((tmp_path / name).stat().st_size for name in ("map.tif", "p.tif")) < room.finished


def test_an_output_without_a_folder_is_refused(tmp_path: Path) -> None:
    scene = open_scene(write_scene(tmp_path))
    outputs = Outputs(class_map=tmp_path / "no" / "map.tif")
    with pytest.raises(OutputError, match="create it first"):
        forecast(plan_job(scene, MODEL, outputs, HERE))


def test_outputs_for_which_the_run_will_be_refused_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert forecast_of(tmp_path, 50).in_the_way == ()
    (tmp_path / "map.tif").write_bytes(b"")
    found = forecast_of(tmp_path, 50)
    assert found.in_the_way == (tmp_path / "map.tif",)
    show(found)
    refused = f"output  {tmp_path / 'map.tif'}: there already, so the run will be refused without --overwrite"
    assert refused in capsys.readouterr().out.splitlines()
    show(found, overwrite=True)
    assert "output" not in capsys.readouterr().out.replace("outputs are made", "")


def test_what_is_missing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = replace(
        forecast_of(tmp_path, 32),
        room=DiskSpace(unfinished=5_000_000_000, finished=4_000_000_000, free=2_009_900_000),
        trial=Trial(tiles=2, reading=90.0, computing=7200.0, gpu_bytes=3_000_000_000),
        gpu_free=40_009_000_000,
    )
    show(found)
    lines = capsys.readouterr().out.splitlines()
    assert "gpu     3.00 GB of its memory in the trial, 40.00 GB are free" in lines
    expected = "disk    5.00 GB until all tiles are done, 9.00 GB at most while outputs are made: "
    assert f"{expected}2.00 GB are free, 3.00 GB are missing" in lines
    assert "time    2.0 h to 2.0 h, by the trial (reading 1.5 min, computing 2.0 h)" in lines


def test_a_journal_that_is_none_of_ours_counts_no_tile(tmp_path: Path) -> None:
    folder = tmp_path / ".map.tif.unfinished"
    folder.mkdir()
    journal.create(folder / "journal", {"key": {}})
    with journal.Journal(folder / "journal") as lines:
        lines.append([{"tile": [1]}, {"tile": None}, {"tile": 4}])
    assert tiles_done(tmp_path / "map.tif") == 1


def test_tiles_of_an_unfinished_run_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(done: int, _: int) -> None:
        if done >= 3 * 32 * 32:
            raise KeyboardInterrupt

    assert forecast_of(tmp_path, 32).tiles_done == 0
    with pytest.raises(KeyboardInterrupt):
        classify(tmp_path / "scene.tif", MODEL, tmp_path / "map.tif", tile_size=32, on_tile=stop)
    found = forecast_of(tmp_path, 32)
    assert 0 < found.tiles_done < len(found.plan)
    show(found)
    assert f"{found.tiles_done} tiles of an unfinished run are done" in capsys.readouterr().out
