"""A DataArray in, a lazy DataArray out: the same plan and the same tile function, as dask blocks."""

import json
from collections.abc import Mapping
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cssd_geo.classes import UNCLASSIFIED
from cssd_geo.engine.inference import TileClassifier, TileResult
from cssd_geo.maps.layer import CLASSES_TAG, PERCENT_NODATA
from cssd_geo.scenes.cube import with_place
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.validity import valid_pixels
from cssd_geo.tiles import Tile, TilePlan, Window


def classify_array(
    scene: Scene, classifier: TileClassifier, plan: TilePlan, tags: Mapping[str, str]
) -> xr.DataArray:
    """Build the class map of a scene in xarray; no tile is computed before it is asked for.

    Args:
        scene: of an array, lazy or in memory.
        classifier: made for that scene.
        plan: of its tiles, which become the blocks of the result.
        tags: of every output, which become attributes, so that a raster that is made of one has them too.

    Returns:
        Class ids (y, x) with the coordinate `confidence` (y, x) in percent, both dask-backed, and all
        coordinates of the array that do not depend on `band`. Attributes follow the CF conventions for flags;
        `comment` has what the analyst should know of the scene, its bands and its scale, if anything.
    """
    cube = scene.cube if scene.cube.chunks else scene.cube.chunk()  # one chunk: tasks then share the pixels
    shared, nodata = dask.delayed(classifier), dask.delayed(scene.nodata[classifier.bands])
    work = dask.delayed(_classify_block, pure=True)
    results = []
    for tile in plan:
        inside = tile.padded.clip(height=plan.height, width=plan.width) or tile.core
        results.append(work(shared, nodata, cube.data[:, *inside.slices][classifier.bands], inside, tile))
    coords = {name: c for name, c in cube.coords.items() if "band" not in c.dims and name != "band"}
    confidence = _assemble(results, plan, "confidence", np.dtype(np.uint8))
    labelled = {**tags, "long_name": "confidence", "units": "percent", "_FillValue": PERCENT_NODATA}
    table, notes = classifier.model.classes, (*scene.notes, *classifier.notes)
    found = xr.DataArray(
        _assemble(results, plan, "class_map", table.dtype),
        dims=("y", "x"),
        coords=coords | {"confidence": (("y", "x"), confidence, labelled)},
        name="class_map",
        attrs={
            **tags,
            CLASSES_TAG: json.dumps(table.to_json()),
            "_FillValue": UNCLASSIFIED,
            "flag_values": list(table.ids),
            "flag_meanings": " ".join(name.replace(" ", "_") for name in table.names),
            **({"comment": " ".join(notes)} if notes else {}),
        },
    )
    found.encoding["grid_mapping"] = place = cube.rio.grid_mapping
    found = with_place(found, scene.grid)  # as the cube may have been sliced
    if place in found.coords:  # so that NetCDF says whose CRS it is
        found.encoding["grid_mapping"] = found.confidence.encoding["grid_mapping"] = place
    return found


def _classify_block(
    classifier: TileClassifier, nodata: NDArray[np.float64], stored: NDArray[Any], inside: Window, tile: Tile
) -> TileResult:
    window, valid = tile.padded, valid_pixels(stored, nodata)
    if inside == window:  # most tiles: no copy
        return classifier(stored, valid, at=window.corner)
    values = np.zeros((len(stored), window.height, window.width), stored.dtype)
    seen = np.zeros(window.shape, np.bool_)
    rows, cols = inside.relative_to(window).slices
    values[:, rows, cols], seen[rows, cols] = stored, valid
    return classifier(values, seen, at=window.corner)


def _assemble(results: list[Any], plan: TilePlan, part: str, dtype: np.dtype[Any]) -> da.Array:
    """Lay one part of the results side by side: (y, x)."""
    pick = dask.delayed(getattr, pure=True)
    blocks = [
        da.from_delayed(pick(result, part), shape=(tile.core.height, tile.core.width), dtype=dtype)
        for result, tile in zip(results, plan, strict=True)
    ]
    whole = da.block([[blocks[plan.index(row, col)] for col in range(plan.cols)] for row in range(plan.rows)])
    return whole.rechunk((plan.tile_height, plan.tile_width))  # as Zarr wants it; the first tiles are smaller
