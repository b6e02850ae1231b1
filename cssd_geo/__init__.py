"""Class maps with calibrated confidence from hyperspectral scenes and a few labelled polygons.

The public names are imported when they are first used, so that `import cssd_geo` does not wait for torch.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if os.name == "nt":  # no locks of whole files, no writes at a position, no folders that can be synced
    raise ImportError("cssd-geo runs on Linux and macOS: on Windows use it in WSL 2 or in a Docker container")

if TYPE_CHECKING:
    from cssd_geo.batch import BatchOptions, classify_batch
    from cssd_geo.classification import Classification, classify
    from cssd_geo.evaluation import Evaluation, evaluate
    from cssd_geo.model import Model, load_model
    from cssd_geo.options import TrainingOptions
    from cssd_geo.products import open_scene
    from cssd_geo.reference_sample import ReferenceSample, sample
    from cssd_geo.scenes.array_scenes import scene_of_array
    from cssd_geo.scenes.scene import Scene
    from cssd_geo.scenes.scene_lists import Shard, find_scenes
    from cssd_geo.training import Training, train
    from cssd_geo.vectors.remapping import read_remapping

__version__ = "0.1.0"

_HOME = {
    "BatchOptions": "batch",
    "Classification": "classification",
    "Evaluation": "evaluation",
    "Model": "model",
    "ReferenceSample": "reference_sample",
    "Scene": "scenes.scene",
    "Shard": "scenes.scene_lists",
    "Training": "training",
    "TrainingOptions": "options",
    "classify": "classification",
    "classify_batch": "batch",
    "evaluate": "evaluation",
    "find_scenes": "scenes.scene_lists",
    "load_model": "model",
    "open_scene": "products",
    "read_remapping": "vectors.remapping",
    "sample": "reference_sample",
    "scene_of_array": "scenes.array_scenes",
    "train": "training",
}

__all__ = [
    "BatchOptions",
    "Classification",
    "Evaluation",
    "Model",
    "ReferenceSample",
    "Scene",
    "Shard",
    "Training",
    "TrainingOptions",
    "classify",
    "classify_batch",
    "evaluate",
    "find_scenes",
    "load_model",
    "open_scene",
    "read_remapping",
    "sample",
    "scene_of_array",
    "train",
]


if not TYPE_CHECKING:  # else every misspelt name would be there for a type checker

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'cssd_geo' has no attribute {name!r}")
        return getattr(importlib.import_module(f"cssd_geo.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
