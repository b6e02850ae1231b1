"""The files that a scene and its valid mask are read from: their own, those beside these, what they lead to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cssd_geo.errors import SceneError
from cssd_geo.files.rasters import open_raster
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.sources import RasterSource

_OVERVIEWS = {".ovr"}
"""Side files that no pixel is read from."""


@dataclass(frozen=True, kw_only=True)
class SceneFiles:
    """Files and, of stores like Zarr, folders."""

    scene: tuple[Path, ...]
    """The scene's own file first, then those beside it that GDAL heeds, and all that a VRT is made of."""
    mask: tuple[Path, ...]
    """The files of its valid mask, likewise."""

    @classmethod
    def of(cls, scene: Scene) -> Self:
        """Look for the files of a scene.

        Raises:
            SceneError: if the scene's own file is gone.
        """
        if scene.path is not None and not scene.path.exists():
            raise SceneError(f"{scene.path} is gone since it was opened: bring it back, then open it again")
        return cls(scene=_own_files(scene), mask=_files_of(scene.mask_path))


def _own_files(scene: Scene) -> tuple[Path, ...]:
    """GDAL is not asked about files that others read: it crashes at numbers of 16 bits in NetCDF, for one."""
    if scene.path is not None and not isinstance(scene.source, RasterSource):
        return (scene.path,)
    return _files_of(scene.path)


def _files_of(raster: Path | None) -> tuple[Path, ...]:
    """A VRT names its sources, and GDAL names none of their files: so each is asked for its own."""
    found: dict[Path, None] = {}
    waiting = [] if raster is None else [raster]
    while waiting:
        path = waiting.pop(0)
        if path in found or (path.suffix in _OVERVIEWS and path != raster) or not path.exists():
            continue
        found[path] = None
        if path.is_dir():
            continue
        try:
            with open_raster(path, follow_links=True) as dataset:
                waiting += map(Path, dataset.files)
        except SceneError:  # headers and the like; and not every product is a raster as it is
            continue
    return tuple(found)
