"""What torch.compile would gain where it pays most: the gate and the nine-shift dilation, fused to one kernel.

python benchmarks/compile.py

Needs a C++ compiler. The rest of the network is matrix products, which it does not make faster.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cssd_geo.bench.rates import machine
from cssd_geo.dilation import dilate

ROWS, COLUMNS, FEATURES = 30, 271, 256
PIXELS = (ROWS - 2) * (COLUMNS - 2)


def main() -> None:
    """Measure one band of rows as the dense network takes it."""
    print(machine())
    for precision in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        features = torch.randn(ROWS, COLUMNS, FEATURES).to(precision)
        gate, element = torch.randn_like(features), torch.rand(3, 3).to(precision)
        compare(features, gate, element)


def compare(features: Tensor, gate: Tensor, element: Tensor) -> None:
    """Print how long both ways take."""
    out, attended = features.new_empty(ROWS - 2, COLUMNS - 2, FEATURES), torch.empty_like(features)

    def eager() -> None:
        torch.mul(features, torch.sigmoid(gate), out=attended)
        dilate(attended[None].permute(0, 3, 1, 2), element, out[None].permute(0, 3, 1, 2))

    compiled: Any = torch.compile(fused, dynamic=False)
    with torch.inference_mode():
        started = time.perf_counter()
        compiled(features, gate, element)
        first = time.perf_counter() - started
        as_it_is, faster = microseconds(eager), microseconds(lambda: compiled(features, gate, element))
    print(f"{features.dtype}: as it is {as_it_is:.3f}, compiled {faster:.3f} µs a pixel")
    print(f"the first call of what is compiled takes {first:.1f} s")


def fused(features: Tensor, gate: Tensor, element: Tensor) -> Tensor:
    """Gate and dilation in one expression."""
    attended = features * torch.sigmoid(gate)
    height, width = attended.shape[0] - 2, attended.shape[1] - 2
    best = attended[:height, :width] * element[0, 0]
    for i in range(1, 9):
        y, x = divmod(i, 3)
        best = torch.maximum(best, attended[y : y + height, x : x + width] * element[y, x])
    return best


def microseconds(work: Callable[[], object]) -> float:
    """Of one pixel, the median of several runs."""
    work()
    seconds = []
    for _ in range(15):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) / PIXELS * 1e6


if __name__ == "__main__":
    main()
