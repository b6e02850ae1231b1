"""What a user may choose, with defaults and limits; each stands here once, for the API and the command line."""

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from cssd_geo.errors import InputError

DEVICES = ("auto", "cpu", "cuda")
LARGEST_SEED = 2**32 - 1
"""The largest seed that numpy, torch and scikit-learn all accept."""
SPLITS = ("polygons", "random", "none")
PRECISIONS = ("auto", "float32", "bfloat16")
WHITENING = ("auto", "always", "never")
ON_ERROR = ("stop", "skip")
"""What to do where part of a scene cannot be read."""
BATCH_ON_ERROR = ("stop", "continue")
"""What to do when a scene of a batch fails."""
BENCH_LAYOUTS = ("tiff", "tiff-deflate", "tiff-zstd", "tiff-strips", "envi-bil", "envi-bsq", "envi-bip", "netcdf")
"""Ways in which `bench` stores scenes; `bench.made` knows how."""
DEFAULT_MEMORY = 1_000_000_000
"""Bytes for the tiles in flight, the network's working memory and the blocks that GDAL keeps."""
DEMO_EPOCHS = 20
"""Enough for the made-up scene, and the demo stays under two minutes on two cores."""
RECEPTIVE_FIELD = 16
"""Side length of the square of pixels that decide one pixel's class with the default window of 10."""
LARGEST_WINDOW = 64
"""Side length of a window at most: a tile's margin, and with it its memory, grows with it."""
SAMPLE_LEAST = 50
"""Pixels of a rare class that a reference sample holds; Olofsson et al. 2014 advise 50 to 100."""
SAMPLE_STANDARD_ERROR = 0.01
"""Standard error of the overall accuracy that a sample is sized for, as in the example of Olofsson et al. 2014."""
SAMPLE_USERS_ACCURACY = 0.9
"""User's accuracy expected of each class: the sample has the right size if the map is that good."""


def _option(
    default: Any, text: str, *, least: float = -math.inf, most: float = math.inf, choices: tuple[str, ...] = ()
) -> Any:
    return field(default=default, metadata={"help": text, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """How to train; what the paper has is said where it differs."""

    epochs: int = _option(50, "Passes over the training windows.", least=1)
    batch_size: int = _option(16, "Windows per step.", least=2)
    learning_rate: float = _option(
        3e-3,
        "Peak learning rate for AdamW; it falls along a cosine (paper: Adam, 1e-3, halved on plateau).",
        least=1e-9,
    )
    weight_decay: float = _option(1e-2, "Weight decay for AdamW.", least=0)
    epsilon: float = _option(
        0.0, "Share of the spectral head's prediction in the main head's target (paper: 0.1).", least=0, most=1
    )
    temperature: float = _option(
        4.0,
        "How much the spectral head's prediction is softened as a target (tau); without effect at --epsilon 0.",
        least=1e-3,
    )
    spectral_weight: float = _option(1.0, "Weight of the spectral head's own loss (lambda).", least=0)
    window: int = _option(10, "Side length of the window in pixels.", least=1, most=LARGEST_WINDOW)
    published: bool = _option(False, "Build the network as published, without our changes (DESIGN.md).")
    whitening: str = _option(
        "auto",
        "Whiten the bands by how neighbouring pixels differ. Better where the fields of a class differ from each "
        "other as neighbouring pixels do, or where every field has labels; worse on new fields that differ in "
        "other ways. Without whitening, the network's stages are as published. auto: decided from the labels.",
        choices=WHITENING,
    )
    context_swap: float = _option(
        0.5,
        "Share of training windows whose centre is pasted into another's surroundings (paper: 0).",
        least=0,
        most=1,
    )
    shots: int | None = _option(
        None,
        "Training pixels per class, at most, drawn at random; if not given, --pixels-per-class is the limit.",
        least=1,
    )
    windows_per_class: int = _option(
        10, "Windows per class in an epoch, at most; limits the training time.", least=1
    )
    pixels_per_class: int = _option(
        1000,
        "Training pixels per class, at most; limits the memory. Scattered labels take the most, because each "
        "pixel brings its surroundings of 17 x 17 pixels.",
        least=1,
    )
    split: str = _option(
        "polygons",
        "What to test on. polygons: whole polygons, so far from those trained on that no window is shared; where "
        "they lie too close together for that, polygons beside them, and the report says so. random: random "
        "pixels, whose neighbours are trained on, so the accuracy is overrated. none: nothing; the accuracy stays "
        "unknown.",
        choices=SPLITS,
    )
    folds: int = _option(
        3,
        "Cross-validation folds: each holds out part of the labels and trains a model on the rest to test on it.",
        least=2,
        most=20,
    )
    baseline: bool = _option(
        True,
        "Also train a random forest and a support vector machine on the same pixels and report their accuracy.",
    )
    seed: int = _option(
        0,
        "Random seed; on a CPU the same seed gives the same model on the same machine.",
        least=0,
        most=LARGEST_SEED,
    )

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None or item.default is not None:
                kind: type[Any] = int if item.default is None else type(item.default)
                object.__setattr__(self, item.name, _checked(item.name, value, kind, item.metadata))
        if self.published and self.whitening == "always":
            raise InputError(
                "published and whitening 'always' exclude each other, as the published network learns in plain "
                "bands: leave one of them out"
            )


TrainingOptions.__doc__ = "\n".join(
    [
        f"{TrainingOptions.__doc__}\n\nArgs:",
        *(f"    {i.name}: {i.metadata['help']}" for i in fields(TrainingOptions)),
    ]
)


def _checked(name: str, value: Any, kind: type, limits: Mapping[str, Any]) -> Any:
    value = _READ[kind](name, value)
    if limits["choices"]:
        require_choice(name, value, limits["choices"])
    if kind in (int, float) and not (limits["least"] <= value <= limits["most"] and math.isfinite(value)):
        least, most = limits["least"], limits["most"]
        allowed = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise InputError(f"{name} must be {allowed}, not {value}")
    return value


def require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Check an argument that must be one of these.

    Raises:
        InputError: if it is none of them.
    """
    if value not in choices:
        raise InputError(f"{name} {value!r} is unknown; choose from {', '.join(choices)}")


def require_kind(name: str, value: Any, kind: type, made: str) -> None:
    """Check an argument that must be an object of ours; `made` says what it is, and how to come by it.

    Raises:
        InputError: if it is another one.
    """
    if not isinstance(value, kind):
        raise InputError(f"{name} must be {made}, not {type(value).__name__}")


def whole_number(name: str, value: Any) -> int:
    """Return an argument as Python's whole number, whatever it was computed with.

    Raises:
        InputError: if it is none.
    """
    whole = isinstance(value, numbers.Integral) or (isinstance(value, numbers.Real) and float(value).is_integer())
    if not whole or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, not {value!r}")
    return int(value)


def number(name: str, value: Any) -> float:
    """Return an argument as Python's number with a decimal point, whatever it was computed with.

    Raises:
        InputError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} must be a number, not {value!r}")
    return float(value)


def true_or_false(name: str, value: Any) -> bool:
    """Return an argument as Python's True or False. Nothing else counts: a text such as "no" would be true.

    Raises:
        InputError: if it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} must be true or false, not {value!r}")
    return bool(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text, not {value!r}")
    return value


_READ: dict[type, Callable[[str, Any], Any]] = {int: whole_number, float: number, bool: true_or_false, str: _text}
