"""Train a model from a scene and labels, and say honestly how good it is."""

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cssd_geo
from cssd_geo.baselines import random_forest
from cssd_geo.calibration import Calibration, cross_fitted, fit_calibration
from cssd_geo.errors import LabelError, SceneError
from cssd_geo.fitting import Epoch, fit
from cssd_geo.inference import TileClassifier, choose_device, predict_pixels
from cssd_geo.labels import Labels, read_labels, require_trainable
from cssd_geo.metrics import Accuracy, confusion_matrix
from cssd_geo.model import Model, fingerprint, json_ready
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import TrainingOptions
from cssd_geo.sampling import Sampling, draw
from cssd_geo.scene import Scene, open_scene, usable
from cssd_geo.whitening import Whitening
from cssd_geo.windows import TrainingWindows, read_pixels, read_windows

LEAST_PIXELS = 3
"""Labelled pixels below which a class cannot be learned, let alone be tested."""


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """Accuracy on held-out pixels, for the map (both heads, weights cross-fitted) and each head alone."""

    description: str
    """How the pixels were held out."""
    map: Accuracy
    main: Accuracy
    spectral: Accuracy
    random_forest: Accuracy | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        methods = ("map", "main", "spectral", "random_forest")
        found = {name: getattr(self, name) for name in methods}
        figures = {name: None if a is None else a.to_json() for name, a in found.items()}
        return {"split": self.description} | figures


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `train` gives back."""

    model: Model
    hold_out: HoldOut | None
    """None where nothing was held out."""
    notes: tuple[str, ...]
    """What was repaired, left out or dropped, one sentence each."""


def train(
    scene: str | Path | Scene,
    labels: str | Path | Labels,
    output: str | Path | None = None,
    *,
    class_field: str | None = None,
    layer: str | None = None,
    all_touched: bool = False,
    options: TrainingOptions | None = None,
    device: str = "auto",
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Training:
    """Train a model.

    Args:
        scene: path of a raster, or an open scene.
        labels: path of a vector (any CRS) or of a raster on the scene's grid, or labels already read.
        output: where to write the model file; nowhere if None.
        class_field: attribute of the vector with the class; guessed where only one is plausible.
        layer: layer of a vector with several.
        all_touched: label every pixel that a polygon touches, not only those whose centre it covers.
        options: how to train; the defaults if None.
        device: auto, cpu or cuda.
        on_epoch: called after each pass over the training windows.

    Raises:
        SceneError: if the scene cannot be read.
        LabelError: if the labels cannot be read or do not suffice.
        InputError: if an option cannot be used, or the learning rate makes the training diverge.
        OutputError: if the model file cannot be written.
    """
    options = options or TrainingOptions()
    place = choose_device(device)
    opened = scene if isinstance(scene, Scene) else open_scene(scene)
    if isinstance(labels, Labels):
        read = labels
    else:
        grid = opened.grid
        read = read_labels(labels, grid, class_field=class_field, layer=layer, all_touched=all_touched)
    require_trainable(read, LEAST_PIXELS)
    if not any(opened.bands.good):
        raise SceneError(f"{opened.name} marks every band as bad: check the bad-band list (bbl) in its header")
    config = NetworkConfig(bands=sum(opened.bands.good), classes=len(read.table), window=options.window)
    config = config.as_published() if options.published else config
    sampling = draw(read, options, config.receptive_field)
    opened, notes = _drop_empty_bands(opened, sampling.train)
    config = replace(config, bands=sum(opened.bands.good))
    untested, windows = _prepare(opened, sampling.train, config, options.seed)
    _fit(untested.network, windows, sampling.train, options=options, device=place, on_epoch=on_epoch)
    model, hold_out = _judge(untested, opened, sampling, options, place)
    model = replace(model, provenance=_provenance(opened, labels, sampling, options, hold_out))
    if output is not None:
        model.save(output)
    return Training(model=model, hold_out=hold_out, notes=(*read.notes, sampling.description, *notes))


def _drop_empty_bands(scene: Scene, labels: Labels) -> tuple[Scene, list[str]]:
    """Mark bands as bad that hold no data at any training pixel, as water-vapour bands of products do."""
    good = scene.bands.good_indexes
    values, _ = read_pixels(scene, labels.rows, labels.cols, good)
    data = usable(values.T[:, :, None], scene.nodata[good])[:, :, 0]  # (S,n)
    empty = np.zeros(len(scene.bands), bool)
    empty[good] = ~data.any(axis=1)
    if not empty.any():
        return scene, []
    if empty[good].all():
        raise LabelError("all labelled pixels are nodata in every band: check that labels and scene overlap")
    dropped = ", ".join(str(i + 1) for i in np.flatnonzero(empty))
    return scene.without_bands(empty), [f"Bands without data at the labelled pixels were dropped: {dropped}."]


def _prepare(scene: Scene, labels: Labels, config: NetworkConfig, seed: int) -> tuple[Model, TrainingWindows]:
    """Read the windows, take band statistics from them, and build a network with random weights."""
    good = scene.bands.good_indexes
    table = read_windows(scene, labels.rows, labels.cols, good, config.halo.before)
    stored = table.values[1:] * scene.scale[good] + scene.offset[good]
    mean, std = stored.mean(0), stored.std(0)
    std = np.where(std > 0, std, 1.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CSSD(config)
    model = Model(
        network=network,
        bands=scene.bands,
        mean=mean,
        std=std,
        classes=labels.table,
        calibration=Calibration(),
        provenance={},
    )
    pixels = np.zeros(table.values.shape, np.float32)
    pixels[1:] = (stored - mean) / std
    windows = TrainingWindows(
        pixels=torch.from_numpy(pixels), lookup=torch.from_numpy(table.lookup), halo=config.halo
    )
    _require_valid(windows, labels)
    return model, windows


def _fit(
    network: CSSD,
    windows: TrainingWindows,
    labels: Labels,
    *,
    options: TrainingOptions,
    device: torch.device,
    on_epoch: Callable[[Epoch], None] | None,
) -> None:
    """Train in place; where the spectral stage is one free linear map, in whitened bands."""
    classes = torch.from_numpy(labels.classes)
    linear = network.spectral_map
    if linear is None:
        fit(network, windows, classes, options=options, device=device, on_epoch=on_epoch)
        return
    valid = windows.centre_rows > 0
    spectra = windows.pixels[windows.centre_rows[valid]].numpy()
    whitening = Whitening.within_classes(spectra, labels.classes[valid.numpy()])
    white = replace(windows, pixels=whitening.apply(windows.pixels))
    fit(network, white, classes, options=options, device=device, on_epoch=on_epoch)
    whitening.fold_into(linear)


def _require_valid(windows: TrainingWindows, labels: Labels) -> None:
    valid = (windows.centre_rows > 0).numpy()
    counts = np.bincount(labels.classes[valid], minlength=len(labels.table))
    if (counts == 0).any():
        names = ", ".join(n for n, c in zip(labels.table.names, counts, strict=True) if c == 0)
        raise LabelError(f"every labelled pixel of {names} is nodata in the scene: label other places")


def _judge(
    untested: Model, scene: Scene, sampling: Sampling, options: TrainingOptions, device: torch.device
) -> tuple[Model, HoldOut | None]:
    """Predict the held-out pixels as the map would, calibrate on them, and report."""
    test = sampling.test
    if not len(test):
        return untested, None
    classifier = TileClassifier(untested, scene, device)
    main, spectral = predict_pixels(classifier, scene, test.rows, test.cols)
    _, valid = read_pixels(scene, test.rows, test.cols, untested.bands.good_indexes)
    main, spectral, test = main[valid], spectral[valid], test.select(valid)
    if not len(test):
        return untested, None
    forest = random_forest(scene, sampling.train, test, options.seed) if options.baseline else None
    predicted = {
        "map": cross_fitted(main, spectral, test.classes, test.polygons),
        "main": main.argmax(1),
        "spectral": spectral.argmax(1),
    }
    figures = {name: _accuracy(test, labels) for name, labels in predicted.items()}
    calibration = fit_calibration(main, spectral, test.classes)
    forest_accuracy = None if forest is None else _accuracy(test, forest)
    hold_out = HoldOut(description=sampling.description, random_forest=forest_accuracy, **figures)
    return replace(untested, calibration=calibration), hold_out


def _accuracy(test: Labels, predicted: NDArray[np.int64]) -> Accuracy:
    matrix = confusion_matrix(test.classes, predicted, len(test.table))
    return Accuracy(confusion=matrix, names=test.table.names)


def _provenance(
    scene: Scene,
    labels: str | Path | Labels,
    sampling: Sampling,
    options: TrainingOptions,
    hold_out: HoldOut | None,
) -> dict[str, Any]:
    label_path = None if isinstance(labels, Labels) else Path(labels)
    packages = {"cssd_geo": cssd_geo.__version__, "torch": torch.__version__, "numpy": np.__version__}
    values = {
        "scene": {"name": scene.name, "fingerprint": None if scene.path is None else fingerprint(scene.path)},
        "labels": None
        if label_path is None
        else {"name": label_path.name, "fingerprint": fingerprint(label_path)},
        "scale": {"scale": np.unique(scene.scale).tolist(), "offset": np.unique(scene.offset).tolist()},
        "options": asdict(options),
        "training_pixels": dict(zip(sampling.train.table.names, sampling.train.counts().tolist(), strict=True)),
        "versions": packages | {"python": platform.python_version()},
        "accuracy": None if hold_out is None else hold_out.to_json(),
    }
    plain: dict[str, Any] = json_ready(values)
    return plain
