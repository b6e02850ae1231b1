"""Which field is the class, and which numbers it: right where it is plain, refused or left alone elsewhere."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cssd_geo.errors import LabelError
from cssd_geo.vectors.class_fields import ClassColumn, read_class_column

NAMES = ["oats", "maize", "oats", "wheat", "maize"]
IDS = [9, 4, 9, 300, 4]


def _column(values: list[Any]) -> NDArray[Any]:
    return np.array(values, object if any(isinstance(v, str) or v is None for v in values) else None)


def _read(class_field: str | None = None, /, **fields: list[Any]) -> ClassColumn:
    columns = {name: _column(values) for name, values in fields.items()}
    count = len(next(iter(columns.values())))
    return read_class_column(columns, class_field, path="l.gpkg", usable=np.ones(count, np.bool_))


def _numbered(field: str, values: list[Any]) -> ClassColumn:
    fields: dict[str, list[Any]] = {"class_name": list(NAMES), field: values}
    return _read("class_name", **fields)


def _ids(column: ClassColumn) -> dict[str, int | None]:
    return {entry.name: entry.id for entry in column.legend}


@given(st.lists(st.none() | st.sampled_from(["a", "b", "Ä", " a ", "\tb\n"]), min_size=1, max_size=12))
def test_each_feature_has_its_class_or_none(values: list[str | None]) -> None:
    if not any(values):
        with pytest.raises(LabelError, match="no feature has a class"):
            _read("k", k=values)
        return
    column = _read("k", k=values)
    found = [None if k < 0 else column.legend[k].name for k in column.classes]
    assert found == [None if v is None else v.strip() for v in values]
    assert [entry.name for entry in column.legend] == sorted({name for name in found if name})


# Numbers


def test_ids_come_from_the_field_that_numbers_the_classes() -> None:
    for field in ("class_id", "ClassID", "id_class", "label-code", "classcode", "id", "code", "VALUE"):
        column = _numbered(field, IDS)
        assert _ids(column) == {"maize": 4, "oats": 9, "wheat": 300}, field
        assert column.notes == (
            f"The ids of the classes were taken from field {field!r}, which has one for each.",
        )
    assert _ids(_read("MC_info", MC_info=NAMES, MC_ID=[float(i) for i in IDS]))["wheat"] == 300
    assert _ids(_read("Level_2", Level_2=NAMES, Level_2_id=IDS))["wheat"] == 300


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("class_id", [9, 4, 9, 300, 5]),  # two for maize
        ("class_id", [9, 4, 9, 4, 4]),  # one for two
        ("class_id", [0, 4, 0, 300, 4]),
        ("class_id", [9, 4, 9, 65536, 4]),
        ("class_id", [9.5, 4, 9.5, 300, 4]),
        ("class_id", [9, 4, 9, np.nan, 4]),
        ("class_id", ["9", "4", "9", "300", "4"]),
        ("field", IDS),
        ("area", IDS),
        ("fid", IDS),
        ("gid", IDS),
        ("OBJECTID", IDS),
    ],
)
def test_other_fields_number_nothing(field: str, values: list[Any]) -> None:
    column = _numbered(field, values)
    assert set(_ids(column).values()) == {None}
    assert column.notes == ()


def test_a_number_for_each_feature_is_none_for_the_classes() -> None:
    """With one feature a class any number is one to one with the classes: only a name that says so counts."""
    each: dict[str, list[Any]] = {"class_name": ["oats", "maize", "wheat"]}
    for field in ("id", "code", "value", "nr"):
        assert set(_ids(_read("class_name", **each | {field: [7, 8, 9]})).values()) == {None}
    assert _ids(_read("class_name", **each | {"class_id": [7, 8, 9]})) == {"oats": 7, "maize": 8, "wheat": 9}


def test_two_fields_that_number_the_classes_are_no_answer() -> None:
    column = _read("class_name", class_name=NAMES, class_id=IDS, label_id=[1, 2, 1, 3, 2])
    assert set(_ids(column).values()) == {None}


def test_only_labelled_features_have_to_agree() -> None:
    column = _read("class_name", class_name=[*NAMES, None], class_id=[*IDS, 4])
    assert _ids(column) == {"maize": 4, "oats": 9, "wheat": 300}


@pytest.mark.parametrize(
    ("values", "ids"),
    [
        ([7, 300, 7], {"7": 7, "300": 300}),
        ([7.0, 300.0, np.nan], {"7": 7, "300": 300}),
        (["10", "9", "10"], {"9": 9, "10": 10}),
        (["01", "2", "01"], {"01": 1, "2": 2}),
        ([True, False, True], {"false": None, "true": None}),
        (["1", "wheat", "1"], {"1": None, "wheat": None}),
    ],
)
def test_whole_numbers_are_ids_as_text_too(values: list[Any], ids: dict[str, int | None]) -> None:
    column = _read("k", k=values)
    assert _ids(column) == ids
    assert column.notes == ()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([5, 0, 5], "0 → 1, 5 → 2"),
        ([-2, 10, 9], "-2 → 1, 9 → 2, 10 → 3"),
        (["0", "10", "9"], "0 → 1, 9 → 2, 10 → 3"),
        ([1, 65536, 2], "1 → 1, 2 → 2, 65536 → 3"),
    ],
)
def test_numbers_that_no_map_can_hold_are_renumbered_and_told(values: list[Any], told: str) -> None:
    column = _read("k", k=values)
    assert set(_ids(column).values()) == {None}
    assert column.notes == (f"Ids in a map are 1 to 65535, so the classes were renumbered, old → new: {told}.",)


def test_texts_that_are_one_number_are_renumbered_and_told() -> None:
    column = _read("k", k=["01", "1", "2"])
    assert set(_ids(column).values()) == {None}
    told = "Some classes are the same number, so the classes were renumbered, old → new: 01 → 1, 1 → 2, 2 → 3."
    assert column.notes == (told,)


# Names


def test_names_that_differ_in_case_or_accents_are_one_class() -> None:
    column = _read("k", k=["wheat", "Wheat", "wheat  ", "Äcker", "A\u0308cker", "Äcker", "oats"])
    assert [entry.name for entry in column.legend] == ["oats", "wheat", "Äcker"]
    assert column.classes.tolist() == [1, 1, 1, 2, 2, 2, 0]
    assert column.notes == (
        "Names that differ in case or accents only were taken as one class: wheat = Wheat, Äcker = A\u0308cker.",
    )


def test_long_names_are_kept_and_cut_in_messages() -> None:
    names = ["ä" * 4000, "b" * 300]
    assert [entry.name for entry in _read("k", k=names).legend] == names[::-1]
    with pytest.raises(LabelError) as caught:
        _read("other", k=names)
    assert len(str(caught.value)) < 300


# Which field


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ["l.1", "l.2"], "Name": ["a", "b"], "description": [None, None]},  # a KML
        {"WKT": ["POINT (1 2)", "POINT (3 4)"], "Name": ["a", "b"]},  # a CSV
        {"fid": [1, 2], "OBJECTID": [1, 2], "Name": [3, 4]},
    ],
)
def test_what_tells_features_apart_is_no_class(fields: dict[str, list[Any]]) -> None:
    assert _read(None, **fields).classes.tolist() == [0, 1]


GUESSED = "Class field: {!r} (guessed; --class-field chooses another)."
CODES = [1, 1, 2, 2, 3]
PEOPLE = ["Anna", "Bob", "Anna", "Bob", "Anna"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"class": CODES, "surveyor": PEOPLE}, "class"),
        ({"class_id": CODES, "remark": ["ok", None, "check", None, "ok"]}, "class_id"),
        ({"class_id": [np.nan, 1, 1, 2, 2], "plot": [1, 2, 3, 1, 2]}, "class_id"),
        ({"Landuse": NAMES, "remark": PEOPLE}, "Landuse"),
        ({"crop_type": NAMES, "plot": CODES}, "crop_type"),
        ({"Klasse-Nr": CODES, "plot": [4, 5, 4, 4, 5]}, "Klasse-Nr"),
        ({"type": [True, True, False, True, False], "surveyor": PEOPLE}, "type"),
        ({"cover": [80, 90, 80, 70, 60], "class_name": NAMES}, "class_name"),
    ],
)
def test_a_field_whose_name_says_class_is_taken_and_told(fields: dict[str, list[Any]], field: str) -> None:
    column = _read(None, **fields)
    assert column.notes[0] == GUESSED.format(field)
    asked = _read(field, **fields)
    assert column.legend == asked.legend
    assert column.classes.tolist() == asked.classes.tolist()


@pytest.mark.parametrize(
    "fields",
    [
        {"group": CODES, "surveyor": PEOPLE},
        {"group": [1, np.nan, 2, 2, 3], "surveyor": PEOPLE},
        {"kind": NAMES, "cover": [80, 90, 80, 70, 60]},
        {"crop": NAMES, "landuse": CODES},
        {"class": [1, 1, 1, 1, 1], "surveyor": PEOPLE},
        {"class": [1.0, 2.5, 2.5, 2.5, 1.0], "surveyor": PEOPLE},
        {"i": CODES, "j": [1.0, 2.0, 1.0, 2.0, np.nan]},
    ],
)
def test_where_texts_and_numbers_compete_the_choice_is_the_analysts(fields: dict[str, list[Any]]) -> None:
    with pytest.raises(LabelError, match=r"which field holds the class.*values?: ") as caught:
        _read(None, **fields)
    assert all(f"{name} (" in str(caught.value) for name in fields)
    assert "nan" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"class": [None, None], "size": [1.5, 2.0]}, "class (empty); size (2 values: 1.5, 2.0)"),
        ({"class": [1.5, 2.5]}, "class (2 values: 1.5, 2.5)"),
        ({"class": [None, ""], "note": [None, None]}, "class (empty); note (empty)"),
    ],
)
def test_where_no_field_can_hold_classes_none_is_offered(fields: dict[str, list[Any]], shown: str) -> None:
    with pytest.raises(LabelError, match="no field with classes, which are texts or whole numbers") as caught:
        _read(None, **fields)
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number", "values"),
    [
        ("class_name", "class_id", IDS),
        ("class_name", "class_id", [9, 4, 9, np.nan, 5]),
        ("class_name", "class", [9, 4, 9, 300, 5]),
        ("MC_info", "MC_ID", [9, 4, 9, 300, 5]),
        ("species", "class_id", IDS),
        ("species", "gridcode", IDS),
    ],
)
def test_of_a_text_and_its_number_the_text_is_the_class(text: str, number: str, values: list[Any]) -> None:
    fields: dict[str, list[Any]] = {number: values, text: list(NAMES)}
    column = _read(None, **fields)
    assert column.notes[0] == GUESSED.format(text)
    assert [entry.name for entry in column.legend] == sorted(set(NAMES))


@pytest.mark.parametrize(
    "fields",
    [
        {"class": ["maize"] * 5},
        {"name": ["maize"] * 5},
        {"class": ["maize"] * 5, "id": [1, 2, 3, 4, 5], "colour": ["#ffffff"] * 5, "seen": [None] * 5},
    ],
)
def test_a_field_that_is_alone_is_taken_though_it_has_one_value(fields: dict[str, list[Any]]) -> None:
    assert [entry.name for entry in _read(None, **fields).legend] == ["maize"]


def test_a_number_belongs_to_no_text_that_has_one_value_alone() -> None:
    column = _read(None, class_name=["field"] * 5, class_id=CODES)
    assert [entry.name for entry in column.legend] == ["1", "2", "3"]


def test_dates_and_yes_or_no_are_not_taken_for_classes() -> None:
    days = list(np.array(["2020-01-01", "2020-01-02", "2020-01-01", "2020-01-03", "2020-01-03"], "datetime64[D]"))
    column = _read(None, seen=days, done=[True, False, True, True, False], kind=NAMES)
    assert [entry.name for entry in column.legend] == sorted(set(NAMES))
    assert column.notes == ()


def test_whole_numbers_are_guessed_though_some_are_missing() -> None:
    column = _read(None, gridcode=[1.0, np.nan, 2.0], id=[7.0, np.nan, 8.0], remark=["x", None, " "])
    assert column.classes.tolist() == [0, -1, 1]
    assert column.notes == ()


@pytest.mark.parametrize(
    ("column", "held"),
    [
        (np.array(["2020-01-01", "2020-01-02"], "datetime64[D]"), "dates"),
        (np.array([np.array(["a", "b"]), None], object), "ndarray values such as"),
        (np.array([b"a", b"b"], object), "bytes values"),
        (np.array([1.0, 2.5]), "2.5"),
        (np.array([1.0, np.inf]), "inf"),
    ],
)
def test_values_that_are_no_class_are_refused(column: NDArray[Any], held: str) -> None:
    with pytest.raises(LabelError, match=f"l.gpkg: field 'k' holds {held}.*a class is a text or a whole number"):
        read_class_column({"k": column}, "k", path="l.gpkg", usable=np.ones(2, np.bool_))


def test_without_attributes_the_advice_fits_the_format() -> None:
    for path, advice in (("l.shp", "its .dbf file is missing or damaged"), ("l.gpkg", "add one with the class")):
        with pytest.raises(LabelError, match=f"has no attributes: {advice}"):
            read_class_column({}, None, path=path, usable=np.ones(1, np.bool_))


def test_a_name_that_a_terminal_might_obey_is_refused_with_its_file() -> None:
    with pytest.raises(
        LabelError, match=r"l\.gpkg: field 'k' holds 'StraÃ\\x9fe', with control characters: .*\.cpg"
    ):
        _read("k", k=["Stra\u00c3\x9fe", "b"])
