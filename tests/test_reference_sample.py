"""Samples of maps: drawn at random within classes, whatever the parts; labelled, they tell the true areas."""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.crs import CRS
from scenes import NORTH_UP, ROTATED, control_points, fill_sample, write_raster

from cssd_geo import reference_sample
from cssd_geo.accuracy.areas import AreaEstimates
from cssd_geo.accuracy.matching import NONE_OF_THESE
from cssd_geo.accuracy.metrics import Accuracy, confusion_matrix
from cssd_geo.classes import ClassTable
from cssd_geo.errors import InputError, LabelError, OutputError, SceneError
from cssd_geo.evaluation import Evaluation, evaluate
from cssd_geo.maps import class_rasters
from cssd_geo.maps.layer import CLASSES_TAG
from cssd_geo.reference_sample import ReferenceSample, sample

HEIGHT, WIDTH = 90, 130
NAMES = {1: "1", 2: "2", 7: "7"}
CROPS = {i: f"crop '{i}'" for i in NAMES}
NAMED = {CLASSES_TAG: json.dumps([{"id": i, "name": name, "colour": [i, 0, 0]} for i, name in CROPS.items()])}


def _truth() -> NDArray[np.uint8]:
    """(y, x) three classes in stripes, one of them rare; a corner without data."""
    truth = np.repeat(np.array([1, 2, 7], np.uint8), [40, 83, 7])[None].repeat(HEIGHT, axis=0)
    truth[:9, :20] = 0
    return truth


def _mapped(seed: int) -> NDArray[np.uint8]:
    """A map of the truth with a tenth of its pixels wrong; more of class 2 becomes 1 than the other way round."""
    random, truth = np.random.default_rng(seed), _truth()
    wrong = random.random(truth.shape) < np.array([0, 0.05, 0.15, 0, 0, 0, 0, 0.2])[truth]
    other = np.array([0, 2, 1, 0, 0, 0, 0, 2], np.uint8)[truth]
    return np.where(wrong, other, truth)


def _write(path: Path, ids: NDArray[Any], **options: Any) -> Path:
    return write_raster(path, ids[None], nodata=0, **options)


def _write_named(path: Path, ids: NDArray[Any]) -> Path:
    with rasterio.open(_write(path, ids), "r+") as dataset:
        dataset.update_tags(**NAMED)
    return path


def _fields(path: Path) -> dict[str, NDArray[Any]]:
    meta, _, _, columns = pyogrio.raw.read(path)
    return dict(zip(meta["fields"].tolist(), columns, strict=True))


def _evaluated(folder: Path, class_map: Path, seed: int, **options: Any) -> Evaluation:
    drawn = sample(class_map, folder / f"{seed}.gpkg", seed=seed, **options)
    return evaluate(class_map, fill_sample(drawn.output, NAMES, _truth()), stratified=True)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), part=st.sampled_from([2048, 16, 23]), size=st.integers(60, 400))
def test_points_are_pixels_of_their_class_each_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int, part: int, size: int
) -> None:
    folder, mapped = tmp_path_factory.mktemp("sample"), _mapped(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_rasters, "_STEP", part)
        drawn = sample(
            _write(folder / "map.tif", mapped), folder / "p.gpkg", size=size, seed=seed, per_class_least=20
        )
    fields = _fields(folder / "p.gpkg")
    assert list(fields) == ["id", "row", "col", "map_id", "map_name", "class_name"]
    np.testing.assert_array_equal(fields["id"], np.arange(1, size + 1))
    rows, cols = fields["row"], fields["col"]
    np.testing.assert_array_equal((rows, cols), (drawn.rows, drawn.cols))
    assert len(set(zip(rows.tolist(), cols.tolist(), strict=True))) == size
    np.testing.assert_array_equal(mapped[rows, cols], fields["map_id"])
    assert [NAMES[i] for i in fields["map_id"].tolist()] == fields["map_name"].tolist()
    assert not any(fields["class_name"])
    ids = np.array(drawn.classes.ids)
    np.testing.assert_array_equal(drawn.mapped_pixels, (mapped.ravel()[:, None] == ids).sum(0))
    np.testing.assert_array_equal(drawn.samples, (fields["map_id"][:, None] == ids).sum(0))


def test_gis_programs_offer_the_classes_to_choose_from(tmp_path: Path) -> None:
    class_map, path = _write_named(tmp_path / "map.tif", _mapped(0)), tmp_path / "the points.gpkg"
    sample(class_map, path, size=150)
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT table_name, column_name, value, listed.description FROM gpkg_data_columns "
            "JOIN gpkg_data_column_constraints listed USING (constraint_name) WHERE constraint_type = 'enum'"
        ).fetchall()
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert rows == [("the points", "class_name", name, name) for name in (*CROPS.values(), NONE_OF_THESE)]
    if (ogrinfo := shutil.which("ogrinfo")) is not None:
        command = [ogrinfo, "-so", str(path), "the points"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert "class_name: String (0.0), domain name=class_name" in text


def test_pixels_of_none_of_the_classes_are_errors_with_an_area(tmp_path: Path) -> None:
    truth = _truth()
    truth[40:60, 20:60] = 9
    class_map = _write_named(tmp_path / "map.tif", _mapped(0))
    drawn = sample(class_map, tmp_path / "p.gpkg", size=800)
    reference = fill_sample(drawn.output, CROPS | {9: NONE_OF_THESE}, truth)
    found = evaluate(class_map, reference, stratified=True)
    assert found.areas is not None
    assert found.areas.accuracy.names == (*CROPS.values(), NONE_OF_THESE)
    area, half_width = found.areas.area.value[-1], found.areas.area.half_width[-1]
    assert abs(area / found.areas.pixel_area - 20 * 40) < 1.5 * half_width / found.areas.pixel_area


def test_numbers_and_none_of_these_are_labels_of_a_map_without_names(tmp_path: Path) -> None:
    truth, numbers = _truth(), {i: str(i) for i in CROPS}
    truth[40:60, 20:60] = 9
    drawn = sample(_write(tmp_path / "map.tif", _mapped(0)), tmp_path / "p.gpkg", size=800)
    found = evaluate(
        tmp_path / "map.tif", fill_sample(drawn.output, numbers | {9: NONE_OF_THESE}, truth), stratified=True
    )
    named = sample(_write_named(tmp_path / "named.tif", _mapped(0)), tmp_path / "n.gpkg", size=800)
    other = evaluate(
        tmp_path / "named.tif", fill_sample(named.output, CROPS | {9: NONE_OF_THESE}, truth), stratified=True
    )
    np.testing.assert_array_equal(found.accuracy.confusion, other.accuracy.confusion)
    assert found.accuracy.names == (*numbers.values(), NONE_OF_THESE)


@pytest.mark.parametrize("name", ["gpkg_points", "(1)", "#1", "-x", "sqlite_x", "ä ö"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    drawn = sample(_write_named(tmp_path / "map.tif", _mapped(0)), tmp_path / f"{name}.gpkg", size=150)
    assert len(pyogrio.raw.read(drawn.output)[2]) == 150


@pytest.mark.parametrize("option", ["seed", "size", "per_class_least"])
@pytest.mark.parametrize("value", ["5", 2.5, True])
def test_numbers_are_whole(tmp_path: Path, option: str, value: Any) -> None:
    class_map = _write_named(tmp_path / "map.tif", _mapped(0))
    with pytest.raises(InputError, match=f"{option} must be a whole number, not {value!r}"):
        sample(class_map, tmp_path / "p.gpkg", **{option: value})


def test_every_pixel_of_a_class_is_as_likely(tmp_path: Path) -> None:
    mapped, counts = _mapped(0), np.zeros((HEIGHT, WIDTH), np.int64)
    class_map = _write(tmp_path / "map.tif", mapped)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_rasters, "_STEP", 32)
        patch.setattr(reference_sample, "write_whole", lambda *_: None)
        for seed in range(60):
            drawn = sample(class_map, tmp_path / "p.gpkg", size=2000, seed=seed)
            counts[drawn.rows, drawn.cols] += 1
    assert not counts[mapped == 0].any()
    for value, n in zip(drawn.classes.ids, drawn.samples, strict=True):
        times, rate = counts[mapped == value], n / (mapped == value).sum()
        assert times.mean() == pytest.approx(60 * rate)
        assert times.var() == pytest.approx(60 * rate * (1 - rate), rel=0.15), "as independent draws vary"
        top, bottom = (counts[half][mapped[half] == value].mean() for half in (np.s_[:45], np.s_[45:]))
        assert top == pytest.approx(bottom, rel=0.15)


def test_the_order_tells_nothing_of_the_class_and_the_seed_everything(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    first, again, other = (
        sample(class_map, tmp_path / f"{i}.gpkg", size=600, seed=seed) for i, seed in enumerate((5, 5, 6))
    )
    np.testing.assert_array_equal((first.rows, first.cols), (again.rows, again.cols))
    assert not np.array_equal(first.rows, other.rows)
    ids = _fields(first.output)["map_id"]
    assert abs(np.corrcoef(np.arange(600), ids)[0, 1]) < 0.15
    assert abs(np.corrcoef(np.arange(600), first.rows)[0, 1]) < 0.15


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transform": ROTATED},
        {"crs": CRS.from_epsg(4326), "transform": Affine(0.0003, 0, 13.5, 0, -0.0002, 52.3)},
        {"crs": None},
        {"crs": CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1]]')},
        {"gcps": control_points(NORTH_UP, HEIGHT, WIDTH), "transform": None},
    ],
)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform", "ignore:'crs' was not provided")
def test_points_come_back_to_their_pixels(tmp_path: Path, options: dict[str, Any]) -> None:
    if options.get("crs", 0) is None:
        options = options | {"transform": None}
    class_map = _write(tmp_path / "map.tif", _mapped(0), **options)
    found = _evaluated(tmp_path, class_map, 1, size=300)
    assert found.accuracy.total == 300
    ids, mapped = np.array([1, 2, 7]), _mapped(0)
    fields = _fields(tmp_path / "1.gpkg")
    truth = _truth()[fields["row"], fields["col"]]
    expected = [[np.sum((truth == t) & (fields["map_id"] == m)) for m in ids] for t in ids]
    np.testing.assert_array_equal(found.accuracy.confusion[:, :-1], expected)
    assert found.areas is not None
    np.testing.assert_array_equal(found.areas.mapped_pixels, [(mapped == i).sum() for i in ids])
    projected = "crs" not in options and "gcps" not in options
    assert found.areas.unit == ("ha" if projected else "pixels")
    assert found.areas.pixel_area == pytest.approx(0.09 if projected else 1)
    assert any("Areas are in pixels" in note for note in found.notes) == (not projected)


def test_the_whole_way_gives_intervals_that_hold_the_true_areas(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    true = [(_truth() == i).sum() * 0.09 for i in NAMES]
    inside = []
    for seed in range(8):
        found = _evaluated(tmp_path, class_map, seed, size=300).areas
        assert found is not None
        inside.append(abs(found.area.value - true) <= found.area.half_width)
    assert np.mean(inside) >= 0.8


def test_over_many_samples_areas_are_not_biased_and_intervals_hold_what_they_say(tmp_path: Path) -> None:
    mapped, truth, ids = _mapped(0), _truth(), [1, 2, 7]
    class_map = _write(tmp_path / "map.tif", mapped)
    true = np.array([*((truth == i).sum() for i in ids), (mapped == truth)[truth > 0].mean()])
    values, errors = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_sample, "write_whole", lambda *_: None)
        for seed in range(100):
            drawn = sample(class_map, tmp_path / "p.gpkg", size=900, seed=seed)
            is_, seems = (np.searchsorted(ids, raster[drawn.rows, drawn.cols]) for raster in (truth, mapped))
            accuracy = Accuracy(confusion=confusion_matrix(is_, seems, 3), names=("1", "2", "7"))
            found = AreaEstimates(accuracy=accuracy, mapped_pixels=drawn.mapped_pixels)
            both = (found.area, found.overall_accuracy)
            values.append(np.hstack([estimate.value for estimate in both]))
            errors.append(np.hstack([estimate.standard_error for estimate in both]))
    mean, error = np.mean(values, axis=0), np.mean(errors, axis=0)
    assert (abs(mean - true) < 3 * error / np.sqrt(100)).all()
    np.testing.assert_allclose(np.std(values, axis=0), error, rtol=0.2)
    covered = (abs(np.array(values) - true) <= 1.96 * np.array(errors)).mean(axis=0)
    assert (covered > 0.9).all(), covered
    counted = np.array([(mapped == i).sum() for i in ids])
    assert (abs(counted - true[:3]) > 5 * error[:3] / np.sqrt(100))[:2].all(), "the map's own areas are biased"


def test_pixels_of_many_classes_are_found_in_one_look_at_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.random.default_rng(0).integers(0, 400, (30, 40)).astype(np.uint16)
    monkeypatch.setattr(class_rasters, "_STEP", 16)
    path, looked_at = _write(tmp_path / "m.tif", ids), list[int]()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def looked(values: Any, **options: Any) -> Any:
            looked_at.append(np.size(values))
            return function(values, **options)

        return looked

    monkeypatch.setattr(np, "argsort", counted(np.argsort))
    monkeypatch.setattr(np, "flatnonzero", counted(np.flatnonzero))
    found = sample(path, tmp_path / "p.gpkg", per_class_least=2)
    monkeypatch.undo()
    assert sum(looked_at) < 4 * ids.size
    np.testing.assert_array_equal(_fields(tmp_path / "p.gpkg")["map_id"], ids[found.rows, found.cols])
    there, drawn = np.bincount(ids.ravel()), np.bincount(ids[found.rows, found.cols], minlength=400)
    assert (drawn >= np.minimum(there, 2))[1:].all()


def test_the_size_follows_the_aim_and_the_map(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))

    def drawn(**options: Any) -> ReferenceSample:
        return sample(class_map, tmp_path / "p.gpkg", overwrite=True, **options)

    assert drawn(standard_error=0.02).samples.sum() == pytest.approx(220, abs=5)
    assert drawn(standard_error=0.02, users_accuracy=0.8).samples.sum() == pytest.approx(386, abs=7)
    assert drawn(standard_error=0.2).samples.tolist() == [50, 50, 50]
    assert drawn(standard_error=0.2, per_class_least=80).samples.tolist() == [80, 80, 80]


def test_a_small_class_gives_all_its_pixels(tmp_path: Path) -> None:
    mapped = np.where(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 700 == 13, 7, 1).astype(np.uint8)
    drawn = sample(_write(tmp_path / "map.tif", mapped), tmp_path / "p.gpkg", size=200)
    assert drawn.samples.tolist() == [183, 17]
    assert (mapped[drawn.rows, drawn.cols] == 7).sum() == (mapped == 7).sum() == 17


def test_points_without_a_label_twice_in_a_pixel_or_outside_are_told(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    drawn = sample(class_map, tmp_path / "p.gpkg", size=300)
    names = {1: "1", 2: "2"}  # class 7 was not labelled
    fill_sample(drawn.output, names, _truth())
    meta, _, geometries, columns = pyogrio.raw.read(drawn.output)
    labelled = np.flatnonzero([value is not None for value in columns[5]])
    twice = np.append(np.arange(300), labelled[:4])
    geometries = geometries[twice]
    geometries[labelled[9]] = shapely.to_wkb(shapely.Point(0, 0))
    columns = [column[twice] for column in columns]
    pyogrio.raw.write(drawn.output, geometries, columns, meta["fields"], geometry_type="Point", crs=meta["crs"])
    found = evaluate(class_map, drawn.output, stratified=True)
    missing = 300 - len(labelled)
    assert found.notes[:3] == (
        f"{missing} features without a class or a geometry were left out.",
        f"1 of {len(labelled) + 4} points lie outside of the scene.",
        f"{len(labelled) + 3} points lie in {len(labelled) - 1} pixels: each pixel counts once.",
    )
    assert found.accuracy.total == len(labelled) - 1


def test_a_sample_of_another_map_is_refused(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    other = _write(tmp_path / "other.tif", _mapped(1))
    drawn = sample(class_map, tmp_path / "p.gpkg", size=300)
    fill_sample(drawn.output, NAMES, _truth())
    with pytest.raises(
        LabelError, match=r"was drawn from another map: \d+ of 300 points .* sample of .*other\.tif"
    ):
        evaluate(other, drawn.output, stratified=True)
    assert evaluate(other, drawn.output).areas is None


def test_points_that_were_added_to_a_sample_are_refused(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    drawn = sample(class_map, tmp_path / "p.gpkg", size=40, per_class_least=9)
    fill_sample(drawn.output, NAMES, _truth())
    meta, _, geometries, columns = pyogrio.raw.read(drawn.output)
    again = np.append(np.arange(40), [3, 3, 3])
    fields = dict(zip(meta["fields"].tolist(), (column[again] for column in columns), strict=True))
    added = np.arange(43) >= 40
    empty: list[NDArray[Any]] = [
        np.where(added, np.nan, fields["map_id"]),
        np.array([None if new else str(i) for i, new in zip(fields["map_id"], added, strict=True)], object),
    ]
    for i, map_id in enumerate(empty):
        path, changed = tmp_path / f"{i}.gpkg", fields | {"map_id": map_id}
        names, values = list(changed), list(changed.values())
        pyogrio.raw.write(path, geometries[again], values, names, geometry_type="Point", crs=meta["crs"])
        with pytest.raises(LabelError, match=r"^3 of 43 points of .* were never drawn: their map_id is empty"):
            evaluate(class_map, path, stratified=True)
        assert evaluate(class_map, path).accuracy.total > 0


def test_a_sample_may_be_one_of_several_layers(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    path = fill_sample(sample(class_map, tmp_path / "p.gpkg", size=40, per_class_least=9).output, NAMES, _truth())
    alone = evaluate(class_map, path, stratified=True)
    wkb = shapely.to_wkb(np.array([shapely.Point(0, 0)]))
    pyogrio.raw.write(path, wkb, [], [], geometry_type="Point", crs="EPSG:32633", layer="seen", append=True)
    found = evaluate(class_map, path, layer="p", stratified=True)
    np.testing.assert_array_equal(found.accuracy.confusion, alone.accuracy.confusion)


def test_a_sample_that_is_not_declared_one_is_told_of(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    path = fill_sample(sample(class_map, tmp_path / "p.gpkg", size=40, per_class_least=9).output, NAMES, _truth())
    notes = evaluate(class_map, path).notes
    assert any("p.gpkg is a sample" in note and "give --stratified" in note for note in notes)
    assert not any("is a sample" in note for note in evaluate(class_map, path, stratified=True).notes)


def test_names_do_not_do_for_a_map_of_numbers(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    drawn = sample(class_map, tmp_path / "p.gpkg", size=40, per_class_least=9)
    path = fill_sample(drawn.output, {1: "wheat", 2: "maize", 7: "rape"}, _truth())
    with pytest.raises(LabelError, match="nothing says which is which"):
        evaluate(class_map, path, stratified=True)
    key = tmp_path / "key.csv"
    key.write_text("from,to,id\nwheat,wheat,1\nmaize,maize,2\nrape,rape,7\n")
    found = evaluate(class_map, path, stratified=True, remap=key)
    assert found.accuracy.overall_accuracy > 0.6


def test_rules_that_leave_points_of_a_sample_out_are_refused(tmp_path: Path) -> None:
    """Points chosen by their true class are no sample: without those of no class, the map looked perfect."""
    class_map = _write_named(tmp_path / "map.tif", _truth())
    drawn = sample(class_map, tmp_path / "p.gpkg", size=120, per_class_least=6)
    path = fill_sample(drawn.output, CROPS | {7: NONE_OF_THESE}, _truth())
    rules = tmp_path / "rules.csv"
    rules.write_text(f"from,to\n{NONE_OF_THESE},\n")
    with pytest.raises(InputError, match=r"rules\.csv leaves out none of these, .*take such lines out"):
        evaluate(class_map, path, stratified=True, remap=rules)
    assert evaluate(class_map, path, remap=rules).accuracy.overall_accuracy == 1
    rules.write_text(f"from,to\n{NONE_OF_THESE},water\n")
    assert evaluate(class_map, path, stratified=True, remap=rules).accuracy.overall_accuracy < 1


def test_points_without_a_label_are_told_of(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _truth())
    drawn = sample(class_map, tmp_path / "p.gpkg", size=120, per_class_least=6)
    some = evaluate(class_map, fill_sample(drawn.output, {1: "1", 2: "2"}, _truth()), stratified=True)
    told = f"{drawn.samples[2]} of 120 points are not labelled and do not count: label them too"
    assert any(note.startswith(told) for note in some.notes)
    whole = evaluate(class_map, fill_sample(drawn.output, NAMES, _truth()), stratified=True)
    assert not any("not labelled" in note for note in whole.notes)


def test_classes_of_a_map_that_count_as_one_though_sampled_apart_are_refused(tmp_path: Path) -> None:
    names = {1: "Wheat", 2: "maize", 7: "wheat"}
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    table = [{"id": i, "name": name, "colour": [i, 0, 0]} for i, name in names.items()]
    with rasterio.open(class_map, "r+") as dataset:
        dataset.update_tags(**{CLASSES_TAG: json.dumps(table)})
    path = fill_sample(sample(class_map, tmp_path / "p.gpkg", size=200).output, names, _truth())
    with pytest.raises(LabelError, match=r"map\.tif: its classes Wheat, wheat count as one, though .*than case"):
        evaluate(class_map, path, stratified=True)
    assert evaluate(class_map, path).accuracy.names == ("wheat", "maize")


def test_pixels_that_cannot_be_drawn_are_told(tmp_path: Path) -> None:
    mapped, table = _mapped(0), ClassTable.from_names(["1", "2"])
    mapped[mapped == 0] = 255
    mapped[:40, 60:70] = 0
    tags = {CLASSES_TAG: json.dumps(table.to_json())}
    class_map = write_raster(tmp_path / "map.tif", mapped[None], nodata=255)
    with rasterio.open(class_map, "r+") as dataset:
        dataset.update_tags(**tags)
    drawn = sample(class_map, tmp_path / "p.gpkg", size=40, per_class_least=9)
    zero = "have the value 0, which means unlabelled here: number classes from 1 if 0 is a class."
    notes = (
        f"{(mapped == 7).sum():,} pixels of map.tif have values without a name, which count as no class: 7.",
        f"400 pixels of map.tif {zero}",
    )
    assert drawn.notes == notes
    found = evaluate(class_map, fill_sample(drawn.output, NAMES, _truth()), stratified=True)
    assert set(notes) <= set(found.notes)
    assert sample(_write(tmp_path / "whole.tif", _mapped(0)), tmp_path / "q.gpkg").notes == ()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_map_with_a_crs_but_no_place_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "map.tif", _mapped(0)[None], transform=None, nodata=0)
    with pytest.raises(SceneError, match=r"map\.tif has a CRS but no transform"):
        sample(path, tmp_path / "p.gpkg")
    assert not (tmp_path / "p.gpkg").exists()


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform", "ignore:'crs' was not provided")
def test_points_of_a_map_without_georeference_lie_where_qgis_shows_it(tmp_path: Path) -> None:
    drawn = sample(_write(tmp_path / "map.tif", _mapped(0), transform=None, crs=None), tmp_path / "p.gpkg")
    x, y = shapely.get_coordinates(shapely.from_wkb(pyogrio.raw.read(drawn.output)[2])).T
    np.testing.assert_array_equal((x, y), (drawn.cols + 0.5, -(drawn.rows + 0.5)))


def test_a_scene_is_no_map_to_draw_from(tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "scene.tif", np.stack([_mapped(0)] * 3).astype(np.int16))
    with pytest.raises(SceneError, match=r"scene\.tif holds 3 bands of int16; a class raster has one"):
        sample(scene, tmp_path / "p.gpkg")


def test_other_points_will_do_if_they_are_declared_a_sample(tmp_path: Path) -> None:
    """Drawn with another program: no field but the class."""
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    drawn = sample(class_map, tmp_path / "p.gpkg", size=300)
    names = fill_sample(drawn.output, NAMES, _truth())
    meta, _, geometries, columns = pyogrio.raw.read(names)
    for kind, points in (("Point", geometries), ("MultiPoint", _as_multi(geometries))):
        path = tmp_path / f"{kind}.gpkg"
        pyogrio.raw.write(path, points, [columns[5]], ["crop"], geometry_type=kind, crs=meta["crs"])
        theirs, ours = (evaluate(class_map, p, stratified=True) for p in (path, drawn.output))
        assert theirs.areas is not None
        assert ours.areas is not None
        assert theirs.areas.to_json() == ours.areas.to_json()


def _as_multi(points: NDArray[Any]) -> NDArray[Any]:
    multi = [shapely.MultiPoint([point]) for point in shapely.from_wkb(points)]
    return np.asarray(shapely.to_wkb(np.array(multi)))


def test_the_map_s_own_classes_are_never_taken_for_the_reference(tmp_path: Path) -> None:
    class_map = _write(tmp_path / "map.tif", _mapped(0))
    drawn = sample(class_map, tmp_path / "p.gpkg", size=300)
    for stratified in (False, True):
        with pytest.raises(LabelError, match="no feature has a class in field 'class_name': fill it"):
            evaluate(class_map, drawn.output, stratified=stratified)


def test_masked_pixels_are_neither_drawn_nor_counted(tmp_path: Path) -> None:
    ids = np.full((HEIGHT, WIDTH), 3, np.uint8)
    ids[:, 60:] = 4
    ids[:50] = 9  # the nodata of this map, and of no class
    class_map = write_raster(tmp_path / "map.tif", ids[None], nodata=9)
    drawn = sample(class_map, tmp_path / "p.gpkg", size=200)
    assert drawn.classes.ids == (3, 4)
    assert drawn.mapped_pixels.sum() == 40 * WIDTH
    assert drawn.rows.min() >= 50


def test_a_projection_that_shows_areas_too_large_is_told(tmp_path: Path) -> None:
    mercator = Affine(47.0, 0.0, 1_506_088.9, 0.0, -51.0, 6_859_851.0)
    class_map = _write(tmp_path / "map.tif", _mapped(0), crs=CRS.from_epsg(3857), transform=mercator)
    found = _evaluated(tmp_path, class_map, 1, size=200)
    assert found.areas is not None
    assert found.areas.pixel_area == pytest.approx(0.2397)
    assert any("shows areas 2.68 times as large as they are" in note for note in found.notes)
    feet = CRS.from_epsg(2263)
    class_map = _write(tmp_path / "feet.tif", _mapped(0), crs=feet, transform=Affine(100, 0, 9e5, 0, -100, 2e5))
    found = _evaluated(tmp_path, class_map, 2, size=200)
    assert found.areas is not None
    assert found.areas.pixel_area == pytest.approx(0.0929, abs=1e-4)
    assert not any("Hectares" in note for note in found.notes)


def test_a_projection_that_shows_areas_too_small_is_told(tmp_path: Path) -> None:
    """A polar stereographic one, true at 71 degrees south, near the pole."""
    near = {"crs": CRS.from_epsg(3031), "transform": Affine(30, 0, 9000, 0, -30, 9000)}
    found = _evaluated(tmp_path, _write(tmp_path / "map.tif", _mapped(0), **near), 1, size=200)
    assert any("shows areas 0.95 times as large as they are" in note for note in found.notes)


def test_an_output_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_map, points = _write(tmp_path / "map.tif", _mapped(0)), tmp_path / "p.gpkg"
    points.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        sample(class_map, points)
    monkeypatch.setattr("cssd_geo.reference_sample.pyogrio.raw.write", _fail)
    with pytest.raises(RuntimeError, match="full"):
        sample(class_map, points, overwrite=True)
    assert points.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.tif", "p.gpkg"]
    monkeypatch.undo()
    (tmp_path / "p.gpkg-wal").touch()
    with pytest.raises(OutputError, match=r"open in another program \(p\.gpkg-wal exists\): close it"):
        sample(class_map, points, overwrite=True)
    (tmp_path / "p.gpkg-wal").unlink()
    assert len(_fields(sample(class_map, points, overwrite=True).output)["id"]) > 100


def _fail(*_: Any, **__: Any) -> None:
    raise RuntimeError("full")


def test_a_map_without_classes_has_none_to_draw(tmp_path: Path) -> None:
    empty = _write(tmp_path / "empty.tif", np.zeros((9, 9), np.uint8))
    with pytest.raises(SceneError, match=r"empty\.tif holds no class ids .*: its values are all 0 or no data"):
        sample(empty, tmp_path / "p.gpkg")
    parcels = _write(tmp_path / "parcels.tif", np.arange(66_000, 66_081, dtype=np.uint32).reshape(9, 9))
    with pytest.raises(SceneError, match=r"parcels\.tif holds values that are no class ids .* as 66000, 66001, "):
        sample(parcels, tmp_path / "p.gpkg")
    bent = [*control_points(NORTH_UP, HEIGHT, WIDTH)]
    bent[4].x += 20_000
    class_map = _write(tmp_path / "bent.tif", _mapped(0), gcps=bent, transform=None)
    with pytest.raises(SceneError, match="do not tell pixels apart: warp it"):
        sample(class_map, tmp_path / "p.gpkg")
    assert not (tmp_path / "p.gpkg").exists()
