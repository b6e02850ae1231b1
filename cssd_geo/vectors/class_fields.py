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
_SUBJECTS = {"class", "klasse", "label", "category", "type", "crop", "cover", "landcover", "landuse", "lc", "lulc"}
"""What the name of a class attribute says, alone, with an ending or with another: class, class_id, crop_type."""
_NUMBERS = {"id", "code", "value", "number", "num", "no", "nr", "key"}
_TITLES = ("name", "label", "text", "title", "info", "description", "desc")
"""Endings of a class attribute's name that its number's name lacks: class_name, class_id."""
_NO_CLASS = "a class is a text or a whole number: correct it, or choose another --class-field"

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


def read_class_column(
    fields: Fields, class_field: str | None, *, path: str, usable: NDArray[np.bool_]
) -> ClassColumn:
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
    field, guessed = _guess(path, fields) if class_field is None else (class_field, ())
    if field not in fields:
        raise LabelError(f"{path} has no field {field!r}; choose --class-field from: {_describe(fields)}")
    values = _values(fields[field], f"{path}: field {field!r}")
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
    return ClassColumn(classes=classes, legend=legend, notes=(*guessed, *notes, *more))


# Which attribute


def _guess(path: str, fields: Fields) -> tuple[str, tuple[str, ...]]:
    """The only field whose name says that it holds classes, else the only plausible one; a note if more were.

    Plausible are texts and whole numbers with at least two values. A number that belongs to a text, as class_id to
    class_name, makes one candidate with it, the text.

    In a reference sample it is the field to be filled in; the map's own classes would make any map look perfect. A
    sole field is taken even if it has one value; callers check the number of classes.
    """
    if {CLASS_FIELD, MAP_ID_FIELD, MAP_NAME_FIELD} <= fields.keys():
        return CLASS_FIELD, ()
    filled = [name for name, column in fields.items() if _distinct(column) and not _tells_no_class(name, column)]
    if len(filled) == 1 and _is_text_or_whole(fields[filled[0]]):
        return filled[0], ()
    plausible = [name for name, column in fields.items() if _is_plausible(name, column)]
    usable = [name for name in plausible if _may_be_classes(fields[name])]
    texts = [name for name in usable if fields[name].dtype.kind in "OU"]
    owners = {name: _owner(name, texts, fields) for name in plausible if name not in texts}
    candidates = [name for name in plausible if owners.get(name) is None]
    said = {owners.get(name) or name for name in plausible if _says_class(name)}
    telling = [name for name in candidates if name in said and name in usable]
    chosen = telling or candidates
    if not any(_distinct(column) and _is_text_or_whole(column) for column in fields.values()):
        raise LabelError(
            f"{path} has no field with classes, which are texts or whole numbers; its fields are: "
            f"{_describe(fields)}. Fill one, or add one"
        )
    if len(chosen) != 1 or chosen[0] not in usable:
        raise LabelError(f"{path}: which field holds the class? Choose --class-field from: {_describe(fields)}")
    note = f"Class field: {chosen[0]!r} (guessed; --class-field chooses another)."
    return chosen[0], (note,) if len(plausible) > 1 else ()


def _is_plausible(name: str, column: NDArray[Any]) -> bool:
    """Whether it may be meant: by its name, whatever it holds, or by its values."""
    if _tells_no_class(name, column):
        return False
    if _says_class(name):
        return len(_distinct(column)) > 0
    return column.dtype.kind != "b" and _may_be_classes(column)


def _may_be_classes(column: NDArray[Any]) -> bool:
    return _is_text_or_whole(column) and len(_distinct(column)) > 1


def _is_text_or_whole(column: NDArray[Any]) -> bool:
    return column.dtype.kind in "OUiub" or _is_whole(column)


def _is_whole(column: NDArray[Any]) -> bool:
    """Whether floats are whole numbers, stored as floats because whole numbers cannot say that one is missing."""
    if column.dtype.kind != "f":
        return False
    given = column[~np.isnan(column)]
    return bool((np.isfinite(given) & (given == np.floor(given))).all())


def _owner(number: str, texts: list[str], fields: Fields) -> str | None:
    """The one text that a number belongs to: by their names, else since both divide the features alike."""
    named = [text for text in texts if _squash(number) in _stems(text) | _numbered(_stems(text))]
    alike = [text for text in texts if _divide_alike(fields[number], fields[text])]
    found = named or alike
    return found[0] if len(found) == 1 else None


def _divide_alike(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether values of both go together one to one, and some repeat: else any two columns would."""
    pairs = list(zip(map(str, a.tolist()), map(str, b.tolist()), strict=True))
    return len(set(pairs)) == len({v for v, _ in pairs}) == len({v for _, v in pairs}) < len(pairs)


def _tells_no_class(name: str, column: NDArray[Any]) -> bool:
    """Colours, geometries as text, and what is different in every feature and named like it."""
    squashed = _squash(name)
    return _is_colour(name) or squashed in _GEOMETRY_TEXTS or (squashed in _RECORD_IDS and _is_unique(column))


def _is_unique(column: NDArray[Any]) -> bool:
    return len(_distinct(column)) == sum(not is_missing(value) for value in column.tolist())


def _says_class(name: str) -> bool:
    """Whether a name is a word for classes, alone or with an ending or another; "cover" may be a percentage."""
    endings = {*_NUMBERS, *_TITLES, *_SUBJECTS}
    both = {text for s in _SUBJECTS for e in endings for text in (s + e, e + s)}
    return _squash(name) in (_SUBJECTS | both) - {"cover"}


def _is_colour(name: str) -> bool:
    return name.lower() in {"colour", "color"}


def _squash(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def _distinct(column: NDArray[Any]) -> list[str]:
    return sorted({str(value) for value in column.tolist() if not is_missing(value)})


def _describe(fields: Fields) -> str:
    texts = []
    for name, column in fields.items():
        values = [shortened(value) for value in _distinct(column)]
        count = f"{len(values)} value{'' if len(values) == 1 else 's'}"
        shown = f"{count}: {', '.join(values[:3])}{', ...' if len(values) > 3 else ''}"  # noqa: PLR2004
        texts.append(f"{name} ({shown if values else 'empty'})")
    return "; ".join(texts)


# What its values are


def _values(column: NDArray[Any], of: str) -> NDArray[Any]:
    """Texts with single spaces, whole numbers as int, null and empty as None."""
    if column.dtype.kind not in "OUiufb":
        raise LabelError(
            f"{of} holds {'dates' if column.dtype.kind == 'M' else f'{column.dtype} values'}: {_NO_CLASS}"
        )
    return np.array([_value(value, of) for value in column.tolist()], object)


def is_missing(value: Any) -> bool:
    """Null, NaN, or a text that is empty or white space."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and bool(np.isnan(value)))


def _value(value: Any, of: str) -> str | int | None:
    if is_missing(value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return " ".join(value.split())  # tabs and line ends are no part of a name
    if isinstance(value, int | float) and float(value).is_integer():
        return int(value)
    held = value if isinstance(value, float) else f"{type(value).__name__} values such as {value}"
    raise LabelError(f"{of} holds {held}: {_NO_CLASS}")


def _one_spelling(values: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Take names that differ in case or in how an accent is stored as one, spelled as most of them are."""
    times = Counter(value for value in values.tolist() if isinstance(value, str))
    spellings: dict[str, list[str]] = {}
    for text in sorted(times, key=lambda t: (-times[t], t)):
        spellings.setdefault(name_key(text), []).append(text)
    several = [texts for texts in spellings.values() if len(texts) > 1]
    if not several:
        return values, ()
    best = {text: texts[0] for texts in several for text in texts[1:]}
    merged = np.array([best.get(value, value) for value in values.tolist()], object)
    shown = listed(f"{texts[0]} = {' = '.join(texts[1:])}" for texts in several)
    return merged, (f"Names that differ in case or accents only were taken as one class: {shown}.",)


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
    are_unique = len(set(numbers)) == len(numbers)
    if are_unique and numbers[0] >= 1 and numbers[-1] <= MAX_CLASS_ID:
        return list(numbers), ()
    why = f"Ids in a map are 1 to {MAX_CLASS_ID}" if are_unique else "Some classes are the same number"
    shown = listed(f"{old} → {new}" for new, old in enumerate(distinct, start=1))
    return none, (f"{why}, so the classes were renumbered, old → new: {shown}.",)


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
    return _squash(name) in _numbered(_SUBJECTS | _stems(class_field))


def _stems(class_field: str) -> set[str]:
    """The name of a class field, as it is and without endings such as "name", which the field of its ids lacks."""
    field = _squash(class_field)
    return {field, *(field.removesuffix(title) for title in _TITLES)} - {""}


def _numbered(subjects: set[str]) -> set[str]:
    return {text for s in subjects for number in _NUMBERS for text in (s + number, number + s)}


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
