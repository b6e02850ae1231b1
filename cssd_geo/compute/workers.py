"""Threads that compute side by side, each on its own part with its share of the processors.

Torch's own threads wait for each other in every operation. Whatever else runs for a moment, such as the reading of
the next tile, holds up all of them: half the rate was seen. Threads that wait for nothing lose no more than that.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")

_MOST = 4
"""Each takes working memory; on larger machines each has several of torch's threads."""


def threads_for(parts: int) -> int:
    """How many of so many parts are computed at a time: one for each of torch's threads, but not too many."""
    return max(1, min(torch.get_num_threads(), _MOST, parts))


def run_side_by_side(work: Callable[[T], None], parts: Iterable[T], at_once: int) -> None:
    """Do the work for all parts, so many at a time; an error of any is raised."""
    if at_once == 1:
        for part in parts:
            work(part)
    else:
        pool = _pool(at_once, max(1, torch.get_num_threads() // at_once), os.getpid())
        for _ in pool.map(work, parts):
            pass


@cache
def _pool(count: int, threads_each: int, _process: int) -> ThreadPoolExecutor:
    """Threads of this process with so many of torch's threads each, a setting that dies with a thread."""
    pool, usual, there = ThreadPoolExecutor(count, "cssd-geo"), torch.get_num_threads(), Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # what a thread is told before it has first asked, it forgets
        torch.set_num_threads(threads_each)
        there.wait()

    for _ in range(count):
        pool.submit(begin)
    there.wait()
    torch.set_num_threads(usual)  # else threads that come later would take over those of the pool
    return pool
