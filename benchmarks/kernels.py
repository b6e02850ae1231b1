"""What the compiled loops gain over torch, for each generation of processors: all in turns, in one run.

python benchmarks/kernels.py [--side 512] [--repeats 7]
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch

from cssd_geo.bench.made import untrained_model
from cssd_geo.bench.rates import machine_facts
from cssd_geo.compute import kernels
from cssd_geo.dense import DenseNetwork

BANDS, CLASSES = 200, 16
TYPES = (torch.float32, torch.bfloat16)
_WITHOUT = "none, by torch"


def main() -> None:
    """Measure a tile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=512, help="of the tile, in pixels")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    print(machine_facts())
    if not kernels.compiled():
        raise SystemExit("there are no compiled kernels: install the package where a C++ compiler is")
    for kind in TYPES:
        rates = network_rates(kind, options.side, options.repeats)
        shown = (f"{name} {rate:,.0f} ({rate / rates[_WITHOUT]:.2f} x)" for name, rate in rates.items())
        print(f"dense, {kind}, pixels/s by kernels for:", ", ".join(shown))


def network_rates(kind: torch.dtype, side: int, repeats: int) -> dict[str, float]:
    """Pixels/s of a tile with the kernels for each generation of processors that this one can run, and without."""
    network = untrained_model(bands=BANDS, classes=CLASSES).network
    gain, bias = torch.full((BANDS,), 1 / 800), torch.full((BANDS,), -2.5)
    padded = side + network.config.halo.total
    stored = torch.randint(0, 4000, (BANDS, padded, padded), dtype=torch.int16)
    valid = torch.ones(padded, padded, dtype=torch.bool)

    def by(library: Any) -> Callable[[], None]:
        classify = DenseNetwork(network, gain, bias, dtype=kind, device=torch.device("cpu"))  # keeps its panels

        def work() -> None:
            with mock.patch.object(kernels, "_LIBRARY", library):
                classify(stored, valid)

        return work

    libraries = {name.lstrip("_") or "any x86": kernels.load(name) for name in kernels.generations()}
    ways = [by(library) for library in (*libraries.values(), None)]
    return {name: side * side / t for name, t in zip((*libraries, _WITHOUT), in_turns(ways, repeats), strict=True)}


def in_turns(ways: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of each, the median of so many rounds."""
    for way in ways:
        way()
    rounds = []
    for _ in range(repeats):
        seconds = []
        for way in ways:
            started = time.perf_counter()
            way()
            seconds.append(time.perf_counter() - started)
        rounds.append(seconds)
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


if __name__ == "__main__":
    main()
