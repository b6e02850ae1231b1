"""Reading in pieces is reading at once, no row twice; one tile ahead, never more, and nothing left running."""

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import coordinate_cube, random_model, write_raster
from test_scene import LAYOUTS

from cssd_geo.budget import Blocks
from cssd_geo.compute.transfer import load
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.engine.streaming import _Part, one_ahead, read_tiles, side_by_side, this_machine
from cssd_geo.errors import SceneError
from cssd_geo.products import open_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.sources import Source
from cssd_geo.threads import Threads
from cssd_geo.tiles import Halo, TilePlan, Window

BANDS, HEIGHT, WIDTH = 4, 45, 61
PARTS = ("disagreement", "probabilities")
USED = np.array([0, 2, 3])
PATIENCE = 10.0
HERE = this_machine("cpu", "float32")
"""Seconds after which what should have happened will not."""


def pixels() -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Values of the bands used, and where they are data."""
    random = np.random.default_rng(0)
    cube = coordinate_cube(BANDS, HEIGHT, WIDTH)
    cube[random.random(cube.shape) < 0.02] = -5
    cube[:, 20:31, 8:40] = -5
    return cube, (cube[USED] != -5).all(axis=0)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    """The same pixels as files of every layout, with a mask instead of nodata, and as arrays."""
    folder, (cube, valid) = tmp_path_factory.mktemp("streaming"), pixels()
    files = {name: folder / f"{name}.{'dat' if 'driver' in LAYOUTS[name] else 'tif'}" for name in LAYOUTS}
    scenes = {
        name: open_scene(write_raster(path, cube, nodata=-5, **LAYOUTS[name])) for name, path in files.items()
    }
    masked = write_raster(folder / "masked.tif", cube)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(masked, "r+") as dataset:
        dataset.write_mask(valid)
    scenes["mask"] = open_scene(masked)
    scenes["chunks"] = scene_of_array(scenes["tiles"].cube.chunk({"band": 2, "y": 16, "x": 16}))
    scenes["memory"] = scene_of_array(scenes["tiles"].cube.compute())
    return scenes


plans = st.builds(
    TilePlan,
    height=st.just(HEIGHT),
    width=st.just(WIDTH),
    tile_height=st.integers(6, 70),
    tile_width=st.integers(9, 70),
    halo=st.builds(Halo, before=st.integers(0, 12), after=st.integers(0, 12)),
    abreast=st.sampled_from([1, 2, 3, 99]),
    at_once=st.integers(1, 4),
)


@dataclass
class Counting:
    """A source that counts how often each pixel is read."""

    source: Source
    reads: NDArray[np.int64] = field(default_factory=lambda: np.zeros((HEIGHT, WIDTH), np.int64))
    masks: NDArray[np.int64] = field(default_factory=lambda: np.zeros((HEIGHT, WIDTH), np.int64))

    @property
    def blocks(self) -> Blocks:
        return self.source.blocks

    @property
    def bands_last(self) -> bool:
        return self.source.bands_last

    @property
    def cache_bytes(self) -> int:
        return self.source.cache_bytes

    @property
    def decoding_bytes(self) -> int:
        return self.source.decoding_bytes

    def has_mask(self) -> bool:
        return self.source.has_mask()

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        self.reads[window.slices] += 1
        self.source.read(window, bands, out)

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        self.masks[window.slices] += 1
        return self.source.mask(window)


# Reading


@settings(max_examples=5, deadline=None)
@pytest.mark.parametrize("name", [*LAYOUTS, "mask", "chunks", "memory"])
@given(plan=plans)
def test_tiles_are_what_reading_each_alone_gives(scenes: dict[str, Scene], name: str, plan: TilePlan) -> None:
    cube, valid = pixels()
    frame = 150
    cube, valid = np.pad(cube[USED], ((0, 0), (frame, frame), (frame, frame))), np.pad(valid, frame)
    read = []
    for tile, values, seen in read_tiles(scenes[name], plan, USED):
        rows, cols = tile.padded.relative_to(Window(row=-frame, col=-frame, height=1, width=1)).slices
        told = seen if name == "mask" else np.ones_like(seen)  # what a mask excludes need not be read
        np.testing.assert_array_equal(values[:, told], cube[:, rows, cols][:, told])
        np.testing.assert_array_equal(seen, valid[rows, cols])
        alone = scenes[name].read(tile.padded, USED)
        np.testing.assert_array_equal(values[:, told], alone[0][:, told])
        np.testing.assert_array_equal(seen, alone[1])
        assert (values.dtype, values.strides) == (alone[0].dtype, alone[0].strides)
        values[...], seen[...] = 77, True  # what is done to a tile does not reach the next one
        read.append(tile)
    assert read == list(plan)


@settings(max_examples=30, deadline=None)
@given(plan=plans)
def test_each_pixel_of_columns_abreast_is_read_once(scenes: dict[str, Scene], plan: TilePlan) -> None:
    source = Counting(scenes["strips"].source)
    for _ in read_tiles(replace(scenes["strips"], source=source), plan, USED):
        pass
    expected = np.zeros((HEIGHT, WIDTH), np.int64)
    abreast = plan.cols if plan.rows == 1 else plan.abreast
    for first in range(0, plan.cols, abreast):
        seen = np.zeros_like(expected)
        for col in range(first, min(first + abreast, plan.cols)):
            inside = plan[plan.index(0, col)].padded.clip(height=HEIGHT, width=WIDTH)
            assert inside is not None
            seen[:, inside.slices[1]] = 1
        expected += seen
    np.testing.assert_array_equal(source.reads, expected)
    np.testing.assert_array_equal(source.masks, expected)
    assert source.reads.sum() == plan.pixels_read


@settings(max_examples=30, deadline=None)
@given(plan=plans, data=st.data())
def test_tiles_that_are_skipped_change_no_other(
    scenes: dict[str, Scene], plan: TilePlan, data: st.DataObject
) -> None:
    skip = data.draw(st.sets(st.integers(0, len(plan) - 1)))
    left = []
    for tile, values, seen in read_tiles(scenes["tiles"], plan, USED, skip):
        alone = scenes["tiles"].read(tile.padded, USED)
        np.testing.assert_array_equal(values, alone[0])
        np.testing.assert_array_equal(seen, alone[1])
        left.append(tile.index)
    assert left == sorted(set(range(len(plan))) - skip)


def test_of_a_tile_no_more_is_kept_than_others_share_with_it(
    scenes: dict[str, Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(values: NDArray[Any], valid: NDArray[np.bool_]) -> _Part:
        kept.append(valid.shape)
        return copy(values, valid)

    kept: list[tuple[int, ...]] = []
    copy = _Part.of
    monkeypatch.setattr(_Part, "of", noted)
    halo = Halo(before=3, after=2)
    plan = TilePlan(height=HEIGHT, width=WIDTH, tile_height=16, tile_width=16, halo=halo, abreast=3)
    assert len(list(read_tiles(scenes["tiles"], plan, USED))) * 2 == len(kept)
    assert {min(shape) for shape in kept} == {halo.total}


# One ahead


def wait_for(condition: Callable[[], object], patience: float = PATIENCE) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + patience
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return bool(condition())


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_items_come_in_their_order(count: int) -> None:
    before = threads()
    assert list(one_ahead(iter(range(count)))) == list(range(count))
    assert threads() == before


def test_nothing_is_made_before_the_first_item_is_asked_for() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        made.append(0)
        yield 0

    stream = one_ahead(make())
    time.sleep(0.02)
    assert made == []
    assert list(stream) == [0]


def test_while_an_item_is_used_the_next_one_is_made_and_no_more() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for number in range(6):
            made.append(number)
            yield number

    taken: list[int] = []
    for item in one_ahead(make()):
        taken.append(item)
        assert wait_for(lambda: len(made) == min(len(taken) + 1, 6)), "the next one is made meanwhile"
        time.sleep(0.01)
        assert len(made) == min(len(taken) + 1, 6), "and waits before another one is begun"
    assert taken == made == list(range(6))


def test_items_are_made_in_another_thread() -> None:
    makers = set(one_ahead(threading.get_ident() for _ in range(3)))
    assert len(makers) == 1
    assert threading.get_ident() not in makers


def test_errors_come_after_the_items_before_them() -> None:
    def make() -> Iterator[int]:
        yield from range(4)
        raise SceneError("broken at 4")

    before, stream = threads(), one_ahead(make())
    assert [next(stream) for _ in range(4)] == list(range(4))
    with pytest.raises(SceneError, match="broken at 4"):
        next(stream)
    assert list(stream) == []
    assert threads() == before


@pytest.mark.parametrize("stages", [1, 3])
def test_when_the_consumer_stops_so_does_all(stages: int) -> None:
    made: list[int] = []
    closed = threading.Event()

    def make() -> Iterator[int]:
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            closed.set()

    def consume() -> None:
        stream: Iterator[int] = make()
        for _ in range(stages):
            stream = one_ahead(stream)
        for item in stream:
            if item == 3:
                raise SceneError("the disk is full")

    before = threads()
    with pytest.raises(SceneError, match="disk is full"):
        consume()
    gc.collect()
    assert wait_for(lambda: threads() == before), "its threads end"
    assert closed.is_set()
    assert made == list(range(len(made)))
    assert len(made) <= 5 + stages


class _Item:
    """Something that can be seen to be freed."""


def test_an_item_is_freed_while_the_next_one_is_made() -> None:
    first: list[weakref.ref[_Item]] = []
    freed: list[bool] = []

    def make() -> Iterator[_Item]:
        yield _Item()
        freed.append(wait_for(lambda: first and first[0]() is None))
        yield _Item()

    stream = one_ahead(make())
    first.append(weakref.ref(next(stream)))
    next(stream)
    assert freed == [True]


# Side by side


@pytest.mark.parametrize("at_once", [1, 3])
def test_so_many_items_are_worked_on_at_a_time_and_come_in_their_order(at_once: int) -> None:
    lock, begun, running, most = threading.Lock(), 0, 0, 0

    def work(number: int) -> int:
        nonlocal begun, running, most
        with lock:
            begun, running = begun + 1, running + 1
            most = max(most, running)
        wait_for(lambda: begun >= min(number // at_once * at_once + at_once, 9))  # for those beside it
        with lock:
            running -= 1
        return number

    before, taken = threads(), []
    for number in side_by_side(work, iter(range(9)), at_once):
        taken.append(number)
        assert begun <= number + at_once, "none is begun before there is room for its result"
    assert taken == list(range(9))
    assert most == at_once
    assert threads() == before


def test_an_item_is_gone_when_its_result_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next tile would now and then come before the memory of this one is free."""
    made: list[weakref.ref[_Item]] = []
    gone: list[bool] = []
    all_begun = threading.Event()

    class Watched(Threads):
        def submit(self, work: Any, /, *given: Any) -> Future[Any]:  # type: ignore[override] # its names
            future, watched = super().submit(work, *given), made[-1]
            future.add_done_callback(lambda _: gone.append(watched() is None))
            return future

    def make() -> _Item:
        item = _Item()
        made.append(weakref.ref(item))
        return item

    monkeypatch.setattr("cssd_geo.engine.streaming.Threads", Watched)
    threading.Timer(0.1, all_begun.set).start()
    list(side_by_side(lambda _: all_begun.wait(10), (make() for _ in range(2)), 2))
    assert gone == [True, True]


def test_an_error_beside_others_ends_all() -> None:
    def work(number: int) -> int:
        if number == 4:
            raise SceneError("broken at 4")
        return number

    before, stream = threads(), side_by_side(work, iter(range(1000)), 3)
    assert [next(stream) for _ in range(4)] == list(range(4))
    with pytest.raises(SceneError, match="broken at 4"):
        next(stream)
    assert threads() == before


# All stages together


@dataclass
class Watching(Counting):
    """A source that counts the tiles in memory whenever it reads."""

    enough: int = 3
    alive: list["weakref.ref[NDArray[Any]]"] = field(default_factory=list)
    most: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def read(self, window: Window, bands: NDArray[np.intp], out: NDArray[Any]) -> None:
        base = out.base if isinstance(out.base, np.ndarray) else out
        with self.lock:
            wait_for(self.has_room, 0.05)  # handing over takes a moment
            self.alive = [ref for ref in self.alive if ref() is not None] + [weakref.ref(base)]
            self.most = max(self.most, len(self.alive))
        super().read(window, bands, out)

    def has_room(self) -> bool:
        return sum(ref() is not None for ref in self.alive) < self.enough


@pytest.mark.parametrize(("compute", "write"), [(0.1, 0.0), (0.0, 0.1)])
def test_no_more_than_three_tiles_are_in_memory_whichever_stage_is_slow(
    scenes: dict[str, Scene], monkeypatch: pytest.MonkeyPatch, compute: float, write: float
) -> None:
    source = Watching(scenes["tiles"].source)
    scene = replace(scenes["tiles"], source=source)
    classifier = TileClassifier(random_model(bands=BANDS), scene, torch.device("cpu"))
    classify = classifier.classify

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(compute)
        return classify(*args, **options)

    monkeypatch.setattr(classifier, "classify", slow)
    for _ in HERE.results(classifier, scene, classifier.plan(scene, 24)):
        time.sleep(write)
    assert 2 <= source.most <= 3
    assert all(ref() is None for ref in source.alive)


def test_before_a_gpu_as_many_tiles_are_in_memory_as_it_is_planned(
    scenes: dict[str, Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cssd_geo.engine.inference.processors", lambda: 8)
    source = Watching(scenes["tiles"].source, enough=6)
    scene = replace(scenes["tiles"], source=source)
    classifier = TileClassifier(random_model(bands=BANDS), scene, torch.device("cpu"))
    plan, classify = classifier.plan(scene, 16), classifier.classify
    expected = list(HERE.results(classifier, scene, plan))

    def slow(*args: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return classify(*args, **options)

    classifier.device = torch.device("meta")  # any that is no CPU
    cpu = torch.device("cpu")
    monkeypatch.setattr(classifier, "load", lambda values, valid, shape, at: load(values, valid, cpu, shape, at))
    monkeypatch.setattr(classifier, "classify", slow)
    plan = replace(plan, at_once=classifier.plan(scene).at_once)
    assert plan.at_once == 4
    source.most = 0
    for (tile, result), (same, other) in zip(HERE.results(classifier, scene, plan), expected, strict=True):
        assert tile == same
        np.testing.assert_array_equal(result.class_map, other.class_map)
    assert classifier._recorded, "and they went through a recording"
    copies = 2  # in one shape: one is computed, one waits
    assert plan.at_once < source.most <= classifier.needs(scene, plan.at_once).tiles - copies


@pytest.mark.parametrize("name", ["tiles", "bip", "mask", "memory"])
def test_results_come_in_the_plan_s_order_and_are_those_of_each_tile_alone(
    scenes: dict[str, Scene], name: str
) -> None:
    scene = scenes[name]
    classifier = TileClassifier(random_model(bands=BANDS), scene, torch.device("cpu"))
    plan = classifier.plan(scene, 19)
    before, tiles = threads(), []
    for tile, result in HERE.results(classifier, scene, plan, parts=PARTS):
        alone = classifier(*scene.read(tile.padded, np.arange(BANDS)), at=tile.padded.corner, parts=PARTS)
        for part in ("class_map", "confidence", *PARTS):
            np.testing.assert_array_equal(getattr(result, part), getattr(alone, part))
            assert getattr(result, part) is not None
        assert (result.class_map > 0).any() or not (result.confidence < 255).any()
        tiles.append(tile)
    assert tiles == list(plan)
    assert threads() == before


@pytest.fixture(params=[1, 2])
def at_once(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many of torch's threads, so that as many tiles are computed at a time."""
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(usual)


def test_while_a_tile_is_written_the_next_ones_are_computed(
    scenes: dict[str, Scene], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    classifier = TileClassifier(random_model(bands=BANDS), scenes["tiles"], torch.device("cpu"))
    classify, computed = classifier.classify, []

    def noted(*args: Any, **options: Any) -> Any:
        computed.append(threading.get_ident())
        return classify(*args, **options)

    monkeypatch.setattr(classifier, "classify", noted)
    plan, taken = classifier.plan(scenes["tiles"], 24), []
    for tile, _ in HERE.results(classifier, scenes["tiles"], plan):
        taken.append(tile)
        assert wait_for(lambda: len(computed) == min(len(taken) + at_once, len(plan)))
    assert threading.get_ident() not in computed
    assert len(set(computed)) == at_once


def test_a_scene_that_breaks_off_ends_all_stages(tmp_path: Path) -> None:
    cube, _ = pixels()
    path = write_raster(tmp_path / "s.tif", cube, compress="deflate", blockysize=5)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    scene = open_scene(path)
    classifier = TileClassifier(random_model(bands=BANDS), scene, torch.device("cpu"))
    before = threads()
    with pytest.raises(SceneError, match=r"s\.tif cannot be read at row"):
        list(HERE.results(classifier, scene, classifier.plan(scene, 8)))
    gc.collect()
    assert wait_for(lambda: threads() == before)


def test_an_error_that_is_kept_keeps_no_thread(scenes: dict[str, Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scenes["deflated tiles"]
    classifier = TileClassifier(random_model(bands=BANDS), scene, torch.device("cpu"))
    plan, before = classifier.plan(scene, 8), threads()
    for fails in ("classify", "load"):
        with monkeypatch.context() as patch:
            patch.setattr(classifier, fails, lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError) as kept:
                list(HERE.results(classifier, scene, plan))
        assert wait_for(lambda: threads() == before), fails
        assert kept.tb is not None


def test_a_consumer_that_stops_leaves_no_thread(scenes: dict[str, Scene]) -> None:
    scene = scenes["deflated tiles"]
    classifier = TileClassifier(random_model(bands=BANDS), scene, torch.device("cpu"))
    before = threads()
    for tile, _ in HERE.results(classifier, scene, classifier.plan(scene, 8)):
        if tile.index == 2:
            break
    gc.collect()
    assert wait_for(lambda: threads() == before)


def test_pixels_that_tiles_share_are_kept_in_the_order_that_they_have_in_memory() -> None:
    pixels = np.arange(4 * 6 * 3).reshape(4, 6, 3)
    for values in (pixels.transpose(2, 0, 1), pixels.transpose(2, 0, 1).copy()):
        kept = _Part.of(values[:, -2:], np.ones((2, 6), np.bool_))
        np.testing.assert_array_equal(kept.values, values[:, -2:])
        assert np.argsort(kept.values.strides).tolist() == np.argsort(values.strides).tolist()
        assert not np.shares_memory(kept.values, values)
