"""Layers written window by window, finalised as cloud-optimised GeoTIFFs.

    .map.tif.1f2e3d4c.partial.tif    tiled, filled in any order
      -> .map.tif.1f2e3d4c.whole.tif   GDAL's COG driver: overviews, compressed, in its final layout
      -> map.tif, map.tif.aux.xml      renamed, in this order; only now does the target exist, or change

Pixels are written twice because the COG driver cannot be fed window by window, and a COG that is changed in
place is none any more.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # no public name; rasterio.shutil lets it out as it is
from rasterio.errors import DriverRegistrationError, RasterioError

from cssd_geo.classes import UNCLASSIFIED, ClassTable
from cssd_geo.errors import InputError, OutputError
from cssd_geo.files.outputs import free_space, sync
from cssd_geo.files.rasters import settings, to_rasterio, unplaced
from cssd_geo.files.side_files import beside
from cssd_geo.grid import Grid
from cssd_geo.machine import processors
from cssd_geo.maps import pam
from cssd_geo.maps.layer import Layer
from cssd_geo.tiles import TilePlan, Window

BLOCK = 512
"""Side of the TIFF's blocks, that of GDAL's COG driver. Tiles that are multiples of it are written once."""
_LEAST_BLOCK = 128
"""Likewise where many bands would make larger ones take too much memory."""

_STRIP_BYTES = 1 << 25
"""Bytes in memory at a time while a raster is written or read back."""
_COUNTED = 1 << 18
"""Pixels that are counted at a time: numpy makes eight bytes of each, slowly where they are many."""
_TEMPORARY = {"driver": "GTiff", "tiled": True, "interleave": "band"}
_TEMPORARY |= {"compress": "deflate", "zlevel": 1, "bigtiff": "IF_SAFER"}
_FINAL = {"driver": "COG", "compress": "DEFLATE", "bigtiff": "IF_SAFER"}


class RasterWriter:
    """Writes one layer of a scene; a context manager.

    ```
    with RasterWriter(class_map_layer(path, classes, tags), grid) as writer:
        for tile, ids in results:
            writer.write(ids, tile.core)
        writer.finalise()
    ```

    Left without `finalise`, or with an exception, it removes what it wrote, and the target is as it was.
    """

    def __init__(self, layer: Layer, grid: Grid, *, token: str | None = None) -> None:
        """Describe; nothing is written before the `with` statement.

        Args:
            layer: what to write.
            grid: where its pixels lie.
            token: names its temporary files; what a killed writer with the same token has left is removed.
        """
        self._layer, self._grid = layer, grid
        # hidden, and beside the target, since only within one disk is a rename atomic
        self._prefix = f".{layer.path.name}.{token or secrets.token_hex(4)}"
        self._target = layer.path.absolute()  # GDAL takes some relative paths for addresses, such as s3:/map.tif
        self._partial = self._target.with_name(f"{self._prefix}.partial.tif")
        self._whole = self._target.with_name(f"{self._prefix}.whole.tif")
        self._dataset: Any = None
        self._lock = Lock()
        self._pixels = 0
        self._checksum = 0
        self._counts = np.zeros(np.iinfo(layer.dtype).max + 1 if layer.classes else 0, np.uint64)

    @property
    def counts(self) -> NDArray[np.uint64]:
        """Pixels of each value that were written so far, of a class map; empty for other layers."""
        return self._counts

    def __enter__(self) -> Self:
        try:
            with self._failures("opened"), unplaced(), rasterio.Env(**settings(self._target)):
                self._remove_temporaries()
                self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._close()
        finally:
            self._remove_temporaries()

    def strips(self) -> Iterator[Window]:
        """Cut the raster into windows of whole blocks, as many as are worth a write of their own."""
        side = self._block
        across = max(1, _STRIP_BYTES // (side * side * self._pixel_bytes)) * side
        plan = TilePlan(height=self._grid.height, width=self._grid.width, tile_height=side, tile_width=across)
        return (tile.core for tile in plan)

    @property
    def _pixel_bytes(self) -> int:
        return len(self._layer.band_names) * self._layer.dtype.itemsize

    @property
    def _block(self) -> int:
        """Side of the blocks: GDAL has several of them in memory, of all bands, while it makes a COG."""
        side = BLOCK
        while side > _LEAST_BLOCK and side * side * self._pixel_bytes > _STRIP_BYTES:
            side //= 2
        return side

    def write(self, block: NDArray[Any], window: Window) -> None:
        """Write a block. Any order, any thread, one at a time; every pixel once.

        Args:
            block: (band, y, x), or (y, x) for a single band, of the layer's dtype.
            window: where it lies in the scene.

        Raises:
            InputError: if block, window and layer do not go together, or a value is not the id of a class.
            OutputError: if it cannot be written.
        """
        block = block[np.newaxis] if block.ndim == 2 else block  # noqa: PLR2004 - (y, x)
        self._check(block, window)
        counts = self._count(block)
        with self._lock, self._failures("written"):
            if self._dataset is None:
                raise InputError("its writer is not open; use it in a `with` statement, before finalise()")
            self._dataset.write(block, window=to_rasterio(window))
            self._pixels += window.pixels
            self._checksum += _checksum(block)
            self._counts += counts

    def finalise(self) -> None:
        """Make a COG of what was written and give it its name, with its side file: `prepare`, then `publish`.

        Raises:
            OutputError: if pixels are missing or the disk did not keep what it was given.
        """
        self.prepare()
        self.publish()

    def prepare(self) -> Path:
        """Make a COG of what was written, and return where it waits for its name.

        Raises:
            OutputError: as `finalise`.
        """
        self._check_complete()
        with self._failures("finalised"):
            self._close()
            self._copy()
            self._verify()
            self._write_side_file()
            self._partial.unlink()
        return self._whole

    def publish(self) -> None:
        """Give what `prepare` made its name.

        Older `.ovr`, `.msk` and `.aux.xml` files of the target are removed, as they describe what was there, and
        first: whatever interrupts it, no raster has the side file of another one. At worst it lacks its own.

        Raises:
            OutputError: if it cannot be renamed; then the target is as it was.
        """
        target, side = self._target, pam.side_path(self._whole)
        aside = {
            path: path.with_name(f"{self._prefix}.old{path.name.removeprefix(target.name)}")
            for path in filter(os.path.lexists, beside(target))
        }
        with self._failures("finalised"):
            for path in (self._whole, side) if side.exists() else (self._whole,):
                sync(path)
            try:
                for path, place in aside.items():
                    path.replace(place)
                self._whole.replace(target)
            finally:
                self._end_publishing(aside)
            sync(target.parent)

    def _end_publishing(self, aside: Mapping[Path, Path]) -> None:
        """Give the side file its name or, where the raster has not got its own, put back what was set aside."""
        side = pam.side_path(self._whole)
        if self._whole.exists():
            for path, place in aside.items():
                if os.path.lexists(place):
                    place.replace(path)
        elif side.exists():
            side.replace(pam.side_path(self._target))

    def _open(self) -> None:
        layer = self._layer
        profile = self._grid.profile() | _TEMPORARY
        profile |= {
            "blockxsize": self._block,
            "blockysize": self._block,
            "num_threads": processors(),
            "count": len(layer.band_names),
            "dtype": layer.dtype.name,
            "nodata": layer.nodata,
        }
        self._dataset = rasterio.open(self._partial, "w", **profile)
        self._dataset.descriptions = layer.band_names
        self._dataset.update_tags(**layer.tags)
        if layer.classes:
            self._dataset.write_colormap(1, _colormap(layer.classes))

    def _check(self, block: NDArray[Any], window: Window) -> None:
        shape = (len(self._layer.band_names), *window.shape)
        if block.shape != shape or block.dtype != self._layer.dtype:
            raise InputError(f"expected {self._layer.dtype} {shape} for {window}, got {block.dtype} {block.shape}")
        if window.common(self._grid.window) != window:
            raise InputError(f"{window} reaches beyond the {self._grid.height} x {self._grid.width} pixels")

    def _count(self, block: NDArray[Any]) -> NDArray[np.uint64]:
        if self._layer.classes is None:
            return self._counts
        flat, counts = block.ravel(), np.zeros_like(self._counts)
        for start in range(0, flat.size, _COUNTED):
            counts += np.bincount(flat[start : start + _COUNTED], minlength=len(counts)).astype(np.uint64)
        known = [UNCLASSIFIED, *self._layer.classes.ids]
        if counts[known].sum() != block.size:
            strange = sorted(set(np.flatnonzero(counts).tolist()) - set(known))
            raise InputError(f"{self._layer.path}: {strange} are not ids of its classes, {known}")
        return counts

    def _check_complete(self) -> None:
        total = self._grid.window.pixels
        if self._pixels != total:
            raise OutputError(f"{self._layer.path}: {self._pixels} of {total} pixels were written; not finalised")

    def _copy(self) -> None:
        layer, threads = self._layer, processors()
        options = {"overview_resampling": layer.overview, "predictor": layer.predictor, "num_threads": threads}
        # GDAL's setting is for the overviews, the driver's option for blocks
        with rasterio.Env(**settings(self._target), GDAL_NUM_THREADS=str(threads)):
            rasterio.shutil.copy(self._partial, self._whole, blocksize=self._block, **options, **_FINAL)

    def _verify(self) -> None:
        """Read the result back, which takes 1 to 20 % of the time that it took to make.

        rasterio 1.4 does not tell when the blocks that GDAL writes as it closes a file find the disk full: on
        a disk of 2.6 MB, where the map and its temporary need 2.9, the copy was reported as a success.
        """
        with unplaced(), rasterio.Env(GDAL_NUM_THREADS=str(processors())):
            whole = rasterio.open(self._whole)
        with whole as dataset:
            found = sum(_checksum(dataset.read(window=to_rasterio(strip))) for strip in self.strips())
        if found != self._checksum:
            raise OutputError("what was read back differs from what was written")

    def _write_side_file(self) -> None:
        """Write the side file beside the whole raster, adding to what GDAL put there.

        GDAL does where TIFF has no room, as for the CRS of a rotated pole.
        """
        if self._layer.classes is None:
            return
        path = pam.side_path(self._whole)
        root = pam.parse(path) if path.exists() else None
        path.write_bytes(pam.serialise(self._layer.classes, self._counts, root))

    def _close(self) -> None:
        with self._lock:  # a thread may be writing still when another one leaves the `with` statement
            dataset, self._dataset = self._dataset, None
            if dataset is not None:
                dataset.close()

    def _remove_temporaries(self) -> None:
        """Remove all that bears this writer's token, GDAL's own temporary files included."""
        if self._partial.parent.is_dir():
            for path in self._partial.parent.iterdir():
                if path.name.startswith(self._prefix):
                    path.unlink(missing_ok=True)

    @contextmanager
    def _failures(self, verb: str) -> Iterator[None]:
        """Turn what GDAL and the system report into an error that names the target and the space left."""
        try:
            yield
        except (OSError, InputError, RasterioError, DriverRegistrationError, CPLE_BaseError) as error:
            path, reason = self._layer.path, error.__cause__ or error
            raise OutputError(f"{path} cannot be {verb}: {reason} ({free_space(path.parent)})") from error


def _colormap(classes: ClassTable) -> dict[int, tuple[int, int, int, int]]:
    """Return rasterio's colour table; a TIFF's has no alpha, and what makes 0 transparent is the nodata."""
    return {i: (*colour, 255) for i, colour in zip(classes.ids, classes.colours, strict=True)}


def _checksum(block: NDArray[Any]) -> int:
    """Sum of the pixels' bits as integers: the same in whatever pieces an array is taken, NaN included."""
    return int(block.view(f"u{block.dtype.itemsize}").sum(dtype=np.uint64))
