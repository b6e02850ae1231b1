"""The outside world in: a scene as a lazy xarray cube, read window by window with its valid pixels."""

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import dask.array as da
import numpy as np
import rioxarray  # noqa: F401 - registers the `.rio` accessor
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from cssd_geo.band_tags import read_bands, read_scale
from cssd_geo.bands import Bands
from cssd_geo.errors import SceneError
from cssd_geo.grid import Grid, cause, open_raster
from cssd_geo.tiles import Window

_CHUNK_PIXELS = 512 * 512
"""Pixels of a dask chunk at most; chunks follow the file's blocks."""


class Source(Protocol):
    """Where pixels come from. Safe to use from several threads."""

    def read(self, window: Window, bands: NDArray[np.intp]) -> NDArray[Any]:
        """Return (band, y, x) of the given band indexes, as stored; `window` lies within the scene."""

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        """Return (y, x), True means usable, where the source has a mask beside its values; else None."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A hyperspectral scene: lazy values and what is known of them."""

    name: str
    """File name, or the array's name."""
    cube: xr.DataArray
    """(band, y, x), dask-backed, values as stored; coordinates of `band`: wavelength_nm, fwhm_nm, good_bands."""
    bands: Bands
    grid: Grid
    nodata: NDArray[np.float64]
    """(band,) value that means nodata, NaN where a band declares none. NaN and infinite are never valid."""
    scale: NDArray[np.float64]
    """(band,) reflectance (or radiance) = scale * value + offset."""
    offset: NDArray[np.float64]
    """(band,) see `scale`."""
    source: Source
    block_shape: tuple[int, int]
    """(height, width) of the blocks that are cheapest to read."""
    path: Path | None = None
    """The file, for scenes that come from one."""

    def read(self, window: Window, bands: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window that may reach beyond the scene.

        Args:
            window: what to read.
            bands: indexes from 0 of the bands to read; a pixel is valid if each of these is.

        Returns:
            Values (band, height, width) as stored, and valid (height, width), True means usable. Pixels outside
            of the scene are 0 and not valid.

        Raises:
            SceneError: if the file cannot be read there.
        """
        inside = window.clip(height=self.grid.height, width=self.grid.width)
        if inside is None:
            blank = np.zeros((len(bands), window.height, window.width), self.cube.dtype)
            return blank, np.zeros((window.height, window.width), np.bool_)
        stored, mask = self.source.read(inside, bands), self.source.mask(inside)
        valid = valid_pixels(stored, self.nodata[bands])
        return pad(stored, valid if mask is None else valid & mask, inside, window)

    def without_bands(self, bad: NDArray[np.bool_]) -> Self:
        """Return the scene with the bands marked in `bad`, (band,), no longer good."""
        return replace(self, bands=self.bands.without(bad))


def usable(values: NDArray[Any], nodata: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell for each value (band, y, x) whether it is data: finite, and not its band's nodata."""
    fill = nodata.astype(values.dtype, casting="unsafe") if values.dtype.kind == "f" else nodata
    valid: NDArray[np.bool_] = values != fill[:, None, None]
    if values.dtype.kind == "f":
        valid &= np.isfinite(values)
    return valid


def valid_pixels(values: NDArray[Any], nodata: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell for each pixel (y, x) whether all of its values (band, y, x) are data."""
    return np.asarray(usable(values, nodata).all(axis=0))


def pad(
    stored: NDArray[Any], valid: NDArray[np.bool_], inside: Window, window: Window
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Extend what was read of `inside` to all of `window`, with pixels that are 0 and not valid.

    Args:
        stored: (band, y, x) of `inside`, the part of `window` that lies within the scene.
        valid: (y, x) likewise.
        inside: where they lie.
        window: what was asked for.
    """
    if inside == window:
        return stored, valid
    values = np.zeros((len(stored), window.height, window.width), stored.dtype)
    seen = np.zeros((window.height, window.width), np.bool_)
    rows, cols = inside.relative_to(window).slices
    values[:, rows, cols], seen[rows, cols] = stored, valid
    return values, seen


def open_scene(path: str | Path) -> Scene:
    """Open a raster that GDAL reads (GeoTIFF, ENVI and others) as a scene; reads no pixel.

    Raises:
        SceneError: if it does not exist, is no raster, or holds complex numbers.
    """
    source = _RasterSource(str(path))
    dataset = source.dataset()
    if np.dtype(dataset.dtypes[0]).kind not in "uif":
        raise SceneError(f"{path} holds {dataset.dtypes[0]} values; a scene has real numbers")
    envi = dataset.tags(ns="ENVI")
    indexes = dataset.indexes
    bands = read_bands(envi, [dataset.tags(i, ns="IMAGERY") for i in indexes], [dataset.tags(i) for i in indexes])
    scale, offset = np.array(read_scale(envi, dataset.scales, dataset.offsets), np.float64).T
    grid = Grid.of(dataset)
    block_shape = _reading_block(dataset)
    lazy = _LazyRaster(source, (dataset.count, grid.height, grid.width), np.dtype(dataset.dtypes[0]))
    values = da.from_array(lazy, chunks=(-1, *block_shape), name=False, asarray=False, inline_array=True)
    return Scene(
        name=Path(path).name,
        cube=_cube(values, bands, grid, Path(path).stem),
        bands=bands,
        grid=grid,
        nodata=np.array([np.nan if n is None else n for n in dataset.nodatavals], np.float64),
        scale=scale,
        offset=offset,
        source=source,
        block_shape=block_shape,
        path=Path(path),
    )


def scene_of_array(array: xr.DataArray) -> Scene:
    """Take an xarray DataArray with dimensions band, y, x as a scene; stays lazy if it is.

    What rioxarray knows is used: CRS, transform, ground control points, nodata. So are the coordinates of `band`
    that `Scene.cube` carries.

    Raises:
        SceneError: if a dimension is missing.
    """
    if set(array.dims) != {"band", "y", "x"}:
        raise SceneError(f"a scene has the dimensions band, y and x, not {', '.join(map(str, array.dims))}")
    array = array.transpose("band", "y", "x")
    count, height, width = array.shape
    given = {name: array.coords.get(name) for name in ("good_bands", "wavelength_nm", "fwhm_nm")}
    known = {name: tuple(c.values.tolist()) for name, c in given.items() if c is not None}
    bands = Bands(
        good=known.get("good_bands", (True,) * count),
        wavelength_nm=known.get("wavelength_nm"),
        fwhm_nm=known.get("fwhm_nm"),
    )
    gcps = array.rio.get_gcps() or ()
    transform = _transform_of(array)
    nodata = array.rio.encoded_nodata if array.rio.encoded_nodata is not None else array.rio.nodata
    grid = Grid(
        height=height,
        width=width,
        transform=transform,
        crs=array.rio.crs,
        gcps=tuple(gcps),
    )
    chunks = array.chunksizes
    return Scene(
        name=str(array.name or "array"),
        cube=array,
        bands=bands,
        grid=grid,
        nodata=np.full(count, np.nan if nodata is None else nodata, np.float64),
        scale=np.full(count, float(array.attrs.get("scale_factor", 1.0))),
        offset=np.full(count, float(array.attrs.get("add_offset", 0.0))),
        source=_ArraySource(array),
        block_shape=(max(chunks.get("y", (height,))), max(chunks.get("x", (width,)))),
    )


class _RasterSource:
    """A raster file, with one open handle a thread: GDAL's handles must not be shared between threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._local = threading.local()

    def __reduce__(self) -> tuple[type["_RasterSource"], tuple[str]]:
        return _RasterSource, (self._path,)

    def dataset(self) -> Any:
        """Return this thread's handle."""
        if not hasattr(self._local, "dataset"):
            self._local.dataset = open_raster(self._path)
        return self._local.dataset

    def read(self, window: Window, bands: NDArray[np.intp]) -> NDArray[Any]:
        """See `Source`."""
        area = RasterioWindow(window.col, window.row, window.width, window.height)
        try:
            values: NDArray[Any] = self.dataset().read(indexes=(bands + 1).tolist(), window=area)
        except RasterioError as error:
            where = f"row {window.row}, column {window.col} ({window.height} x {window.width} pixels)"
            raise SceneError(f"{self._path} cannot be read at {where}: {cause(error)}") from error
        return values

    def mask(self, window: Window) -> NDArray[np.bool_] | None:
        """See `Source`. A mask band or file; what nodata values say is not repeated here."""
        if MaskFlags.per_dataset not in self.dataset().mask_flag_enums[0]:
            return None
        area = RasterioWindow(window.col, window.row, window.width, window.height)
        mask: NDArray[np.bool_] = self.dataset().read_masks(1, window=area) > 0
        return mask


class _ArraySource:
    """An xarray DataArray (band, y, x)."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array

    def read(self, window: Window, bands: NDArray[np.intp]) -> NDArray[Any]:
        """See `Source`."""
        rows, cols = window.slices
        values: NDArray[Any] = self._array[bands, rows, cols].to_numpy()
        return values

    def mask(self, window: Window) -> None:
        """See `Source`: an array has none."""


class _LazyRaster:
    """Just enough of an array, (band, y, x), for dask to slice: each slice is one read of its window."""

    ndim = 3

    def __init__(self, source: _RasterSource, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self._source, self.shape, self.dtype = source, shape, dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        bands = np.arange(self.shape[0])[index[0]]
        rows, cols = (range(size)[part] for size, part in zip(self.shape[1:], index[1:], strict=True))
        if not (len(bands) and len(rows) and len(cols)):
            return np.empty((len(bands), len(rows), len(cols)), self.dtype)
        top, left = min(rows[0], rows[-1]), min(cols[0], cols[-1])
        window = Window(row=top, col=left, height=abs(rows[-1] - rows[0]) + 1, width=abs(cols[-1] - cols[0]) + 1)
        values = self._source.read(window, bands)
        return values[:, :: rows.step, :: cols.step]


def _reading_block(dataset: Any) -> tuple[int, int]:
    """Whole blocks of a tiled file, up to about `_CHUNK_PIXELS`; full-width rows of a striped one."""
    block_height, block_width = dataset.block_shapes[0]
    if block_width >= dataset.width:
        rows = max(1, _CHUNK_PIXELS // dataset.width // block_height) * block_height
        return min(rows, dataset.height), dataset.width
    many = max(1, int((_CHUNK_PIXELS / (block_height * block_width)) ** 0.5))
    return min(many * block_height, dataset.height), min(many * block_width, dataset.width)


def _cube(values: Any, bands: Bands, grid: Grid, name: str) -> xr.DataArray:
    coords: dict[str, Any] = {"band": np.arange(1, len(bands) + 1), "good_bands": ("band", list(bands.good))}
    if bands.wavelength_nm is not None:
        coords["wavelength_nm"] = ("band", list(bands.wavelength_nm))
    if bands.fwhm_nm is not None:
        coords["fwhm_nm"] = ("band", list(bands.fwhm_nm))
    cube = xr.DataArray(values, dims=("band", "y", "x"), coords=coords, name=name)
    if grid.crs is not None:
        cube = cube.rio.write_crs(grid.crs)
    if grid.gcps:
        cube = cube.rio.write_gcps(list(grid.gcps), grid.crs)
    if grid.transform is not None:
        cube = cube.rio.write_transform(grid.transform)
        if grid.transform.is_rectilinear:
            cube = cube.assign_coords(_pixel_centres(grid))
    return cube


def _transform_of(array: xr.DataArray) -> Affine | None:
    """The transform that rioxarray holds, to the last digit, unless the array was sliced since it was stored."""
    stored = array.rio.transform(recalc=False)
    if "x" in array.coords and "y" in array.coords and array.sizes["x"] > 1 and array.sizes["y"] > 1:
        actual = array.rio.transform(recalc=True)
        corners = [(0, 0), (array.sizes["x"], array.sizes["y"])]
        if not all(np.allclose(~actual * (stored * c), c, rtol=0, atol=1e-6) for c in corners):
            stored = actual
    return None if stored.is_identity else stored


def _pixel_centres(grid: Grid) -> dict[str, Any]:
    transform = grid.transform
    return {
        "y": (np.arange(grid.height) + 0.5) * transform.e + transform.f,  # type: ignore[union-attr]
        "x": (np.arange(grid.width) + 0.5) * transform.a + transform.c,  # type: ignore[union-attr]
    }


INTERLEAVES = {Interleaving.band: "BSQ", Interleaving.line: "BIL", Interleaving.pixel: "BIP"}
"""The field's names for how a file orders its values."""
