"""`cssd-geo classify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cssd_geo.cli import options
from cssd_geo.cli.clients import client_of
from cssd_geo.cli.forecast import show
from cssd_geo.cli.progress import PixelProgress
from cssd_geo.cli.terminal import say, say_note
from cssd_geo.errors import InputError, SceneError
from cssd_geo.messages import column_width, padded
from cssd_geo.options import ON_ERROR

if TYPE_CHECKING:
    from cssd_geo.classification import Classification
    from cssd_geo.model import Model
    from cssd_geo.scenes.scene import Scene
    from cssd_geo.tiles import Window

_LISTED = 20
"""Unreadable blocks that are printed one by one."""


@click.command("classify", short_help="Classify a scene into a georeferenced map.")
@click.argument("scene", type=options.SCENE)
@click.option("-o", "--output", type=options.PATH, required=True, help="Class map to write (.tif).")
@options.model
@click.option("--confidence", type=options.PATH, help="Also write the confidence in percent (.tif).")
@click.option(
    "--disagreement",
    type=options.PATH,
    help="Also write how far the pure spectrum and the spatial context disagree, in percent (.tif).",
)
@click.option("--probabilities", type=options.PATH, help="Also write the probability of each class (.tif).")
@options.scene_choice
@options.scheduler
@options.workers
@options.computing
@click.option(
    "--on-error",
    type=click.Choice(ON_ERROR),
    default="stop",
    show_default=True,
    help="Where the scene cannot be read: stop, or treat those blocks as no data, list them and exit with code 3.",
)
@click.option("--dry-run", is_flag=True, help="Try two tiles and print what the run will take; write nothing.")
@options.restart
@options.overwrite
def command(
    *,
    scene: str | Path,
    output: Path,
    model: Path | None,
    confidence: Path | None,
    disagreement: Path | None,
    probabilities: Path | None,
    choice: dict[str, Any],
    scheduler: str | None,
    workers: int | None,
    computing: dict[str, Any],
    on_error: str,
    dry_run: bool,
    restart: bool,
    overwrite: bool,
) -> None:
    """Classify SCENE, a raster of any usual format, into a class map on the same grid.

    The map is a cloud-optimised GeoTIFF with colours and class names, and 0 where there is no data. If a run is
    stopped or killed, give the same command again: it resumes with the tiles that are left.
    """
    if dry_run and (scheduler is not None or workers is not None):
        raise InputError("--dry-run tries tiles on this machine alone: leave --scheduler and --workers out")
    from cssd_geo.classification import classify
    from cssd_geo.model import find_model, load_model
    from cssd_geo.products import open_scene

    path = find_model(model)
    ready = load_model(path)
    opened = open_scene(scene, **choice)
    layers = {"confidence": confidence, "disagreement": disagreement, "probabilities": probabilities}
    if dry_run:
        from cssd_geo.engine.streaming import this_machine
        from cssd_geo.forecast import forecast
        from cssd_geo.runs.job import plan_job
        from cssd_geo.runs.layers import Outputs

        outputs = Outputs(class_map=output, **layers)
        here = this_machine(computing.pop("device"), computing.pop("precision"))
        found = forecast(plan_job(opened, ready, outputs, here, **computing))
        _show_scene_and_model(opened, ready, path)
        for note in found.notes:
            say_note(note)
        show(found, overwrite=overwrite)
        return
    with client_of(scheduler, workers) as client, PixelProgress("classify") as progress:
        done = classify(
            opened,
            ready,
            output,
            **layers | computing,
            overwrite=overwrite,
            restart=restart,
            on_error=on_error,
            client=client,
            on_resume=progress.go_on,
            on_tile=progress,
        )
    _show(done)
    if done.unreadable:
        _warn_of(done.unreadable)
        click.get_current_context().exit(SceneError.exit_code)


def _show_scene_and_model(scene: "Scene", model: "Model", path: Path) -> None:
    say(f"scene   {scene.name}: {scene.grid.height} x {scene.grid.width} pixels, {scene.bands.summary()}")
    say(f"model   {path}: {len(model.mean)} bands, {len(model.classes)} classes")


def _show(done: "Classification") -> None:
    for note in done.notes:
        say_note(note)
    total = sum(done.pixels.values())
    width = column_width(done.pixels)
    for name, count in done.pixels.items():
        say(f"{padded(name, width)} {count:>12,} pixels {100 * count / total:6.2f} %")
    stages = ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in done.busy.items())
    say(f"{done.output} written: {total:,} pixels in {done.seconds:.1f} s ({stages} of the time)")
    if done.pixels["unclassified"] == total:
        say("Warning: no pixel of the scene is valid in all of the model's bands.", err=True)


def _warn_of(unreadable: tuple["Window", ...]) -> None:
    pixels = sum(block.pixels for block in unreadable)
    say(f"Warning: {len(unreadable)} blocks of the scene ({pixels:,} pixels) could not be read:", err=True)
    for block in unreadable[:_LISTED]:
        say(f"  row {block.row}, column {block.col}: {block.height} x {block.width} pixels", err=True)
    if len(unreadable) > _LISTED:
        say(f"  and {len(unreadable) - _LISTED} more", err=True)
