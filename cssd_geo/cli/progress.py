"""Progress: a bar with rate and time left on a terminal, quiet lines elsewhere."""

import sys
import time
from typing import TYPE_CHECKING, Any, Self

from tqdm import tqdm

from cssd_geo.cli.terminal import say

if TYPE_CHECKING:
    from cssd_geo.learning.fitting import Epoch

_LOG_SECONDS = 30.0
"""Time between two lines in a log."""
_OUTPUTS = "making the outputs"
"""What follows the last tile: minutes where maps have billions of pixels."""
_TESTS = "testing on what was held out"
"""What follows the last epoch: minutes for a support vector machine where classes or pixels are many."""


class _Progress:
    """A bar that is closed where the context ends; none before the first call, or in a log."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        """End the bar, so that what is said next begins a line of its own."""
        if self._bar is not None:
            self._bar.close()


class PixelProgress(_Progress):
    """Shows pixels done of pixels in all; give it as a callback, use it as a context."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what
        self._before: int | None = 0

    def go_on(self, tiles: int, total: int) -> None:
        """Say that so many of all tiles were done before."""
        then = f", {_OUTPUTS}" if tiles == total else ""
        say(f"{self._what} goes on with an unfinished run: {tiles} of {total} tiles are done{then}", err=True)
        self._before = None

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` pixels are done."""
        if self._before is None:  # the rate is of what comes from now on
            self._before, self._started = done, time.monotonic()
            self._said = self._started
        if _on_a_terminal():
            self._draw(done, total)
        elif done == total and self._said > self._started:
            say(f"{self._what}: 100 %, {_OUTPUTS}", err=True)
        elif time.monotonic() - self._said >= _LOG_SECONDS:
            self._say(done, total)

    def restart(self) -> None:
        """Begin again from nothing, for the next scene."""
        self._close()
        self._bar, self._before = None, 0
        self._started = self._said = time.monotonic()

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:
            options = {"unit": "px", "unit_scale": True, "dynamic_ncols": True, "initial": self._before}
            self._bar = tqdm(total=total, desc=self._what, **options)
        self._bar.update(done - self._bar.n)
        if done == total:
            self._bar.set_postfix_str(_OUTPUTS)

    def _say(self, done: int, total: int) -> None:
        self._said = time.monotonic()
        rate = (done - (self._before or 0)) / (self._said - self._started)
        left = (total - done) / rate
        say(f"{self._what}: {100 * done / total:.0f} %, {rate:,.0f} pixels/s, {left:.0f} s left", err=True)


class EpochProgress(_Progress):
    """Shows how far all trainings together are; give it as a callback, use it as a context."""

    def __init__(self) -> None:
        super().__init__()
        self._epochs = self._windows = 0

    def __call__(self, epoch: "Epoch") -> None:
        """Show that one more epoch of one of them is done."""
        self._epochs, self._windows = self._epochs + 1, self._windows + epoch.windows
        begins_or_ends = epoch.number == 1 or self._epochs == epoch.runs * epoch.epochs
        if _on_a_terminal():
            self._draw(epoch)
        elif begins_or_ends or time.monotonic() - self._said >= _LOG_SECONDS:
            self._say(epoch)
        if epoch.runs > 1 and self._epochs == epoch.runs * epoch.epochs:
            say(_TESTS, err=True)

    def _draw(self, epoch: "Epoch") -> None:
        if self._bar is None:
            what = "train" if epoch.runs == 1 else f"train {epoch.runs} models"
            shape = "{l_bar}{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}<{remaining}{postfix}]"
            total = epoch.runs * epoch.epochs
            self._bar = tqdm(total=total, desc=what, bar_format=shape, dynamic_ncols=True)
        self._bar.set_postfix_str(f"{self._rate():.0f} windows/s, loss {epoch.loss:.2f}", refresh=False)
        self._bar.update()
        if self._epochs == self._bar.total:
            self._close()

    def _say(self, epoch: "Epoch") -> None:
        self._said = time.monotonic()
        left = (epoch.runs * epoch.epochs / self._epochs - 1) * (self._said - self._started)
        which = "all labels" if epoch.run == 1 else f"fold {epoch.run - 1}/{epoch.runs - 1}"
        number = f"epoch {epoch.number:>3}/{epoch.epochs}"
        state = f"loss {epoch.loss:.3f}, {100 * epoch.accuracy:.1f} % of training windows right"
        say(f"{which:<10}  {number}  {state}, {self._rate():.0f} windows/s, {left:.0f} s left", err=True)

    def _rate(self) -> float:
        """Windows per second, of all trainings together."""
        return self._windows / max(time.monotonic() - self._started, 1e-9)


def _on_a_terminal() -> bool:
    """Whether a person sees what is said; a program whose standard error is closed has none at all."""
    return sys.stderr is not None and sys.stderr.isatty()
