"""Pixels per second of CSSD on this machine: patch by patch, dense, and from file to file.

python benchmarks/rates.py [--bands 200] [--classes 16] [--size 512] [--tile-size 128]

Patch by patch is the cheapest honest form of it: batches of 64 windows with their halo, the spectral stage as a
matrix product. All rates come from one run, so that their ratios can be trusted on a noisy machine.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine

from cssd_geo.bands import Bands
from cssd_geo.calibration import Calibration
from cssd_geo.classes import ClassTable
from cssd_geo.classification import classify
from cssd_geo.model import Model
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import DEFAULT_TILE_SIZE

REPEATS = 3
BLOCK = 256


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bands", type=int, default=200)
    parser.add_argument("--classes", type=int, default=16)
    parser.add_argument("--size", type=int, default=512, help="side length of the scene in pixels")
    parser.add_argument("--tile-size", type=int, default=DEFAULT_TILE_SIZE)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = measure(options.bands, options.classes, options.size, options.tile_size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if options.json:
        print(json.dumps({"pixels_per_second": rates, "peak_bytes": peak}, indent=2))
        return
    print(f"CSSD, {options.bands} bands, {options.classes} classes, window 10, {torch.get_num_threads()} threads")
    for name, rate in rates.items():
        print(f"{name:<28} {rate:>12,.0f} pixels/s {rate / rates['patch by patch']:>8,.0f} x")
    print(f"peak memory {peak / 1e9:.1f} GB, GDAL's cache of blocks included")


def measure(bands: int, classes: int, size: int, tile_size: int) -> dict[str, float]:
    """Pixels per second, the median of a few runs of each."""
    torch.manual_seed(0)
    model = untrained(bands, classes)
    with tempfile.TemporaryDirectory() as folder:
        scene = write_scene(Path(folder) / "scene.tif", bands, size)
        return {
            "patch by patch": rate(lambda: patches(model.network, bands), 64),
            "dense, one tile of 128 x 128": rate(lambda: dense(model.network, bands), 128 * 128),
            "file to file, float32": rate(
                lambda: classify(scene, model, Path(folder) / "map.tif", tile_size=tile_size, overwrite=True),
                size * size,
            ),
        }


def rate(work: Callable[[], object], pixels: int) -> float:
    """Run once to warm up, then take the median."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return pixels / statistics.median(seconds)


@torch.inference_mode()
def patches(network: CSSD, bands: int) -> None:
    """Classify the centres of 64 windows."""
    side = network.config.receptive_field
    network(
        torch.randn(64, side, side, bands).permute(0, 3, 1, 2), torch.ones(64, 1, side, side, dtype=torch.bool)
    )


@torch.inference_mode()
def dense(network: CSSD, bands: int) -> None:
    """Classify a tile of 128 x 128."""
    side = 128 + network.halo.total
    network.dense(
        torch.randn(1, side, side, bands).permute(0, 3, 1, 2), torch.ones(1, 1, side, side, dtype=torch.bool)
    )


def untrained(bands: int, classes: int) -> Model:
    """A model with random weights: as fast as a trained one."""
    return Model(
        network=CSSD(NetworkConfig(bands=bands, classes=classes)).eval(),
        bands=Bands(good=(True,) * bands),
        mean=np.full(bands, 2000.0),
        std=np.full(bands, 800.0),
        classes=ClassTable.from_names([f"class {i}" for i in range(classes)]),
        calibration=Calibration(),
        provenance={},
    )


def write_scene(path: Path, bands: int, size: int) -> Path:
    """A GeoTIFF of noisy reflectances, tiled and deflated as products are; written block by block."""
    random = np.random.default_rng(0)
    profile = {"driver": "GTiff", "count": bands, "height": size, "width": size, "dtype": "int16", "nodata": -9999}
    profile |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate", "predictor": 2}
    profile |= {"interleave": "pixel", "crs": "EPSG:32632", "transform": Affine(4, 0, 600_000, 0, -4, 5_300_000)}
    with rasterio.open(path, "w", **profile) as dataset:
        for _, window in dataset.block_windows(1):
            level = random.integers(500, 4000, (bands, 1, 1), np.int16)
            noise = random.integers(-60, 60, (bands, window.height, window.width), np.int16)
            dataset.write(level + noise, window=window)
    return path


if __name__ == "__main__":
    main()
