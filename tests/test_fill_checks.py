"""Nodata that nobody declared is told of where it does harm: in training and in classification."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from numpy.typing import NDArray
from scenes import pixel_box, random_model, write_polygons, write_raster, write_two_fields

from cssd_geo.classification import classify
from cssd_geo.engine.streaming import this_machine
from cssd_geo.errors import SceneError
from cssd_geo.label_files import read_labels
from cssd_geo.learning.labelled_pixels import read_labelled_pixels
from cssd_geo.learning.labelled_scenes import LabelledScene, unite
from cssd_geo.model import Model
from cssd_geo.products import open_scene
from cssd_geo.runs.job import plan_job
from cssd_geo.runs.layers import Outputs
from cssd_geo.scene_info import describe_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.fill_checks import fill_notes, suspect_fill
from cssd_geo.scenes.scene import Scene

BANDS = np.arange(6)


def mosaic(fill: float, *, height: int = 50, width: int = 70) -> NDArray[np.float32]:
    """Spectra, and eight columns of one value."""
    cube = np.random.default_rng(0).uniform(0.1, 0.5, (6, height, width)).astype(np.float32)
    cube[:, :, :8] = fill
    return cube


def model() -> Model:
    return replace(random_model(bands=6), mean=np.full(6, 0.3), std=np.full(6, 0.1))


@pytest.mark.parametrize("fill", [-9999.0, 0.0, -1e20])
def test_classify_tells_of_an_edge_that_is_not_declared(tmp_path: Path, fill: float) -> None:
    path = write_raster(tmp_path / "s.tif", mosaic(fill))
    (note,) = classify(path, model(), tmp_path / "m.tif").notes
    assert "at corners and edges of s.tif" in note
    assert "in every band, and that is not declared as nodata: they are taken for data" in note
    here, outputs = this_machine("cpu", "auto"), Outputs(class_map=tmp_path / "n.tif")
    assert plan_job(open_scene(path), model(), outputs, here).notes == (note,)
    found = re.search(r"-a_nodata (\S+),", note)
    assert found is not None
    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = float(found[1])
    done = classify(path, model(), tmp_path / "m.tif", overwrite=True)
    assert (done.notes, done.pixels["unclassified"]) == ((), 50 * 8)


@pytest.mark.parametrize("fill", [float(np.finfo(np.float32).min), 9.96921e36, 1e30, -np.inf])
@pytest.mark.parametrize("bands", [slice(None), slice(2, 3)], ids=["all bands", "one band"])
def test_what_no_sensor_measures_is_never_a_class(tmp_path: Path, fill: float, bands: slice) -> None:
    """And its neighbours are classified as beside pixels without data."""
    maps = []
    for name, value in (("declared", np.nan), ("filled", fill)):
        cube = np.random.default_rng(0).uniform(0.1, 0.5, (6, 50, 70)).astype(np.float32)
        cube[bands, 20:30, 30:45] = value
        done = classify(write_raster(tmp_path / f"{name}.tif", cube), model(), tmp_path / f"{name}_map.tif")
        assert done.pixels["unclassified"] == 10 * 15
        with rasterio.open(tmp_path / f"{name}_map.tif") as dataset:
            maps.append(dataset.read(1))
    np.testing.assert_array_equal(*maps)


def test_what_the_network_cannot_compute_with_has_no_class(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).uniform(0.1, 0.5, (6, 50, 70)).astype(np.float32)
    cube[2, 20:30, 30:45] = 9e29
    scene, shares = write_raster(tmp_path / "s.tif", cube), tmp_path / "shares.tif"
    steep = replace(model(), std=np.full(6, 1e-12))  # beyond what float32 holds
    classify(scene, steep, tmp_path / "map.tif", probabilities=shares, confidence=tmp_path / "confidence.tif")
    with rasterio.open(tmp_path / "map.tif") as found, rasterio.open(tmp_path / "confidence.tif") as confidence:
        unclassified = found.read(1) == 0
        np.testing.assert_array_equal(confidence.read(1) == 255, unclassified)
    assert unclassified[20:30, 30:45].all()
    with rasterio.open(shares) as dataset:
        np.testing.assert_array_equal(np.isnan(dataset.read()).any(axis=0), unclassified)


def test_the_remedies_work_and_end_the_note(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", mosaic(-9999))
    inside = write_raster(tmp_path / "inside.tif", (mosaic(-9999)[:1] > 0).astype(np.uint8))
    assert fill_notes(open_scene(path, valid_mask=inside), BANDS) == ()


def test_training_tells_how_many_labelled_pixels_it_is(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    hole = pixel_box(38, 5, 4, 10)  # two of its rows and five of its columns are in the hole
    boxes = [(hole, "wheat"), (pixel_box(5, 40, 8, 8), "maize")]
    labels = write_polygons(tmp_path / "hole.gpkg", boxes)
    assert not [note for note in _notes_on_pixels(made.scene, labels) if "not declared" in note]
    with rasterio.open(made.scene, "r+") as dataset:
        dataset.nodata = None
    (note,) = (note for note in _notes_on_pixels(made.scene, labels) if "not declared" in note)
    assert note.startswith("10 of 104 labelled pixels of two_fields.tif are -9999 in every band, and that is not")
    assert "gdal_edit.py -a_nodata -9999" in note


def _notes_on_pixels(path: Path, labels: Path) -> tuple[str, ...]:
    scene = open_scene(path)
    members = [LabelledScene(scene=scene, labels=read_labels(labels, scene.grid))]
    return read_labelled_pixels(unite(members)[0])[2]


def test_what_is_suspect() -> None:
    values = np.random.default_rng(0).integers(1, 1000, (5, 1000)).astype(np.int16)
    assert suspect_fill(values, 1000) is None
    values[:, :4] = 0
    assert suspect_fill(values, 1000) is None, "a few are shadow"
    assert suspect_fill(values[:, :500], 500) == ("0", 4)
    values[:, 7] = -9999
    assert suspect_fill(values, 1000) == ("-9999", 1), "no spectrum is so"
    assert suspect_fill(values[:3], 1000) is None, "with few bands grey is common"
    assert suspect_fill(values[:, :0], 1000) is None


def test_what_is_dear_to_read_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = open_scene(write_raster(tmp_path / "s.tif", mosaic(-9999)))
    assert fill_notes(scene, BANDS)
    monkeypatch.setattr("cssd_geo.scenes.fill_checks._CHEAP_VALUES", 0)
    whole = write_raster(tmp_path / "w.tif", mosaic(-9999), tiled=True, blockxsize=128, blockysize=128)
    assert fill_notes(open_scene(whole), BANDS) == ()
    monkeypatch.setattr(Scene, "read", _refuse)
    assert fill_notes(scene_of_array(scene.cube), BANDS) == (), "it would be computed"


def test_a_lazy_map_of_an_array_in_memory_tells_too() -> None:
    """An array of numpy has lost what the file said; one of dask would be computed."""
    array = xr.DataArray(mosaic(-9999), dims=("band", "y", "x"))
    with pytest.warns(UserWarning, match="are -9999 in every band, and that is not declared as nodata"):
        lazy = classify(array, model())
    assert "array.rio.write_nodata(-9999)" in lazy.attrs["comment"]
    assert "comment" not in classify(array.rio.write_nodata(-9999), model()).attrs


def _refuse(*_: Any) -> None:
    raise AssertionError


def test_a_block_that_cannot_be_read_is_left_to_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Scene.read

    def failing(scene: Scene, window: Any, bands: Any) -> Any:
        if window.row == 0:
            raise SceneError("broken")
        return read(scene, window, bands)

    scene = open_scene(write_raster(tmp_path / "s.tif", mosaic(-9999)))
    monkeypatch.setattr(Scene, "read", failing)
    assert len(fill_notes(scene, BANDS)) == 1


def test_a_band_without_data_is_named_where_it_empties_the_map(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).integers(1, 4000, (4, 30, 40)).astype(np.int16)
    cube[2] = -9999
    scene = open_scene(write_raster(tmp_path / "s.tif", cube, nodata=-9999))
    note = r"Band 3 has no data in any pixel of s\.tif .* train one without \(--bands\)"
    done = classify(scene, random_model(bands=4), tmp_path / "map.tif")
    assert re.match(note, done.notes[-1])
    assert re.match(note, describe_scene(scene, random_model(bands=4))["plan"]["notes"][-1])
    other = classify(scene.take_bands(np.array([0, 1, 3]), "-"), random_model(bands=3), tmp_path / "other.tif")
    assert not any("no data in any pixel" in note for note in other.notes)
