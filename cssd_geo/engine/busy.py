"""What takes the time of a run: how long each of its stages was at work, side by side in their threads."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")

_END: Any = object()


class Busy:
    """Seconds that stages were at work, in whatever thread. What a stage does side by side counts once.

    Attributes:
        seconds: of each stage, by its name.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.seconds: dict[str, float] = {}
        self._at_work: Counter[str] = Counter()
        self._since: dict[str, float] = {}
        self._lock = Lock()

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Count what is done inside."""
        with self._lock:
            self._at_work[stage] += 1
            self.seconds.setdefault(stage, 0.0)
            if self._at_work[stage] == 1:
                self._since[stage] = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._at_work[stage] -= 1
                if not self._at_work[stage]:
                    self.seconds[stage] += time.perf_counter() - self._since[stage]

    def each(self, stage: str, items: Iterator[T]) -> Iterator[T]:
        """Yield items; making them counts, what becomes of them does not."""
        while True:
            with self.at(stage):
                item = next(items, _END)
            if item is _END:
                return
            yield item
            del item  # before the next one is made, so that it can be freed

    def shares(self, seconds: float) -> dict[str, float]:
        """Shares of so many seconds, 0 to 1."""
        return {stage: spent / max(seconds, spent, 1e-9) for stage, spent in self.seconds.items()}
