"""XML files, read without entities and of bounded size: small ones cannot become huge or read other files."""

from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET


class XmlError(ValueError):
    """Why a file cannot be used, as the end of a sentence for the analyst."""


def read_xml(path: Path, *, max_bytes: int, what: str) -> ET.Element:
    """Return the root element of an XML file.

    Args:
        path: the file.
        max_bytes: a larger file is refused unread.
        what: what has that size at most, for the message: "the largest class table".

    Raises:
        XmlError: if it is too large, is not well-formed XML, or declares a document type: none of the files that
            are read here has one, and entities, with which small files become huge or read others, are declared
            there.
        OSError: if it cannot be read.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise XmlError(f"it has {size} bytes, more than the {max_bytes} of {what}")
    parser = ET.XMLParser(target=_Plain())  # noqa: S314 - no document type, so no entities; bounded size
    try:
        root: ET.Element = ET.fromstring(path.read_bytes(), parser)  # noqa: S314 - likewise
    except (ET.ParseError, LookupError, ValueError) as error:  # LookupError: an unknown encoding
        raise XmlError(str(error)) from error
    return root


class _Plain(ET.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError(f"it declares a document type, {name} {pubid or ''} {system or ''}".rstrip())
