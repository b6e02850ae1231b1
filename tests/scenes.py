"""Scenes made for tests: every value tells where it belongs, so that a swap or a shift cannot hide."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import rasterio
import shapely
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from cssd_geo.bands import Bands
from cssd_geo.calibration import Calibration
from cssd_geo.classes import ClassTable
from cssd_geo.files.rasters import unplaced
from cssd_geo.model import Model
from cssd_geo.network import CSSD, NetworkConfig

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(30.0, 0.0, 400_000.5, 0.0, -30.0, 5_800_000.25)
ROTATED = NORTH_UP @ Affine.rotation(27.0)


def coordinate_cube(bands: int, height: int, width: int) -> NDArray[np.int32]:
    """(band, y, x): value = 1,000,000 band + 1,000 row + column."""
    band, row, col = np.ogrid[:bands, :height, :width]
    cube: NDArray[np.int32] = (1_000_000 * band + 1_000 * row + col).astype(np.int32)
    return cube


def write_raster(
    path: Path,
    cube: NDArray[Any],
    *,
    transform: Affine | None = NORTH_UP,
    crs: CRS | None = UTM,
    nodata: float | None = None,
    **profile: Any,
) -> Path:
    """Write (band, y, x) as a raster; a GeoTIFF unless `driver` says otherwise."""
    bands, height, width = cube.shape
    options = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": cube.dtype}
    options |= {"crs": crs, "nodata": nodata} | ({} if transform is None else {"transform": transform})
    with rasterio.open(path, "w", **(options | profile)) as dataset:
        dataset.write(cube)
    return path


def write_stack(path: Path, files: list[Path], kind: str | None = None) -> Path:
    """Write a virtual raster whose bands are the first ones of files near it, with their nodata values.

    Their types are those of the files, or `kind`, a type of GDAL's.
    """
    stack = ET.Element("VRTDataset")
    for band, file in enumerate(files, start=1):
        with unplaced(), rasterio.open(file) as dataset:
            stack.set("rasterXSize", str(dataset.width))
            stack.set("rasterYSize", str(dataset.height))
            own = dataset.dtypes[0].capitalize()
            element = ET.SubElement(stack, "VRTRasterBand", dataType=kind or own, band=str(band))
            if dataset.nodata is not None:
                ET.SubElement(element, "NoDataValue").text = repr(dataset.nodata)
        source = ET.SubElement(element, "SimpleSource")
        ET.SubElement(source, "SourceFilename", relativeToVRT="1").text = os.path.relpath(file, path.parent)
        ET.SubElement(source, "SourceBand").text = "1"
    ET.ElementTree(stack).write(path)
    return path


def write_polygons(
    path: Path,
    shapes: list[tuple[shapely.Geometry, Any]],
    *,
    field: str = "class_name",
    crs: str | None = "EPSG:32633",
) -> Path:
    """Write polygons with one attribute; the format follows the file's name."""
    values = [value for _, value in shapes]
    column = np.array(values, object if any(isinstance(v, str) or v is None for v in values) else None)
    geometries = shapely.to_wkb(np.array([shape for shape, _ in shapes]))
    pyogrio.raw.write(path, geometries, [column], [field], geometry_type="Polygon", crs=crs)
    return path


def pixel_box(row: int, col: int, height: int, width: int, transform: Affine = NORTH_UP) -> shapely.Polygon:
    """A rectangle of whole pixels, in map coordinates."""
    corners = [(col, row), (col + width, row), (col + width, row + height), (col, row + height)]
    return shapely.Polygon([transform @ corner for corner in corners])


def control_points(transform: Affine, height: int, width: int) -> list[GroundControlPoint]:
    """Ground control points that say the same as a transform."""
    points = [(0, 0), (0, width), (height, 0), (height, width), (height // 2, width // 3)]
    places = [(row, col, *(transform @ (col, row))) for row, col in points]
    return [GroundControlPoint(row=row, col=col, x=x, y=y, z=0.0) for row, col, x, y in places]


def fill_sample(path: Path, names: dict[int, str], truth: NDArray[Any]) -> Path:
    """Label a reference sample with the truth (y, x), as an analyst would."""
    meta, _, geometries, columns = pyogrio.raw.read(path)
    fields = dict(zip(meta["fields"].tolist(), columns, strict=True))
    found = truth[fields["row"], fields["col"]].tolist()
    fields["class_name"] = np.array([names.get(value) for value in found], object)
    columns = list(fields.values())
    pyogrio.raw.write(path, geometries, columns, list(fields), geometry_type="Point", crs=meta["crs"])
    return path


@dataclass(frozen=True, kw_only=True)
class TwoFields:
    """A scene of two crops in six fields, easy to tell apart, with polygons in four of them."""

    scene: Path
    labels: Path
    truth: NDArray[np.uint8]
    """(y, x) 1 or 2; 0 in the nodata hole."""


def write_two_fields(folder: Path, *, seed: int = 0) -> TwoFields:
    """Make 60 x 90 pixels x 12 bands in six fields of 30 x 30: crop 1 and 2 in a chequerboard, a nodata hole."""
    random = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    truth = (1 + np.add.outer(np.arange(60) // 30, np.arange(90) // 30) % 2).astype(np.uint8)
    spectra = random.uniform(1000, 3000, (3, 12))
    cube = np.rint(spectra[truth].transpose(2, 0, 1) + random.normal(0, 120, (12, 60, 90))).astype(np.int16)
    truth[40:46, 10:21], cube[:, 40:46, 10:21] = 0, -9999
    scene = write_raster(folder / "two_fields.tif", cube, nodata=-9999)
    boxes = [(pixel_box(5 + 30 * (i // 3), 8 + 30 * (i % 3), 12, 14), "wheat" if (i // 3 + i % 3) % 2 else "maize")
             for i in range(6)]  # fmt: skip
    return TwoFields(scene=scene, labels=write_polygons(folder / "labels.gpkg", boxes), truth=truth)


def random_model(
    *,
    bands: int = 12,
    classes: int = 3,
    window: int = 10,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    discriminant: bool = True,
) -> Model:
    """An untrained model whose normalisations are as odd as trained ones."""
    config = NetworkConfig(
        bands=bands,
        classes=classes,
        window=window,
        spectral_features=16,
        spatial_features=8,
        discriminant=discriminant,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = randomise(CSSD(config)).to(dtype).eval()
    random = np.random.default_rng(seed)
    return Model(
        network=network,
        bands=Bands(good=(True,) * bands),
        mean=random.uniform(1000, 2000, bands),
        std=random.uniform(200, 600, bands),
        classes=ClassTable.from_names([f"class {i}" for i in range(classes)]),
        calibration=Calibration(main=1.3, spectral=0.4),
        provenance={},
    )


def randomise(network: CSSD) -> CSSD:
    """Give batch norms and the structuring element values that training would, so that none is neutral."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if "norm" in name and tensor.dtype.is_floating_point:
            tensor.data.uniform_(0.5, 1.5)
        elif name.endswith("element"):
            tensor.data.normal_()
    return network


def with_bands(model: Model, bands: Bands) -> Model:
    """The same model for scenes with other bands."""
    return replace(model, bands=bands)
