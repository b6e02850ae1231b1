"""A model at work on one tile: stored values in, classes and confidence out. What every engine calls."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cssd_geo.bands import require_match
from cssd_geo.classmap import CONFIDENCE_NODATA
from cssd_geo.errors import InputError
from cssd_geo.model import Model
from cssd_geo.network import Logits
from cssd_geo.options import DEFAULT_TILE_SIZE, DEVICES
from cssd_geo.scene import Scene
from cssd_geo.tiles import TilePlan, plan_tiles, tiles_of_pixels


@dataclass(frozen=True, kw_only=True)
class TileResult:
    """Results for the core of a tile, (height, width)."""

    class_map: NDArray[Any]
    """Class ids, 0 where not valid."""
    confidence: NDArray[np.uint8]
    """Percent 0..100, 255 where not valid."""
    probabilities: NDArray[np.float32] | None
    """(K, height, width), NaN where not valid; None unless asked for."""


class TileClassifier:
    """A model made ready for the scenes of one product, on one device. Can be sent to other processes."""

    def __init__(self, model: Model, scene: Scene, device: torch.device) -> None:
        """Prepare; `scene` tells how its stored values become reflectance.

        Raises:
            SceneError: if the scene's bands are not the model's.
        """
        require_match(scene.bands, model.bands, scene.name)
        gain, bias = model.normalisation(scene.scale, scene.offset)
        self.model = model
        self.device = device
        self._network = model.network.eval().to(device)
        dtype = next(self._network.parameters()).dtype
        self._gain = torch.tensor(gain, dtype=dtype, device=device)
        self._bias = torch.tensor(bias, dtype=dtype, device=device)

    def plan(self, scene: Scene, tile_size: int | None = None) -> TilePlan:
        """Plan the tiles of a scene with this network's halo.

        Raises:
            InputError: if `tile_size` is below 1.
        """
        size = DEFAULT_TILE_SIZE if tile_size is None else tile_size
        return plan_tiles(
            height=scene.grid.height,
            width=scene.grid.width,
            tile_height=size,
            tile_width=size,
            halo=self.model.network.halo,
        )

    @torch.inference_mode()
    def logits(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> Logits:
        """Run the network on a tile.

        Args:
            values: (S, h + halo, v + halo) stored values of the model's good bands.
            valid: (h + halo, v + halo), True means usable.

        Returns:
            Both heads, (K, h, v), on the device; without meaning where the pixel is not valid.
        """
        stored = torch.from_numpy(np.ascontiguousarray(values.transpose(1, 2, 0))).to(self.device)
        seen = torch.from_numpy(valid).to(self.device)
        bands = torch.addcmul(self._bias, stored.to(self._gain.dtype), self._gain)  # (y,x,S)
        bands = torch.where(seen[..., None], bands, 0)  # nodata may be NaN, and NaN * 0 is NaN
        main, spectral = self._network.dense(bands.permute(2, 0, 1)[None], seen[None, None])
        return Logits(main[0], spectral[0])

    @torch.inference_mode()
    def __call__(
        self, values: NDArray[Any], valid: NDArray[np.bool_], *, probabilities: bool = False
    ) -> TileResult:
        """Classify a tile; arguments as for `logits`."""
        halo = self.model.network.halo
        core = valid[halo.before : valid.shape[0] - halo.after, halo.before : valid.shape[1] - halo.after]
        if not core.any():
            return self._nothing(core.shape, probabilities=probabilities)
        heads = self.logits(values, valid)
        shares = torch.softmax(self.model.calibration.combine(heads.main, heads.spectral).float(), dim=0)
        best, index = shares.max(dim=0)
        percent = torch.round(100 * best).to(torch.uint8).cpu().numpy()
        ids = self.model.classes.index_to_id[np.where(core, index.cpu().numpy(), -1)]
        every = np.where(core, shares.cpu().numpy(), np.float32(np.nan)) if probabilities else None
        return TileResult(
            class_map=ids, confidence=np.where(core, percent, CONFIDENCE_NODATA), probabilities=every
        )

    def _nothing(self, shape: tuple[int, int], *, probabilities: bool) -> TileResult:
        classes = self.model.classes
        return TileResult(
            class_map=np.zeros(shape, classes.dtype),
            confidence=np.full(shape, CONFIDENCE_NODATA, np.uint8),
            probabilities=np.full((len(classes), *shape), np.nan, np.float32) if probabilities else None,
        )


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is a GPU where torch sees one.

    Raises:
        InputError: if the name is unknown, or CUDA is asked for and not there.
    """
    if name not in DEVICES:
        raise InputError(f"device {name!r} is unknown; choose from {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda was asked for, but torch sees no CUDA GPU: use --device cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def predict_pixels(
    classifier: TileClassifier, scene: Scene, rows: NDArray[np.int64], cols: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits of both heads at scattered pixels, (n, K) each, as the map of the whole scene would have them.

    Raises:
        SceneError: if the scene cannot be read.
    """
    shape = (len(rows), len(classifier.model.classes))
    main, spectral = np.empty(shape), np.empty(shape)
    bands = classifier.model.bands.good_indexes
    for tile, chosen in tiles_of_pixels(classifier.plan(scene), rows, cols):
        heads = classifier.logits(*scene.read(tile.padded, bands))
        at = rows[chosen] - tile.core.row, cols[chosen] - tile.core.col
        main[chosen] = heads.main.cpu().numpy()[:, at[0], at[1]].T
        spectral[chosen] = heads.spectral.cpu().numpy()[:, at[0], at[1]].T
    return main, spectral
