"""Spectral bands: wavelengths, widths and which are usable."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.errors import InputError

_GAP = 4.0
"""A gap of more usual steps than this between two bands means that some were left out, as in water vapour."""


@dataclass(frozen=True, kw_only=True)
class Bands:
    """The bands of a scene or a model, in file order."""

    good: tuple[bool, ...]
    """One a band; True means usable."""
    wavelength_nm: tuple[float, ...] | None = None
    """Centre of each band in nanometres, in file order (not always ascending), or None if unknown."""
    fwhm_nm: tuple[float, ...] | None = None
    """Full width at half maximum of each band in nanometres, or None if unknown."""

    def __post_init__(self) -> None:
        if not self.good:
            raise InputError("bands: there are none")
        for name in ("wavelength_nm", "fwhm_nm"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.good):
                raise InputError(f"bands: {len(values)} values of {name} for {len(self.good)} bands")
            wrong = [v for v in values or () if not (np.isfinite(v) and v > 0)]
            if wrong:
                raise InputError(f"bands: {name} must be positive and finite, not {wrong[0]}: correct or drop it")

    def __len__(self) -> int:
        return len(self.good)

    @property
    def good_indexes(self) -> NDArray[np.intp]:
        """Indexes from 0 of the usable bands."""
        return np.flatnonzero(self.good)

    def nearest(self, wavelength_nm: float) -> int:
        """Index from 0 of the good band nearest to a wavelength; by position where none are known."""
        good = self.good_indexes
        if self.wavelength_nm is None:
            position = np.clip((wavelength_nm - 400) / 2100, 0, 1) * (len(good) - 1)  # a guess for display
            return int(good[round(float(position))])
        return int(good[np.abs(np.array(self.wavelength_nm)[good] - wavelength_nm).argmin()])

    def without(self, bad: NDArray[np.bool_]) -> Self:
        """Return the bands with those marked in `bad`, (band,), no longer good."""
        return replace(self, good=tuple(bool(g and not b) for g, b in zip(self.good, bad, strict=True)))

    def take(self, indexes: NDArray[np.intp]) -> Self:
        """Return the bands of these indexes from 0, in this order."""
        return type(self)(
            good=tuple(self.good[i] for i in indexes),
            wavelength_nm=None if self.wavelength_nm is None else tuple(self.wavelength_nm[i] for i in indexes),
            fwhm_nm=None if self.fwhm_nm is None else tuple(self.fwhm_nm[i] for i in indexes),
        )

    def summary(self) -> str:
        """One line for a person: counts and range."""
        text = f"{len(self)} bands, {sum(self.good)} good"
        if self.wavelength_nm is None:
            return f"{text}, wavelengths unknown"
        text += f", {min(self.wavelength_nm):.0f} to {max(self.wavelength_nm):.0f} nm"
        return text if self.fwhm_nm is None else f"{text}, FWHM {np.median(self.fwhm_nm):.1f} nm (median)"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON header."""
        lists = {"wavelength_nm": self.wavelength_nm, "fwhm_nm": self.fwhm_nm}
        return {"good": list(self.good)} | {k: None if v is None else list(v) for k, v in lists.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_json`; checks what it reads.

        Raises:
            InputError: if a key is missing or a value is of the wrong type.
        """
        try:
            return cls(
                good=tuple(bool(g) for g in values["good"]),
                wavelength_nm=_floats(values["wavelength_nm"]),
                fwhm_nm=_floats(values["fwhm_nm"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a list of bands: {error!r}") from error


def segments(bands: Bands) -> list[NDArray[np.intp]]:
    """Indexes from 0 of runs of bands without a gap or a turn of wavelengths; no runs where these are unknown."""
    if bands.wavelength_nm is None:
        return []
    steps = np.abs(np.diff(bands.wavelength_nm))
    usual = np.median(steps) if steps.size else 0.0
    return np.split(np.arange(len(bands)), np.flatnonzero(turns(bands.wavelength_nm) | (steps > _GAP * usual)) + 1)


def turns(wavelengths: Sequence[float]) -> NDArray[np.bool_]:
    """Tell for each wavelength but the first whether it turns back from how most of them run, or stays."""
    steps = np.diff(wavelengths)
    onward = -1 if np.sign(steps).sum() < 0 else 1
    turned: NDArray[np.bool_] = onward * steps <= 0
    return turned


def _floats(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(v) for v in values)
