"""What takes the time of a run: how long each of its stages was at work, side by side in their threads."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_END: Any = object()


class Busy:
    """Seconds that stages were at work. Each stage works in one thread at a time.

    Attributes:
        seconds: of each stage, by its name.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self.seconds: dict[str, float] = {}

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Count what is done inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

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
