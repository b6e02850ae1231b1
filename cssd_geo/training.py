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
from cssd_geo.baselines import BASELINES
from cssd_geo.calibration import Calibration, fit_calibration
from cssd_geo.classes import listed
from cssd_geo.discriminant import Discriminant
from cssd_geo.errors import LabelError, SceneError
from cssd_geo.fitting import Epoch, fit
from cssd_geo.inference import TileClassifier, choose_device, predict_pixels
from cssd_geo.labels import Labels, read_labels, require_trainable
from cssd_geo.model import Model, fingerprint, json_ready
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.sampling import Fold, Sampling, draw
from cssd_geo.scene import Scene, usable
from cssd_geo.validation import HoldOut, Predictions, judge
from cssd_geo.whitening import Whitening
from cssd_geo.windows import TrainingWindows, read_pixels, read_windows

LEAST_PIXELS = 3
"""Labelled pixels below which a class cannot be learned, let alone be tested."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `train` gives back."""

    model: Model
    """Trained on all labels."""
    hold_out: HoldOut | None
    """What models that did not see some of the labels made of these; None where nothing was held out."""
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
    """Train a model: on parts of the labels, to find out how good it is, and then on all of them.

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
    opened, samples, notes = _read_samples(opened, read)
    config = NetworkConfig(bands=sum(opened.bands.good), classes=len(read.table), window=options.window)
    config = config.as_published() if options.published else config
    sampling = draw(samples.labels, options, config.receptive_field)
    trainer = _Trainer(
        scene=opened,
        config=config,
        options=options,
        device=place,
        runs=len(sampling.folds) + 1,
        on_epoch=on_epoch,
    )
    hold_out, calibration = _cross_validate(trainer, samples, sampling)
    chosen = samples.labels.select(sampling.train)
    provenance = _provenance(opened, labels, chosen, options, hold_out)
    model = replace(trainer.fit(chosen, run=trainer.runs), calibration=calibration, provenance=provenance)
    if output is not None:
        model.save(output)
    return Training(model=model, hold_out=hold_out, notes=(*read.notes, sampling.description, *notes))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Samples:
    """Labelled pixels that are valid in the scene, and their good bands."""

    labels: Labels
    spectra: NDArray[Any]
    """(n, S) as stored."""


def _read_samples(scene: Scene, labels: Labels) -> tuple[Scene, _Samples, list[str]]:
    """Read the labelled pixels; mark bands as bad that hold no data at any, as water-vapour bands often do."""
    good, notes = scene.bands.good_indexes, list[str]()
    spectra, valid = read_pixels(scene, labels.rows, labels.cols, good)
    data = usable(spectra.T[:, :, None], scene.nodata[good])[:, :, 0]  # (S,n)
    empty = ~data.any(axis=1)
    if empty.all():
        raise LabelError("all labelled pixels are nodata in every band: check that labels and scene overlap")
    if empty.any():
        marked = np.zeros(len(scene.bands), np.bool_)
        marked[good] = empty
        dropped = ", ".join(str(i + 1) for i in np.flatnonzero(marked))
        notes.append(f"Bands without data at the labelled pixels were dropped: {dropped}.")
        scene = scene.without_bands(marked)
        spectra, valid = read_pixels(scene, labels.rows, labels.cols, scene.bands.good_indexes)
    usable_labels = labels.select(valid)
    missing = [name for name, n in zip(labels.table.names, usable_labels.counts(), strict=True) if not n]
    if missing:
        raise LabelError(f"every labelled pixel of {listed(missing)} is nodata in the scene: label other places")
    if not valid.all():
        notes.append(
            f"{(~valid).sum()} of {len(valid)} labelled pixels are nodata in the scene and were left out."
        )
    return scene, _Samples(labels=usable_labels, spectra=spectra[valid]), notes


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trainer:
    """Trains models of one architecture from different labels of one scene."""

    scene: Scene
    config: NetworkConfig
    options: TrainingOptions
    device: torch.device
    runs: int
    on_epoch: Callable[[Epoch], None] | None

    def fit(self, labels: Labels, run: int) -> Model:
        """Train one model. Where the spectral stage is one free linear map, it learns in whitened bands."""
        model, windows = self._prepare(labels)
        network, classes = model.network, torch.from_numpy(labels.classes)
        spectra = windows.pixels[windows.centre_rows].numpy()
        discriminant = Discriminant.fit(spectra, labels.classes, windows.neighbour_differences())
        linear = network.spectral_map
        whitening = Whitening.of(discriminant, spectra)
        if linear is not None:
            windows = replace(windows, pixels=whitening.apply(windows.pixels))
        fit(
            network,
            windows,
            classes,
            options=self.options,
            device=self.device,
            run=run,
            runs=self.runs,
            on_epoch=self.on_epoch,
        )
        if linear is not None:
            whitening.fold_into(linear)
        network.set_discriminant(torch.from_numpy(discriminant.weight), torch.from_numpy(discriminant.bias))
        return model

    def _prepare(self, labels: Labels) -> tuple[Model, TrainingWindows]:
        """Read the windows, take band statistics from them, and build a network with random weights."""
        good = self.scene.bands.good_indexes
        table = read_windows(self.scene, labels.rows, labels.cols, good, self.config.halo.before)
        stored = table.values[1:] * self.scene.scale[good] + self.scene.offset[good]
        mean, std = stored.mean(0), stored.std(0)
        std = np.where(std > 0, std, 1.0)
        with torch.random.fork_rng():
            torch.manual_seed(self.options.seed)
            network = CSSD(self.config)
        model = Model(
            network=network,
            bands=self.scene.bands,
            mean=mean,
            std=std,
            classes=labels.table,
            calibration=Calibration(),
            provenance={},
        )
        pixels = np.zeros(table.values.shape, np.float32)
        pixels[1:] = (stored - mean) / std
        lookup = torch.from_numpy(table.lookup)
        return model, TrainingWindows(pixels=torch.from_numpy(pixels), lookup=lookup, halo=self.config.halo)


def _cross_validate(
    trainer: _Trainer, samples: _Samples, sampling: Sampling
) -> tuple[HoldOut | None, Calibration]:
    """Train without each fold and predict it as the map would; judge, and calibrate on all folds together."""
    parts = [_predict(trainer, samples, fold, run) for run, fold in enumerate(sampling.folds, start=1)]
    if not parts:
        return None, Calibration()
    found = Predictions.joined(parts)
    hold_out = judge(found, samples.labels.table, sampling.description)
    return hold_out, fit_calibration(found.main, found.spectral, found.classes, apart=found.apart)


def _predict(trainer: _Trainer, samples: _Samples, fold: Fold, run: int) -> Predictions:
    train, test = samples.labels.select(fold.train), samples.labels.select(fold.test)
    classifier = TileClassifier(trainer.fit(train, run), trainer.scene, trainer.device)
    main, spectral = predict_pixels(classifier, trainer.scene, test.rows, test.cols)
    known, unknown = samples.spectra[fold.train], samples.spectra[fold.test]
    baselines = {
        name: method(known, train.classes, unknown, trainer.options.seed)
        for name, method in (BASELINES.items() if trainer.options.baseline else ())
    }
    return Predictions(
        main=main,
        spectral=spectral,
        baselines=baselines,
        classes=test.classes,
        polygons=test.polygons,
        apart=np.full(len(test), fold.apart),
    )


def _provenance(
    scene: Scene,
    labels: str | Path | Labels,
    trained: Labels,
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
        "training_pixels": dict(zip(trained.table.names, trained.counts().tolist(), strict=True)),
        "versions": packages | {"python": platform.python_version()},
        "accuracy": None if hold_out is None else hold_out.to_json(),
    }
    plain: dict[str, Any] = json_ready(values)
    return plain
