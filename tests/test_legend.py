"""Names, ids and colours of label files become one table, whatever is given and in whatever order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cssd_geo.classes import palette
from cssd_geo.errors import LabelError
from cssd_geo.vectors.legend import Entry, entries_of, name_key, tabulate

ENTRIES = st.lists(
    st.builds(
        Entry,
        name=st.sampled_from(["wheat", "Wheat ", "maize", "Äcker", "A\u0308cker", "forest", "7"]),
        id=st.none() | st.integers(1, 65535),
        colour=st.none() | st.just((1, 2, 3)),
    ),
    min_size=1,
    max_size=9,
)


@given(ENTRIES)
def test_entries_of_one_name_are_one_class_and_given_ids_are_kept(entries: list[Entry]) -> None:
    keys = [name_key(entry.name) for entry in entries]
    given_ids: dict[str, int] = {}
    for key, entry in zip(keys, entries, strict=True):
        if entry.id is not None:
            given_ids[key] = min(entry.id, given_ids.get(key, 65535))
    if len(set(given_ids.values())) < len(given_ids):
        with pytest.raises(LabelError, match="both have the id"):
            tabulate(entries)
        return
    table, classes = tabulate(entries)
    assert len(table) == len(set(keys))
    for i, k in enumerate(classes.tolist()):
        assert name_key(table.names[k]) == keys[i]
        assert table.ids[k] == given_ids.get(keys[i], table.ids[k])
        assert table.names[k] == next(e.name for e in entries if name_key(e.name) == keys[i])
    free = [i for k, i in enumerate(table.ids) if name_key(table.names[k]) not in given_ids]
    unused = [number for number in range(1, 30) if number not in given_ids.values()]
    assert sorted(free) == unused[: len(free)]


def test_names_are_numbered_numbers_first() -> None:
    table, classes = tabulate([Entry(name=name) for name in ("wheat", "10", "9", "-3", "Äcker", "Maize")])
    assert table.names == ("-3", "9", "10", "Maize", "wheat", "Äcker")
    assert classes.tolist() == [4, 2, 1, 0, 5, 3]


def test_colours_are_given_or_those_of_the_palette() -> None:
    table, _ = tabulate([Entry(name="a"), Entry(name="b", colour=(1, 2, 3)), Entry(name="A", colour=(9, 9, 9))])
    assert table.colours == ((9, 9, 9), (1, 2, 3))
    assert tabulate([Entry(name="a"), Entry(name="b")])[0].colours == palette(2)


def test_a_table_comes_back_from_its_entries() -> None:
    table, _ = tabulate([Entry(name="b", id=9), Entry(name="a", id=4)])
    again, classes = tabulate(entries_of(table))
    assert again == table
    np.testing.assert_array_equal(classes, [0, 1])
    assert tabulate(entries_of(table, with_ids=False))[0].ids == (1, 2)


def test_no_class_is_an_error() -> None:
    with pytest.raises(LabelError, match="hold no class"):
        tabulate([])
