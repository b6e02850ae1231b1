"""Vectors in: geometries with one class each, repaired, whatever the format, and which attribute is the class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError

from cssd_geo.classes import listed
from cssd_geo.errors import LabelError

CLASS_FIELD, MAP_ID_FIELD, MAP_NAME_FIELD = "class_name", "map_id", "map_name"
"""Fields of a reference sample: the class to be filled in, and what the map has there."""
_POINTS = (-1, 0, 4)
"""Type ids of shapely for a missing geometry, a point and several points."""


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Geometries with one class value each, in a CRS of their own."""

    geometries: NDArray[Any]
    """(n,) shapely geometries, valid."""
    values: NDArray[Any]
    """(n,) class of each: text or whole number."""
    colours: NDArray[Any]
    """(n,) "#rrggbb" of each, or None."""
    crs: str | None
    notes: tuple[str, ...] = ()
    """What was left out or repaired, one sentence each."""


def is_vector(path: str | Path) -> bool:
    """Whether GDAL reads a file as a vector.

    Raises:
        LabelError: if it does not exist.
    """
    if not Path(path).exists():
        raise LabelError(f"{path} does not exist: check the path")
    try:
        pyogrio.list_layers(path)
    except DataSourceError:
        return False
    return True


def read_shapes(path: str | Path, *, layer: str | None, class_field: str | None) -> Shapes:
    """Read the geometries of a layer with their classes.

    Args:
        path: a vector that GDAL reads.
        layer: needed where there are several.
        class_field: attribute with the class; guessed where only one is plausible.

    Raises:
        LabelError: if there is no such layer or field, or no geometry, or a value is no class.
    """
    name = _choose_layer(path, layer)
    meta, _, wkb, columns = pyogrio.raw.read(path, layer=name, force_2d=True)
    fields = dict(zip(meta["fields"].tolist(), columns, strict=True))
    field = _guess_field(path, fields) if class_field is None else class_field
    if field not in fields:
        raise LabelError(f"{path} has no field {field!r}; choose --class-field from: {_describe(fields)}")
    geometries, values = _geometries(path, name, wkb), _class_values(fields[field], field)
    colours = next((fields[f] for f in fields if _is_colour_field(f)), np.full(len(values), None, object))
    known = np.array([value is not None for value in values], np.bool_)
    if len(known) and not known.any():
        raise LabelError(f"{path}: no feature has a class in field {field!r}: fill it, or choose --class-field")
    keep = known & ~shapely.is_missing(geometries) & ~shapely.is_empty(geometries)
    repaired, count = _repair(geometries[keep])
    notes = [f"{np.sum(~keep)} features without a class or a geometry were left out."] * bool((~keep).any())
    notes += [f"{count} invalid geometries were repaired."] * bool(count)
    return Shapes(
        geometries=repaired, values=values[keep], colours=colours[keep], crs=meta["crs"], notes=tuple(notes)
    )


def read_geometries(path: str | Path, layer: str | None) -> tuple[NDArray[Any], str | None]:
    """Read the geometries of a layer alone, repaired, and their CRS.

    Raises:
        LabelError: if there is no such layer or no geometry.
    """
    name = _choose_layer(path, layer)
    meta, _, wkb, _ = pyogrio.raw.read(path, layer=name, force_2d=True, columns=[])
    return _repair(_geometries(path, name, wkb))[0], meta["crs"]


def holds_points(path: str | Path, layer: str | None) -> bool:
    """Whether all geometries of a layer are points.

    Raises:
        LabelError: if there is no such layer or no geometry.
    """
    geometries, _ = read_geometries(path, layer)
    return bool(np.isin(shapely.get_type_id(geometries), _POINTS).all())


def has_field(path: str | Path, layer: str | None, field: str) -> bool:
    """Whether a layer has an attribute of this name.

    Raises:
        LabelError: if there is no such layer.
    """
    return field in pyogrio.read_info(path, layer=_choose_layer(path, layer))["fields"]


def _geometries(path: str | Path, layer: str, wkb: NDArray[Any] | None) -> NDArray[Any]:
    if wkb is None:
        raise LabelError(f"{path}, layer {layer}, has no geometries")
    return np.asarray(shapely.from_wkb(wkb))


def _choose_layer(path: str | Path, wanted: str | None) -> str:
    layers = [str(name) for name, _ in pyogrio.list_layers(path)]
    if wanted is None and len(layers) == 1:
        return layers[0]
    if wanted in layers:
        return str(wanted)
    asked = "name one" if wanted is None else f"{wanted!r} is none of them"
    raise LabelError(f"{path} has {len(layers)} layers ({listed(layers)}): {asked} with --layer")


def _guess_field(path: str | Path, fields: dict[str, NDArray[Any]]) -> str:
    """The only text field, or where there is none the only whole-number field, with at least two values.

    Of a reference sample it is the one to be filled in: the map's own classes would make any map look perfect.
    """
    if {CLASS_FIELD, MAP_ID_FIELD, MAP_NAME_FIELD} <= fields.keys():
        return CLASS_FIELD
    for kinds in ("OU", "iu"):
        plausible = [
            name
            for name, column in fields.items()
            if column.dtype.kind in kinds and len(_distinct(column)) > 1 and not _is_colour_field(name)
        ]
        if len(plausible) == 1:
            return plausible[0]
        if plausible:
            break
    raise LabelError(f"{path}: which field holds the class? Choose --class-field from: {_describe(fields)}")


def _is_colour_field(name: str) -> bool:
    return name.lower() in {"colour", "color"}


def _distinct(column: NDArray[Any]) -> list[str]:
    return sorted({str(value) for value in column if value is not None})


def _describe(fields: dict[str, NDArray[Any]]) -> str:
    texts = []
    for name, column in fields.items():
        values = _distinct(column)
        texts.append(f"{name} ({len(values)} values: {', '.join(values[:3])}{', ...' if len(values) > 3 else ''})")  # noqa: PLR2004
    return "; ".join(texts) or "(none)"


def _class_values(column: NDArray[Any], field: str) -> NDArray[Any]:
    """Text stripped, whole numbers as int, null and empty as None."""
    if column.dtype.kind not in "OUiufb":
        raise LabelError(f"field {field!r} holds {column.dtype} values: a class is a text or a whole number")
    values: NDArray[Any] = np.empty(len(column), object)
    for i, value in enumerate(column.tolist()):
        if isinstance(value, float) and not np.isnan(value) and not value.is_integer():
            raise LabelError(f"field {field!r} holds {value}: a class is a text or a whole number")
        if isinstance(value, str):
            values[i] = " ".join(value.split()) or None  # tabs and line ends are no part of a name
        elif value is not None and not (isinstance(value, float) and np.isnan(value)):
            values[i] = int(value)
    return values


def _repair(geometries: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Make geometries valid; of a repaired polygon only the areas stay, not the lines that it fell into."""
    invalid = ~shapely.is_valid(geometries)
    repaired = geometries.copy()
    for i in np.flatnonzero(invalid):
        whole = shapely.make_valid(geometries[i])
        areas = [part for part in shapely.get_parts(whole) if shapely.area(part) > 0]
        repaired[i] = shapely.union_all(areas) if areas else whole
    return repaired, int(invalid.sum())
