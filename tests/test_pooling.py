"""Pooling in blocks = the weighted mean in each window, in plain loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute.pooling import Pooling

pytestmark = pytest.mark.usefixtures("kernels_or_torch")


def pooled_in_words(units: Tensor, logits: Tensor, seen: Tensor, window: int, sharpness: float | None) -> Tensor:
    """(y, x, C), (y, x, K) and (y, x) -> (y - w + 1, x - w + 1, K)."""
    height, width = (n - window + 1 for n in seen.shape)
    pooled = torch.zeros(height, width, logits.shape[2], dtype=logits.dtype)
    for y in range(height):
        for x in range(width):
            inside = slice(y, y + window), slice(x, x + window)
            cosine = units[inside] @ units[y + window // 2, x + window // 2]
            weight = (cosine if sharpness is None else torch.exp(sharpness * (cosine - 1))) * seen[inside]
            voters = seen[inside] if sharpness is None else weight
            pooled[y, x] = torch.einsum("yxk,yx->k", logits[inside], weight) / voters.sum().clamp_min(1e-12)
    return pooled


@given(
    window=st.integers(1, 11),
    sharpness=st.sampled_from([None, 0.3, 3.0, 60.0, 200.0]),
    size=st.tuples(st.integers(1, 21), st.integers(1, 19)),
    device=st.sampled_from(["cpu", "meta"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_blocks_pool_as_each_window_alone(
    window: int, sharpness: float | None, size: tuple[int, int], device: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = tuple(n + window - 1 for n in size)
    seen = (torch.rand(shape, generator=generator) > 0.3).double()
    spectra = torch.randn(2, 6, generator=generator, dtype=torch.float64)  # two, so that many cosines are 1
    kind = torch.randint(2, shape, generator=generator)
    lengths = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.01
    features = functional.normalize(spectra, dim=1)[kind] * (lengths * seen)[..., None]
    logits = torch.randn(*shape, 3, generator=generator, dtype=torch.float64) * seen[..., None]
    pooling = blocks_as_on(torch.device(device), window, sharpness)
    units = torch.full(pooling.shape(features), torch.nan, dtype=torch.float64)
    pooling.write_units(features, units)
    found = torch.full((*size, 3), torch.nan, dtype=torch.float64)
    pooling(units, torch.cat([logits, seen[..., None]], dim=2), found)
    centre = window // 2
    usable = seen[centre : centre + size[0], centre : centre + size[1]] > 0
    expected = pooled_in_words(functional.normalize(features, dim=2), logits, seen, window, sharpness)
    torch.testing.assert_close(found[usable], expected[usable], rtol=0.0, atol=1e-10)


def blocks_as_on(device: torch.device, window: int, sharpness: float | None) -> Pooling:
    """Pooling on the CPU, in the blocks that a device has."""
    pooling = Pooling(window, sharpness, dtype=torch.float64, device=torch.device("cpu"))
    pooling._block_rows = Pooling(window, sharpness, dtype=torch.float64, device=device)._block_rows
    return pooling
