from collections import Counter
from typing import Any

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from cssd_geo.demo.landscape import CLASSES, Landscape, make_landscape
from cssd_geo.demo.spectra import COVERS, TEXTURES, Sensor, cover_spectra, kubelka_munk
from cssd_geo.errors import InputError

HEIGHT, WIDTH, BANDS = 96, 128, 40


@pytest.fixture(scope="module")
def small() -> Landscape:
    return make_landscape(height=HEIGHT, width=WIDTH, bands=BANDS)


@pytest.fixture(scope="module")
def tall() -> Landscape:
    return make_landscape(height=170, width=110, bands=60, seed=4)


def band(scene: Landscape, nm: float) -> NDArray[np.float64]:
    distance = np.where(scene.good_bands, np.abs(scene.wavelength_nm - nm), np.inf)
    return np.asarray(scene.cube[distance.argmin()] / 10000)


def pixels(scene: Landscape, name: str) -> NDArray[np.bool_]:
    return np.asarray(scene.truth == CLASSES.ids[CLASSES.names.index(name)])


def centres_in(polygon: shapely.Polygon, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    y, x = np.indices(shape) + 0.5
    return np.asarray(shapely.contains_xy(polygon, x.ravel(), y.ravel())).reshape(shape)


def test_same_seed_same_scene(small: Landscape) -> None:
    again = make_landscape(height=HEIGHT, width=WIDTH, bands=BANDS)
    assert np.array_equal(again.cube, small.cube)
    assert np.array_equal(again.truth, small.truth)
    assert again.polygons == small.polygons


def test_other_seed_other_scene(small: Landscape) -> None:
    other = make_landscape(height=HEIGHT, width=WIDTH, bands=BANDS, seed=1)
    assert (other.truth != small.truth).mean() > 0.3
    assert other.polygons != small.polygons


def test_layout_and_labels_do_not_depend_on_the_bands(small: Landscape) -> None:
    other = make_landscape(height=HEIGHT, width=WIDTH, bands=12)
    assert np.array_equal(other.truth, small.truth)
    assert other.polygons == small.polygons


def test_shapes_and_types(small: Landscape, tall: Landscape) -> None:
    for scene, shape in ((small, (BANDS, HEIGHT, WIDTH)), (tall, (60, 170, 110))):
        assert scene.cube.shape == shape
        assert scene.cube.dtype == np.int16
        assert scene.cube.flags.c_contiguous
        assert scene.truth.shape == shape[1:]
        assert scene.truth.dtype == np.uint8
        for values in (scene.wavelength_nm, scene.fwhm_nm, scene.good_bands):
            assert values.shape == shape[:1]
        assert scene.good_bands.dtype == bool
        assert scene.classes == CLASSES
        assert scene.pixel_size == 4.0


def test_classes_are_named_and_coloured_apart() -> None:
    assert CLASSES.names == COVERS
    assert set(TEXTURES) == set(COVERS)
    colours = np.array(CLASSES.colours)
    apart = np.abs(colours[:, None] - colours).sum(axis=2)
    assert apart[~np.eye(len(CLASSES), dtype=bool)].min() > 60


def test_nodata_is_a_corner_in_all_bands(small: Landscape, tall: Landscape) -> None:
    for scene in (small, tall):
        outside = scene.truth == 0
        assert (scene.cube[:, outside] == scene.nodata).all()
        assert (scene.cube[:, ~outside] != scene.nodata).all()
        assert 0.02 < outside.mean() < 0.1
        assert outside[0, -1]
        assert not outside[:, 0].any()
        assert not outside[-1].any()


def test_small_scene_has_classes_and_labels(small: Landscape) -> None:
    assert set(np.unique(small.truth)) == {0, *CLASSES.ids}
    polygons = Counter(polygon.class_name for polygon in small.polygons)
    assert sum(count >= 3 for count in polygons.values()) >= 10
    assert set(polygons) <= set(CLASSES.names)


@pytest.mark.parametrize("seed", range(4))
def test_polygons_are_valid_pure_and_apart(seed: int) -> None:
    scene = make_landscape(height=90, width=70, bands=8, seed=seed)
    labelled = np.zeros(scene.truth.shape, int)
    for polygon in scene.polygons:
        assert polygon.geometry.is_valid
        assert shapely.box(0, 0, 70, 90).contains(polygon.geometry)
        inside = centres_in(polygon.geometry, scene.truth.shape)
        labelled += inside
        assert 8 <= inside.sum() <= 250
        assert (pixels(scene, polygon.class_name)[inside]).mean() >= 0.97
    assert labelled.max() == 1
    assert labelled.mean() < 0.2


def test_bad_bands_are_water_vapour_and_one_dead_detector(small: Landscape) -> None:
    nm, good = small.wavelength_nm, small.good_bands
    vapour = ((nm > 1340) & (nm < 1450)) | ((nm > 1790) & (nm < 1965))
    assert not good[vapour].any()
    (dead,) = np.flatnonzero(~good & ~vapour)
    assert abs(nm[dead] - 1000) < np.diff(nm).max()


def test_bad_bands_tell_nothing(small: Landscape) -> None:
    flown = small.truth > 0
    correlation: NDArray[np.float64] = np.asarray(np.corrcoef(small.cube[:, flown]))
    good = small.good_bands
    assert np.abs(correlation[~good][:, good]).max() < 0.1
    assert np.abs(correlation[good][:, good]).mean() > 0.3


def test_plants_are_green_and_water_is_dark(small: Landscape) -> None:
    red, infrared = band(small, 670), band(small, 850)
    ndvi = (infrared - red) / np.maximum(infrared + red, 0.01)
    for name in ("conifer forest", "deciduous forest", "maize", "sugar beet"):
        assert np.median(ndvi[pixels(small, name)]) > 0.5
    for name in ("bare soil", "asphalt", "concrete"):
        assert np.median(ndvi[pixels(small, name)]) < 0.4
    assert np.median(infrared[pixels(small, "water")]) < 0.08
    assert np.median(band(small, 1650)[pixels(small, "water")]) < 0.05


def test_red_edge_is_near_720_nm() -> None:
    nm = np.arange(500.0, 1000, 1)
    for name in ("deciduous forest", "maize", "meadow"):
        vigorous = cover_spectra(name, nm, count=3, rng=np.random.default_rng(0))[:, 0]
        edge = nm[np.diff(vigorous, axis=1).argmax(axis=1)]
        assert ((edge > 690) & (edge < 740)).all()


def depth(spectrum: NDArray[Any], nm: NDArray[Any], *, left: float, centre: float, right: float) -> float:
    """One minus reflectance over the straight line between two shoulders."""
    start, middle, end = np.interp((left, centre, right), nm, spectrum)
    return float(1 - middle / (start + (end - start) * (centre - left) / (right - left)))


@pytest.mark.parametrize(
    ("name", "layer", "left", "centre", "right"),
    [
        ("maize", 0, 900, 972, 1070),  # leaf water
        ("wheat", 0, 2020, 2100, 2210),  # cellulose
        ("bare soil", 0, 2150, 2205, 2250),  # clay
        ("concrete", 0, 2260, 2340, 2400),  # carbonate
        ("asphalt", 0, 2240, 2310, 2390),  # hydrocarbons
    ],
)
def test_absorption_features(name: str, layer: int, left: float, centre: float, right: float) -> None:
    nm = np.arange(400.0, 2501, 4)
    spectra = cover_spectra(name, nm, count=4, rng=np.random.default_rng(0))[:, layer]
    assert all(depth(s, nm, left=left, centre=centre, right=right) > 0.01 for s in spectra)


@pytest.mark.parametrize("name", COVERS)
def test_reflectance_is_physical_and_differs_between_patches(name: str) -> None:
    nm = np.arange(400.0, 2501, 4)
    spectra = cover_spectra(name, nm, count=50, rng=np.random.default_rng(0))
    assert spectra.shape == (50, 3, nm.size)
    assert spectra.min() > 0
    assert spectra.max() < 0.8
    assert len(np.unique(spectra[:, 0, 40])) == 50


def test_kubelka_munk_inverts() -> None:
    reflectance = np.linspace(0.01, 1, 50)
    assert np.allclose(kubelka_munk((1 - reflectance) ** 2 / (2 * reflectance)), reflectance)


def test_sensor_keeps_a_flat_spectrum_flat() -> None:
    sensor = Sensor.with_bands(30)
    assert np.allclose(sensor.respond(np.full((2, sensor.fine_nm.size), 0.3)), 0.3)


def test_noise_is_as_the_sensor_says() -> None:
    sensor = Sensor.with_bands(50)
    cube = sensor.measure(np.full((400, 5, 50), 0.25, np.float32), np.random.default_rng(0)) / 10000
    snr = 0.25 / cube.std(axis=1).mean(axis=1)
    visible = sensor.good_bands & (sensor.wavelength_nm < 900)
    infrared = sensor.good_bands & (sensor.wavelength_nm > 2000)
    assert 50 < np.median(snr[visible]) < 150
    assert 20 < np.median(snr[infrared]) < 60


@pytest.mark.parametrize("size", [{"height": 47}, {"width": 10}, {"bands": 7}])
def test_too_small_says_what_is_needed(size: dict[str, int]) -> None:
    name, value = next(iter(size.items()))
    with pytest.raises(InputError, match=f"at least 48 x 48 pixels and 8 bands.*{name}={value}"):
        make_landscape(**size)


def test_smallest_scene_works() -> None:
    scene = make_landscape(height=48, width=52, bands=8)
    assert scene.cube.shape == (8, 48, 52)
    assert len({polygon.class_name for polygon in scene.polygons}) >= 4
