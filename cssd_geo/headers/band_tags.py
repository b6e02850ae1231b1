"""What a raster's tags say of its bands: the conventions in use, read into `Bands` and scales.

Pure: tags in, values out. The first convention that speaks for every band wins:
    ENVI domain      wavelength, fwhm, bbl, reflectance_scale_factor: lists in braces
    IMAGERY domain   CENTRAL_WAVELENGTH_UM, FWHM_UM            GDAL 3.10 and later, any driver
    band tags        wavelength and wavelength_units, fwhm     GDAL's ENVI and Sentinel-2 drivers, EnMAP-Box, FORCE
    dataset's tags   wavelengths, wavelength_nm, bbl: lists    what rioxarray and scripts with rasterio write
    band names       band 12 (551.3 nm)                        GDAL's ENVI driver, ENVI, many others
ENVI comes first because GDAL derives IMAGERY from it, rounded to whole nanometres and trusting the header's unit.
Keys are compared without regard to case, and with _ for spaces.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cssd_geo.bands import Bands
from cssd_geo.headers.band_names import read_names
from cssd_geo.headers.wavelengths import resolve_wavelengths

Tags = Mapping[str, str]

_WAVELENGTH = re.compile(r"(?:cent(?:er|re|ral)_)?wavelengths?(?:_(nm|um))?")
_WIDTH = re.compile(r"(?:fwhms?|full_?width_?half_?max(?:imum)?|bandwidths?)(?:_(nm|um))?")
_FLAG = re.compile("bbl")
_UNIT = re.compile(r"wavelengths?_units?")
_WIDTH_UNIT = re.compile(r"(?:fwhms?|bandwidths?)_units?")
_LISTS = ("wavelength", "wavelengths", "fwhm", "bbl")
_NUMBER_AND_UNIT = re.compile(r"([^a-z\u00b5\u03bc]+)([a-z\u00b5\u03bc]+)", re.IGNORECASE)  # micro sign, mu
_NUMPY_SCALAR = re.compile(r"(?:np|numpy)\.float\d+\(([^)]*)\)")


@dataclass(frozen=True, kw_only=True)
class FoundBands:
    """The bands that tags tell of."""

    bands: Bands
    notes: tuple[str, ...] = ()
    """What was doubtful or left out, for the analyst."""


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """Numbers as one convention gives them, one a band; empty where it does not speak for all."""

    values: list[float]
    widths: list[float]
    units: str
    width_units: str = ""


def read_bands(
    envi: Tags,
    imagery: Sequence[Tags],
    per_band: Sequence[Tags],
    *,
    dataset: Tags | None = None,
    names: Sequence[str | None] = (),
) -> FoundBands:
    """Read wavelengths, widths and good bands.

    Args:
        envi: tags of the dataset's ENVI domain; empty where there is none.
        imagery: one mapping a band, of its IMAGERY domain.
        per_band: one mapping a band, of its default domain.
        dataset: tags of the dataset's default domain.
        names: descriptions of the bands.
    """
    envi, told, count = plain_keys(envi), plain_keys(dataset or {}), len(per_band)
    found = next((each for each in _conventions(envi, imagery, per_band, told, names) if each.values), None)
    notes = (*_wrong_lists(envi, _LISTS, count), *_wrong_lists(told, _LISTS if found is None else ("bbl",), count))
    flags = (
        numbers_of(envi.get("bbl", ""), count)
        or _of_each([plain_keys(tags) for tags in per_band], _FLAG)[0]
        or numbers_of(told.get("bbl", ""), count)
    )
    good = tuple(flag > 0 for flag in flags) if flags else (True,) * count
    if found is None:
        return FoundBands(bands=Bands(good=good), notes=notes)
    known = resolve_wavelengths(found.values, found.widths or None, found.units, width_units=found.width_units)
    bands = Bands(good=good, wavelength_nm=known.wavelength_nm, fwhm_nm=known.fwhm_nm)
    return FoundBands(bands=bands, notes=notes + known.notes)


def read_scale(tags: Tags, scales: Sequence[float], offsets: Sequence[float]) -> list[tuple[float, float]]:
    """Return scale and offset of each band, so that reflectance or radiance = scale * value + offset.

    GDAL does not turn ENVI's `reflectance scale factor` into scales, so it is read here; scales that GDAL
    does report come first. Values are to be divided by it; one below 1 was meant to multiply them.
    """
    if any(s != 1 for s in scales) or any(o != 0 for o in offsets):
        return list(zip(scales, offsets, strict=True))
    factor = numbers_of(plain_keys(tags).get("reflectance_scale_factor", ""), 1)
    scale = factor[0] if factor and factor[0] > 0 else 1.0
    return [(scale if scale < 1 else 1 / scale, 0.0)] * len(scales)


def plain_keys(tags: Tags) -> dict[str, str]:
    """Return tags with keys in lower case and _ for spaces, as ENVI's are written in many ways."""
    return {plain_key(key): value for key, value in tags.items()}


def plain_key(key: str) -> str:
    """Return a key as `plain_keys` does."""
    return key.strip().lower().replace(" ", "_")


def numbers_of(text: str, count: int) -> list[float]:
    """Parse `{1, 2, 3}`, `[1. 2.]` or `1,2`; an empty list where it does not hold `count` finite numbers."""
    values = [_number(part) for part in split_list(text)]
    return values if len(values) == count and all(math.isfinite(v) for v in values) else []


def split_list(text: str) -> list[str]:
    """Take a list apart, in any brackets, with commas or blanks; a comma after the last part is no part more."""
    plain = _NUMPY_SCALAR.sub(r"\1", text).strip().strip("{}[]()").strip().rstrip(",;")
    return re.split(r"\s*[,;]\s*|\s+", plain.strip())


def _conventions(
    envi: Tags, imagery: Sequence[Tags], per_band: Sequence[Tags], dataset: Tags, names: Sequence[str | None]
) -> Iterator[_Listed]:
    yield _of_lists(envi, len(per_band))
    listed = [part for part in envi.get("wavelength", "").strip("{} ").split(",") if part.strip()]
    if len(listed) == len(per_band) > 1:
        return  # not all of them are numbers, and what GDAL derives from them has zeros instead
    yield _of_bands([plain_keys(tags) for tags in imagery])
    yield _of_bands([plain_keys(tags) for tags in per_band])
    yield _of_lists(dataset, len(per_band))
    named = read_names(names) or []
    widths = [width for _, width in named if width is not None]
    widths = widths if len(widths) == len(named) else []
    yield _Listed(values=[value for value, _ in named], widths=widths, units="nm")


def _of_lists(tags: Tags, count: int) -> _Listed:
    """What tags say of all bands at once."""
    values, units = _list_of(tags, _WAVELENGTH, count)
    widths, width_units = _list_of(tags, _WIDTH, count)
    return _listed(tags, values, units, widths, width_units)


def _list_of(tags: Tags, key: re.Pattern[str], count: int) -> tuple[list[float], str]:
    for name, text in tags.items():
        match = key.fullmatch(name)
        values = numbers_of(text, count) if match else []
        if match and values:
            return values, _suffix(match)
    return [], ""


def _of_bands(tags: Sequence[Tags]) -> _Listed:
    """What each band's tags say."""
    values, units = _of_each(tags, _WAVELENGTH)
    widths, width_units = _of_each(tags, _WIDTH)
    return _listed(tags[0], values, units, widths, width_units)


def _listed(tags: Tags, values: list[float], units: str, widths: list[float], width_units: str) -> _Listed:
    """Units that stand with the numbers come before those of tags of their own."""
    return _Listed(
        values=values,
        widths=widths,
        units=units or _text_of(tags, _UNIT),
        width_units=width_units or _text_of(tags, _WIDTH_UNIT),
    )


def _of_each(tags: Sequence[Tags], key: re.Pattern[str]) -> tuple[list[float], str]:
    """The number that each band's tags hold, and its unit; an empty list where one of them holds none."""
    found = [_one_of(each, key) for each in tags]
    values = [value for value, _ in found]
    return (values, found[0][1]) if all(math.isfinite(v) for v in values) else ([], "")


def _one_of(tags: Tags, key: re.Pattern[str]) -> tuple[float, str]:
    for name, text in tags.items():
        if match := key.fullmatch(name):
            parts = _NUMBER_AND_UNIT.fullmatch(text.strip())
            value, unit = (parts[1], parts[2]) if parts else (text, _suffix(match))
            return _number(value), unit
    return math.nan, ""


def _suffix(match: re.Match[str]) -> str:
    """The unit that a key names."""
    return (match.lastindex and match[match.lastindex]) or ""


def _text_of(tags: Tags, key: re.Pattern[str]) -> str:
    return next((text.strip() for name, text in tags.items() if key.fullmatch(name)), "")


def _wrong_lists(tags: Tags, keys: Sequence[str], count: int) -> Iterator[str]:
    """Lists of a header or of a dataset's tags that cannot be used as they are."""
    for key in keys:
        text = tags.get(key, "")
        if text.strip("{} ") and not numbers_of(text, count):
            yield f"The list {key} does not hold one number for each of {count} bands: it is not used."
    factor = tags.get("reflectance_scale_factor", "")
    if factor.strip("{} "):
        number = (numbers_of(factor, 1) or [0.0])[0]
        if not number > 0:
            yield f'The reflectance scale factor "{factor}" is no positive number: it is not used.'
        elif number < 1:
            yield f"The reflectance scale factor {factor} is below 1: values are multiplied by it, not divided."


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
