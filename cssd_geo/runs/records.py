"""What the lines of a run's journal say, as plain values: what the run is of, and each tile that is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cssd_geo.errors import OutputError
from cssd_geo.runs.journal import Entry
from cssd_geo.tiles import TilePlan, Window

_DIGEST = 64
"""Letters of a SHA-256, which nobody wants to read."""

_CHOSEN = {"the precision": "--precision", "the device": "--device"}
"""What `auto` chooses by the hardware, and the options that choose it."""

Key = Mapping[str, str]
"""What a run's pixels depend on, by names for the analyst: values, or SHA-256 where these are long."""


@dataclass(frozen=True, kw_only=True)
class TileRecord:
    """A tile whose pixels are on the disk."""

    index: int
    """In the plan of the run."""
    checksums: Mapping[str, int]
    """Of its pixels in each layer."""
    unreadable: Sequence[Window]
    """Blocks of the scene that touch what the tile has read, and could not be read."""

    def line(self) -> Entry:
        """What the journal says of it."""
        blocks = [[w.row, w.col, w.height, w.width] for w in self.unreadable]
        return {"tile": self.index, "checksums": dict(self.checksums), "unreadable": blocks}

    @classmethod
    def of(cls, line: Entry, plan: TilePlan) -> Self | None:
        """Return what a line says; None if it is not of a tile of the plan."""
        index, checksums, blocks = (line.get(name) for name in ("tile", "checksums", "unreadable"))
        if type(index) is not int or not 0 <= index < len(plan):
            return None
        if not isinstance(checksums, dict) or not isinstance(blocks, list) or not all(map(_is_window, blocks)):
            return None
        windows = [Window(row=r, col=c, height=h, width=w) for r, c, h, w in blocks]
        return cls(index=index, checksums=checksums, unreadable=windows)


def tiles_in(lines: Sequence[Entry]) -> int:
    """How many tiles there are lines of, whatever the plan."""
    return len({line["tile"] for line in lines if type(line.get("tile")) is int})


def head_of(key: Key | None, plan: TilePlan, about: Mapping[str, Any]) -> Entry:
    """Return the first line of a journal; `about` are further plain values."""
    return {"key": dict(key or {}), "plan": _sizes(plan), **about}


def require_same(head: Entry | None, key: Key, path: Path, target: Path, tiles: int) -> Entry:
    """Return the head of a journal, if it is of the same run.

    Args:
        head: the first line, None where it is damaged.
        key: what the pixels depend on.
        path: of the journal.
        target: what the run is for.
        tiles: that are done.

    Raises:
        OutputError: if it is damaged, or of something else.
    """
    afresh = "or discard what is done and start afresh with --restart"
    before = (head or {}).get("key")
    if head is None or not isinstance(before, dict):
        raise OutputError(
            f"the journal of an unfinished run to {target} is damaged ({path}): restore it, {afresh}"
        )
    if changes := _changes(before, key):
        raise OutputError(
            f"an unfinished run to {target} was of something else (tiles done: {tiles}): "
            f"{'; '.join(changes)}. Give {_way_on(before, key)} to go on, {afresh}"
        )
    return head


def recorded_plan(head: Entry, plan: TilePlan, path: Path) -> TilePlan:
    """Return the plan in a head, which must be of the same pixels; a key that fits vouches for the halo.

    Raises:
        OutputError: if it is of others.
    """
    sizes = head.get("plan")
    if not isinstance(sizes, dict) or sizes.keys() != _sizes(plan).keys():
        sizes = {}
    whole = {type(size) for size in sizes.values()} == {int} and min(sizes.values()) >= 1
    if not whole or (sizes["height"], sizes["width"]) != (plan.height, plan.width):
        raise OutputError(f"{path} is damaged: start afresh with --restart")
    return TilePlan(**sizes, halo=plan.halo, at_once=plan.at_once)


def _sizes(plan: TilePlan) -> dict[str, int]:
    names = ("height", "width", "tile_height", "tile_width", "abreast")
    return {name: getattr(plan, name) for name in names}


def _is_window(numbers: Any) -> bool:
    if not isinstance(numbers, list) or len(numbers) != 4 or {type(n) for n in numbers} != {int}:  # noqa: PLR2004 - row, col, height, width
        return False
    row, col, height, width = numbers
    return bool(min(row, col) >= 0 and min(height, width) >= 1)


def _changes(before: Mapping[str, Any], now: Key) -> list[str]:
    """Say what is not the same, one phrase each."""
    return [_change(name, before.get(name), now.get(name)) for name in _changed(before, now)]


def _changed(before: Mapping[str, Any], now: Key) -> list[str]:
    names = [*now, *(name for name in before if name not in now)]
    return [name for name in names if before.get(name) != now.get(name)]


def _way_on(before: Mapping[str, Any], now: Key) -> str:
    """Name the options that go on where nothing else has changed: `auto` may choose otherwise on each machine."""
    changed = _changed(before, now)
    if all(name in _CHOSEN and name in before for name in changed):
        return " ".join(f"{_CHOSEN[name]} {before[name]}" for name in changed)
    return "the command that it was begun with"


def _change(name: str, before: Any, now: str | None) -> str:
    if before is None or now is None:
        return f"{name} is {'new' if before is None else 'gone'}"
    if len(str(before)) == len(now) == _DIGEST:
        return f"{name} {'have' if ',' in name else 'has'} changed"
    return f"{name} was {before} and is {now} now"
