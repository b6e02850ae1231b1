"""Which product a path is: sensor products by their own files, every other raster as GDAL sees it."""

from pathlib import Path
from typing import Protocol

from cssd_geo.scene import Scene, scene_of_raster


class Format(Protocol):
    """A module of `formats`."""

    def recognises(self, path: str) -> bool:
        """Whether a path is a product of this kind: quick, and certain."""

    def open_product(self, path: str) -> Scene:
        """Open it; reads no pixel."""


_FORMATS: tuple[Format, ...] = ()
"""Tried in this order."""


def open_scene(path: str | Path, *, follow_links: bool = False) -> Scene:
    """Open a scene: a sensor product, or any raster that GDAL reads (GeoTIFF, ENVI and others). Reads no pixel.

    Args:
        path: a file, a product's folder, or what else GDAL opens.
        follow_links: let a virtual raster (VRT) refer to files outside of its folder, or on servers.

    Raises:
        SceneError: if it does not exist, is no raster, or holds complex numbers or bands of several types.
    """
    text = str(path)
    for each in _FORMATS:
        if each.recognises(text):
            return each.open_product(text)
    return scene_of_raster(path, follow_links=follow_links)
