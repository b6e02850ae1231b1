"""What cross-validation says: accuracy with its interval, reliability, and how the usual methods do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.accuracy.metrics import Accuracy, clustered_interval, confusion_matrix
from cssd_geo.accuracy.reliability import Reliability
from cssd_geo.calibration import cross_fitted
from cssd_geo.classes import ClassTable
from cssd_geo.files.json_values import json_ready

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What was said of held-out pixels by models that did not see them; arrays (n, ...)."""

    main: Floats
    """(n, K) logits of the main head."""
    spectral: Floats
    """(n, K) logits of the spectral head."""
    baselines: dict[str, Ids]
    """(n,) class indexes by the name of the method."""
    classes: Ids
    """(n,) true class indexes."""
    polygons: Ids
    """(n,) polygon of each pixel."""
    apart: NDArray[np.bool_]
    """(n,) False: its neighbours were trained on, so it only helps to weigh the heads where others are apart."""
    share: Floats
    """(n,) training pixels of the model that tested it, as a share, 0 to 1, of the final model's."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of several folds as one."""
        return cls(
            main=np.concatenate([part.main for part in parts]),
            spectral=np.concatenate([part.spectral for part in parts]),
            baselines={name: np.concatenate([p.baselines[name] for p in parts]) for name in parts[0].baselines},
            classes=np.concatenate([part.classes for part in parts]),
            polygons=np.concatenate([part.polygons for part in parts]),
            apart=np.concatenate([part.apart for part in parts]),
            share=np.concatenate([part.share for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """Accuracy on held-out pixels, for the map (both heads, weights cross-fitted) and each head alone."""

    description: str
    """How the pixels were held out."""
    apart: bool
    """False: beside pixels that trained, so the accuracy is overrated."""
    map: Accuracy
    interval: tuple[float, float]
    """95 % confidence interval of the map's overall accuracy, 0 to 1; NaN with fewer than two polygons."""
    reliability: Reliability
    """Of the map's confidence."""
    main: Accuracy
    spectral: Accuracy
    baselines: dict[str, Accuracy]
    """By the name of the method, trained and tested on the same pixels; empty if not asked for."""

    @property
    def best_baseline(self) -> str | None:
        """Name of the method with the highest overall accuracy."""
        return max(self.baselines, key=lambda name: self.baselines[name].overall_accuracy, default=None)

    def to_text(self) -> str:
        """Return what `cssd-geo train` prints: tables for a terminal, the map's figures and those of others."""
        low, high = (100 * end for end in self.interval)
        interval = f"{low:>6.1f} to {high:.1f} %  polygons count, not pixels"
        if np.isnan(low):
            interval = f"{'-':>6}    it takes two polygons or more"
        error = self.reliability.expected_calibration_error
        lines = [] if self.apart else ["Overrated: these pixels lie beside others that trained.\n"]
        lines += [
            self.map.to_text(),
            f"OA, 95 % interval      {interval}",
            f"calibration error      {error:>6.3f}  of the confidence; 0 is perfect",
            "",
            f"{'on the same pixels':<28}  {'OA %':>5}  {'AA %':>5}  {'kappa':>5}  {'n':>9}",
        ]
        heads = {"CSSD, the map": self.map, "  main head (window)": self.main, "  spectral head": self.spectral}
        lines += [_row(name, accuracy) for name, accuracy in (heads | self.baselines).items()]
        best = self.best_baseline
        if best is not None and self.baselines[best].overall_accuracy >= self.map.overall_accuracy:
            lines += [f"The {best} is at least as good here. CSSD gains most from more varied labels."]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return {
            "split": self.description,
            "apart": self.apart,
            "map": self.map.to_json() | {"overall_accuracy_95": json_ready(self.interval)},
            "reliability": self.reliability.to_json(),
            "main": self.main.to_json(),
            "spectral": self.spectral.to_json(),
            "baselines": {name: accuracy.to_json() for name, accuracy in self.baselines.items()},
        }


def _row(name: str, accuracy: Accuracy) -> str:
    shares = f"{100 * accuracy.overall_accuracy:5.1f}  {100 * accuracy.average_accuracy:5.1f}"
    return f"{name:<28}  {shares}  {accuracy.kappa_text:>5}  {accuracy.total:>9}"


def judge(found: Predictions, table: ClassTable, description: str) -> HoldOut:
    """Sum up predictions of held-out pixels: of those apart from training ones; of all where none is."""
    apart = bool(found.apart.any())
    judged = found.apart if apart else ~found.apart
    classes = found.classes[judged]
    held_out = (found.main, found.spectral, found.classes, found.polygons)
    logits = cross_fitted(*held_out, apart=found.apart, share=found.share)[judged]

    def accuracy(predicted: Ids) -> Accuracy:
        return Accuracy(confusion=confusion_matrix(classes, predicted, len(table)), names=table.names)

    return HoldOut(
        description=description,
        apart=apart,
        map=accuracy(logits.argmax(1)),
        interval=clustered_interval(logits.argmax(1) == classes, found.polygons[judged]),
        reliability=Reliability.of(logits, classes),
        main=accuracy(found.main[judged].argmax(1)),
        spectral=accuracy(found.spectral[judged].argmax(1)),
        baselines={name: accuracy(predicted[judged]) for name, predicted in found.baselines.items()},
    )
