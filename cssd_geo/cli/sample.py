"""`cssd-geo sample`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cssd_geo.cli import options
from cssd_geo.cli.terminal import say
from cssd_geo.messages import column_width, padded
from cssd_geo.options import SAMPLE_LEAST, SAMPLE_STANDARD_ERROR, SAMPLE_USERS_ACCURACY

if TYPE_CHECKING:
    from cssd_geo.reference_sample import ReferenceSample


@click.command("sample", short_help="Draw pixels of a class map to be labelled as a reference.")
@click.argument("class_map", metavar="MAP", type=options.PATH)
@click.option("-o", "--output", type=options.PATH, required=True, help="Points to write (.gpkg).")
@click.option(
    "--size", type=click.IntRange(min=1), help="Pixels to draw. If not given: as many as --standard-error needs."
)
@click.option(
    "--per-class-least",
    type=int,
    default=SAMPLE_LEAST,
    show_default=True,
    help="Pixels to draw of a rare class (50 to 100 are advised); the others share the rest by area.",
)
@click.option(
    "--standard-error",
    type=float,
    default=SAMPLE_STANDARD_ERROR,
    show_default=True,
    help="Standard error of the overall accuracy to aim at; about half of what is printed after ±.",
)
@click.option(
    "--users-accuracy",
    type=float,
    default=SAMPLE_USERS_ACCURACY,
    show_default=True,
    help="User's accuracy that you expect for each class; a lower value draws more pixels.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the draw.")
@options.overwrite
def command(
    *,
    class_map: Path,
    output: Path,
    size: int | None,
    per_class_least: int,
    standard_error: float,
    users_accuracy: float,
    seed: int,
    overwrite: bool,
) -> None:
    """Draw a stratified random sample of MAP, a class map, as points to be labelled.

    Fill in the field class_name of each point with what is really there, from better imagery or on the ground, and
    hide map_id and map_name meanwhile. GIS programs offer the map's classes, and "none of these".
    Then `cssd-geo evaluate MAP POINTS --stratified` gives accuracy and areas with their confidence intervals.
    """
    from cssd_geo.reference_sample import sample

    drawn = sample(
        class_map,
        output,
        size=size,
        per_class_least=per_class_least,
        standard_error=standard_error,
        users_accuracy=users_accuracy,
        seed=seed,
        overwrite=overwrite,
    )
    for note in drawn.notes:
        say(f"* {note}")
    _show(drawn)
    say("Hide map_id and map_name, fill in the field class_name of each point, then run:\n")
    say(f"  {shlex.join(['cssd-geo', 'evaluate', str(class_map), str(output), '--stratified'])}")


def _show(drawn: "ReferenceSample") -> None:
    width = column_width(drawn.classes.names)
    total = drawn.mapped_pixels.sum()
    for name, pixels, samples in zip(drawn.classes.names, drawn.mapped_pixels, drawn.samples, strict=True):
        share = 100 * pixels / total
        say(f"{padded(name, width)} {pixels:>14,} pixels {share:6.2f} %  {samples:>6,} drawn")
    say(f"{drawn.output} written: {drawn.samples.sum():,} points, in random order")
