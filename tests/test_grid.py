"""Which grids are the same; the projection's scale, against areas of polygons on the ellipsoid."""

from dataclasses import replace

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import assume, given
from hypothesis import strategies as st
from rasterio.crs import CRS
from scenes import NORTH_UP, ROTATED, UTM

from cssd_geo.grid import Grid


@given(
    transform=st.sampled_from([NORTH_UP, ROTATED]),
    about=st.sampled_from([1e-6, 0.01]),
    seed=st.integers(0, 2**31),
)
def test_grids_are_the_same_where_no_corner_lies_elsewhere(transform: Affine, about: float, seed: int) -> None:
    random, (height, width) = np.random.default_rng(seed), (30, 50)
    by = about * random.uniform(0, 1.5) * random.uniform(-1, 1, (2, 3)) / [width, height, 1]
    corners = np.array([(0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)])
    farthest = np.abs(corners @ by.T).sum(axis=1).max()
    assume(abs(farthest / about - 1) > 1e-3)
    change = Affine(*(np.eye(3)[:2] + by).ravel().tolist())
    one, two = (
        Grid(height=height, width=width, transform=each, crs=UTM) for each in (transform, transform @ change)
    )
    assert one.same_as(two) == (farthest < 1e-6)
    assert (one.differences(two) == []) == (farthest < 0.01)
    assert not one.same_as(replace(one, height=width, width=height))


def _shown_larger(grid: Grid) -> float:
    """Area of a raster by its CRS, over that of the same outline on the ellipsoid."""
    assert grid.crs is not None
    assert grid.transform is not None
    assert grid.pixel_area is not None
    crs = pyproj.CRS(grid.crs.to_wkt())
    side = np.linspace(0, 1, 50, endpoint=False)
    outline = (
        np.concatenate([side, 1 + 0 * side, 1 - side, 0 * side]),
        np.concatenate([0 * side, side, 1 + 0 * side, 1 - side]),
    )
    places = grid.transform @ (outline[0] * grid.width, outline[1] * grid.height)
    to_degrees = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    area, _ = pyproj.Geod(ellps="WGS84").polygon_area_perimeter(*to_degrees.transform(*places))
    return grid.pixel_area * grid.height * grid.width / abs(area)


@pytest.mark.parametrize(
    ("epsg", "longitude", "latitude"),
    [
        (27572, 2.3, 50.9),  # grads from Paris
        (27572, 5.4, 43.3),
        (27562, 2.5, 47.0),
        (26591, 13.0, 41.0),  # degrees from Rome
        (32633, 12.1, 52.0),
        (3395, 13.5, 52.3),
        (2263, -74.0, 40.6),  # feet
        (3035, 30.0, 60.0),
    ],
)
def test_the_areal_scale_is_that_of_areas_on_the_ellipsoid(epsg: int, longitude: float, latitude: float) -> None:
    crs = CRS.from_epsg(epsg)
    x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(longitude, latitude)
    size = 20 / crs.linear_units_factor[1]
    transform = Affine(size, 0, x - 50 * size, 0, -size, y + 40 * size)
    grid = Grid(height=80, width=100, transform=transform, crs=crs)
    assert grid.areal_scale == pytest.approx(_shown_larger(grid), abs=1e-4)
