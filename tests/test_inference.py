"""Which numbers a device computes with, and what a tile takes and gives."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scenes import coordinate_cube, random_model, write_raster
from scipy.special import softmax
from torch import Tensor

from cssd_geo.bench.made import untrained_model
from cssd_geo.budget import Blocks
from cssd_geo.compute.transfer import Loaded
from cssd_geo.dense import Pixels
from cssd_geo.engine import inference
from cssd_geo.engine.devices import choose_precision, cpu_flags
from cssd_geo.engine.inference import TileClassifier
from cssd_geo.errors import CssdGeoError, InputError
from cssd_geo.network import Logits
from cssd_geo.options import DEFAULT_MEMORY
from cssd_geo.products import open_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Halo

CPU = torch.device("cpu")
X86 = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8488C
wp\t\t: yes
flags\t\t: fpu vme sse sse2 avx512f avx512_bf16 amx_bf16 amx_tile
vmx flags\t: vnmi preemption_timer
bugs\t\t: spectre_v1
bogomips\t: 4800.00

processor\t: 1
flags\t\t: fpu vme second
"""
ARM = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes sve svebf16 bf16 i8mm
CPU implementer\t: 0x41
CPU architecture: 8
"""


# Precision


def test_a_host_out_of_memory_is_what_python_calls_it() -> None:
    with pytest.raises(MemoryError, match="allocate"), inference._enough_memory(torch.device("cpu")):
        torch.empty(1 << 60, dtype=torch.uint8)


def test_flags_are_those_that_the_first_processor_tells(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(X86)
    assert cpu_flags(path) == {"fpu", "vme", "sse", "sse2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile"}
    path.write_text(ARM)
    assert cpu_flags(path) == {"fp", "asimd", "evtstrm", "aes", "sve", "svebf16", "bf16", "i8mm"}


def test_a_system_that_does_not_tell_has_no_flags(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "none") == set()
    assert cpu_flags(tmp_path) == set(), "a folder"
    (tmp_path / "empty").write_text("")
    assert cpu_flags(tmp_path / "empty") == set()
    (tmp_path / "riscv").write_text("processor\t: 0\nisa\t\t: rv64imafdc\n")
    assert cpu_flags(tmp_path / "riscv") == set()


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ({"sse2", "avx512_bf16"}, torch.bfloat16),
        ({"sse2", "amx_bf16", "amx_tile"}, torch.bfloat16),
        ({"fp", "bf16"}, torch.float32),
        ({"sse2", "avx2", "avx512f", "avx512_fp16"}, torch.float32),
        (set(), torch.float32),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], dtype: torch.dtype
) -> None:
    monkeypatch.setattr("cssd_geo.engine.devices.cpu_flags", lambda: flags)
    assert choose_precision("auto", CPU) == dtype
    assert choose_precision("float32", CPU) == torch.float32
    assert choose_precision("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize("known", [True, False])
def test_auto_asks_a_gpu_and_not_the_processor(monkeypatch: pytest.MonkeyPatch, *, known: bool) -> None:
    def supported(*, including_emulation: bool) -> bool:
        assert not including_emulation
        return known

    monkeypatch.setattr("cssd_geo.engine.devices.cpu_flags", lambda: set() if known else {"avx512_bf16"})
    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    assert choose_precision("auto", torch.device("cuda")) == (torch.bfloat16 if known else torch.float32)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InputError, match="precision 'float16' is unknown; choose from auto, float32, bfloat16"):
        choose_precision("float16", CPU)


# Tiles


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    cube = coordinate_cube(5, 50, 70) % 977
    cube[:, 30:, 40:] = -5
    return open_scene(write_raster(tmp_path_factory.mktemp("inference") / "s.tif", cube, nodata=-5))


@pytest.mark.parametrize("window", [1, 4, 10])
def test_logits_are_those_of_the_core(scene: Scene, window: int) -> None:
    classifier = TileClassifier(random_model(bands=5, window=window), scene, CPU)
    assert classifier.halo == Halo(before=window // 2 + 3, after=(window - 1) // 2 + 3)
    tile = classifier.plan(scene, 13)[5]
    for part in classifier.logits(*scene.read(tile.padded, np.arange(5)), at=tile.padded.corner):
        assert part.shape == (tile.core.height, tile.core.width, 3)
        assert part.dtype == torch.float64


def test_a_tile_has_classes_confidence_and_shares_where_it_is_valid_and_nowhere_else(scene: Scene) -> None:
    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    whole = classifier.plan(scene, 100)[0]
    values, valid = scene.read(whole.padded, np.arange(5))
    result = classifier(values, valid, at=(0, 0), parts=("disagreement", "probabilities"))
    seen = np.ones((50, 70), np.bool_)
    seen[30:, 40:] = False
    assert result.probabilities is not None
    assert result.disagreement is not None
    np.testing.assert_array_equal(result.class_map > 0, seen)
    np.testing.assert_array_equal(result.confidence < 255, seen)
    np.testing.assert_array_equal(result.disagreement < 255, seen)
    np.testing.assert_array_equal(np.isfinite(result.probabilities), np.broadcast_to(seen, (3, 50, 70)))
    shares = result.probabilities[:, seen]
    np.testing.assert_allclose(shares.sum(axis=0), 1, rtol=1e-6)
    np.testing.assert_array_equal(result.class_map[seen], shares.argmax(axis=0) + 1)
    np.testing.assert_array_equal(result.confidence[seen], np.round(100 * shares.max(axis=0)))
    for part in ("disagreement", "probabilities"):
        assert getattr(classifier(values, valid, at=(0, 0)), part) is None
        assert getattr(classifier(values, valid, at=(0, 0), parts={part}), part) is not None


@pytest.mark.parametrize("panel", [8, 24, 1000])
def test_what_is_added_for_one_shape_of_all_tiles_changes_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, panel: int
) -> None:
    monkeypatch.setattr("cssd_geo.dense._PANEL_COLUMNS", panel)
    classifier, parts = TileClassifier(random_model(bands=5), scene, CPU), ("disagreement", "probabilities")
    tile = classifier.plan(scene, 20)[0]
    values, valid = scene.read(tile.padded, np.arange(5))
    alone = classifier(values, valid, at=(0, 0), parts=parts)
    shape = valid.shape[0] + 13, valid.shape[1] + 41
    padded = classifier.classify(classifier.load(values, valid, shape, at=(0, 0)), parts=parts)
    for part in ("class_map", "confidence", "disagreement"):
        np.testing.assert_array_equal(getattr(padded, part), getattr(alone, part))
    assert alone.probabilities is not None
    assert padded.probabilities is not None
    np.testing.assert_allclose(padded.probabilities, alone.probabilities, rtol=0, atol=1e-5)


def disagreement_of(scene: Scene, main: Tensor, spectral: Tensor) -> NDArray[np.uint8]:
    """What is made of these logits, (h, v, K), where all pixels are valid."""
    classifier = TileClassifier(random_model(bands=5, classes=main.shape[2]), scene, CPU)
    classifier.network = _Says(main, spectral, classifier.halo)  # type: ignore[assignment]
    halo = classifier.halo.total
    valid = torch.ones(main.shape[0] + halo, main.shape[1] + halo, dtype=torch.bool)
    found = classifier.classify(
        Loaded(torch.zeros(5, *valid.shape), valid, *valid.shape), parts={"disagreement"}
    ).disagreement
    assert found is not None
    return found


logits = hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(-30, 30, width=32)).map(torch.from_numpy)
"""Of five classes: with three, the largest difference alone would be the same number."""


@given(main=logits, spectral=logits)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_disagreement_is_the_total_variation_distance_of_the_heads(
    scene: Scene, main: Tensor, spectral: Tensor
) -> None:
    """Against float64, with the weights of `random_model`: 1.3 and 0.4."""
    first, second = (softmax(2 * w * z.double().numpy(), axis=2) for w, z in ((1.3, main), (0.4, spectral)))
    expected = 100 * np.maximum(first - second, 0).sum(axis=2)  # what one has more is what the other has less
    found = disagreement_of(scene, main, spectral)
    assert found.dtype == np.uint8
    assert np.abs(found - expected).max() <= 0.5 + 1e-3


@given(heads=logits, shift=st.floats(-10, 10, width=32))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_heads_that_agree_disagree_by_0_and_those_that_are_sure_of_other_classes_by_100(
    scene: Scene, heads: Tensor, shift: float
) -> None:
    agreeing = heads * (1.3 / 0.4)  # weighed by 0.4, it says what the main head says, weighed by 1.3
    assert (disagreement_of(scene, heads, agreeing) == 0).all()
    assert (disagreement_of(scene, heads, agreeing + shift) == 0).all(), "the same when all logits are shifted"
    sure = 100 * torch.eye(5)[heads.argmax(dim=2)]
    assert (disagreement_of(scene, sure, sure.roll(1, dims=2)) == 100).all()


def test_a_tile_without_valid_pixels_is_not_computed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    monkeypatch.setattr(classifier, "network", _Untouched(classifier.halo))
    values, valid = np.ones((5, 22, 25), np.int32), np.zeros((22, 25), np.bool_)
    valid[:8], valid[:, -7:] = True, True  # what surrounds it does not count
    for parts in ((), ("disagreement", "probabilities")):
        result = classifier(values, valid, at=(0, 0), parts=parts)
        assert result.class_map.tolist() == [[0] * 10] * 7
        assert result.confidence.tolist() == [[255] * 10] * 7
        assert (result.disagreement is not None) is (result.probabilities is not None) is bool(parts)
        if result.disagreement is not None and result.probabilities is not None:
            assert result.disagreement.tolist() == [[255] * 10] * 7
            assert result.probabilities.shape == (3, 7, 10)
            assert np.isnan(result.probabilities).all()


class _Says:
    """Stands in for a network that says this."""

    def __init__(self, main: Tensor, spectral: Tensor, halo: Halo) -> None:
        self.heads, self.halo = Logits(main, spectral), halo

    def each_panel(
        self, stored: Tensor, valid: Tensor, take: Callable[[Pixels, Logits], None], *, at: tuple[int, int]
    ) -> None:
        assert at == (0, 0)
        assert stored.shape[1:] == valid.shape
        for columns in (slice(1, self.heads.main.shape[1]), slice(1)):
            pixels = slice(0, len(self.heads.main)), slice(columns.start or 0, columns.stop)
            take(pixels, Logits(*(head[:, columns] for head in self.heads)))


def test_out_of_memory_for_good_says_what_to_do(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    tile = scene.read(classifier.plan(scene, 20)[0].padded, np.arange(5))
    monkeypatch.setattr("cssd_geo.dense.DenseNetwork._each_panel", full)
    for compute in (classifier, classifier.logits):
        with pytest.raises(CssdGeoError, match=r"out of memory on cpu.* less --memory, or with --device cpu"):
            compute(*tile, at=(0, 0))


class _Untouched:
    """Stands in for a network that must not be called."""

    def __init__(self, halo: Halo) -> None:
        self.halo = halo


def test_the_plan_follows_the_tile_size_else_the_memory(scene: Scene) -> None:
    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    fixed = classifier.plan(scene, 13, memory=1)
    assert (fixed.tile_height, fixed.tile_width) == (13, 13), "a size that is given counts"
    assert classifier.plan(scene) == classifier.plan(scene, None, DEFAULT_MEMORY)
    assert classifier.needs(scene).of(classifier.plan(scene)) <= DEFAULT_MEMORY
    assert fixed.halo == classifier.plan(scene).halo == classifier.halo
    with pytest.raises(InputError, match="tile_size must be at least 1, not 0"):
        classifier.plan(scene, 0)


@pytest.mark.parametrize(("there", "expected"), [(64 * 10**9, 4 * 10**9), (4 * 10**9, 15 * 10**8)])
def test_a_gpu_has_more_tiles_on_their_way(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, there: int, expected: int
) -> None:
    monkeypatch.setattr("cssd_geo.machine.memory_limit", lambda: there)
    monkeypatch.setattr("cssd_geo.engine.inference.processors", lambda: 6)
    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    assert classifier.memory_for(scene) == DEFAULT_MEMORY
    assert (classifier.plan(scene).at_once, classifier.needs(scene).tiles) == (1, 3)
    classifier.device = torch.device("meta")  # any that is no CPU
    assert classifier.memory_for(scene) == expected, "no more than half of the machine"
    for size in (None, 13):
        assert classifier.plan(scene, size).at_once == 3
    assert classifier.needs(scene, 3).tiles == 3 + 4


def test_with_little_memory_fewer_tiles_are_read_at_a_time_for_a_gpu(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cssd_geo.engine.inference.processors", lambda: 32)
    classifier = TileClassifier(random_model(bands=5), scene, CPU)
    classifier.device = torch.device("meta")
    chosen = []
    for memory in (classifier.needs(scene).fixed + 10**7, *range(10**8, 10**9, 10**7)):
        with suppress(InputError):
            plan = classifier.plan(scene, None, memory)
            assert classifier.needs(scene, plan.at_once).of(plan) <= memory
            chosen.append(plan.at_once)
    assert chosen == sorted(chosen)
    assert (chosen[0], chosen[-1]) == (1, 8)


def test_wide_lines_of_raw_files_are_read_side_by_side_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cssd_geo.machine.memory_limit", lambda: 64 * 10**9)
    monkeypatch.setattr("cssd_geo.engine.inference.processors", lambda: 16)
    scene = made_scene_of(bands=200, height=9000, width=8192)
    lines = Blocks(height=1, width=8192, divisible=True, least_run=4096)
    monkeypatch.setattr(type(scene.source), "blocks", lines)
    classifier = TileClassifier(untrained_model(bands=200, classes=16), scene, CPU)
    classifier.device = torch.device("meta")
    memory = classifier.memory_for(scene)
    plan = classifier.plan(scene)
    assert plan.at_once == 8
    assert (plan.tile_width, plan.tile_height >= 96) == (4096, True)
    assert classifier.needs(scene, 8).of(plan) <= memory < 5 * 10**9


@pytest.mark.parametrize("processors", [1, 2, 4, 16, 192])
def test_large_tiles_fit_into_the_default_memory_however_many_processors_there_are(
    monkeypatch: pytest.MonkeyPatch, processors: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: processors)
    scene = made_scene_of(bands=430, height=3000, width=4000)
    classifier = TileClassifier(untrained_model(bands=430, classes=16), scene, CPU)
    plan = classifier.plan(scene, None, DEFAULT_MEMORY)
    assert plan.tile_height * plan.tile_width > 0.8 * plan.largest.pixels, "else too much of what is read is halo"


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("processors", [2, 8, 64])
@pytest.mark.parametrize(("bands", "block"), [(100, 512), (200, 512), (285, 256), (430, 256), (430, 512)])
def test_compressed_scenes_of_many_bands_need_no_memory_to_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, processors: int, bands: int, block: int
) -> None:
    """On a machine of 16 GB blocks are whole and decoded once, 512 columns at a time; only they make it more."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: processors)
    monkeypatch.setattr("cssd_geo.scenes.sources.processors", lambda: processors)
    monkeypatch.setattr("cssd_geo.machine.memory_limit", lambda: 16 * 10**9)
    size = {"width": 4000, "height": 3000, "count": bands, "dtype": "int16"}
    blocks = {
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "interleave": "pixel",
        "compress": "deflate",
    }
    with rasterio.open(tmp_path / "s.tif", "w", driver="GTiff", sparse_ok=True, **size, **blocks):
        pass
    scene = open_scene(tmp_path / "s.tif")
    classifier = TileClassifier(untrained_model(bands=bands, classes=16), scene, CPU)
    memory, plan = classifier.memory_for(scene), classifier.plan(scene)
    block_bytes = block * block * bands * 2
    assert scene.source.decoding_bytes <= max(160_000_000, block_bytes)
    assert DEFAULT_MEMORY <= memory <= DEFAULT_MEMORY + 8 * 512 // block * block_bytes
    assert classifier.needs(scene).of(plan) <= memory
    assert plan.tile_height % block == 0
    assert plan.tile_width % block == 0
    assert plan.tile_width >= 512
    assert plan.abreast == plan.cols


def made_scene_of(*, bands: int, height: int, width: int) -> Scene:
    """Nothing but its shape."""
    return scene_of_array(
        xr.DataArray(
            da.zeros((bands, height, width), dtype=np.int16, chunks=(-1, 128, 128)), dims=("band", "y", "x")
        )
    )


def test_needs_grow_with_bands_classes_and_the_type(scene: Scene) -> None:
    needs = TileClassifier(random_model(bands=5), scene, CPU).needs(scene)
    assert needs.pixel_in == int(1.25 * (5 * 4 + 1))
    more = TileClassifier(random_model(bands=5, classes=6), scene, CPU).needs(scene)
    assert more.pixel_out == 2 * needs.pixel_out
    assert needs.fixed > scene.source.cache_bytes
    wide = TileClassifier(random_model(bands=5, window=30), scene, CPU).needs(scene)
    assert wide.fixed > needs.fixed
