"""The cluster that a command is to compute on, if any."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cssd_geo.cli.terminal import say_note
from cssd_geo.errors import ClusterError

_WAIT = 30
"""Seconds that a scheduler has to write its file, as many as Dask gives it to answer."""
_LOOK_AGAIN = 0.2
"""Seconds between two looks."""


@contextmanager
def client_of(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    """Connect as `cluster.connected` does; None where neither a scheduler nor workers are asked for.

    Raises:
        ClusterError: also if a scheduler file does not appear, for which Dask would wait without end.
    """
    if scheduler is None and workers is None:
        yield None
        return
    from cssd_geo.engine.cluster import connected

    if scheduler is not None and scheduler.endswith(".json"):
        _await_file(Path(scheduler))
    with connected(scheduler, workers) as client:
        yield client


def _await_file(path: Path) -> None:
    ends = time.monotonic() + _WAIT
    if not path.exists():
        say_note(f"{path} is not there: waiting {_WAIT} seconds for a scheduler to write it.")
    while not path.exists():
        if time.monotonic() >= ends:
            raise ClusterError(
                f"no scheduler has written {path} in {_WAIT} seconds: check the path, and that a scheduler runs "
                f"(dask scheduler --scheduler-file {path})"
            )
        time.sleep(_LOOK_AGAIN)
