"""Which rasters a run writes, what describes them, and what room they take."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import cssd_geo
from cssd_geo.errors import OutputError
from cssd_geo.files.side_files import beside
from cssd_geo.grid import Grid
from cssd_geo.maps.layer import (
    MODEL_TAG,
    PRECISION_TAG,
    SCENE_NAME_TAG,
    TRAINED_ON_TAG,
    Layer,
    class_map_layer,
    percent_layer,
    probability_layer,
)
from cssd_geo.maps.reach import reach_tags
from cssd_geo.maps.training_labels import labels_tags
from cssd_geo.model import Model
from cssd_geo.runs.raw_layers import RawLayer
from cssd_geo.runs.unfinished import folder_of
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_files import SceneFiles

_OVERVIEWS = 4 / 3
"""Pixels of a raster with its overviews, for each of its own."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Files to write, named like the parts of a `TileResult` that they hold; None where one is not wanted."""

    class_map: str | Path
    confidence: str | Path | None = None
    disagreement: str | Path | None = None
    probabilities: str | Path | None = None

    def wanted(self) -> dict[str, Path]:
        """Path of each part, the class map first."""
        files = {item.name: getattr(self, item.name) for item in fields(self)}
        return {part: Path(file) for part, file in files.items() if file is not None}


def layers_of(outputs: Outputs, scene: Scene, files: SceneFiles, model: Model, precision: str) -> dict[str, Layer]:
    """Return the layer of each part that is wanted, the class map first.

    Raises:
        OutputError: if two of them, or one and a file of the scene or of its mask, are the same, or such a file
            would pass for a part of one.
    """
    tags = provenance_tags(scene, model, precision)
    _require_different(outputs.wanted(), files)
    return {part: _layer(part, path, model, tags) for part, path in outputs.wanted().items()}


def raw_layers(layers: Mapping[str, Layer], grid: Grid) -> dict[str, RawLayer]:
    """Return where the pixels of each layer lie until all are there."""
    folder, pixels = folder_of(layers["class_map"].path), grid.height * grid.width
    return {
        part: RawLayer(folder / f"{part}.raw", layer.dtype, bands=len(layer.band_names), pixels=pixels)
        for part, layer in layers.items()
    }


@dataclass(frozen=True, kw_only=True)
class DiskSpace:
    """Bytes on the disk of the class map."""

    unfinished: int
    """That the unfinished run will still take."""
    finished: int
    """That the rasters take at most, while they are made; mostly they are compressed to a small part of it."""
    free: int


def room_for(raw: Mapping[str, RawLayer]) -> DiskSpace:
    """Look what room is needed and free. The folder need not exist, the one that it will lie in must."""
    sizes = [layer.size for layer in raw.values()]
    return DiskSpace(
        unfinished=sum(max(0, layer.size - layer.allocated) for layer in raw.values()),
        finished=int(_OVERVIEWS * sum(sizes)) + max(sizes),
        free=shutil.disk_usage(raw["class_map"].path.parent.parent).free,
    )


def _layer(part: str, path: Path, model: Model, tags: Mapping[str, str]) -> Layer:
    match part:
        case "class_map":
            return class_map_layer(path, model.classes, tags)
        case "probabilities":
            return probability_layer(path, model.classes, tags)
        case _:
            return percent_layer(path, part, tags)


def _require_different(outputs: Mapping[str, Path], read: SceneFiles) -> None:
    files = {os.path.realpath(file): "the valid mask" for file in read.mask}
    files |= {os.path.realpath(file): "the scene" for file in read.scene}
    for part, path in outputs.items():
        name = f"the {part.replace('_', ' ')}"
        other = files.setdefault(os.path.realpath(path), name)
        if other != name:
            raise OutputError(f"{path} would be {other} and {name}: each needs a file of its own")
        for file in beside(path):
            if (what := files.get(os.path.realpath(file))) is not None:
                raise OutputError(
                    f"{file} is {what}, and would be taken for a part of {path}: choose another name for {name}"
                )


def provenance_tags(scene: Scene, model: Model, precision: str) -> dict[str, str]:
    """Return the tags of every output: what it was made of, how, and how far each pixel looked around itself."""
    trained_on = (model.provenance.get("scene") or {}).get("name", "unknown")
    grid = scene.grid if scene.lookup is None else scene.lookup.sensor_grid  # windows are of the sensor's pixels
    return {
        "TIFFTAG_SOFTWARE": f"cssd-geo {cssd_geo.__version__}",
        SCENE_NAME_TAG: scene.name,
        MODEL_TAG: model.digest(),
        TRAINED_ON_TAG: str(trained_on),
        **labels_tags(model.provenance),
        **reach_tags(model.network.config.receptive_field, grid),
        PRECISION_TAG: precision,
    }
