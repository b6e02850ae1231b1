"""Spectral-aware pooling of every window of a tile at once, as matrix products.

Shapes: B batch, C spectral features, K classes, w window, h x v windows, n blocks of b x b of them, m = b + w - 1.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

_BLOCK = 8
"""Centres a side that share one matrix product in dense pooling; 8 measured faster than 4, 16 and 32."""
_STRIP_PIXELS = 16384
"""Centres pooled at a time: bounds the copied neighbourhoods to about 75 MB at C = 256 in float32."""


def pool_every_window(
    features: Tensor,
    logits: Tensor,
    seen: Tensor,
    *,
    window: int,
    weigh: Callable[[Tensor], Tensor],
    weighted_mean: bool,
) -> Tensor:
    """Mean of the logits in each window, weighted by how alike the spectra of pixel and centre are.

    Args:
        features: (B, C, h + w - 1, v + w - 1) spectral features, zero where not valid.
        logits: (B, K, h + w - 1, v + w - 1).
        seen: (B, 1, h + w - 1, v + w - 1) 1 where valid, else 0.
        window: w.
        weigh: from cosine to weight, element by element.
        weighted_mean: divide by the sum of the weights; otherwise by the number of valid pixels.

    Returns:
        (B, K, h, v).
    """
    height, width = features.shape[2] - window + 1, features.shape[3] - window + 1
    unit = functional.normalize(features, dim=1)
    votes = torch.cat([logits * seen, seen], dim=1)  # (B,K+1,.,.): the last counts the voters
    rows = max(1, _STRIP_PIXELS // width // _BLOCK) * _BLOCK
    strips = []
    for top in range(0, height, rows):
        reach = slice(top, min(top + rows, height) + window - 1)
        strips.append(
            _pool_strip(
                unit[:, :, reach], votes[:, :, reach], window=window, weigh=weigh, weighted_mean=weighted_mean
            )
        )
    return torch.cat(strips, dim=2)


def _pool_strip(
    unit: Tensor, votes: Tensor, *, window: int, weigh: Callable[[Tensor], Tensor], weighted_mean: bool
) -> Tensor:
    """Each block of centres times the neighbourhood that it shares: (B,C,.,.), (B,K+1,.,.) -> (B,K,r,v)."""
    height, width = unit.shape[2] - window + 1, unit.shape[3] - window + 1
    fill = (0, -width % _BLOCK, 0, -height % _BLOCK)
    near, down, across = _neighbourhoods(functional.pad(unit, fill), window)  # (n,m*m,C)
    ballots, _, _ = _neighbourhoods(functional.pad(votes, fill), window)  # (n,m*m,K+1)
    pattern = _window_pattern(window, unit)  # (b*b,m*m): which are in whose window
    side, first = _BLOCK + window - 1, window // 2
    centres = near.view(-1, side, side, near.shape[2])[:, first : first + _BLOCK, first : first + _BLOCK].flatten(
        1, 2
    )
    weight = weigh(centres @ near.transpose(1, 2)) * pattern  # (n,b*b,m*m)
    sums = weight @ ballots  # (n,b*b,K+1); neighbours that are not valid hold no ballot
    voters = sums[..., -1:] if weighted_mean else pattern @ ballots[..., -1:]
    pooled = sums[..., :-1] / voters.clamp_min(1e-12)  # (n,b*b,K)
    tiled = pooled.view(-1, down, across, _BLOCK, _BLOCK, pooled.shape[2]).permute(0, 5, 1, 3, 2, 4)
    return tiled.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]


def _neighbourhoods(values: Tensor, window: int) -> tuple[Tensor, int, int]:
    """Cut (B,C,y,x) into overlapping squares, one a block: (n, m*m, C), and blocks down and across."""
    side = _BLOCK + window - 1
    squares = values.permute(0, 2, 3, 1).unfold(1, side, _BLOCK).unfold(2, side, _BLOCK)
    down, across = squares.shape[1:3]
    # (B,down,across,C,m,m) -> (B,down,across,m,m,C)
    return squares.permute(0, 1, 2, 4, 5, 3).reshape(-1, side * side, values.shape[1]), down, across


def _window_pattern(window: int, like: Tensor) -> Tensor:
    """(b*b, m*m) of 1 where the neighbour lies in the window of the block's centre."""
    side = _BLOCK + window - 1
    centre, neighbour = torch.arange(_BLOCK), torch.arange(side)
    inside = (neighbour >= centre[:, None]) & (neighbour < centre[:, None] + window)  # (b,m)
    both = inside[:, None, :, None] & inside[None, :, None, :]
    return both.reshape(_BLOCK * _BLOCK, side * side).to(like)
