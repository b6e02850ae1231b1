"""What reading one window costs in each way, in milliseconds: rasterio alone, a scene, its xarray cube.

python benchmarks/windows.py [--bands 200] [--side 64]

Windows at random places of an uncompressed GeoTIFF in memory's reach; rioxarray stands beside for comparison.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import rioxarray
from rasterio.windows import Window as RasterioWindow

from cssd_geo.bench.made import made_scene
from cssd_geo.bench.rates import machine_facts
from cssd_geo.products import open_scene
from cssd_geo.tiles import Window

SIZE, WINDOWS = 1024, 60


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bands", type=int, default=200)
    parser.add_argument("--side", type=int, default=64, help="side length of a window in pixels")
    options = parser.parse_args()
    side, every = options.side, np.arange(options.bands)
    corners = np.random.default_rng(0).integers(0, SIZE - side, (WINDOWS, 2)).tolist()
    with tempfile.TemporaryDirectory() as name:
        path = made_scene(Path(name) / "s.tif", "tiff", bands=options.bands, size=SIZE)
        scene = open_scene(path)
        with rasterio.open(path) as dataset, rioxarray.open_rasterio(path, chunks=True) as chunked:
            ways: dict[str, Callable[[int, int], object]] = {
                "rasterio": lambda y, x: dataset.read(window=RasterioWindow(x, y, side, side)),
                "Scene.read, with valid pixels": lambda y, x: scene.read(
                    Window(row=y, col=x, height=side, width=side), every
                ),
                "Scene.cube[...].compute()": lambda y, x: scene.cube[:, y : y + side, x : x + side].compute(),
                "rioxarray, chunks=True": lambda y, x: chunked[:, y : y + side, x : x + side].compute(),
            }
            each = {title: milliseconds(read, corners) for title, read in ways.items()}
    print(machine_facts())
    print(f"windows of {side} x {side} pixels, {options.bands} bands")
    for title, cost in each.items():
        print(f"{title:<32} {cost:>8.2f} ms {cost / each['rasterio']:>6.1f} x")


def milliseconds(read: Callable[[int, int], object], corners: list[list[int]]) -> float:
    """Median time of a window."""
    seconds = []
    for y, x in corners:
        started = time.perf_counter()
        read(y, x)
        seconds.append(time.perf_counter() - started)
    return 1e3 * statistics.median(seconds)


if __name__ == "__main__":
    main()
