"""The demo leaves all that it promises, over its own files only; the made-up scene keeps what is known of it."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
from click.testing import CliRunner

from cssd_geo.bands import Bands
from cssd_geo.cli import main
from cssd_geo.demo.files import is_made_up, write_scene
from cssd_geo.demo.landscape import NODATA, Landscape, make_landscape
from cssd_geo.demo.run import Demo, run_demo
from cssd_geo.errors import OutputError
from cssd_geo.model import load_model
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene

FILES = {
    "scene.tif", "labels.shp", "labels.shx", "labels.dbf", "labels.prj", "labels.cpg", "truth.tif",
    "truth.tif.aux.xml", "model.safetensors", "map.tif", "map.tif.aux.xml", "confidence.tif", "accuracy.json",
    "accuracy.txt", "demo.png", "confusion.png",
}  # fmt: skip
OPTIONS = TrainingOptions(epochs=1, windows_per_class=4, window=3)


@cache
def small_landscape() -> Landscape:
    return make_landscape(height=48, width=60, bands=8)


def run(folder: Path) -> Demo:
    return run_demo(folder, height=96, width=128, bands=24, options=OPTIONS, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, quick_baselines: None) -> Path:  # noqa: ARG001 - they are in use
    place = tmp_path_factory.mktemp("demo") / "made" / "here"
    run(place)
    return place


def test_all_files_are_there_and_no_others(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES


def test_the_map_lies_where_the_scene_lies_and_nodata_is_no_class(folder: Path) -> None:
    layers = {}
    with rasterio.open(folder / "scene.tif") as scene:
        nodata = scene.read(1) == NODATA
        for name in ("map", "confidence", "truth"):
            with rasterio.open(folder / f"{name}.tif") as dataset:
                assert (dataset.transform, dataset.crs, dataset.shape) == (scene.transform, scene.crs, scene.shape)
                layers[name] = dataset.read(1)
    assert nodata.any()
    assert (layers["map"][nodata] == 0).all()
    assert (layers["map"][~nodata] > 0).all()
    assert (layers["confidence"][nodata] == 255).all()
    assert (layers["confidence"][~nodata] <= 100).all()
    assert (layers["truth"][nodata] == 0).all()


def test_the_accuracy_is_there_for_people_and_programs(folder: Path) -> None:
    facts = json.loads((folder / "accuracy.json").read_text())
    assert 0 <= facts["map_on_truth_away_from_labels"]["overall_accuracy"] <= 1
    assert facts["held_out_polygons"]["map"]["total"] > 0
    assert any("were left out" in note for note in facts["notes"])
    text = (folder / "accuracy.txt").read_text()
    for name in ("overall accuracy", "OA, 95 % interval", "calibration error", "random forest", "support vector"):
        assert f"\n{name}" in text


def test_pictures_are_pictures(folder: Path) -> None:
    for name in ("demo.png", "confusion.png"):
        data = (folder / name).read_bytes()
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(data) > 10_000


def test_a_second_run_replaces_the_first_and_leaves_other_files_alone(folder: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in ("scene.tif", "map.tif", "labels.dbf")}
    others = [folder / "notes.txt", folder / "labels.gpkg", folder / "labels.qml"]
    for other in others:
        other.write_text("mine")
    (folder / "scene.tif.aux.xml").write_text("<PAMDataset>statistics of an older scene</PAMDataset>")
    (folder / "labels.qix").write_text("an index of older polygons")
    made = run(folder)
    assert {path.name for path in folder.iterdir()} == FILES | {other.name for other in others}
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert load_model(folder / "model.safetensors").digest() == made.training.model.digest()
    for other in others:
        other.unlink()


@pytest.mark.parametrize("name", ["scene.tif", "map.tif", "labels.shp", "accuracy.json"])
def test_files_of_an_analyst_are_not_replaced(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(OutputError, match=f"holds {name} that no demo made: choose another folder"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("place", ["/proc", "/proc/new", "file", "file/below"])
def test_a_folder_that_cannot_be_written_is_one_line(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["demo", "-o", place])
    assert result.exit_code == 6
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


def test_a_folder_that_would_lead_to_another_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "project!"
    folder.mkdir()
    with pytest.raises(OutputError, match=r"project!: '!' and ';' would split the path of a shapefile"):
        write_scene(small_landscape(), folder)
    assert not list(folder.iterdir())


def test_a_full_disk_leaves_the_old_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    landscape = small_landscape()
    files = write_scene(landscape, tmp_path)
    before = files.scene.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match=r"scene\.tif cannot be written: .*No space left"):
        write_scene(landscape, tmp_path)
    assert files.scene.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_what_is_known_of_the_bands_survives_the_file(tmp_path: Path) -> None:
    landscape = make_landscape(height=48, width=60, bands=32)
    scene = open_scene(write_scene(landscape, tmp_path).scene)
    assert isinstance(scene.bands, Bands)
    np.testing.assert_allclose(scene.bands.wavelength_nm, landscape.wavelength_nm, atol=1e-3)  # type: ignore[arg-type]
    np.testing.assert_allclose(scene.bands.fwhm_nm, landscape.fwhm_nm, atol=1e-3)  # type: ignore[arg-type]
    np.testing.assert_array_equal(scene.bands.good, landscape.good_bands)
    assert not landscape.good_bands.all()
    np.testing.assert_array_equal(scene.scale, np.full(32, 1e-4))
    np.testing.assert_array_equal(scene.offset, np.zeros(32))
    np.testing.assert_array_equal(scene.nodata, np.full(32, NODATA))
    np.testing.assert_array_equal(scene.cube.to_numpy(), landscape.cube)
    assert scene.grid.transform is not None
    assert scene.grid.transform.a == -scene.grid.transform.e == landscape.pixel_size


def test_labels_have_names_and_colours(tmp_path: Path) -> None:
    landscape = small_landscape()
    files = write_scene(landscape, tmp_path)
    meta, _, _, (names, colours) = pyogrio.raw.read(files.labels)
    assert meta["fields"].tolist() == ["class_name", "colour"]
    assert names.tolist() == [polygon.class_name for polygon in landscape.polygons]
    assert all(colour.startswith("#") for colour in colours)


def test_only_our_own_scene_counts_as_made_up(tmp_path: Path) -> None:
    files = write_scene(small_landscape(), tmp_path)
    assert is_made_up(files.scene)
    assert not is_made_up(files.truth)
    assert not is_made_up(tmp_path / "missing.tif")
