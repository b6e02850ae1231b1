"""Tiles on a Dask cluster: the same plan, the same tile function; small results come back to the one writer.

Each worker gets the model once, with a plugin, also when it joins late; it is then asked, as all are at the start,
whether it sees the same scene. Tiles that are lost with their worker are done again elsewhere: that is Dask's
part, and so is whatever the cluster runs on.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

import dask
import torch
from distributed import Client, KilledWorker, LocalCluster, as_completed

import cssd_geo
from cssd_geo.engine.busy import Busy
from cssd_geo.engine.cluster_worker import (
    MOUNT_IT,
    Answer,
    Classified,
    Worker,
    answer,
    classify_there,
    contents_of,
    first_unlike,
)
from cssd_geo.engine.inference import TileClassifier, TileResult
from cssd_geo.errors import ClusterError, CssdGeoError, InputError
from cssd_geo.messages import listed, one_line
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_files import SceneFiles
from cssd_geo.scenes.unreadable import Readable, Tolerant
from cssd_geo.tiles import Tile, TilePlan

_IN_FLIGHT = 2
"""Tiles for each thread of a worker: one is computed, one waits, so that none stands idle while results travel."""
_ASK_SECONDS = 2.0
"""Between two questions how many workers there are: each is a way to the scheduler and back."""
_LOOK_SECONDS = 0.005
"""Between two looks for results, where none is there."""
_RETRIES = 3
"""Times that a tile is tried again after an error none of ours, or fetched again where a connection breaks."""
_WAIT = 60
"""Seconds without any worker, at the start or later, after which it is an error."""
_BACK = "10 minutes"
"""Time in which a worker process that was killed may be back. Dask's 15 s are too few for a busy machine."""
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""What workers here do first: a terminal sends Ctrl-C to them too, and they would end in tracebacks."""
_UNREAD_TASKS = "deserialization of the task graph"
"""What Dask says where its scheduler cannot import what tasks are made of."""


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
        busy: Busy | None = None,  # noqa: ARG002 - what workers do is not counted
    ) -> Iterator[tuple[Tile, TileResult]]:
        """Classify the tiles of a plan but for those in `skip`, in whatever order they are done.

        As many are in flight as the workers can take. `classifier` has the model; each worker gets its own.

        Raises:
            SceneError: if a worker cannot read the scene.
            ClusterError: if tiles kill their workers, a worker that joined late does not see the scene or has
                another version, or the cluster or its last worker is gone.
        """
        client, todo = self.client, (tile for tile in plan if tile.index not in skip)
        with _answering():
            plugin, threads = self._plugin(classifier, scene), _Threads(client)
            client.register_plugin(plugin)
        running = as_completed(with_results=True, raise_errors=False, loop=client.loop)
        kept: dict[Any, Tile] = {}
        try:
            with _fetching_again():
                while True:
                    for tile in islice(todo, max(0, _IN_FLIGHT * max(1, threads.count()) - len(kept))):
                        future = client.submit(
                            classify_there, plugin.name, tile, parts, pure=False, retries=_RETRIES
                        )
                        kept[future] = tile
                        running.add(future)
                    if not kept:
                        return
                    while not running.has_ready():
                        time.sleep(_LOOK_SECONDS)
                        threads.count()  # an error if there have been none for long
                    future, found = next(running)
                    result, unreadable = _classified(future, found)
                    if isinstance(scene, Tolerant):
                        scene.add(unreadable)
                    yield kept.pop(future), result
        finally:
            _forget(client, plugin.name, list(kept))

    def _plugin(self, classifier: TileClassifier, scene: Readable) -> Worker:
        return Worker(
            classifier,
            scene,
            version=cssd_geo.__version__,
            device=self.device,
            contents=self.contents,
            seen_by=self.seen_by,
            threads_by_host=threads_by_host(self.client),
            cache_bytes=self.cache_bytes,
        )


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
                stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": _BACK}))
                local = LocalCluster(
                    n_workers=workers, threads_per_worker=1, preload=_DEAF, dashboard_address=":0"
                )
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
        ClusterError: if there is no worker, or some lack this package or have another version, do not see the
            same scene or compute on different devices.
        InputError: if the client, the scene, the device or the precision cannot be used.
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
    _check_versions(client)
    files = SceneFiles.of(scene)
    contents = contents_of([str(file.absolute()) for file in (*files.scene, *files.mask)])
    answers: dict[str, Answer] = _ask(client, answer, list(contents), device, precision)
    blind = [worker for worker, answer in answers.items() if answer.contents != contents]
    if blind:
        path = first_unlike(answers[blind[0]].contents, contents)
        raise ClusterError(
            f"{len(blind)} of {len(answers)} workers do not see {path} as it is here ({listed(blind)}): {MOUNT_IT}"
        )
    devices, precisions = ({getattr(a, name) for a in answers.values()} for name in ("device", "precision"))
    if len(devices) > 1:
        raise ClusterError("some workers have a GPU and some have none: choose with --device cpu or --device cuda")
    return Cluster(
        client=client,
        device=torch.device(devices.pop()),
        precision=precisions.pop() if len(precisions) == 1 else torch.float32,
        contents=contents,
        seen_by=frozenset(answers),
        cache_bytes=scene.source.cache_bytes,
    )


def _ask(client: Client, function: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """Call a function in every worker; what goes wrong there is an error of ours."""
    with _answering():
        answers: dict[str, Any] = client.run(function, *args, on_error="return")
        failed = {worker: found for worker, found in answers.items() if isinstance(found, Exception)}
        for error in failed.values():
            if isinstance(error, CssdGeoError | OSError):  # an option that cannot be used there, a lost connection
                raise error
    if not answers:
        raise _lost("no worker answers")
    if failed:
        said = [f"{worker}: {type(error).__name__}: {one_line(error)}" for worker, error in failed.items()]
        raise ClusterError(
            f"{len(failed)} of {len(answers)} workers cannot work here ({listed(said)}): each needs cssd-geo "
            f"{cssd_geo.__version__} and what that depends on. Install it there, or stop them, and try again"
        )
    return answers


def _check_versions(client: Client) -> None:
    """Raise a ClusterError where a worker has another version: its tiles may differ from those of the others."""
    here = cssd_geo.__version__
    versions: dict[str, str] = _ask(client, getattr, cssd_geo, "__version__")
    others = [f"{worker} has {version}" for worker, version in versions.items() if version != here]
    if others:
        raise ClusterError(
            f"{len(others)} of {len(versions)} workers do not have cssd-geo {here}, which is used here "
            f"({listed(others)}): install the same version everywhere, and start these workers again"
        )


def _classified(future: Any, found: Any) -> Classified:
    """Return what a worker made of a tile; raise what went wrong, there or on its way."""
    if isinstance(found, CssdGeoError):
        raise found
    if future.status == "finished":
        result: Classified = found
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
        except RuntimeError as error:
            if _UNREAD_TASKS not in str(error):
                raise
            raise ClusterError(
                "the scheduler cannot read the tiles that it is to hand out: as workers do, it needs cssd-geo "
                f"{cssd_geo.__version__} and what that depends on. Install it there, and start it again. The same "
                "command goes on"
            ) from error
    raise _lost(f"a tile came back as {future.status}")


@contextmanager
def _fetching_again() -> Iterator[None]:
    """Have Dask fetch a result again whose connection breaks: else it gives up, and the result never comes."""
    times = "distributed.comm.retry.count"
    with dask.config.set({times: max(_RETRIES, dask.config.get(times))}):
        yield


@contextmanager
def _answering() -> Iterator[None]:
    """Ask the cluster something inside: an error of ours if it does not answer."""
    try:
        yield
    except OSError as error:
        raise _lost(str(error)) from error


def _lost(how: str) -> ClusterError:
    return ClusterError(f"the cluster or a part of it is lost: {how}. Start it again; the same command goes on")


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
