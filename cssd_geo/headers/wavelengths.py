"""Wavelengths as files state them, in nanometres: the unit that a file declares, unless the values deny it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LARGEST_METRES = 1e-3
_LARGEST_MICROMETRES = 100.0
"""Optical wavelengths are below 0.001 in metres, below 100 in micrometres and above it in nanometres, whatever a
header says."""
_NOT_A_LENGTH = ("index", "ghz", "mhz", "wavenumber", "cm-1", "year", "date", "day")
PLAUSIBLE_NM = (200.0, 20_000.0)
"""From ultraviolet to thermal infrared: what instruments have, and what no unit mistaken by 1000 leads to."""
_NAME_OF = {
    **dict.fromkeys(("nm", "nanometer"), "nanometres"),
    **dict.fromkeys(("um", "µm", "\N{GREEK SMALL LETTER MU}m", "micrometer", "micron"), "micrometres"),
    **dict.fromkeys(("m", "meter"), "metres"),
    "å": "ångströms",
}
"""Units by how files spell them, in lower case, without the plural, and "meter" for "metre"."""
_FACTORS = {"ångströms": 0.1, "nanometres": 1.0, "micrometres": 1e3, "metres": 1e9}
_ANGSTROM = "ngstr"
"""In "angstrom", "Ångström" and "Angstroem"."""
_NARROWEST, _WIDEST = 1e-4, 1.0
"""FWHM as parts of the wavelength: from fluorescence imagers to panchromatic bands."""


@dataclass(frozen=True, kw_only=True)
class Wavelengths:
    """What could be made of a list of wavelengths."""

    wavelength_nm: tuple[float, ...] | None = None
    fwhm_nm: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    """What was doubtful, and how it was decided."""


def resolve_wavelengths(
    values: Sequence[float], widths: Sequence[float] | None, units: str, *, width_units: str = ""
) -> Wavelengths:
    """Bring wavelengths and widths (FWHM, None where unknown) to nanometres, and say what was doubtful.

    Args:
        values: one a band.
        widths: one a band, or None.
        units: of the wavelengths, as the file names them; "" where it does not.
        width_units: of the widths likewise; without it they have that of the wavelengths, if they can.
    """
    stated = f"wavelengths {_span(values)}" + (f" {units}" if units else "")
    numbers = np.asarray(values, np.float64)
    if any(word in units.lower() for word in _NOT_A_LENGTH) or not _are_lengths(numbers):
        return Wavelengths(notes=(f"The {stated} are no lengths: they are not used.",))
    read_as = _unit_of(numbers, units)
    wavelength_nm = _in_nanometres(numbers, read_as)
    if not PLAUSIBLE_NM[0] <= min(wavelength_nm) <= max(wavelength_nm) <= PLAUSIBLE_NM[1]:
        return Wavelengths(notes=(f"The {stated} are not those of an optical instrument: they are not used.",))
    notes: tuple[str, ...] = ()
    declared = _unit_named(units)
    if declared is None:
        said = f'gives the unit "{units}"' if units else "gives no unit"
        notes = (f"The file {said} for wavelengths {_span(values)}: read as {read_as}.",)
    elif declared != read_as:
        notes = (f"The file says {units} for wavelengths {_span(values)}: read as {read_as}.",)
    if widths is None:
        return Wavelengths(wavelength_nm=wavelength_nm, notes=notes)
    fwhm_nm, remark = _resolve_widths(widths, wavelength_nm, units=width_units, unit_beside=read_as)
    return Wavelengths(wavelength_nm=wavelength_nm, fwhm_nm=fwhm_nm, notes=notes + remark)


def _resolve_widths(
    widths: Sequence[float], wavelength_nm: Sequence[float], *, units: str, unit_beside: str
) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """Bring widths to nanometres: by their unit, that of the wavelengths, or the one that makes them widths."""
    numbers = np.asarray(widths, np.float64)
    stated = f"band widths (FWHM) {_span(widths)}"
    if not _are_lengths(numbers):
        return None, (f"The {stated} are no widths: they are not used.",)
    declared = _unit_named(units)
    expected = declared or unit_beside
    for name in (expected, unit_beside, "nanometres", "micrometres"):
        fwhm_nm = _in_nanometres(numbers, name)
        if not _NARROWEST <= float(np.median(np.divide(fwhm_nm, wavelength_nm))) <= _WIDEST:
            continue
        if name == expected:
            return fwhm_nm, ()
        if declared is not None:
            return fwhm_nm, (f"The file says {units} for {stated}: read as {name}.",)
        return fwhm_nm, (f"The {stated} are read as {name}, unlike the wavelengths.",)
    return None, (f"The {stated} do not fit the wavelengths: they are not used.",)


def _unit_of(wavelengths: NDArray[np.float64], units: str) -> str:
    """Their size decides, because headers that say one unit above values in another exist; but for ångströms."""
    if _unit_named(units) == "ångströms":
        return "ångströms"
    if wavelengths.max() < _LARGEST_METRES:
        return "metres"
    return "micrometres" if wavelengths.max() < _LARGEST_MICROMETRES else "nanometres"


def is_length(units: str) -> bool:
    """Whether a unit is one that wavelengths are given in."""
    return _unit_named(units) is not None


def _unit_named(units: str) -> str | None:
    """The unit that a file names; None where it names none that is known."""
    name = units.strip().lower().removesuffix("s").replace("metre", "meter")
    return "ångströms" if _ANGSTROM in name else _NAME_OF.get(name)


def _are_lengths(numbers: NDArray[np.float64]) -> bool:
    return bool((np.isfinite(numbers) & (numbers > 0)).all())


def _in_nanometres(numbers: NDArray[np.float64], unit: str) -> tuple[float, ...]:
    return tuple(np.round(numbers * _FACTORS[unit], 6).tolist())


def _span(values: Sequence[float]) -> str:
    return f"from {min(values):g} to {max(values):g}"
