"""The made-up landscape as an analyst would get it: a GeoTIFF, a shapefile of polygons, and the full truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from pyogrio.util import vsi_path
from rasterio.errors import RasterioError
from rasterio.io import MemoryFile

from cssd_geo.classes import to_hex
from cssd_geo.demo.landscape import Landscape
from cssd_geo.errors import OutputError
from cssd_geo.files.outputs import write_whole
from cssd_geo.grid import Grid
from cssd_geo.maps.layer import class_map_layer
from cssd_geo.maps.pam import side_path
from cssd_geo.maps.raster_writer import RasterWriter
from cssd_geo.vectors.class_fields import CLASS_FIELD

CRS = "EPSG:32632"
_ORIGIN = (691_200.0, 5_335_600.0)
"""Upper left corner, UTM zone 32N: a made-up place in Upper Bavaria."""
_ORIGIN_TAG = {"TIFFTAG_IMAGEDESCRIPTION": "made-up landscape of cssd-geo demo"}
_SHAPEFILE = (".shp", ".shx", ".dbf", ".prj", ".cpg", ".qix", ".sbn", ".sbx")


@dataclass(frozen=True, kw_only=True)
class DemoFiles:
    """Where the files of a made-up scene are."""

    scene: Path
    labels: Path
    truth: Path


def write_scene(landscape: Landscape, folder: Path) -> DemoFiles:
    """Write scene.tif, labels.shp and truth.tif into a folder, over older ones.

    Raises:
        OutputError: if they cannot be written.
    """
    files = DemoFiles(scene=folder / "scene.tif", labels=folder / "labels.shp", truth=folder / "truth.tif")
    if vsi_path(str(files.labels)) != str(files.labels):
        raise OutputError(f"{folder}: '!' and ';' would split the path of a shapefile; choose another folder")
    size = landscape.pixel_size
    transform = Affine(size, 0.0, _ORIGIN[0], 0.0, -size, _ORIGIN[1])
    _write_cube(landscape, files.scene, transform)
    _write_labels(landscape, files.labels, transform)
    _write_truth(landscape, files.truth, transform)
    return files


def is_made_up(path: Path) -> bool:
    """Whether a scene is one that `write_scene` wrote."""
    try:
        with rasterio.open(path) as dataset:
            return bool(dataset.tags().items() >= _ORIGIN_TAG.items())
    except RasterioError:
        return False


def _write_cube(landscape: Landscape, path: Path, transform: Affine) -> None:
    bands, height, width = landscape.cube.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": "int16"}
    profile |= {"crs": CRS, "transform": transform, "nodata": landscape.nodata, "interleave": "pixel"}
    profile |= {
        "tiled": True,
        "blockxsize": 128,
        "blockysize": 128,
        "compress": "deflate",
        "predictor": 2,
        "zlevel": 3,
    }
    with MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            _fill_cube(dataset, landscape)
        write_whole(path, memory.read())
    side_path(path).unlink(missing_ok=True)  # statistics of an older scene


def _fill_cube(dataset: Any, landscape: Landscape) -> None:
    dataset.write(landscape.cube)
    dataset.scales = [1e-4] * len(landscape.cube)
    dataset.update_tags(**_ORIGIN_TAG)
    good = ",".join(str(int(flag)) for flag in landscape.good_bands)
    dataset.update_tags(ns="ENVI", bbl=f"{{{good}}}")
    for i, (centre, width_nm) in enumerate(zip(landscape.wavelength_nm, landscape.fwhm_nm, strict=True), 1):
        micrometres = {"CENTRAL_WAVELENGTH_UM": f"{centre / 1000:.6f}", "FWHM_UM": f"{width_nm / 1000:.6f}"}
        dataset.update_tags(i, ns="IMAGERY", **micrometres)
        dataset.set_band_description(i, f"{centre:.1f} nm")


def _write_labels(landscape: Landscape, path: Path, transform: Affine) -> None:
    for suffix in _SHAPEFILE:
        path.with_suffix(suffix).unlink(missing_ok=True)
    pixels = np.array([polygon.geometry for polygon in landscape.polygons])
    placed = shapely.transform(pixels, lambda x, y: transform @ (x, y), interleaved=False)
    names = np.array([polygon.class_name for polygon in landscape.polygons], object)
    table = landscape.classes
    hexes = dict(zip(table.names, map(to_hex, table.colours), strict=True))
    colours = np.array([hexes[name] for name in names], object)
    fields, columns = [CLASS_FIELD, "colour"], [names, colours]
    pyogrio.raw.write(
        path, shapely.to_wkb(placed), columns, fields, geometry_type="Polygon", crs=CRS, encoding="UTF-8"
    )


def _write_truth(landscape: Landscape, path: Path, transform: Affine) -> None:
    height, width = landscape.truth.shape
    grid = Grid(height=height, width=width, transform=transform, crs=rasterio.crs.CRS.from_string(CRS))
    with RasterWriter(class_map_layer(path, landscape.classes, {}), grid) as writer:
        writer.write(landscape.truth, grid.window)
        writer.finalise()
