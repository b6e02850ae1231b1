"""How names, lists and figures are shown in a message or a picture."""

import math
import re
import unicodedata
from collections.abc import Iterable

_MOST_LISTED = 10
_WIDEST = 40
"""Places of a column of names, with which the figures beside it end within a terminal's 80."""
_COMMANDS = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
"""Characters that a terminal may take for a command: to clear, to colour, to write its title."""
_PASSWORD = re.compile(r"(?<=://)[^\s/@]+(?=@)")
_QUERY = re.compile(r"((?:://|/vsi)[^\s?]*\?|\S\?(?=[^\s?]*=))\S*?(?=[\"'`,;:.)]*(?:\s|$))")
"""What follows the ? of an address, which may be a signature. GDAL may name only the last part of an address."""


def listed(items: Iterable[object]) -> str:
    """Join for a message: the first ones, and how many there are where that is not all."""
    texts = [shortened(str(item), 120) for item in items]
    few = ", ".join(texts[:_MOST_LISTED])
    return few if len(texts) <= _MOST_LISTED else f"{few}, ... ({len(texts)} in all)"


def shortened(text: str, most: int = 40) -> str:
    """Cut a long name for a picture or a message."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def column_width(names: Iterable[str]) -> int:
    """Width of a column of names, 40 at most: a longer name only shifts the figures on its own line."""
    return min(max(map(_places, names)), _WIDEST)


def padded(name: str, width: int) -> str:
    """A name and as many spaces as bring it to the width of its column."""
    return name + " " * (width - _places(name))


def _places(text: str) -> int:
    """How many places of a terminal a text takes: two for a Chinese character, none for a combining accent."""
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1
        for each in text
    )


def figure(value: float, digits: int, width: int = 0) -> str:
    """A number with so many decimals, in a column of so many places; "-" where it is NaN."""
    return f"{'-' if math.isnan(value) else format(value, f',.{digits}f'):>{width}}"


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())


def printable(text: str) -> str:
    r"""Make a text printable whose file names may not be UTF-8: a byte that is not is shown like \udcff."""
    return text.encode(errors="backslashreplace").decode()


def without_commands(text: str) -> str:
    r"""Make a text from files of strangers safe to print: an escape is shown as \u001b, as in JSON."""
    return re.sub(f"[{_COMMANDS}]", lambda found: rf"\u{ord(found[0]):04x}", text)


def without_secrets(text: str) -> str:
    """Replace what may be a secret in the addresses of a text by `...`, so that it may be kept or passed on."""
    return _QUERY.sub(r"\1...", _PASSWORD.sub("...", text))


def has_control_characters(name: str) -> bool:
    """Whether a name, which ends up on a terminal, holds a command, goes beyond one line, or is no text."""
    return re.search(rf"[{_COMMANDS}\t\n\ud800-\udfff]", name) is not None
