"""Models of one architecture from different labels of the same scenes, trained side by side.

Torch's threads share a single training badly, as its steps are many and small. So several models are trained at a
time, each with its share of the processors.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event, Lock

import numpy as np
import torch
from numpy.typing import NDArray

from cssd_geo.calibration import Calibration
from cssd_geo.compute.workers import run_side_by_side, threads_for
from cssd_geo.labels import Labels
from cssd_geo.learning.discriminant import Discriminant
from cssd_geo.learning.fitting import Epoch, fit
from cssd_geo.learning.labelled_scenes import LabelledScenes
from cssd_geo.learning.reflectances import Reflectances
from cssd_geo.learning.whitening import Whitening, choose_whitening
from cssd_geo.learning.windows import TrainingWindows
from cssd_geo.model import Model
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import TrainingOptions

_MOST_BYTES = 2_000_000_000
"""Bytes of the windows of all models that are trained at a time."""
_BANDS, _ROWS = 16, 4096
"""Bands and rows that are normalised at a time: windows of scattered labels hold millions of pixels."""
_ROUNDING = 1e-10
"""Deviation of a band with one value, as a share of it: its mean is rounded."""

Floats = NDArray[np.float64]
_preparing = Lock()
"""Held while a training is prepared: that takes several times the memory of its windows, and torch has but one
source of initial weights."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Start:
    """All that a training begins with."""

    labels: Labels
    windows: TrainingWindows
    """Whitened if the network learns in whitened bands."""
    mean: Floats
    std: Floats
    network: CSSD
    """With random weights."""
    discriminant: Discriminant
    whitening: Whitening | None
    why: str
    """What decided on the whitening, in a sentence."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trainer:
    """Trains models from labels of these scenes."""

    scenes: LabelledScenes
    config: NetworkConfig
    options: TrainingOptions
    device: torch.device

    @torch.inference_mode(mode=False)  # which ends no_grad too, where a program around ours began either
    def fit_all(
        self,
        parts: Sequence[Labels],
        *,
        on_epoch: Callable[[Epoch], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> list[Model]:
        """Train a model from each of several parts of the labels, a few at a time.

        What the labels decide, the first part decides for all: the others can vouch for the first model only if
        they are trained as it was. The provenance of each says under "whitening" what was decided, in a sentence.

        Args:
            parts: of the labels; each class has a pixel in every part.
            on_epoch: called after each epoch of any, from the thread that trains it, by one thread at a time.
            on_note: called with that sentence before the first epoch.

        Raises:
            SceneError: if a scene cannot be read.
            InputError: if a training diverges. The others then end with their epoch.
        """
        choice = "never" if self.options.published else self.options.whitening
        first = self._prepare(parts[0], choice)
        if on_note is not None:
            on_note(first.why)
        choice = "never" if first.whitening is None else "always"
        with torch.autocast(self.device.type, enabled=False), _one_at_a_time(on_epoch) as tell:

            def fit_part(i: int) -> Model:
                start = self._prepare(parts[i], choice) if i else first
                return self._fit(start, lambda epoch: tell(replace(epoch, run=i + 1, runs=len(parts))))

            return run_side_by_side(fit_part, range(len(parts)), self._at_once(len(parts), first.windows))

    def _at_once(self, parts: int, windows: TrainingWindows) -> int:
        """How many are trained at a time."""
        if self.device.type != "cpu":
            return 1
        return max(1, min(threads_for(parts), _MOST_BYTES // windows.nbytes))

    def _prepare(self, labels: Labels, choice: str) -> _Start:
        """Read the windows, whiten them if the choice or the labels say so, and build the network for them."""
        with _preparing:
            windows, mean, std = self._read(labels)
            spectra = windows.pixels[windows.centre_rows].numpy()
            discriminant = Discriminant.fit(spectra, labels.classes, windows.neighbour_differences())
            whitening, why = choose_whitening(choice, discriminant, spectra)
            if whitening is None:
                config, discriminant = self.config.for_plain_bands(), discriminant.less_trusted()
            else:
                config, windows = self.config, replace(windows, pixels=whitening.apply(windows.pixels))
            return _Start(
                labels=labels,
                windows=windows,
                mean=mean,
                std=std,
                network=self._untrained(config),
                discriminant=discriminant,
                whitening=whitening,
                why=why,
            )

    def _read(self, labels: Labels) -> tuple[TrainingWindows, Floats, Floats]:
        """Read the windows, normalised, and the mean and deviation of each band that they are normalised by."""
        values, lookup = self.scenes.read_windows(labels, self.config.halo.before)
        mean, std = _mean_and_deviation(values.select(slice(1, None)))
        std = np.where(std > _ROUNDING * np.abs(mean), std, 1.0)
        pixels = np.zeros(values.shape, np.float32)
        for start in range(1, len(pixels), _ROWS):
            rows = slice(start, start + _ROWS)
            pixels[rows] = (values[rows] - mean) / std
        windows = TrainingWindows(
            pixels=torch.from_numpy(pixels), lookup=torch.from_numpy(lookup), halo=self.config.halo
        )
        return windows, mean, std

    def _untrained(self, config: NetworkConfig) -> CSSD:
        """Build a network with the random weights of the seed, whatever a program around ours has set of torch."""
        usual = torch.get_default_dtype()
        with (
            torch.random.fork_rng(devices=[]),
            torch.device("cpu"),
        ):  # else torch wakes every GPU, and warns of several
            torch.default_generator.manual_seed(self.options.seed)
            torch.set_default_dtype(torch.float32)
            try:
                return CSSD(config)
            finally:
                torch.set_default_dtype(usual)

    def _fit(self, start: _Start, on_epoch: Callable[[Epoch], None]) -> Model:
        network = start.network
        classes = torch.from_numpy(start.labels.classes)
        fit(network, start.windows, classes, options=self.options, device=self.device, on_epoch=on_epoch)
        if start.whitening is not None and network.spectral_map is not None:
            start.whitening.fold_into(network.spectral_map)
        weight, bias = start.discriminant.weight, start.discriminant.bias
        network.set_discriminant(torch.from_numpy(weight), torch.from_numpy(bias))
        return Model(
            network=network,
            bands=self.scenes.bands,
            mean=start.mean,
            std=start.std,
            classes=start.labels.table,
            calibration=Calibration(),
            provenance={"whitening": start.why},
        )


def _mean_and_deviation(values: Reflectances) -> tuple[Floats, Floats]:
    """Of each band (S,), from values (n, S), a few bands at a time."""
    some = (values.of_bands(slice(start, start + _BANDS)) for start in range(0, values.shape[1], _BANDS))
    means, deviations = zip(*((part.mean(0), part.std(0)) for part in some), strict=True)
    return np.concatenate(means), np.concatenate(deviations)


@contextmanager
def _one_at_a_time(on_epoch: Callable[[Epoch], None] | None) -> Iterator[Callable[[Epoch], None]]:
    """Let several threads tell their epochs. Trainings that go on after the context stop at their next epoch."""
    turn, over = Lock(), Event()

    def tell(epoch: Epoch) -> None:
        with turn:
            if over.is_set():
                raise CancelledError("another training has failed, so nobody waits for this one")
            if on_epoch is not None:
                try:
                    on_epoch(epoch)
                except BaseException:
                    over.set()  # before another one takes its turn
                    raise

    try:
        yield tell
    finally:
        over.set()
