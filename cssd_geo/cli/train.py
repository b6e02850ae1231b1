"""`cssd-geo train`."""

import json
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from cssd_geo.cli import options
from cssd_geo.cli.progress import EpochProgress
from cssd_geo.cli.terminal import say
from cssd_geo.errors import InputError
from cssd_geo.options import TrainingOptions


@click.command("train", short_help="Train a model on a scene and labelled polygons.")
@click.argument("paths", metavar="SCENE LABELS [SCENE LABELS]...", nargs=-1, required=True, type=options.SCENE)
@click.option("-o", "--output", type=options.PATH, required=True, help="Model file to write (.safetensors).")
@options.class_field
@options.layer
@options.classes
@click.option(
    "--all-touched",
    is_flag=True,
    help="Label every pixel that a polygon touches, not only those whose centre it covers.",
)
@options.scene_choice
@options.training
@options.device
@click.option("--report", type=options.PATH, help="Also write the accuracy as JSON (.json).")
@click.option("--reliability", type=options.PATH, help="Also draw confidence against accuracy (.png).")
@options.overwrite
def command(
    *,
    paths: tuple[str | Path, ...],
    output: Path,
    class_field: str | None,
    layer: str | None,
    remap: Path | None,
    all_touched: bool,
    choice: dict[str, Any],
    device: str,
    report: Path | None,
    reliability: Path | None,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Train a model on SCENE, a raster of any usual format, and LABELS.

    LABELS is a vector in any CRS with a class attribute, or a raster of class ids on the scene's grid. Several
    scenes of one sensor, each followed by its labels, train one model. The model that is saved is trained on all
    labels. Further models, by default each trained without some of the polygons and tested on them, show how
    accurate a map will be.
    """
    from cssd_geo.files.outputs import check_target, write_whole
    from cssd_geo.pictures import reliability_png
    from cssd_geo.products import open_scene
    from cssd_geo.training import train

    chosen = TrainingOptions(**settings)
    told = {path: suffix for path, suffix in ((report, ".json"), (reliability, ".png")) if path is not None}
    if told and chosen.split == "none":
        raise InputError("--report and --reliability have nothing to say with --split none: leave them out")
    inputs = (*paths, remap, choice["valid_mask"], choice["aoi"])
    for path, suffix in {output: ".safetensors", **told}.items():
        check_target(path, overwrite=overwrite, suffixes=(suffix,), inputs=inputs)
    pairs = [(open_scene(scene, **choice), labels) for scene, labels in _pairs(paths)]
    with EpochProgress() as progress:
        training = train(
            pairs,
            None,
            output,
            class_field=class_field,
            layer=layer,
            remap=remap,
            all_touched=all_touched,
            options=chosen,
            device=device,
            on_epoch=progress,
            on_note=_tell,
        )
    held = training.hold_out
    if held is not None:
        say(f"\nAccuracy of the map on held-out pixels\n\n{held.to_text()}")
    say(f"\nModel written to {output}")
    if held is not None and report is not None:
        write_whole(report, json.dumps(held.to_json(), indent=2, allow_nan=False).encode())
    if held is not None and reliability is not None:
        write_whole(reliability, reliability_png(held.reliability))


def _pairs(paths: tuple[str | Path, ...]) -> list[tuple[str | Path, str | Path]]:
    """Each scene with the labels that follow it."""
    if len(paths) % 2:
        raise InputError(
            f"{paths[-1]} has no labels: name each scene and then its labels, SCENE LABELS [SCENE LABELS]..."
        )
    return list(zip(paths[::2], paths[1::2], strict=True))


def _tell(note: str) -> None:
    """Print a note at once, above the bar where there is one."""
    with tqdm.external_write_mode():
        say(f"* {note}")
