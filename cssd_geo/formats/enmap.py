"""EnMAP L2A: surface reflectance from DLR, a GeoTIFF (or COG, BSQ, BIL, BIP) and METADATA.XML.

Described in the EnMAP HSI product specification (EN-PCV-ICD-2009), https://www.enmap.org/data_tools/documents/.
VNIR and SWIR overlap between about 900 and 1000 nm; bands are in the order of the image, whichever it is. The
quality layers (cloud, cirrus, haze, snow, defective pixels) are not applied: they say what a pixel shows, or that
it was interpolated, not that it was not measured.
"""

import re
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from cssd_geo.formats.xml_products import XmlProduct, number_in

_EMPTY_MEAN = -1_000_000
"""Mean in `product/bandStatistics` of a band without data: most water-vapour bands, in every scene."""


def _empty_bands(root: ET.Element, count: int) -> NDArray[np.bool_]:
    empty = np.zeros(count, np.bool_)
    for element in root.findall("product/bandStatistics/bandID"):
        number = number_in(element.get("number"))
        values = [number_in(element.findtext(tag)) for tag in ("mean", "stdDeviation")]
        if number is not None and number in range(1, count + 1):
            empty[int(number) - 1] = values == [_EMPTY_MEAN, 0]
    return empty


PRODUCT = XmlProduct(
    sensor="EnMAP L2A",
    prefix=re.compile(r"ENMAP\d\d-_*L2A-.+", re.IGNORECASE),
    level="L2A",
    band="specific/bandCharacterisation/bandID",
    number="@number",
    wavelength="wavelengthCenterOfBand",
    fwhm="FWHMOfBand",
    gain="GainOfBand",
    offset="OffsetOfBand",
    nodata=-32768,  # `specific/backgroundValue` is another in some products
    layers=re.compile(r"QL_(QUALITY|PIXELMASK).*\.(tiff?|bsq|bil|bip)", re.IGNORECASE),
    empty_bands=_empty_bands,
)
