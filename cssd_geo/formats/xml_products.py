"""Sensor products of a raster and an XML file beside it that says what the bands are: EnMAP and DESIS."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from cssd_geo.bands import Bands
from cssd_geo.errors import SceneError
from cssd_geo.files.xml_files import XmlError, read_xml
from cssd_geo.messages import listed
from cssd_geo.scenes.raster_scenes import scene_of_raster
from cssd_geo.scenes.scene import Scene
from cssd_geo.spectra.band_choice import ranges

MAX_BYTES = 64 * 2**20
"""Metadata beyond this are refused: those of 224 bands with their statistics take about 1 MB."""
_IMAGE = re.compile(r"SPECTRAL_IMAGE(_COG)?\.(tiff?|bsq|bil|bip|jp2|jpeg2000)", re.IGNORECASE)
_METADATA = re.compile(r"METADATA\.xml", re.IGNORECASE)
_HEADER = re.compile(r"SPECTRAL_IMAGE\.hdr", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.IGNORECASE | re.ASCII)
"""As XML Schema writes it: Python's own `float` takes more, such as 1_000, nan and digits of other scripts."""
_OPTICAL_NM = (300.0, 3000.0)


def _none(_: ET.Element, count: int) -> NDArray[np.bool_]:
    return np.zeros(count, np.bool_)


@dataclass(frozen=True, kw_only=True)
class XmlProduct:
    """How the products of one sensor are named and described."""

    sensor: str
    """Sensor and product: "EnMAP L2A"."""
    prefix: re.Pattern[str]
    """What its files' names begin with, up to the hyphen before the kind of file."""
    band: str
    """Path from the root to the elements that describe a band each."""
    number: str
    """Attribute, with @ before it, or child of these with the number of the band in the image, from 1."""
    wavelength: str
    """Child of these: centre in nanometres."""
    fwhm: str
    """Child: full width at half maximum in nanometres."""
    gain: str
    """Child: reflectance = gain * value + offset."""
    offset: str
    """Child, see `gain`."""
    nodata: float
    """Of images that declare none."""
    layers: re.Pattern[str]
    """Names, after the prefix, of the product's quality layers, which the analyst is told are not applied."""
    empty_bands: Callable[[ET.Element, int], NDArray[np.bool_]] = _none
    """From the metadata and the number of bands: which hold no data anywhere, (band,)."""
    level: str | None = None
    """What `base/level` says, where it is there; None: whatever it likes."""

    def recognises(self, path: str) -> bool:
        """Whether a path is a product: its folder, image or metadata, on a disk."""
        place = Path(path)
        try:
            inside = list(place.iterdir()) if place.is_dir() else [place] if place.is_file() else []
        except OSError:  # a name too long for a disk, a folder that is not ours: GDAL's own words are better
            return False
        return any(self._prefix_of(each) is not None for each in inside)

    def open_product(self, path: str) -> Scene:
        """Open a product by its folder, image or metadata; reads no pixel.

        Raises:
            SceneError: if a part is missing, cannot be read, or contradicts another.
        """
        metadata, image = self._parts(Path(path))
        root = self._read_metadata(metadata)
        bands, scale, offset = self._read_bands(root, metadata)
        scene = scene_of_raster(image)
        if len(scene.bands) != len(bands):
            raise SceneError(
                f"{metadata} describes {len(bands)} bands, but {image.name} has {len(scene.bands)}: both must be "
                "of the same product, and complete"
            )
        nodata = np.where(np.isnan(scene.nodata), self.nodata, scene.nodata)
        empty = self.empty_bands(root, len(bands))
        return replace(
            scene,
            bands=bands.without(empty),
            nodata=nodata,
            scale=scale,
            offset=offset,
            sensor=self.sensor,
            notes=(*scene.notes, *self._notes(image, empty)),
        )

    def _notes(self, image: Path, empty: NDArray[np.bool_]) -> Iterator[str]:
        if empty.any():
            numbers = ranges(np.flatnonzero(empty) + 1)
            yield f"Bands without data anywhere, as the metadata say, were marked as bad: {numbers}."
        prefix = str(self._prefix_of(image))
        names = sorted(each.name.removeprefix(prefix) for each in image.parent.iterdir())
        layers = [name for name in names if self.layers.fullmatch(name)]
        if layers:
            yield f"The product's quality layers were not applied: {', '.join(layers)}."

    def _prefix_of(self, path: Path) -> str | None:
        """What names the product in the name of one of its files; None for other files."""
        begin, hyphen, kind = path.name.rpartition("-")
        known = any(pattern.fullmatch(kind) for pattern in (_IMAGE, _METADATA, _HEADER))
        return begin + hyphen if known and self.prefix.fullmatch(begin) else None

    def _parts(self, path: Path) -> tuple[Path, Path]:
        """Metadata and image of a product, from the path of its folder or of one of them."""
        folder = path if path.is_dir() else path.parent
        files = sorted(each for each in folder.iterdir() if self._prefix_of(each) is not None)
        prefixes = {self._prefix_of(each) for each in (files if path.is_dir() else [path])}
        if len(prefixes) > 1:
            raise SceneError(f"{path} holds {len(prefixes)} {self.sensor} products: name the METADATA file of one")
        (prefix,) = prefixes
        mine = [each for each in files if self._prefix_of(each) == prefix]
        metadata = _only(mine, _METADATA, f"{folder / str(prefix)}METADATA.XML, which describes the bands,", path)
        if _kind_is(path, _IMAGE):
            return metadata, path
        return metadata, _only(mine, _IMAGE, f"{folder / str(prefix)}SPECTRAL_IMAGE.TIF, the image itself,", path)

    def _read_metadata(self, path: Path) -> ET.Element:
        try:
            root = read_xml(path, max_bytes=MAX_BYTES, what="any metadata of a scene")
        except (XmlError, OSError) as error:
            _refuse(path, str(error), error)
        level = root.findtext("base/level")
        if None not in (level, self.level) and str(level).strip() != self.level:
            _refuse(path, f"it is of level {level!r}, but its name says {self.level}")
        return root

    def _read_bands(self, root: ET.Element, path: Path) -> tuple[Bands, NDArray[np.float64], NDArray[np.float64]]:
        """Bands in the order of the image, and their scale and offset (band,)."""
        elements = root.findall(self.band)
        if not elements:
            _refuse(path, f"it describes no band: {self.band} is missing")
        numbers = [self._number(element, path) for element in elements]
        if sorted(numbers) != list(range(1, len(elements) + 1)):
            _refuse(path, f"its {len(elements)} bands are not numbered from 1 to {len(elements)}, each once")
        order = np.argsort(numbers)
        tags = (self.wavelength, self.fwhm, self.gain, self.offset)
        table = np.array([[_value(element, tag, path) for tag in tags] for element in elements])[order]
        wavelength, fwhm, gain, offset = table.T
        low, high = _OPTICAL_NM
        _check(
            path, self.wavelength, wavelength, (wavelength >= low) & (wavelength <= high), f"{low:g} to {high:g}"
        )
        _check(path, self.fwhm, fwhm, (fwhm > 0) & (fwhm < wavelength), "more than 0 and less than the wavelength")
        _check(path, self.gain, gain, gain > 0, "more than 0")
        bands = Bands(
            good=(True,) * len(elements), wavelength_nm=tuple(wavelength.tolist()), fwhm_nm=tuple(fwhm.tolist())
        )
        return bands, gain, offset

    def _number(self, element: ET.Element, path: Path) -> int:
        text = (
            element.get(self.number[1:], "") if self.number.startswith("@") else _text(element, self.number, path)
        )
        if not re.fullmatch(r"\d{1,5}", text, re.ASCII):
            _refuse(path, f"{self.number.lstrip('@')} of a band is {text[:40]!r}, no number of a band")
        return int(text)


def number_in(text: str | None) -> float | None:
    """Return the number that an element's text is; None where it is none."""
    plain = (text or "").strip()
    return float(plain) if _NUMBER.fullmatch(plain) else None


def _only(files: Iterable[Path], kind: re.Pattern[str], what: str, path: Path) -> Path:
    """The one file of a kind, or the error that says why there is none."""
    found = [each for each in files if _kind_is(each, kind)]
    if not found:
        raise SceneError(f"{path} is part of a product of several files, but {what} is missing: download it again")
    if len(found) > 1:
        names = listed(each.name for each in found)
        raise SceneError(f"{path}: there are {len(found)} files to choose from ({names}): name one of them")
    return found[0]


def _kind_is(path: Path, kind: re.Pattern[str]) -> bool:
    return kind.fullmatch(path.name.rpartition("-")[2]) is not None


def _text(element: ET.Element, tag: str, path: Path) -> str:
    found = element.findall(tag)
    if len(found) != 1:
        _refuse(path, f"a band has {len(found)} elements {tag} and must have one")
    return (found[0].text or "").strip()


def _value(element: ET.Element, tag: str, path: Path) -> float:
    text = _text(element, tag, path)
    number = number_in(text)
    if number is None or not np.isfinite(number):
        _refuse(path, f"{tag} of a band is {text[:40]!r}, no number")
    return number


def _check(path: Path, tag: str, values: NDArray[np.float64], fine: NDArray[np.bool_], allowed: str) -> None:
    if not fine.all():
        i = int(np.argmin(fine))
        _refuse(path, f"{tag} of band {i + 1} is {values[i]:g}, and must be {allowed}")


def _refuse(path: Path, reason: str, error: Exception | None = None) -> NoReturn:
    raise SceneError(f"{path} cannot be used: {reason}. Download the product again") from error
