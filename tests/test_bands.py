"""Bands: units by magnitude, and the conventions of headers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import coordinate_cube, write_raster

from cssd_geo.bands import Bands
from cssd_geo.errors import InputError
from cssd_geo.headers.band_tags import read_bands, read_scale
from cssd_geo.headers.wavelengths import resolve_wavelengths
from cssd_geo.products import open_scene

optical_nm = st.lists(st.integers(350_000, 2_500_000).map(lambda v: v / 1000), min_size=1, max_size=9)


def _bands(*wavelength_nm: float, good: tuple[bool, ...] | None = None) -> Bands:
    return Bands(good=good or (True,) * len(wavelength_nm), wavelength_nm=wavelength_nm or None)


@given(wavelengths=optical_nm, units=st.sampled_from(["", "Nanometers", "Micrometers", "Unknown", "um", "nm"]))
def test_the_magnitude_tells_nanometres_from_micrometres_whatever_the_header_says(
    wavelengths: list[float], units: str
) -> None:
    for factor in (1, 1e-3, 1e-9):
        found = resolve_wavelengths([factor * v for v in wavelengths], None, units).wavelength_nm
        assert found == pytest.approx(wavelengths, abs=1e-6)


@pytest.mark.parametrize("units", ["Angstroms", "Ångström", "ångströms", "Å", "Angstroem"])
def test_angstroms_are_the_one_unit_that_only_the_header_tells(units: str) -> None:
    found = resolve_wavelengths([5000.0, 6000.0], [50.0, 60.0], units)
    assert (found.wavelength_nm, found.fwhm_nm, found.notes) == ((500.0, 600.0), (5.0, 6.0), ())


@pytest.mark.parametrize("units", ["Index", "GHz", "MHz", "Wavenumber"])
def test_what_is_no_length_is_no_wavelength(units: str) -> None:
    assert resolve_wavelengths([1.0, 2.0], None, units).wavelength_nm is None


@pytest.mark.parametrize("values", [[0.0, 1.0], [-1.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_unusable_wavelengths_are_unknown(values: list[float]) -> None:
    assert resolve_wavelengths(values, None, "").wavelength_nm is None
    assert resolve_wavelengths([500.0] * len(values), values, "nm").fwhm_nm is None


@pytest.mark.parametrize(
    ("widths", "unit", "notes"),
    [
        ([0.01, 0.02], "", ()),
        ([0.01, 0.02], "um", ()),
        ([10.0, 20.0], "nm", ()),
        ([1e-8, 2e-8], "m", ()),
        (
            [10.0, 20.0],
            "",
            ("The band widths (FWHM) from 10 to 20 are read as nanometres, unlike the wavelengths.",),
        ),
        ([10.0, 20.0], "um", ("The file says um for band widths (FWHM) from 10 to 20: read as nanometres.",)),
    ],
)
def test_widths_have_their_own_unit_or_that_of_the_wavelengths_beside_them(
    widths: list[float], unit: str, notes: tuple[str, ...]
) -> None:
    found = resolve_wavelengths([0.46, 2.4], widths, "um", width_units=unit)
    assert found.fwhm_nm == pytest.approx((10.0, 20.0))
    assert found.notes == notes


ENVI = {"wavelength": "{0.46, 0.4715}", "fwhm": "{0.0052, 0.0061}", "wavelength_units": "Micrometers"}
IMAGERY = [
    {"CENTRAL_WAVELENGTH_UM": "0.5", "FWHM_UM": "0.01"},
    {"CENTRAL_WAVELENGTH_UM": "0.6", "FWHM_UM": "0.02"},
]
BAND = [{"wavelength": "700", "wavelength_units": "Nanometers"}, {"wavelength": "800"}]
NOTHING: list[dict[str, str]] = [{}, {}]


def test_conventions_are_read_in_their_order() -> None:
    envi = read_bands(ENVI, IMAGERY, BAND).bands
    assert (envi.wavelength_nm, envi.fwhm_nm) == ((460.0, 471.5), (5.2, 6.1))
    imagery = read_bands({}, IMAGERY, BAND).bands
    assert (imagery.wavelength_nm, imagery.fwhm_nm) == ((500.0, 600.0), (10.0, 20.0))
    tags = read_bands({}, NOTHING, BAND).bands
    assert (tags.wavelength_nm, tags.fwhm_nm) == ((700.0, 800.0), None)
    assert read_bands({}, NOTHING, NOTHING).bands == Bands(good=(True, True))


def test_a_convention_that_speaks_for_some_bands_only_does_not_speak() -> None:
    assert read_bands({"wavelength": "{0.46}"}, [IMAGERY[0], {}], BAND).bands.wavelength_nm == (700.0, 800.0)
    assert read_bands({"wavelength": "{0.46, x}"}, NOTHING, NOTHING).bands.wavelength_nm is None
    assert read_bands(ENVI | {"fwhm": "{0.0052}"}, NOTHING, NOTHING).bands.fwhm_nm is None
    assert read_bands({"bbl": "{1}"}, NOTHING, NOTHING).bands.good == (True, True)


def test_infinite_wavelengths_are_unknown_instead_of_an_error() -> None:
    tags = [{"CENTRAL_WAVELENGTH_UM": "inf"}, {"CENTRAL_WAVELENGTH_UM": "inf"}]
    assert read_bands({}, tags, NOTHING).bands.wavelength_nm is None


def test_a_unit_that_is_no_length_is_not_overruled_by_another_convention() -> None:
    envi = ENVI | {"wavelength": "{1, 2}", "wavelength_units": "Index"}
    assert read_bands(envi, NOTHING, [{"wavelength": "1"}, {"wavelength": "2"}]).bands.wavelength_nm is None


def test_bad_bands_are_those_that_the_header_multiplies_by_zero() -> None:
    assert read_bands(ENVI | {"bbl": "{ 1, 0 }"}, NOTHING, NOTHING).bands.good == (True, False)


def test_a_comma_after_the_last_number_is_no_number_more() -> None:
    found = read_bands(ENVI | {"wavelength": "{0.46, 0.4715,}", "bbl": "{1, 0, }"}, NOTHING, NOTHING)
    assert found.bands == read_bands(ENVI | {"bbl": "{1, 0}"}, NOTHING, NOTHING).bands
    assert found.notes == ()


def test_a_list_with_a_gap_is_used_by_no_convention() -> None:
    found = read_bands({"wavelength": "{700,, 800}"}, NOTHING, BAND)
    assert found.bands.wavelength_nm is None
    assert "list wavelength does not hold one number" in found.notes[0]


def test_lists_of_the_dataset_say_what_headers_and_bands_do_not() -> None:
    assert read_bands({}, NOTHING, BAND, dataset={"bbl": "1,0"}).bands.good == (True, False)
    assert read_bands({"bbl": "{0,1}"}, NOTHING, BAND, dataset={"bbl": "1,0"}).bands.good == (False, True)
    wrong = read_bands({}, NOTHING, BAND, dataset={"bbl": "1,0,1", "wavelength": "700"})
    assert wrong.bands.good == (True, True)
    assert wrong.notes == ("The list bbl does not hold one number for each of 2 bands: it is not used.",)


def test_scales_of_the_file_come_before_the_headers_factor() -> None:
    envi = {"reflectance_scale_factor": "10000"}
    assert read_scale(envi, [1.0, 1.0], [0.0, 0.0]) == [(1e-4, 0.0)] * 2
    assert read_scale(envi, [0.5, 1.0], [0.0, 3.0]) == [(0.5, 0.0), (1.0, 3.0)]
    assert read_scale({}, [1.0], [0.0]) == [(1.0, 0.0)]
    assert read_scale({"reflectance_scale_factor": "0.0001"}, [1.0], [0.0]) == [(1e-4, 0.0)]  # not 10,000
    for useless in ("0", "-1", "many", "nan"):
        assert read_scale({"reflectance_scale_factor": useless}, [1.0], [0.0]) == [(1.0, 0.0)]


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("Nanometers", 1), ("Nanometers", 1e-3), ("Micrometers", 1e-3), ("Micrometers", 1), ("Unknown", 1e-3)],
)
def test_envi_headers_are_read_exactly_where_gdal_rounds_or_believes_the_unit(
    tmp_path: Path, unit: str, factor: float
) -> None:
    path = write_raster(tmp_path / "cube.dat", coordinate_cube(2, 3, 4), driver="ENVI")
    header = path.with_suffix(".hdr")
    lists = f"wavelength = {{{460.1234 * factor}, {2400.5 * factor}}}\nfwhm = {{{5.26 * factor}, {9.81 * factor}}}"
    header.write_text(f"{header.read_text()}\nwavelength units = {unit}\n{lists}\nbbl = {{1, 0}}\n")
    bands = open_scene(path).bands
    assert bands.wavelength_nm == pytest.approx((460.1234, 2400.5), abs=1e-5)
    assert bands.fwhm_nm == pytest.approx((5.26, 9.81), abs=1e-5)
    assert bands.good == (True, False)


@given(wavelengths=optical_nm, seed=st.integers(0, 99))
def test_nearest_is_the_good_band_at_the_smallest_distance(wavelengths: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    good = random.random(len(wavelengths)) < 0.6
    good[0] = True
    bands = _bands(*wavelengths, good=tuple(good.tolist()))
    wanted = float(random.uniform(300, 2600))
    found = bands.nearest(wanted)
    assert good[found]
    assert abs(wavelengths[found] - wanted) == min(
        abs(w - wanted) for w, g in zip(wavelengths, good, strict=True) if g
    )


def test_without_only_ever_takes_bands_away() -> None:
    bands = _bands(1.0, 2.0, 3.0, good=(True, False, True)).without(np.array([True, False, False]))
    assert bands.good == (False, False, True)
    assert bands.good_indexes.tolist() == [2]
    assert bands.wavelength_nm == (1.0, 2.0, 3.0)


@given(wavelengths=optical_nm, known=st.booleans())
def test_json_gives_the_same_bands_back(wavelengths: list[float], *, known: bool) -> None:
    good = tuple(i % 3 > 0 for i in range(len(wavelengths)))
    bands = Bands(good=good, wavelength_nm=tuple(wavelengths) if known else None, fwhm_nm=tuple(wavelengths))
    assert Bands.from_json(json.loads(json.dumps(bands.to_json()))) == bands


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "good"),
        ({"good": [True], "wavelength_nm": None}, "fwhm_nm"),
        ({"good": [True], "wavelength_nm": ["x"], "fwhm_nm": None}, "not a list of bands"),
        ({"good": [], "wavelength_nm": None, "fwhm_nm": None}, "there are none"),
        ({"good": [True], "wavelength_nm": [1.0, 2.0], "fwhm_nm": None}, "2 values of wavelength_nm for 1 bands"),
        ({"good": [True], "wavelength_nm": [-1.0], "fwhm_nm": None}, r"finite, not -1\.0: correct"),
    ],
)
def test_json_that_holds_no_bands_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Bands.from_json(values)


def test_the_summary_counts_good_bands_and_gives_the_range_of_unordered_wavelengths() -> None:
    assert Bands(good=(True, False)).summary() == "2 bands, 1 good, wavelengths unknown"
    bands = Bands(good=(True,) * 3, wavelength_nm=(900.0, 460.0, 2400.0), fwhm_nm=(5.0, 6.0, 9.0))
    assert bands.summary() == "3 bands, 3 good, 460 to 2400 nm, FWHM 6.0 nm (median)"


@pytest.mark.shared_data
def test_every_variant_of_the_same_real_header_gives_the_same_wavelengths(shared_data: Path) -> None:
    original = open_scene(shared_data / "berlin_enmap" / "EnMAP_BerlinUrbanGradient.bsq").bands
    folder = shared_data / "envi_headers" / "derived_from_berlin"
    data = [path for path in sorted(folder.iterdir()) if path.suffix != ".hdr"]
    assert len(data) == 20
    for path in data:
        bands = open_scene(path).bands
        if path.stem == "no_wavelengths":
            assert bands.wavelength_nm is None
        else:
            assert bands.wavelength_nm == pytest.approx(original.wavelength_nm, abs=1e-3), path.name
        assert sum(bands.good) == (166 if path.stem.startswith("bbl") else 177), path.name
