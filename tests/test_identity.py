"""A scene is known by what its pixels depend on, and by nothing else."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from crashing import write_scene
from numpy.typing import NDArray
from scenes import ROTATED, coordinate_cube, random_model, write_raster

from cssd_geo.classification import classify
from cssd_geo.errors import SceneError
from cssd_geo.files.fingerprints import fingerprint
from cssd_geo.products import open_scene
from cssd_geo.runs.identity import SceneWatch, scene_digest, scene_files, scene_key
from cssd_geo.scenes.scene import Scene, scene_of_array
from cssd_geo.tiles import Window


@dataclass(frozen=True)
class Spots:
    """A mask that excludes single pixels."""

    spots: tuple[tuple[int, int], ...]

    def read(self, window: Window) -> NDArray[np.bool_]:
        usable = np.ones((61, 83), np.bool_)
        for row, col in self.spots:
            usable[row, col] = False
        return usable[window.slices]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return open_scene(write_scene(tmp_path))


def test_a_copy_is_the_same_scene(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    copy = shutil.copy(tmp_path / "scene.tif", tmp_path / "copies" / "scene.tif")
    os.utime(copy, (5, 5))
    assert scene_key(open_scene(copy)) == scene_key(scene)


def test_what_changes_how_values_are_read_counts(scene: Scene) -> None:
    others = [
        scene.without_bands(np.array([True, False, False, False, False])),
        replace(scene, nodata=scene.nodata - 1),
        replace(scene, scale=scene.scale * 2),
        replace(scene, offset=scene.offset + 1),
        replace(scene, grid=replace(scene.grid, transform=ROTATED)),
        replace(scene, masks=(Spots(()),)),
        replace(scene, masks=(Spots(((60, 82),)),)),
        replace(scene, masks=(Spots(()), Spots(((60, 82),)))),
    ]
    keys = [str(scene_key(each)) for each in (scene, *others)]
    assert len(set(keys)) == len(keys)
    assert scene_key(replace(scene, notes=("a note",), sensor="EnMAP")) == scene_key(scene)


def test_what_cannot_be_told_from_its_like_is_known_by_nothing(scene: Scene) -> None:
    assert scene_key(scene_of_array(scene.cube)) is None
    assert scene_key(replace(scene, sensor=None, scale=np.array([object()] * 5))) is None


def test_side_files_count_and_overviews_do_not(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.dat", coordinate_cube(3, 20, 30), driver="ENVI")
    before = scene_key(open_scene(path))
    assert {file.name for file in scene_files(open_scene(path))} >= {"s.dat", "s.hdr"}
    write_raster(tmp_path / "s.dat.ovr", coordinate_cube(3, 10, 15))
    assert scene_key(open_scene(path)) == before
    header = tmp_path / "s.hdr"
    header.write_text(header.read_text() + "\n; a remark\n")
    after = scene_key(open_scene(path))
    assert before is not None
    assert after is not None
    assert [name for name in after if after[name] != before.get(name)] == ["the content of s.hdr"]


def test_a_virtual_raster_is_what_it_names(scene: Scene, tmp_path: Path) -> None:
    from rasterio.shutil import copy  # noqa: PLC0415 - only here

    copy(tmp_path / "scene.tif", tmp_path / "virtual.vrt", driver="VRT")
    files = scene_files(open_scene(tmp_path / "virtual.vrt"))
    assert {file.name for file in files} == {"virtual.vrt", "scene.tif"}
    assert scene.path is not None


def test_a_folder_counts_by_all_names_and_sizes(scene: Scene, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for number in range(40):
        (store / f"{number}").mkdir(parents=True)
        (store / f"{number}" / "chunk").write_bytes(bytes([number] * 9))
    folder = replace(scene, path=store)
    before, watch = scene_key(folder), SceneWatch(folder)
    assert before is not None
    (store / "39" / "chunk").write_bytes(b"other length")
    assert scene_key(folder) != before
    (store / "39" / "chunk").write_bytes(bytes([39] * 9))
    assert scene_key(folder) == before
    (store / "0" / "chunk").write_bytes(bytes([1] * 10))
    with pytest.raises(SceneError, match=r"has changed while it was read \(chunk, chunk\)"):
        watch.check()


def test_a_scene_that_is_gone_is_an_error(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "scene.tif").unlink()
    for look in (scene_key, scene_digest, SceneWatch):
        with pytest.raises(SceneError, match=r"scene\.tif is gone since it was opened"):
            look(scene)


def test_a_run_on_a_scene_that_is_gone_is_an_error(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "scene.tif").unlink()
    with pytest.raises(SceneError, match=r"scene\.tif (cannot be read any more|is gone)"):
        classify(replace(scene, scale_by_hand=True), random_model(bands=5), tmp_path / "map.tif")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_known_by_one_fingerprint(scene: Scene, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    for number in range(100):
        (store / f"{number:03}").write_bytes(bytes([number]))
    folder = replace(scene, path=store)
    before = scene_key(folder), fingerprint(store)
    (store / "002").write_bytes(b"\xff")  # as long as before
    assert before[0] is not None
    assert before[0]["the content of store"] == before[1]
    assert scene_key(folder) != before[0]
    assert fingerprint(store) != before[1]


def test_a_scene_at_an_address_is_known_by_its_name_and_how_it_is_read(scene: Scene) -> None:
    there = replace(scene, path=None)
    others = [replace(there, name="other.tif"), replace(there, scale=scene.scale * 2), scene]
    assert scene_key(there) is None
    assert scene_digest(there) == scene_digest(replace(there, notes=("a note",))) is not None
    assert len({scene_digest(each) for each in (there, *others)}) == 4
