"""CSSD for maps: every pixel of a tile at once, equal to `CSSD.forward` window by window, to rounding.

A trained network is rewritten: normalisation, the spectral map and its batch norm become one product, the spatial
batch norm goes into its convolution. A tile is cut into panels, which are computed side by side: on a CPU by loops
of our own (`compute.flow`); on a GPU, or where nothing is compiled, by torch (`compute.strips`).

Shapes: S bands of the model, B bands that are read (these, or others that the first product resamples), C spectral
features, D spatial features, K classes, w window, y x x pixels with their halo, h x v without.
"""

import logging
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from cssd_geo.compute.flow import Flow
from cssd_geo.compute.folded import Affine, Folded
from cssd_geo.compute.pooling import BLOCK_COLUMNS
from cssd_geo.compute.projection import forbid_tf32
from cssd_geo.compute.strips import Strips
from cssd_geo.compute.workers import run_side_by_side, threads_for
from cssd_geo.network import CSSD, Logits
from cssd_geo.tiles import Halo

_PANEL_COLUMNS = 256
"""Columns of a tile that are computed together on a CPU; the halo between two panels is computed twice."""
_LEAST_PANEL_COLUMNS, _LEAST_PANEL_ROWS = 128, 64
"""Likewise at least, where there are many processors: smaller panels would be mostly halo."""
_MOST, _MOST_WIDE = 64, 32
"""Panels that are computed at a time, each in 7 to 12 MB; where there are more than the latter, half as wide."""
_STRIP_PIXELS = 8192
"""Pixels that flow through at a time where torch computes on a CPU: 8 MB a stage with 256 features in float32."""
_FEWEST_PIXELS = 1024
"""A GPU with too little memory even for strips of this size is not for this network."""

_log = logging.getLogger(__name__)

Pixels = tuple[slice, slice]
"""Rows and columns of a tile's core."""


class DenseNetwork:
    """A trained network, made ready to classify every pixel of tiles of stored values. Never trains."""

    def __init__(
        self, network: CSSD, gain: Tensor, bias: Tensor, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Fold what is affine.

        Args:
            network: the network; later changes of its weights are not seen.
            gain: (S,) where the network's input = gain * stored value + bias; or (S, B) for stored values of B
                other bands, where it is gain @ stored values + bias.
            bias: (S,) likewise.
            dtype: of all but the first product, which has float32 at least: it takes small differences of large
                numbers.
            device: where to compute.
        """
        self.config, self.dtype, self.device = network.config, dtype, device
        self._folded = _fold(network, gain, bias)
        self._panel_columns, self._strip_pixels = _PANEL_COLUMNS, _STRIP_PIXELS
        if device.type != "cpu":
            self._panel_columns = self._strip_pixels = sys.maxsize
        self._idle: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        here = {"_way", "_idle"}  # of this processor; working memory
        return {name: value for name, value in self.__dict__.items() if name not in here} | {"_idle": []}

    @cached_property
    def _way(self) -> Flow | Strips:
        """How it is computed."""
        if self.device.type == "cpu" and Flow.computes(self._folded, self.dtype):
            return Flow(self._folded, self.dtype)
        return Strips(self._folded, self.dtype, self.device)

    @property
    def halo(self) -> Halo:
        """Pixels that the network needs around those that it classifies."""
        return self.config.halo

    @property
    def working_bytes(self) -> int:
        """Memory that computing takes on a CPU, whatever the size of the tile."""
        at_once, columns = self._at_once, min(_PANEL_COLUMNS, self._columns) + self.halo.total
        if isinstance(self._way, Flow):
            return at_once * self._way.working_bytes(columns)
        return at_once * self._way.working_bytes(_shared(_STRIP_PIXELS, at_once) + self.halo.total * columns)

    @property
    def _at_once(self) -> int:
        """Panels that are computed at a time. Where torch computes, each takes much memory and several threads."""
        if isinstance(self._way, Flow):
            return min(torch.get_num_threads(), _MOST)
        return threads_for(sys.maxsize) if self.device.type == "cpu" else 1

    @property
    def _columns(self) -> int:
        """Columns of a panel at most."""
        return self._panel_columns if self._at_once <= _MOST_WIDE else self._panel_columns // 2

    def __call__(self, stored: Tensor, valid: Tensor, *, at: tuple[int, int] = (0, 0)) -> Logits:
        """Classify every pixel of a tile's core.

        Args:
            stored: (B, y, x) stored values, of any type and layout.
            valid: (y, x) bool, True means usable.
            at: where the tile lies: row and column of its first pixel in the scene. On it depends how results are
                rounded, so that they are the same in every tile that the pixel is part of.

        Returns:
            Logits of (h, v, K); without meaning where the pixel itself is not valid.
        """
        shape, kind = (*self._core(valid), self.config.classes), torch.promote_types(self.dtype, torch.float32)
        whole = Logits(*(torch.empty(shape, dtype=kind, device=self.device) for _ in Logits._fields))

        def keep(pixels: Pixels, heads: Logits) -> None:
            for all_pixels, panel in zip(whole, heads, strict=True):
                all_pixels[pixels] = panel

        self.each_panel(stored, valid, keep, at=at, alone=True)
        return whole

    @torch.inference_mode()
    def each_panel(
        self,
        stored: Tensor,
        valid: Tensor,
        take: Callable[[Pixels, Logits], None],
        *,
        at: tuple[int, int] = (0, 0),
        alone: bool = False,
    ) -> None:
        """Classify a tile panel by panel. Where a GPU's memory is short, smaller pieces are tried.

        Args:
            stored: as for a call, likewise `valid`; on the device, or on the CPU: then strips are copied.
            valid: see there.
            take: called with each panel's rows and columns and its logits, (h, v of the panel, K). The logits are
                overwritten after the call. Several threads may call at once; if memory runs out, all panels come
                again in smaller pieces.
            at: see there.
            alone: whether no other tile is computed meanwhile: then it is cut into panels for all processors. Else
                two tiles share them, and the working memory of one.
        """
        forbid_tf32(self.device, self.dtype)
        while True:
            try:
                with torch.autocast(self.device.type, enabled=False):  # of a program around ours
                    return self._each_panel(stored, valid, take, at=at, alone=alone)
            except torch.OutOfMemoryError:
                smaller = min(self._strip_pixels, valid.numel()) // 2
                if smaller < _FEWEST_PIXELS:
                    raise
            self._strip_pixels = self._panel_columns = smaller
            self._idle.clear()
            _log.warning("out of memory on %s: going on with %s pixels at a time", self.device, f"{smaller:,}")

    def in_one_piece(self, stored: Tensor, valid: Tensor) -> Logits:
        """Classify a tile that is on the device in one piece and without waiting for the device.

        Args and result are those of a call.
        """
        forbid_tf32(self.device, self.dtype)
        return self._classify(stored, valid, self._way.memory(), sys.maxsize, (0, 0))

    def _each_panel(
        self,
        stored: Tensor,
        valid: Tensor,
        take: Callable[[Pixels, Logits], None],
        *,
        at: tuple[int, int],
        alone: bool,
    ) -> None:
        at_once, beyond = self._at_once, self.halo.total
        strip = _shared(self._strip_pixels, at_once)

        @torch.inference_mode()
        def classify_panel(pixels: Pixels) -> None:
            rows, columns = (slice(each.start, each.stop + beyond) for each in pixels)
            memory = self._idle_memory()
            place = at[0] + rows.start, at[1] + columns.start
            take(pixels, self._classify(stored[:, rows, columns], valid[rows, columns], memory, strip, place))
            self._idle.append(memory)

        wanted = at_once if alone else -(-at_once // 2)
        run_side_by_side(classify_panel, _panels(*self._core(valid), self._columns, wanted), at_once)

    def _classify(
        self, stored: Tensor, valid: Tensor, memory: Any, strip_pixels: int, at: tuple[int, int]
    ) -> Logits:
        """Classify a panel, (B,y,x) and (y,x) -> two (h,v,K)."""
        if isinstance(self._way, Flow):
            return Logits(*self._way(stored, valid, memory, at))
        return Logits(*self._way(stored, valid, memory, strip_pixels))

    def _idle_memory(self) -> Any:
        """Return memory that no other thread uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._way.memory()

    def _core(self, valid: Tensor) -> tuple[int, int]:
        """Size of what is classified of (y,x)."""
        return valid.shape[0] - self.halo.total, valid.shape[1] - self.halo.total


def _fold(network: CSSD, gain: Tensor, bias: Tensor) -> Folded:
    weight, start = network.spectral_affine()  # (C,S) (C,)
    discriminant = network.discriminant_affine()  # (K,S) (K,)
    if discriminant is not None:  # one more product of the bands is K more rows of the first one
        weight, start = (torch.cat(pair) for pair in zip((weight, start), discriminant, strict=True))
    folded = torch.mul if gain.dim() == 1 else torch.matmul
    return Folded(
        spectral=Affine(folded(weight, gain.to(weight)), start + weight @ bias.to(weight)).copied(),
        teacher=Affine(*network.teacher.parameters()).copied() if discriminant is None else None,
        attention=Affine(*network.refine.attention.parameters()).copied(),
        element=torch.sigmoid(network.refine.element).detach().cpu().double(),
        spatial=Affine(*network.spatial_affine()).copied(),
        classifier=Affine(*network.classifier.parameters()).copied(),
        activation=network.config.activation,
        window=network.config.window,
        halo=network.config.halo,
        sharpness=network.sharpness,
    )


def _shared(strip_pixels: int, at_once: int) -> int:
    """Pixels of a strip where several are computed side by side: together no more than two of full size."""
    return strip_pixels // max(1, at_once // 2)


def _panels(height: int, width: int, most_columns: int, wanted: int) -> list[Pixels]:
    """Cut a core into panels of so many columns or fewer; into as many as are wanted, but not too small ones."""
    across = max(1, min(wanted, width // _LEAST_PANEL_COLUMNS))
    count = -(-width // (most_columns * across)) * across
    columns = -(-width // (count * BLOCK_COLUMNS)) * BLOCK_COLUMNS
    down = max(1, min(-(-wanted // count), height // _LEAST_PANEL_ROWS))
    rows = -(-height // down)
    return [
        (slice(top, min(top + rows, height)), slice(left, min(left + columns, width)))
        for top in range(0, height, rows)
        for left in range(0, width, columns)
    ]
