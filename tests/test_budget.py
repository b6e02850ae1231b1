"""Tiles: never more memory than was given, whole blocks where there is room, few blocks decoded twice."""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cssd_geo.budget import Blocks, Needs, parse_size, plan_within, shown
from cssd_geo.errors import InputError
from cssd_geo.network import NetworkConfig
from cssd_geo.tiles import Halo, TilePlan

NO_SIZES = ["", " ", "GB", "1.", ".5", "-1", "-1GB", "+1", "1e9", "1,5GB", "1,000", "1_000", "1.5.2", "1 G B",
            "5i", "5iB", "1GBs", "1PB", "nan", "inf", "٣", "GB1", "0x10", "1 2"]  # fmt: skip
UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def halo_of(window: int) -> Halo:
    return NetworkConfig(bands=9, classes=3, window=window).halo


def planned(memory: int, needs: Needs, blocks: Blocks, size: tuple[int, int], halo: Halo) -> TilePlan | InputError:
    try:
        return plan_within(memory, needs, blocks, height=size[0], width=size[1], halo=halo)
    except InputError as error:
        return error


def amount_in(error: InputError) -> int:
    """The least that the message says would suffice."""
    found = re.search(r"give at least (.+), better ", str(error))
    assert found is not None, error
    return parse_size(found[1].replace(",", ""))


def sides(least: int = 1) -> st.SearchStrategy[int]:
    return st.one_of(st.integers(least, 400), st.integers(least, 50_000))


edges = st.one_of(st.sampled_from([1, 16, 128, 256, 512, 1024]), st.integers(1, 4000))
stored = st.builds(Blocks, height=edges, width=edges, divisible=st.booleans(), least_run=st.integers(1, 8192))
halos = st.builds(halo_of, st.integers(1, 64))
scenes = st.tuples(sides(), sides())
tiles_in_memory = st.integers(3, 8)
needs_of_networks = st.builds(
    lambda fixed, values, classes, tiles: Needs(
        fixed=fixed, pixel_in=values + 1, pixel_out=16 * classes, tiles=tiles
    ),
    st.integers(100_000_000, 3_000_000_000),
    st.integers(1, 4000),
    st.integers(1, 100),
    tiles_in_memory,
)
any_needs = st.builds(
    Needs,
    fixed=st.integers(0, 10**9),
    pixel_in=st.integers(1, 10_000),
    pixel_out=st.integers(0, 10**6),
    tiles=tiles_in_memory,
)
memories = st.one_of(st.integers(0, 10**7), st.integers(0, 10**10), st.integers(0, 10**14))


# Memory


@pytest.mark.parametrize("tiles", [3, 8])
def test_so_many_tiles_are_in_memory_and_results_of_one(tiles: int) -> None:
    plan = TilePlan(height=100, width=100, tile_height=30, tile_width=40, halo=Halo(before=3, after=2))
    assert (plan.largest.height, plan.largest.width) == (37, 47)
    needs, pixels = Needs(fixed=1000, pixel_in=10, pixel_out=7, tiles=tiles), tiles * 37 * 47 * 10 + 32 * 42 * 7
    assert needs.of(plan) == 1000 + pixels
    assert needs.of(replace(plan, abreast=3)) == 1000 + pixels + 2 * 5 * 47 * 10, (
        "rows are kept for two more columns"
    )


@given(bands=st.integers(100, 430), width=st.integers(16, 5000))
def test_tiles_of_a_scene_that_is_not_too_wide_are_visited_row_by_row(bands: int, width: int) -> None:
    """Then each block is decoded once, however narrow tiles must be."""
    blocks = Blocks(height=256, width=256)
    plan = planned(10**9, needs_with(bands, 2), blocks, (20_000, width), halo_of(10))
    assert isinstance(plan, TilePlan)
    assert plan.abreast == plan.cols
    assert blocks_decoded(plan, blocks) == 79 * -(-width // 256)


@given(bands=st.integers(100, 430), width=st.integers(10_000, 10**6))
def test_of_a_wide_scene_some_columns_are(bands: int, width: int) -> None:
    plan = planned(10**9, needs_with(bands, 2), Blocks(height=256, width=256), (20_000, width), halo_of(10))
    assert isinstance(plan, TilePlan)
    assert 1000 <= plan.abreast * plan.tile_width <= 60_000


def test_tiles_lower_than_a_block_are_visited_column_by_column() -> None:
    """Else a block would be decoded for each row of tiles; so it stays in GDAL's cache."""
    plan = planned(10**9, needs_with(400, 2), Blocks(height=1024, width=256), (5000, 5000), halo_of(10))
    assert isinstance(plan, TilePlan)
    assert plan.tile_height < 1024
    assert plan.abreast == 1


@given(memory=memories, needs=any_needs, blocks=stored, size=scenes, halo=halos)
def test_a_plan_takes_no_more_than_it_may(
    memory: int, needs: Needs, blocks: Blocks, size: tuple[int, int], halo: Halo
) -> None:
    plan = planned(memory, needs, blocks, size, halo)
    if isinstance(plan, TilePlan):
        assert needs.of(plan) <= memory
        assert (plan.height, plan.width, plan.halo) == (*size, halo)
    else:
        assert memory < needs.fixed + 200**2 * needs.per_pixel, "that would be plenty"


@given(extra=st.integers(0, 10**6), needs=needs_of_networks, blocks=stored, size=scenes, halo=halos)
@example(  # blocks of half the memory: tiles are smaller than one
    extra=0, needs=Needs(fixed=10**8, pixel_in=401, pixel_out=240, tiles=3),
    blocks=Blocks(height=4000, width=4000), size=(50_000, 50_000), halo=halo_of(10),
)  # fmt: skip
def test_the_amount_that_the_error_names_suffices(
    extra: int, needs: Needs, blocks: Blocks, size: tuple[int, int], halo: Halo
) -> None:
    refused = planned(needs.fixed + extra, needs, blocks, size, halo)
    if isinstance(refused, InputError):
        amount = amount_in(refused)
        assert amount > needs.fixed + extra, "less than what was not enough"
        plan = planned(amount, needs, blocks, size, halo)
        assert isinstance(plan, TilePlan)
        assert needs.of(plan) <= amount


def test_the_amount_that_the_error_names_suffices_for_very_many_classes() -> None:
    needs = Needs(fixed=64_000_000, pixel_in=401, pixel_out=24 * 4000, tiles=3)
    blocks, size = Blocks(height=256, width=256), (1000, 1000)
    refused = planned(100_000_000, needs, blocks, size, halo_of(64))
    assert isinstance(refused, InputError)
    assert isinstance(planned(amount_in(refused), needs, blocks, size, halo_of(64)), TilePlan)


def test_the_error_is_one_clear_line() -> None:
    needs = Needs(fixed=150_000_000, pixel_in=401, pixel_out=240, tiles=3)
    for memory, text in ((0, "0 B"), (150_000_001, "150 MB")):
        refused = planned(memory, needs, Blocks(height=1, width=900), (700, 900), halo_of(10))
        advice = "give at least 151 MB, better 595 MB: small tiles are slow"
        assert str(refused) == f"{text} of memory are too little for this scene and model: {advice}"


@given(needs=needs_of_networks, blocks=stored, size=scenes, halo=halos)
def test_the_amount_that_the_error_names_is_the_least(
    needs: Needs, blocks: Blocks, size: tuple[int, int], halo: Halo
) -> None:
    refused = planned(0, needs, blocks, size, halo)
    assert isinstance(refused, InputError)
    much_less = amount_in(refused) - 10**7 - 10**6  # it is rounded up to what is shown
    assert isinstance(planned(much_less, needs, blocks, size, halo), InputError)


@pytest.mark.parametrize("blocks", [Blocks(height=512, width=512), Blocks(height=1, width=2000, divisible=True)])
def test_more_memory_gives_larger_tiles_up_to_what_is_of_use(blocks: Blocks) -> None:
    needs = Needs(fixed=10**8, pixel_in=401, pixel_out=240, tiles=3)
    sizes = []
    for memory in (10**8 + 10**6, 2 * 10**8, 10**9, 10**10, 10**13):
        plan = planned(memory, needs, blocks, (30_000, 30_000), halo_of(10))
        assert isinstance(plan, TilePlan)
        sizes.append(plan.largest.pixels)
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes == sorted(sizes)
    assert sizes[-1] == sizes[-2] < 30_000**2 / 100, "a scene is many tiles, however much memory there is"


# Blocks


def with_room(needs: Needs, blocks: Blocks, size: tuple[int, int], halo: Halo) -> int:
    """Memory for tiles of 256 rows or more and four times the blocks that two tiles side by side share."""
    height, width = size
    down, across = min(blocks.height, height), min(blocks.width, width)
    rows = -(-min(256, height) // down) * down
    columns = 4 * -(-halo.total // across) * across
    margin = halo.total + halo.after
    return needs.fixed + (rows + margin) * (columns + margin) * needs.per_pixel


def blocks_decoded(plan: TilePlan, blocks: Blocks) -> int:
    """Blocks touched by reading every tile, without what it shares with those above and to the left."""
    count, bottoms, before = 0, dict[int, int](), None
    for tile in plan:
        inside = tile.padded.clip(height=plan.height, width=plan.width)
        assert inside is not None
        top, left = bottoms.get(inside.col, inside.row), inside.col
        if before is not None and (before.row, before.height) == (inside.row, inside.height):
            left = max(left, before.col + before.width)
        bottom, right = inside.row + inside.height, inside.col + inside.width
        if bottom > top and right > left:
            down = (bottom - 1) // blocks.height - top // blocks.height + 1
            count += down * ((right - 1) // blocks.width - left // blocks.width + 1)
        bottoms[inside.col], before = bottom, inside
    return count


large_scenes = st.tuples(sides(256), sides(256))
usual = st.builds(
    lambda width, ratio: Blocks(height=max(1, int(width * ratio)), width=width), edges, st.floats(0, 2)
)
"""No towers: blocks much higher than wide."""


@st.composite
def plans_with_room(draw: st.DrawFn) -> tuple[TilePlan, Blocks]:
    needs, blocks, size, halo = draw(needs_of_networks), draw(usual), draw(large_scenes), draw(halos)
    memory = with_room(needs, blocks, size, halo) + draw(st.integers(0, 10**10))
    plan = planned(memory, needs, blocks, size, halo)
    assert isinstance(plan, TilePlan)
    return plan, blocks


@given(plans_with_room())
def test_with_room_tiles_are_whole_blocks_and_few_are_decoded_twice(made: tuple[TilePlan, Blocks]) -> None:
    plan, blocks = made
    across = min(blocks.width, plan.width)
    assert plan.tile_height == plan.height or plan.tile_height % min(blocks.height, plan.height) == 0
    assert plan.tile_width == plan.width or plan.tile_width % across == 0
    assert plan.abreast * plan.tile_width >= min(4 * across, plan.width)
    assert plan.tile_height >= min(256, plan.height)
    if len(plan) <= 20_000:
        stored_blocks = -(-plan.height // blocks.height) * -(-plan.width // blocks.width)
        assert blocks_decoded(plan, blocks) < 1.25 * stored_blocks


@given(plans_with_room())
def test_columns_are_as_equal_as_whole_blocks_allow(made: tuple[TilePlan, Blocks]) -> None:
    """A rest of one block would be decoded by one thread, while others wait."""
    plan, blocks = made
    narrower = plan.tile_width - min(blocks.width, plan.width)
    assert narrower <= 0 or -(-plan.width // narrower) > plan.cols


@given(needs=needs_of_networks, size=st.tuples(st.integers(300, 2000), st.integers(300, 2000)))
def test_parts_of_raw_rows_are_read_alone_so_that_any_shape_will_do(needs: Needs, size: tuple[int, int]) -> None:
    """A raw file's block is a row; were it read whole, tiles of a part of the width would read it many times."""
    halo, blocks = halo_of(10), Blocks(height=1, width=size[1], divisible=True)
    memory = needs.fixed + 300**2 * needs.per_pixel
    plan = planned(memory, needs, blocks, size, halo)
    assert isinstance(plan, TilePlan)
    assert plan.tile_height >= 250
    assert plan.pixels_read <= 2 * size[0] * size[1]


@given(
    bands=st.integers(100, 430),
    width=st.integers(16, 50_000),
    value=st.sampled_from([2, 4]),
    together=st.booleans(),
)
def test_lines_of_raw_files_are_read_whole_or_in_runs_of_two_pages(
    *, bands: int, width: int, value: int, together: bool
) -> None:
    """A flight line is read once; in a very wide mosaic half as much again, as systems read whole pages."""
    run = -(-8192 // (value * bands if together else value))
    blocks, needs = Blocks(height=1, width=width, divisible=True, least_run=run), needs_with(bands, value)
    plan = planned(10**9, needs, blocks, (20_000, width), halo_of(10))
    assert isinstance(plan, TilePlan)
    fitting = 0.8 * (10**9 - needs.fixed) / needs.per_pixel / (96 + 20) - 20
    assert plan.tile_width >= min(width, run, fitting) / 2
    assert plan.tile_width == width or width > min(run, fitting)
    assert plan.tile_height >= 96


def needs_with(bands: int, value: int) -> Needs:
    """Of a network with 16 classes."""
    return Needs(fixed=200_000_000, pixel_in=(bands * value + 1) * 5 // 4, pixel_out=480, tiles=3)


# Sizes as text


@given(
    number=st.integers(0, 10**6),
    unit=st.sampled_from(sorted(UNITS)),
    byte=st.sampled_from(["", "B", "b"]),
    space=st.sampled_from(["", " ", "  "]),
    lower=st.booleans(),
)
def test_a_size_is_a_number_and_a_unit(number: int, unit: str, byte: str, space: str, *, lower: bool) -> None:
    text = f"{space}{number}{space}{unit}{byte}{space}"
    assert parse_size(text.lower() if lower else text) == number * UNITS[unit]


@pytest.mark.parametrize(
    ("text", "size"),
    [("1.5GB", 1_500_000_000), ("0.5 kib", 512), ("800MB", 800_000_000), ("2GiB", 2 << 30), ("12", 12), ("0", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(
        InputError, match="is no size of memory: give a number and a unit, such as 800MB"
    ) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


def test_a_size_of_very_many_digits_is_refused() -> None:
    with pytest.raises(InputError):
        parse_size("9" * 400)


@given(size=st.integers(0, 10**13))
def test_a_size_that_is_shown_can_be_given_back(size: int) -> None:
    back = parse_size(shown(size))
    assert size <= back <= size + (10**7 + 10**6 if size >= 999 * 10**6 else 10**6)


def test_small_sizes_have_small_units() -> None:
    assert [shown(size) for size in (0, 1, 999, 1000, 999_001, 10**6)] == [
        "0 B",
        "1 B",
        "999 B",
        "1 kB",
        "1 MB",
        "1 MB",
    ]
    assert [shown(size, down=True) for size in (1999, 999_999, 999_999_999)] == ["1 kB", "999 kB", "999 MB"]


def test_a_size_just_below_a_gigabyte_can_be_given_back() -> None:
    assert parse_size(shown(999_999_999)) >= 999_999_999
