"""STAC items, read from files: which raster each points to. Nothing outside of the item's folder unless asked."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cssd_geo.errors import SceneError
from cssd_geo.files.locations import is_address
from cssd_geo.messages import listed

_RASTERS = (
    "image/tiff",
    "image/vnd.stac.geotiff",
    "application/x-hdf",
    "application/x-netcdf",
    "application/netcdf",
)
"""Media types of scenes, without what follows a semicolon; HDF5 and Zarr come with suffixes of their own."""
_LARGEST = 100_000_000
"""Bytes of a file of items."""


def is_stac(path: str) -> bool:
    """Whether a path is a JSON file, which only STAC items are here."""
    return path.lower().endswith((".json", ".geojson")) and Path(path).is_file()


def read_items(path: str, *, asset: str | None = None, follow_links: bool = False) -> list[tuple[str, str]]:
    """Find the rasters of a STAC item, or of a collection of items (an ItemCollection).

    Args:
        path: a local file.
        asset: key of the asset to take; needed where an item has several rasters.
        follow_links: also take what lies outside of the file's folder, or on a server.

    Returns:
        For each item its id, as the name of a file, and the path or address of its raster.

    Raises:
        SceneError: if it is no item, has no such asset, or points to where it must not.
    """
    items = _items(_parse(path), path)
    return [_raster_of(item, Path(path), asset, follow_links=follow_links) for item in items]


def _parse(path: str) -> Any:
    try:
        if Path(path).stat().st_size > _LARGEST:
            raise SceneError(f"{path} has more than {_LARGEST // 10**6} MB: split it into smaller collections")
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, SceneError):
            raise
        raise SceneError(f"{path} cannot be read as a STAC item: {error}") from error


def _items(document: Any, path: str) -> Iterator[dict[str, Any]]:
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "FeatureCollection" and isinstance(document.get("features"), list):
        for feature in document["features"]:
            yield from _items(feature, path)
    elif kind == "Feature" and isinstance(document.get("id"), str) and isinstance(document.get("assets"), dict):
        yield document
    else:
        raise SceneError(f"{path} is no STAC item: it needs a type, an id and assets (a Catalog holds links only)")


def _raster_of(item: dict[str, Any], path: Path, wanted: str | None, *, follow_links: bool) -> tuple[str, str]:
    assets = {key: value for key, value in item["assets"].items() if isinstance(value, dict)}
    rasters = [key for key, value in assets.items() if _is_raster(value)]
    data = [key for key in rasters if isinstance(roles := assets[key].get("roles"), list) and "data" in roles]
    candidates = [wanted] if wanted is not None else data if len(data) == 1 else rasters
    if len(candidates) != 1 or candidates[0] not in assets:
        found = f"has the rasters {listed(rasters)}" if rasters else f"has no raster among {listed(assets)}"
        raise SceneError(f"{path}: item {item['id']!r} {found}: choose one with --asset")
    href = assets[candidates[0]].get("href")
    if not isinstance(href, str) or not href or "\0" in href:
        raise SceneError(f"{path}: asset {candidates[0]!r} of item {item['id']!r} has no href")
    name = re.sub(r"[^\w.-]+", "_", item["id"])[:150]
    return name, _resolve(href, path, follow_links=follow_links)


def _is_raster(asset: dict[str, Any]) -> bool:
    kind = asset.get("type")
    return isinstance(kind, str) and kind.split(";")[0].strip().lower().startswith(_RASTERS)


def _resolve(href: str, path: Path, *, follow_links: bool) -> str:
    """Where a reference leads. Paths in files are data of strangers: they stay in the folder unless asked.

    What lies on this machine becomes a whole path, which GDAL takes for nothing else.
    """
    if is_address(href.removeprefix("file://")):
        target, inside = href, False
    else:
        place = (path.parent / href.removeprefix("file://")).absolute()
        target, inside = str(place), place.resolve().is_relative_to(path.parent.resolve())
    if not follow_links and (not inside or is_address(target)):
        raise SceneError(
            f"{path} points to {href}, outside of its folder: if you trust it, allow that with --follow-links"
        )
    return target
