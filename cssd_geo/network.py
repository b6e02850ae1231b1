"""CSSD, Central Spectral Self-Distillation: a classifier of the pixel at the centre of a window.

Published by Wu, Xue, Zhou and Su 2025, IEEE Trans. Geosci. Remote Sens. 63, 1-17, doi 10.1109/TGRS.2025.3530614;
what `as_published` does otherwise than our default is what that paper describes.

`CSSD.forward` takes windows with their halo and gives logits of their centres: for training, and as the reference.
`dense.DenseNetwork` takes a tile with its halo and gives the same logits for every pixel of its core: for maps.

Both see the scene, not isolated crops: at a pixel that is not valid (outside of the scene, nodata) every
feature map is zero and the pooling weight is zero.

Shapes: B batch, S bands, C spectral features, D spatial features, K classes, w window, h x v core of a tile.
"""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from cssd_geo.compute.dilation import Dilation
from cssd_geo.compute.folded import MARGIN
from cssd_geo.errors import InputError
from cssd_geo.tiles import Halo

_LOCAL = 64
"""Channels of the published spectral stage between its two convolutions."""
_FEWEST_BANDS = 3
"""Fewest bands that the published spectral stage can look at."""


class Logits(NamedTuple):
    """Outputs of the two heads, each (B, K) for windows or (h, v, K) for tiles."""

    main: Tensor
    """Spectral-aware pooling over the window: the student."""
    spectral: Tensor
    """The centre's spectrum alone."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Everything that fixes the architecture; stored in the model file."""

    bands: int
    """S: the good bands that the network reads."""
    classes: int
    """K."""
    window: int = 10
    """Side length of the window in pixels; its centre is at index window // 2."""
    spectral_features: int = 256
    """C."""
    spatial_features: int = 64
    """D."""
    strided_spectral: bool = False
    """False: one linear map of all bands. True: the published pair of strided convolutions, which looks at
    every third band."""
    activation: bool = True
    """Batch normalisation and GELU after the spectral and the spatial stage; False as published."""
    discriminant: bool = True
    """Once trained, the spectral head is the linear discriminant of the bands (see `discriminant`), which few
    labels fix better than they fix the teacher; False: it stays the teacher, as published."""
    sharpness: float | None = 3.0
    """Where the sharpness of the pooling weights exp(sharpness * (cosine - 1)) starts from; it is learned.
    None: the cosines themselves, averaged, as published."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and not (type(value) is int and value >= 1):
                raise InputError(f"network: {field.name} must be a whole number from 1, not {value!r}")
            if field.type is bool and type(value) is not bool:
                raise InputError(f"network: {field.name} must be true or false, not {value!r}")
        if self.strided_spectral and self.bands < _FEWEST_BANDS:
            raise InputError(
                f"network: the published spectral stage needs at least {_FEWEST_BANDS} usable bands, not "
                f"{self.bands}: train without --published"
            )
        if self.strided_spectral and self.spectral_features % _LOCAL:
            raise InputError(
                f"network: the published spectral stage needs a multiple of {_LOCAL} spectral features, not "
                f"{self.spectral_features}"
            )
        if self.sharpness is not None and not 0 < self.sharpness < float("inf"):
            raise InputError(f"network: sharpness must be positive, not {self.sharpness!r}")

    @property
    def halo(self) -> Halo:
        """Pixels that the network needs around those that it classifies."""
        centre = self.window // 2
        return Halo(before=centre + MARGIN, after=self.window - 1 - centre + MARGIN)

    @property
    def receptive_field(self) -> int:
        """Side length of the square of pixels that decide one pixel's class."""
        return self.halo.total + 1

    def as_published(self) -> Self:
        """Return this configuration with every stage as the description of CSSD has it."""
        return replace(self, strided_spectral=True, activation=False, discriminant=False, sharpness=None)

    def for_plain_bands(self) -> Self:
        """Return what learns best in bands that are not whitened: as published, but for the spectral head.

        Where there are too few bands for the published spectral stage, it stays one linear map of them.
        """
        return replace(self, strided_spectral=self.bands >= _FEWEST_BANDS, activation=False, sharpness=None)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON header."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_json`.

        Raises:
            InputError: if a key is missing or unknown, or a value is out of range.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"not a network configuration: {error}") from error


class CSSD(nn.Module):
    """The network. Input: normalised bands, (B, S, y, x), and validity, (B, 1, y, x), True means usable."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build with random weights from torch's generator."""
        super().__init__()
        self.config = config
        c, d = config.spectral_features, config.spatial_features
        self.spectral = _StridedSpectral(config) if config.strided_spectral else _LinearSpectral(config)
        self.spectral_norm = nn.BatchNorm1d(c) if config.activation else None
        self.refine = _Refiner(c)
        self.spatial = nn.Conv2d(c, d, 3)
        self.spatial_norm = _MaskedNorm(d) if config.activation else None
        self.classifier = nn.Conv2d(d, config.classes, 3)
        self.log_sharpness = (
            None if config.sharpness is None else nn.Parameter(torch.tensor(math.log(float(config.sharpness))))
        )
        self.teacher = nn.Linear(c, config.classes)
        self.discriminant = nn.Linear(config.bands, config.classes) if config.discriminant else None
        if self.discriminant is not None:
            self.discriminant.requires_grad_(requires_grad=False)  # found in closed form

    @property
    def spectral_map(self) -> nn.Linear | None:
        """The spectral stage where it is one free linear map of the bands; None where it is as published."""
        return self.spectral.map if isinstance(self.spectral, _LinearSpectral) else None

    @property
    def sharpness(self) -> float | None:
        """How sharp the pooling weights have become; None where they are the cosines themselves."""
        return None if self.log_sharpness is None else float(self.log_sharpness.detach().exp())

    @torch.no_grad()
    def spectral_affine(self) -> tuple[Tensor, Tensor]:
        """All up to the first activation as one map of the bands, as at inference: (C, S) and (C,), float64."""
        weight, bias = self.spectral.affine()
        return _fold_norm(self.spectral_norm, weight, bias)

    @torch.no_grad()
    def set_discriminant(self, weight: Tensor, bias: Tensor) -> None:
        """Take (K, S) and (K,) as the spectral head; without effect where that stays the teacher."""
        if self.discriminant is not None:
            self.discriminant.weight.copy_(weight)
            self.discriminant.bias.copy_(bias)

    @torch.no_grad()
    def discriminant_affine(self) -> tuple[Tensor, Tensor] | None:
        """The spectral head where it is a map of the bands: (K, S) and (K,), float64."""
        if self.discriminant is None:
            return None
        return self.discriminant.weight.double(), self.discriminant.bias.double()

    @torch.no_grad()
    def spatial_affine(self) -> tuple[Tensor, Tensor]:
        """The spatial convolution and its batch norm, as at inference: (D, C, 3, 3) and (D,), float64."""
        return _fold_norm(self.spatial_norm, *(part.double() for part in self.spatial.parameters()))

    def forward(self, bands: Tensor, valid: Tensor) -> Logits:
        """Classify the centre of each window.

        Args:
            bands: (B, S, R, R), R = receptive field: the window and three pixels on each side.
            valid: (B, 1, R, R) bool.

        Returns:
            Logits of (B, K).
        """
        usable = valid[:, 0]
        pixels = bands.permute(0, 2, 3, 1)[usable]  # (n,S)
        lookup = torch.zeros(usable.shape, dtype=torch.int64, device=bands.device)
        lookup[usable] = torch.arange(1, len(pixels) + 1, device=bands.device)
        return self.classify_windows(pixels, lookup)

    def classify_windows(self, pixels: Tensor, lookup: Tensor) -> Logits:
        """Classify the centre of each window, where windows share pixels: the spectral stages see each once.

        Args:
            pixels: (n, S) normalised bands of the valid pixels.
            lookup: (B, R, R) of int64: the pixels of each window, counted from 1; 0 where it is not valid.

        Returns:
            Logits of (B, K).
        """
        features = self.spectral(pixels)  # (n,C)
        if self.spectral_norm is not None:
            features = functional.gelu(self.spectral_norm(features))
        inner = _shrink(lookup[:, None], MARGIN)[:, 0]  # (B,w,w)
        seen = (inner > 0).to(pixels.dtype)
        logits = self._vote(self.refine.attend(features), lookup)  # (B,w,w,K)
        unit = _look_up(functional.normalize(features, dim=1), inner)  # (B,w,w,C)
        middle = self.config.window // 2
        cosine = torch.einsum("byxc,bc->byx", unit, unit[:, middle, middle])
        weight = self._pooling_weight(cosine) * seen
        norm = (seen if self.log_sharpness is None else weight).sum((1, 2))  # (B,)
        main = torch.einsum("byxk,byx->bk", logits, weight) / norm.clamp_min(1e-12)[:, None]
        centre = inner[:, middle, middle]
        if self.training or self.discriminant is None:
            return Logits(main, self.teacher(_look_up(features, centre)))
        return Logits(main, self.discriminant(_look_up(pixels, centre)))

    def _vote(self, attended: Tensor, lookup: Tensor) -> Tensor:
        """Refinement and both convolutions, (n,C) and (B,R,R) -> (B,w,w,K)."""
        valid = (lookup > 0)[:, None]  # (B,1,R,R)
        refined = self.refine.dilate(_look_up(attended, lookup).permute(0, 3, 1, 2)) * _shrink(valid, 1)
        spatial = self.spatial(refined)  # (B,D,R-4,R-4)
        if self.spatial_norm is not None:
            spatial = functional.gelu(self.spatial_norm.masked(spatial, _shrink(valid, 2)))
        logits: Tensor = self.classifier(spatial * _shrink(valid, 2))  # (B,K,w,w)
        return logits.permute(0, 2, 3, 1)

    def _pooling_weight(self, cosine: Tensor) -> Tensor:
        if self.log_sharpness is None:
            return cosine
        return torch.exp(self.log_sharpness.exp() * (cosine - 1))


class _LinearSpectral(nn.Module):
    """SpeFE as one linear map of all bands to C features."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.map = nn.Linear(config.bands, config.spectral_features)

    def affine(self) -> tuple[Tensor, Tensor]:
        """(C, S) and (C,), float64."""
        return self.map.weight.double(), self.map.bias.double()

    def forward(self, pixels: Tensor) -> Tensor:  # (n,S) -> (n,C)
        mapped: Tensor = self.map(pixels)
        return mapped


class _StridedSpectral(nn.Module):
    """SpeFE as published: two convolutions along the spectrum, kept apart in weights, run as one product.

    Without an activation between them they are one affine map, through which training goes as well.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.local = nn.Conv1d(1, _LOCAL, 3, dilation=3, stride=3, padding=2)
        length = (config.bands - 3) // 3 + 1
        self.wide = nn.Conv1d(_LOCAL, config.spectral_features, length, groups=_LOCAL)
        self.bands = config.bands

    def folded(self) -> tuple[Tensor, Tensor]:
        """The two convolutions as (C, S) weights and (C,) bias: the first one, transposed, of the second's."""
        (kernel, local_bias), (second, bias) = self.local.parameters(), self.wide.parameters()
        wide = second.view(_LOCAL, -1, second.shape[2])  # (64,C/64,L)
        weight = functional.conv_transpose1d(
            wide.transpose(0, 1),
            kernel,
            dilation=3,
            stride=3,
            padding=2,
            output_padding=self.bands % 3,
            groups=_LOCAL,
        )  # (C/64,64,S)
        return weight.transpose(0, 1).flatten(0, 1), bias + (wide.sum(2) * local_bias[:, None]).flatten()

    def affine(self) -> tuple[Tensor, Tensor]:
        """(C, S) and (C,), float64, the norm of the bands included, as it is at inference."""
        weight, bias = (part.double() for part in self.folded())
        scale, shift = _scale_and_shift(self.norm)
        return weight * scale, bias + weight.sum(1) * shift

    def forward(self, pixels: Tensor) -> Tensor:  # (n,S) -> (n,C)
        weight, bias = self.folded()
        return functional.linear(self.norm(pixels[:, None])[:, 0], weight, bias)


class _Refiner(nn.Module):
    """SpeFR: dilation with a learned structuring element over attended features.

    f_r = max over the nine neighbours i of  sigmoid(e_i) * f_i * sigmoid(A f_i + a).
    The attended features f * sigmoid(A f + a) do not depend on the shift, so they are computed once.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.element = nn.Parameter(torch.zeros(3, 3))
        self.attention = nn.Linear(features, features)

    def attend(self, features: Tensor) -> Tensor:  # (n,C) -> (n,C)
        attended: Tensor = features * torch.sigmoid(self.attention(features))
        return attended

    def dilate(self, attended: Tensor) -> Tensor:  # (B,C,y,x) -> (B,C,y-2,x-2)
        refined: Tensor = Dilation.apply(attended, torch.sigmoid(self.element))  # type: ignore[no-untyped-call]
        return refined


class _MaskedNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics come from valid pixels only."""

    def masked(self, values: Tensor, valid: Tensor) -> Tensor:  # (B,C,y,x), (B,1,y,x) -> (B,C,y,x)
        if not self.training or bool(valid.all()):
            normed: Tensor = self(values)
            return normed
        pixels, usable = values.permute(0, 2, 3, 1), valid[:, 0]
        out = torch.zeros_like(pixels)
        out[usable] = self(pixels[usable].T[None, :, :, None])[0, :, :, 0].T
        return out.permute(0, 3, 1, 2)


def _scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a batch norm does at inference: scale * values + shift, float64."""
    mean, variance = norm.get_buffer("running_mean").double(), norm.get_buffer("running_var").double()
    weight, bias = norm.weight.double(), norm.bias.double()
    scale = weight / torch.sqrt(variance + norm.eps)
    return scale, bias - mean * scale


def _fold_norm(
    norm: nn.BatchNorm1d | nn.BatchNorm2d | None, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Let the batch norm that follows a product or convolution become part of it."""
    if norm is None:
        return weight, bias
    scale, shift = _scale_and_shift(norm)
    return weight * scale.view(-1, *[1] * (weight.dim() - 1)), bias * scale + shift


def _look_up(rows: Tensor, lookup: Tensor) -> Tensor:
    """Rows of (n,C) counted from 1, zeros for 0: (...,C)."""
    table = functional.pad(rows, (0, 0, 1, 0))
    return table.index_select(0, lookup.flatten()).view(*lookup.shape, rows.shape[1])


def _shrink(values: Tensor, by: int) -> Tensor:
    return values[:, :, by : values.shape[2] - by, by : values.shape[3] - by]
