"""Where things are in the made-up landscape: fields, forests, water and a village, painted in sub-pixels."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Rng = np.random.Generator

SUB = 3
"""Sub-pixels along a pixel."""
_FORESTS = ("conifer forest", "deciduous forest")
_DEFAULT_AREA = 960 * 1260
_FLAT_ROOF = 5
"""Number of the one hall that has no tiles."""
_ROTATION = ("wheat", "maize", "meadow", "sugar beet", "rapeseed", "bare soil", "wheat", "maize", "meadow")


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Sub-pixels that belong to patches; later paint covers earlier."""

    patch: NDArray[np.int32]
    """(y, x) number of the patch."""
    light: Floats
    """(y, x) factor of brightness of slanted roofs."""
    covers: list[str] = field(default_factory=list)
    """Cover of each patch."""

    @property
    def scale(self) -> float:
        """1 for the default size; below, fields shrink with the scene so that all covers fit."""
        return float(np.clip(np.sqrt(self.patch.size / _DEFAULT_AREA), 0.3, 1.0))

    def paint(self, where: Mask | tuple[NDArray[np.intp], ...], cover: str) -> None:
        """Make a patch of a (y, x) mask, or of points by their rows and columns."""
        self.patch[where] = len(self.covers)
        self.covers.append(cover)

    def where(self, *covers: str) -> Mask:
        """Return the (y, x) mask of these covers."""
        chosen: Mask = np.isin(self.covers, covers)[self.patch]
        return chosen


def paint_canvas(*, height: int, width: int, rng: Rng) -> Canvas:
    """Paint a landscape of height x width sub-pixels: fields first, a village last."""
    canvas = Canvas(patch=np.zeros((height, width), np.int32), light=np.ones((height, width)))
    y, x = np.mgrid[:height, :width].astype(float)
    river = _distance_to_curve(y, x, across=0.74, angle=-0.18, bends=0.10, rng=rng)
    street = _distance_to_curve(y, x, across=0.36, angle=0.12, bends=0.02, rng=rng)
    lane = _distance_to_curve(x, y, across=0.62, angle=0.15, bends=0.02, rng=rng)
    reach = 120 * np.sqrt(canvas.scale) + 10 * smooth(y.shape, 20, rng)
    _paint_fields(canvas, y, x, rng)
    _paint_forests(canvas, rng)
    _paint_water(canvas, river, rng)
    _paint_village(canvas, np.hypot(street, 0.6 * lane) < reach, np.minimum(street, lane), rng)
    canvas.paint(np.minimum(street, lane) < 5.5, "asphalt")  # noqa: PLR2004 - a road of 14 m
    return canvas


def smooth(shape: tuple[int, ...], sigma: float, rng: Rng) -> Floats:
    """Return noise of unit variance, correlated over `sigma` sub-pixels."""
    # Hills are made on a coarse grid: 20 times faster for the widest, and no difference to the eye.
    step = max(1, int(sigma / 3))
    coarse = [-(-length // step) + 2 for length in shape]
    noise = ndimage.gaussian_filter(rng.standard_normal(coarse), sigma / step, mode="wrap")
    fine: Floats = ndimage.zoom(noise, step, order=1)[: shape[0], : shape[1]]
    fine -= fine.mean()
    fine /= fine.std()
    return fine


def _distance_to_curve(y: Floats, x: Floats, *, across: float, angle: float, bends: float, rng: Rng) -> Floats:
    """Return the distance from a curve that crosses the scene along `x`, at `across` of its extent in `y`."""
    height, width = float(y.max()), float(x.max())
    v = (y - across * height) * np.cos(angle) - (x - width / 2) * np.sin(angle)
    u = (y - across * height) * np.sin(angle) + (x - width / 2) * np.cos(angle)
    for cycles in (1.1, 2.3, 4.1):
        k, phase = 2 * np.pi * cycles * rng.uniform(0.85, 1.15) / width, rng.uniform(0, 2 * np.pi)
        v -= bends * height / cycles**0.8 * np.sin(k * u + phase)
    distance: Floats = np.abs(v) / np.hypot(*np.gradient(v))
    return distance


def _divide(points: Floats, area: float, rng: Rng) -> list[NDArray[np.intp]]:
    """Cut (2, point) points by straight lines into parcels of about `area` points; return their indices."""
    todo, parcels = [np.arange(points.shape[1])], []
    while todo:
        part = todo.pop()
        if part.size < area * rng.uniform(1.0, 2.2):
            parcels.append(part)
            continue
        variances, axes = np.linalg.eigh(np.cov(points[:, part[:: 1 + part.size // 2000]]))
        # Fields are strips: many cuts run along the longer side, as long as it is no longer than twice the other.
        lengthwise = int(variances[1] > 4 * variances[0] or rng.random() > 0.45)  # noqa: PLR2004
        normal = axes[:, lengthwise] + rng.normal(0, 0.06) * axes[:, 1 - lengthwise]
        position = normal @ points[:, part]
        left = position < np.quantile(position, rng.uniform(0.36, 0.64))
        todo += [part[left], part[~left]]
    return parcels


def _paint_fields(canvas: Canvas, y: Floats, x: Floats, rng: Rng) -> None:
    """Paint farm blocks cut into parcels of crops, grass and hedges between them, tracks between blocks."""
    shape, area = y.shape, canvas.scale**1.4
    bent = [c + 9 * canvas.scale * smooth(shape, 70 * canvas.scale, rng) for c in (y, x)]
    points = np.reshape(bent, (2, -1))
    blocks = np.zeros(y.size, np.int32)
    crops: list[str] = []
    for number, block in enumerate(_divide(points, 72000 * area, rng)):
        blocks[block] = number
        for part in _divide(points[:, block], 8500 * area, rng):
            # In rotation rather than by chance, so that even a small scene has several fields of each crop.
            crops = crops or rng.permutation(_ROTATION).tolist()
            canvas.paint(np.unravel_index(block[part], shape), crops.pop())
    edge, wide_edge = _edges(canvas.patch, 2), _edges(canvas.patch, 5)
    hedged = smooth(shape, 60 * canvas.scale, rng) + 0.5 * smooth(shape, 3, rng)
    canvas.paint(edge, "meadow")
    canvas.paint(wide_edge & (hedged > 1.1), "deciduous forest")  # noqa: PLR2004 - along a sixth of the edges
    canvas.paint(_edges(blocks.reshape(shape), 4), "concrete")


def _edges(labels: NDArray[np.int32], size: int) -> Mask:
    edges: Mask = ndimage.maximum_filter(labels, size) != ndimage.minimum_filter(labels, size)
    return edges


def _paint_forests(canvas: Canvas, rng: Rng) -> None:
    """Paint forests with ragged edges over a quarter of the land, in stands of one kind of tree each."""
    shape, scale = canvas.patch.shape, canvas.scale
    land = smooth(shape, 80 * scale, rng) + 0.10 * smooth(shape, 9 * scale, rng) + 0.06 * smooth(shape, 3, rng)
    rows, cols = np.nonzero(land > np.quantile(land, 0.76))
    frayed = [c + 10 * scale * smooth(shape, 10 * scale, rng)[rows, cols] for c in (rows, cols)]
    for number, stand in enumerate(_divide(np.stack(frayed), 11000 * scale**1.4, rng)):
        canvas.paint((rows[stand], cols[stand]), _FORESTS[number % 2])


def _paint_water(canvas: Canvas, river: Floats, rng: Rng) -> None:
    """Paint ponds in hollows of the open land, and the river with grass and trees on its banks."""
    shape, scale = canvas.patch.shape, canvas.scale
    hollow = smooth(shape, 38 * scale, rng) + 0.04 * smooth(shape, 4, rng) - 9 * canvas.where(*_FORESTS)
    deep = np.quantile(hollow, 0.985)
    bank = river - (13 + 2.5 * smooth(shape, 40, rng)) * np.sqrt(scale)
    trees = smooth(shape, 5, rng) + smooth(shape, 30, rng)
    canvas.paint(((bank < 16 * scale) | (hollow > deep - 0.08)) & ~canvas.where(*_FORESTS), "meadow")
    canvas.paint((bank < 11 * scale) & (trees > 0.5), "deciduous forest")  # noqa: PLR2004 - a third of the banks
    canvas.paint(hollow > deep, "water")
    canvas.paint(bank < 0, "water")


def _paint_village(canvas: Canvas, village: Mask, road: Floats, rng: Rng) -> None:
    """Paint gardens, then farmsteads (a hall and its yard), then houses in what is left, all off the roads."""
    rows, cols = np.nonzero(village & ~canvas.where("water"))
    points = np.stack([rows, cols]).astype(float)
    for garden in _divide(points, 700, rng):
        canvas.paint((rows[garden], cols[garden]), "meadow")
    trees = smooth(village.shape, 3.5, rng)[rows, cols] > 1.0
    canvas.paint((rows[trees], cols[trees]), "deciduous forest")
    free = road[rows, cols] > 8  # noqa: PLR2004 - the road and its verge
    farms, houses = max(4, rows.size // 5000), rows.size // 800
    for number in range(farms + houses):
        farm = number < farms
        half = rng.uniform((19, 15) if farm else (3, 4), (23, 20) if farm else (4, 6))
        across, along = _free_plot(points, free, half, rng)
        plot = (np.abs(across) < 1) & (np.abs(along) < 1)
        free &= ~((np.abs(across) < 1 + 3 / half[0]) & (np.abs(along) < 1 + 3 / half[1]))
        roof = plot & (across < rng.uniform(-0.3, 0.3)) if farm else plot
        canvas.paint((rows[plot], cols[plot]), ("concrete", "asphalt")[number % 2])
        canvas.paint((rows[roof], cols[roof]), "concrete" if number == _FLAT_ROOF else "tile roof")
        sunny = across[roof] > np.median(across[roof]) if roof.any() else roof[roof]
        canvas.light[rows[roof], cols[roof]] = np.where(sunny, 1.1, 0.8)


def _free_plot(points: Floats, free: Mask, half: Floats, rng: Rng) -> tuple[Floats, Floats]:
    """Return the position of each point in a plot that is free, -1..1 inside; beyond that if there is none."""
    turn = 0.13 + rng.integers(4) * np.pi / 2 + rng.normal(0, 0.05)
    axes = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / half[:, None]
    for candidate in rng.permutation(np.flatnonzero(free))[:60]:
        centre = points[:, candidate]
        across, along = axes @ (points - centre[:, None])
        plot = (np.abs(across) < 1) & (np.abs(along) < 1)
        if free[plot].all() and plot.sum() > 3.6 * half.prod():
            return across, along
    return np.full(len(free), 9.0), np.full(len(free), 9.0)
