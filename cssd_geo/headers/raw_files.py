"""Raw data beside a header: whether they are as long as it promises, and which file it belongs to.

GDAL reads zeros where a raw file ends early; its RAW_CHECK_FILE_SIZE refuses only what is shorter than half.
"""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cssd_geo.errors import SceneError
from cssd_geo.files.beginnings import read_start
from cssd_geo.files.rasters import open_raster
from cssd_geo.headers.band_tags import plain_keys
from cssd_geo.headers.envi_header import EnviHeader, read_header
from cssd_geo.messages import listed

_DRIVERS = ("ENVI", "EHdr", "ISCE", "ROI_PAC", "GenBin")
"""Those of which the opened file holds nothing but values, perhaps after some bytes."""
_PADDING = 4096
"""Bytes after the last value that say nothing against a header: blocks of discs, ends of lines."""
_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20


def envi_header(dataset: Any) -> EnviHeader | None:
    """Return what an open dataset's ENVI header says; None for other formats.

    Raises:
        SceneError: see `read_header`.
    """
    if dataset.driver != "ENVI":
        return None
    size = {"height": dataset.height, "width": dataset.width, "count": dataset.count}
    return read_header(plain_keys(dataset.tags(ns="ENVI")), name=dataset.name, **size)


def check_length(dataset: Any) -> tuple[str, ...]:
    """Check that a raw file is as long as its header promises; other rasters pass. Notes say what stays doubtful.

    Compressed files are read through once, as nothing else tells whether their stream is whole.

    Raises:
        SceneError: if it is shorter, so much longer that the header cannot be right, or damaged; as `read_header`.
    """
    header, path = envi_header(dataset), Path(dataset.name)
    if dataset.driver not in _DRIVERS:
        return ()
    if not path.is_file():
        return (f"Whether {dataset.name} is as long as its header says could not be checked.",)
    offset = _skipped_by_ehdr(dataset, path) if header is None else header.offset or 0
    line = -(-dataset.width * dataset.count * _bits(dataset) // 8)
    promised = offset + -(-dataset.width * dataset.height * dataset.count * _bits(dataset) // 8)
    found = _inflated_length(path) if header is not None and header.compressed else path.stat().st_size
    if found < promised:
        raise SceneError(
            f"{path} is cut short: its header promises {promised:,} bytes, it has {found:,}: copy it again, "
            "or correct the header"
        )
    if header is None or found == promised:
        return ()
    if found - promised >= max(line, _PADDING) or header.offset is None:
        raise SceneError(
            f"{path} does not fit its header, which promises {promised:,} bytes; it has {found:,}: correct "
            "samples, lines, bands, data type or header offset"
        )
    return (f"{path.name} has {found:,} bytes, its header promises {promised:,}: the rest is left out.",)


def data_of_header(header: Path) -> Path:
    """Return the data file of a header (.hdr): scene.bsq or scene of scene.hdr, scene.dat of scene.dat.hdr.

    Raises:
        SceneError: if there is none, or more than one.
    """
    if not header.is_file():
        raise SceneError(f"{header} does not exist: check the path")
    base = header.with_suffix("").name
    beside = [path for path in sorted(header.parent.iterdir()) if path.suffix.lower() != ".hdr"]
    near = [path for path in beside if base in (path.name, path.stem) and path.is_file()]
    fitting = near if len(near) == 1 else [path for path in near if _fits_its_header(path)]
    if len(fitting) != 1:
        found = listed(path.name for path in fitting or near) or "none has its name"
        how = "more than one file fits it" if fitting else "no file beside it fits it"
        raise SceneError(f"{header} is a header, and {how} ({found}): open the data file itself")
    return fitting[0]


def _fits_its_header(path: Path) -> bool:
    try:
        with open_raster(path) as dataset:
            check_length(dataset)
            return dataset.driver in _DRIVERS  # no picture beside them
    except SceneError:
        return False


def _bits(dataset: Any) -> int:
    """Bits of a value: EHdr files may hold 1 to 7."""
    few = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "")
    return int(few) if few.isdigit() else 8 * np.dtype(dataset.dtypes[0]).itemsize


def _skipped_by_ehdr(dataset: Any, path: Path) -> int:
    """Bytes before the first value; GDAL does not hand on what an ESRI header says of them."""
    for other in dataset.files[1:] if dataset.driver == "EHdr" else ():
        if other.lower().endswith(".hdr"):
            lines = Path(path.parent, Path(other).name).read_text(errors="replace").splitlines()
            words = [line.split() for line in lines]
            found = [w[1] for w in words if len(w) > 1 and w[0].upper() == "SKIPBYTES"]
            return int(found[-1]) if found and found[-1].isdigit() else 0
    return 0


def _inflated_length(path: Path) -> int:
    """Bytes that a gzip stream holds; the file's own where it is none, which GDAL reads as well."""
    if read_start(path, len(_GZIP)) != _GZIP:
        return path.stat().st_size
    length = 0
    try:
        with gzip.open(path) as stream:
            while piece := stream.read(_PIECE):
                length += len(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SceneError(
            f"{path} is damaged: its compressed data break off after {length:,} bytes ({error}): copy it again"
        ) from error
    return length
