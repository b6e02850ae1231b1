"""Classify many scenes, one after the other: skip what is done, record what became of each."""

import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cssd_geo.classification import Classification, classify
from cssd_geo.errors import BatchError, CssdGeoError, InputError, OutputError
from cssd_geo.files.outputs import free_space
from cssd_geo.grid import open_raster
from cssd_geo.model import Model, fingerprint
from cssd_geo.products import open_scene
from cssd_geo.runs.layers import MODEL_TAG, SCENE_TAG
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_lists import ListedScene, Shard

LAYERS = ("confidence", "disagreement", "probabilities")
"""What may be written beside each class map."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a scene: a line of the manifest."""

    scene: str
    output: str
    status: str
    """done, skipped (there was a map of this scene by this model) or failed."""
    seconds: float = 0.0
    pixels: int = 0
    classes: dict[str, dict[str, float | None]] | None = None
    """Pixels and hectares of each class by name, "unclassified" among them; hectares where the CRS has metres."""
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How all scenes are classified; see `classify`."""

    layers: Collection[str] = ()
    """Of `LAYERS`."""
    tile_size: int | None = None
    memory: int | None = None
    device: str = "auto"
    precision: str = "auto"
    overwrite: bool = False
    restart: bool = False
    follow_links: bool = False
    """Let virtual rasters refer to files outside of their folder."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.layers) - set(LAYERS))
        if unknown:
            raise InputError(f"{unknown[0]!r} is no layer; choose from {', '.join(LAYERS)}")


def classify_batch(
    scenes: Sequence[ListedScene],
    model: Model,
    folder: str | Path,
    *,
    options: BatchOptions | None = None,
    shard: Shard | None = None,
    on_error: str = "stop",
    client: Any = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> Iterator[Outcome]:
    """Classify scenes into a folder, as NAME_map.tif, NAME_confidence.tif and so on.

    Each outcome is a line of JSON in the folder's manifest (manifest.jsonl, or manifest-I-of-N.jsonl for a
    shard), on the disk before the next scene begins. A scene whose map is there, by this model, is skipped.

    Args:
        scenes: from `find_scenes`.
        model: what to classify with.
        folder: where outputs go; made if it is not there.
        options: how to classify.
        shard: which of the scenes are this job's; all if None.
        on_error: stop, or continue with the next scene and say at the end how many failed.
        client: as for `classify`.
        on_tile: as for `classify`.

    Yields:
        The outcome of each scene, when it is known.

    Raises:
        InputError: if an option cannot be used.
        OutputError: if the folder or the manifest cannot be written.
        CssdGeoError: what stopped a scene, with on_error="stop".
        BatchError: at the end, if scenes failed, with on_error="continue".
    """
    if on_error not in ("stop", "continue"):
        raise InputError(f"on_error {on_error!r} is unknown; choose from stop, continue")
    options = options or BatchOptions()
    chosen = list(scenes) if shard is None else shard.pick(scenes)
    name = "manifest.jsonl" if shard is None else f"manifest-{shard.number}-of-{shard.of}.jsonl"
    manifest, failed = Path(folder) / name, 0
    run: Callable[..., Any] = partial(classify, client=client, on_tile=on_tile)
    _make(Path(folder))
    for scene in chosen:
        outcome, error = _classify_one(scene, model, Path(folder), options, run)
        _record(outcome, manifest)
        if error is not None and on_error == "stop":
            raise error
        failed += error is not None
        yield outcome
    if failed:
        raise BatchError(f"{failed} of {len(chosen)} scenes failed: {manifest} says why; run again to try them")


def _classify_one(
    scene: ListedScene,
    model: Model,
    folder: Path,
    options: BatchOptions,
    run: Callable[..., Classification],
) -> tuple[Outcome, CssdGeoError | None]:
    target, started = folder / f"{scene.name}_map.tif", time.monotonic()
    blank = Outcome(scene=scene.path, output=str(target), status="failed")
    layers = {layer: folder / f"{scene.name}_{layer}.tif" for layer in LAYERS if layer in options.layers}
    if not options.overwrite and _is_done(scene, model, target, layers.values()):
        return replace(blank, status="skipped"), None
    try:
        opened = open_scene(scene.path, follow_links=options.follow_links)
        done = run(
            opened,
            model,
            target,
            confidence=layers.get("confidence"),
            disagreement=layers.get("disagreement"),
            probabilities=layers.get("probabilities"),
            tile_size=options.tile_size,
            memory=options.memory,
            device=options.device,
            precision=options.precision,
            overwrite=options.overwrite,
            restart=options.restart,
        )
    except CssdGeoError as error:
        seconds = time.monotonic() - started
        return replace(blank, seconds=round(seconds, 3), error=" ".join(str(error).split())), error
    return _success(blank, done, opened), None


def _success(blank: Outcome, done: Classification, scene: Scene) -> Outcome:
    area = scene.map_grid.pixel_area
    hectares = {name: None if area is None else round(n * area / 1e4, 4) for name, n in done.pixels.items()}
    return replace(
        blank,
        status="done",
        seconds=round(done.seconds, 3),
        pixels=sum(done.pixels.values()),
        classes={name: {"pixels": n, "hectares": hectares[name]} for name, n in done.pixels.items()},
    )


def _is_done(scene: ListedScene, model: Model, target: Path, layers: Collection[Path]) -> bool:
    """Whether a whole map of this scene by this model is there: an output exists only once it is whole."""
    if not all(path.exists() for path in (target, *layers)):
        return False
    try:
        content = fingerprint(scene.path)
        with open_raster(target) as dataset:
            tags = dataset.tags()
    except OSError:  # a SceneError is one: whatever is wrong, it is not done
        return False
    return bool(tags.get(MODEL_TAG) == model.digest() and tags.get(SCENE_TAG) == content)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error}") from error


def _record(outcome: Outcome, manifest: Path) -> None:
    """Append a line, on the disk before anything else happens."""
    line = json.dumps(asdict(outcome), ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with manifest.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"{manifest} cannot be written: {error} ({free_space(manifest.parent)})") from error
