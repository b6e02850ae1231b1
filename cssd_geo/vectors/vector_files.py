"""Vector files as GDAL opens them: what lies in a zip, which layer is meant, and what it holds."""

import re
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyogrio
import shapely
from numpy.typing import NDArray
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from pyogrio.util import vsi_path
from shapely import GeometryType

from cssd_geo.errors import InputError, LabelError
from cssd_geo.files.locations import is_there
from cssd_geo.messages import listed
from cssd_geo.vectors.shapefiles import has_fitting_index, reindexed

_IN_ZIP = (".shp", ".gpkg", ".geojson", ".json", ".fgb", ".kml", ".gml", ".sqlite")
"""Files that are looked for within a zip, in any folder of it."""
_LEADS_ELSEWHERE = (b"<OGRVRTDataSource", b"gdal_streamed_alg", b"<OGRWFSDataSource", b"<OGRCSWDataSource")
"""How files begin that hold no shapes themselves, but name other files, commands or servers."""
_LOOK = 2048
"""Bytes in which GDAL looks for them."""
_POINTS = (GeometryType.MISSING, GeometryType.POINT, GeometryType.MULTIPOINT)
LAYER_FIELD = "layer"
"""Attribute with the name of its layer for each feature, where all layers of a file are read as one."""
_UNDEFINED = re.compile(r'\w+\["Undefined ')
"""How the WKT of a CRS begins that stands for none: GeoPackages have one of degrees and one of metres."""
_UNREADABLE = (CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError)


@dataclass(frozen=True, kw_only=True)
class VectorLayer:
    """A layer as it is stored: nothing is repaired or left out yet."""

    geometries: NDArray[Any]
    """(n,) shapely geometries; None where there is none, or one of a kind that GEOS lacks."""
    fields: dict[str, NDArray[Any]]
    """(n,) values of each attribute."""
    crs: str | None
    notes: tuple[str, ...] = ()
    """What was decided to read it, one sentence each."""

    @property
    def holds_points(self) -> bool:
        """Whether all geometries are points."""
        return bool(np.isin(shapely.get_type_id(self.geometries), _POINTS).all())


class _TakenForAnotherError(LabelError):
    """The path of a file leads to another one."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where GDAL finds a layer."""

    source: str
    layer: str
    has_geometries: bool


def is_vector(path: str | Path) -> bool:
    """Whether a file is a vector that GDAL reads, or a zip with one.

    Raises:
        LabelError: if it does not exist or may not be read, or leads elsewhere: a virtual layer, a zip with paths
            out of it, a vector with a path that pyogrio does not take as it is.
    """
    if not is_there(path):
        raise LabelError(f"{path} does not exist or is no file: check the path")
    try:
        _places(path)
    except _UNREADABLE:
        return False
    except _TakenForAnotherError:
        if _is_vector_by_another_name(Path(path)):
            raise
        return False
    return True


def require_vector(option: str, *files: str | Path, value: str | bool | None) -> None:
    """Refuse an option that only a vector has a use for, where it is given and none of the files is one.

    Raises:
        InputError: with the option, its value unless that is true, and the first file.
        LabelError: as `is_vector`.
    """
    if value in (None, False) or not files or any(is_vector(file) for file in files):
        return
    given = option if value is True else f"{option} {value}"
    raise InputError(f"{given} is for vectors, which {files[0]} is not: leave it out")


def _is_vector_by_another_name(path: Path) -> bool:
    """Whether GDAL finds a vector in a file that it sees through a link with a plain name."""
    if path.suffix.lower() == ".shp":
        return True  # it needs more files than one
    with tempfile.TemporaryDirectory(prefix="cssd-geo-") as folder:
        link = Path(folder) / f"l.{re.sub('[^a-z]', '', path.suffix.lower())}"
        link.symlink_to(path.resolve())
        try:
            _native(str(link))
        except _UNREADABLE:
            return False
    return True


def read_layer(path: str | Path, layer: str | None, *, or_else: str = "") -> VectorLayer:
    """Read a layer with its attributes.

    Args:
        path: a vector that GDAL reads, or a zip with one.
        layer: needed where there are several with geometries.
        or_else: what else to do where there are several, for the message.

    Raises:
        LabelError: if there is no such layer, it has no geometries, or it cannot be read.
    """
    with _opened(path, layer, _places(path), or_else) as (place, notes):
        return _layer_at(path, place, notes)


def _layer_at(path: str | Path, place: _Place, notes: tuple[str, ...] = ()) -> VectorLayer:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            meta, wkb, columns, more = _read(place, Path(path).name)
        except UnicodeDecodeError as error:
            raise LabelError(
                f"{path} holds texts that are not {error.encoding.upper()}, as it says: write their encoding, "
                "such as ISO-8859-1, into the .cpg file of a shapefile, or save it anew as GeoPackage"
            ) from error
        except _UNREADABLE as error:
            raise LabelError(f"{path} cannot be read: {error}") from error
    if wkb is None:
        raise LabelError(
            f"{path}, layer {place.layer}, has no geometries: choose another --layer, or save points or polygons "
            "as GeoPackage"
        )
    said = dict.fromkeys(f"GDAL says: {w.message}" for w in caught if issubclass(w.category, RuntimeWarning))
    columns = [_column(column, kind) for column, kind in zip(columns, meta["dtypes"], strict=True)]
    fields = dict(zip(meta["fields"].tolist(), columns, strict=True))
    geometries = np.asarray(shapely.from_wkb(wkb, on_invalid="ignore"), object)
    crs = None if _UNDEFINED.match(meta["crs"] or "") else meta["crs"]
    return VectorLayer(geometries=geometries, fields=fields, crs=crs, notes=(*notes, *more, *said))


def read_layers(path: str | Path) -> VectorLayer:
    """Read all layers with geometries as one, whose attribute `layer` has their names; one alone as it is.

    Raises:
        LabelError: if one cannot be read, or they differ in their CRS.
    """
    places = _places(path)
    names = _with_geometries(places)
    if len(names) < 2:  # noqa: PLR2004 - there is nothing to join
        return read_layer(path, None)
    layers = [_layer_at(path, places[name]) for name in names]
    systems = dict.fromkeys(str(found.crs) for found in layers)
    if len(systems) > 1:
        raise LabelError(f"{path} has layers in different CRSs ({listed(systems)}): save them in one")
    return VectorLayer(
        geometries=np.concatenate([found.geometries for found in layers]),
        fields={LAYER_FIELD: np.repeat(np.array(names, object), [len(found.geometries) for found in layers])},
        crs=layers[0].crs,
        notes=tuple(dict.fromkeys(note for found in layers for note in found.notes)),
    )


def _with_geometries(places: dict[str, _Place]) -> list[str]:
    return [name for name, place in places.items() if place.has_geometries]


def _read(
    place: _Place, name: str
) -> tuple[dict[str, Any], NDArray[Any] | None, list[NDArray[Any]], tuple[str, ...]]:
    """What pyogrio reads, geometries as WKB, and a note where the texts are in another encoding than is said."""
    meta, _, wkb, columns = pyogrio.raw.read(place.source, layer=place.layer, force_2d=True)
    if not place.source.lower().endswith(".shp") or not any(_is_misread_utf8(column) for column in columns):
        return meta, wkb, columns, ()
    meta, _, wkb, columns = pyogrio.raw.read(place.source, layer=place.layer, force_2d=True, encoding="UTF-8")
    return meta, wkb, columns, (f"The texts of {name} are UTF-8, whatever is said beside them (.cpg).",)


def _column(values: NDArray[Any], kind: str) -> NDArray[Any]:
    """Booleans with nulls among them, which pyogrio gives as 0, 1 and NaN, as False, True and None."""
    if kind != "bool" or values.dtype.kind != "f":
        return values
    return np.array([None if np.isnan(value) else bool(value) for value in values], object)


def _is_misread_utf8(column: NDArray[Any]) -> bool:
    """Whether a text is UTF-8 that was taken for Latin 1, GDAL's guess for a shapefile that does not say.

    Texts that really are Latin 1 with letters beyond ASCII are no UTF-8, but for odd ones like "Ã¼".
    """
    texts = {value for value in column.tolist() if isinstance(value, str) and not value.isascii()}
    return any(_survives(text, encoding) for text in texts for encoding in ("latin-1", "cp1252"))


def _survives(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding).decode("utf-8")
    except UnicodeError:
        return False
    return True


def field_names(path: str | Path, layer: str | None) -> tuple[str, ...]:
    """Return the names of the attributes of a layer; none where there are several and none was chosen.

    Raises:
        LabelError: if there is no such layer.
    """
    places = _places(path)
    if layer is None and len(_with_geometries(places)) > 1:
        return ()
    with _opened(path, layer, places) as (place, _):
        return tuple(pyogrio.read_info(place.source, layer=place.layer)["fields"].tolist())


@contextmanager
def _opened(
    path: str | Path, layer: str | None, places: dict[str, _Place], or_else: str = ""
) -> Iterator[tuple[_Place, tuple[str, ...]]]:
    """Lend a layer to read: of a shapefile without a fitting index, one with an index that was made for it."""
    if not (Path(path).suffix.lower() == ".shp" and Path(path).is_file()) or has_fitting_index(Path(path)):
        yield _choose(path, places, layer, or_else), ()
        return
    with reindexed(Path(path)) as repaired:
        note = f"{Path(path).name} has no index (.shx) that fits it: one was made for reading, from its shapes."
        yield _choose(path, _native(str(repaired)), layer, or_else), (note,)


def _places(path: str | Path) -> dict[str, _Place]:
    """The layers of a file by the name that a user chooses them with.

    Raises:
        LabelError: if it leads elsewhere, by what it holds or by its path, or may not be read.
    """
    try:
        return _layers_in(path)
    except OSError as error:
        place = error.filename or path
        raise LabelError(f"{place} cannot be read: {error.strerror}; allow yourself to read it") from error


def _layers_in(path: str | Path) -> dict[str, _Place]:
    if Path(path).is_file():
        with Path(path).open("rb") as file:
            _require_own(file.read(_LOOK), str(path))
    if Path(path).suffix.lower() == ".zip" and zipfile.is_zipfile(path):
        members = _members(path)
        if members:
            return _zipped(path, members)
    _require_plain(str(path))
    if Path(path).suffix.lower() == ".shp" and Path(path).is_file() and not has_fitting_index(Path(path)):
        return {Path(path).stem: _Place(source=str(path), layer=Path(path).stem, has_geometries=True)}
    return _native(str(path))


def _require_plain(source: str) -> None:
    """Refuse a path that pyogrio would split, or take for an address, so that GDAL opened another file."""
    if source.startswith("//") or vsi_path(source) not in (source, f"/vsizip/{source}"):
        raise _TakenForAnotherError(
            f"{source} cannot be opened: '!' and ';' in a path, and '//' or 's3:' at its start, lead to other "
            "files; rename the file or its folder"
        )


def _native(source: str) -> dict[str, _Place]:
    _require_plain(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # they come again when it is read
        layers = pyogrio.list_layers(source)
    return {
        str(name): _Place(source=source, layer=str(name), has_geometries=kind is not None) for name, kind in layers
    }


def _members(path: str | Path) -> list[str]:
    """Vector files in a zip; its folders do not matter, nor what macOS adds.

    Raises:
        LabelError: if a name leads out of the zip.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if PurePosixPath(name).suffix.lower() in _IN_ZIP]
        for name in names:
            if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
                raise LabelError(f"{path} holds {name!r}, a path that leads out of it: zip the files anew")
            try:
                with archive.open(name) as file:
                    _require_own(file.read(_LOOK), f"{path}: {name} in it")
            except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
                raise LabelError(f"{path}: {name} in it cannot be read ({error}): unzip it first") from error
    return sorted(name for name in names if not name.startswith("__MACOSX/"))


def _require_own(begin: bytes, name: str) -> None:
    """Refuse a file that holds no shapes itself: whoever opens it does not mean to read others or ask servers."""
    if any(word in begin for word in _LEADS_ELSEWHERE):
        raise LabelError(f"{name} is a virtual layer that refers to others: export it as GeoPackage in your GIS")


def _zipped(path: str | Path, members: list[str]) -> dict[str, _Place]:
    """Layers of the files in a zip, by their name, and by file and name where several files have the same."""
    found = list[tuple[str, str, _Place]]()
    for member in members:
        try:
            layers = _native(f"/vsizip/{{{Path(path).resolve()}}}/{member}")
        except _UNREADABLE as error:
            raise LabelError(f"{path}: {member} in it cannot be read ({error}): unzip it first") from error
        found += [(member, name, place) for name, place in layers.items()]
    times = Counter(name for _, name, _ in found)
    return {name if times[name] == 1 else f"{member}:{name}": place for member, name, place in found}


def _choose(path: str | Path, places: dict[str, _Place], wanted: str | None, or_else: str) -> _Place:
    if wanted in places:
        return places[str(wanted)]
    mapped = _with_geometries(places)
    if wanted is None and len(mapped or places) == 1:
        return places[(mapped or list(places))[0]]
    if not places:
        raise LabelError(f"{path} holds no layer: it is empty or damaged, save it anew in your GIS")
    if wanted is not None:
        raise LabelError(f"{path} has no layer {wanted!r}; choose --layer from: {listed(places)}")
    raise LabelError(
        f"{path} has {len(places)} layers ({listed(places)}): name one with --layer{or_else if mapped else ''}"
    )
