"""What an ENVI header must say before its data can be read without a guess.

GDAL reads the header, and guesses where it is silent or wrong: bytes for a missing data type, band-sequential for
an unknown interleave, zero for an ignore value that is no number. Each would make a map of something else. Pure:
tags in.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cssd_geo.errors import SceneError

Tags = Mapping[str, str]

_INTERLEAVES = ("bsq", "bil", "bip")
_NO_SENSOR = ("", "unknown", "none")


@dataclass(frozen=True, kw_only=True)
class EnviHeader:
    """What an ENVI header says of its file; checked when it is read."""

    offset: int | None
    """Bytes before the first value; None where the header does not say."""
    compressed: bool
    """Whether the header says that the data are a gzip stream."""
    nodata_is_number: bool
    """False where the header has an ignore value that is no number."""
    sensor: str | None


def read_header(tags: Tags, *, name: str, height: int, width: int, count: int) -> EnviHeader:
    """Read and check an ENVI header.

    Args:
        tags: GDAL's ENVI domain, with the keys of `band_tags.plain_keys`.
        name: of the file, for messages.
        height: of the raster, as GDAL understood the header; `width` and `count` likewise.
        width: see `height`.
        count: of bands, see `height`.

    Raises:
        SceneError: if the header leaves open how its values lie in the file.
    """
    for key, value in {"samples": width, "lines": height, "bands": count}.items():
        if _whole(tags, key, name) != value:
            raise SceneError(
                f"{_said(name, key, tags[key])}, and GDAL takes it for {value}: write a plain whole number"
            )
    _whole(tags, "data_type", name)
    if _whole(tags, "byte_order", name) not in (0, 1):
        raise SceneError(f"{_said(name, 'byte_order', tags['byte_order'])}: it must be 0 (little-endian) or 1")
    if tags.get("interleave", "").strip().lower() not in _INTERLEAVES:
        raise SceneError(f"{_said(name, 'interleave', tags.get('interleave'))}: it must be bsq, bil or bip")
    sensor = tags.get("sensor_type", "").strip()
    return EnviHeader(
        offset=_whole(tags, "header_offset", name) if "header_offset" in tags else None,
        compressed=_whole(tags, "file_compression", name) != 0 if "file_compression" in tags else False,
        nodata_is_number=_is_number(tags.get("data_ignore_value", "0")),
        sensor=None if sensor.lower() in _NO_SENSOR else sensor,
    )


def _whole(tags: Tags, key: str, name: str) -> int:
    text = tags.get(key)
    value = float(text) if text is not None and _is_number(text) else math.nan
    if not (value >= 0 and value.is_integer()):
        raise SceneError(
            f"{_said(name, key, text)}: it must be a whole number, which says how the data lie in the file"
        )
    return int(value)


def _said(name: str, key: str, text: str | None) -> str:
    """Begin a message on what the header says, or does not."""
    words = key.replace("_", " ")
    return (
        f"{name}: its header says nothing of {words}"
        if text is None
        else f"{name}: its header says {words} = {text}"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return re.fullmatch(r"[A-Za-z0-9.+-]+", text.strip()) is not None
