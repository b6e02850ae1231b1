"""Broken ENVI headers: refused with a reason, or read as what the file holds; never a crash, a hang or a guess.

300 headers as a rule; `CSSD_GEO_FUZZ=10000 pytest tests/test_envi_fuzz.py` for more.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cssd_geo.errors import SceneError
from cssd_geo.products import open_scene
from cssd_geo.tiles import Window

EXAMPLES = int(os.environ.get("CSSD_GEO_FUZZ", "300"))
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    # rasterio stumbles over GDAL's messages where these quote bytes that are not UTF-8, and goes on
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

BANDS, LINES, SAMPLES = 12, 70, 50
_COMMON = (
    f"samples = {SAMPLES}",
    f"lines   = {LINES}",
    f"bands   = {BANDS}",
    "header offset = 0",
    "file type = ENVI Standard",
    "data type = 2",
    "interleave = bsq",
    "byte order = 0",
)
_NM = [400.5 + 170 * i for i in range(BANDS)]
HEADERS = (
    ("ENVI", "description = {made}", *_COMMON),
    (
        "ENVI",
        *_COMMON,
        "map info = {UTM, 1.000, 1.000, 383472.370, 5818302.350, 30.0, 30.0, 33, North, WGS-84, units=Meters}",
        "wavelength units = Nanometers",
        f"wavelength = {{{', '.join(map(str, _NM))}}}",
        f"fwhm = {{{', '.join(['5.8'] * BANDS)}}}",
        f"bbl = {{{', '.join(['1'] * BANDS)}}}",
        "reflectance scale factor = 10000",
        "data ignore value = -99",
    ),
    (
        "ENVI",
        "description = {",
        "  Registration Result. Method: 1st degree Polynomial w/ nearest neighbor}",
        *_COMMON,
        "sensor type = Unknown",
        "file compression = 0",
        "map info = {Geographic Lat/Lon, 1, 1, 13.3, 52.5, 0.0004, 0.0003, WGS-84, rotation=-66.0}",
        "band names = {",
        ",\n".join(f" {v / 1000} Micrometers" for v in _NM) + "}",
        "wavelength units = Micrometers",
        "wavelength = {",
        ",\n".join(f" {v / 1000}" for v in _NM) + "}",
        "default bands = {3, 2, 1}",
        "z plot titles = {wavelength [!7l!3m]!N, reflectance [* 10000]}",
    ),
)
_VALUES = [
    *(
        part.strip()
        for part in """
0 | -1 | 1 | 2 | 3 | 4 | 5 | 6 | 9 | 12 | 99 | 1000000000 | 999999999999999999999 | -2147483648 |
2147483647 | 4294967296 | nan | inf | -inf | 1e9 | 1e400 | 0x10 | 5.5 | 5; | five | { | } | {} |
{{}} | {1,2 | 1,2} | {nan, nan} | bil | bip | BSQ | bsq bil | ENVI Classification | ENVI Meta File |
TIFF | Nanometers | Index | %s%n%d | ../../etc/passwd
""".replace("\n", " ").split("|")
    ),
    "",
    "\x00",
    "a\x00b",
    "\N{SNOWMAN}",
    "x" * 9000,
    "{" + "1, " * 5000 + "1}",
]
_KEYS = [
    part.strip()
    for part in """
samples | lines | bands | header offset | file type | data type | interleave | byte order |
wavelength | wavelength units | fwhm | bbl | data ignore value | reflectance scale factor | map info
| projection info | coordinate system string | band names | file compression | data gain values |
data offset values | classes | class lookup | class names | rpc info | geo points | pixel size |
sensor type | major frame offsets | minor frame offsets | description | default bands | x start |
complex function | timestamp | cloud cover
""".replace("\n", " ").split("|")
]


@st.composite
def broken_headers(draw: st.DrawFn) -> bytes:
    """A header after a few accidents: lines lost, doubled, moved, overwritten; bytes changed; the end missing."""
    lines = list(draw(st.sampled_from(HEADERS)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(lines) - 1)) if lines else 0
        match draw(st.sampled_from(["lose", "double", "move", "value", "insert", "cut", "text"])):
            case "lose" if lines:
                del lines[at]
            case "double" if lines:
                lines.insert(draw(st.integers(0, len(lines))), lines[at])
            case "move" if lines:
                lines.append(lines.pop(at))
            case "value" if lines:
                lines[at] = f"{lines[at].partition('=')[0]}= {draw(st.sampled_from(_VALUES))}"
            case "insert":
                lines.insert(at, f"{draw(st.sampled_from(_KEYS))} = {draw(st.sampled_from(_VALUES))}")
            case "cut" if lines:
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
            case "text" if lines:
                place = draw(st.integers(0, len(lines[at])))
                lines[at] = lines[at][:place] + draw(st.text(max_size=4)) + lines[at][place:]
            case _:
                pass
    data = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 2)) if data else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data)


DATA = np.arange(1, BANDS * LINES * SAMPLES + 1, dtype="<i2")


def _claims(bands: object, lines: object, samples: object) -> bytes:
    text = "\n".join(HEADERS[1]).replace(f"bands   = {BANDS}", f"bands = {bands}")
    return text.replace(f"lines   = {LINES}", f"lines = {lines}").replace(f"= {SAMPLES}", f"= {samples}").encode()


@settings(max_examples=EXAMPLES, deadline=10_000, suppress_health_check=list(HealthCheck))
@given(header=broken_headers())
@example(header="\n".join(HEADERS[0]).encode())
@example(header="\n".join(HEADERS[1]).encode())
@example(header="\n".join(HEADERS[2]).encode())
@example(header=_claims(10**9, LINES, SAMPLES))
@example(header=_claims(BANDS, 10**9, 10**9))
@example(header=_claims(65535, 2**31 - 1, 2**31 - 1))
def test_a_broken_header_is_refused_or_read_as_what_the_file_holds(header: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scene.img")
        path.write_bytes(DATA.tobytes())
        path.with_suffix(".hdr").write_bytes(header)
        try:
            scene = open_scene(path)
        except SceneError as error:
            _is_for_the_analyst(str(error))
            return
        bands, height, width = scene.cube.shape
        assert len(scene.bands) == bands == len(scene.nodata) == len(scene.scale) == len(scene.offset)
        for values in (scene.bands.wavelength_nm, scene.bands.fwhm_nm):
            assert values is None or (len(values) == bands and all(0 < v < 20_001 for v in values))
        assert np.isfinite(scene.scale).all()
        assert (scene.scale > 0).all()
        assert np.isfinite(scene.offset).all()
        promised = bands * height * width * scene.cube.dtype.itemsize
        assert promised <= DATA.nbytes, "no value that the file does not hold"
        if not any("the rest is left out" in note for note in scene.notes):
            assert DATA.nbytes - promised in _offsets(header), "nothing is left over in silence"
        if any(scene.bands.good):
            window = Window(row=-1, col=-1, height=min(height, 50) + 2, width=min(width, 50) + 2)
            values_read, valid = scene.read(window, scene.bands.good_indexes)
            assert values_read.shape[1:] == valid.shape == (window.height, window.width)
        assert sorted(p.name for p in Path(folder).iterdir()) == ["scene.hdr", "scene.img"]


def _offsets(header: bytes) -> set[int]:
    """Every header offset that stands anywhere, and none."""
    found = [line.partition(b"=") for line in header.replace(b"\r", b"\n").split(b"\n")]
    given = {value.strip() for key, _, value in found if key.strip().lower() == b"header offset"}
    return {0} | {int(value) for value in given if value.isdigit()}


def _is_for_the_analyst(message: str) -> None:
    assert "\n" not in message
    assert 20 < len(message) < 20_000
