"""The tile plan: a pure value that says which pixels are read, computed and written, before any is."""

# scene columns   0    4    8    12
# cores           [--][---][---][--]    they partition the scene
# with halo     ..[---]                 read for the first core, before=2, after=1; what lies
#                  [------]             outside of the scene is invalid, never invented
#
# Cores lag behind by `after`, so that what is read ends where a file's blocks end. Several columns of tiles are
# visited abreast, row by row; the pixels that a tile shares with the ones above and to the left need not be read
# again.

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Halo:
    """Pixels that a result needs around its own: `before` above and left, `after` below and right."""

    before: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        if self.before < 0 or self.after < 0:
            raise InputError(f"a halo is not negative: before={self.before}, after={self.after}")

    @property
    def total(self) -> int:
        """Pixels added to each side length."""
        return self.before + self.after


@dataclass(frozen=True, kw_only=True)
class Window:
    """A rectangle of pixels: first row and column, and size. May reach beyond the scene."""

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise InputError(f"a window has at least one pixel: height={self.height}, width={self.width}")

    @classmethod
    def around(cls, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Self:
        """Return the smallest window with these pixels."""
        top, left = int(rows.min()), int(cols.min())
        return cls(row=top, col=left, height=int(rows.max()) - top + 1, width=int(cols.max()) - left + 1)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this window in a (y, x) array; only for windows that do not begin before it."""
        return slice(self.row, self.row + self.height), slice(self.col, self.col + self.width)

    @property
    def corner(self) -> tuple[int, int]:
        """First row and column."""
        return self.row, self.col

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def __str__(self) -> str:
        """For messages."""
        return f"row {self.row}, column {self.col} ({self.height} x {self.width} pixels)"

    def grow(self, halo: Halo) -> "Window":
        """Return the window with `halo` around it."""
        return Window(
            row=self.row - halo.before,
            col=self.col - halo.before,
            height=self.height + halo.total,
            width=self.width + halo.total,
        )

    def clip(self, *, height: int, width: int) -> "Window | None":
        """Return the part within a scene of `height` x `width`, or None where there is none."""
        return self.common(Window(row=0, col=0, height=height, width=width))

    def common(self, other: "Window") -> "Window | None":
        """Return the pixels of both windows, or None where there are none."""
        top, left = max(self.row, other.row), max(self.col, other.col)
        bottom = min(self.row + self.height, other.row + other.height)
        right = min(self.col + self.width, other.col + other.width)
        if bottom <= top or right <= left:
            return None
        return Window(row=top, col=left, height=bottom - top, width=right - left)

    def relative_to(self, other: "Window") -> "Window":
        """Return this window in the pixel coordinates of `other`."""
        return Window(row=self.row - other.row, col=self.col - other.col, height=self.height, width=self.width)

    def slices_in(self, other: "Window") -> tuple[slice, slice]:
        """Index, in a (y, x) array of `other`, of the pixels that both have; empty where there are none."""
        at = self.relative_to(other)
        return slice(max(at.row, 0), max(at.row + at.height, 0)), slice(max(at.col, 0), max(at.col + at.width, 0))


def cuts(part: slice, step: int) -> Iterator[slice]:
    """Cut a range at the multiples of a step."""
    places = pairwise([part.start, *range((part.start // step + 1) * step, part.stop, step), part.stop])
    return (slice(start, stop) for start, stop in places)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One step of the plan."""

    index: int
    core: Window
    """The pixels that this tile classifies; always within the scene."""
    padded: Window
    """The pixels that it reads: the core and its halo; may reach beyond the scene."""
    pixels_before: int
    """Pixels of the cores of all tiles that are visited before this one."""


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """All tiles of a scene in reading order: row by row within some columns of tiles, then the next columns.

    Their cores partition it. Sizes below 1 raise an InputError.
    """

    height: int
    width: int
    tile_height: int
    tile_width: int
    halo: Halo = Halo()
    abreast: int = 1
    """Columns of tiles that are visited together, at most."""
    at_once: int = 1
    """Tiles that are read side by side."""

    def __post_init__(self) -> None:
        for name in ("height", "width", "tile_height", "tile_width", "abreast", "at_once"):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name} must be at least 1, not {value}")

    @property
    def rows(self) -> int:
        """Number of tiles from top to bottom."""
        return -(-self.height // self.tile_height)

    @property
    def cols(self) -> int:
        """Number of tiles from left to right."""
        return -(-self.width // self.tile_width)

    def __len__(self) -> int:
        return self.rows * self.cols

    def __getitem__(self, index: int) -> Tile:
        if not 0 <= index < len(self):
            raise IndexError(f"tile {index} of {len(self)}")
        first = index // (self.rows * self.abreast) * self.abreast
        last = min(first + self.abreast, self.cols) - 1
        row, col = divmod(index - first * self.rows, last + 1 - first)
        col += first
        top, bottom = _cut(row, self.height, self.tile_height, self.halo)
        left, right = _cut(col, self.width, self.tile_width, self.halo)
        core = Window(row=top, col=left, height=bottom - top, width=right - left)
        start, stop = self._across(first, last)
        before = self.height * start + top * (stop - start) + core.height * (left - start)
        return Tile(index=index, core=core, padded=core.grow(self.halo), pixels_before=before)

    def __iter__(self) -> Iterator[Tile]:
        return (self[index] for index in range(len(self)))

    def index(self, row: Any, col: Any) -> Any:
        """Index of the tile in that row and column of tiles, for numbers and arrays of them alike."""
        first = col // self.abreast * self.abreast
        return first * self.rows + row * np.minimum(self.abreast, self.cols - first) + col - first

    def place(self, row: Any, col: Any) -> tuple[Any, Any]:
        """Row and column of the tile whose core holds a pixel, for numbers and arrays of them alike."""
        down, across = (
            np.minimum((at + _lag(step, self.halo)) // step, count - 1)
            for at, step, count in ((row, self.tile_height, self.rows), (col, self.tile_width, self.cols))
        )
        return down, across

    def meeting(self, window: Window) -> Iterator[Tile]:
        """The tiles whose cores have pixels of a window, which lies within the scene."""
        top, left = self.place(window.row, window.col)
        bottom, right = self.place(window.row + window.height - 1, window.col + window.width - 1)
        places = product(range(top, bottom + 1), range(left, right + 1))
        return (self[self.index(row, col)] for row, col in places)

    def _across(self, first: int, last: int) -> tuple[int, int]:
        """First pixel column and end of the cores of some columns of tiles."""
        start, _ = _cut(first, self.width, self.tile_width, self.halo)
        _, stop = _cut(last, self.width, self.tile_width, self.halo)
        return start, stop

    @property
    def pixels_read(self) -> int:
        """Pixels read in all, where those shared with the tiles above and to the left are kept."""
        total, abreast = 0, self.cols if self.rows == 1 else self.abreast
        for first in range(0, self.cols, abreast):
            start, stop = self._across(first, min(first + abreast, self.cols) - 1)
            total += min(stop + self.halo.after, self.width) - max(start - self.halo.before, 0)
        return self.height * total

    @property
    def largest(self) -> Window:
        """The size of the largest tile with its halo, as a window at the origin."""
        height, width = (
            min(step + _lag(step, self.halo), length) + self.halo.total
            for step, length in ((self.tile_height, self.height), (self.tile_width, self.width))
        )
        return Window(row=0, col=0, height=height, width=width)


def _lag(step: int, halo: Halo) -> int:
    return halo.after if step > halo.after else 0


def _cut(index: int, length: int, step: int, halo: Halo) -> tuple[int, int]:
    """First pixel and end of the index-th core along one axis."""
    lag = _lag(step, halo)
    last = -(-length // step) - 1
    return max(index * step - lag, 0), length if index == last else (index + 1) * step - lag


def tiles_of_pixels(
    plan: TilePlan, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> Iterator[tuple[Tile, NDArray[np.intp]]]:
    """Visit the tiles whose cores hold any of the pixels (n,), each with the positions of its pixels."""
    index = plan.index(*plan.place(rows, cols))
    order = np.argsort(index, kind="stable")
    occupied, starts = np.unique(index[order], return_index=True)
    for tile, positions in zip(occupied.tolist(), np.split(order, starts[1:]), strict=bool(len(occupied))):
        yield plan[tile], positions
