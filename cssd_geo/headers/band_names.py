"""Wavelengths in the names of bands: "band 12 (551.3 nm)", "0.5513 Micrometers", "b012_551nm", "551.3".

A name is read only if every band's is, and the results are wavelengths of an instrument, all different. Numbers
with a unit may stand in any text; numbers without one only where nothing else can be meant: no index ("Band 400"),
no year, no date.
"""

import re
from collections.abc import Callable, Sequence

Named = tuple[float, float | None]
"""Wavelength and FWHM of a band in nanometres."""

_NAMED_NM = (300.0, 15_000.0)
"""Narrower than `wavelengths.PLAUSIBLE_NM`: a number in free text is more easily something else."""
_LARGEST_MICROMETRES = 100.0
_YEARS = (1900.0, 2100.0)
_NEARBY = 0.2
"""Of two numbers with a dash between, the first begins a range if it is at least this share of the second."""
_NUMBER = r"(?<![\d.,])(\d+(?:\.\d+)?)"
_UNIT = r"(?:nm|nanomet(?:er|re)s?|[u\u00b5\u03bc]m|micromet(?:er|re)s?|microns?)(?![a-z])"
"""The micro sign and the Greek letter are both in use."""
_APART = r"[\s_.(\[]*"
"""What may stand between a number and its unit: R writes "X551.3.Nanometers", others "551.3 (nm)", "551_nm"."""
_WITH_UNIT = re.compile(rf"{_NUMBER}{_APART}{_UNIT}", re.IGNORECASE)
_WIDTH = re.compile(rf"(?:fwhm|bandwidth)\W*{_NUMBER}(?:\s*{_UNIT})?", re.IGNORECASE)
_DASH = r"(?:-|\u2013|\u2014|to|\.\.)"
_RANGE = re.compile(
    rf"{_NUMBER}{_APART}(?:{_UNIT})?[\s_]*{_DASH}[\s_]*(\d+(?:\.\d+)?){_APART}{_UNIT}", re.IGNORECASE
)
_WITHOUT_UNIT = re.compile(
    r"(?:(?:band|b|channel|ch|layer|wavelength|wl)?[ _#]*\d*\s*[ _:(=]+\s*)?(\d+\.\d+)\)?", re.IGNORECASE
)


def read_names(names: Sequence[str | None]) -> list[Named] | None:
    """Return wavelength and FWHM of each band; None where not all names tell them beyond doubt."""
    given = [name for name in names if name]
    if len(given) < len(names):
        return None
    return _of_all(given, _with_unit) or _unless_years(_of_all(given, _without_unit))


def _of_all(names: Sequence[str], read: Callable[[str], Named | None]) -> list[Named] | None:
    found = [read(name) for name in names]
    known = [each for each in found if each is not None and _NAMED_NM[0] <= each[0] <= _NAMED_NM[1]]
    all_different = len({wavelength for wavelength, _ in known}) == len(names)
    return known if all_different else None


def _with_unit(name: str) -> Named | None:
    """Read the only number with a unit, beside that of the width."""
    width = _WIDTH.search(name)
    rest = _WIDTH.sub(" ", name)
    numbers = _WITH_UNIT.findall(rest)
    span = _RANGE.search(rest)
    if len(numbers) != 1 or (span and float(span[1]) > _NEARBY * float(span[2])):
        return None
    value = float(numbers[0])
    factor = 1000.0 if value < _LARGEST_MICROMETRES else 1.0  # the magnitude decides, whatever the name says
    return round(value * factor, 6), None if width is None else round(float(width[1]) * factor, 6)


def _without_unit(name: str) -> Named | None:
    """Read a number with decimals, alone or after the band's index."""
    found = _WITHOUT_UNIT.fullmatch(name.strip())
    return None if found is None else (float(found[1]), None)


def _unless_years(found: list[Named] | None) -> list[Named] | None:
    """Indexes such as 300.0 have no fraction; years lie close together."""
    if found is None or all(value.is_integer() for value, _ in found):
        return None
    return None if all(_YEARS[0] <= value <= _YEARS[1] for value, _ in found) else found
