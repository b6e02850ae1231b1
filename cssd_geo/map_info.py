"""What is known of a raster that `classify` wrote, as plain values for a person or a program."""

from typing import Any

from cssd_geo.classes import to_hex
from cssd_geo.grid import Grid
from cssd_geo.maps.class_rasters import bounded_cache, classes_of, count_pixels
from cssd_geo.maps.layer import CLASSES_TAG, MODEL_TAG, PRECISION_TAG, SCENE_NAME_TAG, TRAINED_ON_TAG
from cssd_geo.messages import listed


@bounded_cache()
def describe_map(dataset: Any) -> dict[str, Any] | None:
    """Return what an open raster's tags tell, and of a class map its classes, whose pixels are counted.

    Returns:
        None of a raster that `classify` did not write.

    Raises:
        SceneError: if a class map cannot be read.
    """
    tags = dataset.tags()
    if MODEL_TAG not in tags:
        return None
    is_class_map = CLASSES_TAG in tags
    return {
        "holds": "class map" if is_class_map else _held(dataset),
        "scene": tags.get(SCENE_NAME_TAG),
        "model": tags[MODEL_TAG],
        "trained_on": tags.get(TRAINED_ON_TAG),
        "precision": tags.get(PRECISION_TAG),
        "classes": _classes(dataset) if is_class_map else None,
    }


def _held(dataset: Any) -> str:
    """What a raster beside a class map holds: percent of one thing, or in each band the probability of a class."""
    names = listed(filter(None, dataset.descriptions))
    return f"probabilities ({names})" if dataset.count > 1 else names


def _classes(dataset: Any) -> list[dict[str, Any]]:
    """Number, name, colour, pixels and hectares of each class; these are None without a projected CRS."""
    table, pixel = classes_of(dataset), Grid.of(dataset).pixel_hectares
    counts, _ = count_pixels(dataset, table)
    rows = zip(table.ids, table.names, table.colours, counts.tolist(), strict=True)
    return [
        {
            "id": number,
            "name": name,
            "colour": to_hex(colour),
            "pixels": count,
            "hectares": None if pixel is None else count * pixel,
        }
        for number, name, colour, count in rows
    ]
