"""Maps against references: scikit-learn counts, and brute force tells which pixels are compared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio._env import get_gdal_config  # no public name
from rasterio.crs import CRS
from rasterio.warp import reproject
from scenes import (
    NORTH_UP,
    ROTATED,
    UTM,
    control_points,
    coordinate_cube,
    pixel_box,
    write_polygons,
    write_raster,
    write_two_fields,
)
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix

from cssd_geo.classes import ClassTable
from cssd_geo.errors import InputError, LabelError, SceneError
from cssd_geo.evaluation import evaluate
from cssd_geo.files.rasters import read_window
from cssd_geo.grid import Grid
from cssd_geo.label_files import read_labels
from cssd_geo.maps import class_rasters, pam
from cssd_geo.maps.layer import CLASSES_TAG, MODEL_TAG, class_map_layer, percent_layer
from cssd_geo.maps.raster_writer import RasterWriter
from cssd_geo.maps.reach import reach_tags
from cssd_geo.products import open_scene
from cssd_geo.reference_sample import sample
from cssd_geo.tiles import Window

HEIGHT, WIDTH = 40, 55
TABLE = ClassTable.from_names(["Wheat", "maize", "rape"], [1, 2, 7])


def _ids(seed: int, ids: tuple[int, ...] = (0, 1, 2, 7)) -> NDArray[np.uint8]:
    """(y, x) patches of 3 x 4 pixels, so that a shift shows but not everywhere."""
    coarse = np.random.default_rng(seed).choice(np.array(ids, np.uint8), (14, 14))
    return np.kron(coarse, np.ones((3, 4), np.uint8))[:HEIGHT, :WIDTH]


def _write_map(
    path: Path, ids: NDArray[np.uint8], table: ClassTable = TABLE, tags: dict[str, str] | None = None
) -> Path:
    """A map as `classify` writes it, but for the tags that tell how it came to be."""
    grid = Grid(height=HEIGHT, width=WIDTH, transform=NORTH_UP, crs=UTM)
    with RasterWriter(class_map_layer(path, table, tags or {}), grid) as writer:
        writer.write(ids, Window(row=0, col=0, height=HEIGHT, width=WIDTH))
        writer.finalise()
    return path


def _expected(truth: NDArray[Any], mapped: NDArray[Any], ids: list[int]) -> NDArray[np.int64]:
    """(K, K + 1) as scikit-learn counts; 0 in the map is unclassified, 0 in the truth does not count."""
    known = truth > 0
    matrix = confusion_matrix(truth[known], mapped[known], labels=[*ids, 0])
    return np.asarray(matrix[:-1], np.int64)


@settings(max_examples=20, deadline=None)
@given(seeds=st.tuples(st.integers(0, 999), st.integers(0, 999)), part=st.sampled_from([2048, 16, 23]))
def test_random_maps_are_counted_as_scikit_learn_does(
    tmp_path_factory: pytest.TempPathFactory, seeds: tuple[int, int], part: int
) -> None:
    folder = tmp_path_factory.mktemp("maps")
    mapped, truth = _ids(seeds[0]), _ids(1000 + seeds[1])
    class_map = write_raster(folder / "map.tif", mapped[None], nodata=0)
    reference = write_raster(folder / "truth.tif", truth[None], nodata=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_rasters, "_STEP", part)
        accuracy = evaluate(class_map, reference).accuracy
    assert accuracy.names == ("1", "2", "7")
    np.testing.assert_array_equal(accuracy.confusion, _expected(truth, mapped, [1, 2, 7]))
    known = truth > 0
    assert accuracy.overall_accuracy == pytest.approx(accuracy_score(truth[known], mapped[known]))
    assert accuracy.kappa == pytest.approx(cohen_kappa_score(truth[known], mapped[known]))
    assert accuracy.unclassified == (mapped[known] == 0).sum() > 0


def test_a_vector_and_its_raster_say_the_same(tmp_path: Path) -> None:
    class_map = _write_map(tmp_path / "map.tif", _ids(1))
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    shapes = []
    for name, value, box in (
        ("wheat", 1, (3, 4, 9, 8)),
        ("MAIZE ", 2, (20, 10, 7, 21)),
        ("Rape", 7, (30, 40, 6, 12)),
    ):
        row, col, height, width = box
        truth[row : row + height, col : col + width] = value
        shapes.append((pixel_box(*box), name))
    expected = _expected(truth, _ids(1), [1, 2, 7])
    away = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    geographic = [(shapely.transform(s, away.transform, interleaved=False), name) for s, name in shapes]
    for reference in (
        write_polygons(tmp_path / "utm.gpkg", shapes),
        write_polygons(tmp_path / "degrees.geojson", geographic, crs="EPSG:4326"),
        _write_map(tmp_path / "truth.tif", truth),
        write_raster(tmp_path / "ids.tif", truth[None]),
        write_raster(tmp_path / "float.tif", np.where(truth == 0, np.nan, truth)[None].astype(np.float32)),
        write_raster(
            tmp_path / "nan.tif", np.where(truth == 0, np.nan, truth)[None].astype(np.float32), nodata=np.nan
        ),
        write_raster(tmp_path / "254.tif", np.where(truth == 0, 254, truth)[None], nodata=254),
    ):
        found = evaluate(class_map, reference)
        np.testing.assert_array_equal(found.accuracy.confusion, expected, err_msg=reference.name)
        assert found.accuracy.names == ("Wheat", "maize", "rape")  # as the map spells them


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (4326, Affine(0.00031, 0.0, 13.5275, 0.0, -0.00019, 52.345)),
        (32633, NORTH_UP @ Affine.translation(-3.3, 2.6) @ Affine.scale(0.71, 1.3)),
        (32633, ROTATED @ Affine.translation(-9.2, -11.7) @ Affine.scale(0.9)),
        (3857, Affine(47.0, 0.0, 1_506_088.9, 0.0, 51.0, 6_859_851.0)),
    ],
)
def test_on_another_grid_each_pixel_meets_the_nearest_one(tmp_path: Path, crs: int, transform: Affine) -> None:
    mapped = _ids(1)
    truth = np.random.default_rng(5).choice(np.array([0, 1, 2, 7], np.uint8), (70, 90))
    class_map = _write_map(tmp_path / "map.tif", mapped)
    reference = write_raster(tmp_path / "truth.tif", truth[None], crs=CRS.from_epsg(crs), transform=transform)
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    there = pyproj.Transformer.from_crs(32633, crs, always_xy=True).transform(
        *(NORTH_UP @ (cols + 0.5, rows + 0.5))
    )
    col, row = (np.floor(v).astype(int) for v in ~transform @ there)
    inside = (row >= 0) & (row < 70) & (col >= 0) & (col < 90)
    nearest = np.where(inside, truth[row.clip(0, 69), col.clip(0, 89)], 0)
    assert inside.mean() > 0.2
    found = evaluate(class_map, reference)
    np.testing.assert_array_equal(found.accuracy.confusion, _expected(nearest, mapped, [1, 2, 7]))
    assert found.notes[0] == (
        "truth.tif is on another grid: each pixel of the map was compared with its nearest one."
    )
    assert [note.split(",")[0] for note in found.notes[1:]] == ["Matched by id"]


def test_a_reference_on_another_planet_is_an_error(tmp_path: Path) -> None:
    class_map = _write_map(tmp_path / "map.tif", _ids(1))
    moon = CRS.from_user_input("IAU_2015:30100")
    reference = write_raster(tmp_path / "moon.tif", _ids(1)[None], crs=moon)
    with pytest.raises(LabelError, match=r"moon\.tif has a CRS that PROJ cannot relate to that of the map"):
        evaluate(class_map, reference)


@pytest.mark.parametrize("west", [-180.0, 0.0, 179.7, -180.3])
@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (4326, Affine(0.01, 0, 179.85, 0, -0.01, 10.2)),
        (4326, Affine(0.01, 0, -180.15, 0, -0.01, 10.2)),
        (32660, Affine(900, 0, 810_000, 0, -900, 1_128_000)),
        (3832, Affine(900, 0, 3_314_500, 0, -900, 1_128_000)),
    ],
)
def test_a_reference_in_degrees_meets_all_of_a_map_over_the_date_line(
    tmp_path: Path, crs: int, transform: Affine, west: float
) -> None:
    """As the reference ends there, lies on another turn, or is over it too."""
    random, wide = np.random.default_rng(5), west in (-180, 0)
    mapped, truth = random.choice([1, 2, 7], (HEIGHT, WIDTH)), random.choice([1, 2, 7], (70, 7200 if wide else 90))
    class_map = write_raster(
        tmp_path / "map.tif", mapped[None].astype("uint8"), crs=CRS.from_epsg(crs), transform=transform
    )
    place = Affine(0.05 if wide else 0.00773, 0, west, 0, -0.01073, 10.3)
    write_raster(tmp_path / "truth.tif", truth[None].astype("uint8"), crs=CRS.from_epsg(4326), transform=place)
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    x, y = transform @ (cols + 0.5, rows + 0.5)
    longitude, latitude = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
    col, row = ~place * ((longitude - west) % 360 + west, latitude)
    expected = truth[np.floor(row).astype(int), np.floor(col).astype(int)]
    assert len(np.unique(longitude > 0)) == 2 or np.abs(longitude).max() > 180
    found = evaluate(class_map, tmp_path / "truth.tif")
    np.testing.assert_array_equal(found.accuracy.confusion, _expected(expected, mapped, [1, 2, 7]))


def test_classes_that_only_the_reference_has_are_errors(tmp_path: Path) -> None:
    class_map = _write_map(tmp_path / "map.tif", _ids(1, (1, 2)))
    shapes = [(pixel_box(2, 2, 10, 10), "wheat"), (pixel_box(20, 20, 5, 8), "hops")]
    found = evaluate(class_map, write_polygons(tmp_path / "l.gpkg", shapes))
    accuracy = found.accuracy
    assert [note.partition(";")[0] for note in found.notes] == [
        "Not classes of the map, so that all of their pixels are errors: hops"
    ]
    assert accuracy.names == ("Wheat", "maize", "rape", "hops")
    assert accuracy.n.tolist() == [100, 0, 0, 40]
    assert accuracy.correct.tolist() == [(_ids(1, (1, 2))[2:12, 2:12] == 1).sum(), 0, 0, 0]


def test_numbers_match_ids_and_names_match_names(tmp_path: Path) -> None:
    class_map = _write_map(tmp_path / "map.tif", np.full((HEIGHT, WIDTH), 7, np.uint8))
    shapes = [(pixel_box(2, 2, 10, 10), 7), (pixel_box(20, 20, 5, 8), 2)]
    accuracy = evaluate(
        class_map, write_polygons(tmp_path / "ids.gpkg", shapes), class_field="class_name"
    ).accuracy
    assert accuracy.names == ("Wheat", "maize", "rape")
    assert accuracy.correct.tolist() == [0, 0, 100]
    other = ClassTable.from_names(["Rape", "Wheat"], [1, 2])  # the same names under other ids
    reference = _write_map(tmp_path / "other.tif", np.full((HEIGHT, WIDTH), 1, np.uint8), other)
    assert evaluate(class_map, reference).accuracy.overall_accuracy == 1


def test_nothing_in_common_is_an_error_that_lists_both_sides(tmp_path: Path) -> None:
    class_map = _write_map(tmp_path / "map.tif", _ids(1))
    reference = write_polygons(
        tmp_path / "l.gpkg", [(pixel_box(2, 2, 9, 9), "hops"), (pixel_box(20, 20, 5, 8), "oats")]
    )
    with pytest.raises(LabelError, match=r"no class in common with .*: hops, oats against Wheat, maize, rape"):
        evaluate(class_map, reference)
    far = write_raster(tmp_path / "far.tif", _ids(2)[None], transform=NORTH_UP @ Affine.translation(500, 0))
    with pytest.raises(LabelError, match="has no pixel to compare"):
        evaluate(class_map, far)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 99),
    buffer=st.integers(0, 9),
    raster=st.booleans(),
    part=st.sampled_from([2048, 16]),
)
def test_excluded_polygons_and_what_is_nearer_than_the_buffer_do_not_count(
    tmp_path_factory: pytest.TempPathFactory, seed: int, buffer: int, part: int, *, raster: bool
) -> None:
    folder, random = tmp_path_factory.mktemp("exclude"), np.random.default_rng(seed)
    mapped, truth = _ids(seed), _ids(seed + 1)
    class_map, reference = _write_map(folder / "map.tif", mapped), _write_map(folder / "truth.tif", truth)
    boxes = [
        (*random.integers(0, (HEIGHT - 6, WIDTH - 6)).tolist(), *random.integers(1, 6, 2).tolist())
        for _ in range(3)
    ]
    trained = np.zeros((HEIGHT, WIDTH), np.uint8)
    for row, col, height, width in boxes:
        trained[row : row + height, col : col + width] = 1
    if raster:
        exclude = write_raster(folder / "x.tif", trained[None])
    else:  # shrunk a little, for all-touched burning would count the pixels beyond an edge
        exclude = write_polygons(folder / "x.gpkg", [(pixel_box(*box).buffer(-1), "a") for box in boxes])
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    near = [np.maximum(abs(rows - r), abs(cols - c)) for r, c in np.argwhere(trained)]
    counted = (np.min(near, axis=0) >= buffer) & (trained == 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_rasters, "_STEP", part)
        found = evaluate(class_map, reference, exclude=exclude, buffer=buffer)
    np.testing.assert_array_equal(found.accuracy.confusion, _expected(truth * counted, mapped, [1, 2, 7]))
    left = f"{(truth[~counted] > 0).sum():,} of {(truth > 0).sum():,} reference pixels lie in {exclude.name}"
    beside = f" or nearer than {buffer} pixels to it" if buffer > 1 else ""
    assert found.notes == (f"{left}{beside}, and were left out.",)


@pytest.mark.parametrize("part", [2048, 16])
def test_a_vector_reference_is_excluded_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(class_rasters, "_STEP", part)
    class_map = _write_map(tmp_path / "map.tif", _ids(1))
    labels = write_polygons(tmp_path / "l.gpkg", [(pixel_box(5, 5, 20, 30), "wheat")])
    exclude = write_polygons(tmp_path / "x.gpkg", [(pixel_box(5, 5, 20, 10), "wheat")])
    found = evaluate(class_map, labels, class_field="class_name", exclude=exclude, buffer=4)
    counted = np.zeros((HEIGHT, WIDTH), np.uint8)
    counted[5:25, 5 + 10 + 3 : 35] = 1
    np.testing.assert_array_equal(found.accuracy.confusion, _expected(counted, _ids(1), [1, 2, 7]))


def test_excluding_what_lies_elsewhere_or_in_one_of_several_layers(tmp_path: Path) -> None:
    class_map = _write_map(tmp_path / "map.tif", _ids(1))
    far = write_polygons(tmp_path / "far.gpkg", [(pixel_box(900, 900, 9, 9), "wheat")])
    found = evaluate(class_map, class_map, exclude=far)
    assert found.notes[0].startswith("far.gpkg meets no pixel of the map, so nothing was left out")
    assert found.accuracy.total == (_ids(1) > 0).sum()
    two = tmp_path / "two.gpkg"
    for layer, width in (("a", 30), ("b", 40)):
        wkb = shapely.to_wkb(np.array([pixel_box(0, 0, 40, width)]))
        pyogrio.raw.write(
            two, wkb, [], [], geometry_type="Polygon", crs="EPSG:32633", layer=layer, append=two.exists()
        )
    with pytest.raises(LabelError, match=r"two\.gpkg has 2 layers \(a, b\): name one with --exclude-layer"):
        evaluate(class_map, class_map, exclude=two)
    found = evaluate(class_map, class_map, exclude=two, exclude_layer="a", buffer=0)
    assert found.accuracy.total == (_ids(1)[:, 30:] > 0).sum()
    with pytest.raises(InputError, match=r"a layer \('a'\) of which excluded polygons\? Name their file"):
        evaluate(class_map, class_map, exclude_layer="a")


@settings(max_examples=12, deadline=None)
@given(
    row=st.integers(-25, HEIGHT + 25),
    col=st.integers(-25, WIDTH + 25),
    crop=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    points=st.booleans(),
)
def test_a_cropped_map_leaves_out_what_the_whole_one_does(
    tmp_path_factory: pytest.TempPathFactory, row: int, col: int, crop: tuple[int, int], *, points: bool
) -> None:
    """Polygons just outside the crop once left nothing out."""
    folder, (top, left) = tmp_path_factory.mktemp("crop"), crop
    part = _ids(1)[top:, left:]
    place: dict[str, Any] = {"transform": NORTH_UP @ Affine.translation(left, top)}
    if points:
        place = {"transform": None, "gcps": control_points(place["transform"], *part.shape)}
    class_map = write_raster(folder / "map.tif", part[None], nodata=0, **place)
    trained = write_polygons(folder / "x.gpkg", [(pixel_box(row, col, 2, 3).buffer(-1), "a")])
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    counted = (np.maximum(row - rows, rows - row - 1) >= 17) | (np.maximum(col - cols, cols - col - 2) >= 17)
    found = evaluate(class_map, class_map, exclude=trained)
    np.testing.assert_array_equal(
        found.accuracy.confusion, _expected((part * counted[top:, left:]), part, [1, 2, 7])
    )
    assert ("meets no pixel" in found.notes[-1]) == counted[top:, left:].all()


@pytest.mark.parametrize(
    ("crs", "transform", "stands_for"),
    [
        (UTM, NORTH_UP @ Affine.scale(1 / 3), 52),
        (UTM, NORTH_UP @ Affine.translation(3.3, -7.8) @ Affine.scale(0.37), 47),
        (UTM, ROTATED @ Affine.translation(-15, -25) @ Affine.scale(0.8, 0.5), 47),
        (UTM, NORTH_UP @ Affine.translation(-9.3, -11.6) @ Affine.rotation(30), 25),
        (CRS.from_epsg(4326), Affine(0.0003, 0.0, 13.5275, 0.0, -0.00019, 52.345), 27),
        (CRS.from_epsg(3857), Affine(30.0, 0.0, 1_506_088.9, 0.0, -30.0, 6_862_201.0), 30),
        (UTM, NORTH_UP @ Affine.scale(1.0005), None),
        (UTM, NORTH_UP @ Affine.scale(1.3), None),
    ],
)
@pytest.mark.parametrize("corner", [(17, 25), (-9, -6), (30, WIDTH + 4)])
def test_a_resampled_map_leaves_out_what_it_did_before(
    tmp_path: Path, crs: CRS, transform: Affine, stands_for: int | None, corner: tuple[int, int]
) -> None:
    """With pixels of 10 m instead of 30, a third of the distance was once left out."""
    trained = write_polygons(tmp_path / "x.gpkg", [(pixel_box(*corner, 2, 3), "a")])
    near = np.ones((HEIGHT, WIDTH), np.uint8)  # class 1 is what is left out of the map as it was, 2 is all else
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    rows, cols = rows - corner[0], cols - corner[1]
    near[(np.maximum(-rows, rows - 1) >= 17) | (np.maximum(-cols, cols - 2) >= 17)] = 2
    now = np.zeros((150, 200), np.uint8)
    reproject(
        near, now, src_transform=NORTH_UP, src_crs=UTM, dst_transform=transform, dst_crs=crs, dst_nodata=0,
        tolerance=1e-6,
    )  # fmt: skip
    assert {1, 2} <= set(np.unique(now))
    class_map = write_raster(tmp_path / "map.tif", now[None], crs=crs, transform=transform, nodata=0)
    with rasterio.open(class_map, "r+") as dataset:
        dataset.update_tags(**reach_tags(16, Grid(height=HEIGHT, width=WIDTH, transform=NORTH_UP, crs=UTM)))
    found = evaluate(class_map, class_map, exclude=trained)
    counted = dict(zip(found.accuracy.names, found.accuracy.n.tolist(), strict=True))
    assert counted["1"] == 0 < counted["2"]
    told = f"map.tif has other pixels than it was classified with: 17 of those are up to {stands_for} of its own."
    assert found.notes[:-1] == (() if stands_for is None else (told,))
    given = evaluate(class_map, class_map, exclude=trained, buffer=17)
    assert given.accuracy.total >= found.accuracy.total
    assert len(given.notes) == 1


def test_a_map_whose_pixels_are_not_what_they_were_in_ways_unknown_is_told_of(tmp_path: Path) -> None:
    class_map = write_raster(tmp_path / "map.tif", _ids(1)[None], nodata=0)
    trained = write_polygons(tmp_path / "x.gpkg", [(pixel_box(5, 5, 2, 3), "a")])
    untold = evaluate(class_map, class_map, exclude=trained)
    assert len(untold.notes) == 1
    unknown = "Which pixels map.tif was classified with cannot be related to those that it has now"
    advice = "if these are smaller, give more than 17 of them (--buffer)."
    for transform, told in ((None, (f"{unknown}: {advice}",)), (NORTH_UP, ())):
        with rasterio.open(class_map, "r+") as dataset:
            dataset.update_tags(**reach_tags(16, Grid(height=9, width=9, transform=transform, crs=UTM)))
        found = evaluate(class_map, class_map, exclude=trained)
        np.testing.assert_array_equal(found.accuracy.confusion, untold.accuracy.confusion)
        assert found.notes == (*told, *untold.notes)
    huge = Grid(height=9, width=9, transform=NORTH_UP @ Affine.scale(1000), crs=UTM)
    with rasterio.open(class_map, "r+") as dataset:
        dataset.update_tags(**reach_tags(16, huge))
    message = r"map\.tif has other pixels .*, and 17 of those are 17001 of its own: give the map as it was classif"
    with pytest.raises(InputError, match=message):
        evaluate(class_map, class_map, exclude=trained)
    assert evaluate(class_map, class_map, exclude=trained, buffer=17).notes == untold.notes


def test_options_without_a_meaning_are_refused(tmp_path: Path) -> None:
    class_map = _write_map(tmp_path / "map.tif", _ids(1))
    trained = write_polygons(tmp_path / "x.gpkg", [(pixel_box(5, 5, 2, 3), "a")])
    with pytest.raises(InputError, match=r"a buffer of 3 pixels around which polygons\? Name their file"):
        evaluate(class_map, class_map, buffer=3)
    with pytest.raises(InputError, match="buffer is a number of pixels from 0 to 10000, not 10001"):
        evaluate(class_map, class_map, exclude=trained, buffer=10_001)
    with pytest.raises(InputError, match=r"--class-field crop is for vectors, which .*map\.tif is not"):
        evaluate(class_map, class_map, class_field="crop")
    with pytest.raises(InputError, match=r"--layer crops is for vectors, which .*map\.tif is not"):
        evaluate(class_map, class_map, layer="crops")
    with pytest.raises(InputError, match=r"--exclude-layer a is for vectors, which .*map\.tif is not"):
        evaluate(class_map, class_map, exclude=class_map, exclude_layer="a")


def test_files_that_cannot_be_compared_say_why(tmp_path: Path) -> None:
    class_map = _write_map(tmp_path / "map.tif", _ids(1))
    text = tmp_path / "notes.txt"
    text.write_text("none")
    with pytest.raises(InputError, match="buffer is a number of pixels from 0 to 10000, not -1"):
        evaluate(class_map, class_map, buffer=-1)
    for strange in (2.5, "3", True):
        with pytest.raises(InputError, match=f"buffer must be a whole number, not {strange!r}"):
            evaluate(class_map, class_map, exclude=class_map, buffer=strange)  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="does not exist"):
        evaluate(tmp_path / "missing.tif", class_map)
    with pytest.raises(LabelError, match=r"missing\.tif does not exist"):
        evaluate(class_map, tmp_path / "missing.tif")
    with pytest.raises(LabelError, match=r"notes\.txt cannot be used as a reference"):
        evaluate(class_map, text)
    for dtype in ("float32", "complex64"):
        with pytest.raises(SceneError, match=f"holds {dtype} values; a class map has whole numbers"):
            evaluate(write_raster(tmp_path / "f.tif", _ids(1)[None].astype(dtype)), class_map)
    with pytest.raises(LabelError, match="holds complex64 values; a reference has whole numbers"):
        evaluate(class_map, write_raster(tmp_path / "c.tif", _ids(1)[None].astype("complex64")))
    with pytest.raises(LabelError, match=r"holds values that are no class ids .* as 1\.5, "):
        evaluate(class_map, write_raster(tmp_path / "h.tif", _ids(1)[None] + np.float32(0.5), nodata=0.5))
    with pytest.raises(LabelError, match="one of them has no CRS"):
        evaluate(class_map, write_raster(tmp_path / "n.tif", _ids(1)[None], crs=None))


def test_rasters_that_hold_something_else_than_classes_are_refused(tmp_path: Path) -> None:
    class_map, ids = _write_map(tmp_path / "map.tif", _ids(1)), _ids(1)
    scene = write_raster(tmp_path / "scene.tif", np.stack([ids] * 40).astype(np.int16))
    with pytest.raises(SceneError, match=r"scene\.tif holds 40 bands of int16; a class raster has one"):
        evaluate(scene, class_map)
    with pytest.raises(LabelError, match=r"cannot be used as a reference: .* holds 40 bands of int16"):
        evaluate(class_map, scene)
    with_alpha = write_raster(tmp_path / "a.tif", np.stack([ids, np.uint8(255) * (ids != 2)]), alpha="YES")
    found = evaluate(with_alpha, class_map).accuracy
    assert found.unclassified == (ids == 2).sum()
    assert evaluate(class_map, with_alpha).accuracy.total == ((ids == 1) | (ids == 7)).sum()
    grid = Grid(height=HEIGHT, width=WIDTH, transform=NORTH_UP, crs=UTM)
    with RasterWriter(percent_layer(tmp_path / "c.tif", "confidence", {MODEL_TAG: "0"}), grid) as writer:
        writer.write(ids, Window(row=0, col=0, height=HEIGHT, width=WIDTH))
        writer.finalise()
    with pytest.raises(SceneError, match=r"beside a map and holds confidence in percent: give the class map"):
        evaluate(tmp_path / "c.tif", class_map)
    with pytest.raises(LabelError, match=r"beside a map and holds confidence in percent"):
        evaluate(class_map, tmp_path / "c.tif")


def test_swapped_arguments_are_asked_about(tmp_path: Path) -> None:
    class_map = _write_map(tmp_path / "map.tif", _ids(1), tags={MODEL_TAG: "0"})
    reference = _write_map(tmp_path / "truth.tif", _ids(2))
    asked = "map.tif is a map by cssd-geo: are the arguments swapped? MAP comes first."
    assert asked in evaluate(reference, class_map).notes
    assert not any("swapped" in note for note in evaluate(class_map, reference).notes)
    assert not any("swapped" in note for note in evaluate(class_map, class_map).notes)


@pytest.mark.parametrize(("bands", "dtype"), [(4, np.int16), (1, np.float32)])
def test_a_scene_in_place_of_the_map_is_told_from_it(tmp_path: Path, bands: int, dtype: Any) -> None:
    """The map was advised to be another one, or turned into whole numbers."""
    scene = write_raster(tmp_path / "scene.tif", coordinate_cube(bands, HEIGHT, WIDTH).astype(dtype))
    class_map = _write_map(tmp_path / "map.tif", _ids(1), tags={MODEL_TAG: "0"})
    polygons = write_polygons(tmp_path / "p.gpkg", [(pixel_box(1, 1, 5, 5), "1")])
    told = r"scene\.tif is no class map, but .*map\.tif is: give that first, then polygons or a raster of classes"
    with pytest.raises(SceneError, match=told):
        evaluate(scene, class_map)
    for reference in (scene, polygons):
        with pytest.raises(SceneError, match=r"scene\.tif holds "):
            evaluate(scene, reference)
    with pytest.raises(SceneError, match=r"no\.tif does not exist"):
        evaluate(tmp_path / "no.tif", class_map)


def test_names_against_numbers_without_a_key_are_refused(tmp_path: Path) -> None:
    """A perfect map of someone else's numbers once got 0 %: the names had been numbered by the alphabet."""
    numbers = np.full((HEIGHT, WIDTH), 1, np.uint8)  # wheat
    numbers[:, 20:] = 2  # maize
    class_map = write_raster(tmp_path / "numbers.tif", numbers[None], nodata=0)
    boxes = [(pixel_box(2, 2, 10, 10), "wheat"), (pixel_box(20, 25, 5, 8), "maize")]
    names = write_polygons(tmp_path / "names.gpkg", boxes)
    message = r"only numbers for its classes \(1, 2\), .*names.gpkg only names \(maize, wheat\), .* --classes"
    with pytest.raises(LabelError, match=message):
        evaluate(class_map, names)
    some = write_polygons(tmp_path / "some.gpkg", [*boxes, (pixel_box(30, 30, 2, 2), "1")])
    with pytest.raises(LabelError, match="nothing says which is which"):
        evaluate(class_map, some)
    key = tmp_path / "key.csv"
    key.write_text("from,to,id\nwheat,wheat,1\nmaize,maize,2\n")
    numbered = tmp_path / "numbered.gpkg"
    columns = [np.array(["wheat", "maize"], object), np.array([1, 2])]
    wkb = shapely.to_wkb(np.array([shape for shape, _ in boxes]))
    pyogrio.raw.write(numbered, wkb, columns, ["crop", "crop_id"], geometry_type="Polygon", crs="EPSG:32633")
    for found in (evaluate(class_map, names, remap=key), evaluate(class_map, numbered)):
        assert (found.accuracy.overall_accuracy, found.accuracy.total) == (1, 140)
        assert any("check that both mean 1 = wheat, 2 = maize" in note for note in found.notes)


def test_values_without_a_name_are_counted_and_told(tmp_path: Path) -> None:
    odd = _ids(1, (0, 1, 2, 7, 9, 12))
    plain = _write_map(tmp_path / "plain.tif", _ids(1, (1, 2, 7)))
    named = write_raster(tmp_path / "map.tif", odd[None], nodata=0)
    with rasterio.open(named, "r+") as dataset:
        dataset.update_tags(**{CLASSES_TAG: json.dumps(TABLE.to_json())})
    stray = np.isin(odd, (9, 12))
    count = f"{stray.sum():,}"
    found = evaluate(plain, named)
    assert found.notes == (
        f"{count} reference pixels have values without a name, which count as no class: 9, 12.",
    )
    assert found.accuracy.total == np.isin(odd, (1, 2, 7)).sum()
    found = evaluate(named, plain)
    assert found.notes == (
        f"{count} compared pixels of map.tif have values without a name, which count as no class: 9, 12.",
    )
    assert found.accuracy.unclassified == ((odd == 0) | stray).sum()
    rules = tmp_path / "c.csv"
    rules.write_text("from,to\nrape,maize\n")
    assert any(f"{count} reference pixels" in note for note in evaluate(plain, named, remap=rules).notes)


def test_values_with_a_blank_name_count_as_no_class(tmp_path: Path) -> None:
    plain = _write_map(tmp_path / "plain.tif", _ids(1))
    blank = write_raster(tmp_path / "blank.tif", _ids(1)[None], nodata=0)
    pam.side_path(blank).write_text(_attribute_table({-1: "none", 0: "", 1: "wheat", 2: "Maize", 7: " "}))
    count = f"{(_ids(1) == 7).sum():,}"
    found = evaluate(plain, blank)
    assert found.accuracy.total == np.isin(_ids(1), (1, 2)).sum()
    assert found.accuracy.overall_accuracy == 1
    assert found.notes[-1] == (f"{count} reference pixels have values without a name, which count as no class: 7.")
    found = evaluate(blank, plain)
    assert found.accuracy.unclassified == (_ids(1) == 7).sum()
    assert found.notes[-1] == (
        f"{count} compared pixels of blank.tif have values without a name, which count as no class: 7."
    )


def test_a_table_that_cannot_be_used_is_the_map_s_or_the_reference_s_fault(tmp_path: Path) -> None:
    plain = _write_map(tmp_path / "plain.tif", _ids(1))
    twice = write_raster(tmp_path / "twice.tif", _ids(1)[None], nodata=0)
    pam.side_path(twice).write_text(_attribute_table({1: "wheat", 2: "wheat"}))
    message = r"twice\.tif\.aux\.xml cannot be used as the class table of its raster: .* not empty: 'wheat'"
    with pytest.raises(SceneError, match=message):
        evaluate(twice, plain)
    with pytest.raises(LabelError, match=rf"twice\.tif cannot be used as a reference: .*{message}"):
        evaluate(plain, twice)


@pytest.mark.parametrize("nodata", [None, 0])
def test_numbers_of_parcels_are_no_classes(tmp_path: Path, nodata: int | None) -> None:
    plain = _write_map(tmp_path / "plain.tif", _ids(1))
    ids = np.arange(HEIGHT * WIDTH, dtype=np.uint32).reshape(HEIGHT, WIDTH) + 65_000
    parcels = write_raster(tmp_path / "parcels.tif", ids[None], nodata=nodata)
    message = (
        r"parcels\.tif holds values that are no class ids \(whole numbers from 1 to 65535\), such as 65536, 65537"
    )
    with pytest.raises(SceneError, match=message) as of_map:
        evaluate(parcels, plain)
    with pytest.raises(LabelError, match=rf"parcels\.tif cannot be used as a reference: .*{message}") as of_truth:
        evaluate(plain, parcels)
    assert max(len(str(error.value).replace(str(tmp_path), "")) for error in (of_map, of_truth)) < 400


def _attribute_table(names: dict[int, str]) -> str:
    """A side file with these names, as GDAL translates it from other formats."""
    fields = "".join(
        f"<FieldDefn index='{i}'><Name>{name}</Name><Type>0</Type><Usage>{usage}</Usage></FieldDefn>"
        for i, (name, usage) in enumerate((("Value", 5), ("Class", 2)))
    )
    rows = "".join(f"<Row index='0'><F>{value}</F><F>{name}</F></Row>" for value, name in names.items())
    table = f"<GDALRasterAttributeTable tableType='thematic'>{fields}{rows}</GDALRasterAttributeTable>"
    return f"<PAMDataset><PAMRasterBand band='1'>{table}</PAMRasterBand></PAMDataset>"


def test_a_class_0_is_told_of_where_nodata_is_another_value(tmp_path: Path) -> None:
    forest = _ids(1, (0, 1, 255))
    class_map = write_raster(tmp_path / "map.tif", forest[None], nodata=255)
    truth = write_raster(tmp_path / "truth.tif", _ids(2, (0, 1, 255))[None], nodata=255)
    notes = evaluate(class_map, truth).notes
    means = "have the value 0, which means unlabelled here: number classes from 1 if 0 is a class."
    compared = (_ids(2, (0, 1, 255)) == 1) & (forest == 0)
    assert notes == (
        f"{(_ids(2, (0, 1, 255)) == 0).sum():,} reference pixels {means}",
        f"{compared.sum():,} compared pixels of map.tif {means}",
    )
    for nodata in (0, None):
        usual = write_raster(tmp_path / "usual.tif", (forest % 255)[None], nodata=nodata)
        assert evaluate(usual, usual).notes == ()


def test_a_damaged_raster_says_where(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(1, 4, (1, 900, 700), np.uint8)
    path = write_raster(tmp_path / "map.tif", noise, compress="deflate")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    whole = write_raster(tmp_path / "whole.tif", noise)
    with pytest.raises(SceneError, match=r"map\.tif cannot be read at row 0"):
        evaluate(path, whole)
    with pytest.raises(LabelError, match=r"cannot be used as a reference: .*map\.tif cannot be read at row 0"):
        evaluate(whole, path)
    pam.side_path(path).write_text(_attribute_table({1: "a", 2: "b", 3: "c"}))  # now it is read later
    with pytest.raises(LabelError, match=r"cannot be used as a reference: .*map\.tif cannot be read at row 0"):
        evaluate(whole, path)


def test_matching_by_id_says_what_it_took_the_ids_to_mean(tmp_path: Path) -> None:
    """A map numbered by names and a reference numbered otherwise once gave 0.8 % without a word."""
    made = write_two_fields(tmp_path)
    table = ClassTable.from_names(["maize", "wheat"])
    grid = open_scene(made.scene).grid
    with RasterWriter(class_map_layer(tmp_path / "map.tif", table, {}), grid) as writer:
        writer.write(made.truth, Window(row=0, col=0, height=60, width=90))
        writer.finalise()
    numbers = write_raster(tmp_path / "numbers.tif", made.truth[None], nodata=0)
    notes = evaluate(tmp_path / "map.tif", numbers).notes
    assert any("check that both mean 1 = maize, 2 = wheat" in note for note in notes)
    assert not any("Matched by id" in note for note in evaluate(tmp_path / "map.tif", made.labels).notes)
    assert not any("Matched by id" in note for note in evaluate(numbers, numbers).notes)
    with pytest.raises(LabelError, match=r"all are left out by .*, nearer than 100 pixels to it"):
        evaluate(tmp_path / "map.tif", made.labels, exclude=made.labels, buffer=100)


def test_numbers_written_as_texts_mean_the_same_ids(tmp_path: Path) -> None:
    """Texts are numbered by name, so that "7" once became id 2 and was compared with another class."""
    numbers = write_raster(tmp_path / "numbers.tif", _ids(1)[None], nodata=0)
    boxes = [(pixel_box(2, 2, 10, 10), "1"), (pixel_box(20, 20, 5, 8), "7")]
    found = evaluate(numbers, write_polygons(tmp_path / "texts.gpkg", boxes))
    assert found.accuracy.names == ("1", "2", "7")
    assert found.accuracy.n.tolist() == [100, 0, 40]
    assert found.accuracy.correct.tolist() == [
        (_ids(1)[2:12, 2:12] == 1).sum(), 0, (_ids(1)[20:25, 20:28] == 7).sum(),
    ]  # fmt: skip
    assert found.notes == ()


def test_masked_pixels_of_a_map_are_unclassified(tmp_path: Path) -> None:
    ids = np.full((HEIGHT, WIDTH), 1, np.uint8)
    ids[20:] = 2
    class_map = _write_map(tmp_path / "map.tif", ids)
    with rasterio.open(class_map, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        dataset.nodata = 2
    boxes = [(pixel_box(2, 2, 10, 10), "wheat"), (pixel_box(30, 30, 5, 8), "maize")]
    vector = write_polygons(tmp_path / "l.gpkg", boxes)
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[2:12, 2:12], truth[30:35, 30:38] = 1, 2
    for reference in (vector, _write_map(tmp_path / "truth.tif", truth)):
        assert evaluate(class_map, reference).accuracy.unclassified == 40


def test_the_classes_of_a_reference_are_remapped(tmp_path: Path) -> None:
    """A vector and a raster of five crops, against a map of cereals and others."""
    truth, crops = _ids(3, (0, 1, 2, 3, 4, 9)), {1: "wheat", 2: "rye", 3: "rape", 4: "pond"}
    table = ClassTable.from_names(["Cereals", "rape"], [5, 8])
    class_map = _write_map(tmp_path / "map.tif", np.where(_ids(4) > 1, 5, 8).astype(np.uint8), table)
    rules = tmp_path / "c.csv"
    rules.write_text("from,to,id\nwheat,cereals,5\nrye,cereals,\npond,,\nrape,rape,8\n")
    shapes = [
        (pixel_box(r, c, 1, 1), crops[int(truth[r, c])]) for r, c in np.argwhere(np.isin(truth, [1, 2, 3, 4]))
    ]
    vector = evaluate(class_map, write_polygons(tmp_path / "l.gpkg", shapes), remap=rules)
    by_number = tmp_path / "n.yaml"
    by_number.write_text("1: {name: cereals, id: 5}\n2: cereals\n4:\n9:\n3: {name: rape, id: 8}\n")
    for grid_shift in (0, 3):  # also looked up on another grid
        padded = np.pad(truth, ((grid_shift, 0), (0, 0)))
        transform = NORTH_UP @ Affine.translation(0, -grid_shift)
        raster = write_raster(tmp_path / "t.tif", padded[None], nodata=0, transform=transform)
        found = evaluate(class_map, raster, remap=by_number)
        np.testing.assert_array_equal(found.accuracy.confusion, vector.accuracy.confusion)
    new = np.array([0, 5, 5, 8, 0, 0, 0, 0, 0, 0])[truth]
    with rasterio.open(class_map) as dataset:
        expected = _expected(new, dataset.read(1), [5, 8])
    np.testing.assert_array_equal(vector.accuracy.confusion, expected)
    assert vector.accuracy.names == ("Cereals", "rape")
    assert vector.notes[0] == "Left out, as c.csv says: pond."
    with pytest.raises(InputError, match="cannot be read"):
        evaluate(class_map, raster, remap=tmp_path / "missing.csv")


@pytest.mark.shared_data
def test_a_map_of_named_fields_is_matched_by_the_ids_of_their_truth(shared_data: Path, tmp_path: Path) -> None:
    """The truth has numbers only; the fields have the same numbers beside their names."""
    folder = shared_data / "pines_like"
    grid = open_scene(folder / "scene.tif").grid
    labels = read_labels(folder / "fields.shp", grid)
    ids = np.zeros((grid.height, grid.width), np.uint8)
    ids[labels.rows, labels.cols] = np.array(labels.table.ids)[labels.classes]
    with RasterWriter(class_map_layer(tmp_path / "map.tif", labels.table, {}), grid) as writer:
        writer.write(ids, Window(row=0, col=0, height=grid.height, width=grid.width))
        writer.finalise()
    found = evaluate(tmp_path / "map.tif", folder / "truth.tif")
    assert found.accuracy.overall_accuracy == 1
    assert len(found.accuracy.names) == 16


def test_what_is_no_path_is_named_with_what_to_do(tmp_path: Path) -> None:
    array: Any = xr.DataArray(np.ones((3, 4), np.uint8), dims=("y", "x"))
    path = tmp_path / "map.tif"
    write_raster(path, np.ones((1, 3, 4), np.uint8), nodata=0)
    for call in (lambda: evaluate(array, path), lambda: sample(array, tmp_path / "p.gpkg")):
        with pytest.raises(InputError, match=r"class map is given by its path, not as DataArray: .*to_raster"):
            call()
    for call in (lambda: evaluate(path, array), lambda: evaluate(path, path, exclude=array)):
        with pytest.raises(InputError, match=r"are paths, not DataArray: write it to a file"):
            call()


def test_gdal_keeps_a_bounded_part_of_the_rasters_unless_the_user_says_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Any] = []

    def read(dataset: Any, window: Window) -> NDArray[Any]:
        kept.append(get_gdal_config("GDAL_CACHEMAX"))
        return read_window(dataset, window)

    monkeypatch.setattr("cssd_geo.files.rasters.read_window", read)
    path = write_raster(tmp_path / "map.tif", np.ones((1, 5, 7), np.uint8))
    evaluate(path, path)
    assert set(kept) == {512_000_000}
    kept.clear()
    monkeypatch.setenv("GDAL_CACHEMAX", "77000000")
    sample(path, tmp_path / "points.gpkg")
    assert kept
    assert 512_000_000 not in kept
