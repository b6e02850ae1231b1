"""The plan: every pixel is computed once, and what is read is what the arithmetic says."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cssd_geo.errors import InputError
from cssd_geo.tiles import Halo, Tile, TilePlan, Window, tiles_of_pixels

sizes = st.integers(1, 40)
halos = st.builds(Halo, before=st.integers(0, 12), after=st.integers(0, 12))
plans = st.builds(
    TilePlan,
    height=sizes,
    width=sizes,
    tile_height=sizes,
    tile_width=sizes,
    halo=halos,
    abreast=st.one_of(st.just(1), st.integers(1, 9)),
)
windows = st.builds(Window, row=st.integers(-50, 50), col=st.integers(-50, 50), height=sizes, width=sizes)


@given(plan=plans)
def test_cores_partition_the_scene_row_by_row_within_columns_abreast(plan: TilePlan) -> None:
    visits = np.zeros((plan.height, plan.width), np.int64)
    first = []
    for tile in plan:
        visits[tile.core.slices] += 1
        first.append((tile.core.row, tile.core.col))
    assert (visits == 1).all()
    assert [tile.index for tile in plan] == list(range(len(plan))) == list(range(plan.rows * plan.cols))
    rows, cols = sorted({row for row, _ in first}), sorted({col for _, col in first})
    assert (plan.rows, plan.cols) == (len(rows), len(cols))
    assert first == sorted(first, key=lambda at: (cols.index(at[1]) // plan.abreast, at))
    places = [(rows.index(row), cols.index(col)) for row, col in first]
    assert [plan.index(*place) for place in places] == list(range(len(plan)))


@given(plan=plans)
def test_padded_is_the_core_grown_by_the_halo(plan: TilePlan) -> None:
    for tile in plan:
        core, padded, halo = tile.core, tile.padded, plan.halo
        assert (padded.row, padded.col) == (core.row - halo.before, core.col - halo.before)
        assert padded.row + padded.height == core.row + core.height + halo.after
        assert padded.col + padded.width == core.col + core.width + halo.after
        assert padded.pixels == (core.height + halo.total) * (core.width + halo.total)


@given(plan=plans)
def test_what_is_read_ends_where_blocks_end(plan: TilePlan) -> None:
    """Else the blocks at the end of a tile would be decoded again for the next one."""
    for tile, down, across in placed(plan):
        bottom, right = tile.padded.row + tile.padded.height, tile.padded.col + tile.padded.width
        if plan.tile_height > plan.halo.after and down < plan.rows - 1:
            assert bottom == (down + 1) * plan.tile_height
        if plan.tile_width > plan.halo.after and across < plan.cols - 1:
            assert right == (across + 1) * plan.tile_width


@given(plan=plans)
def test_tiles_share_the_halo_with_those_above_and_to_the_left(plan: TilePlan) -> None:
    for tile, down, across in placed(plan):
        if down:
            above = plan[plan.index(down - 1, across)].padded
            assert (tile.padded.col, tile.padded.width) == (above.col, above.width)
            assert above.row + above.height - tile.padded.row == plan.halo.total
        if across:
            left = plan[plan.index(down, across - 1)].padded
            assert (tile.padded.row, tile.padded.height) == (left.row, left.height)
            assert left.col + left.width - tile.padded.col == plan.halo.total


@given(plan=plans)
def test_pixels_read_are_once_those_of_the_columns_abreast(plan: TilePlan) -> None:
    counted = 0
    abreast = plan.cols if plan.rows == 1 else plan.abreast
    for first in range(0, plan.cols, abreast):
        seen = np.zeros((plan.height, plan.width), np.bool_)
        for col in range(first, min(first + abreast, plan.cols)):
            for row in range(plan.rows):
                inside = plan[plan.index(row, col)].padded.clip(height=plan.height, width=plan.width)
                assert inside is not None
                seen[inside.slices] = True
        counted += int(seen.sum())
    assert plan.pixels_read == counted


def placed(plan: TilePlan) -> list[tuple[Tile, int, int]]:
    """Each tile with the row and column of tiles in which it lies, from the cores."""
    tops, lefts = sorted({tile.core.row for tile in plan}), sorted({tile.core.col for tile in plan})
    return [(tile, tops.index(tile.core.row), lefts.index(tile.core.col)) for tile in plan]


@given(plan=plans)
def test_no_tile_is_larger_than_the_largest(plan: TilePlan) -> None:
    tiles = list(plan)
    for size, highest, length, step in (
        (plan.largest.height, max(t.padded.height for t in tiles), plan.height, plan.tile_height),
        (plan.largest.width, max(t.padded.width for t in tiles), plan.width, plan.tile_width),
    ):
        assert highest <= size <= highest + 2 * plan.halo.after
        if length <= step or length % step == 0:  # then the last tile is as long as any can be
            assert size == highest
    assert (plan.largest.row, plan.largest.col) == (0, 0)


@given(plan=plans, pixels=st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), max_size=60))
def test_tiles_of_pixels_visits_each_pixel_once_in_the_tile_whose_core_holds_it(
    plan: TilePlan, pixels: list[tuple[int, int]]
) -> None:
    rows = np.array([r % plan.height for r, _ in pixels], np.int64)
    cols = np.array([c % plan.width for _, c in pixels], np.int64)
    visited: list[int] = []
    indexes = []
    for tile, positions in tiles_of_pixels(plan, rows, cols):
        assert len(positions)
        for position in positions.tolist():
            assert tile.core.row <= rows[position] < tile.core.row + tile.core.height
            assert tile.core.col <= cols[position] < tile.core.col + tile.core.width
        visited += positions.tolist()
        indexes.append(tile.index)
    assert sorted(visited) == list(range(len(pixels)))
    assert indexes == sorted(set(indexes))


@given(plan=plans, window=windows)
def test_meeting_visits_the_tiles_that_have_pixels_of_a_window(plan: TilePlan, window: Window) -> None:
    inside = window.clip(height=plan.height, width=plan.width)
    if inside is None:
        return
    expected, found = np.zeros((plan.height, plan.width), np.int64), np.zeros((plan.height, plan.width), np.int64)
    expected[inside.slices] = 1
    for tile in plan.meeting(inside):
        common = found[tile.core.slices][inside.slices_in(tile.core)]
        assert common.size
        assert common.shape == found[inside.slices][tile.core.slices_in(inside)].shape
        common += 1
    np.testing.assert_array_equal(found, expected)


@given(plan=plans)
def test_pixels_before_a_tile_are_those_of_the_cores_before(plan: TilePlan) -> None:
    before = 0
    for tile in plan:
        assert tile.pixels_before == before
        before += tile.core.pixels
    assert before == plan.height * plan.width


@given(window=windows, other=windows)
def test_slices_in_another_window_are_those_of_the_pixels_of_both(window: Window, other: Window) -> None:
    rows, cols = np.indices((other.height, other.width))
    rows, cols = rows + other.row - window.row, cols + other.col - window.col
    both = (rows >= 0) & (rows < window.height) & (cols >= 0) & (cols < window.width)
    found = np.zeros_like(both)
    found[window.slices_in(other)] = True
    np.testing.assert_array_equal(found, both)


@given(window=windows, height=sizes, width=sizes)
@example(window=Window(row=5, col=0, height=3, width=4), height=5, width=9)  # they touch
@example(window=Window(row=0, col=-4, height=3, width=4), height=5, width=9)
def test_clip_keeps_exactly_the_pixels_within_the_scene(window: Window, height: int, width: int) -> None:
    canvas = np.zeros((200, 200), bool)
    shifted = window.relative_to(Window(row=-60, col=-60, height=1, width=1))
    canvas[shifted.slices] = True
    outside = np.ones_like(canvas)
    outside[60 : 60 + height, 60 : 60 + width] = False
    canvas[outside] = False
    clipped = window.clip(height=height, width=width)
    if clipped is None:
        assert not canvas.any()
    else:
        expected = np.zeros_like(canvas)
        expected[clipped.row + 60 : clipped.row + clipped.height + 60, clipped.col + 60 :][:, : clipped.width] = (
            True
        )
        np.testing.assert_array_equal(canvas, expected)


@pytest.mark.parametrize("name", ["height", "width", "tile_height", "tile_width", "abreast"])
def test_a_size_below_one_is_named(name: str) -> None:
    sizes: dict[str, Any] = {"height": 5, "width": 6, "tile_height": 3, "tile_width": 4, "abreast": 1} | {name: 0}
    with pytest.raises(InputError, match=f"^{name} must be at least 1, not 0"):
        TilePlan(**sizes)


def test_impossible_halos_windows_and_tiles_are_refused() -> None:
    with pytest.raises(InputError, match="before=-1, after=2"):
        Halo(before=-1, after=2)
    with pytest.raises(InputError, match="before=2, after=-1"):
        Halo(before=2, after=-1)
    with pytest.raises(InputError, match="height=3, width=0"):
        Window(row=0, col=0, height=3, width=0)
    plan = TilePlan(height=5, width=7, tile_height=2, tile_width=3, halo=Halo(before=1, after=0))
    assert len(plan) == 9
    for index in (-1, 9):
        with pytest.raises(IndexError):
            plan[index]
