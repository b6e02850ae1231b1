"""What takes the time of a tile on a GPU: the way there, each stage of the network, and the way back.

    python benchmarks/gpu_stages.py [--bands 200] [--classes 16] [--precision bfloat16] [--repeats 9]

Stages are timed by events in the GPU's queue, launch by launch: where Python is late with what comes next, that
counts too. Runs record them once and start them as a whole.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cssd_geo.bench.made import made_scene, untrained_model
from cssd_geo.bench.rates import machine_facts
from cssd_geo.compute import strips
from cssd_geo.compute.pooling import Pooling
from cssd_geo.compute.strips import Strips
from cssd_geo.engine import inference
from cssd_geo.engine.devices import choose_device, choose_precision
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.options import PRECISIONS
from cssd_geo.products import open_scene
from cssd_geo.tiles import Window

STAGES: dict[str, tuple[Any, str]] = {
    "the whole network": (Strips, "__call__"),
    "  bands to features": (Strips, "_look_at_spectra"),
    "  attention, dilation, convolutions": (Strips, "_vote"),
    "    of these the dilation": (strips, "dilate"),
    "  features of one length": (Strips, "_units"),
    "  pooling": (Pooling, "__call__"),
    "classes and confidence": (TileClassifier, "_found"),
    "the way back": (inference, "_put"),
}
"""Functions that are timed, by what they do."""
SIZES = ((256, 1024), (256, 2048), (1024, 1024))
"""Of tiles, in pixels."""


def main() -> None:
    """Time each stage for tiles of several sizes and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("bands", 200), ("classes", 16), ("repeats", 9)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    given = parser.parse_args()
    device = choose_device("cuda")
    precision = choose_precision(given.precision, device)
    print(machine_facts(device))
    with tempfile.TemporaryDirectory() as folder:
        scene = open_scene(made_scene(Path(folder) / "s.tif", "tiff", bands=given.bands, size=2304))
        model = untrained_model(bands=given.bands, classes=given.classes)
        classifier = TileClassifier(model, scene, device, precision)
        for height, width in SIZES:
            core = Window(row=64, col=64, height=height, width=width)
            tile = scene.read(core.grow(classifier.halo), classifier.bands)
            runs = [seconds_of(classifier, *tile) for _ in range(given.repeats + 2)][2:]  # two to warm up
            print(f"\n{height} x {width} pixels, {given.bands} bands, {given.classes} classes, {precision}")
            for name in runs[0]:
                seconds = statistics.median(run[name] for run in runs)
                print(f"{name:<36} {1e3 * seconds:7.2f} ms {core.pixels / seconds / 1e6:8,.1f} million pixels/s")


def seconds_of(classifier: TileClassifier, values: Any, valid: Any) -> dict[str, float]:
    """Seconds of each stage of one tile."""
    started = time.perf_counter()
    there = classifier.load(values, valid, valid.shape, at=(0, 0))
    loaded = time.perf_counter()
    with events() as stages:
        classifier.classify(there)
    ended = time.perf_counter()
    seconds = {"to the GPU, by pinned memory": loaded - started, "classified, in all": ended - loaded}
    return seconds | {
        name: sum(begin.elapsed_time(end) for begin, end in pairs) / 1e3 for name, pairs in stages.items()
    }


@contextmanager
def events() -> Iterator[dict[str, list[Any]]]:
    """Put an event before and after each call of a stage."""
    pairs: dict[str, list[Any]] = {name: [] for name in STAGES}
    plain = {name: getattr(owner, function) for name, (owner, function) in STAGES.items()}

    def timed(name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            pairs[name].append((begin, end))
            begin.record()
            try:
                return plain[name](*args, **options)
            finally:
                end.record()

        return call

    for name, (owner, function) in STAGES.items():
        setattr(owner, function, timed(name))
    try:
        yield pairs
        torch.cuda.synchronize()
    finally:
        for name, (owner, function) in STAGES.items():
            setattr(owner, function, plain[name])


if __name__ == "__main__":
    main()
