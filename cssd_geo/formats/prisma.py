"""PRISMA L2D: surface reflectance on a map from ASI, one HDF-EOS5 file with a cube a spectrometer.

Described in the PRISMA products specification, issue 2.3. What catches readers out:
    cubes lie as (row, band, column), and their bands and wavelengths run from long to short: kept, VNIR first
    bands that were not acquired have the wavelength 0 and are left out; VNIR and SWIR overlap, and both stay
    reflectance = min + value * (max - min) / 65535, with limits of their own for VNIR and SWIR
    corners are centres of pixels; the grid's step must come out as 30 m, so that nothing shifts by half a pixel
    0 is what negative reflectance was set to, over water for example, and around the swath: the angle of the sun,
    0 around the swath, tells which; where a file has none, 0 is nodata
    errors of each value: 1 not measured, 2 negative and set to 0, 4 saturated. 1 and 4 are read as nodata
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from cssd_geo.bands import Bands
from cssd_geo.errors import SceneError
from cssd_geo.formats.hdf5 import Hdf5Source, Part
from cssd_geo.formats.hdf5_files import (
    crs_of_code,
    cube_of,
    dataset_of,
    number_of,
    numbers_of,
    reading_hdf5,
    refuse,
)
from cssd_geo.grid import Grid
from cssd_geo.headers.raster_facts import SceneFacts
from cssd_geo.scenes.scene import Scene, scene_of_source

_NAME = re.compile(r"PRS_(L\d\w?)_.+\.he5", re.IGNORECASE)
_FIELDS = "HDFEOS/SWATHS/PRS_L2D_HCO/Data Fields"
_SUN = "HDFEOS/SWATHS/PRS_L2D_HCO/Geometric Fields/Solar_Zenith_Angle"
_AXES = "ybx"
_ZERO, _LARGEST = 0, 65_535
_NOTES = {
    _ZERO: "The product has no angles of the sun, which tell where the swath is: a value of 0 is nodata.",
    _LARGEST: "Values that the error matrices call invalid or saturated, or that end the scale, are nodata.",
}
_UNUSABLE = 1 | 4
"""Bits of VNIR_PIXEL_L2_ERR_MATRIX and SWIR_PIXEL_L2_ERR_MATRIX."""
_STEP = 30.0
"""Metres between pixels."""
_TOLERANCE = 1e-3


def recognises(path: str) -> bool:
    """See `products.Format`."""
    return _NAME.fullmatch(Path(path).name) is not None


def open_product(path: str) -> Scene:
    """Open a product; reads no pixel.

    Raises:
        SceneError: if it is incomplete, of another level, or contradicts itself.
    """
    found = _NAME.fullmatch(Path(path).name)
    if found is not None and found[1].upper() != "L2D":
        raise SceneError(
            f"{path} is a PRISMA {found[1]} product, which has no map: use the L2D product of the scene"
        )
    with reading_hdf5(path) as file:
        parts, tables, sizes = zip(*(_read_cube(file, name) for name in ("Vnir", "Swir")), strict=True)
        if sizes[0] != sizes[1]:
            refuse(file, "its VNIR and SWIR cubes differ in size")
        height, width = sizes[0]
        grid, swath = _read_grid(file, height, width), _find_swath(file, height, width)
        nodata = _ZERO if swath is None else _LARGEST
        wavelength, fwhm, scale, offset = np.concatenate(tables, axis=1)
        source = Hdf5Source(path, [replace(part, fill=nodata) for part in parts], swath)
        facts = SceneFacts(
            bands=Bands(
                good=(True,) * len(wavelength),
                wavelength_nm=tuple(wavelength.tolist()),
                fwhm_nm=tuple(fwhm.tolist()),
            ),
            dtype=source.dtype,
            nodata=np.full(len(wavelength), float(nodata)),
            scale=scale,
            offset=offset,
            sensor="PRISMA L2D",
            notes=(_NOTES[nodata],),
        )
        return scene_of_source(source, facts, path, grid=grid)


def _read_cube(file: Any, name: str) -> tuple[Part, NDArray[np.float64], tuple[int, int]]:
    """One spectrometer: acquired bands; their wavelength, FWHM, scale and offset (4, band); height and width."""
    dataset = f"{_FIELDS}/{name.upper()}_Cube"
    count, height, width = cube_of(file, dataset, _AXES)
    if dataset_of(file, dataset).dtype.newbyteorder("=") != np.uint16:
        refuse(file, f"{dataset} does not hold whole numbers of 16 bits")
    wavelength, fwhm = (_band_list(file, f"List_{kind}_{name}", count) for kind in ("Cw", "Fwhm"))
    acquired = np.flatnonzero(wavelength > 0)
    if not acquired.size or (fwhm[acquired] <= 0).any():
        refuse(file, f"List_Cw_{name} and List_Fwhm_{name} do not say what the bands are")
    low, high = (number_of(file, file, f"L2Scale{name}{end}") for end in ("Min", "Max"))
    if high <= low:
        refuse(file, f"L2Scale{name}Max is {high:g}, not more than L2Scale{name}Min, {low:g}")
    flags = f"{_FIELDS}/{name.upper()}_PIXEL_L2_ERR_MATRIX"
    if cube_of(file, flags, _AXES) != (count, height, width) or dataset_of(file, flags).dtype.kind not in "ui":
        refuse(file, f"{flags} does not fit the cube")
    part = Part(dataset=dataset, axes=_AXES, bands=tuple(acquired.tolist()), flags=flags, bad_flags=_UNUSABLE)
    scale = np.full(len(acquired), (high - low) / _LARGEST)
    table = np.stack([wavelength[acquired], fwhm[acquired], scale, np.full(len(acquired), low)])
    return part, table, (height, width)


def _band_list(file: Any, name: str, count: int) -> NDArray[np.float64]:
    """(count,) a list of the root's attributes; zeros after the last band stand for no band."""
    values = numbers_of(file, file, name)
    if len(values) < count or values[count:].any():
        refuse(file, f"{name} has {len(values)} values for {count} bands")
    return values[:count]


def _find_swath(file: Any, height: int, width: int) -> str | None:
    """Name of the dataset (y, x) that is 0 around the swath, where there is one."""
    if _SUN not in file:
        return None
    if dataset_of(file, _SUN).shape != (height, width):
        refuse(file, f"{_SUN} has another size than the cubes")
    return _SUN


def _read_grid(file: Any, height: int, width: int) -> Grid:
    corners = {
        end: [number_of(file, file, f"Product_{corner}corner_{end}") for corner in ("UL", "LL", "LR", "UR")]
        for end in ("easting", "northing")
    }
    left, right = min(corners["easting"]), max(corners["easting"])
    bottom, top = min(corners["northing"]), max(corners["northing"])
    centres = (right - left) / _STEP + 1, (top - bottom) / _STEP + 1
    if np.abs(np.subtract(centres, (width, height))).max() > _TOLERANCE:
        apart = f"its corners are {right - left:g} m x {top - bottom:g} m apart"
        refuse(file, f"{apart}, which does not fit {width} x {height} pixels of {_STEP:g} m")
    crs = crs_of_code(file, "Epsg_Code", int(number_of(file, file, "Epsg_Code")))
    transform = Affine(_STEP, 0.0, left - _STEP / 2, 0.0, -_STEP, top + _STEP / 2)
    return Grid(height=height, width=width, transform=transform, crs=crs)
