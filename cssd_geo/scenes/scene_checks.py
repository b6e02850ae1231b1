"""What an analyst should know of a scene before using it: where it lies, how its values look, what looks wrong."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.crs import CRS

from cssd_geo.bands import turns
from cssd_geo.grid import Grid
from cssd_geo.scenes.fill_checks import remedy, share_of, suspect_fill
from cssd_geo.scenes.previews import PixelSample
from cssd_geo.scenes.scene import Scene
from cssd_geo.spectra.band_choice import ranges

NO_SCALE = "declare none (--scale 1, or in Python drop scale_factor from the array's attributes)"
"""What to do about a scale that was applied before."""
_QUANTILES = {"minimum": 0.0, "2 %": 0.02, "median": 0.5, "98 %": 0.98, "maximum": 1.0}
_UNSCALED = 500.0
"""Reflectance in percent and bytes end below; larger values without a scale are most often times 10,000."""
_DECIMALS, _SMALL_SCALE = 1.5, 0.01
"""Reflectance as decimals ends below the first; no scale up to the second makes anything of decimals."""


def place_of(grid: Grid) -> dict[str, Any]:
    """Where a scene, or its map, lies, as plain values; None for what is not known."""
    transform, crs = grid.transform, grid.crs
    facts: dict[str, Any] = {
        "height": grid.height,
        "width": grid.width,
        "crs": None if crs is None else crs.to_string(),
        "crs_name": None if crs is None else pyproj.CRS.from_wkt(crs.to_wkt()).name,
        "unit": None if crs is None else _unit(crs),
        "transform": None if transform is None else list(transform)[:6],
        "gcps": len(grid.gcps),
        "pixel_size": None,
        "rotation_degrees": None,
        "mirrored": None,
        "corners": None,
        "degrees": None,
    }
    if transform is None or grid.gcps:
        return facts
    names = ("upper_left", "upper_right", "lower_right", "lower_left")
    corners = {name: list(transform @ corner) for name, corner in zip(names, grid.corners, strict=True)}
    degrees = grid.degrees
    return facts | {
        "pixel_size": [math.hypot(transform.a, transform.d), math.hypot(transform.b, transform.e)],
        "rotation_degrees": math.degrees(math.atan2(transform.d, transform.a)),
        "mirrored": transform.determinant > 0,
        "corners": corners,
        "degrees": None if degrees is None else list(degrees),
    }


def _unit(crs: CRS) -> str:
    unit = "degree" if crs.is_geographic else str(crs.linear_units)
    return "m" if unit.lower() in {"metre", "meter"} else unit


def quantiles(scene: Scene, bands: NDArray[np.intp], sample: PixelSample) -> dict[str, float] | None:
    """How values are spread over all bands, in reflectance or radiance; None without any valid pixel."""
    stored = sample.values[~sample.empty][:, sample.valid]
    if not stored.size:
        return None
    used = bands[~sample.empty]
    values = stored.astype(np.float64) * scene.scale[used, None] + scene.offset[used, None]
    return dict(zip(_QUANTILES, np.quantile(values, list(_QUANTILES.values())).tolist(), strict=True))


def warnings_of(scene: Scene, bands: NDArray[np.intp], sample: PixelSample) -> list[str]:
    """What looks wrong or will be missed, one sentence each."""
    return [*_of_header(scene), *_of_pixels(scene, bands, sample)]


def _of_header(scene: Scene) -> Iterator[str]:
    grid, centres = scene.map_grid, scene.bands.wavelength_nm
    own = "in the scene's own coordinates"
    if grid.is_local:
        yield f"The CRS is local, no place on the Earth: polygons can only be given {own}."
    if grid.crs is None:
        how = own if grid.is_placed else "in pixels, drawn over the scene as QGIS shows it"
        yield f"No CRS is known: polygons can only be given {how}."
    if not grid.is_placed:
        yield "No georeference is known: maps will have none either."
    if centres is None:
        yield (
            "Wavelengths are not known: bands are told apart by their order alone. docs/formats.md, Wavelengths, "
            "has the lines that write them into a file."
        )
    elif (turned := turns(centres)).any():
        back = ranges(scene.band_numbers[1:][turned])
        yield f"Wavelengths turn back at band {back}, as where two detectors overlap."
    if not any(scene.bands.good):
        yield "Every band is marked as bad: check the bad-band list (bbl) of the header."


def _of_pixels(scene: Scene, bands: NDArray[np.intp], sample: PixelSample) -> Iterator[str]:
    where = "" if sample.exact else " of those read"
    if not sample.unmasked.any():
        yield f"Masks or the area of interest exclude every pixel{where}."
        return
    if sample.empty.all():
        yield f"There is no data in any pixel{where}."
        return
    if sample.empty.any():
        empty = ranges(scene.band_numbers[bands[sample.empty]])
        yield f"Bands without data in any pixel{where}: {empty}. Training drops them."
    if not sample.valid.any():
        yield f"No pixel{where} has data in all of the other bands."
    yield from _constant_pixels(sample, where)
    yield from scaled_twice(scene, bands[~sample.empty], sample.values[~sample.empty][:, sample.valid])
    told = quantiles(scene, bands, sample)
    if told is not None and (scene.scale == 1).all() and told["98 %"] > _UNSCALED:
        yield (
            f"98 % of the values are up to {told['98 %']:,.0f}, and no scale is declared. If they are reflectance "
            "times 10,000, say so with --scale 0.0001, or in the file (gdal_edit.py -scale 0.0001 -offset 0): "
            "else a model and a scene that differ in this are compared, and the scale is guessed."
        )


def scaled_twice(scene: Scene, bands: NDArray[np.intp], stored: NDArray[Any]) -> Iterator[str]:
    """Suspect values that were scaled before they got their scale: xarray keeps it when an array is multiplied.

    Args:
        scene: with the scale.
        bands: indexes of the bands.
        stored: (S, n) their values as stored, of valid pixels.
    """
    scale = scene.scale[bands].max()
    if scene.scale_by_hand or stored.dtype.kind != "f" or not stored.size or abs(scale) > _SMALL_SCALE:
        return
    top = float(np.quantile(stored, _QUANTILES["98 %"]))
    if 0 < top < _DECIMALS:
        yield (
            f"Values of {scene.name} run to {top:.2g} and have a scale of {scale:g}, which would make them "
            f"{top * scale:.2g}: if they were multiplied by it before, {NO_SCALE}."
        )


def _constant_pixels(sample: PixelSample, where: str) -> Iterator[str]:
    """Suspect nodata that nobody declared: pixels with one value in all bands, many with the same."""
    unmasked = int(sample.unmasked.sum())
    found = suspect_fill(sample.values[:, sample.valid][~sample.empty], unmasked)
    if found is not None:
        value, count = found
        many = share_of(count, unmasked)
        suspicion = f"{many} of the pixels{where} are {value} in every band, and that is not declared as nodata"
        yield f"{suspicion}. {remedy(value)}"
