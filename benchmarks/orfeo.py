"""cssd-geo beside what users would pick instead: Orfeo ToolBox's ImageClassifier, file to file, in one run.

python benchmarks/orfeo.py [--size 1024] [--bands 200]

A random forest of 100 trees with a confidence map, on the same scene (Debian: apt install otb-bin). The forest is
trained on a corner of each of 32 square fields; both programs write a class map and a confidence.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from rasterio.windows import Window

from cssd_geo.bench.made import untrained_model
from cssd_geo.bench.rates import machine_facts

CLASSES = 16
REPEATS = 3
FIELDS_ACROSS = 8
LABELLED = 10
"""Side length in pixels of what is labelled in a field: Orfeo takes minutes to read many labelled pixels."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bands", type=int, default=200)
    parser.add_argument("--size", type=int, default=1024, help="side length of the scene in pixels")
    options = parser.parse_args()
    if shutil.which("otbcli_ImageClassifier") is None:
        sys.exit("otbcli_ImageClassifier is not installed: nothing to compare with (Debian: apt install otb-bin)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene, labels = made(folder, options.bands, options.size)
        forest, model = folder / "forest.model", folder / "model.safetensors"
        run(["otbcli_TrainImagesClassifier", "-io.il", scene, "-io.vd", labels, "-io.out", forest, *FOREST])
        untrained_model(bands=options.bands, classes=CLASSES).save(model)
        words: dict[str, Sequence[Any]] = {"Orfeo ToolBox, random forest": orfeo(folder, scene, forest)}
        for precision in ("float32", "bfloat16") if machine_facts()["bfloat16"] else ("float32",):
            words[f"cssd-geo, {precision}"] = ours(folder, scene, model, precision)
        seconds: dict[str, list[float]] = {title: [] for title in words}
        for _ in range(REPEATS):  # taken in turns, so that a busy minute hits all of them
            for title, command in words.items():
                seconds[title].append(run(command))
    print(machine_facts())
    print(f"{options.size} x {options.size} pixels, {options.bands} bands, {CLASSES} classes; whole processes")
    rates = {title: options.size**2 / statistics.median(times) for title, times in seconds.items()}
    first = next(iter(rates.values()))
    for title, rate in rates.items():
        print(f"{title:<30} {rate:>12,.0f} pixels/s {rate / first:>6.2f} x")


FOREST = ["-sample.vfn", "class", "-classifier", "rf", "-classifier.rf.nbtrees", "100", "-classifier.rf.max", "15"]


def orfeo(folder: Path, scene: Path, forest: Path) -> Sequence[Any]:
    """Return the command that classifies with the forest."""
    outputs = ["-out", folder / "otb.tif", "uint8", "-confmap", folder / "otb_confidence.tif"]
    return ["otbcli_ImageClassifier", "-in", scene, "-model", forest, *outputs]


def ours(folder: Path, scene: Path, model: Path, precision: str) -> Sequence[Any]:
    """Return the command that classifies with the network."""
    outputs = ["-o", folder / "map.tif", "--confidence", folder / "confidence.tif", "--overwrite"]
    return [
        sys.executable,
        "-m",
        "cssd_geo.cli",
        "classify",
        scene,
        "-m",
        model,
        *outputs,
        "--precision",
        precision,
    ]


def run(words: Sequence[Any]) -> float:
    """Run a command to its end: seconds that it took."""
    started = time.perf_counter()
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, env=dict(os.environ))
    if done.returncode:
        sys.exit(f"{words[0]} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


def made(folder: Path, bands: int, size: int) -> tuple[Path, Path]:
    """Write a scene of square fields in 16 classes, and polygons in four rows of fields, two of each class."""
    random = np.random.default_rng(0)
    levels = 2000 + random.integers(0, 100, (CLASSES, bands))  # hard to tell apart, so trees grow to their depth
    field = size // FIELDS_ACROSS
    transform = Affine(4, 0, 600_000, 0, -4, 5_300_000)
    profile = {"driver": "GTiff", "count": bands, "height": size, "width": size, "dtype": "int16"}
    profile |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "pixel"}
    profile |= {"crs": "EPSG:32632", "transform": transform}
    shapes, classes = [], []
    with rasterio.open(folder / "scene.tif", "w", **profile) as dataset:
        for i, (row, col) in enumerate(np.ndindex(FIELDS_ACROSS, FIELDS_ACROSS)):
            noise = random.normal(0, 300, (bands, field, field))
            values = levels[i % CLASSES][:, None, None] + noise
            dataset.write(values.astype(np.int16), window=Window(col * field, row * field, field, field))
            left, top = transform @ (col * field, row * field)
            shapes.append(shapely.box(left, top - 4 * LABELLED, left + 4 * LABELLED, top))
            classes.append(i % CLASSES + 1)
    few = 2 * CLASSES
    pyogrio.raw.write(
        folder / "labels.shp",
        shapely.to_wkb(np.array(shapes[:few])),
        [np.array(classes[:few], np.int32)],
        fields=["class"],
        crs="EPSG:32632",
        geometry_type="Polygon",
    )
    return folder / "scene.tif", folder / "labels.shp"


if __name__ == "__main__":
    main()
