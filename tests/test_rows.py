"""Rows that flow through stages in the same memory."""

import hypothesis.strategies as st
import torch
from hypothesis import given

from cssd_geo.compute.rows import Buffer, Rows

LIKE = torch.empty(0, dtype=torch.float64)


@given(
    keep=st.integers(0, 5),
    panels=st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_each_band_stands_below_the_last_rows_of_the_one_before(keep: int, panels: list[list[int]]) -> None:
    rows = Rows(keep)
    for panel in panels:
        whole = torch.rand(sum(panel), 3).to(LIKE)
        rows.clear()
        assert rows.empty
        start = 0
        for count in panel:
            band = whole[start : start + count]
            everything, fresh = rows.extend(LIKE, band.shape)
            fresh.copy_(band)
            start += count
            kept = len(everything) - count
            assert start - count >= kept >= min(keep, start - count, panel[0])
            torch.testing.assert_close(everything, whole[start - count - kept : start])
            assert not rows.empty


@given(sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6))
def test_a_room_is_fresh_memory_only_where_it_must_grow(sizes: list[tuple[int, int]]) -> None:
    room, largest, place = Buffer(), 0, -1
    for size in sizes:
        taken = room.take(LIKE, size)
        assert taken.shape == size
        assert taken.dtype == LIKE.dtype
        if largest >= size[0] * size[1]:
            assert taken.data_ptr() == place
        largest, place = max(largest, size[0] * size[1]), taken.data_ptr()
