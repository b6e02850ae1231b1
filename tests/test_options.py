"""What a user may choose: defaults, limits, and the command line that shows them."""

from dataclasses import fields
from typing import Any

import click
import numpy as np
import pytest

from cssd_geo.cli import options as shared
from cssd_geo.errors import InputError
from cssd_geo.options import LARGEST_WINDOW, RECEPTIVE_FIELD, TrainingOptions

NUMBERS = [item for item in fields(TrainingOptions) if type(item.default) in (int, float) or item.name == "shots"]


@click.command()
@shared.training
def _command(**settings: Any) -> None:
    """Show."""


def test_the_receptive_field_is_that_of_the_default_window() -> None:
    assert TrainingOptions().window + 6 == RECEPTIVE_FIELD


@pytest.mark.parametrize("item", fields(TrainingOptions), ids=lambda item: str(item.name))
def test_each_option_has_a_text_and_a_default_within_its_limits(item: Any) -> None:
    assert item.metadata["help"].endswith(".")
    assert f"    {item.name}: {item.metadata['help']}" in (TrainingOptions.__doc__ or "")
    TrainingOptions(**{item.name: item.default})


@pytest.mark.parametrize("item", NUMBERS, ids=lambda item: str(item.name))
def test_limits_are_inclusive_and_named_in_the_error(item: Any) -> None:
    least, most = item.metadata["least"], item.metadata["most"]
    assert getattr(TrainingOptions(**{item.name: least}), item.name) == least
    with pytest.raises(InputError, match=rf"{item.name} must be (at least|from) {least}.* not {least - 1}"):
        TrainingOptions(**{item.name: least - 1})
    if most < float("inf"):
        assert getattr(TrainingOptions(**{item.name: most}), item.name) == most
        with pytest.raises(InputError, match=f"from {least} to {most}, not {most + 1}"):
            TrainingOptions(**{item.name: most + 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "temperature", "spectral_weight"])
def test_numbers_must_be_finite(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be .*not {value}"):
        TrainingOptions(**{name: value})


def test_whole_numbers_may_be_floats() -> None:
    assert repr(TrainingOptions(epochs=3.0, shots=2.0)) == repr(TrainingOptions(epochs=3, shots=2))  # type: ignore[arg-type]


def test_numpys_numbers_become_pythons() -> None:
    numbers: dict[str, Any] = {"window": np.int64(8), "learning_rate": np.float32(0.5), "baseline": np.False_}
    chosen = TrainingOptions(**numbers)
    assert [type(value) for value in (chosen.window, chosen.learning_rate, chosen.baseline)] == [int, float, bool]


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 1.5), ("epochs", "3"), ("epochs", True), ("epochs", None), ("shots", 2.5),
     ("learning_rate", "fast"), ("published", 1), ("baseline", "yes"), ("split", None), ("split", 3)],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{name} must be .*, not {value!r}"):
        TrainingOptions(**{name: value})


def test_numbers_of_numpy_are_numbers() -> None:
    options = TrainingOptions(epochs=np.int64(3), learning_rate=0.5)  # type: ignore[arg-type]
    assert options.epochs == 3


def test_the_published_network_is_not_whitened() -> None:
    with pytest.raises(
        InputError, match=r"published and whitening 'always' exclude each other.*: leave one of them"
    ):
        TrainingOptions(published=True, whitening="always")
    for choice in ("auto", "never"):
        assert TrainingOptions(published=True, whitening=choice).published


def test_an_unknown_split_is_answered_with_the_choices() -> None:
    with pytest.raises(InputError, match="split 'folds' is unknown; choose from polygons, random, none"):
        TrainingOptions(split="folds")


def test_the_command_line_has_every_option_with_the_same_default() -> None:
    parameters = {parameter.name: parameter for parameter in _command.params}
    assert set(parameters) == {item.name for item in fields(TrainingOptions)}
    assert all(parameters[item.name].default == item.default for item in fields(TrainingOptions))


def test_a_window_of_any_parity_is_allowed_up_to_the_largest() -> None:
    for size in (1, 9, 10, LARGEST_WINDOW):
        assert TrainingOptions(window=size).window == size
