"""How long stages were at work. Clocks are made up."""

from collections.abc import Iterator

import pytest

from cssd_geo.engine.busy import Busy


class Clock:
    """Stands still unless it is told to go on."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    def after(self, seconds: float) -> "Clock":
        self.now += seconds
        return self


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.perf_counter", clock)
    return clock


def test_stages_add_up_on_their_own(clock: Clock) -> None:
    busy = Busy()
    for seconds in (1, 2):
        with busy.at("reading"):
            clock.after(seconds)
        clock.after(5)
    with busy.at("computing"):
        clock.after(4)
    assert busy.seconds == {"reading": 3, "computing": 4}
    assert busy.shares(10) == {"reading": 0.3, "computing": 0.4}


def test_what_a_stage_does_side_by_side_counts_once(clock: Clock) -> None:
    busy = Busy()
    with busy.at("computing"):
        clock.after(1)
        with busy.at("computing"), busy.at("reading"):
            clock.after(2)
        clock.after(4)
    assert busy.seconds == {"computing": 7, "reading": 2}


def test_what_fails_counts_too(clock: Clock) -> None:
    def broken() -> Iterator[int]:
        clock.after(2)
        yield 1 // 0

    busy = Busy()
    with pytest.raises(ZeroDivisionError):
        next(busy.each("reading", broken()))
    assert busy.seconds == {"reading": 2}


def test_making_items_counts_and_using_them_does_not(clock: Clock) -> None:
    def slow() -> Iterator[int]:
        for item in range(3):
            clock.after(2)
            yield item
        clock.after(1)

    busy, items = Busy(), []
    for item in busy.each("reading", slow()):
        clock.after(100)
        items.append(item)
    assert items == [0, 1, 2]
    assert busy.seconds == {"reading": 7}


def test_a_share_is_no_more_than_all() -> None:
    busy = Busy()
    busy.seconds["writing"] = 2.0001
    assert busy.shares(2.0) == {"writing": 1.0}
