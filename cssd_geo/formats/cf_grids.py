"""CF conventions: where the pixels of a variable lie, by its coordinates and its grid mapping."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyproj
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import CRSError as ProjCRSError
from rasterio.crs import CRS
from rasterio.errors import CRSError

from cssd_geo.errors import SceneError
from cssd_geo.formats.cf_axes import SpectralVariable, along, axis_told
from cssd_geo.formats.stores import Store, crs_of, text, values_of
from cssd_geo.grid import UNEVEN, Grid, regular_axis

_MAPPINGS = ("spatial_ref", "crs", "projection", "transverse_mercator")
_CRS_ATTRIBUTES = ("crs_wkt", "spatial_ref", "grid_mapping_name")
_KILOMETRES = {"km", "kilometer", "kilometers", "kilometre", "kilometres"}
_METRES = 1000
"""In a kilometre."""
_ELEMENTS = 6
"""Numbers of a GeoTransform."""
_HALF_TURN = 180


def grid_of_variable(store: Store, cube: SpectralVariable) -> tuple[Grid, list[str]]:
    """Return the grid of a variable, and notes for the analyst.

    Coordinates are pixel centres and decide, whichever way they run; a GeoTransform gives the exact numbers,
    stands in where there are no coordinates, and alone can say that a grid is rotated.

    Raises:
        SceneError: if pixels are not evenly spaced, or the CRS cannot be understood.
    """
    notes: list[str] = []
    mapping = _grid_mapping(store, cube)
    crs = crs_of_mapping(store, mapping)
    height, width = cube.variable.sizes[cube.y], cube.variable.sizes[cube.x]
    down, across = _axis(store, cube, cube.y), _axis(store, cube, cube.x)
    if crs is None and _in_degrees(down) and _in_degrees(across):
        crs = CRS.from_epsg(4326)
        notes.append("The file names no CRS: latitudes and longitudes are taken as WGS 84.")
    stored = transform_of_mapping(store, mapping)
    transform = stored
    if down is not None and across is not None and (stored is None or stored.b == stored.d == 0):
        y, x = (
            _step(store, axis, crs, single)
            for axis, single in ((down, stored and stored.e), (across, stored and stored.a))
        )
        actual = None if y is None or x is None else Affine(x[0], 0.0, x[1], 0.0, y[0], y[1])
        told, found = (Grid(height=height, width=width, transform=each, crs=crs) for each in (stored, actual))
        if actual is not None and not found.same_as(told, tolerance=UNEVEN):
            if stored is not None:
                notes.append("The GeoTransform contradicts the coordinates, which are used.")
            transform = actual
    if transform is not None and crs is not None and crs.is_geographic and transform.c >= _HALF_TURN:
        transform = Affine.translation(-2 * _HALF_TURN, 0) @ transform
    return Grid(height=height, width=width, transform=transform, crs=crs if transform is not None else None), notes


def places_of_variable(store: Store, cube: SpectralVariable) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return longitude and latitude (y, x) of each pixel, where the store has them; reads them."""
    shape = cube.variable.sizes[cube.y], cube.variable.sizes[cube.x]
    found: dict[str, xr.Variable] = {}
    for path, variable in store.variables(cube.group):
        name = path.rpartition("/")[2].lower()
        if variable.shape == shape and name in {"lon", "longitude", "lat", "latitude"}:
            found.setdefault(name[:3], variable)
    return (values_of(found["lon"]), values_of(found["lat"])) if len(found) == 2 else None  # noqa: PLR2004 - both


def crs_of_mapping(store: Store, mapping: Mapping[str, Any]) -> CRS | None:
    """Return the CRS that attributes of a store state, where they state one.

    Raises:
        SceneError: if it cannot be understood.
    """
    key = next((key for key in _CRS_ATTRIBUTES if mapping.get(key)), None)
    try:
        if key == "grid_mapping_name":
            plain = {name: np.asarray(value).tolist() for name, value in mapping.items()}
            return CRS.from_wkt(pyproj.CRS.from_cf(plain).to_wkt())
        return None if key is None else crs_of(text(mapping[key]))
    except (CRSError, ProjCRSError, KeyError, TypeError, ValueError) as error:
        raise SceneError(f"{store.name}: its {key} is no CRS that PROJ knows: {error}") from error


def transform_of_mapping(store: Store, mapping: Mapping[str, Any], key: str = "GeoTransform") -> Affine | None:
    """Return the transform that an attribute of a store states, where it does; an identity counts as none.

    Raises:
        SceneError: if it is not six numbers, or gives pixels no size.
    """
    given = mapping.get(key)
    if given is None:
        return None
    try:
        numbers = [float(v) for v in (text(given).split() if np.ndim(given) == 0 else given)]
    except ValueError:
        numbers = []
    if len(numbers) != _ELEMENTS or not np.isfinite(numbers).all():
        raise SceneError(f"{store.name}: its {key} is not six numbers but {text(given)!r}")
    transform = Affine.from_gdal(*numbers)
    if transform.is_degenerate:
        raise SceneError(f"{store.name}: its {key} {text(given)!r} gives pixels no size: correct it")
    return None if transform.is_identity else transform


def _grid_mapping(store: Store, cube: SpectralVariable) -> Mapping[str, Any]:
    """Return the attributes of the grid mapping: the one that the variable names, else the only one there is."""
    named = text(cube.variable.attrs.get("grid_mapping", "")).split(":")[0].split(" ")[0]
    scalars = [(p.rpartition("/")[2], v) for p, v in store.variables(cube.group) if v.size == 1]
    for name in (named, *_MAPPINGS):
        for other, variable in scalars:
            if other == name and ("GeoTransform" in variable.attrs or _tells_crs(variable)):
                return variable.attrs
    others = [variable.attrs for _, variable in scalars if _tells_crs(variable)]
    return others[0] if len(others) == 1 else {}


def _tells_crs(variable: xr.Variable) -> bool:
    return any(key in variable.attrs for key in _CRS_ATTRIBUTES)


def _axis(store: Store, cube: SpectralVariable, dimension: str) -> xr.Variable | None:
    """Return the coordinate of y or x: that of the dimension's name, else one that says that it is that."""
    size = cube.variable.sizes[dimension]
    known = list(along(store, cube.group, dimension, size))
    told = [v for _, v in known if axis_told(v) == ("y" if dimension == cube.y else "x")]
    found = next((v for name, v in known if name == dimension), told[0] if told else None)
    return found if found is not None and found.dtype.kind in "uif" else None


def _in_degrees(axis: xr.Variable | None) -> bool:
    if axis is None:
        return False
    about = {text(axis.attrs.get(key, "")).lower() for key in ("units", "standard_name")} | {
        str(axis.dims[0]).lower()
    }
    return any(word.startswith(("degree", "lat", "lon")) for word in about)


def _step(store: Store, axis: xr.Variable, crs: CRS | None, single: float | None) -> tuple[float, float] | None:
    """Step, and where the first pixel begins, in units of the CRS; the size of a single pixel must be given."""
    centres = np.asarray(values_of(axis), np.float64)
    if text(axis.attrs.get("units", "")).lower() in _KILOMETRES and not _is_in_kilometres(crs):
        centres = centres * _METRES
    if len(centres) == 1:
        return None if single is None else (single, float(centres[0]) - single / 2)
    found = regular_axis(centres)
    if found is None:
        raise SceneError(
            f"{store.name}: pixels are not evenly spaced along {axis.dims[0]}: warp it to a regular grid first"
        )
    return found


def _is_in_kilometres(crs: CRS | None) -> bool:
    return crs is not None and crs.is_projected and crs.linear_units_factor[1] == _METRES
