"""Whether a scene's values are in the model's units: one look at the whole scene, before its first tile.

Reflectance is stored as 0 to 1, as percent or as 0 to 10,000, and files often do not say which. The spectra of
most land covers lie within a factor of three of a model's mean spectrum, so two decades off in most bands is
another scale. Water is a hundred times as dark as land too, but beyond 700 nm only, not in visible light: pixels
that are not evenly bright or dark are left out, unless there are hardly others.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from cssd_geo.grid import Grid
from cssd_geo.model import Model
from cssd_geo.scenes.previews import EVEN_STEPS, SIDE, readable_pixels, some_of
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_checks import NO_SCALE
from cssd_geo.spectra.alignment import align
from cssd_geo.tiles import Window

Floats = NDArray[np.float64]

_POWERS = (1e-4, 1e-2, 1e2, 1e4)
"""Ratios of scales in use. 1,000 is not told apart from a dark scene of 10,000, so that is left to the analyst."""
_FAR = 20.0
"""A scene that is so many times as bright as the model's, or as dark, is another one or has another scale."""
_NEAR = 3.0
"""A power fits where the median of the bands is within this factor of it ..."""
_NEAR_EACH = 5.0
_MOST_BANDS_SHARE = 0.9
"""... and so many of the bands are within `_NEAR_EACH` of it. A fifth of the bands is in visible light."""
_SOME_SHARE = 0.05
"""Share of the pixels: fewer that are evenly bright do not stand for a scene."""
_FEW_WINDOWS, _ENOUGH_WINDOWS = 3, 9
"""Windows with data: a few suffice where values are like the model's, otherwise more are read."""
_MOST_WINDOWS = 64
"""Windows that are looked at, at most, where much is nodata."""
_NOTHING = float(np.finfo(np.float64).tiny)
"""In place of ratios of 0 and less, which have no logarithm."""


def recognise_scale(scene: Scene, model: Model) -> Scene:
    """Return a scene in the units of a model: with another scale where it declares none and one fits, and a note.

    Where both declare their scale, or it was set by hand, a scale that does not fit is noted only. The decision is
    made once, from windows spread over the whole scene, and does not depend on tiles.

    Raises:
        SceneError: if the scene does not cover the model's bands.
    """
    ratio = _ratio(scene, model)
    typical = float(np.median(ratio)) if ratio.size else 1.0
    if 1 / _FAR < typical < _FAR:
        return scene
    if typical <= _NOTHING:
        return scene.noting(
            f"Most values of {scene.name} are 0 or less: it probably has a nodata value that it does not declare. "
            "cssd-geo info tells which, and how to declare it."
        )
    power = next((power for power in _POWERS if _fits(power, ratio)), None)
    fixed = scene.scale_by_hand or (_declares(scene) and _was_declared(model))
    if power is None or fixed:
        note = f"Values of {scene.name} are about {_times(typical)} the model's"
        note += " although both declare their scale" if fixed and not scene.scale_by_hand else ""
        advice = "check that they are the same quantity, and the scale (--scale sets it)"
        if power is not None and not scene.scale_by_hand and np.allclose(scene.scale, power):
            advice = f"if they were multiplied by it before, {NO_SCALE}"
        return scene.noting(f"{note}: {advice}.")
    silent = "the model was trained on a scene that declares none" if _declares(scene) else "no scale is declared"
    note = (
        f"Values of {scene.name} are about {_times(power)} the model's, and {silent}: they were taken as "
        f"{_times(1 / power)} what they say. Set the scale with --scale if that is wrong."
    )
    return replace(scene, scale=scene.scale / power, offset=scene.offset / power).noting(note)


def _ratio(scene: Scene, model: Model) -> Floats:
    """How many times the model's mean the upper quartile of the scene is, for some bands; empty if unknown."""
    positive = np.flatnonzero(model.mean > 0)
    if not positive.size:
        return np.empty(0)
    chosen = some_of(positive)
    alignment = align(scene.bands, model.bands, scene.name, scene.band_numbers)
    weights = alignment.weights[chosen]
    used = (weights > 0).any(axis=0)
    bands = alignment.bands[used]
    ratio, seen = np.empty(0), np.empty((len(bands), 0))
    with rasterio.Env(GDAL_CACHEMAX=scene.source.cache_bytes):
        with_data = (values for values in readable_pixels(scene, _windows(scene.grid), bands) if values.size)
        for number, stored in enumerate(islice(with_data, _ENOUGH_WINDOWS), start=1):
            seen = np.concatenate([seen, stored * scene.scale[bands, None] + scene.offset[bands, None]], axis=1)
            every = np.maximum(weights[:, used] @ seen / model.mean[chosen, None], _NOTHING)
            even = _are_near(every, np.median(every, axis=0))
            land = every[:, even] if even.mean() >= _SOME_SHARE else every
            ratio = np.percentile(land, 75, axis=1)  # shade does not move it
            if number >= _FEW_WINDOWS and _fits(1.0, ratio):
                break
    return ratio


def _windows(grid: Grid) -> Iterator[Window]:
    """Small windows spread over a scene, the same ones each time."""
    height, width = min(SIDE, grid.height), min(SIDE, grid.width)
    room = np.array([grid.height - height + 1, grid.width - width + 1])
    for i in range(_MOST_WINDOWS):
        row, col = ((0.5 + i * np.array(EVEN_STEPS)) % 1 * room).astype(int).tolist()
        yield Window(row=row, col=col, height=height, width=width)


def _fits(power: float, ratio: Floats) -> bool:
    near = abs(np.log(np.median(ratio)) - np.log(power)) <= np.log(_NEAR)
    return bool(near and _are_near(ratio, power))


def _are_near(ratio: Floats, middle: Any) -> NDArray[np.bool_]:
    """Whether most of the bands of a ratio, (B,) or of many (B, n), are near their middle, one number for each."""
    near = np.abs(np.log(ratio) - np.log(middle)) <= np.log(_NEAR_EACH)
    most: NDArray[np.bool_] = np.mean(near, axis=0) >= _MOST_BANDS_SHARE
    return most


def _declares(scene: Scene) -> bool:
    return bool((scene.scale != 1).any() or (scene.offset != 0).any())


def _was_declared(model: Model) -> bool:
    """Whether the scene that a model was trained on declared a scale."""
    told = model.provenance.get("scale")
    return isinstance(told, dict) and told != {"scale": [1.0], "offset": [0.0]}


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.2g} times"  # noqa: PLR2004 - two digits
