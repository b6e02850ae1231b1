"""CF conventions: which stored values of a variable are no data, and how the others become reflectance."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.errors import SceneError
from cssd_geo.formats.cf_axes import SpectralVariable
from cssd_geo.formats.stores import Store
from cssd_geo.headers.raster_facts import can_hold

_LIMITS = ("valid_range", "valid_min", "valid_max")


@dataclass(frozen=True, kw_only=True)
class NoData:
    """Which stored values of a variable are no data: `value`, and others, which `unify` replaces by it."""

    value: float
    """NaN where no number means it."""
    also: float = np.nan
    """A second fill value; NaN if there is none."""
    least: float = np.nan
    """Least value that is data; NaN if there is no such limit."""
    most: float = np.nan
    """Largest value that is data, likewise."""

    @property
    def is_one_value(self) -> bool:
        """Whether nothing needs to be replaced."""
        return bool(np.isnan([self.also, self.least, self.most]).all())

    def unify(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return an array with `value` in place of all that is no data."""
        wrong = (values == self.also) | (values < self.least) | (values > self.most)
        return np.where(wrong, values.dtype.type(self.value), values)


def no_data_of(store: Store, cube: SpectralVariable) -> tuple[NoData, tuple[str, ...]]:
    """Read fill values and the valid range, and say what was made of them.

    Raises:
        SceneError: if one of them is no single number.
    """
    dtype = cube.variable.dtype
    given = [number_of(store, cube, key, np.nan) for key in ("_FillValue", "missing_value")]
    if np.isnan(given[0]):
        given[0] = _unwritten(store, cube)
    known, notes = [], []
    for value in dict.fromkeys(value for value in given if not np.isnan(value)):
        if can_hold(dtype, value):
            known.append(value)
        else:
            notes.append(f"The nodata value {value:g} cannot occur in {dtype} data: no pixel has it.")
    least, most, remarks = _valid_range(store, cube)
    if not known and dtype.kind != "f":  # a value beyond the range then stands for all of them
        known = [value for value in (least - 1, most + 1) if can_hold(dtype, value)]
        least, most = (least, most) if known else (np.nan, np.nan)
    value, also = [*known, np.nan, np.nan][:2]
    return NoData(value=value, also=also, least=least, most=most), (*notes, *remarks)


def scale_of(store: Store, cube: SpectralVariable) -> tuple[float, float]:
    """Return scale_factor and add_offset.

    Raises:
        SceneError: if one of them is no number, or all values would become the same.
    """
    scale, offset = number_of(store, cube, "scale_factor", 1.0), number_of(store, cube, "add_offset", 0.0)
    for key, value, wrong in (("scale_factor", scale, scale == 0), ("add_offset", offset, False)):
        if wrong or not np.isfinite(value):
            raise SceneError(
                f"{store.name}: {key} of {cube.name} is {value:g}, by which no value can become "
                "reflectance: correct it in the file, or delete it and give --scale"
            )
    return scale, offset


def number_of(store: Store, cube: SpectralVariable, key: str, absent: float) -> float:
    """Read an attribute that is one number.

    Raises:
        SceneError: if it is not.
    """
    value: Any = cube.variable.attrs.get(key, absent)
    try:
        return float(np.asarray(value).item())
    except (TypeError, ValueError) as error:
        raise SceneError(f"{store.name}: {key} of {cube.name} is {value!r}, which is no single number") from error


def _unwritten(store: Store, cube: SpectralVariable) -> float:
    """What the store gives for values that were never written; NaN where that does not tell them from data.

    Zero is also what HDF5 and Zarr have where nobody chose, and bytes have no value to spare. What NetCDF has in
    place of numbers with a decimal point, 9.97e36, is never data (`validity`).
    """
    chosen = store.unwritten(cube.path)
    return chosen if chosen != 0 and cube.variable.dtype.itemsize > 1 else np.nan


def _valid_range(store: Store, cube: SpectralVariable) -> tuple[float, float, tuple[str, ...]]:
    """Least and largest stored value that is data, NaN where there is no limit; notes."""
    attrs, name = cube.variable.attrs, cube.name
    pair = np.ravel(attrs.get("valid_range", [np.nan, np.nan])).tolist()
    if len(pair) != 2:  # noqa: PLR2004 - both limits
        return np.nan, np.nan, (f"valid_range of {name} is not two numbers: it is not used.",)
    least, most = (
        number_of(store, cube, f"valid_{key}", of) for key, of in zip(("min", "max"), pair, strict=True)
    )
    if np.isnan([least, most]).all():
        return np.nan, np.nan, ()
    if least > most:
        return np.nan, np.nan, (f"No value is within the valid range of {name}: it is not used.",)
    kinds = {np.asarray(attrs[key]).dtype.kind for key in _LIMITS if key in attrs}
    if "f" in kinds and cube.variable.dtype.kind != "f" and scale_of(store, cube) != (1, 0):
        return np.nan, np.nan, (f"The valid range of {name} may be of scaled values: it is not used.",)
    beyond = " or ".join(f"{word} {v:g}" for word, v in (("below", least), ("above", most)) if not np.isnan(v))
    return least, most, (f"Stored values {beyond} are no data, as the valid range of {name} says.",)
