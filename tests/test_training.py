"""Training end to end on small scenes: it learns, is honest, repeats itself, and says what it left out."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import pixel_box, write_polygons, write_raster, write_two_fields
from scipy.ndimage import maximum_filter
from torch import nn

import cssd_geo
from cssd_geo.calibration import Calibration
from cssd_geo.cli import main
from cssd_geo.compute.workers import run_side_by_side
from cssd_geo.errors import InputError, LabelError, OutputError, SceneError
from cssd_geo.evaluation import evaluate
from cssd_geo.label_files import read_labels
from cssd_geo.learning import fitting, trainer
from cssd_geo.learning.discriminant import Discriminant
from cssd_geo.learning.fitting import Epoch, _batches, _draw, _is_finite, _pace, fit
from cssd_geo.learning.whitening import Whitening, choose_whitening
from cssd_geo.learning.windows import TrainingWindows
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.tiles import Halo
from cssd_geo.training import train

QUICK = TrainingOptions(epochs=6, batch_size=16, window=4, windows_per_class=24, baseline=False)


@pytest.mark.usefixtures("quick_baselines")
def test_two_crops_are_learned_and_mapped(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    trained = train(made.scene, made.labels, tmp_path / "m.safetensors", options=replace(QUICK, baseline=True))
    hold_out = trained.hold_out
    assert hold_out is not None
    assert hold_out.map.overall_accuracy > 0.95
    assert hold_out.interval[0] <= hold_out.map.overall_accuracy <= hold_out.interval[1]
    assert set(hold_out.baselines) == {"random forest", "support vector machine"}
    assert {accuracy.total for accuracy in hold_out.baselines.values()} == {hold_out.map.total}
    assert "folds of whole polygons" in hold_out.description
    cssd_geo.classify(made.scene, tmp_path / "m.safetensors", tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        class_map = dataset.read(1)
    names = trained.model.classes.names  # maize, wheat: by name; the truth is 1 = maize, 2 = wheat
    assert names == ("maize", "wheat")
    assert ((class_map == 0) == (made.truth == 0)).all(), "nodata is never a class, and data always is one"
    assert (class_map == made.truth)[made.truth > 0].mean() > 0.95
    found = evaluate(tmp_path / "map.tif", made.labels).accuracy
    assert found.unclassified == (made.truth[40:46, 10:21] == 0).sum(), "labels on the nodata hole count as errors"
    assert found.overall_accuracy > 0.95 * (1 - found.unclassified / found.total)


@pytest.mark.parametrize("scenes", [1, 2])
def test_a_map_that_is_compared_with_its_own_training_labels_is_told_of(tmp_path: Path, scenes: int) -> None:
    made = [write_two_fields(tmp_path / str(i), seed=i) for i in range(scenes)]
    options = replace(QUICK, epochs=1, split="none")
    model = train([(each.scene, each.labels) for each in made], options=options).model
    cssd_geo.classify(made[-1].scene, model, tmp_path / "map.tif")
    own = shutil.copy(made[-1].labels, tmp_path / "renamed.gpkg")
    told = "renamed.gpkg trained the map, so these figures overrate it"
    assert evaluate(tmp_path / "map.tif", own).notes[0].startswith(told)
    others = write_polygons(tmp_path / "others.gpkg", [(pixel_box(0, 0, 4, 4), "maize")])
    assert not evaluate(tmp_path / "map.tif", others).notes


def test_of_a_file_with_several_layers_only_the_one_that_trained_is_told_of(tmp_path: Path) -> None:
    made, names = write_two_fields(tmp_path), ("Übung, 1", "Prüfung 2")
    meta, _, shapes, fields = pyogrio.raw.read(made.labels)
    file = tmp_path / "both.gpkg"
    for name in names:
        pyogrio.raw.write(
            file,
            shapes,
            fields,
            meta["fields"],
            layer=name,
            append=file.exists(),
            geometry_type="Polygon",
            crs=meta["crs"],
        )
    options = replace(QUICK, epochs=1, split="none")
    train(made.scene, file, tmp_path / "m.safetensors", layer=names[0], options=options)
    cssd_geo.classify(made.scene, tmp_path / "m.safetensors", tmp_path / "map.tif")
    found = [evaluate(tmp_path / "map.tif", file, layer=name).notes for name in names]
    assert found[0][0].startswith("both.gpkg trained the map")
    assert not found[1], "the other layer holds polygons for the test"
    shown = CliRunner().invoke(main, ["info", str(tmp_path / "m.safetensors")]).output
    assert "two_fields.tif, labels both.gpkg, layer Übung, 1\n" in shown


def test_what_is_known_is_told_before_the_training(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    told: list[str] = []
    trained = train(
        made.scene,
        made.labels,
        options=replace(QUICK, epochs=1, folds=2, windows_per_class=8),
        on_epoch=lambda _: told.append("epoch"),
        on_note=told.append,
    )
    first = told.index("epoch")
    assert any("folds of whole polygons" in note for note in told[:first])
    assert any("nodata" in note for note in told[:first])
    assert any("whitened" in note for note in told[:first])
    assert tuple(note for note in told if note != "epoch") == trained.notes


def test_a_class_that_lies_outside_of_the_scene_is_explained(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    boxes = [
        (pixel_box(5, 8, 12, 14), "wheat"),
        (pixel_box(5, 38, 12, 14), "maize"),
        (pixel_box(5, 400, 3, 3), "far"),
    ]
    labels = write_polygons(tmp_path / "far.gpkg", boxes)
    with pytest.raises(LabelError, match=r"for far; .* 1 of 3 polygons lie outside .* all of far\. .*--classes"):
        train(made.scene, labels, options=QUICK)


def test_every_option_of_the_paper_trains(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    options = replace(QUICK, published=True, context_swap=0.0, epsilon=0.0, split="random", shots=5, epochs=2)
    trained = train(made.scene, made.labels, options=options)
    assert trained.model.network.config.strided_spectral
    assert trained.model.network.log_sharpness is None
    assert set(trained.model.provenance["training_pixels"].values()) == {5}
    assert any("overrated" in note for note in trained.notes)
    assert trained.model.provenance["whitening"].startswith("Bands were not whitened (as asked)")


def test_what_only_vectors_have_a_use_for_is_refused_with_label_rasters(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    raster = write_raster(tmp_path / "l.tif", made.truth[None].astype(np.uint8))
    given: tuple[tuple[dict[str, Any], str], ...] = (
        ({"class_field": "crop"}, "--class-field crop"),
        ({"layer": "crops"}, "--layer crops"),
        ({"all_touched": True}, "--all-touched"),
    )
    for choice, option in given:
        with pytest.raises(InputError, match=rf"{option} is for vectors, which .*l\.tif is not: leave it out"):
            train(made.scene, raster, options=QUICK, **choice)
    numbered = [(pixel_box(5, 8, 12, 10), "1"), (pixel_box(5, 40, 12, 10), "2")]
    vector = write_polygons(tmp_path / "numbered.gpkg", numbered)
    trained = train(
        [(made.scene, vector), (made.scene, raster)],
        options=replace(QUICK, split="none", epochs=1),
        all_touched=True,
    )
    assert trained.hold_out is None, "one of two is a vector, which has a use for it"


def test_without_hold_out_no_accuracy_is_claimed(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    trained = train(made.scene, made.labels, options=replace(QUICK, split="none", epochs=1))
    assert trained.hold_out is None
    assert trained.model.provenance["accuracy"] is None
    assert trained.model.calibration.pixels == 0


def test_polygons_too_close_to_be_held_out_apart_still_weigh_the_heads(tmp_path: Path) -> None:
    """Four small polygons within one window of each other: the default split used to refuse them."""
    made = write_two_fields(tmp_path)
    crops = [(28, 26, "maize"), (24, 27, "maize"), (27, 31, "wheat"), (23, 33, "wheat")]
    boxes = [(pixel_box(row, col, 2, 2), crop) for row, col, crop in crops]
    trained = train(made.scene, write_polygons(tmp_path / "near.gpkg", boxes), options=replace(QUICK, epochs=2))
    assert trained.hold_out is not None
    assert trained.hold_out.map.total == trained.model.calibration.pixels == 16
    assert trained.model.calibration != Calibration(pixels=16), "fitted"
    assert any("accuracy is overrated" in note and "farther apart" in note for note in trained.notes)
    assert trained.hold_out.to_text().startswith("Overrated")


@pytest.mark.usefixtures("quick_baselines")
def test_few_pixels_held_out_apart_are_judged_and_others_help_to_weigh_the_heads(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    boxes = [
        (pixel_box(7 + 30 * i, 14 + 30 * j, 2, 3), "wheat" if (i + j) % 2 else "maize")
        for i in range(2)
        for j in range(2)
    ]
    boxes.append((pixel_box(12, 75, 2, 3), "grass"))  # one polygon: never held out apart
    labels = write_polygons(tmp_path / "small.gpkg", boxes)
    told = list[Epoch]()
    trained = train(made.scene, labels, options=replace(QUICK, epochs=1, baseline=True), on_epoch=told.append)
    hold_out = trained.hold_out
    assert hold_out is not None
    assert 0 < hold_out.map.total < trained.model.calibration.pixels == 30
    assert {accuracy.total for accuracy in hold_out.baselines.values()} == {hold_out.map.total}
    assert "the accuracy does not count them" in hold_out.description
    assert "Overrated" not in hold_out.to_text(), "these do not judge"
    assert sorted(epoch.run for epoch in told) == list(range(1, told[0].runs + 1))


def test_epochs_are_told(tmp_path: Path) -> None:
    made, told = write_two_fields(tmp_path), list[Epoch]()
    train(made.scene, made.labels, options=replace(QUICK, windows_per_class=12), on_epoch=told.append)
    runs = told[0].runs
    assert runs > 1, "folds, and then all labels"
    for run in range(1, runs + 1):
        mine = [epoch for epoch in told if epoch.run == run]
        assert [epoch.number for epoch in mine] == list(range(1, 7))
        assert mine[-1].loss < mine[0].loss
        assert 0.5 < mine[-1].accuracy <= 1
    assert {epoch.windows for epoch in told} == {24}, "12 of each class"


@pytest.fixture
def four_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(usual)


@pytest.mark.usefixtures("four_threads")
def test_models_trained_side_by_side_are_those_trained_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, options = write_two_fields(tmp_path), replace(QUICK, seed=3, epochs=2)
    side_by_side = [train(made.scene, made.labels, options=options) for _ in range(2)]
    monkeypatch.setattr(trainer, "_MOST_BYTES", 1)  # no memory for more than one
    torch.set_num_threads(1)
    again = train(made.scene, made.labels, options=options)
    for trained in side_by_side:
        assert again.model.calibration == trained.model.calibration
        assert again.model.provenance == trained.model.provenance, "the accuracy of the folds is in there"
        weights = again.model.network.state_dict()
        assert all(torch.equal(weights[name], w) for name, w in trained.model.network.state_dict().items())


def test_initial_weights_leave_gpus_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask a GPU for its random state takes memory on it, and what else is drawn there stays as it was."""
    asked = list[str]()
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    for name in ("get_rng_state", "set_rng_state", "manual_seed_all"):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda *_, name=name: asked.append(name))
    made, before = write_two_fields(tmp_path), torch.get_rng_state()
    train(made.scene, made.labels, options=replace(QUICK, epochs=1, split="none"), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert not asked


@pytest.mark.usefixtures("four_threads")
def test_four_models_are_trained_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, told, meet = write_two_fields(tmp_path), list[Epoch](), Barrier(4)

    def fit_together(*given: Any, **options: Any) -> None:
        meet.wait(60)
        fit(*given, **options)

    monkeypatch.setattr(trainer, "fit", fit_together)
    train(made.scene, made.labels, options=replace(QUICK, epochs=2), on_epoch=told.append)
    assert sorted(epoch.run for epoch in told) == [1, 1, 2, 2, 3, 3, 4, 4]


@pytest.mark.usefixtures("four_threads")
def test_an_interrupted_training_ends_the_others(tmp_path: Path) -> None:
    made, told, meet = write_two_fields(tmp_path), list[Epoch](), Barrier(4)

    def interrupt(epoch: Epoch) -> None:
        told.append(epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(made.scene, made.labels, options=replace(QUICK, epochs=1000), on_epoch=interrupt)
    run_side_by_side(lambda _: meet.wait(60), range(4), at_once=4)  # once all of the threads are free again
    assert len(told) == 1


@given(windows=st.integers(1, 60), size=st.integers(1, 20))
def test_batches_have_the_size_asked_for_but_none_is_a_single_rest(windows: int, size: int) -> None:
    drawn = torch.arange(windows)
    sizes = [len(batch) for batch in _batches(drawn, size)]
    assert torch.equal(torch.cat(_batches(drawn, size)), drawn)
    whole, rest = divmod(windows, size)
    joined = rest == 1 and whole > 0
    if size > 1:
        assert sizes == [size] * (whole - joined) + ([size + 1] if joined else [rest] if rest else [])


@settings(max_examples=40, deadline=None)
@given(
    pixels=st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=40),
    most=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_an_epoch_draws_windows_of_each_class_whose_centre_is_valid(
    pixels: list[tuple[int, bool]], most: int, seed: int
) -> None:
    classes, valid = (np.array(column) for column in zip(*pixels, strict=True))
    rows = torch.from_numpy(np.where(valid, np.arange(1, len(pixels) + 1), 0))
    table = torch.zeros(len(pixels) + 1, 1)
    windows = TrainingWindows(pixels=table, lookup=rows[:, None, None], halo=Halo(before=0, after=0))
    options, random = replace(QUICK, windows_per_class=most), torch.Generator().manual_seed(seed)
    drawn = _draw(windows, torch.from_numpy(classes), options, random).numpy()
    assert valid[drawn].all()
    assert len(set(drawn.tolist())) == len(drawn), "each once"
    of_each = np.minimum(np.bincount(classes[valid], minlength=4), most)
    assert np.bincount(classes[drawn], minlength=4).tolist() == of_each.tolist()


def test_epochs_draw_other_windows_in_another_order() -> None:
    windows = TrainingWindows(
        pixels=torch.zeros(301, 1), lookup=torch.arange(1, 301)[:, None, None], halo=Halo(before=0, after=0)
    )
    classes, random = torch.arange(300) % 3, torch.Generator().manual_seed(0)
    first, second = (_draw(windows, classes, replace(QUICK, windows_per_class=10), random) for _ in range(2))
    assert set(first.tolist()) != set(second.tolist())
    assert len(set(classes[first][:10].tolist())) == 3, "classes are mixed, not one after the other"


def test_a_single_weight_that_is_no_number_is_noticed() -> None:
    network = CSSD(NetworkConfig(bands=9, classes=2, window=4))
    assert _is_finite(network)
    for weight in network.parameters():
        with torch.no_grad():
            was, weight.view(-1)[-1] = weight.view(-1)[-1].item(), torch.nan
            assert not _is_finite(network)
            weight.view(-1)[-1] = was


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 11, 250])
def test_the_learning_rate_rises_and_falls(steps: int) -> None:
    paces = [_pace(step, steps) for step in range(steps)]
    assert all(0 < pace <= 1 for pace in paces)
    assert max(paces) == 1.0
    top = paces.index(1.0)
    assert paces[:top] == sorted(paces[:top])
    assert paces[top:] == sorted(paces[top:], reverse=True)
    assert 0 <= _pace(steps, steps) <= 1, "asked for after the last step; ten steps once divided by zero"


@pytest.mark.parametrize("batch_size", [15, 16])
def test_the_learning_rate_ends_its_fall_with_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """A single window over is no step of its own."""
    made, told = write_two_fields(tmp_path), list[tuple[int, int]]()

    def pace(step: int, steps: int) -> float:
        told.append((step, steps))
        return _pace(step, steps)

    monkeypatch.setattr(fitting, "_pace", pace)
    options = replace(QUICK, epochs=2, batch_size=batch_size, windows_per_class=8, split="none")
    train(made.scene, made.labels, options=options)
    assert told == [(step, 2) for step in range(3)]


def test_pixels_alone_in_nodata_are_trained_on(tmp_path: Path) -> None:
    """A last batch of one window with one valid pixel was too little for batch normalisation."""
    rows, cols = (axis.ravel() for axis in np.mgrid[2:50:6, 2:50:6][:, :3, :6])
    rows, cols, crops = rows[:17], cols[:17], np.arange(17) % 2
    cube = np.full((5, 40, 50), -9999, np.int16)
    noise = np.random.default_rng(0).integers(0, 20, size=(5, 17))
    cube[:, rows, cols] = 1000 + 500 * crops + noise
    scene = write_raster(tmp_path / "points.tif", cube, nodata=-9999)
    boxes = [(pixel_box(row, col, 1, 1), f"crop {crop}") for row, col, crop in zip(rows, cols, crops, strict=True)]
    labels = write_polygons(tmp_path / "points.gpkg", boxes)
    told = list[Epoch]()
    train(scene, labels, options=replace(QUICK, split="none"), on_epoch=told.append)
    assert {epoch.windows for epoch in told} == {17}


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    with pytest.raises(InputError, match="diverged in epoch"):
        train(made.scene, made.labels, tmp_path / "m.safetensors", options=replace(QUICK, learning_rate=1e30))
    assert not (tmp_path / "m.safetensors").exists()


def test_a_model_file_that_cannot_be_written_is_refused_before_the_training(tmp_path: Path) -> None:
    made, told = write_two_fields(tmp_path), list[Epoch]()
    for output in (tmp_path / "none" / "m.safetensors", tmp_path, tmp_path / "m.pt"):
        with pytest.raises(OutputError):
            train(made.scene, made.labels, output, options=QUICK, on_epoch=told.append)
    assert not told


def test_pairs_may_come_one_by_one(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    pairs = zip([made.scene], [made.labels], strict=True)
    assert train(pairs, options=replace(QUICK, epochs=1, split="none")).hold_out is None


def test_a_scene_whose_bands_are_all_bad_is_refused(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    scene = open_scene(made.scene)
    with pytest.raises(SceneError, match="marks every band as bad"):
        train(scene.without_bands(np.ones(12, bool)), made.labels, options=QUICK)


def test_the_users_random_state_is_left_alone(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    before = torch.random.get_rng_state()
    train(made.scene, made.labels, options=replace(QUICK, epochs=1, folds=2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_bands_without_data_are_dropped_and_told(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        cube = dataset.read()
    cube[[3, 7]] = -9999
    scene = write_raster(tmp_path / "vapour.tif", cube, nodata=-9999)
    trained = train(scene, made.labels, options=replace(QUICK, epochs=1, split="none"))
    assert any("dropped: 4, 8." in note for note in trained.notes)
    assert trained.model.bands.good == tuple(i not in {3, 7} for i in range(12))
    done = cssd_geo.classify(scene, trained.model, tmp_path / "map.tif")
    assert done.pixels["unclassified"] == int((made.truth == 0).sum())


def test_labels_on_nodata_are_an_error(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    hole = [(pixel_box(41, 12, 2, 3), "pond"), (pixel_box(44, 12, 1, 3), "pond")]
    boxes = [(pixel_box(5, 8, 12, 14), "maize"), (pixel_box(5, 68, 12, 14), "maize"), *hole]
    labels = write_polygons(tmp_path / "pond.gpkg", boxes)
    with pytest.raises(LabelError, match="every labelled pixel of pond is nodata"):
        train(made.scene, labels, options=replace(QUICK, split="none"))
    only = write_polygons(tmp_path / "only.gpkg", [(hole[0][0], "pond"), (hole[1][0], "puddle")])
    with pytest.raises(LabelError, match="nodata in every band"):
        train(made.scene, only, options=replace(QUICK, split="none"))


def test_a_class_of_which_the_scene_leaves_a_pixel_is_an_error(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    boxes = [(pixel_box(5, 8, 12, 14), "maize"), (pixel_box(5, 68, 12, 14), "maize")]
    labels = write_polygons(tmp_path / "pond.gpkg", [*boxes, (pixel_box(44, 12, 3, 1), "pond")])
    with pytest.raises(LabelError, match=r"pond; at least 3 .* pond: 1\. 2 of 339 labelled pixels are nodata"):
        train(made.scene, labels, options=QUICK)


def test_nodata_beside_the_labels_that_is_not_declared_is_told(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        cube = dataset.read().astype(np.float32)
    cube[:, :3] = -1
    scene = write_raster(tmp_path / "edge.tif", cube, nodata=-9999)
    trained = train(scene, made.labels, options=replace(QUICK, epochs=1, split="none"))
    (note,) = (note for note in trained.notes if "not declared" in note)
    assert "are -1 in every band" in note
    assert "-a_nodata -1," in note


@pytest.mark.parametrize("fill", [np.finfo(np.float32).min, np.finfo(np.float64).min, 9.96921e36])
def test_fill_values_beside_the_labels_are_not_trained_on(tmp_path: Path, fill: float) -> None:
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        cube = dataset.read().astype(np.float64)
    weights = []
    for name, value in (("filled", fill), ("empty", np.nan)):
        cube[5, :3] = value
        scene = write_raster(tmp_path / f"{name}.tif", cube, nodata=-9999)
        trained = train(scene, made.labels, options=replace(QUICK, epochs=1, split="none"))
        weights.append(torch.nn.utils.parameters_to_vector(trained.model.network.parameters()))
    assert torch.equal(*weights)
    assert weights[0].isfinite().all()


def test_a_band_with_one_value_in_the_windows_of_a_fold_is_not_blown_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deviation is not 0 but the rounding of its mean, and one field of those held out shows more."""
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        cube = dataset.read()
    cube[3] = np.where(cube[3] == -9999, -9999, 11)
    cube[3, :30, 30:60] += np.random.default_rng(0).integers(-3, 4, (30, 30)).astype(np.int16)
    scene = write_raster(tmp_path / "band.tif", cube, nodata=-9999)
    with rasterio.open(scene, "r+") as dataset:
        dataset.scales = (1e-4,) * 12
    read, deviations = trainer.Trainer._read, []

    def spy(*args: Any) -> Any:
        found = read(*args)
        deviations.append(found[2][3])
        return found

    monkeypatch.setattr(trainer.Trainer, "_read", spy)
    train(scene, made.labels, options=replace(QUICK, epochs=1))
    assert 1.0 in deviations
    assert min(deviations) > 1e-5


def test_the_description_says_how_many_pixels_train(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    for shots, text in ((None, "trained on all labels."), (5, "trained on 10 pixels drawn from all labels.")):
        options = replace(QUICK, epochs=1, folds=2, shots=shots)
        hold_out = train(made.scene, made.labels, options=options).hold_out
        assert hold_out is not None
        assert hold_out.description.endswith(text)


def test_the_normalisation_is_that_of_the_training_pixels(tmp_path: Path) -> None:
    """Of all valid pixels in the windows, each once, however many windows share it."""
    made = write_two_fields(tmp_path)
    model = train(made.scene, made.labels, options=replace(QUICK, epochs=1, split="none")).model
    scene, reach = open_scene(made.scene), model.network.config.halo.before
    labels, near = read_labels(made.labels, scene.grid), np.zeros(scene.grid.shape, np.bool_)
    near[labels.rows, labels.cols] = True
    values, valid = scene.read(scene.grid.window, scene.bands.good_indexes)
    typical = values[:, maximum_filter(near, 2 * reach + 1) & valid].astype(np.float64)
    np.testing.assert_allclose(model.mean, typical.mean(1), rtol=1e-12)
    np.testing.assert_allclose(model.std, typical.std(1), rtol=1e-12)


@given(seed=st.integers(0, 50), bands=st.integers(1, 12), per_class=st.integers(1, 30))
@settings(max_examples=25, deadline=None)
def test_whitening_folds_into_the_map_that_follows(seed: int, bands: int, per_class: int) -> None:
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(bands, bands))
    spectra = (random.normal(size=(3 * per_class, bands)) @ mixing).astype(np.float32)
    classes, differences = np.repeat(np.arange(3), per_class), np.diff(spectra, axis=0)
    whitening = Whitening.of(Discriminant.fit(spectra, classes, differences[:: seed % 3 + 1]), spectra)
    assert np.isfinite(whitening.matrix).all()
    pixels = torch.from_numpy(np.concatenate([np.zeros((1, bands), np.float32), spectra])).double()
    linear = nn.Linear(bands, 4).double()
    expected = linear(whitening.apply(pixels))[1:]
    whitening.fold_into(linear)
    torch.testing.assert_close(linear(pixels)[1:], expected, rtol=1e-6, atol=1e-6)
    assert (whitening.apply(pixels)[0] == 0).all()


@pytest.mark.parametrize("whitening", ["always", "never"])
def test_whitening_is_a_choice(tmp_path: Path, whitening: str) -> None:
    made = write_two_fields(tmp_path)
    options = replace(QUICK, whitening=whitening)
    assert _learned_in_whitened_bands(made.scene, made.labels, options) is (whitening == "always")


@pytest.mark.parametrize("shift", [0.0, 3.0], ids=["fields alike", "fields differ"])
def test_bands_are_whitened_where_pixels_of_a_class_differ_as_neighbours_do(tmp_path: Path, shift: float) -> None:
    """Two classes of six fields each; `shift` is what a field differs by, in units of the noise of its pixels."""
    random = np.random.default_rng(5)
    cube, boxes = random.normal(scale=10, size=(12, 24, 72)), []
    for field in range(12):
        at = np.s_[:, 12 * (field // 6) : 12 * (field // 6) + 10, 12 * (field % 6) : 12 * (field % 6) + 10]
        cube[at] += random.normal(scale=10 * shift, size=(12, 1, 1)) + 100 * (field % 2)
        box = pixel_box(12 * (field // 6), 12 * (field % 6), 10, 10)
        boxes.append((box, "maize" if field % 2 else "wheat"))
    scene = write_raster(tmp_path / "scene.tif", (1000 + cube).astype(np.float32))
    labels = write_polygons(tmp_path / "fields.gpkg", boxes)
    assert _learned_in_whitened_bands(scene, labels, QUICK) is (shift == 0)


@pytest.mark.parametrize("choice", ["auto", "never"])
def test_folds_are_trained_as_the_model_that_they_vouch_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    """A fold has fewer labels, which alone might decide otherwise."""
    made, asked = write_two_fields(tmp_path), list[str]()

    def spy(said: str, discriminant: Discriminant, spectra: Any) -> tuple[Whitening | None, str]:
        asked.append(said)
        return choose_whitening(said, discriminant, spectra)

    monkeypatch.setattr(trainer, "choose_whitening", spy)
    trained = train(made.scene, made.labels, options=replace(QUICK, epochs=1, whitening=choice))
    whitened = trained.model.provenance["whitening"].startswith("Bands were whitened")
    assert asked[0] == choice
    assert asked[1:] == ["always" if whitened else "never"] * 3
    assert whitened is (choice == "auto")


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_few_bands_that_are_not_whitened_train(tmp_path: Path, bands: int) -> None:
    """The published spectral stage needs three."""
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        scene = write_raster(tmp_path / "few.tif", dataset.read()[:bands], nodata=-9999)
    options = replace(QUICK, whitening="never", split="none", epochs=1)
    config = train(scene, made.labels, options=options).model.network.config
    assert (config.strided_spectral, config.activation, config.sharpness) == (bands > 2, False, None)
    assert config.discriminant
    if bands < 3:
        with pytest.raises(InputError, match=f"at least 3 usable bands, not {bands}: train without --published"):
            train(scene, made.labels, options=replace(options, published=True))


def _learned_in_whitened_bands(scene: Path, labels: Path, options: TrainingOptions) -> bool:
    """With a learning rate of next to nothing the random map stays as it was, but for what is folded into it."""
    idle = replace(options, learning_rate=1e-9, weight_decay=0.0, split="none", epochs=1)
    trained = train(scene, labels, options=idle)
    network, why = trained.model.network, trained.model.provenance["whitening"]
    torch.manual_seed(idle.seed)
    untrained = CSSD(network.config)
    pairs = zip(network.spectral.parameters(), untrained.spectral.parameters(), strict=True)
    same = all(torch.allclose(after, before, atol=1e-6) for after, before in pairs)
    assert why in trained.notes
    done, stages = ("not whitened", ", the network's stages are as published") if same else ("whitened", "")
    asked, reason = ("", ": labelled") if options.whitening == "auto" else (" (as asked)", ". Labelled")
    assert why.startswith(f"Bands were {done}{asked}{stages}{reason} pixels of a class vary")
    assert ("choose --whitening always" in why) is (options.whitening == "auto" and same)
    usual = NetworkConfig(bands=network.config.bands, classes=network.config.classes, window=network.config.window)
    assert network.config == (usual.for_plain_bands() if same else usual)
    return not same


def test_whitening_evens_out_what_varies_within_classes() -> None:
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(4), 2000)
    nuisance = random.normal(size=(8000, 6)) * [100, 30, 10, 3, 1, 0.3]
    centres = random.normal(size=(4, 6)) * 5
    spectra = (nuisance + centres[classes]).astype(np.float32)
    whitening = Whitening.of(Discriminant.fit(spectra, classes, spectra[:0]), spectra)
    white = (spectra - whitening.centre) @ whitening.matrix.T
    residual = white - np.stack([white[classes == k].mean(0) for k in range(4)])[classes]
    deviations = residual.std(0)
    assert deviations.max() / deviations.min() < 3, "from 333 before"
    assert white.std() == pytest.approx(1), "inputs are of the size that the optimiser is set for"


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("scene", "labels", "field", "split"),
    [
        ("berlin_enmap/EnMAP_BerlinUrbanGradient.bsq", "berlin_enmap/LandCov_BerlinUrbanGradient.shp", "Level_2",
         "polygons"),
        ("pines_like/scene.tif", "pines_like/fields.shp", None, "none"),
    ],
    ids=["berlin_enmap", "pines_like"],
)  # fmt: skip
def test_real_scenes_go_all_the_way(
    shared_data: Path, tmp_path: Path, scene: str, labels: str, *, field: str | None, split: str
) -> None:
    model = tmp_path / "m.safetensors"
    options = TrainingOptions(epochs=1, split=split, windows_per_class=5, baseline=False)
    train(shared_data / scene, shared_data / labels, model, class_field=field, options=options)
    cssd_geo.classify(shared_data / scene, model, tmp_path / "map.tif", confidence=tmp_path / "c.tif")
    found = evaluate(tmp_path / "map.tif", shared_data / labels, class_field=field)
    assert found.accuracy.total > 800
    with rasterio.open(shared_data / scene) as theirs:
        valid = (theirs.read() != theirs.nodata).all(0)
        for name, nodata in (("map.tif", 0), ("c.tif", 255)):
            with rasterio.open(tmp_path / name) as ours:
                assert (ours.transform, ours.crs, ours.shape) == (theirs.transform, theirs.crs, theirs.shape)
                assert ((ours.read(1) == nodata) == ~valid).all()
