"""CF stores: every layout gives the scene that was written, with its pixels where the coordinates say."""

import gc
import pickle
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5netcdf
import h5py
import numcodecs  # type: ignore[import-untyped]
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
import zarr
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from scenes import NORTH_UP, ROTATED, UTM, control_points, coordinate_cube, random_model, write_raster
from stores import Variable, write_aviris3, write_netcdf, write_pace_l2

from cssd_geo.budget import Blocks
from cssd_geo.classification import classify
from cssd_geo.errors import SceneError
from cssd_geo.files.fingerprints import fingerprint
from cssd_geo.formats import hdf5_chunks
from cssd_geo.formats.hdf5 import Hdf5Source
from cssd_geo.products import open_scene
from cssd_geo.scenes import array_source
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.cube import with_nodata
from cssd_geo.scenes.lookup import NOWHERE
from cssd_geo.scenes.unreadable import Tolerant
from cssd_geo.tiles import Window

BANDS, HEIGHT, WIDTH = 6, 21, 34
WHOLE = Window(row=0, col=0, height=HEIGHT, width=WIDTH)
EVERY = np.arange(BANDS)
CUBE = coordinate_cube(BANDS, HEIGHT, WIDTH)
NM = (450.0, 550.0, 650.0, 900.0, 880.0, 2200.0)
"""Not ascending, as where two detectors overlap."""
SOUTH_UP = Affine(30.0, 0.0, 400_000.5, 0.0, 30.0, 5_800_000.25)
MAPPING = {"grid_mapping_name": "transverse_mercator", "crs_wkt": UTM.to_wkt()}
DOWN, ACROSS = {"y", "lat", "northing", "row", "line"}, {"x", "lon", "easting", "col", "sample"}


def dataset(
    order: tuple[str, ...] = ("wavelength", "y", "x"),
    *,
    transform: Affine = NORTH_UP,
    mapping: Mapping[str, Any] = MAPPING,
    **attrs: Any,
) -> xr.Dataset:
    """A CF cube named "refl" in xarray, its dimensions named and ordered at will."""
    down, across = (next(d for d in order if d in names) for names in (DOWN, ACROSS))
    band = next(d for d in order if d not in (down, across))
    array = xr.DataArray(CUBE, dims=(band, down, across)).transpose(*order)
    coords = {
        band: ((band,), np.array(NM), {"units": "nm"}),
        down: ((down,), transform.f + transform.e * (np.arange(HEIGHT) + 0.5)),
        across: ((across,), transform.c + transform.a * (np.arange(WIDTH) + 0.5)),
        "crs": ((), 0, dict(mapping)),
    }
    return xr.Dataset({"refl": (order, array.values, {"grid_mapping": "crs"} | attrs)}, coords)


def save(
    data: xr.Dataset,
    path: Path,
    chunks: tuple[int, ...] | None = None,
    zarr_format: Any = 2,
    *,
    zlib: bool = False,
) -> Path:
    if path.suffix == ".zarr":
        encoding: Any = {} if chunks is None else {"refl": {"chunks": chunks}}
        data.to_zarr(path, encoding=encoding, consolidated=False, zarr_format=zarr_format)
    else:
        encoding = {} if chunks is None else {"refl": {"chunksizes": chunks, "zlib": zlib}}
        data.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return path


@pytest.mark.parametrize(
    "order",
    [
        ("wavelength", "y", "x"),
        ("y", "x", "wavelength"),
        ("lat", "wavelength", "lon"),
        ("wavelengths", "easting", "northing"),
        ("x", "y", "wl"),
    ],
    ids="-".join,
)
@pytest.mark.parametrize(
    ("suffix", "chunked", "zlib"),
    [(".nc", False, False), (".nc", True, False), (".nc", True, True), (".zarr", True, False)],
)
def test_any_window_and_bands_are_what_was_written(
    tmp_path: Path,
    order: tuple[str, ...],
    suffix: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    chunked: bool,
    zlib: bool,
) -> None:
    monkeypatch.setattr(hdf5_chunks, "WORTH_A_THREAD", 0)
    sizes = tuple(5 if d in DOWN else 8 if d in ACROSS else 4 for d in order)
    scene = open_scene(save(dataset(order), tmp_path / f"s{suffix}", sizes if chunked else None, zlib=zlib))
    assert isinstance(scene.source, Hdf5Source) is zlib
    assert (scene.grid.height, scene.grid.width, scene.grid.transform) == (HEIGHT, WIDTH, NORTH_UP)
    assert (scene.grid.crs, scene.bands.wavelength_nm) == (UTM, NM)
    assert scene.source.bands_last is order[2].startswith("w")
    whole = Blocks(height=HEIGHT, width=WIDTH, divisible=True)
    assert scene.source.blocks == (Blocks(height=5, width=8) if chunked else whole)
    padded = np.pad(CUBE, [(0, 0), (3, 30), (3, 30)])
    inside = np.pad(np.ones((HEIGHT, WIDTH), np.bool_), [(3, 30), (3, 30)])

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def check(data: st.DataObject) -> None:
        row, col = data.draw(st.integers(-3, HEIGHT - 1)), data.draw(st.integers(-3, WIDTH - 1))
        height, width = data.draw(st.integers(1, 25)), data.draw(st.integers(1, 25))
        bands = np.array(data.draw(st.lists(st.integers(0, BANDS - 1), min_size=1, max_size=8)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(array_source, "_PIECE_BYTES", data.draw(st.sampled_from([300, 4000, 1 << 25])))
            patch.setattr(array_source, "_GAP", data.draw(st.integers(0, 3)))
            values, valid = scene.read(Window(row=row, col=col, height=height, width=width), bands)
        there = slice(row + 3, row + 3 + height), slice(col + 3, col + 3 + width)
        np.testing.assert_array_equal(values, padded[bands][:, *there])
        np.testing.assert_array_equal(valid, inside[there])

    check()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_public_cube_is_lazy_and_makes_the_same_scene(tmp_path: Path, zarr_format: int) -> None:
    order = ("y", "x", "wavelength")
    data = dataset(order, _FillValue=np.int32(3_004_005), scale_factor=0.5, add_offset=-1.0)
    scene = open_scene(save(data, tmp_path / "s.zarr", (8, 9, 2), zarr_format))
    assert scene.cube.chunks is not None
    assert scene.cube.dims == ("band", "y", "x")
    other = scene_of_array(scene.cube)
    for each in (scene, other):
        values, valid = each.read(WHOLE, EVERY)
        np.testing.assert_array_equal(values, CUBE)
        np.testing.assert_array_equal(valid, ~(CUBE == 3_004_005).any(0))
        assert (each.scale.tolist(), each.offset.tolist()) == ([0.5] * BANDS, [-1.0] * BANDS)
        assert (each.grid, each.bands) == (scene.grid, scene.bands)


def test_reading_is_no_business_of_dask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = open_scene(save(dataset(), tmp_path / "s.nc", (2, 8, 8)))
    monkeypatch.setattr("dask.base.compute", None)
    monkeypatch.setattr("dask.array.core.Array.__array__", None)
    np.testing.assert_array_equal(scene.read(WHOLE, EVERY)[0], CUBE)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_scenes_are_read_from_threads_and_in_other_processes(tmp_path: Path, suffix: str) -> None:
    scene = open_scene(save(dataset(("y", "x", "wl")), tmp_path / f"s{suffix}", (4, 4, 3)))
    windows = [Window(row=r, col=c, height=4, width=7) for r in range(0, 17, 2) for c in range(0, 27, 3)]
    with ThreadPoolExecutor(4) as threads:
        for window, (values, _) in zip(windows, threads.map(lambda w: scene.read(w, EVERY), windows), strict=True):
            np.testing.assert_array_equal(values, CUBE[:, *window.slices])
    source = pickle.loads(pickle.dumps(scene.source))  # noqa: S301 - our own
    out = np.empty_like(CUBE)
    source.read(WHOLE, EVERY, out)
    np.testing.assert_array_equal(out, CUBE)


def test_a_file_is_closed_with_its_scene(tmp_path: Path) -> None:
    path = save(dataset(), tmp_path / "s.nc")
    scene = open_scene(path)
    scene.read(WHOLE, EVERY)
    del scene
    gc.collect()
    with h5py.File(path, "r+") as file:  # refused while it is open for reading
        file.attrs["note"] = "closed"


@pytest.mark.parametrize(
    "transform",
    [NORTH_UP, SOUTH_UP, Affine(20.0, 0, 5.0, 0, -40.0, 7.0), Affine(-20.0, 0, 5.0, 0, -40.0, 7.0)],
    ids=["north-up", "south-up", "oblong", "east-left"],
)
@pytest.mark.parametrize("stated", [True, False])
def test_coordinates_are_kept_as_they_run(tmp_path: Path, transform: Affine, *, stated: bool) -> None:
    stated_as = {"GeoTransform": " ".join(map(str, transform.to_gdal()))} if stated else {}
    data = dataset(transform=transform, mapping=MAPPING | stated_as)
    for name in ("lat", "lon"):  # a table of places would be sensor geometry, were there no grid
        data[name] = (("y", "x"), np.zeros((HEIGHT, WIDTH)))
    scene = open_scene(save(data, tmp_path / "s.nc"))
    assert scene.lookup is None
    assert scene.grid.transform is not None
    assert scene.grid.transform.almost_equals(transform, 1e-9)
    assert not scene.notes
    assert scene_of_array(scene.cube).grid.same_as(scene.grid)


def test_coordinates_win_over_a_geotransform_that_contradicts_them(tmp_path: Path) -> None:
    wrong = {"GeoTransform": " ".join(map(str, NORTH_UP.to_gdal()))}
    scene = open_scene(save(dataset(transform=SOUTH_UP, mapping=MAPPING | wrong), tmp_path / "s.nc"))
    assert scene.grid.transform == SOUTH_UP
    assert "contradicts the coordinates" in scene.notes[0]


@pytest.mark.parametrize(("of_crs", "of_axes"), [("m", "km"), ("km", "km"), ("m", "m"), ("m", None)])
def test_coordinates_in_kilometres_are_brought_to_the_unit_of_the_crs(
    tmp_path: Path, of_crs: str, of_axes: str | None
) -> None:
    crs = CRS.from_user_input(f"+proj=utm +zone=33 +datum=WGS84 +units={of_crs}")
    data = dataset(mapping={"crs_wkt": crs.to_wkt()})
    told = {} if of_axes is None else {"units": of_axes}
    for axis in ("y", "x"):
        data[axis] = (axis, data[axis].values / (1000 if of_axes == "km" else 1), told)
    grid = open_scene(save(data, tmp_path / "s.nc")).grid
    expected = open_scene(save(dataset(), tmp_path / "metres.nc")).grid
    assert grid.degrees == pytest.approx(expected.degrees)
    assert grid.crs == crs


@pytest.mark.parametrize("length", [0, 1])
def test_a_single_row_needs_the_size_of_its_pixels(tmp_path: Path, length: int) -> None:
    """Half of them lies north of its centre; without it nothing is known."""
    mapping = [{}, {"GeoTransform": " ".join(map(str, NORTH_UP.to_gdal()))}][length]
    scene = open_scene(save(dataset(mapping=MAPPING | mapping).isel(y=[0]), tmp_path / "s.nc"))
    assert (scene.grid.transform, scene.grid.crs) == [(None, None), (NORTH_UP, UTM)][length]
    np.testing.assert_array_equal(scene.read(replace(WHOLE, height=1), EVERY)[0], CUBE[:, :1])


@pytest.mark.parametrize("named", ["zone", "zone: y x", None])
def test_of_several_grid_mappings_the_one_counts_that_is_named(tmp_path: Path, named: str | None) -> None:
    data = dataset().rename(crs="zone")
    data["time"] = ((), 7.0, {"units": "s"})
    del data.refl.attrs["grid_mapping"]
    if named is not None:
        data["crs"] = ((), 0, {"crs_wkt": CRS.from_epsg(32733).to_wkt()})
        data["refl"].attrs["grid_mapping"] = named
    assert open_scene(save(data, tmp_path / "s.nc")).grid.crs == UTM


def test_coordinates_of_32_bits_take_their_digits_from_the_geotransform(tmp_path: Path) -> None:
    data = dataset(mapping=MAPPING | {"GeoTransform": " ".join(map(str, NORTH_UP.to_gdal()))})
    path = save(data.assign_coords(y=data.y.astype(np.float32), x=data.x.astype(np.float32)), tmp_path / "s.nc")
    scene = open_scene(path)
    assert (scene.grid.transform, scene.notes) == (NORTH_UP, ())


@pytest.mark.parametrize("without", [[], ["x", "y"]])
def test_a_geotransform_alone_can_be_rotated(tmp_path: Path, without: list[str]) -> None:
    rotated = {"GeoTransform": " ".join(map(str, ROTATED.to_gdal()))}
    scene = open_scene(save(dataset(mapping=MAPPING | rotated).drop_vars(without), tmp_path / "s.nc"))
    assert scene.grid.transform is not None
    assert scene.grid.transform.almost_equals(ROTATED, 1e-9)


def test_crs_of_cf_parameters_of_degrees_and_of_rioxarray(tmp_path: Path) -> None:
    parameters = {
        "grid_mapping_name": "lambert_azimuthal_equal_area",
        "latitude_of_projection_origin": 52.0,
        "longitude_of_projection_origin": 10.0,
        "false_easting": 4_321_000.0,
        "false_northing": 3_210_000.0,
        "semi_major_axis": 6378137.0,
        "inverse_flattening": 298.257222101,
    }
    crs = open_scene(save(dataset(mapping=parameters), tmp_path / "laea.nc")).grid.crs
    assert crs is not None
    assert "Lambert_Azimuthal_Equal_Area" in crs.to_wkt()
    for names, west in ((("lat", "lon"), 350.0), (("y", "x"), 180.0)):
        east = Affine(0.25, 0.0, west, 0.0, -0.25, 5.0)
        data = dataset((*names, "wl"), transform=east).drop_vars("crs")
        for name, unit in zip(names, ("degrees_north", "degrees_east"), strict=True):
            data[name].attrs |= {"units": unit} if name in "yx" else {}
        scene = open_scene(save(data, tmp_path / f"degrees-{west}.nc"))
        assert scene.grid.crs == CRS.from_epsg(4326)
        assert scene.grid.transform == Affine.translation(-360, 0) @ east
        assert "names no CRS" in scene.notes[0]
    plain = (
        xr.DataArray(CUBE, dims=("band", "y", "x"), name="cube").rio.write_crs(UTM).rio.write_transform(NORTH_UP)
    )
    plain.to_netcdf(tmp_path / "rio.nc", engine="h5netcdf")
    scene = open_scene(tmp_path / "rio.nc")
    assert (scene.grid.crs, scene.grid.transform, scene.bands.wavelength_nm) == (UTM, NORTH_UP, None)


def test_our_own_cube_comes_back_from_a_file(tmp_path: Path) -> None:
    scene = open_scene(save(dataset(), tmp_path / "s.nc")).without_bands(EVERY == 2)
    cube = scene.cube.assign_coords(good_bands=("band", list(scene.bands.good)))
    cube.to_netcdf(tmp_path / "again.nc", engine="h5netcdf")
    again = open_scene(tmp_path / "again.nc")
    assert (again.bands, again.grid) == (scene.bands, scene.grid)
    np.testing.assert_array_equal(again.read(WHOLE, EVERY)[0], CUBE)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize("place", ["rotated", "points", "nowhere"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Zarr, on metadata of format 3
def test_what_cubes_carry_beside_cf_comes_back_from_a_file(tmp_path: Path, place: str, suffix: str) -> None:
    cut = np.s_[::-1, 2:9, 3:8]
    values = np.random.default_rng(0).integers(0, 6, (3, 11, 9)).astype(np.uint16)
    options: dict[str, Any] = {"transform": None, "crs": None}
    options |= {"gcps": control_points(NORTH_UP, 11, 9), "crs": UTM} if place == "points" else {}
    path = write_raster(tmp_path / "s.tif", values, **{"rotated": {"transform": ROTATED}}.get(place, options))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (1e-4, 2e-4, 3e-4), (0, 0.1, 0)
        dataset.update_tags(ns="ENVI", wavelength="{450, 650, 850}", wavelength_units="nm")
        dataset.write_mask(np.arange(99).reshape(11, 9) % 7 > 0)
    cube = with_nodata(open_scene(path).cube, np.array([1.0, 2.0, np.nan]))[cut]
    scene = scene_of_array(cube)
    for name, saved in (("band", cube), ("nm", cube.swap_dims(band="wavelength_nm"))):
        copy = tmp_path / f"{name}{suffix}"
        saved.to_netcdf(copy, engine="h5netcdf") if suffix == ".nc" else saved.to_zarr(copy)
        again = pickle.loads(pickle.dumps(open_scene(copy)))  # noqa: S301 - our own
        assert (again.bands, again.grid.differences(scene.grid)) == (scene.bands, [])
        whole = Window(row=0, col=0, height=scene.grid.height, width=scene.grid.width)
        (found, valid), (_, expected) = (each.read(whole, np.arange(3)) for each in (again, scene))
        assert 0 < expected.sum() < expected.size
        np.testing.assert_array_equal(valid, expected)
        np.testing.assert_array_equal(found[:, valid], values[cut][:, valid])
        np.testing.assert_array_equal(again.scale, scene.scale)
        np.testing.assert_array_equal(again.offset, scene.offset)
        np.testing.assert_array_equal(scene_of_array(again.cube).read(whole, np.arange(3))[1], expected)


def test_memory_that_lacks_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raster(tmp_path / "s.tif", CUBE)
    with rasterio.open(path, "r+") as made:
        made.write_mask(np.ones(CUBE.shape[1:], np.bool_))
    open_scene(path).cube.to_netcdf(tmp_path / "saved.nc", engine="h5netcdf")
    saved = open_scene(tmp_path / "saved.nc")

    def lacks(_: xr.Variable) -> None:
        raise MemoryError("a test's")

    monkeypatch.setattr(xr.Variable, "to_numpy", lacks)
    for masks in (saved.masks, ()):  # which are read first
        with pytest.raises(MemoryError, match="a test's"):
            replace(saved, masks=masks).read(WHOLE, EVERY)


@pytest.mark.parametrize(("factor", "units"), [(1, "nm"), (1e-3, "um"), (1e-3, "nm"), (1e-9, "m"), (1, None)])
def test_wavelengths_and_widths_by_magnitude(tmp_path: Path, factor: float, units: str | None) -> None:
    told = {} if units is None else {"units": units}
    data = dataset(("y", "x", "bands")).drop_vars("bands")
    data["centres"] = ("bands", np.array(NM) * factor, told | {"standard_name": "radiation_wavelength"})
    data["fwhm"] = ("bands", np.full(BANDS, 6.5) * factor)
    data["bbl"] = ("bands", np.array([1, 1, 0, 1, 1, 0], np.int8))
    bands = open_scene(save(data, tmp_path / "s.nc")).bands
    np.testing.assert_allclose(bands.wavelength_nm or (), NM, rtol=1e-9)
    np.testing.assert_allclose(bands.fwhm_nm or (), 6.5, rtol=1e-9)
    assert bands.good == (True, True, False, True, True, False)


@pytest.mark.parametrize(
    ("factor", "width", "units", "note"),
    [
        (1e-3, 6.5, ("um", "nm"), None),
        (1, 0.0065, ("nm", "um"), None),
        (1e-3, 6.5, ("um", None), "(FWHM) from 6.5 to 6.5 are read as nanometres, unlike the wavelengths"),
        (1, 0.0065, ("nm", "nm"), "says nm for band widths (FWHM) from 0.0065 to 0.0065: read as micrometres"),
        (1, 6.5, (None, None), "gives no unit for wavelengths from 450 to 2200: read as nanometres"),
        (1e-3, 0.0065, ("nm", None), "says nm for wavelengths from 0.45 to 2.2: read as micrometres"),
        (1, np.nan, ("nm", None), "are no widths: they are not used"),
    ],
)
def test_widths_in_another_unit_than_the_wavelengths(
    tmp_path: Path, factor: float, width: float, units: tuple[str | None, str | None], note: str | None
) -> None:
    data = dataset().drop_vars("wavelength")
    told = [{} if unit is None else {"units": unit} for unit in units]
    data["wavelength"] = ("wavelength", np.array(NM) * factor, told[0])
    data["fwhm"] = ("wavelength", np.full(BANDS, width), told[1])
    scene = open_scene(save(data, tmp_path / "s.nc"))
    np.testing.assert_allclose(scene.bands.wavelength_nm or (), NM, rtol=1e-9)
    assert scene.bands.fwhm_nm == (None if np.isnan(width) else pytest.approx((6.5,) * BANDS))
    assert len(scene.notes) == (note is not None)
    assert note is None or note in scene.notes[0]


def test_names_of_variables_tell_their_unit(tmp_path: Path) -> None:
    data = dataset().drop_vars("wavelength")
    data["Wavelength_UM"] = ("wavelength", np.array(NM) / 1000)
    data["FWHM_nm"] = ("wavelength", np.full(BANDS, 6.5))
    scene = open_scene(save(data, tmp_path / "s.nc"))
    assert (scene.bands.wavelength_nm, scene.bands.fwhm_nm) == (NM, (6.5,) * BANDS)
    assert scene.notes == ()


def _with_hole(path: Path, dtype: str, fill: float | None) -> Path:
    """A store of HDF5 or Zarr 3 in which the pixels from row 8 and column 8 on were never written."""
    cube, shape = CUBE % 900, CUBE.shape
    wavelengths = np.array(NM)
    if path.suffix == ".zarr":
        root = zarr.create_group(str(path), zarr_format=3)
        names = ["wavelength", "y", "x"]
        made = root.create_array("c", shape=shape, chunks=(2, 8, 8), dtype=dtype, fill_value=fill or 0,
                                 dimension_names=names)  # fmt: skip
        made[:, :8, :8] = cube[:, :8, :8]
        root.create_array("wavelength", data=wavelengths, dimension_names=names[:1]).attrs["units"] = "nm"
        return path
    with h5py.File(path, "w") as file:
        made = file.create_dataset("c", shape, dtype, chunks=(2, 8, 8), fillvalue=fill)
        made[:, :8, :8] = cube[:, :8, :8]
        for axis, (name, values) in enumerate({"wavelength": wavelengths, "y": None, "x": None}.items()):
            scale = file.create_dataset(name, data=np.arange(shape[axis]) * 1.0 if values is None else values)
            scale.make_scale(name)
            made.dims[axis].attach_scale(scale)
        file["wavelength"].attrs["units"] = "nm"
    return path


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize(
    ("dtype", "fill", "is_hole"),
    [
        ("float32", 9.969209968386869e36, True),
        ("float64", -9999.0, True),
        ("int16", -32767, True),
        ("float32", None, False),  # zeros, which nobody chose
        ("int16", 0, False),
        ("uint8", 255, False),  # of a whole range that all may be data
    ],
)
def test_what_was_never_written_is_no_data_where_a_fill_value_was_chosen(
    tmp_path: Path, suffix: str, dtype: str, fill: float | None, *, is_hole: bool
) -> None:
    scene = open_scene(_with_hole(tmp_path / f"s{suffix}", dtype, fill))
    expected = np.ones((HEIGHT, WIDTH), np.bool_)
    if is_hole:
        expected[:] = False
        expected[:8, :8] = True
    for each in (scene, scene_of_array(scene.cube)):
        np.testing.assert_array_equal(each.read(WHOLE, EVERY)[1], expected)


def test_the_default_fill_of_netcdf_is_no_data_in_classic_files(tmp_path: Path) -> None:
    data = dataset()
    values = CUBE.astype(np.float32)
    values[3, 4, 5] = 9.969209968386869e36
    data["refl"] = (("wavelength", "y", "x"), values)
    data["refl"].encoding["_FillValue"] = None
    data.to_netcdf(tmp_path / "s.nc", engine="scipy")
    assert np.argwhere(~open_scene(tmp_path / "s.nc").read(WHOLE, EVERY)[1]).tolist() == [[4, 5]]


@pytest.mark.parametrize(
    "told",
    [
        {"valid_min": np.int32(1000), "valid_max": np.int32(5_020_000)},
        {"valid_range": np.array([1000, 5_020_000], np.int32)},
        {"valid_range": np.array([1000, 5_020_000], np.int32), "_FillValue": np.int32(-7)},
        {"valid_range": np.array([1000.0, 5_020_000.0])},
        {"valid_range": np.array([1000, 5_020_000], np.int32), "missing_value": np.int32(3_003)},
    ],
)
@pytest.mark.parametrize("dtype", ["int32", "float64"])
def test_values_beyond_the_valid_range_are_no_data(tmp_path: Path, dtype: str, told: dict[str, Any]) -> None:
    data = dataset()
    data["refl"] = (("wavelength", "y", "x"), CUBE.astype(dtype), told)
    scene = open_scene(save(data, tmp_path / "s.nc", (2, 8, 8)))
    bad = (CUBE < 1000) | (CUBE > 5_020_000) | np.isin(CUBE, told.get("missing_value", -1))
    for each in (scene, scene_of_array(scene.cube)):
        values, valid = each.read(WHOLE, EVERY)
        np.testing.assert_array_equal(valid, ~bad.any(axis=0))
        np.testing.assert_array_equal(values[~bad], CUBE[~bad])
    assert scene.notes == (
        "Stored values below 1000 or above 5.02e+06 are no data, as the valid range of refl says.",
    )


@pytest.mark.parametrize("told", [{"valid_max": np.int32(5_020_000)}, {"valid_range": np.array([0, 5_020_000])}])
def test_a_range_of_unsigned_numbers_has_its_nodata_above(tmp_path: Path, told: dict[str, Any]) -> None:
    data = dataset()
    data["refl"] = (("wavelength", "y", "x"), CUBE.astype(np.uint32), told)
    scene = open_scene(save(data, tmp_path / "s.nc"))
    np.testing.assert_array_equal(scene.read(WHOLE, EVERY)[1], (CUBE <= 5_020_000).all(axis=0))
    assert (scene.nodata == 5_020_001).all()


@pytest.mark.parametrize(
    ("told", "note"),
    [
        ({"valid_range": np.array([0.0, 1.0]), "scale_factor": 1e-4}, "may be of scaled values: it is not used"),
        ({"valid_range": np.array([1, 2, 3])}, "is not two numbers: it is not used"),
        ({"valid_min": np.int32(5), "valid_max": np.int32(4)}, "No value is within the valid range of refl"),
        ({"_FillValue": np.array(-9999.5)}, "nodata value -9999.5 cannot occur in int32 data"),
    ],
)
def test_ranges_and_fills_that_cannot_be_meant_are_not_used(
    tmp_path: Path, told: dict[str, Any], note: str
) -> None:
    path = save(dataset(), tmp_path / "s.nc")
    with h5py.File(path, "r+") as file:
        file["refl"].attrs.update(told)
    scene = open_scene(path)
    assert scene.read(WHOLE, EVERY)[1].all()
    assert [each for each in scene.notes if note in each]


def test_two_fill_values_are_both_no_data(tmp_path: Path) -> None:
    fills = {"_FillValue": np.int32(2_003_004), "missing_value": np.int32(1_001_001)}
    data = dataset()
    data["refl"].attrs.update(fills)
    scene = open_scene(save(data, tmp_path / "s.nc"))
    expected = np.ones((HEIGHT, WIDTH), np.bool_)
    expected[3, 4] = expected[1, 1] = False
    for each in (scene, scene_of_array(scene.cube)):
        np.testing.assert_array_equal(each.read(WHOLE, EVERY)[1], expected)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_a_dimension_of_one_time_is_left_out(tmp_path: Path, axis: int) -> None:
    data = dataset()
    data["refl"] = data["refl"].expand_dims("time", axis=axis)
    scene = open_scene(save(data, tmp_path / "s.nc"))
    np.testing.assert_array_equal(scene.read(WHOLE, EVERY)[0], CUBE)


def test_of_several_variables_the_reflectance_is_used(tmp_path: Path) -> None:
    data = dataset()
    data["noise"] = data["refl"] * 0
    with pytest.raises(SceneError, match=r"several variables with wavelengths: refl \(6 wavelength.*noise \("):
        open_scene(save(data, tmp_path / "two.nc"))
    scene = open_scene(save(data.rename(refl="Reflectance"), tmp_path / "named.nc"))
    np.testing.assert_array_equal(scene.read(WHOLE, EVERY)[0], CUBE)
    assert scene.notes == ("Of several variables with wavelengths, Reflectance is used, not noise.",)


def _netcdf(path: Path, variables: dict[str, Variable]) -> Path:
    return write_netcdf(path, variables)


def _small() -> dict[str, Variable]:
    return {"c": (("wl", "y", "x"), np.zeros((2, 3, 4))), "wl": (("wl",), np.array([500.0, 600.0]))}


BROKEN: dict[str, tuple[dict[str, Variable], str]] = {
    "no wavelengths": (
        {"c": (("k", "y", "x"), np.zeros((2, 3, 4)))},
        r"no product .* It holds c \(2 k, 3 y, 4 x\)",
    ),
    "maps only": ({"dem": (("y", "x"), np.zeros((3, 4)))}, r"It holds dem \(3 y, 4 x\)"),
    "nothing": ({}, "It holds no variable"),
    "more cubes than a message lists": (
        _small() | {f"c{i}": (("wl", "y", "x"), np.zeros((2, 3, 4))) for i in range(30)},
        r"several variables with wavelengths: c .*, \.\.\. \(31 in all\)\. Make a file",
    ),
    "another length": (
        {"c": (("k", "y", "x"), np.zeros((2, 3, 4))), "wavelength": (("n",), np.arange(1.0, 6.0))},
        r"Its wavelengths, wavelength \(5 n\), go with none of them",
    ),
    "which is y": (
        {"c": (("a", "b", "wl"), np.zeros((3, 4, 2))), "wl": (("wl",), np.array([500.0, 600.0]))},
        r"c \(3 a, 4 b, 2 wl\) do not say which is y",
    ),
    "both are y": (
        {"c": (("lat", "y", "wl"), np.zeros((3, 4, 2))), "wl": (("wl",), np.array([500.0, 600.0]))},
        "do not say which is y",
    ),
    "NaN wavelength": (_small() | {"wl": (("wl",), np.array([500.0, np.nan]))}, "wl cannot be used, such as nan"),
    "negative wavelength": (_small() | {"wl": (("wl",), np.array([500.0, -9999.0]))}, "such as -9999.0"),
    "uneven": (
        _small() | {"x": (("x",), np.array([0.0, 1.0, 2.0, 4.0])), "y": (("y",), np.arange(3.0))},
        "not evenly spaced along x",
    ),
    "constant": (
        _small() | {"x": (("x",), np.arange(4.0)), "y": (("y",), np.array([5.0, 5.0, 5.0]))},
        "not evenly spaced along y",
    ),
    "bad CRS": (_small() | {"crs": ((), 0, {"crs_wkt": "PROJCS[nonsense"})}, "no CRS that PROJ knows"),
    "bad mapping": (_small() | {"crs": ((), 0, {"grid_mapping_name": "flat_earth"})}, "no CRS that PROJ knows"),
    "bad GeoTransform": (
        _small() | {"crs": ((), 0, {"GeoTransform": "1 2 three"})},
        "not six numbers but '1 2 three'",
    ),
    "bad fill": (
        _small() | {"c": (("wl", "y", "x"), np.zeros((2, 3, 4)), {"missing_value": np.array([1.0, 2.0])})},
        "missing_value of c",
    ),
    "scale of 0": (
        _small() | {"c": (("wl", "y", "x"), np.zeros((2, 3, 4)), {"scale_factor": 0.0})},
        "scale_factor of c is 0, by which no value can become",
    ),
    "scale of NaN": (
        _small() | {"c": (("wl", "y", "x"), np.zeros((2, 3, 4)), {"scale_factor": np.nan})},
        "scale_factor of c is nan",
    ),
    "offset without end": (
        _small() | {"c": (("wl", "y", "x"), np.zeros((2, 3, 4)), {"add_offset": np.inf})},
        "add_offset of c is inf",
    ),
    "frequencies": (
        _small() | {"wl": (("wl",), np.array([500.0, 600.0]), {"units": "GHz"})},
        "wl cannot be used: they must be positive lengths of 200 to 20,000 nm",
    ),
    "GeoTransform of zeros": (
        _small() | {"crs": ((), 0, {"GeoTransform": "0 0 0 0 0 0"})},
        "GeoTransform '0 0 0 0 0 0' gives pixels no size",
    ),
    "signed": (
        _small() | {"c": (("wl", "y", "x"), np.zeros((2, 3, 4), np.int16), {"_Unsigned": "true"})},
        "_Unsigned",
    ),
    "text": (_small() | {"c": (("wl", "y", "x"), np.full((2, 3, 4), b"a"))}, r"It holds c"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_a_scene_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    variables, message = BROKEN[name]
    with pytest.raises(SceneError, match=message):
        open_scene(write_netcdf(tmp_path / "s.nc", variables))


def test_files_that_are_cut_off_anywhere_are_refused_or_fail_where_they_are_read(tmp_path: Path) -> None:
    data = save(dataset(), tmp_path / "s.nc", (2, 8, 8)).read_bytes()
    refused = 0
    for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.99):
        path = tmp_path / f"{share}.nc"
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(SceneError) as error:
            open_scene(path).read(WHOLE, EVERY)
        refused += "damaged or was not copied whole" in str(error.value)
    assert refused >= 5


def test_rows_that_were_never_written_are_nodata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NetCDF 4 stores of an unlimited dimension only what each variable has of it."""
    monkeypatch.setattr(hdf5_chunks, "WORTH_A_THREAD", 0)
    for rows in (1, 5, HEIGHT):
        path = tmp_path / f"{rows}.nc"
        whole = dataset(("y", "x", "wavelength"), _FillValue=np.int32(-1))
        encoding: Any = {"refl": {"zlib": True, "chunksizes": (4, 8, BANDS)}}
        whole.to_netcdf(path, engine="h5netcdf", unlimited_dims=["y"], encoding=encoding)
        with h5py.File(path, "r+") as file:
            file["refl"].resize(rows, axis=0)
        values, valid = open_scene(path).read(WHOLE, EVERY)
        np.testing.assert_array_equal(values[:, :rows], CUBE[:, :rows])
        assert valid[:rows].all()
        assert not valid[rows:].any()


def test_a_variable_may_have_the_name_of_a_dimension_of_others(tmp_path: Path) -> None:
    """It has another name in HDF5 then."""
    path = tmp_path / "s.nc"
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"y": 3, "x": 5, "wavelength": 2, "refl": 7}
        file.create_variable("wavelength", ("wavelength",), data=np.array([500.0, 600.0]))
        file.create_variable("refl", ("wavelength", "y", "x"), data=np.ones((2, 3, 5), np.int16))
    values, _ = open_scene(path).read(Window(row=0, col=0, height=3, width=5), np.arange(2))
    assert (values == 1).all()


def test_a_damaged_chunk_is_an_error_where_it_lies(tmp_path: Path) -> None:
    noisy = dataset()
    path = tmp_path / "s.nc"
    noisy.to_netcdf(path, engine="h5netcdf", encoding={"refl": {"chunksizes": (2, 8, 8), "zlib": True}})
    with h5py.File(path) as file:
        chunk = file["refl"].id.get_chunk_info(7)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    scene = open_scene(path)
    with pytest.raises(SceneError, match=r"s\.nc cannot be read at bands 1 to 6, rows 1 to 21"):
        scene.read(WHOLE, EVERY)


def test_a_zarr_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(SceneError, match=r"empty\.zarr cannot be opened"):
        open_scene(tmp_path / "empty.zarr")


def test_classic_netcdf_is_read_as_well(tmp_path: Path) -> None:
    dataset().to_netcdf(tmp_path / "s.nc", engine="scipy")
    scene = open_scene(tmp_path / "s.nc")
    assert scene.bands.wavelength_nm == NM
    np.testing.assert_array_equal(scene.read(WHOLE, EVERY)[0], CUBE)
    del scene
    gc.collect()


def test_aviris3(tmp_path: Path) -> None:
    cube = CUBE.astype(np.float32)
    cube[:, 4, 5] = -9999
    path = write_aviris3(tmp_path / "AV3_RFL_ORT.nc", cube, NORTH_UP, UTM, chunks=(2, 10, 16))
    scene = open_scene(path)
    assert (scene.grid.transform, scene.grid.crs, scene.notes) == (NORTH_UP, UTM, ())
    assert (scene.source.blocks, scene.source.bands_last) == (Blocks(height=10, width=16), False)
    np.testing.assert_allclose(scene.bands.fwhm_nm or (), 7.4, rtol=1e-6)
    values, valid = scene.read(WHOLE, EVERY)
    np.testing.assert_array_equal(values, cube)
    assert np.argwhere(~valid).tolist() == [[4, 5]]


def test_pace_level_2_lies_where_its_places_say(tmp_path: Path) -> None:
    row, col = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
    turned = Affine.translation(-75, 38) @ Affine.rotation(12) @ Affine.scale(0.01)
    longitude, latitude = turned @ (col, row)
    rhos = np.moveaxis(CUBE // 200, 0, 2)
    scene = open_scene(write_pace_l2(tmp_path / "PACE_OCI.L2.SFREFL.nc", rhos, longitude, latitude))
    assert scene.sensor == "PACE OCI L2"
    (note,) = scene.notes
    assert note.startswith("Classified in sensor geometry; maps are written in WGS 84")
    assert scene.bands.wavelength_nm == tuple(np.round(np.linspace(346, 2258, BANDS), 6))
    assert (scene.scale[0], scene.offset[0], scene.nodata[0]) == (2e-6, 0.05, -32767)
    np.testing.assert_array_equal(scene.read(WHOLE, EVERY)[0], np.moveaxis(rhos, 2, 0).astype(np.int16))
    assert (scene.grid.transform, scene.grid.crs) == (None, None)
    lookup = scene.lookup
    assert lookup is not None
    shown = lookup.rows != NOWHERE
    assert shown.sum() * np.cos(np.radians(38)) == pytest.approx(HEIGHT * WIDTH, rel=0.1)  # narrow pixels, twice
    assert len(np.unique(lookup.rows[shown] * WIDTH + lookup.cols[shown])) > 0.98 * HEIGHT * WIDTH


def test_pace_level_2_since_version_3_2_has_wavelengths_beside_its_values(tmp_path: Path) -> None:
    swath, nominal = ("number_of_lines", "pixels_per_line"), np.linspace(315, 2258, BANDS + 7)
    values = np.moveaxis(CUBE, 0, 2).astype(np.float32)
    col, row = np.meshgrid(np.arange(WIDTH) / 100, np.arange(HEIGHT) / -100)
    with h5netcdf.File(tmp_path / "PACE_OCI.L2.AOP.V3_2.nc", "w") as file:
        file.dimensions = dict(zip(swath, values.shape[:2], strict=True))
        parameters, measured = file.create_group("sensor_band_parameters"), file.create_group("geophysical_data")
        for group, wavelengths in ((parameters, nominal), (measured, np.array(NM, np.float32))):
            group.dimensions = {"wavelength": len(wavelengths)}
            group.create_variable("wavelength", ("wavelength",), data=wavelengths)
        for name in ("Rrs", "Rrs_unc"):
            measured.create_variable(name, (*swath, "wavelength"), data=values)
        for name, degrees in (("longitude", col), ("latitude", row)):
            file.create_variable(f"/navigation_data/{name}", swath, data=degrees)
    scene = open_scene(tmp_path / "PACE_OCI.L2.AOP.V3_2.nc")
    assert scene.bands.wavelength_nm == NM
    assert "geophysical_data/Rrs is used, not geophysical_data/Rrs_unc" in scene.notes[0]
    np.testing.assert_array_equal(scene.read(WHOLE, EVERY)[0], CUBE)
    assert scene.lookup is not None
    assert scene.map_grid.crs == CRS.from_epsg(4326)


def test_pace_level_3(tmp_path: Path) -> None:
    degrees = Affine(0.05, 0, -180, 0, -0.05, 90)
    data = dataset(("lat", "lon", "wavelength"), transform=degrees).drop_vars("crs").rename(refl="Rrs")
    scene = open_scene(save(data, tmp_path / "PACE_OCI.L3m.nc"))
    assert scene.grid.transform is not None
    assert scene.grid.transform.almost_equals(degrees, 1e-9)
    assert scene.lookup is None


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_maps_of_south_up_stores_lie_where_the_coordinates_say(tmp_path: Path, suffix: str) -> None:
    path = save(dataset(("y", "x", "wl"), transform=SOUTH_UP), tmp_path / f"s{suffix}", (8, 9, 4))
    model = replace(random_model(bands=BANDS), bands=open_scene(path).bands)
    classify(path, model, tmp_path / "map.tif")
    plain = write_raster(tmp_path / "plain.tif", CUBE)
    classify(plain, model, tmp_path / "plain-map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset_, rasterio.open(tmp_path / "plain-map.tif") as expected:
        assert (dataset_.transform, dataset_.crs) == (SOUTH_UP, UTM)
        np.testing.assert_array_equal(dataset_.read(), expected.read())


def test_a_model_names_the_folder_that_it_was_trained_on(tmp_path: Path) -> None:
    path = save(dataset(), tmp_path / "s.zarr", (2, 8, 8))
    before = fingerprint(path)
    assert before == fingerprint(path)
    chunk = next(each for each in sorted((path / "refl").rglob("*")) if each.name == "0.0.0")
    chunk.write_bytes(chunk.read_bytes()[::-1])
    assert fingerprint(path) != before


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_packed_coordinates_are_unpacked(tmp_path: Path, suffix: str) -> None:
    data = dataset(("y", "x", "wavelength"))
    data["fwhm"] = ("wavelength", np.full(BANDS, 6.5))
    data.wavelength.encoding = data.fwhm.encoding = {"dtype": "uint16", "scale_factor": 0.1, "_FillValue": 65535}
    for axis in (data.x, data.y):
        axis.encoding = {"dtype": "int32", "scale_factor": 0.25, "add_offset": 400_000.0, "_FillValue": -1}
    scene = open_scene(save(data, tmp_path / f"s{suffix}"))
    assert scene.bands.wavelength_nm == pytest.approx(NM)
    assert scene.bands.fwhm_nm == pytest.approx((6.5,) * BANDS)
    assert scene.grid.transform is not None
    assert scene.grid.transform.almost_equals(NORTH_UP, 0.2)


def test_packed_places_of_a_swath_are_unpacked(tmp_path: Path) -> None:
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    data = dataset(("line", "sample", "wavelength")).drop_vars(["line", "sample"])
    data = data.assign_coords(
        lat=(("line", "sample"), 52 - rows / 1000), lon=(("line", "sample"), 13 + cols / 1000)
    ).drop_vars("crs")
    for axis in (data.lat, data.lon):
        axis.encoding = {"dtype": "int32", "scale_factor": 1e-6, "_FillValue": -1}
    scene = open_scene(save(data, tmp_path / "s.nc"))
    west, _, _, north = scene.map_grid.degrees or (0, 0, 0, 0)
    assert (west, north) == pytest.approx((13, 52), abs=2e-3)


def test_times_of_rows_are_no_coordinates(tmp_path: Path) -> None:
    order = ("row", "col", "wavelength")
    data = dataset(order)
    northing, easting = data.row.values, data.col.values
    data = data.drop_vars(["row", "col"])
    data["acq_time"] = ("row", 1.6e9 + np.arange(HEIGHT) / 100, {"standard_name": "time"})
    data["north"] = ("row", northing, {"standard_name": "projection_y_coordinate"})
    data["east"] = ("col", easting, {"axis": "X"})
    scene = open_scene(save(data, tmp_path / "s.nc"))
    assert (scene.grid.transform, scene.grid.crs) == (NORTH_UP, UTM)


def test_a_users_block_before_hdf5_is_no_reason_to_leave_it_to_gdal(tmp_path: Path) -> None:
    plain, shifted = save(dataset(("y", "x", "wavelength")), tmp_path / "s.h5"), tmp_path / "t.h5"
    shifted.write_bytes(bytes(512) + plain.read_bytes())
    scene = open_scene(shifted)
    assert (scene.bands.wavelength_nm, scene.grid.transform) == (NM, NORTH_UP)
    np.testing.assert_array_equal(scene.read(WHOLE, EVERY)[0], CUBE)


@pytest.mark.parametrize("order", [("y", "x", "index"), ("index", "y", "x")], ids=["last", "first"])
def test_a_cube_without_wavelengths_wants_its_dimensions_named(tmp_path: Path, order: tuple[str, ...]) -> None:
    data = dataset(order).drop_vars("index")
    with pytest.raises(SceneError, match=r"To use refl \(.*\) without wavelengths, rename its dimensions"):
        open_scene(save(data, tmp_path / "s.nc"))
    scene = open_scene(save(data.rename(index="band"), tmp_path / "t.nc"))
    assert scene.grid.transform == NORTH_UP
    np.testing.assert_array_equal(scene.read(WHOLE, EVERY)[0], CUBE)


def test_bands_last_that_gdal_takes_for_rows_are_refused(tmp_path: Path) -> None:
    path = save(dataset(("y", "x", "wavelength")), tmp_path / "s.nc")
    with pytest.raises(SceneError, match="has its bands last, so that GDAL takes y for the bands"):
        open_scene(f"netcdf:{path}:refl")


def test_gdals_own_netcdf_of_a_variable_a_band_is_refused_with_what_to_do(tmp_path: Path) -> None:
    rasterio.shutil.copy(write_raster(tmp_path / "s.tif", CUBE), tmp_path / "s.nc", driver="netCDF")
    with pytest.raises(SceneError, match=r"a variable for each band: gdal_translate .*s\.nc scene\.tif"):
        open_scene(tmp_path / "s.nc")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_without_names_of_dimensions_are_not_called_damaged(tmp_path: Path, zarr_format: Any) -> None:
    root = zarr.create_group(str(tmp_path / "s.zarr"), zarr_format=zarr_format)
    root.create_array("refl", data=CUBE)
    with pytest.raises(SceneError, match="holds arrays whose dimensions have no names"):
        open_scene(tmp_path / "s.zarr")


@pytest.mark.parametrize("compressor", ["zlib", "gzip"])
def test_a_damaged_chunk_is_an_error_of_its_place_whatever_packed_it(tmp_path: Path, compressor: str) -> None:
    codec, zarr_format = (numcodecs.Zlib(), 2) if compressor == "zlib" else (zarr.codecs.GzipCodec(), 3)
    data, path = dataset(), tmp_path / "s.zarr"
    encoding = {"refl": {"chunks": (BANDS, 7, WIDTH), "compressors": (codec,)}}
    data.to_zarr(path, encoding=encoding, consolidated=False, zarr_format=zarr_format)
    scene = Tolerant(open_scene(path))
    chunk = path / ("refl/0.1.0" if zarr_format == 2 else "refl/c/0/1/0")
    chunk.write_bytes(chunk.read_bytes()[:50])
    values, valid = scene.room(WHOLE, EVERY)
    scene.read_into(values, valid, WHOLE, EVERY)
    expected = np.ones((HEIGHT, WIDTH), np.bool_)
    expected[7:14] = False
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(values[:, valid], CUBE[:, valid])
