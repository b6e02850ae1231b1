"""`cssd-geo train`."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cssd_geo.cli import options
from cssd_geo.errors import InputError
from cssd_geo.options import TrainingOptions

if TYPE_CHECKING:
    from cssd_geo.fitting import Epoch
    from cssd_geo.training import HoldOut, Training

_LOG_SECONDS = 10.0
"""Between two lines in a log; a terminal gets every epoch."""


@click.command("train", short_help="Train a model from a scene and labelled polygons.")
@click.argument("scene", type=options.PATH)
@click.argument("labels", type=options.PATH)
@click.option("-o", "--output", type=options.PATH, required=True, help="Model file to write (.safetensors).")
@options.class_field
@options.layer
@click.option(
    "--all-touched",
    is_flag=True,
    help="Label every pixel that a polygon touches, not only those whose centre it covers.",
)
@options.training
@options.device
@click.option("--report", type=options.PATH, help="Also write the accuracy as JSON.")
@options.overwrite
def command(
    *,
    scene: Path,
    labels: Path,
    output: Path,
    class_field: str | None,
    layer: str | None,
    all_touched: bool,
    device: str,
    report: Path | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Train a model from SCENE, any raster that GDAL reads, and LABELS.

    LABELS is a vector in any CRS with a class attribute, or a raster of class ids on the scene's grid. By default
    whole polygons are held out, apart from those trained on, and the accuracy on them is reported.
    """
    from cssd_geo.outputs import check_target, write_whole  # noqa: PLC0415 - so that --help does not wait for torch
    from cssd_geo.training import train  # noqa: PLC0415 - likewise

    chosen = TrainingOptions(**settings)
    if report is not None and chosen.split == "none":
        raise InputError("--report has nothing to say with --split none: leave one of them out")
    check_target(output, overwrite=overwrite, suffixes=(".safetensors",))
    if report is not None:
        check_target(report, overwrite=overwrite, suffixes=(".json",))
    training = train(
        scene,
        labels,
        output,
        class_field=class_field,
        layer=layer,
        all_touched=all_touched,
        options=chosen,
        device=device,
        on_epoch=EpochLines(),
    )
    show(training)
    click.echo(f"\nModel written to {output}")
    if report is not None and training.hold_out is not None:
        write_whole(report, json.dumps(training.hold_out.to_json(), indent=2, allow_nan=False).encode())
    elif report is not None:
        click.echo(f"Warning: nothing could be held out, so {report} was not written.", err=True)


class EpochLines:
    """Prints a line an epoch, with the time left; in a log only the first, the last and one now and then."""

    def __init__(self) -> None:
        self._started = self._said = time.monotonic()

    def __call__(self, epoch: "Epoch") -> None:
        """Print a line where it is time for one."""
        now = time.monotonic()
        ends = epoch.number in (1, epoch.epochs)
        if not (ends or sys.stderr.isatty() or now - self._said >= _LOG_SECONDS):
            return
        self._said, seconds = now, max(now - self._started, 1e-9)
        left = seconds / epoch.number * (epoch.epochs - epoch.number)
        click.echo(
            f"epoch {epoch.number:>3}/{epoch.epochs}  loss {epoch.loss:6.3f}  on training windows "
            f"{100 * epoch.accuracy:5.1f} %  {epoch.windows * epoch.number / seconds:5.0f} windows/s  "
            f"{left:4.0f} s left",
            err=True,
        )


def show(training: "Training") -> None:
    """Print what was left out, and the accuracy."""
    click.echo()
    for note in training.notes:
        click.echo(f"* {note}")
    if training.hold_out is not None:
        _show_accuracy(training.hold_out)


def _show_accuracy(hold_out: "HoldOut") -> None:
    click.echo(f"\nAccuracy of the map on held-out pixels\n\n{hold_out.map.to_text()}")
    click.echo(f"\nMain head alone (window)\n\n{hold_out.main.to_text()}")
    click.echo(f"\nSpectral head alone (centre pixel)\n\n{hold_out.spectral.to_text()}")
    if hold_out.random_forest is not None:
        forest, ours = hold_out.random_forest, hold_out.map
        click.echo(
            f"\nRandom forest, same pixels: OA {100 * forest.overall_accuracy:.1f} %, "
            f"AA {100 * forest.average_accuracy:.1f} %, kappa {forest.kappa:.3f}"
        )
        if forest.overall_accuracy >= ours.overall_accuracy:
            click.echo("The random forest is at least as good here: more varied labels would help CSSD most.")
