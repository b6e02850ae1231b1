"""Scenes with labels to measure on: made up, from a folder of rasters, or the usual benchmarks as .mat files."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rasterio
from affine import Affine
from public import PUBLIC, check, fetch_scene
from scipy.io import loadmat

from cssd_geo.classes import ClassTable
from cssd_geo.demo.files import write_scene
from cssd_geo.demo.landscape import make_landscape
from cssd_geo.label_files import read_labels
from cssd_geo.labels import Labels
from cssd_geo.learning.windows import read_pixels
from cssd_geo.products import open_scene
from cssd_geo.scenes.scene import Scene

FOLDERS = {
    "pines_like": ("scene.tif", "fields.shp", "class_name"),
    "pines_like_1": ("scene.tif", "fields.shp", "class_name"),
    "pines_like_2": ("scene.tif", "fields.shp", "class_name"),
    "berlin_enmap": ("EnMAP_BerlinUrbanGradient.bsq", "LandCov_BerlinUrbanGradient.shp", "Level_2"),
}
"""Raster, labels and their class field, in a folder of the scene's name."""
MATS = {name: (scene.cube, scene.truth) for name, scene in PUBLIC.items()}
MATS["houston_2013"] = ("Houston.mat", "Houston_gt.mat")
"""Cube and ground truth as they are published: one array each of (y, x, S) and (y, x)."""
NAMES = ("demo", *FOLDERS, *MATS)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A scene and its labelled pixels that are valid."""

    scene: Scene
    labels: Labels
    spectra: Any
    """(n, S) of the labelled pixels."""


def labelled(name: str, data: Path, *, fetch: bool = False) -> Labelled:
    """Open a scene of `NAMES`; those but the demo lie under `data`, where `fetch` puts missing public ones.

    Raises:
        FileNotFoundError: with what is missing and where it was looked for.
        PublicSceneError: if a public scene cannot be had, or is not what it is known as.
    """
    if name == "demo":
        files = write_scene(make_landscape(), _folder())
        scene = open_scene(files.scene)
        return _read(scene, read_labels(files.labels, scene.grid))
    if name in FOLDERS:
        raster, vector, field = FOLDERS[name]
        _require(data / name / raster, data / name / vector)
        scene = open_scene(data / name / raster)
        return _read(scene, _by_name(read_labels(data / name / vector, scene.grid, class_field=field)))
    if fetch and name in PUBLIC:
        fetch_scene(name, data)
    paths = [data / file for file in MATS[name]]
    _require(*paths)
    cube, truth = _array(paths[0], 3), _array(paths[1], 2)
    if fetch and name in PUBLIC:
        check(name, cube.shape, int((truth > 0).sum()))
    folder = _folder()
    scene_path = _write(folder / "scene.tif", cube.transpose(2, 0, 1))
    truth_path = _write(folder / "truth.tif", truth[None].astype(np.uint8), nodata=0)
    scene = open_scene(scene_path)
    return _read(scene, read_labels(truth_path, scene.grid))


def _folder() -> Path:
    """Make a folder for what is read lazily: it lives as long as the program."""
    folder = tempfile.mkdtemp(prefix="cssd-accuracy-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _read(scene: Scene, labels: Labels) -> Labelled:
    spectra, valid = read_pixels(scene, labels.rows, labels.cols, scene.bands.good_indexes)
    return Labelled(scene=scene, labels=labels.select(valid), spectra=spectra[valid])


def _by_name(labels: Labels) -> Labels:
    """Order classes by name, whatever numbers the file gives them: the draws of a seed hang on their order."""
    order = np.argsort(labels.table.names)
    table = ClassTable.from_names([labels.table.names[i] for i in order])
    return replace(labels, classes=np.argsort(order)[labels.classes], table=table)


def _require(*paths: Path) -> None:
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: put the scene there, or name its folder with --data, or leave the scene out "
                f"with --scenes; --fetch gets {', '.join(PUBLIC)}"
            )


def _array(path: Path, dimensions: int) -> Any:
    """The one array of that many dimensions in a .mat file; objects in it are not run."""
    found = [v for v in _values(path) if isinstance(v, np.ndarray) and v.ndim == dimensions and v.size > 1]
    if len(found) != 1:
        raise ValueError(f"{path} holds {len(found)} arrays of {dimensions} dimensions; one is expected")
    return found[0]


def _values(path: Path) -> Iterator[Any]:
    try:
        yield from loadmat(path).values()
    except NotImplementedError:  # MATLAB 7.3: HDF5, with the axes in the other order
        with h5py.File(path) as file:
            yield from (item[()].T for item in file.values() if isinstance(item, h5py.Dataset))


def _write(path: Path, values: Any, nodata: int | None = None) -> Path:
    """A GeoTIFF of (band, y, x) whose coordinates are its pixels."""
    count, height, width = values.shape
    place = {"crs": "EPSG:32631", "transform": Affine(1, 0, 500_000, 0, -1, 5_000_000)}
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": values.dtype, **place}
    with rasterio.open(path, "w", **profile, nodata=nodata) as dataset:
        dataset.write(values)
    return path
