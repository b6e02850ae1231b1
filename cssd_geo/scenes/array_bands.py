"""What an xarray DataArray says of its bands: in our own coordinates, or in what rioxarray makes of a file's tags.

rioxarray has ENVI's wavelengths and widths as coordinates `wavelength` and `fwhm` of `band`, which slicing carries
along, and the rest as attributes, which it leaves as they are: `wavelength_units`, `bbl`, and names of bands in
`long_name`. The numbers in the coordinate `band`, from 1, then tell whose is what. Elsewhere wavelengths are the
axis itself, and after renaming the coordinate `band`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cssd_geo.bands import Bands
from cssd_geo.headers.band_tags import FoundBands, read_bands, read_scale, split_list
from cssd_geo.headers.wavelengths import is_length

GOOD_BANDS, WAVELENGTH_NM, FWHM_NM = "good_bands", "wavelength_nm", "fwhm_nm"
"""Our own coordinates of `band`."""
_LARGEST_NUMBER = 1000
"""No instrument has more bands; what is larger is rather a wavelength in nanometres."""


def bands_of(cube: xr.DataArray) -> FoundBands:
    """Return the bands, all good and without wavelengths where the array does not say, and notes on doubts."""
    count = cube.sizes["band"]
    ours = {
        name: tuple(cube[name].values.tolist())
        for name in (GOOD_BANDS, WAVELENGTH_NM, FWHM_NM)
        if name in cube.coords and cube[name].dims == ("band",)
    }
    found = read_bands({}, [{}] * count, _tags_of_bands(cube), dataset=_lists(cube), names=_names_of_bands(cube))
    bands = Bands(
        good=ours.get(GOOD_BANDS, found.bands.good),
        wavelength_nm=ours.get(WAVELENGTH_NM, found.bands.wavelength_nm),
        fwhm_nm=ours.get(FWHM_NM, found.bands.fwhm_nm),
    )
    notes = found.notes if bands.wavelength_nm is not None else (*found.notes, *_unused_notes(cube))
    return FoundBands(bands=bands, notes=() if WAVELENGTH_NM in ours else notes)


def numbers_of_bands(cube: xr.DataArray) -> NDArray[np.int64] | None:
    """Return the numbers (band,) in the coordinate `band`; None where it has wavelengths or names, or is none."""
    if "band" not in cube.coords or cube["band"].dtype.kind not in "iu" or _holds_wavelengths(cube["band"]):
        return None  # xarray invents numbers from 0 if there are none
    return np.asarray(cube["band"], np.int64)


def was_scaled(cube: xr.DataArray) -> bool:
    """Whether rioxarray or xarray has applied the scale of the file that an array was read from."""
    return bool(cube.encoding.get("scale_factor", 1) != 1 or cube.encoding.get("add_offset", 0) != 0)


def factor_of(cube: xr.DataArray) -> float:
    """Scale by ENVI's reflectance scale factor; 1 without it, or where the file's scale was applied."""
    if was_scaled(cube):
        return 1.0
    return read_scale({name: str(value) for name, value in cube.attrs.items()}, [1.0], [0.0])[0][0]


def _tags_of_bands(cube: xr.DataArray) -> list[dict[str, str]]:
    """Coordinates along the bands as tags of each, and their units."""
    along = {str(name): c for name, c in cube.coords.items() if c.dims == ("band",) and name != "band"}
    if _holds_wavelengths(cube["band"]):
        along.setdefault("wavelength", cube["band"])
    own = {f"{name}_units": str(c.attrs["units"]) for name, c in along.items() if "units" in c.attrs}
    units = _units(cube) | own
    return [units | {name: _text(c.values[i]) for name, c in along.items()} for i in range(cube.sizes["band"])]


def _holds_wavelengths(axis: xr.DataArray) -> bool:
    """Whether the coordinate `band` says of itself that it is wavelengths, not numbers of bands."""
    told = " ".join(str(axis.attrs.get(name, "")) for name in ("long_name", "standard_name")).lower()
    return axis.dtype.kind in "uif" and ("wavelength" in told or is_length(str(axis.attrs.get("units", ""))))


def _names_of_bands(cube: xr.DataArray) -> list[Any]:
    """Names by rioxarray's list of them, else what the coordinate `band` has instead of numbers."""
    names = cube.attrs.get("long_name")
    if isinstance(names, tuple | list):
        return by_number(cube, names)
    unnamed = "band" not in cube.coords or numbers_of_bands(cube) is not None
    return [] if unnamed else [str(value) for value in cube["band"].values]


def _unused_notes(cube: xr.DataArray) -> Iterator[str]:
    """Tell of numbers in the coordinate `band` that are none of bands, and do not say what else they are."""
    values = cube["band"].values if "band" in cube.coords else np.empty(0, np.object_)
    if np.array_equal(values, np.arange(1, len(values) + 1)):  # GDAL's numbers of a NetCDF's bands are floats
        return
    if values.dtype.kind == "f" or (values.dtype.kind in "iu" and values.max() > _LARGEST_NUMBER):
        span = f"from {values.min():g} to {values.max():g}"
        yield (
            f"The coordinate band runs {span}, without a unit: if these are wavelengths, which are not known "
            'otherwise, say so, for example with array["band"].attrs["units"] = "nm".'
        )


def _lists(cube: xr.DataArray) -> dict[str, str]:
    """Attributes that hold a list, and units; single numbers are what rioxarray read of the file's first band."""
    found = _units(cube)
    for name, value in cube.attrs.items():
        listed = value if isinstance(value, tuple | list) else np.ravel(value)
        parts = split_list(value) if isinstance(value, str) else [_text(each) for each in listed]
        if name not in found and len(parts) > 1:
            found[name] = ",".join(by_number(cube, parts))
    return found


def _units(cube: xr.DataArray) -> dict[str, str]:
    return {name: str(value) for name, value in cube.attrs.items() if "unit" in name.lower()}


def by_number(cube: xr.DataArray, listed: Sequence[Any]) -> list[Any]:
    """Return the entries of the bands that are left, in their order, of a list that knows nothing of slicing.

    The list as it is where the numbers do not tell bands apart, as in what was put together of several arrays.
    """
    numbers = numbers_of_bands(cube)
    if numbers is None or numbers.min() < 1 or numbers.max() > len(listed):
        return list(listed)
    if len(np.unique(numbers)) < len(numbers):
        return list(listed)
    return [listed[number - 1] for number in numbers]


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool | np.bool_) else str(value)
