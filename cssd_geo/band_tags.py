"""What a raster's tags say of its bands: the conventions of GDAL's drivers, read into `Bands` and scales.

Pure: tags in, values out. The first convention that speaks for every band wins:
    IMAGERY domain   CENTRAL_WAVELENGTH_UM, FWHM_UM            GDAL 3.10 and later, any driver
    ENVI domain      wavelength, fwhm, bbl, reflectance_scale_factor: lists in braces
    band tags        wavelength and wavelength_units           what GDAL's ENVI driver copies to its outputs
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
    envi_wavelengths = _numbers(envi.get("wavelength", ""), count)
    units = envi.get("wavelength_units", "")
    wavelength_nm = (
        _in_nanometres(imagery, "CENTRAL_WAVELENGTH_UM")
        or (to_nanometres(envi_wavelengths, units) if envi_wavelengths else None)
        or _from_band_tags(per_band)
    )
    envi_widths = _numbers(envi.get("fwhm", ""), count)
    fwhm_nm = _in_nanometres(imagery, "FWHM_UM")
    if fwhm_nm is None and envi_widths and envi_wavelengths:
        fwhm_nm = widths_to_nanometres(envi_widths, envi_wavelengths)
    flags = _numbers(envi.get("bbl", ""), count)
    good = tuple(flag > 0 for flag in flags) if flags else (True,) * count
    return Bands(good=good, wavelength_nm=wavelength_nm, fwhm_nm=fwhm_nm if wavelength_nm else None)


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


def _in_nanometres(tags: Sequence[Tags], key: str) -> tuple[float, ...] | None:
    values = [_number(tag.get(key, "")) for tag in tags]
    if not all(v > 0 for v in values):
        return None
    return tuple(round(1000 * v, 6) for v in values)


def _from_band_tags(tags: Sequence[Tags]) -> tuple[float, ...] | None:
    values = [_number(tag.get("wavelength", "")) for tag in tags]
    units = tags[0].get("wavelength_units", "")
    return to_nanometres(values, units) if all(math.isfinite(v) for v in values) else None


def _numbers(braced: str, count: int) -> list[float]:
    """Parse `{1, 2, 3}`; an empty list where it does not hold `count` finite numbers."""
    values = [_number(part) for part in braced.strip().strip("{}").split(",")]
    return values if len(values) == count and all(math.isfinite(v) for v in values) else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
