"""Polygons that do not count when a map is evaluated, such as those trained on, and the pixels around them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from cssd_geo.accuracy.splits import separation
from cssd_geo.errors import InputError, LabelError
from cssd_geo.grid import Grid
from cssd_geo.label_files import read_mask
from cssd_geo.maps.reach import pixels_across, receptive_field_of

LARGEST_BUFFER = 10_000
"""Pixels. Excluded polygons are burnt so far around the map: 400 MB beside a small one."""
_SAME_SIZE = 1.001
"""Pixels that are larger by less are as large as before: programs round transforms."""


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """Pixels of a map that do not count."""

    path: str | Path
    near: NDArray[np.bool_]
    """(y, x) True within the excluded polygons and nearer than `distance` to them."""
    distance: int
    remarks: tuple[str, ...]
    """On the distance, for the analyst."""

    def notes(self, left: int, labelled: int) -> Iterator[str]:
        """Say how many of the labelled pixels were left out."""
        yield from self.remarks
        name = Path(self.path).name
        if self.near.any():
            near = f" or nearer than {self.distance} pixels to it" if self.distance > 1 else ""
            yield f"{left:,} of {labelled:,} reference pixels lie in {name}{near}, and were left out."
        else:
            advice = "check that both show one place"
            yield f"{name} meets no pixel of the map, so nothing was left out: {advice}."

    @property
    def why_all(self) -> str:
        """Say that it leaves no pixel."""
        near = f"nearer than {self.distance} pixels to it" if self.distance else "covered by it"
        return f"all are left out by {self.path}, {near}"


def read_exclusion(exclude: str | Path, layer: str | None, dataset: Any, buffer: int | None) -> Exclusion:
    """Burn polygons on the grid of a map, and what is near to them, also where they lie beside the map.

    Args:
        exclude: polygons, or a raster on the map's grid.
        layer: of a vector with several.
        dataset: the open map.
        buffer: pixels nearer than this are left out too; None: as the map's receptive field asks for.

    Raises:
        LabelError: if the polygons cannot be read.
        InputError: if the map has pixels so small that its receptive field is larger than `LARGEST_BUFFER`.
    """
    distance, remarks = _default_buffer(dataset) if buffer is None else (buffer, ())
    margin = max(distance - 1, 0)
    try:
        mask = read_mask(exclude, Grid.of(dataset), layer, margin=margin)
    except LabelError as error:
        raise LabelError(str(error).replace("--layer", "--exclude-layer")) from error
    if margin:
        mask = maximum_filter(mask, size=2 * margin + 1)[margin:-margin, margin:-margin]
    return Exclusion(path=exclude, near=mask, distance=distance, remarks=remarks)


def _default_buffer(dataset: Any) -> tuple[int, tuple[str, ...]]:
    """The `separation` that a map asks for, in pixels that it has now, and notes.

    A map may have been resampled since it was classified, or show a scene in sensor geometry. Where its pixels are
    smaller or rotated, the buffer has enough of them for the distance, and one more because edges need not
    coincide. Where they are larger, their number stays, which is more than needed.
    """
    distance, across = separation(receptive_field_of(dataset)), pixels_across(dataset)
    name = Path(dataset.name).name
    if across is None:
        unknown = f"Which pixels {name} was classified with cannot be related to those that it has now"
        return distance, (f"{unknown}: if these are smaller, give more than {distance} of them (--buffer).",)
    if across < _SAME_SIZE:
        return distance, ()
    smaller, other = math.ceil(distance * across) + 1, f"{name} has other pixels than it was classified with"
    if smaller > LARGEST_BUFFER:
        raise InputError(
            f"{other}, and {distance} of those are {smaller} of its own: give the map as it was classified, or "
            "--buffer"
        )
    return smaller, (f"{other}: {distance} of those are up to {smaller} of its own.",)
