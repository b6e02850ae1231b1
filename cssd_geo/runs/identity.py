"""What makes a scene this scene: its files' content and the way in which their values are read."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from cssd_geo.errors import SceneError
from cssd_geo.grid import open_raster
from cssd_geo.model import fingerprint
from cssd_geo.scenes.scene import Mask, Scene
from cssd_geo.tiles import Window

_NOT_CONTENT = {"name", "cube", "source", "block_shape", "path", "sensor", "notes", "masks"}
"""Fields of a scene that do not change a pixel, or stand for its files. Whatever else it has, or gets, counts."""
_OVERVIEWS = {".ovr"}
"""Side files that no pixel is read from."""
_MOST_FILES = 16
"""Of a folder that are looked into; all others count by name and size."""
_MASK_PIXELS = 1 << 24
"""Pixels of a mask that are looked at at a time."""


def scene_key(scene: Scene) -> dict[str, str] | None:
    """Tell a scene from others, by names for the analyst; None for one that is not in files on this machine.

    The time of a file's last change does not count, so that a copy is the same scene.

    Raises:
        SceneError: if a file or a mask cannot be read.
    """
    files = scene_files(scene)
    if not files:
        return None
    try:
        key = {f"the content of {path.name}": _content(path) for path in files}
        reading = _digest({item.name: getattr(scene, item.name) for item in fields(scene) if _counts(item.name)})
    except OSError as error:
        raise SceneError(f"{scene.name} cannot be read: {error}") from error
    except TypeError:  # something that cannot be told apart from its like
        return None
    key |= {"the scene's bands, place, nodata or scale": reading}
    return key | {f"mask {number}": _mask_digest(mask, scene) for number, mask in enumerate(scene.masks, 1)}


def scene_files(scene: Scene) -> tuple[Path, ...]:
    """The files that a scene is read from, those beside it that GDAL heeds and those that a VRT names included."""
    if scene.path is None or not scene.path.exists():
        return ()
    if scene.path.is_dir():
        return (scene.path,)
    try:
        with open_raster(scene.path, follow_links=True) as dataset:
            found = [scene.path, *map(Path, dataset.files)]
    except SceneError:  # not every product is a raster as it is
        found = [scene.path]
    return tuple(path for path in dict.fromkeys(found) if path.exists() and path.suffix not in _OVERVIEWS)


class SceneWatch:
    """Notices that a scene changes while it is read."""

    def __init__(self, scene: Scene) -> None:
        """Look at its files as they are now."""
        self._name, self._files = scene.name, [file for path in scene_files(scene) for file in _sample(path)]
        self._before = self._states()

    def check(self) -> None:
        """Compare with what the files were.

        Raises:
            SceneError: if one has changed, or is gone.
        """
        changed = [
            file.name
            for file, before, now in zip(self._files, self._before, self._states(), strict=True)
            if before != now
        ]
        if changed:
            raise SceneError(
                f"{self._name} has changed while it was read ({', '.join(changed)}): what was done is of neither "
                "version and has been discarded; classify it again once nothing writes to it"
            )

    def _states(self) -> list[tuple[int, int] | None]:
        return [_state(file) for file in self._files]


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _counts(name: str) -> bool:
    return name not in _NOT_CONTENT


def _content(path: Path) -> str:
    if not path.is_dir():
        return fingerprint(path)
    sizes = {str(file.relative_to(path)): file.stat().st_size for file in _within(path)}
    return _digest([sizes, [fingerprint(file) for file in _sample(path)]])


def _within(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sample(path: Path) -> list[Path]:
    """A file itself; of a folder some, spread over it."""
    if not path.is_dir():
        return [path]
    files = _within(path)
    return list(islice(files, 0, None, max(1, -(-len(files) // _MOST_FILES))))


def _mask_digest(mask: Mask, scene: Scene) -> str:
    """By its pixels, all of them: a mask may come from anywhere."""
    height, width = scene.grid.height, scene.grid.width
    digest, rows = hashlib.sha256(), max(1, _MASK_PIXELS // width)
    for top in range(0, height, rows):
        window = Window(row=top, col=0, height=min(rows, height - top), width=width)
        digest.update(np.packbits(mask.read(window)).tobytes())
    return digest.hexdigest()


def _digest(value: Any) -> str:
    """SHA-256 of plain values, arrays, dataclasses and what is made of them. Raises a TypeError for all else."""
    digest = hashlib.sha256()
    for piece in _pieces(value):
        digest.update(len(piece).to_bytes(8) + piece)
    return digest.hexdigest()


def _pieces(value: Any) -> Iterator[bytes]:
    yield type(value).__name__.encode()
    match value:
        case None | bool() | int() | float() | str():
            yield repr(value).encode()
        case np.ndarray() if value.dtype.kind in "biufU":
            yield f"{value.dtype.str} {value.shape}".encode()
            yield np.ascontiguousarray(value).tobytes()
        case CRS():
            yield value.to_wkt().encode()
        case GroundControlPoint():
            yield from _pieces([value.row, value.col, value.x, value.y])
        case Mapping():
            yield from _pieces(list(value.items()))
        case list() | tuple():
            yield str(len(value)).encode()
            for item in value:
                yield from _pieces(item)
        case _ if is_dataclass(value):
            for item in fields(value):
                yield from _pieces(getattr(value, item.name))
        case _:
            raise TypeError(type(value).__name__)
