"""Classify many scenes, one after the other: skip what is done, record what became of each."""

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

from cssd_geo.classification import Classification, classify
from cssd_geo.errors import BatchError, CssdGeoError, InputError, OutputError, SceneError
from cssd_geo.files.outputs import free_space, make_folder
from cssd_geo.files.rasters import open_raster
from cssd_geo.files.side_files import BESIDE
from cssd_geo.maps.layer import MODEL_TAG, PRECISION_TAG, SCENE_TAG
from cssd_geo.maps.pam import side_path
from cssd_geo.messages import one_line, printable
from cssd_geo.model import Model, model_of
from cssd_geo.options import (
    BATCH_ON_ERROR,
    DEVICES,
    PRECISIONS,
    require_choice,
    require_kind,
    true_or_false,
    whole_number,
)
from cssd_geo.products import open_scene
from cssd_geo.runs.identity import SceneIdentity
from cssd_geo.runs.layers import Outputs
from cssd_geo.runs.unfinished import folder_of
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_lists import ListedScene, Shard
from cssd_geo.value_scale import recognise_scale

LAYERS = tuple(part.name for part in fields(Outputs) if part.name != "class_map")
"""What may be written beside each class map."""
_Tags = Callable[[], Mapping[str, str]]
"""Returns the tags that outputs of a scene by a model have; a function, because that reads files."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a scene: a line of the manifest."""

    scene: str
    """Its path; its address without what may be a secret."""
    output: str
    status: str
    """done, skipped (all that was asked for was there, of this scene and by this model) or failed."""
    seconds: float = 0.0
    pixels: int = 0
    classes: dict[str, dict[str, float | None]] | None = None
    """Pixels and hectares of each class by name, "unclassified" among them; no hectares (None) without
    a projected CRS."""
    notes: tuple[str, ...] = ()
    """What the analyst should know of the scene and of its bands and scale, as `classify` tells it."""
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How all scenes are opened and classified; see `open_scene` and `classify`."""

    layers: Collection[str] = ()
    """Names from `LAYERS`."""
    tile_size: int | None = None
    memory: int | None = None
    device: str = "auto"
    precision: str = "auto"
    overwrite: bool = False
    """Replace outputs of other scenes or models, and incomplete ones; what is done is still skipped."""
    restart: bool = False
    """Discard unfinished runs; with `overwrite` make again what is done as well."""
    bands: str | Sequence[int] | None = None
    valid_mask: str | Path | None = None
    aoi: str | Path | None = None
    aoi_layer: str | None = None
    scale: float | None = None
    follow_links: bool = False

    def __post_init__(self) -> None:
        layers = (self.layers,) if isinstance(self.layers, str) else tuple(self.layers)
        object.__setattr__(self, "layers", layers)  # a generator could be read only once
        for layer in layers:
            require_choice("layer", layer, LAYERS)
        for name in ("overwrite", "restart", "follow_links"):
            true_or_false(name, getattr(self, name))
        for name in ("tile_size", "memory"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name))
        require_choice("device", self.device, DEVICES)
        require_choice("precision", self.precision, PRECISIONS)

    def open(self, path: str) -> Scene:
        """Open a scene as all are opened; raises as `open_scene` does."""
        return open_scene(
            path,
            bands=self.bands,
            valid_mask=self.valid_mask,
            aoi=self.aoi,
            aoi_layer=self.aoi_layer,
            scale=self.scale,
            follow_links=self.follow_links,
        )


def classify_batch(
    scenes: Sequence[ListedScene],
    model: str | Path | Model,
    folder: str | Path,
    *,
    options: BatchOptions | None = None,
    shard: Shard | None = None,
    on_error: str = "stop",
    client: Any = None,
    on_resume: Callable[[int, int], None] | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> Iterator[Outcome]:
    """Classify scenes into a folder, as NAME_map.tif, NAME_confidence.tif and so on.

    Each outcome is a line of JSON in the folder's manifest (manifest.jsonl, or manifest-I-of-N.jsonl for a
    shard), on the disk before the next scene begins. A scene is skipped if all that is asked for is there: of the
    same content, read in the same way, and by this model. Nothing is done before the outcomes are asked for, one
    after the other, as `for outcome in classify_batch(...)` does.

    Args:
        scenes: from `find_scenes`.
        model: what to classify with, or the path of its file.
        folder: where outputs go; made if it is not there.
        options: how to classify.
        shard: which of the scenes are this job's; all if None.
        on_error: stop, or continue with the next scene and say at the end how many failed.
        client: as for `classify`.
        on_resume: as for `classify`.
        on_tile: as for `classify`.

    Yields:
        The outcome of each scene, when it is known.

    Raises:
        InputError: if an argument cannot be used.
        ModelFileError: if the model cannot be read.
        OutputError: if the folder or the manifest cannot be written.
        CssdGeoError: what stopped a scene, with on_error="stop".
        BatchError: at the end, if scenes failed, with on_error="continue".
    """
    require_choice("on_error", on_error, BATCH_ON_ERROR)
    options, scenes = BatchOptions() if options is None else options, list(scenes)
    require_kind("options", options, BatchOptions, "BatchOptions(...)")
    for scene in scenes:
        require_kind("each scene", scene, ListedScene, "one that find_scenes found")
    if shard is not None:
        require_kind("shard", shard, Shard, 'a Shard, such as Shard.parse("2/8")')
    ready = model_of(model)
    chosen = scenes if shard is None else shard.pick(scenes)
    name = "manifest.jsonl" if shard is None else f"manifest-{shard.number}-of-{shard.of}.jsonl"
    place, failed = Path(folder), 0
    manifest = place / name
    run: Callable[..., Any] = partial(classify, client=client, on_resume=on_resume, on_tile=on_tile)
    _require_no_scene_replaced(scenes, place, options)
    make_folder(place)
    for tried, scene in enumerate(chosen, start=1):
        outcome, error = _classify_one(scene, ready, place, options, run)
        _record(outcome, manifest)
        if error is not None and on_error == "stop":
            if tried < len(chosen):
                left = f"{len(chosen) - tried} of {len(chosen)}"
                error.add_note(f"Scenes that were not tried: {left}; --on-error continue tries them too")
            raise error
        failed += error is not None
        del error  # frees what its traceback holds before the next scene
        yield outcome
    if failed:
        raise BatchError(f"{failed} of {len(chosen)} scenes failed: {manifest} says why; run again to try them")


def _file_name(scene: ListedScene, layer: str) -> str:
    return f"{scene.name}_{layer}.tif"


def _require_no_scene_replaced(scenes: Sequence[ListedScene], folder: Path, options: BatchOptions) -> None:
    """Refuse a folder where an output of one scene would be another scene."""
    place, given = os.path.realpath(folder), {os.path.realpath(scene.path) for scene in scenes}
    for scene in scenes:
        for layer in ("map", *options.layers):
            for suffix in ("", *BESIDE):
                name = _file_name(scene, layer) + suffix
                if os.path.join(place, name) in given:  # noqa: PTH118 - quick, for long lists
                    raise InputError(
                        f"{folder / name} is a scene of this batch and would {'go with' if suffix else 'be'} the "
                        f"{layer} of {scene.path}: choose another --output-dir"
                    )


def _classify_one(
    scene: ListedScene,
    model: Model,
    folder: Path,
    options: BatchOptions,
    run: Callable[..., Classification],
) -> tuple[Outcome, Exception | None]:
    started = time.monotonic()
    layers = {layer: folder / _file_name(scene, layer) for layer in options.layers}
    outputs = Outputs(class_map=folder / _file_name(scene, "map"), **layers)
    blank = Outcome(scene=scene.shown, output=str(outputs.class_map), status="failed")
    try:
        opened = options.open(scene.path)
        expected = cache(partial(_expected_tags, opened, model))
        if _is_done(scene, expected, outputs.wanted(), options):
            return replace(blank, status="skipped"), None
        _require_no_other_layers(scene, expected, folder, options)
        done = run(
            opened,
            model,
            outputs.class_map,
            **layers,
            tile_size=options.tile_size,
            memory=options.memory,
            device=options.device,
            precision=options.precision,
            overwrite=options.overwrite,
            restart=options.restart,
        )
    except (CssdGeoError, MemoryError) as error:
        seconds = time.monotonic() - started
        return replace(blank, seconds=round(seconds, 3), error=one_line(error)), error
    return _success(blank, done, opened), None


def _success(blank: Outcome, done: Classification, scene: Scene) -> Outcome:
    area = scene.map_grid.pixel_hectares
    hectares = {name: None if area is None else round(n * area, 4) for name, n in done.pixels.items()}
    return replace(
        blank,
        status="done",
        seconds=round(done.seconds, 3),
        pixels=sum(done.pixels.values()),
        classes={name: {"pixels": n, "hectares": hectares[name]} for name, n in done.pixels.items()},
        notes=done.notes + scene.map_grid.hectare_notes,
    )


def _is_done(scene: ListedScene, expected: _Tags, paths: Mapping[str, Path], options: BatchOptions) -> bool:
    """Whether all that is asked for is there and is what would come out: an output exists only once it is whole.

    Raises:
        OutputError: if something is there that may not be replaced.
        SceneError: if the scene cannot be read.
    """
    there = {part: path for part, path in paths.items() if os.path.lexists(path)}
    if not there or (options.overwrite and options.restart):
        return False
    doubts = _doubts(there.values(), expected, options.precision)
    missing = [part for part in paths if part not in there]
    goes_on = folder_of(paths["class_map"]).exists()  # only that run knows which of them are its own
    cut_short = goes_on and not side_path(paths["class_map"]).exists()
    if not doubts and not missing and not cut_short:
        return True
    if not (options.overwrite or goes_on):
        why = "; ".join(doubts) or f"{scene.name} has {_joined('a', there)} but {_joined('no', missing)}"
        raise OutputError(f"{why}: give --overwrite to make all of it again, or another --output-dir")
    return False


def _require_no_other_layers(scene: ListedScene, expected: _Tags, folder: Path, options: BatchOptions) -> None:
    """Refuse to write a map beside older layers, not asked for now, that would be mistaken for its own."""
    others = [folder / _file_name(scene, layer) for layer in LAYERS if layer not in options.layers]
    doubts = _doubts(filter(os.path.lexists, others), expected, options.precision)
    if doubts:
        raise OutputError(f"{doubts[0]}, and would lie beside the new map: ask for it as well, or move it away")


def _expected_tags(scene: Scene, model: Model) -> dict[str, str]:
    return {MODEL_TAG: model.digest(), SCENE_TAG: SceneIdentity.of(recognise_scale(scene, model)).digest}


def _doubts(paths: Iterable[Path], expected: _Tags, precision: str) -> list[str]:
    """Say why outputs are not what would come out, where they are not."""
    return [doubt for path in paths if (doubt := _doubt(path, expected(), precision)) is not None]


def _doubt(path: Path, expected: Mapping[str, str], precision: str) -> str | None:
    """Say why an output is not what would come out; None if it is."""
    try:
        with open_raster(path) as dataset:
            tags = dataset.tags()
    except SceneError:
        return f"{path} is there, but is no raster"
    if tags.get(MODEL_TAG) != expected[MODEL_TAG]:
        return f"{path} is there, but by another model"
    if tags.get(SCENE_TAG) != expected[SCENE_TAG]:
        return f"{path} is there, but of another scene, or its files, bands, scale or masks have changed"
    if precision not in ("auto", tags.get(PRECISION_TAG)):
        return f"{path} is there, but was computed in {tags.get(PRECISION_TAG)}"
    return None


def _joined(article: str, parts: Iterable[str]) -> str:
    return " and ".join(f"{article} {part.replace('_', ' ')}" for part in parts)


def _record(outcome: Outcome, manifest: Path) -> None:
    """Append a line, on the disk before anything else happens; also where the one before it was torn."""
    line = printable(json.dumps(asdict(outcome), ensure_ascii=False, allow_nan=False)).encode()
    try:
        with manifest.open("a+b") as file:
            file.write((b"\n" if _is_torn(file) else b"") + line + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"{manifest} cannot be written: {error} ({free_space(manifest.parent)})") from error


def _is_torn(file: BinaryIO) -> bool:
    """Whether a file holds something that does not end in a line break."""
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
