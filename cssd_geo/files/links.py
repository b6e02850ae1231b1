"""Where a raster file leads: formats and references of strangers' files that would read elsewhere are refused."""

from collections.abc import Iterator
from pathlib import Path

from cssd_geo.errors import InputError, SceneError
from cssd_geo.files import pam

LOCAL_FORMATS = (
    *(
        "GTiff",
        "ENVI",
        "EHdr",
        "VRT",
        "HFA",
        "PCIDSK",
        "ERS",
        "RST",
        "NITF",
        "JP2OpenJPEG",
        "JPEG",
        "PNG",
        "BMP",
        "GIF",
    ),
    *("netCDF", "HDF5", "HDF5Image", "Zarr", "GenBin", "LAN", "AAIGrid", "GSAG", "GSBG", "GS7BG", "SAGA", "XYZ"),
    *("ROI_PAC", "ISCE", "SNAP_TIFF", "BT", "USGSDEM", "DTED", "SRTMHGT", "GSC", "KRO", "RRASTER", "PNM", "WEBP"),
)
"""GDAL's drivers whose files hold their pixels themselves. Others ask servers, or are lists of further files."""
_BEGINS_VRT = b"<VRTDataset"
_LOOK = 2048
"""Bytes in which GDAL looks for the begin of a VRT."""
_DEEPEST = 8
"""VRTs of VRTs."""


def require_inside(path: str | Path) -> None:
    """Check that a virtual raster, and those that it refers to, lead to files in its own folder only.

    A file is data: whoever opens it does not mean to read other folders or servers for it. Other formats are taken
    as they are.

    Raises:
        SceneError: naming the reference that leads outside.
    """
    if _is_vrt(Path(path)):
        _check(Path(path), Path(path).resolve().parent, _DEEPEST)


def _check(path: Path, folder: Path, depth: int) -> None:
    if not depth:
        raise SceneError(f"{path} is a virtual raster of virtual rasters, more than {_DEEPEST} deep: simplify it")
    for reference, relative in _references(path):
        target = path.parent / reference if relative else Path(reference)
        if not target.is_file() or not target.resolve().is_relative_to(folder):
            raise SceneError(
                f"{path} refers to {reference}, which is no file in its folder: if you trust it, allow that with "
                "--follow-links"
            )
        if _is_vrt(target):
            _check(target, folder, depth - 1)


def _references(path: Path) -> Iterator[tuple[str, bool]]:
    """What a VRT names as sources, and whether that is seen from its own folder."""
    try:
        root = pam.parse(path)
    except InputError as error:
        raise SceneError(f"{path} is no virtual raster that can be read: {error}") from error
    for element in root.iter():
        name = element.tag.lower()
        if (name.endswith("filename") or name == "sourcedataset") and (element.text or "").strip():
            yield str(element.text).strip(), element.get("relativeToVRT", element.get("relativetoVRT", "0")) == "1"


def _is_vrt(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _BEGINS_VRT in file.read(_LOOK)
