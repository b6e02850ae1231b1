"""Sensor products made for tests, small, of the published structure; every value tells where it belongs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import h5py
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from scenes import NORTH_UP, UTM, write_raster

HEIGHT, WIDTH = 9, 14
ENMAP = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T165614Z"
DESIS = "DESIS-HSI-L2A-DT0334087340_008-20190812T200543-V0220"
PRISMA = "PRS_L2D_STD_20201107101404_20201107101408_0001.he5"
NEON = "NEON_D02_SERC_DP3_368000_4306000_reflectance.h5"
ENMAP_NM = (418.4, 640.0, 902.2, 985.1, 1400.0, 911.6, 993.3, 2445.3)
"""VNIR and SWIR overlap, so that wavelengths are not in order; 1400 nm holds no data."""
ENMAP_FWHM = (6.9, 7.1, 11.4, 11.6, 10.5, 8.2, 8.3, 7.8)
NO_DATA = 4
"""Index of EnMAP's band without data."""
CODES = {"wheat": 1, "maize": 2}


def coordinates(bands: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.int16]:
    """(band, y, x): value = 2,000 band + 100 row + column: each tells where it belongs, and none is nodata."""
    band, row, col = np.ogrid[:bands, :height, :width]
    cube: NDArray[np.int16] = (2_000 * band + 100 * row + col + 1).astype(np.int16)
    return cube


def enmap_metadata(wavelengths: tuple[float, ...] = ENMAP_NM, *, empty: bool = False) -> ET.Element:
    """The parts of METADATA.XML that readers use, and the other lists of bands that they must not confuse."""
    root = ET.Element("level_X")
    _texts(ET.SubElement(root, "base"), level="L2A", format="ENMAP.HSI.L2A")
    product = ET.SubElement(root, "product")
    smile = ET.SubElement(ET.SubElement(product, "smileCorrection"), "VNIR")
    statistics = ET.SubElement(product, "bandStatistics")
    specific = ET.SubElement(root, "specific")
    _texts(specific, code="L2A", backgroundValue="0")
    table = ET.SubElement(specific, "bandCharacterisation")
    for i, wavelength in enumerate(wavelengths):
        _texts(ET.SubElement(smile, "bandID", number=str(i + 1)), wavelength="1")
        known = ("-1000000", "0") if empty and i == NO_DATA else ("1000.5", "12.5")
        _texts(ET.SubElement(statistics, "bandID", number=str(i + 1)), mean=known[0], stdDeviation=known[1])
        band = ET.SubElement(table, "bandID", number=str(i + 1))
        _texts(band, wavelengthCenterOfBand=f"{wavelength}", FWHMOfBand=f"{ENMAP_FWHM[i]}")
        _texts(band, GainOfBand="0.0001", OffsetOfBand="0.0")
    return root


def write_enmap(
    folder: Path,
    cube: NDArray[np.int16] | None = None,
    *,
    root: ET.Element | None = None,
    image: str = "SPECTRAL_IMAGE.TIF",
    transform: Affine = NORTH_UP,
    **profile: Any,
) -> Path:
    """An EnMAP L2A folder; the water-vapour band is nodata everywhere unless a cube is given."""
    folder.mkdir(exist_ok=True)
    if cube is None:
        cube = coordinates(len(ENMAP_NM))
        cube[NO_DATA] = -32768
    write_raster(folder / f"{ENMAP}-{image}", cube, transform=transform, **profile)
    write_xml(folder / f"{ENMAP}-METADATA.XML", enmap_metadata() if root is None else root)
    return folder


def desis_metadata(bands: int = 4) -> ET.Element:
    """Bands are described from the last to the first: their numbers, not their order, tell which is which."""
    root = ET.Element("hsi_doc")
    _texts(ET.SubElement(root, "base"), mission="DESIS")
    specific = ET.SubElement(root, "specific")
    geometry = ET.SubElement(specific, "interiorOrientation")
    table = ET.SubElement(specific, "bandCharacterisation")
    for i in reversed(range(bands)):
        _texts(ET.SubElement(geometry, "band"), bandNumber=str(i + 1))
        band = ET.SubElement(table, "band")
        _texts(
            band, bandNumber=str(i + 1), wavelengthCenterOfBand=f"{401.9 + 2.5 * i}", wavelengthWidthOfBand="3.5"
        )
        _texts(
            band, response="0.1,0.9,0.1", wavelengths="400,401,402", gainOfBand="1.0E-4", offsetOfBand=f"{i / 8}"
        )
    return root


def write_desis(folder: Path, *, root: ET.Element | None = None) -> Path:
    """A DESIS L2A folder with suffixes in small letters."""
    folder.mkdir(exist_ok=True)
    options = {"interleave": "pixel", "compress": "deflate"}
    write_raster(folder / f"{DESIS}-SPECTRAL_IMAGE.tif", coordinates(4), nodata=-32768, **options)
    write_xml(folder / f"{DESIS}-METADATA.xml", desis_metadata() if root is None else root)
    return folder


def write_xml(path: Path, root: ET.Element) -> Path:
    """Write a document as DLR does, with a declaration."""
    ET.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)
    return path


VNIR_NM = (977.3, 700.5, 0.0, 406.9)
"""From long to short; the third was not acquired."""
SWIR_NM = (2497.1, 0.0, 943.4)


def prisma_values(bands: int, first: int) -> NDArray[np.uint16]:
    """(row, band, column) value = 5,000 (first + band) + 100 row + column + 1."""
    row, band, col = np.ogrid[:HEIGHT, :bands, :WIDTH]
    values: NDArray[np.uint16] = (5_000 * (first + band) + 100 * row + col + 1).astype(np.uint16)
    return values


def write_prisma(path: Path, change: Callable[[Any], None] | None = None) -> Path:
    """A PRISMA L2D file whose first pixel's centre lies at 352740, 5987250; `change` spoils it at the end."""
    fields = "HDFEOS/SWATHS/PRS_L2D_HCO"
    left, top = 352_740.0, 5_987_250.0
    right, bottom = left + 30 * (WIDTH - 1), top - 30 * (HEIGHT - 1)
    with h5py.File(path, "w") as file:
        for name, wavelengths, first, limits in (
            ("Vnir", VNIR_NM, 0, (0.0, 1.2)),
            ("Swir", SWIR_NM, 4, (0.1, 0.9)),
        ):
            cube = prisma_values(len(wavelengths), first)
            file[f"{fields}/Data Fields/{name.upper()}_Cube"] = cube
            file[f"{fields}/Data Fields/{name.upper()}_PIXEL_L2_ERR_MATRIX"] = np.zeros(cube.shape, np.uint8)
            file.attrs[f"List_Cw_{name}"] = np.array(wavelengths, np.float32)
            file.attrs[f"List_Fwhm_{name}"] = np.array(
                [0 if w == 0 else 10 + i for i, w in enumerate(wavelengths)]
            )
            file.attrs[f"List_Cw_{name}_Flags"] = np.array([w > 0 for w in wavelengths], np.uint8)
            file.attrs[f"L2Scale{name}Min"], file.attrs[f"L2Scale{name}Max"] = map(np.float32, limits)
        file[f"{fields}/Geometric Fields/Solar_Zenith_Angle"] = np.full((HEIGHT, WIDTH), 40, np.float32)
        file.attrs["Epsg_Code"] = np.uint32(32633)
        for corner, x, y in (("UL", left, top), ("UR", right, top), ("LL", left, bottom), ("LR", right, bottom)):
            file.attrs[f"Product_{corner}corner_easting"] = np.float64(x)
            file.attrs[f"Product_{corner}corner_northing"] = np.float64(y)
        if change is not None:
            change(file)
    return path


NEON_NM = (383.9, 550.2, 1340.0, 1445.9, 1790.4, 2511.9)
"""The third is at the border of the first window, the fourth beyond it, the fifth within the second."""


def write_neon(
    path: Path,
    cube: NDArray[np.int16] | None = None,
    change: Callable[[Any], None] | None = None,
    *,
    transform: Affine = NORTH_UP,
    crs: CRS = UTM,
    wavelengths: tuple[float, ...] = NEON_NM,
    chunks: tuple[int, int, int] | None = (4, 5, 3),
) -> Path:
    """A NEON reflectance tile of a cube (band, y, x), north up, with chunks that windows and bands cross."""
    values = coordinates(len(wavelengths)) if cube is None else cube
    with h5py.File(path, "w") as file:
        reflectance = file.create_group("SERC/Reflectance")
        data = reflectance.create_dataset(
            "Reflectance_Data", data=values.transpose(1, 2, 0), chunks=chunks, compression=chunks and "gzip"
        )
        data.attrs["Data_Ignore_Value"], data.attrs["Scale_Factor"] = np.float64(-9999), np.float64(10_000)
        data.attrs["Interleave"] = "BSQ"
        reflectance.attrs["Band_Window_1_Nanometers"] = np.array([1340, 1445])
        reflectance.attrs["Band_Window_2_Nanometers"] = np.array([1790, 1955])
        spectral = reflectance.create_group("Metadata/Spectral_Data")
        spectral["Wavelength"] = np.array(wavelengths, np.float32)
        spectral["FWHM"] = np.linspace(5.5, 6.5, len(wavelengths))
        spectral["Wavelength"].attrs["Units"] = "nanometers"
        system = reflectance.create_group("Metadata/Coordinate_System")
        size = f"{transform.a:.10f}, {-transform.e:.10f}"
        place = f"UTM, 1.000, 1.000, {transform.c:.3f}, {transform.f:.3f}, {size}"
        system["Map_Info"] = np.bytes_(f"{place}, 33, North, WGS-84, units=Meters, 0")
        system["EPSG Code"] = np.bytes_(str(crs.to_epsg()))
        if change is not None:
            change(file)
    return path


def _texts(parent: ET.Element, **texts: str) -> None:
    for tag, text in texts.items():
        ET.SubElement(parent, tag).text = text
