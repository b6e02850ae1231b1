"""Signals that ask a command to stop become an exception, so that it stops as it would after an error."""

import atexit
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal has asked the program to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        """What a shell expects."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` where a signal comes; the next one ends the program at once, whatever it waits for."""
    if threading.current_thread() is not threading.main_thread():  # only there can a signal be handled
        yield
        return
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # Python's own end would print a traceback
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def interrupt(number: int, _: FrameType | None) -> NoReturn:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    for number in _SIGNALS:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
