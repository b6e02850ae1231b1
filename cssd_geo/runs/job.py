"""A classification as it is known before its first tile: a plain value, which a dry run prints and a run does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cssd_geo.engine.devices import precision_name
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.engine.streaming import ThisMachine
from cssd_geo.errors import OutputError
from cssd_geo.files.outputs import GEOTIFF, check_target
from cssd_geo.files.side_files import beside
from cssd_geo.maps.layer import Layer
from cssd_geo.messages import printable
from cssd_geo.model import Model
from cssd_geo.runs.layers import Outputs, layers_of, raw_layers
from cssd_geo.runs.raw_layers import RawLayer
from cssd_geo.scenes.fill_checks import fill_notes
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_files import SceneFiles
from cssd_geo.tiles import TilePlan
from cssd_geo.value_scale import recognise_scale

if TYPE_CHECKING:
    from cssd_geo.engine.cluster import Cluster


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is read, what computes where, in which tiles, and which rasters come of it."""

    scene: Scene
    """With its values in the model's units."""
    files: SceneFiles
    """That it is read from."""
    classifier: TileClassifier
    where: "ThisMachine | Cluster"
    tile_size: int | None
    """As asked for."""
    memory: int
    """Bytes that the tiles are planned for."""
    plan: TilePlan
    layers: Mapping[str, Layer]
    """The raster of each part of a `TileResult` that is wanted, the class map first."""
    notes: tuple[str, ...]
    """What the analyst should know of the scene and of its bands and scale, one sentence each."""

    @property
    def raw(self) -> dict[str, RawLayer]:
        """Where the pixels of each raster lie until all are there."""
        return raw_layers(self.layers, self.scene.grid)

    @property
    def precision(self) -> str:
        """By name."""
        return precision_name(self.where.precision)

    def check_targets(self, *, overwrite: bool) -> None:
        """Raise an OutputError if a raster cannot be written where it should be, or may not be replaced."""
        for layer in self.layers.values():
            check_target(layer.path, overwrite=overwrite, suffixes=GEOTIFF)
            if (shown := printable(whole := str(layer.path.absolute()))) != whole:
                raise OutputError(f"{shown} has a name, or a folder, that is not UTF-8: choose another")
            for path in beside(layer.path):
                if path.is_dir():
                    raise OutputError(
                        f"{path} is a folder, where GDAL looks for a part of {layer.path}: move it away"
                    )


def plan_job(
    scene: Scene,
    model: Model,
    outputs: Outputs,
    where: "ThisMachine | Cluster",
    *,
    tile_size: int | None = None,
    memory: int | None = None,
) -> Job:
    """Plan the classification of a scene into rasters; writes nothing.

    Args:
        scene: what to classify.
        model: what with.
        outputs: the rasters.
        where: what computes.
        tile_size: side length of a tile in pixels; None: from the file's blocks and `memory`.
        memory: bytes that tiles, the network's work and GDAL's blocks may take; None: `TileClassifier.memory_for`.

    Raises:
        InputError: if an option cannot be used.
        OutputError: if two outputs, or one and a file of the scene, are the same.
        SceneError: if the scene cannot be read, or its bands do not cover the model's.
    """
    scene = recognise_scale(scene, model)
    classifier = TileClassifier(model, scene, where.classifier_device, where.precision)
    files, memory = SceneFiles.of(scene), classifier.memory_for(scene, memory)
    return Job(
        scene=scene,
        files=files,
        classifier=classifier,
        where=where,
        tile_size=tile_size,
        memory=memory,
        plan=classifier.plan(scene, tile_size, memory),
        layers=layers_of(outputs, scene, files, model, precision_name(where.precision)),
        notes=scene.notes + classifier.notes + fill_notes(scene, classifier.bands),
    )
