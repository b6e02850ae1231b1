"""Progress: a bar with rate and time left on a terminal, quiet lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

import click
from tqdm import tqdm

_LOG_SECONDS = 30.0
"""Between two lines in a log."""


class PixelProgress:
    """Shows pixels done of pixels in all; give it as a callback, use it as a context."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` pixels are done."""
        if sys.stderr.isatty():
            self._draw(done, total)
        elif time.monotonic() - self._said >= _LOG_SECONDS:
            self._say(done, total)

    def restart(self) -> None:
        """Begin again from nothing, for the next scene."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
        self._started = self._said = time.monotonic()

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = tqdm(total=total, desc=self._what, unit="px", unit_scale=True, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def _say(self, done: int, total: int) -> None:
        self._said = time.monotonic()
        rate = done / (self._said - self._started)
        left = (total - done) / rate if rate else float("inf")
        click.echo(f"{self._what}: {100 * done / total:.0f} %, {rate:,.0f} pixels/s, {left:.0f} s left", err=True)
