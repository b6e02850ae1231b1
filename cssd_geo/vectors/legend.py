"""What label files say of their classes, name, id and colour, and how that becomes one table of classes."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cssd_geo.classes import ClassTable, Colour
from cssd_geo.errors import LabelError


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One class as a label file has it."""

    name: str
    id: int | None = None
    """Its number, 1 to 65535; None if the file gives none that a map can hold."""
    colour: Colour | None = None


def name_key(name: str) -> str:
    """What names of the same class share: case, white space and ways to write an accent make no difference."""
    return " ".join(unicodedata.normalize("NFC", name).split()).casefold()


def is_number(name: str) -> bool:
    """Whether a name is a whole number."""
    return re.fullmatch(r"[+-]?[0-9]{1,99}", name) is not None


def name_order(name: str) -> tuple[bool, int, str]:
    """The order in which names are numbered: numbers by size, then texts."""
    return (False, int(name), name) if is_number(name) else (True, 0, name)


def entries_of(table: ClassTable, *, with_ids: bool = True) -> tuple[Entry, ...]:
    """The classes of a table as entries."""
    rows = zip(table.ids, table.names, table.colours, strict=True)
    return tuple(Entry(name=name, id=i if with_ids else None, colour=colour) for i, name, colour in rows)


def tabulate(legend: Sequence[Entry | None]) -> tuple[ClassTable, NDArray[np.int64]]:
    """Make one table of classes; entries of the same name are one class.

    A class keeps the lowest id that its entries have; those without one get the lowest free numbers, by name.

    Returns:
        The table, and (n,) the class index of each entry, -1 for those that are None: left out.

    Raises:
        LabelError: if there is no entry, or two classes have the same id.
    """
    entries = [entry for entry in legend if entry is not None]
    if not entries:
        raise LabelError("the labels hold no class: check that there are any, and the class field (--class-field)")
    keyed = [(name_key(entry.name), entry) for entry in reversed(entries)]  # so that the first of a name counts
    names = {key: entry.name for key, entry in keyed}
    order = sorted(names, key=lambda key: name_order(names[key]))
    ids = _numbers(order, _given_ids(reversed(keyed)), names)
    order.sort(key=ids.__getitem__)
    colours = {ids[key]: entry.colour for key, entry in keyed if entry.colour is not None}
    table = ClassTable.from_names([names[key] for key in order], [ids[key] for key in order], colours)
    position = {key: i for i, key in enumerate(order)}
    indexes = [-1 if entry is None else position[name_key(entry.name)] for entry in legend]
    return table, np.array(indexes, np.int64)


def _given_ids(entries: Iterable[tuple[str, Entry]]) -> dict[str, int]:
    given: dict[str, int] = {}
    for key, entry in entries:
        if entry.id is not None:
            given[key] = min(entry.id, given.get(key, entry.id))
    return given


def _numbers(keys: Sequence[str], given: dict[str, int], names: dict[str, str]) -> dict[str, int]:
    owner: dict[int, str] = {}
    for key, number in given.items():
        if number in owner:
            both = f"{names[owner[number]]} and {names[key]}"
            raise LabelError(f"{both} both have the id {number}: give one of them another (train --classes FILE)")
        owner[number] = key
    free = (number for number in range(1, len(keys) + len(owner) + 1) if number not in owner)
    return {key: given[key] if key in given else next(free) for key in keys}
