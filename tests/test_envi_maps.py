"""A model of one real scene makes the same map of all its ENVI variants, wherever their data are equal."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from scenes import write_raster
from scipy.ndimage import minimum_filter
from test_envi import EXPECTED

from cssd_geo.classification import classify
from cssd_geo.model import Model
from cssd_geo.options import RECEPTIVE_FIELD, TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Window
from cssd_geo.training import train

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

VARIANTS = [name for name in EXPECTED if name.startswith("derived_from_berlin")]
QUICK = TrainingOptions(epochs=1, split="none", pixels_per_class=20, windows_per_class=4)
PERCENT_OF_PERCENT = np.full(177, 1e-4)
"""Scale of the stored values: of the headers one says so, and the scenes in floats hold what it makes of them."""
Mapper = Callable[[NDArray[np.bool_]], tuple[Model, NDArray[np.uint8]]]


def _labels(path: Path, scene: Scene) -> Path:
    """A label raster with every fifth pixel, by how bright it is in the near infrared."""
    stored, _ = scene.read(Window(row=0, col=0, height=80, width=60), np.array([60]))
    classes = 1 + np.digitize(stored[0], np.quantile(stored[0], [0.3, 0.6])).astype(np.uint8)
    every_fifth = np.add.outer(np.arange(80), 2 * np.arange(60)) % 5 == 0
    return write_raster(
        path, np.where(every_fifth, classes, 0)[None], transform=scene.grid.transform, crs=scene.grid.crs, nodata=0
    )


def _map(scene: Scene, model: Model, folder: Path) -> NDArray[np.uint8]:
    classify(scene, model, folder / "map.tif", precision="float32", device="cpu", overwrite=True)
    with rasterio.open(folder / "map.tif") as dataset:
        values: NDArray[np.uint8] = dataset.read(1)
    return values


@pytest.fixture(scope="session")
def plain(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapper:
    """A model of the original scene and its map of it, for the bands that a variant calls bad."""
    folder = tmp_path_factory.mktemp("plain")
    scene = open_scene(shared_data / "berlin_enmap" / "EnMAP_BerlinUrbanGradient.bsq")
    scene = replace(scene, scale=PERCENT_OF_PERCENT)
    labels = _labels(folder / "labels.tif", scene)

    @cache
    def of(bad: tuple[bool, ...]) -> tuple[Model, NDArray[np.uint8]]:
        trained_on = scene.without_bands(np.array(bad))
        model = train(trained_on, labels, options=QUICK, device="cpu").model
        return model, _map(trained_on, model, folder)

    return lambda bad: of(tuple(bad.tolist()))


@pytest.mark.parametrize("name", VARIANTS)
def test_the_map_of_a_variant_is_that_of_the_plain_scene(
    shared_data: Path, tmp_path: Path, plain: Mapper, name: str
) -> None:
    scene = open_scene(shared_data / "envi_headers" / name)
    if scene.cube.dtype == np.int16:
        scene = replace(scene, scale=PERCENT_OF_PERCENT)
    model, expected = plain(~np.array(scene.bands.good))
    found = _map(scene, model, tmp_path)
    _, valid = scene.read(Window(row=0, col=0, height=80, width=60), scene.bands.good_indexes)
    np.testing.assert_array_equal(found > 0, valid)
    same = minimum_filter(valid, size=2 * RECEPTIVE_FIELD + 1, mode="constant", cval=1)  # and what surrounds it
    assert same.sum() > 1000, "enough is compared"
    assert len(np.unique(expected[same])) > 1
    np.testing.assert_array_equal(found[same], expected[same])
