"""A journal's lines are whole or do not count; tiles in any order; what is done is what the disk has kept."""

import json
import os
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cssd_geo.errors import OutputError, SceneError, SceneOutOfReachError
from cssd_geo.runs import journal, unfinished
from cssd_geo.runs.raw_layers import RawLayer
from cssd_geo.runs.records import head_of
from cssd_geo.runs.unfinished import Unfinished, folder_of
from cssd_geo.tiles import Halo, TilePlan, Window

HEIGHT, WIDTH, BANDS = 13, 17, 3
PLAN = TilePlan(height=HEIGHT, width=WIDTH, tile_height=4, tile_width=6, halo=Halo(before=2, after=1))
WHOLE = Window(row=0, col=0, height=HEIGHT, width=WIDTH)
KEY = {"the model": "0" * 64, "the precision": "float32"}
HEAD = head_of(KEY, PLAN, {})
HERE = [HealthCheck.function_scoped_fixture]

Parts = dict[str, NDArray[Any]]


def results() -> Parts:
    """Values that tell where they belong."""
    rows, cols = np.ogrid[:HEIGHT, :WIDTH]
    bands = np.arange(BANDS)[:, None, None]
    shares = (10_000 * bands + 100 * rows + cols).astype(np.float32)
    shares[:, 5] = np.nan
    return {"class_map": (rows * WIDTH + cols).astype(np.uint8)[None], "probabilities": shares}


def part_of(parts: Parts, window: Window) -> Parts:
    return {name: values[(slice(None), *window.slices)] for name, values in parts.items()}


def make(folder: Path, guard: Any = lambda: None) -> Unfinished:
    target = folder / "map.tif"
    folder, pixels = folder_of(target), HEIGHT * WIDTH
    layers = {
        "class_map": RawLayer(folder / "class_map.raw", np.dtype(np.uint8), bands=1, pixels=pixels),
        "probabilities": RawLayer(folder / "p.raw", np.dtype(np.float32), bands=BANDS, pixels=pixels),
    }
    return Unfinished(target, layers, guard=guard)


class Stopped(Exception):  # noqa: N818 - no error
    """The end that a test wants."""


def put_and_stop(folder: Path, tiles: list[int]) -> Stopped:
    with pytest.raises(Stopped) as caught, make(folder) as run:  # noqa: PT012 - the end of the `with` is the point
        run.begin(KEY, PLAN)
        for index in tiles:
            run.put(PLAN[index], part_of(results(), PLAN[index].core))
        raise Stopped
    return caught.value


def put_and_be_killed(folder: Path, key: dict[str, str] | None, values: Parts) -> None:
    """Leave what a program leaves that is killed once all of its tiles are recorded."""
    with make(folder) as run:
        run.begin(key, PLAN)
        for tile in PLAN:
            run.put(tile, part_of(values, tile.core))
        run.commit()
        shutil.copytree(run.folder, folder / "as it was")
        run.remove()
    (folder / "as it was").rename(run.folder)


# ---- journal

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
entries = st.dictionaries(st.text(), plain, max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=HERE)
@given(head=entries, first=st.lists(entries), second=st.lists(entries))
def test_what_is_written_is_read(
    head: journal.Entry, first: list[journal.Entry], second: list[journal.Entry], tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    journal.create(path, head)
    for some in (first, second):
        with journal.Journal(path) as opened:
            opened.append(some)
    assert journal.read(path) == (head, first + second)


@settings(max_examples=600, deadline=None, suppress_health_check=HERE)
@given(data=st.data())
def test_damaged_lines_do_not_count_and_spoil_no_other(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written = [{"tile": number, "checksums": {"a": number * 7}} for number in range(6)]
    lines = {journal._line(entry): entry for entry in written}
    content = bytearray(b"\n".join(lines))
    start = data.draw(st.integers(0, len(content) - 1))
    stop = data.draw(st.integers(start, min(len(content), start + 40)))
    content[start:stop] = data.draw(st.binary(max_size=40))
    path.write_bytes(content)
    first, *rest = bytes(content).split(b"\n")
    assert journal.read(path) == (lines.get(first), [lines[line] for line in rest if line in lines])


@pytest.mark.parametrize(
    "text", ["[1]", "7", "null", "{", "[" * 100_000, '{"a": ' * 5000, "\x00", '{"tile": 1e999}', "x" * (3 << 20)]
)
def test_lines_that_are_no_table_do_not_count(text: str, tmp_path: Path) -> None:
    path, good = tmp_path / "journal", journal._line({"tile": 1})
    path.write_bytes(good + b"\n%08x %s\n" % (zlib.crc32(text.encode()), text.encode()) + good)
    head, found = journal.read(path)
    assert head == {"tile": 1}
    assert found[-1] == {"tile": 1}
    assert len(found) <= 2
    assert all(isinstance(entry, dict) for entry in found)


# ---- tiles

orders = st.permutations(range(len(PLAN))).flatmap(
    lambda order: st.integers(0, len(order)).map(lambda n: order[:n])
)


@settings(max_examples=40, deadline=None, suppress_health_check=HERE)
@given(order=orders, rest=st.randoms(use_true_random=False))
def test_tiles_come_in_any_order_and_are_all_there_in_the_end(
    order: list[int], rest: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    stopped = put_and_stop(folder, order)
    assert folder_of(folder / "map.tif").exists() is bool(order)
    notes = getattr(stopped, "__notes__", [])
    assert notes == ([f"{len(order)} of 12 tiles are done: the same command goes on from there."] if order else [])
    with make(folder) as run:
        run.begin(KEY, PLAN)
        assert run.done == set(order)
        left = sorted(set(range(len(PLAN))) - run.done)
        rest.shuffle(left)
        for index in left:
            run.put(PLAN[index], part_of(results(), PLAN[index].core))
        run.require_whole()
        within = Window(row=2, col=4, height=7, width=9), Window(row=8, col=7, height=2, width=3)
        for window in (WHOLE, PLAN[5].core, *within):
            for part, values in part_of(results(), window).items():
                np.testing.assert_array_equal(run.read(part, window), values)
        run.remove()
    assert list(folder.iterdir()) == []


def test_a_tile_that_is_missing_is_no_whole(tmp_path: Path) -> None:
    put_and_stop(tmp_path, list(range(11)))
    with pytest.raises(OutputError, match="did not keep"), make(tmp_path) as run:  # noqa: PT012 - likewise
        run.begin(KEY, PLAN)
        for part, values in results().items():
            values[:, *PLAN[11].core.slices] = 0
            np.testing.assert_array_equal(run.read(part, WHOLE), values)
        run.require_whole()


def test_the_system_may_take_and_give_a_few_bytes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, pwrite, preadv = os.write, os.pwrite, os.preadv
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:3]))
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: pwrite(file, data[:5], at))
    monkeypatch.setattr(os, "preadv", lambda file, into, at: preadv(file, [into[0][:7]], at))
    put_and_stop(tmp_path, list(range(12)))
    with make(tmp_path) as run:
        run.begin(KEY, PLAN)
        assert len(run.done) == 12
        for part, values in results().items():
            np.testing.assert_array_equal(run.read(part, WHOLE), values)


def test_an_unfinished_run_keeps_its_own_plan(tmp_path: Path) -> None:
    put_and_stop(tmp_path, [2, 3])
    other = TilePlan(height=HEIGHT, width=WIDTH, tile_height=9, tile_width=9, halo=PLAN.halo, at_once=3)
    with make(tmp_path) as run:
        run.begin(KEY, other)
        assert run.plan == replace(PLAN, at_once=3), "how many are read at a time is for this machine to say"


def test_without_a_key_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(Stopped), make(tmp_path) as run:  # noqa: PT012 - likewise
        run.begin(None, PLAN)
        run.put(PLAN[0], part_of(results(), PLAN[0].core))
        raise Stopped
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("key", [None, KEY])
def test_nothing_is_taken_from_a_run_that_is_not_gone_on_with(
    tmp_path: Path, key: dict[str, str] | None, *, restart: bool
) -> None:
    """Tiles of zeros are what a new file holds as well, so that their checksums would fit."""
    zeros = {name: np.zeros_like(values) for name, values in results().items()}
    put_and_be_killed(tmp_path, key, zeros)
    with make(tmp_path) as run:
        run.begin(key, PLAN, restart=restart)
        assert len(run.done) == (12 if key and not restart else 0)


def test_another_run_is_refused_and_stays(tmp_path: Path) -> None:
    put_and_stop(tmp_path, [2, 3])
    before = {path.name: path.read_bytes() for path in folder_of(tmp_path / "map.tif").iterdir()}
    other = KEY | {"the model": "1" * 64, "the device": "cuda"}
    says = "the model has changed; the device is new. Give the command"
    with pytest.raises(OutputError, match=says), make(tmp_path) as run:
        run.begin(other, PLAN)
    after = {path.name: path.read_bytes() for path in folder_of(tmp_path / "map.tif").iterdir()}
    assert after == before
    with make(tmp_path) as run:
        run.begin(other, PLAN, restart=True)
        assert run.done == set()


def test_where_another_device_was_found_the_options_that_go_on_are_named(tmp_path: Path) -> None:
    def begin(**now: str) -> None:
        with make(tmp_path) as run:
            run.begin(
                KEY | {"the device": "cpu"} | {name.replace("_", " "): value for name, value in now.items()}, PLAN
            )
            run.put(PLAN[0], part_of(results(), PLAN[0].core))

    begin()
    with pytest.raises(OutputError, match=r"is cuda now\. Give --precision float32 --device cpu to go on, or"):
        begin(the_precision="bfloat16", the_device="cuda")
    with pytest.raises(OutputError, match=r"Give the command that it was begun with to go on, or"):
        begin(the_model="1" * 64, the_device="cuda")


def test_nothing_is_recorded_once_the_guard_objects_and_nothing_is_kept(tmp_path: Path) -> None:
    def guard() -> None:
        if len(calls) > 1:
            raise SceneError("changed")
        calls.append(None)

    calls: list[None] = []
    with pytest.raises(SceneError), make(tmp_path, guard) as run:  # noqa: PT012 - likewise
        run.begin(KEY, PLAN)
        for tile in PLAN:
            run.put(tile, part_of(results(), tile.core))
            run.commit()
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_is_kept_where_the_guard_cannot_tell(tmp_path: Path) -> None:
    def guard() -> None:
        if len(calls) > 1:
            raise SceneOutOfReachError("away")
        calls.append(None)

    calls: list[None] = []
    with pytest.raises(SceneOutOfReachError), make(tmp_path, guard) as run:  # noqa: PT012 - likewise
        run.begin(KEY, PLAN)
        for tile in PLAN:
            run.put(tile, part_of(results(), tile.core))
            run.commit()
    with make(tmp_path) as run:
        run.begin(KEY, PLAN)
        assert run.done == {0, 1}


def test_what_could_not_be_read_is_remembered(tmp_path: Path) -> None:
    block = Window(row=0, col=8, height=8, width=8)
    with pytest.raises(Stopped), make(tmp_path) as run:  # noqa: PT012 - likewise
        run.begin(KEY, PLAN)
        run.put(PLAN[0], part_of(results(), PLAN[0].core), unreadable=[block])
        raise Stopped
    with make(tmp_path) as run:
        run.begin(KEY, PLAN)
        assert run.unreadable == {block}


def test_tiles_that_come_quickly_wait_for_the_disk_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def note(layer: RawLayer) -> None:
        synced.append(layer)

    monkeypatch.setattr(RawLayer, "sync", note)
    put_and_stop(tmp_path, list(range(12)))
    assert len(synced) == 2, "each layer once, at the end"
    monkeypatch.setattr(unfinished, "_SYNC_SECONDS", 0.0)
    with make(tmp_path) as run:
        run.begin(KEY, PLAN, restart=True)
        for tile in PLAN:
            run.put(tile, part_of(results(), tile.core))
            assert tile.index in run.done


def test_a_tile_is_recorded_once_its_pixels_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(call: str) -> Any:
        original = getattr(os, call)

        def note(file: int, *rest: Any) -> Any:
            calls.append(f"{call} {Path(f'/proc/self/fd/{file}').readlink().name}")
            return original(file, *rest)

        return note

    calls: list[str] = []
    with make(tmp_path) as run:
        run.begin(KEY, PLAN)
        for call in ("pwrite", "write", "fsync"):
            monkeypatch.setattr(os, call, noted(call))
        run.put(PLAN[0], part_of(results(), PLAN[0].core))
        run.commit()
        monkeypatch.undo()
    *pixels, line, synced = calls
    assert (line, synced) == ("write journal", "fsync journal")
    for name in ("class_map.raw", "p.raw"):
        assert pixels.index(f"fsync {name}") > pixels.index(f"pwrite {name}")


# ---- journals of others

numbers = st.integers(-2, 20) | st.booleans() | st.none() | st.floats(-9, 9) | st.text(max_size=2)
lines = st.fixed_dictionaries(
    {},
    optional={
        "tile": numbers,
        "checksums": st.dictionaries(st.sampled_from(["class_map", "probabilities", ""]), numbers) | numbers,
        "unreadable": st.lists(st.lists(numbers, max_size=5), max_size=2) | numbers,
        "publishes": st.lists(st.lists(numbers, max_size=2), max_size=2) | numbers,
    },
)
plans = (
    st.dictionaries(st.sampled_from(["height", "width", "tile_height", "tile_width", "abreast"]), numbers)
    | numbers
)
heads = st.fixed_dictionaries(
    {"key": st.just(KEY) | entries | numbers}, optional={"plan": plans, "memory": numbers}
)


@settings(max_examples=200, deadline=None, suppress_health_check=HERE)
@given(head=st.just(HEAD) | heads | entries, after=st.lists(lines, max_size=4))
@example(
    head=HEAD,
    after=[{"tile": index, "checksums": {}, "unreadable": []} for index in (-1, len(PLAN), None)]
    + [{"tile": 0, "checksums": {}, "unreadable": blocks} for blocks in (3, [[0, 0, 0, 4]], [[-1, 0, 4, 4]])],
)
@example(head=HEAD | {"plan": HEAD["plan"] | {"tile_width": 0}}, after=[{"tile": 0}])
def test_a_journal_that_somebody_made_up_claims_no_tile(
    head: journal.Entry, after: list[journal.Entry], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    place = folder_of(folder / "map.tif")
    place.mkdir()
    (place / "journal").write_bytes(b"\n".join(journal._line(json.loads(json.dumps(e))) for e in (head, *after)))
    (place / "p.raw").write_bytes(b"\x01" * 3000)
    try:
        with make(folder) as run:
            run.begin(KEY, PLAN)
            assert run.done == set()
            assert run.plan.height == HEIGHT
    except OutputError as refused:
        assert "--restart" in str(refused)  # noqa: PT017 - it need not be refused


def test_what_cannot_be_told_from_its_like_discards_no_work(tmp_path: Path) -> None:
    put_and_stop(tmp_path, [0, 1, 2])
    with pytest.raises(OutputError, match=r"was of something else \(tiles done: 3\)"), make(tmp_path) as run:
        run.begin(None, PLAN)
    with make(tmp_path) as run:
        run.begin(KEY, PLAN)
        assert run.done == {0, 1, 2}
    with make(tmp_path) as run:
        run.begin(None, PLAN, restart=True)
        assert run.done == set()
