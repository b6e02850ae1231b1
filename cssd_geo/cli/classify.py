"""`cssd-geo classify`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cssd_geo.cli import options
from cssd_geo.cli.progress import PixelProgress

if TYPE_CHECKING:
    from cssd_geo.classification import Classification
    from cssd_geo.model import Model


@click.command("classify", short_help="Classify a scene into a georeferenced map.")
@click.argument("scene", type=options.SCENE)
@click.option("-o", "--output", type=options.PATH, required=True, help="Class map to write (.tif).")
@click.option(
    "-m", "--model", type=options.PATH, help="Model file; else $CSSD_GEO_MODEL, else the only one in ./models."
)
@click.option("--confidence", type=options.PATH, help="Also write the confidence in percent (.tif).")
@click.option(
    "--disagreement",
    type=options.PATH,
    help="Also write how far pure spectrum and spatial context are apart, in percent (.tif).",
)
@click.option("--probabilities", type=options.PATH, help="Also write the probability of each class (.tif).")
@options.memory
@options.tile_size
@options.device
@options.precision
@click.option("--dry-run", is_flag=True, help="Print the plan; read no pixel, write nothing.")
@options.overwrite
def command(
    *,
    scene: str | Path,
    output: Path,
    model: Path | None,
    confidence: Path | None,
    disagreement: Path | None,
    probabilities: Path | None,
    memory: int,
    tile_size: int | None,
    device: str,
    precision: str,
    dry_run: bool,
    overwrite: bool,
) -> None:
    """Classify SCENE, any raster that GDAL reads, into a class map on the same grid.

    The map is a cloud-optimised GeoTIFF with colours and class names, 0 where there is no data.
    """
    from cssd_geo.classification import classify  # noqa: PLC0415 - so that --help does not wait for torch
    from cssd_geo.model import find_model, load_model  # noqa: PLC0415 - likewise

    path = find_model(model)
    ready = load_model(path)
    if dry_run:
        _show_plan(scene, ready, path, tile_size, memory)
        return
    with PixelProgress("classify") as progress:
        done = classify(
            scene,
            ready,
            output,
            confidence=confidence,
            disagreement=disagreement,
            probabilities=probabilities,
            tile_size=tile_size,
            memory=memory,
            device=device,
            precision=precision,
            overwrite=overwrite,
            on_tile=progress,
        )
    _show(done)


def _show_plan(scene: str | Path, model: "Model", model_path: Path, tile_size: int | None, memory: int) -> None:
    import torch  # noqa: PLC0415 - so that --help does not wait for torch

    from cssd_geo.budget import shown  # noqa: PLC0415 - likewise
    from cssd_geo.inference import TileClassifier  # noqa: PLC0415 - likewise
    from cssd_geo.products import open_scene  # noqa: PLC0415 - likewise

    opened = open_scene(scene)
    classifier = TileClassifier(model, opened, torch.device("cpu"))
    plan = classifier.plan(opened, tile_size, memory)
    bands = len(model.mean)
    read = plan.pixels_read * bands * opened.cube.dtype.itemsize
    click.echo(f"scene   {opened.name}: {plan.height} x {plan.width} pixels, {opened.bands.summary()}")
    click.echo(f"model   {model_path}: {bands} bands, {len(model.classes)} classes")
    shape = f"{plan.rows} down, {plan.cols} across, each {plan.tile_height} x {plan.tile_width}"
    click.echo(f"plan    tiles: {len(plan)} ({shape}), halo {plan.halo.before} before, {plan.halo.after} after")
    overlap = plan.pixels_read / (plan.height * plan.width)
    click.echo(f"reads   {read / 1e6:,.1f} MB, halos included ({overlap:.2f} times the pixels)")
    click.echo(f"memory  {shown(classifier.needs(opened).of(plan))} at most, beside the program itself")
    click.echo("Nothing was read or written (--dry-run).")


def _show(done: "Classification") -> None:
    total = done.plan.height * done.plan.width
    width = max(len(name) for name in done.pixels)
    for name, count in done.pixels.items():
        click.echo(f"{name:<{width}} {count:>12,} pixels {100 * count / total:6.2f} %")
    click.echo(f"{done.output} written: {total:,} pixels in {done.seconds:.1f} s")
    if done.pixels["unclassified"] == total:
        click.echo("Warning: no pixel of the scene is valid in all of the model's bands.", err=True)
