"""What the pixels of a map were when it was classified: matrices and PROJ tell what its tags do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import calculate_default_transform
from scenes import NORTH_UP, ROTATED, UTM, control_points, write_raster

from cssd_geo.grid import Grid
from cssd_geo.maps.layer import PIXEL_TAG, RECEPTIVE_FIELD_TAG
from cssd_geo.maps.reach import pixels_across, reach_tags, receptive_field_of

HEIGHT, WIDTH = 40, 55
IDS = np.ones((HEIGHT, WIDTH), np.uint8)


def _grid(**changes: Any) -> Grid:
    return Grid(**{"height": HEIGHT, "width": WIDTH, "transform": NORTH_UP, "crs": UTM} | changes)


def _across(path: Path, before: Grid, **now: Any) -> float | None:
    """What a map that was classified on one grid says on another."""
    write_raster(path, IDS[None], **now)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**reach_tags(20, before))
    with rasterio.open(path) as dataset:
        assert receptive_field_of(dataset) == 20
        return pixels_across(dataset)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED, NORTH_UP @ Affine.shear(20, 5)])
def test_pixels_of_one_crs_are_as_many_as_their_size_says(tmp_path: Path, transform: Affine) -> None:
    for change, expected in (
        (Affine.identity(), 1),
        (Affine.translation(7, -3), 1),
        (Affine.scale(1, -1), 1),
        (Affine(0, 1, 0, 1, 0, 0), 1),
        (Affine.scale(1 / 3), 3),
        (Affine.scale(2), 0.5),
        (Affine.scale(2, 0.25), 4),
        (Affine.rotation(45), np.sqrt(2)),
    ):
        found = _across(tmp_path / "map.tif", _grid(transform=transform), transform=transform @ change)
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("epsg", [4326, 3857, 32634, 2263])
def test_reprojected_pixels_are_as_many_as_on_the_ground(tmp_path: Path, epsg: int) -> None:
    """Degrees, metres that are none on the ground, another zone, and feet."""
    crs = CRS.from_epsg(epsg)
    bounds = rasterio.transform.array_bounds(HEIGHT, WIDTH, NORTH_UP)
    transform, width, height = calculate_default_transform(UTM, crs, WIDTH, HEIGHT, *bounds)
    columns, rows = np.array([0, 1, 0]) + width // 2, np.array([0, 0, 1]) + height // 2
    to_degrees = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    x, y = to_degrees.transform(*(transform @ (columns, rows)))
    sizes = pyproj.Geod(ellps="WGS84").inv(x[[0, 0]], y[[0, 0]], x[1:], y[1:])[2]
    turn = np.radians(pyproj.Geod(ellps="WGS84").inv(x[0], y[0], x[2], y[2])[0] - 180)
    turn -= np.radians(pyproj.Proj(32633).get_factors(x[0], y[0]).meridian_convergence)
    expected = 30 * (abs(np.cos(turn)) + abs(np.sin(turn))) / sizes.min()
    found = _across(tmp_path / "map.tif", _grid(), crs=crs, transform=transform)
    assert found == pytest.approx(expected, rel=0.01)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_is_on_its_own_grid_whatever_that_is(tmp_path: Path) -> None:
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    points = control_points(NORTH_UP, HEIGHT, WIDTH)
    for now in (
        {"crs": local, "transform": NORTH_UP},
        {"crs": None, "transform": ROTATED},
        {"crs": None, "transform": None},
        {"crs": UTM, "transform": None, "gcps": points},
        {"crs": CRS.from_epsg(4326), "transform": Affine(0.0003, 0, 13.5, 0, -0.0002, 52.3)},
        {"crs": CRS.from_proj4("+proj=laea +lat_0=50 +lon_0=14 +datum=WGS84"), "transform": NORTH_UP},
    ):
        assert _across(tmp_path / "map.tif", _grid(**now), **now) == pytest.approx(1)


def test_what_cannot_be_related_is_not_known(tmp_path: Path) -> None:
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')
    path, points = tmp_path / "map.tif", tuple(control_points(NORTH_UP, HEIGHT, WIDTH))
    assert _across(path, _grid(crs=local)) is None
    assert _across(path, _grid(crs=None)) is None
    assert _across(path, _grid(), crs=None) is None
    assert _across(path, _grid(transform=None)) is None
    assert _across(path, _grid(transform=None, gcps=points)) is None
    assert _across(path, _grid(), transform=None, gcps=list(points)) is None
    nowhere = Affine(30, 0, 1e12, 0, -30, 1e12)
    assert _across(path, _grid(crs=CRS.from_epsg(4326)), transform=nowhere) is None


def test_tags_of_others_and_none_at_all(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "map.tif", IDS[None])
    with rasterio.open(path) as dataset:
        assert (receptive_field_of(dataset), pixels_across(dataset)) == (16, 1)
    whole = json.loads(reach_tags(16, _grid())[PIXEL_TAG])
    strange = [{"steps": [1, 2]}, {"steps": "far"}, {"steps": [[1], 2]}, {"crs": "EPSG:0"}, {"crs": 30}]
    for pixel in ("30", "{}", "null", "x", *(json.dumps(whole | change) for change in strange)):
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(**{PIXEL_TAG: pixel, RECEPTIVE_FIELD_TAG: "-3"})
        with rasterio.open(path) as dataset:
            assert (receptive_field_of(dataset), pixels_across(dataset)) == (16, None)
