"""Raster files as scenes: whatever GDAL opens."""

from dataclasses import replace
from pathlib import Path

import rasterio

from cssd_geo.files.locations import local_path
from cssd_geo.files.rasters import settings
from cssd_geo.grid import Grid
from cssd_geo.headers.raster_facts import read_facts
from cssd_geo.headers.raw_files import data_of_header
from cssd_geo.scenes.scene import Scene, scene_of_source
from cssd_geo.scenes.sources import RasterSource


def scene_of_raster(path: str | Path, *, follow_links: bool = False) -> Scene:
    """Open a raster of any usual format (GeoTIFF, ENVI and others) as a scene; reads no pixel.

    Args:
        path: of the raster, of the header of a raw file, or an address that GDAL knows: https://, s3://, /vsizip/.
        follow_links: let a virtual raster refer to files outside of its folder.

    Raises:
        SceneError: if it does not exist, is no raster, holds complex numbers or bands of several types, or is not
            as long as its header says.
    """
    place, opened = _data_file(path)
    source = RasterSource(str(place), follow_links)
    dataset = source.dataset()
    with rasterio.Env(**settings(place)):  # GDAL makes masks when it is first asked for them
        facts = read_facts(dataset)
    facts = replace(facts, notes=opened + facts.notes)
    return scene_of_source(source, facts, place, grid=Grid.of(dataset))


def _data_file(path: str | Path) -> tuple[str | Path, tuple[str, ...]]:
    """Return what to open, and a note where that is not what was given: headers stand for their data."""
    local = local_path(path)
    if local is None or local.suffix.lower() != ".hdr":
        return path, ()
    data = data_of_header(local)
    return data, (f"{local.name} is a header: {data.name}, its data, was opened.",)
