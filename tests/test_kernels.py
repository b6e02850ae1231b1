"""Compiled loops of the training = torch, for any shape, type and number of threads; the rest they leave alone."""

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

from cssd_geo.compute import kernels
from cssd_geo.compute.dilation import Dilation, dilate

KINDS = [torch.float64, torch.float32, torch.bfloat16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1 / 128}
"""Relative: a bfloat16 is a 256th away at most; two of them that were rounded differently, twice that."""
needs_kernels = pytest.mark.skipif(not kernels.compiled(), reason="installed without a compiler")

kinds = st.sampled_from(KINDS)
shapes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 70))
seeds = st.integers(0, 99)


pytestmark = pytest.mark.usefixtures("each_processor")


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
    subprocess.run([compiler, "-std=gnu++17", "-O1", "-fPIC", "-shared", source, "-o", library], check=True)
    assert hasattr(ctypes.CDLL(str(library)), "classify_bfloat16")


def test_they_are_compiled_where_there_is_a_compiler() -> None:
    if shutil.which("g++") is None or not sys.platform.startswith("linux"):
        pytest.skip("no g++ here")
    assert kernels.compiled(), "install the package again: a compiler is there"


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
@pytest.mark.parametrize("kind", [torch.float16, torch.int32])
def test_other_types_are_left_alone(kind: torch.dtype) -> None:
    values, out = torch.ones(4, 5, 6, dtype=kind), torch.zeros(4, 5, 6, dtype=kind)
    assert not kernels.dilate(values, torch.ones(3, 3), out[:2, :3])
    assert not bool(out.any())


@needs_kernels
def test_what_does_not_lie_side_by_side_is_left_alone() -> None:
    values = torch.ones(6, 5, 4).permute(2, 1, 0)  # (4,5,6), channels first in memory
    out = torch.zeros(4, 5, 6)
    assert not kernels.dilate(values, torch.ones(3, 3), out[:2, :3])
    away = torch.ones(4, 5, 6, device="meta")
    assert not kernels.dilate(away, torch.ones(3, 3), out[:2, :3]), "nor on another device"
    assert not bool(out.any())


def test_without_a_compiler_torch_is_asked() -> None:
    values, out = torch.ones(4, 5, 6), torch.zeros(4, 5, 6)
    with without_kernels():
        assert not kernels.compiled()
        assert not kernels.dilate(values, torch.ones(3, 3), out[:2, :3])
    assert not bool(out.any())
