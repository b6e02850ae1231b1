"""CSSD for maps: every pixel of a tile at once, equal to `CSSD.forward` window by window, to rounding.

A trained network is rewritten: normalisation, the spectral map and its batch norm become one product, the spatial
batch norm goes into its convolution. A tile then flows through in strips of rows that fit the processor's cache.
Each stage keeps the last rows of its input, which the next strip needs again, so nothing is computed twice.

Shapes: S bands of the model, B bands that are read (these, or others that the first product resamples), C spectral
features, D spatial features, K classes, w window, y x x pixels with their halo, h x v without, r rows of a strip.
Channels are last in memory.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from cssd_geo.compute import kernels
from cssd_geo.compute.convolution import Convolution
from cssd_geo.compute.dilation import dilate
from cssd_geo.compute.kernels import Then
from cssd_geo.compute.pooling import BLOCK_COLUMNS, BLOCK_ROWS, Pooling
from cssd_geo.compute.projection import Projection, forbid_tf32
from cssd_geo.compute.rows import Buffer, Rows
from cssd_geo.compute.workers import run_side_by_side, threads_for
from cssd_geo.network import CSSD, MARGIN, Logits
from cssd_geo.tiles import Halo

_PANEL_COLUMNS = 256
"""Columns of a tile that flow through together on a CPU; the halo between two panels is computed twice."""
_LEAST_PANEL_COLUMNS = 128
"""Likewise at least, where there are many processors: narrower panels would be mostly halo."""
_STRIP_PIXELS = 8192
"""Pixels of a strip on a CPU: 8 MB a stage with 256 features in float32. Half as many are slower."""
_GATHERED_ROWS = 4
"""Rows of a strip whose pixels are put together at a time, so that they are in the cache for the first product."""
_LEAST_ROWS = 16
"""Rows of a strip at least, where many are computed side by side: with 4 rows a pixel takes a fifth longer."""
_LIVE_STAGES = 11
"""Results of C features for each pixel of a strip that are in memory at a time, groups for the pooling included.

The first product's comes on top.
"""
_FEWEST_PIXELS = 1024
"""A GPU with too little memory even for strips of this size is not for this network."""

_log = logging.getLogger(__name__)


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
        self._panel_columns, self._strip_pixels = _PANEL_COLUMNS, _STRIP_PIXELS
        if device.type != "cpu":
            self._panel_columns = self._strip_pixels = sys.maxsize
        self._idle: list[_Flow] = []
        weight, start = network.spectral_affine()  # (C,S) (C,)
        discriminant = network.discriminant_affine()  # (K,S) (K,)
        if discriminant is not None:  # one more product of the bands is K more rows of the first one
            weight, start = (torch.cat(pair) for pair in zip((weight, start), discriminant, strict=True))
        folded = torch.mul if gain.dim() == 1 else torch.matmul
        then: Then = "gelu" if network.config.activation else "plain"
        self._spectral = Projection(
            folded(weight, gain.to(weight)),
            start + weight @ bias.to(weight),
            then=then,
            rest=len(weight) - network.config.spectral_features,
            dtype=torch.promote_types(dtype, torch.float32),
            device=device,
        )
        attention = network.refine.attention.parameters()
        self._attention = Projection(*attention, then="gate", dtype=dtype, device=device)
        self._spatial = Convolution(*network.spatial_affine(), then=then, dtype=dtype, device=device)
        self._classifier = Convolution(*network.classifier.parameters(), dtype=dtype, device=device)
        self._element = torch.sigmoid(network.refine.element).detach().to(device, dtype)
        teacher = Projection(*network.teacher.parameters(), dtype=dtype, device=device)
        self._teacher = teacher if discriminant is None else None
        self._pooling = Pooling(network.config.window, network.sharpness, dtype=dtype, device=device)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_idle": []}  # working memory does not travel

    @property
    def halo(self) -> Halo:
        """Pixels that the network needs around those that it classifies."""
        return self.config.halo

    @property
    def working_bytes(self) -> int:
        """Memory that computing takes on a CPU, whatever the size of the tile."""
        at_once = threads_for(sys.maxsize)
        first_strip = _shared(_STRIP_PIXELS, at_once) + self.halo.total * (_PANEL_COLUMNS + self.halo.total)
        stored_and_mapped = sum(self._spectral.weight.shape) * self._spectral.weight.dtype.itemsize
        features = _LIVE_STAGES * self.config.spectral_features * self.dtype.itemsize
        return first_strip * (stored_and_mapped + features) * at_once

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
        shape = (*(n - self.halo.total for n in valid.shape), self.config.classes)
        whole = Logits(*(self._spectral.weight.new_empty(shape) for _ in Logits._fields))

        def keep(columns: slice, heads: Logits) -> None:
            for all_columns, panel in zip(whole, heads, strict=True):
                all_columns[:, columns] = panel

        self.each_panel(stored, valid, keep, at=at, alone=True)
        return whole

    @torch.inference_mode()
    def each_panel(
        self,
        stored: Tensor,
        valid: Tensor,
        take: Callable[[slice, Logits], None],
        *,
        at: tuple[int, int] = (0, 0),
        alone: bool = False,
    ) -> None:
        """Classify a tile panel by panel. Where a GPU's memory is short, smaller pieces are tried.

        Args:
            stored: as for a call, likewise `valid`; on the device, or on the CPU: then strips are copied.
            valid: see there.
            take: called with each panel's columns and logits, (h, v of the panel, K). The logits are overwritten
                after the call. Several threads may call at once; if memory runs out, all panels come again in
                smaller pieces.
            at: see there.
            alone: whether no other tile is computed meanwhile: then a narrow one gets all processors. Else all
                tiles share the same threads, so that together they take the working memory of one.
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
        return self._classify_panel(stored, valid, _Flow(self.config.window), sys.maxsize, (0, 0))

    def _each_panel(
        self,
        stored: Tensor,
        valid: Tensor,
        take: Callable[[slice, Logits], None],
        *,
        at: tuple[int, int],
        alone: bool,
    ) -> None:
        on_cpu, width = self.device.type == "cpu", valid.shape[1] - self.halo.total
        side_by_side = threads_for(width // _LEAST_PANEL_COLUMNS) if on_cpu else 1
        at_once = threads_for(sys.maxsize) if on_cpu and not alone else side_by_side
        strip = _shared(self._strip_pixels, at_once)

        @torch.inference_mode()
        def classify_panel(core: slice) -> None:
            padded, flow = slice(core.start, core.stop + self.halo.total), self._idle_flow()
            place = at[0], at[1] + core.start
            take(core, self._classify_panel(stored[:, :, padded], valid[:, padded], flow, strip, place))
            self._idle.append(flow)

        run_side_by_side(classify_panel, _panels(width, self._panel_columns, side_by_side), at_once)

    def _classify_panel(
        self, stored: Tensor, valid: Tensor, flow: "_Flow", strip_pixels: int, at: tuple[int, int]
    ) -> Logits:
        """Let the rows of (B,y,x) and (y,x) flow through all stages, to two (h,v,K)."""
        height, width = valid.shape
        core = height - self.halo.total, width - self.halo.total, self.config.classes
        main, spectral = (room.take(self._spectral.weight, core) for room in (flow.main, flow.spectral))
        mask, done = _Mask(valid, self.device), 0
        for start, stop in self._strips(height, width, strip_pixels):
            features, opinions = self._look_at_spectra(stored[:, start:stop], mask, flow, stop)  # (r,x,C) (r,x,K)
            self._keep_core(opinions, start, spectral)
            votes = self._vote(features, mask, flow, stop, at)  # (r+w-1,v+w-1,K+1)
            units = self._units(features, flow)
            pooled = main[done : done + len(votes) - self.config.window + 1]
            self._pooling(units, votes, pooled)
            done += len(pooled)
        return Logits(main, spectral)

    def _idle_flow(self) -> "_Flow":
        """Return a flow that no other thread uses."""
        try:
            flow = self._idle.pop()
        except IndexError:
            return _Flow(self.config.window)
        flow.begin()
        return flow

    def _strips(self, height: int, width: int, pixels: int) -> Iterator[tuple[int, int]]:
        """First row and end of each strip; the first has the halo on top, so that each one leads to results."""
        most = max(_LEAST_ROWS, pixels // (width * BLOCK_ROWS) * BLOCK_ROWS)
        first = min(most + self.halo.total, height)
        yield 0, first
        rest = height - first
        if rest:
            step = -(-rest // (-(-rest // most) * BLOCK_ROWS)) * BLOCK_ROWS  # alike, so that none is too short
            for start in range(first, height, step):
                yield start, min(start + step, height)

    def _look_at_spectra(self, stored: Tensor, mask: "_Mask", flow: "_Flow", stop: int) -> tuple[Tensor, Tensor]:
        """Spectral features and the spectral head's logits of rows up to `stop`: (B,r,x) -> (r,x,C), (r,x,K)."""
        size, weight, teacher = stored.shape[1:], self._spectral.weight, self._teacher
        features = flow.features.take(self._element, (*size, self.config.spectral_features))
        opinions = flow.opinions.take(weight if teacher is None else features, (*size, self.config.classes))
        by_torch = self.device.type != "cpu" or not kernels.compiled()  # which is faster in one call
        rows = size[0] if by_torch else _GATHERED_ROWS
        for top in range(0, size[0], rows):
            some = slice(top, top + rows)
            pixels = _gathered(stored[:, some], flow.pixels, weight)
            self._spectral(pixels, features[some], opinions[some] if teacher is None else None)
        mask.blank(features, stop)
        if teacher is not None:  # after that, as oneDNN lets a NaN spoil the next pixel (bfloat16, C odd)
            teacher(features, opinions)
        return features, opinions

    def _keep_core(self, logits: Tensor, start: int, out: Tensor) -> None:
        """Write logits (r,x,K), in the panel from row `start`, to `out` as far as they lie in the core."""
        top = start - self.halo.before
        first, stop = max(top, 0), min(top + len(logits), len(out))
        if first < stop:
            out[first:stop] = logits[first - top : stop - top, self.halo.before :][:, : out.shape[1]]

    def _vote(self, features: Tensor, mask: "_Mask", flow: "_Flow", stop: int, at: tuple[int, int]) -> Tensor:
        """Refinement and both convolutions: (r,x,C) up to row `stop` -> logits and a last 1, (.,v+w-1,K+1)."""
        attended, fresh = flow.attended.extend(features, features.shape)
        self._attention(features, fresh)
        refined, fresh = flow.refined.extend(features, _narrowed(attended))
        dilate(attended[None].permute(0, 3, 1, 2), self._element, fresh[None].permute(0, 3, 1, 2))
        mask.blank(fresh, stop - 1, margin=1)
        spatial, fresh = flow.spatial.extend(features, (*_narrowed(refined)[:2], self.config.spatial_features))
        self._spatial(refined, fresh, (at[0] + stop - 2 - len(fresh), at[1] + 2))
        mask.blank(fresh, stop - 2, margin=2)
        logits = flow.logits.take(features, (*_narrowed(spatial)[:2], self.config.classes))
        self._classifier(spatial, logits, (at[0] + stop - 3 - len(logits), at[1] + 3))
        votes, fresh = flow.votes.extend(features, (*logits.shape[:2], self.config.classes + 1))
        fresh[..., :-1], fresh[..., -1] = logits, 1
        mask.blank(fresh, stop - 3, margin=3)
        return votes

    def _units(self, features: Tensor, flow: "_Flow") -> Tensor:
        """Spectral features of one length, as the pooling keeps them, of the same rows as the votes."""
        top = MARGIN if flow.units.empty else 0
        inner = features[top:, MARGIN : features.shape[1] - MARGIN]
        units, fresh = flow.units.extend(features, self._pooling.shape(inner))
        self._pooling.write_units(inner, fresh)
        return units[: len(units) - MARGIN]  # the votes lag behind by the margin of the convolutions


class _Flow:
    """What the stages keep from strip to strip, and their memory, which serves one panel after the other."""

    def __init__(self, window: int) -> None:
        self.pixels, self.features, self.opinions, self.logits = (Buffer() for _ in range(4))
        self.main, self.spectral = Buffer(), Buffer()
        self.attended, self.refined, self.spatial = Rows(2), Rows(2), Rows(2)
        self.votes = Rows(window - 1)
        self.units = Rows(window - 1 + MARGIN)

    def begin(self) -> None:
        """Forget the rows of another panel."""
        for rows in (self.attended, self.refined, self.spatial, self.votes, self.units):
            rows.clear()


class _Mask:
    """Where a panel is not valid. On a CPU valid rows cost nothing; to look on a GPU would mean to wait for it."""

    def __init__(self, valid: Tensor, device: torch.device) -> None:
        self._blank = ~valid.to(device)
        self._rows = (~valid.all(dim=1)).tolist() if device.type == "cpu" else [True] * len(valid)

    def blank(self, rows: Tensor, stop: int, margin: int = 0) -> None:
        """Zero what is not valid of (r,x,.), in place: rows up to row `stop`, columns from column `margin`."""
        span = slice(stop - len(rows), stop)
        if any(self._rows[span]):
            rows.masked_fill_(self._blank[span, margin : margin + rows.shape[1], None], 0)


def _gathered(stored: Tensor, room: Buffer, like: Tensor) -> Tensor:
    """Stored values (B,r,x) as pixels (r,x,B) of the type of `like`."""
    pixels = room.take(like, (*stored.shape[1:], len(stored)))
    return pixels if kernels.gather(stored, pixels) else pixels.copy_(stored.permute(1, 2, 0))


def _shared(strip_pixels: int, at_once: int) -> int:
    """Pixels of a strip where several are computed side by side: together no more than two of full size."""
    return strip_pixels // max(1, at_once // 2)


def _panels(width: int, most: int, at_once: int) -> list[slice]:
    """Cut columns into panels of `most` or fewer: whole blocks for the pooling, as many for each thread."""
    count = -(-width // (most * at_once)) * at_once
    columns = -(-width // (count * BLOCK_COLUMNS)) * BLOCK_COLUMNS
    return [slice(left, min(left + columns, width)) for left in range(0, width, columns)]


def _narrowed(rows: Tensor) -> tuple[int, int, int]:
    """Shape of what a 3x3 operation makes of (r,x,C)."""
    return rows.shape[0] - 2, rows.shape[1] - 2, rows.shape[2]
