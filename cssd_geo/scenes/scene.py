"""The outside world in: a scene as a lazy xarray cube, read window by window with its valid pixels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import and_
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cssd_geo.bands import Bands
from cssd_geo.errors import InputError
from cssd_geo.files.locations import file_name, own_path
from cssd_geo.grid import Grid
from cssd_geo.headers.raster_facts import SceneFacts
from cssd_geo.options import number
from cssd_geo.recycled import Empty
from cssd_geo.scenes.cube import build_cube, take_bands, with_nodata, with_scale
from cssd_geo.scenes.lazy_rasters import LazyMask, LazyRaster, lazy
from cssd_geo.scenes.lookup import GeometryLookup, SensorMask
from cssd_geo.scenes.sources import Source
from cssd_geo.scenes.validity import Mask, valid_pixels
from cssd_geo.tiles import Window

_CHUNK_PIXELS = 512 * 512
"""Pixels of a dask chunk at most; chunks follow the file's blocks."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Scene:
    """A hyperspectral scene: lazy values and what is known of them."""

    name: str
    """File name, or the array's name."""
    dtype: np.dtype[Any]
    """Of the values, as stored."""
    bands: Bands
    band_numbers: NDArray[np.int64]
    """(band,) number of each band in its file, from 1; by position where they have no numbers."""
    grid: Grid
    nodata: NDArray[np.float64]
    """(band,) value that means nodata, NaN where a band declares none. NaN and infinite are never valid."""
    scale: NDArray[np.float64]
    """(band,) reflectance (or radiance) = scale * value + offset."""
    offset: NDArray[np.float64]
    """(band,) see `scale`."""
    source: Source
    source_bands: NDArray[np.intp]
    """(band,) index from 0 of each band among those of the source."""
    array: xr.DataArray | None = None
    """What it was made of, if that was an array."""
    path: Path | None = None
    """The file, for scenes that come from one."""
    sensor: str | None = None
    """Sensor and product, where the files say: "EnMAP L2A"."""
    notes: tuple[str, ...] = ()
    """What was repaired, decided or dropped when it was opened, one sentence each, for the analyst."""
    masks: tuple[Mask, ...] = ()
    """What else says which pixels are usable, beside the values and the source's own mask."""
    mask_path: Path | None = None
    """The raster that one of them is read from, window by window."""
    scale_by_hand: bool = False
    """Whether the analyst has set the scale: then nothing else may."""
    lookup: GeometryLookup | None = None
    """Of a scene in sensor geometry, which `grid` then is: the map that labels and results belong to."""

    def __repr__(self) -> str:
        height, width = self.grid.shape
        crs = "no CRS" if self.grid.crs is None else self.grid.crs.to_string()
        return f"<Scene {self.name}: {height} x {width} pixels of {self.dtype}, {self.bands.summary()}, {crs}>"

    @property
    def map_grid(self) -> Grid:
        """The grid that labels and results belong to."""
        return self.grid if self.lookup is None else self.lookup.grid

    @property
    def block_shape(self) -> tuple[int, int]:
        """(height, width) of the dask chunks of `cube`: whole blocks of the file, or full rows of raw lines."""
        height, width, blocks = self.grid.height, self.grid.width, self.source.blocks
        down, across = (1, width) if blocks.divisible else (blocks.height, blocks.width)
        if across >= width:
            return min(max(1, _CHUNK_PIXELS // (down * width)) * down, height), width
        many = max(1, int((_CHUNK_PIXELS / (down * across)) ** 0.5))
        return min(many * down, height), min(many * across, width)

    @cached_property
    def cube(self) -> xr.DataArray:
        """(band, y, x), values as stored; coordinates of `band`: wavelength_nm, fwhm_nm, good_bands.

        The array that the scene was made of; else lazy, made when it is first asked for.
        """
        return _lazy_cube(self) if self.array is None else self.array

    def read(self, window: Window, bands: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window that may reach beyond the scene.

        Args:
            window: what to read.
            bands: indexes from 0 of the bands to read; a pixel is valid if each of these is.

        Returns:
            Values (band, height, width) as stored, and valid (height, width), True means usable. Pixels outside
            of the scene are 0 and not valid; so are all of a window in which masks leave none.

        Raises:
            SceneError: if the file cannot be read there.
        """
        values, valid = self.room(window, bands)
        self.read_into(values, valid, window, bands)
        return values, valid

    def room(
        self, window: Window, bands: NDArray[np.intp], empty: Empty = np.empty
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Make arrays for `read_into`, which writes all of them, in the order in which the source is best read."""
        valid = np.empty(window.shape, np.bool_)
        if self.source.bands_last:
            return empty((*valid.shape, len(bands)), self.dtype).transpose(2, 0, 1), valid
        return empty((len(bands), *valid.shape), self.dtype), valid

    def read_into(
        self, values: NDArray[Any], valid: NDArray[np.bool_], window: Window, bands: NDArray[np.intp]
    ) -> None:
        """Read a window as `read` does, into parts of arrays that `room` made."""
        valid[...] = False
        inside = window.common(self.grid.window)
        if inside is None:
            values[...] = 0
            return
        rows, cols = inside.relative_to(window).slices
        _clear_around(values, rows, cols)
        stored = values[:, rows, cols]
        unmasked = self.unmasked(inside)
        if not unmasked.any():
            stored[...] = 0
            return
        self.source.read(inside, self.source_bands[bands], stored)
        valid[rows, cols] = valid_pixels(stored, self.nodata[bands]) & unmasked

    def unmasked(self, window: Window) -> NDArray[np.bool_]:
        """Tell for each pixel (y, x) of a window within the scene whether no mask excludes it; reads no value.

        Raises:
            SceneError: if a mask cannot be read there.
        """
        allowed = np.ones(window.shape, np.bool_)
        for said in (self.source.mask(window), *(mask.read(window) for mask in self.masks)):
            if said is not None:
                allowed &= said
        return allowed

    def with_mask(self, mask: Mask, note: str) -> Self:
        """Return the scene with a further mask of its map; its cube has it too, lazily, as `valid` (y, x)."""
        if self.lookup is not None:
            mask = SensorMask(mask, self.lookup)
        array = self._changed_array(_with_valid, self, mask.read)
        return replace(self, array=array, masks=(*self.masks, mask), notes=(*self.notes, note))

    def _changed_array(self, change: Callable[..., xr.DataArray], *how: Any) -> xr.DataArray | None:
        """The array that it was made of, if any, changed."""
        return None if self.array is None else change(self.array, *how)

    def take_bands(self, indexes: NDArray[np.intp], note: str) -> Self:
        """Return the scene with only the bands of these indexes from 0, none twice, in this order."""
        return replace(
            self,
            array=self._changed_array(take_bands, indexes),
            bands=self.bands.take(indexes),
            band_numbers=self.band_numbers[indexes],
            nodata=self.nodata[indexes],
            scale=self.scale[indexes],
            offset=self.offset[indexes],
            source_bands=self.source_bands[indexes],
            notes=(*self.notes, note),
        )

    def without_bands(self, bad: NDArray[np.bool_]) -> Self:
        """Return the scene with the bands marked in `bad`, (band,), no longer good."""
        return replace(self, bands=self.bands.without(bad))

    def with_scale(self, factor: float) -> Self:
        """Return the scene with reflectance = factor * stored value in every band, whatever its metadata say.

        Raises:
            InputError: if the factor is no number, or not positive and finite.
        """
        if not 0 < number("scale", factor) < float("inf"):
            raise InputError(f"the scale of {self.name} must be positive and finite, not {factor:g}")
        scale, offset = np.full(len(self.bands), float(factor)), np.zeros(len(self.bands))
        array = self._changed_array(with_scale, scale, offset)
        return replace(self, array=array, scale=scale, offset=offset, scale_by_hand=True)

    def noting(self, note: str) -> Self:
        """Return the scene with one more note."""
        return replace(self, notes=(*self.notes, note))


def scene_of_source(
    source: Source, facts: SceneFacts, place: str | Path, *, grid: Grid, lookup: GeometryLookup | None = None
) -> Scene:
    """Make a scene of what a source reads from files; reads no pixel.

    Args:
        source: its values.
        facts: what is known of them, with a band for each of the source's.
        place: the file, or an address.
        grid: where the pixels lie.
        lookup: of a scene in sensor geometry.
    """
    return Scene(
        name=file_name(place),
        dtype=facts.dtype,
        bands=facts.bands,
        band_numbers=np.arange(1, len(facts.bands) + 1),
        grid=grid,
        nodata=facts.nodata,
        scale=facts.scale,
        offset=facts.offset,
        source=source,
        source_bands=np.arange(len(facts.bands)),
        path=own_path(place),
        sensor=facts.sensor,
        notes=facts.notes,
        lookup=lookup,
    )


def _clear_around(values: NDArray[Any], rows: slice, cols: slice) -> None:
    """Set to 0 what lies around some rows and columns of (band, y, x)."""
    for around in (
        (slice(rows.start),),
        (slice(rows.stop, None),),
        (rows, slice(cols.start)),
        (rows, slice(cols.stop, None)),
    ):
        values[:, *around] = 0


def _lazy_cube(scene: Scene) -> xr.DataArray:
    """The cube of a scene that is read from files, in chunks of whole blocks."""
    raster = LazyRaster(scene.source, scene.source_bands, scene.grid.shape, scene.dtype)
    cube = build_cube(
        lazy(raster, scene.block_shape),
        bands=scene.bands,
        numbers=scene.band_numbers,
        grid=scene.grid,
        name=Path(scene.name).stem,
    )
    cube = with_scale(with_nodata(cube, scene.nodata), scene.scale, scene.offset)
    own = (scene.source.mask,) if scene.source.has_mask() else ()
    return _with_valid(cube, scene, *own, *(mask.read for mask in scene.masks))


def _with_valid(cube: xr.DataArray, scene: Scene, *masks: Callable[[Window], Any]) -> xr.DataArray:
    """Say in a cube of a scene which pixels masks leave, lazily, as its coordinate `valid`."""
    if not masks:
        return cube
    seen = [lazy(LazyMask(mask, scene.grid.shape), scene.block_shape)[0] for mask in masks]
    if "valid" in cube.coords:
        seen.append(cube.coords["valid"].data)
    return cube.assign_coords(valid=(("y", "x"), reduce(and_, seen)))
