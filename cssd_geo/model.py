"""A trained model: network, bands, statistics and classes; one .safetensors file that holds no code."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cssd_geo.bands import Bands
from cssd_geo.calibration import Calibration
from cssd_geo.classes import ClassTable
from cssd_geo.errors import InputError, ModelFileError
from cssd_geo.files.locations import is_there
from cssd_geo.files.outputs import write_whole
from cssd_geo.messages import listed
from cssd_geo.network import CSSD, NetworkConfig
from cssd_geo.options import LARGEST_WINDOW
from cssd_geo.spectra.alignment import Alignment

FORMAT_VERSION = 2
_HEADER_KEY = "cssd_geo"
_DEEPEST = 32
"""Lists in lists, or tables in tables, of a header: more than this only breaks what walks through it."""
MODEL_VARIABLE = "CSSD_GEO_MODEL"
"""Environment variable with the path of the model to use where none is given."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Model:
    """Everything that classifying a scene needs."""

    network: CSSD
    bands: Bands
    """Bands of the scenes that it fits; the good ones feed the network."""
    mean: NDArray[np.float64]
    """(S,) mean of each good band over valid training pixels, in units of reflectance or radiance."""
    std: NDArray[np.float64]
    """(S,) standard deviation, likewise; positive."""
    classes: ClassTable
    calibration: Calibration
    provenance: dict[str, Any]
    """Where it comes from: scene, labels, options, versions, accuracy. Plain JSON values."""

    def __post_init__(self) -> None:
        good, config = sum(self.bands.good), self.network.config
        if not good == config.bands == len(self.mean) == len(self.std):
            raise InputError(
                f"model: {good} good bands, {config.bands} inputs, {len(self.mean)} means, {len(self.std)} stds"
            )
        if self.mean.ndim != 1 or self.std.ndim != 1:
            raise InputError("model: band statistics are one number a band")
        if len(self.classes) != config.classes:
            raise InputError(f"model: {len(self.classes)} classes, {config.classes} outputs")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise InputError("model: band statistics must be finite, deviations positive")

    def __repr__(self) -> str:
        return f"<Model of {len(self.classes)} classes: {listed(self.classes.names)}; {self.bands.summary()}>"

    def normalisation(
        self, alignment: Alignment, scale: NDArray[np.float64], offset: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Gain and bias that take the stored values of a scene's bands, (B,), to the network's inputs, (S,).

        Args:
            alignment: of the scene's bands with the model's.
            scale: (band,) of the scene, over all of its bands: reflectance = scale * stored + offset.
            offset: (band,) likewise.

        Returns:
            Gain, (S,) where the scene has the model's bands, one number for each, else a matrix (S, B); bias (S,).
        """
        scale, offset = scale[alignment.bands], offset[alignment.bands]
        if alignment.exact:
            return scale / self.std, (offset - self.mean) / self.std
        return alignment.weights * scale / self.std[:, None], (alignment.weights @ offset - self.mean) / self.std

    def header(self) -> dict[str, Any]:
        """The JSON header: all but the weights."""
        return {
            "format_version": FORMAT_VERSION,
            "network": self.network.config.to_json(),
            "bands": self.bands.to_json(),
            "statistics": {"mean": self.mean.tolist(), "std": self.std.tolist()},
            "classes": self.classes.to_json(),
            "calibration": self.calibration.to_json(),
            "provenance": self.provenance,
        }

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that a map depends on: everything but the provenance."""
        header = self.header()
        del header["provenance"]
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the model file; it appears whole or not at all, and an older one stays until then.

        Raises:
            InputError: if a weight is not finite, which no reader would take.
            OutputError: if it cannot be written.
        """
        weights = {k: v.detach().cpu().contiguous() for k, v in self.network.state_dict().items()}
        _require_sound(self.network, weights)
        text = json.dumps(self.header(), ensure_ascii=False, allow_nan=False)
        data = save(weights, metadata={_HEADER_KEY: text})
        write_whole(Path(path), data)


def model_of(given: str | Path | Model) -> Model:
    """Return a model that was loaded already, or load it; raises as `load_model` does."""
    if isinstance(given, Model):
        return given
    if not isinstance(given, str | os.PathLike):
        raise ModelFileError(f"a model is a Model, or the path of its file, not {type(given).__name__}")
    return load_model(given)


def load_model(path: str | Path) -> Model:
    """Read a model file. Nothing in it is executed: numbers and text only.

    Raises:
        ModelFileError: if it is missing, damaged, not a model of this package, or of another version.
    """
    if not isinstance(path, str | os.PathLike):
        raise ModelFileError(f"a model is loaded by the path of its file, not {type(path).__name__}")
    path = Path(path)
    if not (is_there(path) and path.is_file()):
        raise ModelFileError(f"{path} does not exist or is no file: give a model that `cssd-geo train` wrote")
    try:
        header, weights = _read(path)
        return _assemble(header, weights)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is not a model file (safetensors), or it is damaged: {error}. Copy it again, or train anew"
        ) from error
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ModelFileError(f"{path} is a damaged model, or not one of cssd-geo's: {error}") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    with safe_open(str(path), framework="pt") as file:
        text = (file.metadata() or {}).get(_HEADER_KEY)
        if text is None:
            raise InputError("it holds weights of another program: its header has no cssd_geo entry")
        header = json.loads(text)
        json.dumps(header, ensure_ascii=False).encode()  # halves of characters can be written, but never shown
        version = header.get("format_version") if isinstance(header, dict) else None
        if type(version) is not int or version != FORMAT_VERSION:
            raise InputError(
                f"its format is version {version!r}, this program reads {FORMAT_VERSION}: update cssd-geo, "
                "or train anew"
            )
        if _depth(header) > _DEEPEST:
            raise InputError(f"its header is nested more than {_DEEPEST} deep")
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _assemble(header: dict[str, Any], weights: dict[str, torch.Tensor]) -> Model:
    config = NetworkConfig.from_json(header["network"])
    if config.window > LARGEST_WINDOW:  # no weight depends on it, but the memory of each tile does
        raise InputError(f"its window is {config.window} pixels, more than {LARGEST_WINDOW}")
    with torch.device("meta"):  # no memory is taken for sizes that a header only claims
        network = CSSD(config)
    _require_sound(network, weights)
    network.load_state_dict(weights, assign=True)
    provenance = header["provenance"]
    if not isinstance(provenance, dict) or not isinstance(provenance.get("scene") or {}, dict):
        raise InputError("its provenance is no table")
    return Model(
        network=network.eval(),
        bands=Bands.from_json(header["bands"]),
        mean=np.array(header["statistics"]["mean"], np.float64),
        std=np.array(header["statistics"]["std"], np.float64),
        classes=ClassTable.from_json(header["classes"]),
        calibration=Calibration.from_json(header["calibration"]),
        provenance=provenance,
    )


def _require_sound(network: CSSD, weights: dict[str, torch.Tensor]) -> None:
    """Check what `load_state_dict(assign=True)` would take without a word."""
    expected = network.state_dict()
    kinds = {tensor.dtype for name, tensor in weights.items() if expected.get(name, tensor).is_floating_point()}
    if len(kinds) != 1 or not kinds <= {torch.float32, torch.float64}:
        raise InputError(f"weights must be all float32 or all float64, not {', '.join(sorted(map(str, kinds)))}")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise InputError("weights are not finite: its training diverged; train with a lower learning rate")
    if any(bool((tensor < 0).any()) for name, tensor in weights.items() if name.endswith("running_var")):
        raise InputError("variances are negative")


def find_model(given: str | Path | None) -> Path:
    """Choose the model: the one given, else $CSSD_GEO_MODEL, else the only one in ./models.

    Raises:
        ModelFileError: if there is none, or more than one to choose from.
    """
    if given:
        return Path(given)
    if chosen := os.environ.get(MODEL_VARIABLE):
        if not Path(chosen).is_file():
            raise ModelFileError(
                f"{MODEL_VARIABLE} is set to {chosen}, which does not exist or is no file: set it to a model, or "
                "name one with --model"
            )
        return Path(chosen)
    candidates = sorted(Path("models").glob("*.safetensors"))
    if len(candidates) == 1:
        return candidates[0]
    found = f"{len(candidates)} models ({listed(candidates)})" if candidates else "no model"
    raise ModelFileError(
        f"which model? ./models holds {found}: name one with --model, or set the variable {MODEL_VARIABLE}"
    )
