"""Files of strangers lead nowhere: not to other folders, not to servers."""

import os
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioIOError
from scenes import NORTH_UP, coordinate_cube, write_raster

from cssd_geo.errors import SceneError
from cssd_geo.files.links import files_led_to
from cssd_geo.files.rasters import open_raster
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
        open_raster(write_vrt(folder / "all.vrt", "/etc/passwd", tag=tag, kind="ComplexSource", relative=False))


def test_virtual_rasters_of_themselves_come_to_an_end(folder: Path) -> None:
    with pytest.raises(SceneError, match="deep"):
        open_scene(write_vrt(folder / "self.vrt", "self.vrt"))


def test_with_links_followed_the_scene_is_read(folder: Path) -> None:
    vrt = write_vrt(folder / "all.vrt", "../outside/scene.tif")
    values, _ = open_scene(vrt, follow_links=True).read(Window(row=0, col=0, height=5, width=7), np.arange(3))
    assert (values == coordinate_cube(3, 5, 7)).all()


SERVER = (
    '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}/${x}</ServerUrl></Service><DataWindow>'
    "<UpperLeftX>0</UpperLeftX><UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX><LowerRightY>0</LowerRightY>"
    "<SizeX>7</SizeX><SizeY>5</SizeY></DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"
)


def test_a_file_that_describes_a_server_is_no_scene(folder: Path) -> None:
    (folder / "map.tif").write_text(SERVER)
    with pytest.raises(SceneError, match=r"map\.tif"):
        open_scene(folder / "map.tif")


def test_entities_in_a_virtual_raster_are_refused(folder: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><VRTDataset rasterXSize="7" rasterYSize="5">&a;</VRTDataset>'
    (folder / "bomb.vrt").write_text(bomb)
    with pytest.raises(SceneError, match=r"bomb\.vrt"):
        open_scene(folder / "bomb.vrt")


def vrt_of(folder: Path, source: str, *, dataset: str = 'rasterXSize="7" rasterYSize="5"') -> Path:
    """A virtual raster with a source, or whatever else, in GDAL's own words."""
    path = folder / "odd.vrt"
    path.write_text(f"<VRTDataset {dataset}>{source}</VRTDataset>")
    return path


def in_a_band(source: str, attributes: str = "") -> str:
    return f'<VRTRasterBand dataType="Int32" band="1" {attributes}>{source}</VRTRasterBand>'


STEPS = (
    '<Input><SourceFilename relativeToVRT="1">scene.tif</SourceFilename></Input><ProcessingSteps><Step name="l">'
    '<Algorithm>LocalScaleOffset</Algorithm><Argument name="{name}">{value}</Argument></Step></ProcessingSteps>'
)
WARPED = (
    '<SourceDataset relativeToVRT="1">scene.tif</SourceDataset><Transformer><GenImgProjTransformer>'
    "<SrcRPCTransformer><RPCTransformer>{inner}</RPCTransformer></SrcRPCTransformer></GenImgProjTransformer>"
    "</Transformer>"
)
OUTSIDE_SCENE = "../outside/scene.tif"
ODD = {
    "in an attribute": in_a_band(
        f'<SimpleSource SourceFilename="{OUTSIDE_SCENE}"><SourceBand>1</SourceBand></SimpleSource>'
    ),
    "in an attribute of any case": in_a_band(f'<SimpleSource SOURCEFILENAME="{OUTSIDE_SCENE}"/>'),
    "in an element of any case": in_a_band(
        f"<SimpleSource><sourcefilename>{OUTSIDE_SCENE}</sourcefilename></SimpleSource>"
    ),
    "an argument": STEPS.format(name="gain_dataset_filename_1", value=OUTSIDE_SCENE),
    "another argument": STEPS.format(name="trimming_dataset_filename", value=OUTSIDE_SCENE),
    "heights": WARPED.format(inner=f"<DEMPath>{OUTSIDE_SCENE}</DEMPath>"),
    "heights by option": WARPED.format(inner=f'<Option name="RPC_DEM">{OUTSIDE_SCENE}</Option>'),
    "places": f'<GeoLocTransformer><MDI key="X_DATASET">{OUTSIDE_SCENE}</MDI></GeoLocTransformer>',
    "relative and not": in_a_band(
        '<SimpleSource><SourceFilename relativeToVRT="0" RelativeToVRT="1">scene.tif</SourceFilename>'
        "</SimpleSource>"
    ),
    "relative in its own way": in_a_band(
        '<SimpleSource><SourceFilename relativeToVRT=" 1">scene.tif</SourceFilename></SimpleSource>'
    ),
    "raw values": in_a_band(f"<SourceFilename>{OUTSIDE_SCENE}</SourceFilename>", 'subClass="VRTRawRasterBand"'),
    "overviews": in_a_band(f"<Overview><SourceFilename>{OUTSIDE_SCENE}</SourceFilename></Overview>"),
}


@pytest.mark.parametrize("what", ODD)
def test_wherever_a_virtual_raster_names_a_file_it_counts(folder: Path, what: str) -> None:
    warped = "Transformer" in ODD[what]
    dataset = 'subClass="VRTProcessedDataset"' if "Input" in ODD[what] else 'rasterXSize="7" rasterYSize="5"'
    dataset += ' subClass="VRTWarpedDataset"' if warped else ""
    with pytest.raises(SceneError, match=r"refers to .*--follow-links"):
        open_raster(vrt_of(folder, ODD[what], dataset=dataset))


def test_arguments_that_name_no_file_and_raw_values_in_the_folder_are_fine(folder: Path) -> None:
    steps = STEPS.format(name="gain_dataset_band_1", value="1").replace(
        "LocalScaleOffset", "BandAffineCombination"
    )
    coefficients = "".join(
        f'<Argument name="coefficients_{i + 1}">0,{",".join(str(int(i == j)) for j in range(3))}</Argument>'
        for i in range(3)
    )
    steps = steps.replace('<Argument name="gain_dataset_band_1">1</Argument>', coefficients)
    with open_raster(vrt_of(folder, steps, dataset='subClass="VRTProcessedDataset"')) as dataset:
        assert (dataset.read() == coordinate_cube(3, 5, 7)).all()
    np.arange(35, dtype=np.int32).tofile(folder / "values.bin")
    raw = '<SourceFilename relativeToVRT="1">values.bin</SourceFilename><ByteOrder>LSB</ByteOrder>'
    with open_raster(vrt_of(folder, in_a_band(raw, 'subClass="VRTRawRasterBand"'))) as dataset:
        assert (dataset.read(1).ravel() == np.arange(35)).all()


@pytest.mark.parametrize(
    "kind", ["server", "server beside a header", "database beside a header", "damaged", "ers"]
)
def test_sources_of_a_virtual_raster_are_of_formats_that_hold_their_pixels(folder: Path, kind: str) -> None:
    source = folder / "source"
    starts = {
        "damaged": b"II*\0",
        "database beside a header": b"SQLite format 3\0",
        "ers": b"DatasetHeader Begin\n",
    }
    source.write_bytes(starts.get(kind, SERVER.encode()).ljust(1000, b" "))
    if kind.endswith("header"):
        (folder / "source.hdr").write_text(
            "ENVI\nsamples = 7\nlines = 5\nbands = 1\ndata type = 1\ninterleave = bsq\nbyte order = 0\n"
        )
    with pytest.raises(SceneError, match=r"source, to which .* holds its pixels itself.*--follow-links"):
        open_raster(write_vrt(folder / "all.vrt", "source"))


def test_a_virtual_raster_of_a_raw_file_with_a_header_is_a_scene(folder: Path) -> None:
    with rasterio.open(
        folder / "line",
        "w",
        driver="ENVI",
        transform=NORTH_UP,
        height=5,
        width=7,
        count=3,
        dtype="int32",
        interleave="bil",
    ) as dataset:
        dataset.write(coordinate_cube(3, 5, 7))
    values, _ = open_scene(write_vrt(folder / "all.vrt", "line")).read(
        Window(row=0, col=0, height=5, width=7), np.arange(3)
    )
    assert (values == coordinate_cube(3, 5, 7)).all()


@pytest.mark.parametrize("relative", [True, False])
def test_a_name_that_gdal_takes_for_more_than_a_path_is_refused_even_where_it_is_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, relative: bool
) -> None:
    monkeypatch.chdir(folder)
    name = f"GTIFF_DIR:1:{folder.parent / 'outside' / 'scene.tif'}"
    Path(name).parent.mkdir(parents=True)
    Path(name).write_bytes((folder / "scene.tif").read_bytes())
    with pytest.raises(SceneError, match=r"refers to .*--follow-links"):
        open_raster(write_vrt(Path("all.vrt"), name, relative=relative))
    with open_raster(Path(name)) as dataset:  # the file itself, not what GDAL would make of its name
        assert dataset.name == str(folder / name)


@pytest.mark.parametrize("suffix", [".ovr", ".msk", ".OVR", ".r1"])
@pytest.mark.parametrize("kind", ["virtual", "server"])
def test_overviews_and_masks_beside_a_raster_lead_nowhere_either(folder: Path, suffix: str, kind: str) -> None:
    beside = folder / f"scene.tif{suffix}"
    if kind == "virtual":
        write_vrt(beside, OUTSIDE_SCENE)
    else:
        beside.write_text(SERVER)
    for scene in (folder / "scene.tif", write_vrt(folder / "all.vrt", "scene.tif")):
        with pytest.raises(SceneError, match=r"scene\.tif\.\w+.* --follow-links"):
            open_scene(scene)


def test_overviews_and_masks_beside_a_raster_that_are_rasters_are_fine(folder: Path) -> None:
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(folder / "scene.tif", "r+") as dataset:
        dataset.build_overviews([2])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(folder / "scene.tif", "r+") as dataset:
        dataset.write_mask(np.eye(5, 7) == 0)
    assert (folder / "scene.tif.ovr").exists()
    assert (folder / "scene.tif.msk").exists()
    _, valid = open_scene(folder / "scene.tif").read(Window(row=0, col=0, height=5, width=7), np.arange(3))
    assert (valid == (np.eye(5, 7) == 0)).all()


@pytest.mark.parametrize(
    "name", ["/vsicurl/http://127.0.0.1:9/x.tif", "scene.ovr", ":::BASE:::scene.ovr", "../x.aux"]
)
@pytest.mark.parametrize("where", ["tag", "side file"])
def test_overviews_that_a_raster_names_lead_nowhere(folder: Path, name: str, where: str) -> None:
    (folder / "scene.ovr").write_text(SERVER)
    if where == "tag":
        with rasterio.open(folder / "scene.tif", "r+") as dataset:
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=name)
    else:
        (folder / "scene.tif.aux.xml").write_text(
            f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="overview_file">{name}</MDI></Metadata>'
            "</PAMDataset>"
        )
    for scene in (folder / "scene.tif", write_vrt(folder / "all.vrt", "scene.tif")):
        with pytest.raises(SceneError, match=r"scene\.tif refers to .*--follow-links"):
            open_scene(scene)


def test_old_overviews_in_the_folder_are_fine(folder: Path) -> None:
    with rasterio.open(
        folder / "scene.aux", "w", driver="HFA", transform=NORTH_UP, height=5, width=7, count=3, dtype="int32"
    ):
        pass
    (folder / "scene.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">:::BASE:::scene.aux</MDI></Metadata>'
        "</PAMDataset>"
    )
    assert open_scene(folder / "scene.tif").grid.height == 5


@pytest.mark.parametrize("where", ["inside", "outside", "linked"])
def test_an_erdas_image_has_its_second_file_in_its_folder(folder: Path, where: str) -> None:
    image, second = folder / f"{'x' * 30}.img", f"{'x' * 30}.ige"
    profile: dict[str, Any] = {
        "driver": "HFA",
        "transform": NORTH_UP,
        "height": 5,
        "width": 7,
        "count": 3,
        "dtype": "int32",
    }
    with rasterio.open(image, "w", use_spill=True, **profile) as dataset:
        dataset.write(coordinate_cube(3, 5, 7))
    if where == "inside":
        assert (open_raster(image).read() == coordinate_cube(3, 5, 7)).all()
        return
    (folder / second).rename(folder.parent / "outside" / "x.ige")
    if where == "linked":
        (folder / second).symlink_to(folder.parent / "outside" / "x.ige")
        with pytest.raises(SceneError, match=rf"refers to .*/{second}.*--follow-links"):
            open_raster(image)
        return
    named = b"../outside/x.ige".ljust(len(second), b"\0")
    image.write_bytes(image.read_bytes().replace(second.encode(), named))
    with pytest.raises((SceneError, RasterioIOError), match=r"outside/x\.ige.*--follow-links|Read failed"):
        open_raster(image).read()  # newer releases of GDAL do not read it either


def test_formats_that_lead_elsewhere_at_opening_are_no_scenes(folder: Path) -> None:
    raw = folder.parent / "outside" / "raw.bin"
    raw.write_bytes(bytes(35))
    (folder / "scene.ers").write_text(
        'DatasetHeader Begin\n\tVersion = "6.0"\n\tDataFile = "../outside/raw.bin"\n\tDataSetType = ERStorage\n'
        "\tDataType = Raster\n\tByteOrder = LSBFirst\n\tRasterInfo Begin\n\t\tCellType = Unsigned8BitInteger\n"
        "\t\tNrOfLines = 5\n\t\tNrOfCellsPerLine = 7\n\t\tNrOfBands = 1\n\tRasterInfo End\nDatasetHeader End\n"
    )
    with rasterio.open(
        folder / "scene.pix",
        "w",
        driver="PCIDSK",
        interleaving="FILE",
        transform=NORTH_UP,
        height=5,
        width=7,
        count=1,
        dtype="uint8",
    ):
        pass
    for name in ("scene.ers", "scene.pix"):
        with pytest.raises(SceneError, match="not a raster"):
            open_scene(folder / name)


def test_a_folder_is_opened_in_the_same_formats(folder: Path) -> None:
    (folder / "dimap").mkdir()
    (folder / "dimap" / "METADATA.DIM").write_text(
        "<Dimap_Document><Raster_Dimensions><NROWS>5</NROWS><NCOLS>7</NCOLS><NBANDS>3</NBANDS></Raster_Dimensions>"
        f'<Data_Access><Data_File><DATA_FILE_PATH href="{folder.parent / "outside" / "scene.tif"}"/></Data_File>'
        "</Data_Access></Dimap_Document>"
    )
    with pytest.raises(SceneError, match="not a raster"):
        open_raster(folder / "dimap")


def test_a_broken_virtual_raster_is_called_one(folder: Path) -> None:
    (folder / "all.vrt").write_text("<VRTDataset><broken")
    with pytest.raises(SceneError, match=r"all\.vrt is no virtual raster that can be read") as error:
        open_scene(folder / "all.vrt")
    assert "class table" not in str(error.value)


def write_hdf5(folder: Path, kind: str) -> Path:
    """A store whose values lie outside, in one of HDF5's three ways, or nowhere else but by a link in it."""
    outside = folder.parent / "outside"
    np.arange(210, dtype=np.float32).tofile(outside / "raw.bin")
    with h5py.File(outside / "other.h5", "w") as file:
        file["cube"] = np.arange(210, dtype=np.float32).reshape(5, 6, 7)
    with h5py.File(folder / "store.nc", "w") as file:
        axes = {"wavelength": np.linspace(450, 900, 5), "y": -30.0 * np.arange(6), "x": 30.0 * np.arange(7)}
        for name, values in axes.items():
            file.create_dataset(name, data=values).make_scale(name)
        if kind == "external":
            where = [(str(outside / "raw.bin"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("cubes/cube", (5, 6, 7), "f4", external=where)
        elif kind == "virtual":
            layout = h5py.VirtualLayout((5, 6, 7), "f4")
            layout[:] = h5py.VirtualSource(str(outside / "other.h5"), "cube", (5, 6, 7))
            file.create_group("cubes").create_virtual_dataset("cube", layout)
        elif kind == "link":
            file["cubes/cube"] = h5py.ExternalLink(str(outside / "other.h5"), "/cube")
        else:
            file["cube"] = np.arange(210, dtype=np.float32).reshape(5, 6, 7)
            file["cubes/reflectance"] = h5py.SoftLink("/cube")
            for dimension, name in zip(file["cube"].dims, axes, strict=True):
                dimension.attach_scale(file[name])
    return folder / "store.nc"


@pytest.mark.parametrize("kind", ["external", "virtual", "link"])
def test_a_store_holds_its_values_itself(folder: Path, kind: str) -> None:
    path = write_hdf5(folder, kind)
    for opened in (open_scene, open_raster):
        for given in (path, f"netcdf:{path}:cubes/cube", write_vrt(folder / "all.vrt", "store.nc")):
            with pytest.raises(SceneError, match=r"^\S+store\.nc: cubes/cube lies in another file"):
                opened(given)


def test_links_within_a_store_are_fine(folder: Path) -> None:
    scene = open_scene(write_hdf5(folder, "own"), scale=1)
    values, _ = scene.read(Window(row=0, col=0, height=6, width=7), np.arange(5))
    assert (values.ravel() == np.arange(210)).all()


def test_a_folder_of_many_scenes_is_listed_again_only_once_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, listed = write_raster(tmp_path / "scene.tif", np.ones((1, 4, 5), np.uint8)), list[Any]()
    names = os.listdir

    def counted(folder: Any) -> list[str]:
        listed.append(folder)
        return names(folder)

    monkeypatch.setattr("cssd_geo.files.links.os.listdir", counted)
    monkeypatch.setattr("cssd_geo.files.links._SETTLES", 10**18)
    assert [list(files_led_to(scene)) for _ in range(3)] == [[]] * 3
    assert len(listed) == 3  # it has changed just now, and may again within a tick of the clock
    monkeypatch.setattr("cssd_geo.files.links._SETTLES", -1)
    assert [list(files_led_to(scene)) for _ in range(3)] == [[]] * 3
    assert len(listed) == 4
    time.sleep(0.05)
    beside = write_raster(tmp_path / "scene.tif.ovr", np.ones((1, 2, 2), np.uint8), driver="GTiff")
    assert list(files_led_to(scene)) == [beside]
