"""How a cluster scales: pixels/s with 1, 2 and 4 worker processes, and tiles/s that the scheduler can hand out.

    python benchmarks/scaling.py [--size 1024] [--bands 100] [--repeats 3]

The second part simulates workers: tiles that wait for a time instead of being computed, in so many threads that
the scheduler is the limit, not the cores.
"""

import argparse
import tempfile
import time
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from distributed import Client, LocalCluster

from cssd_geo.bench.made import made_scene, untrained_model
from cssd_geo.classification import classify
from cssd_geo.engine.cluster import Cluster, connected
from cssd_geo.engine.inference import TileResult
from cssd_geo.scenes.sources import LEAST_CACHE
from cssd_geo.tiles import TilePlan


class Sleeper:
    """Takes the place of a classifier: waits as long as a tile would take elsewhere."""

    bands = np.arange(1)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def on(self, device: torch.device) -> "Sleeper":  # noqa: ARG002 - a classifier's signature
        """Stay here."""
        return self

    def __call__(self, *tile: Any, parts: Any = ()) -> TileResult:  # noqa: ARG002 - likewise
        """Wait, and give back a tile's worth of bytes."""
        time.sleep(self._seconds)
        small = np.zeros((256, 2048), np.uint8)
        return TileResult(class_map=small, confidence=small, disagreement=None, probabilities=None)


class Nothing:
    """Takes the place of a scene: no pixel is read."""

    def room(self, *window: Any) -> tuple[Any, Any]:  # noqa: ARG002 - a scene's signature
        """Make nothing."""
        return None, None

    def read_into(self, *tile: Any) -> None:
        """Read nothing."""


def real_rates(folder: Path, *, size: int, bands: int, repeats: int) -> None:
    """Print pixels/s of `classify` on a cluster of this machine."""
    scene = made_scene(folder / "scene.tif", "tiff", bands=bands, size=size)
    model, target = untrained_model(bands=bands, classes=16), folder / "map.tif"
    first = None
    for workers in (1, 2, 4):
        with connected(None, workers) as client:
            rates = []
            for _ in range(repeats + 1):  # the first is for starting up
                done = classify(
                    scene, model, target, client=client, tile_size=256, precision="float32", overwrite=True
                )
                rates.append(size * size / done.seconds)
        rate = median(rates[1:])
        first = first or rate
        print(f"{workers} workers: {rate:10,.0f} pixels/s  {rate / first:5.2f} times one")


def scheduler_rates(repeats: int) -> None:
    """Print tiles/s that are handed out and come back with 1 MB each, where computing takes no core."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=100, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        for seconds in (0.0, 0.2, 1.0):
            tiles = 400 if seconds < 1 else 1000
            rate = median(tiles / _seconds(client, seconds, tiles) for _ in range(repeats))
            ideal = f"{200 / seconds:,.0f} would be ideal" if seconds else "nothing to wait for"
            print(f"tiles of {seconds:.1f} s in 200 threads: {rate:8,.0f} tiles/s  ({ideal})")


def _seconds(client: Client, cost: float, tiles: int) -> float:
    cluster = Cluster(
        client=client,
        device=torch.device("cpu"),
        precision=torch.float32,
        contents={},
        seen_by=frozenset(client.nthreads()),
        cache_bytes=LEAST_CACHE,
    )
    plan = TilePlan(height=tiles, width=1, tile_height=1, tile_width=1)
    started = time.perf_counter()
    classifier: Any = Sleeper(cost)
    deque(cluster.results(classifier, Nothing(), plan), maxlen=0)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("size", 1024), ("bands", 100), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        real_rates(Path(folder), size=given.size, bands=given.bands, repeats=given.repeats)
    scheduler_rates(given.repeats)


if __name__ == "__main__":
    main()
