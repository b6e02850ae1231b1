"""Spectral-aware pooling of every window of a panel at once, as matrix products.

Centres are taken in blocks of some rows and 8 columns, which share one product with the neighbourhood of them all.
Pixels are laid out in overlapping groups of columns, one for each block across, so that the neighbourhoods of a
row of blocks are a view, not a copy.

Shapes: C spectral features, K classes, w window, J blocks across, n = 8 + w - 1 columns of a neighbourhood, m
pixels of one, b centres of a block.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from cssd_geo.compute.projection import project_groups

BLOCK_ROWS, BLOCK_COLUMNS = 4, 8
"""Centres that share a product: larger blocks compare more pairs in vain, smaller ones multiply more slowly."""
_GPU_BLOCK_ROWS = 16
"""On a GPU each product is a launch, and few large ones are worth more pairs in vain."""
_NOT_IN_WINDOW = -80.0
"""As an exponent: a weight of 2e-35, far below the rounding of a sum that holds the centre's 1. An
infinity would be exact, and three times slower in the exponential."""


class Pooling:
    """Mean of the votes in each window, weighted by how alike the spectra of pixel and centre are."""

    def __init__(self, window: int, sharpness: float | None, *, dtype: torch.dtype, device: torch.device) -> None:
        """Prepare.

        Args:
            window: w.
            sharpness: weights are exp(sharpness * (cosine - 1)) and their sum is divided by; None: weights are the
                cosines, divided by the number of valid pixels.
            dtype: of all computations.
            device: where to compute.
        """
        self._window, self._sharpness = window, sharpness
        self._dtype, self._device = dtype, device
        self._block_rows = BLOCK_ROWS if device.type == "cpu" else _GPU_BLOCK_ROWS
        self._patterns: dict[int, Tensor] = {}

    def shape(self, rows: Tensor) -> tuple[int, ...]:
        """Shape of the units of rows (r, v + w - 1, C), in groups: (r, n, J, C)."""
        return rows.shape[0], BLOCK_COLUMNS + self._window - 1, self._blocks(rows), rows.shape[2]

    def _blocks(self, rows: Tensor) -> int:
        """Blocks of centres in rows of (r, v + w - 1, .)."""
        return -(-(rows.shape[1] - self._window + 1) // BLOCK_COLUMNS)

    def _grouped(self, rows: Tensor) -> Tensor:
        """View rows (r, v + w - 1, C) as overlapping groups of columns, one for each block: (r, n, J, C).

        Columns that the last group lacks are zero; then, and only then, the rows are copied.
        """
        blocks, reach = self._blocks(rows), BLOCK_COLUMNS + self._window - 1
        missing = (blocks - 1) * BLOCK_COLUMNS + reach - rows.shape[1]
        padded = functional.pad(rows, (0, 0, 0, missing)) if missing else rows
        return padded.unfold(1, reach, BLOCK_COLUMNS).permute(0, 3, 1, 2)

    def write_units(self, features: Tensor, out: Tensor) -> None:
        """Write features (r, v + w - 1, C), brought to one length, in the `shape` for it: zero stays zero.

        The product of two such features is their cosine, times the sharpness if there is one.
        """
        length = 1.0 if self._sharpness is None else math.sqrt(self._sharpness)
        lengths = self._grouped(torch.linalg.vector_norm(features, dim=2, keepdim=True))
        torch.div(self._grouped(features), lengths.clamp_min(1e-12) / length, out=out)

    def __call__(self, units: Tensor, votes: Tensor, out: Tensor) -> None:
        """Pool.

        Args:
            units: of r + w - 1 rows, as `write_units` writes them.
            votes: (r + w - 1, v + w - 1, K + 1), logits and a last 1; all zero where not valid.
            out: (r, v, K), where the pooled logits go.
        """
        for top in range(0, len(out), self._block_rows):
            rows = out[top : top + self._block_rows]
            reach = slice(top, top + len(rows) + self._window - 1)
            self._pool(units[reach], votes[reach], rows)

    def _pool(self, units: Tensor, votes: Tensor, out: Tensor) -> None:
        """Pool a row of blocks."""
        sharp, rows, middle = self._sharpness is not None, len(out), self._window // 2
        pattern = self._pattern(rows)
        centres = units[middle : middle + rows, middle : middle + BLOCK_COLUMNS].flatten(0, 1)  # (b,J,C)
        products = project_groups(units, centres.transpose(0, 1))  # (.,n,J,b)
        weight = products.flatten(0, 1)  # (m,J,b)
        weight = weight.add_(pattern[:, None]).exp_() if sharp else weight.mul_(pattern[:, None])
        ballots = self._grouped(votes).flatten(0, 1).permute(1, 2, 0)  # (J,K+1,m)
        sums = ballots @ weight.transpose(0, 1)  # (J,K+1,b)
        voters = sums[:, -1:] if sharp else ballots[:, -1:] @ pattern.to(ballots)
        pooled = sums[:, :-1] / voters.clamp_min(1e-12)  # (J,K,b)
        rows_of_all = pooled.reshape(*pooled.shape[:2], rows, BLOCK_COLUMNS).permute(2, 0, 3, 1).flatten(1, 2)
        out.copy_(rows_of_all[:, : out.shape[1]])

    def _pattern(self, rows: int) -> Tensor:
        """Which of m neighbours lie in the window of which of b centres: (m, b), as a factor, 1 or 0.

        Or as what is added to the exponent.
        """
        if rows not in self._patterns:
            down, across = (_in_reach(n, self._window) for n in (rows, BLOCK_COLUMNS))
            inside = (down[:, None, :, None] & across[None, :, None, :]).flatten(2).flatten(0, 1)
            yes, no = 1.0, 0.0
            if self._sharpness is not None:
                yes, no = -self._sharpness, _NOT_IN_WINDOW - self._sharpness
            kind = torch.promote_types(self._dtype, torch.float32)
            pattern = torch.full(inside.shape, no, dtype=kind, device=inside.device).masked_fill_(inside, yes)
            self._patterns[rows] = pattern.to(self._device)
        return self._patterns[rows]


def _in_reach(centres: int, window: int) -> Tensor:
    """(centres + w - 1, centres): which neighbour along one axis lies in the window of which centre."""
    neighbour = torch.arange(centres + window - 1, device="cpu")[:, None]
    centre = torch.arange(centres, device="cpu")
    return (neighbour >= centre) & (neighbour < centre + window)
