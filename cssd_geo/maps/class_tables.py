"""The class table that a raster carries: in its tag, else in its side file."""

import json
from pathlib import Path
from typing import Any

from cssd_geo.classes import ClassTable, Colour
from cssd_geo.errors import InputError
from cssd_geo.files import pam
from cssd_geo.grid import open_raster
from cssd_geo.maps.layer import CLASSES_TAG


def read_classes(source: Any) -> ClassTable | None:
    """Return the class table of a class map from its tag, else its side file; None where it has neither.

    Args:
        source: path of a raster, or an open rasterio dataset.

    Raises:
        SceneError: if it cannot be opened.
        InputError: if its class table is damaged.
    """
    if not isinstance(source, str | Path):
        return _read_classes(source)
    with open_raster(source) as dataset:
        return _read_classes(dataset)


def _read_classes(dataset: Any) -> ClassTable | None:
    tag = dataset.tags().get(CLASSES_TAG)
    if tag is not None:
        return _parse_tag(tag, dataset.name)
    side = pam.side_path(Path(dataset.name))
    return pam.read_classes(side, _read_colours(dataset)) if side.is_file() else None


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
