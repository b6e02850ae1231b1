"""What a raster's tags say of its bands: the conventions of GDAL's drivers, read into `Bands` and scales.

Pure: tags in, values out. The first convention that speaks for every band wins:
    ENVI domain      wavelength, fwhm, bbl, reflectance_scale_factor: lists in braces
    IMAGERY domain   CENTRAL_WAVELENGTH_UM, FWHM_UM            GDAL 3.10 and later, any driver
    band tags        wavelength and wavelength_units           what GDAL's ENVI driver copies to its outputs
ENVI comes first because GDAL derives IMAGERY from it, rounded to whole nanometres and trusting the header's unit.
"""

import math
from collections.abc import Mapping, Sequence

from cssd_geo.bands import Bands, to_nanometres, widths_to_nanometres

Tags = Mapping[str, str]


def read_bands(envi: Tags, imagery: Sequence[Tags], per_band: Sequence[Tags]) -> Bands:
    """Read wavelengths, widths and good bands.

    Args:
        envi: tags of the dataset's ENVI domain; empty where there is none.
        imagery: one mapping a band, of its IMAGERY domain.
        per_band: one mapping a band, of its default domain.
    """
    count = len(per_band)
    units = envi.get("wavelength_units", "")
    wavelengths, widths = _numbers(envi.get("wavelength", ""), count), _numbers(envi.get("fwhm", ""), count)
    if not wavelengths:
        wavelengths, widths = _of_each(imagery, "CENTRAL_WAVELENGTH_UM"), _of_each(imagery, "FWHM_UM")
    if not wavelengths:
        wavelengths, units = _of_each(per_band, "wavelength"), per_band[0].get("wavelength_units", "")
    wavelength_nm = to_nanometres(wavelengths, units)
    fwhm_nm = widths_to_nanometres(widths, wavelengths) if wavelength_nm and widths else None
    flags = _numbers(envi.get("bbl", ""), count)
    good = tuple(flag > 0 for flag in flags) if flags else (True,) * count
    return Bands(good=good, wavelength_nm=wavelength_nm, fwhm_nm=fwhm_nm)


def read_scale(envi: Tags, scales: Sequence[float], offsets: Sequence[float]) -> list[tuple[float, float]]:
    """Return scale and offset of each band, so that reflectance or radiance = scale * value + offset.

    GDAL does not turn ENVI's `reflectance scale factor` into scales, so it is read here; scales that GDAL
    does report come first.
    """
    if any(s != 1 for s in scales) or any(o != 0 for o in offsets):
        return list(zip(scales, offsets, strict=True))
    factor = _numbers(envi.get("reflectance_scale_factor", ""), 1)
    scale = 1 / factor[0] if factor and factor[0] > 0 else 1.0
    return [(scale, 0.0)] * len(scales)


def _of_each(tags: Sequence[Tags], key: str) -> list[float]:
    """The number that each band's tags hold; an empty list where one of them holds none."""
    values = [_number(tag.get(key, "")) for tag in tags]
    return values if all(math.isfinite(v) for v in values) else []


def _numbers(braced: str, count: int) -> list[float]:
    """Parse `{1, 2, 3}`; an empty list where it does not hold `count` finite numbers."""
    values = [_number(part) for part in braced.strip().strip("{}").split(",")]
    return values if len(values) == count and all(math.isfinite(v) for v in values) else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
