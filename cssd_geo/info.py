"""What is known of a model or a scene, as plain values for a person or a program."""

from pathlib import Path
from typing import Any

import numpy as np

from cssd_geo.classes import ClassTable
from cssd_geo.model import json_ready, load_model
from cssd_geo.products import open_scene


def describe_model(path: str | Path) -> dict[str, Any]:
    """Return the header of a model file, with counts that a reader looks for first.

    Raises:
        ModelFileError: if it is missing, damaged or not a model.
    """
    model = load_model(path)
    weights = sum(tensor.numel() for tensor in model.network.state_dict().values())
    header = model.header()
    header["classes"] = _classes(model.classes)
    summary = {"bands": model.bands.summary(), "weights": weights, "digest": model.digest()}
    facts: dict[str, Any] = json_ready({"model": Path(path).name} | summary | {"header": header})
    return facts


def describe_scene(path: str | Path) -> dict[str, Any]:
    """Return what is known of a scene without reading its pixels.

    Raises:
        SceneError: if it cannot be opened.
    """
    scene = open_scene(path)
    grid, bands = scene.grid, scene.bands
    nodata = np.unique(scene.nodata)
    facts: dict[str, Any] = json_ready(
        {
            "scene": scene.name,
            "size": {"height": grid.height, "width": grid.width, "bands": len(bands)},
            "dtype": str(scene.cube.dtype),
            "crs": None if grid.crs is None else grid.crs.to_string(),
            "transform": None if grid.transform is None else list(grid.transform)[:6],
            "gcps": len(grid.gcps),
            "nodata": [None if np.isnan(v) else v for v in nodata.tolist()],
            "scale": np.unique(scene.scale).tolist(),
            "offset": np.unique(scene.offset).tolist(),
            "reading_block": list(scene.block_shape),
            "bands": {
                "summary": bands.summary(),
                "bad": [i + 1 for i, good in enumerate(bands.good) if not good],
                "wavelength_nm": None if bands.wavelength_nm is None else list(bands.wavelength_nm),
                "fwhm_nm": None if bands.fwhm_nm is None else list(bands.fwhm_nm),
            },
        }
    )
    return facts


def _classes(table: ClassTable) -> dict[str, str]:
    rows = zip(table.ids, table.names, table.colours, strict=True)
    return {str(i): f"{name} (#{r:02x}{g:02x}{b:02x})" for i, name, (r, g, b) in rows}
