"""Training windows: each scene pixel is held once, windows are lookups into it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Halo, TilePlan, Window, tiles_of_pixels

_OUTSIDE = 0
"""Row of the pixel table that stands for every pixel that is not valid or lies outside of the scene."""
_MOST_PAIRS = 20_000
"""Pairs of neighbours that are compared, at most."""
_DRAWN: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}
"""What random numbers are, whatever a program around ours has made of torch's defaults."""


@dataclass(frozen=True, kw_only=True)
class PixelTable:
    """The scene's pixels that some windows need, each once."""

    values: NDArray[Any]
    """(P, S) as stored; the first row is zeros and stands for what is not valid."""
    lookup: NDArray[np.int64]
    """(n, side, side) row of `values` for each pixel of each window."""


@dataclass(frozen=True, kw_only=True)
class TrainingWindows:
    """Windows with their halo, ready to be drawn in batches."""

    pixels: Tensor
    """(P, S) normalised; row 0 is zeros."""
    lookup: Tensor
    """(n, side, side) of int64; side = 2 * halo.before + 1, odd, so that a flip keeps the centre."""
    halo: Halo

    @property
    def centre_rows(self) -> Tensor:
        """(n,) row in `pixels` of each window's centre; 0 where it is not valid."""
        return self.lookup[:, self.halo.before, self.halo.before]

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.pixels.nbytes + self.lookup.nbytes

    def neighbour_differences(self) -> NDArray[np.float32]:
        """(m, S) differences between pixels that lie side by side, at most `_MOST_PAIRS`, drawn at random.

        Equal neighbours are left out: they are copies of one measurement, as resampling to a grid makes them, and
        would say that pixels hardly differ.
        """
        left, right = self.lookup[:, :, :-1].numpy(), self.lookup[:, :, 1:].numpy()
        valid = (left != _OUTSIDE) & (right != _OUTSIDE)
        pairs = np.unique(left[valid] * len(self.pixels) + right[valid])  # one number for each
        chosen = np.random.default_rng(0).permutation(pairs)[:_MOST_PAIRS]
        left_pixels, right_pixels = (self.pixels[rows].numpy() for rows in np.divmod(chosen, len(self.pixels)))
        differences = np.asarray(right_pixels - left_pixels, np.float32)
        return differences[differences.any(axis=1)]

    def augmented(
        self, chosen: Tensor, device: torch.device, random: torch.Generator, *, context_swap: float
    ) -> tuple[Tensor, Tensor]:
        """Draw windows, flipped at random; some in another window's surroundings.

        Args:
            chosen: (B,) indexes of windows.
            device: where the result goes.
            random: source of all randomness.
            context_swap: share of windows whose 5 x 5 centre is pasted into another window of the batch. It keeps
                the classifier from learning which fields lie beside which, true in the training fields only.

        Returns:
            The windows' valid pixels (n, S), each once, and where they lie, (B, R, R), counted from 1 and 0 where
            not valid; R = receptive field.
        """
        windows = self.lookup[chosen]
        flip = torch.rand(2, generator=random, **_DRAWN) < 0.5  # noqa: PLR2004 - heads or tails
        windows = windows.flip([axis + 1 for axis in range(2) if flip[axis]])
        swap = torch.rand(len(windows), generator=random, **_DRAWN) < context_swap
        other = windows[torch.randperm(len(windows), generator=random, device="cpu")]
        near = slice(self.halo.before - 2, self.halo.before + 3)
        mixed = other.clone()
        mixed[:, near, near] = windows[:, near, near]
        return self._gather(torch.where(swap[:, None, None], mixed, windows), device)

    def _gather(self, windows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        side = self.halo.total + 1
        windows = windows[:, :side, :side]  # the centre is at index halo.before of the odd square, and stays there
        used = torch.zeros(len(self.pixels), dtype=torch.bool, device="cpu")
        used[windows.flatten()] = True
        used[_OUTSIDE] = False
        position = used.cumsum(0) * used
        return self.pixels[used].to(device), position[windows].to(device)


def read_windows(
    scene: Scene, rows: NDArray[np.int64], cols: NDArray[np.int64], bands: NDArray[np.intp], reach: int
) -> PixelTable:
    """Read the squares of `reach` pixels around each of the pixels (n,), each scene pixel once.

    Raises:
        SceneError: if the scene cannot be read.
    """
    offsets = np.arange(-reach, reach + 1)
    near_rows = rows[:, None, None] + offsets[:, None]  # (n, side, 1)
    near_cols = cols[:, None, None] + offsets  # (n, 1, side)
    inside = (near_rows >= 0) & (near_rows < scene.grid.height) & (near_cols >= 0) & (near_cols < scene.grid.width)
    flat, position = np.unique((near_rows * scene.grid.width + near_cols)[inside], return_inverse=True)
    values, valid = read_pixels(scene, flat // scene.grid.width, flat % scene.grid.width, bands)
    table_row = np.where(valid, np.cumsum(valid), _OUTSIDE)
    lookup = np.full(inside.shape, _OUTSIDE, np.int64)
    lookup[inside] = table_row[position]
    blank = np.zeros((1, len(bands)), values.dtype)
    return PixelTable(values=np.concatenate([blank, values[valid]]), lookup=lookup)


def read_pixels(
    scene: Scene, rows: NDArray[np.int64], cols: NDArray[np.int64], bands: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Read scattered pixels block by block: values (n, S) as stored and valid (n,).

    Raises:
        SceneError: if the scene cannot be read.
    """
    values = np.empty((len(rows), len(bands)), scene.dtype)
    valid = np.empty(len(rows), np.bool_)
    for window, chosen, at in _windows_around(scene, rows, cols):
        block, usable = scene.read(window, bands)
        values[chosen], valid[chosen] = block[:, at[0], at[1]].T, usable[at]
    return values, valid


def unmasked_pixels(scene: Scene, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell for each of the pixels (n,) whether no mask of the scene excludes it; reads no value.

    Raises:
        SceneError: if a mask cannot be read.
    """
    allowed = np.empty(len(rows), np.bool_)
    for window, chosen, at in _windows_around(scene, rows, cols):
        allowed[chosen] = scene.unmasked(window)[at]
    return allowed


def _windows_around(
    scene: Scene, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> Iterator[tuple[Window, NDArray[np.intp], tuple[NDArray[np.int64], NDArray[np.int64]]]]:
    """Visit scattered pixels block by block: a window, which pixels lie in it, and where in it (rows, columns)."""
    height, width = scene.block_shape
    plan = TilePlan(height=scene.grid.height, width=scene.grid.width, tile_height=height, tile_width=width)
    for _, chosen in tiles_of_pixels(plan, rows, cols):
        window = Window.around(rows[chosen], cols[chosen])
        yield window, chosen, (rows[chosen] - window.row, cols[chosen] - window.col)
