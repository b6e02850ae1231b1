"""Classes renamed, joined, numbered, coloured or left out, by a small CSV or YAML of the user."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from cssd_geo.classes import MAX_CLASS_ID, Colour, parse_colour
from cssd_geo.errors import InputError, LabelError
from cssd_geo.messages import listed, one_line
from cssd_geo.vectors.legend import Entry, name_key

_LARGEST_FILE = 100_000
"""Bytes: thousands of classes, and parsed at once."""
_DEEPEST = 2
"""Mappings within each other that a YAML may have."""
_KEYS = {"from": "from", "to": "to", "name": "to", "id": "id", "colour": "colour", "color": "colour"}
_NULL = "tag:yaml.org,2002:null"
_EXAMPLE = "such as the lines `from,to,id,colour` and `winter wheat,cereals,1,#e0c040`"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What becomes of one class."""

    old: str
    """Its name, or the id of a class whose name no rule has."""
    new: Entry | None
    """None leaves the class out."""


@dataclass(frozen=True, kw_only=True)
class Remapping:
    """Rules for some of the classes; the others stay as they are."""

    rules: tuple[Rule, ...]
    name: str
    """Of the file, for notes."""
    may_be_idle: bool = False
    """Whether labels may have none of the classes, as one of several label files may."""

    def __post_init__(self) -> None:
        times = Counter(name_key(rule.old) for rule in self.rules)
        twice = [old for old, count in times.items() if count > 1]
        if twice:
            raise InputError(f"{self.name} says twice what becomes of {listed(twice)}: leave one line of each")
        if not self.rules:
            raise InputError(f"{self.name} says nothing of any class: give it lines, {_EXAMPLE}")
        ids: dict[int, str] = {}
        names: dict[str, int] = {}
        for new in (rule.new for rule in self.rules if rule.new is not None and rule.new.id is not None):
            key, number = name_key(new.name), int(new.id or 0)
            if ids.setdefault(number, key) != key or names.setdefault(key, number) != number:
                raise InputError(
                    f"{self.name}: id {number} of {new.name!r}: a class has one id, and an id one class"
                )

    def apply(self, legend: Sequence[Entry]) -> tuple[tuple[Entry | None, ...], tuple[str, ...]]:
        """Say what becomes of each class of some labels.

        Returns:
            For each its new entry, or None where it is left out; and notes, one sentence each.

        Raises:
            LabelError: if no rule is about any of the classes, or nothing is left.
        """
        by_name = {name_key(rule.old): rule for rule in self.rules}
        named = {name_key(entry.name) for entry in legend}
        found = [self._rule_for(entry, by_name, named) for entry in legend]
        if not any(found) and not self.may_be_idle:
            raise LabelError(
                f"{self.name} has none of the classes {listed(entry.name for entry in legend)}, but "
                f"{listed(rule.old for rule in self.rules)}: write them as the labels do"
            )
        new = tuple(
            entry if rule is None else _merged(entry, rule.new) for entry, rule in zip(legend, found, strict=True)
        )
        if not any(new):
            raise LabelError(f"{self.name} leaves every class out: give at least two a new name")
        return self._with_given_ids(new), tuple(self._notes(legend, found))

    def _with_given_ids(self, entries: tuple[Entry | None, ...]) -> tuple[Entry | None, ...]:
        """An id that the file gives a class holds for all that become this class."""
        given = {
            name_key(rule.new.name): rule.new.id
            for rule in self.rules
            if rule.new is not None and rule.new.id is not None
        }
        return tuple(
            entry if entry is None else replace(entry, id=given.get(name_key(entry.name), entry.id))
            for entry in entries
        )

    def _rule_for(self, entry: Entry, by_name: dict[str, Rule], named: set[str]) -> Rule | None:
        """By name; by id where no class has that number as its name."""
        rule = by_name.get(name_key(entry.name))
        if rule is None and entry.id is not None and str(entry.id) not in named:
            rule = by_name.get(str(entry.id))
        return rule

    def _notes(self, legend: Sequence[Entry], found: Sequence[Rule | None]) -> Iterator[str]:
        dropped = [e.name for e, rule in zip(legend, found, strict=True) if rule is not None and rule.new is None]
        kept = [e.name for e, rule in zip(legend, found, strict=True) if rule is None]
        idle = [rule.old for rule in self.rules if rule not in found]
        if dropped:
            yield f"Left out, as {self.name} says: {listed(dropped)}."
        if kept:
            yield f"Not in {self.name} and kept as they are: {listed(kept)}."
        if idle:
            yield f"In {self.name}, but no class of the labels: {listed(idle)}."


def _merged(old: Entry, new: Entry | None) -> Entry | None:
    """The entry with its new name, and colour where there is a new one; `_with_given_ids` sets ids."""
    return None if new is None else replace(old, name=new.name, colour=new.colour or old.colour)


def rules_of(remap: str | Path | Remapping | None) -> Remapping | None:
    """Return rules that were read already, or read them; raises as `read_remapping` does."""
    return remap if remap is None or isinstance(remap, Remapping) else read_remapping(remap)


def read_remapping(path: str | Path) -> Remapping:
    """Read rules from a CSV (from,to[,id][,colour]; comma, semicolon or tab) or a YAML.

    A YAML maps old names to new ones, `old: new`, or to `{name: new, id: 3, colour: "#rrggbb"}`. A class whose new
    name is empty is left out.

    Raises:
        InputError: if the file cannot be read, is too large, or is no such table; or if `path` is no path.
    """
    if not isinstance(path, str | Path):
        raise InputError(
            f"classes are remapped by a .csv or .yaml file, not a {type(path).__name__}: write one, {_EXAMPLE}"
        )
    suffix, name = Path(path).suffix.lower(), Path(path).name
    if suffix not in {".csv", ".tsv", ".txt", ".yaml", ".yml"}:
        raise InputError(f"{path}: classes are remapped by a .csv or .yaml file, {_EXAMPLE}")
    text = _text(path)
    rows = _yaml_rows(text, name) if suffix in {".yaml", ".yml"} else _csv_rows(text, name)
    return Remapping(rules=tuple(_rule(row, where) for where, row in rows), name=name)


def _text(path: str | Path) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise InputError(f"{path} is larger than {_LARGEST_FILE:,} bytes: it should list classes, one a line")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def _rule(row: dict[str, str], where: str) -> Rule:
    old, new = (" ".join(row.get(key, "").split()) for key in ("from", "to"))
    if not old:
        raise InputError(f"{where}: the old name is empty; each line names a class of the labels")
    if not new:
        return Rule(old=old, new=None)
    return Rule(old=old, new=Entry(name=new, id=_id(row.get("id", ""), where), colour=_colour(row, where)))


def _id(text: str, where: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= MAX_CLASS_ID):  # noqa: PLR2004
        raise InputError(f"{where}: the id {text[:40]!r} is no whole number from 1 to {MAX_CLASS_ID}")
    return int(text)


def _colour(row: dict[str, str], where: str) -> Colour | None:
    text = row.get("colour", "").strip()
    colour = parse_colour(text)
    if text and colour is None:
        raise InputError(f"{where}: the colour {text[:40]!r} is not like #e0c040")
    return colour


# CSV


def _csv_rows(text: str, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    lines = text.splitlines()
    header = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    keys = list[str]()
    try:
        for row in reader:
            where = f"{name}, line {reader.line_num}"
            if not any(cell.strip() for cell in row):
                continue
            if not keys:
                keys = _checked_keys(row, where)
            elif len(row) > len(keys):
                raise InputError(
                    f"{where}: {len(row)} values below {len(keys)} titles; quote names with a {delimiter!r}"
                )
            else:
                yield where, dict(zip(keys, row, strict=False))
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: no CSV ({error}), which is {_EXAMPLE}") from error


def _checked_keys(titles: Iterable[str], where: str) -> list[str]:
    stripped = [title.strip().lower() for title in titles]
    keys = [_KEYS.get(title, "") for title in stripped]
    if "" in keys or len(set(keys)) < len(keys) or not {"from", "to"} <= set(keys):
        raise InputError(
            f"{where}: the first line is {listed(stripped)}; it should be from,to[,id][,colour], {_EXAMPLE}"
        )
    return keys


# YAML: nodes are read as text, so that no value is taken for a truth, a date or a number, and nothing is built.


def _yaml_rows(text: str, name: str) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        _require_flat(text, name)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise InputError(f"{name} is no YAML: {one_line(error)}") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{name} should map old names to new ones, a line each: `winter wheat: cereals`")
    for key, value in root.value:
        where = f"{name}, line {key.start_mark.line + 1}"
        row = {"from": _scalar(key, where)}
        if isinstance(value, yaml.MappingNode):
            keys = _checked_keys(["from", *(_scalar(k, where) for k, _ in value.value)], where)[1:]
            row |= {k: _scalar(v, where) for k, (_, v) in zip(keys, value.value, strict=True)}
        else:
            row["to"] = _scalar(value, where)
        yield where, row


def _require_flat(text: str, name: str) -> None:
    """Refuse what refers to other parts of itself or lies deep, before it is composed by recursion."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{name}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise InputError(f"{where}: anchors and aliases (& and *) are not read: quote or write out the name")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise InputError(f"{where}: too deep; an old name has a new one, or name, id and colour")


def _scalar(node: Any, where: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise InputError(f"{where}: a name, id or colour is a single value, not a list or a mapping")
    return "" if node.tag == _NULL else str(node.value)
