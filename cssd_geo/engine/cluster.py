"""Tiles on a Dask cluster: the same plan, the same tile function; small results come back to the one writer.

Each worker gets the model once, with a plugin, also when it joins late; it is then asked, as all are at the start,
whether it sees the same scene. Tiles that are lost with their worker are done again elsewhere: that is Dask's
part, and so is whatever the cluster runs on.
"""

import logging
import math
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import rasterio
import torch
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker

from cssd_geo.engine.busy import Busy
from cssd_geo.engine.devices import choose_device, choose_precision, precision_name
from cssd_geo.engine.inference import TileClassifier, TileResult
from cssd_geo.errors import ClusterError, CssdGeoError, InputError
from cssd_geo.files.fingerprints import fingerprint
from cssd_geo.machine import processors
from cssd_geo.messages import listed
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_files import SceneFiles
from cssd_geo.scenes.unreadable import Readable, Tolerant
from cssd_geo.tiles import Tile, TilePlan, Window

_IN_FLIGHT = 2
"""Tiles for each thread of a worker: one is computed, one waits, so that none stands idle while results travel."""
_ASK_SECONDS = 2.0
"""Between two questions how many workers there are: each is a way to the scheduler and back."""
_LOOK_SECONDS = 0.005
"""Between two looks for results, where none is there."""
_RETRIES = 3
"""Times that a tile is tried again after an error that is none of ours."""
_WAIT = 60
"""Seconds without any worker, at the start or later, after which it is an error."""
_PLACE = "put it where all of them mount it under the same path"

_Result = tuple[TileResult, list[Window]]
"""Of a tile, and the blocks that it could not read."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where tiles are computed: workers that all see the scene and compute alike."""

    client: Client
    device: torch.device
    """Of the workers."""
    precision: torch.dtype
    contents: Mapping[str, str]
    """Paths of all files of the scene and its mask, on every worker, and their fingerprints."""
    seen_by: frozenset[str]
    """Addresses of workers that were asked and see it; those that join later are asked then."""
    cache_bytes: int
    """Of GDAL, in a worker."""
    busy: Busy = field(default_factory=Busy)
    """What workers do is not counted."""

    @property
    def classifier_device(self) -> torch.device:
        """Of the classifier that plans here; workers move theirs to their own device."""
        return torch.device("cpu")

    def results(
        self,
        classifier: TileClassifier,
        scene: Readable,
        plan: TilePlan,
        *,
        parts: Collection[str] = (),
        skip: Collection[int] = (),
    ) -> Iterator[tuple[Tile, TileResult]]:
        """Classify the tiles of a plan but for those in `skip`, in whatever order they are done.

        As many are in flight as the workers can take. `classifier` has the model; each worker gets its own.

        Raises:
            SceneError: if a worker cannot read the scene.
            ClusterError: if tiles kill their workers, a worker that joined late does not see the scene, or the
                cluster or its last worker is gone.
        """
        client, todo = self.client, (tile for tile in plan if tile.index not in skip)
        with _answering():
            plugin, threads = _Worker(classifier, scene, self), _Threads(client)
            client.register_plugin(plugin)
        running = as_completed(with_results=True, raise_errors=False, loop=client.loop)
        kept: dict[Any, Tile] = {}
        try:
            while True:
                for tile in islice(todo, max(0, _IN_FLIGHT * max(1, threads.count()) - len(kept))):
                    future = client.submit(_classify, plugin.name, tile, parts, pure=False, retries=_RETRIES)
                    kept[future] = tile
                    running.add(future)
                if not kept:
                    return
                while not running.has_ready():
                    time.sleep(_LOOK_SECONDS)
                    threads.count()  # an error if there have been none for long
                future, found = next(running)
                result, unreadable = _result(future, found)
                if isinstance(scene, Tolerant):
                    scene.add(unreadable)
                yield kept.pop(future), result
        finally:
            _forget(client, plugin.name, list(kept))


class _Threads:
    """Threads of all workers together: asked for now and then."""

    def __init__(self, client: Client) -> None:
        self._client, self._count, self._asked = client, 0, -math.inf
        self._none_since = math.inf

    def count(self) -> int:
        """Return how many there are.

        Raises:
            ClusterError: if there have been none for `_WAIT` seconds, or the cluster is gone.
        """
        if self._client.status != "running":
            raise _lost("no connection to its scheduler")
        now = time.monotonic()
        if now - self._asked > _ASK_SECONDS:
            with _answering():
                self._count = sum(self._client.nthreads().values())
            self._asked = now
            self._none_since = math.inf if self._count else min(self._none_since, now)
            if now - self._none_since >= _WAIT:
                raise ClusterError(
                    f"the cluster has had no worker for {_WAIT} seconds: start some. The same command goes on"
                )
        return self._count


class _Answer(NamedTuple):
    """What a worker says of itself."""

    contents: dict[str, str]
    """Fingerprints of the files as the worker sees them; empty where it does not."""
    device: str
    precision: str


@contextmanager
def connected(scheduler: str | None, workers: int | None) -> Iterator[Client]:
    """Connect to a running scheduler, or start so many worker processes on this machine; end it afterwards.

    Args:
        scheduler: address, such as tcp://host:8786, or the path of a scheduler file (.json).
        workers: processes, which share the machine's cores.

    Raises:
        InputError: if both or neither are given, or the count is below 1.
        ClusterError: if the scheduler does not answer.
    """
    if (scheduler is None) == (workers is None) or (workers is not None and workers < 1):
        raise InputError("give the address of a scheduler, or a number of workers from 1")
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what goes wrong is an error of ours
    with ExitStack() as stack:
        try:
            if scheduler is None:
                local = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0")
                client = Client(stack.enter_context(local))
            else:
                where = {"scheduler_file": scheduler} if scheduler.endswith(".json") else {"address": scheduler}
                client = Client(**where)
            stack.enter_context(client)
        except (TimeoutError, OSError, ValueError, RuntimeError) as error:
            place = "this machine" if scheduler is None else scheduler
            raise ClusterError(f"no scheduler answers at {place}: {error}. Check address and network") from error
        yield client


def cluster_of(client: Client, scene: Scene, device: str, precision: str) -> Cluster:
    """Ask all workers whether they see the scene, and what they compute with.

    Args:
        client: a connected client.
        scene: what will be classified; a file.
        device: auto, cpu or cuda, on the workers.
        precision: auto, float32 or bfloat16; auto takes bfloat16 where every worker has it.

    Raises:
        ClusterError: if there is no worker, or some do not see the same scene or compute on different devices.
    """
    if not isinstance(client, Client):
        raise InputError(f"a client is a dask.distributed.Client, not {client!r}: connect one to the scheduler")
    if scene.path is None:
        raise InputError("a cluster's workers read the scene themselves: it has to be a file that they see")
    try:
        client.wait_for_workers(1, timeout=_WAIT)
    except TimeoutError as error:
        raise ClusterError(
            f"the cluster has had no worker for {_WAIT} seconds: start some, then try again"
        ) from error
    files = SceneFiles.of(scene)
    contents = _contents([str(file.absolute()) for file in (*files.scene, *files.mask)])
    with _answering():
        answers: dict[str, _Answer] = client.run(_answer, list(contents), device, precision)
    blind = [worker for worker, answer in answers.items() if answer.contents != contents]
    if blind:
        seen = answers[blind[0]].contents
        path = next(file for file in contents if seen[file] != contents[file])
        raise ClusterError(
            f"{len(blind)} of {len(answers)} workers do not see {path} as it is here ({listed(blind)}): {_PLACE}"
        )
    devices, precisions = ({getattr(a, name) for a in answers.values()} for name in ("device", "precision"))
    if len(devices) > 1:
        raise ClusterError("some workers have a GPU and some have none: choose with --device cpu or --device cuda")
    chosen = precisions.pop() if len(precisions) == 1 else "float32"
    dtype = choose_precision(chosen, torch.device("cpu"))
    return Cluster(
        client=client,
        device=torch.device(devices.pop()),
        precision=dtype,
        contents=contents,
        seen_by=frozenset(answers),
        cache_bytes=scene.source.cache_bytes,
    )


def _result(future: Any, found: Any) -> _Result:
    """Return what a worker made of a tile; raise what went wrong, there or on its way."""
    if isinstance(found, CssdGeoError):
        raise found
    if future.status == "finished":
        result: _Result = found
        return result
    if future.status == "error":
        try:
            future.result()
        except KilledWorker as error:
            raise ClusterError(
                f"a tile killed {error.allowed_failures + 1} workers in turn, mostly for want of memory: give "
                "workers more, or lower --memory. The same command goes on"
            ) from error
        except MemoryError as error:
            raise ClusterError(
                f"a worker is out of memory ({error}): give workers more, and the same command goes on; or begin "
                "anew with less --memory, and --restart"
            ) from error
    raise _lost(f"a tile came back as {future.status}")


@contextmanager
def _answering() -> Iterator[None]:
    """Ask the cluster something inside: an error of ours if it does not answer."""
    try:
        yield
    except OSError as error:
        raise _lost(str(error)) from error


def _lost(how: str) -> ClusterError:
    return ClusterError(f"the cluster or a part of it is lost: {how}. Start it again; the same command goes on")


class _Worker(WorkerPlugin):  # type: ignore[misc] # distributed has no types
    """A worker's own model, on its own device."""

    def __init__(self, classifier: TileClassifier, scene: Readable, cluster: Cluster) -> None:
        self.name = f"cssd-geo-{os.urandom(8).hex()}"
        self._classifier, self._scene, self._device = classifier, scene, cluster.device
        self._contents, self._seen_by = cluster.contents, cluster.seen_by
        self._cache_bytes = cluster.cache_bytes
        self._threads = threads_by_host(cluster.client)
        self._refusal = ""

    def setup(self, worker: Any) -> None:
        """Build it; the machine's cores are shared among the threads of all workers on it."""
        if worker.address not in self._seen_by and _contents(self._contents) != self._contents:
            self._refusal = (
                f"worker {worker.address} joined later and does not see {next(iter(self._contents))}, or what it "
                f"leads to, as it was here at the start: {_PLACE}, or stop this worker. The same command goes on"
            )
            return
        tiles_at_once = max(self._threads.get(worker.ip, 1), worker.state.nthreads)
        torch.set_num_threads(max(1, processors() // tiles_at_once))
        self._classifier = self._classifier.on(self._device)

    def classify(self, tile: Tile, parts: Collection[str]) -> _Result:
        if self._refusal:
            raise ClusterError(self._refusal)
        values, valid = self._scene.blank(tile.padded, self._classifier.bands)
        with rasterio.Env(GDAL_CACHEMAX=self._cache_bytes):
            self._scene.read_into(values, valid, tile.padded, self._classifier.bands)
        unreadable = self._scene.unreadable(tile.padded) if isinstance(self._scene, Tolerant) else []
        return self._classifier(values, valid, parts=parts), unreadable


def _classify(name: str, tile: Tile, parts: Collection[str]) -> _Result | CssdGeoError:
    """What a worker does. An error of ours is a result: neither a retry nor a traceback helps."""
    worker: _Worker = get_worker().plugins[name]
    try:
        return worker.classify(tile, parts)
    except CssdGeoError as error:
        return error


def _answer(paths: Sequence[str], device: str, precision: str) -> _Answer:
    place = choose_device(device)
    return _Answer(_contents(paths), place.type, precision_name(choose_precision(precision, place)))


def _contents(paths: Iterable[str]) -> dict[str, str]:
    """Fingerprint of each file as it is seen here; empty where it is not."""
    found = dict.fromkeys(paths, "")
    for path in found:
        with suppress(OSError):
            found[path] = fingerprint(path)
    return found


def threads_by_host(client: Client) -> dict[str, int]:
    """Threads of all workers of each machine: so many tiles may be computed there at once."""
    threads: Counter[str] = Counter()
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        threads[worker["host"]] += worker["nthreads"]
    return dict(threads)


def _forget(client: Client, name: str, running: list[Any]) -> None:
    if client.status != "running":  # where the cluster is gone, the plugin is as well
        return
    with suppress(OSError, ValueError, TimeoutError):
        client.cancel(running, force=True)
        client.unregister_worker_plugin(name)
