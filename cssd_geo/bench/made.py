"""Scenes and models to measure with: made up, but stored as real ones are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.windows import Window

from cssd_geo.bands import Bands
from cssd_geo.calibration import Calibration
from cssd_geo.classes import ClassTable
from cssd_geo.model import Model
from cssd_geo.network import CSSD, NetworkConfig

_BLOCK = 256
_CHUNK_BANDS = 50
_NODATA = -9999
_CRS = "EPSG:32632"
_TRANSFORM = Affine(4, 0, 600_000, 0, -4, 5_300_000)
_TILED = {"driver": "GTiff", "tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "interleave": "pixel"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "tiff": _TILED,
    "tiff-deflate": _TILED | {"compress": "deflate", "predictor": 2},
    "tiff-zstd": _TILED | {"compress": "zstd", "predictor": 2},
    "tiff-strips": {"driver": "GTiff", "interleave": "band", "compress": "deflate", "predictor": 2},
    "envi-bil": {"driver": "ENVI", "interleave": "bil"},
    "envi-bsq": {"driver": "ENVI", "interleave": "bsq"},
    "envi-bip": {"driver": "ENVI", "interleave": "bip"},
    "netcdf": {"driver": "netCDF", "compression": "gzip", "shuffle": True},
}
"""Ways in which scenes are stored, as options for rasterio; for h5netcdf the last one."""


def made_scene(path: Path, layout: str, *, bands: int, size: int) -> Path:
    """Write a square scene of noisy reflectances, as compressible as a real one, block by block."""
    if layout == "netcdf":
        return _made_netcdf(path, bands=bands, size=size)
    profile = {"count": bands, "height": size, "width": size, "dtype": "int16", "nodata": _NODATA}
    profile |= {"crs": _CRS, "transform": _TRANSFORM}
    with rasterio.open(path, "w", **profile | LAYOUTS[layout]) as dataset:
        for top, left, values in _blocks(bands, size):
            dataset.write(values, window=Window(left, top, values.shape[2], values.shape[1]))
    return path


def _made_netcdf(path: Path, *, bands: int, size: int) -> Path:
    """The same as NetCDF 4, bands last, as products of satellites are."""
    options = {key: value for key, value in LAYOUTS["netcdf"].items() if key != "driver"}
    chunks = (*(min(_BLOCK, size),) * 2, min(_CHUNK_BANDS, bands))
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"y": size, "x": size, "band": bands}
        for axis, step, first in (("y", _TRANSFORM.e, _TRANSFORM.f), ("x", _TRANSFORM.a, _TRANSFORM.c)):
            file.create_variable(axis, (axis,), data=first + step * (np.arange(size) + 0.5))
        file.create_variable("crs", (), np.int32).attrs["crs_wkt"] = CRS.from_user_input(_CRS).to_wkt()
        cube = file.create_variable(
            "reflectance", ("y", "x", "band"), np.int16, fillvalue=np.int16(_NODATA), chunks=chunks, **options
        )
        cube.attrs["grid_mapping"] = "crs"
        for top, left, values in _blocks(bands, size):
            height, width = values.shape[1:]
            cube[top : top + height, left : left + width] = values.transpose(1, 2, 0)
    return path


def _blocks(bands: int, size: int) -> Iterator[tuple[int, int, NDArray[np.int16]]]:
    """Row, column and values (band, y, x) of each block of a scene."""
    random = np.random.default_rng(0)
    noise = random.integers(-60, 60, (bands, _BLOCK, _BLOCK), np.int16)
    for top in range(0, size, _BLOCK):
        for left in range(0, size, _BLOCK):
            level = random.integers(500, 4000, (bands, 1, 1), np.int16)
            yield top, left, level + noise[:, : size - top, : size - left]


def untrained_model(*, bands: int, classes: int) -> Model:
    """Make a model with random weights: as fast as a trained one."""
    return Model(
        network=CSSD(NetworkConfig(bands=bands, classes=classes)).eval(),
        bands=Bands(good=(True,) * bands),
        mean=np.full(bands, 2000.0),
        std=np.full(bands, 800.0),
        classes=ClassTable.from_names([f"class {i}" for i in range(1, classes + 1)]),
        calibration=Calibration(),
        provenance={},
    )
