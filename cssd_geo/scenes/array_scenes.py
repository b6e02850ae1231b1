"""Arrays of xarray as scenes: what `Scene.cube` or rioxarray made, whole, sliced or lazy."""

from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
import xarray as xr

from cssd_geo.errors import InputError, SceneError
from cssd_geo.grid import Grid
from cssd_geo.scenes.array_bands import bands_of, numbers_of_bands
from cssd_geo.scenes.array_source import ArraySource
from cssd_geo.scenes.cube import grid_of, nodata_of, scale_of
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.validity import saturation_of

_REAL = "uif"
"""Kinds of numpy's types that hold real numbers."""
_MOST_BYTES = 8
"""Bytes of a value."""


def scene_of_array(array: xr.DataArray) -> Scene:
    """Take an xarray DataArray with dimensions band, y, x as a scene; stays lazy if it is.

    What rioxarray knows is used: CRS, transform, ground control points, nodata, scale, wavelengths, FWHM and bad
    bands. So are the coordinates that `Scene.cube` carries, also after slicing, and wavelengths that are the axis
    itself: `.rename(wavelength="band")`, if its `units` or names say so.

    Raises:
        InputError: if it is no DataArray, or its wavelength_nm or fwhm_nm are not positive.
        SceneError: if a dimension is missing, pixels are not evenly spaced, values are no real numbers or have
            more than 8 bytes, or there are none.
    """
    _require_cube(array)
    stored, array = array, array.transpose("band", "y", "x")
    grid = grid_of(array)
    scale, offset = scale_of(array)
    nodata = nodata_of(array)
    if "valid" in array.coords:
        stored = array = _masked(array)
    source, found, numbers = ArraySource(stored), bands_of(array), numbers_of_bands(array)
    return Scene(
        name=str(array.name or "array"),
        dtype=array.dtype,
        array=array,
        bands=found.bands,
        band_numbers=np.arange(1, array.sizes["band"] + 1) if numbers is None else numbers,
        grid=grid,
        nodata=nodata,
        scale=scale,
        offset=offset,
        source=source,
        source_bands=np.arange(array.sizes["band"]),
        notes=(*found.notes, *_lost_crs(array, grid)),
    )


def _require_cube(array: Any) -> None:
    """Check that an array has the dimensions and values of a scene; raises as `scene_of_array` does."""
    if isinstance(array, str | PathLike):
        raise InputError(f"a scene is made of a DataArray, not of a path: open_scene({str(array)!r}) opens a file")
    if not isinstance(array, xr.DataArray):
        raise InputError(
            f"a scene is made of a DataArray, not {type(array).__name__}: of a Dataset take the variable, of an "
            'array of numpy make xarray.DataArray(array, dims=("band", "y", "x"))'
        )
    if set(array.dims) != {"band", "y", "x"}:
        names = ", ".join(map(str, array.dims))
        raise SceneError(
            f"a scene has the dimensions band, y and x, not {names}: name them so (.rename, .swap_dims), and drop "
            "those of one value (.squeeze)"
        )
    if array.dtype.kind not in _REAL:
        raise SceneError(f"the array holds {array.dtype} values; a scene has real numbers: use .astype or abs")
    if array.dtype.itemsize > _MOST_BYTES:
        raise SceneError(f"the array holds {array.dtype} values, too long to compute with: use .astype('float64')")
    if not array.size:
        sizes = ", ".join(f"{size} {name}" for name, size in array.sizes.items())
        raise SceneError(f"the array is empty ({sizes}): check how it was sliced")


def _masked(array: xr.DataArray) -> xr.DataArray:
    """As float, with NaN where its mask excludes pixels, and where only a 16-bit type says that it is no data."""
    allowed, largest = array.coords["valid"], saturation_of(array.dtype)
    return array.where(allowed if largest is None else allowed & (array != largest))


def _lost_crs(array: xr.DataArray, grid: Grid) -> Iterator[str]:
    """Tell of a CRS that stayed behind in a Dataset: xarray takes its variable for data unless told otherwise."""
    name = array.encoding.get("grid_mapping", array.attrs.get("grid_mapping"))
    if grid.crs is None and isinstance(name, str) and name not in array.coords:
        yield (
            f"No CRS is known: it is in the variable {name}, without which the array was taken. Open its file "
            'with xarray.open_dataset(..., decode_coords="all").'
        )
