"""Networks and tiles with holes and junk in them, and what they are when computed patch by patch."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from scenes import randomise
from torch import Tensor

from cssd_geo.dense import DenseNetwork
from cssd_geo.network import CSSD, Logits, NetworkConfig

JUNK = torch.tensor([float("nan"), float("inf"), float("-inf"), 1e300, -1e30, 1e9], dtype=torch.float64)
CONFIG = NetworkConfig(bands=9, classes=4, window=6, spectral_features=16, spatial_features=5)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network whose input is gain * stored + bias, and a tile with its halo."""

    network: CSSD
    stored: Tensor
    """(S, y, x)."""
    valid: Tensor
    """(y, x)."""
    gain: Tensor
    bias: Tensor

    @property
    def normalised(self) -> Tensor:
        """(S, y, x), zero where not valid."""
        bands = self.gain[:, None, None] * self.stored.double() + self.bias[:, None, None]
        return torch.where(self.valid, bands, 0.0)

    @property
    def usable(self) -> Tensor:
        """(h, v) validity of the pixels that are classified."""
        halo, (height, width) = self.network.config.halo, self.valid.shape
        return self.valid[halo.before : height - halo.after, halo.before : width - halo.after]


def build(config: NetworkConfig, seed: int = 0) -> CSSD:
    torch.manual_seed(seed)
    return randomise(CSSD(config)).double().eval()


def case_of(config: NetworkConfig, height: int, width: int, seed: int = 0, holes: float = 0.2) -> Case:
    """A share of the pixels is not valid, and of the sides outside of the scene; junk is stored there."""
    generator = torch.Generator().manual_seed(seed)
    halo, bands = config.halo, config.bands
    shape = (height + halo.total, width + halo.total)
    valid = torch.rand(shape, generator=generator) >= holes
    outside = (torch.rand(4, generator=generator) < holes).tolist()
    sides = (valid[: halo.before], valid[-halo.after :], valid[:, : halo.before], valid[:, -halo.after :])
    for side in itertools.compress(sides, outside):
        side.fill_(0)
    sign = torch.randint(2, (bands,), generator=generator) * 2 - 1
    gain = sign * (0.1 + torch.rand(bands, generator=generator, dtype=torch.float64)) / 100
    bias = 3 * torch.randn(bands, generator=generator, dtype=torch.float64)
    normalised = torch.randn(bands, *shape, generator=generator, dtype=torch.float64)
    stored = (normalised - bias[:, None, None]) / gain[:, None, None]
    return with_junk(Case(network=build(config, seed), stored=stored, valid=valid, gain=gain, bias=bias))


def with_junk(case: Case) -> Case:
    generator = torch.Generator().manual_seed(1)
    junk = JUNK[torch.randint(len(JUNK), case.stored.shape, generator=generator)]
    return replace(case, stored=torch.where(case.valid, case.stored, junk))


def config_of(stage: tuple[bool, int], **rest: Any) -> NetworkConfig:
    """The spectral stage, whether it is strided and how many features it has, and what is left."""
    return NetworkConfig(strided_spectral=stage[0], spectral_features=stage[1], **rest)


def cases(height: int, width: int) -> st.SearchStrategy[Case]:
    """Tiles of up to that many pixels, without the halo."""
    return st.builds(
        case_of,
        st.builds(
            config_of,
            st.sampled_from([(False, 17), (False, 64), (True, 64)]),
            bands=st.integers(3, 9),
            classes=st.integers(1, 4),
            window=st.integers(1, 11),
            spatial_features=st.integers(1, 6),
            activation=st.booleans(),
            discriminant=st.booleans(),
            sharpness=st.sampled_from([None, 0.3, 3.0, 20.0]),
        ),
        st.integers(1, height),
        st.integers(1, width),
        seed=st.integers(0, 999),
        holes=st.sampled_from([0.0, 0.01, 0.2, 0.8]),
    )


def ready(case: Case, dtype: torch.dtype = torch.float64) -> DenseNetwork:
    return DenseNetwork(case.network, case.gain, case.bias, dtype=dtype, device=torch.device("cpu"))


def dense(case: Case, dtype: torch.dtype = torch.float64) -> Logits:
    return ready(case, dtype)(case.stored, case.valid)


def patch_by_patch(case: Case) -> Logits:
    """The plain way: one window for each pixel of the core that is valid; NaN for the others."""
    config, usable = case.network.config, case.usable
    side = config.receptive_field
    bands = case.normalised.unfold(1, side, 1).unfold(2, side, 1).permute(1, 2, 0, 3, 4)  # (h,v,S,R,R)
    valid = case.valid.unfold(0, side, 1).unfold(1, side, 1)  # (h,v,R,R)
    logits = Logits(*torch.full((2, *usable.shape, config.classes), torch.nan, dtype=torch.float64))
    if bool(usable.any()):
        for whole, found in zip(logits, case.network(bands[usable], valid[usable][:, None]), strict=True):
            whole[usable] = found
    return logits


def assert_equal(usable: Tensor, found: Logits, expected: Logits, *, atol: float = 1e-10) -> None:
    """Both heads where it matters: for the pixels that are valid themselves."""
    for one, two in zip(found, expected, strict=True):
        assert one.shape == two.shape
        torch.testing.assert_close(one[usable].double(), two[usable].double(), rtol=0.0, atol=atol)
