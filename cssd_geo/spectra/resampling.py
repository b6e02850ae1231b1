"""Bands of one sensor from those of another: a sparse linear map by Gaussian response.

Spectral Python's `BandResampler`, spectrolab and prospectr agree on the convention: a band answers as a Gaussian
of its wavelength and FWHM. What a wanted band (variance t²) sees of bands that are Gaussians themselves (s²) is
their spectrum under a Gaussian of t² - s². Between bands the spectrum is taken as linear, which blurs as a
variance of d²/6 does where bands are d apart, so that is taken off too. Where nothing is left, because the bands
are as wide as the wanted one or wider, interpolation between the two nearest remains.

The integral is a sum over pairs of wavelengths, one as far below the wanted band as the other is above. It ends
with the last pair that lies between known bands. So weights are never negative, sum to 1 and give spectra that are
linear in wavelength back exactly, at the ends of the spectrum and beside gaps too: nothing is ever shifted.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.bands import Bands

Floats = NDArray[np.float64]

MATCH_TOLERANCE_NM = 2.0
"""Bands of the same sensor differ by less than this between campaigns (smile, recalibration)."""
_BRIDGED_SPACINGS = 2.5
"""A gap of so many usual steps is interpolated over: one missing band is, two side by side are not."""
_BRIDGED_WIDTHS = 3.0
"""But no gap of so many widths of the wanted band: a few broad bands do not hold what narrow ones tell."""
_STEPS = np.linspace(0, 3, 25)
"""Distances of the pairs in standard deviations: beyond three there is nothing to see."""
_BELL = np.exp(-0.5 * _STEPS**2) * np.where(_STEPS > 0, 1, 0.5)
_FWHM_TO_VARIANCE = 1 / (8 * np.log(2))
_NEIGHBOURS = 3
"""Gaps on each side; neither a missing stretch nor a pair of close bands moves their median."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SpectralAxis:
    """A scene's good bands by wavelength. Detectors may overlap; bands at one wavelength count as their mean."""

    nm: Floats
    """(G,) ascending."""
    fwhm: Floats
    """(G,)."""
    spacing: Floats
    """(G,) to the next bands, usually."""
    mean: Floats
    """(G, N) weights of the N good bands in each of the G; rows sum to 1."""

    @classmethod
    def of(cls, scene: Bands) -> Self:
        """Sort the good bands of a scene whose wavelengths are known."""
        good = scene.good_indexes
        nm, place = np.unique(centres(scene)[good], return_inverse=True)
        members = (np.arange(len(nm))[:, None] == place).astype(np.float64)
        mean = members / members.sum(axis=1, keepdims=True)
        return cls(nm=nm, fwhm=mean @ widths(scene)[good], spacing=_spacing(nm), mean=mean)

    def resample(self, centre: Floats, fwhm: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Find how bands with this centre and FWHM, each (S,), are made of the good ones.

        A band is covered where it lies between two that are near enough. Where one side is missing, one within
        `MATCH_TOLERANCE_NM` stands for it.

        Returns:
            Weights (S, N), and which are covered, (S,); rows of the others are zeros.
        """
        distance = self._deviation(centre, fwhm)[:, None] * _STEPS  # (S,Q)
        points = centre[:, None] + np.stack([-distance, distance])  # (2,S,Q)
        below = np.clip(np.searchsorted(self.nm, points, side="right") - 1, 0, max(len(self.nm) - 2, 0))
        above = np.minimum(below + 1, len(self.nm) - 1)
        bridged = self._bridged(points, below, above, fwhm[:, None])
        seen = np.logical_and.accumulate(bridged.all(axis=0), axis=1)  # (S,Q)
        mass = seen * _BELL
        mass /= 2 * mass.sum(axis=1, keepdims=True) + ~seen[:, :1]
        share = (points - self.nm[below]) / np.where(above > below, self.nm[above] - self.nm[below], 1)
        weights = np.zeros((len(centre), len(self.nm)))
        rows = np.arange(len(centre))[:, None]
        for side in (0, 1):
            np.add.at(weights, (rows, below[side]), mass * (1 - share[side]))
            np.add.at(weights, (rows, above[side]), mass * share[side])
        apart = np.abs(centre[:, None] - self.nm)  # (S,G)
        alone = ~seen[:, 0] & (apart.min(axis=1) <= MATCH_TOLERANCE_NM)
        weights[alone, apart.argmin(axis=1)[alone]] = 1
        return weights @ self.mean, seen[:, 0] | alone

    def _deviation(self, centre: Floats, fwhm: Floats) -> Floats:
        """Standard deviation (S,) of the Gaussian that makes the response of these bands the wanted one."""
        own, spacing = (np.interp(centre, self.nm, values) for values in (self.fwhm, self.spacing))
        variance = (fwhm**2 - own**2) * _FWHM_TO_VARIANCE - spacing**2 / 6
        deviation: Floats = np.sqrt(np.maximum(variance, 0))
        return deviation

    def _bridged(
        self, points: Floats, below: NDArray[np.intp], above: NDArray[np.intp], width: Floats
    ) -> NDArray[np.bool_]:
        """Whether points (2,S,Q) lie between two bands that are near enough for bands of a width (S,1)."""
        usual = np.maximum(self.spacing[below], self.spacing[above])
        longest = np.maximum(width, np.minimum(_BRIDGED_SPACINGS * usual, _BRIDGED_WIDTHS * width))
        inside = (points >= self.nm[0]) & (points <= self.nm[-1])
        bridged: NDArray[np.bool_] = inside & (self.nm[above] - self.nm[below] <= longest)
        return bridged


def centres(bands: Bands) -> Floats:
    """Wavelengths (band,), which must be known."""
    return np.array(bands.wavelength_nm, np.float64)


def widths(bands: Bands) -> Floats:
    """FWHM (band,); where it is unknown, the usual spacing at each band's wavelength."""
    if bands.fwhm_nm is not None:
        return np.array(bands.fwhm_nm, np.float64)
    ordered = np.unique(centres(bands))
    spacing: Floats = np.interp(centres(bands), ordered, _spacing(ordered))
    return spacing


def _spacing(ordered: Floats) -> Floats:
    """Usual distance (G,) of ascending wavelengths around each of them; 0 for one alone."""
    gaps = np.diff(ordered)
    if not gaps.size:
        return np.zeros(len(ordered))
    return np.array([np.median(gaps[max(i - _NEIGHBOURS, 0) : i + _NEIGHBOURS]) for i in range(len(ordered))])
