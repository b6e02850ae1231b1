"""HDF5 files may keep their values in other files, wherever these lie: those that do are refused."""

import zlib
from pathlib import Path
from typing import Any

import h5py

from cssd_geo.errors import SceneError
from cssd_geo.files.beginnings import read_start
from cssd_geo.messages import one_line

UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, EOFError, zlib.error)
"""What h5py raises for files that are damaged, at any access, and zarr for chunks that are."""
DAMAGED = (*UNREADABLE, MemoryError)
"""Likewise where headers are read, which are small: memory lacks only for what a damaged one claims."""
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAY_BEGIN = (0, 512, 1024, 2048)
"""Bytes at which GDAL, xarray and h5py look for the signature: a user's block may lie before it."""


def is_hdf5(path: Path) -> bool:
    """Whether a file is one of HDF5, which NetCDF 4 is too."""
    start = read_start(path, _MAY_BEGIN[-1] + len(_SIGNATURE))
    return any(start.startswith(_SIGNATURE, place) for place in _MAY_BEGIN)


def require_own_values(path: Path) -> dict[str, tuple[int, ...]]:
    """Check that all that an HDF5 file names lies in itself; links within the file are fine.

    Returns:
        Names and shapes of its datasets.

    Raises:
        SceneError: if it links to another file, keeps values in one, or is damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            names: list[str] = []
            file.visit_links(names.append)
            return {name: found.shape or () for name in names if (found := _own_dataset(file, name)) is not None}
    except SceneError:
        raise
    except DAMAGED as error:
        raise damage(path, one_line(error)) from error


def damage(path: str | Path, reason: str) -> SceneError:
    """Return the error of a file that is damaged, with what its reader said."""
    return SceneError(f"{path} cannot be opened: it is damaged or was not copied whole ({reason}): copy it again")


def _own_dataset(file: Any, name: str) -> Any:
    """The dataset of a name, None for other things; raises a SceneError where it is not of this file."""
    link = file.get(name, getlink=True)
    found = file[name] if isinstance(link, h5py.HardLink) else None
    dataset = found if isinstance(found, h5py.Dataset) else None
    if isinstance(link, h5py.ExternalLink) or (dataset is not None and (dataset.external or dataset.is_virtual)):
        raise SceneError(
            f"{file.filename}: {name} lies in another file, and such links are not followed: copy its values into "
            "one file, for example with h5repack or xarray"
        )
    return dataset
