"""Wavelengths as files state them, in nanometres: the unit that a file declares, unless the values deny it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cssd_geo.bands import to_nanometres

PLAUSIBLE_NM = (200.0, 20_000.0)
"""From ultraviolet to thermal infrared: what instruments have, and what no unit mistaken by 1000 leads to."""
_NAMES = {
    "nanometres": ("nm", "nanometer", "nanometers", "nanometre", "nanometres"),
    "ångströms": ("angstrom", "angstroms", "ångström", "ångströms"),
    "micrometres": (
        "um",
        "µm",
        "\N{GREEK SMALL LETTER MU}m",
        "micrometer",
        "micrometers",
        "micrometre",
        "micrometres",
        "micron",
        "microns",
    ),
}
_FACTORS = {"ångströms": 0.1, "nanometres": 1.0, "micrometres": 1000.0}
_NAME_OF = {spelling: name for name, spellings in _NAMES.items() for spelling in spellings}
_NARROWEST, _WIDEST = 1e-4, 1.0
"""FWHM as parts of the wavelength: from fluorescence imagers to panchromatic bands."""


@dataclass(frozen=True, kw_only=True)
class Wavelengths:
    """What could be made of a list of wavelengths."""

    wavelength_nm: tuple[float, ...] | None = None
    fwhm_nm: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    """What was doubtful, and how it was decided."""


def resolve_wavelengths(values: Sequence[float], widths: Sequence[float] | None, units: str) -> Wavelengths:
    """Bring wavelengths and widths (FWHM, None where unknown) to nanometres, and say what was doubtful.

    Args:
        values: one a band.
        widths: one a band, in the unit of the wavelengths, or None.
        units: as the file names them; "" where it does not.
    """
    wavelength_nm = to_nanometres(values, units)
    least, most = min(values), max(values)
    stated = f"wavelengths from {least:g} to {most:g}" + (f" {units}" if units else "")
    if wavelength_nm is None:
        return Wavelengths(notes=(f"The {stated} are no lengths: they are not used.",))
    if not PLAUSIBLE_NM[0] <= min(wavelength_nm) <= max(wavelength_nm) <= PLAUSIBLE_NM[1]:
        return Wavelengths(notes=(f"The {stated} are not those of an optical instrument: they are not used.",))
    factor = wavelength_nm[0] / values[0]
    read_as = min(_FACTORS, key=lambda unit: abs(math.log(_FACTORS[unit] / factor)))
    notes: tuple[str, ...] = ()
    declared = _NAME_OF.get(units.strip().lower())
    if declared is None:
        said = f'gives the unit "{units}"' if units else "gives no unit"
        notes = (f"The file {said} for wavelengths from {least:g} to {most:g}: read as {read_as}.",)
    elif declared != read_as:
        notes = (f"The file says {units} for wavelengths from {least:g} to {most:g}: read as {read_as}.",)
    if widths is None:
        return Wavelengths(wavelength_nm=wavelength_nm, notes=notes)
    fwhm_nm, remark = _resolve_widths(widths, wavelength_nm, factor=_FACTORS[read_as])
    return Wavelengths(wavelength_nm=wavelength_nm, fwhm_nm=fwhm_nm, notes=notes + remark)


def _resolve_widths(
    widths: Sequence[float], wavelength_nm: Sequence[float], *, factor: float
) -> tuple[tuple[float, ...] | None, tuple[str, ...]]:
    """Bring widths to nanometres by `factor`, or by the one that makes them widths of these wavelengths."""
    numbers = np.asarray(widths, np.float64)
    stated = f"band widths (FWHM) from {numbers.min():g} to {numbers.max():g}"
    if not (np.isfinite(numbers).all() and (numbers > 0).all()):
        return None, (f"The {stated} are no widths: they are not used.",)
    for times, name in ((1.0, ""), (1e-3, "nanometres"), (1e3, "micrometres")):
        found = numbers * factor * times
        if _NARROWEST <= float(np.median(found / np.asarray(wavelength_nm))) <= _WIDEST:
            note = (f"The {stated} are read as {name}, unlike the wavelengths.",) if name else ()
            return tuple(float(v) for v in np.round(found, 6)), note
    return None, (f"The {stated} do not fit the wavelengths: they are not used.",)
