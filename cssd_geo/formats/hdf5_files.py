"""HDF5 files of others: what a product must hold is looked up with errors that name what is missing or wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from cssd_geo.errors import SceneError
from cssd_geo.files.hdf5_links import DAMAGED
from cssd_geo.messages import one_line

_REAL = "uif"
"""Kinds of numpy's types that hold real numbers."""
MOST = {"b": 65_535, "y": 10_000_000, "x": 10_000_000}
"""Bands, rows and columns; damaged files claim more."""


def open_hdf5(path: str | Path) -> Any:
    """Open an HDF5 file for reading.

    Raises:
        SceneError: if it does not exist, is no HDF5 file or is incomplete.
    """
    if not Path(path).is_file():
        raise SceneError(f"{path} does not exist: check the path; HDF5 products are read from a disk")
    try:
        return h5py.File(path, "r")
    except DAMAGED as error:
        raise SceneError(
            f"{path} cannot be opened as an HDF5 file: {one_line(error)}. It may be incomplete: download it again"
        ) from error


@contextmanager
def reading_hdf5(path: str | Path) -> Iterator[Any]:
    """Open an HDF5 file, close it afterwards, and say in one way what is wrong with a damaged one.

    Raises:
        SceneError: if it cannot be opened, or what is done with it fails because it is damaged.
    """
    with open_hdf5(path) as file:
        try:
            yield file
        except SceneError:
            raise
        except DAMAGED as error:
            raise SceneError(f"{path} is damaged: {one_line(error)}. Download it again") from error


def refuse(file: Any, reason: str) -> NoReturn:
    """Raise a SceneError that says what is wrong with the open file of a product, and what to do."""
    raise SceneError(f"{file.filename}: {reason}: download it again")


def dataset_of(file: Any, name: str) -> Any:
    """Return a dataset that is there and lies in this file.

    Raises:
        SceneError: if it is missing, no dataset, or a link to another file: links are not followed.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        refuse(file, f"it has no dataset {name}, so it is incomplete or no product of this kind")
    if found.file.filename != file.filename or found.external or found.is_virtual:
        refuse(file, f"{name} lies in another file, and such links are not followed")
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
        held = f"{dataset.dtype} values of shape {dataset.shape}"
        refuse(file, f"{name} has {held}; a cube has real numbers and {len(axes)} dimensions, none of them 0")
    sizes = dict(zip(axes, dataset.shape, strict=True))
    if any(sizes[axis] > MOST[axis] for axis in axes):
        refuse(file, f"{name} claims a shape of {dataset.shape}")
    return sizes["b"], sizes["y"], sizes["x"]


def numbers_of(file: Any, item: Any, name: str) -> NDArray[np.float64]:
    """Read an attribute that holds one or several finite numbers: (n,).

    Raises:
        SceneError: if it is missing or holds something else.
    """
    try:
        numbers = np.ravel(np.asarray(item.attrs[name], np.float64))
    except DAMAGED:
        refuse(file, f"the attribute {name} of {item.name} is missing or no number")
    if not numbers.size or not np.isfinite(numbers).all():
        refuse(file, f"the attribute {name} of {item.name} is not finite or empty")
    return numbers


def number_of(file: Any, item: Any, name: str) -> float:
    """Read an attribute that holds one number; raises as `numbers_of`."""
    return float(numbers_of(file, item, name)[0])


def text_of(file: Any, name: str) -> str:
    """Read a dataset that holds one text, whichever of HDF5's kinds of strings it is.

    Raises:
        SceneError: if it is missing or holds more.
    """
    dataset = dataset_of(file, name)
    if dataset.size != 1:
        refuse(file, f"{name} has the shape {dataset.shape}, and must be one text")
    (text,) = np.asarray(dataset[()]).ravel().tolist()
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def crs_of_code(file: Any, name: str, code: str | int) -> CRS:
    """Return the CRS of an EPSG code that stands under a name; raises a SceneError if there is none."""
    try:
        return CRS.from_epsg(int(code))
    except (CRSError, ValueError, OverflowError):
        refuse(file, f"{name} is {code!r}, which is no known CRS")
