"""What an open raster says of itself beside its pixels: bands, scale, nodata, sensor, and what is doubtful."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from cssd_geo.bands import Bands
from cssd_geo.errors import SceneError
from cssd_geo.headers.axis_names import axis_named
from cssd_geo.headers.band_tags import FoundBands, Tags, plain_keys, read_bands, read_scale
from cssd_geo.headers.envi_header import EnviHeader
from cssd_geo.headers.raw_files import check_length, envi_header

_REAL = ("int", "uint", "float")
_NUMBER = r"\s*([-+]?\d+\.?\d*(?:e[-+]?\d+)?)\s*"
_MAP_INFO = re.compile(rf"map info\s*=\s*\{{[^,}}]*{(',' + _NUMBER) * 4}", re.IGNORECASE)
"""Column, row, x and y of the reference pixel."""
_NEAR = 0.01
"""Share of a pixel; a place that is off by less is the same."""


@dataclass(frozen=True, kw_only=True)
class SceneFacts:
    """What files say of the spectral bands of a scene."""

    bands: Bands
    dtype: np.dtype[Any]
    """Of the values, as stored."""
    nodata: NDArray[np.float64]
    """(band,) value that means nodata, NaN where a band declares none."""
    scale: NDArray[np.float64]
    """(band,) reflectance (or radiance) = scale * value + offset."""
    offset: NDArray[np.float64]
    """(band,) see `scale`."""
    sensor: str | None
    """Sensor and product, where the files say: "EnMAP L2A"."""
    notes: tuple[str, ...]
    """What was decided or is missing, for the analyst."""


def spectral_indexes(dataset: Any) -> list[int]:
    """Return the bands, counted from 1, that hold measurements: all but transparency.

    Raises:
        SceneError: if there is none.
    """
    alpha = alpha_indexes(dataset)
    indexes = [index for index in dataset.indexes if index not in alpha]
    if not indexes:
        raise SceneError(f"{dataset.name} holds transparency only (alpha): it is no scene")
    return indexes


def alpha_indexes(dataset: Any) -> list[int]:
    """Return the bands, counted from 1, that hold transparency."""
    kinds = dataset.colorinterp
    return [index for index, kind in zip(dataset.indexes, kinds, strict=True) if kind is ColorInterp.alpha]


def _require_no_classes(dataset: Any) -> None:
    """Refuse ENVI classifications; GDAL itself refuses spectral libraries and the like."""
    kind = plain_keys(dataset.tags(ns="ENVI")).get("file_type", "")
    if "classification" in kind.lower():
        raise SceneError(f"{dataset.name} is a class map, no scene (file type = {kind}): give the scene itself")


def read_facts(dataset: Any) -> SceneFacts:
    """Read what an open rasterio dataset says, and check that its file is whole; reads no pixel.

    Raises:
        SceneError: if it is no scene, holds complex numbers or bands of several types, bands are where GDAL does
            not see them, or a raw file is cut short.
    """
    _require_bands_first(dataset)
    _require_no_classes(dataset)
    header = envi_header(dataset)
    length = check_length(dataset)
    indexes = spectral_indexes(dataset)
    dtype = _dtype(dataset, indexes)
    envi = dataset.tags(ns="ENVI")
    found = _bands(dataset, envi, indexes)
    nodata, doubts = _nodata(dataset, header, dtype, indexes)
    pairs = [(dataset.scales[i - 1], dataset.offsets[i - 1]) for i in indexes]
    scale, offset = np.array(read_scale(dataset.tags() | envi, *zip(*pairs, strict=True)), np.float64).T
    return SceneFacts(
        bands=found.bands,
        dtype=dtype,
        nodata=nodata,
        scale=scale,
        offset=offset,
        sensor=None if header is None else header.sensor,
        notes=(
            *length,
            *_alpha_notes(dataset),
            *_mask_notes(dataset, indexes),
            *found.notes,
            *doubts,
            *_place_notes(dataset),
        ),
    )


def _require_bands_first(dataset: Any) -> None:
    """Refuse where GDAL takes one band for the scene, or rows for bands."""
    if dataset.driver == "GTiff" and dataset.count == 1 and len(dataset.subdatasets) > 1:
        raise SceneError(
            f"{dataset.name} holds {len(dataset.subdatasets)} images one behind the other (pages), of which GDAL "
            "takes the first alone: make a GeoTIFF with a band for each (docs/formats.md, Arrays, has the lines)"
        )
    taken = dataset.tags().get("NETCDF_DIM_EXTRA", "").strip("{}")
    if axis_named([taken]) is not None:
        raise SceneError(
            f"{dataset.name} has its bands last, so that GDAL takes {taken} for the bands: open it in xarray, "
            "and save it with the dimensions transposed to band, y and x"
        )


def _bands(dataset: Any, envi: Tags, indexes: list[int]) -> FoundBands:
    """Read the bands from all domains of tags that tell of wavelengths; ENVI's and FORCE's precede the default."""
    try:
        names = [dataset.descriptions[i - 1] for i in indexes]
    except UnicodeDecodeError:  # a header in another encoding: the names are lost, and nothing else
        names = []
    imagery = [dataset.tags(i, ns="IMAGERY") for i in indexes]
    plain = [dataset.tags(i) | dataset.tags(i, ns="FORCE") | dataset.tags(i, ns="ENVI") for i in indexes]
    return read_bands(envi, imagery, plain, dataset=dataset.tags(), names=names)


def _dtype(dataset: Any, indexes: list[int]) -> np.dtype[Any]:
    """Return the type of all bands; raises a SceneError if there is none, or it is not real."""
    names = sorted({dataset.dtypes[i - 1] for i in indexes})
    if not all(name.startswith(_REAL) for name in names):
        raise SceneError(f"{dataset.name} holds {names[0]} values; a scene has real numbers: write magnitudes")
    if len(names) > 1:
        raise SceneError(
            f"{dataset.name} has bands of several types ({', '.join(names)}): convert it to one, "
            "such as gdal_translate -ot Float32"
        )
    dtype: np.dtype[Any] = np.dtype(names[0])
    return dtype


def _nodata(
    dataset: Any, header: EnviHeader | None, dtype: np.dtype[Any], indexes: list[int]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Values that mean nodata; notes on those that cannot be what was meant."""
    declared = [dataset.nodatavals[i - 1] for i in indexes]
    if header is not None and not header.nodata_is_number:  # GDAL takes it for 0
        return np.full(len(indexes), np.nan), ("The header's data ignore value is no number: it is not used.",)
    nodata = np.array([np.nan if value is None else value for value in declared], np.float64)
    strange = sorted({value for value in nodata.tolist() if not (np.isnan(value) or can_hold(dtype, value))})
    notes = tuple(
        f"The nodata value {value:g} cannot occur in {dtype} data: no pixel has it." for value in strange
    )
    return nodata, notes


def can_hold(dtype: np.dtype[Any], value: float) -> bool:
    """Whether a type can hold a value at all; nodata like -9999 in unsigned files exists."""
    if dtype.kind == "f":
        return True
    limits = np.iinfo(dtype)
    return value.is_integer() and limits.min <= value <= limits.max


def _alpha_notes(dataset: Any) -> Iterator[str]:
    if alpha := ", ".join(map(str, alpha_indexes(dataset))):
        yield f"Band {alpha} is transparency (alpha): it says which pixels are valid, and is no band."


def _mask_notes(dataset: Any, indexes: list[int]) -> Iterator[str]:
    """Say that masks of single bands, which have no flag, are not used: the mask of a scene is for all of them."""
    flags = dataset.mask_flag_enums  # of all bands, asked once: it takes a while
    if masked := sum(not flags[index - 1] for index in indexes):
        yield (
            f"{masked} bands have masks of their own, which are not used: give one of the whole scene "
            "(--valid-mask), or nodata values."
        )


def _place_notes(dataset: Any) -> Iterator[str]:
    """What is missing of the scene's place on the Earth."""
    if dataset.transform.is_identity and not dataset.gcps[0]:
        also = " but rational polynomials (RPC), which are not used" if dataset.rpcs else ""
        yield f"The scene has no georeference{also}: its map will have none either."
    elif dataset.crs is None and dataset.gcps[1] is None:
        yield "The scene has a georeference without a coordinate system: labels must be in the same coordinates."
    else:
        yield from _turned_notes(dataset)


def _turned_notes(dataset: Any) -> Iterator[str]:
    """ENVI turns a scene around the reference pixel of its map info, GDAL around the first pixel in any case."""
    header = next((Path(file) for file in dataset.files if file.lower().endswith(".hdr")), None)
    if dataset.driver != "ENVI" or dataset.transform.is_rectilinear or header is None or not header.is_file():
        return
    info = _MAP_INFO.search(header.read_text(errors="replace"))
    if info is None:
        return
    col, row, x, y = (float(number) for number in info.groups())
    beside = math.dist(dataset.transform @ (col - 1, row - 1), (x, y))
    if beside >= _NEAR * math.sqrt(abs(dataset.transform.determinant)):
        yield (
            f"By its map info pixel ({col:g}, {row:g}) lies at {x:.10g}, {y:.10g}; GDAL, and QGIS with it, turns "
            f"the scene around its first pixel, {beside:.3g} units beside that. Labels drawn in QGIS fit, others "
            "do not: write the place of pixel (1, 1) into the map info."
        )
