"""`cssd-geo demo`."""

import time
from pathlib import Path

import click

from cssd_geo.cli import options
from cssd_geo.cli.progress import EpochProgress
from cssd_geo.cli.terminal import say
from cssd_geo.options import DEMO_EPOCHS, TrainingOptions


@click.command("demo", short_help="Make a scene, train, classify, evaluate and show, in one folder.")
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    default=Path("demo"),
    show_default=True,
    help="Folder for all files; made if it does not exist.",
)
@click.option(
    "--epochs", type=int, default=DEMO_EPOCHS, show_default=True, help="Passes over the training windows."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Random seed of the scene and of the training."
)
@options.device
def command(*, output: Path, epochs: int, seed: int, device: str) -> None:
    """Make a scene of a made-up landscape, train, classify, evaluate and draw.

    Everything is written to one folder; files of an earlier demo there are replaced. The accuracy is measured on
    truth that was not trained on.
    """
    from cssd_geo.demo.run import run_demo

    started = time.monotonic()
    with EpochProgress() as progress:
        demo = run_demo(
            output,
            options=TrainingOptions(epochs=epochs, seed=seed),
            device=device,
            say=say,
            on_epoch=progress,
        )
    for note in demo.training.notes:
        say(f"* {note}")
    say(f"\nThe map against the truth away from the labelled polygons\n\n{demo.evaluation.accuracy.to_text()}\n")
    if demo.training.hold_out is not None:
        held = demo.training.hold_out
        others = [f"{name} {100 * one.overall_accuracy:.1f} %" for name, one in held.baselines.items()]
        mine = f"Held-out polygons: OA {100 * held.map.overall_accuracy:.1f} %"
        say("; ".join([mine, *others]))
    say(f"All in {time.monotonic() - started:.0f} s. Look at {demo.picture}; open {output}/map.tif in QGIS.")
