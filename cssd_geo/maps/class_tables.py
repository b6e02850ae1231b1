"""The class table that a raster carries: in its tag, its side file or its ENVI header."""

import json
from pathlib import Path
from typing import Any

from cssd_geo.classes import UNCLASSIFIED, ClassTable, Colour
from cssd_geo.errors import InputError
from cssd_geo.maps import pam
from cssd_geo.maps.layer import CLASSES_TAG
from cssd_geo.messages import listed


def read_classes(dataset: Any) -> ClassTable | None:
    """Return the class table of an open class map from its tag, else its side file, else its ENVI header, or None.

    Raises:
        InputError: if its class table is damaged.
    """
    tag = dataset.tags().get(CLASSES_TAG)
    if tag is not None:
        return _parse_tag(tag, dataset.name)
    side = pam.side_path(Path(dataset.name))
    named = pam.read_classes(side, _read_colours(dataset)) if side.is_file() else None
    return _read_header(dataset) if named is None else named


def table_of_values(dataset: Any, values: list[int]) -> tuple[ClassTable, tuple[str, ...]]:
    """The classes of a raster in which these values occur, with what names and colours it has for them, and notes.

    Raises:
        InputError: if its class table is damaged.
    """
    named, found = read_classes(dataset), _read_colours(dataset)
    names = {} if named is None else dict(zip(named.ids, named.names, strict=True))
    colours = found if named is None else found | dict(zip(named.ids, named.colours, strict=True))
    unnamed = [value for value in values if value not in names]
    table = ClassTable.from_names([names.get(value, str(value)) for value in values], values, colours)
    name = Path(dataset.name).name
    note = f"{name} names other classes, but not these, so that their number is their name: {listed(unnamed)}."
    return table, (note,) if names and unnamed else ()


def _read_header(dataset: Any) -> ClassTable | None:
    """The class names of an ENVI header, in the order of their values from 0, which is no class."""
    text = dataset.tags(ns="ENVI").get("class_names", "")
    texts = [" ".join(name.split()) for name in text.strip().strip("{}").split(",")]
    names = {value: name for value, name in enumerate(texts) if name and value != UNCLASSIFIED}
    if not names:
        return None
    try:
        return ClassTable.from_names(list(names.values()), list(names), _read_colours(dataset))
    except InputError as error:
        raise InputError(f"{dataset.name}: its header cannot be used: {error}: correct its class names") from error


def _parse_tag(text: str, name: str) -> ClassTable:
    try:
        return ClassTable.from_json(json.loads(text))
    except (ValueError, RecursionError) as error:  # InputError and JSONDecodeError are ValueErrors
        raise InputError(f"{name}: its tag {CLASSES_TAG} is damaged: {error}") from error


def _read_colours(dataset: Any) -> dict[int, Colour]:
    try:
        return {value: (r, g, b) for value, (r, g, b, _) in dataset.colormap(1).items()}
    except ValueError:  # rasterio's way to say that there is no colour table
        return {}
