"""Which bands of a scene become a model's, and how: one to one where they are the same, else resampled."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.bands import Bands
from cssd_geo.errors import SceneError
from cssd_geo.spectra.band_choice import ranges
from cssd_geo.spectra.resampling import MATCH_TOLERANCE_NM, SpectralAxis, centres, widths

Floats = NDArray[np.float64]

_SIMILAR_WIDTHS = 1.5
"""Bands at the same wavelength whose widths differ by more than this factor are of other sensors."""
_MOST_RANGES = 6
"""Ranges of missing wavelengths that a message lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """model's good bands = weights @ the scene's bands that are read, in reflectance."""

    bands: NDArray[np.intp]
    """(B,) indexes from 0 of the scene's bands to read."""
    weights: Floats
    """(S, B) for each of the model's good bands; rows sum to 1."""
    exact: bool
    """Whether each of the model's bands is one band of the scene, in the order of `bands`."""
    notes: tuple[str, ...] = ()
    """What the analyst should know, one sentence each."""

    @classmethod
    def one_to_one(cls, bands: NDArray[np.intp], *notes: str) -> Self:
        """The scene has the model's bands; `bands` are their indexes (S,)."""
        return cls(bands=bands, weights=np.eye(len(bands)), exact=True, notes=notes)


def align(scene: Bands, model: Bands, scene_name: str, numbers: NDArray[np.int64] | None = None) -> Alignment:
    """Find the model's good bands among those of a scene, or make them from its good bands.

    By position where counts are the same and no wavelength speaks against it, else by wavelength, else by Gaussian
    response (see `resampling`).

    Args:
        scene: its bands.
        model: likewise.
        scene_name: for notes and errors.
        numbers: (band,) of the scene's bands in its file, from 1, for errors; None: by position.

    Raises:
        SceneError: if the scene does not cover all of the model's bands, or wavelengths are needed and unknown.
    """
    if _same_places(scene, model):
        return Alignment.one_to_one(model.good_indexes)
    if not any(scene.good):
        raise SceneError(f"{scene_name} marks every band as bad: check the bad-band list (bbl) in its header")
    if scene.wavelength_nm is None or model.wavelength_nm is None:
        raise _unmatched(scene, model, scene_name, numbers)
    found = _same_bands(scene, model)
    if found is None:
        return _resampled(scene, model, scene_name)
    note = f"The model's {len(found)} bands were found among the {len(scene)} of {scene_name} by wavelength."
    return Alignment.one_to_one(found, note)


def _same_places(scene: Bands, model: Bands) -> bool:
    """Whether bands can be taken by position: as many, usable, and no wavelength is another one."""
    wanted = model.good_indexes
    if len(scene) != len(model) or not all(scene.good[i] for i in wanted):
        return False
    if scene.wavelength_nm is None or model.wavelength_nm is None:
        return True
    return bool((np.abs(centres(scene) - centres(model))[wanted] <= MATCH_TOLERANCE_NM).all())


def _same_bands(scene: Bands, model: Bands) -> NDArray[np.intp] | None:
    """Indexes of the model's good bands among the scene's good ones; None unless each of them is there."""
    ours, theirs = scene.good_indexes, model.good_indexes
    apart = np.abs(centres(model)[theirs, None] - centres(scene)[ours])  # (S,N)
    apart += 1e-9 * np.abs(_occurrence(centres(model)[theirs])[:, None] - _occurrence(centres(scene)[ours]))
    if scene.fwhm_nm is not None and model.fwhm_nm is not None:
        unlike = np.abs(np.log(widths(scene)[ours] / widths(model)[theirs, None]))
        apart = np.where(unlike > np.log(_SIMILAR_WIDTHS), np.inf, apart + 1e-6 * unlike)  # widths decide a draw
    nearest = apart.argmin(axis=1)
    if (apart.min(axis=1) > MATCH_TOLERANCE_NM).any() or len(np.unique(nearest)) < len(nearest):
        return None
    found: NDArray[np.intp] = ours[nearest]
    return found


def _occurrence(wavelengths: Floats) -> NDArray[np.intp]:
    """How many equal ones come before each: bands of one wavelength are told apart by their order."""
    found: NDArray[np.intp] = np.tril(wavelengths[:, None] == wavelengths, -1).sum(axis=1)
    return found


def _resampled(scene: Bands, model: Bands, scene_name: str) -> Alignment:
    wanted = model.good_indexes
    centre, fwhm = centres(model)[wanted], widths(model)[wanted]
    weights, covered = SpectralAxis.of(scene).resample(centre, fwhm)
    if not covered.all():
        raise SceneError(
            f"{(~covered).sum()} of {len(wanted)} bands of the model are not covered by the good bands of "
            f"{scene_name}: {_ranges(centre, covered)}. Classify a scene that covers them, or train a model "
            "without them (--bands)"
        )
    read = (weights > 0).any(axis=0)
    notes = _notes(scene, model, scene_name, resampled=int((weights.max(axis=1) < 1 - 1e-9).sum()))
    return Alignment(bands=scene.good_indexes[read], weights=weights[:, read], exact=False, notes=notes)


def _unmatched(scene: Bands, model: Bands, scene_name: str, numbers: NDArray[np.int64] | None) -> SceneError:
    unknown = [name for name, bands in ((scene_name, scene), ("the model", model)) if bands.wavelength_nm is None]
    reason = f"the wavelengths of {' and of '.join(unknown)} are unknown"
    if len(scene) == len(model):
        known = np.arange(1, len(scene) + 1) if numbers is None else numbers
        bad = ranges(int(known[i]) for i in model.good_indexes if not scene.good[i])
        return SceneError(
            f"{scene_name} marks bands as bad that the model uses ({bad}), and {reason}, so that no others can "
            "stand in: give the scene a header with wavelengths, or correct its bad-band list"
        )
    return SceneError(
        f"{scene_name} has {len(scene)} bands but the model was trained on {len(model)}, and {reason}, so that "
        "they cannot be matched: give the scene a header with wavelengths, pick the model's bands with --bands, "
        "or classify a scene of the same sensor and product"
    )


def _notes(scene: Bands, model: Bands, scene_name: str, *, resampled: int) -> tuple[str, ...]:
    wanted, own = widths(model)[model.good_indexes], float(np.median(widths(scene)[scene.good_indexes]))
    across = " to ".join(dict.fromkeys(f"{width:.3g}" for width in (wanted.min(), wanted.max())))
    made = f"{resampled} of the model's {len(wanted)} bands were resampled from those of {scene_name}"
    notes = [f"{made} by Gaussian response (FWHM {across} nm)."]
    unknown = [name for name, bands in ((scene_name, scene), ("the model", model)) if bands.fwhm_nm is None]
    if unknown:
        notes.append(f"The widths of the bands of {' and of '.join(unknown)} are unknown: taken as their spacing.")
    if own > _SIMILAR_WIDTHS * np.median(wanted):
        notes.append(
            f"Bands of {scene_name} are {own:.3g} nm wide (median), the model's {np.median(wanted):.3g} nm: "
            "narrow features that the model knows are lost."
        )
    return tuple(notes)


def _ranges(centre: Floats, covered: NDArray[np.bool_]) -> str:
    """The wavelengths that are not covered, those side by side in one range."""
    order = np.argsort(centre, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(covered[order])) + 1)
    missing = [centre[run] for run in runs if not covered[run[0]]]
    texts = [
        f"{nm[0]:,.0f} nm (1 band)" if len(nm) == 1 else f"{nm[0]:,.0f} to {nm[-1]:,.0f} nm ({len(nm)} bands)"
        for nm in missing[:_MOST_RANGES]
    ]
    more = len(missing) - len(texts)
    return ", ".join(texts) + (f" and {more} more ranges" if more else "")
