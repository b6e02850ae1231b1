"""How long training takes: so many windows of a made-up scene, from random weights to the last epoch.

    python benchmarks/training.py [--windows 160] [--bands 200] [--classes 16] [--epochs 50] [--repeats 3]
        [--models 4] [--device cuda]

With `--models` also so many of them, one after the other and then side by side, as `train` does with its folds.
"""

import argparse
import statistics
import time

import torch

from cssd_geo.bench.rates import machine_facts
from cssd_geo.compute.workers import run_side_by_side, threads_for
from cssd_geo.engine.devices import choose_device
from cssd_geo.learning.fitting import fit
from cssd_geo.learning.windows import TrainingWindows
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import TrainingOptions

_SIDE = 145
"""Of the scene that the windows lie in, at random: as many share pixels as in the usual benchmarks."""


def main() -> None:
    """Train several times and print the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("windows", 160), ("bands", 200), ("classes", 16), ("epochs", 50), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    device = choose_device(given.device)
    config = NetworkConfig(bands=given.bands, classes=given.classes)
    windows = random_windows(config, given.windows)
    classes = torch.arange(given.windows) % given.classes
    options = TrainingOptions(epochs=given.epochs, windows_per_class=-(-given.windows // given.classes))

    def train(models: int, at_once: int) -> float:
        networks, started = [CSSD(config) for _ in range(models)], time.monotonic()
        run_side_by_side(
            lambda network: fit(network, windows, classes, options=options, device=device, on_epoch=None),
            networks,
            at_once,
        )
        return time.monotonic() - started

    print(machine_facts(device))
    print(f"{given.windows} windows, {given.bands} bands, {given.classes} classes, {given.epochs} epochs:")
    alone = statistics.median(train(1, 1) for _ in range(given.repeats))
    print(f"{alone:.1f} s (median of {given.repeats}), {given.windows * given.epochs / alone:.0f} windows/s")
    if given.models > 1:
        at_once = threads_for(given.models)
        pairs = [(train(given.models, 1), train(given.models, at_once)) for _ in range(given.repeats)]
        for in_turn, together in pairs:
            times = f"{in_turn:.1f} s one after the other, {together:.1f} s with {at_once} at a time"
            print(f"{given.models} models: {times}, {in_turn / together:.2f} x")


def random_windows(config: NetworkConfig, count: int) -> TrainingWindows:
    """Windows at random places of a scene of random pixels."""
    random = torch.Generator().manual_seed(0)
    pixels = torch.randn(_SIDE**2 + 1, config.bands, generator=random)
    side = config.halo.before * 2 + 1
    corners = torch.randint(_SIDE - side, (count, 2), generator=random)
    steps = torch.arange(side)
    rows, cols = (corners[:, axis, None] + steps for axis in (0, 1))
    lookup = rows[:, :, None] * _SIDE + cols[:, None, :] + 1
    return TrainingWindows(pixels=pixels, lookup=lookup, halo=config.halo)


if __name__ == "__main__":
    main()
