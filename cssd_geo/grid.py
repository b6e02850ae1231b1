"""Where pixels lie on the Earth: the size, transform, CRS and ground control points of a raster."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from cssd_geo.errors import SceneError
from cssd_geo.tiles import Window

_SAME_PLACE = 0.01
"""Tolerance, in pixels, for labels and masks on the scene's grid: programs round transforms, and no label is drawn
that exactly."""
_SQUARE_METRES = 10_000
"""Square metres in a hectare."""
_TRUE_AREA = 0.01
"""Share by which a projection may distort areas before a note says so."""
_AT_A_POLE = 90 - 1e-9
"""Degrees of latitude."""
UNEVEN = 0.1
"""Share of a pixel by which spacing may vary: rounding to 32 bits causes as much, a missing pixel causes more."""


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

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def window(self) -> Window:
        """All of its pixels."""
        return Window(row=0, col=0, height=self.height, width=self.width)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Column and row of the corners, around the raster."""
        return [(0, 0), (self.width, 0), (self.width, self.height), (0, self.height)]

    def same_as(self, other: "Grid", tolerance: float = 1e-6) -> bool:
        """Whether two grids put every pixel at the same place (to `tolerance` of a pixel)."""
        if self.shape != other.shape or not _same_crs(self.crs, other.crs):
            return False
        if [(p.row, p.col, p.x, p.y) for p in self.gcps] != [(p.row, p.col, p.x, p.y) for p in other.gcps]:
            return False
        if self.transform is None or other.transform is None:
            return self.transform is other.transform
        shift = ~self.transform @ other.transform
        moved = [(shift @ corner, corner) for corner in self.corners]
        return all(abs(x - u) + abs(y - v) < tolerance for (x, y), (u, v) in moved)

    def differences(self, other: "Grid") -> list[str]:
        """Say how the grid of labels or a mask differs from a scene's; nothing where they are the same."""
        if self.same_as(other, _SAME_PLACE):
            return []
        grids, found = (self, other), list[str]()
        if self.shape != other.shape:
            found.append(f"{self.height} x {self.width} pixels against {other.height} x {other.width}")
        if not _same_crs(self.crs, other.crs):
            names = ("no CRS" if grid.crs is None else grid.crs.to_string() for grid in grids)
            found.append(" against ".join(names))
        if self.transform != other.transform:
            shown = ("none" if grid.transform is None else str(grid.transform.to_gdal()) for grid in grids)
            found.append("transform " + " against ".join(shown))
        if self.gcps or other.gcps:
            found.append(f"{len(self.gcps)} ground control points against {len(other.gcps)}, or others")
        return found

    @classmethod
    def of(cls, dataset: Any) -> "Grid":
        """Read the grid of an open rasterio dataset. An identity transform counts as none.

        Raises:
            SceneError: if its transform gives pixels no size.
        """
        points, points_crs = dataset.gcps
        if dataset.transform.is_degenerate:
            raise SceneError(
                f"{dataset.name}: its transform {dataset.transform.to_gdal()} gives pixels no size: correct it, "
                "for example with gdal_edit.py -a_ullr, or the map info of its header"
            )
        transform = None if dataset.transform.is_identity else dataset.transform
        return cls(
            height=dataset.height,
            width=dataset.width,
            transform=transform,
            crs=dataset.crs or (points_crs if points else None),
            gcps=tuple(points),
        )

    @property
    def is_placed(self) -> bool:
        """Whether it says where its pixels lie."""
        return self.transform is not None or bool(self.gcps)

    @property
    def middle(self) -> tuple[float, float]:
        """Map coordinates x, y of the middle, where a transform or ground control points tell them."""
        if self.transform is None or self.gcps:
            x, y = np.mean([(point.x, point.y) for point in self.gcps], axis=0)
            return float(x), float(y)
        middle: tuple[float, float] = self.transform @ (self.width / 2, self.height / 2)
        return middle

    @property
    def is_local(self) -> bool:
        """Whether its CRS is no place on the Earth, as what ENVI calls Arbitrary."""
        return self.crs is not None and pyproj.CRS.from_wkt(self.crs.to_wkt()).is_engineering

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
        if self.pixel_area is None or self.crs is None:
            return float("nan")
        crs = pyproj.CRS.from_wkt(self.crs.to_wkt())
        try:
            geographic = pyproj.CRS.from_user_input(crs.geodetic_crs)
            to_geographic = pyproj.Transformer.from_crs(crs, geographic, always_xy=True)
            middle = to_geographic.transform(*self.middle)
            radians = geographic.axis_info[0].unit_conversion_factor  # of a degree, or of a grad in France
            return float(pyproj.Proj(crs).get_factors(*np.degrees(middle) * radians).areal_scale)
        except ProjError:
            return float("nan")

    @property
    def pixel_hectares(self) -> float | None:
        """Area of a pixel in hectares; None where `pixel_area` is."""
        return None if self.pixel_area is None else self.pixel_area / _SQUARE_METRES

    @property
    def hectare_notes(self) -> tuple[str, ...]:
        """What a reader must know of hectares: nothing where the projection shows areas as large as they are."""
        if self.pixel_area is None or not abs(self.areal_scale - 1) > _TRUE_AREA:
            return ()
        scale = f"{self.areal_scale:.2f} times as large as they are in the middle of the map"
        return (f"Hectares are the projection's, which shows areas {scale}: use an equal-area CRS.",)

    @property
    def degrees(self) -> tuple[float, float, float, float] | None:
        """West, south, east and north; None where they are not known."""
        if self.crs is None or self.transform is None:
            return None
        x, y = np.transpose([self.transform @ corner for corner in self.corners])
        try:
            to_degrees = pyproj.Transformer.from_crs(self.crs.to_wkt(), "EPSG:4326", always_xy=True)
            bounds = to_degrees.transform_bounds(x.min(), y.min(), x.max(), y.max())
        except ProjError:  # a CRS of a building, or of the moon
            return None
        return bounds if np.isfinite(bounds).all() else None

    @property
    def has_a_pole(self) -> bool:
        """Whether it reaches to a pole, as far as its corners are known."""
        return self.degrees is not None and max(map(abs, self.degrees[1::2])) > _AT_A_POLE

    def profile(self) -> dict[str, Any]:
        """Options for rasterio's `open(..., "w", **profile)` that reproduce this grid."""
        profile: dict[str, Any] = {"height": self.height, "width": self.width, "crs": self.crs}
        if self.gcps:  # a TIFF holds either; where both are given, the points would be dropped
            return profile | {"gcps": list(self.gcps)}
        return profile | ({} if self.transform is None else {"transform": self.transform})


def regular_axis(centres: NDArray[np.float64]) -> tuple[float, float] | None:
    """Step between pixel centres (two or more), and where the first pixel begins; None if not evenly spaced."""
    step = float(centres[-1] - centres[0]) / (len(centres) - 1)
    if not np.isfinite(centres).all() or step == 0 or np.abs(np.diff(centres) - step).max() > UNEVEN * abs(step):
        return None
    return step, float(centres[0]) - step / 2


def _same_crs(one: CRS | None, other: CRS | None) -> bool:
    """Whether two CRSs are the same, however programs wrote them: axes in another order, or other names."""
    if one is None or other is None or one == other:
        return one == other
    try:
        ours, theirs = (pyproj.CRS.from_wkt(crs.to_wkt()) for crs in (one, other))
        codes, others = ({crs.to_epsg(), same.to_epsg()} for crs, same in ((one, ours), (other, theirs)))
        return bool((codes & others) - {None}) or ours.equals(theirs, ignore_axis_order=True)
    except ProjError:
        return False
