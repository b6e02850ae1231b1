"""A scene as an xarray DataArray: what travels with its values, and how it is found again after slicing.

rioxarray's conventions come first, so that other tools see the same: CRS, transform and ground control points in
`spatial_ref`, nodata as `_FillValue`, `scale_factor` and `add_offset`. What they cannot say is in coordinates
(`array_bands.bands_of` reads the bands again):
    (band)  wavelength_nm, fwhm_nm, good_bands; nodata, scale, offset where bands differ
    (y, x)  valid, lazy, where the file has a mask
    (y), (x)  row, col, where no x and y can say which pixels are left: rotated grids, GCPs, no georeference
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint

from cssd_geo.bands import Bands
from cssd_geo.errors import SceneError
from cssd_geo.grid import Grid, regular_axis
from cssd_geo.headers.band_tags import plain_key
from cssd_geo.headers.raster_facts import can_hold
from cssd_geo.scenes.array_bands import FWHM_NM, GOOD_BANDS, WAVELENGTH_NM, by_number, factor_of, was_scaled


def build_cube(values: Any, *, bands: Bands, numbers: NDArray[np.int64], grid: Grid, name: str) -> xr.DataArray:
    """Wrap values (band, y, x), which may be lazy; numbers (band,) tell bands apart after slicing."""
    coords: dict[str, Any] = {"band": numbers, GOOD_BANDS: ("band", list(bands.good))}
    if bands.wavelength_nm is not None:
        coords[WAVELENGTH_NM] = ("band", list(bands.wavelength_nm))
    if bands.fwhm_nm is not None:
        coords[FWHM_NM] = ("band", list(bands.fwhm_nm))
    coords |= _pixel_centres(grid)
    return with_place(xr.DataArray(values, dims=("band", "y", "x"), coords=coords, name=name), grid)


def with_place(cube: xr.DataArray, grid: Grid) -> xr.DataArray:
    """Write where pixels lie as rioxarray has it, which knows nothing of slices; x and y stay as they are."""
    if _has_axes(cube, "col", "row"):
        cube = cube.assign_coords(row=("y", np.arange(grid.height)), col=("x", np.arange(grid.width)))
    if grid.crs is not None:
        cube = _rio(cube).write_crs(grid.crs)
    if grid.gcps:
        cube = _rio(cube).write_gcps(list(grid.gcps), grid.crs)
    if grid.transform is not None:
        cube = _rio(cube).write_transform(grid.transform)
    return cube


def with_nodata(cube: xr.DataArray, nodata: NDArray[np.float64]) -> xr.DataArray:
    """Say in a cube which value (band,) means nodata; NaN where a band declares none."""
    if np.isnan(nodata).all():
        return cube
    if np.unique(nodata).size == 1 and can_hold(cube.dtype, float(nodata[0])):
        written: xr.DataArray = _rio(cube).write_nodata(float(nodata[0]))
        return written
    return cube.assign_coords(nodata=("band", nodata))


def with_scale(cube: xr.DataArray, scale: NDArray[np.float64], offset: NDArray[np.float64]) -> xr.DataArray:
    """Say in a cube how its values become reflectance or radiance, whatever it said; both are (band,)."""
    told = {"scale_factor", "add_offset", "scales", "offsets", "reflectance_scale_factor"}
    cube = cube.drop_vars(["scale", "offset"], errors="ignore").copy(deep=False)
    cube.attrs = {name: value for name, value in cube.attrs.items() if plain_key(name) not in told}
    for values, coordinate, attribute, neutral in (
        (scale, "scale", "scale_factor", 1),
        (offset, "offset", "add_offset", 0),
    ):
        if np.unique(values).size > 1:
            cube = cube.assign_coords({coordinate: ("band", values)})
        elif values[0] != neutral:
            cube = cube.assign_attrs({attribute: float(values[0])})
    return cube


def take_bands(cube: xr.DataArray, indexes: NDArray[np.intp]) -> xr.DataArray:
    """Take some bands of a cube, in the order of their indexes from 0."""
    return with_scale(cube, *scale_of(cube)).isel(band=indexes)


def nodata_of(cube: xr.DataArray) -> NDArray[np.float64]:
    """Inverse of `with_nodata`; of an array that was masked, the value that its file has, unless scaled too.

    Raises:
        SceneError: if it is no number.
    """
    # as float, because rioxarray raises for a number that the cube's own type cannot hold, such as -9999 in uint16
    told = xr.DataArray(np.float64(), attrs=cube.attrs)
    told.encoding = {} if was_scaled(cube) else cube.encoding  # a scaled value may be that number, and is data
    with _numbers("nodata"):
        value = _rio(told).nodata if _rio(told).encoded_nodata is None else _rio(told).encoded_nodata
    usable = value is not None and can_hold(cube.dtype, float(value))
    return _of_bands(cube, "nodata", value if usable else np.nan)


def scale_of(cube: xr.DataArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inverse of `with_scale`; knows rioxarray's attributes too: `scales`, `offsets`, those of an ENVI header.

    Raises:
        SceneError: if a scale is 0, or one of them is no number.
    """
    scale = _of_bands(cube, "scale", cube.attrs.get("scales", cube.attrs.get("scale_factor", 1.0)))
    offset = _of_bands(cube, "offset", cube.attrs.get("offsets", cube.attrs.get("add_offset", 0.0)))
    if not usable_scale(scale, offset).all():
        raise SceneError(
            f"the array's scale is {scale.tolist()[:3]} and its offset {offset.tolist()[:3]}: they must be "
            "finite, and no scale 0; correct its scale_factor and add_offset, or drop them"
        )
    return (scale * factor_of(cube) if (scale == 1).all() and (offset == 0).all() else scale), offset


def usable_scale(scale: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell for each band whether its scale and offset, (band,), can be: finite, and the scale not 0."""
    usable: NDArray[np.bool_] = np.isfinite(scale) & np.isfinite(offset) & (scale != 0)
    return usable


def grid_of(cube: xr.DataArray) -> Grid:
    """Inverse of `build_cube`, to the last digit unless the cube was sliced since.

    Raises:
        SceneError: if its pixels are not evenly spaced.
    """
    stored = _stored_transform(cube)
    rotated = abs(stored.b) + abs(stored.d) > 0  # False for NaN, which rioxarray makes of coordinates that are NaN
    points = tuple(_rio(cube).get_gcps() or ())
    if _has_axes(cube, "col", "row"):
        cut = Affine.translation(0.5, 0.5) @ _from_centres(cube, "col", "row", Affine.identity())
        stored = stored if stored.is_identity else stored @ cut
        points = tuple(_moved(point, ~cut) for point in points)
    elif _has_axes(cube, "x", "y") and not rotated:
        actual = _from_centres(cube, "x", "y", stored)
        corners = [(0, 0), (cube.sizes["x"], cube.sizes["y"])]
        if not all(np.allclose(~actual @ (stored @ c), c, rtol=0, atol=1e-6) for c in corners):
            stored = actual
    return Grid(
        height=cube.sizes["y"],
        width=cube.sizes["x"],
        transform=None if stored.is_identity else stored,
        crs=_rio(cube).crs,
        gcps=points,
    )


def _rio(cube: xr.DataArray) -> Any:
    """Its rioxarray accessor."""
    import rioxarray  # noqa: F401, PLC0415 - registers it, and brings Dask along

    return cube.rio


def _stored_transform(cube: xr.DataArray) -> Affine:
    """As it was written; rioxarray's own property drops rotations below 1e-5, large in units of degrees."""
    name = _rio(cube).grid_mapping
    text = cube.coords[name].attrs.get("GeoTransform") if name in cube.coords else None
    return Affine.from_gdal(*map(float, text.split())) if text else _rio(cube).transform(recalc=False)


def _pixel_centres(grid: Grid) -> dict[str, Any]:
    """Coordinates x and y of pixel centres; where these are no axes, row and col, which count pixels."""
    rows, cols = np.arange(grid.height), np.arange(grid.width)
    transform = grid.transform
    if grid.gcps or transform is None or transform.b != 0 or transform.d != 0:
        return {"row": ("y", rows), "col": ("x", cols)}
    return {"y": (rows + 0.5) * transform.e + transform.f, "x": (cols + 0.5) * transform.a + transform.c}


def _has_axes(cube: xr.DataArray, across: str, down: str) -> bool:
    names = (across, down)  # xarray invents coordinates x and y when asked for what is not there
    return all(name in cube.coords for name in names) and [cube[n].dims for n in names] == [("x",), ("y",)]


def _from_centres(cube: xr.DataArray, across: str, down: str, single: Affine) -> Affine:
    """Transform from pixel corners of a cube to the unit of the coordinates of its pixels' centres."""
    step_x, left = _axis(cube, across, single.a)
    step_y, top = _axis(cube, down, single.e)
    return Affine(step_x, 0.0, left, 0.0, step_y, top)


def _axis(cube: xr.DataArray, name: str, single: float) -> tuple[float, float]:
    """Step, and where the first pixel begins; the size of a single pixel must be given: `single`."""
    centres = np.asarray(cube.coords[name].values, np.float64)
    if len(centres) == 1:
        return single, float(centres[0]) - single / 2
    found = regular_axis(centres)
    if found is None:
        raise SceneError(f"the cube's pixels are not evenly spaced in {name}: take slices with a constant step")
    return found


def _moved(point: GroundControlPoint, shift: Affine) -> GroundControlPoint:
    """The same place on the Earth in other pixel coordinates."""
    col, row = shift @ (point.col, point.row)
    return GroundControlPoint(row=row, col=col, x=point.x, y=point.y, z=point.z, id=point.id, info=point.info)


@contextmanager
def _numbers(what: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise SceneError(
            f"the array's {what} is no number ({error}): correct it, or drop its attribute"
        ) from error


def _of_bands(cube: xr.DataArray, coordinate: str, value: Any) -> NDArray[np.float64]:
    """One value a band: of the coordinate, where there is one, else `value`, a number or a list of them."""
    listed = by_number(cube, value) if np.ndim(value) else value
    given = cube.coords[coordinate].values if coordinate in cube.coords else listed
    with _numbers(coordinate):
        numbers = np.atleast_1d(np.asarray(given, np.float64))
    count = cube.sizes["band"]
    if numbers.size not in (1, count):
        raise SceneError(f"the cube has {numbers.size} values of {coordinate} for {count} bands")
    return np.array(np.broadcast_to(numbers, (count,)))
