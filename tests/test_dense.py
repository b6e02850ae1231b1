"""Dense = patch by patch, in float64, however a tile is cut, stored or masked; and nearly so in fewer digits."""

import logging
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from dense_cases import CONFIG, Case, assert_equal, build, case_of, cases, dense, patch_by_patch, ready, with_junk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute import kernels
from cssd_geo.dense import DenseNetwork, _panels
from cssd_geo.network import Logits, NetworkConfig

pytestmark = pytest.mark.usefixtures("kernels_or_torch")
pieces = st.tuples(st.integers(1, 40), st.integers(1, 200))
"""Columns of a panel and pixels of a band."""


@contextmanager
def cut_into(columns: int, pixels: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cssd_geo.dense._PANEL_COLUMNS", columns)
        patch.setattr("cssd_geo.dense._STRIP_PIXELS", pixels)
        patch.setattr("cssd_geo.compute.strips._LEAST_ROWS", 4)
        patch.setattr("cssd_geo.compute.dilation._STRIP_VALUES", 1)
        yield


@torch.inference_mode()
@given(case=cases(13, 19))
@settings(max_examples=60, deadline=None)
def test_dense_equals_patch_by_patch(case: Case) -> None:
    found = dense(case)
    assert found.main.shape == found.spectral.shape == (*case.usable.shape, case.network.config.classes)
    assert found.main.dtype == found.spectral.dtype == torch.float64
    assert_equal(case.usable, found, patch_by_patch(case))


@torch.inference_mode()
@given(case=cases(40, 60), pieces=pieces)
@settings(max_examples=40, deadline=None)
def test_panels_and_bands_of_any_size_lead_to_the_same(case: Case, pieces: tuple[int, int]) -> None:
    with cut_into(*pieces):
        found = dense(case)
    assert_equal(case.usable, found, dense(case))


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@given(case=cases(17, 23), cut=st.tuples(st.integers(1, 16), st.integers(1, 22)))
@settings(max_examples=40, deadline=None)
def test_tiled_equals_whole(dtype: torch.dtype, case: Case, cut: tuple[int, int]) -> None:
    """To the last bit, where the kernels multiply: what torch's products are depends on how many there are."""
    classify, halo, (height, width) = ready(case, dtype), case.network.config.halo.total, case.usable.shape
    whole = classify(case.stored, case.valid)
    allowed = 0.0 if kernels.compiled() else 1e-10 if dtype == torch.float64 else 1e-4
    below, beyond = min(cut[0], height - 1), min(cut[1], width - 1)
    for rows in (slice(0, below or height), slice(below, height)):
        for cols in (slice(0, beyond or width), slice(beyond, width)):
            padded = slice(rows.start, rows.stop + halo), slice(cols.start, cols.stop + halo)
            found = classify(case.stored[:, *padded], case.valid[padded], at=(rows.start, cols.start))
            expected = Logits(*(part[rows, cols] for part in whole))
            assert_equal(case.usable[rows, cols], found, expected, atol=allowed)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@given(case=cases(12, 15), pieces=pieces)
@settings(max_examples=10, deadline=None)
def test_what_is_not_valid_has_no_influence(dtype: torch.dtype, case: Case, pieces: tuple[int, int]) -> None:
    """To the last bit: not even through a product with zero."""
    other = replace(case, stored=torch.where(case.valid, case.stored, 1.0))
    with cut_into(*pieces):
        assert_equal(case.usable, dense(case, dtype), dense(other, dtype), atol=0.0)


@torch.inference_mode()
def test_a_tile_without_a_valid_pixel_passes() -> None:
    case = case_of(CONFIG, 9, 7, holes=1.0)
    assert not case.valid.any()
    assert all(part.shape == (9, 7, 4) for part in dense(case))


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "BSQ": lambda cube: cube.contiguous(),
    "BIP": lambda cube: cube.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    "BIL": lambda cube: cube.permute(1, 0, 2).contiguous().permute(1, 0, 2),
    "part of a larger cube": lambda cube: functional.pad(cube, (5, 2, 1, 3, 2, 1), value=77.0)[2:-1, 1:-3, 5:-2],
    "every second column": lambda cube: cube.repeat_interleave(2, dim=2)[:, :, 1::2],
}


@torch.inference_mode()
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_layout_in_memory_does_not_matter(layout: str, dtype: torch.dtype) -> None:
    case = case_of(CONFIG, 21, 18)
    arranged = replace(case, stored=LAYOUTS[layout](case.stored.to(dtype)))
    with cut_into(11, 150):
        found = dense(arranged, dtype)
    assert_equal(case.usable, found, dense(case, dtype), atol=1e-10 if dtype == torch.float64 else 1e-4)
    torch.testing.assert_close(arranged.stored, case.stored.to(dtype), rtol=0.0, atol=0.0, equal_nan=True)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.uint16, torch.int32])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_whole_numbers_are_what_they_say(kind: torch.dtype, dtype: torch.dtype) -> None:
    """Over the range of the type, so that no sign is lost."""
    case, span = case_of(CONFIG, 21, 18), 1 << 24  # beyond this not every whole number is one of float32
    low, high = max(torch.iinfo(kind).min, -span), min(torch.iinfo(kind).max, span)
    numbers = torch.randint(low, high + 1, case.stored.shape, generator=torch.Generator().manual_seed(1))
    numbers[:, 10, 10], numbers[:, 10, 11] = low, high
    real = replace(case, stored=numbers.double(), gain=4 * case.gain.sign() / (high - low))
    whole = replace(real, stored=numbers.to(kind))
    assert_equal(case.usable, dense(whole, dtype), dense(real, dtype))
    if dtype == torch.float64:
        assert_equal(case.usable, dense(whole), patch_by_patch(real))


@torch.inference_mode()
@pytest.mark.parametrize("window", [1, 4, 9])
@pytest.mark.parametrize("sharpness", [60.0, 90.0, 200.0, 1e4])
def test_sharp_pooling_is_exact_and_finite(window: int, sharpness: float) -> None:
    """Pixels beyond the window have no say, not even those whose spectrum is that of the centre."""
    case = case_of(replace(CONFIG, window=window, sharpness=sharpness), 14, 19)
    columns = torch.arange(case.stored.shape[2]) // 3 % 2  # stripes of two spectra
    two = torch.tensor([[-1.0], [1.0]]).double() * torch.randn(9, generator=torch.Generator().manual_seed(2))
    stored = ((two[columns].T[:, None] - case.bias[:, None, None]) / case.gain[:, None, None]).expand_as(
        case.stored
    )
    case = with_junk(replace(case, stored=stored))
    exact = patch_by_patch(case)
    assert float(exact.main[case.usable].std()) > 0.05, "the votes differ"
    assert_equal(case.usable, dense(case), exact)
    assert_equal(case.usable, dense(case, torch.float32), exact, atol=1e-3)


@torch.inference_mode()
def test_faint_features_have_a_direction_too() -> None:
    case = case_of(replace(CONFIG, activation=False), 14, 19)
    for name, parameter in case.network.named_parameters():
        if name.startswith("spectral."):
            parameter.data *= 1e-8
        if name == "spatial.weight":
            parameter.data *= 1e8
    assert_equal(case.usable, dense(case), patch_by_patch(case))


@torch.inference_mode()
def test_float32_labels_differ_only_at_ties() -> None:
    case = case_of(NetworkConfig(bands=9, classes=4, spectral_features=64, spatial_features=16), 40, 31, 5)
    all_exact, all_rounded = dense(case), dense(case, torch.float32)
    assert all_rounded.main.dtype == all_rounded.spectral.dtype == torch.float32
    assert_equal(case.usable, all_rounded, all_exact, atol=1e-4)
    for exact, rounded in zip(all_exact, all_rounded, strict=True):
        top = exact[case.usable].topk(2).values
        differs = exact[case.usable].argmax(1) != rounded[case.usable].argmax(1)
        assert bool((top[:, 0] - top[:, 1] < 1e-4)[differs].all())


def fields(config: NetworkConfig) -> tuple[Case, Tensor]:
    """Fields of 8 x 8 pixels, one spectrum for each class, far from zero as in scenes; the pixels' classes."""
    generator = torch.Generator().manual_seed(3)
    side = 48 + config.halo.total
    each = torch.randint(config.classes, (side // 8 + 1,) * 2, generator=generator)
    truth = each.repeat_interleave(8, 0).repeat_interleave(8, 1)[:side, :side]
    spectra = torch.randn(config.classes, config.bands, generator=generator)
    normalised = spectra[truth] + 0.2 * torch.randn(side, side, config.bands, generator=generator)
    return Case(
        network=build(config),
        stored=(3000 + 20 * normalised.permute(2, 0, 1)).round().to(torch.int16),
        valid=torch.rand(side, side, generator=generator) > 0.05,
        gain=torch.full((config.bands,), 1 / 20, dtype=torch.float64),
        bias=torch.full((config.bands,), -150.0, dtype=torch.float64),
    ), truth


def train(case: Case, truth: Tensor) -> None:
    """A few steps, enough where classes are easy to tell apart."""
    network, bands = case.network.float().train(), case.normalised.float()
    side, centre = network.config.receptive_field, network.config.halo.before
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(40):
        corners = torch.randint(len(truth) - side, (32, 2)).tolist()
        windows = torch.stack([bands[:, y : y + side, x : x + side] for y, x in corners])
        seen = torch.stack([case.valid[None, y : y + side, x : x + side] for y, x in corners])
        target = torch.stack([truth[y + centre, x + centre] for y, x in corners])
        logits = network(windows, seen)
        optimizer.zero_grad()
        loss = functional.cross_entropy(logits.main, target) + functional.cross_entropy(logits.spectral, target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def test_bfloat16_is_close_and_keeps_the_classes() -> None:
    config = NetworkConfig(bands=12, classes=4, window=4, spectral_features=32, spatial_features=16)
    case, truth = fields(config)
    train(case, truth)
    usable, halo = case.usable, config.halo
    truth = truth[halo.before : -halo.after, halo.before : -halo.after][usable]
    rounded_heads, exact_heads = dense(case, torch.bfloat16), dense(case, torch.float32)
    assert rounded_heads.main.dtype == torch.float32, "votes are rounded, their mean is not"
    exact_opinions = dense(case, torch.float64).spectral[usable]
    off, as_usual = (
        float((heads.spectral[usable] - exact_opinions).abs().max()) for heads in (rounded_heads, exact_heads)
    )
    assert off <= 1.5 * as_usual, "the bands' own product is never rounded to bfloat16"
    for found, expected in zip(rounded_heads[:1], exact_heads[:1], strict=True):
        rounded, exact = found[usable].float(), expected[usable]
        spread = float(exact.max() - exact.min())
        torch.testing.assert_close(rounded, exact, rtol=0.0, atol=0.02 * spread)
        top = exact.topk(2).values
        apart = top[:, 0] - top[:, 1] > 0.04 * spread
        assert float(apart.float().mean()) > 0.9, "most pixels are far from a tie"
        assert float((exact.argmax(1) == truth).float().mean()) > 0.9, "and belong where they are put"
        assert torch.equal(rounded.argmax(1)[apart], exact.argmax(1)[apart])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("published", [False, True])
def test_later_changes_of_the_network_are_not_seen(dtype: torch.dtype, *, published: bool) -> None:
    config = replace(CONFIG, spectral_features=64)
    case = case_of(config.as_published() if published else config, 9, 7)
    case.network.to(dtype)
    classify = ready(case, dtype)
    before = classify(case.stored, case.valid)
    for tensor in [*case.network.parameters(), *case.network.buffers(), case.gain, case.bias]:
        tensor.data.fill_(1)
    assert_equal(case.usable, classify(case.stored, case.valid), before, atol=0.0)


def test_a_network_in_training_classifies_as_at_inference() -> None:
    case = case_of(CONFIG, 9, 7)
    expected, statistics = dense(case), [buffer.clone() for buffer in case.network.buffers()]
    case.network.train()
    found = dense(case)
    assert_equal(case.usable, found, expected, atol=0.0)
    assert case.network.training
    assert all(torch.equal(one, two) for one, two in zip(case.network.buffers(), statistics, strict=True))


@given(height=st.integers(1, 900), width=st.integers(1, 900), most=st.integers(8, 300), wanted=st.integers(1, 64))
def test_panels_cover_each_pixel_once_and_are_as_many_as_are_wanted(
    height: int, width: int, most: int, wanted: int
) -> None:
    """Unless they would be too small."""
    panels, seen = _panels(height, width, most, wanted), torch.zeros(height, width, dtype=torch.int32)
    for panel in panels:
        seen[panel] += 1
        assert panel[1].stop - panel[1].start <= -(-most // 8) * 8
        assert panel[0].stop - panel[0].start >= min(height, 32)
    assert bool((seen == 1).all())
    if width >= 128 * wanted or height >= 64 * wanted:
        assert len(panels) >= wanted / 2


@settings(max_examples=40, deadline=None)
@given(
    case=cases(24, 30),
    threads=st.integers(2, 9),
    least=st.integers(1, 9),
    piece=pieces,
)
def test_threads_side_by_side_make_the_same_of_a_tile(
    case: Case, threads: int, least: int, piece: tuple[int, int]
) -> None:
    expected, usual = dense(case), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.MonkeyPatch.context() as patch, cut_into(*piece):
            patch.setattr("cssd_geo.dense._LEAST_PANEL_COLUMNS", least)
            patch.setattr("cssd_geo.dense._LEAST_PANEL_ROWS", least)
            assert_equal(case.usable, dense(case), expected)
    finally:
        torch.set_num_threads(usual)


def test_tiles_that_are_computed_side_by_side_share_the_same_threads() -> None:
    """So that narrow tiles, at the edge of a scene, take no working memory of their own."""
    cases = [case_of(CONFIG, 24, width) for width in (9, 60, 9, 60, 12)]
    network, seen, usual = ready(cases[0]), set[int](), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as callers:
            patch.setattr("cssd_geo.dense._LEAST_PANEL_COLUMNS", 16)

            def classify(case: Case) -> None:
                network.each_panel(case.stored, case.valid, lambda *_: seen.add(threading.get_ident()))

            list(callers.map(classify, cases))
    finally:
        torch.set_num_threads(usual)
    assert 1 <= len(seen) <= 2


def test_working_memory_does_not_travel() -> None:
    case = case_of(CONFIG, 40, 30)
    network = ready(case)
    found = network(case.stored, case.valid)
    assert network._idle
    there = pickle.loads(pickle.dumps(network))  # noqa: S301 - our own
    assert not there._idle
    assert_equal(case.usable, there(case.stored, case.valid), found)


class Scarce:
    """A GPU, which would take a tile at once, but runs out of memory with more than some pixels at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, enough_for: int) -> None:
        self.tried: list[int] = []
        each_panel = DenseNetwork._each_panel

        def each_panel_if_small(
            network: DenseNetwork, stored: Tensor, valid: Tensor, take: Any, **how: Any
        ) -> None:
            self.tried.append(network._strip_pixels)
            if max(network._strip_pixels, network._panel_columns) > enough_for:
                raise torch.OutOfMemoryError
            each_panel(network, stored, valid, take, **how)

        monkeypatch.setattr(DenseNetwork, "_each_panel", each_panel_if_small)
        monkeypatch.setattr("cssd_geo.dense._FEWEST_PIXELS", 100)
        monkeypatch.setattr("cssd_geo.dense._PANEL_COLUMNS", sys.maxsize)
        monkeypatch.setattr("cssd_geo.dense._STRIP_PIXELS", sys.maxsize)


def test_out_of_memory_goes_on_with_smaller_pieces(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case = case_of(CONFIG, 40, 30)
    expected, pixels = dense(case), case.valid.numel()
    scarce, classify = Scarce(monkeypatch, enough_for=300), ready(case)
    with caplog.at_level(logging.WARNING, "cssd_geo.dense"):
        found = classify(case.stored, case.valid)
        again = classify(case.stored, case.valid)
    assert scarce.tried[1:] == [pixels // 2, pixels // 4, pixels // 8, pixels // 8], "it stays with what went well"
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == 3
    assert all("out of memory" in text for text in warned)
    assert f"{pixels // 8:,} pixels" in warned[-1]
    assert_equal(case.usable, found, expected)
    assert_equal(case.usable, again, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float32_is_not_shortened_on_a_gpu(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """Else convolutions would take 10 of its 23 bits there, whatever was set meanwhile."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    case, allowed = case_of(CONFIG, 20, 20), []
    network = DenseNetwork(case.network, torch.ones(9), torch.zeros(9), dtype=dtype, device=torch.device("cpu"))
    monkeypatch.setattr(network, "device", torch.device("cuda"))
    monkeypatch.setattr(network, "_each_panel", lambda *_, **__: allowed.append(torch.backends.cudnn.allow_tf32))
    network.each_panel(case.stored, case.valid, lambda *_: None)
    assert allowed == [dtype != torch.float32]


def test_out_of_memory_is_the_end_where_nothing_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(CONFIG, 40, 30)
    scarce, pixels = Scarce(monkeypatch, enough_for=0), case.valid.numel()
    with pytest.raises(torch.OutOfMemoryError):
        dense(case)
    assert scarce.tried[1:] == [pixels // 2, pixels // 4, pixels // 8, pixels // 16]
    assert pixels // 32 < 100 <= pixels // 16
