"""What is said to a terminal, or to a file or program in its place."""

import click

from cssd_geo.messages import without_commands


def say(text: str, *, err: bool = False) -> None:
    """Print a text with what files of strangers say in it, without the commands that a terminal would obey."""
    click.echo(without_commands(text), err=err)


def say_note(note: str) -> None:
    """Print a note beside what was asked for."""
    say(f"Note: {note}", err=True)
