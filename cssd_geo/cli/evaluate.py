"""`cssd-geo evaluate`."""

import json
from pathlib import Path

import click

from cssd_geo.cli import options
from cssd_geo.cli.terminal import say

_COUNTS = "Counts of the sample, not weighted by area"
"""What the first figures are if a stratified sample gives weighted ones as well."""


@click.command("evaluate", short_help="Compare a class map with a reference.")
@click.argument("class_map", metavar="MAP", type=options.PATH)
@click.argument("reference", type=options.PATH)
@options.class_field
@options.layer
@options.classes
@click.option(
    "--exclude",
    type=options.PATH,
    help="Polygons to leave out, such as those trained on. Or a raster on the map's grid, not 0 where to leave "
    "out, which knows nothing of what lies beside a map that was cropped.",
)
@click.option("--exclude-layer", metavar="NAME", help="Layer of the --exclude file, if it has several.")
@click.option(
    "--buffer",
    type=int,
    help="Also leave out pixels closer than this many pixels to those polygons. If not given: so many that the "
    "windows of the map and of its training share no pixel (17 with the default window).",
)
@click.option(
    "--stratified",
    is_flag=True,
    help="REFERENCE holds the points of `cssd-geo sample MAP`: print the map's accuracy, weighted by area, and "
    "the area of each class, with 95 % confidence intervals.",
)
@options.as_json
@click.option("--csv", "csv_path", type=options.PATH, help="Also write the confusion matrix (.csv).")
@click.option("--png", "png_path", type=options.PATH, help="Also draw the confusion matrix (.png).")
@options.overwrite
def command(
    *,
    class_map: Path,
    reference: Path,
    class_field: str | None,
    layer: str | None,
    remap: Path | None,
    exclude: Path | None,
    exclude_layer: str | None,
    buffer: int | None,
    stratified: bool,
    as_json: bool,
    csv_path: Path | None,
    png_path: Path | None,
    overwrite: bool,
) -> None:
    """Compare MAP with REFERENCE: a vector with a class attribute, or a raster of class ids.

    Classes are matched by name, or by id where one of the two has only numbers. The reference may be in another
    CRS; a raster on another grid is looked up at its nearest pixel.
    """
    from cssd_geo.evaluation import evaluate
    from cssd_geo.files.outputs import check_target, write_whole
    from cssd_geo.pictures import confusion_png

    inputs = (class_map, reference, remap, exclude)
    for path, suffix in ((csv_path, ".csv"), (png_path, ".png")):
        if path is not None:
            check_target(path, overwrite=overwrite, suffixes=(suffix,), inputs=inputs)
    found = evaluate(
        class_map,
        reference,
        class_field=class_field,
        layer=layer,
        remap=remap,
        exclude=exclude,
        exclude_layer=exclude_layer,
        buffer=buffer,
        stratified=stratified,
    )
    if csv_path is not None:
        write_whole(csv_path, found.accuracy.to_csv().encode())
    if png_path is not None:
        write_whole(png_path, confusion_png(found.accuracy, _COUNTS if stratified else None))
    if as_json:
        facts = found.accuracy.to_json() | {"notes": list(found.notes)}
        if found.areas is not None:
            facts = {"description": f"{_COUNTS}: see stratified"} | facts | {"stratified": found.areas.to_json()}
        say(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for note in found.notes:
        say(f"* {note}")
    if found.areas is not None:
        say(f"{_COUNTS}\n")
    say(found.accuracy.to_text())
    if found.areas is not None:
        say(f"\n{found.areas.to_text()}")
