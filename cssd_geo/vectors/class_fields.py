"""Which attribute holds the class, what its values mean, and which other attribute numbers the classes."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cssd_geo.classes import MAX_CLASS_ID, parse_colour
from cssd_geo.errors import LabelError
from cssd_geo.messages import has_control_characters, listed, shortened
from cssd_geo.vectors.legend import Entry, is_number, name_key, name_order

CLASS_FIELD, MAP_ID_FIELD, MAP_NAME_FIELD = "class_name", "map_id", "map_name"
"""Fields of a reference sample: the class to be filled in, and what the map has there."""
_RECORD_IDS = {"id", "fid", "gid", "ogcfid", "objectid", "oid", "uuid", "globalid", "featureid"}
"""Names of attributes that tell features apart, not classes."""
_GEOMETRY_TEXTS = {"wkt", "wktgeom", "geom", "geometry", "thegeom"}
_SUBJECTS = {"class", "label", "category", "type", "crop", "cover", "landcover", "landuse", "lc", "lulc"}
_NUMBERS = {"id", "code", "value", "number", "num", "no", "nr", "key"}
_TITLES = ("name", "label", "text", "title", "info", "description", "desc")
"""Endings of a class attribute's name that its number's name lacks: class_name, class_id."""

Indexes = NDArray[np.int64]
Fields = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ClassColumn:
    """The class of each feature."""

    classes: Indexes
    """(n,) index into `legend`; -1 without a class."""
    legend: tuple[Entry, ...]
    """What the file says of each class that occurs."""
    notes: tuple[str, ...] = ()
    """What was decided or renumbered, one sentence each."""


def read_classes(fields: Fields, class_field: str | None, *, path: str, usable: NDArray[np.bool_]) -> ClassColumn:
    """Read the class of each feature, and the ids and colours of the classes.

    Args:
        fields: (n,) values of each attribute.
        class_field: the attribute with the class; guessed where only one is plausible.
        path: for messages.
        usable: (n,) True: the feature has a geometry. The others have no class.

    Raises:
        LabelError: if there is no such attribute, or none is plausible, or its values are no classes.
    """
    if not fields:
        hint = "its .dbf file is missing or damaged" if path.lower().endswith(".shp") else "add one with the class"
        raise LabelError(f"{path} has no attributes: {hint}")
    field = _guess(path, fields) if class_field is None else class_field
    if field not in fields:
        raise LabelError(f"{path} has no field {field!r}; choose --class-field from: {_describe(fields)}")
    values = _values(fields[field], field)
    odd = next((v for v in values.tolist() if isinstance(v, str) and has_control_characters(v)), None)
    if odd is not None:
        raise LabelError(
            f"{path}: field {field!r} holds {odd!r}, with control characters: correct it or, where all texts look "
            "wrong, write their encoding, such as UTF-8, into the .cpg file of a shapefile"
        )
    if len(values) and not any(value is not None for value in values):
        raise LabelError(f"{path}: no feature has a class in field {field!r}: fill it, or choose --class-field")
    values[~usable] = None
    spelled, notes = _one_spelling(values)
    distinct = sorted({v for v in spelled.tolist() if v is not None}, key=lambda v: name_order(str(v)))
    position = {value: i for i, value in enumerate(distinct)}
    classes = np.array([-1 if value is None else position[value] for value in spelled], np.int64)
    ids, more = _ids(distinct, classes, fields, field)
    colours = _colours(fields, classes)
    legend = tuple(
        Entry(name=str(v), id=number, colour=colours.get(i))
        for i, (v, number) in enumerate(zip(distinct, ids, strict=True))
    )
    return ClassColumn(classes=classes, legend=legend, notes=(*notes, *more))


# Which attribute


def _guess(path: str, fields: Fields) -> str:
    """The only text field, or where there is none the only whole-number field, with at least two values.

    Of a reference sample it is the one to be filled in: the map's own classes would make any map look perfect.
    """
    if {CLASS_FIELD, MAP_ID_FIELD, MAP_NAME_FIELD} <= fields.keys():
        return CLASS_FIELD
    named = {name: column for name, column in fields.items() if not _tells_no_class(name, column)}
    for kinds in ("OU", "iu"):
        plausible = [name for name, c in named.items() if c.dtype.kind in kinds and len(_distinct(c)) > 1]
        if len(plausible) == 1:
            return plausible[0]
        if plausible:
            break
    raise LabelError(f"{path}: which field holds the class? Choose --class-field from: {_describe(fields)}")


def _tells_no_class(name: str, column: NDArray[Any]) -> bool:
    """Colours, geometries as text, and what is different in every feature and named like it."""
    squashed = _squash(name)
    every = len(_distinct(column)) == len(column)
    return _is_colour(name) or squashed in _GEOMETRY_TEXTS or (squashed in _RECORD_IDS and every)


def _is_colour(name: str) -> bool:
    return name.lower() in {"colour", "color"}


def _squash(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _distinct(column: NDArray[Any]) -> list[str]:
    return sorted({str(value) for value in column if value is not None})


def _describe(fields: Fields) -> str:
    texts = []
    for name, column in fields.items():
        values = [shortened(value) for value in _distinct(column)]
        texts.append(f"{name} ({len(values)} values: {', '.join(values[:3])}{', ...' if len(values) > 3 else ''})")  # noqa: PLR2004
    return "; ".join(texts)


# What its values are


def _values(column: NDArray[Any], field: str) -> NDArray[Any]:
    """Texts with single spaces, whole numbers as int, null and empty as None."""
    if column.dtype.kind not in "OUiufb":
        raise LabelError(f"field {field!r} holds {column.dtype} values: a class is a text or a whole number")
    values: NDArray[Any] = np.empty(len(column), object)
    for i, value in enumerate(column.tolist()):
        values[i] = _value(value, field)
    return values


def _value(value: Any, field: str) -> str | int | None:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return " ".join(value.split()) or None  # tabs and line ends are no part of a name
    if isinstance(value, int | float) and float(value).is_integer():
        return int(value)
    held = value if isinstance(value, float) else f"{type(value).__name__} values such as {value}"
    raise LabelError(f"field {field!r} holds {held}: a class is a text or a whole number")


def _one_spelling(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Take names that differ in case or in how an accent is stored as one, spelled as most of them are."""
    times = Counter(value for value in values.tolist() if isinstance(value, str))
    spellings: dict[str, list[str]] = {}
    for text in sorted(times, key=lambda t: (-times[t], t)):
        spellings.setdefault(name_key(text), []).append(text)
    several = [texts for texts in spellings.values() if len(texts) > 1]
    best = {text: texts[0] for texts in several for text in texts[1:]}
    merged = np.array([best.get(v, v) if isinstance(v, str) else v for v in values.tolist()] + [None], object)[:-1]
    shown = listed(f"{texts[0]} = {' = '.join(texts[1:])}" for texts in several)
    return merged, (f"Names that differ in case or accents only were taken as one class: {shown}.",) * bool(
        several
    )


def _colours(fields: Fields, classes: Indexes) -> dict[int, tuple[int, int, int]]:
    """The last colour of each class that has one."""
    column = next((fields[name] for name in fields if _is_colour(name)), None)
    if column is None:
        return {}
    parsed = [(k, parse_colour(text)) for k, text in zip(classes.tolist(), column, strict=True)]
    return {k: colour for k, colour in parsed if colour is not None}


# Which number a class has


def _ids(
    distinct: list[Any], classes: Indexes, fields: Fields, class_field: str
) -> tuple[list[int | None], tuple[str, ...]]:
    """The id of each class, as far as the file gives one that a map can hold, and what to say of it."""
    none: list[int | None] = [None] * len(distinct)
    if not distinct or not all(is_number(str(v)) for v in distinct):
        return _adopted(none, classes, fields, class_field)
    numbers = [int(v) for v in distinct]
    if len(set(numbers)) == len(numbers) and numbers[0] >= 1 and numbers[-1] <= MAX_CLASS_ID:
        return list(numbers), ()
    shown = listed(f"{old} → {new}" for new, old in enumerate(distinct, start=1))
    return none, (f"Ids in a map are 1 to {MAX_CLASS_ID}, so the classes were renumbered, old → new: {shown}.",)


def _adopted(
    none: list[int | None], classes: Indexes, fields: Fields, class_field: str
) -> tuple[list[int | None], tuple[str, ...]]:
    """Take the ids of texts from the one other attribute that numbers them, one number for each class.

    A plain "id" or "code" may as well number the features. It counts only if some class has several features,
    since a number for each feature cannot then be one for each class.
    """
    several = bool((np.bincount(classes[classes >= 0], minlength=1) > 1).any())
    found: dict[str, list[int]] = {}
    for name, column in fields.items():
        if name != class_field and (
            _names_class_ids(name, class_field) or (several and _squash(name) in _NUMBERS)
        ):
            numbers = _bijection(column, classes, len(none))
            if numbers is not None:
                found[name] = numbers
    if len(found) != 1:
        return none, ()
    ((name, numbers),) = found.items()
    return list(numbers), (f"The ids of the classes were taken from field {name!r}, which has one for each.",)


def _names_class_ids(name: str, class_field: str) -> bool:
    """Whether a name says that it numbers classes: class_id, ClassCode, id_label, <class field>_id."""
    field, squashed = _squash(class_field), _squash(name)
    subjects = _SUBJECTS | {field} | {field.removesuffix(title) for title in _TITLES} - {""}
    return any(squashed in {subject + number, number + subject} for subject in subjects for number in _NUMBERS)


def _bijection(column: NDArray[Any], classes: Indexes, count: int) -> list[int] | None:
    """The number of each class, if all its features and no others have it."""
    if column.dtype.kind not in "iuf":
        return None
    labelled, owners = column[classes >= 0].astype(np.float64), classes[classes >= 0]
    if not (np.isfinite(labelled) & (labelled % 1 == 0) & (labelled >= 1) & (labelled <= MAX_CLASS_ID)).all():
        return None
    pairs = {(k, int(number)) for k, number in zip(owners.tolist(), labelled, strict=True)}
    if not len(pairs) == count == len({number for _, number in pairs}):
        return None
    return [number for _, number in sorted(pairs)]
