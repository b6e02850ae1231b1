"""Which pixel is which class: rasterio and shapely as oracles, in any CRS and on any grid."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import rasterize
from scenes import NORTH_UP, ROTATED, UTM, control_points, coordinate_cube, pixel_box, write_polygons, write_raster
from scipy import ndimage

from cssd_geo.classes import ClassTable
from cssd_geo.errors import InputError, LabelError
from cssd_geo.files.rasters import read_window
from cssd_geo.grid import Grid
from cssd_geo.label_files import read_labels, read_mask
from cssd_geo.labels import Labels, require_trainable
from cssd_geo.maps.layer import class_map_layer
from cssd_geo.maps.raster_writer import RasterWriter
from cssd_geo.products import open_scene
from cssd_geo.tiles import Window
from cssd_geo.vectors.legend import Entry
from cssd_geo.vectors.remapping import Remapping, Rule
from cssd_geo.vectors.vector_files import is_vector

HEIGHT, WIDTH = 40, 55
SOUTH_UP = Affine(30.0, 0.0, 400_000.5, 0.0, 30.0, 5_800_000.25)
GRIDS = {"north up": NORTH_UP, "south up": SOUTH_UP, "rotated": ROTATED}


def _grid(transform: Affine | None = NORTH_UP, **changes: Any) -> Grid:
    return Grid(**{"height": HEIGHT, "width": WIDTH, "transform": transform, "crs": UTM} | changes)


def _table(labels: Labels) -> NDArray[np.int64]:
    """(y, x) class index, -1 where unlabelled."""
    image = np.full((HEIGHT, WIDTH), -1)
    image[labels.rows, labels.cols] = labels.classes
    assert (image >= 0).sum() == len(labels)  # each pixel at most once
    return image


def _names(labels: Labels) -> NDArray[Any]:
    return np.array([*labels.table.names, ""])[_table(labels)]


def _star(seed: int, transform: Affine = NORTH_UP) -> shapely.Polygon:
    """A jagged polygon around a random place, partly outside of the scene at times."""
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, 9))
    radii = random.uniform(2, 12, 9)
    col, row = random.uniform(0, WIDTH), random.uniform(0, HEIGHT)
    corners = np.column_stack([col + radii * np.cos(angles), row + radii * np.sin(angles)])
    return shapely.make_valid(shapely.Polygon([transform @ tuple(corner) for corner in corners]))


def _write(path: Path, geometries: list[Any], crs: str | None = "EPSG:32633", **fields: list[Any]) -> Path:
    columns = [
        np.array(v, object if any(isinstance(x, str) or x is None for x in v) else None) for v in fields.values()
    ]
    wkb = shapely.to_wkb(np.array(geometries, object))
    pyogrio.raw.write(path, wkb, columns, list(fields), geometry_type="Unknown", crs=crs)
    return path


def _burnt(geometry: Any, transform: Affine, *, all_touched: bool = False) -> NDArray[np.bool_]:
    burnt = rasterize([geometry], out_shape=(HEIGHT, WIDTH), transform=transform, all_touched=all_touched)
    return np.asarray(burnt > 0)


A, B = pixel_box(3, 4, 6, 9), pixel_box(20, 30, 8, 5)


# Where the pixels are


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(sorted(GRIDS)),
    crs=st.sampled_from(["EPSG:32633", "EPSG:4326", "EPSG:3857", "EPSG:32632"]),
    all_touched=st.booleans(),
)
def test_labelled_pixels_are_those_of_the_reprojected_geometry(
    tmp_path_factory: pytest.TempPathFactory, seed: int, name: str, crs: str, *, all_touched: bool
) -> None:
    transform = GRIDS[name]
    away = pyproj.Transformer.from_crs("EPSG:32633", crs, always_xy=True)
    home = pyproj.Transformer.from_crs(crs, "EPSG:32633", always_xy=True)
    there = [shapely.transform(_star(s, transform), away.transform, interleaved=False) for s in (seed, seed + 1)]
    path = _write(tmp_path_factory.mktemp("crs") / "l.gpkg", there, crs, kind=["a", "b"])
    masks = [
        _burnt(shapely.transform(g, home.transform, interleaved=False), transform, all_touched=all_touched)
        for g in there
    ]
    expected = np.where(masks[0] & ~masks[1], "a", np.where(masks[1] & ~masks[0], "b", ""))
    if not (expected != "").any():
        with pytest.raises(LabelError, match="no pixel of the scene is labelled"):
            read_labels(path, _grid(transform), all_touched=all_touched)
        return
    labels = read_labels(path, _grid(transform), all_touched=all_touched)
    np.testing.assert_array_equal(_names(labels), expected)
    both = (masks[0] & masks[1]).sum()
    assert any(f"{both} pixels claimed by two classes" in note for note in labels.notes) is bool(both)


@pytest.mark.parametrize("name", GRIDS)
def test_a_pixel_is_labelled_where_the_polygon_covers_its_centre(tmp_path: Path, name: str) -> None:
    transform = GRIDS[name]
    star = _star(5, transform)
    labels = read_labels(_write(tmp_path / "l.gpkg", [star], k=["a"]), _grid(transform), class_field="k")
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    x, y = transform @ (cols + 0.5, rows + 0.5)
    np.testing.assert_array_equal(_table(labels) == 0, shapely.contains_xy(star, x, y))


def test_ground_control_points_place_labels_like_the_transform_that_they_stand_for(tmp_path: Path) -> None:
    points = control_points(ROTATED, HEIGHT, WIDTH)
    path = write_raster(tmp_path / "s.tif", coordinate_cube(2, HEIGHT, WIDTH), transform=None, gcps=points)
    away = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    star = shapely.transform(_star(8, ROTATED), away.transform, interleaved=False)
    vector = _write(tmp_path / "l.geojson", [star], "EPSG:4326", k=["a"])
    with_points = read_labels(vector, open_scene(path).grid, class_field="k")
    np.testing.assert_array_equal(
        _table(with_points), _table(read_labels(vector, _grid(ROTATED), class_field="k"))
    )
    np.testing.assert_array_equal(read_mask(vector, open_scene(path).grid), read_mask(vector, _grid(ROTATED)))


def test_without_a_georeference_labels_are_in_pixels(tmp_path: Path) -> None:
    box = shapely.box(4, 3, 13, 9)
    with pytest.warns(UserWarning, match="crs"):
        path = _write(tmp_path / "l.gpkg", [box], None, k=["a"])
    labels = read_labels(path, _grid(None, crs=None), class_field="k")
    np.testing.assert_array_equal(_table(labels) == 0, _burnt(box, Affine.identity()))
    with pytest.raises(LabelError, match=r"l\.gpkg has no CRS: assign it"):
        read_labels(path, _grid(), class_field="k")
    with pytest.raises(LabelError, match="the scene has none"):
        read_labels(_write(tmp_path / "m.gpkg", [A], k=["a"]), _grid(None, crs=None), class_field="k")


@pytest.mark.parametrize("suffix", ["gpkg", "shp", "geojson", "fgb"])
def test_formats_agree(tmp_path: Path, suffix: str) -> None:
    crs = "EPSG:4326" if suffix == "geojson" else "EPSG:32633"
    away = pyproj.Transformer.from_crs("EPSG:32633", crs, always_xy=True)
    shapes = [(shapely.transform(g, away.transform, interleaved=False), k) for g, k in ((A, "a"), (B, "b"))]
    path = write_polygons(tmp_path / f"l.{suffix}", shapes, crs=crs)
    assert is_vector(path)
    expected = np.where(_burnt(A, NORTH_UP), "a", np.where(_burnt(B, NORTH_UP), "b", ""))
    np.testing.assert_array_equal(_names(read_labels(path, _grid())), expected)


def test_points_and_lines_label_pixels_too(tmp_path: Path) -> None:
    point, line = (
        shapely.Point(NORTH_UP @ (4.5, 3.5)),
        shapely.LineString([NORTH_UP @ (9.5, 9.5), NORTH_UP @ (19.5, 9.5)]),
    )
    names = _names(read_labels(_write(tmp_path / "l.gpkg", [point, line], k=["p", "l"]), _grid()))
    assert np.argwhere(names == "p").tolist() == [[3, 4]]
    assert np.argwhere(names == "l").tolist() == [[9, col] for col in range(9, 20)]


def test_heights_are_ignored(tmp_path: Path) -> None:
    raised = [shapely.force_3d(A, 100.0), shapely.force_3d(B, 7.0)]
    flat, high = (_write(tmp_path / f"{i}.gpkg", g, k=["a", "b"]) for i, g in enumerate(([A, B], raised)))
    np.testing.assert_array_equal(_names(read_labels(high, _grid())), _names(read_labels(flat, _grid())))


# Overlaps, repairs and what is left out


def test_overlaps_of_one_class_count_once_and_those_of_two_not_at_all(tmp_path: Path) -> None:
    shapes = [pixel_box(2, 2, 6, 10), pixel_box(2, 8, 6, 10), pixel_box(6, 2, 6, 3)]
    labels = read_labels(_write(tmp_path / "l.gpkg", shapes, k=["a", "a", "b"]), _grid())
    names = _names(labels)
    assert (names == "a").sum() == 6 * 16 - 2 * 3
    assert (names == "b").sum() == 6 * 3 - 2 * 3
    assert labels.notes == ("6 pixels claimed by two classes were left out.",)
    owner = dict(
        zip(zip(labels.rows.tolist(), labels.cols.tolist(), strict=True), labels.polygons.tolist(), strict=True)
    )
    assert (owner[3, 3], owner[3, 9], owner[3, 15]) == (0, 0, 1)


def test_parts_of_a_multipolygon_are_polygons_of_their_own(tmp_path: Path) -> None:
    labels = read_labels(
        _write(tmp_path / "l.gpkg", [shapely.MultiPolygon([A, B])], k=["a"]), _grid(), class_field="k"
    )
    assert np.bincount(labels.polygons).tolist() == [54, 40]


def test_a_polygon_that_is_there_twice_is_one_polygon(tmp_path: Path) -> None:
    again = shapely.Polygon([*A.exterior.coords[2:], *A.exterior.coords[1:3]])  # starts at another corner
    assert again.equals(A)
    shapes = [A, again, A.reverse(), B, shapely.MultiPolygon([A])]
    labels = read_labels(_write(tmp_path / "l.gpkg", shapes, k=["a", "a", "a", "b", "a"]), _grid())
    assert [int(n) for n in np.bincount(labels.polygons) if n] == [54, 40]
    assert labels.notes == ("2 geometries are there twice with the same class: each counts once.",)
    other = read_labels(_write(tmp_path / "m.gpkg", [A, again, B], k=["a", "b", "b"]), _grid())
    assert other.counts().tolist() == [0, 40]
    assert other.notes == ("54 pixels claimed by two classes were left out.",)


def test_where_parts_of_a_multipolygon_overlap_they_label_all_the_same(tmp_path: Path) -> None:
    boxes = [pixel_box(2, 2, 6, 10), pixel_box(5, 8, 6, 10), pixel_box(3, 4, 2, 2)]  # the last within the first
    several = [shapely.MultiPolygon(boxes), shapely.GeometryCollection([shapely.MultiPolygon(boxes)]), B]
    expected = np.logical_or.reduce([_burnt(box, NORTH_UP) for box in boxes])
    for name, shape in zip(("m", "c"), several[:2], strict=True):
        path = _write(tmp_path / f"{name}.gpkg", [shape, B], k=["a", "b"])
        labels = read_labels(path, _grid())
        np.testing.assert_array_equal(_names(labels) == "a", expected)
        np.testing.assert_array_equal(
            read_mask(path, _grid()), read_mask(_write(tmp_path / "x.gpkg", [*boxes, B]), _grid())
        )
        assert labels.notes == ("1 invalid geometries were repaired.",)


def test_a_polygon_that_fell_flat_still_labels_as_the_line_that_it_is(tmp_path: Path) -> None:
    flat = shapely.Polygon([NORTH_UP @ at for at in ((4.5, 3.5), (12.5, 3.5), (4.5, 3.5))])
    names = _names(read_labels(_write(tmp_path / "l.gpkg", [flat, B], k=["a", "b"]), _grid()))
    assert np.argwhere(names == "a").tolist() == [[3, col] for col in range(4, 13)]


def test_a_bowtie_is_repaired_and_noted(tmp_path: Path) -> None:
    corners = [(5, 5), (25, 25), (25, 5), (5, 25)]
    bowtie = shapely.Polygon([NORTH_UP @ c for c in corners])
    assert not bowtie.is_valid
    labels = read_labels(_write(tmp_path / "l.gpkg", [bowtie, B], k=["a", "b"]), _grid())
    np.testing.assert_array_equal(_names(labels) == "a", _burnt(shapely.make_valid(bowtie), NORTH_UP))
    assert "1 invalid geometries were repaired." in labels.notes


def test_what_lies_outside_or_between_the_centres_is_counted(tmp_path: Path) -> None:
    shapes = [A, pixel_box(100, 4, 3, 3), pixel_box(3, -50, 3, 3), pixel_box(30, 30, 1, 1).buffer(-14.0)]
    sliver = shapely.affinity.translate(shapes[3], 10, 10)
    path = _write(tmp_path / "l.gpkg", [*shapes[:3], sliver], k=["a", "b", "a", "b"])
    labels = read_labels(path, _grid())
    assert labels.counts().tolist() == [54, 0]
    assert labels.notes[0] == "2 of 4 polygons lie outside of the scene."
    assert labels.notes[1].startswith("1 of 4 polygons cover no pixel centre (--all-touched")
    assert read_labels(path, _grid(), all_touched=True).counts()[1] == 1


def test_a_class_that_lies_outside_as_a_whole_is_named(tmp_path: Path) -> None:
    shapes = [A, B, pixel_box(100, 4, 3, 3), pixel_box(3, -50, 3, 3), pixel_box(3, -90, 3, 3)]
    labels = read_labels(_write(tmp_path / "l.gpkg", shapes, k=["a", "b", "b", "far", "far"]), _grid())
    assert labels.notes == ("3 of 5 polygons lie outside of the scene, among them all of far.",)
    with pytest.raises(
        LabelError,
        match=r"too few labelled pixels for far; .* among them all of far\. Label more, or leave a class out",
    ):
        require_trainable(labels, 3)


def test_a_part_that_the_scenes_crs_cannot_hold_takes_no_other_part_with_it(tmp_path: Path) -> None:
    away = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    here, there = (shapely.transform(box, away.transform, interleaved=False) for box in (A, B))
    far = shapely.box(105, 0, 105.1, 0.1)
    path = _write(tmp_path / "l.gpkg", [shapely.MultiPolygon([here, far]), there], "EPSG:4326", k=["a", "b"])
    labels = read_labels(path, _grid())
    assert labels.counts().tolist() == [54, 40]
    assert labels.notes == ("1 of 3 polygons lie outside of the scene.",)
    only_here = _write(tmp_path / "m.gpkg", [here, there], "EPSG:4326", k=["a", "b"])
    np.testing.assert_array_equal(read_mask(path, _grid()), read_mask(only_here, _grid()))


def test_points_are_called_points_where_the_scenes_crs_cannot_hold_one(tmp_path: Path) -> None:
    away = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    places = ((4.2, 3.2), (4.8, 3.8), (7.3, 7.5), (30.5, 20.5), (7.4, 7.5))
    points = [shapely.Point(away.transform(*(NORTH_UP @ place))) for place in places]
    path = _write(tmp_path / "l.gpkg", [*points, shapely.Point(105, 0)], "EPSG:4326", k=[*"aaa", *"bbb"])
    assert read_labels(path, _grid()).notes == (
        "1 of 6 points lie outside of the scene.",
        "5 points lie in 3 pixels: each pixel counts once.",
        "1 pixels claimed by two classes were left out.",
    )


def test_a_file_without_any_geometry_says_so(tmp_path: Path) -> None:
    path = _write(tmp_path / "l.gpkg", [None, shapely.Polygon()], k=["a", "b"])
    with pytest.raises(LabelError, match="has no geometry in any of its 2 features"):
        read_labels(path, _grid())


def test_features_without_a_class_or_a_geometry_are_left_out(tmp_path: Path) -> None:
    shapes = [A, None, shapely.Polygon(), B, pixel_box(30, 2, 2, 2), pixel_box(35, 2, 2, 2)]
    labels = read_labels(_write(tmp_path / "l.gpkg", shapes, k=["a", "a", "b", "b", None, "  "]), _grid())
    assert labels.counts().tolist() == [54, 40]
    assert labels.notes == ("4 features without a class or a geometry were left out.",)


# Classes


def test_whole_numbers_from_one_keep_their_value_as_id(tmp_path: Path) -> None:
    for values in ([7, 300], [7.0, 300.0]):
        labels = read_labels(_write(tmp_path / "l.gpkg", [A, B], k=values), _grid(), class_field="k")
        assert (labels.table.ids, labels.table.names) == ((7, 300), ("7", "300"))
        assert labels.counts().tolist() == [54, 40]
    labels = read_labels(_write(tmp_path / "m.gpkg", [A, B], k=[5, 0]), _grid(), class_field="k")
    assert (labels.table.ids, labels.table.names) == ((1, 2), ("0", "5"))  # 0 is no id
    assert labels.counts().tolist() == [40, 54]


def test_text_is_stripped_and_sorted(tmp_path: Path) -> None:
    labels = read_labels(
        _write(tmp_path / "l.gpkg", [A, B, pixel_box(30, 2, 2, 2)], k=["wheat", "Äcker", " wheat "]), _grid()
    )
    assert (labels.table.ids, labels.table.names) == ((1, 2), ("wheat", "Äcker"))
    assert labels.counts().tolist() == [58, 40]


@pytest.mark.parametrize("field", ["colour", "Color"])
def test_colours_come_from_a_field_even_if_not_every_feature_has_one(tmp_path: Path, field: str) -> None:
    shapes = [A, B, pixel_box(30, 2, 2, 2), pixel_box(35, 2, 2, 2)]
    colours: dict[str, Any] = {field: ["#ff0080", "#00ff00", None, "red"]}
    path = _write(tmp_path / "l.gpkg", shapes, k=["a", "b", "a", "c"], **colours)
    table = read_labels(path, _grid()).table
    assert table.colours[:2] == ((255, 0, 128), (0, 255, 0))
    assert table.colours[2] == ClassTable.from_names(["a", "b", "c"]).colours[2]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"id": [1, 2], "kind": ["a", "b"]}, ("a", "b")),
        ({"kind": ["a", "b"], "note": ["x", "x"]}, ("a", "b")),
        ({"number": [3, 4], "area": [1.5, 2.5]}, ("3", "4")),
        ({"number": [3, 4], "colour": ["#ff0000", "#00ff00"]}, ("3", "4")),
    ],
)
def test_the_only_plausible_field_is_the_class(
    tmp_path: Path, fields: dict[str, Any], found: tuple[str, str]
) -> None:
    assert read_labels(_write(tmp_path / "l.gpkg", [A, B], **fields), _grid()).table.names == found


@pytest.mark.parametrize(
    "fields",
    [{"k": ["a", "b"], "note": ["x", "y"]}, {"i": [1, 2], "j": [1, 3]}],
)
def test_where_the_field_is_a_matter_of_choice_the_choices_are_listed(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    path = _write(tmp_path / "l.gpkg", [A, B], **fields)
    with pytest.raises(LabelError, match="which field holds the class") as caught:
        read_labels(path, _grid())
    for name, values in fields.items():
        assert f"{name} ({len(set(values))} values: {values[0]}" in str(caught.value)
    with pytest.raises(LabelError, match="has no field 'crop'; choose --class-field from"):
        read_labels(path, _grid(), class_field="crop")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.0, 2.5]), "holds 2.5: a class is a text or a whole number"),
        (np.array([1.0, np.inf]), "holds inf"),
        (np.array(["2020-01-01", "2020-01-02"], "datetime64[ms]"), "holds dates: a class is a text"),
    ],
)
def test_fields_that_hold_no_classes_are_refused(tmp_path: Path, values: NDArray[Any], message: str) -> None:
    path = tmp_path / "l.gpkg"
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array([A, B])), [values], ["k"], geometry_type="Polygon", crs="EPSG:32633"
    )
    with pytest.raises(LabelError, match=message):
        read_labels(path, _grid(), class_field="k")


# Remapping


def _rules(*pairs: tuple[str, str | None]) -> Remapping:
    rules = (Rule(old=old, new=None if new is None else Entry(name=new)) for old, new in pairs)
    return Remapping(rules=tuple(rules), name="c.csv")


def test_what_becomes_one_class_overlaps_without_conflict_and_what_is_left_out_claims_nothing(
    tmp_path: Path,
) -> None:
    shapes = [pixel_box(2, 2, 6, 10), pixel_box(2, 8, 6, 10), pixel_box(6, 2, 6, 3), B]
    path = _write(tmp_path / "l.gpkg", shapes, k=["oats", "rye", "pond", "maize"])
    labels = read_labels(path, _grid(), remap=_rules(("oats", "cereals"), ("Rye", "cereals"), ("pond", None)))
    names = _names(labels)
    assert labels.table.names == ("cereals", "maize")
    assert (names == "cereals").sum() == 6 * 16
    assert (names == "maize").sum() == 40
    assert labels.notes == (
        "Left out, as c.csv says: pond.",
        "Not in c.csv and kept as they are: maize.",
    )


def test_a_label_raster_is_remapped_before_its_patches_are_found(tmp_path: Path) -> None:
    ids = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    ids[0, 2:6, 3:8], ids[0, 2:6, 8:12], ids[0, 20:23, 5:9], ids[0, 30:32, 40:45] = 3, 8, 5, 9
    path = write_raster(tmp_path / "l.tif", ids)
    labels = read_labels(path, _grid(), remap=_rules(("3", "cereals"), ("8", "cereals"), ("5", None)))
    assert (labels.table.ids, labels.table.names) == ((3, 9), ("cereals", "9"))
    assert labels.counts().tolist() == [36, 10]
    assert len(np.unique(labels.polygons)) == 2
    assert labels.notes[0] == "Left out, as c.csv says: 5."


# Files


def test_one_of_several_layers_has_to_be_named(tmp_path: Path) -> None:
    path = tmp_path / "l.gpkg"
    for layer, box in (("fields", A), ("roads", B)):
        columns = [np.array([layer], object)]
        wkb = shapely.to_wkb(np.array([box]))
        pyogrio.raw.write(
            path, wkb, columns, ["k"], layer=layer, geometry_type="Polygon", crs="EPSG:32633", append=path.exists()
        )
    assert read_labels(path, _grid(), layer="roads", class_field="k").counts().tolist() == [40]
    assert read_mask(path, _grid(), layer="fields").sum() == 54
    with pytest.raises(LabelError, match=r"has 2 layers \(fields, roads\): name one with --layer"):
        read_labels(path, _grid(), class_field="k")
    with pytest.raises(LabelError, match="has no layer 'paths'; choose --layer from: fields, roads"):
        read_mask(path, _grid(), layer="paths")


def test_files_that_are_no_labels_say_so(tmp_path: Path) -> None:
    text, table = tmp_path / "notes.txt", tmp_path / "table.csv"
    text.write_text("none")
    table.write_text("k,v\na,1\nb,2\n")
    with pytest.raises(LabelError, match=r"missing\.gpkg does not exist"):
        read_labels(tmp_path / "missing.gpkg", _grid())
    with pytest.raises(
        LabelError,
        match=r"is no vector, and cannot be read as a raster of classes: .* not recognized.* GeoPackage",
    ):
        read_labels(text, _grid())
    with pytest.raises(LabelError, match="holds arrays of NumPy"):
        read_labels(text.rename(tmp_path / "truth.npy"), _grid())
    for read in (lambda: read_labels(table, _grid(), class_field="k"), lambda: read_mask(table, _grid())):
        with pytest.raises(LabelError, match="has no geometries"):
            read()
    empty = _write(tmp_path / "empty.gpkg", [A], k=[None])
    with pytest.raises(LabelError, match=r"empty\.gpkg: no feature has a class in field 'k': fill it"):
        read_labels(empty, _grid(), class_field="k")


def test_advice_for_rasters_that_lead_elsewhere_can_be_followed(tmp_path: Path) -> None:
    """No option lets labels refer to other folders, unlike the scene."""
    vrt = tmp_path / "labels.vrt"
    source = "<SimpleSource><SourceFilename relativeToVRT='1'>../l.tif</SourceFilename></SimpleSource>"
    band = f"<VRTRasterBand dataType='Byte' band='1'>{source}</VRTRasterBand>"
    vrt.write_text(f"<VRTDataset rasterXSize='{WIDTH}' rasterYSize='{HEIGHT}'>{band}</VRTDataset>")
    with pytest.raises(LabelError, match=r"labels\.vrt refers to \.\./l\.tif, .* write it to a GeoTIFF"):
        read_labels(vrt, _grid())


@pytest.mark.parametrize("srs", [0, -1])
def test_a_geopackage_of_an_undefined_crs_has_none(tmp_path: Path, srs: int) -> None:
    """What its standard calls undefined, one of degrees and one of metres."""
    path, nowhere = _write(tmp_path / "l.gpkg", [shapely.box(3, 4, 12, 10)], kind=["a"]), _grid(None, crs=None)
    with closing(sqlite3.connect(path)) as file, file:
        for (trigger,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f'DROP TRIGGER "{trigger}"')
        file.execute("UPDATE gpkg_contents SET srs_id = ?", (srs,))
        file.execute("UPDATE gpkg_geometry_columns SET srs_id = ?", (srs,))
    labels = read_labels(path, nowhere, class_field="kind")
    assert (len(labels), labels.rows.min(), labels.cols.min()) == (54, 4, 3)
    with pytest.raises(LabelError, match=r"l\.gpkg has no CRS: assign it"):
        read_labels(path, _grid(), class_field="kind")


# Rasters


def _ids() -> NDArray[np.uint8]:
    ids = np.zeros((HEIGHT, WIDTH), np.uint8)
    ids[2:9, 3:12], ids[9:14, 12:20], ids[30:33, 40:50], ids[20, 20] = 3, 3, 8, 255
    return ids


def test_a_label_raster_gives_its_pixels_and_its_patches(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "l.tif", _ids()[None], nodata=255)
    assert not is_vector(path)
    labels = read_labels(path, _grid())
    assert (labels.table.ids, labels.table.names) == ((3, 8), ("3", "8"))
    expected = np.where(_ids() == 3, 0, np.where(_ids() == 8, 1, -1))
    np.testing.assert_array_equal(_table(labels), expected)
    for polygon in range(labels.polygons.max() + 1):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[labels.rows[labels.polygons == polygon], labels.cols[labels.polygons == polygon]] = True
        assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
    assert labels.polygons.max() == 1  # the two squares of class 3 touch at a corner
    np.testing.assert_array_equal(read_mask(path, _grid()), expected >= 0)


def test_label_rasters_are_read_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raster(tmp_path / "l.tif", _ids()[None], nodata=255)
    whole, mask, parts = read_labels(path, _grid()), read_mask(path, _grid(), margin=2), list[int]()
    monkeypatch.setattr("cssd_geo.maps.class_rasters._STEP", 8)

    def read(dataset: Any, window: Window) -> NDArray[Any]:
        parts.append(window.pixels)
        return read_window(dataset, window)

    monkeypatch.setattr("cssd_geo.files.rasters.read_window", read)
    labels = read_labels(path, _grid())
    for name in ("rows", "cols", "classes", "polygons"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(whole, name))
    np.testing.assert_array_equal(read_mask(path, _grid(), margin=2), mask)
    assert max(parts) == 64


def test_names_and_colours_of_a_class_map_are_kept(tmp_path: Path) -> None:
    table = ClassTable(ids=(3, 5, 8), names=("wheat", "oats", "rape"), colours=((1, 2, 3), (4, 5, 6), (7, 8, 9)))
    ids = np.where(_ids() == 255, 0, _ids())
    with RasterWriter(class_map_layer(tmp_path / "l.tif", table, {}), _grid()) as writer:
        writer.write(ids, Window(row=0, col=0, height=HEIGHT, width=WIDTH))
        writer.finalise()
    labels = read_labels(tmp_path / "l.tif", _grid())
    assert labels.table == ClassTable(ids=(3, 8), names=("wheat", "rape"), colours=((1, 2, 3), (7, 8, 9)))
    assert labels.counts().tolist() == [(ids == 3).sum(), (ids == 8).sum()]


def _write_envi(path: Path, ids: NDArray[np.uint8], names: str, colours: str) -> Path:
    write_raster(path, ids[None], driver="ENVI")
    header = path.with_suffix(".hdr")
    text = header.read_text().replace("ENVI Standard", "ENVI Classification")
    header.write_text(
        f"{text}classes = {names.count(',') + 1}\nclass names = {{{names}}}\nclass lookup = {{{colours}}}\n"
    )
    return path


def test_an_envi_classification_names_and_colours_its_classes(tmp_path: Path) -> None:
    ids = np.where(_ids() == 8, 2, np.where(_ids() == 3, 1, 0)).astype(np.uint8)
    path = _write_envi(tmp_path / "l.img", ids, "Unclassified, Winter  wheat,\n Öl", "0,0,0, 255,0,0, 1,2,3")
    labels = read_labels(path, _grid())
    assert labels.table == ClassTable(ids=(1, 2), names=("Winter wheat", "Öl"), colours=((255, 0, 0), (1, 2, 3)))
    assert labels.counts().tolist() == [(ids == 1).sum(), (ids == 2).sum()]
    assert labels.notes == ()
    twice = _write_envi(tmp_path / "m.img", ids, "Unclassified, wheat, wheat", "0,0,0, 255,0,0, 1,2,3")
    with pytest.raises(InputError, match=r"m\.img: its header cannot be used: .*: correct its class names"):
        read_labels(twice, _grid())


def test_values_without_a_name_are_named_by_their_number(tmp_path: Path) -> None:
    ids = np.where(_ids() == 255, 0, _ids())
    path = _write_envi(tmp_path / "l.img", ids, "none, a, b, wheat", "0,0,0, 1,1,1, 2,2,2, 255,0,0")
    labels = read_labels(path, _grid())
    assert (labels.table.names, labels.table.colours[0]) == (("wheat", "8"), (255, 0, 0))
    assert labels.notes == ("l.img names other classes, but not these, so that their number is their name: 8.",)


def test_colours_of_a_raster_without_names_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "l.tif"
    write_raster(path, _ids()[None], nodata=255)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {3: (9, 8, 7, 255), 8: (6, 5, 4, 255)})
    assert read_labels(path, _grid()).table.colours == ((9, 8, 7), (6, 5, 4))


def test_a_picture_is_no_label_raster(tmp_path: Path) -> None:
    ids = np.where(_ids() == 255, 0, _ids())
    path = write_raster(tmp_path / "rgb.tif", np.stack([ids] * 3), photometric="RGB")
    for read in (read_labels, read_mask):
        with pytest.raises(LabelError, match="holds 3 bands of uint8; a class raster has one"):
            read(path, _grid())
    alpha = np.where(ids == 8, 0, 255)
    path = write_raster(tmp_path / "a.tif", np.stack([ids, alpha]).astype(np.uint8), alpha="YES")
    labels = read_labels(path, _grid())
    assert (labels.table.ids, len(labels)) == ((3,), (ids == 3).sum())


def test_a_value_0_beside_nodata_is_told(tmp_path: Path) -> None:
    ids = np.where(_ids() == 0, 255, np.where(_ids() == 8, 0, _ids()))
    labels = read_labels(write_raster(tmp_path / "l.tif", ids[None], nodata=255), _grid())
    assert labels.table.ids == (3,)
    assert labels.notes == (
        "30 pixels have the value 0, which means unlabelled here: number classes from 1 if 0 is a class.",
    )
    assert read_labels(write_raster(tmp_path / "m.tif", _ids()[None] % 255), _grid()).notes == ()


def test_a_label_raster_may_lie_beside_the_scene_by_what_cannot_matter(tmp_path: Path) -> None:
    for shift, fits in ((0.004, True), (0.02, False)):
        moved = NORTH_UP @ Affine.translation(shift, 0)
        path = write_raster(tmp_path / "l.tif", _ids()[None], transform=moved, nodata=255)
        if fits:
            assert len(read_labels(path, _grid()))
        else:
            with pytest.raises(
                LabelError, match=r"not on the scene's grid: transform \(400001\.1, .* against \(400000\.5"
            ):
                read_labels(path, _grid())


def test_label_rasters_elsewhere_or_of_other_types_are_refused(tmp_path: Path) -> None:
    ids = _ids()[None]
    for cube, transform in ((ids, ROTATED), (ids, NORTH_UP @ Affine.translation(1, 0)), (ids[:, :-1], NORTH_UP)):
        path = write_raster(tmp_path / "l.tif", cube, transform=transform)
        with pytest.raises(LabelError, match="is not on the scene's grid"):
            read_labels(path, _grid())
    points = [control_points(t, HEIGHT, WIDTH) for t in (NORTH_UP, ROTATED)]
    path = write_raster(tmp_path / "g.tif", ids, transform=None, gcps=points[0])
    assert len(read_labels(path, _grid(None, gcps=tuple(points[0]))))
    with pytest.raises(LabelError, match="is not on the scene's grid"):
        read_labels(path, _grid(None, gcps=tuple(points[1])))
    for dtype in ("float32", "complex64"):
        path = write_raster(tmp_path / "f.tif", ids.astype(dtype))
        with pytest.raises(LabelError, match=f"holds {dtype} values; a label raster has whole numbers"):
            read_labels(path, _grid())
    for values, found in ((np.zeros_like(ids), r"\[\]"), (-ids.astype(np.int16), "-255")):
        with pytest.raises(LabelError, match=f"found .*{found}"):
            read_labels(write_raster(tmp_path / "z.tif", values), _grid())


def test_a_damaged_label_raster_says_where(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(1, 4, (1, 900, 700), np.uint8)
    path = write_raster(tmp_path / "l.tif", noise, compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(LabelError, match=r"l\.tif cannot be read at row 0"):
        read_labels(path, _grid(height=900, width=700))


# Enough to train


def test_labels_have_to_suffice(tmp_path: Path) -> None:
    labels = read_labels(_write(tmp_path / "l.gpkg", [A, B], k=["a", "b"]), _grid())
    require_trainable(labels, 40)
    with pytest.raises(
        LabelError, match=r"too few labelled pixels for b; at least 41 are needed\. Pixels: a: 54, b: 40"
    ):
        require_trainable(labels, 41)
    one = read_labels(_write(tmp_path / "m.gpkg", [A], k=["a"]), _grid(), class_field="k")
    with pytest.raises(LabelError, match="one class only"):
        require_trainable(one, 1)
    for name in ("unclassified", " Unclassified"):
        none = read_labels(_write(tmp_path / "n.gpkg", [A, B], k=["a", name]), _grid(), class_field="k")
        with pytest.raises(LabelError, match=r"a class is named .*nclassified', .* --classes FILE"):
            require_trainable(none, 1)


# Real labels


@pytest.mark.shared_data
def test_berlins_polygons_label_what_rasterio_burns(shared_data: Path) -> None:
    folder = shared_data / "berlin_enmap"
    grid = open_scene(folder / "EnMAP_BerlinUrbanGradient.bsq").grid
    labels = read_labels(folder / "LandCov_BerlinUrbanGradient.shp", grid, class_field="Level_2")
    meta, _, wkb, (names,) = pyogrio.raw.read(folder / "LandCov_BerlinUrbanGradient.shp", columns=["Level_2"])
    home = pyproj.Transformer.from_crs(meta["crs"], grid.crs.to_wkt(), always_xy=True)  # type: ignore[union-attr]
    masks = {}
    for name in sorted(set(names.tolist())):
        shapes = shapely.make_valid(shapely.from_wkb(wkb[names == name]))
        shapes = shapely.transform(shapes, home.transform, interleaved=False)
        masks[name] = rasterize(list(shapes), out_shape=(80, 60), transform=grid.transform) > 0
    claims = np.sum(list(masks.values()), axis=0)
    expected = {name: int((mask & (claims == 1)).sum()) for name, mask in masks.items()}
    assert dict(zip(labels.table.names, labels.counts().tolist(), strict=True)) == pytest.approx(expected, abs=3)
    assert sum(expected.values()) > 500
    assert any("invalid geometries were repaired" in note for note in labels.notes)


@pytest.mark.shared_data
def test_the_fields_of_the_pines_are_those_of_their_truth(shared_data: Path) -> None:
    folder = shared_data / "pines_like"
    grid = open_scene(folder / "scene.tif").grid
    labels = read_labels(folder / "fields.shp", grid, class_field="class_name")
    ids = read_labels(folder / "fields.shp", grid, class_field="class_id")
    with rasterio.open(folder / "truth.tif") as dataset:
        truth = dataset.read(1)
    assert len(labels) == (truth > 0).sum()
    np.testing.assert_array_equal(np.array(ids.table.ids)[ids.classes], truth[ids.rows, ids.cols])
    pairs = set(zip(labels.classes.tolist(), truth[labels.rows, labels.cols].tolist(), strict=True))
    assert len(pairs) == len(labels.table) == 16
    np.testing.assert_array_equal(np.sort(labels.counts()), np.sort(np.bincount(truth.ravel())[1:]))


@pytest.mark.shared_data
def test_the_pines_keep_the_ids_of_their_truth(shared_data: Path) -> None:
    folder = shared_data / "pines_like"
    labels = read_labels(folder / "fields.shp", open_scene(folder / "scene.tif").grid)
    with rasterio.open(folder / "truth.tif") as dataset:
        truth = dataset.read(1)
    np.testing.assert_array_equal(np.array(labels.table.ids)[labels.classes], truth[labels.rows, labels.cols])
    assert not any(name.isdecimal() for name in labels.table.names)
    assert any("taken from field 'class_id'" in note for note in labels.notes)


def test_a_mask_of_many_shapes_is_burnt_in_one_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [pixel_box(row, col, 1, 1) for row in range(0, 20, 2) for col in range(0, 20, 2)]
    path, calls = write_polygons(tmp_path / "m.gpkg", [(box, "a") for box in boxes]), list[int]()

    def counted(shapes: Any, **options: Any) -> Any:
        calls.append(len(shapes))
        return rasterize(shapes, **options)

    monkeypatch.setattr("cssd_geo.vectors.burning.rasterize", counted)
    assert read_mask(path, _grid()).any()
    assert len(calls) == 1
