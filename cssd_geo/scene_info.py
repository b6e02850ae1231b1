"""What is known of a scene, as plain values for a person or a program; torch is loaded only for a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.bands import segments
from cssd_geo.errors import InputError, SceneError
from cssd_geo.files.json_values import json_ready
from cssd_geo.formats.stores import format_of
from cssd_geo.map_info import describe_map
from cssd_geo.products import open_scene
from cssd_geo.scenes.fill_checks import empty_band_notes
from cssd_geo.scenes.previews import PixelSample, sample_pixels
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_checks import place_of, quantiles, warnings_of
from cssd_geo.scenes.sources import RasterSource
from cssd_geo.spectra.band_choice import ranges

if TYPE_CHECKING:
    from cssd_geo.model import Model


def describe_scene(scene: str | Path | Scene, model: "Model | None" = None) -> dict[str, Any]:
    """Return what is known of a scene, and what its pixels look like, of which some are read: seconds at most.

    Of a class map that `classify` wrote all are read, to count those of each class.

    Args:
        scene: a scene or its path.
        model: tells the tile plan of a classification with it, and whether it fits.

    Raises:
        SceneError: if it cannot be opened or read.
    """
    opened = scene if isinstance(scene, Scene) else open_scene(scene)
    grid, bands = opened.grid, opened.bands
    good = bands.good_indexes if any(bands.good) else np.arange(len(bands))
    sample, dataset = sample_pixels(opened, good), _dataset(opened)
    ours = None if dataset is None else describe_map(dataset)
    facts: dict[str, Any] = json_ready(
        {
            "scene": opened.name,
            "sensor": opened.sensor,
            "file": _file(opened),
            "size": {"height": grid.height, "width": grid.width, "bands": len(bands)},
            "dtype": str(opened.dtype),
            "place": place_of(opened.map_grid),
            "bands": _bands(opened),
            "values": _values(opened, good, sample),
            "map": ours,
            "plan": None if model is None else _plan(opened, model),
            "notes": list(opened.notes),
            "warnings": warnings_of(opened, good, sample) if ours is None else [],
        }
    )
    return facts


def _dataset(scene: Scene) -> Any | None:
    """The open raster of a scene that is one."""
    return scene.source.dataset() if isinstance(scene.source, RasterSource) else None


def _file(scene: Scene) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": None if scene.path is None else str(scene.path), "format": None}
    facts |= {"interleave": None, "compression": None, "bytes": None, "files": []}
    if (dataset := _dataset(scene)) is not None:
        packed, interleave = dataset.compression, dataset.interleaving
        files = [Path(name) for name in dataset.files if Path(name).is_file()]
        facts |= {
            "format": dataset.driver,
            "interleave": None if interleave is None else interleave.value.lower(),
            "compression": None if packed is None else packed.value.lower(),
            "bytes": sum(file.stat().st_size for file in files),
            "files": [file.name for file in files],
        }
    elif scene.path is not None:
        facts |= _store(scene.path)
    return facts | {"block": [scene.source.blocks.height, scene.source.blocks.width]}


def _store(path: Path) -> dict[str, Any]:
    """The same of NetCDF, HDF5 and Zarr; the files of a folder may be too many to look at."""
    size = None if path.is_dir() else path.stat().st_size
    return {"format": format_of(path), "bytes": size, "files": [path.name]}


def _bands(scene: Scene) -> dict[str, Any]:
    bands, numbers = scene.bands, scene.band_numbers
    bad = numbers[~np.array(bands.good)].tolist()
    return {
        "summary": bands.summary(),
        "numbers": ranges(numbers.tolist()),
        "bad": bad,
        "bad_ranges": ranges(bad),
        "segments": [
            {
                "bands": ranges(numbers[part].tolist()),
                "wavelength_nm": [bands.wavelength_nm[i] for i in (part[0], part[-1])],
            }
            for part in segments(bands)
            if bands.wavelength_nm is not None
        ],
        "wavelength_nm": None if bands.wavelength_nm is None else list(bands.wavelength_nm),
        "fwhm_nm": None if bands.fwhm_nm is None else list(bands.fwhm_nm),
    }


def _values(scene: Scene, bands: NDArray[np.intp], sample: PixelSample) -> dict[str, Any]:
    """What nodata and scale say, and how the pixels that were read look."""
    unmasked = int(sample.unmasked.sum())
    return {
        "nodata": [None if np.isnan(v) else v for v in np.unique(scene.nodata).tolist()],
        "scale": np.unique(scene.scale).tolist(),
        "offset": np.unique(scene.offset).tolist(),
        "pixels_read": sample.unmasked.size,
        "all_pixels_read": sample.exact,
        "nodata_share": 1 - float(sample.valid.sum()) / unmasked if unmasked else None,
        "masked_share": 1 - sample.unmasked_share,
        "bands_without_data": scene.band_numbers[bands[sample.empty]].tolist() if unmasked else [],
        "quantiles": quantiles(scene, bands, sample),
    }


def _plan(scene: Scene, model: "Model") -> dict[str, Any]:
    """Tiles of a classification here with the default options, or why the model does not fit the scene."""
    from cssd_geo.engine.inference import TileClassifier  # noqa: PLC0415 - torch takes a second
    from cssd_geo.engine.streaming import this_machine  # noqa: PLC0415 - torch takes a second
    from cssd_geo.value_scale import recognise_scale  # noqa: PLC0415 - torch takes a second

    try:
        fitted, here = recognise_scale(scene, model), this_machine("auto", "auto")
        classifier = TileClassifier(model, fitted, here.classifier_device, here.precision)
        plan = classifier.plan(scene)
    except (SceneError, InputError) as error:
        return {"fits": False, "why": str(error)}
    return {
        "fits": True,
        "why": None,
        "tiles": [plan.rows, plan.cols],
        "tile": [plan.tile_height, plan.tile_width],
        "halo": [plan.halo.before, plan.halo.after],
        "bytes_read": plan.pixels_read * len(classifier.bands) * scene.dtype.itemsize,
        "memory": classifier.needs(scene, plan.at_once).of(plan),
        "notes": [
            *fitted.notes[len(scene.notes) :],
            *classifier.notes,
            *empty_band_notes(scene, classifier.bands),
        ],
    }
