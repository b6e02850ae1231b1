"""`cssd-geo bench`: it measures what it says. How fast is not a test's business."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import randomise

from cssd_geo.bench import rates
from cssd_geo.bench.made import LAYOUTS, made_scene, untrained_model
from cssd_geo.bench.patches import classify_as_toolboxes_do, classify_bare_windows
from cssd_geo.bench.rates import operations, processor_name, read_from_disk
from cssd_geo.cli import main
from cssd_geo.dense import DenseNetwork
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.engine.streaming import read_tiles
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import BENCH_LAYOUTS
from cssd_geo.products import open_scene
from cssd_geo.tiles import Window

SMALL = NetworkConfig(bands=9, classes=4, window=5, spectral_features=16, spatial_features=5)


def build(config: NetworkConfig) -> CSSD:
    torch.manual_seed(0)
    return randomise(CSSD(config)).double().eval()


@given(window=st.integers(1, 11), sharp=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_the_cheapest_form_is_the_network_on_windows_with_nothing_around(
    *, window: int, sharp: bool, seed: int
) -> None:
    config = NetworkConfig(
        bands=6,
        classes=3,
        window=window,
        spectral_features=8,
        spatial_features=4,
        sharpness=3.0 if sharp else None,
    )
    network = build(config)
    windows = torch.randn(4, window, window, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    side = config.receptive_field
    bands, valid = torch.zeros(4, 6, side, side).double(), torch.zeros(4, 1, side, side, dtype=torch.bool)
    bands[:, :, 3:-3, 3:-3], valid[:, :, 3:-3, 3:-3] = windows.permute(0, 3, 1, 2), True
    with torch.inference_mode():
        expected = network(bands, valid).main
    torch.testing.assert_close(classify_bare_windows(network, windows), expected, rtol=0.0, atol=1e-10)


def test_toolboxes_get_the_same_map() -> None:
    network, halo = build(SMALL), SMALL.halo
    cube = torch.randn(13, 11, 9, dtype=torch.float64)
    frame = (halo.before, halo.after, halo.before, halo.after)
    padded = torch.nn.functional.pad(cube.permute(2, 0, 1), frame)
    valid = torch.nn.functional.pad(torch.ones(13, 11, dtype=torch.bool), frame)
    ones, zeros = torch.ones(9).double(), torch.zeros(9).double()
    dense = DenseNetwork(network, ones, zeros, dtype=torch.float64, device=torch.device("cpu"))
    found = classify_as_toolboxes_do(network, cube.numpy())
    np.testing.assert_array_equal(found, dense(padded, valid).main.argmax(2).numpy())


def test_operations_are_those_of_the_products() -> None:
    spectral, attention, spatial, classifier, second = 200 * 256, 256 * 256, 9 * 256 * 64, 9 * 64 * 16, 200 * 16
    pooling = 100 * (256 + 17)
    expected = 2 * (spectral + attention + spatial + classifier + second + pooling)
    assert operations(NetworkConfig(bands=200, classes=16)) == expected == 607_816


@pytest.mark.parametrize("layout", LAYOUTS)
def test_made_scenes_differ_in_nothing_but_their_layout(layout: str, tmp_path: Path) -> None:
    window, bands = Window(row=0, col=0, height=300, width=300), np.arange(3)
    made, other = (open_scene(made_scene(tmp_path / name, name, bands=3, size=300)) for name in (layout, "tiff"))
    assert (made.grid, made.dtype, made.nodata.tolist()) == (other.grid, other.dtype, other.nodata.tolist())
    assert (made.scale.tolist(), len(made.bands)) == (other.scale.tolist(), len(other.bands))
    np.testing.assert_array_equal(made.read(window, bands)[0], other.read(window, bands)[0])


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "netcdf"])
def test_made_scenes_are_stored_as_their_layout_says(layout: str, tmp_path: Path) -> None:
    with rasterio.open(made_scene(tmp_path / "scene", layout, bands=3, size=300)) as dataset:
        assert dataset.shape == (300, 300)
        assert dataset.count == 3
        assert dataset.driver == LAYOUTS[layout]["driver"]
        found = None if dataset.compression is None else dataset.compression.value.lower()
        assert found == LAYOUTS[layout].get("compress")
        wanted = {"envi-bil": "LINE", "envi-bsq": "BAND", "tiff-strips": "BAND"}.get(layout, "PIXEL")
        assert dataset.interleaving.value == wanted
        assert dataset.read().std() > 100


def test_a_made_netcdf_is_stored_as_products_are(tmp_path: Path) -> None:
    with h5py.File(made_scene(tmp_path / "scene", "netcdf", bands=60, size=300)) as file:
        cube = file["reflectance"]
        assert (cube.shape, cube.chunks) == ((300, 300, 60), (256, 256, 50))
        assert (cube.compression, cube.shuffle) == ("gzip", True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_is_read_from_the_disk_once_whatever_its_layout(layout: str, tmp_path: Path) -> None:
    """Counted by the system, so that nothing that GDAL does beneath us is overlooked."""
    path = made_scene(tmp_path / "scene", layout, bands=6, size=1500)
    scene = open_scene(path)
    classifier = TileClassifier(untrained_model(bands=6, classes=3), scene, torch.device("cpu"))
    plan = classifier.plan(scene, None, 400_000_000)
    assert len(plan) > 1

    def read_all() -> None:
        with rasterio.Env(GDAL_CACHEMAX=scene.source.cache_bytes):
            deque(read_tiles(scene, plan, classifier.bands), maxlen=0)

    read = read_from_disk(path, read_all)
    if read is None:
        pytest.skip("the system does not tell what it reads from the disk, or the file lies in memory")
    assert 0.9 < read / path.stat().st_size < 1.25


@dataclass
class Once:
    """A measurement that is made once and told again after that: a process of its own takes seconds to start."""

    measure: Callable[..., int]
    found: int | None = None

    def __call__(self, *args: Any) -> int:
        self.found = self.measure(*args) if self.found is None else self.found
        return self.found


def test_bench_prints_every_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "network_rates", partial(rates.network_rates, side=64))
    for name, less in (("_WINDOWS", 4), ("_TOOLBOX_SIDE", 5), ("_MATRIX", 128)):
        monkeypatch.setattr(rates, name, less)
    monkeypatch.setattr(rates, "peak_of_a_run", Once(rates.peak_of_a_run))
    words = [
        "bench",
        "--size",
        "40",
        "--bands",
        "6",
        "--classes",
        "3",
        "--repeats",
        "1",
        "--folder",
        str(tmp_path),
    ]
    words += ["--layout", "envi-bip", "--layout", "tiff-zstd", "--precision", "float32"]
    ran = CliRunner().invoke(main, [*words, "--json"])
    assert ran.exit_code == 0, ran.output
    facts = json.loads(ran.stdout)
    assert [row["layout"] for row in facts["files"]] == ["envi-bip", "tiff-zstd"]
    (network,) = facts["networks"]
    for key in ("patches", "toolbox", "dense", "matrix_product", "limit"):
        assert network[key] > 0
    for row in facts["files"]:
        assert row["share"] == pytest.approx(row["end_to_end"] / min(row["read"], row["dense"]))
        assert 50_000_000 < row["peak_bytes"] < 5_000_000_000
        assert row["memory"] >= 100_000_000
    assert list(tmp_path.iterdir()) == []
    assert facts["machine"]["torch"] == torch.__version__
    assert facts["machine"]["processor"] not in {"", "x86_64"}, "which one, not of what kind"
    assert facts["repeats"] == 1
    assert facts["device"] in {"cpu", "cuda"}
    assert (facts["machine"]["gpu"] is not None) is (facts["device"] == "cuda")


def test_a_processor_without_a_name_is_told_by_its_numbers(tmp_path: Path) -> None:
    facts = tmp_path / "cpuinfo"
    facts.write_text("processor\t: 0\nFeatures\t: fp bf16\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n\n")
    assert processor_name(facts).endswith(", CPU implementer 0x41, CPU part 0xd40")
    facts.write_text("processor\t: 0\nmodel name\t: AMD EPYC: 9R14\n\n")
    assert processor_name(facts) == "AMD EPYC: 9R14"
    assert processor_name(tmp_path / "none")


def test_all_rates_of_a_network_are_of_the_chosen_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta, seen = torch.device("meta"), list[torch.device]()

    def noted(network: CSSD, given: torch.Tensor | NDArray[np.float32]) -> torch.Tensor:
        seen.append(next(network.parameters()).device)
        if isinstance(given, torch.Tensor):
            seen.append(given.device)
        return torch.zeros(1)

    monkeypatch.setattr(rates, "classify_bare_windows", noted)
    monkeypatch.setattr(rates, "classify_as_toolboxes_do", noted)

    def dense_rate(classifier: TileClassifier, *_: object) -> float:
        seen.append(classifier.device)
        return 1.0

    def product_rate(device: torch.device, *_: object) -> float:
        seen.append(device)
        return 1.0

    monkeypatch.setattr(rates, "_dense_rate", dense_rate)
    monkeypatch.setattr(rates, "_matrix_product_rate", product_rate)
    rates.network_rates(tmp_path, bands=6, classes=3, device=meta, precision=torch.float32, repeats=1, side=32)
    assert len(seen) == 2 + 2 * 2 + 2  # each rate runs once to warm up
    assert set(seen) == {meta}


def test_network_rates_make_their_scene_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = []

    def noted(path: Path, *_: object, **__: object) -> Path:
        places.append(path)
        raise InterruptedError

    monkeypatch.setattr(rates, "made_scene", noted)
    cpu, kind = torch.device("cpu"), torch.float32
    with pytest.raises(InterruptedError):
        rates.network_rates(tmp_path, bands=6, classes=3, device=cpu, precision=kind, repeats=1)
    assert places[0].is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_none_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    ran = CliRunner().invoke(main, ["bench", "--folder", str(tmp_path / name)])
    assert ran.exit_code == 2
    assert name in ran.output
    assert "processor" not in ran.output, "nothing was measured before"


def test_the_gpu_is_named_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert rates.machine_facts(torch.device("cpu"))["gpu"] is None
    assert rates.machine_facts(torch.device("cuda"))["gpu"] == "a GPU"


def test_bench_knows_all_layouts() -> None:
    assert tuple(LAYOUTS) == BENCH_LAYOUTS
