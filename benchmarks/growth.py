"""Whether time a pixel and memory stay the same while scenes grow: `cssd-geo classify` on files without content.

    python benchmarks/growth.py [--sizes 2048 4096 8192] [--bands 200] [--memory 1GB] [--precision auto]

The scenes are sparse files: all zero, which costs the network what any values cost, and nothing on the disk. So
this says nothing about reading; `cssd-geo bench` does. 16384 is 107 GB of scene, and takes as many minutes as
268,000,000 pixels do. Rates are of whole processes; the second one is without what a scene of 64 x 64 takes.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from cssd_geo.bench.made import untrained_model
from cssd_geo.bench.rates import machine_facts, peak_of_a_run

_HEADER = """ENVI
samples = {size}
lines = {size}
bands = {bands}
data type = 2
interleave = bip
byte order = 0
map info = {{UTM, 1, 1, 600000, 5300000, 4, 4, 32, North, WGS-84}}
"""
_CLASSES = 16
_SMALL = 64
"""Side length of a scene that takes no longer than a process does to start and end."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[2048, 4096, 8192])
    parser.add_argument("--bands", type=int, default=200)
    for name, default in (("memory", "1GB"), ("precision", "auto")):
        parser.add_argument(f"--{name}", default=default)
    given = parser.parse_args()
    print(machine_facts())
    print(f"{given.bands} bands, {_CLASSES} classes, --memory {given.memory} --precision {given.precision}")
    print("side length      pixels/s  but for the start  peak memory")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        untrained_model(bands=given.bands, classes=_CLASSES).save(model)

        def seconds_and_peak(size: int) -> tuple[float, int]:
            scene = empty_scene(Path(folder) / f"{size}.bip", size, given.bands)
            started = time.perf_counter()
            words = ["classify", scene, "-m", model, "-o", scene.with_suffix(".tif"), "--device", "cpu"]
            peak = peak_of_a_run([*words, "--memory", given.memory, "--precision", given.precision])
            scene.unlink()
            return time.perf_counter() - started, peak

        start = statistics.median(seconds_and_peak(_SMALL)[0] for _ in range(3))
        for size in given.sizes:
            seconds, peak = seconds_and_peak(size)
            rates = (size * size / s for s in (seconds, seconds - start))
            print(f"{size:11,}", *(f"{rate:12,.0f}" for rate in rates), f"{peak / 1e9:15.2f} GB", flush=True)


def empty_scene(path: Path, size: int, bands: int) -> Path:
    """A square scene of zeros that takes no room."""
    path.with_suffix(".hdr").write_text(_HEADER.format(size=size, bands=bands))
    with path.open("wb") as file:
        file.truncate(size * size * bands * 2)
    return path


if __name__ == "__main__":
    main()
