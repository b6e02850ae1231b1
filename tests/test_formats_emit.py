"""EMIT: the published structure is read whole or refused; maps lie where numpy's indexing puts them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from scenes import coordinate_cube, pixel_box, random_model, write_polygons, write_raster
from stores import EMIT_ATTRS, EMIT_TRANSFORM, emit_variables, turned_table, write_emit, write_netcdf

from cssd_geo.classification import classify
from cssd_geo.errors import SceneError
from cssd_geo.evaluation import evaluate
from cssd_geo.model import Model
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.scenes.lookup import NOWHERE, GeometryLookup
from cssd_geo.tiles import Window
from cssd_geo.training import train

BANDS, HEIGHT, WIDTH = 5, 40, 26
WGS84 = CRS.from_epsg(4326)


def _cube() -> NDArray[np.float32]:
    """(band, y, x) of coordinates, which 32 bits hold exactly."""
    cube = coordinate_cube(BANDS, HEIGHT, WIDTH).astype(np.float32)
    cube[:, 7, 9] = -9999
    return cube


def _write(path: Path, cube: NDArray[Any]) -> Path:
    return write_emit(path, np.moveaxis(cube, 0, 2), *turned_table(*cube.shape[1:]))


def test_the_published_structure_is_read(tmp_path: Path) -> None:
    scene = open_scene(_write(tmp_path / "EMIT_L2A_RFL_001.nc", _cube()))
    assert (scene.sensor, scene.grid.transform, scene.grid.crs) == ("EMIT L2A", None, None)
    assert "sensor geometry" in scene.notes[-1]
    np.testing.assert_allclose(scene.bands.wavelength_nm or (), np.linspace(381, 2493, BANDS))
    assert scene.bands.fwhm_nm == (8.5,) * BANDS
    assert scene.source.bands_last
    values, valid = scene.read(Window(row=0, col=0, height=HEIGHT, width=WIDTH), np.arange(BANDS))
    np.testing.assert_array_equal(values, _cube())
    assert np.argwhere(~valid).tolist() == [[7, 9]]
    samples, lines = turned_table(HEIGHT, WIDTH)
    assert scene.lookup is not None
    np.testing.assert_array_equal(scene.lookup.rows, lines - 1)
    np.testing.assert_array_equal(scene.lookup.cols, samples - 1)
    assert scene.lookup.grid.transform is not None
    assert scene.lookup.grid.transform.almost_equals(EMIT_TRANSFORM, 1e-15)
    assert scene.lookup.grid.crs == WGS84


def test_bad_bands_are_those_that_the_product_marks(tmp_path: Path) -> None:
    variables = emit_variables(np.moveaxis(_cube(), 0, 2), *turned_table(HEIGHT, WIDTH))
    good = np.array([1, 1, 0, 1, 0], np.uint8)
    variables["sensor_band_parameters/good_wavelengths"] = (("bands",), good)
    scene = open_scene(write_netcdf(tmp_path / "s.nc", variables, attrs=EMIT_ATTRS))
    assert scene.bands.good == (True, True, False, True, False)


def _without(*names: str) -> Any:
    return lambda variables, attrs: ([variables.pop(name) for name in names], attrs)


def _far(variables: Any, _: Any) -> None:
    dims, table, told = variables["location/glt_x"]
    variables["location/glt_x"] = (dims, np.where(table > 0, table + 3, 0), told)


def _other_wavelengths(variables: Any, _: Any) -> None:
    variables["sensor_band_parameters/wavelengths"] = (("others",), np.linspace(400, 2400, BANDS + 1))


def _other_table(variables: Any, _: Any) -> None:
    variables["location/glt_y"] = (("a", "b"), np.ones((3, 4), np.int32))


LOCATION = ("lon", "lat", "elev", "glt_x", "glt_y")
BROKEN: dict[str, tuple[Any, str]] = {
    "location": (
        _without(*(f"location/{n}" for n in LOCATION)),
        "no group location: it is incomplete. Its groups: /sen",
    ),
    "glt_y": (
        _without("location/glt_y"),
        r"no variable location/glt_y: it is incomplete. It holds reflectance \(40 d",
    ),
    "wavelengths": (
        _without("sensor_band_parameters/wavelengths"),
        "no variable sensor_band_parameters/wavelengths",
    ),
    "reflectance": (_without("reflectance"), "no variable of it has wavelengths along one of three dimensions"),
    "other wavelengths": (
        _other_wavelengths,
        r"sensor_band_parameters/wavelengths \(6 others\), go with none of them",
    ),
    "far": (_far, "points at columns that the image does not have: 29, counted from 1, of 26"),
    "other table": (_other_table, r"for a map of \(3, 4\) pixels"),
    "geotransform": (lambda _, attrs: attrs.pop("geotransform"), "has no attribute geotransform"),
    "short": (lambda _, attrs: attrs.update(geotransform=np.arange(4.0)), "not six numbers"),
    "flat": (lambda _, attrs: attrs.update(geotransform=np.zeros(6)), "gives pixels no size"),
    "text": (lambda _, attrs: attrs.update(geotransform="north"), "not six numbers"),
    "spatial_ref": (lambda _, attrs: attrs.update(spatial_ref="GEOGCS[nonsense"), "spatial_ref is no CRS"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_missing_or_does_not_fit_is_named(tmp_path: Path, name: str) -> None:
    variables = emit_variables(np.moveaxis(_cube(), 0, 2), *turned_table(HEIGHT, WIDTH))
    attrs = dict(EMIT_ATTRS)
    change, message = BROKEN[name]
    change(variables, attrs)
    with pytest.raises(SceneError, match=message):
        open_scene(write_netcdf(tmp_path / "s.nc", variables, attrs=attrs))


def test_an_orthorectified_copy_is_plain_netcdf(tmp_path: Path) -> None:
    """As the `emit_xarray` of NASA's EMIT-Data-Resources saves it: flat, with the map's coordinates."""
    t, cube = EMIT_TRANSFORM, _cube()
    path = write_netcdf(
        tmp_path / "ortho.nc",
        {
            "latitude": (("latitude",), t.f + t.e * (np.arange(HEIGHT) + 0.5)),
            "longitude": (("longitude",), t.c + t.a * (np.arange(WIDTH) + 0.5)),
            "wavelengths": (("bands",), np.linspace(381, 2493, BANDS)),
            "good_wavelengths": (("bands",), np.ones(BANDS)),
            "spatial_ref": ((), 0, {"crs_wkt": WGS84.to_wkt()}),
            "reflectance": (("latitude", "longitude", "bands"), np.moveaxis(cube, 0, 2)),
        },
        attrs=EMIT_ATTRS,
    )
    scene = open_scene(path)
    assert scene.lookup is None
    assert scene.grid.transform is not None
    assert scene.grid.transform.almost_equals(EMIT_TRANSFORM, 1e-9)


def _on_map(lookup: GeometryLookup, values: NDArray[Any], nodata: float) -> NDArray[Any]:
    return np.where(lookup.rows == NOWHERE, nodata, values[..., lookup.rows, lookup.cols])


def _read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as dataset:
        values: NDArray[Any] = dataset.read()
    return values


def test_every_output_is_the_sensors_result_through_the_table(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    cube = random.uniform(500, 2500, (BANDS, 61, 47)).astype(np.float32)
    cube[:, 10:14, 20:29] = -9999
    emit = open_scene(_write(tmp_path / "e.nc", cube))
    plain = write_raster(tmp_path / "plain.tif", cube, nodata=-9999)
    model: Model = replace(random_model(bands=BANDS, seed=5), bands=emit.bands)
    options: dict[str, Any] = {"tile_size": 16, "device": "cpu", "precision": "float32"}
    done = [
        classify(
            scene,
            model,
            tmp_path / f"{name}-map.tif",
            confidence=tmp_path / f"{name}-confidence.tif",
            disagreement=tmp_path / f"{name}-disagreement.tif",
            probabilities=tmp_path / f"{name}-probabilities.tif",
            **options,
        )
        for name, scene in (("plain", plain), ("emit", emit))
    ]
    assert emit.lookup is not None
    for part, nodata in (("map", 0), ("confidence", 255), ("disagreement", 255), ("probabilities", np.nan)):
        expected = _on_map(emit.lookup, _read(tmp_path / f"plain-{part}.tif"), nodata)
        np.testing.assert_array_equal(_read(tmp_path / f"emit-{part}.tif"), expected, err_msg=part)
    with rasterio.open(tmp_path / "emit-map.tif") as dataset:
        assert (dataset.crs, dataset.transform) == (WGS84, emit.lookup.grid.transform)
    assert sum(done[1].pixels.values()) == emit.lookup.rows.size
    assert done[1].pixels["class 0"] == (_read(tmp_path / "emit-map.tif") == 1).sum()


def test_trained_on_polygons_of_the_map_the_map_lies_where_numpy_says(tmp_path: Path) -> None:
    """Two crops in stripes along the sensor's rows; fields are drawn on the turned map, in degrees."""
    random = np.random.default_rng(0)
    truth = (1 + (np.arange(96) // 16)[:, None] % 2 + np.zeros((96, 60), np.int64)).astype(np.uint8)
    spectra = random.uniform(0.1, 0.4, (3, 8))
    cube = (spectra[truth].transpose(2, 0, 1) + random.normal(0, 0.01, (8, 96, 60))).astype(np.float32)
    path = _write(tmp_path / "EMIT.nc", cube)
    lookup = open_scene(path).lookup
    assert lookup is not None
    fields = []
    for stripe in range(6):
        for across in (8, 26, 44):
            near = (np.abs(lookup.rows - (16 * stripe + 8)) <= 2) & (np.abs(lookup.cols - across - 4) <= 2)
            row, col = (int(part.mean()) for part in np.nonzero(near & (lookup.rows != NOWHERE)))
            fields.append((pixel_box(row - 2, col - 2, 5, 5, EMIT_TRANSFORM), ("maize", "wheat")[stripe % 2]))
    labels = write_polygons(tmp_path / "fields.gpkg", fields, crs="EPSG:4326")
    options = TrainingOptions(epochs=4, window=4, windows_per_class=24, baseline=False, split="none")
    model = train(path, labels, options=options).model
    assert model.classes.names == ("maize", "wheat")
    classify(path, model, tmp_path / "map.tif")
    expected = _on_map(lookup, truth, 0)
    found = _read(tmp_path / "map.tif")[0]
    assert ((found == 0) == (expected == 0)).all()
    assert (found == expected)[expected > 0].mean() > 0.97


def test_what_counts_beside_excluded_polygons_is_as_far_on_the_sensor(tmp_path: Path) -> None:
    """Its pixels lie askew on the map: 17 of the map's were once left out, which are 12 of the sensor's."""
    cube = np.random.default_rng(1).uniform(0.1, 0.4, (BANDS, 80, 90)).astype(np.float32)
    scene = open_scene(_write(tmp_path / "e.nc", cube))
    lookup = scene.lookup
    assert lookup is not None
    model: Model = replace(random_model(bands=BANDS), bands=scene.bands)
    classify(scene, model, tmp_path / "map.tif")
    field = Window(row=60, col=55, height=2, width=3)
    trained = write_polygons(
        tmp_path / "x.gpkg", [(pixel_box(60, 55, 2, 3, EMIT_TRANSFORM), "a")], crs="EPSG:4326"
    )
    apart = np.full(lookup.rows.shape, 99)
    for row, col in zip(lookup.rows[field.slices].ravel(), lookup.cols[field.slices].ravel(), strict=True):
        apart = np.minimum(apart, np.maximum(np.abs(lookup.rows - row), np.abs(lookup.cols - col)))
    near = np.where(lookup.rows == NOWHERE, 0, np.where(apart < 17, 1, 2)).astype(np.uint8)
    truth = write_raster(tmp_path / "near.tif", near[None], transform=EMIT_TRANSFORM, crs=WGS84, nodata=0)
    found = evaluate(tmp_path / "map.tif", truth, exclude=trained)
    counted = dict(zip(found.accuracy.names, found.accuracy.n.tolist(), strict=True))
    assert counted.get(model.classes.names[0], 0) == 0, counted
    assert found.accuracy.total > 500
    told = "map.tif has other pixels than it was classified with: 17 of those are up to 25 of its own."
    assert told in found.notes


def test_a_damaged_table_is_no_traceback(tmp_path: Path) -> None:
    samples, lines = turned_table(HEIGHT, WIDTH)
    variables = emit_variables(np.moveaxis(_cube(), 0, 2), samples, lines)
    path = write_netcdf(tmp_path / "s.nc", variables, attrs=EMIT_ATTRS, chunks={"location/glt_x": samples.shape})
    with h5py.File(path) as file:
        chunk = file["location/glt_x"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    with pytest.raises(SceneError, match=r"damaged or was not copied whole .*: copy it again"):
        open_scene(path)
