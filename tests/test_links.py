"""Files of strangers lead nowhere: not to other folders, not to servers."""

from pathlib import Path

import numpy as np
import pytest
from scenes import coordinate_cube, write_raster

from cssd_geo.errors import SceneError
from cssd_geo.files.links import require_inside
from cssd_geo.products import open_scene
from cssd_geo.tiles import Window

SOURCE = (
    '<VRTRasterBand dataType="Int32" band="{band}"><{kind}><{tag} relativeToVRT="{relative}">{name}</{tag}>'
    "<SourceBand>{band}</SourceBand></{kind}></VRTRasterBand>"
)


def write_vrt(
    path: Path, name: str, *, relative: bool = True, kind: str = "SimpleSource", tag: str = "SourceFilename"
) -> Path:
    bands = [SOURCE.format(band=band, kind=kind, tag=tag, relative=int(relative), name=name) for band in (1, 2, 3)]
    path.write_text(f'<VRTDataset rasterXSize="7" rasterYSize="5">{"".join(bands)}</VRTDataset>')
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("inside", "outside"):
        (tmp_path / name).mkdir()
        write_raster(tmp_path / name / "scene.tif", coordinate_cube(3, 5, 7))
    return tmp_path / "inside"


@pytest.mark.parametrize("relative", [True, False])
def test_a_virtual_raster_of_files_in_its_folder_is_a_scene(folder: Path, *, relative: bool) -> None:
    vrt = write_vrt(folder / "all.vrt", "scene.tif" if relative else str(folder / "scene.tif"), relative=relative)
    nested = write_vrt(folder / "nested.vrt", "all.vrt")
    for path in (vrt, nested):
        values, valid = open_scene(path).read(Window(row=0, col=0, height=5, width=7), np.arange(3))
        assert (values == coordinate_cube(3, 5, 7)).all()
        assert valid.all()


OUTSIDE = ["../outside/scene.tif", "/etc/passwd", "/vsicurl/http://127.0.0.1:9/x.tif", "missing.tif"]
OUTSIDE += ['NETCDF:"scene.tif":x', "http://127.0.0.1:9/x.tif", "/vsimem/x.tif", "&lt;VRTDataset/&gt;", "link.tif"]


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_virtual_raster_does_not_lead_out_of_its_folder(folder: Path, name: str, *, relative: bool) -> None:
    (folder / "link.tif").symlink_to(folder.parent / "outside" / "scene.tif")
    with pytest.raises(SceneError, match=r"refers to .*--follow-links"):
        open_scene(write_vrt(folder / "all.vrt", name, relative=relative))


def test_nor_does_one_that_it_refers_to_nor_one_of_another_name(folder: Path) -> None:
    write_vrt(folder / "inner.tif", "../outside/scene.tif")
    with pytest.raises(SceneError, match=r"inner\.tif refers to \.\./outside"):
        open_scene(write_vrt(folder / "outer.vrt", "inner.tif"))


@pytest.mark.parametrize("tag", ["SourceFilename", "SourceDataset"])
def test_every_kind_of_reference_counts(folder: Path, tag: str) -> None:
    with pytest.raises(SceneError, match="--follow-links"):
        require_inside(write_vrt(folder / "all.vrt", "/etc/passwd", tag=tag, kind="ComplexSource", relative=False))


def test_virtual_rasters_of_themselves_come_to_an_end(folder: Path) -> None:
    with pytest.raises(SceneError, match="deep"):
        open_scene(write_vrt(folder / "self.vrt", "self.vrt"))


def test_with_links_followed_the_scene_is_read(folder: Path) -> None:
    vrt = write_vrt(folder / "all.vrt", "../outside/scene.tif")
    values, _ = open_scene(vrt, follow_links=True).read(Window(row=0, col=0, height=5, width=7), np.arange(3))
    assert (values == coordinate_cube(3, 5, 7)).all()


def test_a_file_that_describes_a_server_is_no_scene(folder: Path) -> None:
    (folder / "map.tif").write_text(
        '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}/${x}</ServerUrl></Service><DataWindow>'
        "<UpperLeftX>0</UpperLeftX><UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX><LowerRightY>0</LowerRightY>"
        "<SizeX>10</SizeX><SizeY>10</SizeY></DataWindow></GDAL_WMS>"
    )
    with pytest.raises(SceneError, match=r"map\.tif"):
        open_scene(folder / "map.tif")


def test_entities_in_a_virtual_raster_are_refused(folder: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><VRTDataset rasterXSize="7" rasterYSize="5">&a;</VRTDataset>'
    (folder / "bomb.vrt").write_text(bomb)
    with pytest.raises(SceneError, match=r"bomb\.vrt"):
        open_scene(folder / "bomb.vrt")
