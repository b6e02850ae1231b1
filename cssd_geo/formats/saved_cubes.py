"""A `Scene.cube` that was saved to NetCDF or Zarr: what it carries beside CF is found again there."""

from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cssd_geo.errors import SceneError
from cssd_geo.files.hdf5_links import UNREADABLE
from cssd_geo.formats.cf_axes import SpectralVariable, along
from cssd_geo.formats.stores import Store
from cssd_geo.scenes.array_bands import GOOD_BANDS
from cssd_geo.scenes.cube import nodata_of, scale_of
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Window


class SavedMask:
    """The coordinate `valid` (y, x) of a cube: 0 where pixels do not count."""

    def __init__(self, valid: xr.Variable, name: str) -> None:
        self._valid, self._name = valid, name

    def read(self, window: Window) -> NDArray[np.bool_]:
        """See `Mask`."""
        rows, cols = window.slices
        try:
            values = self._valid.isel(y=rows, x=cols).transpose("y", "x").to_numpy()
        except UNREADABLE as error:
            raise SceneError(f"valid of {self._name} cannot be read at {window}: {error}") from error
        usable: NDArray[np.bool_] = values != 0
        return usable


def saved_cube(store: Store, cube: SpectralVariable) -> xr.DataArray | None:
    """Return a variable with its coordinates where it was saved from a `Scene.cube`; else None. Reads no pixel."""
    named = {name for name, _ in along(store, cube.group, cube.band, len(cube.bands))}
    if not named >= {GOOD_BANDS, "band"} or (cube.y, cube.x) != ("y", "x"):
        return None
    group, dimensions = store.groups[cube.group].variables.items(), set(cube.variable.dims)
    beside = {name: variable for name, variable in group if set(variable.dims) < dimensions}
    return xr.DataArray(cube.variable, coords=beside).swap_dims({cube.band: "band"})  # or wavelengths are the axis


def as_saved(scene: Scene, saved: xr.DataArray) -> Scene:
    """Give a scene what differs between the bands of the cube that it was saved from, and its mask."""
    nodata, (scale, offset) = nodata_of(saved), scale_of(saved)
    scene = replace(scene, nodata=nodata, scale=scale, offset=offset)
    if "valid" not in saved.coords:
        return scene
    mask = SavedMask(saved.coords["valid"].variable, scene.name)
    return scene.with_mask(mask, "Pixels count only where the coordinate valid says so.")
