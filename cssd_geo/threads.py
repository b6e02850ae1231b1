"""Threads that are gone when the block that needed them ends."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_native_id

_MOST_SECONDS = 1.0
"""To wait for a thread, which takes microseconds: in case that its number has been given to another one."""


class Threads(ThreadPoolExecutor):
    """`with Threads(2) as threads:` leaves no thread behind, not even one that is about to end.

    Python before 3.13 waits for its own part of a thread only. What libraries keep for each thread is freed after
    that, and PROJ does so holding a lock: a process that is forked off at that moment would wait for it for ever.
    """

    def __init__(self, count: int) -> None:
        self._tasks: list[Path] = []
        super().__init__(count, initializer=self._note)

    def _note(self) -> None:
        self._tasks.append(Path(f"/proc/self/task/{get_native_id()}"))  # there as long as the thread, on Linux

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - as there
        """Let no more work in; wait for what is there and until its threads are gone."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        end = time.monotonic() + _MOST_SECONDS
        while wait and any(task.exists() for task in self._tasks) and time.monotonic() < end:
            time.sleep(1e-4)
