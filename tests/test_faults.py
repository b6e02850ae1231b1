"""What can go wrong on the way: a clear message, nothing wrong that looks right, and the same command goes on."""

import errno
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from click.testing import CliRunner, Result
from crashing import write_scene
from disks import small_disk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import random_model, write_raster
from scipy import ndimage

from cssd_geo.classification import Classification, classify
from cssd_geo.cli import main
from cssd_geo.cli.progress import PixelProgress
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.errors import InputError, OutputError, SceneError
from cssd_geo.maps.raster_writer import RasterWriter
from cssd_geo.products import open_scene
from cssd_geo.runs import unfinished
from cssd_geo.runs.layers import DiskSpace
from cssd_geo.tiles import Window

MODEL = random_model(bands=5, seed=5)
TILE = 32
"""Side length of a tile: the scene has six."""
STOP_AT = 3


class Stopped(BaseException):
    """The end of a run that a test wants."""


@pytest.fixture(autouse=True)
def _tiles_are_recorded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "_SYNC_SECONDS", 0.0)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path)


def run(scene: Path, folder: Path | None = None, **options: Any) -> Classification:
    place = scene.parent if folder is None else folder
    given: dict[str, Any] = {"confidence": place / "c.tif", "tile_size": TILE, "precision": "float32"}
    given |= {"device": "cpu", **options}
    done: Classification = classify(scene, given.pop("model", MODEL), place / "map.tif", **given)
    return done


def after(tiles: int, event: Callable[[], object]) -> Callable[[int, int], None]:
    """Let something happen once so many tiles are done."""
    told: list[None] = []

    def on_tile(*_: int) -> None:
        told.append(None)
        if len(told) == tiles:
            event()

    return on_tile


def stop() -> None:
    raise Stopped


def stop_at(scene: Path, tiles: int = STOP_AT, **options: Any) -> None:
    with pytest.raises(Stopped):
        run(scene, on_tile=after(tiles, stop), **options)


def resumed_at(scene: Path, **options: Any) -> int:
    """Run to the end; returns how many tiles had been done before."""
    told = [0]
    run(scene, on_resume=lambda done, _: told.append(done), **options)
    return told[-1]


def pixels(folder: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    with rasterio.open(folder / "map.tif") as ids, rasterio.open(folder / "c.tif") as percent:
        return ids.read(), percent.read()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[Any], NDArray[Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(write_scene(folder))
    return pixels(folder)


Pixels = tuple[NDArray[Any], NDArray[Any]]


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def require_end(folder: Path, expected: Pixels) -> None:
    for found, right in zip(pixels(folder), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    assert hidden(folder) == []


# ---- going on


@pytest.mark.parametrize("tiles", [1, 3, 6])
def test_a_run_that_was_stopped_goes_on(scene: Path, tiles: int, undisturbed: Pixels) -> None:
    stop_at(scene, tiles)
    assert hidden(scene.parent) == [".map.tif.unfinished"]
    told: list[tuple[int, int]] = []
    assert resumed_at(scene, on_tile=lambda *now: told.append(now)) == tiles
    assert len(told) == 6 - tiles, "no tile is computed twice"
    assert all(now[1] == 61 * 83 for now in told)
    assert not told or told[-1][0] == 61 * 83
    require_end(scene.parent, undisturbed)


def test_counts_and_tags_are_those_of_an_undisturbed_run(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    expected = run(scene, tmp_path / "other")
    stop_at(scene)
    assert run(scene).pixels == expected.pixels
    for name in ("map.tif", "c.tif"):
        with rasterio.open(tmp_path / name) as one, rasterio.open(tmp_path / "other" / name) as other:
            assert one.tags() == other.tags()


def test_a_run_without_a_finished_tile_leaves_nothing(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cssd_geo.runs.run.Run.put", lambda *_: stop())
    with pytest.raises(Stopped):
        run(scene)
    assert sorted(path.name for path in scene.parent.iterdir()) == ["scene.tif"]


def test_an_array_that_has_no_file_is_begun_anew(scene: Path, tmp_path: Path, undisturbed: Pixels) -> None:
    from cssd_geo.scenes.array_scenes import scene_of_array  # noqa: PLC0415 - only here

    cube = scene_of_array(open_scene(scene).cube.compute())
    options: dict[str, Any] = {"confidence": tmp_path / "c.tif", "tile_size": TILE, "precision": "float32"}
    with pytest.raises(Stopped):
        classify(cube, MODEL, tmp_path / "map.tif", on_tile=after(3, stop), **options)
    assert hidden(tmp_path) == []
    classify(cube, MODEL, tmp_path / "map.tif", **options)
    require_end(tmp_path, undisturbed)


def repainted(scene: Path) -> None:
    with rasterio.open(scene, "r+") as dataset:
        dataset.write(np.full((5, 1, 1), 700, np.int16), window=((60, 61), (82, 83)))


def given_a_mask_file(scene: Path) -> None:
    whole = np.ones((1, 61, 83), np.uint8)
    write_raster(scene.with_name("scene.tif.msk"), whole)


def given_a_scale(scene: Path) -> None:
    side = '<PAMDataset><PAMRasterBand band="1"><Scale>2</Scale></PAMRasterBand></PAMDataset>'
    scene.with_name("scene.tif.aux.xml").write_text(side)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (repainted, {}, r"the content of scene\.tif has changed"),
        (given_a_mask_file, {}, r"the content of scene\.tif\.msk is new"),
        (given_a_scale, {}, r"the content of scene\.tif\.aux\.xml is new; the scene's bands, .* have changed"),
        (None, {"model": random_model(bands=5, seed=6)}, r"the model has changed"),
        (None, {"tile_size": 16}, r"the size of tiles was 32 and is 16 now"),
        (None, {"tile_size": None}, r"the size of tiles was 32 and is automatic now"),
        (None, {"on_error": "skip"}, r"--on-error was stop and is skip now"),
        (None, {"confidence": None}, r"the list of rasters was class map \+ confidence and is class map now"),
    ],
)
def test_a_change_is_refused_and_named(
    scene: Path, change: Callable[[Path], None] | None, options: dict[str, Any], says: str
) -> None:
    stop_at(scene)
    if change is not None:
        change(scene)
    with pytest.raises(OutputError, match=rf"\(tiles done: 3\): {says}\. Give the command .* --restart"):
        run(scene, **options)
    assert hidden(scene.parent) == [".map.tif.unfinished"]
    done = run(scene, restart=True, **options)
    assert sum(done.pixels.values()) == 61 * 83
    assert hidden(scene.parent) == []


@pytest.mark.parametrize("given", ["auto", "bfloat16"])
def test_where_another_precision_is_chosen_the_option_that_goes_on_is_named(
    scene: Path, undisturbed: Pixels, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr("cssd_geo.engine.devices.cpu_flags", set[str])
    stop_at(scene, precision="auto")
    monkeypatch.setattr("cssd_geo.engine.devices.cpu_flags", lambda: {"amx_bf16"})  # another node of a cluster
    says = r"the precision was float32 and is bfloat16 now\. Give --precision float32 to go on, or .* --restart"
    with pytest.raises(OutputError, match=says):
        run(scene, precision=given)
    assert resumed_at(scene, precision="float32") == STOP_AT
    require_end(scene.parent, undisturbed)


def test_what_does_not_change_a_pixel_is_no_change(scene: Path, undisturbed: Pixels) -> None:
    stop_at(scene, memory=1_000_000_000)
    os.utime(scene, (1, 1))  # a copy of the scene has another time
    assert resumed_at(scene, memory=2_000_000_000) == STOP_AT
    require_end(scene.parent, undisturbed)


def test_tiles_stay_as_they_were_planned_unless_memory_is_too_little(scene: Path, undisturbed: Pixels) -> None:
    opened = open_scene(scene)
    needs = TileClassifier(MODEL, opened, torch.device("cpu")).needs(opened)
    little, more = (needs.fixed + side**2 * needs.per_pixel for side in (60, 70))
    stop_at(scene, 1, tile_size=None, memory=more)
    with pytest.raises(OutputError, match=r"were planned for \d+ MB of memory, more than \d+ MB: give as much"):
        run(scene, tile_size=None, memory=little)
    assert resumed_at(scene, tile_size=None, memory=10 * more) == 1
    require_end(scene.parent, undisturbed)


# ---- the target


def test_an_existing_output_is_not_replaced_because_a_run_was_unfinished(scene: Path) -> None:
    stop_at(scene)
    (scene.parent / "c.tif").write_bytes(b"a stranger's")
    with pytest.raises(OutputError, match=r"c\.tif exists: .* --overwrite"):
        run(scene)
    assert (scene.parent / "c.tif").read_bytes() == b"a stranger's"
    assert resumed_at(scene, overwrite=True) == STOP_AT


def test_a_restart_that_is_refused_discards_nothing(scene: Path) -> None:
    stop_at(scene)
    stranger = scene.parent / "c.tif"
    stranger.write_bytes(b"a stranger's")
    with pytest.raises(OutputError, match=r"c\.tif exists"):
        run(scene, restart=True)
    stranger.unlink()
    assert resumed_at(scene) == STOP_AT


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["map.tif.ovr", "c.tif.msk"])
def test_a_scene_or_mask_that_would_be_taken_for_a_part_of_an_output_is_kept(
    scene: Path, name: str, *, overwrite: bool
) -> None:
    with rasterio.open(scene) as dataset:
        ones = np.ones((1, dataset.height, dataset.width), np.uint8)
    mask = write_raster(scene.with_name("mask.tif"), ones)
    is_scene = name.endswith(".ovr")
    read = (scene if is_scene else mask).rename(scene.with_name(name))
    what = "the scene" if is_scene else "the valid mask"
    opened: Any = open_scene(read) if is_scene else open_scene(scene, valid_mask=read)
    says = rf"{re.escape(name)} is {what}, and would be taken for a part of .*(map|c)\.tif: choose another name"
    with pytest.raises(OutputError, match=says):
        classify(opened, MODEL, scene.with_name("map.tif"), confidence=scene.with_name("c.tif"),
                 overwrite=overwrite)  # fmt: skip
    assert read.exists()


@pytest.mark.parametrize("suffix", [".ovr", ".msk", ".aux.xml"])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_what_would_go_with_an_output_that_is_not_there_is_kept(
    scene: Path, suffix: str, undisturbed: Pixels, *, meanwhile: bool
) -> None:
    stranger = scene.with_name(f"c.tif{suffix}")
    if not meanwhile:
        stranger.write_bytes(b"a stranger's")
    come = after(2, lambda: stranger.write_bytes(b"a stranger's"))
    with pytest.raises(OutputError, match=rf"c\.tif{suffix} exists, and .*c\.tif.*: move it away, .*--overwrite"):
        run(scene, on_tile=come if meanwhile else lambda *_: pytest.fail("too late"))
    assert stranger.read_bytes() == b"a stranger's"
    assert hidden(scene.parent) == [".map.tif.unfinished"] * meanwhile
    run(scene, overwrite=True)
    assert not stranger.exists()
    require_end(scene.parent, undisturbed)


def test_an_output_whose_name_is_not_utf_8_is_refused_before_any_tile(scene: Path) -> None:
    with pytest.raises(
        OutputError, match=r"odd\\udcff\.tif has a name, or a folder, that is not UTF-8: choose another"
    ):
        run(scene, confidence=scene.with_name("odd\udcff.tif"), on_tile=lambda *_: pytest.fail("too late"))
    assert hidden(scene.parent) == []


def test_a_folder_that_would_be_taken_for_a_part_of_an_output_is_refused(scene: Path) -> None:
    scene.with_name("map.tif.ovr").mkdir()
    with pytest.raises(OutputError, match=r"map\.tif\.ovr is a folder"):
        run(scene, overwrite=True)


def test_an_output_that_comes_to_be_meanwhile_is_not_replaced(scene: Path, undisturbed: Pixels) -> None:
    stranger = scene.parent / "c.tif"
    with pytest.raises(OutputError, match=r"c\.tif exists"):
        run(scene, on_tile=after(2, lambda: stranger.write_bytes(b"a stranger's")))
    assert stranger.read_bytes() == b"a stranger's"
    stranger.unlink()
    assert resumed_at(scene) == 6
    require_end(scene.parent, undisturbed)


def test_a_link_that_leads_nowhere_is_an_output_that_exists(scene: Path) -> None:
    link = scene.parent / "c.tif"
    with pytest.raises(OutputError, match=r"c\.tif exists"):
        run(scene, on_tile=after(2, lambda: link.symlink_to("nowhere.tif")))
    with pytest.raises(OutputError, match=r"c\.tif exists"):
        run(scene)
    assert link.is_symlink()
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(OutputError, match=r"c\.tif exists"):
        run(scene)


def test_the_old_outputs_stay_until_all_is_done(scene: Path, undisturbed: Pixels) -> None:
    for name in ("map.tif", "c.tif"):
        (scene.parent / name).write_bytes(b"the old one")
    stop_at(scene, 6, overwrite=True)
    assert {(scene.parent / name).read_bytes() for name in ("map.tif", "c.tif")} == {b"the old one"}
    assert resumed_at(scene, overwrite=True) == 6
    require_end(scene.parent, undisturbed)


# ---- others at work


def test_two_programs_do_not_write_one_output(scene: Path, undisturbed: Pixels) -> None:
    refused = []

    def second() -> None:
        with pytest.raises(
            OutputError, match=rf"another program \(process {os.getpid()} on .*\): wait for it"
        ) as caught:
            run(scene)
        refused.append(caught)

    run(scene, on_tile=after(2, second))
    assert refused
    require_end(scene.parent, undisturbed)


def test_without_locks_on_a_file_system_it_works_still(
    scene: Path, undisturbed: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    run(scene)
    require_end(scene.parent, undisturbed)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_the_same_command_goes_on(
    scene: Path, undisturbed: Pixels, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    MODEL.save(scene.parent / "m.safetensors")
    told = after(STOP_AT, lambda: os.kill(os.getpid(), signum))
    handler = signal.getsignal(signum)
    with monkeypatch.context() as patch:
        patch.setattr(PixelProgress, "__call__", lambda _, done, total: told(done, total))
        result = command(scene)
    assert result.exit_code == 128 + signum
    says = f"Stopped by {signum.name}. 3 of 6 tiles are done: the same command goes on from there."
    assert result.stderr.splitlines() == [says]
    assert signal.getsignal(signum) is handler
    again = command(scene)
    assert again.exit_code == 0
    assert again.stderr.startswith("classify goes on with an unfinished run: 3 of 6 tiles are done\n")
    require_end(scene.parent, undisturbed)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(signum: signal.Signals) -> None:
    """Also while the first one waits for a thread that is computing."""
    script = f"""
import os, time
from concurrent.futures import ThreadPoolExecutor
from cssd_geo.cli.interrupts import interruptible
with interruptible(), ThreadPoolExecutor(1) as thread:
    thread.submit(lambda: (time.sleep(1), os.kill(os.getpid(), {signum:d}), time.sleep(30)))
    os.kill(os.getpid(), {signum:d})
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == -signum
    assert time.monotonic() - began < 20
    assert done.stderr == b""


def command(scene: Path, *more: str) -> Result:
    words = ["classify", scene, "-o", scene.parent / "map.tif", "-m", scene.parent / "m.safetensors"]
    words += ["--confidence", scene.parent / "c.tif", "--tile-size", TILE, "--device", "cpu"]
    return CliRunner().invoke(main, [*map(str, words), "--precision", "float32", *more])


# ---- the journal and the pixels


def unfinished_run(folder: Path) -> Path:
    scene = write_scene(folder)
    stop_at(scene, 4)
    return scene


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_the_journal_the_map_is_right_or_it_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, undisturbed: Pixels
) -> None:
    folder = tmp_path_factory.mktemp("run")
    scene = unfinished_run(folder)
    place = folder / ".map.tif.unfinished"
    path = place / data.draw(st.sampled_from(["journal", "journal", "class_map.raw", "confidence.raw"]))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "twice"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del content[at:]
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
            case "twice":
                content += content[at:]
        if not content:
            break
    path.write_bytes(content)
    try:
        run(scene)
    except OutputError as refused:
        advice = str(refused)
        run(scene, restart=True)
        assert "--restart" in advice
    require_end(folder, undisturbed)
    shutil.rmtree(folder)


def test_pixels_that_the_disk_lost_before_the_end_are_noticed(scene: Path, undisturbed: Pixels) -> None:
    def damage() -> None:
        with (scene.parent / ".map.tif.unfinished" / "confidence.raw").open("r+b") as file:
            file.write(b"\xee")

    with pytest.raises(OutputError, match="the disk did not keep") as caught:
        run(scene, on_tile=after(6, damage))
    assert caught.value.__notes__ == ["5 of 6 tiles are done: the same command goes on from there."]
    assert resumed_at(scene) == 5
    require_end(scene.parent, undisturbed)


def test_a_folder_that_is_a_link_is_not_followed(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    (tmp_path / ".map.tif.unfinished").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is a link"):
        run(scene)
    assert (tmp_path / "elsewhere" / "precious").exists()


@pytest.mark.parametrize("name", ["lock", "class_map.raw"])
def test_links_in_the_folder_are_not_followed_either(scene: Path, tmp_path: Path, name: str) -> None:
    stop_at(scene)
    (tmp_path / "precious").write_bytes(b"precious")
    place = tmp_path / ".map.tif.unfinished" / name
    place.unlink()
    place.symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match=re.escape(str(place))):
        run(scene)
    assert (tmp_path / "precious").read_bytes() == b"precious"


# ---- the scene


def broken(scene: Path) -> Path:
    """The same scene, its last blocks unreadable."""
    with rasterio.open(scene) as dataset:
        cube = dataset.read()
    path = scene.with_name("broken.tif")
    write_raster(path, cube, nodata=-9999, compress="deflate", tiled=True, blockxsize=16, blockysize=16)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = b"\xff" * 3000
    path.write_bytes(data)
    return path


def test_a_block_that_cannot_be_read_cannot_be_read_a_second_time(scene: Path) -> None:
    """GDAL, decoding several blocks at once, keeps a broken one in its cache as if it had been read."""
    path = broken(scene)
    with rasterio.open(scene) as dataset:
        cube = dataset.read()
    again, bands, failed = open_scene(path), np.arange(5), 0
    for row in [*range(0, 58, 7)] * 3:
        window = Window(row=row, col=0, height=3, width=83)
        try:
            values, _ = again.read(window, bands)
        except SceneError:
            failed += 1
        else:
            np.testing.assert_array_equal(values, cube[(slice(None), *window.slices)])
    assert failed > 0
    assert failed % 3 == 0


def test_an_unreadable_block_stops_it_with_its_position(scene: Path) -> None:
    with pytest.raises(SceneError, match=r"broken\.tif cannot be read at row \d+, column \d+"):
        run(broken(scene))


def test_what_is_unreadable_can_be_left_out_and_is_listed(
    scene: Path, undisturbed: Pixels, tmp_path: Path
) -> None:
    path = broken(scene)
    found = []
    for tile_size in (8, 32, 100):
        done = run(path, on_error="skip", tile_size=tile_size, overwrite=True)
        found.append((*pixels(tmp_path), done.unreadable))
        assert done.unreadable
        assert all(block.row % 16 == block.col % 16 == 0 for block in done.unreadable)
        lost = np.zeros((61, 83), np.bool_)
        for block in done.unreadable:
            lost[block.slices] = True
        assert (found[-1][0][0][lost] == 0).all()
        assert 0 < lost.sum() < 61 * 83 / 4
        far = ~ndimage.binary_dilation(lost, np.ones((33, 33)))
        np.testing.assert_array_equal(found[-1][0][0][far], undisturbed[0][0][far])
        with rasterio.open(tmp_path / "map.tif") as dataset:
            assert dataset.tags()["CSSD_GEO_UNREADABLE_PIXELS"] == str(lost.sum())
            block = done.unreadable[0]
            first = f"{block.row},{block.col},{block.height},{block.width}"
            assert dataset.tags()["CSSD_GEO_UNREADABLE"].startswith(f"row,column,height,width: {first}")
    for other in found[1:]:
        np.testing.assert_array_equal(other[0], found[0][0])
        np.testing.assert_array_equal(other[1], found[0][1])
        assert other[2] == found[0][2], "whatever the tiles, and whatever is read of a block"


def test_what_was_unreadable_before_it_was_killed_is_listed_too(scene: Path) -> None:
    path = broken(scene)
    expected = run(path, on_error="skip").unreadable
    stop_at(path, 5, on_error="skip", overwrite=True)
    assert run(path, on_error="skip", overwrite=True).unreadable == expected


def test_the_command_warns_of_what_it_left_out_and_exits_with_3(scene: Path) -> None:
    MODEL.save(scene.parent / "m.safetensors")
    broken(scene).replace(scene)
    result = command(scene, "--on-error", "skip")
    assert result.exit_code == 3
    assert "Warning: " in result.stderr
    assert "blocks of the scene (" in result.stderr
    assert (scene.parent / "map.tif").exists()
    refused = command(scene, "--on-error", "stop", "--overwrite")
    assert refused.exit_code == 3
    assert "cannot be read at row" in refused.stderr


def test_how_to_treat_errors_must_be_known(scene: Path) -> None:
    with pytest.raises(InputError, match="on_error 'ignore' is unknown; choose from stop, skip"):
        run(scene, on_error="ignore")


@pytest.mark.parametrize("how", ["written", "replaced"])
def test_a_scene_that_changes_while_it_is_read_is_an_error(scene: Path, how: str) -> None:
    def change() -> None:
        if how == "written":
            repainted(scene)
        else:
            shutil.copy(scene, scene.with_name("new.tif"))
            scene.with_name("new.tif").replace(scene)

    with pytest.raises(SceneError, match=r"scene\.tif has changed while it was read .*has been discarded"):
        run(scene, on_tile=after(4, change))
    assert not {"map.tif", "c.tif"} & {path.name for path in scene.parent.iterdir()}
    assert hidden(scene.parent) == []


@pytest.mark.parametrize("how", ["file", "folder", "stale"])
def test_a_scene_that_is_out_of_reach_for_a_while_costs_no_finished_tile(
    scene: Path, tmp_path: Path, undisturbed: Pixels, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "in").mkdir()
    scene = scene.rename(tmp_path / "in" / "scene.tif")
    scene.with_name("scene.tif.aux.xml").write_text("<PAMDataset><Metadata/></PAMDataset>")
    away, stat = tmp_path / "away", Path.stat

    def stale(self: Path, **options: Any) -> os.stat_result:
        if self == scene:
            raise OSError(errno.ESTALE, "Stale file handle")
        return stat(self, **options)

    def go(patch: pytest.MonkeyPatch) -> None:
        match how:
            case "file":
                scene.rename(away)
            case "folder":
                scene.parent.rename(away)
            case "stale":
                patch.setattr(Path, "stat", stale)

    says = r"scene\.tif cannot be reached any more \(scene\.tif\): bring it back, and give the same command again"
    with monkeypatch.context() as patch, pytest.raises(SceneError, match=says) as caught:
        run(scene, tmp_path, on_tile=after(STOP_AT, lambda: go(patch)))
    assert caught.value.__notes__ == ["3 of 6 tiles are done: the same command goes on from there."]
    if away.exists():
        away.rename(scene if how == "file" else scene.parent)
    assert resumed_at(scene, folder=tmp_path) == STOP_AT
    require_end(tmp_path, undisturbed)


def test_another_scene_that_comes_back_is_not_gone_on_with(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="cannot be reached any more"):
        run(scene, on_tile=after(STOP_AT, lambda: scene.rename(tmp_path / "away.tif")))
    (tmp_path / "away.tif").rename(scene)
    repainted(scene)
    with pytest.raises(OutputError, match=r"the content of scene\.tif has changed"):
        run(scene)


def test_a_mask_that_changes_while_it_is_read_is_an_error(scene: Path) -> None:
    with rasterio.open(scene) as dataset:
        ones = np.ones((1, dataset.height, dataset.width), np.uint8)
    mask = write_raster(scene.with_name("mask.tif"), ones)
    masked: Any = open_scene(scene, valid_mask=mask)
    with pytest.raises(SceneError, match=r"has changed while it was read \(mask\.tif\)"):
        classify(masked, MODEL, scene.with_name("map.tif"), tile_size=TILE,
                 on_tile=after(4, lambda: write_raster(mask, 0 * ones)))  # fmt: skip
    assert hidden(scene.parent) == []


# ---- the disk


def fill(disk: Path, leave: int = 0) -> None:
    """Leave so many kilobytes."""
    with (disk / "filler").open("wb") as file:
        free = shutil.disk_usage(disk).free - 1024 * leave
        file.write(bytes(max(0, free)))


@pytest.mark.parametrize("leave", [0, 4])
def test_a_full_disk_while_tiles_are_written(scene: Path, tmp_path: Path, undisturbed: Pixels, leave: int) -> None:
    with small_disk(tmp_path, 400) as disk:
        (disk / "map.tif").write_bytes(b"the old one")
        with pytest.raises(
            OutputError, match=r"map\.tif cannot be written: No space left on device \(0 MB"
        ) as caught:
            run(scene, disk, on_tile=after(1, lambda: fill(disk, leave)), overwrite=True)
        assert "of 6 tiles are done: the same command goes on" in caught.value.__notes__[0]
        assert (disk / "map.tif").read_bytes() == b"the old one"
        (disk / "filler").unlink()
        assert resumed_at(scene, folder=disk, overwrite=True) >= 1
        require_end(disk, undisturbed)


@pytest.mark.parametrize("leave", [0, 8, 16])
def test_a_full_disk_while_outputs_are_made(scene: Path, tmp_path: Path, undisturbed: Pixels, leave: int) -> None:
    with small_disk(tmp_path, 400) as disk:
        (disk / "map.tif").write_bytes(b"the old one")
        last = run_until_assembled(disk, leave)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cssd_geo.runs.unfinished.Unfinished.require_whole", last)
            with pytest.raises(OutputError, match=r"(map|c)\.tif cannot be \w+: "):
                run(scene, disk, overwrite=True)
        assert (disk / "map.tif").read_bytes() == b"the old one"
        (disk / "filler").unlink()
        assert resumed_at(scene, folder=disk, overwrite=True) == 6
        require_end(disk, undisturbed)


def run_until_assembled(disk: Path, leave: int) -> Callable[..., None]:
    check = unfinished.Unfinished.require_whole

    def check_and_fill(self: unfinished.Unfinished, guard: Callable[[], None]) -> None:
        check(self, guard)
        fill(disk, leave)

    return check_and_fill


def test_a_disk_that_is_too_small_is_refused_at_once(scene: Path, tmp_path: Path) -> None:
    large = write_raster(tmp_path / "large.tif", np.zeros((5, 400, 900), np.int16))
    with small_disk(tmp_path, 700) as disk:
        with pytest.raises(OutputError, match=r"pixels take 6 MB .*\d+ kB are free .*make room for 5 MB more"):
            run(large, disk, probabilities=disk / "p.tif", on_tile=lambda *_: pytest.fail("too late"))
        assert hidden(disk) == []
        run(scene, disk)


def test_a_disk_without_any_room_is_refused_with_how_much_is_missing(scene: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path, 700) as disk:
        fill(disk)
        with pytest.raises(OutputError, match=r"0 B are free .*make room for 11 kB more"):
            run(scene, disk)
        assert hidden(disk) == []


def test_what_does_not_fit_is_never_as_much_as_there_is_room(scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = DiskSpace(unfinished=5_000_500_000, finished=0, free=4_999_500_000)
    monkeypatch.setattr("cssd_geo.runs.run.room_for", lambda _: room)
    with pytest.raises(OutputError, match=r"take 5\.01 GB .*4\.99 GB are free .*make room for 1 MB more"):
        run(scene)


def test_a_file_that_may_not_grow_is_an_error(scene: Path, undisturbed: Pixels) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OutputError, match=r"map\.tif cannot be written: File too large"):
            run(scene, on_tile=after(2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert resumed_at(scene) >= 2
    require_end(scene.parent, undisturbed)


def test_a_lost_permission_is_an_error(scene: Path, undisturbed: Pixels) -> None:
    def forbidden(*_: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(OutputError, match=r"map\.tif cannot be written: Permission denied"),
    ):
        run(scene, on_tile=after(2, lambda: patch.setattr(os, "pwrite", forbidden)))
    assert resumed_at(scene) == 2
    require_end(scene.parent, undisturbed)


@pytest.mark.parametrize("failing", ["map.tif", "c.tif"])
def test_outputs_that_may_not_be_renamed_can_be_later(scene: Path, undisturbed: Pixels, failing: str) -> None:
    replace = Path.replace

    def forbidden(self: Path, target: Path) -> Path:
        if target.name == failing:
            raise PermissionError(errno.EACCES, "Permission denied")
        return replace(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", forbidden)
        with pytest.raises(OutputError, match=rf"{failing} cannot be finalised: .*Permission denied"):
            run(scene)
    assert not (scene.parent / "map.tif").exists()
    assert (scene.parent / "c.tif").exists() is (failing == "map.tif"), "published before the map"
    assert resumed_at(scene) == 6, "and known as this run's own"
    require_end(scene.parent, undisturbed)


@pytest.mark.parametrize("what", ["output folder", "unfinished folder"])
def test_a_folder_that_vanishes_is_an_error(scene: Path, tmp_path: Path, undisturbed: Pixels, what: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    gone = folder if what == "output folder" else folder / ".map.tif.unfinished"
    with pytest.raises(OutputError, match=r"has been removed or moved while tiles were written"):
        run(scene, folder, on_tile=after(2, lambda: shutil.rmtree(gone)))
    assert gone.exists() is False
    folder.mkdir(exist_ok=True)
    assert resumed_at(scene, folder=folder) == 0
    require_end(folder, undisturbed)


def test_an_output_folder_that_vanishes_at_the_end_is_an_error(scene: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    prepare = RasterWriter.prepare

    def vanish(self: RasterWriter) -> Path:
        shutil.rmtree(folder, ignore_errors=True)  # rasters are made side by side
        return prepare(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RasterWriter, "prepare", vanish)
        with pytest.raises(OutputError, match=r"there is no folder"):
            run(scene, folder)
    assert not folder.exists()


class Nfs:
    """`os.unlink` and `os.close` as on NFS, where a file that is open is not removed but renamed, once."""

    def __init__(self) -> None:
        self._unlink, self._close = os.unlink, os.close
        self._kept: set[str] = set()

    def unlink(self, path: Any) -> None:
        if not self._is_open(path):
            self._unlink(path)
        elif Path(path).name.startswith(".nfs"):
            raise OSError(errno.EBUSY, "Device or resource busy", str(path))
        else:
            self._kept.add(str(Path(path).rename(Path(path).with_name(f".nfs{len(self._kept)}"))))

    def close(self, handle: int) -> None:
        self._close(handle)
        for path in [path for path in self._kept if not self._is_open(path)]:
            self._kept.remove(path)
            self._unlink(path)

    @staticmethod
    def _is_open(path: Any) -> bool:
        for handle in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # another thread has closed it meanwhile
                if handle.samefile(path):
                    return True
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="finds open files in /proc")
def test_on_nfs_a_run_ends_well_and_leaves_nothing(scene: Path, undisturbed: Pixels) -> None:
    nfs = Nfs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", nfs.unlink)
        patch.setattr(os, "close", nfs.close)
        stop_at(scene)
        assert resumed_at(scene) == STOP_AT
        require_end(scene.parent, undisturbed)
        with pytest.raises(OutputError, match=r"map\.tif exists"):
            run(scene)
        run(scene, overwrite=True, restart=True)
    require_end(scene.parent, undisturbed)


@pytest.mark.parametrize("kept", ["journal", "class_map.raw", "lock"])
def test_a_folder_that_cannot_be_removed_at_the_end_is_no_error(
    scene: Path, undisturbed: Pixels, kept: str
) -> None:
    unlink = Path.unlink

    def forbidden(self: Path, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as it is
        if self.name == kept and self.exists():
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        unlink(self, missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", forbidden)
        run(scene)
    assert hidden(scene.parent) == [".map.tif.unfinished"]
    left = scene.parent / ".map.tif.unfinished"
    (left / ".nfs00000001").touch()
    if kept == "journal":
        assert resumed_at(scene) == 6, "all is done, and its own"
        with pytest.raises(OutputError, match=r"map\.tif exists"):
            run(scene)
    else:
        with pytest.raises(OutputError, match=r"map\.tif exists"):
            run(scene)
    assert [path.name for path in left.iterdir()] == [".nfs00000001"]
    run(scene, overwrite=True)
    (left / ".nfs00000001").unlink()
    left.rmdir()
    require_end(scene.parent, undisturbed)


def test_a_full_tmp_does_not_matter(
    scene: Path, tmp_path: Path, undisturbed: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path, 16) as disk:
        fill(disk)
        for variable in ("TMPDIR", "CPL_TMPDIR", "TMP", "TEMP"):
            monkeypatch.setenv(variable, str(disk))
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        run(scene)
    require_end(scene.parent, undisturbed)


def test_jumps_of_the_clock_do_not_matter(
    scene: Path, undisturbed: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(0)  # noqa: S311 - no secret
    monkeypatch.setattr(time, "time", lambda: chance.uniform(-1e9, 1e10))
    monkeypatch.setattr(time, "time_ns", lambda: chance.randrange(-(10**18), 10**18))
    stop_at(scene)
    for path in (scene.parent / ".map.tif.unfinished").iterdir():
        os.utime(path, (0, 4e9))  # from the future
    seconds: list[float] = []
    assert resumed_at(scene, on_tile=lambda *_: seconds.append(time.monotonic())) == STOP_AT
    require_end(scene.parent, undisturbed)
    assert 0 < run(scene, overwrite=True).seconds < 60


def test_no_fault_shows_a_traceback(scene: Path) -> None:
    MODEL.save(scene.parent / "m.safetensors")
    stop_at(scene)
    repainted(scene)
    result = command(scene)
    assert result.exit_code == OutputError.exit_code
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: an unfinished run to ")
    assert isinstance(result.exception, SystemExit)
    assert command(scene, "--restart").exit_code == 0


def test_every_fault_of_the_table_has_its_test() -> None:
    root = Path(__file__).parent
    table = (root.parent / "docs" / "reliability.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", table))
    assert len(named) > 20
    there = {name for path in root.glob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    assert named <= there, named - there


def test_a_change_in_any_file_of_a_large_store_discards_what_was_done(tmp_path: Path) -> None:
    data = xr.Dataset({"refl": (("wavelength", "y", "x"), np.ones((5, 40, 40), np.float32))})
    data = data.assign_coords(wavelength=("wavelength", [450.0, 550, 650, 750, 850], {"units": "nm"}))
    data.to_zarr(tmp_path / "s.zarr", encoding={"refl": {"chunks": (5, 4, 4)}}, zarr_format=2)
    chunks = sorted((tmp_path / "s.zarr" / "refl").glob("0.*"))

    def change() -> None:
        for chunk in chunks[:3]:
            chunk.write_bytes(chunk.read_bytes() + b" ")

    with pytest.raises(SceneError, match="has been discarded"):
        run(tmp_path / "s.zarr", on_tile=after(1, change))
    assert not (tmp_path / "map.tif").exists()
    assert not unfinished.folder_of(tmp_path / "map.tif").exists()
