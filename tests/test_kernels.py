"""Compiled kernels = torch, for any shape, type and number of threads; what they cannot do they leave alone."""

import ctypes
import pickle
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

from cssd_geo.compute import kernels, panels
from cssd_geo.compute.convolution import Convolution
from cssd_geo.compute.dilation import Dilation, dilate
from cssd_geo.compute.pooling import Pooling
from cssd_geo.compute.projection import Projection

KINDS = [torch.float64, torch.float32, torch.bfloat16]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 1 / 128}
"""Relative: a bfloat16 is a 256th away at most; two of them that were rounded differently, twice that."""
needs_kernels = pytest.mark.skipif(not kernels.compiled(), reason="installed without a compiler")

kinds = st.sampled_from(KINDS)
shapes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 70))
seeds = st.integers(0, 99)


FASTEST = (*kernels.generations(), "")[0]


@pytest.fixture(
    autouse=True,
    scope="module",
    params=[(FASTEST, 3), *((each, 1) for each in kernels.generations() or [FASTEST])],
    ids=lambda each: f"{each[0].lstrip('_') or 'any'} processor, {each[1]} threads",
)
def _processor(request: pytest.FixtureRequest) -> Iterator[None]:
    """As on each generation of processors that this one is or can stand in for."""
    usual, (generation, threads) = torch.get_num_threads(), request.param
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_LIBRARY", kernels.load(generation))
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
    subprocess.run([compiler, "-std=gnu++17", "-O1", "-fPIC", "-shared", source, "-o", library], check=True)
    assert hasattr(ctypes.CDLL(str(library)), "project_gelu_float32_bfloat16")


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
@given(
    shape=shapes,
    types=st.sampled_from([*zip(KINDS, KINDS, strict=True), (torch.float32, torch.bfloat16)]),
    then=st.sampled_from(["plain", "gelu"]),
    more=st.integers(0, 20),
    bands=st.integers(1, 40),
    seed=seeds,
)
def test_products_and_what_follows(
    shape: tuple[int, int, int],
    *,
    types: tuple[torch.dtype, torch.dtype],
    then: kernels.Then,
    more: int,
    bands: int,
    seed: int,
) -> None:
    """The last ones go elsewhere, as they are. Pairs of bfloat16 are multiplied where the processor does so."""
    pixels, weight, bias = products_of(shape, types[0], more=more, bands=bands, seed=seed)
    out = torch.full(shape, torch.nan, dtype=types[1])
    rest = torch.full((*shape[:2], more), torch.nan, dtype=torch.promote_types(types[0], torch.float32))
    packed = panels.of_matrix(weight, bias, shape[2])
    done = packed is not None and kernels.project(pixels, *packed, out, rest=rest, then=then)
    assert done or types[0] == torch.bfloat16
    if not done:
        assert bool(out.isnan().all())
        return
    expected = functional.linear(*(each.double() for each in (pixels, weight, bias)))
    own, others = expected.tensor_split([shape[2]], dim=2)
    assert_close(out, functional.gelu(own) if then == "gelu" else own)
    assert_close(rest, others)


STORED = [torch.uint8, torch.uint16, torch.int16, torch.float32, torch.int32, torch.float64]


@needs_kernels
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 5), st.integers(1, 150)),
    kind=st.sampled_from(STORED),
    order=st.permutations([0, 1, 2]),
    cut=st.integers(0, 3),
    seed=seeds,
)
def test_pixels_are_put_together_from_bands_that_lie_in_any_order(
    size: tuple[int, int, int], *, kind: torch.dtype, order: list[int], cut: int, seed: int
) -> None:
    """Of a part of a tile too. Other types are left to torch."""
    random = torch.Generator().manual_seed(seed)
    there = [size[axis] + (cut if axis else 0) for axis in order]
    values = torch.randint(0, 256, there, generator=random).to(kind)
    stored = values.permute([order.index(axis) for axis in range(3)])[:, cut:, cut:]
    out = torch.full((*size[1:], size[0]), torch.nan)
    done = kernels.gather(stored, out)
    assert done == (kind in STORED[:4])
    assert torch.equal(out, stored.permute(1, 2, 0).float()) if done else bool(out.isnan().all())


@needs_kernels
@pytest.mark.parametrize("whole", [True, False], ids=["whole numbers", "fractions"])
def test_products_of_the_bands_are_as_exact_as_float32_where_results_are_bfloat16(*, whole: bool) -> None:
    """Small differences of large numbers: what matters is left where bands are alike."""
    random = torch.Generator().manual_seed(3)
    bright = torch.rand(6, 40, 1, generator=random) * 30_000
    pixels = bright + torch.rand(6, 40, 203, generator=random) * 50
    pixels = pixels.round() if whole else pixels / 30_000
    weight = torch.randn(21, 203, generator=random) * 10 ** (4 * torch.rand(21, 203, generator=random) - 2)
    weight -= weight.mean(1, keepdim=True)
    bias = torch.randn(21, generator=random)
    packed = panels.of_matrix(weight, bias, 16)
    out, rest = torch.empty(6, 40, 16, dtype=torch.bfloat16), torch.empty(6, 40, 5)
    assert packed is not None
    assert kernels.project(pixels, *packed, out, rest=rest, then="plain")
    exact = functional.linear(pixels.double(), weight.double(), bias.double())[..., 16:]
    size = functional.linear(pixels.double(), weight.double().abs())[..., 16:]
    wrong = ((rest - exact) / size).abs()
    assert float(wrong.square().mean().sqrt()) < 2**-24
    assert float(wrong.max()) < 2**-21


@needs_kernels
def test_torch_may_use_the_processors_tiles_in_between() -> None:
    """AMX has one set of them for each thread, which whoever multiplies shapes anew."""
    random = torch.Generator().manual_seed(1)
    pixels, weight = torch.randn(3, 50, 70, generator=random), torch.randn(40, 70, generator=random)
    convolution = Convolution(
        torch.randn(20, 70, 3, 3), torch.randn(20), dtype=torch.bfloat16, device=torch.device("cpu")
    )
    rounded, convolved = pixels.bfloat16(), torch.empty(2, 1, 48, 20, dtype=torch.bfloat16)
    convolution(rounded, convolved[0], (0, 0))
    alone = functional.linear(rounded, weight.bfloat16())
    for _ in range(3):
        convolution(rounded, convolved[1], (0, 0))
        assert torch.equal(convolved[1], convolved[0])
        assert torch.equal(functional.linear(rounded, weight.bfloat16()), alone)


@needs_kernels
@given(shape=shapes, kind=kinds, seed=seeds)
def test_products_that_become_a_gate(shape: tuple[int, int, int], kind: torch.dtype, seed: int) -> None:
    """Of bfloat16 where the processor multiplies pairs of them, else by torch."""
    pixels, weight, bias = products_of(shape, kind, more=0, bands=shape[2], seed=seed)
    out = torch.full(shape, torch.nan, dtype=kind)
    packed = panels.of_matrix(weight, bias, shape[2])
    done = packed is not None and kernels.project(pixels, *packed, out, rest=None, then="gate")
    assert done or kind == torch.bfloat16
    if done:
        logits = functional.linear(*(each.double() for each in (pixels, weight, bias)))
        assert_close(out, pixels.double() * logits.sigmoid())
    else:
        assert bool(out.isnan().all())


def products_of(
    shape: tuple[int, int, int], kind: torch.dtype, *, more: int, bands: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels (r,x,bands), weights and bias whose products are about as large as what is multiplied."""
    random = torch.Generator().manual_seed(seed)
    pixels = torch.randn(*shape[:2], bands, generator=random, dtype=torch.float64)
    weight = torch.randn(shape[2] + more, bands, generator=random, dtype=torch.float64) / bands
    bias = torch.randn(shape[2] + more, generator=random, dtype=torch.float64)
    return pixels.to(kind), weight.to(kind), bias.to(kind)


@needs_kernels
@given(
    shape=shapes,
    kind=kinds,
    filters=st.integers(1, 35),
    then=st.sampled_from(["plain", "gelu"]),
    cut=st.tuples(st.integers(0, 6), st.integers(0, 8)),
    at=st.tuples(st.integers(-9, 9), st.integers(-9, 9)),
    seed=seeds,
)
def test_convolution(
    shape: tuple[int, int, int],
    *,
    kind: torch.dtype,
    filters: int,
    then: kernels.Then,
    cut: tuple[int, int],
    at: tuple[int, int],
    seed: int,
) -> None:
    """And of a part of the image alone it is the same to the last bit, as long as it knows where that lies."""
    rows, columns, features = shape
    random = torch.Generator().manual_seed(seed)
    image = torch.randn(rows + 2, columns + 2, features, generator=random).to(kind)
    weight = torch.randn(filters, features, 3, 3, generator=random, dtype=torch.float64) / features
    bias = torch.randn(filters, generator=random, dtype=torch.float64)
    convolution = Convolution(weight, bias, then=then, dtype=kind, device=torch.device("cpu"))
    assert convolution.compiled or kind == torch.bfloat16
    whole = torch.full((rows, columns, filters), torch.nan, dtype=kind)
    convolution(image, whole, at)
    direct = functional.conv2d(image.double().permute(2, 0, 1)[None], weight, bias)[0].permute(1, 2, 0)
    expected = functional.gelu(direct) if then == "gelu" else direct
    allowed = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.06}[kind]
    torch.testing.assert_close(whole.double(), expected, rtol=allowed, atol=allowed)

    top, left = min(cut[0], rows - 1), min(cut[1], columns - 1)
    part = torch.full_like(whole[top:, left:], torch.nan, memory_format=torch.contiguous_format)
    convolution(image[top:, left:].contiguous(), part, (at[0] + top, at[1] + left))
    if convolution.compiled:
        assert torch.equal(part, whole[top:, left:])


@needs_kernels
def test_a_convolution_is_made_ready_for_the_processor_that_it_has_travelled_to() -> None:
    weight, bias, image = torch.randn(3, 4, 3, 3), torch.randn(3), torch.randn(7, 8, 4)
    here = Convolution(weight, bias, dtype=torch.float32, device=torch.device("cpu"))
    found, expected = torch.empty(2, 5, 6, 3)
    here(image, expected, (0, 0))
    with without_kernels():
        there = pickle.loads(pickle.dumps(here))  # noqa: S301 - ours
        there(image, found, (0, 0))
        assert not there.compiled
    assert here.compiled
    torch.testing.assert_close(found, expected)


@needs_kernels
def test_a_weight_made_ready_for_another_processor_is_left_alone() -> None:
    weight, values, out = torch.ones(3, 4, 3, 3), torch.ones(7, 8, 4), torch.zeros(5, 6, 3)
    packed, bias = panels.of_convolution(weight, torch.float32), torch.zeros(1, 16)
    assert packed is not None
    assert not kernels.convolve(values, packed[:9], bias, out, at=(0, 0), then="plain")
    assert not bool(out.any())
    assert kernels.convolve(values, packed, bias, out, at=(0, 0), then="plain")
    torch.testing.assert_close(out, torch.full_like(out, 36.0))


@needs_kernels
@pytest.mark.parametrize("then", ["plain", "gelu", "gate"])
def test_a_projection_travels_without_what_its_kernels_take(then: kernels.Then) -> None:
    weight, bias, pixels = torch.randn(9, 6), torch.randn(9), torch.randn(4, 5, 6)
    here = Projection(weight, bias, then=then, rest=3, dtype=torch.float32, device=torch.device("cpu"))
    (expected, others), (found, rest) = ((torch.empty(4, 5, 6), torch.empty(4, 5, 3)) for _ in range(2))
    before = len(pickle.dumps(here))
    here(pixels, expected, others)
    sent = pickle.dumps(here)
    assert len(sent) == before
    with without_kernels():
        pickle.loads(sent)(pixels, found, rest)  # noqa: S301 - ours
    torch.testing.assert_close((found, rest), (expected, others))


@needs_kernels
@given(shape=shapes, kind=kinds, cut=st.integers(0, 2), seed=seeds)
def test_units(shape: tuple[int, int, int], *, kind: torch.dtype, cut: int, seed: int) -> None:
    """Of a part of the columns; zero stays zero."""
    rows, columns, features = shape
    wide = drawn(seed, rows, columns + cut, features, kind=kind)
    wide[:, ::3] = 0
    values, out = wide[:, cut:], torch.full(shape, torch.nan, dtype=kind)
    assert kernels.write_units(values, out, length=1.7)
    assert_close(out, 1.7 * functional.normalize(values.double(), dim=2))


@needs_kernels
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 19)),
    classes=st.integers(1, 15),
    features=st.integers(1, 9),
    kind=kinds,
    window=st.integers(1, 6),
    sharpness=st.sampled_from([None, 1.0, 5.0]),
    own_products=st.booleans(),
    seed=seeds,
)
def test_pooling(
    size: tuple[int, int],
    *,
    classes: int,
    features: int,
    kind: torch.dtype,
    window: int,
    sharpness: float | None,
    own_products: bool,
    seed: int,
) -> None:
    """As torch does it in float64 (see test_pooling.py), from units as well as from torch's products of them."""
    random, shape = torch.Generator().manual_seed(seed), [n + window - 1 for n in size]
    spectra = 2 + torch.randn(*shape, features, generator=random)  # cosines, or their sum, are far from zero
    votes = torch.randn(*shape, classes + 1, generator=random).to(kind)
    votes[..., -1] = 1
    gone = torch.rand(shape, generator=random) < 0.2
    votes[gone], spectra[gone] = 0, 0

    def pooled(kind: torch.dtype) -> Tensor:
        pooling = Pooling(window, sharpness, dtype=kind, device=torch.device("cpu"))
        units = torch.full(pooling.shape(spectra), torch.nan, dtype=kind)
        pooling.write_units(spectra.to(kind), units)
        out = torch.full((*size, classes), torch.nan, dtype=torch.promote_types(kind, torch.float32))
        pooling(units, votes.to(kind), out)
        return out

    with pytest.MonkeyPatch.context() as patch:
        if not own_products:
            patch.setattr(kernels, "multiplies", lambda *_, **__: False)
        found = pooled(kind)
    with without_kernels():
        expected = pooled(torch.float64)
    allowed = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 0.1}[kind]
    torch.testing.assert_close(found.double(), expected, rtol=allowed, atol=allowed)


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
    assert not kernels.write_units(values, out, length=1.0)
    assert not kernels.project(values, torch.ones(1, 6, 16), torch.ones(16), out, rest=None, then="plain")
    pixels = torch.ones(4, 5, 6, dtype=torch.float64)
    assert not kernels.project(pixels, torch.ones(1, 6, 16), torch.ones(16), out, rest=None, then="plain"), "types"
    assert not kernels.pool_units(values, torch.ones(2, 4, 16), values, out, sharp=True)
    assert not kernels.pool_products(out, torch.ones(2, 4, 16), values, out, sharp=True)
    assert not kernels.write_units(torch.ones(4, 5, 6, device="meta"), out, length=1.0), "nor on another device"
    assert not bool(out.any())


def test_without_a_compiler_torch_is_asked() -> None:
    values, out = torch.ones(4, 5, 6), torch.zeros(4, 5, 6)
    with without_kernels():
        assert not kernels.compiled()
        assert not kernels.dilate(values, torch.ones(3, 3), out[:2, :3])
    assert not bool(out.any())
