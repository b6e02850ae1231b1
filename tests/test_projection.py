"""Products of pixels with a matrix, whichever routine of torch computes them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cssd_geo.compute import projection
from cssd_geo.compute.projection import project, project_groups

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 0.1}


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 5),
    kind=st.sampled_from(list(TOLERANCE)),
    convolves=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_every_pixel_is_multiplied(
    shape: tuple[int, int, int, int, int], *, kind: torch.dtype, convolves: bool, seed: int
) -> None:
    r, x, j, c, m = shape
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(r, x, j, c, generator=generator).to(kind)
    weight, bias = torch.randn(j, m, c, generator=generator).to(kind), torch.randn(m, generator=generator).to(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "_CONVOLVES", convolves and projection._CONVOLVES)
        for_all, for_each = project(rows[:, :, 0], weight[0], bias), project_groups(rows, weight)
    expected = torch.einsum("rxjc,jmc->rxjm", rows.double(), weight.double())
    assert for_all.dtype == for_each.dtype == kind
    for found, right in ((for_each, expected), (for_all, expected[:, :, 0] + bias.double())):
        torch.testing.assert_close(found.double(), right, rtol=TOLERANCE[kind], atol=TOLERANCE[kind])
