"""What users would try first, on the same pixels: a random forest on single spectra."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from cssd_geo.labels import Labels
from cssd_geo.scene import Scene
from cssd_geo.windows import read_pixels


def random_forest(scene: Scene, train: Labels, test: Labels, seed: int) -> NDArray[Any]:
    """Train 200 trees on the training pixels' good bands and predict the test pixels: (n,) class indexes.

    Raises:
        SceneError: if the scene cannot be read.
    """
    good = scene.bands.good_indexes
    spectra, valid = read_pixels(scene, train.rows, train.cols, good)
    unknown, _ = read_pixels(scene, test.rows, test.cols, good)
    forest = RandomForestClassifier(200, random_state=seed, n_jobs=-1)
    forest.fit(spectra[valid], train.classes[valid])
    return np.asarray(forest.predict(unknown))
