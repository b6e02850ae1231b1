"""Reflectance of land covers from their absorption features, 400 to 2500 nm.

Every solid surface is an optically thick scattering layer. Absorbers add up in F, the ratio of absorption to
scattering, and reflectance follows from F (Kubelka and Munk, 1931): R = 1 + F - sqrt(F^2 + 2 F). So pigments
saturate as they do in nature, and a wet or dense surface is no mere rescaling of a dry or sparse one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Spectra = NDArray[np.float64]
"""(sample, wavelength) reflectance, 0..1."""
Amount = NDArray[np.float64] | float
"""(sample, 1) amount of an absorber; 1 is typical of a healthy leaf, a loam or a fresh surface."""

# (centre nm, standard deviation nm, F per unit amount). Positions are those of the textbooks (Curran 1989 for
# leaves, Clark 1999 for minerals); widths and strengths were chosen so that reflectances are typical.
Feature = tuple[float, float, float]
_CHLOROPHYLL: tuple[Feature, ...] = (
    (435, 28, 11), (475, 24, 5), (555, 75, 2.4), (612, 28, 2.5), (642, 20, 4.0), (673, 14, 9.5), (696, 15, 1.6),
)  # fmt: skip
_CAROTENOID: tuple[Feature, ...] = ((450, 25, 3), (482, 20, 3))
_LIQUID_WATER: tuple[Feature, ...] = (
    (972, 26, 0.10), (1198, 42, 0.20), (1450, 58, 4.2), (1500, 130, 0.9), (1780, 90, 0.4),
    (1940, 58, 11), (2000, 130, 3.0), (2520, 220, 5.5),
)  # fmt: skip
_CELLULOSE_LIGNIN: tuple[Feature, ...] = (
    (1200, 40, 0.03), (1490, 55, 0.16), (1730, 24, 0.08), (2100, 52, 0.42), (2275, 28, 0.26), (2340, 24, 0.26),
    (2490, 80, 0.6),
)  # fmt: skip
_IRON_OXIDE: tuple[Feature, ...] = ((430, 40, 1.0), (525, 38, 1.2), (660, 45, 0.08), (875, 62, 0.14))
_CLAY: tuple[Feature, ...] = ((1412, 18, 0.10), (1915, 28, 0.14), (2205, 19, 0.13), (2345, 26, 0.06))
_CARBONATE: tuple[Feature, ...] = ((1415, 22, 0.08), (1930, 35, 0.25), (2340, 24, 0.20))
_HYDROCARBON: tuple[Feature, ...] = ((1725, 16, 0.25), (2310, 24, 0.70), (2350, 14, 0.25))

# Pure water, rounded: wavelength in nm, absorption per metre.
_WATER_NM = (400, 450, 500, 550, 600, 650, 700, 740, 800, 850, 900, 970, 1100, 1300, 1450, 2500)
_WATER_PER_M = (0.007, 0.009, 0.02, 0.057, 0.22, 0.34, 0.62, 2.4, 2.0, 4.3, 6.8, 45, 18, 120, 3000, 9000)


def kubelka_munk(ratio: Spectra) -> Spectra:
    """Return the reflectance of a thick layer whose absorption is `ratio` times its scattering."""
    return 1 + ratio - np.sqrt(ratio**2 + 2 * ratio)


def _sum(wavelength_nm: Spectra, features: tuple[Feature, ...]) -> Spectra:
    curves = [height * np.exp(-0.5 * ((wavelength_nm - nm) / width) ** 2) for nm, width, height in features]
    total: Spectra = np.sum(curves, axis=0)
    return total


def _tail(wavelength_nm: Spectra, decay_nm: float) -> Spectra:
    tail: Spectra = np.exp(-(wavelength_nm - 450) / decay_nm)
    return tail


def leaf(
    wavelength_nm: Spectra,
    *,
    chlorophyll: Amount,
    water: Amount,
    dry: Amount,
    brown: Amount = 0.0,
    scattering: Amount = 1.0,
) -> Spectra:
    """Return the spectra of closed canopies.

    Args:
        wavelength_nm: (wavelength,)
        chlorophyll: 1 is a deep green leaf, 0.05 a ripe cereal; carotenoids fade at half its pace.
        water: 1 is turgid, 0.1 is straw.
        dry: cellulose and lignin; 1 is straw.
        brown: decomposed pigments, which absorb from the blue up; 0.6 is straw.
        scattering: 1 is a broad-leaved crop; needles, whose light is trapped in shoots, have less.
    """
    carotenoid = 0.3 + 0.5 * np.asarray(chlorophyll)
    # Canopies scatter a little less at longer wavelengths.
    base = 0.19 + 0.05 * (wavelength_nm / 1000) ** 2
    ratio = base + chlorophyll * _sum(wavelength_nm, _CHLOROPHYLL)
    ratio = ratio + carotenoid * _sum(wavelength_nm, _CAROTENOID)
    ratio = ratio + water * _sum(wavelength_nm, _LIQUID_WATER)
    ratio = ratio + dry * (_sum(wavelength_nm, _CELLULOSE_LIGNIN) + 0.4 * _tail(wavelength_nm, 90))
    ratio = ratio + brown * 4 * _tail(wavelength_nm, 140)
    return kubelka_munk(ratio / scattering)


def soil(
    wavelength_nm: Spectra, *, moisture: Amount, iron: Amount, clay: Amount, organic: Amount = 1.0
) -> Spectra:
    """Return the spectra of loams: a convex continuum, darker with `organic` matter and with `moisture`."""
    continuum = 0.85 * organic * (wavelength_nm / 1000) ** -1.5
    ratio = continuum + iron * _sum(wavelength_nm, _IRON_OXIDE) + clay * _sum(wavelength_nm, _CLAY)
    return kubelka_munk(ratio * (1 + 1.6 * moisture) + 0.25 * moisture * _sum(wavelength_nm, _LIQUID_WATER))


def tile(wavelength_nm: Spectra, *, iron: Amount, soot: Amount) -> Spectra:
    """Return the spectra of fired clay: the steep ferric edge near 575 nm, no clay water, darker with `soot`."""
    edge = 4.6 / (1 + np.exp((wavelength_nm - 578) / 20))
    return kubelka_munk(0.42 + soot + iron * (edge + _sum(wavelength_nm, _IRON_OXIDE[2:])))


def concrete(wavelength_nm: Spectra, *, soot: Amount, carbonate: Amount) -> Spectra:
    """Return the spectra of cement and limestone gravel: bright, flat, carbonate at 2340 nm."""
    ratio = 0.5 + 0.8 * np.asarray(soot) * (1 + _tail(wavelength_nm, 500)) + 0.5 * _tail(wavelength_nm, 110)
    return kubelka_munk(ratio + carbonate * _sum(wavelength_nm, _CARBONATE))


def asphalt(wavelength_nm: Spectra, *, bitumen: Amount) -> Spectra:
    """Return the spectra of roads: dark, hydrocarbons at 1725 and 2310 nm; they fade as `bitumen` wears off."""
    ratio = 1.2 + bitumen * (4.0 * (wavelength_nm / 500) ** -0.8 + _sum(wavelength_nm, _HYDROCARBON))
    return kubelka_munk(ratio)


def open_water(wavelength_nm: Spectra, *, sediment: Amount, algae: Amount, glint: Amount) -> Spectra:
    """Return the spectra of rivers and ponds: backscatter against absorption, with sky `glint` on top."""
    pure = np.exp(np.interp(wavelength_nm, _WATER_NM, np.log(_WATER_PER_M)))
    dissolved = 0.35 * np.exp(-0.014 * (wavelength_nm - 440))
    absorption = pure + dissolved + 0.06 * algae * _sum(wavelength_nm, _CHLOROPHYLL)
    backscatter = 0.12 * sediment * (wavelength_nm / 550) ** -0.7
    return glint + 0.18 * backscatter / (absorption + backscatter)


# ---- sensor -------------------------------------------------------------------------------------------------

# Water vapour leaves no light here; where the two detectors meet, one band is dead.
_OPAQUE_NM = ((1340, 1450), (1790, 1965))
_SEAM_NM = 1000
_SNR_NM = (420, 500, 700, 900, 940, 980, 1080, 1130, 1180, 1300, 1650, 2100, 2250, 2450)
_SNR = (50, 85, 120, 100, 65, 75, 75, 40, 65, 60, 55, 36, 38, 22)
_SNR_AT = 0.25
"""Reflectance for which `_SNR` holds. Of the variance, 0.6 is of photons, which come as the light does."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """An imaging spectrometer with contiguous Gaussian bands."""

    wavelength_nm: Spectra
    """(band,) centres."""
    fwhm_nm: Spectra
    """(band,) full widths at half maximum."""
    good_bands: NDArray[np.bool_]
    """(band,) True where usable."""
    fine_nm: Spectra
    """(wavelength,) where spectra are wanted before they go through the bands."""

    @classmethod
    def with_bands(cls, bands: int) -> Self:
        """Spread `bands` over 420 to 2450 nm."""
        centres: Spectra = np.linspace(420, 2450, bands)
        good = np.all([(centres < low) | (centres > high) for low, high in _OPAQUE_NM], axis=0)
        good[np.abs(centres - _SEAM_NM).argmin()] = False
        width = np.full(bands, 1.1 * (centres[1] - centres[0]))
        return cls(wavelength_nm=centres, fwhm_nm=width, good_bands=good, fine_nm=np.arange(400.0, 2501, 4))

    def respond(self, spectra: Spectra) -> Spectra:
        """Average (..., wavelength) spectra over the bands: (..., band)."""
        deviation = self.fwhm_nm / np.sqrt(8 * np.log(2))
        response = np.exp(-0.5 * ((self.fine_nm[:, None] - self.wavelength_nm) / deviation) ** 2)
        averaged: Spectra = spectra @ (response / response.sum(axis=0))
        return averaged

    def measure(self, reflectance: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.int16]:
        """Return (band, y, x) reflectance times 10000, with stripes and noise, of (y, x, band) reflectance."""
        _, width, bands = reflectance.shape
        # Each column of a push-broom sensor has detectors of its own, calibrated to half a percent.
        seen: NDArray[np.float32] = reflectance * (1 + 0.005 * rng.standard_normal((width, bands), np.float32))
        deviation = (_SNR_AT / np.interp(self.wavelength_nm, _SNR_NM, _SNR)).astype(np.float32)
        noise = rng.standard_normal(seen.shape, np.float32)
        seen += noise * deviation * np.sqrt(0.4 + np.maximum(seen, 0) * (0.6 / _SNR_AT))
        seen = np.where(self.good_bands, seen, 0.02 + 0.15 * noise)
        return np.ascontiguousarray(np.rint(10000 * seen).astype(np.int16).transpose(2, 0, 1))


# ---- covers: what a field, a stand or a roof of a class is made of ------------------------------------------

Draw = Callable[[float, float], NDArray[np.float64]]
"""Draws (sample, 1) amounts around a centre with a relative spread; never negative."""


def cover_spectra(
    cover: str, wavelength_nm: Spectra, *, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw `count` patches of a cover, each with its own pigments, water, soil and age.

    Args:
        cover: a name of `COVERS`.
        wavelength_nm: (wavelength,)
        count: number of patches.
        rng: the only source of chance.

    Returns:
        (count, 3, wavelength): the patch at its most vigorous (or freshest), at its poorest, and what shows
        through its gaps.
    """

    def draw(centre: float, spread: float) -> NDArray[np.float64]:
        return centre * np.exp(spread * rng.standard_normal((count, 1)))

    return np.stack(_COVERS[cover](wavelength_nm, draw), axis=1)


Cover = Callable[[Spectra, Draw], tuple[Spectra, Spectra, Spectra]]


def _plant(
    *, chlorophyll: float, water: float, dry: float, brown: float, scattering: float, spread: float
) -> Cover:
    def spectra(wavelength_nm: Spectra, draw: Draw) -> tuple[Spectra, Spectra, Spectra]:
        green, wet, stiff = draw(chlorophyll, spread), draw(water, spread), draw(dry, spread)
        withered, bright = draw(brown, 2 * spread), draw(scattering, spread / 2)
        best = leaf(wavelength_nm, chlorophyll=green, water=wet, dry=stiff, brown=withered, scattering=bright)
        poor = leaf(
            wavelength_nm,
            chlorophyll=0.6 * green,
            water=0.7 * wet,
            dry=1.2 * stiff,
            brown=withered + 0.12,
            scattering=0.9 * bright,
        )
        return best, poor, _loam(wavelength_nm, draw)

    return spectra


def _loam(wavelength_nm: Spectra, draw: Draw) -> Spectra:
    return soil(
        wavelength_nm,
        moisture=draw(0.35, 0.5),
        iron=draw(0.8, 0.3),
        clay=draw(1.0, 0.3),
        organic=draw(1.0, 0.25),
    )


def _litter(wavelength_nm: Spectra, draw: Draw, *, chlorophyll: float, water: float) -> Spectra:
    """Straw, or the moss and lichens of an old roof."""
    return leaf(
        wavelength_nm,
        chlorophyll=draw(chlorophyll, 0.4),
        water=draw(water, 0.3),
        dry=draw(1.1, 0.2),
        brown=draw(0.7, 0.2),
    )


def _bare_soil(wavelength_nm: Spectra, draw: Draw) -> tuple[Spectra, Spectra, Spectra]:
    moisture, iron, clay, organic = draw(0.2, 0.6), draw(0.8, 0.3), draw(1.0, 0.3), draw(1.0, 0.25)
    dry = soil(wavelength_nm, moisture=moisture, iron=iron, clay=clay, organic=organic)
    wet = soil(wavelength_nm, moisture=moisture + 0.5, iron=iron, clay=clay, organic=1.15 * organic)
    return dry, wet, _litter(wavelength_nm, draw, chlorophyll=0.04, water=0.1)


def _tile_roof(wavelength_nm: Spectra, draw: Draw) -> tuple[Spectra, Spectra, Spectra]:
    iron, soot = draw(1.0, 0.2), draw(0.25, 0.5)
    old = tile(wavelength_nm, iron=0.8 * iron, soot=soot + 0.6)
    return (
        tile(wavelength_nm, iron=iron, soot=soot),
        old,
        _litter(wavelength_nm, draw, chlorophyll=0.35, water=0.3),
    )


def _concrete(wavelength_nm: Spectra, draw: Draw) -> tuple[Spectra, Spectra, Spectra]:
    soot, carbonate = draw(0.5, 0.4), draw(1.0, 0.3)
    worn = concrete(wavelength_nm, soot=soot + 0.4, carbonate=carbonate)
    fresh = concrete(wavelength_nm, soot=soot, carbonate=carbonate)
    return fresh, worn, _loam(wavelength_nm, draw)


def _asphalt(wavelength_nm: Spectra, draw: Draw) -> tuple[Spectra, Spectra, Spectra]:
    bitumen = draw(0.85, 0.3)
    worn = asphalt(wavelength_nm, bitumen=0.6 * bitumen)
    return asphalt(wavelength_nm, bitumen=bitumen), worn, _loam(wavelength_nm, draw)


def _open_water(wavelength_nm: Spectra, draw: Draw) -> tuple[Spectra, Spectra, Spectra]:
    sediment, algae, glint = draw(1.0, 0.4), draw(0.6, 0.4), draw(0.006, 0.4)
    clear = open_water(wavelength_nm, sediment=sediment, algae=algae, glint=glint)
    murky = open_water(wavelength_nm, sediment=2 * sediment, algae=1.5 * algae, glint=glint)
    return clear, murky, clear


_COVERS: dict[str, Cover] = {
    "water": _open_water,
    "conifer forest": _plant(chlorophyll=1.2, water=0.95, dry=1.1, brown=0.12, scattering=0.42, spread=0.10),
    "deciduous forest": _plant(chlorophyll=1.1, water=0.8, dry=0.85, brown=0.03, scattering=0.78, spread=0.10),
    "meadow": _plant(chlorophyll=0.45, water=0.5, dry=1.0, brown=0.24, scattering=0.85, spread=0.13),
    "wheat": _plant(chlorophyll=0.05, water=0.1, dry=1.3, brown=0.55, scattering=0.95, spread=0.18),
    "rapeseed": _plant(chlorophyll=0.14, water=0.28, dry=1.1, brown=0.5, scattering=0.9, spread=0.20),
    "maize": _plant(chlorophyll=0.95, water=0.95, dry=0.55, brown=0.05, scattering=1.1, spread=0.10),
    "sugar beet": _plant(chlorophyll=0.65, water=1.35, dry=0.25, brown=0.03, scattering=1.35, spread=0.10),
    "bare soil": _bare_soil,
    "asphalt": _asphalt,
    "tile roof": _tile_roof,
    "concrete": _concrete,
}
COVERS = tuple(_COVERS)
"""Names that `cover_spectra` knows."""


@dataclass(frozen=True, kw_only=True)
class Texture:
    """How a cover varies within a patch."""

    closure: float
    """Mean fraction of ground that the cover hides."""
    gaps: float
    """Standard deviation of the closure, half between patches and half within."""
    crown: float = 1.0
    """Size of crowns or clods, in sub-pixels (standard deviation of the smoothing)."""
    relief: float = 0.04
    """Standard deviation of the light on them."""
    tramlines: float = 0.0
    """Canopy lost where the sprayer drives, every 21 m."""
    height: int = 0
    """Length of its shadow, in sub-pixels."""


TEXTURES = {
    "water": Texture(closure=1.0, gaps=0.0, relief=0.03),
    "conifer forest": Texture(closure=0.9, gaps=0.08, crown=1.1, relief=0.32, height=9),
    "deciduous forest": Texture(closure=0.95, gaps=0.06, crown=1.7, relief=0.26, height=8),
    "meadow": Texture(closure=0.88, gaps=0.14, crown=1.5, relief=0.06),
    "wheat": Texture(closure=0.85, gaps=0.10, tramlines=0.4),
    "rapeseed": Texture(closure=0.88, gaps=0.10, crown=1.5, relief=0.06, tramlines=0.3),
    "maize": Texture(closure=0.75, gaps=0.20, relief=0.08, tramlines=0.2),
    "sugar beet": Texture(closure=0.82, gaps=0.16, tramlines=0.5),
    "bare soil": Texture(closure=0.92, gaps=0.06, relief=0.07, tramlines=-0.05),
    "asphalt": Texture(closure=0.95, gaps=0.04),
    "tile roof": Texture(closure=0.92, gaps=0.08, height=4),
    "concrete": Texture(closure=0.90, gaps=0.10),
}
"""How the patches of each of `COVERS` look from close by."""
