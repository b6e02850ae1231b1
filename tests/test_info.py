"""What is known of a model or a scene, for a person and for a program."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from rasterio.control import GroundControlPoint
from scenes import UTM, random_model, with_bands, write_raster

from cssd_geo.bands import Bands
from cssd_geo.classes import ClassTable
from cssd_geo.cli import main
from cssd_geo.errors import ModelFileError, SceneError
from cssd_geo.info import describe_model, describe_scene


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = write_raster(tmp_path / "scene.tif", np.ones((3, 4, 7), np.uint16), nodata=65535)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = [1e-4] * 3, [-0.1] * 3
        dataset.update_tags(ns="ENVI", wavelength="{450, 550.5, 650}", bbl="{1, 0, 1}", wavelength_units="nm")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    bands = Bands(good=(True, False, True, True), wavelength_nm=(400.0, 500.0, 600.0, 700.0))
    made = replace(with_bands(random_model(bands=3), bands), provenance={"accuracy": float("nan"), "scene": None})
    table = ClassTable(ids=(3, 7, 9), names=("oak", "Wiese", "水"), colours=((1, 2, 3), (255, 0, 16), (9, 9, 9)))
    made = replace(made, classes=table, provenance={"scene": {"name": "train.tif"}, "accuracy": None})
    made.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_scene_is_described_without_its_pixels(scene: Path) -> None:
    facts = describe_scene(scene)
    assert facts["size"] == {"height": 4, "width": 7, "bands": 3}
    assert facts["dtype"] == "uint16"
    assert facts["crs"] == "EPSG:32633"
    assert facts["transform"] == [30.0, 0.0, 400_000.5, 0.0, -30.0, 5_800_000.25]
    assert facts["nodata"] == [65535.0]
    assert facts["scale"] == [1e-4]
    assert facts["offset"] == [-0.1]
    assert facts["bands"]["wavelength_nm"] == [450.0, 550.5, 650.0]
    assert facts["bands"]["bad"] == [2]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_scene_without_georeference_has_none(tmp_path: Path) -> None:
    facts = describe_scene(
        write_raster(tmp_path / "s.tif", np.ones((1, 2, 3), np.float32), transform=None, crs=None)
    )
    assert facts["crs"] is None
    assert facts["transform"] is None
    assert facts["nodata"] == [None]


def test_control_points_are_counted(tmp_path: Path) -> None:
    points = [GroundControlPoint(row=r, col=c, x=9.0 + c, y=50.0 - r) for r, c in ((0, 0), (0, 3), (2, 0), (2, 3))]
    path = write_raster(tmp_path / "s.tif", np.ones((1, 2, 3), np.uint8), transform=None, crs=UTM, gcps=points)
    assert describe_scene(path)["gcps"] == 4


def test_a_rotated_scene_shows_its_whole_transform(tmp_path: Path) -> None:
    turned = Affine(1, 2, 3, 4, 5, 6)
    path = write_raster(tmp_path / "s.tif", np.ones((1, 2, 3), np.uint8), transform=turned)
    assert describe_scene(path)["transform"] == [1, 2, 3, 4, 5, 6]


def test_a_model_is_described(model: Path) -> None:
    facts = describe_model(model)
    assert facts["model"] == "model.safetensors"
    assert facts["bands"] == "4 bands, 3 good, 400 to 700 nm"
    assert len(facts["digest"]) == 64
    assert facts["header"]["classes"] == {"3": "oak (#010203)", "7": "Wiese (#ff0010)", "9": "水 (#090909)"}
    assert facts["header"]["bands"]["good"] == [True, False, True, True]


def test_json_is_json_for_both(scene: Path, model: Path) -> None:
    for path, key in ((scene, "scene"), (model, "model")):
        result = CliRunner().invoke(main, ["info", str(path), "--json"])
        assert result.exit_code == 0
        assert json.loads(result.stdout)[key] == path.name


def test_text_is_readable_for_both(scene: Path, model: Path) -> None:
    text = CliRunner().invoke(main, ["info", str(scene)]).stdout
    assert "crs            EPSG:32633\n" in text
    assert "height  4\n" in text
    text = CliRunner().invoke(main, ["info", str(model)]).stdout
    assert "3  oak (#010203)\n" in text
    assert "accuracy  none\n" in text
    assert "None" not in text


def test_long_lists_are_cut_for_a_person_only(tmp_path: Path) -> None:
    random_model(bands=40).save(tmp_path / "m.safetensors")
    text = CliRunner().invoke(main, ["info", str(tmp_path / "m.safetensors")]).stdout
    assert "... (40 values)" in text
    assert max(map(len, text.splitlines())) < 120
    facts = json.loads(CliRunner().invoke(main, ["info", str(tmp_path / "m.safetensors"), "--json"]).stdout)
    assert len(facts["header"]["statistics"]["mean"]) == 40


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(SceneError, match="not a raster"):
        describe_scene(tmp_path / "text.tif")
    with pytest.raises(ModelFileError, match="does not exist"):
        describe_model(tmp_path / "no.safetensors")
