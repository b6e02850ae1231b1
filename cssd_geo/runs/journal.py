"""A record that outlives its writer: of what happened, in lines that are whole or do not count.

    5d41402a {"key": {...}, "plan": {...}}      the head: what the record is of; written whole, before all else
    9f86d081 {"tile": 17, "checksums": {...}}   a fact a line, once what it speaks of is on the disk

Each line begins with the CRC-32 of the rest. It is written with the line break before it, not behind, so that a
line that was torn when the power went cannot spoil the next one.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from cssd_geo.files.outputs import write_whole

Entry = dict[str, Any]
"""A line: plain JSON values by name."""

_LONGEST_LINE = 1 << 20
"""Bytes. What is longer is not one of ours, and is not taken into memory."""


class Journal:
    """A journal that is open for further lines; a context manager."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._handle)

    def append(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Add lines; when this returns they are on the disk.

        Raises:
            OSError: if the disk does not take them. Lines that were torn do not count.
        """
        left = memoryview(b"".join(b"\n" + _line(entry) for entry in entries))
        while left:
            left = left[os.write(self._handle, left) :]
        os.fsync(self._handle)


def create(path: Path, head: Mapping[str, Any]) -> None:
    """Begin a journal; it appears with its head or not at all.

    Raises:
        OutputError: if it cannot be written.
    """
    write_whole(path, _line(head))


def read(path: Path) -> tuple[Entry | None, list[Entry]]:
    """Read a journal: its head, None where that is damaged, and all further lines that are whole.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        lines = _lines(file)
        head = next(lines, None)
        return head, [entry for entry in lines if entry is not None]


def _line(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, allow_nan=False).encode()
    return b"%08x %s" % (zlib.crc32(text), text)


def _lines(file: BinaryIO) -> Iterator[Entry | None]:
    while line := file.readline(_LONGEST_LINE):
        yield _entry(line.rstrip(b"\n"))


def _entry(line: bytes) -> Entry | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None
