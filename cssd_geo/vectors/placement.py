"""Geometries brought into a scene's pixel coordinates, and what is doubtful about their places there."""

import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.aoi import AreaOfInterest
from pyproj.enums import TransformDirection
from pyproj.exceptions import ProjError
from pyproj.transformer import TransformerGroup
from rasterio.transform import GCPTransformer

from cssd_geo.errors import LabelError
from cssd_geo.grid import Grid
from cssd_geo.messages import listed
from cssd_geo.vectors.longitudes import in_one_piece, on_the_turn, turn_of

_ONE_SIZE = 1.0
"""Metres by which ellipsoids of one size differ at most."""
_GEOREFERENCE = (
    "georeference the scene first (gdalwarp, with -rpc or -geoloc where it has these; gdal_translate with "
    "-a_srs and -a_ullr where you know its corners; .rio.write_crs of an array)"
)


def to_pixels(geometries: NDArray[Any], crs: str | None, grid: Grid, name: str) -> NDArray[Any]:
    """Bring geometries into the scene's pixel coordinates (x = column, y = row): any CRS, rotation or GCPs.

    Coordinates are taken as GIS files hold them, longitude or easting first, whatever order the authority of the
    CRS has; heights do not matter. Where the scene's CRS is local, those without one are in it. Where the scene
    has no georeference they are pixels already: y is the row, or minus the row as in QGIS.

    Args:
        geometries: (n,) shapely geometries.
        crs: theirs, or None.
        grid: the scene's.
        name: the file's, for messages.

    Returns:
        (n,) geometries; None where a coordinate has no place in the scene's CRS.

    Raises:
        LabelError: if only one of the two has a CRS, or theirs cannot be used.
    """
    if crs is None and grid.crs is not None and not grid.is_local:
        raise LabelError(f"{name} has no CRS: assign it in your GIS (QGIS: Layer, Set Layer CRS), then try again")
    if crs is not None and grid.crs is None:
        raise LabelError(f"{name} has a CRS but the scene has none: {_GEOREFERENCE}")
    if grid.crs is not None and not grid.is_placed:
        raise LabelError(
            f"the scene has a CRS but no transform, so that nothing says where {name} lies in it: {_GEOREFERENCE}"
        )
    shapes = geometries
    if crs is not None and grid.crs is not None:
        theirs, ours = pyproj.CRS(crs), pyproj.CRS(grid.crs.to_wkt())
        shapes = _with_coordinates(shapes, _to_crs(shapely.get_coordinates(shapes), theirs, ours, name))
        if (turn := turn_of(ours)) is not None:
            near = grid.middle[0]
            drawn = near if theirs.is_geographic else turn / 2  # elsewhere no edge is drawn around the Earth
            shapes = on_the_turn(in_one_piece(shapes, turn, drawn, at_a_pole=grid.has_a_pole), turn, near)
    x, y = shapely.get_coordinates(shapes).T
    if grid.gcps:
        y, x = GCPTransformer(list(grid.gcps)).rowcol(x, y, op=np.asarray)
    elif grid.transform is not None:
        with np.errstate(invalid="ignore"):  # infinite where there is no place
            x, y = ~grid.transform @ (x, y)
    elif len(y) and y.max() <= -y.min():  # mostly below zero, where QGIS shows a raster without georeference
        y = -y
    return _with_coordinates(shapes, np.column_stack([x, y]))


def datum_notes(crs: str | None, grid: Grid, name: str) -> tuple[str, ...]:
    """Tell where places may be off because PROJ does not know well how the datums of two CRSs differ."""
    if crs is None or grid.crs is None:
        return ()
    ours, theirs = pyproj.CRS(grid.crs.to_wkt()), pyproj.CRS(crs)
    if _are_unrelated(ours, theirs):
        datum = "unknown" if theirs.datum is None else theirs.datum.name
        note = (
            f"The datum of {name} ({datum}) cannot be related to the scene's: places may be off by 100 m and more."
        )
        return (f"{note} Save it in the scene's CRS in your GIS.",)
    return () if ours == theirs else _missing_grid_notes(ours, theirs, grid, name)


def _are_unrelated(ours: pyproj.CRS, theirs: pyproj.CRS) -> bool:
    """Whether PROJ knows no way between the datums of two CRSs.

    The .prj file of a shapefile, for one, cannot hold the shift of a datum that has no name. Datums on ellipsoids
    of one size, such as GRS 80 and WGS 84, differ by metres at most and do not matter.
    """
    radii = [of.ellipsoid.semi_major_metre for of in (ours, theirs) if of.ellipsoid is not None]
    if len(radii) < 2 or abs(radii[0] - radii[1]) < _ONE_SIZE:  # noqa: PLR2004 - both
        return False
    try:
        pyproj.Transformer.from_crs(theirs, ours, always_xy=True, allow_ballpark=False)
    except ProjError:
        return True
    return False


def _missing_grid_notes(ours: pyproj.CRS, theirs: pyproj.CRS, grid: Grid, name: str) -> tuple[str, ...]:
    """Tell of a file that PROJ lacks, where pixels are known to be so small that it matters."""
    if grid.pixel_area is None:
        return ()
    middle = grid.middle
    try:
        found = _accuracy(ours, theirs, middle)
        if found <= math.sqrt(grid.pixel_area) / 2:
            return ()
        best, files = _best_without_files(ours, theirs, middle)
    except ProjError:  # not even degrees on the Earth: a scene of another planet
        return ()
    if not files or not 0 <= best < found:
        return ()
    off = f"{found:g} m" if math.isfinite(found) else "an unknown distance"
    lacking = f"PROJ lacks the grid {listed(files)}, with which they would be exact to {best:g} m"
    advice = f"Set PROJ_NETWORK=ON, so that PROJ fetches it, or fetch it yourself (pyproj sync --file {files[0]})"
    return (f"Places of {name} may be off by {off}: {lacking}. {advice}, and start again.",)


def _accuracy(ours: pyproj.CRS, theirs: pyproj.CRS, place: tuple[float, float]) -> float:
    """Metres to which coordinates are exact when they are brought to a place in our CRS; infinite if unknown."""
    there = way(theirs, ours)
    there.transform(*there.transform(*place, direction=TransformDirection.INVERSE))
    accuracy = float(there.get_last_used_operation().accuracy)
    return accuracy if accuracy >= 0 else math.inf


def _best_without_files(
    ours: pyproj.CRS, theirs: pyproj.CRS, place: tuple[float, float]
) -> tuple[float, list[str]]:
    """Metres to which the best way that PROJ knows to a place is exact, and the files for it that are missing."""
    x, y = pyproj.Transformer.from_crs(ours, "EPSG:4326", always_xy=True).transform(*place, errcheck=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the best is not available, which is asked here
        here = AreaOfInterest(x, y, x, y)
        ways = TransformerGroup(theirs, ours, always_xy=True, area_of_interest=here)  # type: ignore[arg-type]
    if ways.best_available:
        return 0.0, []
    best = ways.unavailable_operations[0]
    return best.accuracy, [file.short_name for file in best.grids if not file.available]


def _to_crs(places: NDArray[np.float64], theirs: pyproj.CRS, ours: pyproj.CRS, name: str) -> NDArray[np.float64]:
    try:
        if ours == theirs:  # PROJ relates no local CRS, not even to itself
            return places
        return _moved(places, way(theirs, ours))
    except ProjError as error:
        reason = f"its CRS cannot be used with the scene's ({error})"
        raise LabelError(f"{name}: {reason}: save it in the scene's CRS in your GIS") from error


def _moved(places: NDArray[np.float64], there: pyproj.Transformer) -> NDArray[np.float64]:
    """Bring (n, 2) elsewhere. Raises where none arrives as PROJ could not fetch what it needs for it."""
    x, y = places.T
    moved = np.column_stack(there.transform(x, y))
    online = pyproj.network.is_network_enabled()  # type: ignore[attr-defined]  # pyproj's own types lack it
    if online and len(moved) and not np.isfinite(moved).any():
        there.transform(x, y, errcheck=True)
    return moved


@lru_cache(maxsize=16)
def way(theirs: pyproj.CRS, ours: pyproj.CRS) -> pyproj.Transformer:
    """Return how PROJ brings coordinates from a CRS to ours, which may take it half a second to find out."""
    return pyproj.Transformer.from_crs(theirs, ours, always_xy=True)


def _with_coordinates(geometries: NDArray[Any], coordinates: NDArray[np.float64]) -> NDArray[Any]:
    owner = shapely.get_coordinates(geometries, return_index=True)[1]
    placed = np.array(geometries, object)
    finite = np.isfinite(coordinates).all(axis=1)
    lost = np.isin(np.arange(len(placed)), owner[~finite])
    placed[~lost] = shapely.set_coordinates(placed[~lost], coordinates[~np.isin(owner, np.flatnonzero(lost))])
    placed[lost] = None
    return placed
