"""HDF5 files of others: what a product must hold is looked up with errors that name what is missing or wrong."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cssd_geo.errors import SceneError

UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, TypeError)
"""What h5py raises for files that are damaged."""
_REAL = "uif"
"""Kinds of numpy's types that hold real numbers."""
_MOST_BANDS = 65_535
"""As in a TIFF."""


def open_hdf5(path: str | Path) -> Any:
    """Open an HDF5 file for reading.

    Raises:
        SceneError: if it does not exist, is no HDF5 file or is incomplete.
    """
    if not Path(path).is_file():
        raise SceneError(f"{path} does not exist: check the path; HDF5 products are read from a disk")
    try:
        return h5py.File(path, "r")
    except UNREADABLE as error:
        raise SceneError(
            f"{path} cannot be opened as an HDF5 file: {words_of(error)}. It may be incomplete: download it again"
        ) from error


def dataset_of(file: Any, name: str) -> Any:
    """Return a dataset that is there and lies in this file.

    Raises:
        SceneError: if it is missing, no dataset, or a link to another file: links are not followed.
    """
    try:
        found = file.get(name)
    except UNREADABLE as error:
        raise SceneError(f"{file.filename}: {name} cannot be opened: {words_of(error)}") from error
    if not isinstance(found, h5py.Dataset):
        raise SceneError(
            f"{file.filename} has no dataset {name}: it is incomplete, or no product of this kind; "
            "download it again"
        )
    if found.file.filename != file.filename or found.external or found.is_virtual:
        raise SceneError(f"{file.filename}: {name} lies in another file, and such links are not followed")
    return found


def cube_of(file: Any, name: str, axes: str) -> tuple[int, int, int]:
    """Check a dataset that holds a cube of real numbers.

    Returns:
        Its numbers of bands, rows and columns.

    Raises:
        SceneError: if it is none.
    """
    dataset = dataset_of(file, name)
    if dataset.ndim != len(axes) or dataset.dtype.kind not in _REAL or 0 in dataset.shape:
        raise SceneError(
            f"{file.filename}: {name} has {dataset.dtype} values of shape {dataset.shape}; a cube has real "
            f"numbers and {len(axes)} dimensions, none of them 0"
        )
    sizes = dict(zip(axes, dataset.shape, strict=True))
    if sizes["b"] > _MOST_BANDS:
        raise SceneError(f"{file.filename}: {name} has {sizes['b']} bands; at most {_MOST_BANDS} are possible")
    return sizes["b"], sizes["y"], sizes["x"]


def numbers_of(file: Any, item: Any, name: str) -> NDArray[np.float64]:
    """Read an attribute that holds one or several finite numbers: (n,).

    Raises:
        SceneError: if it is missing or holds something else.
    """
    try:
        value = item.attrs[name]
        numbers = np.atleast_1d(np.asarray(value, np.float64)).ravel()
    except UNREADABLE as error:
        raise SceneError(
            f"{file.filename}: the attribute {name} of {item.name} is missing or no number"
        ) from error
    if not numbers.size or not np.isfinite(numbers).all():
        raise SceneError(f"{file.filename}: the attribute {name} of {item.name} is not finite or empty")
    return numbers


def number_of(file: Any, item: Any, name: str) -> float:
    """Read an attribute that holds one number; raises as `numbers_of`."""
    return float(numbers_of(file, item, name)[0])


def text_of(value: Any) -> str:
    """Return what a scalar dataset or attribute says, whichever of HDF5's kinds of strings it is."""
    first = np.asarray(value).ravel()[:1].tolist()
    text = first[0] if first else ""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def words_of(error: Exception) -> str:
    """Return HDF5's own words on one line."""
    return " ".join(str(error).split())
