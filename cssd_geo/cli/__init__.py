"""The command line: thin. Options and texts here, one module per command, everything else in the package."""

import difflib
import errno
import importlib
import io
import os
import sys
from typing import Any

import click

from cssd_geo import __version__
from cssd_geo.cli.interrupts import Interrupted, interruptible
from cssd_geo.cli.terminal import say
from cssd_geo.errors import CssdGeoError, InputError, OutputError
from cssd_geo.machine import cpu_quota, processors, use_plain_letters

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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            meant = difflib.get_close_matches(name, _COMMANDS, n=1)
            hint = f"did you mean {meant[0]}?" if meant else f"choose from {', '.join(_COMMANDS)}"
            ctx.fail(f"No such command {name!r}: {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal may lack letters that classes have
                stream.reconfigure(errors="backslashreplace")
        try:
            with interruptible():
                return super().invoke(ctx)
        except CssdGeoError as error:
            say(f"Error: {_line(error)}", err=True)
            ctx.exit(error.exit_code)
        except MemoryError as error:
            say(f"Error: out of memory: end other programs, or give less --memory. {_line(error)}", err=True)
            ctx.exit(CssdGeoError.exit_code)
        except Interrupted as error:
            say(f"Stopped by {_line(error)}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno != errno.ENOSPC:  # of a pipe that was closed click makes a quiet end
                raise
            say(f"Error: what is printed cannot be written: {error.strerror}. What is in files is whole", err=True)
            ctx.exit(OutputError.exit_code)


def _line(error: BaseException) -> str:
    """What an error says, and what was added to it on its way, on one line."""
    return " ".join(". ".join([str(error), *getattr(error, "__notes__", [])]).split())


def _require_folder() -> None:
    """Check that the working folder is there: else Python ends in a traceback, and MKL within a run."""
    try:
        os.getcwd()  # noqa: PTH109 - nothing is done with it
    except OSError as error:
        raise InputError(
            f"the folder that this runs in is gone ({error.strerror}): cd to one that exists"
        ) from error


_EXIT_CODES = (
    "Exit codes: 2 option, 3 scene, 4 labels, 5 model, 6 output, 7 batch, 8 cluster, 128 + signal; see "
    "docs/reliability.md."
)


@click.group(
    cls=_Commands,
    epilog=_EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="cssd-geo")
def main() -> None:
    """Class maps with calibrated confidence from hyperspectral scenes and a few labelled polygons."""
    use_plain_letters()
    _require_folder()
    if cpu_quota() is not None:  # torch, which is not loaded yet, counts processors and does not ask for quotas
        os.environ.setdefault("OMP_NUM_THREADS", str(processors()))
