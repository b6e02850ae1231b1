"""What users would try first, on the same pixels: classifiers of single spectra."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cssd_geo.learning.reflectances import Reflectances

_GRID = {"svc__C": [1.0, 10.0, 100.0, 1000.0, 10000.0], "svc__gamma": [1e-4, 1e-3, 1e-2, 1e-1]}
_SEARCHED = 40
"""Pixels of a class that the grid search sees; the machine itself is then trained on all."""
_CLASSES = 50
"""Classes that it sees: there is a machine for each pair of them, and sixty searches."""
_AT_ONCE = 20_000
"""Spectra that are predicted at a time: millions may be held out."""

Spectra = NDArray[Any]
Ids = NDArray[np.int64]


def random_forest(train: Spectra, classes: Ids, test: Spectra | Reflectances, seed: int) -> Ids:
    """Train 200 trees on (n, S) spectra of (n,) class indexes and predict (m, S) others: (m,) class indexes."""
    forest = RandomForestClassifier(200, random_state=seed, n_jobs=-1)
    return _predict(forest.fit(train, classes), test)


def support_vectors(train: Spectra, classes: Ids, test: Spectra | Reflectances, seed: int) -> Ids:
    """The same with a support vector machine: Gaussian kernel, width and cost by cross-validated grid search.

    A class with one pixel cannot be on both sides of a cross-validation, so the search leaves it out.
    """
    machine = make_pipeline(StandardScaler(), SVC(random_state=seed))
    random = np.random.default_rng(seed)
    order = random.permutation(len(classes))
    present, pixels = np.unique(classes, return_counts=True)
    several = random.permutation(np.flatnonzero(pixels > 1))[:_CLASSES]
    if len(several) > 1:
        seen = np.concatenate([order[classes[order] == k][:_SEARCHED] for k in present[np.sort(several)]])
        folds = StratifiedKFold(min(3, int(pixels[several].min())), shuffle=True, random_state=seed)
        # In one process: others take seconds and memory to start, for a search that takes one or two.
        search = GridSearchCV(machine, _GRID, cv=folds, refit=False).fit(train[seen], classes[seen])
        machine.set_params(**search.best_params_)
    return _predict(machine.fit(train, classes), test)


def _predict(fitted: Any, test: Spectra | Reflectances) -> Ids:
    """Class indexes (m,) of (m, S) spectra, some at a time."""
    parts = (test[start : start + _AT_ONCE] for start in range(0, len(test), _AT_ONCE))
    return np.concatenate([np.empty(0, np.int64), *(fitted.predict(part) for part in parts)])


BASELINES: Mapping[str, Callable[[Spectra, Ids, Spectra | Reflectances, int], Ids]] = {
    "random forest": random_forest,
    "support vector machine": support_vectors,
}
