"""Compiled kernels = torch, for any shape, type and number of threads; what they cannot do they leave alone."""

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute import kernels
from cssd_geo.compute.dilation import Dilation, dilate

KINDS = [torch.float64, torch.float32, torch.bfloat16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1 / 128}
"""Relative: a bfloat16 is a 256th away at most; two of them that were rounded differently, twice that."""
needs_kernels = pytest.mark.skipif(not kernels.compiled(), reason="installed without a compiler")

kinds = st.sampled_from(KINDS)
shapes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 70))
seeds = st.integers(0, 99)


@pytest.fixture(autouse=True, scope="module", params=[1, 3], ids=["one thread", "three threads"])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(usual)


@contextmanager
def without_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_LIBRARY", None)
        yield


def drawn(seed: int, *shape: int, kind: torch.dtype = torch.float64) -> Tensor:
    """Values as features have them; some are far from zero, as where an exponential ends."""
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(*shape, generator=random, dtype=torch.float64)
    return (values * torch.tensor([1.0, 3.0, 40.0])[torch.randint(3, shape, generator=random)]).to(kind)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """`expected` is float64."""
    allowed = TOLERANCE[found.dtype]
    torch.testing.assert_close(found.double(), expected, rtol=allowed, atol=allowed)


@pytest.mark.parametrize("compiler", ["g++-11", "clang++"])
def test_other_compilers_build_them_under_the_names_that_are_called(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    source, library = Path(kernels.__file__).with_name("kernels.cpp"), tmp_path / "kernels.so"
    subprocess.run([compiler, "-O1", "-fPIC", "-shared", source, "-o", library], check=True)
    assert hasattr(ctypes.CDLL(str(library)), "gelu_float32_bfloat16")


def test_they_are_compiled_where_there_is_a_compiler() -> None:
    if shutil.which("g++") is None or not sys.platform.startswith("linux"):
        pytest.skip("no g++ here")
    assert kernels.compiled(), "install the package again: a compiler is there"


@needs_kernels
@given(
    shape=shapes,
    types=st.sampled_from([*zip(KINDS, KINDS, strict=True), (torch.float32, torch.bfloat16)]),
    more=st.integers(0, 5),
    seed=seeds,
)
def test_gelu(shape: tuple[int, int, int], types: tuple[torch.dtype, torch.dtype], more: int, seed: int) -> None:
    """Also of the first features of longer pixels."""
    wide = drawn(seed, *shape[:2], shape[2] + more, kind=types[0])
    values, out = wide[..., : shape[2]], torch.full(shape, torch.nan, dtype=types[1])
    assert kernels.gelu(values, out)
    assert_close(out, functional.gelu(values.double()))


@needs_kernels
@given(shape=shapes, kind=kinds, seed=seeds)
def test_gate(shape: tuple[int, int, int], kind: torch.dtype, seed: int) -> None:
    values, logits = drawn(seed, *shape, kind=kind), drawn(seed + 1, *shape, kind=kind)
    out = torch.full(shape, torch.nan, dtype=kind)
    assert kernels.gate(values, logits, out)
    assert_close(out, values.double() * logits.double().sigmoid())


@needs_kernels
@given(shape=shapes, kind=kinds, seed=seeds)
def test_dilation_to_the_last_bit(shape: tuple[int, int, int], kind: torch.dtype, seed: int) -> None:
    rows, columns, features = shape
    values = drawn(seed, rows + 2, columns + 2, features, kind=kind)
    element = torch.rand(3, 3, generator=torch.Generator().manual_seed(seed)).to(kind)
    found, expected = (torch.full(shape, torch.nan, dtype=kind) for _ in range(2))
    assert kernels.dilate(values, element, found)
    with without_kernels():
        dilate(values[None].permute(0, 3, 1, 2), element, expected[None].permute(0, 3, 1, 2))
    assert torch.equal(found, expected)


@needs_kernels
@given(shape=shapes, images=st.integers(1, 4), kind=st.sampled_from(KINDS[:2]), seed=seeds)
def test_the_way_back_through_the_dilation(
    shape: tuple[int, int, int], images: int, kind: torch.dtype, seed: int
) -> None:
    """Also where several neighbours win."""
    rows, columns, features = shape
    values = drawn(seed, images, features, rows + 2, columns + 2, kind=kind)
    values[:, ::2] = values[:, ::2].sign()
    element = torch.randint(1, 4, (3, 3), generator=torch.Generator().manual_seed(seed)).to(kind) / 4
    gradients = drawn(seed + 1, images, features, rows, columns, kind=kind)

    def flown_back() -> tuple[Tensor, ...]:
        inputs = [values.clone().requires_grad_(), element.clone().requires_grad_()]
        dilated = Dilation.apply(*inputs)  # type: ignore[no-untyped-call]
        return torch.autograd.grad(dilated, inputs, gradients)

    found = flown_back()
    with without_kernels():
        expected = flown_back()
    sizes = values.abs().sum().item() * gradients.abs().max().item()  # what the sums for the element are made of
    for one, other, scale in zip(found, expected, (gradients.abs().max().item(), sizes), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=9 * TOLERANCE[kind] * scale)


@needs_kernels
@given(
    shape=shapes, kind=kinds, window=st.integers(1, 9), step=st.integers(1, 8), cut=st.integers(0, 2), seed=seeds
)
def test_units(
    shape: tuple[int, int, int], *, kind: torch.dtype, window: int, step: int, cut: int, seed: int
) -> None:
    """In groups of columns, the last of which may reach beyond what there is; zero stays zero."""
    rows, columns, features = shape
    wide = drawn(seed, rows, columns + window - 1 + cut, features, kind=kind)
    wide[:, ::3] = 0
    values, blocks = wide[:, cut:], -(-columns // step)
    out = torch.full((rows, step + window - 1, blocks, features), torch.nan, dtype=kind)
    assert kernels.write_units(values, out, step=step, length=1.7)
    expected = torch.zeros(rows, step * blocks + window - 1, features, dtype=torch.float64)
    expected[:, : values.shape[1]] = 1.7 * functional.normalize(values.double(), dim=2)
    groups = expected.unfold(1, step + window - 1, step)  # (r,J,C,n)
    assert_close(out, groups.permute(0, 3, 1, 2))


@needs_kernels
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 19),
    classes=st.integers(1, 9),
    kind=kinds,
    window=st.integers(1, 6),
    seed=seeds,
)
def test_pooling(rows: int, columns: int, *, classes: int, kind: torch.dtype, window: int, seed: int) -> None:
    """Sums of votes over the neighbours that are there, by the sum of their weights."""
    reach_rows, reach, blocks, computed = (
        rows + window - 1,
        window + 7,
        -(-columns // 8),
        torch.promote_types(kind, torch.float32),
    )
    random = torch.Generator().manual_seed(seed)
    products = torch.randn(reach_rows, reach, blocks, rows * 8, generator=random).to(kind)
    pattern = torch.randn(reach_rows * reach, rows * 8, generator=random).to(computed)
    votes = torch.randn(reach_rows, columns + window - 1, classes + 1, generator=random).to(kind)
    votes[..., -1] = 1
    votes[torch.rand(votes.shape[:2], generator=random) < 0.2] = 0
    out = torch.full((rows, columns, classes), torch.nan, dtype=computed)
    assert kernels.pool(products, pattern, votes, out, step=8)
    weight = torch.exp(products.double() + pattern.double().view(reach_rows, reach, 1, rows * 8))
    there = functional.pad(votes.double(), (0, 0, 0, 8 * blocks - columns)).unfold(1, reach, 8)  # (.,J,K+1,n)
    sums = torch.einsum("yxjb,yjkx->jbk", weight, there).view(blocks, rows, 8, classes + 1)
    mean = sums[..., :-1] / sums[..., -1:].clamp_min(1e-12)
    expected = mean.transpose(0, 1).flatten(1, 2)[:, :columns]
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize("kind", [torch.float16, torch.int32])
def test_other_types_are_left_alone(kind: torch.dtype) -> None:
    values, out = torch.ones(4, 5, 6, dtype=kind), torch.zeros(4, 5, 6, dtype=kind)
    assert not kernels.gelu(values, out)
    assert not kernels.gate(values, values, out)
    assert not kernels.dilate(values, torch.ones(3, 3), out[:2, :3])
    assert not bool(out.any())


@needs_kernels
def test_what_does_not_lie_side_by_side_is_left_alone() -> None:
    values = torch.ones(6, 5, 4).permute(2, 1, 0)  # (4,5,6), channels first in memory
    out = torch.zeros(4, 5, 6)
    assert not kernels.gelu(values, out)
    assert not kernels.gate(values, values, out)
    assert not kernels.dilate(values, torch.ones(3, 3), out[:2, :3])
    assert not kernels.write_units(values, out.unsqueeze(2), step=1, length=1.0)
    assert not kernels.gelu(torch.ones(4, 5, 6, device="meta"), out), "nor what is on another device"
    assert not kernels.pool(torch.ones(1, 64, 1, 64), torch.ones(64, 64), torch.ones(1, 64, 2), out[:1], step=64)
    assert not bool(out.any())


def test_without_a_compiler_torch_is_asked() -> None:
    values, out = torch.ones(4, 5, 6), torch.zeros(4, 5, 6)
    with without_kernels():
        assert not kernels.compiled()
        assert not kernels.gelu(values, out)
        assert not kernels.gate(values, values, out)
        assert not kernels.dilate(values, torch.ones(3, 3), out[:2, :3])
    assert not bool(out.any())
