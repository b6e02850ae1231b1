"""Any NetCDF, HDF5 or Zarr store in which one variable has a dimension of wavelengths: AVIRIS-3, PACE and others.

AVIRIS-3 L2A   /reflectance/reflectance (wavelength, northing, easting), /reflectance/wavelength and fwhm;
               /northing, /easting, /transverse_mercator with spatial_ref and GeoTransform
PACE OCI L2    /geophysical_data/rhos or Rrs (number_of_lines, pixels_per_line, wavelength_3d),
               /sensor_band_parameters/wavelength_3d, /navigation_data/longitude and latitude; since version 3.2
               /geophysical_data/wavelength, while that of /sensor_band_parameters has more and others
PACE OCI L3    /Rrs (lat, lon, wavelength)
"""

import numpy as np
import xarray as xr

from cssd_geo.errors import SceneError
from cssd_geo.files.hdf5_links import is_hdf5
from cssd_geo.formats.cf_axes import SpectralVariable, spectral_variable, spectral_variables, wavelengths_elsewhere
from cssd_geo.formats.cf_grids import grid_of_variable, places_of_variable
from cssd_geo.formats.cf_values import no_data_of, scale_of
from cssd_geo.formats.hdf5 import Hdf5Source, Part
from cssd_geo.formats.hdf5_chunks import decodes
from cssd_geo.formats.saved_cubes import as_saved, saved_cube
from cssd_geo.formats.stores import Store, described, intact, is_store, open_store, text
from cssd_geo.grid import Grid
from cssd_geo.headers.raster_facts import SceneFacts
from cssd_geo.messages import listed
from cssd_geo.scenes.array_source import ArraySource
from cssd_geo.scenes.cube import grid_of
from cssd_geo.scenes.lookup import GeometryLookup
from cssd_geo.scenes.scene import Scene, scene_of_source
from cssd_geo.scenes.sources import Change, Source

_PREFERRED = ("reflectance", "surface_reflectance", "rfl", "rhos", "rrs", "radiance", "toa_radiance", "rhot")
_SWATH = (
    "Classified in sensor geometry; maps are written in WGS 84, where each pixel shows the nearest of the swath."
)


def recognises(path: str) -> bool:
    """Whether a path is a NetCDF, HDF5 or Zarr store at all; one without wavelengths is refused, with reasons."""
    return is_store(path)


def open_product(path: str) -> Scene:
    """Open it; reads no pixel.

    Raises:
        SceneError: if no variable has wavelengths, or several have, or what is needed of it is damaged.
    """
    with intact(path):
        store = open_store(path)
        cube, notes = find_cube(store)
        if (saved := saved_cube(store, cube)) is not None:
            return as_saved(scene_of_variable(store, cube, grid=grid_of(saved), notes=tuple(notes)), saved)
        grid, remarks = grid_of_variable(store, cube)
        places = places_of_variable(store, cube) if grid.transform is None else None
        lookup = None if places is None else GeometryLookup.of_places(*places)
        swath = () if lookup is None else (_SWATH,)
        return scene_of_variable(store, cube, grid=grid, lookup=lookup, notes=(*notes, *remarks, *swath))


def find_cube(store: Store) -> tuple[SpectralVariable, list[str]]:
    """Choose the variable that is the scene; the only one with wavelengths, or else the one with the best name.

    Raises:
        SceneError: if there is none, or no way to choose.
    """
    found = list(spectral_variables(store))
    if not found:
        raise SceneError(
            f"{store.name} is no product that is known here, and no variable of it has wavelengths along one of "
            f"three dimensions. {store.contents()}{wavelengths_elsewhere(store)}{_as_raster(store)}"
        )
    ranks = [_rank(path) for path, _, _ in found]
    best = [each for each, rank in zip(found, ranks, strict=True) if rank == min(ranks)]
    if len(best) > 1:
        several = listed(described(path, variable) for path, variable, _ in best)
        raise SceneError(
            f"{store.name} has several variables with wavelengths: {several}. Make a file with the one to "
            "classify, or open it in xarray and give the DataArray to `scene_of_array`"
        )
    path, variable, band = best[0]
    others = [other.lstrip("/") for other, _, _ in found if other != path]
    notes = [f"Of several variables with wavelengths, {path.lstrip('/')} is used, not {listed(others)}."]
    return spectral_variable(store, path, variable, band), notes if others else []


def scene_of_variable(
    store: Store,
    cube: SpectralVariable,
    *,
    grid: Grid,
    lookup: GeometryLookup | None = None,
    sensor: str | None = None,
    notes: tuple[str, ...] = (),
) -> Scene:
    """Make a scene of a variable whose axes are known.

    Raises:
        SceneError: if its fill value or scale cannot be understood.
    """
    scale, offset = scale_of(store, cube)
    no_data, remarks = no_data_of(store, cube)
    if text(cube.variable.attrs.get("_Unsigned", "")).lower() == "true" and cube.variable.dtype.kind == "i":
        raise SceneError(
            f"{store.name}: {cube.name} holds unsigned numbers in a signed type (_Unsigned), which is "
            "not read here: store them as an unsigned type"
        )
    count = len(cube.bands)
    facts = SceneFacts(
        bands=cube.bands,
        dtype=cube.variable.dtype.newbyteorder("="),
        nodata=np.full(count, no_data.value),
        scale=np.full(count, scale),
        offset=np.full(count, offset),
        sensor=sensor or _sensor(store),
        notes=(*notes, *cube.notes, *remarks),
    )
    source = _source(store, cube, None if no_data.is_one_value else no_data.unify)
    return scene_of_source(source, facts, store.path, grid=grid, lookup=lookup)


def _as_raster(store: Store) -> str:
    """One sentence on what to do with a cube that is not read as it is; empty if there is none."""
    if store.path.is_dir():
        return ""
    if "Band1" in store.groups["/"].variables:
        return f" GDAL wrote it, a variable for each band: gdal_translate {store.path} scene.tif makes one scene"
    cubes = [(path, variable) for path, variable in store.variables() if variable.ndim > 2]  # noqa: PLR2004 - maps
    if not cubes:
        return ""
    if any("wavelengths" in variable.attrs for _, variable in store.variables()):
        return (
            " Wavelengths are in attributes, as in Planet Tanager's files: docs/formats.md, Planet Tanager, has "
            "the lines that make a GeoTIFF of one"
        )
    sizes = described(*cubes[0])
    return (
        f" To use {sizes} without wavelengths, rename its dimensions to band, y and x, in whatever order they "
        "are: in xarray, .rename and .to_netcdf"
    )


def _rank(path: str) -> int:
    name = path.rpartition("/")[2].lower()
    return _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED)


def _source(store: Store, cube: SpectralVariable, change: Change | None) -> Source:
    """Where its pixels come from: xarray's readers, but for chunks of HDF5 that are decoded side by side here."""
    whole = store.require(cube.path)
    if is_hdf5(store.path) and decodes(store.path, cube.name, whole.shape):
        letters = {cube.band: "b", cube.y: "y", cube.x: "x"}
        axes = "".join(letters.get(str(name), ".") for name in whole.dims)
        bands = tuple(range(len(cube.bands)))
        return Hdf5Source(str(store.path), [Part(dataset=cube.name, axes=axes, bands=bands, change=change)])
    return ArraySource(_stored_array(cube), name=store.name, change=change)


def _stored_array(cube: SpectralVariable) -> xr.DataArray:
    """Return the variable with our names of dimensions, in the order in which it is stored."""
    names = {cube.band: "band", cube.y: "y", cube.x: "x"}
    array = xr.DataArray(cube.variable).rename(names)
    chunks = cube.variable.encoding.get("preferred_chunks") or {}
    array.encoding["preferred_chunks"] = {names[d]: size for d, size in chunks.items() if d in names}
    return array


def _sensor(store: Store) -> str | None:
    """Platform, instrument and level, where the store names them: "PACE OCI L2"."""
    words = [text(store.attrs.get(key, "")).strip() for key in ("platform", "instrument", "processing_level")]
    return " ".join(dict.fromkeys(word for word in words if word)) or None
