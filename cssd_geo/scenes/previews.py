"""All of a scene by reading little of it: every n-th pixel of a few bands, or all bands of spread windows."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from cssd_geo.errors import SceneError
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.validity import usable
from cssd_geo.tiles import Window

_MOST_VALUES = 8_000_000
"""Values of a sample at most; scenes with fewer are read whole."""
_MOST_DECODED = 400_000_000
"""Values in the blocks of the file that a sample is taken from."""
_MOST_WINDOWS, _FEWEST_WINDOWS = 40, 4
_TRIES = 10
"""Windows that are tried for each one that is read: masks may leave nothing in most of them."""
_SECONDS = 10.0
"""Time after which no further window is read, however little was seen: for files on slow disks, or far away."""
EVEN_STEPS = 0.7548776662466927, 0.5698402909980532
"""Multiples of these, less their whole parts, fill a square evenly, however many are taken (Roberts 2018, R2)."""
SIDE = 16
"""Side length of a small window in pixels: where a few pixels tell enough."""
_SOME_BANDS = 24
"""Bands of such a window that are read, evenly spread: the rest of a spectrum follows from them."""
_ROWS, _COLUMNS = 64, 1024
"""Pixels that are read at once, where that costs little more than every n-th of them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelSample:
    """Pixels of a scene, N, all or spread over it, in some bands, S."""

    values: NDArray[np.generic]
    """(S, N) as stored; without meaning where masks exclude the pixel."""
    data: NDArray[np.bool_]
    """(S, N) True where the value is data: finite, not nodata, and no mask excludes the pixel."""
    unmasked: NDArray[np.bool_]
    """(N,) True where no mask excludes the pixel."""
    unmasked_share: float
    """Of all pixels that were looked at, more than N where masks leave little."""
    exact: bool
    """Whether it is every pixel of the scene."""

    @property
    def empty(self) -> NDArray[np.bool_]:
        """(S,) True for bands without data at any pixel, as the water-vapour bands of many products."""
        return np.asarray(~self.data.any(axis=1))

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(N,) True for pixels with data in every band that is not empty, and in one at least."""
        return np.asarray(self.data[~self.empty].all(axis=0) & self.data.any(axis=0))


def sample_pixels(scene: Scene, bands: NDArray[np.intp]) -> PixelSample:
    """Read all pixels of a small scene, or spread windows of a large one: seconds, whatever its size.

    Args:
        scene: where to read.
        bands: indexes from 0.

    Raises:
        SceneError: if the scene cannot be read.
    """
    whole = scene.grid.window
    exact = whole.pixels * len(bands) <= _MOST_VALUES
    windows, most = ([whole], 1) if exact else _spread_windows(scene, len(bands))
    values, masks, looked_at, until = [], [], [], time.monotonic() + _SECONDS
    with rasterio.Env(GDAL_CACHEMAX=scene.source.cache_bytes):
        for window in windows:
            unmasked = scene.unmasked(window)
            looked_at.append(unmasked.mean())
            if unmasked.any() or exact:
                values.append(scene.read(window, bands)[0].reshape(len(bands), -1))
                masks.append(unmasked.ravel())
            if len(values) == most or (values and time.monotonic() > until):
                break
    stored = np.concatenate(values, axis=1) if values else np.zeros((len(bands), 0), scene.dtype)
    seen = np.concatenate(masks) if masks else np.zeros(0, np.bool_)
    return PixelSample(
        values=stored,
        data=usable(stored[:, None], scene.nodata[bands])[:, 0] & seen,
        unmasked=seen,
        unmasked_share=float(np.mean(looked_at)),
        exact=exact,
    )


def some_of(bands: NDArray[np.intp]) -> NDArray[np.intp]:
    """Take a few of many bands, evenly spread."""
    places = np.linspace(0, len(bands) - 1, min(_SOME_BANDS, len(bands))).round().astype(np.intp)
    return np.asarray(bands[places])


def readable_pixels(scene: Scene, windows: Iterable[Window], bands: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
    """Stored values (S, n) of the valid pixels of each window that can be read.

    Whether those that cannot be read stop a run is decided where their tiles are read.
    """
    for window in windows:
        try:
            values, valid = scene.read(window, bands)
        except SceneError:
            continue
        yield values[:, valid]


def _spread_windows(scene: Scene, bands: int) -> tuple[list[Window], int]:
    """Windows within blocks of the file, evenly spread whether few or many of them are read; how many to read."""
    (height, width), blocks = scene.grid.shape, scene.source.blocks
    pixels = max(64, _MOST_VALUES // bands // _MOST_WINDOWS)
    rows = min(blocks.height, math.isqrt(pixels), height)
    cols = min(width if blocks.divisible else blocks.width, pixels // rows, width)
    block = rows * cols if blocks.divisible else blocks.height * blocks.width
    count = int(np.clip(_MOST_DECODED // (block * len(scene.bands)), _FEWEST_WINDOWS, _MOST_WINDOWS))
    found = {}
    for i in range(1, _TRIES * count + 1):
        down, right = (i * step % 1 for step in EVEN_STEPS)
        row, col = int(down * height), int(right * max(1, width - cols if blocks.divisible else width))
        row = _in_step(row, rows, blocks.height)
        col = col if blocks.divisible else _in_step(col, cols, blocks.width)
        found[row, col] = Window(row=row, col=col, height=rows, width=cols).common(scene.grid.window)
    return [window for window in found.values() if window is not None], count


def _in_step(place: int, length: int, block: int) -> int:
    """Where the window begins that holds a place, if windows follow each other within each block; or nearly so."""
    return place - place % block + min(place % block // length, block // length - 1) * length


def every_nth(scene: Scene, bands: NDArray[np.intp], most: int) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """Read every n-th pixel, so that at most `most` lie on the longer side; no block of the file is read twice.

    Args:
        scene: where to read.
        bands: indexes from 0.
        most: pixels.

    Returns:
        Values (band, height, width) as stored, and valid (height, width).

    Raises:
        SceneError: if the scene cannot be read.
    """
    step = math.ceil(max(scene.grid.shape) / most)
    rows, cols = (np.arange(min(step, n) // 2, n, step) for n in scene.grid.shape)
    values = np.zeros((len(bands), len(rows), len(cols)), scene.dtype)
    valid = np.zeros((len(rows), len(cols)), np.bool_)
    blocks = scene.source.blocks
    tall = 1 if blocks.divisible else blocks.height
    with rasterio.Env(GDAL_CACHEMAX=scene.source.cache_bytes):
        for down in _runs(rows, tall * max(1, _ROWS // step // tall)):
            for across in _runs(cols, blocks.width * max(1, _COLUMNS // blocks.width)):
                read, usable_here = scene.read(Window.around(rows[down], cols[across]), bands)
                values[:, down, across] = read[:, ::step, ::step]
                valid[down, across] = usable_here[::step, ::step]
    return values, valid


def _runs(positions: NDArray[np.int64], length: int) -> Iterator[slice]:
    """Cut ascending positions where they pass into the next stretch of `length`."""
    starts = np.flatnonzero(np.diff(positions // length, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(positions)], strict=True):
        yield slice(start, stop)
