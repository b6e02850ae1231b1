"""No scene is read with swapped axes: each class lies where GDAL says that its pixel lies, in any geometry."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import xy
from scenes import NORTH_UP, UTM, random_model, write_raster

from cssd_geo.classification import classify
from cssd_geo.model import Model
from cssd_geo.products import open_scene

HEIGHT, WIDTH = 19, 31
CUBE = np.random.default_rng(3).uniform(500, 2500, (5, HEIGHT, WIDTH)).astype(np.float32)
LONGLAT = CRS.from_epsg(4326)


@st.composite
def places(draw: st.DrawFn) -> tuple[Affine, CRS]:
    """Any size of pixel, not square; turned by any angle; north or south up; metres or degrees."""
    degrees = draw(st.booleans())
    unit, (left, top) = (1e-5, (13.4, 52.5)) if degrees else (1.0, (400_000.5, 5_800_000.25))
    across, down = draw(st.floats(0.5, 60)), draw(st.floats(0.5, 60))
    turned = Affine.rotation(draw(st.one_of(st.sampled_from([0.0, 90.0, 180.0, 270.0]), st.floats(0, 360))))
    up = draw(st.sampled_from([-1, 1]))
    transform = Affine.translation(left, top) @ turned @ Affine.scale(across * unit, up * down * unit)
    return transform, LONGLAT if degrees else UTM


@cache
def _plain() -> tuple[Model, NDArray[np.uint8]]:
    """A model, and its map of the cube on a grid without any trick."""
    model = random_model(bands=5, seed=5)
    with tempfile.TemporaryDirectory() as folder:
        scene = write_raster(Path(folder, "s.tif"), CUBE, transform=NORTH_UP)
        return model, _classes(scene, model)


def _classes(scene: Path, model: Model) -> NDArray[np.uint8]:
    classify(scene, model, scene.with_name("map.tif"), precision="float32", device="cpu", tile_size=13)
    with rasterio.open(scene.with_name("map.tif")) as dataset:
        values: NDArray[np.uint8] = dataset.read(1)
    return values


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=places(), driver=st.sampled_from(["GTiff", "ENVI"]), seed=st.integers(0, 2**16))
def test_every_class_lies_where_its_pixel_lies(place: tuple[Affine, CRS], driver: str, seed: int) -> None:
    transform, crs = place
    model, expected = _plain()
    with tempfile.TemporaryDirectory() as folder:
        path = write_raster(Path(folder, "scene.dat"), CUBE, transform=transform, crs=crs, driver=driver)
        found = _classes(path, model)
        np.testing.assert_array_equal(found, expected)
        random = np.random.default_rng(seed)
        rows, cols = random.integers(0, HEIGHT, 9), random.integers(0, WIDTH, 9)
        with rasterio.open(path) as scene, rasterio.open(path.with_name("map.tif")) as written:
            assert written.shape == scene.shape == (HEIGHT, WIDTH)
            assert written.crs == scene.crs
            pixel = max(map(abs, (transform.a, transform.b, transform.d, transform.e)))
            for row, col in zip(rows.tolist(), cols.tolist(), strict=True):
                there = written.xy(row, col)
                np.testing.assert_allclose(there, scene.xy(row, col), rtol=0, atol=1e-6 * pixel)
                if driver == "GTiff":  # ENVI headers hold fewer digits
                    np.testing.assert_allclose(there, xy(transform, row, col), rtol=0, atol=1e-6 * pixel)
            assert open_scene(path).grid.same_as(open_scene(path.with_name("map.tif")).grid)
