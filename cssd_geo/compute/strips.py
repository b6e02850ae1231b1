"""The network for a piece of a scene by torch: on a GPU, or on a CPU where nothing is compiled.

Pixels flow through in strips of rows: on a CPU so many that they fit its cache, on a GPU all of them at once. Each
stage keeps the last rows of its input, which the next strip needs again, so nothing is computed twice.

Shapes: B bands, C spectral features, D spatial features, K classes, w window, y x x pixels with their halo, h x v
without, r rows of a strip. Channels are last in memory.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from cssd_geo.compute.convolution import Convolution
from cssd_geo.compute.dilation import dilate
from cssd_geo.compute.folded import MARGIN, Folded
from cssd_geo.compute.pooling import BLOCK_ROWS, Pooling
from cssd_geo.compute.projection import Projection
from cssd_geo.compute.rows import Buffer, Rows

_LEAST_ROWS = 16
"""Rows of a strip at least: with 4 rows a pixel takes a fifth longer."""
_LIVE_STAGES = 11
"""Results of C features for each pixel of a strip that are in memory at a time, groups for the pooling included.

The first product's comes on top.
"""


class Memory:
    """What the stages keep from strip to strip, and what they write to, used by one panel after the other."""

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


class Strips:
    """A network on a device."""

    def __init__(self, folded: Folded, dtype: torch.dtype, device: torch.device) -> None:
        """Prepare; `dtype` is that of all but the first product."""
        self._folded, self._dtype, self._device = folded, dtype, device
        self._spectral = Projection(
            folded.spectral,
            then="gelu" if folded.activation else "plain",
            rest=len(folded.spectral.bias) - folded.features,
            dtype=torch.promote_types(dtype, torch.float32),
            device=device,
        )
        teacher = folded.teacher
        self._teacher = None if teacher is None else Projection(teacher, dtype=dtype, device=device)
        self._attention = Projection(folded.attention, then="gate", dtype=dtype, device=device)
        self._spatial = Convolution(folded.spatial, gelu=folded.activation, dtype=dtype, device=device)
        self._classifier = Convolution(folded.classifier, dtype=dtype, device=device)
        self._element = folded.element.to(device, dtype)
        self._pooling = Pooling(folded.window, folded.sharpness, dtype=dtype, device=device)

    def memory(self) -> Memory:
        """For one call at a time."""
        return Memory(self._folded.window)

    def working_bytes(self, pixels: int) -> int:
        """Memory that a call takes on a CPU for a first strip of so many pixels, its halo included."""
        stored_and_mapped = sum(self._spectral.weight.shape) * self._spectral.weight.dtype.itemsize
        return pixels * (stored_and_mapped + _LIVE_STAGES * self._folded.features * self._dtype.itemsize)

    def __call__(self, stored: Tensor, valid: Tensor, memory: Memory, pixels: int) -> tuple[Tensor, Tensor]:
        """Classify a panel.

        Args:
            stored: (B,y,x) stored values of any type and layout, on the device or on the CPU.
            valid: (y,x) bool, likewise.
            memory: where results are until the next call.
            pixels: how many flow through at a time.

        Returns:
            Logits of both heads, (h,v,K).
        """
        memory.begin()
        (height, width), halo = valid.shape, self._folded.halo.total
        core = height - halo, width - halo, self._folded.classes
        main, spectral = (room.take(self._spectral.weight, core) for room in (memory.main, memory.spectral))
        mask, done = _Mask(valid, self._device), 0
        for start, stop in self._strips(height, width, pixels):
            features, opinions = self._look_at_spectra(stored[:, start:stop], mask, memory, stop)
            self._keep_core(opinions, start, spectral)
            votes = self._vote(features, mask, memory, stop)  # (r+w-1,v+w-1,K+1)
            units = self._units(features, memory)
            pooled = main[done : done + len(votes) - self._folded.window + 1]
            self._pooling(units, votes, pooled)
            done += len(pooled)
        return main, spectral

    def _strips(self, height: int, width: int, pixels: int) -> Iterator[tuple[int, int]]:
        """First row and end of each strip; the first has the halo on top, so that each one leads to results."""
        most = max(_LEAST_ROWS, pixels // (width * BLOCK_ROWS) * BLOCK_ROWS)
        first = min(most + self._folded.halo.total, height)
        yield 0, first
        rest = height - first
        if rest:
            step = -(-rest // (-(-rest // most) * BLOCK_ROWS)) * BLOCK_ROWS  # alike, so that none is too short
            for start in range(first, height, step):
                yield start, min(start + step, height)

    def _look_at_spectra(self, stored: Tensor, mask: "_Mask", memory: Memory, stop: int) -> tuple[Tensor, Tensor]:
        """Spectral features and the spectral head's logits of rows up to `stop`: (B,r,x) -> (r,x,C), (r,x,K)."""
        size, weight, teacher = stored.shape[1:], self._spectral.weight, self._teacher
        pixels = memory.pixels.take(weight, (*size, len(stored))).copy_(stored.permute(1, 2, 0))
        features = memory.features.take(self._element, (*size, self._folded.features))
        opinions = memory.opinions.take(weight if teacher is None else features, (*size, self._folded.classes))
        self._spectral(pixels, features, opinions if teacher is None else None)
        mask.blank(features, stop)
        if teacher is not None:  # after that, as oneDNN lets a NaN spoil the next pixel (bfloat16, C odd)
            teacher(features, opinions)
        return features, opinions

    def _keep_core(self, logits: Tensor, start: int, out: Tensor) -> None:
        """Write logits (r,x,K), in the panel from row `start`, to `out` as far as they lie in the core."""
        before = self._folded.halo.before
        top = start - before
        first, stop = max(top, 0), min(top + len(logits), len(out))
        if first < stop:
            out[first:stop] = logits[first - top : stop - top, before:][:, : out.shape[1]]

    def _vote(self, features: Tensor, mask: "_Mask", memory: Memory, stop: int) -> Tensor:
        """Refinement and both convolutions: (r,x,C) up to row `stop` -> logits and a last 1, (.,v+w-1,K+1)."""
        filters, classes = self._folded.filters, self._folded.classes
        attended, fresh = memory.attended.extend(features, features.shape)
        self._attention(features, fresh)
        refined, fresh = memory.refined.extend(features, _narrowed(attended))
        dilate(attended[None].permute(0, 3, 1, 2), self._element, fresh[None].permute(0, 3, 1, 2))
        mask.blank(fresh, stop - 1, margin=1)
        spatial, fresh = memory.spatial.extend(features, (*_narrowed(refined)[:2], filters))
        self._spatial(refined, fresh)
        mask.blank(fresh, stop - 2, margin=2)
        logits = memory.logits.take(features, (*_narrowed(spatial)[:2], classes))
        self._classifier(spatial, logits)
        votes, fresh = memory.votes.extend(features, (*logits.shape[:2], classes + 1))
        fresh[..., :-1], fresh[..., -1] = logits, 1
        mask.blank(fresh, stop - 3, margin=3)
        return votes

    def _units(self, features: Tensor, memory: Memory) -> Tensor:
        """Spectral features of one length, as the pooling keeps them, of the same rows as the votes."""
        top = MARGIN if memory.units.empty else 0
        inner = features[top:, MARGIN : features.shape[1] - MARGIN]
        units, fresh = memory.units.extend(features, self._pooling.shape(inner))
        self._pooling.write_units(inner, fresh)
        return units[: len(units) - MARGIN]  # the votes lag behind by the margin of the convolutions


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


def _narrowed(rows: Tensor) -> tuple[int, int, int]:
    """Shape of what a 3x3 operation makes of (r,x,C)."""
    return rows.shape[0] - 2, rows.shape[1] - 2, rows.shape[2]
