"""NetCDF, HDF5 and Zarr: a store as groups of variables, opened lazily by xarray, values as stored."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import xarray as xr
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from cssd_geo.errors import SceneError
from cssd_geo.files.beginnings import read_start
from cssd_geo.files.hdf5_links import DAMAGED, damage, is_hdf5, require_own_values
from cssd_geo.formats.hdf5_files import MOST
from cssd_geo.messages import listed, one_line

_CLASSIC = (b"CDF\x01", b"CDF\x02")
_WRITTEN_BY_NETCDF = "_NCProperties"
"""Attribute of HDF5 files that are NetCDF 4."""
_ZARR = ("zarr.json", ".zgroup", ".zmetadata", ".zarray")
_OF_ARRAYS = (".zarray", "zarr.json")
_OF_CODE = {"pickle", "numcodecs.pickle"}
"""Names of a codec of Zarr's whose data are a program, which runs when they are read."""
_DAMAGED = (*DAMAGED, AttributeError, NotImplementedError)
"""What readers raise at files that are cut off, damaged or foreign."""
_UNNAMED = ("_ARRAY_DIMENSIONS", "dimension_names")
"""Where Zarr keeps the names of an array's dimensions, as xarray's errors say it."""
_ELSEWHERE = re.compile(r"\s*(\w+://|/)")
"""How a text begins that GDAL would take for a server's address or a file, and read the CRS there."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Store:
    """An open store. The file is closed when the last array that came from it is gone."""

    path: Path
    groups: Mapping[str, xr.Dataset]
    """Groups by path: "/" is the root, "/location" a group."""

    @property
    def name(self) -> str:
        """File name."""
        return self.path.name

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Attributes of the store itself."""
        return self.groups["/"].attrs

    def variables(self, group: str = "/") -> Iterator[tuple[str, xr.Variable]]:
        """Yield path and variable of all, as CF searches: the group first, those around it, then others."""
        near = [each for each in self.groups if _holds(each, group)]
        others = [each for each in self.groups if each not in near]
        for each in (*sorted(near, key=len, reverse=True), *sorted(others)):
            for name, variable in self.groups[each].variables.items():
                yield f"{each.rstrip('/')}/{name}", variable

    def require(self, path: str) -> xr.Variable:
        """Return a variable by its path.

        Raises:
            SceneError: if it is missing; names what is.
        """
        group, name = group_of(path), path.rpartition("/")[2]
        if group not in self.groups:
            there = listed(each for each in self.groups if each != "/") or "none"
            raise SceneError(
                f"{self.name} has no group {group.lstrip('/')}: it is incomplete. Its groups: {there}"
            )
        found = self.groups[group].variables.get(name)
        if found is None:
            raise SceneError(
                f"{self.name} has no variable {path.lstrip('/')}: it is incomplete. {self.contents()}"
            )
        return found

    def unwritten(self, path: str) -> float:
        """Return the store's own value, no attribute, for what was never written; 0 where nobody chose one."""
        if self.path.is_dir():
            import zarr  # noqa: PLC0415 - so that other scenes do not wait for it

            fill = zarr.open_array(str(self.path), path=path.lstrip("/"), mode="r").fill_value
        elif _is_classic(self.path):
            fill = None
        else:
            with h5py.File(self.path) as file:
                fill = file[path].fillvalue
        return 0.0 if fill is None else float(fill)

    def contents(self) -> str:
        """One sentence: the variables of three and more dimensions and their sizes, or all if there are none."""
        every = list(self.variables())
        shown = [(p, v) for p, v in every if v.ndim > 2] or every  # noqa: PLR2004 - maps have two
        return f"It holds {listed(described(p, v) for p, v in shown) or 'no variable'}."


def group_of(path: str) -> str:
    """Path of the group that a variable lies in."""
    return path.rpartition("/")[0] or "/"


def described(path: str, variable: xr.Variable) -> str:
    """Name a variable with its dimensions: "reflectance (1280 downtrack, 1242 crosstrack, 285 bands)"."""
    sizes = ", ".join(f"{size} {name}" for name, size in variable.sizes.items())
    return f"{path.lstrip('/')} ({sizes})" if sizes else path.lstrip("/")


def is_store(path: str) -> bool:
    """Whether a path is a NetCDF or HDF5 file, by its first bytes, or a Zarr folder."""
    place = Path(path)
    try:
        if place.is_dir():
            return place.suffix == ".zarr" or any((place / name).is_file() for name in _ZARR)
    except OSError:
        return False
    # MATLAB's arrays say nothing of axes
    return place.suffix.lower() != ".mat" and (is_hdf5(place) or _is_classic(place))


def format_of(path: Path) -> str:
    """What a store is: "Zarr", "NetCDF" or "HDF5"; NetCDF 4 is HDF5 with a note of the library that wrote it."""
    if path.is_dir():
        return "Zarr"
    if _is_classic(path):
        return "NetCDF"
    with h5py.File(path) as file:
        return "NetCDF" if _WRITTEN_BY_NETCDF in file.attrs else "HDF5"


def open_store(path: str) -> Store:
    """Open a store: reads coordinates, no pixel.

    Raises:
        SceneError: if it is damaged or cut off, keeps values in other files, claims coordinates that no scene has,
            or would run code.
    """
    raw: dict[str, Any] = {"mask_and_scale": False, "decode_times": False, "decode_coords": False, "cache": False}
    place = Path(path)
    with intact(path):
        _require_coordinates_of_scenes(path)
        if place.is_dir():
            groups = xr.open_groups(place, engine="zarr", consolidated=False, **raw)
        elif _is_classic(place):
            groups = {"/": xr.open_dataset(place, engine="scipy", **raw)}
        else:
            groups = xr.open_groups(place, engine="h5netcdf", phony_dims="access", **raw)
    return Store(path=place, groups=groups)


@contextmanager
def intact(path: str) -> Iterator[None]:
    """Turn what readers raise at damaged files, of which coordinates or tables are read, into a SceneError."""
    try:
        yield
    except SceneError:
        raise
    except _DAMAGED as error:
        reason = one_line(error) or type(error).__name__
        if any(name in reason for name in _UNNAMED):
            raise SceneError(
                f"{path} holds arrays whose dimensions have no names, so that nothing says which is which: open "
                "it with zarr, make an xarray.Dataset of its arrays with their dimensions, and save that"
            ) from error
        raise damage(path, reason) from error


def text(value: Any) -> str:
    """Return an attribute as text; some writers store bytes, or arrays of one."""
    value = value.item() if getattr(value, "shape", None) in ((), (1,)) else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def values_of(variable: xr.Variable) -> NDArray[Any]:
    """Return the values of a coordinate or the like as they are meant: unpacked, NaN for its fill value."""
    values: NDArray[Any] = xr.conventions.decode_cf_variable("", variable, decode_times=False).values
    return values


def crs_of(written: str) -> CRS:
    """Return the CRS that a text states; one that only says where it is to be found is refused.

    Raises:
        CRSError: if it is none.
    """
    if _ELSEWHERE.match(written):
        raise CRSError(f"{written} is an address or a path, which is not followed")
    return CRS.from_user_input(written)


def _require_coordinates_of_scenes(path: str) -> None:
    """Check the sizes of what xarray reads at once: an array may claim any, and have no values stored."""
    place = Path(path)
    if place.is_dir():
        shapes = {str(each.relative_to(place)): shape for each, shape in _zarr_arrays(place)}
    else:
        shapes = {} if _is_classic(place) else require_own_values(place)
    most = max(MOST.values())
    for name, shape in shapes.items():
        if len(shape) == 1 and shape[0] > most:
            raise SceneError(f"{path}: {name} claims {shape[0]:,} values in a line; scenes have {most:,} at most")


def _zarr_arrays(folder: Path) -> Iterator[tuple[Path, tuple[int, ...]]]:
    """The arrays of a Zarr store and their shapes; raises a SceneError at one that would run code."""
    found = [json.loads((folder / name).read_bytes()) for name in _OF_ARRAYS if (folder / name).is_file()]
    for metadata in found:
        if not _OF_CODE.isdisjoint(_words(metadata)):
            raise SceneError(
                f"{folder} is stored by the codec 'pickle', which runs code when it is read: it is not read here. "
                "Store it by another codec"
            )
        if metadata.get("node_type") != "group":
            yield folder, tuple(metadata["shape"])
    if (folder / ".zgroup").is_file() or any(metadata.get("node_type") == "group" for metadata in found):
        for child in folder.iterdir():
            if child.is_dir():
                yield from _zarr_arrays(child)


def _words(metadata: Any) -> Iterator[str]:
    """All texts that are values in a JSON document."""
    if isinstance(metadata, str):
        yield metadata
    elif isinstance(metadata, dict | list):
        for each in metadata.values() if isinstance(metadata, dict) else metadata:
            yield from _words(each)


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def _is_classic(path: Path) -> bool:
    return read_start(path, 4) in _CLASSIC
