"""NEON AOP: surface reflectance of the airborne spectrometer, lines and tiles, one HDF5 file with a group a site.

Described at https://www.neonscience.org/resources/learning-hub/tutorials/neon-refl-h5-py. The cube lies as
(row, column, band), whatever its attribute Interleave says; `Map_Info` is ENVI's, counting corners of pixels from
1; bands in the windows that the product names, those of water vapour, are bad.
"""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from affine import Affine
from numpy.typing import NDArray

from cssd_geo.bands import Bands
from cssd_geo.files.hdf5_links import is_hdf5
from cssd_geo.formats.hdf5 import Hdf5Source, Part
from cssd_geo.formats.hdf5_files import (
    crs_of_code,
    cube_of,
    dataset_of,
    number_of,
    numbers_of,
    reading_hdf5,
    refuse,
    text_of,
)
from cssd_geo.formats.stores import text
from cssd_geo.grid import Grid
from cssd_geo.headers.raster_facts import SceneFacts
from cssd_geo.headers.wavelengths import resolve_wavelengths
from cssd_geo.scenes.scene import Scene, scene_of_source
from cssd_geo.spectra.band_choice import ranges

_NAME = re.compile(r"NEON_.+_reflectance\.h5", re.IGNORECASE)
_CUBE = "Reflectance/Reflectance_Data"
_WINDOWS = ("Band_Window_1_Nanometers", "Band_Window_2_Nanometers")
_AXES = "yxb"
_UNITS = "nanometers"
"""Unit of wavelengths that do not state theirs."""
_TURNED = re.compile(r"^(rotation\s*=\s*)?-?[\d.]*[1-9][\d.]*$", re.IGNORECASE)
"""The last part of Map_Info where it is an angle, and not 0."""
_PLACES = 7
"""Of Map_Info that are needed: projection, reference column and row, easting, northing, and size of a pixel."""


def recognises(path: str) -> bool:
    """See `products.Format`. A file with another name is one if it holds what only these do."""
    place = Path(path)
    if _NAME.fullmatch(place.name) is not None:
        return True
    if place.suffix.lower() != ".h5" or not is_hdf5(place):
        return False
    with reading_hdf5(path) as file:
        return bool(_sites(file))


def open_product(path: str) -> Scene:
    """Open a product; reads no pixel.

    Raises:
        SceneError: if it is incomplete, or contradicts itself.
    """
    with reading_hdf5(path) as file:
        sites = _sites(file)
        if len(sites) != 1:
            refuse(file, f"it has {len(sites)} sites with {_CUBE} and must have one")
        (site,) = sites
        cube = f"{site}/{_CUBE}"
        count, height, width = cube_of(file, cube, _AXES)
        bands, notes = _read_bands(file, site, count)
        grid = _read_grid(file, site, height, width)
        nodata = number_of(file, dataset_of(file, cube), "Data_Ignore_Value")
        factor = number_of(file, dataset_of(file, cube), "Scale_Factor")
        if factor <= 0:
            refuse(file, f"Scale_Factor is {factor:g} and must be more than 0")
        source = Hdf5Source(path, [Part(dataset=cube, axes=_AXES, bands=tuple(range(count)))])
        facts = SceneFacts(
            bands=bands,
            dtype=source.dtype,
            nodata=np.full(count, nodata),
            scale=np.full(count, 1 / factor),
            offset=np.zeros(count),
            sensor="NEON AOP reflectance",
            notes=notes,
        )
        return scene_of_source(source, facts, path, grid=grid)


def _sites(file: Any) -> list[str]:
    """Names of the groups that hold a cube."""
    own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
    return [name for name in own if isinstance(file[name], h5py.Group) and _CUBE in file[name]]


def _read_bands(file: Any, site: str, count: int) -> tuple[Bands, tuple[str, ...]]:
    places = [f"{site}/Reflectance/Metadata/Spectral_Data/{name}" for name in ("Wavelength", "FWHM")]
    wavelengths, widths = (_list(file, place, count).tolist() for place in places)
    units, width_units = (text(dataset_of(file, place).attrs.get("Units", "")) for place in places)
    known = resolve_wavelengths(wavelengths, widths, units or _UNITS, width_units=width_units)
    wavelength, fwhm = known.wavelength_nm, known.fwhm_nm
    if wavelength is None or fwhm is None:
        refuse(file, "Wavelength or FWHM has values that are not positive and finite, or not of optical bands")
    bad, centre = np.zeros(count, np.bool_), np.array(wavelength)
    group = file[f"{site}/Reflectance"]
    for name in _WINDOWS:
        if name in group.attrs:
            window = numbers_of(file, group, name)
            bad |= (centre >= window.min()) & (centre <= window.max())
    bands = Bands(good=(True,) * count, wavelength_nm=wavelength, fwhm_nm=fwhm).without(bad)
    if not bad.any():
        return bands, known.notes
    numbers = ranges(np.flatnonzero(bad) + 1)
    marked = f"Bands in the water-vapour windows that the product names were marked as bad: {numbers}."
    return bands, (*known.notes, marked)


def _list(file: Any, name: str, count: int) -> NDArray[np.float64]:
    """(count,) a dataset with a number a band."""
    dataset = dataset_of(file, name)
    if dataset.shape != (count,) or dataset.dtype.kind not in "uif":
        refuse(file, f"{name} has {dataset.dtype} values of shape {dataset.shape} for {count} bands")
    values: NDArray[np.float64] = dataset[()].astype(np.float64)
    return values


def _read_grid(file: Any, site: str, height: int, width: int) -> Grid:
    place = f"{site}/Reflectance/Metadata/Coordinate_System"
    info = text_of(file, f"{place}/Map_Info")
    parts = [part.strip() for part in info.split(",")]
    try:
        column, row, left, top, across, down = map(float, parts[1:_PLACES])
    except ValueError:
        refuse(file, f"Map_Info is {info!r}, which does not say where pixels lie")
    finite = np.isfinite([column, row, left, top, across, down]).all()
    if not finite or across <= 0 or down <= 0 or _TURNED.search(parts[-1]) is not None:
        refuse(file, f"Map_Info is {info!r}; a product of NEON's has north at the top")
    crs = crs_of_code(file, "EPSG Code", text_of(file, f"{place}/EPSG Code"))
    transform = Affine(across, 0.0, left - (column - 1) * across, 0.0, -down, top + (row - 1) * down)
    return Grid(height=height, width=width, transform=transform, crs=crs)
