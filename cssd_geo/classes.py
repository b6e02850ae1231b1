"""The table of classes: ids as written in the map, names as the analyst gave them, colours."""

import colorsys
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from cssd_geo.errors import InputError
from cssd_geo.messages import has_control_characters, listed

Colour = tuple[int, int, int]

UNCLASSIFIED = 0
"""Value of the class map where nothing was classified; also its nodata. Never the id of a class."""
UNCLASSIFIED_NAME = "unclassified"
"""What such pixels are called. Never the name of a class that is trained."""
MAX_CLASS_ID = 65535

# Twelve hues that stay apart for colour-blind readers and on satellite imagery (after Paul Tol's schemes).
_PALETTE: tuple[Colour, ...] = (
    (51, 117, 56), (136, 204, 238), (204, 102, 119), (221, 204, 119), (51, 34, 136), (170, 68, 153),
    (68, 170, 153), (153, 153, 51), (136, 34, 85), (238, 136, 34), (119, 119, 119), (153, 221, 102),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """Classes in the order of the network's outputs."""

    ids: tuple[int, ...]
    """Value of each class in the map: unique, ascending, 1 to 65535."""
    names: tuple[str, ...]
    """Name of each class: unique, not empty."""
    colours: tuple[Colour, ...]
    """Red, green and blue of each class, 0 to 255."""

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.names) == len(self.colours) > 0:
            raise InputError(
                f"a class table needs as many ids ({len(self.ids)}) as names ({len(self.names)}) and "
                f"colours ({len(self.colours)}), and at least one"
            )
        before = (UNCLASSIFIED, *self.ids)
        _require_none(
            f"class ids must be unique, ascending and within 1..{MAX_CLASS_ID}",
            [i for last, i in zip(before, self.ids, strict=False) if not last < i <= MAX_CLASS_ID],
        )
        _require_none(
            "class names must be unique and not empty",
            [name for name, count in Counter(self.names).items() if count > 1 or not name],
        )
        _require_none(
            "class names must not hold control characters",
            [name for name in self.names if has_control_characters(name)],
        )
        _require_none(
            "colours are red, green, blue within 0..255",
            [colour for colour in self.colours if min(colour) < 0 or max(colour) > 255],  # noqa: PLR2004 - a byte
        )

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_names(
        cls, names: Sequence[str], ids: Sequence[int] | None = None, colours: Mapping[int, Colour] | None = None
    ) -> Self:
        """Give `names` ids (1..K where none are given) and colours, by id or else of the default palette."""
        ids = range(1, len(names) + 1) if ids is None else ids
        spare = zip(ids, palette(len(names)), strict=False)
        shown = tuple((colours or {}).get(value, colour) for value, colour in spare)
        return cls(ids=tuple(ids), names=tuple(names), colours=shown)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest unsigned type of a class map: uint8, or uint16 past 255."""
        return np.dtype(np.uint8 if self.ids[-1] <= np.iinfo(np.uint8).max else np.uint16)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values for a JSON header."""
        rows = zip(self.ids, self.names, self.colours, strict=True)
        return [{"id": i, "name": name, "colour": list(colour)} for i, name, colour in rows]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> Self:
        """Inverse of `to_json`; checks what it reads.

        Raises:
            InputError: if a row lacks a key or holds a value of the wrong type.
        """
        try:
            return cls(
                ids=tuple(int(row["id"]) for row in rows),
                names=tuple(str(row["name"]) for row in rows),
                colours=tuple((int(r), int(g), int(b)) for r, g, b in (row["colour"] for row in rows)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a class table (id, name, colour): {error!r}") from error


def _require_none(rule: str, wrong: Sequence[object]) -> None:
    if wrong:
        raise InputError(f"{rule}: {listed(map(repr, wrong))}")


def parse_colour(text: Any) -> Colour | None:
    """Read "#rrggbb"; None where it is anything else."""
    if not isinstance(text, str) or not re.fullmatch(r"#[0-9a-fA-F]{6}", text.strip()):
        return None
    red, green, blue = bytes.fromhex(text.strip()[1:])
    return red, green, blue


def to_hex(colour: Colour) -> str:
    """Write a colour as "#rrggbb"."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def palette(count: int) -> tuple[Colour, ...]:
    """Return `count` distinct colours: the fixed ones first, then hues by the golden ratio."""
    extra = range(max(0, count - len(_PALETTE)))
    return _PALETTE[:count] + tuple(_golden_hue(i) for i in extra)


def _golden_hue(i: int) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb((i * 0.618034) % 1.0, 0.45 + 0.2 * (i % 3), 0.95 - 0.15 * (i % 4))
    return round(255 * red), round(255 * green), round(255 * blue)
