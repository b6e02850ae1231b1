"""What CUDA would not allow does not happen, as far as a machine without a GPU can tell."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from pretended_gpu import CPU, GPU, PretendedGpu
from scenes import coordinate_cube, random_model, write_raster
from torch import Tensor

from cssd_geo.engine.inference import TileClassifier
from cssd_geo.learning.fitting import Epoch, fit
from cssd_geo.learning.windows import TrainingWindows
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene

PARTS = ("disagreement", "probabilities")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_recording_waits_for_nothing_and_has_the_results_of_the_cpu(
    tmp_path: Path, precision: torch.dtype
) -> None:
    cube = coordinate_cube(5, 40, 50) % 977
    cube[:, :25, :25], cube[2, 30:33, 30:40] = -1, -1
    scene = open_scene(write_raster(tmp_path / "s.tif", cube, nodata=-1))
    on_cpu = TileClassifier(random_model(bands=5, dtype=torch.float32), scene, CPU, precision)
    plan = on_cpu.plan(scene, 32)
    pixels, shape = scene.read(plan[1].padded, on_cpu.bands), (plan.largest.height, plan.largest.width)
    expected = on_cpu(*pixels, at=plan[1].padded.corner, parts=PARTS)
    with PretendedGpu() as gpu:
        classifier = on_cpu.on(GPU)
        classifier.rehearse(scene, plan, PARTS)
        tile = classifier.load(*pixels, shape, at=plan[1].padded.corner)
        gpu.waits.clear()
        classifier._recorded[frozenset(PARTS)](tile.stored, tile.valid)
        assert not gpu.waits
        found = classifier.classify(tile, parts=PARTS)
        assert gpu.waits, "for the results"
    np.testing.assert_array_equal(found.class_map == 0, expected.class_map == 0)
    assert np.mean(found.class_map != expected.class_map) < 0.01
    for part, apart in (("confidence", 1), ("disagreement", 1), ("probabilities", 0.02)):
        one, same = (np.asarray(getattr(result, part), np.float64) for result in (found, expected))
        np.testing.assert_allclose(one, same, rtol=0, atol=apart)


@pytest.mark.parametrize("plain", [True, False])
def test_training_on_a_gpu_is_that_on_the_cpu_and_comes_back(
    monkeypatch: pytest.MonkeyPatch, *, plain: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    config = NetworkConfig(bands=7, classes=3, window=4, spectral_features=64, spatial_features=6)
    config = config.for_plain_bands() if plain else config
    random, side = torch.Generator().manual_seed(0), 2 * config.halo.before + 1
    lookup = torch.randint(0, 90, (12, side, side), generator=random)
    lookup[:, config.halo.before, config.halo.before] = 1 + torch.arange(12)
    pixels = torch.randn(90, 7, generator=random)
    windows, classes = TrainingWindows(pixels=pixels, lookup=lookup, halo=config.halo), torch.arange(12) % 3
    options, told = TrainingOptions(epochs=2, batch_size=6, epsilon=0.2), list[Epoch]()
    torch.manual_seed(0)
    on_cpu = CSSD(config)
    on_gpu = deepcopy(on_cpu)
    fit(on_cpu, windows, classes, options=options, device=CPU, on_epoch=told.append)
    with PretendedGpu() as gpu:
        fit(on_gpu, windows, classes, options=options, device=GPU, on_epoch=told.append)
    assert gpu.waits
    assert not torch.backends.cudnn.allow_tf32, "convolutions would take 10 of the 23 bits of float32"
    assert [epoch.loss for epoch in told[2:]] == pytest.approx([epoch.loss for epoch in told[:2]], rel=1e-4)
    assert {weight.device for weight in on_gpu.state_dict().values()} == {CPU}
    assert not on_gpu.training


@pytest.mark.parametrize(
    ("work", "waits"),
    [
        (lambda there, _: there.max() > 0, False),
        (lambda there, _: there[there.argsort()], False),
        (lambda there, _: bool(there.max() > 0), True),
        (lambda there, _: there.tolist(), True),
        (lambda there, _: there[there > 0], True),
        (lambda there, _: there.index_put_((there > 0,), there[0]), True),
        (lambda there, _: there.nonzero(), True),
        (lambda there, _: there.cpu(), True),
        (lambda there, here: there.copy_(here), True),
        (lambda _, here: here.to(GPU), True),
        (lambda there, here: here.copy_(there), True),
    ],
)
@pytest.mark.parametrize("inference", [True, False])
def test_the_pretended_gpu_tells_who_waits(
    work: Callable[[Tensor, Tensor], object], *, waits: bool, inference: bool
) -> None:
    with PretendedGpu() as gpu, torch.inference_mode(mode=inference):
        here = torch.arange(3.0)
        there = here.to(GPU)
        gpu.waits.clear()
        work(there, here)
        assert bool(gpu.waits) is waits


@pytest.mark.parametrize(
    "work",
    [lambda there, here: there + here, lambda there, here: here @ there, lambda there, here: here[there > 0]],
)
def test_the_pretended_gpu_does_not_mix(work: Callable[[Tensor, Tensor], object]) -> None:
    with PretendedGpu():
        here = torch.arange(3.0)
        there = here.to(GPU)
        with pytest.raises(RuntimeError, match="a tensor of the CPU"):
            work(there, here)
