"""NetCDF and Zarr stores made for tests, of the structures that are published."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

EMIT_TRANSFORM = Affine(0.000542232520256367, 0.0, -62.5, 0.0, -0.000542232520256367, -39.3)

Variable = tuple[Sequence[str], Any] | tuple[Sequence[str], Any, Mapping[str, Any]]


def write_netcdf(
    path: Path,
    variables: Mapping[str, Variable],
    *,
    attrs: Mapping[str, Any] | None = None,
    chunks: Mapping[str, tuple[int, ...]] | None = None,
) -> Path:
    """Write variables, named with their groups: dimensions, values, attributes. All dimensions are the root's."""
    with h5netcdf.File(path, "w") as file:
        for name, size in _sizes(variables).items():
            file.dimensions[name] = size
        for name, (dimensions, values, *rest) in variables.items():
            options = {"chunks": chunks[name], "compression": "gzip"} if chunks and name in chunks else {}
            variable = file.create_variable(f"/{name}", tuple(dimensions), data=np.asarray(values), **options)
            variable.attrs.update(rest[0] if rest else {})
        file.attrs.update(attrs or {})
    return path


def _sizes(variables: Mapping[str, Variable]) -> dict[str, int]:
    return {d: n for dims, values, *_ in variables.values() for d, n in zip(dims, np.shape(values), strict=True)}


def emit_variables(
    reflectance: NDArray[Any], glt_x: NDArray[Any], glt_y: NDArray[Any], wavelengths: NDArray[Any] | None = None
) -> dict[str, Variable]:
    """EMIT L2A, of reflectance (downtrack, crosstrack, bands), as emit-utils and emit-sds-l2a write it."""
    height, width, bands = reflectance.shape
    nm = np.linspace(381, 2493, bands) if wavelengths is None else wavelengths
    down, across = np.mgrid[:height, :width].astype(np.float64)
    fill = {"_FillValue": np.array([-9999.0], np.float32)}
    return {
        "reflectance": (
            ("downtrack", "crosstrack", "bands"),
            reflectance.astype(np.float32),
            fill | {"units": "unitless"},
        ),
        "sensor_band_parameters/wavelengths": (("bands",), nm.astype(np.float32), fill | {"units": "nm"}),
        "sensor_band_parameters/fwhm": (("bands",), np.full(bands, 8.5, np.float32), fill | {"units": "nm"}),
        "sensor_band_parameters/good_wavelengths": (("bands",), np.ones(bands, np.uint8)),
        "location/lon": (("downtrack", "crosstrack"), -62.5 + across / 1e3),
        "location/lat": (("downtrack", "crosstrack"), -39.3 - down / 1e3),
        "location/elev": (("downtrack", "crosstrack"), np.zeros((height, width))),
        "location/glt_x": (
            ("ortho_y", "ortho_x"),
            glt_x.astype(np.int32),
            {"_FillValue": np.array([-9999], np.int32)},
        ),
        "location/glt_y": (
            ("ortho_y", "ortho_x"),
            glt_y.astype(np.int32),
            {"_FillValue": np.array([-9999], np.int32)},
        ),
    }


EMIT_ATTRS = {
    "title": "EMIT L2A Estimated Surface Reflectance 60 m V001",
    "instrument": "EMIT",
    "platform": "ISS",
    "Conventions": "CF-1.63",
    "spatial_ref": CRS.from_epsg(4326).to_wkt(),
    "geotransform": np.array(EMIT_TRANSFORM.to_gdal()),
}


def write_emit(path: Path, reflectance: NDArray[Any], glt_x: NDArray[Any], glt_y: NDArray[Any]) -> Path:
    return write_netcdf(path, emit_variables(reflectance, glt_x, glt_y), attrs=EMIT_ATTRS)


def turned_table(height: int, width: int, *, turns: float = 0.6) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Tables glt_x and glt_y (y, x) of a map on which the sensor raster lies turned, as in an inclined orbit."""
    turn = Affine.rotation(np.degrees(turns))
    corners = np.array([turn * corner for corner in ((0, 0), (width, 0), (0, height), (width, height))])
    left, top = np.floor(corners.min(0))
    size = np.ceil(corners.max(0) - (left, top)).astype(int)
    x, y = np.meshgrid(np.arange(size[0]) + 0.5 + left, np.arange(size[1]) + 0.5 + top)
    col, row = (np.floor(part).astype(np.int32) for part in ~turn * (x, y))
    seen = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    return np.where(seen, col + 1, 0), np.where(seen, row + 1, 0)


def write_aviris3(path: Path, cube: NDArray[Any], transform: Affine, crs: CRS, *, chunks: tuple[int, ...]) -> Path:
    """AVIRIS-3 L2A RFL_ORT: a group with its own wavelengths, the grid and its mapping around it."""
    bands, height, width = cube.shape
    mapping = {"grid_mapping_name": "transverse_mercator", "spatial_ref": crs.to_wkt(), "crs_wkt": crs.to_wkt()}
    mapping["GeoTransform"] = " ".join(map(str, transform.to_gdal()))
    easting = transform.c + transform.a * (np.arange(width) + 0.5)
    northing = transform.f + transform.e * (np.arange(height) + 0.5)
    here = {"_FillValue": np.array([-9999.0], np.float32), "grid_mapping": "transverse_mercator"}
    nm = {"units": "nm"}
    return write_netcdf(
        path,
        {
            "easting": (("easting",), easting, {"standard_name": "projection_x_coordinate", "units": "m"}),
            "northing": (("northing",), northing, {"standard_name": "projection_y_coordinate", "units": "m"}),
            "transverse_mercator": ((), np.int32(0), mapping),
            "reflectance/wavelength": (("wavelength",), np.linspace(390, 2500, bands).astype(np.float32), nm),
            "reflectance/fwhm": (("wavelength",), np.full(bands, 7.4, np.float32), nm),
            "reflectance/reflectance": (("wavelength", "northing", "easting"), cube.astype(np.float32), here),
            "water_vapor/water_vapor": (("northing", "easting"), np.ones((height, width), np.float32)),
        },
        chunks={"reflectance/reflectance": chunks},
    )


def write_pace_l2(path: Path, rhos: NDArray[Any], longitude: NDArray[Any], latitude: NDArray[Any]) -> Path:
    """PACE OCI L2 surface reflectance: rhos (line, pixel, band), wavelengths and places in groups of their own."""
    bands = rhos.shape[2]
    swath = ("number_of_lines", "pixels_per_line")
    packed = {"scale_factor": 2e-6, "add_offset": 0.05, "_FillValue": np.array([-32767], np.int16)}
    flags = np.zeros(rhos.shape[:2], np.int32)
    return write_netcdf(
        path,
        {
            "sensor_band_parameters/wavelength": (("number_of_bands",), np.linspace(315, 2258, bands + 7)),
            "sensor_band_parameters/wavelength_3d": (
                ("wavelength_3d",),
                np.linspace(346, 2258, bands),
                {"units": "nm"},
            ),
            "geophysical_data/rhos": ((*swath, "wavelength_3d"), rhos.astype(np.int16), packed),
            "geophysical_data/l2_flags": (swath, flags),
            "navigation_data/longitude": (swath, longitude.astype(np.float32), {"_FillValue": np.float32(-32767)}),
            "navigation_data/latitude": (swath, latitude.astype(np.float32), {"_FillValue": np.float32(-32767)}),
        },
        attrs={"platform": "PACE", "instrument": "OCI", "processing_level": "L2"},
    )
