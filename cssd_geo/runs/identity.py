"""What makes a scene this scene: its files' content and the way in which their values are read."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from cssd_geo.errors import SceneError, SceneOutOfReachError
from cssd_geo.files.fingerprints import files_in, looked_into
from cssd_geo.files.side_files import content_fingerprint, is_side_file
from cssd_geo.messages import listed
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_files import SceneFiles
from cssd_geo.scenes.validity import Mask
from cssd_geo.tiles import Window

_NOT_CONTENT = {"name", "array", "source", "path", "sensor", "notes", "masks", "mask_path"}
"""Fields of a scene that change no pixel, or are known by its files. All other fields count, also new ones."""
_LISTED = 100
"""Files whose contents stand one by one in a key; more are one digest."""
_MASK_PIXELS = 1 << 24
"""Pixels of a mask that are looked at at a time."""


@dataclass(frozen=True, kw_only=True)
class SceneIdentity:
    """What tells a scene from others."""

    key: dict[str, str] | None
    """By names for the analyst; None for one that is not in files on this machine.

    The time of a file's last change does not count, so that a copy is the same scene.
    """
    digest: str
    """SHA-256 of the key; of a scene that is not in files on this machine, of its name and how it is read."""

    @classmethod
    def of(cls, scene: Scene, files: SceneFiles | None = None) -> "SceneIdentity":
        """Read the scene's files and masks once; `files` None: those that are found now.

        Raises:
            SceneError: if a file or a mask cannot be read, or is gone.
        """
        reading = _reading(scene)
        if scene.path is None:
            return cls(key=None, digest=_digest({"name": scene.name} | reading))
        key = _contents(scene, files or SceneFiles.of(scene)) | reading
        if part := scene.name.removeprefix(scene.path.name):
            key["the part of the file"] = part
        return cls(key=key, digest=_digest(key))


def _contents(scene: Scene, files: SceneFiles) -> dict[str, str]:
    """What each of a scene's files holds, by where it lies from the scene; those that say nothing are left out."""
    found: dict[str, str] = {}
    for path in files.scene:
        content = _content(path, scene.name)
        if content is not None:
            found[f"the content of {os.path.relpath(path, files.scene[0].parent)}"] = content
    return found if len(found) <= _LISTED else {f"the content of {len(found)} files": _digest(found)}


class SceneWatch:
    """Notices that a scene changes while it is read. Statistics that GDAL adds to a side file are no change."""

    def __init__(self, scene: Scene, files: SceneFiles | None = None) -> None:
        """Note the state of its files; `files` None: those that are found now."""
        files = files or SceneFiles.of(scene)
        places = [files_in(path) for path in (*files.scene, *files.mask)]
        self._name, self._often = scene.name, {file for place in places for file in looked_into(place)}
        self._states = {file: _state(file) for place in places for file in place}
        self._said = {file: _content(file, scene.name, copied=True) for file in self._states if is_side_file(file)}

    def check(self, *, all_files: bool = False) -> None:
        """Compare the files with what they were; of a folder with many files only some, unless `all_files`.

        Raises:
            SceneError: if one has changed.
            SceneOutOfReachError: if one is gone, or cannot be looked at.
        """
        found = {file: self._has_changed(file) for file in (self._states if all_files else self._often)}
        changed = [file.name for file, has_changed in found.items() if has_changed]
        if changed:
            raise SceneError(
                f"{self._name} has changed while it was read ({', '.join(changed)}): what was done is of neither "
                "version and has been discarded; classify it again once nothing writes to it"
            )
        lost = [file.name for file, has_changed in found.items() if has_changed is None]
        if lost:
            raise SceneOutOfReachError(
                f"{self._name} cannot be reached any more ({listed(lost)}): bring it back, and give the same "
                "command again"
            )

    def _has_changed(self, file: Path) -> bool | None:
        """None where that cannot be told: a file that is gone looks like one whose folder is away for a moment."""
        now = _state(file)
        if now == self._states[file]:
            return False
        if file in self._said:
            try:
                said = _content(file, self._name, copied=True)
            except SceneError:
                return None
            if said == self._said[file]:
                self._states[file] = now
                return False
        return None if now is None else True


def _state(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _content(path: Path, scene: str, *, copied: bool = False) -> str | None:
    """None for a side file that says nothing, see `side_fingerprint`."""
    try:
        return content_fingerprint(path, copied=copied)
    except OSError as error:
        raise SceneError(f"{scene} cannot be read: {error}") from error


def _reading(scene: Scene) -> dict[str, str]:
    """How values become reflectance and which pixels count."""
    names = [item.name for item in fields(scene) if item.name not in _NOT_CONTENT]
    facts = _digest({name: getattr(scene, name) for name in names})
    masks = {f"mask {number}": _mask_digest(mask, scene) for number, mask in enumerate(scene.masks, 1)}
    return {"the scene's bands, place, nodata or scale": facts} | masks


def _mask_digest(mask: Mask, scene: Scene) -> str:
    """Of all pixels of a mask, as it may come from anywhere."""
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
        case None | bool() | int() | float() | str() | np.dtype():
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
        case list() | tuple() | Affine():
            yield str(len(value)).encode()
            for item in value:
                yield from _pieces(item)
        case _ if is_dataclass(value):
            for item in fields(value):
                yield from _pieces(getattr(value, item.name))
        case _:
            kind = f"{type(value).__name__}{' of objects' if isinstance(value, np.ndarray) else ''}"
            raise TypeError(f"{kind} cannot be told from its like")
