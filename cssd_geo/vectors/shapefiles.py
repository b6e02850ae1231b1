"""The index of a shapefile (.shx), which GDAL trusts: checked, and made anew where it is missing or does not fit.

ESRI Shapefile Technical Description, 1998: a record of the .shp starts with its number and its length in words of
two bytes, both big-endian; the .shx holds the offset and the length of each record.
"""

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cssd_geo.errors import LabelError

_HEADER = 100
"""Bytes before the first record of both files."""
_RECORD_HEADER = 8
_PARTS = (".shp", ".dbf", ".prj", ".cpg")
"""What is needed beside the index."""


def has_fitting_index(path: Path) -> bool:
    """Whether the .shx names every record of a shapefile, where it is and in its order."""
    index = _part(path, ".shx")
    if index is None or index.stat().st_size < _HEADER or path.stat().st_size < _HEADER:
        return False
    words = np.fromfile(index, ">i4", offset=_HEADER)
    places, lengths = 2 * words[: len(words) // 2 * 2].astype(np.int64).reshape(-1, 2).T
    content = np.memmap(path, np.uint8, "r")
    ends = places + _RECORD_HEADER + lengths
    if (places < _HEADER).any() or (lengths < 0).any() or (ends > len(content)).any():
        return False
    numbers, found = _record_headers(content, places)
    if (2 * found != lengths).any() or len(places) != _row_count(path, default=len(places)):
        return False
    if len(np.unique(places)) < len(places):
        return False
    ascending = bool((np.diff(numbers) > 0).all())
    return ascending or len(np.unique(numbers)) < len(numbers)  # some programs number all records alike


@contextmanager
def reindexed(path: Path) -> Iterator[Path]:
    """Lend a shapefile with an index of its own in a temporary folder; the user's files stay as they are.

    Raises:
        LabelError: if records are cut off, or are not as many as the attributes.
    """
    places, lengths = _walk(path)
    rows = _row_count(path, default=len(places))
    if rows != len(places):
        raise LabelError(
            f"{path} has no fitting index (.shx), and {len(places)} shapes for {rows} rows of attributes (.dbf), "
            "so that they cannot be matched: copy all its files again, or save it anew in your GIS"
        )
    with tempfile.TemporaryDirectory(prefix="cssd-geo-") as folder:
        for suffix in _PARTS:
            part = _part(path, suffix)
            if part is not None:
                (Path(folder) / f"{path.stem}{suffix}").symlink_to(part.resolve())
        with path.open("rb") as file:
            header = bytearray(file.read(_HEADER))
        header[24:28] = struct.pack(">i", (_HEADER + 8 * len(places)) // 2)
        entries = np.column_stack([places // 2, lengths // 2]).astype(">i4")
        (Path(folder) / f"{path.stem}.shx").write_bytes(bytes(header) + entries.tobytes())
        yield Path(folder) / f"{path.stem}.shp"


def _walk(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Offsets and lengths (n,) in bytes of the records, one after the other."""
    found, size, at = list[tuple[int, int]](), path.stat().st_size, _HEADER
    with path.open("rb") as file:
        while at + _RECORD_HEADER <= size:
            file.seek(at)
            _, words = struct.unpack(">ii", file.read(_RECORD_HEADER))
            if words < 2 or at + _RECORD_HEADER + 2 * words > size:  # noqa: PLR2004 - the type of the shape alone
                advice = "copy it again, or save it anew in your GIS"
                raise LabelError(f"{path} is cut off or damaged at byte {at:,} of {size:,}: {advice}")
            found.append((at, 2 * words))
            at += _RECORD_HEADER + 2 * words
    places, lengths = np.array(found, np.int64).reshape(-1, 2).T
    return places, lengths


def _record_headers(
    content: NDArray[np.uint8], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers and lengths in words (n,) that stand at these places."""
    headers = np.asarray(content[places[:, None] + np.arange(_RECORD_HEADER)])
    numbers, words = headers.view(">i4").astype(np.int64).reshape(-1, 2).T
    return numbers, words


def _row_count(path: Path, *, default: int) -> int:
    """How many rows of attributes there are."""
    table = _part(path, ".dbf")
    if table is None or table.stat().st_size < 8:  # noqa: PLR2004 - its header is longer
        return default
    with table.open("rb") as file:
        return int(struct.unpack("<4xI", file.read(8))[0])


def _part(path: Path, suffix: str) -> Path | None:
    """The file of a shapefile with this suffix, in lower or upper case."""
    named = (path.with_suffix(suffix), path.with_suffix(suffix.upper()))
    return next((part for part in named if part.exists()), None)
