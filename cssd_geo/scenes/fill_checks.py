"""Nodata that nobody declared: many pixels with one value in all bands, such as -9999 or 0 around a mosaic.

Such pixels are never left out silently, as a dark or clipped surface can look so too: the analyst is told.
"""

from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from cssd_geo.errors import SceneError
from cssd_geo.scenes.previews import SIDE, readable_pixels, sample_pixels, some_of
from cssd_geo.scenes.scene import Scene
from cssd_geo.spectra.band_choice import ranges
from cssd_geo.tiles import Window

_SUSPECT_SHARE = 0.005
"""Pixels of one value in all bands: a few are shadow or saturation, more are an edge without data."""
_FEWEST_BANDS = 4
"""With fewer, pixels of one value in all bands are common."""
_LEAST_PERCENT = 0.05
"""Least percentage that is not printed as 0.0 %."""
_PLACES = ((0, 0), (1, 1), (0, 1), (1, 0), (0, 0.5), (1, 0.5), (0.5, 0), (0.5, 1))
"""Corners and middles of the edges, (down, across), in the order in which they are looked at."""
_CHEAP_VALUES = 16_000_000
"""Values that may be decoded for the windows: that takes a tenth of a second."""
_CHEAP_SHARE = 1 / 16
"""Share of the scene's values that may be decoded for them, where that is more."""


def suspect_fill(values: NDArray[Any], pixels: int) -> tuple[str, int] | None:
    """Return the value that many pixels have in every band, and how many have it; None if there is none.

    One such pixel suffices where the value is below zero: no spectrum is so, and -9999 spoils every mean.

    Args:
        values: (S, n) as stored, of the pixels that are valid.
        pixels: how many there are with those that are not valid.
    """
    if len(values) < _FEWEST_BANDS:
        return None
    few = values[:, values[0] == values[-1]]
    found, counts = np.unique(few[0, (few == few[0]).all(axis=0)], return_counts=True)
    suspect = (counts >= _SUSPECT_SHARE * pixels) | (found < 0)
    if not suspect.any():
        return None
    most = int(np.where(suspect, counts, 0).argmax())
    return _in_words(found[most]), int(counts[most])


def _in_words(value: Any) -> str:
    """Short, but still the same number: -3.4028235e+38 can be declared, -3.40282e+38 is another one."""
    short = f"{value:g}"
    return short if float(short) == float(value) else str(value)


def share_of(count: int, pixels: int) -> str:
    """So many of the pixels: in percent, or as a number where that would look like 0."""
    percent = 100 * count / pixels
    return f"{percent:.1f} %" if percent >= _LEAST_PERCENT else f"{count:,}"


def remedy(value: str) -> str:
    """What to do about pixels of this value."""
    return (
        f"If there is no data, declare it (gdal_edit.py -a_nodata {value}, data ignore value in an ENVI header, "
        f"or array.rio.write_nodata({value}) in Python) or exclude them (--valid-mask)."
    )


def fill_notes(scene: Scene, bands: NDArray[np.intp]) -> tuple[str, ...]:
    """Tell of nodata that was not declared, as a few small windows show it at a scene's corners and edges.

    Only files on a disk and arrays without dask are looked at; where blocks are large, in fewer windows or none.
    """
    values = _at_edges(scene, bands)
    found = suspect_fill(values, values.shape[1])
    if found is None:
        return ()
    value, count = found
    note = (
        f"{share_of(count, values.shape[1])} of the pixels that were looked at, at corners and edges of "
        f"{scene.name}, are {value} in every band, and that is not declared as nodata: they are taken for data. "
        f"{remedy(value)}"
    )
    return (note,)


def empty_band_notes(scene: Scene, bands: NDArray[np.intp]) -> tuple[str, ...]:
    """Say which bands leave no pixel valid, as a sample shows: it takes seconds, so only where a map is empty.

    Args:
        scene: what was classified.
        bands: indexes from 0 of those that a model needs.
    """
    try:
        empty = sample_pixels(scene, bands).empty
    except SceneError:  # a scene that cannot be read has an empty map, and its blocks are told of
        return ()
    if empty.all() or not empty.any():
        return ()
    numbers = scene.band_numbers[bands[empty]]
    which = f"Band {numbers[0]} has" if len(numbers) == 1 else f"Bands {ranges(numbers)} have"
    note = (
        f"{which} no data in any pixel of {scene.name} that was looked at, and the model needs every band that it "
        "was trained with: train one without (--bands), or repair the scene."
    )
    return (note,)


def _at_edges(scene: Scene, bands: NDArray[np.intp]) -> NDArray[Any]:
    """Stored values (S, n) of valid pixels in some of the bands."""
    some = some_of(bands)
    with rasterio.Env(GDAL_CACHEMAX=scene.source.cache_bytes):
        seen = list(readable_pixels(scene, _edge_windows(scene), some))
    return np.concatenate([np.empty((len(some), 0), scene.dtype), *seen], axis=1)


def _edge_windows(scene: Scene) -> list[Window]:
    if scene.path is None and (scene.array is None or scene.array.chunks is not None):  # on a server, or computed
        return []
    grid, blocks = scene.grid, scene.source.blocks
    height, width = min(SIDE, grid.height), min(SIDE, grid.width)
    decoded = (height, width) if blocks.divisible else (max(height, blocks.height), max(width, blocks.width))
    affordable = max(_CHEAP_VALUES, _CHEAP_SHARE * grid.window.pixels * len(scene.bands))
    count = int(affordable // (decoded[0] * decoded[1] * len(scene.bands)))
    corners = [
        (int(down * (grid.height - height)), int(right * (grid.width - width))) for down, right in _PLACES[:count]
    ]
    return [Window(row=row, col=col, height=height, width=width) for row, col in dict.fromkeys(corners)]
