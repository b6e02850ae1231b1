"""CF conventions: which dimension of a variable has the bands, which are y and x; what is known of its bands."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from cssd_geo.bands import Bands
from cssd_geo.errors import SceneError
from cssd_geo.formats.stores import Store, described, group_of, text, values_of
from cssd_geo.headers.axis_names import axis_named
from cssd_geo.headers.band_tags import FoundBands
from cssd_geo.headers.wavelengths import PLAUSIBLE_NM, resolve_wavelengths
from cssd_geo.messages import listed

_WAVELENGTHS = {
    "wavelength",
    "wavelengths",
    "wl",
    "wvl",
    "wave",
    "wavelength_nm",
    "wavelength_um",
    "wavelength_3d",
}
_WAVELENGTHS |= {"center_wavelength", "center_wavelengths", "central_wavelength", "centre_wavelength"}
_WAVELENGTHS |= {"radiation_wavelength", "sensor_band_central_radiation_wavelength"}
_WIDTHS = {"fwhm", "fwhm_nm", "full_width_half_max", "bandwidth", "bandwidths"}
_GOOD = {"good_bands", "good_wavelengths", "good_wavelength", "bbl"}
_UNNAMED_BANDS = "band"
"""rioxarray's name for a dimension of bands of which nothing else is known."""
_IN_NAMES = ("nm", "um")
"""Units that names of variables end with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectralVariable:
    """A variable with three dimensions, and which is which."""

    path: str
    """In its store, such as "/reflectance/reflectance"."""
    variable: xr.Variable
    band: str
    y: str
    x: str
    bands: Bands
    notes: tuple[str, ...] = ()
    """What was doubtful of the bands, for the analyst."""

    @property
    def group(self) -> str:
        """Path of the group that it lies in."""
        return group_of(self.path)

    @property
    def name(self) -> str:
        """Its path as messages show it: "reflectance/reflectance"."""
        return self.path.lstrip("/")


def spectral_variables(store: Store) -> Iterator[tuple[str, xr.Variable, str]]:
    """Yield path, variable and dimension of bands of all variables that could be a scene."""
    cubes = [(path, squeezed) for path, v in store.variables() if (squeezed := _squeezed(v)) is not None]
    spectral = [(p, v, d) for p, v in cubes if (d := _spectral_dimension(store, p, v)) is not None]
    plain = [(p, v, d) for p, v in cubes if (d := _unnamed_bands(v)) is not None]
    yield from spectral or plain


def spectral_variable(store: Store, path: str, variable: xr.Variable, band: str) -> SpectralVariable:
    """Find out which dimension is which, and read the bands.

    Raises:
        SceneError: if the dimensions do not say which is y, or wavelengths cannot be used.
    """
    group = group_of(path)
    y, x = _spatial_dimensions(store, path, variable, band)
    found = _bands(store, group, band, variable.sizes[band])
    return SpectralVariable(
        path=path, variable=variable, band=band, y=y, x=x, bands=found.bands, notes=found.notes
    )


def along(store: Store, group: str, dimension: str, size: int) -> Iterator[tuple[str, xr.Variable]]:
    """Yield name and variable of all that have this dimension alone, the nearest first."""
    for path, variable in store.variables(group):
        if variable.dims == (dimension,) and variable.size == size:
            yield path.rpartition("/")[2], variable


def wavelengths_elsewhere(store: Store) -> str:
    """One sentence on wavelengths that belong to no variable, for errors; empty if there are none."""
    found = [described(p, v) for p, v in store.variables() if v.ndim == 1 and _is_wavelength(p, v)]
    return f" Its wavelengths, {listed(found)}, go with none of them." if found else ""


def _squeezed(variable: xr.Variable) -> xr.Variable | None:
    """Return a variable of real numbers without single times and the like, if three dimensions are left."""
    single = [d for d, size in variable.sizes.items() if size == 1 and axis_named([str(d)]) is None]
    surplus = max(0, variable.ndim - 3)
    squeezed = variable.isel(dict.fromkeys(single[:surplus], 0))
    return squeezed if squeezed.ndim == 3 and squeezed.dtype.kind in "uif" and squeezed.size else None  # noqa: PLR2004


def _unnamed_bands(variable: xr.Variable) -> str | None:
    """The dimension of bands of which nothing is known, where the three are named as GDAL and rioxarray do."""
    names = {str(d).lower(): str(d) for d in variable.dims}
    return names[_UNNAMED_BANDS] if set(names) == {_UNNAMED_BANDS, "y", "x"} else None


def _spectral_dimension(store: Store, path: str, variable: xr.Variable) -> str | None:
    group = group_of(path)
    for dimension, size in variable.sizes.items():
        if any(_is_wavelength(name, each) for name, each in along(store, group, str(dimension), size)):
            return str(dimension)
    return None


def _is_wavelength(name: str, variable: xr.Variable) -> bool:
    names = {name.rpartition("/")[2].lower(), text(variable.attrs.get("standard_name", ""))}
    return bool(names & _WAVELENGTHS) and variable.dtype.kind in "uif"


def _bands(store: Store, group: str, band: str, size: int) -> FoundBands:
    known = list(along(store, group, band, size))  # the nearest first
    good = next((values_of(v) == 1 for name, v in known if name.lower() in _GOOD), np.ones(size, np.bool_))
    flags = tuple(bool(value) for value in good)
    centres = next(((name, v) for name, v in known if _is_wavelength(name, v)), None)
    if centres is None:
        return FoundBands(bands=Bands(good=flags))
    widths = next(((name, v) for name, v in known if name.lower() in _WIDTHS and v.dtype.kind in "uif"), None)
    values = np.asarray(values_of(centres[1]), np.float64)
    found = resolve_wavelengths(
        values.tolist(),
        None if widths is None else np.asarray(values_of(widths[1]), np.float64).tolist(),
        _unit(*centres),
        width_units="" if widths is None else _unit(*widths),
    )
    if found.wavelength_nm is None:
        strange = values[~(np.isfinite(values) & (values > 0))][:3].tolist()
        examples = f", such as {', '.join(map(str, strange))}" if strange else ""
        raise SceneError(
            f"{store.name}: the wavelengths in {centres[0]} cannot be used{examples}: they must be positive "
            f"lengths of {PLAUSIBLE_NM[0]:,.0f} to {PLAUSIBLE_NM[1]:,.0f} nm"
        )
    bands = Bands(good=flags, wavelength_nm=found.wavelength_nm, fwhm_nm=found.fwhm_nm)
    return FoundBands(bands=bands, notes=found.notes)


def _unit(name: str, variable: xr.Variable) -> str:
    """Its attribute `units`, else what its name ends with."""
    ending = name.lower().rpartition("_")[2]
    return text(variable.attrs.get("units", "")) or (ending if ending in _IN_NAMES else "")


def _spatial_dimensions(store: Store, path: str, variable: xr.Variable, band: str) -> tuple[str, str]:
    """Return the names of y and x; an error rather than a guess, as a swapped scene looks like a scene."""
    group = group_of(path)
    first, second = (str(d) for d in variable.dims if d != band)
    kinds = _axis(store, group, first, variable.sizes[first]), _axis(store, group, second, variable.sizes[second])
    if kinds in {("y", "x"), ("y", None), (None, "x")}:
        return first, second
    if kinds in {("x", "y"), ("x", None), (None, "y")}:
        return second, first
    raise SceneError(
        f"{store.name}: the dimensions of {described(path, variable)} do not say which is y and which is x: name "
        "them y and x, or give their coordinates the CF attribute axis"
    )


def _axis(store: Store, group: str, dimension: str, size: int) -> str | None:
    """Which axis a dimension is by its name, or else by what its coordinates say of themselves."""
    names = {dimension}
    for _, variable in along(store, group, dimension, size):
        names |= _names_of_axis(variable)
    return axis_named(names)


def axis_told(variable: xr.Variable) -> str | None:
    """Which axis a variable says that it is the coordinate of: "y" or "x"; None for others, such as times."""
    return axis_named(_names_of_axis(variable))


def _names_of_axis(variable: xr.Variable) -> set[str]:
    return {text(variable.attrs.get(key, "")) for key in ("axis", "standard_name")}
