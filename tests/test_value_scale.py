"""The scale of a scene: what its metadata say, else what its magnitude says, else what the analyst says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import random_model, write_raster, write_two_fields

from cssd_geo.classification import classify
from cssd_geo.cli import main
from cssd_geo.errors import InputError, SceneError
from cssd_geo.label_files import read_labels
from cssd_geo.model import Model, load_model
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.scene_info import describe_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Window
from cssd_geo.training import train
from cssd_geo.value_scale import recognise_scale

BANDS = 12
MEAN = np.linspace(0.05, 0.45, BANDS)
"""Reflectance of the made scenes."""
DECLARED = {"scale": {"scale": [1e-4], "offset": [0.0]}}


def model_in(unit: float, **provenance: Any) -> Model:
    """Trained on values of which so many are a reflectance of 1."""
    model = random_model(bands=BANDS)
    return replace(model, mean=unit * MEAN, std=0.3 * unit * MEAN, provenance=provenance)


def reflectance(height: int = 70, width: int = 90, *, seed: int = 0) -> NDArray[np.float64]:
    """Bright and dark fields: (band, y, x)."""
    random = np.random.default_rng(seed)
    light = np.kron(random.uniform(0.3, 1.8, (7, 9)), np.ones((10, 10)))[:height, :width]
    cube: NDArray[np.float64] = MEAN[:, None, None] * light * random.uniform(0.9, 1.1, (BANDS, height, width))
    return cube


def scene_in(folder: Path, unit: float, cube: NDArray[np.float64] | None = None, **options: Any) -> Scene:
    stored = (unit * (reflectance() if cube is None else cube)).astype(np.float32)
    return open_scene(write_raster(folder / f"s{unit:g}.tif", stored, **options))


UNITS = st.sampled_from([1.0, 100.0, 10_000.0])


def scene_so_bright(folder: Path, unit: float, brightness: float) -> Scene:
    """The upper quartile of its bands is so many times the model's mean."""
    cube = reflectance()
    upper = np.percentile(cube / MEAN[:, None, None], 75)
    return scene_in(folder, unit, cube * brightness / upper)


@given(model_unit=UNITS, scene_unit=UNITS, brightness=st.floats(0.4, 2.7))
@settings(max_examples=20, deadline=None)
def test_a_scale_that_is_not_declared_is_recognised(
    tmp_path_factory: pytest.TempPathFactory, model_unit: float, scene_unit: float, brightness: float
) -> None:
    scene = scene_so_bright(tmp_path_factory.mktemp("s"), scene_unit, brightness)
    found = recognise_scale(scene, model_in(model_unit))
    np.testing.assert_allclose(found.scale, model_unit / scene_unit)
    np.testing.assert_array_equal(found.offset, 0)
    assert len(found.notes) == (model_unit != scene_unit)


@given(model_unit=UNITS, scene_unit=UNITS, brightness=st.floats(0.06, 17))
@settings(max_examples=20, deadline=None)
def test_a_very_dark_or_bright_scene_never_gets_a_wrong_scale(
    tmp_path_factory: pytest.TempPathFactory, model_unit: float, scene_unit: float, brightness: float
) -> None:
    scene = scene_so_bright(tmp_path_factory.mktemp("s"), scene_unit, brightness)
    scale = recognise_scale(scene, model_in(model_unit)).scale
    assert np.allclose(scale, model_unit / scene_unit) or (scale == 1).all()


def test_the_note_says_what_was_done_and_how_to_change_it(tmp_path: Path) -> None:
    found = recognise_scale(scene_in(tmp_path, 10_000), model_in(1))
    assert len(found.notes) == 1
    assert found.notes[0] == (
        "Values of s10000.tif are about 10,000 times the model's, and no scale is declared: they were taken as "
        "0.0001 times what they say. Set the scale with --scale if that is wrong."
    )
    declared = scene_in(tmp_path, 1).with_scale(1.5)
    found = recognise_scale(replace(declared, scale_by_hand=False), model_in(10_000))
    np.testing.assert_allclose(found.scale, 15_000)
    assert (
        "about 0.0001 times the model's, and the model was trained on a scene that declares none" in found.notes[0]
    )


def test_an_offset_goes_with_the_scale(tmp_path: Path) -> None:
    shifted = scene_in(tmp_path, 10_000, reflectance() + 0.1)
    declared = replace(shifted, scale=np.full(BANDS, 1e-4), offset=np.full(BANDS, -0.1))
    assert recognise_scale(declared, model_in(1)) is declared
    found = recognise_scale(declared, model_in(10_000))
    np.testing.assert_allclose((found.scale, found.offset), [[1] * BANDS, [-1000] * BANDS])


def test_what_no_scale_explains_is_said_and_left(tmp_path: Path) -> None:
    for unit, times in ((1000, "1,"), (0.03, "0.04"), (1e6, "1,")):
        scene = scene_in(tmp_path, unit)
        found = recognise_scale(scene, model_in(1))
        np.testing.assert_array_equal(found.scale, scene.scale)
        assert len(found.notes) == 1
        assert "check that they are the same quantity, and the scale (--scale sets it)" in found.notes[0]
        assert f"about {times}" in found.notes[0]


@pytest.mark.parametrize("light", [0.06, 1.0, 12.0])
def test_darker_and_brighter_scenes_are_not_another_scale(tmp_path: Path, light: float) -> None:
    scene = scene_in(tmp_path, 1, light * reflectance())
    assert recognise_scale(scene, model_in(1)) is scene


@pytest.mark.parametrize(("unit", "windows"), [(1, 3), (10_000, 9)])
def test_where_values_are_near_the_models_three_windows_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: float, windows: int
) -> None:
    read, reads = Scene.read, []

    def counted(scene: Scene, window: Window, bands: NDArray[np.intp]) -> Any:
        reads.append(window)
        return read(scene, window, bands)

    monkeypatch.setattr(Scene, "read", counted)
    recognise_scale(scene_in(tmp_path, unit), model_in(1))
    assert len(reads) == windows


def test_three_windows_of_water_in_percent_are_not_land_in_reflectance(tmp_path: Path) -> None:
    """As bright as land in the middle of the spectrum, but not evenly so: others are read."""
    cube = reflectance()
    for row, col in ((27, 37), (14, 5), (0, 47)):  # where the first three windows lie
        cube[:, row : row + 16, col : col + 16] *= np.geomspace(0.1, 0.001, BANDS)[:, None, None]
    assert recognise_scale(scene_in(tmp_path, 100, cube), model_in(1)).scale[0] == pytest.approx(0.01)


def test_water_is_not_percent(tmp_path: Path) -> None:
    """Dark in most bands, a hundred times darker in some, but not evenly."""
    dark = np.geomspace(0.3, 0.002, BANDS)[:, None, None]
    found = recognise_scale(scene_in(tmp_path, 1, dark * reflectance()), model_in(1))
    np.testing.assert_array_equal(found.scale, 1)
    land = np.where(np.arange(90) > 50, 1, dark)
    scene = scene_in(tmp_path, 1, land * reflectance())
    assert recognise_scale(scene, model_in(1)) is scene, "some land is enough"


@pytest.mark.parametrize("unit", [1, 10_000])
def test_the_land_around_a_lake_tells_the_scale(tmp_path: Path, unit: float) -> None:
    """Water as instruments see it: half as bright as land in visible light, a hundredth beyond."""
    water = np.where(np.arange(BANDS) < 0.2 * BANDS, 0.5, 0.012)[:, None, None]
    shore = np.where(np.arange(90) > 70, 1, water)
    assert recognise_scale(scene_in(tmp_path, unit, shore * reflectance()), model_in(1)).scale[0] == 1 / unit
    found = recognise_scale(scene_in(tmp_path, unit, water * reflectance()), model_in(1))
    np.testing.assert_array_equal(found.scale, 1)
    assert "check that they are the same quantity, and the scale" in found.notes[0]


def test_declared_scales_that_do_not_agree_are_said_and_left(tmp_path: Path) -> None:
    scene = replace(scene_in(tmp_path, 1).with_scale(1e-4), scale_by_hand=False)
    found = recognise_scale(scene, model_in(1, **DECLARED))
    np.testing.assert_array_equal(found.scale, 1e-4)
    assert found.notes[0].startswith("Values of s1.tif are about 0.00")
    assert (
        "although both declare their scale: if they were multiplied by it before, declare none" in found.notes[0]
    )
    shifted = replace(scene_in(tmp_path, 1), offset=np.eye(BANDS)[0] * 1e-3)
    assert "although both declare" in recognise_scale(shifted, model_in(10_000, **DECLARED)).notes[0]
    other = replace(scene_in(tmp_path, 1).with_scale(1e-3), scale_by_hand=False)
    assert "check that they are the same" in recognise_scale(other, model_in(1, **DECLARED)).notes[0]


def test_an_array_that_was_scaled_but_says_its_scale_still_is_told_of(tmp_path: Path) -> None:
    """`cube * 1e-4` may keep the attribute scale_factor."""
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene, "r+") as dataset:
        dataset.scales = [1e-4] * dataset.count
    told = "if they were multiplied by it before, declare none"
    cube, options = open_scene(made.scene).cube, TrainingOptions(epochs=1, split="none")
    labels = read_labels(made.labels, open_scene(made.scene).grid)
    scaled = cube.where(cube != open_scene(made.scene).nodata[0]) * 1e-4
    twice = scene_of_array(scaled.assign_attrs(cube.attrs))  # as newer versions of xarray do
    assert any(told in note for note in train(twice, labels, options=options).notes)
    assert any(told in note for note in describe_scene(twice)["warnings"])
    for right in (scene_of_array(cube), twice.with_scale(1)):
        assert not any(told in note for note in train(right, labels, options=options).notes)
        assert not any(told in note for note in describe_scene(right)["warnings"])


def test_what_is_set_by_hand_stays(tmp_path: Path) -> None:
    found = recognise_scale(scene_in(tmp_path, 10_000).with_scale(1), model_in(1))
    np.testing.assert_array_equal(found.scale, 1)
    assert "check that they are the same quantity" in found.notes[0]
    right = scene_in(tmp_path, 10_000).with_scale(1e-4)
    assert recognise_scale(right, model_in(1)) is right


def test_a_scene_without_data_and_a_model_without_magnitude_say_nothing(tmp_path: Path) -> None:
    empty = scene_in(tmp_path, 1, np.full((BANDS, 20, 30), np.nan))
    assert recognise_scale(empty, model_in(1)) is empty
    scene = scene_in(tmp_path, 10_000)
    assert recognise_scale(scene, replace(model_in(1), mean=np.linspace(-2, 0, BANDS))) is scene


def test_values_below_zero_fit_no_scale(tmp_path: Path) -> None:
    found = recognise_scale(scene_in(tmp_path, -1), model_in(1))
    np.testing.assert_array_equal(found.scale, 1)
    assert "are 0 or less" in found.notes[0]


@pytest.mark.parametrize("fill", [-9999, 0])
def test_where_most_is_a_fill_value_that_is_not_declared_the_note_says_so(tmp_path: Path, fill: float) -> None:
    cube = reflectance()
    cube[:, :, 10:] = fill
    (note,) = recognise_scale(scene_in(tmp_path, 1, cube), model_in(1)).notes
    assert "are 0 or less: it probably has a nodata value that it does not declare" in note


def test_pixels_with_data_in_few_bands_are_looked_at_without_a_word_from_numpy(tmp_path: Path) -> None:
    """Warnings are errors here: ratios to what stands for 0 and less are larger than any number."""
    cube = 10 * reflectance()
    cube[4:] = 0
    assert "are 0 or less" in recognise_scale(scene_in(tmp_path, 1, cube), model_in(1)).notes[0]


def test_data_in_a_corner_are_found(tmp_path: Path) -> None:
    cube = reflectance()
    cube[:, :, 30:] = np.nan
    cube[:, 25:] = np.nan
    assert recognise_scale(scene_in(tmp_path, 100, cube), model_in(1)).scale[0] == pytest.approx(0.01)


def test_maps_are_those_of_the_scene_with_its_scale_declared_whatever_the_tiles(tmp_path: Path) -> None:
    """One decision a scene: the half that is a hundred times as dark does not get its own."""
    cube = reflectance()
    cube[:, :, 70:] *= 0.01
    plain = scene_in(tmp_path, 10_000, cube)
    model, maps = model_in(1), []
    for scene, tile_size in ((plain.with_scale(1e-4), None), (plain, None), (plain, 11), (plain, 40)):
        done = classify(scene, model, tmp_path / "m.tif", tile_size=tile_size, overwrite=True)
        assert len(done.notes) == (scene is plain)
        with rasterio.open(tmp_path / "m.tif") as dataset:
            maps.append(dataset.read(1))
    for other in maps[1:]:
        np.testing.assert_array_equal(other, maps[0])
    assert len(np.unique(maps[0])) > 1


@pytest.mark.parametrize("factor", [0.0, -1e-4, np.nan, np.inf])
def test_a_scale_that_is_none_is_refused(tmp_path: Path, factor: float) -> None:
    with pytest.raises(InputError, match=r"the scale of s1\.tif must be positive and finite, not"):
        scene_in(tmp_path, 1).with_scale(factor)


@pytest.mark.parametrize(
    ("scale", "offset"), [(0.0, 0.0), (np.nan, 0.0), (np.inf, 0.0), (1.0, np.nan), (1.0, -np.inf)]
)
def test_a_scale_of_a_file_that_is_none_is_refused_unless_another_is_given(
    tmp_path: Path, scale: float, offset: float
) -> None:
    path = write_raster(tmp_path / "s.tif", np.ones((3, 4, 5), np.int16))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1, scale, 0.1), (0, offset, 0)
    with pytest.raises(
        SceneError, match=rf"band 2 of s\.tif has the scale {scale:g} and the offset {offset:g}: .*--scale"
    ):
        open_scene(path)
    assert open_scene(path, bands="1,3").scale.tolist() == [0.1, 0.1]
    scene = open_scene(path, scale=0.5)
    for each in (scene, scene_of_array(scene.cube)):
        assert (each.scale.tolist(), each.offset.tolist()) == ([0.5] * 3, [0.0] * 3)


def test_a_scale_of_0_may_mark_a_bad_band(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", np.ones((3, 4, 5), np.int16))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = (0.1, 0, 0.1)
        dataset.update_tags(ns="ENVI", bbl="{1, 0, 1}")
    assert open_scene(path).scale.tolist() == [0.1, 0, 0.1]


def test_a_scale_by_hand_replaces_what_the_metadata_say_in_the_cube_too(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", np.ones((3, 4, 5), np.int16))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1, 0.2, 0.3), (1, 2, 3)
    scene = open_scene(path)
    assert scene.scale.tolist() == [0.1, 0.2, 0.3]
    ours = scene.with_scale(0.5)
    for each in (ours, scene_of_array(ours.cube), scene_of_array(ours.cube[:, 1:])):
        assert each.scale.tolist() == [0.5] * 3
        assert each.offset.tolist() == [0.0] * 3
    assert scene_of_array(scene.cube).scale.tolist() == [0.1, 0.2, 0.3], "the scene itself stays as it was"


def test_train_and_classify_take_a_scale(tmp_path: Path) -> None:
    fields = write_two_fields(tmp_path)
    quick = ["--epochs", "1", "--windows-per-class", "6", "--shots", "8", "--split", "none", "--no-baseline"]
    model = str(tmp_path / "m.safetensors")
    words = ["train", fields.scene, fields.labels, "-o", model, "--scale", "0.0001", *quick]
    run = CliRunner().invoke(main, list(map(str, words)))
    assert run.exit_code == 0, run.output
    trained = load_model(model)
    assert trained.mean.max() < 1
    assert trained.provenance["scale"] == {"scale": [0.0001], "offset": [0.0]}
    said = []
    for extra in ([], ["--scale", "0.0001"], ["--scale", "1", "--dry-run"]):
        words = ["classify", fields.scene, "-m", model, "-o", tmp_path / "map.tif", "--overwrite", *extra]
        run = CliRunner().invoke(main, list(map(str, words)))
        assert run.exit_code == 0, run.output
        said.append(run.stderr)
    assert "Note: Values of two_fields.tif are about 10,000 times the model's, and no scale" in said[0]
    assert "Note" not in said[1]
    assert "times the model's: check that they are the same quantity" in said[2]
    run = CliRunner().invoke(main, list(map(str, [*words[:6], "--scale", "0", "--overwrite"])))
    assert run.exit_code == 2
    assert "the scale of two_fields.tif must be positive and finite, not 0" in run.stderr


def test_models_say_whether_their_scene_declared_a_scale(tmp_path: Path) -> None:
    fields = write_two_fields(tmp_path)
    options = TrainingOptions(epochs=1, windows_per_class=6, shots=8, split="none")
    raw = train(fields.scene, fields.labels, options=options).model
    scene = open_scene(fields.scene)
    declared = replace(scene.with_scale(1e-4), scale_by_hand=False)
    found = recognise_scale(declared, raw)
    np.testing.assert_allclose(found.scale, 1), "the model is in stored values: so is the scene now"
    assert len(found.notes) == 1
    assert recognise_scale(scene, raw) is scene
