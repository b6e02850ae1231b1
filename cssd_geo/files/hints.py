"""What to do about a file that GDAL does not read, where its first bytes or its name tell."""

from pathlib import Path

_KINDS = {
    b"PK\x03\x04": "an archive (zip): unpack it first",
    b"\x1f\x8b": "compressed (gzip): unpack it first",
    b"7z\xbc\xaf\x27\x1c": "an archive (7z): unpack it first",
    b"Rar!": "an archive (rar): unpack it first",
    b"\x0e\x03\x13\x01": "of HDF4, which this GDAL lacks: convert it to GeoTIFF or ENVI elsewhere, as in QGIS",
}
"""By the bytes that a file begins with: where such files are of use as scenes, but not as they are."""
_RARE = " If it is of a rarer format, make a GeoTIFF of it first (gdal_translate)"
_DAMAGED = " It is damaged, or not what its name says: copy it again"
_READ_HERE = (".tif", ".tiff", ".h5", ".hdf5", ".he5", ".nc", ".nc4")
_RAW = ("", ".img", ".dat", ".raw", ".bin", ".bsq", ".bil", ".bip", ".hyspex")
_ENVI = b"ENVI"


def hint(path: Path) -> str:
    """Return a sentence that begins with a blank; nothing of what is no file or cannot be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            start = file.read(8)
        if not start:
            return " It is empty: copy it again"
        kind = next((kind for magic, kind in _KINDS.items() if start.startswith(magic)), None)
        if kind is not None:
            return f" It is {kind}"
        suffix = path.suffix.lower()
        if suffix in _READ_HERE:
            return _DAMAGED
        return (suffix in _RAW and _of_raw(path)) or _RARE
    except OSError:
        return ""


def _of_raw(path: Path) -> str:
    """Say what is wrong with the header of data that lie in a file without more."""
    names = (path.name.lower() + ".hdr", path.stem.lower() + ".hdr")
    headers = [each for each in path.parent.iterdir() if each.name.lower() in names]
    if not headers:
        return f" If it is raw data, its ENVI header is missing: it belongs beside it, as {path.stem}.hdr"
    with headers[0].open("rb") as file:
        begins = file.read(len(_ENVI)) == _ENVI
    return "" if begins else f" Its header, {headers[0].name}, does not begin with the word ENVI: correct it"
