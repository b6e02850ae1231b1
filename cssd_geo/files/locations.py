"""Where a scene is: a path on this machine, or an address that GDAL reads by itself."""

import os
import re
from pathlib import Path
from typing import NamedTuple

_VARIABLE = re.compile(r'(?:netcdf|hdf5):"?(?P<file>.+?)"?:(?P<part>[^:]*)', re.IGNORECASE)
_PAGE = re.compile(r"gtiff_dir:(?P<part>(?:off:)?\d+):(?P<file>.+)", re.IGNORECASE)


class _Part(NamedTuple):
    """A part of a file, as GDAL names it: netcdf:scene.nc:reflectance, GTIFF_DIR:2:scene.tif."""

    file: str
    part: str


def is_address(place: str | Path) -> bool:
    """Whether it is for GDAL alone to understand: https://..., s3://..., /vsicurl/..., /vsizip/..."""
    named = _part(place)
    text = str(place) if named is None else named.file
    return "://" in text or text.startswith("/vsi")


def is_there(path: str | Path) -> bool:
    """Whether there is a file or folder of that name, as far as we may know: a folder may be closed to us.

    A pipe is neither: whoever opens one waits for its writer.
    """
    return os.path.isfile(path) or os.path.isdir(path)  # noqa: PTH112, PTH113 - raise nothing, whatever the name


def named_file(place: str | Path) -> Path | None:
    """The existing file or folder that a path, or GDAL's name of a part of a file, refers to; None without one."""
    named = _part(place)
    file = Path(place if named is None else named.file)
    return file if is_there(file) else None


def local_path(place: str | Path) -> Path | None:
    """Return the path of a place on this machine, of the file for a part of one; None for an address."""
    return None if is_address(place) else named_file(place) or Path(place)


def own_path(place: str | Path) -> Path | None:
    """Return `local_path` as an absolute path, which holds when the program goes to another folder."""
    local = local_path(place)
    return None if local is None else local.absolute()


def absolute(place: str) -> str:
    """Return a path as programs in another folder can use it; what is no path stays as it is."""
    return place if is_address(place) or not is_there(place) else str(Path(place).absolute())


def file_name(place: str | Path) -> str:
    """Return the last part; of an address without its query, which may hold a signature; scene.nc:reflectance."""
    if is_address(place):
        return str(place).partition("?")[0].rstrip("/").rpartition("/")[2]
    named = _part(place)
    return Path(place).name if named is None else f"{Path(named.file).name}:{named.part}"


def _part(place: str | Path) -> _Part | None:
    found = _VARIABLE.fullmatch(str(place)) or _PAGE.fullmatch(str(place))
    return None if found is None or is_there(place) else _Part(found["file"], found["part"])
