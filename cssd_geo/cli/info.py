"""`cssd-geo info`."""

import json
from pathlib import Path
from typing import Any

import click

from cssd_geo.cli import options


@click.command("info", short_help="Print what is known of a model or a scene.")
@click.argument("path", type=options.SCENE)
@options.as_json
def command(*, path: str | Path, as_json: bool) -> None:
    """Print what is known of PATH, a model (.safetensors) or a scene."""
    from cssd_geo.info import describe_model, describe_scene  # noqa: PLC0415 - --help does not wait for torch

    facts = describe_model(path) if Path(path).suffix == ".safetensors" else describe_scene(path)
    if as_json:
        click.echo(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False))
        return
    _show(facts, indent=0)


def _show(facts: dict[str, Any], indent: int) -> None:
    width = max((len(key) for key in facts), default=0)
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            click.echo(f"{' ' * indent}{key}")
            _show(value, indent + 2)
        else:
            click.echo(f"{' ' * indent}{key:<{width}}  {_text(value)}")


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        shown = ", ".join(_text(item) for item in value[:6])
        return f"{shown}, ... ({len(value)} values)" if len(value) > 6 else shown  # noqa: PLR2004 - fits a line
    return f"{value:.6g}" if isinstance(value, float) else str(value)
