"""Side files of GDAL's, `scene.tif.aux.xml`, by what they say: whoever looks at a scene in QGIS leaves one there.

GDAL notes in it the statistics and histograms that it has computed, which change nothing. For the sake of a
single one it also writes down what it took from the headers of ENVI, ERDAS, HDF5 and netCDF files.
"""

import hashlib
import os
import re
from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from xml.etree import ElementTree as ET

from cssd_geo.files.fingerprints import fingerprint
from cssd_geo.files.xml_files import XmlError, read_xml

SUFFIX = ".aux.xml"
BESIDE = (SUFFIX, ".msk", ".ovr")
"""What GDAL appends to a raster's name where it looks for parts of it. They go when the raster is replaced."""
MAX_BYTES = 32 * 2**20
"""A side file beyond this counts byte by byte, and is refused as a class table: 65535 classes with names of forty
letters take 18 MB."""
_DOMAINS_OF_HEADERS = {"ENVI", "IMAGE_STRUCTURE"}
_DOMAINS_OF_BANDS = {"", "IMAGERY", *_DOMAINS_OF_HEADERS}
_TAGS_OF_HEADERS = re.compile(r"wavelength_units|Band_\d+|NETCDF_DIM_.*|.*#.*")
"""Of the dataset as a whole. GDAL finds masks by others, such as NODATA_VALUES."""


def is_side_file(path: Path) -> bool:
    """Whether a file is such a side file, by its name."""
    return path.name.endswith(SUFFIX)


def beside(raster: Path) -> list[Path]:
    """Where GDAL looks for parts of a raster."""
    return [Path(f"{raster}{suffix}") for suffix in BESIDE]


def in_the_way(raster: Path) -> list[Path]:
    """Files that a new raster would replace: the old one or, where there is none, what passes for parts of it."""
    return [raster] if os.path.lexists(raster) else list(filter(os.path.lexists, beside(raster)))


def side_fingerprint(path: Path, *, copied: bool) -> str | None:
    """SHA-256 of what a side file says beyond statistics and histograms; None where it is gone, or says nothing.

    Layout and the order of tags do not count, as GDAL changes them. A file that is no XML, or too large, counts
    byte by byte.

    Args:
        path: the file.
        copied: also count what GDAL may have copied from the header: names, nodata and tags of bands. There is no
            need to where bands, nodata and scale of the scene are known anyway.

    Raises:
        OSError: if it cannot be read.
    """
    try:
        root = read_xml(path, max_bytes=MAX_BYTES, what="any side file that is looked into")
        left = _prune(root, _is_computed if copied else _is_computed_or_copied)
        said = ET.canonicalize(ET.tostring(root, encoding="unicode"), strip_text=True)
    except FileNotFoundError:
        return None
    except (XmlError, RecursionError):
        return fingerprint(path)
    return hashlib.sha256(said.encode()).hexdigest() if left else None


def content_fingerprint(path: Path, *, copied: bool) -> str | None:
    """SHA-256 of any file's content, or a folder's: of a side file by `side_fingerprint`, of others as they are.

    Raises:
        OSError: if it cannot be read.
    """
    return side_fingerprint(path, copied=copied) if is_side_file(path) else fingerprint(path)


def _prune(element: ET.Element, is_left_out: Callable[[ET.Element, ET.Element], bool]) -> bool:
    """Take out what is to be left out, and what that leaves empty; return whether the element still says anything.

    Args:
        element: its children are sorted by their keys.
        is_left_out: tells of an element and a child of it whether the child goes.
    """
    had_children = len(element) > 0
    kept = [child for child in element if not is_left_out(element, child) and _prune(child, is_left_out)]
    element[:] = sorted(kept, key=methodcaller("get", "key", ""))
    return bool(kept or (element.text or "").strip() or (element.attrib and not had_children))


def _is_computed(_parent: ET.Element, child: ET.Element) -> bool:
    return child.tag == "Histograms" or (child.tag == "MDI" and child.get("key", "").startswith("STATISTICS_"))


def _is_computed_or_copied(parent: ET.Element, child: ET.Element) -> bool:
    if _is_computed(parent, child):
        return True
    match parent.tag, child.tag:
        case "PAMRasterBand", "Description" | "NoDataValue":
            return True
        case "PAMRasterBand", "Metadata":
            return child.get("domain", "") in _DOMAINS_OF_BANDS
        case "PAMDataset", "Metadata":
            return child.get("domain", "") in _DOMAINS_OF_HEADERS
        case "Metadata", "MDI":
            return "domain" not in parent.attrib and bool(_TAGS_OF_HEADERS.fullmatch(child.get("key", "")))
    return False
