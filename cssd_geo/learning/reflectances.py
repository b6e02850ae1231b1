"""Spectra of many pixels, held as they are stored: in reflectance, 16 bits a value become 64."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.scenes.scene import Scene

Floats = NDArray[np.float64]
Indexes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """Spectra of one scene."""

    values: NDArray[Any]
    """(n, S) as stored."""
    scale: Floats
    """(S,)."""
    offset: Floats
    """(S,)."""

    @classmethod
    def of(cls, values: NDArray[Any], scene: Scene, bands: NDArray[np.intp]) -> Self:
        """Values (n, S) of these bands of a scene."""
        return cls(values=values, scale=scene.scale[bands], offset=scene.offset[bands])

    def reflectance(self, rows: slice | Indexes, bands: slice = slice(None)) -> Floats:
        """Return some rows and bands in reflectance."""
        values: Floats = self.values[rows, bands] * self.scale[bands]
        values += self.offset[bands]
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class Reflectances:
    """Spectra (n, S) of one or several scenes, which become reflectance when they are asked for, like an array."""

    parts: Sequence[Stored]
    places: Indexes
    """(n,) row of each in the parts, one after the other."""

    @classmethod
    def of(cls, parts: Sequence[Stored]) -> Self:
        """All spectra of some scenes, one scene after the other."""
        return cls(parts=parts, places=np.arange(sum(len(part.values) for part in parts)))

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of spectra and of bands."""
        return len(self), self.parts[0].values.shape[1]

    def select(self, rows: Any) -> Self:
        """Return those chosen by indexes, a slice or a mask (n,), without bringing them to reflectance."""
        return replace(self, places=self.places[rows])

    def __getitem__(self, rows: Any) -> Floats:
        places = self.places[rows]
        owner = np.searchsorted(self._starts, places, side="right") - 1
        found = np.empty((*places.shape, self.shape[1]))
        for i, part in enumerate(self.parts):
            own = owner == i
            found[own] = part.reflectance(places[own] - self._starts[i])
        return found

    def of_bands(self, bands: slice) -> Floats:
        """(n, b) reflectance of all in some bands."""
        return np.concatenate([part.reflectance(slice(None), bands) for part in self.parts])[self.places]

    @cached_property
    def _starts(self) -> Indexes:
        """(part,) ascending; parts without a row own none."""
        return np.cumsum([0, *(len(part.values) for part in self.parts[:-1])])
