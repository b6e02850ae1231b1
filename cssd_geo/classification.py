"""Classify a scene of any size: plan, read, compute, write; nothing flows back."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import xarray as xr

from cssd_geo.engine.devices import precision_name
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.engine.streaming import ThisMachine, this_machine
from cssd_geo.errors import InputError
from cssd_geo.messages import listed
from cssd_geo.model import Model, model_of
from cssd_geo.products import open_scene
from cssd_geo.runs.job import Job, plan_job
from cssd_geo.runs.layers import Outputs, provenance_tags
from cssd_geo.runs.run import Run, RunOptions
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.fill_checks import empty_band_notes, fill_notes
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import TilePlan, Window
from cssd_geo.value_scale import recognise_scale

if TYPE_CHECKING:
    from cssd_geo.engine.cluster import Cluster


@dataclass(frozen=True, kw_only=True)
class Classification:
    """What was written."""

    output: Path
    plan: TilePlan
    pixels: dict[str, int]
    """Pixels of each class by name; those unclassified are under "unclassified"."""
    unreadable: tuple[Window, ...] = ()
    """Blocks of the scene that could not be read and count as without data (`on_error="skip"`)."""
    seconds: float
    busy: Mapping[str, float] = field(default_factory=dict)
    """Share of the time, 0 to 1, in which reading, computing and writing were at work. They overlap; the one near
    1 is what takes the time. On a cluster only writing is known."""
    notes: tuple[str, ...] = ()
    """What the analyst should know of the scene and of its bands and scale, one sentence each."""


@overload
def classify(
    scene: xr.DataArray,
    model: str | Path | Model,
    *,
    tile_size: int | None = None,
    memory: int | None = None,
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
    memory: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    restart: bool = False,
    on_error: str = "stop",
    client: Any = None,
    on_resume: Callable[[int, int], None] | None = None,
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
    memory: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    overwrite: bool = False,
    restart: bool = False,
    on_error: str = "stop",
    client: Any = None,
    on_resume: Callable[[int, int], None] | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> Classification | xr.DataArray:
    """Classify a scene into files, or a DataArray into a lazy DataArray.

    Args:
        scene: path of a raster or an open scene, to write files; or a DataArray (band, y, x), see
            `scene_of_array`, to get a lazy class map back that computes tile by tile, with the confidence as its
            coordinate `confidence`. Saved as a raster (`.rio.to_raster`), it tells `evaluate` and `sample` what
            the file would. Where it declares no scale, one that fits the model's is looked for in a few
            small windows, and said in `Classification.notes`, or in a warning and the attribute `comment` of a
            lazy map.
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
        memory: bytes that tiles, the network's work and GDAL's blocks may take, beside the program itself; None: a
            gigabyte, four for a GPU; less where the machine or its container has less, more where many bands in
            blocks need it. Of a lazy DataArray, what GDAL keeps of blocks comes on top.
        device: auto, cpu or cuda.
        precision: auto, float32 or bfloat16. The last one is faster where hardware has it, which `auto` finds out;
            it moves a class only where two are almost equally likely.
        overwrite: replace outputs that exist. They stay as they are until the new ones are whole.
        restart: discard an unfinished run to this output instead of going on with it.
        on_error: what to do where the scene cannot be read: "stop" with an error, or "skip" the blocks of the file
            that fail, as without data; they are listed in the result.
        client: a `dask.distributed.Client`: tiles are computed by the workers of its cluster, which must see the
            scene under the same path. `memory` is then that of each tile at work. None: computed here.
        on_resume: called with the tiles done and the tiles in all, if an unfinished run goes on.
        on_tile: called after each tile with the pixels done and the pixels in all.

    A run that ends early, however it does, leaves its finished tiles in a hidden folder beside `output`, and the
    same call goes on with them. The outputs are those of a run that was never disturbed.

    Raises:
        InputError: if an option cannot be used.
        SceneError: if the scene cannot be read, changes while it is, or its bands do not cover the model's.
        ModelFileError: if the model cannot be read.
        OutputError: if an output exists and `overwrite` is false, or cannot be written; or if an unfinished run to
            it was of another scene, model or options and `restart` is false.
        ClusterError: if the workers of `client` cannot do it, or none is left.
    """
    ready = model_of(model)
    layers = {"confidence": confidence, "disagreement": disagreement, "probabilities": probabilities}
    if isinstance(scene, xr.DataArray):
        _refuse_of_runs(
            {"output": output, **layers, "overwrite": overwrite, "restart": restart, "on_error": on_error}
            | {"client": client, "on_resume": on_resume, "on_tile": on_tile}
        )
        return _lazy_map(scene, ready, this_machine(device, precision), tile_size=tile_size, memory=memory)
    if not isinstance(scene, str | Path | Scene):
        raise InputError(f"a scene is a path, a Scene or a DataArray, not {type(scene).__name__}")
    if output is None:
        raise InputError("classifying a scene into a file needs the file's name: give `output`")
    options = RunOptions(overwrite=overwrite, restart=restart, on_error=on_error)
    outputs = Outputs(class_map=output, **layers)
    opened = scene if isinstance(scene, Scene) else open_scene(scene)
    where = this_machine(device, precision) if client is None else _cluster(client, opened, device, precision)
    job = plan_job(opened, ready, outputs, where, tile_size=tile_size, memory=memory)
    return _carry_out(job, options, on_resume, on_tile)


def _carry_out(
    job: Job,
    options: RunOptions,
    on_resume: Callable[[int, int], None] | None,
    on_tile: Callable[[int, int], None] | None,
) -> Classification:
    """Compute and write tile by tile what an earlier run has not, then put the outputs together."""
    started = time.monotonic()
    with Run(job, options) as run:
        if on_resume is not None and run.done:
            on_resume(len(run.done), len(run.plan))
        for tile, result in run.results():
            run.put(tile, result)
            if on_tile is not None:
                on_tile(run.pixels_done, run.plan.height * run.plan.width)
        run.assemble()
    seconds = time.monotonic() - started
    return Classification(
        output=job.layers["class_map"].path,
        plan=run.plan,
        pixels=run.pixels,
        unreadable=run.unreadable,
        seconds=seconds,
        busy=run.busy.shares(seconds),
        notes=job.notes + (empty_band_notes(job.scene, job.classifier.bands) if run.is_empty else ()),
    )


def _refuse_of_runs(given: Mapping[str, Any]) -> None:
    """Refuse options that have no effect on a DataArray, where they are not the default."""
    named = [name for name, value in given.items() if value not in (None, False, "stop")]
    if named:
        raise InputError(
            f"a DataArray becomes a lazy map, which does not heed {listed(named)}: leave that out, and compute or "
            "save what comes back, on a cluster where a dask.distributed.Client is open; or give the scene's path"
        )


def _lazy_map(
    array: xr.DataArray, model: Model, here: ThisMachine, *, tile_size: int | None, memory: int | None
) -> xr.DataArray:
    from cssd_geo.engine.lazy import classify_array  # noqa: PLC0415 - so that files do not wait for Dask

    given = scene_of_array(array)
    scene = recognise_scale(given, model)
    classifier = TileClassifier(model, scene, here.device, here.precision)
    for note in fill_notes(scene, classifier.bands):
        scene = scene.noting(note)
    for note in scene.notes[len(given.notes) :]:  # nobody looks into attributes in time
        warnings.warn(note, stacklevel=3)
    tags = provenance_tags(scene, model, precision_name(here.precision))
    return classify_array(scene, classifier, classifier.plan(scene, tile_size, memory), tags)


def _cluster(client: Any, scene: Scene, device: str, precision: str) -> "Cluster":
    from cssd_geo.engine.cluster import cluster_of  # noqa: PLC0415 - so that runs without a cluster do not wait for Dask's

    return cluster_of(client, scene, device, precision)
