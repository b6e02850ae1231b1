"""What bfloat16, tiles, threads and layouts change: the scene of `make demo`, classified by the released model.

    python benchmarks/precision.py [--model models/demo.safetensors]

Each run is compared with one in float32, with the tiles that `classify` chooses and all threads. Runs on any
processor; where bfloat16 is not in hardware it takes minutes. Where there is a GPU, also what that changes.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
import torch
from numpy.typing import NDArray

from cssd_geo.bench.made import LAYOUTS
from cssd_geo.bench.rates import machine_facts
from cssd_geo.classification import classify
from cssd_geo.demo.files import write_scene
from cssd_geo.demo.landscape import make_landscape
from cssd_geo.engine.devices import choose_device


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to classify the scene."""

    name: str
    layout: str = "tiff-deflate"
    threads: int | None = None
    """None: as many as torch takes."""
    options: dict[str, Any] = field(default_factory=dict)


EXACT = Way(name="float32")
WAYS = (
    Way(name="bfloat16", options={"precision": "bfloat16"}),
    *(Way(name=f"float32, tiles of {size}", options={"tile_size": size}) for size in (37, 64, 200)),
    *(Way(name=f"float32, {threads} threads", threads=threads) for threads in (1, 3, 8)),
    *(Way(name=f"float32, {layout}", layout=layout) for layout in ("tiff", "envi-bil", "envi-bsq", "envi-bip")),
)
ON_GPU = (
    Way(name="GPU, float32", options={"device": "cuda"}),
    Way(name="GPU, float32, tiles of 64", options={"device": "cuda", "tile_size": 64}),
    Way(name="GPU, bfloat16", options={"device": "cuda", "precision": "bfloat16"}),
)


def main() -> None:
    """Classify in each way and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/demo.safetensors"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = write_scene(make_landscape(), folder).scene
        exact = shares(scene, options.model, folder, EXACT)
        valid = ~np.isnan(exact[0])
        if not valid.any():
            sys.exit("no pixel is valid")
        top = np.sort(exact, axis=0)
        print(machine_facts(choose_device("auto")))
        print(
            f"of {valid.sum():,} pixels     other class      share  largest margin  "
            "largest change of a probability"
        )
        for way in (*WAYS, *(ON_GPU if torch.cuda.is_available() else ())):
            other = shares(scene, options.model, folder, way)
            changed = valid & (exact.argmax(0) != other.argmax(0))
            margin = (top[-1] - top[-2])[changed].max(initial=0)
            moved = np.abs(exact - other)[:, valid].max()
            share = changed.sum() / valid.sum()
            print(f"{way.name:25} {changed.sum():8,}  {share:9.4%}  {margin:12.6f}  {moved:14.7f}", flush=True)


def shares(scene: Path, model: Path, folder: Path, way: Way) -> NDArray[np.float32]:
    """Probabilities (K, y, x)."""
    stored, out = folder / f"{way.layout}.img", folder / "shares.tif"
    if not stored.exists():
        rasterio.shutil.copy(scene, stored, **LAYOUTS[way.layout])
    usual = torch.get_num_threads()
    torch.set_num_threads(way.threads or usual)
    options: dict[str, Any] = {"device": "cpu", "precision": "float32", "overwrite": True} | way.options
    classify(stored, model, folder / "map.tif", probabilities=out, **options)
    torch.set_num_threads(usual)
    with rasterio.open(out) as dataset:
        values: NDArray[np.float32] = dataset.read()
    return values


if __name__ == "__main__":
    main()
