"""A model at work on one tile: stored values in, classes and confidence out. What every engine calls."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cssd_geo.budget import ENOUGH_ROWS, PREFERRED_ROWS, Needs, least_memory, plan_within
from cssd_geo.classes import UNCLASSIFIED
from cssd_geo.compute.recorded import Recorded
from cssd_geo.compute.transfer import Loaded, load
from cssd_geo.dense import DenseNetwork, Pixels
from cssd_geo.errors import CssdGeoError, InputError
from cssd_geo.machine import default_memory, processors
from cssd_geo.maps.layer import PERCENT_NODATA
from cssd_geo.model import Model
from cssd_geo.network import Logits
from cssd_geo.options import whole_number
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.unreadable import Readable
from cssd_geo.spectra.alignment import align
from cssd_geo.tiles import Halo, TilePlan, tiles_of_pixels

_SCATTERED_TILE = 128
"""Side length of the tiles that are read for scattered pixels."""
_ROWS_AT_ONCE = 32
"""Rows of a panel whose logits a CPU turns into classes at once: few enough to stay in the cache."""
_BYTES_A_CLASS = 16
"""Bytes for each class of a pixel, in float32: both heads, and the probabilities of two tiles."""
_SLACK = 1.25
"""Freed memory goes back to the system late; on Linux that was measured as up to a quarter more."""
_MOST_READERS = 8
"""Tiles that are read at a time for a GPU, each with threads of its own that decode blocks."""
_TILES_ON_CPU = 3
"""In memory at a time: two are computed while the next one is read."""
_TILES_BEFORE_GPU = 4
"""In memory beside those that are read: one waits, one is copied to pinned memory, and two are there."""
_GPU_MEMORY = 4_000_000_000
"""Least default of the memory with a GPU, in bytes: enough for so many tiles of several blocks each."""
_EVERYWHERE = slice(None), slice(None)
"""Index of all pixels of a tile."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TileResult:
    """Results for the core of a tile, (height, width)."""

    class_map: NDArray[Any]
    """Class ids, 0 where not valid."""
    confidence: NDArray[np.uint8]
    """Percent 0..100, 255 where not valid."""
    disagreement: NDArray[np.uint8] | None
    """How far the heads are apart: percent 0..100, 255 where not valid; None unless asked for."""
    probabilities: NDArray[np.float32] | None
    """(K, height, width), NaN where not valid; None unless asked for."""


class TileClassifier:
    """A model made ready for the scenes of one product, on one device. Can be sent to other processes.

    Attributes:
        bands: (B,) indexes from 0 of the scene's bands that tiles must hold, in this order.
        notes: how they become the model's bands, where they are not the same.
    """

    def __init__(
        self, model: Model, scene: Scene, device: torch.device, precision: torch.dtype = torch.float32
    ) -> None:
        """Prepare; `scene` tells how its stored values become reflectance.

        Raises:
            SceneError: if the scene's bands do not cover the model's.
        """
        alignment = align(scene.bands, model.bands, scene.name, scene.band_numbers)
        gain, bias = model.normalisation(alignment, scene.scale, scene.offset)
        weights = next(model.network.parameters()).dtype
        self.model = model
        self.bands, self.notes = alignment.bands, alignment.notes
        self._affine = torch.from_numpy(gain), torch.from_numpy(bias)
        self._dtype = weights if precision == torch.float32 else precision
        self._move(device)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_recorded": {}}  # a recording is of one process

    def _move(self, device: torch.device) -> None:
        self.device = device
        self._ids = torch.tensor(self.model.classes.ids, dtype=torch.int32, device="cpu").to(device)
        self._recorded: dict[frozenset[str], Recorded] = {}
        self.network = DenseNetwork(self.model.network, *self._affine, dtype=self._dtype, device=device)

    def on(self, device: torch.device) -> Self:
        """Return the same on another device."""
        if device == self.device:
            return self
        there = copy(self)
        there._move(device)  # noqa: SLF001 - of the same class
        return there

    @property
    def halo(self) -> Halo:
        """Pixels that are needed around a tile."""
        return self.network.halo

    def plan(self, scene: Scene, tile_size: int | None = None, memory: int | None = None) -> TilePlan:
        """Plan the tiles of a scene with this network's halo.

        Args:
            scene: what to classify.
            tile_size: side length of square tiles; None: from the blocks of the file, and `memory`.
            memory: budget in bytes; None: see `memory_for`.

        Raises:
            InputError: if `tile_size` is below 1, `memory` too little, or one of them no whole number.
        """
        budget = self.memory_for(scene, memory)
        height, width, halo = scene.grid.height, scene.grid.width, self.halo
        at_once = self._read_at_once(scene, budget)
        if tile_size is not None:
            side = whole_number("tile_size", tile_size)
            if side < 1:
                raise InputError(f"tile_size must be at least 1, not {side}")
            plan = TilePlan(height=height, width=width, tile_height=side, tile_width=side, halo=halo)
        else:
            needs, blocks = self.needs(scene, at_once), scene.source.blocks
            plan = plan_within(budget, needs, blocks, height=height, width=width, halo=halo)
        return replace(plan, at_once=at_once)

    def _read_at_once(self, scene: Scene, memory: int) -> int:
        """Tiles to read at a time: for a GPU, which waits for them, as many as processors and memory allow."""
        most = 1 if self.device.type == "cpu" else min(_MOST_READERS, processors() // 2)
        fits = (n for n in range(most, 1, -1) if self._least_memory(scene, n, rows=ENOUGH_ROWS) <= memory)
        return next(fits, 1)

    def memory_for(self, scene: Scene, asked: int | None = None) -> int:
        """Budget in bytes: as asked for, else as usual; large where blocks are and the machine has it."""
        if asked is not None:
            return whole_number("memory", asked)
        least = self._least_memory(scene)
        return default_memory(least if self.device.type == "cpu" else max(least, _GPU_MEMORY))

    def _least_memory(self, scene: Scene, at_once: int = 1, rows: int = PREFERRED_ROWS) -> int:
        """Bytes with which tiles are not too small to be fast."""
        height, width, needs = scene.grid.height, scene.grid.width, self.needs(scene, at_once)
        return least_memory(needs, scene.source.blocks, height=height, width=width, halo=self.halo, rows=rows)

    def needs(self, scene: Scene, at_once: int = 1) -> Needs:
        """Memory that classifying a scene takes, where so many tiles are read at a time."""
        source, classes = scene.source, len(self.model.classes)
        decoding = at_once * source.decoding_bytes
        return Needs(
            fixed=int(_SLACK * (self.network.working_bytes + source.cache_bytes + decoding)),
            pixel_in=int(_SLACK * (len(self.bands) * scene.dtype.itemsize + 1)),
            pixel_out=int(_SLACK * classes * _BYTES_A_CLASS),
            tiles=_TILES_ON_CPU if self.device.type == "cpu" else at_once + _TILES_BEFORE_GPU,
        )

    def load(
        self,
        values: NDArray[Any],
        valid: NDArray[np.bool_],
        shape: tuple[int, int] | None = None,
        *,
        at: tuple[int, int],
    ) -> Loaded:
        """Bring a tile to the device: see `transfer.load`."""
        return load(values, valid, self.device, shape, at)

    def logits(self, values: NDArray[Any], valid: NDArray[np.bool_], *, at: tuple[int, int]) -> Logits:
        """Run the network on a tile.

        Args:
            values: (B, h + halo, v + halo) stored values of `bands`.
            valid: (h + halo, v + halo), True means usable.
            at: row and column of the first of them in the scene, on which rounding depends.

        Returns:
            Both heads, (h, v, K), on the device; without meaning where the pixel is not valid.

        Raises:
            CssdGeoError: if a GPU's memory does not suffice.
        """
        with _enough_memory(self.device):
            return self.network(*self.load(values, valid, at=at)[:2], at=at)

    def __call__(
        self,
        values: NDArray[Any],
        valid: NDArray[np.bool_],
        *,
        at: tuple[int, int],
        parts: Collection[str] = (),
    ) -> TileResult:
        """Classify a tile; arguments as for `logits` and `classify`."""
        return self.classify(self.load(values, valid, at=at), parts=parts)

    @torch.inference_mode()
    def rehearse(self, scene: Readable, plan: TilePlan, parts: Collection[str]) -> None:
        """Record for a GPU what `classify` does with tiles that `load` gives the shape of a plan's largest."""
        shape = plan.largest.height, plan.largest.width

        def work(stored: Tensor, valid: Tensor) -> Mapping[str, Tensor]:
            return self._found(self.network.in_one_piece(stored, valid), valid[self._core_of(*shape)], parts)

        values, valid = scene.room(plan.largest, self.bands, np.zeros)
        valid[...] = False
        tile = self.load(values, valid, shape, at=plan.largest.corner)
        if tile.stored.device.type != self.network.device.type:  # too large to be there in one piece
            return
        try:
            self._recorded[frozenset(parts)] = Recorded(work, tile.stored, tile.valid)
        except RuntimeError as error:
            _log.warning("tiles are computed step by step on %s, which is slower: %s", self.device, error)

    @torch.inference_mode()
    def classify(self, tile: Loaded, *, parts: Collection[str] = ()) -> TileResult:
        """Classify a tile that `load` has brought to the device; `parts` names what the result must have.

        Raises:
            CssdGeoError: if a GPU's memory does not suffice, not even for small pieces.
        """
        core = self._core_of(tile.height, tile.width)
        result = self._nothing(tile.valid[core].shape, parts)
        if not tile.valid[core].any():
            return result
        recorded = self._recorded.get(frozenset(parts))
        with _enough_memory(self.device):
            if recorded is not None and recorded.takes(tile.stored, tile.valid):
                _put(recorded(tile.stored, tile.valid), result)
            else:
                self._classify_panels(tile, core, result, parts)
        return result

    def _core_of(self, height: int, width: int) -> tuple[slice, slice]:
        """Index of what is classified in a tile of this size, its halo included."""
        before, after = self.halo.before, self.halo.after
        return slice(before, height - after), slice(before, width - after)

    def _classify_panels(
        self, tile: Loaded, core: tuple[slice, slice], result: TileResult, parts: Collection[str]
    ) -> None:
        """Classify panel by panel, and write each to its place in the results of a tile."""
        valid = tile.valid[core]
        height, width = valid.shape  # `load` may have added more
        step = _ROWS_AT_ONCE if self.device.type == "cpu" else height

        def take(pixels: Pixels, heads: Logits) -> None:
            first, stop = pixels[0].start, min(pixels[0].stop, height)
            columns = slice(min(pixels[1].start, width), min(pixels[1].stop, width))
            for top in range(first, stop, step):
                rows = slice(top, min(top + step, stop))
                within = slice(top - first, rows.stop - first), slice(columns.stop - columns.start)
                some = Logits(*(head[within] for head in heads))
                _put(self._found(some, valid[rows, columns].to(some.main.device), parts), result, (rows, columns))

        self.network.each_panel(tile.stored, tile.valid, take, at=tile.at)

    def _found(self, heads: Logits, valid: Tensor, parts: Collection[str]) -> dict[str, Tensor]:
        """Parts of a `TileResult` that follow from logits of (r, v, K), with `valid` (r, v), by their names."""
        heads = Logits(*(head.float() for head in heads))
        shares = torch.softmax(self.model.calibration.combine(*heads), dim=2)  # (r,v,K)
        best, index = shares.max(dim=2)
        valid = valid & best.isfinite()  # values may be too large for what the network makes of them
        ids = self._ids[index].masked_fill_(~valid, UNCLASSIFIED)
        found = {"class_map": ids, "confidence": _percent(best, valid)}
        if "disagreement" in parts:
            found["disagreement"] = _percent(self._apart(heads), valid)
        if "probabilities" in parts:
            found["probabilities"] = shares.masked_fill_(~valid[..., None], torch.nan).permute(2, 0, 1)
        return found

    def _apart(self, heads: Logits) -> Tensor:
        """Total variation distance, 0 to 1, of what the two heads say: (h, v)."""
        main, spectral = (torch.softmax(head, dim=2) for head in self.model.calibration.alone(*heads))
        return (main - spectral).abs_().sum(dim=2) / 2

    def _nothing(self, shape: tuple[int, ...], parts: Collection[str]) -> TileResult:
        classes, percent = self.model.classes, np.full(shape, PERCENT_NODATA, np.uint8)
        every = np.full((len(classes), *shape), np.nan, np.float32) if "probabilities" in parts else None
        return TileResult(
            class_map=np.zeros(shape, classes.dtype),
            confidence=percent,
            disagreement=percent.copy() if "disagreement" in parts else None,
            probabilities=every,
        )


@contextmanager
def _enough_memory(device: torch.device) -> Iterator[None]:
    """Say what to do where a GPU has too little; where the host has, raise what Python does."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CssdGeoError(
            f"out of memory on {device}, even for small pieces of a tile: end what else uses it, and the same "
            "command goes on; or begin anew with less --memory, or with --device cpu, and --restart"
        ) from error
    except RuntimeError as error:  # how torch says the same of the host's
        if "DefaultCPUAllocator" not in str(error):
            raise
        raise MemoryError(str(error)) from error


def _put(found: Mapping[str, Tensor], result: TileResult, place: tuple[slice, slice] = _EVERYWHERE) -> None:
    """Write parts of a result, on whatever device, to their place in it; of the whole tile, what lies within."""
    for part, values in found.items():
        there = getattr(result, part)[..., *place]
        there[...] = values[..., : there.shape[-2], : there.shape[-1]].cpu().numpy()


def _percent(shares: Tensor, valid: Tensor) -> Tensor:
    return torch.round(100 * shares).to(torch.uint8).masked_fill_(~valid, PERCENT_NODATA)


def predict_pixels(
    classifier: TileClassifier, scene: Scene, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits of both heads at scattered pixels, (n, K) each, as the map of the whole scene would have them.

    Raises:
        SceneError: if the scene cannot be read.
    """
    shape = (len(rows), len(classifier.model.classes))
    main, spectral = np.empty(shape), np.empty(shape)
    for tile, chosen in tiles_of_pixels(classifier.plan(scene, _SCATTERED_TILE), rows, cols):
        heads = classifier.logits(*scene.read(tile.padded, classifier.bands), at=tile.padded.corner)
        at = rows[chosen] - tile.core.row, cols[chosen] - tile.core.col
        main[chosen] = heads.main.double().cpu().numpy()[at]
        spectral[chosen] = heads.spectral.double().cpu().numpy()[at]
    return main, spectral
