"""Threads side by side: all parts are done, errors come through, and torch's settings stay those of the user."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from threading import Event

import pytest
import torch

from cssd_geo.compute import workers
from cssd_geo.compute.workers import run_side_by_side, threads_for


@pytest.fixture(params=[1, 2, 4, 6])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(usual)


def test_all_parts_are_done_once(threads: int) -> None:
    done: list[int] = []
    run_side_by_side(done.append, range(100), threads_for(100))
    assert sorted(done) == list(range(100))
    assert threads_for(100) == min(threads, 4)
    assert threads_for(1) == threads_for(0) == 1


def test_the_threads_share_the_processors(threads: int) -> None:
    at_once = threads_for(2)
    meet, seen = threading.Barrier(at_once), set()

    def note(_: int) -> None:
        meet.wait()  # so that each thread does a part
        seen.add((threading.get_ident(), torch.get_num_threads()))

    run_side_by_side(note, range(at_once), at_once)
    assert len(seen) == at_once
    assert {each for _, each in seen} == {threads // at_once}


def test_the_users_threads_keep_their_settings(threads: int) -> None:
    run_side_by_side(lambda _: None, range(8), threads_for(8))
    assert torch.get_num_threads() == threads
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [threads]


@pytest.mark.parametrize("at_once", [1, 3])
def test_an_error_of_any_part_is_raised(at_once: int) -> None:
    def work(part: int) -> None:
        if part == 5:
            raise KeyError(part)

    with pytest.raises(KeyError, match="5"):
        run_side_by_side(work, range(9), at_once)


@pytest.mark.usefixtures("threads")
def test_results_come_in_the_order_of_the_parts() -> None:
    assert run_side_by_side(lambda part: part**2, range(20), threads_for(20)) == [part**2 for part in range(20)]


def test_an_error_comes_before_those_that_follow_from_it() -> None:
    failed = Event()

    def work(part: int) -> None:
        if part:
            failed.wait(60)
            raise CancelledError("because of the other one")
        failed.set()
        raise KeyError("the reason")

    for _ in range(200):
        failed.clear()
        with pytest.raises(KeyError, match="the reason"):
            run_side_by_side(work, range(4), 4)


def test_an_error_does_not_wait_for_parts_before_it() -> None:
    over, begun = threading.Event(), list[int]()

    def work(part: int) -> None:
        begun.append(part)
        if part == 1:
            raise KeyError(part)
        over.wait(60)

    try:
        with pytest.raises(KeyError, match="1"):
            run_side_by_side(work, range(9), 2)
        assert not over.is_set()
        assert len(begun) < 9, "what has not begun is not done"
    finally:
        over.set()


def test_no_more_threads_than_memory_is_counted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 96)
    assert threads_for(1000) == 4


def test_where_a_thread_cannot_be_started_none_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    start, before = threading.Thread.start, threading.active_count()
    begun: list[threading.Thread] = []

    def some(thread: threading.Thread) -> None:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", some)
    with pytest.raises(RuntimeError, match="can't start"):
        workers._pool.__wrapped__(3, 1, 0)
    gc.collect()
    begun[0].join(10)
    assert threading.active_count() == before
