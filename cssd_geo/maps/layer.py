"""A raster to be written, but for its grid and its pixels: class map, confidence, probabilities."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cssd_geo.classes import UNCLASSIFIED, ClassTable

CLASSES_TAG = "CSSD_GEO_CLASSES"
"""TIFF tag that holds `ClassTable.to_json`, so that a map keeps its names when its side file is lost."""
RECEPTIVE_FIELD_TAG = "CSSD_GEO_RECEPTIVE_FIELD"
"""TIFF tag with the side length of the square of pixels that decided each pixel's class."""
PIXEL_TAG = "CSSD_GEO_PIXEL"
"""TIFF tag with the size of those pixels, which a map that is resampled no longer has; see `reach_tags`."""
MODEL_TAG = "CSSD_GEO_MODEL"
"""TIFF tag of every output of `classify` with the digest of the model."""
LABELS_TAG = "CSSD_GEO_LABELS"
"""TIFF tag of every output that says which label files the model was trained on; see `labels_tags`."""
SCENE_NAME_TAG = "CSSD_GEO_SCENE"
"""TIFF tag of every output with the name of the scene."""
SCENE_TAG = "CSSD_GEO_SCENE_DIGEST"
"""TIFF tag of every output that says which scene, by its files and by how they were read; see `SceneIdentity`."""
TRAINED_ON_TAG = "CSSD_GEO_TRAINED_ON"
"""TIFF tag of every output with the name of the scene that the model was trained on."""
PRECISION_TAG = "CSSD_GEO_PRECISION"
"""TIFF tag of every output with the name of the precision that it was computed in."""
PERCENT_NODATA = 255


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A raster to be written, but for its grid and its pixels."""

    path: Path
    dtype: np.dtype[Any]
    nodata: float
    band_names: tuple[str, ...]
    """Description of each band; their number is the number of bands."""
    overview: str
    """Resampling of the overviews: "mode" or "average"."""
    predictor: str
    """The COG driver's PREDICTOR."""
    tags: Mapping[str, str] = field(default_factory=dict)
    classes: ClassTable | None = None
    """The classes of a class map; its colours, names and pixel counts are written with it."""


def class_map_layer(path: Path, classes: ClassTable, tags: Mapping[str, str]) -> Layer:
    """Return the class map: ids of `classes`, 0 where unclassified.

    A predictor would cost: 6.3 MB instead of 5.6 for 4000 x 4000 pixels of six classes. Ids have no gradient.
    """
    return Layer(
        path=path,
        dtype=classes.dtype,
        nodata=UNCLASSIFIED,
        band_names=("class",),
        overview="mode",  # the mean of classes 1 and 3 is not class 2
        predictor="NO",
        tags={**tags, CLASSES_TAG: json.dumps(classes.to_json())},
        classes=classes,
    )


def percent_layer(path: Path, name: str, tags: Mapping[str, str]) -> Layer:
    """Return the confidence, or whatever else is a share: percent 0..100 as uint8, 255 where unclassified."""
    return Layer(
        path=path,
        dtype=np.dtype(np.uint8),
        nodata=PERCENT_NODATA,
        band_names=(f"{name} in percent",),
        overview="average",
        predictor="NO",  # confidence: 15.4 MB without, 16.0 MB with
        tags=tags,
    )


def probability_layer(path: Path, classes: ClassTable, tags: Mapping[str, str]) -> Layer:
    """Return the probabilities: a float32 band a class, in the order of `classes`, NaN where unclassified."""
    return Layer(
        path=path,
        dtype=np.dtype(np.float32),
        nodata=float("nan"),
        band_names=classes.names,
        overview="average",
        predictor="YES",  # 429 MB with, 464 MB without
        tags=tags,
    )
