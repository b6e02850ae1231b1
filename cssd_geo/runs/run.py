"""One classification on its way into files: what it depends on, its tiles, and the rasters at its end.

put(tile) ... put(tile)    into the folder of the unfinished run, see `unfinished`; killed here, it goes on here
assemble()                 each raster is made whole beside its target and verified
                           all are renamed, the class map last: where it is, all is done
                           the folder goes
"""

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import rasterio
from numpy.typing import NDArray

import cssd_geo
from cssd_geo.budget import shown
from cssd_geo.classes import UNCLASSIFIED, UNCLASSIFIED_NAME
from cssd_geo.engine.busy import Busy
from cssd_geo.engine.inference import TileResult
from cssd_geo.errors import OutputError
from cssd_geo.files.locations import is_there
from cssd_geo.files.outputs import GEOTIFF, check_target
from cssd_geo.files.side_files import in_the_way
from cssd_geo.maps.layer import SCENE_TAG, Layer
from cssd_geo.maps.raster_writer import RasterWriter
from cssd_geo.options import ON_ERROR, require_choice, true_or_false
from cssd_geo.runs.identity import SceneIdentity, SceneWatch
from cssd_geo.runs.job import Job
from cssd_geo.runs.layers import room_for
from cssd_geo.runs.unfinished import Unfinished, folder_of
from cssd_geo.scenes.unreadable import Readable, Tolerant
from cssd_geo.threads import Threads
from cssd_geo.tiles import Tile, TilePlan, Window

_FORMAT = "2"
"""Of what lies in the folder of an unfinished run."""
_LISTED = 100
"""Unreadable blocks that the tag of a map names one by one."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What to do about existing outputs, an unfinished run and unreadable blocks; see `classify`."""

    overwrite: bool
    restart: bool
    on_error: str

    def __post_init__(self) -> None:
        for name in ("overwrite", "restart"):
            true_or_false(name, getattr(self, name))
        require_choice("on_error", self.on_error, ON_ERROR)


class Run:
    """A job on its way, and its rasters, fed with each tile's result; a context manager."""

    def __init__(self, job: Job, options: RunOptions) -> None:
        """Check what can be checked before any work; nothing is written yet.

        Raises:
            OutputError: if a target cannot be written, or exists.
        """
        self._job, self._scene, self._layers, self._options = job, job.scene, job.layers, options
        self._target = self._layers["class_map"].path
        there = is_there(folder_of(self._target))  # then only its journal can tell which existing outputs are ours
        job.check_targets(overwrite=options.overwrite or (there and not options.restart))
        self._raw = job.raw
        self._watch = SceneWatch(job.scene, job.files)
        self._unfinished = Unfinished(self._target, self._raw, guard=self._watch.check)
        self._identity: SceneIdentity  # known once it is entered: files are read for it
        self._tolerant = Tolerant(job.scene) if options.on_error == "skip" else None
        if not there:  # else part of the room is taken already: it is checked once that run is open
            self._require_room()
        self.pixels: dict[str, int] = {}
        """Of each class by name, once the map is assembled; all others under "unclassified"."""
        self.busy = Busy()
        """How long reading, computing and writing were at work; on a cluster only writing is known."""
        self.pixels_done = 0
        """Pixels of the tiles that are done, or put."""

    def __enter__(self) -> Self:
        restart, about = self._options.restart, {"memory": self._job.memory}
        with ExitStack() as stack:
            stack.enter_context(rasterio.Env(GDAL_CACHEMAX=self._scene.source.cache_bytes))
            stack.enter_context(self._unfinished)
            self._identity = SceneIdentity.of(self._scene, self._job.files)
            self._unfinished.begin(self._key(), self._job.plan, restart=restart, about=about)
            self._require_memory()
            self._require_free_targets()
            self._require_room()
            self._stack = stack.pop_all()
        self.pixels_done = sum(self.plan[index].core.pixels for index in self.done)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    @property
    def scene(self) -> Readable:
        """What to read tiles from."""
        return self._scene if self._tolerant is None else self._tolerant

    @property
    def plan(self) -> TilePlan:
        """The tiles: those of the unfinished run, where it goes on with one."""
        return self._unfinished.plan

    @property
    def done(self) -> frozenset[int]:
        """Indexes of the tiles that need not be computed any more."""
        return self._unfinished.done

    @property
    def unreadable(self) -> tuple[Window, ...]:
        """Blocks of the scene that could not be read, from top to bottom."""
        return tuple(sorted(self._unfinished.unreadable, key=lambda window: (window.row, window.col)))

    @property
    def is_empty(self) -> bool:
        """Whether the assembled map has no class anywhere."""
        return self.pixels.get(UNCLASSIFIED_NAME) == sum(self.pixels.values())

    def results(self) -> Iterator[tuple[Tile, TileResult]]:
        """Compute the tiles that are not done.

        Raises:
            SceneError: if the scene cannot be read.
            ClusterError: if a cluster, or a part of it, is lost.
        """
        job = self._job
        parts = frozenset(self._layers)
        return job.where.results(
            job.classifier, self.scene, self.plan, parts=parts, skip=self.done, busy=self.busy
        )

    def put(self, tile: Tile, result: TileResult) -> None:
        """Take the result of a tile.

        Raises:
            OutputError: if it cannot be written.
            SceneError: if the scene has changed since the run began.
        """
        with self.busy.at("writing"):
            unreadable = [] if self._tolerant is None else self._tolerant.unreadable(tile.padded)
            parts = {part: getattr(result, part) for part in self._layers}
            self._unfinished.put(tile, parts, unreadable=unreadable)
        self.pixels_done += tile.core.pixels

    def assemble(self) -> None:
        """Make the rasters of what was put, give them their names, and end the run.

        Raises:
            OutputError: if tiles are missing, a raster cannot be written, or a target has come to be meanwhile.
            SceneError: if the scene has changed since the run began.
        """
        self._unfinished.require_whole(partial(self._watch.check, all_files=True))
        with self.busy.at("writing"), ExitStack() as stack:
            grid, token = self._scene.map_grid, self._token
            writers = {
                part: RasterWriter(self._tagged(layer), grid, token=token) for part, layer in self._layers.items()
            }
            for writer in writers.values():
                stack.enter_context(writer)
            with Threads(len(writers)) as threads:
                made = list(threads.map(self._made, writers, writers.values()))
            self.pixels = self._by_name(writers["class_map"].counts)
            self._require_free_targets()
            self._unfinished.publishes(made)
            for writer in reversed(writers.values()):
                writer.publish()
        self._unfinished.remove()

    @property
    def _token(self) -> str:
        """The same for all runs to a target, so that the next one finds what a killed one has left."""
        return f"{zlib.crc32(os.fsencode(os.path.realpath(self._target))):08x}"

    def _made(self, part: str, writer: RasterWriter) -> Path:
        for window in writer.strips():
            writer.write(self._read(part, window), window)
        return writer.prepare()

    def _by_name(self, counts: NDArray[Any]) -> dict[str, int]:
        classes = self._job.classifier.model.classes
        named = dict(zip((*classes.names, UNCLASSIFIED_NAME), (*classes.ids, UNCLASSIFIED), strict=True))
        return {name: int(counts[value]) for name, value in named.items()}

    def _read(self, part: str, window: Window) -> NDArray[Any]:
        """Results for a window of the map; those of a scene in sensor geometry go through its look-up table."""
        lookup, layer, read = self._scene.lookup, self._layers[part], partial(self._unfinished.read, part)
        return (
            read(window) if lookup is None else lookup.take(read, window, nodata=layer.nodata, dtype=layer.dtype)
        )

    def _tagged(self, layer: Layer) -> Layer:
        """Say in the raster's tags which scene it is of, and what could not be read."""
        known = {SCENE_TAG: self._identity.digest}
        return replace(layer, tags={**layer.tags, **known, **self._unreadable_tags()})

    def _unreadable_tags(self) -> dict[str, str]:
        if self._tolerant is None:
            return {}
        listed = "; ".join(f"{w.row},{w.col},{w.height},{w.width}" for w in self.unreadable[:_LISTED])
        tags = {"CSSD_GEO_UNREADABLE_PIXELS": str(sum(window.pixels for window in self.unreadable))}
        return tags | ({"CSSD_GEO_UNREADABLE": f"row,column,height,width: {listed}"} if listed else {})

    # ---- what must hold before any tile is computed

    def _key(self) -> dict[str, str] | None:
        """What the pixels depend on; None where the scene is not in files on this machine."""
        scene, job, model = self._identity.key, self._job, self._job.classifier.model
        if scene is None:
            return None
        header = json.dumps(model.header(), sort_keys=True)
        return scene | {
            "the model": hashlib.sha256(header.encode() + model.digest().encode()).hexdigest(),
            "the list of rasters": " + ".join(sorted(self._layers)).replace("_", " "),
            "the size of tiles": str(job.tile_size or "automatic"),
            "the precision": job.precision,
            "the device": job.where.device.type,
            "--on-error": self._options.on_error,
            "the version of cssd-geo": f"{cssd_geo.__version__} (format {_FORMAT})",
        }

    def _require_memory(self) -> None:
        """Refuse to go on with less memory than the tiles were planned for, where that leads to another plan."""
        planned, memory = self._unfinished.head.get("memory"), self._job.memory
        if self.plan != self._job.plan and isinstance(planned, int) and planned > memory:
            raise OutputError(
                f"the tiles of the unfinished run to {self._target} were planned for {shown(planned)} of memory, "
                f"more than {shown(memory, down=True)}: give as much to go on, or start afresh "
                "with --restart"
            )

    def _require_free_targets(self) -> None:
        """Refuse to replace what is there and not ours. Again at the end: a run takes long."""
        for layer in () if self._options.overwrite else self._layers.values():
            for path in in_the_way(layer.path):
                if path != layer.path:
                    raise OutputError(
                        f"{path} exists, and would be taken for a part of {layer.path}: move it away, choose "
                        "another name, or have it removed with --overwrite"
                    )
                if not self._unfinished.owns(path):
                    check_target(path, overwrite=False, suffixes=GEOTIFF)

    def _require_room(self) -> None:
        room = room_for(self._raw)
        if room.unfinished > room.free:
            raise OutputError(
                f"{self._target} cannot be written: its pixels take {shown(room.unfinished)} until all are there, "
                f"but {shown(room.free, down=True)} are free in {self._target.parent}: make room for "
                f"{shown(room.unfinished - room.free)} more, or write to another disk"
            )
