"""Several scenes train one model: side by side without touching, classes united, each in its own scale."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import NORTH_UP, TwoFields, coordinate_cube, pixel_box, write_polygons, write_raster, write_two_fields

import cssd_geo
from cssd_geo.classes import ClassTable
from cssd_geo.cli import main
from cssd_geo.compute.folded import MARGIN
from cssd_geo.errors import InputError, LabelError, SceneError
from cssd_geo.labels import Labels
from cssd_geo.learning.labelled_pixels import read_labelled_pixels
from cssd_geo.learning.labelled_scenes import LabelledScene, LabelledScenes, labels_within, unite
from cssd_geo.learning.windows import read_windows
from cssd_geo.options import LARGEST_WINDOW, TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.scenes.scene import Scene
from cssd_geo.training import train

QUICK = TrainingOptions(epochs=6, batch_size=16, window=4, windows_per_class=24, baseline=False)
SIZES = ((7, 11), (9, 5), (6, 8))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    """Scenes of other sizes, values, scales and nodata holes; reflectance says scene, row and column."""
    folder = tmp_path_factory.mktemp("three")
    scenes = []
    for i, (height, width) in enumerate(SIZES):
        cube = coordinate_cube(2, height, width) + 100_000 * i
        cube[:, 2, 1:3] = -i - 1
        place = NORTH_UP @ Affine.translation(1000 * i, 0)
        path = write_raster(folder / f"s{i}.tif", cube, nodata=-i - 1, transform=place)
        with rasterio.open(path, "r+") as dataset:
            dataset.scales, dataset.offsets = (0.5 + i, 0.5 + i), (10.0 * i, 10.0 * i)
        scenes.append(open_scene(path))
    return scenes


def _labels(
    pixels: list[tuple[int, int]], names: list[str], ids: list[int] | None = None, **changes: Any
) -> Labels:
    rows, cols = np.array(pixels, np.int64).reshape(-1, 2).T
    table = ClassTable.from_names(names, ids)
    classes = np.arange(len(rows)) % len(names)
    labels = Labels(
        rows=rows, cols=cols, classes=classes, polygons=classes, table=table, ids_given=ids is not None
    )
    return replace(labels, **changes)


def _members(scenes: list[Scene], *labels: Labels) -> list[LabelledScene]:
    return [LabelledScene(scene=scene, labels=each) for scene, each in zip(scenes, labels, strict=True)]


PIXELS = [
    st.lists(st.tuples(st.integers(0, h - 1), st.integers(0, w - 1)), min_size=1, max_size=6, unique=True)
    for h, w in SIZES
]


# Pixels


@settings(max_examples=40, deadline=None)
@given(pixels=st.tuples(*PIXELS), reach=st.integers(0, 9), seed=st.integers(0, 99))
def test_windows_of_all_scenes_are_those_of_each_scene_in_reflectance(
    three: list[Scene], pixels: tuple[list[tuple[int, int]], ...], reach: int, seed: int
) -> None:
    joined, _ = unite(_members(three, *(_labels(p, ["a"]) for p in pixels)))
    order = np.random.default_rng(seed).permutation(len(joined.labels))
    labels = joined.labels.select(order)
    values, lookup = joined.read_windows(labels, reach)
    origin = [(i, row, col) for i, places in enumerate(pixels) for row, col in places]
    for n, k in enumerate(order):
        i, row, col = origin[k]
        scene = three[i]
        alone = read_windows(scene, np.array([row]), np.array([col]), np.array([0, 1]), reach)
        np.testing.assert_array_equal(lookup[n] > 0, alone.lookup[0] > 0)
        stored = alone.values[alone.lookup[0]] * scene.scale + scene.offset
        np.testing.assert_array_equal(values[lookup[n]], np.where(alone.lookup[0][..., None] > 0, stored, 0))
    assert not values[:1].any()


@given(pixels=st.tuples(*PIXELS))
def test_scenes_lie_side_by_side_farther_apart_than_any_window(
    three: list[Scene], pixels: tuple[list[tuple[int, int]], ...]
) -> None:
    joined, _ = unite(_members(three, *(_labels(p, ["a"]) for p in pixels)))
    owner = np.concatenate([np.full(len(p), i) for i, p in enumerate(pixels)])
    found = np.full(len(owner), -1)
    for scene, chosen, cols in joined.by_scene(joined.labels.cols):
        i = three.index(scene)
        found[chosen] = i
        assert list(zip(joined.labels.rows[chosen].tolist(), cols.tolist(), strict=True)) == pixels[i]
    np.testing.assert_array_equal(found, owner)
    apart = np.abs(joined.labels.cols[:, None] - joined.labels.cols)[owner[:, None] != owner]
    assert apart.min() > LARGEST_WINDOW + 2 * MARGIN, "no buffer reaches from scene to scene"
    assert len(np.unique(joined.labels.polygons)) == len(pixels), "polygons of two scenes are two polygons"


def test_one_scene_is_the_plane(three: list[Scene]) -> None:
    labels = _labels([(0, 3), (4, 4)], ["b", "a"], [9, 12])
    joined, notes = unite(_members(three[:1], labels))
    assert notes == ()
    assert joined.members[0].scene is three[0]
    assert joined.labels.table is labels.table
    for name in ("rows", "cols", "classes", "polygons"):
        np.testing.assert_array_equal(getattr(joined.labels, name), getattr(labels, name))


def test_pixels_and_bands_without_data_are_left_out(tmp_path: Path, three: list[Scene]) -> None:
    cube = coordinate_cube(2, 9, 5) + 1000
    cube[1] = -2
    empty = open_scene(write_raster(tmp_path / "e.tif", cube, nodata=-2))
    labels = _labels([(0, 0), (2, 1), (4, 4)], ["a", "b"], classes=np.array([0, 1, 1]))
    joined, _ = unite(_members([three[0], empty], labels, labels))
    kept, spectra, notes = read_labelled_pixels(joined)
    assert notes == (
        "Bands without data at the labelled pixels were dropped: 2.",
        "1 of 6 labelled pixels are nodata in the scene and were left out.",
    )
    assert kept.bands.good == (True, False)
    assert {member.scene.bands.good for member in kept.members} == {(True, False)}
    assert spectra[:].tolist() == [[0], [2002], [1000], [3001], [5004]]
    assert spectra.of_bands(slice(0, 1)).tolist() == spectra[:].tolist()
    assert spectra.select([3, 1])[1:].tolist() == [[2002]]
    nowhere = open_scene(write_raster(tmp_path / "n.tif", np.full_like(cube, -2), nodata=-2))
    with pytest.raises(LabelError, match=r"all labelled pixels of n\.tif are nodata in every band"):
        read_labelled_pixels(unite(_members([three[0], nowhere], labels, labels))[0])


def test_labelled_pixels_and_windows_are_held_as_they_are_stored(tmp_path: Path) -> None:
    """Scenes may be labelled as a whole: millions of pixels, with hundreds of bands each."""
    scene = open_scene(write_raster(tmp_path / "s.tif", coordinate_cube(50, 60, 70).astype(np.uint16)))
    places = [(row, col) for row in range(60) for col in range(70)]
    joined, _ = unite(_members([scene], _labels(places, ["a", "b"], classes=np.arange(4200) % 2)))
    assert _peak(lambda: read_labelled_pixels(joined)) < 10 * 4200 * 50
    few = joined.labels.select(np.arange(0, 4200, 40))
    assert _peak(lambda: joined.read_windows(few, 8)) < 8 * 4200 * 50 + 60 * len(few) * 17 * 17


def _peak(work: Callable[[], object]) -> int:
    """Bytes that some work has in memory at a time."""
    work()  # what stays from the first time does not count
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_band_that_is_stuck_in_one_scene_is_dropped_in_all(tmp_path: Path, three: list[Scene]) -> None:
    labels = _labels([(0, 0), (4, 4)], ["a", "b"])
    cube = coordinate_cube(2, 9, 5) + 1000
    cube[1] = 1_000_000
    stuck = open_scene(write_raster(tmp_path / "e.tif", cube))
    kept, spectra, notes = read_labelled_pixels(unite(_members([three[0], stuck], labels, labels))[0])
    assert notes == ("Bands with one value at all labelled pixels were dropped: 2.",)
    assert spectra.shape == (4, 1)
    one = labels.select(np.array([0]))
    kept, _, notes = read_labelled_pixels(unite(_members([three[0], stuck], labels, one))[0])
    assert kept.bands.good == (True, True), "one pixel in a scene says nothing of bands"
    assert notes == ()


def test_bands_with_one_value_at_nearly_all_labelled_pixels_are_dropped(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    cube = random.integers(1, 1000, (4, 12, 30))
    classes = np.arange(12 * 30).reshape(12, 30) // 120
    cube[1] = np.where(random.random((12, 30)) < 0.05, cube[1], 0)  # as corrected bands without light are
    cube[2] = np.where(classes == 2, 7, 0)  # one class in three, and as clear as can be
    cube[3] = np.where(random.random((12, 30)) < 0.3, cube[3], 0)
    scene = open_scene(write_raster(tmp_path / "s.tif", cube.astype(np.int16)))
    places = [(int(row), int(col)) for row, col in np.argwhere(classes >= 0)]
    labels = replace(_labels(places, ["a", "b", "c"]), classes=classes.ravel())
    kept, spectra, notes = read_labelled_pixels(unite(_members([scene], labels))[0])
    assert notes == ("Bands with one value at nearly all labelled pixels were dropped: 2.",)
    assert kept.bands.good == (True, False, True, True)
    assert spectra.shape == (360, 3)
    holed = np.where(random.random((12, 30)) < 0.6, -1, cube)  # most pixels are nodata
    holed = np.concatenate([holed, np.full((1, 12, 30), 5)])
    scene = open_scene(write_raster(tmp_path / "h.tif", holed.astype(np.int16), nodata=-1))
    kept, _, again = read_labelled_pixels(unite(_members([scene], labels))[0])
    assert again[:2] == ("Bands with one value at all labelled pixels were dropped: 5.", notes[0])
    assert kept.bands.good == (True, False, True, True, False)
    only = open_scene(write_raster(tmp_path / "o.tif", cube[1:2].astype(np.int16)))
    kept, _, notes = read_labelled_pixels(unite(_members([only], labels))[0])
    assert notes == (), "better than no band at all"
    assert kept.bands.good == (True,)


# Bands


def _with(scene: Scene, **changes: Any) -> Scene:
    return replace(scene, bands=replace(scene.bands, **changes))


def test_bands_that_are_bad_in_one_scene_are_bad_in_all(three: list[Scene]) -> None:
    labels = _labels([(0, 0), (1, 1)], ["a", "b"])
    bad = _with(three[1], good=(False, True))
    joined, notes = unite(_members([three[0], bad], labels, labels))
    assert {member.scene.bands.good for member in joined.members} == {(False, True)}
    assert notes == ("Bands that are bad in one of the scenes were dropped in all: 1.",)
    with pytest.raises(SceneError, match="no band is good in all of the scenes"):
        unite(_members([bad, _with(three[0], good=(True, False))], labels, labels))


def test_bands_are_told_by_their_numbers_in_the_file(three: list[Scene]) -> None:
    labels = _labels([(0, 0), (1, 1)], ["a", "b"])
    chosen = [
        replace(_with(scene, wavelength_nm=(500.0, 600.0)), band_numbers=np.array([7, 9])) for scene in three
    ]
    _, notes = unite(_members([chosen[0], _with(chosen[1], good=(True, False))], labels, labels))
    assert notes == ("Bands that are bad in one of the scenes were dropped in all: 9.",)
    with pytest.raises(SceneError, match=r"first band 9 at 602.5 nm"):
        unite(_members([chosen[0], _with(chosen[1], wavelength_nm=(500.0, 602.5))], labels, labels))


def test_scenes_of_another_sensor_are_refused(tmp_path: Path, three: list[Scene]) -> None:
    labels = _labels([(0, 0), (1, 1)], ["a", "b"])
    other = open_scene(write_raster(tmp_path / "o.tif", coordinate_cube(3, 5, 6)))
    with pytest.raises(SceneError, match=r"o\.tif has 3 bands but s0\.tif has 2"):
        unite(_members([three[0], other], labels, labels))
    first = _with(three[0], wavelength_nm=(500.0, 600.0))
    near = _with(three[1], wavelength_nm=(501.9, 598.1))
    unite(_members([first, near], labels, labels))
    far = _with(three[1], wavelength_nm=(501.9, 602.5))
    with pytest.raises(SceneError, match=r"1 of 2 bands lie elsewhere .* first band 2 at 602.5 nm, not 600.0 nm"):
        unite(_members([first, far], labels, labels))
    unite(_members([first, _with(far, good=(True, False))], labels, labels))


def test_bands_that_are_matched_by_position_alone_are_told(three: list[Scene]) -> None:
    labels = _labels([(0, 0), (1, 1)], ["a", "b"])
    known = _with(three[0], wavelength_nm=(500.0, 600.0))
    note = "Bands of s1.tif, which has no wavelengths, were taken for those of s0.tif by their position."
    assert unite(_members([known, three[1]], labels, labels))[1] == (note,)
    note = "Bands of s0.tif, which has no wavelengths, were taken for those of s1.tif by their position."
    assert unite(_members([three[0], _with(three[1], wavelength_nm=(500.0, 600.0))], labels, labels))[1] == (note,)
    assert unite(_members(three[:2], labels, labels))[1] == ()


def test_scenes_in_other_units_are_refused(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        cube, profile = dataset.read(), dataset.profile
    valid = cube != -9999
    fractions = np.where(valid, cube / 10_000, -9999).astype(np.float32)
    other = write_raster(tmp_path / "fractions.tif", fractions, nodata=-9999, transform=profile["transform"])
    with pytest.raises(SceneError, match=r"values of fractions\.tif are 0.0001 times those of two_fields\.tif"):
        train([(made.scene, made.labels), (other, made.labels)], options=QUICK)


# Classes and polygons


def _united(*labels: Labels, scenes: list[Scene]) -> tuple[LabelledScenes, tuple[str, ...]]:
    return unite(_members(scenes[: len(labels)], *labels))


def test_classes_are_united_by_name(three: list[Scene]) -> None:
    two = [(0, 0), (0, 1)]
    joined, notes = _united(
        _labels(two, ["wheat", "maize"]),
        _labels(two, ["barley", "Wheat "]),
        _labels(two, ["maize", "oats"]),
        scenes=three,
    )
    table = joined.labels.table
    assert (table.names, table.ids) == (("barley", "maize", "oats", "wheat"), (1, 2, 3, 4))
    assert [table.names[k] for k in joined.labels.classes] == [
        "wheat",
        "maize",
        "barley",
        "wheat",
        "maize",
        "oats",
    ]
    assert notes == ()


def test_given_ids_are_kept_where_they_agree(three: list[Scene]) -> None:
    two = [(0, 0), (0, 1)]
    agree = _labels(two, ["wheat", "maize"], [5, 9]), _labels(two, ["wheat", "oats"], [5, 7])
    joined, notes = _united(*agree, _labels(two, ["maize", "rye"]), scenes=three)
    table = joined.labels.table
    assert dict(zip(table.names, table.ids, strict=True)) == {"rye": 1, "wheat": 5, "oats": 7, "maize": 9}
    assert notes == ()
    assert joined.labels.ids_given


@pytest.mark.parametrize(("names", "ids"), [(["wheat", "oats"], [6, 7]), (["rye", "oats"], [5, 7])])
def test_ids_that_contradict_each_other_are_renumbered_and_told(
    three: list[Scene], names: list[str], ids: list[int]
) -> None:
    two = [(0, 0), (0, 1)]
    joined, notes = _united(_labels(two, ["wheat", "maize"], [5, 9]), _labels(two, names, ids), scenes=three)
    expected = sorted({"wheat", "maize", *names})
    assert joined.labels.table.names == tuple(expected)
    assert joined.labels.table.ids == tuple(range(1, len(expected) + 1))
    assert len(notes) == 1
    assert "number their classes differently" in notes[0]
    assert f"1 = {expected[0]}" in notes[0]


def test_numbers_alone_get_the_names_that_another_file_gives_them(three: list[Scene]) -> None:
    two = [(0, 0), (0, 1)]
    named, numbers = _labels(two, ["wheat", "maize"], [5, 9]), _labels(two, ["5", "12"], [5, 12])
    joined, notes = _united(numbers, named, named, scenes=three)
    assert joined.labels.table.names == ("wheat", "maize", "12")
    assert joined.labels.table.ids == (5, 9, 12)
    assert [joined.labels.table.names[k] for k in joined.labels.classes[:2]] == ["wheat", "12"]
    assert notes == (
        "Classes that only have numbers were matched by them: check that they mean 5 = wheat, 9 = maize.",
    )


@pytest.mark.parametrize(
    "names", [[["wheat", "maize"], ["oats", "rye"]], [["wheat", "maize"], ["maize", "wheat"]]]
)
def test_numbers_that_no_file_relates_to_names_are_refused(three: list[Scene], names: list[list[str]]) -> None:
    two = [(0, 0), (0, 1)]
    ids = None if "oats" in names[1] else [5, 9]
    files = [_labels(two, each, ids) for each in names]
    with pytest.raises(LabelError, match=r"only numbers for their classes \(1, 2\), others names \(wheat"):
        _united(_labels(two, ["1", "2"], [1, 2]), *files, scenes=three)


def test_polygons_of_one_file_are_held_out_together(tmp_path: Path) -> None:
    """Two dates of one place: a field that trains at one date must not test at the other."""
    made, later = write_two_fields(tmp_path), tmp_path / "later"
    later.mkdir()
    again = write_two_fields(later, seed=1)
    members = [
        LabelledScene(scene=open_scene(s), labels=_read(s, made.labels), path=made.labels)
        for s in (made.scene, again.scene)
    ]
    joined, notes = unite(members)
    assert notes == ("labels.gpkg labels several scenes: a polygon is held out in all of them together.",)
    assert len(np.unique(joined.labels.polygons)) == 6
    copied, notes = unite([members[0], replace(members[1], path=tmp_path / "copy.gpkg")])
    assert len(notes) == 1
    assert notes[0].startswith("two_fields.tif and two_fields.tif show the same place in part")
    assert len(np.unique(copied.labels.polygons)) == 12


def test_polygons_of_several_files_stay_apart_whichever_scenes_they_label(three: list[Scene]) -> None:
    """Of a file that labels several scenes, the last may show polygons that the first does not."""
    polygons = ([0, 1], [0, 1, 2, 3], [2, 3, 4])
    files = (Path("a.gpkg"), Path("b.gpkg"), Path("a.gpkg").resolve())
    members = [
        LabelledScene(
            scene=scene,
            labels=_labels([(0, col) for col in range(len(own))], ["a"], polygons=np.array(own)),
            path=path,
        )
        for scene, own, path in zip(three, polygons, files, strict=True)
    ]
    joined, _ = unite(members)
    pairs = [(path.name, i) for path, own in zip(files, polygons, strict=True) for i in own]
    expected = np.unique(pairs, axis=0, return_inverse=True)[1]
    same = joined.labels.polygons[:, None] == joined.labels.polygons
    np.testing.assert_array_equal(same, expected[:, None] == expected)
    made_here, _ = unite([replace(member, path=None) for member in members])
    assert len(np.unique(made_here.labels.polygons)) == sum(map(len, polygons))


def test_one_file_named_in_two_ways_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_two_fields(tmp_path)
    monkeypatch.chdir(tmp_path)
    labels = _read(made.scene, made.labels)
    members = [
        LabelledScene(scene=open_scene(made.scene), labels=labels, path=path)
        for path in (made.labels, Path(made.labels.name))
    ]
    assert unite(members)[1] == (
        "labels.gpkg labels several scenes: a polygon is held out in all of them together.",
    )


def _read(scene: Path, labels: Path) -> Labels:
    return cssd_geo.label_files.read_labels(labels, open_scene(scene).grid)


# All the way


@pytest.fixture
def apart(tmp_path: Path) -> tuple[TwoFields, Path, Path]:
    """Two fields of maize in one scene and two of wheat in another: stored in other numbers, at another place."""
    made = write_two_fields(tmp_path)
    with rasterio.open(made.scene) as dataset:
        cube = dataset.read()
    stored = np.where(cube == -9999, 65535, 2 * cube.astype(np.int32) + 500).astype(np.uint16)
    transform = NORTH_UP @ Affine.translation(1000, 0)
    other = write_raster(tmp_path / "other.tif", stored, nodata=65535, transform=transform)
    with rasterio.open(other, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5,) * 12, (-250.0,) * 12
    place = transform
    boxes = [(5, 8, "maize"), (35, 38, "maize"), (5, 38, "wheat"), (35, 68, "wheat")]
    here = [(pixel_box(r, c, 12, 14), name) for r, c, name in boxes if name == "maize"]
    there = [(pixel_box(r, c, 12, 14, place), name) for r, c, name in boxes if name == "wheat"]
    write_polygons(tmp_path / "here.gpkg", here, field="crop")
    write_polygons(tmp_path / "there.gpkg", there, field="crop")
    return made, tmp_path, other


def test_a_model_learns_one_class_from_each_scene(apart: tuple[TwoFields, Path, Path]) -> None:
    made, folder, other = apart
    pairs = [(made.scene, folder / "here.gpkg"), (other, folder / "there.gpkg")]
    trained = train(pairs, None, folder / "m.safetensors", class_field="crop", options=QUICK)
    assert trained.hold_out is not None
    assert trained.hold_out.map.overall_accuracy > 0.95
    assert trained.model.classes.names == ("maize", "wheat")
    for scene in (made.scene, other):
        cssd_geo.classify(scene, trained.model, folder / f"map_{scene.stem}.tif")
        with rasterio.open(folder / f"map_{scene.stem}.tif") as dataset:
            found = dataset.read(1)
        assert ((found == 0) == (made.truth == 0)).all()
        assert (found == made.truth)[made.truth > 0].mean() > 0.95
    sources = trained.model.provenance["scenes"]
    assert [source["scene"]["name"] for source in sources] == ["two_fields.tif", "other.tif"]
    assert [source["labels"]["name"] for source in sources] == ["here.gpkg", "there.gpkg"]
    assert trained.model.provenance["scene"]["name"] == "two_fields.tif, other.tif"


def test_a_scene_stored_in_other_numbers_is_the_same_to_training(apart: tuple[TwoFields, Path, Path]) -> None:
    made, folder, _ = apart
    with rasterio.open(made.scene) as dataset:
        cube, profile = dataset.read(), dataset.profile
    stored = np.where(cube == -9999, 65535, 2 * cube.astype(np.int32) + 500).astype(np.uint16)
    same = write_raster(folder / "same.tif", stored, nodata=65535, transform=profile["transform"])
    with rasterio.open(same, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.5,) * 12, (-250.0,) * 12
    options = replace(QUICK, epochs=2, windows_per_class=8)
    one, other = [train(pair, options=options).model for pair in (
        [(made.scene, made.labels), (made.scene, made.labels)], [(made.scene, made.labels), (same, made.labels)]
    )]  # fmt: skip
    assert one.calibration.spectral == pytest.approx(other.calibration.spectral, rel=1e-6), "but for rounding"
    assert one.digest() == replace(other, calibration=one.calibration).digest()


def test_a_list_of_one_pair_is_the_pair(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    options = replace(QUICK, epochs=1, windows_per_class=8)
    one, listed = (
        t.model
        for t in (
            train(made.scene, made.labels, options=options),
            train([(made.scene, made.labels)], options=options),
        )
    )
    assert one.digest() == listed.digest()
    assert one.provenance == listed.provenance


def test_pairs_that_are_none_are_refused(tmp_path: Path) -> None:
    made = write_two_fields(tmp_path)
    wrong: list[Any] = [[], [made.scene], [(made.scene,)], [(made.scene, made.labels, 3)]]
    for pairs in wrong:
        with pytest.raises(InputError, match=r"several are given as \[\(scene, labels\)"):
            train(pairs, options=QUICK)
    with pytest.raises(InputError, match="without further labels"):
        train([(made.scene, made.labels)], made.labels, options=QUICK)
    with pytest.raises(InputError, match=r"two_fields\.tif has no labels"):
        train(made.scene, options=QUICK)
    with pytest.raises(InputError, match="a scene is a path, or what open_scene or scene_of_array gives"):
        train(open_scene(made.scene).cube, made.labels, options=QUICK)
    frame: Any = {"geometry": []}
    with pytest.raises(InputError, match="labels are a path, or Labels, not dict: write them to a file"):
        train(made.scene, frame, options=QUICK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": [0, 7]}, "rows must be from 0 to 6, not 0 to 7: were they read for another scene"),
        ({"cols": [-1, 2]}, "cols must be from 0 to 10, not -1 to 2"),
        ({"classes": [0, 2]}, "classes must be from 0 to 1, not 0 to 2"),
        ({"polygons": [0]}, "polygons must be 2 whole numbers"),
        ({"cols": [1.0, 2.0]}, "cols must be 2 whole numbers, .* not float64"),
        ({"rows": [1, 1], "cols": [2, 2]}, "1 pixels are there more than once"),
    ],
)
def test_labels_that_are_not_those_of_the_scene_are_refused(
    three: list[Scene], changes: dict[str, Any], message: str
) -> None:
    labels = replace(_labels([(0, 0), (1, 1)], ["a", "b"]), **changes)
    with pytest.raises(LabelError, match=message):
        train(three[0], labels, options=QUICK)


def test_labels_may_be_whole_numbers_of_any_type(three: list[Scene]) -> None:
    labels = _labels([(0, 0), (1, 10)], ["a", "b"])
    rows, classes = [0, 1], labels.classes.astype(np.uint8)
    found = labels_within(replace(labels, rows=rows, classes=classes), three[0].grid)  # type: ignore[arg-type]
    for name in ("rows", "cols", "classes", "polygons"):
        np.testing.assert_array_equal(getattr(found, name), getattr(labels, name), strict=True)


# The command line


def _call(*words: Any) -> Any:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_takes_pairs_and_a_remapping(apart: tuple[TwoFields, Path, Path]) -> None:
    """Each label file may have some of the classes that are remapped, or none."""
    made, folder, other = apart
    (folder / "c.csv").write_text("from;to;id\nmaize;Mais;7\nrye;Roggen;8\n")
    done = _call(
        "train", made.scene, folder / "here.gpkg", other, folder / "there.gpkg", "-o", folder / "m.safetensors",
        "--classes", folder / "c.csv", "--epochs", 2, "--windows-per-class", 8, "--no-baseline",
        "--class-field", "crop",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "* Scene 1, two_fields.tif: In c.csv, but no class of the labels: rye." in done.output
    assert "* Scene 2, other.tif: Not in c.csv and kept as they are: wheat." in done.output
    facts = json.loads(_call("info", folder / "m.safetensors", "--json").output)["header"]
    assert {i: text.split(" (")[0] for i, text in facts["classes"].items()} == {"1": "wheat", "7": "Mais"}
    assert len(facts["provenance"]["scenes"]) == 2
    done = _call(
        "train", other, folder / "there.gpkg", "-o", folder / "n.safetensors", "--classes", folder / "c.csv",
        "--class-field", "crop",
    )  # fmt: skip
    assert done.exit_code == 4
    assert "c.csv has none of the classes wheat, but maize, rye" in done.output


def test_an_odd_number_of_paths_is_explained(tmp_path: Path) -> None:
    done = _call("train", "a.tif", "a.shp", "b.tif", "-o", tmp_path / "m.safetensors")
    assert done.exit_code == 2
    assert (
        "b.tif has no labels: name each scene and then its labels, SCENE LABELS [SCENE LABELS]..." in done.output
    )
