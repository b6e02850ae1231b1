"""EMIT, NASA's imaging spectrometer on the ISS: NetCDF in sensor geometry with a geometry look-up table.

    reflectance (downtrack, crosstrack, bands)
    sensor_band_parameters: wavelengths, fwhm, good_wavelengths (bands)
    location: lon, lat, elev (downtrack, crosstrack); glt_x, glt_y (ortho_y, ortho_x), counted from 1, 0 is nowhere
    attributes: geotransform and spatial_ref of the table's map

As emit-sds/emit-utils writes it. It is classified in sensor geometry and the map comes out through the table.
"""

from pathlib import Path

import h5py

from cssd_geo.errors import SceneError
from cssd_geo.files.hdf5_links import DAMAGED, is_hdf5
from cssd_geo.formats.cf import find_cube, scene_of_variable
from cssd_geo.formats.cf_grids import crs_of_mapping, transform_of_mapping
from cssd_geo.formats.stores import Store, intact, open_store, text
from cssd_geo.grid import Grid
from cssd_geo.scenes.lookup import GeometryLookup
from cssd_geo.scenes.scene import Scene


def recognises(path: str) -> bool:
    """Whether a file says that it is of EMIT and is in sensor geometry; orthorectified copies are plain NetCDF."""
    try:
        if not is_hdf5(Path(path)):
            return False
        with h5py.File(path) as file:
            says = [text(file.attrs.get(key, "")) for key in ("title", "instrument")]
            return any(each.startswith("EMIT") for each in says) and "downtrack" in file and "lon" not in file
    except DAMAGED:
        return False


def open_product(path: str) -> Scene:
    """Open it; reads the look-up table, no pixel.

    Raises:
        SceneError: if it is incomplete, or its parts do not fit each other.
    """
    with intact(path):
        store = open_store(path)
        store.require("/sensor_band_parameters/wavelengths")
        samples, lines = (store.require(f"/location/{name}") for name in ("glt_x", "glt_y"))
        cube, notes = find_cube(store)
        height, width = cube.variable.sizes[cube.y], cube.variable.sizes[cube.x]
        lookup = GeometryLookup.of_table(
            samples.values,
            lines.values,
            grid=_map_grid(store, *lines.shape),
            height=height,
            width=width,
            fill=float(lines.attrs.get("_FillValue", 0)),
        )
        return scene_of_variable(
            store,
            cube,
            grid=Grid(height=height, width=width, transform=None, crs=None),
            lookup=lookup,
            sensor=" ".join(text(store.attrs.get("title", "EMIT")).split()[:2]),
            notes=(*notes, "Classified in sensor geometry; maps are written orthorectified by its look-up table."),
        )


def _map_grid(store: Store, height: int, width: int) -> Grid:
    """Return the grid of the orthorectified map."""
    missing = [name for name in ("geotransform", "spatial_ref") if name not in store.attrs]
    if missing:
        raise SceneError(f"{store.name} has no attribute {' and '.join(missing)}: it does not say where it lies")
    transform = transform_of_mapping(store, store.attrs, "geotransform")
    return Grid(height=height, width=width, transform=transform, crs=crs_of_mapping(store, store.attrs))
