"""Which stored values are data, and which pixels are usable."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cssd_geo.tiles import Window

_STRIP_VALUES = 1 << 21
"""Values that are compared with nodata at a time: they stay in the cache until they are compared again, and tiles
that are read side by side seldom wait for each other in Python."""
_CLIPPED_BYTES = 2
"""Bytes of types whose largest number is no measurement."""
_TOO_LARGE = np.array(1e30)
"""Too large for reflectance, radiance or counts in any unit; fill values of NetCDF and GIS programs are larger."""
_EXACT = 2**53
"""Below it a float64 holds every whole number."""


class Mask(Protocol):
    """Says which pixels of a raster are usable. Safe to use from several threads."""

    def read(self, window: Window) -> NDArray[np.bool_]:
        """Return (y, x), True means usable; `window` lies within the raster."""


def usable(values: NDArray[Any], nodata: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell for each value (band, y, x) whether it is data: measurable, not saturated, not its band's nodata.

    Non-finite values and 1e30 or more are fill values, not measurements; even undeclared they would spoil all
    pixels around them. The largest number of a 16-bit type is where instruments and products clip, or what they
    fill with.
    """
    if values.dtype.kind == "f":
        fill = _rounded(nodata, values.dtype)
        measured: NDArray[np.bool_] = np.abs(values) < _rounded(_TOO_LARGE, values.dtype)
        measured &= values != _fill_to_compare(fill)
        return measured
    valid = _unlike(values, nodata)
    largest = saturation_of(values.dtype)
    if largest is not None and values.size and values.max() == largest:
        valid &= values != largest
    return valid


def saturation_of(dtype: np.dtype[Any]) -> int | None:
    """The largest number of a 16-bit integer type, which is no measurement; None for other types."""
    return int(np.iinfo(dtype).max) if dtype.kind != "f" and dtype.itemsize == _CLIPPED_BYTES else None


def _rounded(numbers: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As values of that type hold them; what is too large becomes infinite, and that is never data."""
    with np.errstate(over="ignore"):
        return numbers.astype(dtype)


def _unlike(values: NDArray[Any], nodata: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Compare whole numbers with nodata, where that can be one of them at all."""
    limits = np.iinfo(values.dtype)
    if not ((nodata >= limits.min) & (nodata <= limits.max)).any():
        return np.ones(values.shape, np.bool_)
    different: NDArray[np.bool_] = values != _fill_to_compare(nodata)
    return different


def _fill_to_compare(fill: NDArray[Any]) -> Any:
    """One number where all bands have the same, which numpy compares twice as fast; else (band, 1, 1)."""
    if len(fill) and (fill == fill[0]).all() and abs(number := float(fill[0])) < _EXACT and number.is_integer():
        return int(number)
    return fill[:, None, None]


def valid_pixels(values: NDArray[Any], nodata: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell for each pixel (y, x) whether all of its values (band, y, x) are data."""
    bands, height, width = values.shape
    valid = np.empty((height, width), np.bool_)
    step = max(1, _STRIP_VALUES // max(1, bands * width))  # a few rows at a time stay in the cache
    for top in range(0, height, step):
        rows = slice(top, top + step)
        strip = values[:, rows]
        valid[rows] = True if _surely_usable(strip, nodata) else usable(strip, nodata).all(axis=0)
    return valid


def _surely_usable(values: NDArray[Any], nodata: NDArray[np.float64]) -> bool:
    """Whether the least and the largest value alone show that all are data, as they mostly are: far less work."""
    if not values.size:
        return False
    least, largest, fill = values.min(), values.max(), nodata
    if values.dtype.kind == "f":
        fill, end = (_rounded(each, values.dtype) for each in (nodata, _TOO_LARGE))
        suspect = not (least > -end and largest < end)
    else:
        suspect = largest == np.iinfo(values.dtype).max
    return not (suspect or ((fill >= least) & (fill <= largest)).any())
