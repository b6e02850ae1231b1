"""DESIS L2A: surface reflectance from DLR, a GeoTIFF and METADATA.xml; 235 bands in 400 to 1000 nm, or binned.

Described in the DESIS product specification (PAV-DLR-ICD-003). The quality layers (shadow, snow, haze, cloud,
water) are not applied: they say what a pixel shows, not that it was not measured.
"""

import re

from cssd_geo.formats.xml_products import XmlProduct

PRODUCT = XmlProduct(
    sensor="DESIS L2A",
    prefix=re.compile(r"DESIS-HSI-L2A-.+", re.IGNORECASE),
    band="specific/bandCharacterisation/band",  # there are elements `band` about geometry, too
    number="bandNumber",
    wavelength="wavelengthCenterOfBand",
    fwhm="wavelengthWidthOfBand",
    gain="gainOfBand",
    offset="offsetOfBand",
    nodata=-32768,
    layers=re.compile(r"QL_QUALITY.*\.tiff?", re.IGNORECASE),
)
