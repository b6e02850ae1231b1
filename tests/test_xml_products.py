"""EnMAP and DESIS: values, bands, scale and grid are the product's; products that are not whole are refused."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_products import (
    DESIS,
    ENMAP,
    ENMAP_FWHM,
    ENMAP_NM,
    HEIGHT,
    NO_DATA,
    WIDTH,
    coordinates,
    desis_metadata,
    enmap_metadata,
    write_desis,
    write_enmap,
    write_xml,
)
from rasterio.transform import xy
from scenes import NORTH_UP, write_raster, write_two_fields
from test_training import QUICK

from cssd_geo.classification import classify
from cssd_geo.cli import main
from cssd_geo.errors import SceneError
from cssd_geo.formats import enmap as enmap_format
from cssd_geo.formats import xml_products
from cssd_geo.products import open_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.scene import Scene
from cssd_geo.tiles import Window
from cssd_geo.training import train

WHOLE = Window(row=0, col=0, height=HEIGHT, width=WIDTH)
MEASURED = np.array([i for i in range(len(ENMAP_NM)) if i != NO_DATA])
BANDS = "specific/bandCharacterisation/bandID"


@pytest.fixture
def enmap(tmp_path: Path) -> Path:
    return write_enmap(tmp_path / "product")


def metadata_of(folder: Path) -> Path:
    return folder / f"{ENMAP}-METADATA.XML"


def image_of(folder: Path) -> Path:
    return folder / f"{ENMAP}-SPECTRAL_IMAGE.TIF"


def assert_the_same(scene: Scene, other: Scene) -> None:
    """Of a scene and what became of its cube."""
    assert scene.bands == other.bands
    assert scene.grid.same_as(other.grid)
    for name in ("nodata", "scale", "offset"):
        np.testing.assert_array_equal(getattr(scene, name), getattr(other, name))
    bands = np.arange(len(scene.bands))
    values, valid = scene.read(WHOLE, bands)
    again, valid_again = other.read(WHOLE, bands)
    np.testing.assert_array_equal(valid, valid_again)
    np.testing.assert_array_equal(values[:, valid], again[:, valid])


def test_enmap_by_its_folder_its_metadata_or_its_image(enmap: Path) -> None:
    for path in (enmap, metadata_of(enmap), image_of(enmap)):
        scene = open_scene(path)
        assert scene.sensor == "EnMAP L2A"
        assert scene.path == image_of(enmap)
        assert scene.bands.wavelength_nm == ENMAP_NM, "in file order, though VNIR and SWIR overlap"
        assert scene.bands.fwhm_nm == ENMAP_FWHM
        assert (scene.scale == 1e-4).all()
        assert (scene.offset == 0).all()
        assert (scene.nodata == -32768).all(), "not the 0 that the metadata call background"
        values, valid = scene.read(WHOLE, MEASURED)
        assert valid.all(), "a band without data does not spoil the others"
        np.testing.assert_array_equal(values, coordinates(len(ENMAP_NM))[MEASURED])
        assert not scene.read(WHOLE, np.array([0, NO_DATA]))[1].any()


def test_enmap_lies_where_gdal_puts_the_image(enmap: Path) -> None:
    cube = open_scene(enmap).cube
    x, y = xy(NORTH_UP, [2], [5])  # centres of pixels
    assert (float(cube.x[5]), float(cube.y[2])) == (x[0], y[0])
    assert cube.rio.crs.to_epsg() == 32633


def test_the_cube_says_the_same_as_the_scene(enmap: Path, tmp_path: Path) -> None:
    write_xml(metadata_of(enmap), enmap_metadata(empty=True))
    for path in (enmap, write_desis(tmp_path / "desis")):
        scene = open_scene(path)
        assert_the_same(scene, scene_of_array(scene.cube))


def test_a_mask_in_the_image_stays(enmap: Path) -> None:
    mask = np.ones((HEIGHT, WIDTH), np.bool_)
    mask[3, 4:8] = False
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(image_of(enmap), "r+") as dataset:
        dataset.write_mask(mask)
    scene = open_scene(enmap)
    np.testing.assert_array_equal(scene.read(WHOLE, MEASURED)[1], mask)
    np.testing.assert_array_equal(scene.cube.valid.compute(), mask)


def test_the_images_own_nodata_comes_first(tmp_path: Path) -> None:
    cube = coordinates(len(ENMAP_NM))
    cube[2, 1, 3] = -9
    scene = open_scene(write_enmap(tmp_path / "p", cube, nodata=-9))
    assert (scene.nodata == -9).all()
    assert np.argwhere(~scene.read(WHOLE, MEASURED)[1]).tolist() == [[1, 3]]


def test_bands_without_data_are_bad_where_the_statistics_say_so(enmap: Path) -> None:
    assert all(open_scene(enmap).bands.good)
    write_xml(metadata_of(enmap), enmap_metadata(empty=True))
    scene = open_scene(enmap)
    assert np.flatnonzero(~np.array(scene.bands.good)).tolist() == [NO_DATA]
    assert scene.notes == ("Bands without data anywhere, as the metadata say, were marked as bad: 5.",)
    assert scene.cube.good_bands.values.tolist() == list(scene.bands.good)


def test_quality_layers_are_named_and_not_applied(enmap: Path) -> None:
    cloud = np.ones((1, HEIGHT, WIDTH), np.uint8)
    for name in ("QL_QUALITY_CLOUD", "QL_PIXELMASK", "QL_VNIR"):
        write_raster(enmap / f"{ENMAP}-{name}.TIF", cloud)
    scene = open_scene(enmap)
    assert scene.notes == (
        "The product's quality layers were not applied: QL_PIXELMASK.TIF, QL_QUALITY_CLOUD.TIF.",
    )
    assert scene.read(WHOLE, MEASURED)[1].all()


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_enmap_as_a_raw_image(tmp_path: Path, interleave: str) -> None:
    name = f"SPECTRAL_IMAGE.{interleave.upper()}"
    folder = write_enmap(tmp_path / "p", image=name, driver="ENVI", interleave=interleave)
    (header,) = folder.glob("*.hdr")
    for path in (folder, folder / f"{ENMAP}-{name}", header):
        values, valid = open_scene(path).read(WHOLE, MEASURED)
        assert valid.all()
        np.testing.assert_array_equal(values, coordinates(len(ENMAP_NM))[MEASURED])


def test_enmap_as_a_cloud_optimised_image(tmp_path: Path) -> None:
    folder = write_enmap(tmp_path / "p", image="SPECTRAL_IMAGE_COG.tiff", tiled=True, blockxsize=16, blockysize=16)
    for path in (folder, folder / f"{ENMAP}-SPECTRAL_IMAGE_COG.tiff"):
        assert open_scene(path).bands.wavelength_nm == ENMAP_NM
    shutil.copy(folder / f"{ENMAP}-SPECTRAL_IMAGE_COG.tiff", image_of(folder))
    assert open_scene(image_of(folder)).path == image_of(folder)
    with pytest.raises(SceneError, match=r"2 files to choose from .*SPECTRAL_IMAGE\.TIF.*name one of them"):
        open_scene(folder)


def test_desis_in_the_order_of_its_band_numbers(tmp_path: Path) -> None:
    folder = write_desis(tmp_path / "p")
    for path in (folder, *folder.iterdir()):
        scene = open_scene(path)
        assert scene.sensor == "DESIS L2A"
        assert scene.bands.wavelength_nm == pytest.approx((401.9, 404.4, 406.9, 409.4))
        assert scene.bands.fwhm_nm == (3.5,) * 4
        assert scene.offset.tolist() == [0, 0.125, 0.25, 0.375]
        assert (scene.scale == 1e-4).all()
        np.testing.assert_array_equal(scene.read(WHOLE, np.arange(4))[0], coordinates(4))


@pytest.mark.parametrize(
    "name", ["ENMAP01-____L1C-DT1-SPECTRAL_IMAGE.TIF", "SPECTRAL_IMAGE.TIF", "a-METADATA.TIF"]
)
def test_other_rasters_are_rasters(tmp_path: Path, name: str) -> None:
    write_raster(tmp_path / name, coordinates(3))
    assert open_scene(tmp_path / name).sensor is None


@pytest.mark.parametrize("path", ["/vsicurl/http://localhost:9/x-METADATA.XML", "nowhere"])
def test_what_is_no_file_is_left_to_gdal(path: str) -> None:
    with pytest.raises(SceneError):
        open_scene(path)


def test_a_name_too_long_for_a_disk_is_no_product() -> None:
    assert not enmap_format.PRODUCT.recognises(f"{ENMAP}-{'a' * 300}-METADATA.XML")


# Products that are not whole


def test_a_missing_part_is_named(enmap: Path) -> None:
    metadata_of(enmap).rename(enmap.parent / "elsewhere.xml")
    for path in (enmap, image_of(enmap)):
        with pytest.raises(SceneError, match=rf"{ENMAP}-METADATA\.XML, which describes the bands, is missing"):
            open_scene(path)
    (enmap.parent / "elsewhere.xml").rename(metadata_of(enmap))
    image_of(enmap).unlink()
    for path in (enmap, metadata_of(enmap)):
        with pytest.raises(SceneError, match=rf"{ENMAP}-SPECTRAL_IMAGE\.TIF, the image itself, is missing"):
            open_scene(path)


def test_a_folder_of_two_products_is_no_product(enmap: Path) -> None:
    shutil.copy(metadata_of(enmap), enmap / f"{ENMAP[:-1]}X-METADATA.XML")
    with pytest.raises(SceneError, match="2 EnMAP L2A products: name the METADATA file of one"):
        open_scene(enmap)
    assert open_scene(metadata_of(enmap)).path == image_of(enmap)


def test_counts_must_agree(enmap: Path) -> None:
    write_xml(metadata_of(enmap), enmap_metadata(ENMAP_NM[:-1]))
    with pytest.raises(SceneError, match=r"METADATA\.XML describes 7 bands, but .*SPECTRAL_IMAGE\.TIF has 8"):
        open_scene(enmap)


def test_a_truncated_image_is_an_error_where_it_is_read(enmap: Path) -> None:
    whole = image_of(enmap).read_bytes()
    image_of(enmap).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SceneError, match=r"SPECTRAL_IMAGE\.TIF"):
        open_scene(enmap).read(WHOLE, MEASURED)
    image_of(enmap).write_bytes(b"")
    with pytest.raises(SceneError, match=r"SPECTRAL_IMAGE\.TIF is not a raster"):
        open_scene(enmap)


def _drop(path: str) -> Callable[[ET.Element], None]:
    def change(root: ET.Element) -> None:
        above, dropped = root.find(path.rpartition("/")[0]), root.find(path)
        assert above is not None
        assert dropped is not None
        above.remove(dropped)

    return change


def _say(path: str, text: str) -> Callable[[ET.Element], None]:
    def change(root: ET.Element) -> None:
        element = root.find(path)
        assert element is not None
        element.text = text

    return change


def _twice(path: str) -> Callable[[ET.Element], None]:
    def change(root: ET.Element) -> None:
        parent = root.find(path)
        assert parent is not None
        parent.append(copy.deepcopy(parent[0]))

    return change


BROKEN: dict[str, tuple[Callable[[ET.Element], None], str]] = {
    "no list of bands": (_drop("specific/bandCharacterisation"), "describes no band"),
    "no wavelength": (lambda root: root.find(BANDS).remove(root.find(f"{BANDS}/wavelengthCenterOfBand")),  # type: ignore[union-attr, arg-type]
                      "0 elements wavelengthCenterOfBand"),
    "two wavelengths": (_twice(BANDS), "2 elements wavelengthCenterOfBand"),
    "a band twice": (_twice("specific/bandCharacterisation"), "9 bands are not numbered from 1 to 9, each once"),
    "no number": (_say(f"{BANDS}/wavelengthCenterOfBand", "blue"), "'blue', no number"),
    "empty": (_say(f"{BANDS}/FWHMOfBand", ""), "FWHMOfBand of a band is '', no number"),
    "not a number": (_say(f"{BANDS}/GainOfBand", "nan"), "'nan', no number"),
    "infinite": (_say(f"{BANDS}/GainOfBand", "1e999"), "GainOfBand of a band is '1e999', no number"),
    "Python's digits": (_say(f"{BANDS}/wavelengthCenterOfBand", "4_18.4"), "'4_18.4', no number"),
    "micrometres": (_say(f"{BANDS}/wavelengthCenterOfBand", "0.4184"), "band 1 is 0.4184, and must be 300"),
    "negative width": (_say(f"{BANDS}/FWHMOfBand", "-6.9"), "FWHMOfBand of band 1 is -6.9"),
    "no gain": (_say(f"{BANDS}/GainOfBand", "0"), "GainOfBand of band 1 is 0, and must be more than 0"),
    "another level": (_say("base/level", "L1C"), "level 'L1C', but its name says L2A"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_metadata_that_do_not_say_what_bands_are(
    enmap: Path, change: Callable[[ET.Element], None], message: str
) -> None:
    root = enmap_metadata()
    change(root)
    write_xml(metadata_of(enmap), root)
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(enmap)
    assert str(metadata_of(enmap)) in str(caught.value)


@pytest.mark.parametrize("number", ["0", "9", "1", "-2", "two", "", "2.0", "99999999999999999999"])
def test_bands_are_numbered_once_each(enmap: Path, number: str) -> None:
    root = enmap_metadata()
    root.findall(BANDS)[1].set("number", number)
    write_xml(metadata_of(enmap), root)
    with pytest.raises(SceneError, match="number"):
        open_scene(enmap)


BOMB = (
    "<!DOCTYPE a [<!ENTITY a 'ha'>" + "".join(f"<!ENTITY {y} '&{x};&{x};&{x};'>" for x, y in ("ab", "bc")) + "]>"
)
HOSTILE = {
    "nothing": b"",
    "cut short": ET.tostring(enmap_metadata())[:2000],
    "not XML": b"\x00\xff\x00II*\x00",
    "a bomb": f"{BOMB}<level_X>&c;</level_X>".encode(),
    "another file": b"<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><level_X>&e;</level_X>",
    "undeclared": b"<level_X>&e;</level_X>",
    "unknown encoding": b"<?xml version='1.0' encoding='x-none'?><level_X/>",
    "deep": b"<a>" * 50_000 + b"</a>" * 50_000,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_broken_or_hostile_metadata(enmap: Path, content: bytes) -> None:
    metadata_of(enmap).write_bytes(content)
    with pytest.raises(SceneError, match=r"METADATA\.XML cannot be used") as caught:
        open_scene(enmap)
    assert "\n" not in str(caught.value)


def test_huge_metadata_are_refused_unread(enmap: Path) -> None:
    with metadata_of(enmap).open("wb") as file:
        file.truncate(xml_products.MAX_BYTES + 1)
    with pytest.raises(SceneError, match=f"{xml_products.MAX_BYTES + 1} bytes"):
        open_scene(enmap)


# Fuzzing: what is accepted says what the file says, read in another way


def _garble(text: str, random: Random) -> str:
    place = random.randint(0, len(text))
    with_what = random.choice(["", "9", "-", "e5", "nan", "0x1", "1e400", "&", "\N{THAI DIGIT ONE}"])
    return text[:place] + with_what + text[place + 1 :]


def _say_garbled(_: ET.Element, child: ET.Element, random: Random) -> None:
    child.text = _garble(child.text or "", random)


def _number_garbled(_: ET.Element, child: ET.Element, random: Random) -> None:
    child.set("number", _garble(child.get("number", ""), random))


def _remove(parent: ET.Element, child: ET.Element, _: Random) -> None:
    parent.remove(child)


def _rename(_: ET.Element, child: ET.Element, __: Random) -> None:
    child.tag += "X"


def _repeat(parent: ET.Element, child: ET.Element, random: Random) -> None:
    parent.extend(copy.deepcopy(child) for _ in range(random.choice([1, 1, 1, 500])))


def _move(parent: ET.Element, child: ET.Element, random: Random) -> None:
    parent.remove(child)
    parent.insert(random.randint(0, len(parent)), child)


ACCIDENTS = (_say_garbled, _number_garbled, _remove, _rename, _repeat, _move)


def spoiled(random: Random) -> bytes:
    """A valid METADATA.XML after one to four accidents to its elements, and sometimes one to its bytes."""
    root = enmap_metadata(empty=random.random() < 0.5)
    for _ in range(random.randint(1, 4)):
        parent = random.choice([element for element in root.iter() if len(element)] or [root])
        if len(parent):
            random.choice(ACCIDENTS)(parent, random.choice(list(parent)), random)
    content = ET.tostring(root)
    place = random.randint(0, len(content) - 1)
    match random.choice(["whole"] * 5 + ["cut", "bomb", "byte"]):
        case "cut":
            return content[:place]
        case "bomb":
            return BOMB.encode() + content.replace(b"0.0001", b"&c;", 1)
        case "byte":
            return content[:place] + random.randbytes(1) + content[place + 1 :]
        case _:
            return content


def read_plainly(content: bytes) -> dict[int, list[str]]:
    """What a reader without our code makes of it: number of a band to its four texts."""
    root = ET.fromstring(content)  # noqa: S314 - our own
    tags = ("wavelengthCenterOfBand", "FWHMOfBand", "GainOfBand", "OffsetOfBand")
    return {int(e.get("number", "")): [e.findtext(tag, "").strip() for tag in tags] for e in root.iterfind(BANDS)}


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_enmap(tmp_path_factory.mktemp("fuzzed") / "product")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random=st.randoms(use_true_random=True))
def test_no_accident_is_read_wrongly(fuzzed: Path, random: Random) -> None:
    content = spoiled(random)
    metadata_of(fuzzed).write_bytes(content)
    try:
        scene = open_scene(fuzzed)
    except SceneError as error:
        message = str(error)
        assert str(metadata_of(fuzzed)) in message
        return
    plain = read_plainly(content)
    assert scene.bands.wavelength_nm is not None
    assert scene.bands.fwhm_nm is not None
    found = zip(scene.bands.wavelength_nm, scene.bands.fwhm_nm, scene.scale, scene.offset, strict=True)
    for number, values in enumerate(found, start=1):
        assert [float(text) for text in plain[number]] == list(values)
        assert all(text.isascii() and "_" not in text for text in plain[number])
    assert len(plain) == len(scene.bands)


# From one end to the other


@pytest.mark.parametrize("empty", [False, True], ids=["found in training", "said by the metadata"])
def test_enmap_is_trained_on_and_mapped(tmp_path: Path, *, empty: bool) -> None:
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        cube = dataset.read(list(range(1, len(ENMAP_NM) + 1)))
    cube[cube == -9999] = -32768
    cube[NO_DATA] = -32768
    folder = write_enmap(tmp_path / "product", cube, root=enmap_metadata(empty=empty))
    trained = train(folder, made.labels, options=replace(QUICK, split="none", epochs=2))
    good = np.array(trained.model.bands.good)
    assert np.flatnonzero(~good).tolist() == [NO_DATA]
    assert any("without data at" in note for note in trained.notes) is not empty
    classify(metadata_of(folder), trained.model, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        class_map = dataset.read(1)
        assert dataset.transform == NORTH_UP
    assert ((class_map == 0) == (made.truth == 0)).all()
    assert (class_map == made.truth)[made.truth > 0].mean() > 0.9


def test_info_of_a_folder(enmap: Path, tmp_path: Path) -> None:
    for path in (enmap, write_desis(tmp_path / "desis")):
        result = CliRunner().invoke(main, ["info", str(path), "--json"])
        assert result.exit_code == 0
        facts = json.loads(result.stdout)
        assert facts["values"]["scale"] == [1e-4]
        assert facts["values"]["nodata"] == [-32768]
        assert len(facts["bands"]["wavelength_nm"]) == facts["size"]["bands"]
    shutil.rmtree(enmap / ".." / "desis")
    broken = write_desis(tmp_path / "desis", root=desis_metadata(3))
    result = CliRunner().invoke(main, ["info", str(broken)])
    assert result.exit_code == SceneError.exit_code
    assert f"{DESIS}-METADATA.xml describes 3 bands" in result.stderr
