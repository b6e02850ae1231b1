"""What people set for other programs, in the environment or in a program around ours, changes no result.

GDAL takes settings of an outer `rasterio.Env` as it takes environment variables, and forgets them afterwards.
"""

import ctypes
import locale
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.crs import CRS
from scenes import (
    NORTH_UP,
    UTM,
    TwoFields,
    coordinate_cube,
    random_model,
    write_raster,
    write_stack,
    write_two_fields,
)

import cssd_geo
from cssd_geo import machine
from cssd_geo.classes import ClassTable
from cssd_geo.cli import main
from cssd_geo.errors import LabelError, OutputError, SceneError
from cssd_geo.files.rasters import open_raster, read_valid
from cssd_geo.grid import Grid
from cssd_geo.maps import raster_writer
from cssd_geo.maps.layer import class_map_layer
from cssd_geo.maps.raster_writer import RasterWriter
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.scenes.scene_files import SceneFiles
from cssd_geo.tiles import Window
from cssd_geo.vectors import placement

CUBE = coordinate_cube(2, 21, 34)
WHOLE = Window(row=0, col=0, height=21, width=34)
NO_SIDE_FILES = [{"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}, {"GDAL_PAM_ENABLED": "NO"}]


def test_masks_beside_a_scene_count_though_servers_are_not_asked_for_them(tmp_path: Path) -> None:
    path, allowed = write_raster(tmp_path / "scene.tif", CUBE), CUBE[0] % 7 > 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(allowed)
    assert (tmp_path / "scene.tif.msk").exists()
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        _, valid = open_scene(path).read(WHOLE, np.arange(2))
    np.testing.assert_array_equal(valid, allowed)


def test_an_envi_scene_has_its_header_though_servers_are_not_asked_for_side_files(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.img", CUBE, driver="ENVI")
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        values, _ = open_scene(path).read(WHOLE, np.arange(2))
    np.testing.assert_array_equal(values, CUBE)


@pytest.mark.parametrize("settings", NO_SIDE_FILES)
def test_what_side_files_say_counts_whatever_gdal_is_told(tmp_path: Path, settings: dict[str, str]) -> None:
    path = write_raster(tmp_path / "scene.tif", CUBE)
    band = '<PAMRasterBand band="{}"><NoDataValue>1004</NoDataValue><Scale>0.5</Scale></PAMRasterBand>'
    side = f"<PAMDataset>{band.format(1)}{band.format(2)}</PAMDataset>"
    (tmp_path / "scene.tif.aux.xml").write_text(side)
    with rasterio.Env(**settings):
        scene = open_scene(path)
        _, valid = scene.read(WHOLE, np.arange(2))
    np.testing.assert_array_equal(valid, CUBE[0] != 1004)
    assert scene.scale.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("settings", NO_SIDE_FILES)
def test_a_map_keeps_a_crs_for_which_a_tiff_has_no_room(tmp_path: Path, settings: dict[str, str]) -> None:
    pole = "+proj=ob_tran +o_proj=longlat +o_lon_p=-162 +o_lat_p=39.25 +lon_0=180 +to_meter=0.0174532925"
    grid = Grid(height=21, width=34, transform=NORTH_UP, crs=CRS.from_string(pole))
    layer = class_map_layer(tmp_path / "map.tif", ClassTable.from_names(["wheat"]), {})
    with rasterio.Env(**settings), RasterWriter(layer, grid) as writer:
        writer.write(np.ones((21, 34), np.uint8), WHOLE)
        writer.finalise()
    with rasterio.open(layer.path) as dataset:
        assert dataset.crs is not None


def test_what_nodata_leaves_is_right_where_gdal_is_told_to_cache_all(tmp_path: Path) -> None:
    ids = (CUBE[:1] % 3).astype(np.uint8)
    path = write_raster(tmp_path / "map.tif", ids, nodata=0, tiled=True, blockxsize=512, blockysize=512)
    with rasterio.Env(GDAL_FORCE_CACHING=True), open_raster(path) as dataset:
        np.testing.assert_array_equal(read_valid(dataset, WHOLE), ids[0] > 0)
    with rasterio.Env(GDAL_FORCE_CACHING=True):
        dataset = open_scene(path).source.dataset()  # type: ignore[attr-defined]  # as `info` reads maps
        np.testing.assert_array_equal(read_valid(dataset, WHOLE), ids[0] > 0)


def test_a_driver_that_gdal_was_told_to_leave_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As GDAL_SKIP=COG does, which counts when rasterio is imported."""
    monkeypatch.setitem(raster_writer._FINAL, "driver", "LEFT_OUT")
    grid = Grid(height=21, width=34, transform=NORTH_UP, crs=UTM)
    layer = class_map_layer(tmp_path / "map.tif", ClassTable.from_names(["wheat"]), {})
    with RasterWriter(layer, grid) as writer:
        writer.write(np.ones((21, 34), np.uint8), WHOLE)
        with pytest.raises(OutputError, match=r"map\.tif cannot be finalised: Unrecognized driver: LEFT_OUT"):
            writer.finalise()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("virtual", [False, True])
def test_a_broken_block_is_an_error_though_gdal_is_told_to_make_data_of_it(
    tmp_path: Path, *, virtual: bool
) -> None:
    path = tmp_path / "scene.tif"
    write_raster(path, CUBE[:1], tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    with rasterio.open(path) as dataset:
        start = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * 20)
    with rasterio.Env(GTIFF_IGNORE_READ_ERRORS=True):
        scene = open_scene(write_stack(tmp_path / "stack.vrt", [path]) if virtual else path)
        with pytest.raises(SceneError, match="cannot be read"):
            scene.read(WHOLE, np.arange(1))


def test_a_database_of_coordinate_systems_of_another_program_is_named(tmp_path: Path) -> None:
    """PROJ_DATA, as QGIS and others set it, counts when rasterio is imported: maps had no EPSG code then."""
    write_raster(tmp_path / "scene.tif", CUBE)
    code = "import sys; from cssd_geo.files.rasters import open_raster; open_raster(sys.argv[1])"
    environment = os.environ | {"PROJ_DATA": str(tmp_path)}
    command = [sys.executable, "-c", code, str(tmp_path / "scene.tif")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "SceneError: PROJ cannot use its database of coordinate systems: unset PROJ_DATA" in done.stderr


def test_a_working_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = CliRunner().invoke(main, ["info", str(tmp_path / "scene.tif")])
    assert (done.exit_code, done.output) == (
        2,
        "Error: the folder that this runs in is gone (No such file or directory): cd to one that exists\n",
    )


def test_a_scene_and_its_mask_stay_the_same_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_two_fields(tmp_path)
    monkeypatch.chdir(tmp_path)
    write_raster(tmp_path / "mask.tif", np.ones((1, 60, 90), np.uint8))
    scene = open_scene("two_fields.tif", valid_mask="mask.tif")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    cssd_geo.classify(scene, random_model(), "map.tif")
    files = SceneFiles.of(scene)
    assert (files.scene, files.mask) == ((tmp_path / "two_fields.tif",), (tmp_path / "mask.tif",))


def test_labels_whose_grid_the_network_does_not_bring_are_not_said_to_lie_outside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Unreachable:
        """What PROJ does with PROJ_NETWORK=ON and no network."""

        def transform(
            self, *places: NDArray[np.float64], errcheck: bool = False
        ) -> tuple[NDArray[np.float64], ...]:
            if errcheck:
                raise ProjError("Network error when accessing a remote resource")
            return tuple(np.full_like(along, np.inf) for along in places)

    monkeypatch.setattr(placement, "way", lambda *_: Unreachable())
    monkeypatch.setattr(pyproj.network, "is_network_enabled", lambda: True)
    grid = Grid(height=21, width=34, transform=NORTH_UP, crs=UTM)
    with pytest.raises(LabelError, match=r"fields\.gpkg: .*Network error"):
        placement.to_pixels(np.array([shapely.Point(5_400_000, 5_800_000)]), "EPSG:31469", grid, "fields.gpkg")


@contextmanager
def in_turkish() -> Iterator[None]:
    """A locale in which the C library takes `i` and `I` for two letters: Python has it from its start there."""
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "tr_TR.UTF-8")
    except locale.Error:
        pytest.skip("this machine has no Turkish locale (localedef -i tr_TR -f UTF-8 tr_TR.UTF-8)")
    try:
        yield
    finally:
        locale.setlocale(locale.LC_CTYPE, before)


@pytest.mark.parametrize("interleave", ["bil", "bip"])
def test_a_header_is_read_where_people_write_turkish(tmp_path: Path, interleave: str) -> None:
    path = write_raster(tmp_path / "scene.img", CUBE, driver="ENVI", interleave=interleave)
    header = path.with_suffix(".hdr")
    header.write_text(re.sub(r"interleave.*", f"interleave = {interleave}", header.read_text()))
    with in_turkish():
        values, _ = open_scene(path).read(WHOLE, np.arange(2))
    np.testing.assert_array_equal(values, CUBE)


@pytest.mark.parametrize("missing", [(), ("C.UTF-8",)])
def test_where_letters_are_others_those_of_c_are_taken(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[str, ...]
) -> None:
    taken = list[str]()

    def set_locale(_: int, name: str) -> None:
        if name in missing:
            raise locale.Error("unsupported locale setting")
        taken.append(name)

    letters = SimpleNamespace(strcasecmp=lambda *_: 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: letters)
    monkeypatch.setattr(locale, "setlocale", set_locale)
    machine.use_plain_letters()
    assert taken == [("C" if missing else "C.UTF-8")]


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> TwoFields:
    return write_two_fields(tmp_path_factory.mktemp("fields"))


def digest(fields: TwoFields) -> str:
    """Of a model, its calibration included."""
    options = TrainingOptions(epochs=1, folds=2, windows_per_class=4, baseline=False)
    return cssd_geo.train(fields.scene, fields.labels, options=options).model.digest()


@pytest.fixture(scope="module")
def trained_alone(fields: TwoFields) -> str:
    return digest(fields)


@contextmanager
def in_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_state_of_torch_around_a_training_changes_no_model(
    fields: TwoFields, trained_alone: str, mode: Callable[[], AbstractContextManager[None]]
) -> None:
    elsewhere = torch.device("meta")  # stands for any default but the CPU
    with in_float64(), elsewhere, mode(), torch.autocast("cpu", torch.bfloat16):
        assert digest(fields) == trained_alone


@pytest.mark.usefixtures("quick_baselines")
def test_training_leaves_the_random_numbers_of_others_alone(fields: TwoFields) -> None:
    def state() -> tuple[str, ...]:
        return str(torch.get_rng_state().tolist()), str(np.random.get_state()), str(random.getstate())  # noqa: NPY002

    before = state()
    cssd_geo.train(fields.scene, fields.labels, options=TrainingOptions(epochs=1, folds=2, windows_per_class=4))
    assert state() == before
