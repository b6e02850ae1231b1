"""What is compared: each method trains on some labelled pixels and names the classes of others."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from cubes import Labelled
from numpy.typing import NDArray
from torch import Tensor

from cssd_geo.accuracy.metrics import Accuracy, confusion_matrix
from cssd_geo.accuracy.reliability import Reliability
from cssd_geo.compute.folded import MARGIN
from cssd_geo.engine.inference import TileClassifier, predict_pixels
from cssd_geo.labels import Labels
from cssd_geo.learning.baselines import random_forest, support_vectors
from cssd_geo.learning.fitting import fit
from cssd_geo.learning.windows import PixelTable, TrainingWindows, read_windows
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import TrainingOptions
from cssd_geo.training import train

_EPSILON = 0.1
"""As published; our default has none."""
_TRIALS: dict[str, dict[str, Any]] = {
    "distillation": {"epsilon": _EPSILON},
    "whitened": {"whitening": "always"},
    "unwhitened": {"whitening": "never"},
}
"""What differs from our default; only their main head is looked at."""
METHODS = ("random forest", "support vectors", "published", "cssd", *_TRIALS)
_BATCH = 256
_CPU = torch.device("cpu")

Indexes = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row of results."""

    method: str
    accuracy: Accuracy
    calibration_error: float | None
    """Of the confidence; None where the method gives none."""
    seconds: float
    """For training and predicting, whatever else the machine did."""


def run(method: str, data: Labelled, train_on: Indexes, test_on: Indexes, seed: int) -> Iterator[Result]:
    """Train and predict; "cssd" gives rows of its heads as well."""
    started = time.monotonic()
    table, truth = data.labels.table, data.labels.classes[test_on]

    def result(name: str, predicted: Any, logits: Any = None) -> Result:
        matrix = confusion_matrix(truth, predicted, len(table))
        error = None if logits is None else Reliability.of(logits, truth).expected_calibration_error
        accuracy = Accuracy(confusion=matrix, names=table.names)
        return Result(method=name, accuracy=accuracy, calibration_error=error, seconds=time.monotonic() - started)

    if method in ("random forest", "support vectors"):
        classify = random_forest if method == "random forest" else support_vectors
        known, unknown = data.spectra[train_on], data.spectra[test_on]
        yield result(method, classify(known, data.labels.classes[train_on], unknown, seed))
        return
    labels = data.labels.select(train_on)
    if method == "published":
        yield result(method, _as_published(data, labels, data.labels.select(test_on), seed))
        return
    options = TrainingOptions(seed=seed, baseline=False)
    if method in _TRIALS:
        options = replace(options, split="none", **_TRIALS[method])
    model = train(data.scene, labels, options=options).model
    test = data.labels.select(test_on)
    classifier = TileClassifier(model, data.scene, _CPU)
    main, spectral = predict_pixels(classifier, data.scene, test.rows, test.cols)
    if method in _TRIALS:
        yield result(f"{method}: main head", main.argmax(1))
        return
    logits = model.calibration.combine(main, spectral)
    yield result("cssd", logits.argmax(1), logits)
    yield result("cssd: main head", main.argmax(1))
    yield result("cssd: spectral head", spectral.argmax(1))


def _as_published(data: Labelled, labels: Labels, test: Labels, seed: int) -> NDArray[np.int64]:
    """CSSD as published: windows that are zero beyond their own edge, in training and, patch by patch, in use.

    Strided convolutions (stride and dilation 3), no activation, plain mean of the cosines, Adam's rate of 1e-3, no
    context swap; the main head's classes. What the description leaves open is as in our default.
    """
    options = TrainingOptions(seed=seed, learning_rate=1e-3, context_swap=0.0, epsilon=_EPSILON)
    config = NetworkConfig(bands=data.spectra.shape[1], classes=len(labels.table)).as_published()
    torch.manual_seed(seed)
    network = CSSD(config)
    tables = [_pixels_around(data, part, config) for part in (labels, test)]
    mean, std = tables[0].values[1:].mean(0), tables[0].values[1:].std(0)
    known, unknown = (_Patches.of(part, mean, std, config) for part in tables)
    fit(network, known, torch.from_numpy(labels.classes), options=options, device=_CPU, on_epoch=None)
    with torch.inference_mode():
        batches = torch.split(torch.arange(len(test)), _BATCH)
        found = [network.classify_windows(*unknown.as_they_are(some)).main.argmax(1) for some in batches]
    return np.asarray(torch.cat(found).numpy(), np.int64)


def _pixels_around(data: Labelled, labels: Labels, config: NetworkConfig) -> PixelTable:
    return read_windows(data.scene, labels.rows, labels.cols, data.scene.bands.good_indexes, config.halo.before)


class _Patches(TrainingWindows):
    """Windows without their halo: zero beyond their own edge."""

    @classmethod
    def of(cls, table: PixelTable, mean: NDArray[Any], std: NDArray[Any], config: NetworkConfig) -> Self:
        """Normalise the pixels."""
        pixels = np.zeros(table.values.shape, np.float32)
        pixels[1:] = (table.values[1:] - mean) / np.where(std > 0, std, 1)
        return cls(pixels=torch.from_numpy(pixels), lookup=torch.from_numpy(table.lookup), halo=config.halo)

    def as_they_are(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels and lookup, as `augmented` gives them."""
        return self._gather(self.lookup[chosen], _CPU)

    def _gather(self, windows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        inside = slice(MARGIN, self.halo.total + 1 - MARGIN)
        cropped = torch.zeros_like(windows)
        cropped[:, inside, inside] = windows[:, inside, inside]
        return super()._gather(cropped, device)
