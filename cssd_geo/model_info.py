"""What is known of a model, as plain values for a person or a program."""

from pathlib import Path
from typing import Any

from cssd_geo.classes import ClassTable, to_hex
from cssd_geo.files.json_values import json_ready
from cssd_geo.model import load_model


def describe_model(path: str | Path) -> dict[str, Any]:
    """Return the header of a model file, with counts that a reader looks for first.

    Raises:
        ModelFileError: if it is missing, damaged or not a model.
    """
    model = load_model(path)
    weights = sum(tensor.numel() for tensor in model.network.state_dict().values())
    header = model.header()
    header["classes"] = _classes(model.classes)
    summary = {"bands": model.bands.summary(), "weights": weights, "digest": model.digest()}
    facts: dict[str, Any] = json_ready({"model": Path(path).name} | summary | {"header": header})
    return facts


def _classes(table: ClassTable) -> dict[str, str]:
    rows = zip(table.ids, table.names, table.colours, strict=True)
    return {str(i): f"{name} ({to_hex(colour)})" for i, name, colour in rows}
