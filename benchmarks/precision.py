"""What bfloat16 changes: the made-up scene of `make demo`, classified by the released model in both precisions.

python benchmarks/precision.py [--model models/demo.safetensors]

Runs on any processor; where bfloat16 is not in hardware it takes minutes.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from cssd_geo.bench.rates import machine
from cssd_geo.classification import classify
from cssd_geo.demo.files import write_scene
from cssd_geo.demo.landscape import make_landscape


def main() -> None:
    """Classify twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/demo.safetensors"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = write_scene(make_landscape(), folder).scene
        exact, rounded = (shares(scene, options.model, folder, p) for p in ("float32", "bfloat16"))
    valid = ~np.isnan(exact[0])
    changed = valid & (exact.argmax(0) != rounded.argmax(0))
    print(machine())
    if not valid.any():
        sys.exit("no pixel is valid")
    share = changed.sum() / valid.sum()
    print(f"{changed.sum():,} of {valid.sum():,} pixels change their class: {100 * share:.3f} %")
    top = np.sort(exact, axis=0)
    margin = (top[-1] - top[-2])[changed]
    if margin.size:
        print(f"margins of these between the best two classes in float32: median {np.median(margin):.4f}, ")
        print(f"  99 % below {np.quantile(margin, 0.99):.4f}, largest {margin.max():.4f}")
    print(f"largest change of a probability: {np.abs(exact - rounded)[:, valid].max():.4f}")


def shares(scene: Path, model: Path, folder: Path, precision: str) -> NDArray[np.float32]:
    """Probabilities (K, y, x)."""
    out = folder / f"{precision}.tif"
    classify(scene, model, folder / "map.tif", probabilities=out, precision=precision, overwrite=True)
    with rasterio.open(out) as dataset:
        values: NDArray[np.float32] = dataset.read()
    return values


if __name__ == "__main__":
    main()
