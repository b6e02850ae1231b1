"""Options that several commands share, defined once."""

import os
from collections.abc import Callable
from dataclasses import Field, fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

from cssd_geo.budget import parse_size
from cssd_geo.errors import InputError
from cssd_geo.files.locations import is_address
from cssd_geo.options import DEVICES, PRECISIONS, TrainingOptions

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_LONGEST_NAME = 255
"""Bytes of a file's name that file systems take."""


class _PathType(click.Path):
    """A path that GDAL can be given: what it would fail on with a traceback is refused with a message."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not str(value):
            self.fail("a path is empty", param, ctx)
        try:
            names = [part.encode() for part in path.absolute().parts]
        except UnicodeEncodeError:
            shown = click.format_filename(path.absolute())
            self.fail(f"{shown!r} has a name that is not UTF-8: rename that file or folder", param, ctx)
        if any(len(name) > _LONGEST_NAME for name in names):
            self.fail(f"{path} has a name of more than {_LONGEST_NAME} bytes", param, ctx)
        return path


class _SceneType(_PathType):
    """A path, or an address that GDAL is given as it stands: a path would make one slash of the two in https://."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, str) and is_address(value) else super().convert(value, param, ctx)


class _SizeType(click.ParamType):  # type: ignore[type-arg] # a generic class from click 8.4 on only
    """An amount of memory, such as 800MB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_size(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


PATH = _PathType()
FOLDER = _PathType(exists=True, file_okay=False, writable=True)
SCENE = _SceneType()

model = click.option(
    "-m",
    "--model",
    type=PATH,
    help="Model file. If not given: $CSSD_GEO_MODEL, or else the only model in ./models.",
)

device = click.option(
    "--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to compute."
)
precision = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="auto",
    show_default=True,
    help="auto: bfloat16 if the processor or GPU supports it, else float32.",
)
memory = click.option(
    "--memory",
    type=_SizeType(),
    show_default="1GB, with a GPU 4GB; less on small machines, more for files with large blocks",
    help="Memory for the tiles and their computation, on top of the program itself (0.35 GB).",
)
scheduler = click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Compute on a running Dask cluster: its address or its scheduler file (.json).",
)
workers = click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Compute in N worker processes on this machine."
)
restart = click.option(
    "--restart", is_flag=True, help="Discard an unfinished run to the same output; otherwise it is resumed."
)
overwrite = click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
class_field = click.option(
    "--class-field",
    metavar="NAME",
    help="Attribute that holds the class; guessed if only one is plausible. `layer`: each layer is a class.",
)
layer = click.option("--layer", metavar="NAME", help="Layer to read, if the vector file has several.")
classes = click.option(
    "--classes",
    "remap",
    type=PATH,
    help="Rename, merge, number, colour or leave out classes of the labels: a CSV file with the header "
    "from,to[,id][,colour], or a YAML file with lines `old: new`. A class with nothing as its new name is left "
    "out.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def _together(name: str, group: dict[str, Decorator]) -> Decorator:
    """Add some options, which the command gets as one table of this name."""

    def added(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def gathering(**values: Any) -> Any:
            return function(**{name: {key: values.pop(key) for key in group}}, **values)

        command: Callable[..., Any] = gathering
        for option in reversed(group.values()):
            command = option(command)
        return command

    return added


_SCENE_CHOICE: dict[str, Decorator] = {
    "bands": click.option(
        "--bands",
        metavar="CHOICE",
        help='Use only these bands, in this order: numbers from 1, as "1-50,60,70-90", or wavelengths, as '
        '"450-900nm,1.1-1.3um".',
    ),
    "valid_mask": click.option(
        "--valid-mask",
        type=PATH,
        metavar="RASTER",
        help="Use only pixels where this raster, on the scene's grid, is neither 0 nor nodata.",
    ),
    "aoi": click.option(
        "--aoi", type=PATH, metavar="VECTOR", help="Use only pixels whose centre lies in these polygons (any CRS)."
    ),
    "aoi_layer": click.option("--aoi-layer", metavar="NAME", help="Layer of the --aoi file, if it has several."),
    "scale": click.option(
        "--scale",
        type=click.FLOAT,
        metavar="FACTOR",
        help="Reflectance that a stored value of 1 stands for, such as 0.0001. If not given: from the metadata.",
    ),
    "follow_links": click.option(
        "--follow-links", is_flag=True, help="Let a raster or a STAC item refer to files outside its own folder."
    ),
}
scene_choice = _together("choice", _SCENE_CHOICE)
"""What of a scene is used, and how it is read: the keywords of `open_scene`."""
_COMPUTING: dict[str, Decorator] = {
    "memory": memory,
    "tile_size": click.option(
        "--tile-size",
        type=click.IntRange(min=1),
        help="Side length of square tiles. If not given: chosen by the file and --memory.",
    ),
    "device": device,
    "precision": precision,
}
computing = _together("computing", _COMPUTING)
"""How tiles are computed: keywords of `classify`, and of a batch's options."""


def training(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add one option for each field of `TrainingOptions`, with its default and its text."""
    for item in reversed(fields(TrainingOptions)):
        function = _option_of(item)(function)
    return function


def _option_of(item: Field[Any]) -> Decorator:
    name, text = item.name.replace("_", "-"), item.metadata["help"]
    if isinstance(item.default, bool):
        flags = f"--{name}/--no-{name}" if item.default else f"--{name}"
        return click.option(
            flags, item.name, is_flag=True, default=item.default, show_default=item.default, help=text
        )
    if item.metadata["choices"]:
        kind: click.ParamType[Any] = click.Choice(item.metadata["choices"])
    else:
        kind = click.FLOAT if isinstance(item.default, float) else click.INT
    shown = item.default is not None
    return click.option(f"--{name}", item.name, type=kind, default=item.default, show_default=shown, help=text)
