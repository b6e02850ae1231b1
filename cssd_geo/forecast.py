"""What a classification will take: known from the plan, and from two tiles that are tried."""

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch

from cssd_geo.engine.inference import TileClassifier
from cssd_geo.files.side_files import in_the_way
from cssd_geo.runs.job import Job
from cssd_geo.runs.layers import DiskSpace, room_for
from cssd_geo.runs.unfinished import folder_of, tiles_done
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import TilePlan

_WARM_UP = 64
"""Side length of what is computed before the clock runs: the first time, libraries are loaded."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What two tiles took, extended to the scene in proportion to its pixels."""

    tiles: int
    """Fewer than two, where the plan has fewer."""
    reading: float
    """Seconds."""
    computing: float
    """Seconds. Both go on side by side, as far as the machine has processors for both."""
    gpu_bytes: int | None
    """Memory of the GPU that they took; None on a CPU."""

    @property
    def seconds(self) -> tuple[float, float]:
        """At best, and at worst."""
        return max(self.reading, self.computing), self.reading + self.computing


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will take."""

    plan: TilePlan
    bytes_read: int
    memory: int
    """Bytes, beside the program itself."""
    room: DiskSpace
    trial: Trial
    tiles_done: int
    """Tiles that an unfinished run to the same output has done; the same command resumes it, others fail."""
    gpu_free: int | None
    """Bytes of the GPU's memory that other programs leave; None on a CPU."""
    in_the_way: tuple[Path, ...]
    """Outputs that exist: without `overwrite` the run will be refused."""
    notes: tuple[str, ...]
    """What the run will say of the scene and of its bands and scale."""


def forecast(job: Job) -> Forecast:
    """Try two tiles of a job that would be done on this machine; writes nothing.

    Raises:
        OutputError: if an output cannot be written where it should be.
        SceneError: if a tile cannot be read.
    """
    job.check_targets(overwrite=True)
    classifier, scene, plan = job.classifier, job.scene, job.plan
    gpu = classifier.device.type == "cuda"
    return Forecast(
        plan=plan,
        bytes_read=plan.pixels_read * len(classifier.bands) * scene.dtype.itemsize,
        memory=classifier.needs(scene, plan.at_once).of(plan),
        room=room_for(job.raw),
        gpu_free=torch.cuda.mem_get_info(classifier.device)[0] if gpu else None,
        trial=_try(classifier, scene, plan, frozenset(job.layers)),
        in_the_way=_existing([layer.path for layer in job.layers.values()]),
        tiles_done=tiles_done(job.layers["class_map"].path),
        notes=job.notes,
    )


def _existing(outputs: list[Path]) -> tuple[Path, ...]:
    """Outputs that are there, the class map first; none where an unfinished run knows which are its own."""
    goes_on = folder_of(outputs[0]).exists()
    return () if goes_on else tuple(path for output in outputs for path in in_the_way(output))


def _try(classifier: TileClassifier, scene: Scene, plan: TilePlan, parts: Collection[str]) -> Trial:
    """Read and classify two tiles, apart from each other and from the edges where there are enough."""
    tiles = [plan[index] for index in sorted({len(plan) // 3, 2 * len(plan) // 3})]
    reading = computing = 0.0
    for number, tile in enumerate(tiles):
        started = time.monotonic()
        values, valid = scene.read(tile.padded, classifier.bands)
        reading += time.monotonic() - started
        if number == 0:
            some = slice(_WARM_UP + plan.halo.total)
            classifier(values[:, some, some], valid[some, some], at=tile.padded.corner, parts=parts)
        started = time.monotonic()
        classifier(values, valid, at=tile.padded.corner, parts=parts)
        computing += time.monotonic() - started
    scale = plan.height * plan.width / sum(tile.core.pixels for tile in tiles)
    read = [tile.padded.clip(height=plan.height, width=plan.width) for tile in tiles]
    return Trial(
        tiles=len(tiles),
        reading=reading * plan.pixels_read / sum(window.pixels for window in read if window is not None),
        computing=computing * scale,
        gpu_bytes=torch.cuda.max_memory_allocated(classifier.device) if classifier.device.type == "cuda" else None,
    )
