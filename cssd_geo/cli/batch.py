"""`cssd-geo batch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cssd_geo.cli import options
from cssd_geo.cli.clients import client_of
from cssd_geo.cli.progress import PixelProgress
from cssd_geo.cli.terminal import say, say_note
from cssd_geo.messages import printable
from cssd_geo.options import BATCH_ON_ERROR

if TYPE_CHECKING:
    from cssd_geo.batch import Outcome


@click.command("batch", short_help="Classify many scenes, skipping what is done.")
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@click.option("-o", "--output-dir", type=options.PATH, required=True, help="Folder for the maps and the manifest.")
@options.model
@click.option("--confidence", is_flag=True, help="Also write the confidence for each scene.")
@click.option("--disagreement", is_flag=True, help="Also write the disagreement of the two heads for each scene.")
@click.option("--probabilities", is_flag=True, help="Also write the class probabilities for each scene.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Only share I of N of the list, such as 2/8; the jobs need not communicate. Its manifest is "
    "manifest-I-of-N.jsonl.",
)
@click.option(
    "--on-error",
    type=click.Choice(BATCH_ON_ERROR),
    default="stop",
    show_default=True,
    help="When a scene fails: stop, or continue with the next one and exit with code 7 at the end.",
)
@click.option("--asset", metavar="KEY", help="Asset to use, where a STAC item has several rasters.")
@options.scene_choice
@options.scheduler
@options.workers
@options.computing
@options.restart
@options.overwrite
def command(
    *,
    scenes: tuple[str, ...],
    output_dir: Path,
    model: Path | None,
    confidence: bool,
    disagreement: bool,
    probabilities: bool,
    shard: str | None,
    on_error: str,
    asset: str | None,
    choice: dict[str, Any],
    scheduler: str | None,
    workers: int | None,
    computing: dict[str, Any],
    restart: bool,
    overwrite: bool,
) -> None:
    """Classify each SCENE into NAME_map.tif in a folder.

    A SCENE is a path, a quoted pattern ("flights/**/*.tif"), a STAC item or collection of items (.json), or
    @LIST, a text file with one of these per line. Scenes whose outputs all exist already, made by this model, are
    skipped, even with --overwrite; --overwrite --restart makes them again. The folder's manifest.jsonl gets a line
    of JSON for each scene.
    """
    from cssd_geo.batch import BatchOptions, classify_batch
    from cssd_geo.model import find_model, load_model
    from cssd_geo.scenes.scene_lists import Shard, find_scenes

    found = find_scenes(scenes, asset=asset, follow_links=choice["follow_links"], on_note=say_note)
    asked = {"confidence": confidence, "disagreement": disagreement, "probabilities": probabilities}
    chosen = BatchOptions(
        layers=[layer for layer, wanted in asked.items() if wanted],
        overwrite=overwrite,
        restart=restart,
        **computing,
        **choice,
    )
    share = None if shard is None else Shard.parse(shard)
    if share is not None and not share.pick(found):
        say_note(f"shard {shard} has none of the {len(found)} scenes: nothing is left for this job.")
    with client_of(scheduler, workers) as client, PixelProgress("scene") as progress:
        outcomes = classify_batch(
            found,
            load_model(find_model(model)),
            output_dir,
            options=chosen,
            shard=share,
            on_error=on_error,
            client=client,
            on_resume=progress.go_on,
            on_tile=progress,
        )
        for outcome in outcomes:
            progress.restart()
            say(printable(_line(outcome)))
            for note in outcome.notes:
                say(f"Note on {outcome.scene}: {note}", err=True)


def _line(outcome: "Outcome") -> str:
    match outcome.status:
        case "done":
            return f"{outcome.output} written: {outcome.pixels:,} pixels in {outcome.seconds:.1f} s"
        case "skipped":
            return f"{outcome.output} is done already: skipped"
        case _:
            return f"{outcome.scene} failed: {outcome.error}"
