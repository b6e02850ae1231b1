"""A made-up but physically plausible airborne scene, for demo, tests and benchmarks: no file, no download.

Patches (a field, a stand, a roof) are painted at a third of the pixel size, see `layout`. Each patch has its own
spectra, see `spectra`; each sub-pixel mixes them by its canopy closure and its light. A pixel is the mean of nine,
so that edges are mixed pixels: the whole scene is one sparse matrix of abundances times one matrix of spectra.
"""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage, sparse

from cssd_geo.classes import ClassTable
from cssd_geo.demo.layout import SUB, Canvas, paint_canvas, smooth
from cssd_geo.demo.spectra import COVERS, TEXTURES, Sensor, cover_spectra
from cssd_geo.errors import InputError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rng = np.random.Generator

NODATA = -9999
PIXEL_SIZE = 4.0
"""Metres."""
_MIN_SIZE, _MIN_BANDS = 48, 8

_COLOURS = (
    (30, 90, 200), (0, 75, 55), (40, 140, 45), (150, 215, 110), (235, 205, 110), (205, 165, 20),
    (0, 200, 130), (170, 80, 170), (135, 90, 60), (60, 60, 70), (205, 45, 40), (190, 190, 195),
)  # fmt: skip
CLASSES = ClassTable(ids=tuple(range(1, len(COVERS) + 1)), names=COVERS, colours=_COLOURS)


@dataclass(frozen=True, kw_only=True)
class LabelledPolygon:
    """What an analyst draws around a piece of one class."""

    geometry: shapely.Polygon
    """In pixels: x = column, y = row, corners of pixels at integers."""
    class_name: str


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """A scene, what is truly there, and the few labels of an analyst."""

    cube: NDArray[np.int16]
    """(band, y, x) reflectance times 10000; `nodata` in all bands where not flown."""
    nodata: int
    wavelength_nm: Floats
    """(band,) centres."""
    fwhm_nm: Floats
    """(band,) full widths at half maximum."""
    good_bands: Mask
    """(band,) True where usable; the others hold noise."""
    truth: NDArray[np.uint8]
    """(y, x) id of the cover with most of the pixel; 0 where nodata."""
    classes: ClassTable
    """The same for every size and seed."""
    pixel_size: float
    """Metres."""
    polygons: tuple[LabelledPolygon, ...]


def make_landscape(*, height: int = 320, width: int = 420, bands: int = 128, seed: int = 0) -> Landscape:
    """Make the scene of `seed`: a river, a village, roads, forests and fields; a corner was not flown.

    Layout and labels do not depend on the number of bands. Scenes smaller than the default have smaller fields.

    Raises:
        InputError: if the scene is too small for that, or has too few bands.
    """
    if min(height, width) < _MIN_SIZE or bands < _MIN_BANDS:
        raise InputError(
            f"a landscape needs at least {_MIN_SIZE} x {_MIN_SIZE} pixels and {_MIN_BANDS} bands, "
            f"not height={height}, width={width}, bands={bands}"
        )
    layout_rng, light_rng, spectra_rng, label_rng, sensor_rng = np.random.default_rng(seed).spawn(5)
    sensor = Sensor.with_bands(bands)
    canvas = paint_canvas(height=height * SUB, width=width * SUB, rng=layout_rng)
    truth, pure = _dominant_cover(canvas)
    truth[~_flown(truth.shape)] = 0
    reflectance = _abundances(canvas, light_rng) @ _patch_spectra(canvas, sensor, spectra_rng)
    cube = sensor.measure(reflectance.reshape(height, width, bands), sensor_rng)
    cube[:, truth == 0] = NODATA
    return Landscape(
        cube=cube,
        nodata=NODATA,
        wavelength_nm=sensor.wavelength_nm,
        fwhm_nm=sensor.fwhm_nm,
        good_bands=sensor.good_bands,
        truth=truth,
        classes=CLASSES,
        pixel_size=PIXEL_SIZE,
        polygons=_draw_labels(np.where(pure, truth, 0), canvas.scale, label_rng),
    )


# ---- light and mixture --------------------------------------------------------------------------------------


def _patch_spectra(canvas: Canvas, sensor: Sensor, rng: Rng) -> NDArray[np.float32]:
    """Return (3 x patch, band) reflectance: of each patch the vigorous, the poor and the ground."""
    spectra = np.zeros((len(canvas.covers), 3, sensor.wavelength_nm.size), np.float32)
    for cover in COVERS:
        chosen = np.flatnonzero(np.array(canvas.covers) == cover)
        spectra[chosen] = sensor.respond(cover_spectra(cover, sensor.fine_nm, count=chosen.size, rng=rng))
    return spectra.reshape(-1, sensor.wavelength_nm.size)


def _abundances(canvas: Canvas, rng: Rng) -> sparse.csr_array:
    """Return (pixel, 3 x patch) amounts of light from each spectrum."""
    patch, shape = canvas.patch, canvas.patch.shape
    fertile = 0.8 * smooth(shape, 45, rng) + 0.6 * smooth(shape, 12, rng)
    closure = _closure(canvas, fertile, rng)
    vigour = rng.beta(4, 3, len(canvas.covers))[patch] + 0.15 * fertile + 0.25 * smooth(shape, 1.5, rng)
    vigour = np.clip(vigour, 0, 1)
    light = canvas.light * _illumination(shape, rng) * _crowns(canvas, rng) * _shadows(canvas) / SUB**2
    parts = np.stack([light * closure * vigour, light * closure * (1 - vigour), light * (1 - closure)])
    height, width = shape[0] // SUB, shape[1] // SUB
    pixel = np.arange(height * width).reshape(height, width).repeat(SUB, axis=0).repeat(SUB, axis=1)
    spectrum = 3 * patch + np.arange(3)[:, None, None]
    rows = np.broadcast_to(pixel, parts.shape).ravel()
    size = (height * width, 3 * len(canvas.covers))
    return sparse.csr_array((parts.ravel().astype(np.float32), (rows, spectrum.ravel())), shape=size)


def _closure(canvas: Canvas, fertile: Floats, rng: Rng) -> Floats:
    """Return how much of the ground is hidden: differs between patches and, with fertility, within them."""
    texture = [TEXTURES[cover] for cover in canvas.covers]
    gaps: Floats = 0.7 * np.array([t.gaps for t in texture])
    mean: Floats = np.array([t.closure for t in texture]) + gaps * rng.standard_normal(gaps.size)
    within = 0.6 * fertile + 0.8 * smooth(canvas.patch.shape, 1.5, rng)
    closure: Floats = mean[canvas.patch] + gaps[canvas.patch] * within - _tramlines(canvas, rng)
    return np.clip(closure, 0, 1)


def _tramlines(canvas: Canvas, rng: Rng) -> Floats:
    """Return the canopy lost in the tracks of the sprayer, in a direction of its own in each field."""
    lost: Floats = np.array([TEXTURES[cover].tramlines for cover in canvas.covers])
    angle = rng.uniform(0, np.pi, lost.size)
    y, x = np.ogrid[: canvas.patch.shape[0], : canvas.patch.shape[1]]
    position = y * np.cos(angle)[canvas.patch] + x * np.sin(angle)[canvas.patch]
    driven: Floats = lost[canvas.patch] * (position % 16 < 1.5)  # noqa: PLR2004 - 2 m of every 21 m
    return driven


def _illumination(shape: tuple[int, ...], rng: Rng) -> Floats:
    """Return the light of slopes, of thin clouds' shadows and of the view angle across the flight line."""
    slope: Floats = np.gradient(smooth(shape, 90, rng), axis=0) * 90
    cloud = np.clip(smooth(shape, 120, rng) - 1.2, 0, 1)
    view = np.linspace(-0.04, 0.04, shape[1])
    return (1 + 0.06 * slope) * (1 - 0.3 * cloud) * (1 + view)


def _crowns(canvas: Canvas, rng: Rng) -> Floats:
    """Return the light on crowns, clods and rows, as rough as each cover is."""
    light = np.ones(canvas.patch.shape)
    for cover in COVERS:
        texture, mask = TEXTURES[cover], canvas.where(cover)
        light[mask] += texture.relief * smooth(mask.shape, texture.crown, rng)[mask]
    return np.clip(light, 0.15, None)


def _shadows(canvas: Canvas) -> Floats:
    """Return the light in the shadow of trees and houses; the sun is in the south-south-east."""
    shaded = np.zeros(canvas.patch.shape, bool)
    tall = canvas.where(*(cover for cover in COVERS if TEXTURES[cover].height))
    for cover in COVERS:
        mask = canvas.where(cover)
        for step in range(1, TEXTURES[cover].height + 1):
            aside = -(-step // 3)
            shaded[:-step, :-aside] |= mask[step:, aside:]
    return np.where(shaded & ~tall, 0.35, 1.0)


# ---- truth and labels, in pixels ----------------------------------------------------------------------------


def _dominant_cover(canvas: Canvas) -> tuple[NDArray[np.uint8], Mask]:
    """Return the (y, x) id of the cover with most sub-pixels, and where it has all."""
    height, width = (length // SUB for length in canvas.patch.shape)
    counts = [canvas.where(cover).reshape(height, SUB, width, SUB).sum(axis=(1, 3)) for cover in COVERS]
    return (np.argmax(counts, axis=0) + 1).astype(np.uint8), np.max(counts, axis=0) == SUB**2


def _flown(shape: tuple[int, ...]) -> Mask:
    """Return the (y, x) mask of the flight line, whose slanted edge leaves out the upper right corner."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    flown: Mask = x / shape[1] + 0.16 * (1 - y / shape[0] / 0.7) <= 1
    return flown


def _draw_labels(pure: NDArray[np.uint8], scale: float, rng: Rng) -> tuple[LabelledPolygon, ...]:
    """Draw polygons in some patches of each class; `pure` is (y, x) ids, 0 where a pixel is mixed."""
    polygons = []
    for number, name in zip(CLASSES.ids, CLASSES.names, strict=True):
        depth = ndimage.distance_transform_edt(np.pad(pure == number, 1))[1:-1, 1:-1]
        if not depth.any():
            continue
        inner = depth > min(2.5, 0.4 * np.quantile(depth[depth > 0], 0.95))
        inner = np.pad(inner[1:-1, 1:-1], 1)
        polygons += [LabelledPolygon(geometry=g, class_name=name) for g in _draw_in(inner, scale, rng)]
    return tuple(polygons)


def _draw_in(inner: Mask, scale: float, rng: Rng) -> list[shapely.Polygon]:
    """Draw polygons far apart; smaller and closer ones only where nothing else fits."""
    patches, _ = ndimage.label(inner)
    seeds = np.argwhere(inner)
    wanted = int(np.clip(0.4 * (np.bincount(patches[inner]) > 60 * scale).sum(), 5, 8))
    drawn: list[shapely.Polygon] = []
    for least, apart in ((40, 40 * scale), (24, 24 * scale), (12, 16 * scale), (8, 9 * scale)):
        for row, col in rng.permutation(seeds)[:30]:
            if any(other.distance(shapely.Point(col, row)) < apart for other in drawn):
                continue
            polygon, size = _quadrilateral(patches, row=row, col=col, rng=rng)
            if size >= least and all(polygon.distance(other) > apart for other in drawn):
                drawn.append(polygon)
            if len(drawn) == wanted:
                return drawn
    return drawn


def _quadrilateral(patches: NDArray[np.int32], *, row: int, col: int, rng: Rng) -> tuple[shapely.Polygon, int]:
    """Return a polygon along the patch around a pixel, and how many centres of pixels are within it."""
    top, left, reach = max(row - 7, 0), max(col - 7, 0), 8
    y, x = np.nonzero(patches[top : row + reach, left : col + reach] == patches[row, col])
    points = np.stack([x + left, y + top]) + 0.5
    variances, axes = np.linalg.eigh(np.cov(points, bias=True))
    half = axes * np.sqrt(np.maximum(variances, 0.05)) * rng.uniform(1.1, 1.7)
    corners = np.array([(-1, -1), (-1, 1), (0, 1.1), (1, 1), (1, -1)]) * rng.normal(1, 0.1, (5, 2))
    for shrink in 0.85 ** np.arange(8):
        polygon = shapely.Polygon(points.mean(axis=1) + shrink * corners @ half.T)
        within = _pixels_within(polygon, patches.shape)
        if polygon.is_valid and (patches[within] == patches[row, col]).all():
            return polygon, within[0].size
    return shapely.Polygon(), 0


def _pixels_within(polygon: shapely.Polygon, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the pixels whose centres a polygon contains."""
    left, top, right, bottom = (int(bound) for bound in polygon.bounds)
    y, x = np.mgrid[max(top, 0) : min(bottom + 1, shape[0]), max(left, 0) : min(right + 1, shape[1])]
    inside = shapely.contains_xy(polygon, x + 0.5, y + 0.5)
    return y[inside], x[inside]
