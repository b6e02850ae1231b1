"""Where a raster file leads: formats and references of strangers' files that would read elsewhere are refused."""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree as ET

from cssd_geo.errors import SceneError
from cssd_geo.files.beginnings import read_start
from cssd_geo.files.hdf5_links import is_hdf5, require_own_values
from cssd_geo.files.xml_files import XmlError, read_xml

_LOCAL = (
    "GTiff ENVI EHdr VRT HFA RST NITF JP2OpenJPEG JPEG PNG BMP GIF netCDF HDF5 HDF5Image Zarr GenBin LAN "
    "AAIGrid GSAG GSBG GS7BG SAGA XYZ AIG ROI_PAC ISCE SNAP_TIFF BT USGSDEM DTED SRTMHGT GSC KRO RRASTER "
    "PNM WEBP"
)
LOCAL_FORMATS = tuple(_LOCAL.split())
"""GDAL's drivers whose files hold their pixels themselves. Others ask servers, or are lists of further files."""
IF_TRUSTED = (
    "if you trust it, write it to a GeoTIFF (gdal_translate) or, if it is a scene or its mask, allow that with "
    "--follow-links"
)
"""What to do with a file that leads elsewhere; for labels and references there is no such option."""
_BEGINS_VRT = b"<VRTDataset"
_LOOK = 2048
"""Bytes in which GDAL looks for the beginning of a VRT."""
_MAX_BYTES = 64 * 2**20
"""A VRT beyond this is refused: 600 files of 300 bands take 56 MB."""
_DEEPEST = 8
"""VRTs of VRTs, overviews of overviews."""
_NAMES_A_FILE = re.compile(r".*filename|sourcedataset|dempath|.*_dataset_filename.*|demfilename|rpc_dem")
"""Elements of a VRT whose text GDAL opens, by their name or the value of their attribute `name`, in lower case."""
_NO_PATH = re.compile(r"\w+:|[<{]|/vsi")
"""How a text begins that GDAL may take for something else than a path, even where there is a file of that name."""
_BESIDE = re.compile(r"(.+)\.(?:ovr|msk|r[1-9])", re.IGNORECASE)
"""Names of files that GDAL takes for the overviews and the mask of the raster whose name they begin with."""
_OVERVIEWS = "OVERVIEWS"
_BASE = ":::BASE:::"
"""What stands for the folder of a raster where GDAL itself notes its overviews in an old .aux file."""
_ERDAS = b"EHFA_HEADER_TAG"
_BY_WHAT_LIES_BESIDE = {"ENVI", "EHdr", "GenBin", "ISCE", "ROI_PAC", "RST", "RRASTER", "SAGA", "GSC", "KRO", "LAN"}
"""Drivers that know their files by others beside them: what they begin with may tell GDAL something else."""
_DESCRIPTIONS = (b"PK\x03\x04", b"SQLite format 3", b"fgb")
_SETTLES = 2_000_000_000
"""Nanoseconds after which a folder that changes again has another time of its last change, on any file system."""
_SPACE = " \t\r\n\v\f"
"""What GDAL skips before a text."""
_TEXT = 64
"""So many printable bytes at the beginning of a file make it a text: pixels are not like that."""


def files_led_to(path: Path) -> Iterator[Path]:
    """All other files that GDAL opens as rasters for one: the sources of a virtual raster, overviews and masks.

    A file is data: whoever opens it does not mean to read other folders or servers for it.

    Raises:
        SceneError: naming what leads out of the folder of `path`, or an HDF5 file that keeps values in others.
    """
    yield from _Walk(path.resolve().parent).led_to(path.absolute(), _DEEPEST)


def require_own_pixels(dataset: Any) -> None:
    """Check that an open raster does not lead elsewhere for its overviews, nor for the rest of what it holds.

    Raises:
        SceneError: naming what it leads to.
    """
    path = Path(dataset.name)
    for key, name in dataset.tags(ns=_OVERVIEWS).items():
        beside = path.parent / Path(name.removeprefix(_BASE)).name
        if key.upper() == "OVERVIEW_FILE" and not (
            name == _BASE + beside.name and read_start(beside, len(_ERDAS)) == _ERDAS
        ):
            _refuse(path, name)
    if dataset.driver == "HFA":  # large ones are of several files, of which the first names the others
        folders = {path.resolve().parent, path.parent.resolve()}
        for name in dataset.files:
            if Path(name).resolve().parent not in folders:
                _refuse(path, name)


def is_description(dataset: Any) -> bool:
    """Whether a raw file begins with what GDAL, not told the driver, may take for a list of files or servers."""
    if dataset.driver not in _BY_WHAT_LIES_BESIDE:
        return False
    start = read_start(Path(dataset.name), _TEXT)
    text = all(byte < 127 and (byte >= 32 or byte in b"\t\r\n") for byte in start)  # noqa: PLR2004 - ASCII
    return text or start.startswith(_DESCRIPTIONS)


@dataclass(frozen=True)
class _Walk:
    """What a raster leads to, and all that in turn; each file and each folder is looked at once."""

    folder: Path
    """Nothing outside of it may be read."""
    done: set[Path] = field(default_factory=set)
    side_files: dict[Path, dict[str, list[Path]]] = field(default_factory=dict)
    """Of each folder, by the name in lower case of the raster that they belong to."""

    def led_to(self, path: Path, depth: int) -> Iterator[Path]:
        if not depth:
            raise SceneError(
                f"{path} is a virtual raster of virtual rasters, or of overviews of overviews, more than "
                f"{_DEEPEST} deep: simplify it"
            )
        if is_hdf5(path):
            require_own_values(path)
        for target in (*self._beside(path), *_sources(path, self.folder)):
            if target not in self.done:
                yield target
                yield from self.led_to(target, depth - 1)
                self.done.add(target)

    def _beside(self, path: Path) -> list[Path]:
        """Overviews and masks beside a raster: files of their own, which GDAL opens whatever they are."""
        if path.parent not in self.side_files:
            self.side_files[path.parent] = _side_files(path.parent)
        name = path.name.lower().removesuffix(".r0")
        return self.side_files[path.parent].get(name, [])


def _side_files(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    try:
        now = folder.stat()
        settled = abs(time.time_ns() - now.st_ctime_ns) > _SETTLES  # else it may change again without a trace
        state = now.st_dev, now.st_ino, now.st_ctime_ns
        for name, whole in _names_since(folder, state) if settled else _names_beside(folder):
            if (folder / whole).exists():
                found.setdefault(name, []).append(folder / whole)
    except OSError as error:
        raise SceneError(f"{folder} cannot be listed: {error.strerror}; allow yourself to read it") from error
    return found


def _names_beside(folder: Path) -> list[tuple[str, str]]:
    """Names of side files in a folder, each behind that of its raster."""
    named = filter(None, map(_BESIDE.fullmatch, os.listdir(folder)))  # noqa: PTH208 - folders hold many
    return sorted((match[1].lower(), match[0]) for match in named)


@lru_cache(maxsize=16)
def _names_since(folder: Path, _state: tuple[int, int, int]) -> list[tuple[str, str]]:
    """Call `_names_beside` once for all scenes in a folder, as long as its state stays the same."""
    return _names_beside(folder)


def _sources(path: Path, folder: Path) -> list[Path]:
    """The rasters that a VRT names; what it names as raw values is in its folder, and no raster."""
    if _BEGINS_VRT not in read_start(path, _LOOK):
        return []
    found: dict[Path, None] = {}
    home = path.resolve().parent
    for reference, relative, raw in dict.fromkeys(_references(path)):  # each band names them again
        target = home / reference if relative else Path(reference).absolute()
        if _NO_PATH.match(reference) or not reference.isprintable() or not _is_inside(target, folder):
            _refuse(path, reference)
        if not raw:
            found[target] = None
    return list(found)


def _references(path: Path) -> Iterator[tuple[str, bool, bool]]:
    """What a VRT names as files, whether that is seen from its own folder, and whether it is raw values."""
    try:
        root = read_xml(path, max_bytes=_MAX_BYTES, what="the largest virtual raster that is read here")
    except (XmlError, OSError) as error:
        raise SceneError(f"{path} is no virtual raster that can be read: {error}") from error
    for element in root.iter():
        raw = _attributes(path, element).get("subclass", "").lower() == "vrtrawrasterband"
        for child in element:
            text = (child.text or "").lstrip(_SPACE)
            if not text:
                continue
            said = {key.lower(): value for key, value in child.attrib.items()}
            if any(map(_NAMES_A_FILE.fullmatch, (child.tag.lower(), said.get("name", "").lower()))):
                relative = said.get("relativetovrt", "0")
                if relative not in {"0", "1"}:
                    _refuse(path, text)
                yield text, relative == "1", raw


def _attributes(path: Path, element: ET.Element) -> dict[str, str]:
    """Attributes by their names in lower case, as GDAL sees them, which takes them for elements as well.

    Raises:
        SceneError: if one names a file, if two have the same name (no real file has either), or for a
            geolocation table, which also refers to a file.
    """
    found = {key.lower(): value for key, value in element.attrib.items()}
    odd = [key for key in found if _NAMES_A_FILE.fullmatch(key)]
    if odd or len(found) < len(element.attrib) or element.tag.lower() == "geoloctransformer":
        _refuse(path, found[odd[0]] if odd else f"what its element {element.tag} names")
    return found


def _is_inside(target: Path, folder: Path) -> bool:
    try:
        return target.is_file() and target.resolve().is_relative_to(folder)
    except OSError:  # a name too long for a disk
        return False


def _refuse(path: Path, reference: str) -> NoReturn:
    raise SceneError(f"{path} refers to {reference}, which is no file in its folder: {IF_TRUSTED}")
