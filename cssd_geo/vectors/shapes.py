"""The shapes of a vector file: geometries with one class each, repaired, whatever the format."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from cssd_geo.errors import LabelError
from cssd_geo.vectors.class_fields import read_class_column
from cssd_geo.vectors.legend import Entry
from cssd_geo.vectors.longitudes import goes_around, put_together, turn_of
from cssd_geo.vectors.vector_files import LAYER_FIELD, read_layer, read_layers


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Geometries with one class each, in a CRS of their own."""

    geometries: NDArray[Any]
    """(n,) shapely geometries, valid, each once a class."""
    classes: NDArray[np.int64]
    """(n,) class of each, an index into `legend`."""
    legend: tuple[Entry, ...]
    """What the file says of each class."""
    crs: str | None
    notes: tuple[str, ...] = ()
    """What was left out, repaired or decided, one sentence each."""


def read_shapes(path: str | Path, *, layer: str | None, class_field: str | None) -> Shapes:
    """Read the geometries of a layer with their classes.

    Args:
        path: a vector that GDAL reads, or a zip with one.
        layer: needed where there are several, unless each of them is a class.
        class_field: attribute with the class; guessed where only one is plausible. "layer" without a `layer`: each
            layer of the file is a class, whose name it has.

    Raises:
        LabelError: if there is no such layer or field, or no geometry, or a value is no class.
    """
    together = layer is None and class_field == LAYER_FIELD
    or_else = f". If each layer is a class: --class-field {LAYER_FIELD}"
    found = read_layers(path) if together else read_layer(path, layer, or_else=or_else)
    usable = _usable(found.geometries)
    if not usable.any():
        raise LabelError(
            f"{path} has no geometry in any of its {len(usable)} features: draw polygons or points, or choose "
            "another --layer"
        )
    column = read_class_column(found.fields, class_field, path=str(path), usable=usable)
    keep = column.classes >= 0
    repaired, count = _repair(found.geometries[keep], found.crs)
    first = _first_of_each(repaired, column.classes[keep])
    notes = []
    if not keep.all():
        notes.append(f"{np.sum(~keep)} features without a class or a geometry were left out.")
    if count:
        notes.append(f"{count} invalid geometries were repaired.")
    if again := len(repaired) - len(first):
        notes.append(f"{again} geometries are there twice with the same class: each counts once.")
    return Shapes(
        geometries=repaired[first],
        classes=column.classes[keep][first],
        legend=column.legend,
        crs=found.crs,
        notes=(*found.notes, *column.notes, *notes),
    )


def read_geometries(path: str | Path, layer: str | None) -> tuple[NDArray[Any], str | None]:
    """Read the geometries of a layer alone, repaired, and their CRS.

    Raises:
        LabelError: if there is no such layer or no geometry.
    """
    found = read_layer(path, layer)
    return _repair(found.geometries[_usable(found.geometries)], found.crs)[0], found.crs


def _usable(geometries: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) True: there is a geometry, and its coordinates are numbers."""
    finite = np.isfinite(shapely.bounds(geometries)).all(axis=1)  # NaN where there is none
    coordinates, owner = shapely.get_coordinates(geometries, return_index=True)
    finite[owner[~np.isfinite(coordinates).all(axis=1)]] = False
    return np.asarray(finite, np.bool_)


def _repair(geometries: NDArray[Any], crs: str | None) -> tuple[NDArray[Any], int]:
    """Make geometries valid; of a repaired polygon only the areas stay, not the lines that it fell into.

    What parts or loops of a polygon cover twice belongs to it; where nothing has an area, the lines stay. Outlines
    that cross themselves only because longitudes jump, at the date line or around a pole, are put together.
    """
    repaired, invalid = geometries.copy(), np.flatnonzero(~shapely.is_valid(geometries))
    if len(invalid) and crs is not None and (turn := turn_of(pyproj.CRS(crs))) is not None:
        around = np.array([goes_around(geometry, turn) for geometry in geometries[invalid]], np.bool_)
        repaired[invalid] = [put_together(geometry, turn) for geometry in geometries[invalid]]
        invalid = invalid[~(around | shapely.is_valid(repaired[invalid]))]
    for i in invalid:
        whole = shapely.make_valid(repaired[i], method="structure", keep_collapsed=False)
        areas = [part for part in shapely.get_parts(whole) if shapely.area(part) > 0]
        repaired[i] = shapely.union_all(areas) if areas else shapely.make_valid(repaired[i])
    return repaired, len(invalid)


def _first_of_each(geometries: NDArray[Any], classes: NDArray[np.int64]) -> NDArray[np.intp]:
    """Indexes, ascending, of the first of all lines and areas that are the same and of the same class.

    Points stay: several in one pixel are told of later.
    """
    shapes = shapely.to_wkb(shapely.normalize(geometries)).tolist()
    points = shapely.get_dimensions(geometries) == 0
    first: dict[tuple[Any, ...], int] = {}
    for i, (shape, k) in enumerate(zip(shapes, classes.tolist(), strict=True)):
        first.setdefault((i,) if points[i] else (shape, k), i)
    return np.array(list(first.values()), np.intp)
