"""Classify a scene of any size: plan, read, compute, write; nothing flows back."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self, overload

import numpy as np
import rasterio
import xarray as xr

import cssd_geo
from cssd_geo.classes import UNCLASSIFIED, ClassTable
from cssd_geo.classmap import (
    RECEPTIVE_FIELD_TAG,
    Layer,
    RasterWriter,
    class_map_layer,
    percent_layer,
    probability_layer,
)
from cssd_geo.errors import InputError, OutputError
from cssd_geo.inference import TileClassifier, TileResult, choose_device, choose_precision, precision_name
from cssd_geo.lazy import classify_array
from cssd_geo.magnitude import recognise_scale
from cssd_geo.model import Model, fingerprint, load_model
from cssd_geo.options import DEFAULT_MEMORY
from cssd_geo.outputs import GEOTIFF, check_target
from cssd_geo.products import open_scene
from cssd_geo.scene import Scene
from cssd_geo.streaming import classified_tiles
from cssd_geo.tiles import Tile, TilePlan

SCENE_TAG, MODEL_TAG = "CSSD_GEO_SCENE_FINGERPRINT", "CSSD_GEO_MODEL"
"""Tags of every output: which content the scene had, the digest of the model."""


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What was written."""

    output: Path
    plan: TilePlan
    pixels: dict[str, int]
    """Pixels of each class by name; those unclassified are under "unclassified"."""
    seconds: float
    notes: tuple[str, ...] = ()
    """What the analyst should know of the scene and of its bands and scale, one sentence each."""


@overload
def classify(
    scene: xr.DataArray,
    model: str | Path | Model,
    *,
    tile_size: int | None = None,
    memory: int = DEFAULT_MEMORY,
    device: str = "auto",
    precision: str = "auto",
) -> xr.DataArray: ...


@overload
def classify(
    scene: str | Path | Scene,
    model: str | Path | Model,
    output: str | Path,
    *,
    confidence: str | Path | None = None,
    disagreement: str | Path | None = None,
    probabilities: str | Path | None = None,
    tile_size: int | None = None,
    memory: int = DEFAULT_MEMORY,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    on_tile: Callable[[int, int], None] | None = None,
) -> Classification: ...


def classify(
    scene: str | Path | Scene | xr.DataArray,
    model: str | Path | Model,
    output: str | Path | None = None,
    *,
    confidence: str | Path | None = None,
    disagreement: str | Path | None = None,
    probabilities: str | Path | None = None,
    tile_size: int | None = None,
    memory: int = DEFAULT_MEMORY,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    on_tile: Callable[[int, int], None] | None = None,
) -> Classification | xr.DataArray:
    """Classify a scene into files, or a DataArray into a lazy DataArray.

    Args:
        scene: path of a raster or an open scene, to write files (where it declares no scale, one that fits the
            model's is looked for, see `Classification.notes`); or a DataArray (band, y, x), see
            `scene_of_array`, to get a lazy class map back that computes tile by tile, with the confidence as its
            coordinate `confidence`.
        model: a model, or the path of its file.
        output: class map to write: a cloud-optimised GeoTIFF on the scene's grid, 0 where there is no data.
        confidence: raster of percent 0..100 to write, 255 where there is no data.
        disagreement: raster of percent 0..100 to write, 255 where there is no data: how far apart the opinions of
            the pure spectrum and of the spatial context are, 50 · Σₖ |pₖ - qₖ|. p = softmax(2a · main) and
            q = softmax(2b · spectral) are the two heads, each as sharp as both together are in the
            map's softmax(a · main + b · spectral). 0: they say the same; 100: no class is possible to both.
        probabilities: raster of a float32 band a class to write, NaN where there is no data.
        tile_size: side length of a tile in pixels; None: from the file's blocks and `memory`. Changes memory and
            speed, never the result.
        memory: bytes that tiles, the network's work and GDAL's blocks may take, beside the program itself.
        device: auto, cpu or cuda.
        precision: auto, float32 or bfloat16. The last one is faster where hardware has it, which `auto` finds out;
            it moves a class only where two are almost equally likely.
        overwrite: replace outputs that exist. They stay as they are until the new ones are whole.
        on_tile: called after each tile with the pixels done and the pixels in all.

    Raises:
        InputError: if an option cannot be used.
        SceneError: if the scene cannot be read, or its bands do not cover the model's.
        ModelFileError: if the model cannot be read.
        OutputError: if an output exists and `overwrite` is false, or cannot be written.
    """
    ready = model if isinstance(model, Model) else load_model(model)
    place = choose_device(device)
    dtype = choose_precision(precision, place)
    if isinstance(scene, xr.DataArray):
        return classify_array(scene, ready, tile_size=tile_size, memory=memory, device=place, precision=dtype)
    if output is None:
        raise InputError("classifying a scene into a file needs the file's name: give `output`")
    opened = scene if isinstance(scene, Scene) else open_scene(scene)
    opened = recognise_scale(opened, ready)
    classifier = TileClassifier(ready, opened, place, dtype)
    plan = classifier.plan(opened, tile_size, memory)
    paths = {"class_map": output, "confidence": confidence, "disagreement": disagreement}
    paths |= {"probabilities": probabilities}
    started, done = time.monotonic(), 0

    with (
        rasterio.Env(GDAL_CACHEMAX=opened.source.cache_bytes),
        _Outputs(opened, ready, paths, precision=precision_name(dtype), overwrite=overwrite) as outputs,
    ):
        for tile, result in classified_tiles(classifier, opened, plan, parts=outputs.parts):
            outputs.write(result, tile)
            done += tile.core.pixels
            if on_tile is not None:
                on_tile(done, plan.height * plan.width)
        outputs.finalise()

    seconds = time.monotonic() - started
    notes = (*opened.notes, *classifier.notes)
    return Classification(output=Path(output), plan=plan, pixels=outputs.pixels(), seconds=seconds, notes=notes)


class _Outputs:
    """The rasters of one run, each fed with the part of every tile's result that bears its name."""

    def __init__(
        self,
        scene: Scene,
        model: Model,
        paths: Mapping[str, str | Path | None],
        *,
        precision: str,
        overwrite: bool,
    ) -> None:
        tags = _provenance_tags(scene, model) | {"CSSD_GEO_PRECISION": precision}
        asked = {part: Path(path) for part, path in paths.items() if path is not None}
        layers = {part: _layer(part, path, model.classes, tags) for part, path in asked.items()}
        _require_different([layer.path for layer in layers.values()], scene)
        for layer in layers.values():
            check_target(layer.path, overwrite=overwrite, suffixes=GEOTIFF)
        self.parts = frozenset(layers)
        self._writers = {part: RasterWriter(layer, scene.grid) for part, layer in layers.items()}
        self._classes = model.classes
        self._counts = np.zeros(model.classes.ids[-1] + 1, np.int64)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for writer in self._writers.values():
                stack.enter_context(writer)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def write(self, result: TileResult, tile: Tile) -> None:
        for part, writer in self._writers.items():
            writer.write(getattr(result, part), tile.core)
        self._counts += np.bincount(result.class_map.ravel(), minlength=len(self._counts))

    def finalise(self) -> None:
        for writer in reversed(self._writers.values()):  # the class map last: where it is, all is done
            writer.finalise()

    def pixels(self) -> dict[str, int]:
        named = zip(self._classes.names, self._classes.ids, strict=True)
        counts = {name: int(self._counts[value]) for name, value in named}
        return counts | {"unclassified": int(self._counts[UNCLASSIFIED])}


def _layer(part: str, path: Path, classes: ClassTable, tags: Mapping[str, str]) -> Layer:
    match part:
        case "class_map":
            return class_map_layer(path, classes, tags)
        case "probabilities":
            return probability_layer(path, classes, tags)
        case _:
            return percent_layer(path, part, tags)


def _require_different(outputs: list[Path], scene: Scene) -> None:
    paths = [path.resolve() for path in (*outputs, *([] if scene.path is None else [scene.path]))]
    if len(set(paths)) < len(paths):
        raise OutputError(
            "scene, map, confidence, disagreement and probabilities need different files: two of them are the same"
        )


def _provenance_tags(scene: Scene, model: Model) -> dict[str, str]:
    trained_on = (model.provenance.get("scene") or {}).get("name", "unknown")
    return {
        "TIFFTAG_SOFTWARE": f"cssd-geo {cssd_geo.__version__}",
        "CSSD_GEO_SCENE": scene.name,
        MODEL_TAG: model.digest(),
        **({} if scene.path is None else {SCENE_TAG: fingerprint(scene.path)}),
        "CSSD_GEO_TRAINED_ON": str(trained_on),
        RECEPTIVE_FIELD_TAG: str(model.network.config.receptive_field),
    }
