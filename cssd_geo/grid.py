"""Where pixels lie on the Earth: the size, transform, CRS and ground control points of a raster."""

import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from cssd_geo.errors import SceneError

_opening = threading.Lock()


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
        if self.transform is None or other.transform is None:
            return self.transform is other.transform
        shift = ~self.transform * other.transform
        corners = [(0, 0), (self.width, 0), (0, self.height), (self.width, self.height)]
        moved = [(shift * corner, corner) for corner in corners]
        return all(abs(x - u) + abs(y - v) < tolerance for (x, y), (u, v) in moved)

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

    def profile(self) -> dict[str, Any]:
        """Options for rasterio's `open(..., "w", **profile)` that reproduce this grid."""
        profile: dict[str, Any] = {"height": self.height, "width": self.width, "crs": self.crs}
        if self.gcps:  # a TIFF holds either; where both are given, the points would be dropped
            return profile | {"gcps": list(self.gcps)}
        return profile | ({} if self.transform is None else {"transform": self.transform})


def open_raster(path: str | Path) -> Any:
    """Open a raster with rasterio; the lack of a georeference is a fact to handle, not a warning to print.

    Raises:
        SceneError: if it does not exist or is no raster.
    """
    if "://" not in str(path) and not str(path).startswith("/vsi") and not Path(path).exists():
        raise SceneError(f"{path} does not exist: check the path")
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
    except RasterioError as error:
        hint = "; open the data file, not its header" if str(path).lower().endswith(".hdr") else ""
        raise SceneError(f"{path} is not a raster that GDAL can read{hint}: {cause(error)}") from error
    if dataset.count == 0:
        raise SceneError(f"{path} holds no band itself: open one of its subdatasets: {dataset.subdatasets}")
    return dataset


def cause(error: Exception) -> str:
    """Return GDAL's own words on one line: rasterio hangs them on the error as its cause."""
    return " ".join(str(error.__cause__ or error).split())
