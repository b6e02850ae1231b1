"""The network, window by window = the paper's words, in float64, with holes; its own dilation and norm."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import randomise
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute.dilation import Dilation, dilate
from cssd_geo.errors import InputError
from cssd_geo.network import CSSD, NetworkConfig, _MaskedNorm, _StridedSpectral


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-10)


def build(config: NetworkConfig, seed: int = 0) -> CSSD:
    torch.manual_seed(seed)
    return randomise(CSSD(config)).double().eval()


def windows(config: NetworkConfig, count: int, seed: int, holes: float = 0.25) -> tuple[Tensor, Tensor]:
    """Bands (B,S,R,R) and valid (B,1,R,R), with holes but not in the centre."""
    generator = torch.Generator().manual_seed(seed)
    side, centre = config.receptive_field, config.halo.before
    bands = torch.randn(count, config.bands, side, side, generator=generator, dtype=torch.float64)
    valid = torch.rand(count, 1, side, side, generator=generator) > holes
    valid[:, :, centre, centre] = True
    return bands, valid


def stage_of(network: CSSD) -> _StridedSpectral:
    assert isinstance(network.spectral, _StridedSpectral)
    return network.spectral


def refined_in_words(network: CSSD, neighbours: Tensor) -> Tensor:
    """Nine shifted copies (C,3,3), each through the attention, the largest of them."""
    element, copies = torch.sigmoid(network.refine.element), []
    for dy, dx in np.ndindex(3, 3):
        pixel = neighbours[:, dy, dx]
        copies.append(element[dy, dx] * pixel * torch.sigmoid(network.refine.attention(pixel)))
    return torch.stack(copies).amax(0)


def published_in_words(network: CSSD, bands: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The description of CSSD taken literally, for one window (S,R,R): convolutions along the spectrum of each
    pixel, nine shifted copies that each pass the attention, a mean over the window weighted by cosines.
    """
    config, stage, side = network.config, stage_of(network), network.config.receptive_field
    spectral = torch.zeros(config.spectral_features, side, side, dtype=bands.dtype)
    for y, x in valid.nonzero().tolist():
        spectral[:, y, x] = stage.wide(stage.local(stage.norm(bands[None, None, :, y, x])))[0, :, 0]
    refined = torch.zeros(config.spectral_features, side - 2, side - 2, dtype=bands.dtype)
    for y, x in np.ndindex(side - 2, side - 2):
        refined[:, y, x] = refined_in_words(network, spectral[:, y : y + 3, x : x + 3]) * valid[y + 1, x + 1]
    spatial = network.spatial(refined[None])[0] * valid[2:-2, 2:-2]
    logits = network.classifier(spatial[None])[0]
    seen, features = valid[3:-3, 3:-3], spectral[:, 3:-3, 3:-3]
    centre = features[:, config.window // 2, config.window // 2]
    voters = seen.nonzero().tolist()
    votes = [logits[:, y, x] * functional.cosine_similarity(features[:, y, x], centre, dim=0) for y, x in voters]
    return torch.stack(votes).mean(0), network.teacher(centre)


@torch.inference_mode()
@pytest.mark.parametrize("window", [4, 5])
def test_the_published_network_is_what_the_paper_says(window: int) -> None:
    config = NetworkConfig(bands=11, classes=3, window=window, spectral_features=64, spatial_features=6)
    network = build(config.as_published(), seed=window)
    bands, valid = windows(config, 1, window)
    main, teacher = published_in_words(network, bands[0], valid[0, 0])
    found = network(bands, valid)
    assert_equal(found.main[0], main)
    assert_equal(found.spectral[0], teacher)


@torch.inference_mode()
def test_the_spectral_length_and_the_folded_map_are_those_of_the_convolutions() -> None:
    for bands in (3, 4, 5, 30, 31, 200):
        network = build(NetworkConfig(bands=bands, classes=2, spectral_features=64).as_published())
        spectra = torch.randn(7, 1, bands, dtype=torch.float64)
        stage = stage_of(network)
        through = stage.wide(stage.local(spectra))
        assert through.shape == (7, 64, 1), "the wide convolution leaves length 1"
        weight, bias = stage.folded()
        assert_equal(functional.linear(spectra[:, 0], weight, bias), through[..., 0])


@torch.inference_mode()
@given(seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_what_is_not_valid_has_no_influence(seed: int) -> None:
    config = NetworkConfig(bands=9, classes=4, window=6, spectral_features=16, spatial_features=5)
    network = build(config)
    bands, valid = windows(config, 5, seed)
    other = torch.where(valid, bands, torch.randn_like(bands) * 100)
    for one, two in zip(network(bands, valid), network(other, valid), strict=True):
        assert_equal(one, two)


@torch.inference_mode()
def test_the_halo_is_exactly_what_the_network_reaches() -> None:
    for window in (1, 4, 5, 10):
        config = NetworkConfig(bands=9, classes=4, window=window, spectral_features=16, spatial_features=5)
        network, side, halo = build(config), config.receptive_field, config.halo
        assert side == window + 6
        assert (halo.before, halo.after) == (window // 2 + 3, window - 1 - window // 2 + 3)
        bands = torch.randn(1, 9, side, side, dtype=torch.float64, requires_grad=False)
        valid = torch.ones(1, 1, side, side, dtype=torch.bool)
        before = network(bands, valid).main
        for y, x in ((0, 0), (0, side - 1), (side - 1, 0), (side - 1, side - 1)):
            shifts = []
            for sign in (-1, 1):  # a corner that loses the dilation's maximum has no say
                changed = bands.clone()
                changed[0, :, y, x] += 10 * sign * torch.randn(9, dtype=torch.float64)
                shifts.append(not torch.equal(network(changed, valid).main, before))
            assert any(shifts), "the corner of the field counts"


@pytest.mark.parametrize("values_at_a_time", [1, 1 << 20])
def test_the_dilation_has_the_gradient_of_a_maximum(
    monkeypatch: pytest.MonkeyPatch, values_at_a_time: int
) -> None:
    for limit in ("_STRIP_VALUES", "_BACKWARD_VALUES"):
        monkeypatch.setattr(f"cssd_geo.compute.dilation.{limit}", values_at_a_time)
    torch.manual_seed(0)
    values = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    element = torch.rand(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Dilation.apply, (values, element))


@pytest.mark.parametrize("on_a_gpu", [False, True])
def test_dilation_of_bfloat16_is_rounded_once(monkeypatch: pytest.MonkeyPatch, *, on_a_gpu: bool) -> None:
    if on_a_gpu:
        monkeypatch.setattr("cssd_geo.compute.dilation._pass_type", lambda values: values.dtype)
        monkeypatch.setattr("cssd_geo.compute.kernels._LIBRARY", None)
    monkeypatch.setattr("cssd_geo.compute.dilation._STRIP_VALUES", 100)
    values, element = torch.randn(2, 8, 7, 5).to(torch.bfloat16), torch.rand(3, 3).to(torch.bfloat16)
    values = values.contiguous(memory_format=torch.channels_last)
    exact = dilate(values.float(), element.float(), torch.empty(2, 8, 5, 3))
    assert torch.equal(dilate(values, element, torch.empty(2, 8, 5, 3, dtype=torch.bfloat16)), exact.bfloat16())


def test_masked_statistics_are_those_of_the_valid_pixels() -> None:
    torch.manual_seed(0)
    values, valid = torch.randn(4, 3, 5, 6), torch.rand(4, 1, 5, 6) > 0.4
    norm, plain = _MaskedNorm(3).train(), torch.nn.BatchNorm1d(3).train()
    pixels = values.permute(0, 2, 3, 1)[valid[:, 0]]
    found = norm.masked(values, valid)
    torch.testing.assert_close(found.permute(0, 2, 3, 1)[valid[:, 0]], plain(pixels))
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)


@torch.inference_mode()
def test_sharp_pooling_follows_the_centre() -> None:
    """With very sharp weights only pixels like the centre vote; as published they vote by their cosine."""
    config = NetworkConfig(bands=6, classes=2, spectral_features=64, spatial_features=4, sharpness=1e6)
    cosines = torch.tensor([1.0, 0.999, 0.5, -1.0], dtype=torch.float64)
    weights = build(config)._pooling_weight(cosines)
    assert weights[0] == 1
    assert float(weights[1:].max()) < 1e-100
    assert torch.equal(build(config.as_published())._pooling_weight(cosines), cosines)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"window": 0}, "window"),
        ({"bands": 0}, "bands"),
        ({"classes": 2.5}, "classes"),
        ({"activation": 1}, "activation"),
        ({"sharpness": -1.0}, "sharpness"),
        ({"sharpness": float("nan")}, "sharpness"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(change: dict[str, float], word: str) -> None:
    values = NetworkConfig(bands=9, classes=4).to_json() | change
    with pytest.raises(InputError, match=word):
        NetworkConfig.from_json(values)
