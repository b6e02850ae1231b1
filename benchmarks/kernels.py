"""What the compiled kernels gain, and what torch.compile would: all in turns, in one run.

python benchmarks/kernels.py [--side 512] [--repeats 7]

The last part needs a C++ compiler: attention, gate and nine-shift dilation on one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from cssd_geo.bench.made import untrained_model
from cssd_geo.bench.rates import machine_facts
from cssd_geo.compute import kernels
from cssd_geo.compute.dilation import dilate
from cssd_geo.compute.projection import Projection, project
from cssd_geo.dense import DenseNetwork

BANDS, CLASSES = 200, 16
ROWS, COLUMNS, FEATURES = 30, 271, 256
TYPES = (torch.float32, torch.bfloat16)
_WITHOUT = "none, by torch"


def main() -> None:
    """Measure a tile, then a band of rows as the network takes it."""
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
    torch.set_num_threads(1)
    for kind in TYPES:
        times = refinement(kind, options.repeats)
        print(f"refinement, {kind}, µs a pixel:", ", ".join(f"{name} {t:.3f}" for name, t in times.items()))


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


@torch.inference_mode()
def refinement(kind: torch.dtype, repeats: int) -> dict[str, float]:
    """Microseconds a pixel, by torch, by the kernels and by torch.compile where it works."""
    features, attended = (torch.randn(ROWS, COLUMNS, FEATURES).to(kind) for _ in range(2))
    weight, bias, element = torch.randn(FEATURES, FEATURES) / FEATURES, torch.randn(FEATURES), torch.rand(3, 3)
    attention = Projection(weight, bias, then="gate", dtype=kind, device=torch.device("cpu"))
    weight, bias, element = (each.to(kind) for each in (weight, bias, element))
    out = features.new_empty(ROWS - 2, COLUMNS - 2, FEATURES)

    def by_kernels() -> None:
        attention(features, attended)
        dilate(attended[None].permute(0, 3, 1, 2), element, out[None].permute(0, 3, 1, 2))

    def by_torch() -> None:
        with mock.patch.object(kernels, "_LIBRARY", None):
            by_kernels()

    fused: Any = torch.compile(refined, dynamic=False)
    ways: dict[str, Callable[[], object]] = {"torch": by_torch, "kernels": by_kernels}
    with suppress(RuntimeError):  # no compiler
        started = time.perf_counter()
        fused(features, weight, bias, element)
        ways[f"torch.compile ({time.perf_counter() - started:.1f} s before)"] = lambda: fused(
            features, weight, bias, element
        )
    pixels = (ROWS - 2) * (COLUMNS - 2)
    return dict(zip(ways, (1e6 * t / pixels for t in in_turns(list(ways.values()), repeats)), strict=True))


def refined(features: Tensor, weight: Tensor, bias: Tensor, element: Tensor) -> Tensor:
    """All of it in one expression."""
    attended = features * torch.sigmoid(project(features, weight, bias))
    height, width = attended.shape[0] - 2, attended.shape[1] - 2
    best = attended[:height, :width] * element[0, 0]
    for i in range(1, 9):
        y, x = divmod(i, 3)
        best = torch.maximum(best, attended[y : y + height, x : x + width] * element[y, x])
    return best


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
