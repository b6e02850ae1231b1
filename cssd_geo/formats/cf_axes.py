"""CF conventions: which dimension of a variable has the bands, which are y and x; what is known of its bands."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from cssd_geo.bands import Bands, to_nanometres, widths_to_nanometres
from cssd_geo.errors import SceneError
from cssd_geo.formats.stores import Store, described, text

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
_DOWN = {"y", "lat", "latitude", "northing", "row", "rows", "line", "lines", "scan", "scans", "number_of_lines"}
_DOWN |= {"downtrack", "along_track", "alongtrack", "number_of_scans", "nrows", "projection_y_coordinate"}
_ACROSS = {"x", "lon", "longitude", "easting", "col", "cols", "column", "columns", "sample", "samples", "pixel"}
_ACROSS |= {"pixels", "crosstrack", "across_track", "acrosstrack", "cross_track", "pixels_per_line"}
_ACROSS |= {"pixels_per_scan", "ncols", "projection_x_coordinate"}
_LARGEST_METRES = 1e-3
"""Optical wavelengths are below it in metres, CF's unit, and above it in micrometres and nanometres."""


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

    @property
    def group(self) -> str:
        """Path of the group that it lies in."""
        return self.path.rpartition("/")[0] or "/"


def spectral_variables(store: Store) -> Iterator[tuple[str, xr.Variable, str]]:
    """Yield path, variable and dimension of bands of all variables that could be a scene."""
    cubes = [(path, squeezed) for path, v in store.variables() if (squeezed := _squeezed(v)) is not None]
    spectral = [(p, v, d) for p, v in cubes if (d := _spectral_dimension(store, p, v)) is not None]
    plain = [(p, v, _UNNAMED_BANDS) for p, v in cubes if {"band", "y", "x"} == set(v.dims)]
    yield from spectral or plain


def spectral_variable(store: Store, path: str, variable: xr.Variable, band: str) -> SpectralVariable:
    """Find out which dimension is which, and read the bands.

    Raises:
        SceneError: if the dimensions do not say which is y, or wavelengths cannot be used.
    """
    group = path.rpartition("/")[0] or "/"
    y, x = _spatial_dimensions(store, path, variable, band)
    bands = _bands(store, group, band, variable.sizes[band])
    return SpectralVariable(path=path, variable=variable, band=band, y=y, x=x, bands=bands)


def along(store: Store, group: str, dimension: str, size: int) -> Iterator[tuple[str, xr.Variable]]:
    """Yield name and variable of all that have this dimension alone, the nearest first."""
    for path, variable in store.variables(group):
        if variable.dims == (dimension,) and variable.size == size:
            yield path.rpartition("/")[2], variable


def wavelengths_elsewhere(store: Store) -> str:
    """One sentence on wavelengths that belong to no variable, for errors; empty if there are none."""
    found = [described(p, v) for p, v in store.variables() if v.ndim == 1 and _is_wavelength(p, v)]
    return f" Its wavelengths, {', '.join(found)}, go with none of them." if found else ""


def _squeezed(variable: xr.Variable) -> xr.Variable | None:
    """Return a variable of real numbers without single times and the like, if three dimensions are left."""
    single = [d for d, size in variable.sizes.items() if size == 1 and str(d).lower() not in _DOWN | _ACROSS]
    surplus = max(0, variable.ndim - 3)
    squeezed = variable.isel(dict.fromkeys(single[:surplus], 0))
    return squeezed if squeezed.ndim == 3 and squeezed.dtype.kind in "uif" and squeezed.size else None  # noqa: PLR2004


def _spectral_dimension(store: Store, path: str, variable: xr.Variable) -> str | None:
    group = path.rpartition("/")[0] or "/"
    for dimension, size in variable.sizes.items():
        if any(_is_wavelength(name, each) for name, each in along(store, group, str(dimension), size)):
            return str(dimension)
    return None


def _is_wavelength(name: str, variable: xr.Variable) -> bool:
    names = {name.rpartition("/")[2].lower(), text(variable.attrs.get("standard_name", ""))}
    return bool(names & _WAVELENGTHS) and variable.dtype.kind in "uif"


def _bands(store: Store, group: str, band: str, size: int) -> Bands:
    known = list(along(store, group, band, size))  # the nearest first
    good = next((v.values == 1 for name, v in known if name.lower() in _GOOD), np.ones(size, np.bool_))
    flags = tuple(bool(value) for value in good)
    name, variable = next(((name, v) for name, v in known if _is_wavelength(name, v)), ("", None))
    if variable is None:
        return Bands(good=flags)
    raw = np.asarray(variable.values, np.float64)
    factor = 1e6 if 0 < raw.max() < _LARGEST_METRES else 1.0
    wavelengths = to_nanometres((raw * factor).tolist(), text(variable.attrs.get("units", "")))
    if wavelengths is None:
        strange = raw[~(np.isfinite(raw) & (raw > 0))][:3].tolist()
        examples = f", such as {', '.join(map(str, strange))}" if strange else ""
        raise SceneError(
            f"{store.name}: the wavelengths in {name} cannot be used{examples}: they must be positive lengths"
        )
    widths = next((v.values for other, v in known if other.lower() in _WIDTHS), None)
    fwhm = None if widths is None else widths_to_nanometres((widths * factor).tolist(), (raw * factor).tolist())
    return Bands(good=flags, wavelength_nm=wavelengths, fwhm_nm=fwhm)


def _spatial_dimensions(store: Store, path: str, variable: xr.Variable, band: str) -> tuple[str, str]:
    """Return the names of y and x; an error rather than a guess, as a swapped scene looks like a scene."""
    group = path.rpartition("/")[0] or "/"
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
    names = {dimension.lower()}
    for _, variable in along(store, group, dimension, size):
        names |= {text(variable.attrs.get(key, "")).lower() for key in ("axis", "standard_name")}
    if bool(names & _DOWN) == bool(names & _ACROSS):
        return None
    return "y" if names & _DOWN else "x"
