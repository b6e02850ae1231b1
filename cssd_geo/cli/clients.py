"""The cluster that a command is to compute on, if any."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def client_of(scheduler: str | None, workers: int | None) -> Iterator[Any]:
    """Connect as `cluster.connected` does; None where neither a scheduler nor workers are asked for."""
    if scheduler is None and workers is None:
        yield None
        return
    from cssd_geo.engine.cluster import connected

    with connected(scheduler, workers) as client:
        yield client
