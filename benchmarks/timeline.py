"""Where the time of a run goes: until the first tile is there, for the others, and for the rasters at the end.

    python benchmarks/timeline.py [--layout tiff] [--size 4096] [--bands 200] [--classes 16] [--device auto]

Reading alone is measured after each run. On a GPU the process's first run, which is not shown, starts it up.
"""

import argparse
import statistics
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

from cssd_geo.bench.made import LAYOUTS, made_scene, untrained_model
from cssd_geo.bench.rates import machine_facts
from cssd_geo.classification import classify
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.engine.streaming import one_ahead, read_tiles, this_machine
from cssd_geo.model import Model
from cssd_geo.options import DEVICES
from cssd_geo.products import open_scene


def main() -> None:
    """Run several times and print each part's median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=LAYOUTS, default="tiff")
    for name, default in (("size", 4096), ("bands", 200), ("classes", 16), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    given = parser.parse_args()
    here, model = this_machine(given.device, "auto"), untrained_model(bands=given.bands, classes=given.classes)
    print(machine_facts(here.device))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"scene.{LAYOUTS[given.layout]['driver']}"
        made_scene(path, given.layout, bands=given.bands, size=given.size)
        scene = open_scene(path)
        classifier = TileClassifier(model, scene, here.device, here.precision)
        plan, pixels = classifier.plan(scene), given.size**2
        print(f"tiles of {plan.tile_height} x {plan.tile_width} pixels, {plan.at_once} read at a time")
        runs = []
        for _ in range(given.repeats + 1):
            parts = seconds_of_a_run(path, model, given.device)
            started = time.perf_counter()
            deque(one_ahead(read_tiles(scene, plan, classifier.bands)), maxlen=0)
            runs.append(parts | {"reading alone": time.perf_counter() - started})
    for name in runs[0]:
        seconds = statistics.median(run[name] for run in runs[1:])
        rate = f"{pixels / seconds / 1e6:9,.2f} million pixels/s" if seconds else "     none"
        print(f"{name:<18} {seconds:7.2f} s {rate}")


def seconds_of_a_run(path: Path, model: Model, device: str) -> dict[str, float]:
    """Seconds of each part of a run that writes class map and confidence."""
    ticks: list[float] = []
    files: dict[str, Any] = {"output": path.parent / "map.tif", "confidence": path.parent / "confidence.tif"}
    started = time.perf_counter()
    classify(
        path, model, **files, device=device, overwrite=True, on_tile=lambda *_: ticks.append(time.perf_counter())
    )
    ended = time.perf_counter()
    return {
        "the whole run": ended - started,
        "the first tile": ticks[0] - started,
        "the other tiles": ticks[-1] - ticks[0],
        "the rasters": ended - ticks[-1],
    }


if __name__ == "__main__":
    main()
