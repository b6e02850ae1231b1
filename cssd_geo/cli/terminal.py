"""What is said to a terminal, or to a file or program in its place."""

import re

import click

_COMMANDS = re.compile(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]")
"""Characters that a terminal may take for a command: to clear, to colour, to write its title."""


def say(text: str, *, err: bool = False) -> None:
    r"""Print a text with what files of strangers say in it; of an escape, \u001b is shown, as in JSON."""
    click.echo(_COMMANDS.sub(lambda found: rf"\u{ord(found[0]):04x}", text), err=err)
