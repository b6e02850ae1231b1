"""Vector files of all kinds: zips, layers, encodings, what is damaged; nothing leads out of a zip."""

import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from scenes import pixel_box, write_polygons, write_raster

from cssd_geo.errors import LabelError
from cssd_geo.vectors.shapes import read_geometries, read_shapes
from cssd_geo.vectors.vector_files import field_names, is_vector, read_layer, read_layers

A, B = pixel_box(3, 4, 6, 9), pixel_box(20, 30, 8, 5)
PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")


def _shapefile(folder: Path, name: str = "l") -> Path:
    return write_polygons(folder / f"{name}.shp", [(A, "a"), (B, "b")])


def _zip(path: Path, members: dict[str, Path]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in members.items():
            archive.write(source, name)
    return path


def _zip_of(path: Path, shapefile: Path, *stems: str) -> Path:
    return _zip(path, {stem + part: shapefile.with_suffix(part) for stem in stems for part in PARTS})


def _is_right(path: Path, layer: str | None = None) -> bool:
    found = read_layer(path, layer)
    same = bool(shapely.equals(found.geometries, [A, B]).all())
    return same and found.fields["class_name"].tolist() == ["a", "b"]


@pytest.mark.parametrize("name", ["l.gpkg", "l.shp", "l.tif"])
def test_a_file_that_may_not_be_read_is_refused_in_a_line(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"closed")

    def closed(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(LabelError, match=rf"{name} cannot be read: Permission denied; allow yourself to read it"):
        is_vector(tmp_path / name)


@pytest.mark.parametrize("stem", ["l", "in/l", "in/er/l", "in é/two words"])
@pytest.mark.parametrize("name", ["labels.zip", "LABELS.ZIP", "{odd} ünï.zip"])
def test_a_zipped_shapefile_is_found_in_any_folder(tmp_path: Path, name: str, stem: str) -> None:
    path = _zip_of(tmp_path / name, _shapefile(tmp_path), stem)
    assert is_vector(path)
    assert _is_right(path)
    assert field_names(path, None) == ("class_name",)


def test_what_else_lies_in_a_zip_does_not_matter(tmp_path: Path) -> None:
    shapefile, text = _shapefile(tmp_path), tmp_path / "README.txt"
    text.write_text("none")
    path = _zip_of(tmp_path / "z.zip", shapefile, "in/l")
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(text, "README.txt")
        archive.writestr("__MACOSX/in/._l.shp", b"no shapes")
    assert _is_right(path)
    geopackage = write_polygons(tmp_path / "l.gpkg", [(A, "a"), (B, "b")])
    assert _is_right(_zip(tmp_path / "g.zip", {"in/l.gpkg": geopackage, "README.txt": text}))


def test_one_of_several_shapefiles_in_a_zip_is_named(tmp_path: Path) -> None:
    path = _zip_of(tmp_path / "z.zip", _shapefile(tmp_path), "in/fields", "roads")
    with pytest.raises(LabelError, match=r"has 2 layers \(fields, roads\): name one with --layer"):
        read_layer(path, None)
    assert _is_right(path, "roads")
    twice = _zip_of(tmp_path / "t.zip", _shapefile(tmp_path), "a/l", "b/l")
    with pytest.raises(LabelError, match=r"has 2 layers \(a/l.shp:l, b/l.shp:l\)"):
        read_layer(twice, None)
    assert _is_right(twice, "b/l.shp:l")


@pytest.mark.parametrize("stem", ["../l", "a/../../l", "/l", "a\\..\\l"])
def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path: Path, stem: str) -> None:
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for part in PARTS:
            archive.writestr(stem + part, _shapefile(tmp_path).with_suffix(part).read_bytes())
    with pytest.raises(LabelError, match="a path that leads out of it"):
        is_vector(path)


@pytest.mark.parametrize(
    "text",
    [
        '<OGRVRTDataSource><OGRVRTLayer name="l"><SrcDataSource>/a</SrcDataSource></OGRVRTLayer>',
        '{"type": "gdal_streamed_alg", "command_line": "gdal vector read /etc/hosts"}',
        "<OGRWFSDataSource><URL>http://localhost/</URL></OGRWFSDataSource>",
    ],
)
def test_virtual_layers_are_refused_in_zips_too(tmp_path: Path, text: str) -> None:
    for name in ("l.vrt", "l.json"):
        (tmp_path / name).write_text(text)
        with pytest.raises(LabelError, match="is a virtual layer that refers to others"):
            is_vector(tmp_path / name)
    with pytest.raises(LabelError, match="is a virtual layer"):
        is_vector(_zip(tmp_path / "z.zip", {"in/l.json": tmp_path / "l.json"}))


@pytest.mark.parametrize(
    "odd", ["labels!2.gpkg", "Projekt!/2.gpkg", "!neu/2.gpkg", "2.gpkg;water.gpkg", "2;1.shp"]
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_path_that_pyogrio_would_split_opens_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str, *, whole: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    suffix = Path(odd).suffix
    write_polygons(tmp_path / "2.gpkg", [(A, "other"), (B, "file")])
    path = (tmp_path if whole else Path()) / odd
    path.parent.mkdir(exist_ok=True)
    for part in write_polygons(tmp_path / f"l{suffix}", [(A, "a"), (B, "b")]).parent.glob("l.*"):
        part.rename(path.with_suffix(part.suffix))
    for read in (is_vector, lambda p: read_layer(p, None), read_layers, lambda p: field_names(p, None)):
        with pytest.raises(LabelError, match=r"cannot be opened: '!' and ';' in a path.*; rename the file"):
            read(path)


def test_what_begins_like_an_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    local = write_polygons(tmp_path / "l.gpkg", [(A, "a"), (B, "b")]).rename(tmp_path / "s3:l.gpkg")
    for path in ("s3:l.gpkg", f"/{local}", f"//[{local}"):
        with pytest.raises(LabelError, match=r"cannot be opened|does not exist"):
            is_vector(path)


@pytest.mark.parametrize("folder", ["Projekt!", "soil;water"])
def test_rasters_and_zips_may_have_such_paths(tmp_path: Path, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir()
    assert not is_vector(write_raster(place / "ids;1!.tif", np.ones((1, 4, 5), np.uint8)))
    assert _is_right(_zip_of(place / "l!1.zip", _shapefile(tmp_path), "in/l"))
    (place / "text;1!.txt").write_text("none")
    assert not is_vector(place / "text;1!.txt")


def test_damaged_zips_are_told(tmp_path: Path) -> None:
    whole = _zip_of(tmp_path / "z.zip", _shapefile(tmp_path), "l").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    assert not is_vector(tmp_path / "cut.zip")
    assert not is_vector(_zip(tmp_path / "empty.zip", {}))
    broken = bytearray(whole)
    broken[40:120] = bytes(80)
    (tmp_path / "broken.zip").write_bytes(broken)
    with pytest.raises(LabelError, match=r"l\.shp in it cannot be read .*: unzip it first|cannot be read"):
        read_layer(tmp_path / "broken.zip", None)


def test_a_table_beside_the_one_layer_with_geometries_does_not_count(tmp_path: Path) -> None:
    """QGIS keeps styles in a table of the GeoPackage."""
    path = write_polygons(tmp_path / "l.gpkg", [(A, "a"), (B, "b")])
    with sqlite3.connect(path) as database:
        database.execute("create table layer_styles (fid integer primary key, style text)")
        database.execute(
            "insert into gpkg_contents (table_name, data_type, identifier) "
            "values ('layer_styles', 'attributes', 'styles')"
        )
    database.close()
    assert len(pyogrio.list_layers(path)) == 2
    assert _is_right(path)
    with pytest.raises(LabelError, match="layer layer_styles, has no geometries: choose another --layer"):
        read_layer(path, "layer_styles")


@pytest.mark.parametrize(
    ("encoding", "name"), [("ISO-8859-1", "latin1"), ("UTF-8", "utf-8"), ("CP1251", "cp1251")]
)
def test_texts_are_in_the_encoding_that_the_cpg_says(tmp_path: Path, encoding: str, name: str) -> None:
    text = "поле" if name == "cp1251" else "Äcker"
    path = tmp_path / "l.shp"
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array([A])),
        [np.array([text], object)],
        ["k"],
        geometry_type="Polygon",
        crs="EPSG:32633",
        encoding=encoding,
    )
    table = path.with_suffix(".dbf").read_bytes()
    assert text.encode(name) in table
    path.with_suffix(".cpg").write_text(encoding)
    assert read_layer(path, None).fields["k"].tolist() == [text]


def test_a_wrong_encoding_is_told(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "l.shp", [(A, "Äcker")])
    table = path.with_suffix(".dbf")
    table.write_bytes(table.read_bytes().replace("Äcker".encode(), b"\xc4cker "))
    with pytest.raises(LabelError, match=r"texts that are not UTF-8, as it says.*\.cpg"):
        read_layer(path, None)


@pytest.mark.parametrize("language", [0x00, 0x03, 0x57])
@pytest.mark.parametrize("zipped", [False, True])
def test_utf8_of_which_a_shapefile_does_not_tell_is_seen(tmp_path: Path, language: int, *, zipped: bool) -> None:
    names = ["Grünland", "Straße", "Öd", "Wald"]
    shapes = [(shapely.affinity.translate(A, 300 * i), name) for i, name in enumerate(names)]
    path = write_polygons(tmp_path / "l.shp", shapes)
    path.with_suffix(".cpg").unlink()
    table = bytearray(path.with_suffix(".dbf").read_bytes())
    table[29] = language  # the byte that may tell the encoding
    path.with_suffix(".dbf").write_bytes(table)
    if zipped:
        path = _zip(tmp_path / "l.zip", {f"l{part}": path.with_suffix(part) for part in PARTS if part != ".cpg"})
    found = read_layer(path, None)
    assert found.fields["class_name"].tolist() == names
    assert found.notes == (f"The texts of {path.name} are UTF-8, whatever is said beside them (.cpg).",)


def test_latin1_of_which_a_shapefile_does_not_tell_is_read_as_such(tmp_path: Path) -> None:
    path = write_polygons(tmp_path / "l.shp", [(A, "Grünland"), (B, "Straße")])
    path.with_suffix(".cpg").unlink()
    table = path.with_suffix(".dbf").read_bytes()
    for name in ("Grünland", "Straße"):
        table = table.replace(name.encode(), name.encode("latin-1") + b" ")
    path.with_suffix(".dbf").write_bytes(table)
    found = read_layer(path, None)
    assert found.fields["class_name"].tolist() == ["Grünland", "Straße"]
    assert found.notes == ()


def test_which_of_several_layers_is_asked_and_said_how_all_are_read(tmp_path: Path) -> None:
    places = "".join(
        f"<Folder><name>{name}</name><Placemark><Point><coordinates>13,52</coordinates></Point></Placemark></Folder>"
        for name in ("forest", "field")
    )
    (tmp_path / "l.kml").write_text(
        f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{places}</Document></kml>'
    )
    with pytest.raises(
        LabelError, match=r"2 layers \(forest, field\).*If each layer is a class: --class-field layer$"
    ):
        read_shapes(tmp_path / "l.kml", layer=None, class_field=None)
    with pytest.raises(LabelError, match=r"2 layers \(forest, field\): name one with --layer$"):
        read_geometries(tmp_path / "l.kml", None)
    found = read_layers(tmp_path / "l.kml")
    assert found.fields["layer"].tolist() == ["forest", "field"]
    assert len(found.geometries) == 2
    assert found.crs == "EPSG:4326"
    assert field_names(tmp_path / "l.kml", None) == ()
    with pytest.raises(LabelError, match=r"has no layer 'roads'; choose --layer from: forest, field$"):
        read_layer(tmp_path / "l.kml", "roads")


def test_each_layer_of_a_file_may_be_a_class(tmp_path: Path) -> None:
    """A zip with a shapefile for each class, and one that was merged in a GIS, say the same."""
    squares = [shapely.box(x, 0, x + 5, 5) for x in (0, 10, 20)]
    names = ("water", "forest", "forest")
    with zipfile.ZipFile(tmp_path / "labels.zip", "w") as archive:
        for name in ("water", "forest"):
            own = [(square, 1) for square, of in zip(squares, names, strict=True) if of == name]
            for part in write_polygons(tmp_path / f"{name}.shp", own, field="id").parent.glob(f"{name}.*"):
                archive.write(part, part.name)
    merged = write_polygons(tmp_path / "merged.gpkg", list(zip(squares, names, strict=True)), field="layer")
    for path in (tmp_path / "labels.zip", merged):
        found = read_shapes(path, layer=None, class_field="layer")
        seen = {(found.legend[k].name, g.bounds) for g, k in zip(found.geometries, found.classes, strict=True)}
        assert seen == {(name, square.bounds) for name, square in zip(names, squares, strict=True)}
        assert found.crs == "EPSG:32633"


def test_layers_in_different_crss_are_not_joined(tmp_path: Path) -> None:
    for name, crs in (("a", "EPSG:32633"), ("b", "EPSG:32632")):
        write_polygons(tmp_path / f"{name}.shp", [(A, 1)], crs=crs)
    with zipfile.ZipFile(tmp_path / "l.zip", "w") as archive:
        for part in (*tmp_path.glob("a.*"), *tmp_path.glob("b.*")):
            archive.write(part, part.name)
    with pytest.raises(LabelError, match=r"different CRSs \(EPSG:32633, EPSG:32632\): save them in one"):
        read_layers(tmp_path / "l.zip")


def test_kinds_that_geos_lacks_are_missing_geometries_and_curves_are_drawn_as_lines(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(
        'WKT,k\n"CURVEPOLYGON(CIRCULARSTRING(0 10,10 0,0 -10,-10 0,0 10))",a\n'
        '"TRIANGLE((0 0,1 0,1 1,0 0))",b\n"POINT ZM(3 4 5 6)",c\n'
    )
    found = read_layer(tmp_path / "l.csv", None).geometries
    assert found[0].area == pytest.approx(np.pi * 100, rel=0.002)
    assert found[1] is None
    assert found[2].equals(shapely.Point(3, 4))
    assert not found[2].has_z


def test_measures_are_dropped(tmp_path: Path) -> None:
    shapes = shapely.from_wkt(["POLYGON M ((0 0 1,1 0 2,1 1 3,0 0 1))", "POLYGON M ((5 5 1,6 5 2,6 6 3,5 5 1))"])
    (tmp_path / "l.csv").write_text("WKT,k\n" + "".join(f'"{g.wkt}",{i}\n' for i, g in enumerate(shapes)))
    found = read_layer(tmp_path / "l.csv", None)
    assert [g.area for g in found.geometries] == [0.5, 0.5]
    assert found.notes == ()


def test_files_that_hold_no_layer_say_so(tmp_path: Path) -> None:
    whole = write_polygons(tmp_path / "l.fgb", [(A, "a")]).read_bytes()
    (tmp_path / "cut.fgb").write_bytes(whole[:300])
    with pytest.raises(LabelError, match="holds no layer"):
        read_layer(tmp_path / "cut.fgb", None)
    with pytest.raises(LabelError, match="does not exist"):
        is_vector(tmp_path / "missing.gpkg")


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson"])
def test_yes_and_no_stay_so_where_some_say_neither(tmp_path: Path, suffix: str) -> None:
    path, boxes = (
        tmp_path / f"l{suffix}",
        np.array([pixel_box(0, 0, 3, 3), pixel_box(5, 5, 3, 3), pixel_box(9, 9, 3, 3)]),
    )
    silent = np.array([False, False, True])
    pyogrio.raw.write(
        path,
        shapely.to_wkb(boxes),
        [np.array([True, False, True])],
        ["irrigated"],
        field_mask=[silent],
        geometry_type="Polygon",
        crs="EPSG:4326",
    )
    assert read_layer(path, None).fields["irrigated"].tolist() == [True, False, None]
    assert [entry.name for entry in read_shapes(path, layer=None, class_field="irrigated").legend] == [
        "false",
        "true",
    ]
