"""The command line: thin. Options and texts here, one module a command, everything else in the package."""

import importlib
from typing import Any

import click

from cssd_geo import __version__
from cssd_geo.errors import CssdGeoError

_COMMANDS = ("batch", "bench", "classify", "demo", "evaluate", "info", "sample", "train")


class _Commands(click.Group):
    """Imports a command's module when it is called, so that `--help` does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - likewise
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"cssd_geo.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CssdGeoError as error:
            click.echo(f"Error: {' '.join(str(error).split())}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="cssd-geo")
def main() -> None:
    """Class maps with calibrated confidence from hyperspectral scenes and a few labelled polygons."""
