"""The whole way on the made-up scene: make, train, classify, evaluate, show. Each step is a public function."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from cssd_geo.classes import UNCLASSIFIED, ClassTable
from cssd_geo.classification import classify
from cssd_geo.demo.files import DemoFiles, is_made_up, write_scene
from cssd_geo.demo.landscape import CLASSES, make_landscape
from cssd_geo.errors import OutputError
from cssd_geo.evaluation import Evaluation, evaluate
from cssd_geo.files.outputs import GEOTIFF, check_target, make_folder, write_whole
from cssd_geo.learning.fitting import Epoch
from cssd_geo.options import TrainingOptions
from cssd_geo.pictures import (
    Panel,
    confusion_png,
    false_colour,
    paint_classes,
    paint_confidence,
    paint_errors,
    panels_in_a_row,
)
from cssd_geo.products import open_scene
from cssd_geo.training import Training, train

_FILES = (
    "scene.tif", "labels.shp", "truth.tif", "model.safetensors", "map.tif", "confidence.tif",
    "accuracy.json", "accuracy.txt", "confusion.png", "demo.png",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What the demo made."""

    training: Training
    evaluation: Evaluation
    """Of the map on the full truth, without the training polygons and their surroundings."""
    picture: Path


def run_demo(
    folder: str | Path,
    *,
    height: int = 320,
    width: int = 420,
    bands: int = 128,
    options: TrainingOptions | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Demo:
    """Make a scene, train on its polygons, classify it, evaluate the map, and draw it all, in one folder.

    Args:
        folder: made if it does not exist; files of an earlier demo are replaced.
        height: of the scene, in pixels.
        width: likewise.
        bands: of the scene.
        options: how to train; its seed also makes the scene.
        device: auto, cpu or cuda.
        say: told each step.
        on_epoch: called after each pass over the training windows.

    Raises:
        OutputError: if the folder cannot be written, or holds files of these names that no demo made.
    """
    options = options or TrainingOptions()
    folder = Path(folder)
    make_folder(folder)
    _require_own(folder)
    say(f"1/5 make a scene of {height} x {width} pixels and {bands} bands, its labels and its truth")
    files = write_scene(make_landscape(height=height, width=width, bands=bands, seed=options.seed), folder)
    say("2/5 train on all labelled polygons, and without some of them to test")
    training = train(
        files.scene, files.labels, folder / "model.safetensors", options=options, device=device, on_epoch=on_epoch
    )
    say("3/5 classify the scene")
    classify(
        files.scene,
        training.model,
        folder / "map.tif",
        confidence=folder / "confidence.tif",
        device=device,
        overwrite=True,
    )
    say("4/5 evaluate the map on truth that was not trained on")
    evaluation = evaluate(folder / "map.tif", files.truth, exclude=files.labels)
    _write_accuracy(folder, training, evaluation)
    say("5/5 draw")
    picture = _draw(folder, files, training, evaluation)
    return Demo(training=training, evaluation=evaluation, picture=picture)


def _require_own(folder: Path) -> None:
    """Refuse a folder with an analyst's own files, which a demo must not replace."""
    check_target(folder / "scene.tif", overwrite=True, suffixes=GEOTIFF)
    found = [name for name in _FILES if (folder / name).exists()]
    if found and not is_made_up(folder / "scene.tif"):
        raise OutputError(f"{folder} holds {', '.join(found)} that no demo made: choose another folder")


def _write_accuracy(folder: Path, training: Training, evaluation: Evaluation) -> None:
    hold_out = training.hold_out
    facts: dict[str, Any] = {
        "map_on_truth_away_from_labels": evaluation.accuracy.to_json(),
        "held_out_polygons": None if hold_out is None else hold_out.to_json(),
        "notes": [*training.notes, *evaluation.notes],
    }
    text = f"The map on the full truth, away from the labelled polygons\n\n{evaluation.accuracy.to_text()}\n"
    if hold_out is not None:
        text += f"\nHeld-out polygons: what an analyst without the full truth knows\n\n{hold_out.to_text()}\n"
    write_whole(folder / "accuracy.json", json.dumps(facts, indent=2, allow_nan=False).encode())
    write_whole(folder / "accuracy.txt", text.encode())
    write_whole(folder / "confusion.png", confusion_png(evaluation.accuracy))


def _draw(folder: Path, files: DemoFiles, training: Training, evaluation: Evaluation) -> Path:
    layers = {}
    for name in ("truth", "map", "confidence"):
        with rasterio.open(folder / f"{name}.tif") as dataset:
            layers[name] = dataset.read(1)
    classes = training.model.classes
    truth = _in_ids_of(classes, layers["truth"])
    panels = [
        Panel(title="scene (860, 650, 550 nm)", image=false_colour(open_scene(files.scene))),
        Panel(title="truth", image=paint_classes(truth, classes)),
        Panel(title="map", image=paint_classes(layers["map"], classes)),
        Panel(title="confidence (yellow: sure, dark: unsure)", image=paint_confidence(layers["confidence"])),
        Panel(title="errors", image=paint_errors(layers["map"], truth)),
    ]
    accuracy = evaluation.accuracy
    title = (
        f"OA {100 * accuracy.overall_accuracy:.1f} %, kappa {accuracy.kappa:.3f}, away from the labelled polygons"
    )
    write_whole(folder / "demo.png", panels_in_a_row(panels, classes, title))
    return folder / "demo.png"


def _in_ids_of(classes: ClassTable, truth: NDArray[np.uint8]) -> NDArray[Any]:
    """Translate ids (y, x) of the truth by name: the map numbers classes by their labels."""
    ids = dict(zip(classes.names, classes.ids, strict=True))
    lookup = np.array([UNCLASSIFIED, *(ids.get(name, UNCLASSIFIED) for name in CLASSES.names)], classes.dtype)
    return np.asarray(lookup[truth])
