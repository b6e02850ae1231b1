"""Scenes and models to measure with: made up, but stored as real ones are."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from cssd_geo.bands import Bands
from cssd_geo.calibration import Calibration
from cssd_geo.classes import ClassTable
from cssd_geo.model import Model
from cssd_geo.network import CSSD, NetworkConfig

_BLOCK = 256
_TILED = {"driver": "GTiff", "tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "interleave": "pixel"}
LAYOUTS: dict[str, dict[str, Any]] = {
    "tiff": _TILED,
    "tiff-deflate": _TILED | {"compress": "deflate", "predictor": 2},
    "tiff-zstd": _TILED | {"compress": "zstd", "predictor": 2},
    "tiff-strips": {"driver": "GTiff", "interleave": "band", "compress": "deflate", "predictor": 2},
    "envi-bil": {"driver": "ENVI", "interleave": "bil"},
    "envi-bsq": {"driver": "ENVI", "interleave": "bsq"},
    "envi-bip": {"driver": "ENVI", "interleave": "bip"},
}
"""Ways in which scenes are stored, as options for rasterio."""


def made_scene(path: Path, layout: str, *, bands: int, size: int) -> Path:
    """Write a square scene of noisy reflectances, as compressible as a real one, block by block."""
    random = np.random.default_rng(0)
    profile = {"count": bands, "height": size, "width": size, "dtype": "int16", "nodata": -9999}
    profile |= {"crs": "EPSG:32632", "transform": Affine(4, 0, 600_000, 0, -4, 5_300_000)}
    noise = random.integers(-60, 60, (bands, _BLOCK, _BLOCK), np.int16)
    with rasterio.open(path, "w", **profile | LAYOUTS[layout]) as dataset:
        for top in range(0, size, _BLOCK):
            for left in range(0, size, _BLOCK):
                height, width = min(_BLOCK, size - top), min(_BLOCK, size - left)
                level = random.integers(500, 4000, (bands, 1, 1), np.int16)
                dataset.write(level + noise[:, :height, :width], window=Window(left, top, width, height))
    return path


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
