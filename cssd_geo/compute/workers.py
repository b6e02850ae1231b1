"""Threads that compute side by side, each on its own part with its share of the processors.

Torch's own threads wait for each other in every operation. Whatever else runs for a moment, such as the reading of
the next tile, holds up all of them: half the rate was seen. Threads that wait for nothing lose no more than that.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, CancelledError, ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier, Lock
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_MOST = 4
"""Each takes working memory; on larger machines each has several of torch's threads."""
_making = Lock()
"""Held while threads are made: tiles that begin at the same time share them, and their working memory."""


def threads_for(parts: int) -> int:
    """How many of so many parts are computed at a time: one for each of torch's threads, but not too many."""
    return max(1, min(torch.get_num_threads(), _MOST, parts))


def run_side_by_side(work: Callable[[T], R], parts: Iterable[T], at_once: int) -> list[R]:
    """Do the work for all parts, so many at a time, and return the results in the order of the parts.

    The first error is raised at once: parts not yet started are dropped, running ones finish unobserved. A part
    that stopped because of another raises CancelledError; the other's error is raised instead.
    """
    if at_once == 1:
        return [work(part) for part in parts]
    with _making:
        pool = _pool(at_once, max(1, torch.get_num_threads() // at_once), os.getpid())
    waiting = [pool.submit(work, part) for part in parts]
    try:
        ended = wait(waiting, return_when=FIRST_EXCEPTION).done
        for part in sorted(ended, key=lambda part: isinstance(part.exception(), CancelledError)):
            part.result()
        return [part.result() for part in waiting]
    finally:
        for part in waiting:
            part.cancel()


@cache
def _pool(count: int, threads_each: int, _process: int) -> ThreadPoolExecutor:
    """Threads of this process with so many of torch's threads each, a setting that dies with a thread."""
    pool, usual, there = ThreadPoolExecutor(count, "cssd-geo"), torch.get_num_threads(), Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # what a thread is told before it has first asked, it forgets
        torch.set_num_threads(threads_each)
        there.wait()

    try:
        for _ in range(count):
            pool.submit(begin)
        there.wait()
    except BaseException:
        there.abort()  # else those that began would wait for the others for ever, and the program for them
        raise
    finally:
        torch.set_num_threads(usual)  # else threads that come later would take over those of the pool
    return pool
