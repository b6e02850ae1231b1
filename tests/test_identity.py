"""A scene is known by what its pixels depend on, and by nothing else."""

import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
import xarray as xr
from crashing import write_scene
from numpy.typing import NDArray
from rasterio.errors import RasterioDeprecationWarning
from scenes import NORTH_UP, ROTATED, coordinate_cube, random_model, write_raster, write_stack

from cssd_geo.classification import classify
from cssd_geo.errors import OutputError, SceneError
from cssd_geo.files.fingerprints import fingerprint
from cssd_geo.files.rasters import open_raster
from cssd_geo.products import open_scene
from cssd_geo.runs import identity
from cssd_geo.runs.identity import SceneIdentity, SceneWatch, _digest
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.scene_files import SceneFiles
from cssd_geo.tiles import Window


@dataclass(frozen=True)
class Spots:
    """A mask that excludes single pixels."""

    spots: tuple[tuple[int, int], ...]

    def read(self, window: Window) -> NDArray[np.bool_]:
        usable = np.ones((61, 83), np.bool_)
        for row, col in self.spots:
            usable[row, col] = False
        return usable[window.slices]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return open_scene(write_scene(tmp_path))


def scene_key(scene: Scene) -> dict[str, str] | None:
    return SceneIdentity.of(scene).key


def scene_digest(scene: Scene) -> str:
    return SceneIdentity.of(scene).digest


def test_a_copy_is_the_same_scene(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    copy = shutil.copy(tmp_path / "scene.tif", tmp_path / "copies" / "scene.tif")
    os.utime(copy, (5, 5))
    assert scene_key(open_scene(copy)) == scene_key(scene)


def test_what_changes_how_values_are_read_counts(scene: Scene) -> None:
    others = [
        scene.without_bands(np.array([True, False, False, False, False])),
        replace(scene, nodata=scene.nodata - 1),
        replace(scene, scale=scene.scale * 2),
        replace(scene, offset=scene.offset + 1),
        replace(scene, grid=replace(scene.grid, transform=ROTATED)),
        replace(scene, masks=(Spots(()),)),
        replace(scene, masks=(Spots(((60, 82),)),)),
        replace(scene, masks=(Spots(()), Spots(((60, 82),)))),
    ]
    keys = [str(scene_key(each)) for each in (scene, *others)]
    assert len(set(keys)) == len(keys)
    assert scene_key(replace(scene, notes=("a note",), sensor="EnMAP")) == scene_key(scene)


@pytest.mark.parametrize("at_a_time", [1, 200, 61 * 83])
def test_each_pixel_of_a_mask_counts(scene: Scene, monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    monkeypatch.setattr(identity, "_MASK_PIXELS", at_a_time)
    spots = [(), *(((row, col),) for row in (0, 1, 2, 59, 60) for col in (0, 82))]
    keys = {str(scene_key(replace(scene, masks=(Spots(spot),)))) for spot in spots}
    assert len(keys) == len(spots)


def test_what_is_not_in_files_has_no_key(scene: Scene) -> None:
    assert scene_key(scene_of_array(scene.cube)) is None


def test_what_cannot_be_told_from_its_like_is_never_passed_over(scene: Scene) -> None:
    with pytest.raises(TypeError, match="ndarray of objects cannot be told"):
        scene_key(replace(scene, sensor=None, scale=np.array([object()] * 5)))


def test_a_place_is_known_by_its_numbers_whatever_holds_them() -> None:
    """Affine is a tuple in its second version and none in its third; runs and maps of the other go on to count."""
    old = namedtuple("Affine", "a b c d e f g h i")(*NORTH_UP)  # noqa: PYI024 - as it was
    assert _digest(old) == _digest(NORTH_UP)


def test_side_files_count_and_overviews_do_not(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.dat", coordinate_cube(3, 20, 30), driver="ENVI")
    before = scene_key(open_scene(path))
    assert {file.name for file in SceneFiles.of(open_scene(path)).scene} >= {"s.dat", "s.hdr"}
    write_raster(tmp_path / "s.dat.ovr", coordinate_cube(3, 10, 15))
    assert scene_key(open_scene(path)) == before
    header = tmp_path / "s.hdr"
    header.write_text(header.read_text() + "\n; a remark\n")
    after = scene_key(open_scene(path))
    assert before is not None
    assert after is not None
    assert [name for name in after if after[name] != before.get(name)] == ["the content of s.hdr"]


def test_a_virtual_raster_is_what_it_names(scene: Scene, tmp_path: Path) -> None:
    from rasterio.shutil import copy  # noqa: PLC0415 - only here

    copy(tmp_path / "scene.tif", tmp_path / "virtual.vrt", driver="VRT")
    files = SceneFiles.of(open_scene(tmp_path / "virtual.vrt")).scene
    assert {file.name for file in files} == {"virtual.vrt", "scene.tif"}
    assert scene.path is not None


def test_a_folder_counts_by_all_names_and_sizes(scene: Scene, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for number in range(40):
        (store / f"{number}").mkdir(parents=True)
        (store / f"{number}" / "chunk").write_bytes(bytes([number] * 9))
    folder = replace(scene, path=store)
    before, watch = scene_key(folder), SceneWatch(folder)
    assert before is not None
    (store / "39" / "chunk").write_bytes(b"other length")
    assert scene_key(folder) != before
    (store / "39" / "chunk").write_bytes(bytes([39] * 9))
    assert scene_key(folder) == before
    (store / "0" / "chunk").write_bytes(bytes([1] * 10))
    with pytest.raises(SceneError, match=r"has changed while it was read \(chunk, chunk\)"):
        watch.check()


def test_a_scene_that_is_gone_is_an_error(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "scene.tif").unlink()
    for look in (SceneIdentity.of, SceneWatch):
        with pytest.raises(SceneError, match=r"scene\.tif is gone since it was opened"):
            look(scene)


def test_a_run_on_a_scene_that_is_gone_is_an_error(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "scene.tif").unlink()
    with pytest.raises(SceneError, match=r"scene\.tif (cannot be read any more|is gone)"):
        classify(replace(scene, scale_by_hand=True), random_model(bands=5), tmp_path / "map.tif")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_known_by_one_fingerprint(scene: Scene, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    for number in range(100):
        (store / f"{number:03}").write_bytes(bytes([number]))
    folder = replace(scene, path=store)
    before = scene_key(folder), fingerprint(store)
    (store / "002").write_bytes(b"\xff")  # as long as before
    assert before[0] is not None
    assert before[0]["the content of store"] == before[1]
    assert scene_key(folder) != before[0]
    assert fingerprint(store) != before[1]


def test_a_scene_at_an_address_is_known_by_its_name_and_how_it_is_read(scene: Scene) -> None:
    there = replace(scene, path=None)
    others = [replace(there, name="other.tif"), replace(there, scale=scene.scale * 2), scene]
    assert scene_key(there) is None
    assert scene_digest(there) == scene_digest(replace(there, notes=("a note",))) is not None
    assert len({scene_digest(each) for each in (there, *others)}) == 4


# ---- side files of GDAL's, which QGIS and `gdalinfo -stats` write


def compute_statistics(path: Path, band: int = 1) -> None:
    """What whoever looks at a scene does to it."""
    with open_raster(path) as dataset, pytest.warns(RasterioDeprecationWarning):
        dataset.statistics(band)


def write_side_file(scene: Path, *contents: str) -> Path:
    path = scene.with_name(f"{scene.name}.aux.xml")
    path.write_text(f"<PAMDataset>{''.join(contents)}</PAMDataset>")
    return path


def tag(key: str, value: str = "1", domain: str = "") -> str:
    where = domain and f' domain="{domain}"'
    return f'<Metadata{where}><MDI key="{key}">{value}</MDI></Metadata>'


def band(*contents: str) -> str:
    return f'<PAMRasterBand band="1">{"".join(contents)}</PAMRasterBand>'


HISTOGRAM = "<Histograms><HistItem><HistMin>0</HistMin><HistCounts>1|2</HistCounts></HistItem></Histograms>"


def as_geotiff(folder: Path) -> Path:
    return write_scene(folder)


def as_envi(folder: Path) -> Path:
    path = write_raster(folder / "s.dat", coordinate_cube(3, 20, 30), driver="ENVI")
    said = (
        "wavelength units = Nanometers\nwavelength = {500, 600, 700}\nfwhm = {5, 6, 7}\ndata ignore value = -9\n"
    )
    with (folder / "s.hdr").open("a") as header:
        header.write(said)
    return path


def as_erdas(folder: Path) -> Path:
    return write_raster(folder / "s.img", coordinate_cube(3, 20, 30), driver="HFA")


def as_netcdf(folder: Path) -> Path:
    path = folder / "s.nc"
    values = xr.DataArray(coordinate_cube(3, 20, 30), dims=("wavelength", "y", "x"), name="reflectance")
    values = values.assign_coords(
        wavelength=[500.0, 600.0, 700.0], y=-30.0 * np.arange(20), x=30.0 * np.arange(30)
    )
    values["wavelength"].attrs["units"] = "nm"
    values.assign_attrs(scale_factor=0.5, units="1").to_netcdf(path, engine="h5netcdf")
    return path


@pytest.mark.parametrize("write", [as_geotiff, as_envi, as_erdas, as_netcdf])
def test_who_looks_at_a_scene_does_not_change_it(write: Callable[[Path], Path], tmp_path: Path) -> None:
    path = write(tmp_path)
    before = scene_key(open_scene(path))
    compute_statistics(path)
    side_file = path.with_name(f"{path.name}.aux.xml")
    assert side_file.exists()
    listed = side_file in SceneFiles.of(open_scene(path)).scene
    assert listed == (write is not as_netcdf), "as GDAL does not read it"
    assert scene_key(open_scene(path)) == before
    watch = SceneWatch(open_scene(path))
    compute_statistics(path, band=2)
    watch.check()
    watch.check()


def test_statistics_and_histograms_alone_are_like_no_side_file(scene: Scene, tmp_path: Path) -> None:
    before = scene_key(scene)
    written = write_side_file(tmp_path / "scene.tif", band(HISTOGRAM, tag("STATISTICS_MEAN")))
    watch = SceneWatch(scene)
    assert scene_key(scene) == before
    write_side_file(tmp_path / "scene.tif")
    watch.check()
    written.unlink()
    watch.check()


@pytest.mark.parametrize(
    "content",
    [
        "<SRS>EPSG:32634</SRS>",
        "<GeoTransform>1, 2, 0, 3, 0, -2</GeoTransform>",
        '<GCPList Projection=""><GCP Id="" Pixel="1" Line="2" X="3" Y="4"/></GCPList>',
        band("<Scale>2</Scale>"),
        band("<Offset>2</Offset>"),
        band("<ColorInterp>Alpha</ColorInterp>"),
        band("<Unheard>2</Unheard>"),
        band('<Unheard of="2"/>'),
        band(tag("OVERVIEW_FILE", "x.ovr", domain="OVERVIEWS")),
        tag("OVERVIEW_FILE", "x.ovr", domain="OVERVIEWS"),
        tag("NODATA_VALUES", "1 1 1 1 1"),
        tag("wavelengths", "{1, 2, 3, 4, 5}"),
    ],
)
def test_whatever_else_a_side_file_says_counts(content: str, scene: Scene, tmp_path: Path) -> None:
    before = scene_key(scene)
    write_side_file(tmp_path / "scene.tif", band(tag("STATISTICS_MEAN")))
    watch = SceneWatch(scene)
    write_side_file(tmp_path / "scene.tif", content)
    now = scene_key(scene)
    assert before is not None
    assert now is not None
    assert set(now) - set(before) == {"the content of scene.tif.aux.xml"}
    with pytest.raises(SceneError, match=r"has changed while it was read \(scene\.tif\.aux\.xml\)"):
        watch.check()
    write_side_file(tmp_path / "scene.tif", "\n", content, band(HISTOGRAM))
    assert scene_key(scene) == now


@pytest.mark.parametrize(
    "content",
    [
        band("<NoDataValue>1500</NoDataValue>"),
        band(tag("wavelength", "470"), tag("wavelength_units", "nm")),
        tag("wavelength", "{1, 2, 3, 4, 5}", domain="ENVI"),
    ],
)
def test_what_a_side_file_says_of_bands_counts_by_how_the_scene_is_read(content: str, tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", coordinate_cube(1 if "{" not in content else 5, 20, 30))
    before = scene_key(open_scene(path))
    write_side_file(path)
    watch = SceneWatch(open_scene(path))
    write_side_file(path, content)
    assert scene_key(open_scene(path)) != before
    with pytest.raises(SceneError, match=r"has changed while it was read \(s\.tif\.aux\.xml\)"):
        watch.check()


@pytest.mark.parametrize(
    "content", ["<", "<a>" * 5000 + "</a>" * 5000, '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>']
)
def test_a_side_file_that_cannot_be_understood_counts_byte_by_byte(
    content: str, scene: Scene, tmp_path: Path
) -> None:
    path = tmp_path / "scene.tif.aux.xml"
    keys = []
    for text in (content, f"{content} "):
        path.write_text(text)
        keys.append(scene_key(scene))
    assert keys[0] is not None
    assert keys[0]["the content of scene.tif.aux.xml"] != fingerprint(path)
    assert keys[0] != keys[1]


def test_a_run_goes_on_while_and_after_somebody_looks_at_the_scene(tmp_path: Path) -> None:
    path = write_scene(tmp_path)
    compute_statistics(path)
    model, tiles = random_model(bands=5, seed=5), iter(range(1, 25))

    def look(*_: int) -> None:
        tile = next(tiles)
        if tile == 3:
            compute_statistics(path, band=2)
        if tile == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify(path, model, tmp_path / "map.tif", tile_size=16, on_tile=look)
    compute_statistics(path, band=3)
    told: list[int] = []
    classify(path, model, tmp_path / "map.tif", tile_size=16, on_resume=lambda done, _: told.append(done))
    assert told == [6]


@pytest.mark.parametrize("other", ["2-4", "3,2,1", "1-4"])
def test_other_bands_of_a_scene_without_wavelengths_are_another_scene(tmp_path: Path, other: str) -> None:
    path = write_raster(tmp_path / "s.tif", coordinate_cube(5, 6, 7))
    some, same, others = (SceneIdentity.of(open_scene(path, bands=bands)) for bands in ("1-3", "1-3", other))
    assert some.key == same.key != others.key
    assert some.digest == same.digest != others.digest


def virtual_of_virtual(folder: Path) -> tuple[Path, list[Path]]:
    """A VRT of two VRTs in folders of their own, of files of one name: the first is ENVI's, with its header."""
    files = []
    for name, driver in (("a", "ENVI"), ("b", "GTiff")):
        (folder / name).mkdir()
        values = np.full((2, 9, 8), ord(name), np.int16)
        data = write_raster(folder / name / "data", values, driver=driver)
        files += [data, *data.parent.glob("*.hdr"), write_stack(folder / name / "inner.vrt", [data])]
    outer = write_stack(folder / "outer.vrt", [folder / name / "inner.vrt" for name in ("a", "b")])
    return outer, files


def test_all_files_of_a_vrt_of_vrts_count_though_their_names_are_the_same(tmp_path: Path) -> None:
    outer, files = virtual_of_virtual(tmp_path)
    scene = open_scene(outer)
    assert {file.resolve() for file in SceneFiles.of(scene).scene} == {outer, *files}
    before = SceneIdentity.of(scene)
    for file in files:
        content, watch = file.read_bytes(), SceneWatch(scene)
        file.write_bytes(content + b" ")
        assert SceneIdentity.of(scene).digest != before.digest
        with pytest.raises(SceneError, match="has changed"):
            watch.check()
        file.write_bytes(content)
    assert SceneIdentity.of(scene) == before
    copy = shutil.copytree(tmp_path, tmp_path / "copy")
    assert SceneIdentity.of(open_scene(copy / "outer.vrt")) == before


def test_an_output_never_replaces_what_a_vrt_of_vrts_is_made_of(tmp_path: Path) -> None:
    outer, files = virtual_of_virtual(tmp_path)
    data = next(file for file in files if file.parent.name == "b").rename(tmp_path / "data.tif")
    write_stack(tmp_path / "b" / "inner.vrt", [data])
    model = random_model(bands=2, dtype=torch.float32)
    with pytest.raises(OutputError, match="would be the scene and the class map"):
        classify(outer, model, data, overwrite=True)
    with rasterio.open(data) as dataset:
        assert dataset.count == 2


def test_a_scene_in_very_many_files_has_a_short_key(tmp_path: Path) -> None:
    files = [write_raster(tmp_path / f"{n}.tif", np.full((1, 3, 4), n, np.int16)) for n in range(120)]
    scene = open_scene(write_stack(tmp_path / "s.vrt", files))
    before = SceneIdentity.of(scene)
    assert len(before.key or {}) < 5
    write_raster(files[70], np.full((1, 3, 4), 7, np.int16))
    assert SceneIdentity.of(scene).digest != before.digest


def test_a_change_in_any_file_of_a_large_folder_is_noticed_at_the_end(tmp_path: Path) -> None:
    data = xr.Dataset({"refl": (("wavelength", "y", "x"), np.ones((3, 20, 20), np.float32))})
    data = data.assign_coords(wavelength=("wavelength", [450.0, 550.0, 650.0], {"units": "nm"}))
    data.to_zarr(tmp_path / "s.zarr", encoding={"refl": {"chunks": (1, 2, 2)}}, zarr_format=2)
    watch = SceneWatch(open_scene(tmp_path / "s.zarr"))
    chunks = sorted((tmp_path / "s.zarr" / "refl").glob("?.*"))
    assert len(chunks) > 128
    for chunk in chunks[10:14]:
        chunk.write_bytes(chunk.read_bytes() + b" ")
    with pytest.raises(SceneError, match="has changed"):
        watch.check(all_files=True)


@pytest.mark.parametrize("kind", ["netcdf", "page"])
def test_a_part_of_a_file_is_a_scene_of_that_file(tmp_path: Path, kind: str) -> None:
    paths = []
    for number in (1, 2):
        more = {"APPEND_SUBDATASET": "YES"} if number > 1 else {}
        page = write_raster(tmp_path / "page.tif", np.full((1, 9, 8), number, np.int16))
        rasterio.shutil.copy(page, tmp_path / "pages.tif", driver="GTiff", **more)
        paths.append(f"GTIFF_DIR:{number}:{tmp_path}/pages.tif")
    if kind == "netcdf":
        cubes = {name: (("b", "y", "x"), np.full((1, 9, 8), n, np.int16)) for n, name in enumerate("pq")}
        xr.Dataset(cubes).to_netcdf(tmp_path / "two.nc", engine="h5netcdf")
        paths = [f"netcdf:{tmp_path}/two.nc:{name}" for name in "pq"]
    scenes = [open_scene(path) for path in paths]
    keys = [SceneIdentity.of(scene) for scene in scenes]
    assert keys[0].digest != keys[1].digest
    assert keys[0].key is not None
    assert {scene.path for scene in scenes} == {tmp_path / ("two.nc" if kind == "netcdf" else "pages.tif")}
    done = classify(scenes[1], random_model(bands=1, dtype=torch.float32), tmp_path / "map.tif")
    assert sum(done.pixels.values()) == 72
