"""Pictures for people: false colour, maps side by side, a confusion matrix. PNG bytes, drawn without a screen."""

import io
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib import colormaps, style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import Patch
from numpy.typing import NDArray

from cssd_geo.accuracy.metrics import Accuracy
from cssd_geo.accuracy.reliability import Reliability
from cssd_geo.bands import Bands
from cssd_geo.classes import ClassTable, to_hex
from cssd_geo.messages import shortened
from cssd_geo.scenes.previews import every_nth
from cssd_geo.scenes.scene import Scene

_FALSE_COLOUR_NM = (860.0, 650.0, 550.0)
"""Near infrared, red and green shown as red, green and blue: vegetation is red."""
_FAR_NM = 100.0
"""A band farther away than this shows something else."""
_SPREAD = (0.8, 0.5, 0.2)
"""Where in the list of bands those lie that are shown where a scene does not cover these wavelengths."""
_MOST_PIXELS = 1200
"""Pixels on the longer side of a quicklook, at most."""
_BACKGROUND = 235
_MOST_NAMED = 60
"""Classes of a confusion matrix that are drawn with names and counts. Of more, every n-th is named."""

_as_designed = style.context("default")
"""Draws by matplotlib's own defaults, whatever a matplotlibrc or a program around ours has set."""

Image = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture of a row of pictures."""

    title: str
    image: Image
    """(y, x, 3)."""


def false_colour(scene: Scene) -> Image:
    """Draw a whole scene (y, x, 3), stretched from the 2nd to the 98th percentile; nodata is light grey.

    Raises:
        SceneError: if the scene cannot be read.
    """
    values, valid = scene.read(scene.grid.window, shown_bands(scene.bands))
    return np.where(valid[..., None], _stretched(values, valid), np.uint8(_BACKGROUND))


@_as_designed
def quicklook(scene: Scene) -> bytes:
    """Draw a scene of any size in false colour, by every n-th pixel: PNG bytes; nodata is transparent.

    Raises:
        SceneError: if the scene cannot be read.
    """
    values, valid = every_nth(scene, shown_bands(scene.bands), _MOST_PIXELS)
    alpha = np.where(valid, 255, 0).astype(np.uint8)
    buffer = io.BytesIO()
    imsave(buffer, np.dstack([_stretched(values, valid), alpha]), format="png")
    return buffer.getvalue()


def shown_bands(bands: Bands) -> NDArray[np.intp]:
    """Indexes from 0 of the bands shown as red, green and blue; others where a scene does not cover them."""
    if not any(bands.good):
        bands = replace(bands, good=(True,) * len(bands))
    chosen, good = np.array([bands.nearest(nm) for nm in _FALSE_COLOUR_NM], np.intp), bands.good_indexes
    centres = np.arange(len(bands)) if bands.wavelength_nm is None else np.array(bands.wavelength_nm)
    far = bands.wavelength_nm is not None and (np.abs(centres[chosen] - _FALSE_COLOUR_NM) > _FAR_NM).any()
    if far or len(set(chosen.tolist())) < len(chosen):
        ordered = good[np.argsort(centres[good], kind="stable")]
        chosen = ordered[np.rint(np.array(_SPREAD) * (len(good) - 1)).astype(np.intp)]
    return chosen


def _stretched(values: NDArray[Any], valid: NDArray[np.bool_]) -> Image:
    """Stretch three bands (3, y, x) from their 2nd to their 98th percentile: (y, x, 3); 0 where not valid."""
    image = np.zeros((*valid.shape, 3), np.uint8)
    for channel, band in enumerate(values):
        seen = band[valid].astype(np.float64)
        if seen.size:
            low, high = np.percentile(seen, (2, 98))
            image[..., channel][valid] = np.round(255 * np.clip((seen - low) / max(high - low, 1e-12), 0, 1))
    return image


def paint_classes(class_map: NDArray[Any], classes: ClassTable) -> Image:
    """Draw class ids (y, x) in their colours; what is unclassified is light grey."""
    lookup = np.full((int(max(classes.ids[-1], class_map.max(initial=0))) + 1, 3), _BACKGROUND, np.uint8)
    lookup[list(classes.ids)] = classes.colours
    return np.asarray(lookup[class_map])


def paint_confidence(confidence: NDArray[np.uint8]) -> Image:
    """Draw percent (y, x), dark for unsure to yellow for sure, so that nodata alone is light grey."""
    shade = colormaps["viridis"](np.minimum(confidence, 100) / 100, bytes=True)[..., :3]
    return np.where((confidence > 100)[..., None], np.uint8(_BACKGROUND), shade)  # noqa: PLR2004 - percent


def paint_errors(class_map: NDArray[Any], truth: NDArray[Any]) -> Image:
    """Draw where the map is wrong (red), right (white) or not comparable (light grey)."""
    image = np.full((*truth.shape, 3), _BACKGROUND, np.uint8)
    image[(truth > 0) & (class_map == truth)] = 255
    image[(truth > 0) & (class_map != truth)] = (200, 30, 30)
    return image


@_as_designed
def panels_in_a_row(panels: list[Panel], classes: ClassTable, title: str) -> bytes:
    """Draw panels in a row with the legend of the classes below: PNG bytes."""
    height, width = panels[0].image.shape[:2]
    inches = 3.6
    figure = Figure(figsize=(inches * len(panels), inches * height / width + 1.3), dpi=110, layout="constrained")
    figure.suptitle(title)
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        axes.imshow(panel.image, interpolation="nearest")
        axes.set_title(panel.title, fontsize=11)
        axes.set_axis_off()
    handles = [
        Patch(facecolor=to_hex(colour), edgecolor="0.4", label=shortened(name))
        for name, colour in zip(classes.names, classes.colours, strict=True)
    ]
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 12), frameon=False, fontsize=9
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return _png(figure)


@_as_designed
def confusion_png(accuracy: Accuracy, title: str | None = None) -> bytes:
    """Draw a confusion matrix, shaded by the share of each reference class, with its counts: PNG bytes.

    Args:
        accuracy: has the matrix.
        title: stands above it; the overall accuracy and kappa if None.
    """
    confusion, names = accuracy.confusion, [*map(shortened, accuracy.names), "unclassified"]
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side, readable = 2.2 + 0.55 * min(len(names), _MOST_NAMED), len(names) <= _MOST_NAMED
    figure = Figure(figsize=(side + 1, side), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    named = slice(None, None, -(-len(names) // _MOST_NAMED))
    across, down = (range(count)[named] for count in confusion.T.shape)
    axes.set_xticks(across, names[named], rotation=60, ha="right", parse_math=False)  # "$" in a name is no formula
    axes.set_yticks(down, names[:-1][named], parse_math=False)
    axes.set(xlabel="map", ylabel="reference")
    figures = f"OA {100 * accuracy.overall_accuracy:.1f} %, kappa {accuracy.kappa:.3f}" if title is None else title
    axes.set_title(f"{figures}, n {accuracy.total}")
    for row, col in zip(*np.nonzero(confusion), strict=True) if readable else ():
        colour = "white" if share[row, col] > 0.5 else "black"  # noqa: PLR2004 - half way to dark blue
        axes.text(col, row, f"{confusion[row, col]}", ha="center", va="center", color=colour, fontsize=7)
    return _png(figure)


@_as_designed
def reliability_png(reliability: Reliability) -> bytes:
    """Draw accuracy against confidence, and how many pixels have which: PNG bytes."""
    figure = Figure(figsize=(5, 5.6), dpi=110, layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    bins = len(reliability.pixels)
    middles, filled = (np.arange(bins) + 0.5) / bins, reliability.pixels > 0
    upper.bar(middles[filled], reliability.accuracy[filled], width=0.9 / bins, color="#4477aa", label="right")
    upper.plot([0, 1], [0, 1], color="0.3", linestyle="--", linewidth=1, label="what the confidence says")
    means = reliability.confidence[filled], reliability.accuracy[filled]
    upper.plot(*means, "o", color="#cc3311", markersize=4, clip_on=False, label="mean confidence of a bar")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of pixels that are right")
    upper.set_title(f"calibration error {reliability.expected_calibration_error:.3f}", fontsize=11)
    upper.legend(loc="upper left", frameon=False, fontsize=9)
    lower.bar(middles, reliability.pixels, width=0.9 / bins, color="0.6")
    lower.set(xlabel="confidence", ylabel="pixels")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # matplotlib's font lacks some scripts: boxes are drawn, the numbers stand
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()
