"""Classes of a map and of its reference, matched by name, or by id where one side has only numbers for names."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cssd_geo.classes import ClassTable
from cssd_geo.errors import LabelError
from cssd_geo.messages import listed
from cssd_geo.vectors.legend import name_key

NONE_OF_THESE = "none of these"
"""What to call a pixel that is of no class of the map: an error of the map, which has its area too."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Matching:
    """One list of names for the classes of both."""

    names: tuple[str, ...]
    of_map: Ids
    """Lookup from id to index; -1 where it is no class."""
    of_reference: Ids
    """Likewise."""

    def map_indexes(self, ids: Ids) -> Ids:
        """Which of `names` the map's ids (n,) mean; -1 where they are no class."""
        return look_up(self.of_map, ids, otherwise=-1)

    def reference_indexes(self, ids: Ids) -> Ids:
        """Which of `names` the reference's ids (n,) mean; -1 where they are no class."""
        return look_up(self.of_reference, ids, otherwise=-1)


def match_classes(
    mapped: ClassTable, reference: ClassTable, map_name: str, reference_name: str, *, ids_given: bool
) -> Matching:
    """Match classes by name, or by id where one side has only numbers for names.

    Args:
        mapped: the classes of the map.
        reference: the classes of the reference.
        map_name: its file, for messages.
        reference_name: likewise.
        ids_given: whether the reference says its ids; else its names were numbered, which no map knows of.

    Raises:
        LabelError: if they have none in common, or names meet numbers and nothing says which is which.
    """
    by_id = only_numbered(mapped) or only_numbered(reference)
    if by_id and not ids_given and not _in_digits(reference):
        raise LabelError(
            f"{map_name} has only numbers for its classes ({listed(mapped.names)}), {reference_name} only names "
            f"({listed(reference.names)}), and nothing says which is which: write names into the map, ids into a "
            "field class_id of the reference, or both into a file for --classes (from,to,id)"
        )
    map_keys = _keys(mapped, by_id=by_id)
    reference_keys = _keys(reference, by_id=by_id)
    keys = list(dict.fromkeys(map_keys + reference_keys))
    if set(map_keys).isdisjoint(reference_keys):
        raise LabelError(
            f"{reference_name} has no class in common with {map_name}: {listed(reference.names)} against "
            f"{listed(mapped.names)}; name them alike, or choose another --class-field"
        )
    shown = dict(zip(reference_keys, reference.names, strict=True))
    shown |= dict(zip(map_keys, mapped.names, strict=True))
    return Matching(
        names=tuple(shown[key] for key in keys),
        of_map=_table(mapped, map_keys, keys),
        of_reference=_table(reference, reference_keys, keys),
    )


def numbering_note(mapped: ClassTable, reference: ClassTable) -> tuple[str, ...]:
    """What to check where only one side has names: numberings can differ, and the accuracy then means nothing."""
    if only_numbered(mapped) == only_numbered(reference) or (_in_digits(mapped) and _in_digits(reference)):
        return ()
    named = reference if only_numbered(mapped) else mapped
    meaning = listed(f"{i} = {name}" for i, name in zip(named.ids, named.names, strict=True))
    return (f"Matched by id, because one side has no class names: check that both mean {meaning}.",)


def look_up(table: Ids, ids: Ids, *, otherwise: int) -> Ids:
    """Entries of a lookup from id to something, of any shape of ids; `otherwise` where it does not reach."""
    inside = (ids >= 0) & (ids < len(table))
    return np.where(inside, table[np.where(inside, ids, 0)], otherwise)


def only_numbered(table: ClassTable) -> bool:
    """Whether classes have no names but their ids."""
    return table.names == tuple(map(str, table.ids))


def _in_digits(table: ClassTable) -> bool:
    """Whether names are numbers: texts such as "7" mean the id 7, whatever id they were given."""
    names = [name.strip() for name in table.names if name_key(name) != NONE_OF_THESE]
    return bool(names) and all(name.isdecimal() for name in names)


def _keys(table: ClassTable, *, by_id: bool) -> list[str]:
    if by_id and not _in_digits(table):
        return [str(i) for i in table.ids]
    return [str(int(name)) if by_id and name.strip().isdecimal() else name_key(name) for name in table.names]


def _table(classes: ClassTable, its_keys: list[str], keys: list[str]) -> Ids:
    """Lookup from id to the index of its key; -1 for ids that are no class."""
    table, index = np.full(classes.ids[-1] + 1, -1, np.int64), {key: i for i, key in enumerate(keys)}
    table[list(classes.ids)] = [index[key] for key in its_keys]
    return table
