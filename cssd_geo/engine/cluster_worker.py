"""What runs in a worker of a Dask cluster: it has its own model, sees the scene, and classifies single tiles."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import rasterio
import torch
from distributed import WorkerPlugin, get_worker

import cssd_geo
from cssd_geo.engine.devices import choose_device, choose_precision
from cssd_geo.engine.inference import TileClassifier, TileResult
from cssd_geo.errors import ClusterError, CssdGeoError
from cssd_geo.files.side_files import content_fingerprint
from cssd_geo.machine import processors
from cssd_geo.recycled import Recycled
from cssd_geo.scenes.unreadable import Readable, Tolerant
from cssd_geo.tiles import Tile, Window

MOUNT_IT = "put it where all of them mount it under the same path"

Classified = tuple[TileResult, list[Window]]
"""Of a tile, and the blocks that it could not read."""


class Answer(NamedTuple):
    """What a worker says of itself."""

    contents: dict[str, str]
    """Fingerprints of the files as the worker sees them, see `contents_of`."""
    device: str
    precision: torch.dtype


class Worker(WorkerPlugin):  # type: ignore[misc] # distributed has no types
    """A worker's own model, on its own device: a plugin, so that workers that join late get it too."""

    def __init__(
        self,
        classifier: TileClassifier,
        scene: Readable,
        *,
        version: str,
        device: torch.device,
        contents: Mapping[str, str],
        seen_by: Collection[str],
        threads_by_host: Mapping[str, int],
        cache_bytes: int,
    ) -> None:
        """Describe it.

        Args:
            classifier: has the model.
            scene: what tiles are read from.
            version: of this package, where the run is; a worker with another one computes nothing.
            device: to compute on.
            contents: paths of the scene's files, and their fingerprints.
            seen_by: addresses of workers that are known to see these files; others look when they are set up.
            threads_by_host: of all workers of a machine together.
            cache_bytes: of GDAL, in a worker.
        """
        self.name = f"cssd-geo-{os.urandom(8).hex()}"
        self._classifier, self._scene, self._version, self._device = classifier, scene, version, device
        self._contents, self._seen_by = contents, seen_by
        self._threads_by_host, self._cache_bytes = threads_by_host, cache_bytes
        self._memory = Recycled()
        self._refusal = ""

    def setup(self, worker: Any) -> None:
        """Build it; the machine's cores are shared among the threads of all workers on it."""
        self._refusal = self._refused(worker.address)
        if self._refusal:
            return
        tiles_at_once = max(self._threads_by_host.get(worker.ip, 1), worker.state.nthreads)
        torch.set_num_threads(max(1, processors() // tiles_at_once))
        self._classifier = self._classifier.on(self._device)

    def _refused(self, address: str) -> str:
        """Return why a worker, which joined later, must not take part; nothing where it may."""
        if cssd_geo.__version__ != self._version:
            return (
                f"worker {address} joined later and has cssd-geo {cssd_geo.__version__} instead of "
                f"{self._version}: install the same version there, or stop this worker. The same command goes on"
            )
        unseen = None if address in self._seen_by else first_unlike(contents_of(self._contents), self._contents)
        if unseen is not None:
            return (
                f"worker {address} joined later and does not see {unseen} as it was here at the start: "
                f"{MOUNT_IT}, or stop this worker. The same command goes on"
            )
        return ""

    def classify(self, tile: Tile, parts: Collection[str]) -> Classified:
        """Read a tile and classify it; raises a ClusterError in a worker that must not take part."""
        if self._refusal:
            raise ClusterError(self._refusal)
        values, valid = self._scene.room(tile.padded, self._classifier.bands, self._memory.empty)
        with rasterio.Env(GDAL_CACHEMAX=self._cache_bytes):
            self._scene.read_into(values, valid, tile.padded, self._classifier.bands)
        unreadable = self._scene.unreadable(tile.padded) if isinstance(self._scene, Tolerant) else []
        return self._classifier(values, valid, at=tile.padded.corner, parts=parts), unreadable


def classify_there(name: str, tile: Tile, parts: Collection[str]) -> Classified | CssdGeoError:
    """Classify a tile with the plugin of a name. An error of ours is a result: no retry and no traceback helps."""
    plugin: Worker = get_worker().plugins[name]
    try:
        return plugin.classify(tile, parts)
    except CssdGeoError as error:
        return error


def answer(paths: Sequence[str], device: str, precision: str) -> Answer:
    """Say how these files are seen here, and what device and precision a worker here computes with."""
    place = choose_device(device)
    return Answer(contents_of(paths), place.type, choose_precision(precision, place))


def contents_of(paths: Iterable[str]) -> dict[str, str]:
    """Fingerprint each file as it is seen here; empty where it is not, or is a side file that says nothing."""
    found = dict.fromkeys(paths, "")
    for path in found:
        with suppress(OSError):
            found[path] = content_fingerprint(Path(path), copied=False) or ""
    return found


def first_unlike(seen: Mapping[str, str], contents: Mapping[str, str]) -> str | None:
    """Return the first path whose content is seen differently; None where all are alike."""
    return next((path for path in contents if seen[path] != contents[path]), None)
