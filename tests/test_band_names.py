"""Wavelengths in band names: found in every style in use, and never in indexes, years, dates or class names."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cssd_geo.headers.band_names import read_names

tenths_of_nm = st.lists(st.integers(3_000, 25_000), min_size=1, max_size=12, unique=True)
STYLES: dict[str, Callable[[int, float], str]] = {
    "envi": lambda i, nm: f"band {i} ({nm:.1f} nm)",
    "gdal": lambda _, nm: f"{nm:.6f} Nanometers",
    "gdal, micrometres": lambda _, nm: f"{nm / 1000:.6f} Micrometers",
    "named and gdal": lambda i, nm: f"Band {i} ({nm:.6f} Nanometers)",
    "padded": lambda i, nm: f"b{i:03}_{nm:.1f}nm",
    "micro sign": lambda i, nm: f"B{i}: {nm / 1000:.4f} \N{MICRO SIGN}m",
    "greek letter": lambda i, nm: f"B{i}: {nm / 1000:.4f}\N{GREEK SMALL LETTER MU}m",
    "sensor": lambda i, nm: f"EnMAP L2A SWIR band {i}, {nm:.1f} nanometres",
    "wrong unit": lambda _, nm: f"{nm / 1000:.4f} nm",
    "index and dash": lambda i, nm: f"{i} - {nm:.1f} nm",
    "R": lambda _, nm: f"X{nm:.6f}.Nanometers",
    "underscore": lambda i, nm: f"reflectance_{i}_{nm:.1f}_nm",
    "unit in brackets": lambda i, nm: f"Band {i} {nm:.1f} (nm)",
    "microns": lambda _, nm: f"{nm / 1000:.4f} microns",
}


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=30)
@given(tenths=tenths_of_nm)
def test_numbers_with_a_unit_are_found_in_any_text(style: str, tenths: list[int]) -> None:
    wavelengths = [tenth / 10 for tenth in tenths]
    found = read_names([STYLES[style](i, nm) for i, nm in enumerate(wavelengths, 1)])
    assert found is not None
    assert [value for value, _ in found] == pytest.approx(wavelengths, abs=1e-6)
    assert {width for _, width in found} == {None}


@pytest.mark.parametrize("form", ["{:.1f}", "Band {i}: {:.1f}", "band_{i} ({:.1f})", "Wavelength {:.1f}"])
@given(tenths=tenths_of_nm)
def test_numbers_without_a_unit_are_found_where_nothing_else_is_meant(form: str, tenths: list[int]) -> None:
    wavelengths = [tenth / 10 for tenth in tenths]
    found = read_names([form.format(nm, i=i) for i, nm in enumerate(wavelengths, 1)])
    clear = any(tenth % 10 for tenth in tenths) and not all(1900 <= nm <= 2100 for nm in wavelengths)
    assert (found is not None) is clear
    if found is not None:
        assert [value for value, _ in found] == wavelengths


@given(tenths=tenths_of_nm, width=st.integers(10, 300))
def test_widths_are_found_beside_wavelengths(tenths: list[int], width: int) -> None:
    for form in ("{} nm (FWHM {} nm)", "fwhm={1}nm {0}nm", "{} nm, bandwidth: {}"):
        found = read_names([form.format(tenth / 10, width / 10) for tenth in tenths])
        assert found is not None
        assert [value for value, _ in found] == pytest.approx([tenth / 10 for tenth in tenths])
        assert {each for _, each in found} == {width / 10}
    found = read_names([f"{tenth / 10_000:.5f} um (FWHM {width / 10_000:.5f} um)" for tenth in tenths])
    assert found is not None
    assert [each for _, each in found] == pytest.approx([width / 10] * len(tenths))


days = st.dates(date(1970, 1, 1), date(2099, 12, 31))
start = st.integers(0, 1000)
NO_WAVELENGTHS = {
    "index": start.map(lambda n: [f"Band {n + i}" for i in range(5)]),
    "short index": start.map(lambda n: [f"B{n + i}" for i in range(5)]),
    "index with underscore": start.map(lambda n: [f"band_{n + i}" for i in range(5)]),
    "float index": start.map(lambda n: [f"Band {n + i:.1f}" for i in range(5)]),
    "plain numbers": start.map(lambda n: [str(n + i) for i in range(5)]),
    "one band": start.map(lambda n: [f"Band {n}"]),
    "dates": days.map(lambda day: [(day + timedelta(i)).isoformat() for i in range(5)]),
    "compact dates": days.map(lambda day: [f"{day + timedelta(i):%Y%m%d}" for i in range(5)]),
    "times": days.map(lambda day: [f"{day + timedelta(i):%Y%m%dT%H%M%S.%f}" for i in range(5)]),
    "days of a year": days.map(lambda day: [f"{day + timedelta(i):%Y%j}" for i in range(5)]),
    "dotted dates": days.map(lambda day: [f"{day + timedelta(i):%d.%m.%Y}" for i in range(5)]),
    "years": st.integers(1950, 2050).map(lambda year: [str(year + i) for i in range(5)]),
    "decimal years": st.integers(1950, 2050).map(lambda year: [f"{year + i / 12:.3f}" for i in range(5)]),
    "years and months": st.integers(1950, 2050).map(lambda year: [f"{year}.{i:02}" for i in range(1, 6)]),
    "versions": start.map(lambda n: [f"{1 + n % 9}.{i}" for i in range(5)]),
    "classes": start.map(lambda n: [f"probability of class {n + i}" for i in range(5)]),
    "shares": start.map(lambda n: [f"quantile 0.{n + i}" for i in range(5)]),
    "ranges": start.map(lambda n: [f"{400 + n + 50 * i}-{450 + n + 50 * i} nm" for i in range(5)]),
    "ranges, underscores": start.map(lambda n: [f"{400 + n + 50 * i}-{450 + n + 50 * i}_nm" for i in range(5)]),
    "nautical miles": start.map(lambda n: [f"{100 + n % 195 + i} nm from the coast" for i in range(5)]),
}


@pytest.mark.parametrize("kind", NO_WAVELENGTHS)
@settings(max_examples=30)
@given(data=st.data())
def test_what_is_no_wavelength_is_never_one(kind: str, data: st.DataObject) -> None:
    assert read_names(data.draw(NO_WAVELENGTHS[kind])) is None


@pytest.mark.parametrize(
    "names",
    [
        [],
        [None, None],
        ["551.3 nm", None],
        ["551.3 nm", "mask"],
        ["551.3 nm", "551.3 nm"],
        ["551.3 nm", "30 nm"],
        ["551.3 nm and 600 nm"],
        ["16000 nm"],
        ["0.2 um"],
    ],
)
def test_names_that_do_not_tell_all_bands_apart_tell_nothing(names: list[str | None]) -> None:
    assert read_names(names) is None


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_no_text_is_too_odd(names: list[str]) -> None:
    found = read_names(names)
    assert found is None or all(300 <= value <= 15_000 for value, _ in found)
