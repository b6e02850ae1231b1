"""A model at work on scenes of other sensors: resampling is a part of the first product, and maps stay right."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers `.rio`
import torch
import xarray as xr
from click.testing import CliRunner
from numpy.typing import NDArray
from scenes import NORTH_UP, random_model, randomise, with_bands, write_raster
from sensors import ENMAP, FINE_NM, HYMAP, PATCH, ground, seen_by, write_seen

from cssd_geo.bands import Bands
from cssd_geo.classification import classify
from cssd_geo.cli import main
from cssd_geo.compute import kernels
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.engine.streaming import this_machine
from cssd_geo.forecast import forecast
from cssd_geo.model import Model
from cssd_geo.network import CSSD
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.runs.job import plan_job
from cssd_geo.runs.layers import Outputs
from cssd_geo.scene_info import describe_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.scene import Scene
from cssd_geo.spectra.alignment import align
from cssd_geo.spectra.resampling import centres
from cssd_geo.tiles import Window
from cssd_geo.training import train

CPU = torch.device("cpu")
REACHED = HYMAP.without(centres(HYMAP) > 2450)
"""123 bands: what EnMAP covers."""


def part_of(bands: Bands, every: int) -> Bands:
    return bands.without(np.arange(len(bands)) % every > 0)


def odd_model(dtype: torch.dtype = torch.float64, *, published: bool = False) -> Model:
    """For HyMap, untrained, in reflectance."""
    bands = part_of(REACHED, 3)
    count = sum(bands.good)
    model = random_model(bands=count, dtype=dtype)
    if published:
        config = replace(model.network.config, spectral_features=64).as_published()
        torch.manual_seed(0)
        model = replace(model, network=randomise(CSSD(config)).to(dtype).eval())
    random = np.random.default_rng(3)
    mean, std = random.uniform(0.1, 0.4, count), random.uniform(0.02, 0.1, count)
    return with_bands(replace(model, mean=mean, std=std, bands=Bands(good=(True,) * count)), bands)


@pytest.fixture(scope="module")
def enmap(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Part of the ground with a hole, as EnMAP sees it."""
    reflectance = ground()[1][:33, :41]
    path = write_seen(tmp_path_factory.mktemp("enmap") / "e.bsq", ENMAP, reflectance)
    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = -9999
        cube = dataset.read()
        cube[:, 4:9, 7:15] = -9999
        cube[np.argmin(np.abs(centres(ENMAP) - 800)), 20, 30] = -9999
        dataset.write(cube)
    return open_scene(path)


def aligned_first(scene: Scene, model: Model) -> Scene:
    """The scene with the model's bands, made by numpy; all bands of the model's sensor, the bad ones NaN."""
    found = align(scene.bands, model.bands, scene.name)
    window = Window(row=0, col=0, height=scene.grid.height, width=scene.grid.width)
    stored, valid = scene.read(window, found.bands)
    reflectance = stored * scene.scale[found.bands, None, None] + scene.offset[found.bands, None, None]
    cube = np.full((len(model.bands), *valid.shape), np.nan)
    cube[model.bands.good_indexes] = np.einsum("sb,byx->syx", found.weights, reflectance)
    cube[:, ~valid] = np.nan
    coords = {"good_bands": ("band", list(model.bands.good))}
    array = xr.DataArray(cube, dims=("band", "y", "x"), coords=coords).rio.write_transform(NORTH_UP)
    return scene_of_array(array)


@pytest.mark.parametrize("published", [False, True])
def test_resampling_within_the_network_is_resampling_before_it(enmap: Scene, *, published: bool) -> None:
    model = odd_model(published=published)
    before = aligned_first(enmap, model)
    folded, plain = TileClassifier(model, enmap, CPU), TileClassifier(model, before, CPU)
    assert folded.bands.tolist() != plain.bands.tolist()
    tile = folded.plan(enmap, 50)[0]
    mine, theirs = (each.read(tile.padded, by.bands) for each, by in ((enmap, folded), (before, plain)))
    np.testing.assert_array_equal(mine[1], theirs[1])
    seen = mine[1][folded.halo.before :, folded.halo.before :][: enmap.grid.height, : enmap.grid.width]
    at = tile.padded.corner
    for got, expected in zip(folded.logits(*mine, at=at), plain.logits(*theirs, at=at), strict=True):
        difference = (got - expected).numpy()[seen]
        assert np.abs(difference).max() < 1e-10 * max(1.0, float(expected.abs().max()))


def test_in_float32_labels_differ_only_where_classes_are_as_likely(enmap: Scene) -> None:
    exact, rough = odd_model(), odd_model(torch.float32)
    before = aligned_first(enmap, exact)
    tile = TileClassifier(exact, enmap, CPU).plan(enmap, 50)[0]
    truth, mine = (
        (by := TileClassifier(model, scene, CPU))(
            *scene.read(tile.padded, by.bands), at=tile.padded.corner, parts={"probabilities"}
        )
        for model, scene in ((exact, before), (rough, enmap))
    )
    assert truth.probabilities is not None
    second, best = np.sort(truth.probabilities, axis=0)[-2:]
    moved = truth.class_map != mine.class_map
    assert (best - second)[moved].max(initial=0) < 1e-4
    assert moved.mean() < 0.01
    assert (mine.class_map > 0).sum() == 33 * 41 - 5 * 8 - 1


def test_a_pixel_needs_only_the_bands_that_have_weight() -> None:
    nm = tuple(np.arange(500.0, 700.0, 10.0).tolist())
    model = with_bands(
        random_model(bands=2), Bands(good=(True,) * 2, wavelength_nm=(553.0, 604.0), fwhm_nm=(9.0, 9.0))
    )
    cube = np.random.default_rng(0).integers(1000, 2000, (20, 9, 14)).astype(np.int16)
    cube[range(14), 3, range(14)] = -1  # each band has a hole of its own
    array = xr.DataArray(cube, dims=("band", "y", "x"), coords={"wavelength_nm": ("band", list(nm))})
    scene = scene_of_array(array.assign_coords(fwhm_nm=("band", [10.0] * 20)).rio.write_nodata(-1))
    assert TileClassifier(model, scene, CPU).bands.tolist() == [5, 6, 10, 11]
    blank = np.argwhere(classify(scene.cube, model).values == 0).tolist()
    assert blank == [[3, 5], [3, 6], [3, 10], [3, 11]]


def test_memory_counts_the_bands_that_are_read(enmap: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a strip where torch computes; what is compiled has few pixels at a time."""
    monkeypatch.setattr(kernels, "_LIBRARY", None)
    model = odd_model(torch.float32)
    classifier = TileClassifier(model, enmap, CPU)
    plain = TileClassifier(model, aligned_first(enmap, model), CPU)
    read, count = len(classifier.bands), len(model.mean)
    assert read > count
    assert classifier.needs(enmap).pixel_in == int(1.25 * (2 * read + 1))
    first_band = (classifier.network.working_bytes - plain.network.working_bytes) / (4 * (read - count))
    features, classes = 16, len(model.classes)
    assert first_band == plain.network.working_bytes / (4 * (count + features + classes) + 11 * features * 4)


@pytest.mark.parametrize("lazy", [False, True])
def test_shuffled_bands_give_the_same_map_to_the_last_bit(tmp_path: Path, *, lazy: bool) -> None:
    reflectance = ground()[1][:30, :40]
    order = np.random.default_rng(5).permutation(len(REACHED))
    shuffled = Bands(
        good=tuple(REACHED.good[i] for i in order),
        wavelength_nm=tuple(centres(REACHED)[order].tolist()),
        fwhm_nm=tuple(np.array(REACHED.fwhm_nm)[order].tolist()),
    )
    ordered = open_scene(write_seen(tmp_path / "ordered.bsq", REACHED, reflectance))
    cube = ordered.cube.values[order]
    other = open_scene(write_seen(tmp_path / "shuffled.bsq", shuffled, reflectance))
    with rasterio.open(tmp_path / "shuffled.bsq", "r+") as dataset:
        dataset.write(cube)
    model = odd_model(torch.float32)
    maps = []
    for scene in (ordered, other):
        if lazy:
            maps.append(classify(scene.cube, model, tile_size=17).coords["confidence"].values)
        else:
            classify(scene, model, tmp_path / "m.tif", probabilities=tmp_path / "p.tif", overwrite=True)
            with rasterio.open(tmp_path / "p.tif") as dataset:
                maps.append(dataset.read())
    np.testing.assert_array_equal(*maps)


def test_lazy_and_streamed_maps_of_resampled_scenes_are_the_same(tmp_path: Path, enmap: Scene) -> None:
    model = odd_model()
    classify(enmap, model, tmp_path / "m.tif", tile_size=13)
    with rasterio.open(tmp_path / "m.tif") as dataset:
        np.testing.assert_array_equal(classify(enmap.cube, model, tile_size=20).values, dataset.read(1))


def test_a_look_at_a_scene_tells_what_classify_reads_of_it(tmp_path: Path, enmap: Scene) -> None:
    model, here = odd_model(), this_machine("cpu", "float32")
    job = plan_job(enmap, model, Outputs(class_map=tmp_path / "m.tif"), here)
    assert describe_scene(enmap, model)["plan"]["bytes_read"] == forecast(job).bytes_read


# Train on one sensor, classify the ground as another one sees it


@dataclass(frozen=True, kw_only=True)
class Flight:
    folder: Path
    truth: NDArray[np.uint8]
    hymap: Path
    enmap: Path
    model: Model


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Flight:
    """Eight covers in forty fields; a model trained on pixels of the upper three rows of fields, seen by HyMap."""
    folder = tmp_path_factory.mktemp("flight")
    truth, reflectance = ground()
    hymap = write_seen(folder / "hymap.bsq", REACHED, reflectance, seed=1)
    enmap = write_seen(folder / "enmap.bsq", ENMAP, reflectance, seed=2)
    labels = np.zeros_like(truth)
    labels[3 : 3 * PATCH : 4, 2::4] = truth[3 : 3 * PATCH : 4, 2::4]
    path = write_raster(folder / "labels.tif", labels[None], nodata=0)
    options = TrainingOptions(epochs=4, split="none", baseline=False)
    return Flight(
        folder=folder,
        truth=truth,
        hymap=hymap,
        enmap=enmap,
        model=train(hymap, path, options=options, device="cpu").model,
    )


def accuracy(flight: Flight, scene: Path, precision: str = "float32") -> float:
    """Of the rows of fields that were not trained on."""
    done = classify(scene, flight.model, flight.folder / "map.tif", precision=precision, overwrite=True)
    assert any("resampled" in note for note in done.notes) is (scene != flight.hymap)
    with rasterio.open(flight.folder / "map.tif") as dataset:
        return float((dataset.read(1) == flight.truth)[3 * PATCH :].mean())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_trained_on_hymap_and_applied_to_enmap_the_map_is_as_good(flight: Flight, precision: str) -> None:
    own, other = (accuracy(flight, scene, precision) for scene in (flight.hymap, flight.enmap))
    assert own > 0.85
    assert other > own - 0.02


def test_bands_taken_for_others_would_be_seen(flight: Flight) -> None:
    """The test above can fail: bands that are not where the header says cost accuracy."""
    moved = flight.folder / "moved.bsq"
    with rasterio.open(flight.enmap) as dataset:
        write_raster(moved, np.roll(dataset.read(), 2, axis=0), driver="ENVI")
    moved.with_suffix(".hdr").write_text(flight.enmap.with_suffix(".hdr").read_text())
    assert accuracy(flight, moved) < accuracy(flight, flight.hymap) - 0.05


def test_the_command_says_that_bands_were_resampled(flight: Flight, tmp_path: Path) -> None:
    flight.model.save(tmp_path / "m.safetensors")
    words = ["classify", flight.enmap, "-m", tmp_path / "m.safetensors", "-o", tmp_path / "map.tif"]
    note = "Note: 123 of the model's 123 bands were resampled from those of enmap.bsq by Gaussian response"
    for extra in ("--dry-run", "--overwrite"):
        run = CliRunner().invoke(main, [*map(str, words), extra])
        assert run.exit_code == 0, run.output
        assert note in run.stderr
        assert "Note" not in run.stdout


def test_the_noise_of_the_fine_bands_averages_out(flight: Flight) -> None:
    """What the network reads of the EnMAP scene is nearer to the truth than what HyMap measured."""
    _, reflectance = ground()
    truth = seen_by(REACHED, reflectance.reshape(*flight.truth.shape, len(FINE_NM)))[..., :123]
    found = align(ENMAP, REACHED, "e")
    window = Window(row=0, col=0, height=60, width=96)
    errors = []
    for path, bands, weights in (
        (flight.hymap, np.arange(123), np.eye(123)),
        (flight.enmap, found.bands, found.weights),
    ):
        stored, _ = open_scene(path).read(window, bands)
        errors.append(np.sqrt(np.mean((np.einsum("sb,byx->yxs", weights, 1e-4 * stored) - truth) ** 2)))
    assert errors[0] == pytest.approx(0.003, rel=0.02)
    assert errors[1] < 0.0025
