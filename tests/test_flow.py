"""The compiled network on each generation of processors that this one can stand in for."""

import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from dense_cases import CONFIG, Case, assert_equal, case_of, dense, patch_by_patch, ready
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute import kernels
from cssd_geo.compute.flow import Flow
from cssd_geo.network import Logits, NetworkConfig

pytestmark = [
    pytest.mark.usefixtures("each_processor"),
    pytest.mark.skipif(not kernels.compiled(), reason="installed without a compiler"),
]
KINDS = [torch.float64, torch.float32, torch.bfloat16]
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.05}
"""Relative to the largest logit, in float32 and bfloat16."""

configs = st.builds(
    NetworkConfig,
    strided_spectral=st.just(False),
    bands=st.integers(1, 70),
    classes=st.integers(1, 20),
    window=st.integers(1, 11),
    spectral_features=st.integers(1, 40).map(lambda n: 2 * n),
    spatial_features=st.integers(1, 20).map(lambda n: 2 * n),
    activation=st.booleans(),
    discriminant=st.booleans(),
    sharpness=st.sampled_from([None, 0.3, 3.0, 20.0]),
)
"""Of features so many that all types can be multiplied."""


@st.composite
def cases(draw: st.DrawFn, height: int, width: int) -> Case:
    """Tiles of up to that many pixels, without the halo."""
    size = draw(st.integers(1, height)), draw(st.integers(1, width))
    holes = draw(st.sampled_from([0.0, 0.01, 0.2, 0.8]))
    return case_of(draw(configs), *size, seed=draw(st.integers(0, 999)), holes=holes)


@torch.inference_mode()
@given(case=cases(7, 9))
@settings(max_examples=20, deadline=None)
def test_in_float64_it_is_what_the_network_is_patch_by_patch(case: Case) -> None:
    assert isinstance(ready(case)._way, Flow)
    assert_equal(case.usable, dense(case), patch_by_patch(case))


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@given(case=cases(30, 90))
@settings(max_examples=20, deadline=None)
def test_with_fewer_digits_it_is_close(kind: torch.dtype, case: Case) -> None:
    assert isinstance(ready(case, kind)._way, Flow)
    found, expected = dense(case, kind), dense(case)
    for one, other in zip(found, expected, strict=True):
        size = float(other[case.usable].abs().max()) if bool(case.usable.any()) else 0.0
        allowed = TOLERANCE[kind] * max(size, 1.0)
        torch.testing.assert_close(one[case.usable].double(), other[case.usable], rtol=0.0, atol=allowed)


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
@given(
    case=cases(40, 90),
    cut=st.tuples(st.integers(0, 39), st.integers(0, 89)),
    at=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
)
@settings(max_examples=20, deadline=None)
def test_a_part_is_the_same_to_the_last_bit(
    kind: torch.dtype, case: Case, cut: tuple[int, int], at: tuple[int, int]
) -> None:
    """As long as it knows where in the scene it lies."""
    network, (height, width) = ready(case, kind), case.usable.shape
    top, left = min(cut[0], height - 1), min(cut[1], width - 1)
    whole = network(case.stored, case.valid, at=at)
    part = network(case.stored[:, top:, left:], case.valid[top:, left:], at=(at[0] + top, at[1] + left))
    expected = Logits(*(head[top:, left:] for head in whole))
    assert_equal(case.usable[top:, left:], part, expected, atol=0.0)


STORED = [
    *(torch.uint8, torch.int8, torch.uint16, torch.int16, torch.uint32, torch.int32, torch.uint64, torch.int64),
    *(torch.float16, torch.float32, torch.float64),
]


@torch.inference_mode()
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 150)),
    kind=st.sampled_from(STORED),
    order=st.permutations([0, 1, 2]),
    cut=st.integers(0, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_stored_values_may_be_of_any_type_and_lie_in_any_order(
    size: tuple[int, int, int], *, kind: torch.dtype, order: list[int], cut: int, seed: int
) -> None:
    """And be a part of a tile."""
    config = replace(CONFIG, bands=size[0], window=1)
    shape = size[0], *(n + config.halo.total for n in size[1:])
    there = [shape[axis] + (cut if axis else 0) for axis in order]
    numbers = torch.randint(0, 120, there, generator=torch.Generator().manual_seed(seed))
    stored = numbers.permute([order.index(axis) for axis in range(3)])[:, cut:, cut:]
    case = replace(case_of(config, *size[1:], seed=seed, holes=0.0), stored=stored.to(kind))
    plain = replace(case, stored=stored.double().contiguous())
    assert_equal(case.usable, dense(case, torch.float32), dense(plain, torch.float32), atol=0.0)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("whole", [True, False], ids=["whole numbers", "fractions"])
def test_products_of_the_bands_are_as_exact_as_float32(kind: torch.dtype, *, whole: bool) -> None:
    """Small differences of large numbers: what matters is left where bands are alike."""
    config = NetworkConfig(bands=203, classes=21, window=2, spectral_features=16, spatial_features=4)
    case, random = case_of(config, 6, 40, holes=0.0), torch.Generator().manual_seed(3)
    bright = torch.rand(1, *case.valid.shape, generator=random) * 30_000
    stored = bright + torch.rand(203, *case.valid.shape, generator=random) * 50
    stored = stored.round() if whole else stored / 30_000
    weight = torch.randn(21, 203, generator=random) * 10 ** (4 * torch.rand(21, 203, generator=random) - 2)
    weight = (weight - weight.mean(1, keepdim=True)).double()
    bias = torch.randn(21, generator=random).double()
    case.network.set_discriminant(weight, bias)
    ones, zeros = torch.ones(203).double(), torch.zeros(203).double()
    found = dense(replace(case, stored=stored, gain=ones, bias=zeros), kind).spectral
    before, after = config.halo.before, config.halo.after
    pixels = stored[:, before:-after, before:-after].permute(1, 2, 0).double()
    exact, size = functional.linear(pixels, weight, bias), functional.linear(pixels, weight.abs())
    wrong = ((found - exact) / size).abs()
    assert float(wrong.square().mean().sqrt()) < 2**-24
    assert float(wrong.max()) < 2**-21


@torch.inference_mode()
def test_torch_may_use_the_processors_tiles_in_between() -> None:
    """AMX has one set of them for each thread, which whoever multiplies shapes anew."""
    random, case = torch.Generator().manual_seed(1), case_of(CONFIG, 6, 40)
    case = case_of(replace(CONFIG, spectral_features=70, spatial_features=20), 6, 40)
    pixels = torch.randn(150, 70, generator=random).bfloat16()
    weight = torch.randn(40, 70, generator=random).bfloat16()
    network, alone = ready(case, torch.bfloat16), functional.linear(pixels, weight)
    first = network(case.stored, case.valid)
    for _ in range(3):
        assert_equal(case.usable, network(case.stored, case.valid), first, atol=0.0)
        assert torch.equal(functional.linear(pixels, weight), alone)


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_laid_out_anew_for_the_processor_that_it_has_travelled_to(
    kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_of(replace(CONFIG, spatial_features=6), 9, 14)
    here = ready(case, kind)
    before, expected = len(pickle.dumps(here)), here(case.stored, case.valid)
    sent = pickle.dumps(here)
    assert len(sent) == before
    monkeypatch.setattr(kernels, "_LIBRARY", kernels.load(""))
    other = pickle.loads(sent)  # noqa: S301 - ours
    assert_equal(case.usable, other(case.stored, case.valid), expected, atol=TOLERANCE[kind])
    monkeypatch.setattr(kernels, "_LIBRARY", None)
    by_torch = pickle.loads(sent)  # noqa: S301 - ours
    assert not isinstance(by_torch._way, Flow)
    assert_equal(case.usable, by_torch(case.stored, case.valid), expected, atol=TOLERANCE[kind])


@torch.inference_mode()
def test_bfloat16_of_odd_features_is_left_to_torch() -> None:
    """As processors multiply two at a time."""
    case = case_of(replace(CONFIG, spectral_features=17), 6, 7)
    assert not isinstance(ready(case, torch.bfloat16)._way, Flow)
    assert isinstance(ready(case, torch.float32)._way, Flow)
    assert_equal(case.usable, dense(case, torch.bfloat16), dense(case), atol=0.3)


@torch.inference_mode()
def test_extreme_spectra_lead_to_what_is_finite() -> None:
    """GELUs and gates end where their exponentials do."""
    case = case_of(CONFIG, 8, 9, holes=0.0)
    case = replace(case, stored=case.stored * 1e4)
    for head in dense(case, torch.float32):
        assert bool(head.isfinite().all())
    assert_equal(case.usable, *(relative(dense(case, kind), case) for kind in KINDS[:2]), atol=1e-4)


def relative(heads: Logits, case: Case) -> Logits:
    """To the largest of the exact logits."""
    return Logits(*(head / whole.abs().max() for head, whole in zip(heads, dense(case), strict=True)))


def test_memory_of_more_than_two_gigabytes_is_counted() -> None:
    """What a panel so wide would take: nothing is computed."""
    flow = ready(case_of(CONFIG, 3, 4))._way
    assert isinstance(flow, Flow)
    narrow, wide = flow.working_bytes(1_000_000), flow.working_bytes(2_000_000)
    assert wide > 2**32
    assert 1.99 < wide / narrow < 2.01


@torch.inference_mode()
@pytest.mark.parametrize("kind", KINDS)
def test_it_writes_nowhere_but_to_its_memory(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has guards around it here, which stay as they are."""
    guard, filled = 4096, 0xA5
    rooms: list[Tensor] = []

    def take(_: Any, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        size = math.prod(shape) * like.element_size()
        room = torch.full((size + 2 * guard,), filled, dtype=torch.uint8)
        rooms.append(room)
        return room[guard : guard + size].view(like.dtype).view(shape)

    monkeypatch.setattr("cssd_geo.compute.rows.Buffer.take", take)
    for height, width, seed in ((1, 1, 0), (5, 67, 1), (23, 16, 2), (9, 130, 3)):
        case = case_of(replace(CONFIG, spatial_features=6), height, width, seed=seed)
        network = ready(case, kind)
        network._classify(case.stored, case.valid, network._way.memory(), 0, (seed, seed))
    assert len(rooms) == 12
    assert all(bool((part == filled).all()) for room in rooms for part in (room[:guard], room[-guard:]))
