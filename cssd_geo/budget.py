"""How large tiles may be: from the blocks of the file and a budget of memory. Pure arithmetic."""

import math
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

from cssd_geo.errors import InputError
from cssd_geo.tiles import Halo, TilePlan

PREFERRED_ROWS = 256
"""Rows of a tile, where memory allows: with fewer, the halo is a large part of the work."""
_PREFERRED_COLUMNS = 512
"""Columns likewise, where no budget is given: GDAL decodes a single block slowly, and in one thread."""
ENOUGH_ROWS = 96
"""Rows that suffice where fewer rows allow wider tiles, or more tiles read at a time, as in raw files stored by
lines."""
_MOST_PIXELS = 1 << 19
"""Pixels of a tile: more of them are not faster, and progress is told tile by tile."""
_BLOCKS_ACROSS = 8
"""Blocks side by side, where memory allows: each tile begins and ends its panels anew."""
_KEPT_SHARE = 8
"""One part in so many of the memory is for rows that tiles keep for the tiles below them."""
_UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The pieces in which a source is stored."""

    height: int
    width: int
    divisible: bool = False
    """Whether a part of a block can be read alone, as in raw files."""
    least_run: int = 1
    """Pixels side by side that are worth a read of their own, where blocks are divisible."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Memory that a classification takes, in bytes."""

    fixed: int
    """Does not depend on the size of tiles."""
    pixel_in: int
    """For each pixel that is read, halos included."""
    pixel_out: int
    """For each pixel of a tile that is computed, waiting results included."""
    tiles: int
    """Number of tiles in memory at a time, with their halos."""

    @property
    def per_pixel(self) -> int:
        """What one more pixel a tile takes, leaving its halo aside."""
        return self.tiles * self.pixel_in + self.pixel_out

    def of(self, plan: TilePlan) -> int:
        """Bytes that the largest tiles of a plan take, and what those side by side keep for the ones below."""
        largest, margin = plan.largest, plan.halo.total
        computed = (largest.height - margin) * (largest.width - margin)
        kept = (plan.abreast - 1) * self.kept(plan)
        return self.fixed + self.tiles * largest.pixels * self.pixel_in + computed * self.pixel_out + kept

    def kept(self, plan: TilePlan) -> int:
        """Bytes that one more column side by side takes: the rows that its tile shares with the one below."""
        return plan.halo.total * plan.largest.width * self.pixel_in


def plan_within(memory: int, needs: Needs, blocks: Blocks, *, height: int, width: int, halo: Halo) -> TilePlan:
    """Plan tiles that are as large as is of use and as `memory` allows, of whole blocks where it does.

    Args:
        memory: bytes.
        needs: what pixels take.
        blocks: how the scene is stored.
        height: of the scene in pixels.
        width: likewise.
        halo: of the network.

    Raises:
        InputError: if not even the smallest tiles fit.
    """

    def planned(budget: int) -> TilePlan:
        return _column_by_column(budget, needs, blocks, height=height, width=width, halo=halo)

    plan = planned(memory)
    wanted = (plan.cols - 1) * needs.kept(plan)
    with suppress(InputError):
        smaller = planned(memory - min(wanted, memory // _KEPT_SHARE))
        abreast = min(smaller.cols, 1 + (memory - needs.of(smaller)) // needs.kept(smaller))
        if abreast > 1 and _has_whole_rows(smaller, plan, blocks):
            groups = math.ceil(smaller.cols / abreast)
            return replace(smaller, abreast=math.ceil(smaller.cols / groups))
    return plan


def least_memory(
    needs: Needs, blocks: Blocks, *, height: int, width: int, halo: Halo, rows: int = PREFERRED_ROWS
) -> int:
    """Bytes for tiles of whole blocks, at least `rows` high and 512 columns wide where the scene is so large."""
    whole = math.ceil(_PREFERRED_COLUMNS / blocks.width) * blocks.width
    down, columns = (1, blocks.least_run) if blocks.divisible else (blocks.height, whole)
    rows = min(math.ceil(rows / down) * down, height)
    margin = _margin(halo)
    tile = needs.fixed + (rows + margin) * (min(columns, width) + margin) * needs.per_pixel
    return math.ceil(tile * _KEPT_SHARE / (_KEPT_SHARE - 1))


def _has_whole_rows(smaller: TilePlan, plan: TilePlan, blocks: Blocks) -> bool:
    """Whether smaller tiles are large enough and hold whole blocks.

    Otherwise each block would be decoded again for every row of tiles.
    """
    rows, cols = smaller.tile_height, smaller.tile_width
    if rows < min(plan.tile_height, PREFERRED_ROWS) or cols < min(plan.tile_width, blocks.width):
        return False
    return blocks.divisible or rows == plan.height or rows % blocks.height == 0


@dataclass(frozen=True, kw_only=True)
class _Space:
    """What a tile may take."""

    pixels: int
    """Pixels of a tile, its halo included."""
    margin: int
    """Rows, and columns, of the halo."""

    def beside(self, other: int, unit: int) -> int:
        """Rows that fit beside so many columns, or the other way round: whole units, where one fits."""
        space = max(0, self.pixels // (other + self.margin) - self.margin)
        return space // unit * unit or space

    @property
    def side(self) -> int:
        """Side length of the largest square that fits; below 1 where none does."""
        return math.isqrt(max(0, self.pixels)) - self.margin


def _column_by_column(
    memory: int, needs: Needs, blocks: Blocks, *, height: int, width: int, halo: Halo
) -> TilePlan:
    """Plan tiles that are visited column by column."""
    down, across = (1, 1) if blocks.divisible else (min(blocks.height, height), min(blocks.width, width))
    preferred_rows = math.ceil(min(PREFERRED_ROWS, height) / down) * down
    margin = _margin(halo)
    useful = _useful_pixels(preferred_rows, across, blocks, width=width, margin=margin)
    space = _Space(pixels=min(useful, (memory - needs.fixed) // needs.per_pixel), margin=margin)
    columns = _columns(space, preferred_rows, across, blocks, width=width)
    rows = min(space.beside(columns, down), height)
    if rows < min(halo.total, height) or columns < min(halo.total, width):  # else most of what is read is halo
        rows = columns = space.side
    if rows < 1:
        least = needs.fixed + (margin + 1) ** 2 * needs.per_pixel
        better = least_memory(needs, blocks, height=height, width=width, halo=halo)
        raise InputError(
            f"{shown(memory, down=True)} of memory are too little for this scene and model: give at least "
            f"{shown(least)}, better {shown(better)}: small tiles are slow"
        )
    return TilePlan(height=height, width=width, tile_height=rows, tile_width=columns, halo=halo)


def _margin(halo: Halo) -> int:
    """Rows or columns that a tile reads beyond its own: the halo, and `after`, by which the last may be longer."""
    return halo.total + halo.after


def _useful_pixels(rows: int, across: int, blocks: Blocks, *, width: int, margin: int) -> int:
    """Pixels of a tile, its halo included, beyond which it gets no faster."""
    if blocks.divisible:
        wide = min(blocks.least_run, width)
    else:
        wide = across if across == width else _BLOCKS_ACROSS * across
    return max(_MOST_PIXELS, (rows + margin) * (wide + margin))


def _columns(space: _Space, rows: int, across: int, blocks: Blocks, *, width: int) -> int:
    """Columns of a tile of so many rows: as many as fit, but never less than what is worth a read of its own."""
    least = across
    if blocks.divisible:
        least = max(1, min(blocks.least_run, space.beside(ENOUGH_ROWS, 1)))
    columns = min(max(space.beside(rows, across), least), width)
    return _without_thin_rest(columns, across, width) if columns % across == 0 else columns


def _without_thin_rest(columns: int, across: int, width: int) -> int:
    """Whole blocks for as many tiles, as equal as can be: one block alone GDAL decodes slowly, in one thread."""
    return math.ceil(math.ceil(width / across) / math.ceil(width / columns)) * across


def parse_size(text: str) -> int:
    """Bytes in a text such as 800MB, 1.5 GB or 2GiB.

    Raises:
        InputError: if it is no size.
    """
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,15})?)\s*([kmgt]?i?)b?\s*", text, re.IGNORECASE | re.ASCII)
    factor = None if found is None else _UNITS.get(found[2].lower())
    if found is None or factor is None:
        raise InputError(f"{text!r} is no size of memory: give a number and a unit, such as 800MB, 1.5GB or 2GiB")
    return int(Fraction(found[1]) * factor)


def shown(size: int, *, down: bool = False) -> str:
    """Bytes for a reader, rounded up, so that what is enough stays enough; or down, for what is too little."""
    whole = math.floor if down else math.ceil
    for unit, factor in (("B", 1), ("kB", 1e3), ("MB", 1e6)):
        if (count := whole(size / factor)) < 1000:  # noqa: PLR2004
            return f"{count} {unit}"
    return f"{whole(size / 1e7) / 100:.2f} GB"
