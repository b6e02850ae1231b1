"""Bands picked by hand: "1-50, 60, 70-90" in numbers from 1, or "450-900nm, 1.1-1.3um" in wavelengths."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cssd_geo.bands import Bands
from cssd_geo.errors import InputError
from cssd_geo.options import whole_number

_NANOMETRES = {"nm": 1.0, "um": 1000.0, "µm": 1000.0, "μm": 1000.0}
"""Nanometres in a unit; the micro sign and the Greek letter look the same and are not."""
_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_UNIT = rf"({'|'.join(_NANOMETRES)})"
_RANGE = re.compile(rf"{_NUMBER}\s*{_UNIT}?\s*-\s*{_NUMBER}\s*{_UNIT}", re.IGNORECASE)
_COUNT = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?", re.ASCII)
_EXAMPLE = 'such as "1-50, 60, 70-90" or "450-900nm, 1.1-1.3um"'


def choose_bands(choice: str | Sequence[int], bands: Bands) -> NDArray[np.intp]:
    """Return the indexes from 0 of the bands that a person chose, in the order of the choice.

    Args:
        choice: numbers from 1 in file order, as a sequence or as a text with ranges; a text may also hold ranges
            of wavelengths, both ends included, which take their bands in file order.
        bands: of the scene.

    Raises:
        InputError: if it is no choice, a range is reversed or holds no band, or a band is chosen twice.
    """
    if isinstance(choice, str):
        parts = [_indexes(part.strip(), bands) for part in choice.split(",")]
    elif not isinstance(choice, Iterable):
        raise InputError(f"bands are chosen by numbers from 1 or by a text, {_EXAMPLE}, not by {choice!r}")
    else:
        numbers = [whole_number("each of bands", number) for number in choice]
        parts = [_counted(str(number), number, number, bands) for number in numbers]
    indexes = np.array([index for part in parts for index in part], np.intp)
    if not len(indexes):
        raise InputError(f"no band is chosen: name some, {_EXAMPLE}")
    found, times = np.unique(indexes, return_counts=True)
    if (times > 1).any():
        raise InputError(f"band {found[times > 1][0] + 1} is chosen more than once: name each band once")
    return indexes


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as a choice: 1, 2, 3, 7 as "1-3, 7"; in their order."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _indexes(part: str, bands: Bands) -> Sequence[int]:
    wavelengths, count = _RANGE.fullmatch(part), _COUNT.fullmatch(part)
    if wavelengths is not None:
        low, low_unit, high, high_unit = wavelengths.groups()
        low_nm, high_nm = (
            float(value) * _NANOMETRES[unit.lower()]
            for value, unit in ((low, low_unit or high_unit), (high, high_unit))
        )
        return _within(part, low_nm, high_nm, bands)
    if count is not None:
        return _counted(part, int(count[1]), int(count[2] or count[1]), bands)
    raise InputError(f"bands: {part!r} is neither a band nor a range of them: write it {_EXAMPLE}")


def _counted(part: str, first: int, last: int, bands: Bands) -> Sequence[int]:
    if first > last:
        raise InputError(f"bands: {part!r} runs backwards: write {last}-{first}, or name the bands one by one")
    for number in (first, last):
        if not 1 <= number <= len(bands):
            are_nm = first < last and any(first <= centre <= last for centre in bands.wavelength_nm or ())
            hint = f"; for wavelengths write {part}nm" if are_nm else ""
            raise InputError(f"bands: there is no band {number}; the scene has bands 1 to {len(bands)}{hint}")
    return range(first - 1, last)


def _within(part: str, low_nm: float, high_nm: float, bands: Bands) -> Sequence[int]:
    if bands.wavelength_nm is None:
        raise InputError(
            f"bands: {part!r} is a range of wavelengths, and those of the scene are not known: count bands"
        )
    if low_nm > high_nm:
        raise InputError(f"bands: {part!r} runs backwards: write the shorter wavelength first")
    centres = bands.wavelength_nm
    found = [index for index, centre in enumerate(centres) if low_nm <= centre <= high_nm]
    if not found:
        covered = f"{min(centres):.0f} to {max(centres):.0f} nm"
        raise InputError(f"bands: no band has its centre in {part!r}; the scene's lie at {covered}")
    return found
