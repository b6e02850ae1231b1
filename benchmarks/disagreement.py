"""What the disagreement of the two heads tells: on the made-up scene of `make demo`, by the released model.

python benchmarks/disagreement.py [--model models/demo.safetensors]

Means at class edges and where the map is wrong, and how well it ranks such pixels beside the confidence.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from sklearn.metrics import roc_auc_score

from cssd_geo.classification import classify
from cssd_geo.demo.files import write_scene
from cssd_geo.demo.landscape import make_landscape
from cssd_geo.maps.class_tables import read_classes


def main() -> None:
    """Classify, and compare with the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/demo.safetensors"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_scene(make_landscape(), folder)
        out, sure, apart = (folder / f"{part}.tif" for part in ("map", "confidence", "disagreement"))
        classify(files.scene, options.model, out, confidence=sure, disagreement=apart, precision="float32")
        truth, found = named(files.truth), named(out)
        doubt, distance = 100.0 - band(sure), band(apart)
    known = (truth != "") & (found != "")
    number = np.unique(truth, return_inverse=True)[1].reshape(truth.shape)
    edge = maximum_filter(number, 3) != minimum_filter(number, 3)
    for text, here in (("at edges of classes", edge), ("where the map is wrong", found != truth)):
        yes, no = distance[known & here].mean(), distance[known & ~here].mean()
        print(f"{text}: {yes:.1f} %, elsewhere {no:.1f} % ({(known & here).sum():,} of {known.sum():,} pixels)")
        areas = [roc_auc_score(here[known], score[known]) for score in (distance, doubt)]
        print("  area under the ROC curve: {:.2f} by disagreement, {:.2f} by confidence".format(*areas))


def band(path: Path) -> NDArray[np.float64]:
    """The only band of a raster."""
    with rasterio.open(path) as dataset:
        values: NDArray[np.float64] = dataset.read(1).astype(np.float64)
    return values


def named(path: Path) -> NDArray[np.str_]:
    """The names of a map's classes, pixel by pixel; empty where unclassified."""
    with rasterio.open(path) as dataset:
        classes = read_classes(dataset)
    names = {} if classes is None else dict(zip(classes.ids, classes.names, strict=True))
    table: NDArray[np.str_] = np.array([names.get(value, "") for value in range(256)])
    return np.take(table, band(path).astype(int))


if __name__ == "__main__":
    main()
