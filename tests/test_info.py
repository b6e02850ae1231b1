"""What is known of a model or a scene, for a person and for a program."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from click.testing import CliRunner
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from scenes import (
    ROTATED,
    UTM,
    coordinate_cube,
    pixel_box,
    random_model,
    with_bands,
    write_polygons,
    write_raster,
    write_two_fields,
)
from stores import turned_table, write_emit

from cssd_geo.bands import Bands
from cssd_geo.classes import ClassTable
from cssd_geo.classification import classify
from cssd_geo.cli import main
from cssd_geo.engine.streaming import this_machine
from cssd_geo.errors import ModelFileError, SceneError
from cssd_geo.model_info import describe_model
from cssd_geo.products import open_scene
from cssd_geo.runs.job import plan_job
from cssd_geo.runs.layers import Outputs
from cssd_geo.scene_info import describe_scene


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


def test_a_scene_is_described(scene: Path) -> None:
    facts = describe_scene(scene)
    assert facts["size"] == {"height": 4, "width": 7, "bands": 3}
    assert facts["dtype"] == "uint16"
    assert facts["file"]["format"] == "GTiff"
    assert facts["file"]["bytes"] == scene.stat().st_size
    place = facts["place"]
    assert (place["crs"], place["crs_name"], place["unit"]) == ("EPSG:32633", "WGS 84 / UTM zone 33N", "m")
    assert place["transform"] == [30.0, 0.0, 400_000.5, 0.0, -30.0, 5_800_000.25]
    assert (place["pixel_size"], place["rotation_degrees"]) == ([30.0, 30.0], 0.0)
    assert place["corners"]["lower_right"] == [400_210.5, 5_799_880.25]
    values = facts["values"]
    assert (values["nodata"], values["scale"], values["offset"]) == ([65535.0], [1e-4], [-0.1])
    assert values["quantiles"]["median"] == pytest.approx(1e-4 - 0.1)
    assert facts["bands"]["wavelength_nm"] == [450.0, 550.5, 650.0]
    assert facts["bands"]["bad"] == [2]
    assert facts["plan"] is None
    assert facts["warnings"] == []


@pytest.mark.parametrize(
    ("name", "engine", "kind"),
    [("a.h5", "h5netcdf", "NetCDF"), ("a.nc3", "scipy", "NetCDF"), ("a.nc", None, "HDF5"), ("a", "zarr", "Zarr")],
)
def test_the_format_of_a_store_is_what_it_holds_not_its_name(
    tmp_path: Path, name: str, engine: Any, kind: str
) -> None:
    axes = {"wavelength": [450.0, 550.0, 650.0], "y": -30.0 * np.arange(6), "x": 30.0 * np.arange(7)}
    cube = xr.DataArray(np.ones((3, 6, 7), np.float32), axes, dims=tuple(axes)).to_dataset(name="reflectance")
    if engine == "zarr":
        cube.to_zarr(tmp_path / name, zarr_format=2)
    else:
        cube.to_netcdf(tmp_path / name, engine=engine or "h5netcdf")
    if engine is None:
        with h5py.File(tmp_path / name, "a") as file:
            del file.attrs["_NCProperties"]
    file = describe_scene(tmp_path / name)["file"]
    assert (file["format"], file["files"]) == (kind, [name])


def test_the_quantiles_of_a_scene_that_is_read_whole_are_of_all_of_it(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).integers(100, 200, size=(130, 95, 101)).astype(np.uint16)
    cube[7, 0, 1], cube[90, 94, 99] = 3, 7000
    expected = np.quantile(cube, [0, 0.02, 0.5, 0.98, 1])
    facts = describe_scene(write_raster(tmp_path / "scene.tif", cube))
    np.testing.assert_array_equal(list(facts["values"]["quantiles"].values()), expected)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_scene_without_georeference_has_none(tmp_path: Path) -> None:
    facts = describe_scene(
        write_raster(tmp_path / "s.tif", np.ones((1, 2, 3), np.float32), transform=None, crs=None)
    )
    assert {facts["place"][name] for name in ("crs", "transform", "pixel_size", "corners", "degrees")} == {None}
    assert facts["values"]["nodata"] == [None]
    assert [text.split(" ")[0] for text in facts["warnings"]] == ["No", "No", "Wavelengths"]


def test_a_local_crs_has_no_place_on_the_earth(tmp_path: Path) -> None:
    local = CRS.from_wkt('LOCAL_CS["Arbitrary",UNIT["metre",1]]')  # as GDAL reads ENVI's "Arbitrary"
    path = write_raster(tmp_path / "lab.tif", coordinate_cube(3, 4, 5), crs=local)
    facts = describe_scene(open_scene(path))
    assert (facts["place"]["crs_name"], facts["place"]["degrees"]) == ("Arbitrary", None)
    assert "in the scene's own coordinates" in facts["warnings"][0]


def test_control_points_are_counted(tmp_path: Path) -> None:
    points = [GroundControlPoint(row=r, col=c, x=9.0 + c, y=50.0 - r) for r, c in ((0, 0), (0, 3), (2, 0), (2, 3))]
    path = write_raster(tmp_path / "s.tif", np.ones((1, 2, 3), np.uint8), transform=None, crs=UTM, gcps=points)
    assert describe_scene(path)["place"]["gcps"] == 4
    assert "EPSG:32633, WGS 84 / UTM zone 33N, 4 ground control points" in printed(path)


def test_a_rotated_scene_shows_its_whole_transform(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", np.ones((1, 2, 3), np.uint8), transform=ROTATED)
    place = describe_scene(path)["place"]
    assert place["transform"] == pytest.approx(list(ROTATED)[:6])
    assert place["pixel_size"] == pytest.approx([30, 30])
    assert place["rotation_degrees"] == pytest.approx(-27)
    assert place["corners"]["lower_left"] == pytest.approx(list(ROTATED @ (0, 2)))
    assert not place["mirrored"]
    assert "rotated by -27 degrees" in printed(path)


@pytest.mark.parametrize(("across", "down", "says"), [(2, 5, "m, south up"), (-2, -5, "180 degrees, mirrored")])
def test_a_mirrored_grid_is_told_from_a_rotated_one(across: int, down: int, says: str, tmp_path: Path) -> None:
    transform = Affine(across, 0, 400_000, 0, down, 5_800_000)
    path = write_raster(tmp_path / "s.tif", np.ones((1, 2, 3), np.uint8), transform=transform)
    assert describe_scene(path)["place"]["mirrored"]
    assert f"{says}\n" in printed(path)


def printed(*words: Any) -> str:
    result = CliRunner().invoke(main, ["info", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(("fill", "declared"), [(0, None), (-9999, None), (-9999, -9999)])
def test_nodata_that_nobody_declared_is_suspected(tmp_path: Path, fill: int, declared: int | None) -> None:
    cube = np.random.default_rng(0).integers(1, 400, (6, 40, 50)).astype(np.int16)
    cube[:, :, :5] = fill
    facts = describe_scene(write_raster(tmp_path / "s.tif", cube, nodata=declared))
    suspected = [text for text in facts["warnings"] if "not declared as nodata" in text]
    assert facts["values"]["nodata_share"] == pytest.approx(0.1 if declared else 0)
    if declared:
        assert not suspected
    else:
        assert suspected[0].startswith(f"10.0 % of the pixels are {fill} in every band")


def test_few_pixels_below_zero_are_suspected_by_number(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).integers(1, 400, (6, 90, 50)).astype(np.int16)
    cube[:, 3, 4:6] = -9999
    warnings = describe_scene(write_raster(tmp_path / "s.tif", cube))["warnings"]
    assert any(text.startswith("2 of the pixels are -9999 in every band") for text in warnings)


def test_a_scene_without_any_data_says_so(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", np.full((6, 4, 5), -9999, np.float32), nodata=-9999)
    facts = describe_scene(path)
    assert facts["values"]["nodata_share"] == 1
    assert "There is no data in any pixel." in facts["warnings"]
    assert "100.0 % of the pixels have no data" in printed(path)


def test_empty_bands_overlapping_detectors_and_large_values_are_told(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).integers(1, 9000, (6, 40, 50)).astype(np.int16)
    cube[[1, 4]] = -1
    path = write_raster(tmp_path / "s.tif", cube, nodata=-1)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="ENVI", wavelength="{400, 420, 440, 430, 450, 900}")
    facts = describe_scene(open_scene(path, bands="2-6"))
    assert facts["values"]["bands_without_data"] == [2, 5]
    assert facts["values"]["nodata_share"] == 0
    large = (
        f"98 % of the values are up to {np.quantile(cube[[2, 3, 5]], 0.98):,.0f}, and no scale is declared. If "
        "they are reflectance times 10,000, say so with --scale 0.0001, or in the file (gdal_edit.py -scale "
        "0.0001 -offset 0): else a model and a scene that differ in this are compared, and the scale is guessed."
    )
    assert [text for text in facts["warnings"] if "turn back" not in text] == [
        "Bands without data in any pixel: 2, 5. Training drops them.",
        large,
    ]
    assert "Wavelengths turn back at band 4, as where two detectors overlap." in facts["warnings"]
    assert [part["bands"] for part in facts["bands"]["segments"]] == ["2-3", "4-5", "6"]


def test_bands_from_long_to_short_are_runs_too(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", np.ones((7, 4, 5), np.int16))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(ns="ENVI", wavelength="{970, 700, 440, 430, 2490, 2200, 1900}", wavelength_units="nm")
    facts = describe_scene(path)
    assert [part["bands"] for part in facts["bands"]["segments"]] == ["1-4", "5-7"]
    assert facts["bands"]["segments"][1]["wavelength_nm"] == [2490, 1900]
    assert "Wavelengths turn back at band 5, as where two detectors overlap." in facts["warnings"]
    assert not any("turn back" in text for text in describe_scene(open_scene(path, bands="1-4"))["warnings"])


def test_a_scene_in_sensor_geometry_lies_where_its_map_does(tmp_path: Path) -> None:
    path = write_emit(tmp_path / "emit.nc", np.ones((9, 6, 3)), *turned_table(9, 6))
    facts, grid = describe_scene(path), open_scene(path).map_grid
    assert facts["place"]["crs"] == "EPSG:4326"
    assert (facts["place"]["height"], facts["place"]["width"]) == (grid.height, grid.width) != (9, 6)
    assert facts["place"]["transform"] == list(grid.transform or ())[:6]
    assert not any(word in text for text in facts["warnings"] for word in ("CRS", "georeference"))
    text = printed(path)
    assert f"map of {grid.height} rows x {grid.width} columns" in text
    assert "NetCDF, blocks of 9 x 6 pixels" in text
    assert "map of" not in printed(write_raster(tmp_path / "plain.tif", np.ones((1, 9, 6), np.int16)))


def test_masks_and_chosen_bands_are_told(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    aoi = write_polygons(tmp_path / "aoi.gpkg", [(pixel_box(30, 0, 30, 45), "in")])
    text = printed(made.scene, "--aoi", aoi, "--bands", "3,1-2")
    assert "masks exclude 75.0 % of the pixels" in text
    assert "nodata -9999; 4.9 % of the pixels have no data (all 5,400 pixels were read)" in text
    assert "notes     Bands chosen by hand: 3, 1-2 (3 of 12)." in text
    nothing = write_raster(tmp_path / "no.tif", np.zeros((1, 60, 90), np.uint8))
    assert "Masks or the area of interest exclude every pixel." in printed(made.scene, "--valid-mask", nothing)


def test_the_plan_is_that_of_classify_or_says_why_not(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    random_model(bands=12).save(tmp_path / "m.safetensors")
    fits = printed(made.scene, "-m", tmp_path / "m.safetensors")
    assert "plan      tiles: 1 (1 down, 1 across, each 60 x 90 pixels)\n          halo of" in fits
    with rasterio.open(made.scene) as dataset:
        write_raster(tmp_path / "brighter.tif", dataset.read().astype(np.float32) * 1e4)
    model = replace(random_model(bands=12), mean=np.full(12, 1000.0), std=np.full(12, 300.0))
    model.save(tmp_path / "other.safetensors")
    told = printed(tmp_path / "brighter.tif", "-m", tmp_path / "other.safetensors")
    assert "times the model's" in " ".join(told.split())
    text = printed(made.scene, "-m", tmp_path / "m.safetensors", "--bands", "1-4")
    assert "the model does not fit: two_fields.tif has 4 bands but the model was trained on 12" in text


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_the_plan_takes_the_memory_that_classify_does(
    has_bfloat16: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cssd_geo.engine.devices._has_bfloat16", lambda _: has_bfloat16)
    scene, model = open_scene(write_two_fields(tmp_path).scene), random_model(bands=12)
    job = plan_job(scene, model, Outputs(class_map=tmp_path / "map.tif"), this_machine("auto", "auto"))
    taken = job.classifier.needs(job.scene, job.plan.at_once).of(job.plan)
    assert describe_scene(scene, model)["plan"]["memory"] == taken


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
    assert "place     EPSG:32633, WGS 84 / UTM zone 33N, pixels of 30 x 30 m\n" in text
    assert "size      4 rows x 7 columns x 3 bands, uint16\n" in text
    assert "reflectance = value x 0.0001 + -0.1\n" in text
    assert "          bad: 2\n" in text
    assert max(map(len, text.splitlines())) <= 100
    text = CliRunner().invoke(main, ["info", str(model)]).stdout
    assert "            3  oak (#010203) " in text
    assert "accuracy  not measured\n" in text
    assert "trained   train.tif\n" in text
    assert "None" not in text


def test_a_map_says_what_it_holds_and_what_it_was_made_of(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "scene.tif", np.random.default_rng(0).uniform(1, 9, (3, 20, 30)), nodata=9e9)
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.full((3, 4, 30), 9e9), window=((0, 4), (0, 30)))
    model = replace(random_model(bands=3), provenance={"scene": {"name": "train.tif"}})
    confidence, probabilities = tmp_path / "c.tif", tmp_path / "p.tif"
    done = classify(
        path,
        model,
        tmp_path / "map.tif",
        confidence=confidence,
        probabilities=probabilities,
        precision="float32",
    )
    facts = describe_scene(tmp_path / "map.tif")
    made = facts["map"]
    assert {row["name"]: row["pixels"] for row in made["classes"]} | {"unclassified": 120} == done.pixels
    assert [row["id"] for row in made["classes"]] == list(model.classes.ids)
    assert sum(row["hectares"] for row in made["classes"]) == pytest.approx(480 * 0.09)
    assert (made["holds"], made["scene"], made["trained_on"]) == ("class map", "scene.tif", "train.tif")
    assert (made["model"], made["precision"], facts["warnings"]) == (model.digest(), "float32", [])
    beside = describe_scene(tmp_path / "c.tif")["map"]
    assert beside == made | {"holds": "confidence in percent", "classes": None}
    shares = CliRunner().invoke(main, ["info", str(tmp_path / "p.tif")]).output
    assert f"map       probabilities ({', '.join(model.classes.names)}) of scene.tif" in shares
    assert "values    nodata NaN; 20.0 % of the pixels have no data" in shares
    assert describe_scene(path)["map"] is None
    text = CliRunner().invoke(main, ["info", str(tmp_path / "map.tif")]).output
    assert f"map       class map of scene.tif, by the model {model.digest()[:12]}" in text
    assert re.search(r"unclassified +120 pixels +20.0 %", text)
    assert "wavelength" not in text.lower()


def test_long_lists_are_for_programs_only(tmp_path: Path) -> None:
    random_model(bands=40).save(tmp_path / "m.safetensors")
    text = printed(tmp_path / "m.safetensors")
    assert "confusion matrices and fingerprints: --json\n" in text
    assert len(text.splitlines()) < 30
    facts = json.loads(printed(tmp_path / "m.safetensors", "--json"))
    assert len(facts["header"]["statistics"]["mean"]) == 40


def test_a_model_says_for_a_person_what_training_found() -> None:
    path = Path(__file__).parents[1] / "models" / "demo.safetensors"
    text, found = printed(path), describe_model(path)["header"]["provenance"]["accuracy"]
    low, high = (100 * end for end in found["map"]["overall_accuracy_95"])
    figures = f"OA {100 * found['map']['overall_accuracy']:.1f} % (95 %: {low:.1f} to {high:.1f} %), AA "
    assert f"accuracy  {figures}" in text
    assert f"confidence {found['reliability']['expected_calibration_error']:.3f}; 0 is perfect\n" in text
    for name, other in found["baselines"].items():
        assert re.search(rf"{name} +{100 * other['overall_accuracy']:.1f} +[0-9.]+ +{other['kappa']:.3f}\n", text)
    assert re.search(r"12  wheat \(#ebcd6e\) +671 +671 +100\.0 +100\.0\n", text)
    assert "options   epochs=20, batch-size=16, " in text
    assert "trained   scene.tif, labels labels.shp\n" in text
    assert "versions  cssd_geo " in text
    assert not set("{}[]'") & set(text)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("odd", [None, 3, "text", [], [1, None], {}, {"x": [1]}, 10**400], ids=str)
def test_a_provenance_that_no_training_wrote_is_left_out(tmp_path: Path, odd: Any) -> None:
    accuracy = {
        "split": odd,
        "map": {"overall_accuracy": odd, "overall_accuracy_95": odd, "classes": odd, "total": odd},
        "baselines": odd,
    }
    names = ("scenes", "labels", "scale", "options", "training_pixels", "versions", "whitening", "more")
    for figures in (accuracy, odd, {"map": odd}, accuracy | {"baselines": {"forest": odd}}):
        provenance = dict.fromkeys(names, odd) | {"accuracy": figures}
        replace(random_model(), provenance=provenance).save(tmp_path / "m.safetensors")
        assert printed(tmp_path / "m.safetensors").startswith("m.safetensors\nbands ")


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(SceneError, match="not a raster"):
        describe_scene(tmp_path / "text.tif")
    with pytest.raises(ModelFileError, match="does not exist"):
        describe_model(tmp_path / "no.safetensors")
