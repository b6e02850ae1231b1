"""Threads that are gone when the block that needed them ends."""

import ctypes
import sys
import time

import pytest

from cssd_geo.threads import Threads


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells which threads there are")
def test_what_libraries_free_when_a_thread_ends_is_freed_when_its_block_ends() -> None:
    """PROJ does that under a lock, for which a process that was forked off meanwhile waited for ever."""
    freed: list[int] = []

    def free(kept: int) -> None:
        time.sleep(0.2)
        freed.append(kept)

    system, key, at_the_end = ctypes.CDLL(None), ctypes.c_uint(), ctypes.CFUNCTYPE(None, ctypes.c_void_p)(free)
    assert system.pthread_key_create(ctypes.byref(key), at_the_end) == 0
    with Threads(1) as threads:
        assert threads.submit(system.pthread_setspecific, key, ctypes.c_void_p(5)).result() == 0
    assert freed == [5]
    assert system.pthread_key_delete(key) == 0
