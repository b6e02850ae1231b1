"""`cssd-geo info`."""

import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from cssd_geo.classes import UNCLASSIFIED_NAME
from cssd_geo.cli import options
from cssd_geo.cli.model_facts import formula, lines_of
from cssd_geo.cli.terminal import say
from cssd_geo.errors import InputError
from cssd_geo.messages import column_width, padded

_HEADING = 9
"""Characters for the name of a group, before its lines."""
_WIDTH = 100
"""Characters of a line."""
_MOST_SEGMENTS = 12
_DIGEST = 12
"""Characters of a model's digest that tell it from others."""


@click.command("info", short_help="Print what is known about a model, a scene or a map.")
@click.argument("path", type=options.SCENE)
@options.scene_choice
@click.option(
    "-m", "--model", type=options.PATH, help="Also print whether this model fits the scene, and the tile plan."
)
@click.option("--quicklook", type=options.PATH, help="Also draw the scene in false colour (.png).")
@options.overwrite
@options.as_json
def command(
    *,
    path: str | Path,
    choice: dict[str, Any],
    model: Path | None,
    quicklook: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Print what is known about PATH, a model (.safetensors), a scene, or a map that classify wrote.

    A large scene is not read whole, only some of its pixels; of a class map those of each class are counted. A
    quicklook shows near infrared, red and green as red, green and blue, or other bands if the scene does not
    cover those.
    """
    if Path(path).suffix == ".safetensors":
        if model or quicklook or any(value is not None and value is not False for value in choice.values()):
            raise InputError(f"{path} is a model; the options of scenes have no meaning for it: leave them out")
        from cssd_geo.model_info import describe_model

        facts = describe_model(path)
        lines = [facts["model"], *_grouped(lines_of(facts))]
    else:
        facts = _of_scene(path, choice, model, quicklook, overwrite=overwrite)
        lines = list(_scene_lines(facts))
    say(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) if as_json else "\n".join(lines))


def _of_scene(
    path: str | Path, choice: dict[str, Any], model: Path | None, quicklook: Path | None, *, overwrite: bool
) -> dict[str, Any]:
    from cssd_geo.files.outputs import check_target, write_whole
    from cssd_geo.products import open_scene
    from cssd_geo.scene_info import describe_scene

    if quicklook is not None:
        inputs = (path, choice["valid_mask"], choice["aoi"])
        check_target(quicklook, overwrite=overwrite, suffixes=(".png",), inputs=inputs)
    scene, ready = open_scene(path, **choice), None
    if model is not None:
        from cssd_geo.model import load_model

        ready = load_model(model)
    facts = describe_scene(scene, ready)
    if quicklook is not None:
        from cssd_geo import pictures

        write_whole(quicklook, pictures.quicklook(scene))
        facts["quicklook"] = {
            "path": str(quicklook),
            "bands": scene.band_numbers[pictures.shown_bands(scene.bands)].tolist(),
        }
    return facts


# ---- a scene, for a person ----------------------------------------------------------------------------------


def _scene_lines(facts: dict[str, Any]) -> Iterator[str]:
    sensor = facts["sensor"]
    yield facts["scene"] if sensor is None else f"{facts['scene']}, {sensor}"
    size = facts["size"]
    groups = {
        "size": [f"{size['height']:,} rows x {size['width']:,} columns x {size['bands']} bands, {facts['dtype']}"],
        "file": [_file(facts["file"])],
        "place": [*_map_size(facts["place"], size), *_place(facts["place"])],
        "map": _map(facts["map"], size),
        "bands": _bands(facts["bands"]) if facts["map"] is None else (),
        "values": _values(facts["values"], facts["dtype"]) if not _is_class_map(facts) else (),
        "plan": _plan(facts["plan"]),
        "picture": _picture(facts.get("quicklook")),
        "notes": facts["notes"],
        "warnings": facts["warnings"],
    }
    yield from _grouped(groups)


def _grouped(groups: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield the lines of each group, its name before the first one; groups without lines are left out."""
    for name, lines in groups.items():
        for number, line in enumerate(lines):
            yield from _wrapped("" if number else name, line)


def _wrapped(name: str, line: str) -> list[str]:
    indent = " " * (_HEADING + 1)
    return textwrap.wrap(
        line,
        _WIDTH,
        initial_indent=f"{name:<{_HEADING}} ",
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _file(file: dict[str, Any]) -> str:
    parts = [file["format"] or "array", file["interleave"] and f"{file['interleave']} interleaved"]
    parts += [file["compression"] and f"{file['compression']} compressed"]
    parts += [f"blocks of {file['block'][0]} x {file['block'][1]} pixels"]
    parts += [] if file["bytes"] is None else [f"{_megabytes(file['bytes'])} on disk"]
    return ", ".join(part for part in parts if part)


def _map_size(place: dict[str, Any], size: dict[str, Any]) -> Iterator[str]:
    """The size of the map, where that is another grid than the scene's own."""
    if any(place[side] != size[side] for side in ("height", "width")):
        yield f"map of {place['height']:,} rows x {place['width']:,} columns, made by the look-up table:"


def _place(place: dict[str, Any]) -> Iterator[str]:
    unit, name, code = place["unit"] or "units", place["crs_name"], place["crs"]
    crs = "no CRS" if code is None else f"{code}, {name}" if len(code) < _WIDTH // 2 else name
    if place["pixel_size"] is None:
        yield f"{crs}, {place['gcps']} ground control points" if place["gcps"] else f"{crs}, no transform"
        return
    across, down = (f"{length:.9g}" for length in place["pixel_size"])
    turned = place["rotation_degrees"]
    rotated = f", rotated by {turned:.4g} degrees" if turned else ""
    mirrored = (", mirrored" if turned else ", south up") if place["mirrored"] else ""
    yield f"{crs}, pixels of {across} x {down} {unit}{rotated}{mirrored}"
    for name, (x, y) in place["corners"].items():
        if name in {"upper_left", "lower_right"} or turned:
            yield f"{name.replace('_', ' '):<11}  {x:.9g}, {y:.9g}"
    if place["degrees"] is not None:
        west, south, east, north = place["degrees"]
        yield f"longitude {west:.4f} to {east:.4f}, latitude {south:.4f} to {north:.4f}"


def _is_class_map(facts: dict[str, Any]) -> bool:
    return facts["map"] is not None and facts["map"]["classes"] is not None


def _map(found: dict[str, Any] | None, size: dict[str, Any]) -> Iterator[str]:
    """What a raster is that `classify` wrote."""
    if found is None:
        return
    yield f"{found['holds']} of {found['scene']}, by the model {found['model'][:_DIGEST]}"
    yield f"trained on {found['trained_on']}, computed in {found['precision']}"
    if found["classes"] is None:
        return
    every = left = size["height"] * size["width"]
    width = column_width([UNCLASSIFIED_NAME, *(row["name"] for row in found["classes"])])
    for row in found["classes"]:
        left -= row["pixels"]
        area = "" if row["hectares"] is None else f"  {row['hectares']:>14,.2f} ha"
        share = _percent(row["pixels"] / every)
        yield f"{row['id']:>5}  {padded(row['name'], width)}  {row['pixels']:>13,} pixels  {share:>8}{area}"
    yield f"{'':>5}  {UNCLASSIFIED_NAME:<{width}}  {left:>13,} pixels  {_percent(left / every):>8}"
    yield "Errors of the map bias these counts: for areas to report, draw a sample (cssd-geo sample)."


def _bands(bands: dict[str, Any]) -> Iterator[str]:
    yield bands["summary"]
    if bands["bad_ranges"]:
        yield f"bad: {bands['bad_ranges']}"
    width = max((len(part["bands"]) for part in bands["segments"]), default=0)
    for part in bands["segments"][:_MOST_SEGMENTS]:
        low, high = part["wavelength_nm"]
        yield f"{part['bands']:>{width}}  {low:7.1f} to {high:7.1f} nm"
    if len(bands["segments"]) > _MOST_SEGMENTS:
        yield f"... ({len(bands['segments'])} runs of wavelengths)"


def _values(values: dict[str, Any], dtype: str) -> Iterator[str]:
    exact = values["all_pixels_read"]
    read = f"all {values['pixels_read']:,} pixels" if exact else f"{values['pixels_read']:,} pixels spread over it"
    about = "" if exact else "about "
    undeclared = "NaN" if dtype.startswith("float") else "none"  # a float that is NaN is no data, declared or not
    nodata = ", ".join(undeclared if value is None else f"{value:g}" for value in values["nodata"])
    share = values["nodata_share"]
    lacking = "" if share is None else f"; {about}{_percent(share)} of the pixels have no data ({read} were read)"
    yield f"nodata {nodata}{lacking}"
    if values["masked_share"]:
        yield f"masks exclude {about}{_percent(values['masked_share'])} of the pixels"
    scales, offsets = values["scale"], values["offset"]
    if (scales, offsets) == ([1.0], [0.0]):
        yield "no scale: values are used as they are stored"
    else:
        yield formula(scales, offsets)
    if values["quantiles"] is not None:
        yield ", ".join(f"{name} {value:.4g}" for name, value in values["quantiles"].items())


def _plan(plan: dict[str, Any] | None) -> Iterator[str]:
    if plan is None:
        return
    if not plan["fits"]:
        yield f"the model does not fit: {plan['why']}"
        return
    (down, across), (height, width), (before, after) = plan["tiles"], plan["tile"], plan["halo"]
    yield f"tiles: {down * across} ({down} down, {across} across, each {height} x {width} pixels)"
    yield f"halo of {before} pixels before and {after} after"
    yield f"{_megabytes(plan['bytes_read'])} to read, {_megabytes(plan['memory'])} of memory at most"
    yield from plan["notes"]


def _picture(picture: dict[str, Any] | None) -> Iterator[str]:
    if picture is not None:
        red, green, blue = picture["bands"]
        yield f"{picture['path']} written: band {red} is red, {green} green, {blue} blue; no data is transparent"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"  # noqa: PLR2004 - 0.1 MB


def _percent(share: float) -> str:
    """A share that is not 0 does not look like 0."""
    percent = 100 * share
    digits = 1 if percent == 0 or percent >= 0.05 else min(6, -math.floor(math.log10(percent)))  # noqa: PLR2004
    return f"{percent:.{digits}f} %"
