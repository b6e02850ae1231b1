"""Pixels a second: window by window, dense, reading, from file to file, and what the machine could do at best.

All rates of one call come from one process on one device of one machine, so that their ratios can be trusted.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
import torch
from torch import Tensor

from cssd_geo.bench.made import LAYOUTS, made_scene, untrained_model
from cssd_geo.bench.patches import classify_as_toolboxes_do, classify_bare_windows
from cssd_geo.classification import Classification, classify
from cssd_geo.compute import kernels
from cssd_geo.compute.projection import project
from cssd_geo.engine.devices import choose_precision, precision_name
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.engine.streaming import one_ahead, read_tiles
from cssd_geo.errors import OutputError
from cssd_geo.model import Model
from cssd_geo.network import NetworkConfig
from cssd_geo.products import open_scene
from cssd_geo.scenes.scene import Scene

_CPU = torch.device("cpu")
_WINDOWS = 64
_TOOLBOX_SIDE = 20
_MATRIX = 2048


@dataclass(frozen=True, kw_only=True)
class NetworkRates:
    """Rates of one network in memory, where no file matters."""

    bands: int
    classes: int
    precision: str
    patches: float
    """(a) pixels/s, window by window in its cheapest form, float32."""
    toolbox: float
    """(b) pixels/s, as toolboxes do it, float32."""
    dense: float
    """(c) pixels/s of a tile in memory."""
    matrix_product: float
    """(f) operations/s of a plain matrix product in the same precision."""
    operations: int
    """Floating-point operations a pixel that the network cannot avoid."""

    @property
    def limit(self) -> float:
        """Pixels/s if all operations were one matrix product."""
        return self.matrix_product / self.operations


@dataclass(frozen=True, kw_only=True)
class FileRates:
    """Rates of one network on one file."""

    layout: str
    size: int
    bands: int
    classes: int
    precision: str
    memory: int
    """Bytes for tiles and their computation."""
    tile: tuple[int, int]
    """Rows and columns of a tile."""
    read: float
    """(d) pixels/s, tiles as they are for the network."""
    bytes_read: float | None
    """What came from the disk for that, as a multiple of the file; None where the system does not tell."""
    dense: float
    """(c) pixels/s of the first tile in memory, measured right before and after."""
    end_to_end: float
    """(e) pixels/s, class map and confidence written."""
    busy: dict[str, float]
    """Shares of the time of (e) in which reading, computing and writing were at work; they overlap."""
    peak_bytes: int
    """(g) resident memory of `cssd-geo classify` as a process of its own."""

    @property
    def share(self) -> float:
        """(e) / min(c, d)."""
        return self.end_to_end / min(self.dense, self.read)


def operations(config: NetworkConfig) -> int:
    """Count the floating-point operations a pixel that cannot be avoided, two for a multiplication with addition.

    Spectral map, attention, spatial and classifying convolution, second head; and for the pooling, the cosine with
    each pixel of the window and its vote. Activations and the dilation are not counted.
    """
    c, d, k, window = config.spectral_features, config.spatial_features, config.classes, config.window**2
    second = config.bands if config.discriminant else c
    products = config.bands * c + c * c + 9 * c * d + 9 * d * k + second * k + window * (c + k + 1)
    return 2 * products


def network_rates(
    folder: Path | None,
    *,
    bands: int,
    classes: int,
    device: torch.device,
    precision: torch.dtype,
    repeats: int,
    side: int = 1024,
) -> NetworkRates:
    """Measure one network in memory; for the dense rate on a square of `side` pixels, made in `folder`."""
    model = untrained_model(bands=bands, classes=classes)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        scene = open_scene(made_scene(Path(place) / "s.tif", "tiff", bands=bands, size=side))
        dense = _dense_rate(TileClassifier(model, scene, device, precision), scene, repeats)
    network, random = model.network.to(device), torch.Generator().manual_seed(0)
    window = network.config.window
    windows = torch.randn(_WINDOWS, window, window, bands, generator=random).to(device)
    cube = torch.randn(_TOOLBOX_SIDE, _TOOLBOX_SIDE, bands, generator=random).numpy()
    return NetworkRates(
        bands=bands,
        classes=classes,
        precision=precision_name(precision),
        patches=_rate(lambda: _finished(classify_bare_windows(network, windows)), _WINDOWS, repeats),
        toolbox=_rate(lambda: classify_as_toolboxes_do(network, cube), _TOOLBOX_SIDE**2, repeats),
        dense=dense,
        matrix_product=_matrix_product_rate(device, precision, repeats),
        operations=operations(network.config),
    )


def _matrix_product_rate(device: torch.device, precision: torch.dtype, repeats: int) -> float:
    """Operations a second of a large product of matrices, by the faster one of torch's two routines for it."""
    left, right = (torch.randn(_MATRIX, _MATRIX).to(device, precision) for _ in range(2))
    rows, nothing = left.view(_MATRIX // 64, 64, _MATRIX), torch.zeros(_MATRIX, device=device, dtype=precision)
    routines = (lambda: _finished(left @ right.T), lambda: _finished(project(rows, right, nothing)))
    return max(_rate(routine, 2 * _MATRIX**3, repeats) for routine in routines)


def file_rates(
    folder: Path,
    layout: str,
    *,
    size: int,
    bands: int,
    classes: int,
    device: torch.device,
    precision: torch.dtype,
    memory: int | None,
    repeats: int,
) -> FileRates:
    """Measure one file, made in `folder`."""
    model = untrained_model(bands=bands, classes=classes)
    path = made_scene(folder / f"{layout}.{LAYOUTS[layout]['driver']}", layout, bands=bands, size=size)
    scene = open_scene(path)
    classifier = TileClassifier(model, scene, device, precision)
    memory, plan = classifier.memory_for(scene, memory), classifier.plan(scene, None, memory)
    pixels, kind = size * size, precision_name(precision)
    options: dict[str, Any] = {"confidence": folder / "confidence.tif", "memory": memory, "overwrite": True}
    options |= {"device": device.type, "precision": kind}
    before = _dense_rate(classifier, scene, repeats)

    def read_all() -> None:
        deque(one_ahead(read_tiles(scene, plan, classifier.bands)), maxlen=0)

    bytes_read, read = read_from_disk(path, read_all), _rate(read_all, pixels, repeats)
    runs: list[Classification] = []
    end_to_end = _rate(lambda: runs.append(classify(path, model, folder / "map.tif", **options)), pixels, repeats)
    dense = (before + _dense_rate(classifier, scene, repeats)) / 2
    return FileRates(
        layout=layout,
        size=size,
        bands=bands,
        classes=classes,
        precision=kind,
        memory=memory,
        tile=(plan.tile_height, plan.tile_width),
        read=read,
        bytes_read=None if bytes_read is None else bytes_read / path.stat().st_size,
        dense=dense,
        end_to_end=end_to_end,
        busy=dict(runs[-1].busy),
        peak_bytes=_peak_of_classifying(folder, path, model, options),
    )


def _dense_rate(classifier: TileClassifier, scene: Scene, repeats: int) -> float:
    """Network-only rate on the first tile of a scene's plan, which lies on the device already."""
    tile, values, valid = next(read_tiles(scene, classifier.plan(scene), classifier.bands))
    there = classifier.load(values, valid, at=tile.padded.corner)
    return _rate(lambda: _finished(classifier.network(there.stored, there.valid).main), tile.core.pixels, repeats)


def _finished(result: Tensor) -> None:
    """Wait for what a GPU is still computing."""
    if result.device.type == "cuda":
        torch.cuda.synchronize(result.device)


def _rate(work: Callable[[], object], amount: int, repeats: int) -> float:
    """Amount a second: run once to warm up, then take the median."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return amount / statistics.median(seconds)


def read_from_disk(path: Path, work: Callable[[], object]) -> int | None:
    """Bytes that come from the disk while all of a file is read.

    None where the system is not Linux, or the file lies in memory.
    """
    counters = Path("/proc/self/io")
    if not counters.exists():
        return None

    def count() -> int:
        values = dict(line.split(": ") for line in counters.read_text().splitlines())
        return int(values["read_bytes"])

    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # the system forgets what it keeps of it
    before = count()
    work()
    return count() - before or None


def _peak_of_classifying(folder: Path, path: Path, model: Model, options: dict[str, Any]) -> int:
    model.save(folder / "model.safetensors")
    words = ["classify", path, "-o", folder / "map.tif", "--overwrite"]
    words += ["-m", folder / "model.safetensors", "--confidence", folder / "confidence.tif"]
    for name in ("memory", "device", "precision"):
        words += [f"--{name}", options[name]]
    return peak_of_a_run(words)


def peak_of_a_run(words: Iterable[object]) -> int:
    """Peak resident memory in bytes of `cssd-geo WORDS` in a process of its own.

    Raises:
        OutputError: if that fails, with what it said.
    """
    command = [sys.executable, "-m", "cssd_geo.bench.peak", *map(str, words)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ourselves
    if run.returncode:
        raise OutputError(f"the run that measures memory failed: {run.stderr}")
    return int(run.stdout.split()[-1])


def processor_name(facts: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, which Python does not know on Linux; where Linux has none, as on ARM, its numbers."""
    lines = facts.read_text().splitlines() if facts.exists() else []
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{name} {told[name]}" for name in ("CPU implementer", "CPU part") if name in told]
    return told.get("model name") or ", ".join([platform.processor() or platform.machine(), *numbers])


def machine_facts(device: torch.device = _CPU) -> dict[str, Any]:
    """Where figures come from that are measured on a device."""
    return {
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "bfloat16": choose_precision("auto", device) is torch.bfloat16,
        "kernels": kernels.used(),
        "torch": torch.__version__,
        "gdal": rasterio.__gdal_version__,
        "python": platform.python_version(),
    }
