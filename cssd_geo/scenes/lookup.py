"""Geometry look-up tables: which sensor pixel a map shows where. Results move to the map, spectra never do."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from cssd_geo.errors import SceneError
from cssd_geo.grid import Grid
from cssd_geo.scenes.validity import Mask
from cssd_geo.tiles import Window

NOWHERE = -1
"""Row and column of map pixels that no sensor pixel covers."""
_PIXELS_AT_ONCE = 1 << 20
"""Sensor pixels that `take` reads at once."""
_FITTED = 100_000
"""Map pixels that tell how the sensor raster lies on the map: more say the same."""

_DIAGONAL = 0.75
"""Share of the distance of neighbours: half the diagonal of a pixel, and a little more."""
_LEAST_COSINE = 0.05
"""At the poles, where all longitudes meet, map pixels are narrower than the sensor's."""
_HALF_TURN = 180

Pixels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class GeometryLookup:
    """A map grid, and for each of its pixels the sensor pixel that it shows: nearest, nothing is resampled."""

    grid: Grid
    """Of the map, with transform and CRS."""
    rows: NDArray[np.int32]
    """(y, x) of the map: row of the sensor pixel, from 0; `NOWHERE` where there is none."""
    cols: NDArray[np.int32]
    """(y, x) of the map: its column."""
    height: int
    """Rows of the sensor raster."""
    width: int
    """Columns of the sensor raster."""

    def __post_init__(self) -> None:
        shape = self.grid.shape
        if self.rows.shape != shape or self.cols.shape != shape:
            raise SceneError(
                f"the geometry look-up table has {self.rows.shape} rows and {self.cols.shape} columns for a map "
                f"of {shape} pixels"
            )
        for name, values, size in (("rows", self.rows, self.height), ("columns", self.cols, self.width)):
            low, high = int(values.min(initial=0)), int(values.max(initial=NOWHERE))
            if low < NOWHERE or high >= size:
                wrong = low if low < NOWHERE else high
                raise SceneError(
                    f"the geometry look-up table points at {name} that the image does not have: {wrong + 1}, "
                    f"counted from 1, of {size}. Table and image do not belong together"
                )
        if ((self.rows == NOWHERE) != (self.cols == NOWHERE)).any():
            raise SceneError("the geometry look-up table has rows without columns, or columns without rows")
        if not (self.rows != NOWHERE).any():
            raise SceneError("the geometry look-up table is empty: it places no pixel on the map")

    @classmethod
    def of_table(
        cls, samples: NDArray[Any], lines: NDArray[Any], *, grid: Grid, height: int, width: int, fill: float = 0
    ) -> Self:
        """Take tables as the products have them: counted from 1; 0 or `fill` is nowhere, negative is interpolated.

        Args:
            samples: (y, x) of the map: column of the sensor pixel.
            lines: (y, x) of the map: its row.
            grid: of the map.
            height: of the sensor raster.
            width: likewise.
            fill: value that means nowhere, beside 0.

        Raises:
            SceneError: if a table is of another size than the map, or points beyond the sensor raster.
        """
        tables = np.asarray(lines), np.asarray(samples)
        nowhere = [(table == 0) | (table == fill) for table in tables]
        rows, cols = (
            np.where(empty, NOWHERE, np.abs(table.astype(np.int64)) - 1).astype(np.int32)
            for table, empty in zip(tables, nowhere, strict=True)
        )
        return cls(grid=grid, rows=rows, cols=cols, height=height, width=width)

    @classmethod
    def of_places(cls, longitude: NDArray[Any], latitude: NDArray[Any]) -> Self:
        """Build the table of a swath that only knows where its pixels lie: each map pixel shows the nearest one.

        The map is in WGS 84 with pixels as large as the sensor's shorter spacing, square in its middle. Map pixels
        farther from the nearest one than half its diagonal show nothing.

        Args:
            longitude: (y, x) of the sensor raster in degrees; whatever is no longitude is nowhere.
            latitude: likewise.

        Raises:
            SceneError: if no pixel has a place.
        """
        from scipy.spatial import cKDTree  # noqa: PLC0415 - so that scenes on a map do not wait for it

        height, width = longitude.shape
        degrees = np.asarray(longitude, np.float64), np.asarray(latitude, np.float64)
        placed = (np.abs(degrees[0]) <= 2 * _HALF_TURN) & (np.abs(degrees[1]) <= _HALF_TURN / 2)  # False for NaN
        points = _on_sphere(*(np.where(placed, values, np.nan) for values in degrees))
        nearest, farthest = _spacing(points)
        placed &= np.isfinite(farthest)
        if not placed.any():
            raise SceneError("no pixel has a longitude and latitude beside neighbours: the scene lies nowhere")
        grid = _grid_around(degrees[0][placed], degrees[1][placed], float(np.median(nearest[placed])))
        sensor, tree, reach = np.flatnonzero(placed), cKDTree(points[placed]), farthest[placed] * _DIAGONAL
        farthest_reach = float(reach.max())  # a search without a bound takes ten times as long beside the swath
        shown = np.full(grid.shape, NOWHERE, np.int64)
        for row in range(grid.height):
            points_of_row = _on_sphere(*_centres(grid, row))
            distance, found = tree.query(points_of_row, distance_upper_bound=farthest_reach)
            seen = np.flatnonzero(np.isfinite(distance))
            seen = seen[distance[seen] <= reach[found[seen]]]
            shown[row, seen] = sensor[found[seen]]
        rows, cols = (np.where(shown < 0, NOWHERE, part).astype(np.int32) for part in np.divmod(shown, width))
        return cls(grid=grid, rows=rows, cols=cols, height=height, width=width)

    @property
    def sensor_grid(self) -> Grid:
        """The sensor raster on the map, as near as one transform comes to where the table puts its pixels."""
        seen = np.random.default_rng(0).permutation(np.flatnonzero(self.rows != NOWHERE))[:_FITTED]
        sensor = np.column_stack([self.cols.ravel()[seen], self.rows.ravel()[seen]]) + 0.5
        shown = np.column_stack(np.divmod(seen, self.grid.width)[::-1]) + 0.5
        middles = sensor.mean(axis=0), shown.mean(axis=0)
        (a, d), (b, e) = np.linalg.lstsq(sensor - middles[0], shown - middles[1], rcond=None)[0].tolist()
        on_map = Affine.translation(*middles[1]) @ Affine(a, b, 0, d, e, 0) @ Affine.translation(*-middles[0])
        transform = (self.grid.transform or Affine.identity()) @ on_map
        return Grid(height=self.height, width=self.width, transform=transform, crs=self.grid.crs)

    def take(
        self, read: Callable[[Window], NDArray[Any]], window: Window, *, nodata: float, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """Return a window of the map, from what `read` returns for windows of the sensor raster.

        Args:
            read: returns (y, x) or (band, y, x) of a window that lies within the sensor raster. What is
                read at once has about a million pixels at most.
            window: of the map; lies within it.
            nodata: for map pixels that no sensor pixel covers.
            dtype: of the result.

        Returns:
            (y, x) or (band, y, x) of the window.
        """
        rows, cols = self.rows[window.slices], self.cols[window.slices]
        seen = rows != NOWHERE
        if not seen.any():  # a pixel is read only to know whether there are bands
            bands = read(Window(row=0, col=0, height=1, width=1)).shape[:-2]
            return np.full((*bands, *seen.shape), nodata, dtype)
        box = Window.around(rows[seen], cols[seen])
        step, taken = max(1, _PIXELS_AT_ONCE // box.width), None
        for top in range(box.row, box.row + box.height, step):
            part = Window(row=top, col=box.col, height=min(step, box.row + box.height - top), width=box.width)
            values = read(part)
            if taken is None:
                taken = np.full((*values.shape[:-2], *seen.shape), nodata, dtype)
            here = seen & (rows >= top) & (rows < top + part.height)
            taken[..., here] = values[..., rows[here] - top, cols[here] - box.col]
        return np.asarray(taken)

    def sensor_pixels(self, rows: Pixels, cols: Pixels) -> tuple[Pixels, Pixels, NDArray[np.bool_]]:
        """Return row and column of the sensor pixels that map pixels (n,) show, and where there is one at all."""
        found = self.rows[rows, cols]
        return found.astype(np.int64), self.cols[rows, cols].astype(np.int64), found != NOWHERE

    def sensor_mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return a mask (y, x) of the sensor raster: True for pixels that any map pixel that is True shows."""
        rows, cols, seen = self.sensor_pixels(*np.nonzero(mask))
        on_sensor = np.zeros((self.height, self.width), np.bool_)
        on_sensor[rows[seen], cols[seen]] = True
        return on_sensor


class SensorMask:
    """A mask of the map as one of the sensor's pixels."""

    def __init__(self, mask: Mask, lookup: GeometryLookup) -> None:
        self._usable = lookup.sensor_mask(mask.read(lookup.grid.window))

    def read(self, window: Window) -> NDArray[np.bool_]:
        """Return (y, x) of a window of the sensor raster, True means usable."""
        return self._usable[window.slices]


def _on_sphere(longitude: NDArray[np.float64], latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (..., 3) on the unit sphere, where neither poles nor the date line are special."""
    lon, lat = np.radians(longitude), np.radians(latitude)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def _spacing(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances (y, x) of each pixel of a swath to its nearest and to its farthest neighbour; NaN without any."""
    down, across = (np.linalg.norm(np.diff(points, axis=axis), axis=-1) for axis in (0, 1))
    pads = (
        (down, ((1, 0), (0, 0))),
        (down, ((0, 1), (0, 0))),
        (across, ((0, 0), (1, 0))),
        (across, ((0, 0), (0, 1))),
    )
    beside = [np.pad(steps, pad, constant_values=np.nan) for steps, pad in pads]
    return np.fmin.reduce(beside), np.fmax.reduce(beside)


def _grid_around(longitude: NDArray[np.float64], latitude: NDArray[np.float64], size: float) -> Grid:
    """Return the grid of a map in WGS 84 that holds all places; `size` of its pixels in radians."""
    middle = np.angle(np.exp(1j * np.radians(longitude)).mean(), deg=True)
    east = (longitude - middle + _HALF_TURN) % (2 * _HALF_TURN) - _HALF_TURN + middle
    down = np.degrees(size)
    across = down / max(np.cos(np.radians(np.median(latitude))), _LEAST_COSINE)
    left, top = east.min() - across / 2, latitude.max() + down / 2
    transform = Affine(across, 0.0, left, 0.0, -down, top)
    height, width = (top - latitude.min()) / down + 0.5, (east.max() - left) / across + 0.5
    return Grid(height=math.ceil(height), width=math.ceil(width), transform=transform, crs=CRS.from_epsg(4326))


def _centres(grid: Grid, row: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map x and y of the pixels of a row."""
    cols = np.arange(grid.width) + 0.5
    transform = grid.transform or Affine.identity()
    x, y = transform @ (cols, np.full_like(cols, row + 0.5))
    return np.asarray(x, np.float64), np.asarray(y, np.float64)
