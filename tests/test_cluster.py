"""The same pixels from a cluster as from one machine, whatever becomes of its workers."""

import importlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import torch
from distributed import Client, LocalCluster, wait
from distributed.comm import CommClosedError
from numpy.typing import NDArray
from scenes import random_model, write_raster

import cssd_geo
from cssd_geo.classification import classify
from cssd_geo.cli.clients import client_of
from cssd_geo.engine import cluster, cluster_worker
from cssd_geo.engine.cluster import Cluster, cluster_of, connected, threads_by_host
from cssd_geo.engine.cluster_worker import Answer, answer
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.errors import ClusterError, InputError, SceneError
from cssd_geo.model import Model
from cssd_geo.products import open_scene
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Tile, TilePlan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Client]:
    with connected(None, 2) as client:
        yield client


@pytest.fixture
def client(two_workers: Client) -> Client:
    two_workers.wait_for_workers(2, timeout=60)  # one that was killed comes back
    return two_workers


@pytest.fixture
def deserted() -> Iterator[Client]:
    """A cluster whose last worker is gone."""
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as nobody, Client(nobody) as client:
        yield client


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model(bands=6, dtype=torch.float32)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    cube = np.random.default_rng(0).integers(0, 4000, (6, 50, 70)).astype(np.int16)
    cube[:, 20:30, 15:40] = -1
    return open_scene(write_raster(tmp_path / "scene.tif", cube, nodata=-1))


@pytest.fixture
def plan(model: Model, scene: Scene) -> TilePlan:
    return TileClassifier(model, scene, CPU).plan(scene, tile_size=12)


@contextmanager
def version_of(client: Client, worker: str, version: str) -> Iterator[None]:
    client.run(setattr, cssd_geo, "__version__", version, workers=[worker])
    try:
        yield
    finally:
        client.run(setattr, cssd_geo, "__version__", cssd_geo.__version__, workers=[worker])


@contextmanager
def without_this_package(client: Client, worker: str) -> Iterator[None]:
    """A worker that cannot import it."""
    hide = "import sys, cssd_geo; sys.modules.update(kept=cssd_geo, cssd_geo=None)"
    client.run(exec, hide, workers=[worker])
    try:
        yield
    finally:
        client.run(exec, "import sys; sys.modules['cssd_geo'] = sys.modules.pop('kept')", workers=[worker])


class Foreign:
    """What only this process can read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, ("cssd_geo.that_is_not_there",)


def here(model: Model, scene: Scene, plan: TilePlan) -> NDArray[np.uint8]:
    classifier, out = TileClassifier(model, scene, CPU), np.zeros((50, 70), np.uint8)
    for tile in plan:
        pixels = scene.read(tile.padded, classifier.bands)
        out[tile.core.slices] = classifier(*pixels, at=tile.padded.corner).class_map
    return out


def test_the_map_is_the_one_of_a_single_machine(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    workers = cluster_of(client, scene, "auto", "float32")
    found, seen = np.zeros((50, 70), np.uint8), []
    for tile, result in workers.results(TileClassifier(model, scene, CPU), scene, plan, parts=["probabilities"]):
        found[tile.core.slices] = result.class_map
        seen.append(tile.index)
        assert result.probabilities is not None
        assert result.probabilities.shape == (3, tile.core.height, tile.core.width)
    assert sorted(seen) == list(range(len(plan)))
    assert len(np.unique(found)) > 2
    assert (found == here(model, scene, plan)).all()


def test_tiles_of_a_worker_that_is_killed_are_done_elsewhere(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    workers, found = cluster_of(client, scene, "cpu", "float32"), np.zeros((50, 70), np.uint8)
    for number, (tile, result) in enumerate(workers.results(TileClassifier(model, scene, CPU), scene, plan)):
        found[tile.core.slices] = result.class_map
        if number == 2:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
    assert (found == here(model, scene, plan)).all()


def test_a_tile_that_kills_its_workers_says_how_many_it_killed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    deadly = client.submit(os._exit, 1, pure=False)
    wait(deadly)
    with pytest.raises(ClusterError, match="a tile killed 1 workers in turn"):
        cluster._classified(deadly, None)


def test_a_tile_that_wants_too_much_memory_is_an_error_of_ours(client: Client) -> None:
    hungry = client.submit(bytearray, 1 << 62, pure=False)
    wait(hungry)
    with pytest.raises(ClusterError, match="a worker is out of memory"):
        cluster._classified(hungry, None)


def test_a_relative_path_is_read_by_workers_in_other_folders(
    client: Client, model: Model, scene: Scene, plan: TilePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scene.path is not None
    monkeypatch.chdir(scene.path.parent)
    relative, found = open_scene(scene.path.name), np.zeros((50, 70), np.uint8)
    workers = cluster_of(client, relative, "cpu", "float32")
    for tile, result in workers.results(TileClassifier(model, relative, CPU), relative, plan):
        found[tile.core.slices] = result.class_map
    assert (found == here(model, scene, plan)).all()


def test_a_result_whose_connection_breaks_is_fetched_again(
    client: Client, model: Model, scene: Scene, plan: TilePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would be waited for without end: scheduler and workers live on."""
    gather, broken = client.scheduler.gather, [True]

    async def gather_once_broken(**keys: Any) -> Any:
        if broken and broken.pop():
            raise CommClosedError("Stream is closed")
        return await gather(**keys)

    workers = cluster_of(client, scene, "cpu", "float32")
    monkeypatch.setattr(client.scheduler, "gather", gather_once_broken, raising=False)
    assert len(list(workers.results(TileClassifier(model, scene, CPU), scene, plan))) == len(plan)
    assert not broken


def test_no_more_tiles_are_in_flight_than_workers_can_take(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    drawn, most = [], 0

    class Counted(TilePlan):
        def __iter__(self) -> Iterator[Tile]:
            for tile in super().__iter__():
                drawn.append(tile.index)
                yield tile

    workers = cluster_of(client, scene, "cpu", "float32")
    counted = Counted(**{item.name: getattr(plan, item.name) for item in fields(plan)})
    for done, _ in enumerate(workers.results(TileClassifier(model, scene, CPU), scene, counted)):
        most = max(most, len(drawn) - done)
    assert 1 < most <= 2 * 2  # two for each of two threads


def test_a_scene_that_a_worker_cannot_read_is_an_error_here(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    assert scene.path is not None
    scene.path.write_bytes(scene.path.read_bytes()[:600])
    workers = cluster_of(client, scene, "cpu", "float32")
    with pytest.raises(SceneError, match=r"scene\.tif"):
        list(workers.results(TileClassifier(model, scene, CPU), scene, plan))


def test_workers_that_do_not_see_the_scene_are_named_at_the_start(
    client: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_worker, "content_fingerprint", lambda *_, **__: "what it is on this machine")
    with pytest.raises(ClusterError, match=r"2 of 2 workers do not see .*scene\.tif as it is here \(tcp://"):
        cluster_of(client, scene, "cpu", "float32")


def test_a_worker_that_joins_late_and_does_not_see_the_scene_is_named(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    there = cluster_of(client, scene, "cpu", "float32")
    late = min(there.seen_by)
    workers = replace(
        there, seen_by=there.seen_by - {late}, contents=dict.fromkeys(there.contents, "what it is on this machine")
    )
    with pytest.raises(ClusterError, match=rf"worker {late} joined later and does not see .*scene\.tif"):
        list(workers.results(TileClassifier(model, scene, CPU), scene, plan))


def test_a_worker_that_joins_late_and_sees_the_scene_takes_part(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    workers = replace(cluster_of(client, scene, "cpu", "float32"), seen_by=frozenset())
    assert len(list(workers.results(TileClassifier(model, scene, CPU), scene, plan))) == len(plan)


def side_file(scene: Scene, said: str) -> None:
    Path(f"{scene.path}.aux.xml").write_text(f"<PAMDataset>{said}</PAMDataset>")


def test_statistics_do_not_keep_a_worker_that_joins_late_away(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    """QGIS leaves them beside a scene that somebody looks at."""
    side_file(scene, "")
    workers = replace(cluster_of(client, scene, "cpu", "float32"), seen_by=frozenset())
    side_file(scene, '<PAMRasterBand><Metadata><MDI key="STATISTICS_MEAN">400</MDI></Metadata></PAMRasterBand>')
    assert len(list(workers.results(TileClassifier(model, scene, CPU), scene, plan))) == len(plan)


def test_the_file_that_a_worker_that_joins_late_does_not_see_is_named(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    side_file(scene, "")
    workers = replace(cluster_of(client, scene, "cpu", "float32"), seen_by=frozenset())
    side_file(scene, "<SRS>of another place</SRS>")
    with pytest.raises(ClusterError, match=r"joined later and does not see .*scene\.tif\.aux\.xml as it was here"):
        list(workers.results(TileClassifier(model, scene, CPU), scene, plan))


def test_workers_with_another_version_are_named_at_the_start(client: Client, scene: Scene) -> None:
    other = min(client.run(os.getpid))
    told = rf"1 of 2 workers do not have cssd-geo {cssd_geo.__version__}, .* \({other} has 0\.0\.9\): install"
    with version_of(client, other, "0.0.9"), pytest.raises(ClusterError, match=told):
        cluster_of(client, scene, "cpu", "float32")


def test_a_worker_with_another_version_that_joins_late_computes_nothing(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    workers, late = cluster_of(client, scene, "cpu", "float32"), min(client.run(os.getpid))
    told = rf"worker {late} joined later and has cssd-geo 0\.0\.9 instead of {cssd_geo.__version__}: install"
    with version_of(client, late, "0.0.9"), pytest.raises(ClusterError, match=told):
        list(workers.results(TileClassifier(model, scene, CPU), scene, plan))


def test_workers_without_this_package_are_named(client: Client, scene: Scene) -> None:
    bare = min(client.run(os.getpid))
    told = rf"1 of 2 workers cannot work here \({bare}: .*cssd_geo.*\): each needs cssd-geo {cssd_geo.__version__}"
    with without_this_package(client, bare), pytest.raises(ClusterError, match=told):
        cluster_of(client, scene, "cpu", "float32")


def test_what_is_wrong_with_a_worker_is_told(
    client: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "answer", lambda *_: os.environ["A_LIBRARY"])
    with pytest.raises(ClusterError, match=r"2 of 2 workers cannot work here \(tcp://.*: KeyError: 'A_LIBRARY'"):
        cluster_of(client, scene, "cpu", "float32")


def test_an_option_that_a_worker_cannot_follow_is_an_error_of_that_option(client: Client, scene: Scene) -> None:
    with pytest.raises(InputError, match="cuda"):
        cluster_of(client, scene, "cuda", "float32")


def test_workers_that_leave_before_they_are_asked_are_an_error(
    deserted: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deserted, "wait_for_workers", lambda *_, **__: None)
    with pytest.raises(ClusterError, match=r"a part of it is lost: no worker answers\."):
        cluster_of(deserted, scene, "cpu", "float32")


def test_a_scheduler_without_this_package_is_told_of(client: Client) -> None:
    unread = client.submit(print, Foreign(), pure=False)
    wait(unread)
    with pytest.raises(ClusterError, match=rf"the scheduler cannot read .* needs cssd-geo {cssd_geo.__version__}"):
        cluster._classified(unread, None)


def test_a_flaw_in_a_worker_is_none_of_the_cluster(client: Client) -> None:
    flawed = client.submit(torch.zeros(2).view, 3, pure=False)
    wait(flawed)
    with pytest.raises(RuntimeError, match="shape") as caught:
        cluster._classified(flawed, None)
    assert not isinstance(caught.value, ClusterError)


def cluster_without_workers(client: Client, scene: Scene) -> Cluster:
    return Cluster(
        client=client,
        device=CPU,
        precision=torch.float32,
        contents={str(scene.path): ""},
        seen_by=frozenset(),
        cache_bytes=scene.source.cache_bytes,
    )


def test_without_its_last_worker_a_run_ends_after_a_while(
    deserted: Client, model: Model, scene: Scene, plan: TilePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_ASK_SECONDS", 0.0)
    monkeypatch.setattr(cluster, "_WAIT", 0.1)
    workers = cluster_without_workers(deserted, scene)
    with pytest.raises(ClusterError, match=r"no worker for 0\.1 seconds: start some\. The same command goes on"):
        next(workers.results(TileClassifier(model, scene, CPU), scene, plan))


def test_a_cluster_that_forgets_its_work_is_an_error(
    deserted: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    """As it does when the connection to its scheduler breaks."""
    workers = cluster_without_workers(deserted, scene)
    restart = threading.Timer(0.3, deserted.restart, kwargs={"wait_for_workers": False})
    restart.start()
    with pytest.raises(ClusterError, match=r"is lost: .* the same command goes on"):
        next(workers.results(TileClassifier(model, scene, CPU), scene, plan))
    restart.join()


def test_a_connection_that_is_closed_is_an_error(
    deserted: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    workers = cluster_without_workers(deserted, scene)
    close = threading.Timer(0.3, deserted.close)
    close.start()
    with pytest.raises(ClusterError, match=r"is lost: .* the same command goes on"):
        next(workers.results(TileClassifier(model, scene, CPU), scene, plan))
    close.join()


def test_a_scheduler_that_goes_as_it_is_asked_is_an_error(
    client: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(*_: object, **__: object) -> None:
        raise CommClosedError("Stream is closed")

    monkeypatch.setattr(client, "run", closed)
    with pytest.raises(ClusterError, match=r"a part of it is lost: Stream is closed\."):
        cluster_of(client, scene, "cpu", "float32")


def test_a_worker_that_dies_as_it_is_asked_is_an_error(
    client: Client, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_once(*given: Any) -> Any:
        with suppress(FileExistsError):
            (tmp_path / "died").touch(exist_ok=False)
            os._exit(1)
        return answer(*given)

    monkeypatch.setattr(cluster, "answer", die_once)
    with pytest.raises(ClusterError, match=r"a part of it is lost: .*\. Start it again; the same command goes on"):
        cluster_of(client, scene, "cpu", "float32")


def test_workers_keep_no_more_blocks_than_was_planned(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    class Watched(Scene):
        def read_into(self, *args: Any) -> None:
            kept = rasterio.env.getenv()["GDAL_CACHEMAX"]
            if kept != 77_000_000:
                raise SceneError(f"{kept} bytes")
            super().read_into(*args)

    watched = Watched(**{item.name: getattr(scene, item.name) for item in fields(scene)})
    workers = replace(cluster_of(client, scene, "cpu", "float32"), cache_bytes=77_000_000)
    assert len(list(workers.results(TileClassifier(model, scene, CPU), watched, plan))) == len(plan)


def test_precision_and_threads_are_what_all_workers_have(client: Client, scene: Scene) -> None:
    assert cluster_of(client, scene, "auto", "bfloat16").precision == torch.bfloat16
    assert sum(threads_by_host(client).values()) == 2


@pytest.mark.parametrize("first", [torch.float32, torch.bfloat16])
def test_workers_that_differ_compute_in_float32(
    client: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch, first: torch.dtype
) -> None:
    other = torch.bfloat16 if first is torch.float32 else torch.float32
    answers_alike(monkeypatch, ("cpu", first), ("cpu", other))
    assert cluster_of(client, scene, "auto", "auto").precision == torch.float32


def test_gpus_and_cpus_are_not_mixed(client: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    answers_alike(monkeypatch, ("cpu", torch.float32), ("cuda", torch.float32))
    with pytest.raises(ClusterError, match="some workers have a GPU and some have none: choose with --device cpu"):
        cluster_of(client, scene, "auto", "float32")


def answers_alike(monkeypatch: pytest.MonkeyPatch, *found: tuple[str, torch.dtype]) -> None:
    """Let workers see the scene, and compute with these devices and precisions."""

    def ask(_client: Client, _function: Any, paths: list[str], *_: Any) -> dict[str, Answer]:
        contents = cluster_worker.contents_of(paths)
        return {f"worker {i}": Answer(contents, device, precision) for i, (device, precision) in enumerate(found)}

    monkeypatch.setattr(cluster, "_check_versions", lambda _: None)
    monkeypatch.setattr(cluster, "_ask", ask)


def test_workers_are_asked_for_the_mask_too(client: Client, scene: Scene, tmp_path: Path) -> None:
    assert scene.path is not None
    mask = write_raster(tmp_path / "mask.tif", np.ones((1, 50, 70), np.uint8))
    masked = open_scene(scene.path, valid_mask=mask)
    assert set(cluster_of(client, masked, "cpu", "float32").contents) == {str(scene.path), str(mask)}


@pytest.mark.parametrize(
    ("host", "threads", "share"), [("known", 2, 4), ("new", 8, 3), ("new", 1, 24), ("known", 48, 1)]
)
def test_workers_share_the_cores_of_their_machine(
    model: Model, scene: Scene, monkeypatch: pytest.MonkeyPatch, *, host: str, threads: int, share: int
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(cluster_worker, "processors", lambda: 24)
    monkeypatch.setattr("torch.set_num_threads", taken.append)
    worker = cluster_worker.Worker(
        TileClassifier(model, scene, CPU),
        scene,
        version=cssd_geo.__version__,
        device=CPU,
        contents={},
        seen_by=(),
        threads_by_host={"known": 6},
        cache_bytes=0,
    )
    worker.setup(SimpleNamespace(address="tcp://a", ip=host, state=SimpleNamespace(nthreads=threads)))
    assert taken == [share]


def test_tiles_that_are_done_are_not_computed_again(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    workers, classifier = cluster_of(client, scene, "cpu", "float32"), TileClassifier(model, scene, CPU)
    left = {tile.index for tile, _ in workers.results(classifier, scene, plan, skip={0, 3, len(plan) - 1})}
    assert left == set(range(len(plan))) - {0, 3, len(plan) - 1}


FAIL_ONCE = """
from cssd_geo.engine.cluster_worker import Worker
classify = Worker.classify
def fail(*_):
    Worker.classify = classify
    raise RuntimeError("as once in a while")
Worker.classify = fail
"""


def test_a_tile_that_fails_once_is_tried_again(client: Client, model: Model, scene: Scene, plan: TilePlan) -> None:
    workers = cluster_of(client, scene, "cpu", "float32")
    client.run(exec, FAIL_ONCE, {})
    found = [tile.index for tile, _ in workers.results(TileClassifier(model, scene, CPU), scene, plan)]
    assert sorted(found) == list(range(len(plan)))


def test_a_run_that_is_left_leaves_no_model_behind(
    client: Client, model: Model, scene: Scene, plan: TilePlan
) -> None:
    workers = cluster_of(client, scene, "cpu", "float32")
    results: Any = workers.results(TileClassifier(model, scene, CPU), scene, plan)
    next(results)
    assert len(our_plugins(client)) == 2
    results.close()
    assert our_plugins(client) == []


def our_plugins(client: Client) -> list[str]:
    """Names of plugins of ours, of all workers."""
    plugins = client.run(lambda dask_worker: list(dask_worker.plugins))
    return [name for names in plugins.values() for name in names if name.startswith("cssd-geo")]


def test_workers_that_come_back_in_time_end_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are some at these seconds, and none at all others."""
    seconds = [0, 10, 50, 55, 60, 118, 121]

    class Asked:
        status = "running"

        def nthreads(self) -> dict[str, int]:
            return {"worker": 1} if seconds[0] in {0, 50, 55} else {}

    monkeypatch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    threads = cluster._Threads(Asked())
    while seconds[0] < 121:
        assert threads.count() == (seconds.pop(0) in {0, 50, 55})
    with pytest.raises(ClusterError, match="has had no worker for 60 seconds"):
        threads.count()


def test_workers_here_leave_ctrl_c_to_the_command(client: Client) -> None:
    assert set(client.run(signal.getsignal, signal.SIGINT).values()) == {signal.SIG_IGN}


def test_a_file_that_is_not_there_is_seen_as_nothing(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.tif")
    assert cluster_worker.contents_of([gone]) == {gone: ""}


def test_a_scene_that_is_no_file_cannot_be_sent(client: Client, scene: Scene) -> None:
    with pytest.raises(InputError, match="file"):
        cluster_of(client, replace(scene, path=None), "cpu", "auto")


def test_an_address_is_no_client(scene: Scene) -> None:
    with pytest.raises(InputError, match=r"not 'tcp://host:8786': connect one"):
        cluster_of("tcp://host:8786", scene, "cpu", "float32")


def test_a_scheduler_that_does_not_answer() -> None:
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(ClusterError, match=r"tcp://127\.0\.0\.1:9"),
        connected("tcp://127.0.0.1:9", None),
    ):
        pass


def test_a_scheduler_file_that_nobody_writes_is_not_awaited_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cssd_geo.cli.clients._WAIT", 0)
    path = tmp_path / "gone.json"
    with pytest.raises(ClusterError, match=r"no scheduler has written .*gone\.json"), client_of(str(path), None):
        pass
    assert "waiting 0 seconds for a scheduler" in capsys.readouterr().err


def test_a_scheduler_file_that_comes_late_is_read(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "late.json"

    def write(_: float) -> None:
        path.write_text(json.dumps({"address": client.scheduler.address}))

    monkeypatch.setattr("cssd_geo.cli.clients.time.sleep", write)
    with client_of(str(path), None) as found:
        assert found.scheduler.address == client.scheduler.address


def test_errors_of_the_work_are_not_taken_for_those_of_the_connection(client: Client) -> None:
    address = client.scheduler.address
    with pytest.raises(SceneError, match="the work"), connected(address, None):
        raise SceneError("the work")


def test_without_a_scheduler_and_workers_there_is_no_cluster() -> None:
    with client_of(None, None) as client:
        assert client is None


@pytest.mark.parametrize(("scheduler", "workers"), [("tcp://x:1", 2), (None, 0), (None, None)])
def test_either_a_scheduler_or_a_number_of_workers(scheduler: str | None, workers: int | None) -> None:
    with pytest.raises(InputError, match="scheduler"), connected(scheduler, workers):
        pass


def test_a_run_that_stopped_here_goes_on_there_and_ends_the_same(
    client: Client, model: Model, scene: Scene, tmp_path: Path
) -> None:
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"tile_size": 12, "precision": "float32", "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        classify(scene, model, tmp_path / "map.tif", on_tile=stop, **options)
    went_on: list[int] = []
    classify(
        scene,
        model,
        tmp_path / "map.tif",
        client=client,
        on_resume=lambda done, _: went_on.append(done),
        **options,
    )
    assert went_on
    assert went_on[0] > 0
    classify(scene, model, tmp_path / "alone.tif", **options)
    with rasterio.open(tmp_path / "map.tif") as ours, rasterio.open(tmp_path / "alone.tif") as alone:
        assert (ours.read() == alone.read()).all()


def test_blocks_that_no_worker_can_read_are_listed(client: Client, model: Model, tmp_path: Path) -> None:
    cube = np.random.default_rng(1).integers(0, 4000, (6, 64, 64)).astype(np.int16)
    path = write_raster(tmp_path / "s.tif", cube, tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    data = bytearray(path.read_bytes())
    with rasterio.open(path) as dataset:
        at = int(dataset.tags(1, ns="TIFF")["BLOCK_OFFSET_1_2"]) if dataset.tags(1, ns="TIFF") else len(data) // 2
    data[at : at + 60] = b"\xff" * 60
    path.write_bytes(data)
    options: dict[str, Any] = {"tile_size": 20, "precision": "float32", "device": "cpu", "on_error": "skip"}
    there = classify(path, model, tmp_path / "there.tif", client=client, **options)
    here_ = classify(path, model, tmp_path / "here.tif", **options)
    assert there.unreadable == here_.unreadable
    assert there.unreadable
    with rasterio.open(tmp_path / "there.tif") as ours, rasterio.open(tmp_path / "here.tif") as alone:
        assert (ours.read() == alone.read()).all()
