"""The side file, with GDAL's command line as the oracle of its schema."""

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from cssd_geo.classes import ClassTable
from cssd_geo.errors import InputError
from cssd_geo.files.side_files import MAX_BYTES
from cssd_geo.maps import pam

TABLE = ClassTable(ids=(1, 2, 7), names=("Wald & <Moor>", 'Äcker "brach"', "水"), colours=((1, 2, 3),) * 3)
COUNTS = np.array([5, 10, 20, 0, 0, 0, 0, 2**40], np.uint64)
FIELD = "<FieldDefn index='{}'><Name>{}</Name><Type>0</Type><Usage>{}</Usage></FieldDefn>"


def _side_file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "map.tif.aux.xml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _band(inner: str) -> str:
    return f"<PAMDataset><PAMRasterBand band='1'>{inner}</PAMRasterBand></PAMDataset>"


def _attribute_table(fields: list[tuple[str, int]], rows: list[tuple[object, ...]]) -> str:
    definitions = "".join(FIELD.format(i, name, usage) for i, (name, usage) in enumerate(fields))
    cells = ["".join(f"<F>{cell}</F>" for cell in row) for row in rows]
    body = "".join(f"<Row index='{i}'>{row}</Row>" for i, row in enumerate(cells))
    return _band(f"<GDALRasterAttributeTable tableType='thematic'>{definitions}{body}</GDALRasterAttributeTable>")


def test_round_trip(tmp_path: Path) -> None:
    path = _side_file(tmp_path, pam.serialise(TABLE, COUNTS))
    assert pam.read_classes(path, {}) == TABLE


def test_category_names_reach_from_zero_to_the_largest_id() -> None:
    root = ET.fromstring(pam.serialise(TABLE, COUNTS))  # noqa: S314 - our own
    names = [element.text or "" for element in root.iterfind("PAMRasterBand/CategoryNames/Category")]
    assert names == ["unclassified", "Wald & <Moor>", 'Äcker "brach"', "", "", "", "", "水"]


def test_counts_beyond_32_bits_are_kept() -> None:
    root = ET.fromstring(pam.serialise(TABLE, COUNTS))  # noqa: S314 - our own
    fields, rows = (root.findall(f"PAMRasterBand/GDALRasterAttributeTable/{tag}") for tag in ("FieldDefn", "Row"))
    count = [field.findtext("Name") for field in fields].index("Count")
    assert fields[count].findtext("Type") == "1", "real: whole numbers have 32 bits there"
    assert [row.findall("F")[count].text for row in rows] == ["5", "10", "20", str(2**40)]


def test_what_gdal_had_to_say_is_kept(tmp_path: Path) -> None:
    path = _side_file(tmp_path, "<PAMDataset><SRS>somewhere</SRS></PAMDataset>")
    root = ET.fromstring(pam.serialise(TABLE, COUNTS, pam.parse(path)))  # noqa: S314 - our own
    assert [child.tag for child in root] == ["SRS", "PAMRasterBand"]
    assert root.findtext("SRS") == "somewhere"


def test_gdal_reads_it_and_would_write_the_same(tmp_path: Path) -> None:
    gdal_translate = shutil.which("gdal_translate")
    if gdal_translate is None:
        pytest.skip("gdal_translate, the oracle of the schema, is not installed")
    raster = tmp_path / "map.asc"
    raster.write_text("ncols 3\nnrows 1\nxllcorner 0\nyllcorner 0\ncellsize 1\n1 2 7\n")
    pam.side_path(raster).write_bytes(pam.serialise(TABLE, COUNTS))
    copy = tmp_path / "copy.tif"
    subprocess.run([gdal_translate, "-q", "-ot", "Byte", str(raster), str(copy)], check=True)
    ours, gdals = pam.parse(pam.side_path(raster)), pam.parse(pam.side_path(copy))
    for tag in ("CategoryNames", "GDALRasterAttributeTable"):
        assert _canonical(ours, tag) == _canonical(gdals, tag)


def _canonical(root: ET.Element, tag: str) -> str:
    element = root.find(f"PAMRasterBand/{tag}")
    assert element is not None
    return ET.canonicalize(ET.tostring(element, encoding="unicode"), strip_text=True)


def test_names_that_xml_cannot_state_do_not_break_the_file(tmp_path: Path) -> None:
    table = ClassTable.from_names(["odd\ufffe", '<&">', "half\u00a0space"])
    path = _side_file(tmp_path, pam.serialise(table, COUNTS))
    back = pam.read_classes(path, {})
    assert back is not None
    assert back.names == ("odd ", '<&">', "half\u00a0space")


def test_the_largest_table_is_within_the_limit() -> None:
    table = ClassTable.from_names([f"{i} a name of forty letters, as analysts " for i in range(65535)])
    assert len(pam.serialise(table, np.full(65536, 10**10, np.uint64))) < MAX_BYTES


def test_category_names_alone_with_the_colours_of_the_raster(tmp_path: Path) -> None:
    text = "<CategoryNames><Category>none</Category><Category>a</Category><Category/><Category>c</Category>"
    table = pam.read_classes(_side_file(tmp_path, _band(text + "</CategoryNames>")), {3: (9, 8, 7)})
    assert table is not None
    assert (table.ids, table.names) == ((1, 3), ("a", "c"))
    assert table.colours == (ClassTable.from_names(["a"]).colours[0], (9, 8, 7))


@pytest.mark.parametrize("usages", [(5, 2), (3, 2), (0, 0)], ids=["declared", "minimum", "by column name"])
def test_attribute_tables_of_other_programs(tmp_path: Path, usages: tuple[int, int]) -> None:
    fields = [("OBJECTID", 0), ("Value", usages[0]), ("CLASS_NAME", usages[1])]
    text = _attribute_table(fields, [(0, "2.0", "b"), (1, "0", "nothing"), (2, "1", "a")])
    table = pam.read_classes(_side_file(tmp_path, text), {})
    assert table is not None
    assert (table.ids, table.names) == ((1, 2), ("a", "b"))


def test_rows_without_a_name_or_below_one_are_skipped(tmp_path: Path) -> None:
    """Tables that come from ERDAS have 256 rows, and most are blank."""
    fields = [("Value", 5), ("Class", 2), ("R", 6), ("G", 7), ("B", 8)]
    blank = [(value, " " * (value % 2), "", "", "") for value in range(3, 256)]
    rows: list[tuple[object, ...]] = [
        (-1, "none", 0, 0, 0),
        (0, "", "", "", ""),
        (1, "a", 1, 2, 3),
        (2, "b", 4, 5, 6),
        *blank,
    ]
    table = pam.read_classes(_side_file(tmp_path, _attribute_table(fields, rows)), {})
    assert table == ClassTable(ids=(1, 2), names=("a", "b"), colours=((1, 2, 3), (4, 5, 6)))


def test_category_names_are_taken_where_no_row_has_a_name(tmp_path: Path) -> None:
    text = _attribute_table([("Value", 5), ("Class", 2)], [(value, "") for value in range(256)])
    names = "<CategoryNames><Category/><Category>a</Category><Category>\n </Category></CategoryNames>"
    both = text.replace("<GDALRaster", names + "<GDALRaster", 1)
    table = pam.read_classes(_side_file(tmp_path, both), {})
    assert table is not None
    assert (table.ids, table.names) == ((1,), ("a",))


@pytest.mark.parametrize(
    "text",
    [
        "<PAMDataset/>",
        "<PAMDataset><PAMRasterBand band='2'/></PAMDataset>",
        _band("<Metadata><MDI key='STATISTICS_MEAN'>1.5</MDI></Metadata>"),
        _attribute_table([("Value", 5), ("Red", 6)], [(1, 2)]),
        _attribute_table([("Value", 5), ("Class", 2)], [(0, "unclassified")]),
        _attribute_table([("Value", 5), ("Class", 2)], [(-1, "none")]),
        _attribute_table([("Value", 5), ("Class", 2)], [(value, "") for value in range(256)]),
    ],
)
def test_side_files_without_classes(tmp_path: Path, text: str) -> None:
    assert pam.read_classes(_side_file(tmp_path, text), {}) is None


HOSTILE = {
    "empty": "",
    "cut short": "<PAMDataset><PAMRasterBand band='1'>",
    "not XML": b"\x00\xff\x00II*\x00",
    "unknown encoding": "<?xml version='1.0' encoding='x-none'?><PAMDataset/>",
    "external entity": "<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/hostname'>]>" + _band("&e;"),
    "laughs": "<!DOCTYPE a [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]>" + _band("&b;"),
    "laughs in UTF-16": "<!DOCTYPE a [<!ENTITY a 'ha'>]><a>&a;</a>".encode("utf-16"),
    "undeclared entity": _band("&e;"),
    "value of no number": _attribute_table([("Value", 5), ("Class", 2)], [("one", "a")]),
    "infinite value": _attribute_table([("Value", 5), ("Class", 2)], [("inf", "a")]),
    "huge value": _attribute_table([("Value", 5), ("Class", 2)], [("1e300", "a")]),
    "value beyond 16 bits": _attribute_table([("Value", 5), ("Class", 2)], [(1, "a"), (65536, "b")]),
    "missing cells": _attribute_table([("Value", 5), ("Class", 2)], [(1,)]),
    "two names alike": _attribute_table([("Value", 5), ("Class", 2)], [(1, "a"), (2, "a")]),
    "two values alike": _attribute_table([("Value", 5), ("Class", 2)], [(1, "a"), (1, "a")]),
    "colour beyond a byte": _attribute_table(
        [("Value", 5), ("Class", 2), ("R", 6), ("G", 7), ("B", 8)], [(1, "a", 1, 2, 256)]
    ),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_damaged_or_hostile_side_files_are_refused(tmp_path: Path, content: str | bytes) -> None:
    path = _side_file(tmp_path, content)
    with pytest.raises(InputError, match=r"map\.tif\.aux\.xml cannot be used as the class table") as caught:
        pam.read_classes(path, {})
    assert "\n" not in str(caught.value)


def test_a_huge_side_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "map.tif.aux.xml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match=f"{MAX_BYTES + 1} bytes"):
        pam.read_classes(path, {})
