"""Where pixels lie on the Earth: the size, transform, CRS and ground control points of a raster."""

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterioWindow

from cssd_geo.errors import SceneError
from cssd_geo.files.links import LOCAL_FORMATS, files_led_to, is_description, named_file, require_own_pixels
from cssd_geo.files.locations import is_address
from cssd_geo.tiles import Window

_PATIENCE = {
    "GDAL_HTTP_CONNECTTIMEOUT": "30",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
}
"""Seconds to connect, and seconds with less than so many bytes each."""

_warning = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The grid of a raster, as rasterio states it; written to outputs unchanged."""

    height: int
    width: int
    transform: Affine | None
    """From (column, row) of pixel corners to map x, y; None where the raster has none."""
    crs: CRS | None
    """CRS of the transform, or of the ground control points where there are any."""
    gcps: tuple[GroundControlPoint, ...] = ()
    """Ground control points; where there are any, they stand in for the transform."""

    def same_as(self, other: "Grid", tolerance: float = 1e-6) -> bool:
        """Whether two grids put every pixel at the same place (to `tolerance` of a pixel)."""
        if (self.height, self.width, self.crs) != (other.height, other.width, other.crs):
            return False
        if [(p.row, p.col, p.x, p.y) for p in self.gcps] != [(p.row, p.col, p.x, p.y) for p in other.gcps]:
            return False
        if self.transform is None or other.transform is None:
            return self.transform is other.transform
        shift = ~self.transform * other.transform
        corners = [(0, 0), (self.width, 0), (0, self.height), (self.width, self.height)]
        moved = [(shift * corner, corner) for corner in corners]
        return all(abs(x - u) + abs(y - v) < tolerance for (x, y), (u, v) in moved)

    def differences(self, other: "Grid", tolerance: float = 1e-6) -> list[str]:
        """Say how this grid differs from another one; nothing where they are the same (see `same_as`)."""
        if self.same_as(other, tolerance):
            return []
        grids, found = (self, other), list[str]()
        if (self.height, self.width) != (other.height, other.width):
            found.append(f"{self.height} x {self.width} pixels against {other.height} x {other.width}")
        if self.crs != other.crs:
            names = ("no CRS" if grid.crs is None else grid.crs.to_string() for grid in grids)
            found.append(" against ".join(names))
        if self.transform != other.transform:
            shown = ("no transform" if grid.transform is None else str(grid.transform.to_gdal()) for grid in grids)
            found.append("transform " + " against ".join(shown))
        if self.gcps or other.gcps:
            found.append(f"{len(self.gcps)} ground control points against {len(other.gcps)}, or others")
        return found

    @classmethod
    def of(cls, dataset: Any) -> "Grid":
        """Read the grid of an open rasterio dataset. An identity transform counts as none."""
        points, points_crs = dataset.gcps
        transform = None if dataset.transform.is_identity else dataset.transform
        return cls(
            height=dataset.height,
            width=dataset.width,
            transform=transform,
            crs=dataset.crs or (points_crs if points else None),
            gcps=tuple(points),
        )

    @property
    def pixel_area(self) -> float | None:
        """Square metres of a pixel by the units of the CRS; None where that is not projected, or with points."""
        if self.transform is None or self.gcps or self.crs is None or not self.crs.is_projected:
            return None
        _, metres = self.crs.linear_units_factor
        return float(abs(self.transform.determinant) * metres**2)

    @property
    def areal_scale(self) -> float:
        """How many times larger the projection shows areas in the middle of the raster; NaN if not known."""
        if self.pixel_area is None or self.crs is None or self.transform is None:
            return float("nan")
        crs = pyproj.CRS.from_wkt(self.crs.to_wkt())
        try:
            to_degrees = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
            middle = to_degrees.transform(*(self.transform * (self.width / 2, self.height / 2)))
            return float(pyproj.Proj(crs).get_factors(*middle).areal_scale)
        except ProjError:
            return float("nan")

    def profile(self) -> dict[str, Any]:
        """Options for rasterio's `open(..., "w", **profile)` that reproduce this grid."""
        profile: dict[str, Any] = {"height": self.height, "width": self.width, "crs": self.crs}
        if self.gcps:  # a TIFF holds either; where both are given, the points would be dropped
            return profile | {"gcps": list(self.gcps)}
        return profile | ({} if self.transform is None else {"transform": self.transform})


@contextmanager
def unplaced() -> Iterator[None]:
    """Let rasterio work without a georeference and not warn; one thread at a time, as warnings are everybody's."""
    with _warning, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_raster(path: str | Path, *, follow_links: bool = False) -> Any:
    """Open a raster with rasterio; the lack of a georeference is a fact to handle, not a warning to print.

    Args:
        path: a file, or whatever else GDAL opens: a URL, a subdataset. Files and folders are opened only in
            `LOCAL_FORMATS`.
        follow_links: let it lead to files outside of its folder.

    Raises:
        SceneError: if it does not exist, is no raster, or leads outside of its folder.
    """
    local, named = Path(path).exists(), named_file(path)
    if not local and Path(path).is_absolute() and not is_address(path):
        raise SceneError(f"{path} does not exist: check the path")
    if named is not None and not follow_links:
        for other in files_led_to(named):
            _require_raster(str(other), other.stat().st_mtime_ns)
    try:
        with unplaced(), rasterio.Env(**_patience()):
            dataset = _open_file(Path(path)) if local else rasterio.open(path)
    except RasterioError as error:  # not the cause of what is raised: it cannot be sent between processes
        if ":" not in str(path) and not is_address(path) and not Path(path).exists():
            raise SceneError(f"{path} does not exist: check the path") from None
        raise SceneError(f"{path} is not a raster that GDAL can read: {cause(error)}") from None
    except UnicodeDecodeError as error:
        raise SceneError(
            f"{path}: its header holds text that is not UTF-8, {error.object!r}: correct it"
        ) from error
    if local and not follow_links:
        require_own_pixels(dataset)
    if dataset.count == 0:
        raise SceneError(f"{path} holds no band itself: open one of its subdatasets: {dataset.subdatasets}")
    return dataset


def _open_file(path: Path) -> Any:
    """Open a file by its whole path, which GDAL takes for nothing else."""
    return DatasetReader(str(path.absolute()), driver=list(LOCAL_FORMATS))


@lru_cache(maxsize=4096)
def _require_raster(path: str, _changed: int) -> None:
    """Check, once until it changes, what another raster leads to: GDAL would open it there in any format."""
    try:
        with unplaced(), rasterio.Env(**_patience()), _open_file(Path(path)) as dataset:
            require_own_pixels(dataset)
            plain = not is_description(dataset)
    except (RasterioError, UnicodeDecodeError):
        plain = False
    if not plain:
        raise SceneError(
            f"{path}, to which another raster leads, is of no format that holds its pixels itself: remove it or, "
            "if you trust it, allow that with --follow-links"
        )


def _patience() -> dict[str, str]:
    """How long a server may be silent, unless the user's environment says so; GDAL alone waits for ever."""
    return {name: value for name, value in _PATIENCE.items() if name not in os.environ}


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


@contextmanager
def _reading(dataset: Any, window: Window) -> Iterator[RasterioWindow]:
    try:
        yield RasterioWindow(window.col, window.row, window.width, window.height)
    except RasterioError as error:
        where = f"row {window.row}, column {window.col} ({window.height} x {window.width} pixels)"
        raise SceneError(f"{dataset.name} cannot be read at {where}: {cause(error)}") from None


def is_whole(dtype: str) -> bool:
    """Whether a type, as rasterio names it, holds whole numbers; numpy does not know all of its names."""
    return dtype.startswith(("int", "uint"))


def cause(error: Exception) -> str:
    """Return GDAL's own words on one line: rasterio hangs them on the error as its cause."""
    return " ".join(str(error.__cause__ or error).split())
