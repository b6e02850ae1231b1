"""The same ground as several sensors see it, by fine integration over their Gaussian bands."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scenes import write_raster

from cssd_geo.bands import Bands
from cssd_geo.demo.spectra import cover_spectra

Floats = NDArray[np.float64]

FINE_NM = np.arange(350.0, 2600.0, 1.0)
COVERS = ("conifer forest", "deciduous forest", "meadow", "wheat", "maize", "sugar beet", "bare soil", "concrete")
PATCH = 12
"""Side of a field in pixels; there are five rows of eight."""


def sensor(
    *detectors: tuple[float, float, int, float, float], gaps: tuple[tuple[float, float], ...] = ()
) -> Bands:
    """Detectors one after the other in the file: first and last wavelength, bands, first and last FWHM."""
    centre = np.concatenate([np.linspace(first, last, count) for first, last, count, _, _ in detectors])
    fwhm = np.concatenate([np.linspace(first, last, count) for _, _, count, first, last in detectors])
    kept = np.all([(centre < low) | (centre > high) for low, high in gaps] or [centre > 0], axis=0)
    found = tuple(centre[kept].tolist()), tuple(fwhm[kept].tolist())
    return Bands(good=(True,) * len(found[0]), wavelength_nm=found[0], fwhm_nm=found[1])


HYMAP = sensor((450, 887, 31, 15, 16), (893, 1340, 32, 15, 16), (1401, 1800, 31, 14, 15), (1952, 2480, 31, 18, 20))
"""125 bands of four detectors, with gaps at the water vapour."""
ENMAP = sensor((420, 993, 88, 6.5, 8), (902, 2450, 145, 10, 8), gaps=((1345, 1385), (1810, 1930)))
"""218 bands of two detectors that overlap, so that wavelengths do not ascend."""


def seen_by(bands: Bands, spectra: Floats) -> Floats:
    """Spectra (..., FINE_NM) as averaged by Gaussian bands: (..., band)."""
    deviation = np.array(bands.fwhm_nm) / np.sqrt(8 * np.log(2))
    response = np.exp(-0.5 * ((FINE_NM[:, None] - np.array(bands.wavelength_nm)) / deviation) ** 2)
    seen: Floats = spectra @ (response / response.sum(axis=0))
    return seen


@cache
def ground(seed: int = 1) -> tuple[NDArray[np.uint8], Floats]:
    """Classes (y, x) from 1 and reflectance (y, x, FINE_NM) of fields that differ, as do the pixels in them."""
    random = np.random.default_rng(seed)
    cover = (np.arange(8) + 3 * np.arange(5)[:, None]) % len(COVERS)  # (5,8) each five times, in other company
    spectra = np.empty((5, 8, 3, len(FINE_NM)))
    for i, name in enumerate(COVERS):
        spectra[cover == i] = cover_spectra(name, FINE_NM, count=5, rng=random)
    share = random.dirichlet((6, 3, 1), (5, PATCH, 8, PATCH))  # (row, y, col, x, 3)
    mixed = np.einsum("rycxm,rcmn->rycxn", share, spectra)
    truth = np.repeat(np.repeat(cover + 1, PATCH, axis=0), PATCH, axis=1).astype(np.uint8)
    reflectance = mixed.reshape(*truth.shape, -1)
    truth.flags.writeable = reflectance.flags.writeable = False  # tests share them
    return truth, reflectance


def write_seen(path: Path, bands: Bands, reflectance: Floats, *, noise: float = 0.003, seed: int = 0) -> Path:
    """Write what a sensor sees of (y, x, FINE_NM) as reflectance times 10,000, with its header."""
    random = np.random.default_rng(seed)
    seen = seen_by(bands, reflectance)
    stored = np.rint(10_000 * (seen + random.normal(0, noise, seen.shape))).astype(np.int16)
    write_raster(path, stored.transpose(2, 0, 1), driver="ENVI")
    lists = {"wavelength": bands.wavelength_nm, "fwhm": bands.fwhm_nm, "bbl": [int(good) for good in bands.good]}
    lines = [f"{name} = {{{', '.join(map(str, values or ()))}}}" for name, values in lists.items()]
    header = path.with_suffix(".hdr")
    header.write_text("\n".join([header.read_text(), *lines, "reflectance scale factor = 10000", ""]))
    return path
