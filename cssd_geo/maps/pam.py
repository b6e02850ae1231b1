"""The side file `map.tif.aux.xml`: class names, colours and pixel counts where GIS programs look for them.

A TIFF has a colour table, but no place for category names or a raster attribute table; GDAL keeps both in its
"persistent auxiliary metadata", an XML file beside the raster. Reference:
https://gdal.org/en/stable/user/raster_data_model.html and `GDALRasterAttributeTable::Serialize` in
gcore/gdal_rat.cpp.
"""

import re
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, NoReturn
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from cssd_geo.classes import UNCLASSIFIED, UNCLASSIFIED_NAME, ClassTable, Colour
from cssd_geo.errors import InputError
from cssd_geo.files.side_files import MAX_BYTES, SUFFIX
from cssd_geo.files.xml_files import XmlError, read_xml

# GDALRATFieldType and GDALRATFieldUsage, gcore/gdal.h
_INTEGER, _REAL, _STRING = 0, 1, 2
_COUNT, _NAME, _MIN, _VALUE, _RED, _GREEN, _BLUE, _ALPHA = 1, 2, 3, 5, 6, 7, 8, 9

# XML 1.0 has no way to state most control characters, nor halves of surrogate pairs, not even escaped;
# line ends would not survive a parser, and no legend has room for them.
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def side_path(raster: Path) -> Path:
    """Return where the side file of `raster` lies."""
    return raster.with_name(raster.name + SUFFIX)


def serialise(classes: ClassTable, counts: NDArray[np.uint64], root: ET.Element | None = None) -> bytes:
    """Return a side file for a class map whose value v has `counts[v]` pixels.

    Args:
        classes: the classes of the map.
        counts: (max id + 1 or more,) number of pixels by value, 0 included.
        root: what GDAL itself had to say about the raster (`parse`), which is kept.
    """
    root = ET.Element("PAMDataset") if root is None else root
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    rows = _rows(classes)
    categories = ET.SubElement(band, "CategoryNames")
    names = {row.value: row.name for row in rows}
    for value in range(rows[-1].value + 1):
        ET.SubElement(categories, "Category").text = names.get(value, "")
    _add_table(band, rows, counts)
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f"{text}\n".encode()


def parse(path: Path) -> ET.Element:
    """Return the root element of a side file.

    Raises:
        InputError: if it is too large, is not well-formed XML, or declares a document type.
    """
    try:
        return read_xml(path, max_bytes=MAX_BYTES, what="the largest class table")
    except XmlError as error:
        _refuse(path, error)


def read_classes(path: Path, colours: Mapping[int, Colour]) -> ClassTable | None:
    """Read the class table of a side file, or None where it has none.

    The attribute table is preferred, since it may hold colours; else the category names. Values without a name
    and those below 1 are skipped: they are no classes.

    Args:
        path: the side file.
        colours: colours by value for classes to which the side file gives none.

    Raises:
        InputError: if the file is damaged. It is not passed over: its names would be lost in silence.
    """
    band = parse(path).find("PAMRasterBand[@band='1']")
    if band is None:
        return None
    try:
        rows = _read_table(band) or _read_categories(band)
        rows = sorted((row for row in rows if row.value > UNCLASSIFIED), key=attrgetter("value"))
        own = {row.value: row.colour for row in rows if row.colour is not None}
        ids, names = [row.value for row in rows], [row.name for row in rows]
        return ClassTable.from_names(names, ids, {**colours, **own}) if rows else None
    except (ValueError, IndexError, OverflowError) as error:  # InputError is a ValueError
        _refuse(path, error)


class _Row(NamedTuple):
    value: int
    name: str
    colour: Colour | None


def _rows(classes: ClassTable) -> list[_Row]:
    named = zip(classes.ids, classes.names, classes.colours, strict=True)
    rows = [_Row(value, _UNSPEAKABLE.sub(" ", name), colour) for value, name, colour in named]
    return [_Row(UNCLASSIFIED, UNCLASSIFIED_NAME, (0, 0, 0)), *rows]


def _add_table(band: ET.Element, rows: list[_Row], counts: NDArray[np.uint64]) -> None:
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    # Count is real: integers of a GDAL attribute table have 32 bits, too few past 46340 x 46340 pixels.
    fields = [("Value", _INTEGER, _VALUE), ("Class", _STRING, _NAME), ("Red", _INTEGER, _RED)]
    fields += [("Green", _INTEGER, _GREEN), ("Blue", _INTEGER, _BLUE), ("Alpha", _INTEGER, _ALPHA)]
    fields += [("Count", _REAL, _COUNT)]
    for index, (name, kind, usage) in enumerate(fields):
        field = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            ET.SubElement(field, tag).text = text
    for index, row in enumerate(rows):
        element = ET.SubElement(table, "Row", index=str(index))
        alpha = 0 if row.value == UNCLASSIFIED else 255
        for cell in (row.value, row.name, *(row.colour or ()), alpha, int(counts[row.value])):
            ET.SubElement(element, "F").text = str(cell)


def _read_categories(band: ET.Element) -> list[_Row]:
    named = enumerate(band.iterfind("CategoryNames/Category"))
    return [_Row(value, element.text, None) for value, element in named if element.text and element.text.strip()]


def _read_table(band: ET.Element) -> list[_Row]:
    """Return the attribute table's rows with a name, or none if it lacks a column for values or one for names."""
    fields = band.findall("GDALRasterAttributeTable/FieldDefn")
    value = _column(fields, usages=(_VALUE, _MIN), names=("value",))
    name = _column(fields, usages=(_NAME,), names=("class", "class_name", "name"))
    if value is None or name is None:
        return []
    colour = [_column(fields, usages=(usage,)) for usage in (_RED, _GREEN, _BLUE)]
    rows = []
    for element in band.iterfind("GDALRasterAttributeTable/Row"):
        cells = [cell.text or "" for cell in element.iterfind("F")]
        if not cells[name].strip():
            continue
        parts = [int(float(cells[i])) for i in colour if i is not None]
        rows.append(_Row(int(float(cells[value])), cells[name], _colour(parts)))
    return rows


def _column(fields: list[ET.Element], *, usages: tuple[int, ...], names: tuple[str, ...] = ()) -> int | None:
    """Return the first column with the best usage or, since some programs declare none, with such a name."""
    for tag, wanted in (("Usage", map(str, usages)), ("Name", names)):
        texts = [field.findtext(tag, "").strip().lower() for field in fields]
        for text in wanted:
            if text in texts:
                return texts.index(text)
    return None


def _colour(parts: list[int]) -> Colour | None:
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None  # noqa: PLR2004 - red, green, blue


def _refuse(path: Path, error: Exception) -> NoReturn:
    raise InputError(
        f"{path} cannot be used as the class table of its raster: {error}. Repair it or, if the raster can "
        "do without, remove it."
    ) from error
