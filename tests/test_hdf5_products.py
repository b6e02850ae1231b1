"""PRISMA and NEON: what is read is what numpy finds in the file; files that are not whole are refused."""

import contextlib
import faulthandler
import json
import pickle
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from made_products import (
    HEIGHT,
    NEON,
    NEON_NM,
    PRISMA,
    WIDTH,
    coordinates,
    prisma_values,
    write_neon,
    write_prisma,
)
from numpy.typing import NDArray
from rasterio.transform import xy
from scenes import NORTH_UP, write_two_fields
from test_training import QUICK
from test_xml_products import assert_the_same

from cssd_geo.classification import classify
from cssd_geo.cli import main
from cssd_geo.errors import SceneError
from cssd_geo.formats import hdf5_chunks, hdf5_cubes
from cssd_geo.formats import neon as neon_format
from cssd_geo.formats.hdf5 import Hdf5Source, Part
from cssd_geo.products import open_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Window
from cssd_geo.training import train

WHOLE = Window(row=0, col=0, height=HEIGHT, width=WIDTH)
FIELDS = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
SUN = "HDFEOS/SWATHS/PRS_L2D_HCO/Geometric Fields/Solar_Zenith_Angle"
SITE = "SERC/Reflectance"
Change = Callable[[Any], None]


def everything(scene: Scene) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    return scene.read(WHOLE, np.arange(len(scene.bands)))


# PRISMA


@pytest.fixture
def prisma(tmp_path: Path) -> Path:
    return write_prisma(tmp_path / PRISMA)


def test_prisma_joins_two_cubes_without_what_was_not_acquired(prisma: Path) -> None:
    scene = open_scene(prisma)
    assert scene.sensor == "PRISMA L2D"
    assert scene.bands.wavelength_nm == pytest.approx((977.3, 700.5, 406.9, 2497.1, 943.4))
    assert scene.bands.fwhm_nm == (10.0, 11.0, 13.0, 10.0, 12.0)
    values, valid = everything(scene)
    assert valid.all()
    assert values.dtype == np.uint16
    whole = np.concatenate([prisma_values(4, 0), prisma_values(3, 4)], axis=1).transpose(1, 0, 2)
    np.testing.assert_array_equal(values, whole[[0, 1, 3, 4, 6]])


def test_each_spectrum_belongs_to_its_wavelength(tmp_path: Path) -> None:
    def as_wavelengths(file: Any) -> None:
        for name in ("Vnir", "Swir"):
            file[f"{FIELDS}/{name.upper()}_Cube"][...] = np.rint(file.attrs[f"List_Cw_{name}"])[None, :, None]

    scene = open_scene(write_prisma(tmp_path / PRISMA, as_wavelengths))
    assert scene.bands.wavelength_nm is not None
    values, _ = everything(scene)
    for band, wavelength in enumerate(scene.bands.wavelength_nm):
        assert (values[band] == round(wavelength)).all()
    assert values[scene.bands.nearest(650), 0, 0] == round(700.5)


def test_prisma_in_reflectance(prisma: Path) -> None:
    scene = open_scene(prisma)
    values, _ = everything(scene)
    found = values * scene.scale[:, None, None] + scene.offset[:, None, None]
    vnir = 0 + prisma_values(4, 0) * 1.2 / 65535
    swir = 0.1 + prisma_values(3, 4) * (0.9 - 0.1) / 65535
    np.testing.assert_allclose(found[2], vnir[:, 3], rtol=1e-6)
    np.testing.assert_allclose(found[4], swir[:, 2], rtol=1e-6)


def test_prismas_corners_are_centres_of_pixels(prisma: Path) -> None:
    grid = open_scene(prisma).grid
    assert grid.crs is not None
    assert grid.crs.to_epsg() == 32633
    assert grid.transform is not None
    for row, col in ((0, 0), (HEIGHT - 1, WIDTH - 1), (3, 5)):
        assert xy(grid.transform, row, col) == (352_740 + 30 * col, 5_987_250 - 30 * row)


def test_errors_and_saturation_are_nodata_in_their_band_only(tmp_path: Path) -> None:
    def spoil(file: Any) -> None:
        vnir, swir = (file[f"{FIELDS}/{name}_PIXEL_L2_ERR_MATRIX"] for name in ("VNIR", "SWIR"))
        vnir[1, 0, 2], vnir[2, 2, 3], swir[3, 0, 4], swir[4, 2, 5] = 1, 1, 2, 4
        file[f"{FIELDS}/SWIR_Cube"][3, 0, 4], file[f"{FIELDS}/VNIR_Cube"][5, 1, 6] = 0, 65535
        file[SUN][6, 7] = 0

    scene = open_scene(write_prisma(tmp_path / PRISMA, spoil))
    assert np.argwhere(~everything(scene)[1]).tolist() == [[1, 2], [4, 5], [5, 6], [6, 7]]
    for band, bad in ((0, [[1, 2], [6, 7]]), (3, [[6, 7]]), (4, [[4, 5], [6, 7]])):
        assert np.argwhere(~scene.read(WHOLE, np.array([band]))[1]).tolist() == bad
    assert scene.read(WHOLE, np.array([3]))[0][0, 3, 4] == 0, "negative reflectance was set to 0, which is data"
    np.testing.assert_array_equal(
        scene.cube.valid.compute(), np.fromfunction(lambda r, c: (r != 6) | (c != 7), (9, 14))
    )
    assert_the_same(scene, scene_of_array(scene.cube))


def test_without_angles_a_zero_is_nodata(tmp_path: Path) -> None:
    def spoil(file: Any) -> None:
        del file[SUN]
        file[f"{FIELDS}/VNIR_Cube"][2, 1, 3] = 0
        file[f"{FIELDS}/VNIR_PIXEL_L2_ERR_MATRIX"][4, 3, 6] = 4

    scene = open_scene(write_prisma(tmp_path / PRISMA, spoil))
    assert np.argwhere(~everything(scene)[1]).tolist() == [[2, 3], [4, 6]]
    assert scene.notes[0].endswith("a value of 0 is nodata.")
    assert_the_same(scene, scene_of_array(scene.cube))


def _without(name: str) -> Change:
    def change(file: Any) -> None:
        if name in file.attrs:
            del file.attrs[name]
        else:
            del file[name]

    return change


def _attribute(name: str, value: Any) -> Change:
    def change(file: Any) -> None:
        file.attrs[name] = value

    return change


def _instead(name: str, values: Any) -> Change:
    def change(file: Any) -> None:
        above = name if name in file else name.rpartition("/")[0]
        attributes = dict(file[above].attrs)
        del file[above]
        file[name] = values
        file[name].attrs.update(attributes)

    return change


def _linked(name: str) -> Change:
    def change(file: Any) -> None:
        other = Path(file.filename).with_name("other.h5")
        with h5py.File(other, "w") as another:
            another["data"] = file[name][()]
        del file[name]
        file[name] = h5py.ExternalLink(str(other), "data")

    return change


def _outside(name: str) -> Change:
    def change(file: Any) -> None:
        shape, dtype = file[name].shape, file[name].dtype
        other = Path(file.filename).with_name("other.raw")
        other.write_bytes(bytes(100_000))
        del file[name]
        file.create_dataset(name, shape, dtype, external=[(str(other), 0, h5py.h5f.UNLIMITED)])

    return change


def _narrower(file: Any) -> None:
    for name in (f"{FIELDS}/SWIR_Cube", f"{FIELDS}/SWIR_PIXEL_L2_ERR_MATRIX"):
        _instead(name, file[name][:, :, 1:])(file)


VNIR = f"{FIELDS}/VNIR_Cube"
BROKEN_PRISMA: dict[str, tuple[Change, str]] = {
    "no cube": (_without(VNIR), "has no dataset HDFEOS/.*/VNIR_Cube"),
    "no errors": (_without(f"{FIELDS}/SWIR_PIXEL_L2_ERR_MATRIX"), "has no dataset .*SWIR_PIXEL_L2_ERR_MATRIX"),
    "no swath": (_without("HDFEOS/SWATHS"), "has no dataset HDFEOS/SWATHS"),
    "no wavelengths": (_without("List_Cw_Vnir"), "attribute List_Cw_Vnir of / is missing"),
    "wavelengths are text": (_attribute("List_Cw_Vnir", "red green blue"), "List_Cw_Vnir of / is missing or no"),
    "one wavelength too few": (
        _attribute("List_Cw_Swir", [2400.0, 950.0]),
        "List_Cw_Swir has 2 values for 3 bands",
    ),
    "one too many": (
        _attribute("List_Cw_Swir", [2400.0, 1500, 950, 940]),
        "List_Cw_Swir has 4 values for 3 bands",
    ),
    "not finite": (_attribute("List_Cw_Swir", [2400.0, np.nan, 950.0]), "List_Cw_Swir of / is not finite"),
    "nothing acquired": (_attribute("List_Cw_Swir", [0.0, 0, 0]), "do not say what the bands are"),
    "no widths": (_attribute("List_Fwhm_Swir", [0.0, 0, 0]), "do not say what the bands are"),
    "no scale": (_without("L2ScaleSwirMax"), "attribute L2ScaleSwirMax of / is missing"),
    "scale upside down": (_attribute("L2ScaleVnirMax", -1.0), "L2ScaleVnirMax is -1, not more than"),
    "no corner": (_without("Product_LRcorner_easting"), "Product_LRcorner_easting of / is missing"),
    "corners of pixels": (_attribute("Product_LRcorner_easting", 352_740 + 30.0 * WIDTH), "not fit 14 x 9 pixels"),
    "no CRS": (_without("Epsg_Code"), "attribute Epsg_Code of / is missing"),
    "unknown CRS": (_attribute("Epsg_Code", 1), "Epsg_Code is 1, which is no known CRS"),
    "absurd CRS": (_attribute("Epsg_Code", 1e30), "which is no known CRS"),
    "a cube unlike its errors": (_instead(VNIR, np.ones((3, 4, 5), np.uint16)), "does not fit the cube"),
    "cubes differ": (_narrower, "differ in size"),
    "not whole numbers": (
        _instead(VNIR, np.ones((HEIGHT, 4, WIDTH), np.float32)),
        "no.* whole numbers of 16 bits",
    ),
    "a flat cube": (_instead(VNIR, np.ones((HEIGHT, WIDTH), np.uint16)), "3 dimensions"),
    "an empty cube": (_instead(VNIR, np.ones((HEIGHT, 0, WIDTH), np.uint16)), "none of them 0"),
    "errors of another size": (
        _instead(f"{FIELDS}/VNIR_PIXEL_L2_ERR_MATRIX", np.ones((HEIGHT, 3, WIDTH), np.uint8)),
        "does not fit the cube",
    ),
    "angles of another size": (_instead(SUN, np.ones((2, 2))), "another size than the cubes"),
    "linked from elsewhere": (_linked(VNIR), "lies in another file"),
    "stored elsewhere": (_outside(VNIR), "lies in another file"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN_PRISMA.values(), ids=BROKEN_PRISMA.keys())
def test_prisma_that_is_not_whole(tmp_path: Path, change: Change, message: str) -> None:
    path = write_prisma(tmp_path / PRISMA, change)
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("download it again")


def test_placeholders_after_the_last_band_are_no_bands(tmp_path: Path) -> None:
    longer = write_prisma(tmp_path / PRISMA, _attribute("List_Cw_Swir", [2497.1, 0, 943.4, 0, 0]))
    assert len(open_scene(longer).bands) == 5


def test_prisma_without_a_map_is_refused(prisma: Path) -> None:
    other = prisma.rename(prisma.with_name(PRISMA.replace("L2D", "L2C")))
    with pytest.raises(SceneError, match="is a PRISMA L2C product, which has no map: use the L2D product"):
        open_scene(other)


@pytest.mark.parametrize("name", [PRISMA, NEON])
def test_files_that_are_no_hdf5_or_cut_short(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(SceneError, match="does not exist"):
        open_scene(path)
    whole = (write_prisma if name == PRISMA else write_neon)(path).read_bytes()
    for content in (b"", b"no HDF5", whole[:100], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(SceneError, match=r"cannot be opened as an HDF5 file.*download it again") as caught:
            open_scene(path)
        assert str(path) in str(caught.value)


# NEON


@pytest.fixture
def neon(tmp_path: Path) -> Path:
    return write_neon(tmp_path / NEON)


def test_neon_as_stored(neon: Path) -> None:
    scene = open_scene(neon)
    assert scene.sensor == "NEON AOP reflectance"
    assert scene.bands.wavelength_nm == pytest.approx(NEON_NM, abs=1e-3)
    assert scene.bands.fwhm_nm == pytest.approx(np.linspace(5.5, 6.5, 6))
    values, valid = everything(scene)
    assert valid.all()
    assert values.dtype == np.int16
    np.testing.assert_array_equal(values, coordinates(6))
    assert (scene.scale == 1e-4).all()
    assert (scene.nodata == -9999).all()
    assert_the_same(scene, scene_of_array(scene.cube))


@pytest.mark.parametrize(
    ("factor", "units", "note"),
    [
        (1e-3, "micrometers", None),
        (1e-3, None, "are read as micrometres, unlike the wavelengths"),
        (1e-3, "nanometers", "says nanometers for band widths (FWHM)"),
        (1, "nanometers", None),
    ],
)
def test_neons_widths_in_another_unit_than_its_wavelengths(
    tmp_path: Path, factor: float, units: str | None, note: str | None
) -> None:
    def change(file: Any) -> None:
        del file[f"{SPECTRAL}/FWHM"]
        file[f"{SPECTRAL}/FWHM"] = np.full(6, 5.5 * factor)
        if units is not None:
            file[f"{SPECTRAL}/FWHM"].attrs["Units"] = units

    scene = open_scene(write_neon(tmp_path / NEON, change=change))
    assert scene.bands.fwhm_nm == pytest.approx((5.5,) * 6)
    assert [each for each in scene.notes if note and note in each] or note is None
    assert len(scene.notes) == 1 + (note is not None)


def test_bands_in_the_windows_of_water_vapour_are_bad(tmp_path: Path) -> None:
    scene = open_scene(write_neon(tmp_path / NEON))
    assert np.flatnonzero(~np.array(scene.bands.good)).tolist() == [2, 4]
    assert scene.notes == ("Bands in the water-vapour windows that the product names were marked as bad: 3, 5.",)

    def without(file: Any) -> None:
        for i in (1, 2):
            del file[SITE].attrs[f"Band_Window_{i}_Nanometers"]

    scene = open_scene(write_neon(tmp_path / "another.h5", change=without))
    assert all(scene.bands.good)
    assert scene.notes == ()


def test_neons_map_info_counts_corners_from_one(tmp_path: Path) -> None:
    assert open_scene(write_neon(tmp_path / NEON)).grid.transform == NORTH_UP
    info = "UTM, 3, 2.5, 400060.5, 5799955.25, 30, 30, 33, North, WGS-84, units=Meters, rotation=0.0"
    scene = open_scene(
        write_neon(tmp_path / "b.h5", change=_instead(f"{SITE}/Metadata/Coordinate_System/Map_Info", info))
    )
    assert scene.grid.transform is not None
    assert scene.grid.transform.almost_equals(NORTH_UP)
    assert scene.grid.crs is not None
    assert scene.grid.crs.to_epsg() == 32633
    assert xy(scene.grid.transform, 2, 5) == xy(NORTH_UP, 2, 5)


def test_nodata_holes(tmp_path: Path) -> None:
    cube = coordinates(6)
    cube[3, 2, 5], cube[:, 7, 8] = -9999, -9999
    scene = open_scene(write_neon(tmp_path / NEON, cube))
    assert np.argwhere(~everything(scene)[1]).tolist() == [[2, 5], [7, 8]]
    assert np.argwhere(~scene.read(WHOLE, np.array([0, 5]))[1]).tolist() == [[7, 8]]


SYSTEM = f"{SITE}/Metadata/Coordinate_System"
SPECTRAL = f"{SITE}/Metadata/Spectral_Data"


def _cube_attribute(name: str, value: Any) -> Change:
    return lambda file: file[f"{SITE}/Reflectance_Data"].attrs.update({name: value})


BROKEN_NEON: dict[str, tuple[Change, str]] = {
    "no cube": (_without(f"{SITE}/Reflectance_Data"), "has 0 sites with Reflectance/Reflectance_Data"),
    "nothing": (_without("SERC"), "has 0 sites"),
    "two sites": (lambda file: file.copy("SERC", "BART"), "has 2 sites"),
    "no wavelengths": (_without(f"{SPECTRAL}/Wavelength"), "has no dataset .*Wavelength"),
    "wavelengths are a group": (_instead(f"{SPECTRAL}/Wavelength/deep", 1.0), "has no dataset .*Wavelength"),
    "wavelengths are text": (_instead(f"{SPECTRAL}/Wavelength", "blue"), r"Wavelength has .* for 6 bands"),
    "one wavelength too few": (_instead(f"{SPECTRAL}/Wavelength", np.ones(5)), r"of shape \(5,\) for 6 bands"),
    "negative": (_instead(f"{SPECTRAL}/FWHM", -np.ones(6)), "not positive and finite"),
    "no scale": (lambda f: f[f"{SITE}/Reflectance_Data"].attrs.pop("Scale_Factor"), "Scale_Factor of"),
    "scale of 0": (_cube_attribute("Scale_Factor", 0), "Scale_Factor is 0 and must be more than 0"),
    "no nodata": (lambda f: f[f"{SITE}/Reflectance_Data"].attrs.pop("Data_Ignore_Value"), "Data_Ignore_Value of"),
    "no map": (_without(f"{SYSTEM}/Map_Info"), "has no dataset .*Map_Info"),
    "map of few parts": (_instead(f"{SYSTEM}/Map_Info", "UTM, 1, 1"), "does not say where pixels lie"),
    "map of words": (_instead(f"{SYSTEM}/Map_Info", "UTM, 1, 1, here, there, 1, 1"), "does not say where"),
    "turned": (_instead(f"{SYSTEM}/Map_Info", "UTM, 1, 1, 0, 0, 1, 1, 33, 27.5"), "north at the top"),
    "turned, said so": (_instead(f"{SYSTEM}/Map_Info", "UTM, 1, 1, 0, 0, 1, 1, rotation=-9"), "north at the top"),
    "pixels of no size": (_instead(f"{SYSTEM}/Map_Info", "UTM, 1, 1, 0, 0, 0, 1, 33"), "north at the top"),
    "not finite": (_instead(f"{SYSTEM}/Map_Info", "UTM, 1, 1, nan, 0, 1, 1, 33"), "north at the top"),
    "no CRS": (_without(f"{SYSTEM}/EPSG Code"), "has no dataset .*EPSG Code"),
    "unknown CRS": (_instead(f"{SYSTEM}/EPSG Code", "UTM 33"), "EPSG Code is 'UTM 33', which is no known CRS"),
    "linked from elsewhere": (_linked(f"{SPECTRAL}/Wavelength"), "lies in another file"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN_NEON.values(), ids=BROKEN_NEON.keys())
def test_neon_that_is_not_whole(tmp_path: Path, change: Change, message: str) -> None:
    path = write_neon(tmp_path / NEON, change=change)
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("download it again")


def test_other_hdf5_files_are_no_products(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a/b"] = np.ones((3, 4))
        file["elsewhere"] = h5py.ExternalLink("nowhere.h5", "a")
    assert not neon_format.recognises(str(tmp_path / "other.h5"))
    (tmp_path / "text.h5").write_text("no HDF5")
    assert not neon_format.recognises(str(tmp_path / "text.h5"))
    assert not neon_format.recognises(str(tmp_path))


# Reading windows


AXES = ("byx", "yxb", "ybx")
FILTERS: dict[str, dict[str, Any]] = {
    "deflated": {"compression": "gzip"},
    "shuffled": {"compression": "gzip", "shuffle": True},
    "checked": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "packed otherwise": {"compression": "lzf"},
    "plain": {},
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cube in three orders of axes, whole and in chunks, big-endian too; flags at some values."""
    path = tmp_path_factory.mktemp("stored") / "cubes.h5"
    cube = coordinates(7)
    with h5py.File(path, "w") as file:
        for axes in AXES:
            values = cube.transpose(["byx".index(axis) for axis in axes])
            chunks = tuple({"b": 3, "y": 4, "x": 5}[axis] for axis in axes)
            for kind, filters in FILTERS.items():
                stored = values.astype(">i2") if kind == "shuffled" else values
                file.create_dataset(f"{axes} {kind}", data=stored, chunks=chunks, **filters)
            file[f"{axes} whole"] = values.astype(">i2")
            file[f"{axes} flags"] = (values % 7 == 0).astype(np.uint8) * 2
    return path


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_window_of_any_bands_equals_numpys(stored: Path, data: st.DataObject) -> None:
    axes, other = data.draw(st.sampled_from(AXES)), data.draw(st.sampled_from(AXES))
    kinds = st.sampled_from([*FILTERS, "whole"])
    first = tuple(data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True)))
    parts = [
        Part(
            dataset=f"{axes} {data.draw(kinds)}",
            axes=axes,
            bands=first,
            flags=f"{axes} flags",
            bad_flags=3,
            fill=-1,
        ),
        Part(dataset=f"{other} {data.draw(kinds)}", axes=other, bands=(5, 0, 2)),
    ]
    whole = np.concatenate(
        [np.where(coordinates(7) % 7 == 0, -1, coordinates(7))[list(first)], coordinates(7)[[5, 0, 2]]]
    )
    row, col = data.draw(st.integers(0, HEIGHT - 1)), data.draw(st.integers(0, WIDTH - 1))
    height, width = data.draw(st.integers(1, HEIGHT - row)), data.draw(st.integers(1, WIDTH - col))
    bands = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=5)), np.intp)
    window = Window(row=row, col=col, height=height, width=width)
    source = Hdf5Source(str(stored), parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5_cubes, "_PIECE_BYTES", data.draw(st.sampled_from([2, 100, 1 << 20])))
        patch.setattr(hdf5_chunks, "WORTH_A_THREAD", data.draw(st.sampled_from([0, 1 << 20])))
        patch.setattr(hdf5_cubes, "decoders", lambda _: 3)
        out = np.zeros((len(bands), height, width), source.dtype)
        source.read(window, bands, out)
    np.testing.assert_array_equal(out, whole[bands][:, *window.slices])


@pytest.mark.parametrize("kind", ["deflated", "shuffled"])
def test_a_chunk_that_is_decoded_here_has_the_values_that_hdf5_gives(
    stored: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that failed, HDF5 would stand in, and nobody notice."""
    monkeypatch.setattr(hdf5_chunks, "WORTH_A_THREAD", 0)
    with h5py.File(stored) as file:
        for axes in AXES:
            dataset = file[f"{axes} {kind}"]
            decoder = hdf5_chunks.ChunkDecoder.of(dataset)
            assert decoder is not None
            _, chunk = dataset.id.read_direct_chunk((0, 0, 0))
            inside = tuple(slice(length) for length in dataset.chunks)
            np.testing.assert_array_equal(decoder.decode(chunk), dataset[inside])


def test_threads_share_a_source_and_processes_get_their_own(neon: Path) -> None:
    scene = open_scene(neon)
    windows = [Window(row=r, col=c, height=3, width=4) for r in range(6) for c in range(10)] * 4
    with ThreadPoolExecutor(8) as pool:
        for window, (values, _) in zip(
            windows, pool.map(lambda w: scene.read(w, np.arange(6)), windows), strict=True
        ):
            np.testing.assert_array_equal(values, coordinates(6)[:, *window.slices])
    again = pickle.loads(pickle.dumps(scene.source))  # noqa: S301 - our own
    out = np.zeros((6, HEIGHT, WIDTH), np.int16)
    again.read(WHOLE, np.arange(6), out)
    np.testing.assert_array_equal(out, coordinates(6))


def test_the_source_says_how_it_is_stored(neon: Path, tmp_path: Path) -> None:
    source = open_scene(neon).source
    assert (source.blocks.height, source.blocks.width, source.blocks.divisible) == (4, 5, False)
    assert source.bands_last
    raw = open_scene(write_prisma(tmp_path / PRISMA)).source
    assert (raw.blocks.height, raw.blocks.width, raw.blocks.divisible) == (1, WIDTH, True)
    assert not raw.bands_last
    assert raw.decoding_bytes > 0


@pytest.fixture(params=["by HDF5", "here"])
def decoded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are decoded by HDF5, as small ones are, and here."""
    monkeypatch.setattr(hdf5_chunks, "WORTH_A_THREAD", 0 if request.param == "here" else 1 << 30)


@pytest.mark.usefixtures("decoded")
@pytest.mark.parametrize("damage", ["zeros", "cut off", "another checksum", "more than a chunk"])
def test_damage_found_while_reading_names_the_place(neon: Path, damage: str) -> None:
    with h5py.File(neon, "r+") as file:
        chunks = file[f"{SITE}/Reflectance_Data"].id
        _, stored = chunks.read_direct_chunk((4, 0, 0))
        inflated = zlib.decompress(stored)
        spoilt = {
            "zeros": bytes(len(stored)),
            "cut off": stored[: len(stored) // 2],
            "another checksum": stored[:-1] + bytes([stored[-1] ^ 1]),
            "more than a chunk": zlib.compress(inflated + bytes(10_000)),
        }
        chunks.write_direct_chunk((4, 0, 0), spoilt[damage])
    scene = open_scene(neon)
    if damage == "more than a chunk":  # the rest of which HDF5 leaves out
        np.testing.assert_array_equal(everything(scene)[0], coordinates(6))
        return
    with pytest.raises(SceneError, match=r"Reflectance_Data, cannot be read at row \d, column 0 \(.* pixels\)"):
        everything(scene)


@pytest.mark.usefixtures("decoded")
def test_chunks_may_be_missing_or_stored_without_a_filter(neon: Path) -> None:
    with h5py.File(neon, "r+") as file:
        cubes = file[SITE]
        whole = cubes["Reflectance_Data"]
        sparse = cubes.create_dataset(
            "Sparse", whole.shape, whole.dtype, chunks=whole.chunks, compression="gzip", fillvalue=7
        )
        plain = np.full(whole.chunks, 5, np.int16)
        sparse.id.write_direct_chunk((0, 5, 3), plain.tobytes(), filter_mask=1)
        sparse[4:8, 0:5, 0:3] = whole[4:8, 0:5, 0:3]
    expected = np.full((6, HEIGHT, WIDTH), 7)
    expected[3:, :4, 5:10] = 5
    expected[:3, 4:8, :5] = coordinates(6)[:3, 4:8, :5]
    source = Hdf5Source(str(neon), [Part(dataset=f"{SITE}/Sparse", axes="yxb", bands=tuple(range(6)))])
    out = np.zeros((6, HEIGHT, WIDTH), np.int16)
    source.read(WHOLE, np.arange(6), out)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.usefixtures("decoded")
def test_numbers_of_fewer_bits_than_their_bytes_have_are_read_as_they_are(neon: Path) -> None:
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_chunk((4, 5, 3))
    layout.set_deflate(4)
    cube = (coordinates(6) % 2000 - 1000).astype(np.int16)
    with h5py.File(neon, "r+") as file:
        space = h5py.h5s.create_simple((HEIGHT, WIDTH, 6))
        h5py.Dataset(h5py.h5d.create(file.id, b"packed", kind, space, layout))[...] = cube.transpose(1, 2, 0)
    out = np.zeros((6, HEIGHT, WIDTH), np.int16)
    Hdf5Source(str(neon), [Part(dataset="packed", axes="yxb", bands=tuple(range(6)))]).read(
        WHOLE, np.arange(6), out
    )
    np.testing.assert_array_equal(out, cube)


@pytest.mark.usefixtures("decoded")
def test_flags_may_lie_in_other_chunks(neon: Path) -> None:
    with h5py.File(neon, "r+") as file:
        flags = (coordinates(6) % 5 == 0).astype(np.uint8).transpose(1, 2, 0)
        file.create_dataset("flags", data=flags, chunks=(HEIGHT, WIDTH, 2), compression="gzip")
    part = Part(
        dataset=f"{SITE}/Reflectance_Data", axes="yxb", bands=tuple(range(6)), flags="flags", bad_flags=1, fill=-1
    )
    out = np.zeros((6, HEIGHT, WIDTH), np.int16)
    Hdf5Source(str(neon), [part]).read(WHOLE, np.arange(6), out)
    np.testing.assert_array_equal(out, np.where(coordinates(6) % 5 == 0, -1, coordinates(6)))


def test_a_relative_path_stays_the_same_file(neon: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(neon.parent)
    source = open_scene(neon.name).source
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    out = np.zeros((6, HEIGHT, WIDTH), np.int16)
    pickle.loads(pickle.dumps(source)).read(WHOLE, np.arange(6), out)  # noqa: S301 - our own
    np.testing.assert_array_equal(out, coordinates(6))


def test_as_many_threads_decode_as_chunks_are_worth(neon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def threads(chunks: tuple[int, int, int], **filters: Any) -> int:
        with h5py.File(neon, "r+") as file:
            file.create_dataset("new", (200, 200, 200), np.float32, chunks=chunks, **filters)
            found = hdf5_cubes.StoredCube(file["new"], "yxb").decoders
            del file["new"]
        return found

    monkeypatch.setattr("cssd_geo.scenes.sources.processors", lambda: 6)
    assert threads((50, 50, 50), compression="gzip") == 6
    assert threads((200, 200, 200), compression="gzip", shuffle=True) == 5, "160 MB of 32 MB each"
    assert threads((5, 50, 50), compression="gzip") == 1
    assert threads((50, 50, 50), compression="lzf") == threads((50, 50, 50)) == 1


@settings(max_examples=100, deadline=None)
@given(random=st.randoms(use_true_random=True), name=st.sampled_from([PRISMA, NEON]))
def test_no_damage_is_a_crash(
    whole_files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, *, random: Random, name: str
) -> None:
    content = bytearray(whole_files[name])
    for _ in range(random.randint(1, 6)):
        content[random.randrange(len(content))] = random.randrange(256)
    path = tmp_path_factory.getbasetemp() / name
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    faulthandler.dump_traceback_later(60, exit=True, file=2)  # libhdf5 2.0 does not return from some
    try:
        with contextlib.suppress(SceneError):
            everything(open_scene(path))
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return {path.name: path.read_bytes() for path in (write_prisma(folder / PRISMA), write_neon(folder / NEON))}


# From one end to the other


def test_neon_is_trained_on_and_mapped(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        cube = dataset.read(list(range(1, len(NEON_NM) + 1)))
    path = write_neon(tmp_path / NEON, cube, chunks=(16, 11, 4))
    trained = train(path, made.labels, options=replace(QUICK, split="none", epochs=2))
    assert np.flatnonzero(~np.array(trained.model.bands.good)).tolist() == [2, 4]
    maps = []
    for tile_size in (None, 23):
        classify(
            path, trained.model, tmp_path / "map.tif", tile_size=tile_size, overwrite=True, precision="float32"
        )
        with rasterio.open(tmp_path / "map.tif") as dataset:
            maps.append(dataset.read(1))
            assert dataset.transform == NORTH_UP
    np.testing.assert_array_equal(*maps)
    assert ((maps[0] == 0) == (made.truth == 0)).all()
    assert (maps[0] == made.truth)[made.truth > 0].mean() > 0.9
    lazy = classify(open_scene(path).cube, trained.model, precision="float32").compute()
    np.testing.assert_array_equal(lazy, maps[0])


def test_info_of_hdf5(neon: Path, tmp_path: Path) -> None:
    for path, bad in ((neon, [3, 5]), (write_prisma(tmp_path / PRISMA), [])):
        result = CliRunner().invoke(main, ["info", str(path), "--json"])
        assert result.exit_code == 0, result.output
        facts = json.loads(result.stdout)
        assert facts["place"]["crs"] == "EPSG:32633"
        assert facts["bands"]["bad"] == bad
