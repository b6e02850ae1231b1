"""Rasters of others, opened with rasterio and read by windows; what goes wrong is said in GDAL's own words."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterioWindow

from cssd_geo.errors import SceneError
from cssd_geo.files.hints import hint
from cssd_geo.files.links import IF_TRUSTED, LOCAL_FORMATS, files_led_to, is_description, require_own_pixels
from cssd_geo.files.locations import is_address, is_there, named_file
from cssd_geo.machine import use_plain_letters
from cssd_geo.messages import one_line, printable
from cssd_geo.tiles import Window

_PATIENCE = {"GDAL_HTTP_CONNECTTIMEOUT": "30", "GDAL_HTTP_LOW_SPEED_TIME": "60", "GDAL_HTTP_LOW_SPEED_LIMIT": "1"}
"""Seconds to wait for a connection; and seconds that a transfer may stay below so many bytes a second, where the
user's environment does not say. GDAL by itself waits for ever."""
_WHOLE = {"GDAL_PAM_ENABLED": "YES", "GTIFF_IGNORE_READ_ERRORS": "NO", "GDAL_FORCE_CACHING": "NO"}
"""Users may have set these otherwise for other programs. Then GDAL silently ignores side files, takes broken
blocks for data, and data for nodata."""
_SEE_SIDE_FILES = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}
"""Users set this otherwise to ask servers less; on a disk GDAL then misses masks, side files and headers."""
_ARRAYS = {".mat": "MATLAB", ".npy": "NumPy", ".npz": "NumPy"}
"""Files of arrays and nothing else. GDAL opens some of MATLAB's, with rows and columns swapped."""

_warning = threading.Lock()


@contextmanager
def unplaced() -> Iterator[None]:
    """Keep rasterio from warning of a missing georeference; one thread at a time, as filters are global."""
    with _warning, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_raster(path: str | Path, *, follow_links: bool = False) -> Any:
    """Open a raster with rasterio, without a warning where it has no georeference.

    Args:
        path: a file, or whatever else GDAL opens: a URL, a subdataset. Files and folders are opened only in
            `LOCAL_FORMATS`.
        follow_links: let it lead to files outside of its folder.

    Raises:
        SceneError: if it does not exist, is no raster, or leads outside of its folder.
    """
    use_plain_letters()
    local, named = is_there(path), named_file(path)
    if not (local or is_address(path)) and (":" not in str(path) or Path(path).is_absolute()):
        raise SceneError(f"{path} does not exist or is no file: check the path")
    if (program := _ARRAYS.get(Path(path).suffix.lower())) is not None:
        raise SceneError(
            f"{path} holds arrays of {program}, which do not say what is a row, a column or a band, nor where it "
            "lies: write them to a GeoTIFF first (docs/formats.md, Arrays, has the lines)"
        )
    if named is not None and not follow_links:
        for other in files_led_to(named):
            _require_raster(str(other), other.stat().st_mtime_ns)
    try:
        with unplaced(), rasterio.Env(**settings(path)):
            dataset = _open_file(Path(path)) if local else rasterio.open(path)
    except RasterioError as error:  # not the cause of what is raised: it cannot be sent between processes
        raise SceneError(f"{path} is not a raster that can be read: {_cause(error)}{hint(Path(path))}") from None
    except (UnicodeEncodeError, UnicodeDecodeError) as error:
        raise SceneError(_not_utf_8(path, error)) from error
    if local and not follow_links:
        require_own_pixels(dataset)
    if dataset.crs is not None:
        _require_coordinate_systems()
    if dataset.count == 0:
        raise SceneError(f"{path} holds no band itself: open one of its subdatasets: {dataset.subdatasets}")
    return dataset


@cache
def _require_coordinate_systems() -> None:
    """Check that GDAL's PROJ knows any: else maps lose their EPSG code, and rasters in other CRSs do not meet."""
    try:
        CRS.from_epsg(4326)
    except CRSError as error:
        given = [name for name in ("PROJ_DATA", "PROJ_LIB") if name in os.environ]
        advice = f"unset {' and '.join(given)}, set for another program" if given else "install rasterio anew"
        raise SceneError(
            f"PROJ cannot use its database of coordinate systems: {advice} ({one_line(error)})"
        ) from error


def _not_utf_8(path: str | Path, error: UnicodeEncodeError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return f"{printable(str(path))} has a name, or a folder, that is not UTF-8: rename that"
    return f"{path}: its header holds text that is not UTF-8, {error.object!r}: correct it"


def _open_file(path: Path) -> Any:
    """Open a file by its absolute path, which GDAL cannot take for an address."""
    return DatasetReader(str(path.absolute()), driver=list(LOCAL_FORMATS))


@cache
def _require_raster(path: str, _changed: int) -> None:
    """Check a raster to which another one leads, again when it changes: GDAL would open any format there."""
    try:
        with unplaced(), rasterio.Env(**settings(path)), _open_file(Path(path)) as dataset:
            require_own_pixels(dataset)
            plain = not is_description(dataset)
    except (RasterioError, UnicodeError):
        plain = False
    if not plain:
        raise SceneError(
            f"{path}, to which another raster leads, is of no format that holds its pixels itself: remove it or, "
            f"{IF_TRUSTED}"
        )


def settings(place: str | Path) -> dict[str, str]:
    """GDAL's settings to open, read and write with; the environment decides only how servers are asked."""
    patience = {name: value for name, value in _PATIENCE.items() if name not in os.environ}
    return _WHOLE | patience | ({} if is_address(place) else _SEE_SIDE_FILES)


def read_window(
    dataset: Any, window: Window, indexes: int | list[int] = 1, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Read a band (y, x), or bands (band, y, x), counted from 1; `window` lies within the raster.

    Where `out` is given, in whatever order its axes lie in memory, it is filled and returned.

    Raises:
        SceneError: if it cannot be read there.
    """
    with _reading(dataset, window) as area:
        values: NDArray[Any] = dataset.read(indexes, window=area, out=out)
    return values


def read_valid(dataset: Any, window: Window) -> NDArray[np.bool_]:
    """Read what GDAL says of band 1, by mask or nodata: (y, x), True means usable.

    Raises:
        SceneError: if it cannot be read there.
    """
    with _reading(dataset, window) as area:
        mask: NDArray[np.bool_] = dataset.read_masks(1, window=area) > 0
    return mask


def read_known(dataset: Any, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read the values (y, x) of band 1, and (y, x) False where that is nodata or NaN; raises as `read_window`."""
    values = read_window(dataset, window)
    return values, read_valid(dataset, window) & np.isfinite(values)


def to_rasterio(window: Window) -> RasterioWindow:
    """Return a window as rasterio's own."""
    return RasterioWindow(window.col, window.row, window.width, window.height)


@contextmanager
def _reading(dataset: Any, window: Window) -> Iterator[RasterioWindow]:
    try:
        with rasterio.Env(**settings(dataset.name)):  # virtual rasters open their sources only now
            yield to_rasterio(window)
    except RasterioError as error:
        advice = ". If that is damage, copy the file again" if Path(dataset.name).is_file() else ""
        raise SceneError(f"{dataset.name} cannot be read at {window}: {_cause(error)}{advice}") from None


def is_whole(dtype: str) -> bool:
    """Whether a type, as rasterio names it, holds whole numbers; numpy does not know all of its names."""
    return dtype.startswith(("int", "uint"))


def _cause(error: Exception) -> str:
    """Return GDAL's own words on one line: rasterio hangs them on the error as its cause."""
    return one_line(error.__cause__ or error)
