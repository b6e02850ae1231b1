"""Spectral-aware pooling of every window of a panel at once, as matrix products.

Centres are taken in blocks of 4 rows and 8 columns, which share one product with the neighbourhood of them all.
Pixels are laid out in overlapping groups of columns, one for each block across, so that the neighbourhood of every
block is a view, not a copy.

Shapes: C spectral features, K classes, w window, J blocks across, n = 8 + w - 1 columns of a neighbourhood.
"""

import torch
from torch import Tensor
from torch.nn import functional

BLOCK_ROWS, BLOCK_COLUMNS = 4, 8
"""Centres that share a product: larger blocks compare more pairs in vain, smaller ones multiply more slowly."""
_NOT_IN_WINDOW = -80.0
"""As an exponent: a weight of 2e-35, far below the rounding of a sum that holds the centre's 1. An infinity would
be exact, and three times slower in the exponential."""


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
        self._patterns: dict[int, Tensor] = {}

    def shape(self, rows: Tensor) -> tuple[int, int, int, int]:
        """Shape of the groups of rows (r, v + w - 1, C): (J, r, n, C)."""
        blocks = -(-(rows.shape[1] - self._window + 1) // BLOCK_COLUMNS)
        return blocks, rows.shape[0], BLOCK_COLUMNS + self._window - 1, rows.shape[2]

    def grouped(self, rows: Tensor) -> Tensor:
        """View rows (r, v + w - 1, C) as overlapping groups of columns, one for each block: (J, r, n, C).

        Columns that the last group lacks are zero; then, and only then, the rows are copied.
        """
        blocks, _, reach, _ = self.shape(rows)
        missing = (blocks - 1) * BLOCK_COLUMNS + reach - rows.shape[1]
        padded = functional.pad(rows, (0, 0, 0, missing)) if missing else rows
        return padded.unfold(1, reach, BLOCK_COLUMNS).permute(1, 0, 3, 2)

    def __call__(self, units: Tensor, votes: Tensor) -> Tensor:
        """Pool.

        Args:
            units: (J, r + w - 1, n, C) groups of spectral features of length 1, zero where not valid.
            votes: (J, r + w - 1, n, K + 1) groups of logits, and a last 1; all zero where not valid.

        Returns:
            (r, J * 8, K), the pooled logits of r rows.
        """
        rows = units.shape[1] - self._window + 1
        blocks = (self._pool(units, votes, top, min(BLOCK_ROWS, rows - top)) for top in range(0, rows, BLOCK_ROWS))
        return torch.cat(list(blocks))

    def _pool(self, units: Tensor, votes: Tensor, top: int, rows: int) -> Tensor:
        """Pool a row of blocks, whose centres have their windows from row `top`: (rows, J * 8, K)."""
        reach, middle = slice(top, top + rows + self._window - 1), self._window // 2
        near, ballots = units[:, reach].flatten(1, 2), votes[:, reach].flatten(1, 2)  # (J,m,C) (J,m,K+1)
        centres = units[:, top + middle : top + middle + rows, middle : middle + BLOCK_COLUMNS].flatten(1, 2)
        pattern = self._pattern(rows)  # (m,b)
        if self._sharpness is None:
            weight = near @ centres.transpose(1, 2)
            sums = (weight * pattern).transpose(1, 2) @ ballots  # (J,b,K+1)
            voters = pattern.T @ ballots[..., -1:]
        else:
            weight = near @ (self._sharpness * centres).transpose(1, 2)  # (J,m,b)
            sums = weight.add_(pattern).exp_().transpose(1, 2) @ ballots
            voters = sums[..., -1:]
        pooled = sums[..., :-1] / voters.clamp_min(1e-12)
        return pooled.view(len(pooled), rows, BLOCK_COLUMNS, -1).transpose(0, 1).flatten(1, 2)

    def _pattern(self, rows: int) -> Tensor:
        """Which of m neighbours lie in the window of which of b centres, (m, b).

        As a factor, 1 or 0; or as what is added to the exponent.
        """
        if rows not in self._patterns:
            down, across = (_in_reach(n, self._window) for n in (rows, BLOCK_COLUMNS))
            inside = (down[:, None, :, None] & across[None, :, None, :]).flatten(2).flatten(0, 1)
            yes, no = 1.0, 0.0
            if self._sharpness is not None:
                yes, no = -self._sharpness, _NOT_IN_WINDOW - self._sharpness
            pattern = torch.full(inside.shape, no, dtype=self._dtype).masked_fill_(inside, yes)
            self._patterns[rows] = pattern.to(self._device)
        return self._patterns[rows]


def _in_reach(centres: int, window: int) -> Tensor:
    """(centres + w - 1, centres): which neighbour along one axis lies in the window of which centre."""
    neighbour, centre = torch.arange(centres + window - 1)[:, None], torch.arange(centres)
    return (neighbour >= centre) & (neighbour < centre + window)
