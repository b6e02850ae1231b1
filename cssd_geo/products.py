"""Which product a path is: sensor products by their own files, every other raster as GDAL sees it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from cssd_geo.errors import InputError, SceneError
from cssd_geo.files.locations import is_there, local_path, own_path
from cssd_geo.formats import cf, desis, emit, enmap, neon, prisma
from cssd_geo.options import true_or_false
from cssd_geo.scenes.cube import usable_scale
from cssd_geo.scenes.masks import open_aoi, open_valid_mask
from cssd_geo.scenes.raster_scenes import scene_of_raster
from cssd_geo.scenes.scene import Scene
from cssd_geo.spectra.band_choice import choose_bands, ranges


class Format(Protocol):
    """How products of one kind are known and opened: a module of `formats`, or an `XmlProduct` of one."""

    def recognises(self, path: str) -> bool:
        """Whether a path is a product of this kind: quick, and certain."""

    def open_product(self, path: str) -> Scene:
        """Open it; reads no pixel."""


_VECTORS = (".shp", ".gpkg", ".geojson", ".kml", ".gml", ".fgb")
_FORMATS: tuple[Format, ...] = (enmap.PRODUCT, desis.PRODUCT, prisma, neon, emit, cf)
"""Tried in this order; `cf` takes every NetCDF, HDF5 and Zarr store that no other does."""


def open_scene(
    path: str | Path,
    *,
    bands: str | Sequence[int] | None = None,
    valid_mask: str | Path | None = None,
    aoi: str | Path | None = None,
    aoi_layer: str | None = None,
    scale: float | None = None,
    follow_links: bool = False,
) -> Scene:
    """Open a scene: a sensor product, or a raster of any usual format (GeoTIFF, ENVI and others). Reads no pixel.

    Args:
        path: of the scene.
        bands: the scene consists of these alone, in this order: numbers from 1 or wavelengths, see `choose_bands`.
        valid_mask: raster on the scene's grid; only pixels where it is neither 0 nor nodata are usable.
        aoi: polygons of any vector, in any CRS; only pixels whose centre they cover are usable.
        aoi_layer: layer of an `aoi` with several.
        scale: reflectance = scale * value, whatever the file says.
        follow_links: let a raster, `valid_mask` too, refer to files outside of its folder, or on servers.

    Raises:
        SceneError: if it does not exist, is no raster, holds complex numbers or bands of several types; is a
            product that is damaged or incomplete, or a NetCDF, HDF5 or Zarr store without wavelengths; if a band's
            scale cannot be used and `scale` gives none; or if `valid_mask` or `aoi` cannot be read or do not
            belong to it.
        InputError: if `path`, `valid_mask` or `aoi` is no path, `bands` is no choice of its bands, `aoi_layer` is
            given without `aoi`, or `scale` or `follow_links` is of another kind.
    """
    if not isinstance(path, str | Path) or not str(path):
        given = "an empty one" if isinstance(path, str) else f"a {type(path).__name__}"
        raise InputError(f"a scene is opened by its path, not {given}; scene_of_array takes a DataArray")
    if aoi_layer is not None and aoi is None:
        raise InputError(f"a layer ({aoi_layer!r}) of which area of interest? Name its file too (--aoi)")
    for file in (valid_mask, aoi):
        if not isinstance(file, str | Path | None):
            raise InputError(
                f"a mask and an area of interest are given by their paths, not as {type(file).__name__}: write it "
                "to a file first, such as a GeoTIFF or a GeoPackage"
            )
    scene = _open(str(path), follow_links=true_or_false("follow_links", follow_links))
    if bands is not None:
        scene = _with_bands(scene, bands)
    if valid_mask is not None:
        masked = scene.with_mask(*open_valid_mask(valid_mask, scene.map_grid, follow_links=follow_links))
        scene = replace(masked, mask_path=own_path(valid_mask))
    if aoi is not None:
        scene = scene.with_mask(*open_aoi(aoi, scene.map_grid, aoi_layer))
    if scale is not None:
        return scene.with_scale(scale)
    _require_scale(scene)
    return scene


def _require_scale(scene: Scene) -> None:
    """Refuse what no value can be scaled with. A scale of 0 is how some files mark bad bands."""
    unusable = ~usable_scale(scene.scale, scene.offset) & ~((scene.scale == 0) & ~np.array(scene.bands.good))
    if unusable.any():
        first = int(unusable.argmax())
        raise SceneError(
            f"band {scene.band_numbers[first]} of {scene.name} has the scale {scene.scale[first]:g} and the "
            f"offset {scene.offset[first]:g}: both must be finite, and no scale 0. Give the right scale "
            "(--scale), or write it into the file (gdal_edit.py -scale 0.0001 -offset 0)"
        )


def _open(path: str, *, follow_links: bool) -> Scene:
    for each in _FORMATS:
        if each.recognises(path):
            return each.open_product(path)
    try:
        return scene_of_raster(path, follow_links=follow_links)
    except SceneError as error:
        if (mistaken := _mistaken(path)) is not None:
            raise SceneError(mistaken) from error
        raise


def _mistaken(path: str) -> str | None:
    """Say what was given where a scene was expected, if that is plain to see."""
    local = local_path(path)
    if local is None or not is_there(local):
        return None
    if local.is_dir():
        return (
            f"{path} is a folder, and no sensor product that is known: name its raster, or several with "
            f'cssd-geo batch "{local / "*.tif"}"'
        )
    if local.suffix.lower() in _VECTORS:
        return f"{path} is a vector, and a scene is a raster: where both are given, the scene comes first"
    return None


def _with_bands(scene: Scene, choice: str | Sequence[int]) -> Scene:
    indexes = choose_bands(choice, scene.bands)
    note = f"Bands chosen by hand: {ranges(indexes + 1)} ({len(indexes)} of {len(scene.bands)})."
    return scene.take_bands(indexes, note)
