"""`cssd-geo bench`."""

import json
import tempfile
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cssd_geo.cli import options
from cssd_geo.cli.terminal import say
from cssd_geo.options import BENCH_LAYOUTS

if TYPE_CHECKING:
    from cssd_geo.bench.rates import FileRates, NetworkRates


@click.command("bench", short_help="Measure how fast this machine classifies.")
@click.option(
    "--bands",
    type=click.IntRange(min=1),
    multiple=True,
    default=(200,),
    show_default=True,
    help="Bands of a scene; may be given several times, as may be --classes, --size and --layout.",
)
@click.option(
    "--classes",
    type=click.IntRange(2, 255),
    multiple=True,
    default=(16,),
    show_default=True,
    help="Classes of a model.",
)
@click.option(
    "--size",
    type=click.IntRange(min=16),
    multiple=True,
    default=(512, 1024),
    show_default=True,
    help="Side length of a scene in pixels.",
)
@click.option(
    "--layout",
    type=click.Choice(BENCH_LAYOUTS),
    multiple=True,
    default=BENCH_LAYOUTS,
    show_default="all",
    help="How a scene is stored.",
)
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Times that each figure is measured; the median counts.",
)
@click.option(
    "--folder",
    type=options.FOLDER,
    help="Folder for the scenes while they are measured, on the disk of interest. If not given: the system's "
    "temporary folder.",
)
@options.memory
@options.device
@options.precision
@options.as_json
def command(
    *,
    bands: tuple[int, ...],
    classes: tuple[int, ...],
    size: tuple[int, ...],
    layout: tuple[str, ...],
    repeats: int,
    folder: Path | None,
    memory: int | None,
    device: str,
    precision: str,
    as_json: bool,
) -> None:
    """Measure pixels a second on this machine, with scenes and models that are made up.

    Window by window, dense, reading, and from file to file, for scenes stored in several ways; and the share of
    what the machine's matrix products allow; all on the chosen device. Figures of one run compare; figures of
    different runs less so.
    """
    from cssd_geo.bench.rates import file_rates, machine_facts, network_rates
    from cssd_geo.engine.devices import choose_device, choose_precision

    place = choose_device(device)
    shared: dict[str, Any] = {"device": place, "precision": choose_precision(precision, place), "repeats": repeats}
    tell = (lambda _: None) if as_json else say
    here, setting = machine_facts(place), {"device": place.type, "repeats": repeats}
    tell(", ".join(f"{name} {value}" for name, value in (here | setting).items()))
    networks, files = [], []
    for b, k in product(bands, classes):
        networks.append(network_rates(folder, bands=b, classes=k, **shared))
        tell(_network_table(networks[-1]))
        tell(_FILE_HEADING)
        for n, name in product(size, layout):
            with tempfile.TemporaryDirectory(dir=folder) as where:
                rates = file_rates(Path(where), name, size=n, bands=b, classes=k, memory=memory, **shared)
            files.append(rates)
            tell(_file_row(rates))
    if as_json:
        facts = {
            "machine": here,
            **setting,
            "networks": [asdict(row) | {"limit": row.limit} for row in networks],
            "files": [asdict(row) | {"share": row.share} for row in files],
        }
        say(json.dumps(facts, indent=2))


def _network_table(rates: "NetworkRates") -> str:
    rows = {
        "(a) window by window, cheapest form, float32": rates.patches,
        "(b) window by window, as toolboxes do, float32": rates.toolbox,
        f"(c) dense, {rates.precision}": rates.dense,
    }
    lines = [f"\n{rates.bands} bands, {rates.classes} classes, window 10"]
    for name, rate in rows.items():
        ratios = f"{rate / rates.patches:>9,.1f} x (a) {rate / rates.toolbox:>9,.1f} x (b)"
        lines.append(f"{name:<47} {rate:>13,.0f} pixels/s {ratios}")
    lines.append(
        f"(f) matrix product: {rates.matrix_product / 1e9:,.0f} GFLOP/s in {rates.precision}; a pixel needs "
        f"{rates.operations / 1e3:,.0f} kFLOP, so {rates.limit:,.0f} pixels/s at most, and (c) is "
        f"{rates.dense / rates.limit:.2f} of that"
    )
    return "\n".join(lines)


_FILE_HEADING = (
    f"\n{'layout':<13} {'size':>6} {'tile':>11} {'(d) read':>12} {'from disk':>11} {'(c) dense':>12} "
    f"{'(e) end to end':>15} {'(e)/min(c,d)':>13} {'(g) peak':>9}  busy: reading, computing, writing"
)


def _file_row(rates: "FileRates") -> str:
    tile = f"{rates.tile[0]} x {rates.tile[1]}"
    read = "" if rates.bytes_read is None else f"{rates.bytes_read:.2f} x"
    return (
        f"{rates.layout:<13} {rates.size:>6} {tile:>11} {rates.read:>12,.0f} {read:>11} {rates.dense:>12,.0f} "
        f"{rates.end_to_end:>15,.0f} {rates.share:>13.2f} {rates.peak_bytes / 1e9:>6.2f} GB  "
        + " ".join(f"{share:>6.0%}" for share in rates.busy.values())
    )
