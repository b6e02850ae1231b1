"""What `cssd-geo info MODEL` prints for a person.

Provenance is whatever the file says, so what is missing there, or is not as training writes it, is left out.
"""

from collections.abc import Iterable
from typing import Any

from cssd_geo.messages import column_width, padded

_OTHERS = {"main": "main head (window)", "spectral": "spectral head"}


def lines_of(facts: dict[str, Any]) -> dict[str, list[str]]:
    """Return lines by the name of their group, from what `describe_model` knows of a model."""
    header = facts["header"]
    provenance = header["provenance"]
    return {
        "bands": [facts["bands"]],
        "network": [_network(header["network"], facts["weights"])],
        "accuracy": _accuracy(provenance.get("accuracy")),
        "classes": _classes(header["classes"], provenance),
        "trained": _trained(provenance),
        "options": _options(provenance.get("options")),
        "versions": [", ".join(f"{name} {_plain(value)}" for name, value in _items(provenance.get("versions")))],
        "heads": [_heads(header["calibration"])],
        "digest": [facts["digest"]],
        "more": ["statistics of each band, confusion matrices and fingerprints: --json"],
    }


def _network(network: dict[str, Any], weights: int) -> str:
    window = network["window"]
    stages = ", stages as published" if network["strided_spectral"] else ""
    return f"window of {window} x {window} pixels, {weights:,} weights{stages}"


def _accuracy(accuracy: Any) -> list[str]:
    ours = _at(accuracy, "map")
    if ours is None:
        return ["not measured"]
    low, high = (_percent(_at(ours, "overall_accuracy_95", end)) for end in (0, 1))
    interval = "" if low == "-" else f" (95 %: {low} to {high} %)"
    figures = f"OA {_percent(_at(ours, 'overall_accuracy'))} %{interval}, "
    figures += f"AA {_percent(_at(ours, 'average_accuracy'))} %, kappa {_number(_at(ours, 'kappa'), '.3f')}, "
    figures += f"{_number(_at(ours, 'total'), ',')} pixels"
    error = _number(_at(accuracy, "reliability", "expected_calibration_error"), ".3f")
    baselines = _at(accuracy, "baselines")
    others = {name: _at(accuracy, key) for key, name in _OTHERS.items()}
    others |= baselines if isinstance(baselines, dict) else {}
    width = max(map(len, others))
    return [
        figures,
        f"calibration error of the confidence {error}; 0 is perfect",
        f"{'on the same pixels':<{width}}   OA %   AA %  kappa",
        *(f"{name:<{width}}  {_figures(other)}" for name, other in others.items() if other is not None),
        *([accuracy["split"]] if isinstance(_at(accuracy, "split"), str) else []),
    ]


def _figures(accuracy: Any) -> str:
    shares = [_percent(_at(accuracy, f"{kind}_accuracy")) for kind in ("overall", "average")]
    return f"{shares[0]:>5}  {shares[1]:>5}  {_number(_at(accuracy, 'kappa'), '.3f'):>5}"


def _classes(classes: dict[str, str], provenance: dict[str, Any]) -> list[str]:
    """Return a table: id, name with its colour, pixels that trained, and the accuracy of each class."""
    measured = _at(provenance, "accuracy", "map", "classes")
    rows = measured if isinstance(measured, list) else []
    of_class = {row["name"]: row for row in rows if isinstance(_at(row, "name"), str)}
    width = column_width(classes.values())
    lines = [f"{'id':>3}  {'name (colour)':<{width}}  {'trained':>8}  {'tested':>8}  {'PA %':>5}  {'UA %':>5}"]
    for number, text in classes.items():
        name = text.rsplit(" (", 1)[0]
        trained, found = _at(provenance, "training_pixels", name), of_class.get(name)
        counts = f"{_number(trained, ','):>8}  {_number(_at(found, 'n'), ','):>8}"
        shares = (_percent(_at(found, f"{kind}_accuracy")) for kind in ("producers", "users"))
        lines.append(
            f"{number:>3}  {padded(text, width)}  {counts}  {'  '.join(f'{share:>5}' for share in shares)}"
        )
    return lines


def _trained(provenance: dict[str, Any]) -> list[str]:
    several = provenance.get("scenes")
    sources = several if isinstance(several, list) else [provenance]
    lines = [f"{scene}{_labels(source)}" for source in sources if (scene := _at(source, "scene", "name"))]
    scale, offset = (_at(provenance, "scale", name) for name in ("scale", "offset"))
    if isinstance(scale, list) and isinstance(offset, list) and (scale, offset) != ([1.0], [0.0]):
        lines.append(formula(scale, offset))
    whitening = provenance.get("whitening")
    return [*lines, *([whitening] if isinstance(whitening, str) else [])]


def _labels(source: Any) -> str:
    name, layer = (_at(source, "labels", key) for key in ("name", "layer"))
    return "" if name is None else f", labels {name}{'' if layer is None else f', layer {layer}'}"


def _options(options: Any) -> list[str]:
    """Return the options as they are named on the command line; those without a value are left out."""
    given = {name.replace("_", "-"): value for name, value in _items(options) if value is not None}
    return [", ".join(f"{name}={_plain(value)}" for name, value in given.items())]


def _heads(calibration: dict[str, Any]) -> str:
    main, spectral = (_number(calibration[head], ".3g") for head in _OTHERS)
    fitted = f"weights fitted on {calibration['pixels']:,} held-out pixels" if calibration["pixels"] else "weights"
    return f"{fitted}: main {main}, spectral {spectral}"


# ---- values -------------------------------------------------------------------------------------------------


def _at(value: Any, *keys: str | int) -> Any:
    """Return what lies below the keys of nested tables and lists; None where there is nothing."""
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        else:
            value = value[key] if isinstance(value, list) and isinstance(key, int) and key < len(value) else None
    return value


def _items(table: Any) -> Iterable[tuple[str, Any]]:
    return table.items() if isinstance(table, dict) else ()


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def formula(scale: list[Any], offset: list[Any]) -> str:
    """Say how stored values become reflectance, by the scale and offset of each band."""
    return f"reflectance = value x {_few_of(scale)} + {_few_of(offset)}"


def _few_of(values: list[Any]) -> str:
    """Return the first of the values, as many as fit a line."""
    shown = ", ".join(map(_plain, values[:6]))
    return f"{shown}, ... ({len(values)} values)" if len(values) > 6 else shown  # noqa: PLR2004 - fits a line


def _number(value: Any, form: str) -> str:
    return format(value, form) if _is_number(value) else "-"


def _percent(share: Any) -> str:
    return f"{100 * share:.1f}" if _is_number(share) else "-"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e15  # noqa: PLR2004 - no count of pixels is larger
