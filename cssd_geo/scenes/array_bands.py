"""What an xarray DataArray says of its bands: in our own coordinates, or in what rioxarray makes of a file's tags.

rioxarray has ENVI's wavelengths and widths as coordinates `wavelength` and `fwhm` of `band`, which slicing carries
along, and the rest as attributes, which it leaves as they are: `wavelength_units`, `bbl`, and names of bands in
`long_name`. The numbers in the coordinate `band`, from 1, then tell whose is what.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cssd_geo.bands import Bands
from cssd_geo.headers.band_tags import FoundBands, read_bands, read_scale, split_list

GOOD_BANDS, WAVELENGTH_NM, FWHM_NM = "good_bands", "wavelength_nm", "fwhm_nm"
"""Our own coordinates of `band`."""


def bands_of(cube: xr.DataArray) -> FoundBands:
    """Return the bands, all good and without wavelengths where the array does not say, and notes on doubts."""
    count = cube.sizes["band"]
    ours = {
        name: tuple(cube[name].values.tolist())
        for name in (GOOD_BANDS, WAVELENGTH_NM, FWHM_NM)
        if name in cube.coords
    }
    names = cube.attrs.get("long_name")
    found = read_bands(
        {},
        [{}] * count,
        _tags_of_bands(cube),
        dataset=_lists(cube),
        names=by_number(cube, names) if isinstance(names, tuple | list) else (),
    )
    bands = Bands(
        good=ours.get(GOOD_BANDS, found.bands.good),
        wavelength_nm=ours.get(WAVELENGTH_NM, found.bands.wavelength_nm),
        fwhm_nm=ours.get(FWHM_NM, found.bands.fwhm_nm),
    )
    return FoundBands(bands=bands, notes=() if WAVELENGTH_NM in ours else found.notes)


def factor_of(cube: xr.DataArray) -> float:
    """Scale by ENVI's reflectance scale factor; 1 without it, or where rioxarray has applied the file's scale."""
    if cube.encoding.get("scale_factor", 1) != 1:
        return 1.0
    return read_scale({name: str(value) for name, value in cube.attrs.items()}, [1.0], [0.0])[0][0]


def _tags_of_bands(cube: xr.DataArray) -> list[dict[str, str]]:
    """Coordinates along the bands as tags of each, and their units."""
    along = {str(name): c for name, c in cube.coords.items() if c.dims == ("band",) and name != "band"}
    own = {f"{name}_units": str(c.attrs["units"]) for name, c in along.items() if "units" in c.attrs}
    units = _units(cube) | own
    return [units | {name: _text(c.values[i]) for name, c in along.items()} for i in range(cube.sizes["band"])]


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
    numbers: NDArray[Any] = cube["band"].values if "band" in cube.coords else np.empty(0)
    if numbers.dtype.kind not in "iu" or numbers.min() < 1 or numbers.max() > len(listed):
        return list(listed)
    if len(np.unique(numbers)) < len(numbers):
        return list(listed)
    return [listed[number - 1] for number in numbers]


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool | np.bool_) else str(value)
