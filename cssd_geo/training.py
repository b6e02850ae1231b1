"""Train a model from scenes and their labels, and say honestly how good it is."""

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cssd_geo
from cssd_geo.calibration import Calibration, fit_calibration
from cssd_geo.classes import ClassTable
from cssd_geo.engine.devices import choose_device
from cssd_geo.engine.inference import TileClassifier, predict_pixels
from cssd_geo.errors import InputError
from cssd_geo.files.fingerprints import fingerprint
from cssd_geo.files.json_values import json_ready
from cssd_geo.files.outputs import check_target
from cssd_geo.label_files import read_labels
from cssd_geo.labels import Labels, require_trainable
from cssd_geo.learning.baselines import BASELINES
from cssd_geo.learning.fitting import Epoch
from cssd_geo.learning.labelled_pixels import read_labelled_pixels
from cssd_geo.learning.labelled_scenes import LabelledScene, LabelledScenes, labels_within, unite
from cssd_geo.learning.reflectances import Reflectances
from cssd_geo.learning.sampling import Fold, draw
from cssd_geo.learning.trainer import Trainer
from cssd_geo.learning.validation import HoldOut, Predictions, judge
from cssd_geo.messages import listed
from cssd_geo.model import Model
from cssd_geo.network import NetworkConfig
from cssd_geo.options import TrainingOptions, require_kind, true_or_false
from cssd_geo.products import open_scene
from cssd_geo.scenes.scene import Scene
from cssd_geo.vectors.remapping import Remapping, rules_of
from cssd_geo.vectors.vector_files import is_vector, require_vector

Pair = tuple[str | Path | Scene, str | Path | Labels]
"""A scene and its labels."""
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
    scene: str | Path | Scene | Iterable[Pair],
    labels: str | Path | Labels | None = None,
    output: str | Path | None = None,
    *,
    class_field: str | None = None,
    layer: str | None = None,
    all_touched: bool = False,
    remap: str | Path | Remapping | None = None,
    options: TrainingOptions | None = None,
    device: str = "auto",
    on_epoch: Callable[[Epoch], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Training:
    """Train a model on all labels, and others on parts of them, to find out how good it is.

    Args:
        scene: path of a raster, or an open scene; or pairs of scene and labels, `[(scene, labels), ...]`, to train
            one model on several scenes with the same bands.
        labels: path of a vector (any CRS) or of a raster on the scene's grid, or labels already read. None with
            pairs.
        output: model file (.safetensors) to write, which replaces an older one; nowhere if None.
        class_field: attribute of the vector with the class; guessed where only one is plausible. "layer": each
            layer of the file is a class.
        layer: layer of a vector with several.
        all_touched: label every pixel that a polygon touches, not only those whose centre it covers.
        remap: what becomes of the classes of a label file, a file as `read_remapping` reads it; they stay as they
            are if None.
        options: how to train; the defaults if None.
        device: auto, cpu or cuda.
        on_epoch: called after each pass over the training windows of any model. Several are trained side by side,
            in threads of their own, of which one at a time calls.
        on_note: called with each note as soon as it is known, which is before the training.

    Raises:
        SceneError: if a scene cannot be read, or has other bands than the first.
        LabelError: if labels cannot be read or do not suffice.
        InputError: if an argument cannot be used, as an option for vectors where all labels are rasters, or the
            learning rate makes the training diverge.
        OutputError: if the model file cannot be written.
    """
    options = TrainingOptions() if options is None else options
    require_kind("options", options, TrainingOptions, "TrainingOptions(...)")
    all_touched = true_or_false("all_touched", all_touched)
    if output is not None:
        check_target(Path(output), overwrite=True, suffixes=(".safetensors",))
    place = choose_device(device)
    pairs = _pairs(scene, labels)
    read = _label_reader(pairs, class_field=class_field, layer=layer, all_touched=all_touched, remap=remap)
    scenes, spectra, notes = _usable([_read_pair(*pair, read) for pair in pairs])
    config = NetworkConfig(bands=sum(scenes.bands.good), classes=len(scenes.labels.table), window=options.window)
    config = config.as_published() if options.published else config
    sampling = draw(scenes.labels, options, config.receptive_field)
    notes = (*notes, sampling.description)
    _tell(on_note, notes)
    # Before the training: nothing is lost where a file goes meanwhile.
    sources = [_source(member, layer) for member in scenes.members]
    trainer = Trainer(scenes=scenes, config=config, options=options, device=place)
    parts = [scenes.labels.select(part) for part in (sampling.train, *(fold.train for fold in sampling.folds))]
    model, *judges = trainer.fit_all(parts, on_epoch=on_epoch, on_note=on_note)
    found = [_predict(trainer, spectra, *pair) for pair in zip(sampling.folds, judges, strict=True)]
    hold_out, calibration = _cross_validate(found, scenes.labels.table, sampling.description)
    provenance = model.provenance | _provenance(sources, scenes, parts[0], options, hold_out)
    model = replace(model, calibration=calibration, provenance=provenance)
    if output is not None:
        model.save(output)
    return Training(model=model, hold_out=hold_out, notes=(*notes, model.provenance["whitening"]))


def _pairs(scene: str | Path | Scene | Iterable[Pair], labels: str | Path | Labels | None) -> Sequence[Pair]:
    """One pair, or those that were given."""
    if isinstance(scene, str | Path | Scene):
        if labels is None:
            raise InputError(f"{scene if isinstance(scene, str | Path) else scene.name} has no labels: give some")
        return [(scene, labels)]
    pairs = list(scene) if isinstance(scene, Iterable) else []
    if labels is not None or not pairs or not all(isinstance(p, tuple | list) and len(p) == 2 for p in pairs):  # noqa: PLR2004
        raise InputError(
            "a scene is a path, or what open_scene or scene_of_array gives; several are given as "
            "[(scene, labels), ...], without further labels"
        )
    return pairs


def _label_reader(
    pairs: Sequence[Pair],
    *,
    class_field: str | None,
    layer: str | None,
    all_touched: bool,
    remap: str | Path | Remapping | None,
) -> Callable[..., Labels]:
    """`read_labels` with the options for all pairs; one that applies to none of the label files is refused."""
    files = [own for _, own in pairs if isinstance(own, str | Path)]
    require_vector("--class-field", *files, value=class_field)
    require_vector("--layer", *files, value=layer)
    require_vector("--all-touched", *files, value=all_touched)
    rules = rules_of(remap)
    if rules is not None and len(pairs) > 1:
        rules = replace(rules, may_be_idle=True)
    return partial(read_labels, class_field=class_field, layer=layer, all_touched=all_touched, remap=rules)


def _read_pair(
    scene: str | Path | Scene, labels: str | Path | Labels, read: Callable[..., Labels]
) -> LabelledScene:
    """Open a scene and `read` its labels from their file, where that was not done."""
    opened = scene if isinstance(scene, Scene) else open_scene(scene)
    if isinstance(labels, Labels):
        return LabelledScene(scene=opened, labels=labels_within(labels, opened.grid))
    if not isinstance(labels, str | Path):
        raise InputError(
            f"labels are a path, or Labels, not {type(labels).__name__}: write them to a file first, such as a "
            "GeoPackage"
        )
    found = read(labels, opened.grid, lookup=opened.lookup)
    return LabelledScene(scene=opened, labels=found, path=Path(labels))


def _usable(
    members: Sequence[LabelledScene],
) -> tuple[LabelledScenes, Reflectances, tuple[str, ...]]:
    """The labelled pixels that can train, their spectra (n, S), and what to tell of them."""
    scenes, united = unite(members)
    require_trainable(scenes.labels, LEAST_PIXELS)
    scenes, spectra, left_out = read_labelled_pixels(scenes)
    require_trainable(replace(scenes.labels, notes=left_out), LEAST_PIXELS)
    return scenes, spectra, (*_notes(members), *united, *left_out)


def _notes(members: Sequence[LabelledScene]) -> Iterator[str]:
    """What was said of each scene and its labels, with the scene's number and name where there are several."""
    for number, member in enumerate(members, start=1):
        of = f"Scene {number}, {member.scene.name}: " if len(members) > 1 else ""
        yield from (f"{of}{note}" for note in (*member.scene.notes, *member.labels.notes))


def _tell(on_note: Callable[[str], None] | None, notes: Iterable[str]) -> None:
    if on_note is not None:
        for note in notes:
            on_note(note)


def _predict(trainer: Trainer, spectra: Reflectances, fold: Fold, model: Model) -> Predictions:
    """What a fold's model says of labels that it did not see, as a map would, and what the usual methods say."""
    labels, options = trainer.scenes.labels, trainer.options
    test = labels.select(fold.test)
    main, spectral = (np.empty((len(test), len(test.table))) for _ in range(2))
    for scene, chosen, cols in trainer.scenes.by_scene(test.cols):
        classifier = TileClassifier(model, scene, trainer.device)
        main[chosen], spectral[chosen] = predict_pixels(classifier, scene, test.rows[chosen], cols)
    baselines = {
        name: method(spectra[fold.train], labels.classes[fold.train], spectra.select(fold.test), options.seed)
        for name, method in (BASELINES.items() if options.baseline else ())
    }
    return Predictions(
        main=main,
        spectral=spectral,
        baselines=baselines,
        classes=test.classes,
        polygons=test.polygons,
        apart=np.full(len(test), fold.apart),
        share=np.full(len(test), fold.share),
    )


def _cross_validate(
    found: Sequence[Predictions], table: ClassTable, description: str
) -> tuple[HoldOut | None, Calibration]:
    """Judge what was said of held-out labels, and calibrate on all of it together."""
    if not found:
        return None, Calibration()
    every = Predictions.joined(found)
    calibration = fit_calibration(every.main, every.spectral, every.classes, apart=every.apart, share=every.share)
    return judge(every, table, description), calibration


def _provenance(
    sources: Sequence[dict[str, Any]],
    scenes: LabelledScenes,
    trained: Labels,
    options: TrainingOptions,
    hold_out: HoldOut | None,
) -> dict[str, Any]:
    packages = {"cssd_geo": cssd_geo.__version__, "torch": torch.__version__, "numpy": np.__version__}
    several = {"scene": {"name": listed(source["scene"]["name"] for source in sources)}, "scenes": sources}
    values = {
        **(sources[0] if len(sources) == 1 else several),
        "scale": {
            "scale": np.unique([member.scene.scale for member in scenes.members]).tolist(),
            "offset": np.unique([member.scene.offset for member in scenes.members]).tolist(),
        },
        "options": asdict(options),
        "training_pixels": dict(zip(trained.table.names, trained.counts().tolist(), strict=True)),
        "versions": packages | {"python": platform.python_version()},
        "accuracy": None if hold_out is None else hold_out.to_json(),
    }
    plain: dict[str, Any] = json_ready(values)
    return plain


def _source(member: LabelledScene, layer: str | None) -> dict[str, Any]:
    """Names and fingerprints of a scene and its label file, and the layer of that which was chosen."""
    scene, path = member.scene, member.path
    chosen = {"layer": layer} if layer is not None and path is not None and is_vector(path) else {}
    return {
        "scene": {"name": scene.name, "fingerprint": None if scene.path is None else fingerprint(scene.path)},
        "labels": None if path is None else {"name": path.name, "fingerprint": fingerprint(path)} | chosen,
    }
