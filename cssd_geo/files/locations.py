"""Where a scene is: a path on this machine, or an address that GDAL reads by itself."""

from pathlib import Path


def is_address(place: str | Path) -> bool:
    """Whether it is for GDAL alone to understand: https://..., s3://..., /vsicurl/..., /vsizip/..."""
    text = str(place)
    return "://" in text or text.startswith("/vsi")


def local_path(place: str | Path) -> Path | None:
    """Return the path of what lies on this machine; None for an address."""
    return None if is_address(place) else Path(place)


def absolute(place: str) -> str:
    """Return a path that holds for programs that work in another folder; what is none stays as it is."""
    return place if is_address(place) or not Path(place).exists() else str(Path(place).absolute())


def file_name(place: str | Path) -> str:
    """Return the last part; of an address without its query, which may hold a signature."""
    if not is_address(place):
        return Path(place).name
    return str(place).partition("?")[0].rstrip("/").rpartition("/")[2]
