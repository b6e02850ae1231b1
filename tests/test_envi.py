"""ENVI in all its forms: every odd real file has an expectation; what a header leaves open is refused."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow
from scenes import coordinate_cube, write_raster

from cssd_geo.errors import LabelError, SceneError
from cssd_geo.evaluation import evaluate
from cssd_geo.label_files import read_labels
from cssd_geo.products import open_scene
from cssd_geo.reference_sample import sample
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.masks import open_valid_mask
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Window

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

PIXEL = 30.0
BERLIN = Affine(PIXEL, 0, 383472.37, 0, -PIXEL, 5818302.35)
EHDR = Affine(60, 0, 440720, 0, -60, 3751320)
CELLS = Affine(2500, 0, -17973801.662435, 0, -2500, 2041811.701239 + 5000)
RIO = Affine(0.003432, 0, -44.84032, 0, -0.003432, -22.932584)
MICROMETRES = "gives no unit for wavelengths from 0.46 to 2.409: read as micrometres"
UNPLACED = "has no georeference"
UNNAMED = "georeference without a coordinate system"


@dataclass(frozen=True, kw_only=True)
class Opens:
    """What must be known of a file that opens."""

    shape: tuple[int, int, int] = (177, 80, 60)
    dtype: str = "int16"
    transform: Affine | None = BERLIN
    epsg: int | None = 32633
    notes: tuple[str, ...] = ()
    """Each is a part of one note, in order; no others."""
    wavelengths: bool = True
    good: int = 177
    valid: int = 4800
    """Pixels."""
    scale: float = 1.0
    sensor: str | None = None


def _gdal(shape: tuple[int, int, int], dtype: str, **facts: Any) -> Opens:
    return Opens(shape=shape, dtype=dtype, wavelengths=False, good=shape[0], valid=shape[1] * shape[2], **facts)


LONGER = ("has 2 bytes, its header promises 1",)
EXPECTED: dict[str, Opens | str] = {
    "derived_from_berlin/bbl_badbands_are_ignorevalue.bsq": Opens(good=166),
    "derived_from_berlin/bigendian.bsq": Opens(),
    "derived_from_berlin/bil.bil": Opens(),
    "derived_from_berlin/bil_bigendian_offset1024_noext": Opens(),
    "derived_from_berlin/bip.bip": Opens(),
    "derived_from_berlin/float32_m9999.bsq": Opens(dtype="float32", valid=4200),
    "derived_from_berlin/float32_nan_nodata.bsq": Opens(dtype="float32", valid=4200),
    "derived_from_berlin/float32_undeclared_nan.bsq": Opens(dtype="float32", valid=4200),
    "derived_from_berlin/geographic_latlon.bsq": Opens(
        transform=Affine(0.0004, 0, 13.3, 0, -0.0003, 52.5), epsg=4326
    ),
    "derived_from_berlin/hdr_appended_dat.dat": Opens(),
    "derived_from_berlin/mapinfo_no_cs.bsq": Opens(),
    "derived_from_berlin/nm_units_scale10000.bsq": Opens(scale=1e-4),
    "derived_from_berlin/no_mapinfo.bsq": Opens(transform=None, epsg=None, notes=(UNPLACED,)),
    "derived_from_berlin/no_units_nm_values.bsq": Opens(
        notes=("gives no unit for wavelengths from 460 to 2409: read as nanometres",)
    ),
    "derived_from_berlin/no_wavelengths.bsq": Opens(wavelengths=False),
    "derived_from_berlin/nodata_corner_and_hole.bsq": Opens(valid=4450),
    "derived_from_berlin/offset512.bsq": Opens(),
    "derived_from_berlin/refpixel_center.bsq": Opens(),
    "derived_from_berlin/rotated30.bsq": Opens(
        transform=Affine.translation(383472.37, 5818302.35) @ Affine.rotation(30) @ Affine.scale(PIXEL, -PIXEL)
    ),
    "derived_from_berlin/units_unknown.bsq": Opens(
        notes=('gives the unit "Unknown" for wavelengths from 0.46 to 2.409: read as micrometres',)
    ),
    "gdal/aea.dat": _gdal((1, 3, 434), "uint8", transform=Affine(28.5, 0, -936408.178, 0, -28.5, 2423902.344),
                          epsg=None, sensor="Landsat TM"),
    "gdal/aea_compressed.dat": _gdal((1, 3, 434), "uint8", epsg=None, sensor="Landsat TM",
                                     transform=Affine(28.5, 0, -936408.178, 0, -28.5, 2423902.344)),
    "gdal/envi_rgbsmall_bil.img": _gdal((3, 49, 50), "uint8", transform=RIO, epsg=4326),
    "gdal/envi_rgbsmall_bip.img": _gdal((3, 49, 50), "uint8", transform=RIO, epsg=4326),
    "gdal/envi_rgbsmall_bsq.img": _gdal((3, 49, 50), "uint8", transform=RIO, epsg=4326),
    "gdal/envirpc.img": _gdal((1, 1, 1), "uint8", transform=None, epsg=None,
                              notes=(*LONGER, "but rational polynomials")),
    "gdal/envistat": _gdal((6, 2, 2), "uint8", transform=None, epsg=None,
                           notes=("has 25 bytes, its header promises 24", UNPLACED)),
    "gdal/envistat.sta": "ENVI statistics file",
    "gdal/rotation.img": _gdal((1, 1, 1), "uint8", epsg=32612, notes=LONGER,
                               transform=Affine.translation(736600.089, 4078126.75) @ Affine.rotation(-66)
                               @ Affine.scale(2.7, -2.7)),
    "gdal/testenviclasses": r"is a class map, no scene \(file type = ENVI Classification\)",
    "gdal/uint16_envi_bigendian.dat": _gdal((1, 20, 20), "uint16", transform=EHDR, epsg=26711),
    "gdal_ehdr/ehdr10.bil": _gdal((1, 2, 321), "float32", transform=CELLS, epsg=None, notes=(UNNAMED,)),
    "gdal_ehdr/ehdr11.flt": _gdal((1, 2, 321), "float32", transform=CELLS, epsg=None, notes=(UNNAMED,)),
    "gdal_ehdr/float32.bil": _gdal((1, 20, 20), "float32", transform=EHDR, epsg=26711),
    "gdal_ehdr/float32.prj": "cut short: its header promises 1,600 bytes, it has 423",
    "gdal_ehdr/int16_rat.bil": _gdal((1, 20, 20), "int16", transform=EHDR, epsg=None, notes=(UNNAMED,)),
    "gdal_ehdr/int16_rat.clr": "not a raster that can be read",
    "gdal_ehdr/truncated.bin": "cut short: its header promises 400 bytes, it has 399: copy it again",
}  # fmt: skip
"""What opens and how, or a part of the reason why not. Every file that is no header."""
HEADERS = {
    "gdal/envistat.hdr": "gdal/envistat",
    "derived_from_berlin/hdr_appended_dat.dat.hdr": "derived_from_berlin/hdr_appended_dat.dat",
    **{
        f"{name.rsplit('.', 1)[0]}.hdr": name
        for name in EXPECTED
        if not name.endswith((".sta", ".prj", ".clr", "_dat.dat")) and name != "gdal/envistat"
    },
}
"""Each header, and the file that opens in its place."""


@pytest.fixture(scope="session")
def folder(shared_data: Path) -> Path:
    return shared_data / "envi_headers"


@pytest.fixture(scope="session")
def berlin(shared_data: Path) -> NDArray[np.int16]:
    """The cube that the variants are made of, read without GDAL: (band, y, x)."""
    stored = gzip.decompress((shared_data / "berlin_enmap" / "EnMAP_BerlinUrbanGradient.bsq").read_bytes())
    return np.frombuffer(stored, "<i2").reshape(177, 80, 60)


@pytest.mark.shared_data
def test_every_file_has_an_expectation(folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {*EXPECTED, *HEADERS}


def _read_all(scene: Scene) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    window = Window(row=0, col=0, height=scene.grid.height, width=scene.grid.width)
    return scene.read(window, scene.bands.good_indexes)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", EXPECTED)
def test_it_opens_as_expected_or_says_why_not(folder: Path, name: str) -> None:
    expected = EXPECTED[name]
    if isinstance(expected, str):
        with pytest.raises(SceneError, match=expected) as caught:
            open_scene(folder / name)
        assert str(folder / name) in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    scene = open_scene(folder / name)
    assert scene.cube.shape == expected.shape
    assert scene.cube.dtype == expected.dtype
    assert (scene.bands.wavelength_nm is not None) is expected.wavelengths
    assert (sum(scene.bands.good), scene.sensor) == (expected.good, expected.sensor)
    np.testing.assert_array_equal(scene.scale, expected.scale)
    assert (scene.grid.crs and scene.grid.crs.to_epsg()) == expected.epsg
    if expected.transform is None:
        assert scene.grid.transform is None
    else:
        assert scene.grid.transform is not None
        np.testing.assert_allclose(scene.grid.transform, expected.transform, rtol=1e-12, atol=1e-9)
    _, valid = _read_all(scene)
    assert valid.sum() == expected.valid
    assert len(scene.notes) == len(expected.notes), scene.notes
    for note, part in zip(scene.notes, expected.notes, strict=True):
        assert part in note


@pytest.mark.shared_data
@pytest.mark.parametrize("name", [name for name, value in EXPECTED.items() if isinstance(value, Opens)])
def test_values_and_mask_are_those_of_gdal_in_any_window_and_travel_with_the_cube(folder: Path, name: str) -> None:
    scene = open_scene(folder / name)
    good = scene.bands.good_indexes
    window = Window(row=-1, col=-2, height=scene.grid.height + 2, width=scene.grid.width + 3)
    values, valid = scene.read(window, good)
    with rasterio.open(folder / name) as dataset:
        stored = dataset.read((good + 1).tolist())
        masks = dataset.read_masks((good + 1).tolist()) > 0
    np.testing.assert_array_equal(values[:, 1:-1, 2:-1], stored)
    np.testing.assert_array_equal(valid[1:-1, 2:-1], (masks & np.isfinite(stored)).all(axis=0))
    assert valid.sum() == valid[1:-1, 2:-1].sum()
    back = scene_of_array(scene.cube)
    assert (back.grid, back.bands) == (scene.grid, scene.bands)
    for ours, theirs in ((scene.nodata, back.nodata), (scene.scale, back.scale), (scene.offset, back.offset)):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", [name for name in EXPECTED if name.startswith("derived")])
def test_every_variant_holds_the_values_of_the_cube_that_it_was_made_of(
    folder: Path, berlin: NDArray[np.int16], name: str
) -> None:
    scene = open_scene(folder / name)
    values, valid = _read_all(scene)
    expected = berlin[scene.bands.good_indexes][:, valid]
    if values.dtype.kind == "f":  # these hold reflectance
        np.testing.assert_allclose(values[:, valid], expected / 10_000, rtol=1e-6)
    else:
        np.testing.assert_array_equal(values[:, valid], expected)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_opens_its_data(folder: Path, name: str) -> None:
    data = HEADERS[name]
    if isinstance(reason := EXPECTED[data], str):
        with pytest.raises(SceneError, match=reason):
            open_scene(folder / name)
        return
    scene = open_scene(folder / name)
    assert scene.path == folder / data
    assert scene.notes[0] == f"{Path(name).name} is a header: {Path(data).name}, its data, was opened."
    assert scene.notes[1:] == open_scene(folder / data).notes


@pytest.mark.shared_data
def test_the_original_compressed_cube_opens_and_nothing_is_written_beside_it(
    shared_data: Path, tmp_path: Path
) -> None:
    for path in (shared_data / "berlin_enmap").glob("EnMAP_BerlinUrbanGradient.[bh]*"):
        if path.suffix in {".bsq", ".hdr"}:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    scene = open_scene(tmp_path / "EnMAP_BerlinUrbanGradient.bsq")
    assert _read_all(scene)[1].all()
    assert scene.bands.fwhm_nm is not None
    assert (scene.bands.fwhm_nm[0], scene.bands.fwhm_nm[-1]) == (5.8, 9.1)
    assert not scene.notes
    del scene
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bsq", ".hdr"]


@pytest.mark.shared_data
def test_real_aviris_ng_opens(shared_data: Path) -> None:
    scene = open_scene(shared_data / "aviris_ng" / "ang20160910t185702_2rdn_img")
    assert scene.cube.shape == (425, 25, 30)
    assert scene.bands.wavelength_nm is not None
    assert scene.bands.wavelength_nm[0] == pytest.approx(376.44)
    assert not scene.notes


# Made files


Changes = dict[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Made:
    """An ENVI file of 3 bands, 4 lines, 5 samples, int16."""

    path: Path
    lines: dict[str, str] = field(default_factory=dict)

    def write(self, data: bytes | None = None, *, changes: Changes | None = None) -> Path:
        """Write data and header; a change to None leaves a line out."""
        new = {key.replace("_", " "): value for key, value in (changes or {}).items()}
        lines: Changes = {**self.lines, **new}
        text = "\n".join(["ENVI", *(f"{key} = {value}" for key, value in lines.items() if value is not None)])
        self.path.with_suffix(".hdr").write_text(f"{text}\n", encoding="utf-8")
        self.path.write_bytes(CUBE.tobytes() if data is None else data)
        return self.path


CUBE = np.arange(1, 61, dtype="<i2").reshape(3, 4, 5)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    text = (
        "samples=5;lines=4;bands=3;header offset=0;file type=ENVI Standard;data type=2;interleave=bsq;byte order=0"
    )
    return Made(path=tmp_path / "made.img", lines=dict(line.split("=") for line in text.split(";")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interleave": None}, "says nothing of interleave: it must be bsq"),
        ({"interleave": "bsqq"}, "says interleave = bsqq"),
        ({"data_type": None}, "says nothing of data type"),
        ({"data_type": "2x"}, "says data type = 2x: it must be a whole number"),
        ({"byte_order": None}, "says nothing of byte order"),
        ({"byte_order": "7"}, r"byte order = 7: it must be 0 \(little-endian\) or 1"),
        ({"samples": "5 or so"}, "samples = 5 or so"),
        ({"samples": "5e0"}, None),
        ({"lines": "4e1"}, "lines = 4e1, and GDAL takes it for 4"),
        ({"header_offset": "nan"}, "header offset = nan"),
        ({"file_type": "ENVI Spectral Library"}, "not a raster that can be read: .* Spectral Libr"),
        ({"file_type": "envi classification"}, "is a class map, no scene"),
        ({"data_type": "1"}, None),  # the file is longer by 60 bytes, which a note says
        ({"lines": "3", "header_offset": None}, "promises 90 bytes; it has 120: correct samples"),
        ({"lines": "5"}, "is cut short: its header promises 150 bytes, it has 120: copy it again"),
        ({"header_offset": "1"}, "promises 121 bytes, it has 120"),
        ({"bands": "1000000000"}, "cannot read|not a raster"),
        ({"samples": "1000000000", "lines": "1000000000"}, "not a raster|cut short"),
        ({"samples": "2147483647", "lines": "2147483647", "bands": "60000"}, "not a raster|cut short"),
    ],
)
def test_a_header_that_leaves_the_data_open_is_refused(made: Made, changes: Changes, message: str | None) -> None:
    path = made.write(changes=changes)
    if message is None:
        open_scene(path)
        return
    with pytest.raises(SceneError, match=message):
        open_scene(path)


def test_data_that_go_on_for_lines_do_not_fit_their_header(made: Made) -> None:
    with pytest.raises(SceneError, match=r"promises 120 bytes; it has 5,120: correct samples, lines"):
        open_scene(made.write(CUBE.tobytes() + bytes(5000)))
    path = made.write(bytes(30_000) + b"\r\n", changes={"lines": "1000"})
    assert "has 30,002 bytes, its header promises 30,000: the rest is left out" in open_scene(path).notes[0]
    wide: Changes = {"samples": "5000", "lines": "2"}
    assert "has 89,999 bytes" in open_scene(made.write(bytes(89_999), changes=wide)).notes[0]
    with pytest.raises(SceneError, match=r"promises 60,000 bytes; it has 90,000"):  # a line more
        open_scene(made.write(bytes(90_000), changes=wide))


@pytest.mark.parametrize("short", [1, 2, 60, 119, 120])
@pytest.mark.parametrize("driver", ["ENVI", "EHdr"])
def test_a_raw_file_cut_short_says_how_much_is_missing(tmp_path: Path, driver: str, short: int) -> None:
    path = write_raster(tmp_path / "raw.bil", CUBE, driver=driver)
    path.write_bytes(path.read_bytes()[: 120 - short])
    with pytest.raises(SceneError, match=rf"promises 120 bytes, it has {120 - short}: copy it again|not a raster"):
        open_scene(path)


def test_bytes_that_an_esri_header_skips_count(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "raw.bil", CUBE, driver="EHdr")
    header = path.with_suffix(".hdr")
    header.write_text(f"{header.read_text()}\nSKIPBYTES 10\n")
    with pytest.raises(SceneError, match="promises 130 bytes, it has 120"):
        open_scene(path)
    path.write_bytes(bytes(10) + path.read_bytes())
    np.testing.assert_array_equal(_read_all(open_scene(path))[0], CUBE)


def test_a_sparse_file_of_full_size_is_whole(made: Made) -> None:
    path = made.write(b"", changes={"bands": "30", "samples": "500"})
    with path.open("r+b") as file:
        file.truncate(30 * 4 * 500 * 2)
    values, valid = _read_all(open_scene(path))
    assert values.shape == (30, 4, 500)
    assert not values.any()
    assert valid.all()


BIG: Changes = {"samples": "500", "lines": "400", "file_compression": "1"}
COMPRESSED = gzip.compress(np.random.default_rng(0).integers(1, 9999, (3, 400, 500)).astype("<i2").tobytes())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data, None),
        (lambda data: data[:-1], "break off after"),
        (lambda data: data[: len(data) // 2], "break off after"),
        (lambda data: data[:500_000] + b"\x00\xff" + data[500_002:], "break off after|is damaged"),
        (lambda data: gzip.compress(gzip.decompress(data)[:-2]), "promises 1,200,000 bytes, it has 1,199,998"),
        (gzip.decompress, "not a raster that can be read"),
    ],
)
def test_compressed_data_are_whole_or_refused(
    made: Made, damage: Callable[[bytes], bytes], message: str | None
) -> None:
    path = made.write(damage(COMPRESSED), changes=BIG)
    if message is None:
        values, _ = _read_all(open_scene(path))
        assert values.tobytes() == gzip.decompress(COMPRESSED)
        return
    with pytest.raises(SceneError, match=message):
        open_scene(path)


@pytest.mark.parametrize(
    ("changes", "note", "nodata"),
    [
        ({"data_ignore_value": "-99"}, None, -99.0),
        ({"data_ignore_value": "32767"}, None, 32767.0),
        ({"data_ignore_value": "-32768"}, None, -32768.0),
        ({"data_ignore_value": "none"}, "data ignore value is no number", np.nan),
        ({"data_ignore_value": "-9_999"}, "data ignore value is no number", np.nan),
        ({"data_ignore_value": "{7}"}, "data ignore value is no number", np.nan),
        ({"data_ignore_value": "65535"}, None, np.nan),  # int16 has no such value
        ({"data_ignore_value": "0.5"}, "nodata value 0.5 cannot occur in int16", 0.5),
        ({"data_ignore_value": "1e400"}, None, np.nan),
    ],
)
def test_an_ignore_value_is_a_number_that_can_occur_or_a_note(
    made: Made, changes: Changes, note: str | None, nodata: float
) -> None:
    scene = open_scene(made.write(changes=changes))
    np.testing.assert_array_equal(scene.nodata, np.full(3, nodata))
    told = [each for each in scene.notes if UNPLACED not in each]
    assert len(told) == (note is not None)
    assert note is None or note in told[0]
    assert _read_all(scene)[1].all()


@pytest.mark.parametrize(
    ("changes", "wavelengths", "widths", "note"),
    [
        ({"wavelength": "{0.5, 0.6, 0.7}", "wavelength_units": "Nanometers"}, [500, 600, 700], None,
         "says Nanometers for wavelengths from 0.5 to 0.7: read as micrometres"),
        ({"wavelength": "{500, 600, 700}", "wavelength_units": "Micrometers", "fwhm": "{5, 6, 7}"},
         [500, 600, 700], [5, 6, 7], "says Micrometers for wavelengths from 500 to 700: read as nanometres"),
        ({"wavelength": "{5000, 6000, 7000}", "wavelength_units": "Angstroms"}, [500, 600, 700], None, None),
        ({"wavelength": "{500, 600, 700}", "wavelength_units": "nm"}, [500, 600, 700], None, None),
        ({"wavelength": "{0.5, 0.6, 0.7}", "wavelength_units": "um", "fwhm": "{5, 6, 7}"},
         [500, 600, 700], [5, 6, 7], "widths (FWHM) from 5 to 7 are read as nanometres"),
        ({"wavelength": "{500, 600, 700}", "wavelength_units": "nm", "fwhm": "{0.005, 0.006, 0.007}"},
         [500, 600, 700], [5, 6, 7], "are read as micrometres, unlike the wavelengths"),
        ({"wavelength": "{1, 2, 3}", "wavelength_units": "Index"}, None, None, "1 to 3 Index are no lengths"),
        ({"wavelength": "{101, 500, 600}"}, None, None, "not those of an optical instrument"),
        ({"wavelength": "{500, 600, 20001}"}, None, None, "not those of an optical instrument"),
        ({"wavelength": "{500, 600}"}, None, None, "list wavelength does not hold one number for each of 3"),
        ({"wavelength": "{500, 600, x}", "wavelength_units": "nm"}, None, None, "list wavelength"),
        ({"wavelength": "{500, 600, 700x}", "wavelength_units": "nm"}, None, None, "list wavelength"),
        ({"wavelength": "{500, 600, 700}", "wavelength_units": "nm", "fwhm": "{5}"}, [500, 600, 700], None,
         "list fwhm does not hold"),
        ({"bbl": "{1, 0}"}, None, None, "list bbl does not hold"),
        ({"reflectance_scale_factor": "-1"}, None, None, 'scale factor "-1" is no positive number'),
        ({"reflectance_scale_factor": "0.0001"}, None, None, "0.0001 is below 1: values are multiplied by it"),
    ],
)  # fmt: skip
def test_doubtful_lists_are_decided_and_reported(
    made: Made,
    changes: Changes,
    wavelengths: list[float] | None,
    widths: list[float] | None,
    note: str | None,
) -> None:
    scene = open_scene(made.write(changes=changes))
    assert scene.bands.wavelength_nm == (None if wavelengths is None else pytest.approx(wavelengths))
    assert scene.bands.fwhm_nm == (None if widths is None else pytest.approx(widths))
    notes = [each for each in scene.notes if UNPLACED not in each]
    assert len(notes) == (note is not None), notes
    assert note is None or note in notes[0]


def test_headers_in_another_encoding_open(made: Made) -> None:
    path = made.write(changes={"wavelength": "{500, 600, 700}", "wavelength_units": "nm"})
    header = path.with_suffix(".hdr")
    header.write_bytes(
        header.read_bytes() + "band names = {Grün, b, c}\ndescription = {Straße}\n".encode("latin-1")
    )
    assert open_scene(path).bands.wavelength_nm == (500, 600, 700)
    header.write_bytes(header.read_bytes() + "map info = {Gauß, 1, 1, 3, 4, 5, 6}\n".encode("latin-1"))
    with pytest.raises(SceneError, match="holds text that is not UTF-8"):
        open_scene(path)


def test_scales_and_offsets_for_each_band_are_gains_and_offsets_of_the_header(made: Made) -> None:
    scene = open_scene(made.write(changes={"data_gain_values": "{1, 2, 3}", "data_offset_values": "{4, 5, 6}"}))
    assert (scene.scale.tolist(), scene.offset.tolist()) == ([1, 2, 3], [4, 5, 6])


def test_a_header_without_its_data_or_with_several_is_refused(tmp_path: Path) -> None:
    cube = coordinate_cube(2, 3, 4)
    header = write_raster(tmp_path / "cube.dat", cube, driver="ENVI").with_suffix(".hdr")
    (tmp_path / "cube.txt").write_text("no data")
    assert open_scene(header).path == tmp_path / "cube.dat"
    (tmp_path / "cube").write_bytes((tmp_path / "cube.dat").read_bytes())
    with pytest.raises(SceneError, match=r"more than one file fits it \(cube, cube.dat\): open the data file"):
        open_scene(header)
    (tmp_path / "cube").unlink()
    (tmp_path / "cube.dat").unlink()
    (tmp_path / "cube.txt").unlink()
    with pytest.raises(SceneError, match=r"no file beside it fits it \(none has its name\)"):
        open_scene(header)
    header.unlink()
    with pytest.raises(SceneError, match="does not exist"):
        open_scene(header)


def test_windows_of_compressed_data_are_those_of_the_whole(made: Made) -> None:
    path = made.write(COMPRESSED, changes=BIG)
    scene, bands = open_scene(path), np.arange(3)
    for row, col in ((399, 0), (0, 499), (200, 100)):
        values, _ = scene.read(Window(row=row, col=col, height=1, width=1), bands)
        with rasterio.open(path) as dataset:
            np.testing.assert_array_equal(values, dataset.read(window=RasterioWindow(col, row, 1, 1)))


def test_a_header_finds_its_data_beside_a_picture_of_its_name(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "cube.img", coordinate_cube(3, 5, 7), driver="ENVI")
    write_raster(tmp_path / "cube.png", np.zeros((1, 5, 7), np.uint8), driver="PNG", crs=None, transform=None)
    assert open_scene(path.with_suffix(".hdr")).path == path


@pytest.mark.parametrize(("pixel", "beside"), [((1, 1), None), ((1.5, 1.5), "0.366"), ((101, 201), "116")])
def test_a_scene_turned_around_another_pixel_than_the_first_is_told(
    tmp_path: Path, pixel: tuple[float, float], beside: str | None
) -> None:
    path = write_raster(tmp_path / "cube.dat", coordinate_cube(3, 5, 7), driver="ENVI")
    header = path.with_suffix(".hdr")
    lines = [line for line in header.read_text().splitlines() if not line.startswith("map info")]
    place = f"map info = {{UTM, {pixel[0]}, {pixel[1]}, 400000, 5000000, 1, 1, 33, North, WGS-84, rotation=30}}"
    header.write_text("\n".join([*lines, place]))
    notes = [note for note in open_scene(path).notes if "turns the scene around its first pixel" in note]
    assert len(notes) == (beside is not None)
    assert beside is None or f"{beside} units beside that" in notes[0]


@pytest.mark.parametrize("kind", ["ENVI Standard", "ENVI Classification\nclasses = 3"])
def test_class_rasters_and_masks_that_are_cut_short_are_refused(tmp_path: Path, kind: str) -> None:
    ids = np.repeat([[1, 2]], 30, axis=1).repeat(40, axis=0).astype(np.uint8)[None]
    whole = write_raster(tmp_path / "whole.tif", ids, nodata=0)
    cut = write_raster(tmp_path / "cut.dat", ids, driver="ENVI")
    cut.write_bytes(cut.read_bytes()[: ids.size // 2])
    header = cut.with_suffix(".hdr")
    header.write_text(header.read_text().replace("ENVI Standard", kind))
    grid = open_scene(whole).grid
    uses: list[Callable[[], object]] = [
        lambda: read_labels(cut, grid),
        lambda: evaluate(cut, whole),
        lambda: evaluate(whole, cut),
        lambda: sample(cut, tmp_path / "points.gpkg"),
        lambda: open_valid_mask(cut, grid),
        lambda: evaluate(whole, whole, exclude=cut),
    ]
    for use in uses:
        with pytest.raises(
            (LabelError, SceneError), match=r"cut\.dat is cut short: its header promises 2,400 bytes"
        ):
            use()
