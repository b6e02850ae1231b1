"""The table of classes: what it refuses, and that it comes back from JSON as it was."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cssd_geo.classes import ClassTable, palette, parse_colour
from cssd_geo.errors import InputError
from cssd_geo.messages import listed

byte = st.integers(0, 255)
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)
rows = st.dictionaries(
    st.integers(1, 65535), st.tuples(names, st.tuples(byte, byte, byte)), min_size=1, max_size=8
)


def _table(given_rows: dict[int, tuple[str, tuple[int, int, int]]]) -> ClassTable:
    ids = sorted(given_rows)
    return ClassTable(
        ids=tuple(ids),
        names=tuple(f"{i} {given_rows[i][0]}" for i in ids),
        colours=tuple(given_rows[i][1] for i in ids),
    )


@given(given_rows=rows)
def test_json_gives_the_same_table_back(given_rows: dict[int, tuple[str, tuple[int, int, int]]]) -> None:
    table = _table(given_rows)
    assert ClassTable.from_json(json.loads(json.dumps(table.to_json()))) == table


@given(given_rows=rows)
def test_ids_fit_the_smallest_type(given_rows: dict[int, tuple[str, tuple[int, int, int]]]) -> None:
    assert _table(given_rows).dtype == (np.uint8 if max(given_rows) < 256 else np.uint16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": (1, 1)}, "unique"),
        ({"ids": (2, 1)}, "ascending"),
        ({"ids": (0, 1)}, "within 1"),
        ({"ids": (1, 65536)}, "65536"),
        ({"ids": (1,)}, r"as many ids \(1\) as names \(2\)"),
        ({"names": ("a", "a")}, "unique"),
        ({"names": ("a", "")}, "not empty"),
        ({"colours": ((0, 0, 0), (0, 0, 256))}, "0..255"),
    ],
)
def test_a_bad_table_is_refused(changes: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"ids": (1, 2), "names": ("a", "b"), "colours": ((0, 0, 0), (1, 1, 1))}
    with pytest.raises(InputError, match=message):
        ClassTable(**(values | changes))


@pytest.mark.parametrize(
    ("ids", "names", "message"),
    [
        (range(1, 70_001), map(str, range(70_000)), r"within 1\.\.65535: 65536, .* \(4465 in all\)$"),
        ([*range(1, 4000), 7], map(str, range(4000)), r"ascending .*: 7$"),
        (range(1, 4001), ["", *map(str, range(3997)), "a", "a"], r"unique and not empty: '', 'a'$"),
    ],
    ids=["too large", "twice", "names"],
)
def test_of_a_large_table_only_what_is_wrong_is_told(
    ids: Iterable[int], names: Iterable[str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ClassTable.from_names(list(names), list(ids))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [{"id": 1, "name": "a"}],
        [{"id": "x", "name": "a", "colour": [0, 0, 0]}],
        [{"id": 1, "name": "a", "colour": [0, 0]}],
        [None],
    ],
)
def test_json_that_is_no_class_table_is_refused(bad: Any) -> None:
    with pytest.raises(InputError, match="class table"):
        ClassTable.from_json(bad)


def test_colours_are_distinct_and_those_of_few_classes_are_those_of_many() -> None:
    many = palette(60)
    assert len(set(many)) == len(many) == 60
    assert all(palette(count) == many[:count] for count in range(60))
    assert len(set(palette(255))) == 255


@pytest.mark.parametrize(
    ("text", "colour"),
    [("#ff0080", (255, 0, 128)), (" #00FF0a ", (0, 255, 10)), ("ff0080", None), ("#ff00", None), ("red", None)],
)
def test_colours_are_read_from_hex_only(text: str, colour: tuple[int, int, int] | None) -> None:
    assert parse_colour(text) == colour


@pytest.mark.parametrize("value", [None, 7, 1.5])
def test_what_is_no_text_is_no_colour(value: object) -> None:
    assert parse_colour(value) is None


@pytest.mark.parametrize("name", ["bell\x07", "two\nlines", "\x1b[31mred", "\x9b31m", "half \ud83d"])
def test_names_that_would_steer_a_terminal_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="control characters"):
        ClassTable.from_names([name, "b"])


def test_long_lists_are_cut_in_messages() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(range(300)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (300 in all)"
