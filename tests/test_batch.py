"""Many scenes: each classified once, whatever failed or was there, and a manifest that says so."""

import gc
import json
import re
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from made_products import write_enmap
from scenes import pixel_box, random_model, write_polygons, write_raster

from cssd_geo.batch import BatchOptions, Outcome, classify_batch
from cssd_geo.classes import ClassTable
from cssd_geo.classification import classify
from cssd_geo.cli import main
from cssd_geo.errors import BatchError, InputError, OutputError, SceneError
from cssd_geo.model import Model, load_model
from cssd_geo.products import open_scene
from cssd_geo.scenes import stac
from cssd_geo.scenes.scene_lists import ListedScene, Shard, find_scenes
from cssd_geo.scenes.stac import read_items


@pytest.fixture(scope="module")
def model() -> Model:
    return random_model(bands=4)


@pytest.fixture
def flights(tmp_path: Path) -> Path:
    folder, random = tmp_path / "flights", np.random.default_rng(0)
    for number in range(3):
        (folder / f"day{number % 2}").mkdir(parents=True, exist_ok=True)
        cube = random.integers(0, 4000, (4, 14 + number, 17)).astype(np.int16)
        write_raster(folder / f"day{number % 2}" / f"line{number}.tif", cube)
    return folder


def listed(folder: Path) -> list[ListedScene]:
    return find_scenes([str(folder / "**" / "*.tif")])


def manifest(folder: Path, name: str = "manifest.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def call(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_each_map_is_that_of_the_scene_alone(flights: Path, model: Model, tmp_path: Path) -> None:
    outcomes = list(classify_batch(listed(flights), model, tmp_path / "maps", options=BatchOptions(tile_size=8)))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    for scene, outcome in zip(listed(flights), outcomes, strict=True):
        classify(scene.path, model, tmp_path / "alone.tif", overwrite=True)
        with rasterio.open(outcome.output) as ours, rasterio.open(tmp_path / "alone.tif") as alone:
            assert (ours.read() == alone.read()).all()
            assert len(np.unique(alone.read())) > 1
            assert outcome.classes is not None
            found = {name: row["pixels"] for name, row in outcome.classes.items()}
            assert found["class 0"] == (alone.read(1) == 1).sum()
            assert outcome.pixels == ours.width * ours.height
            assert outcome.classes["class 1"]["hectares"] == pytest.approx(0.09 * (alone.read(1) == 2).sum())
    assert [line["output"] for line in manifest(tmp_path / "maps")] == [outcome.output for outcome in outcomes]


def test_what_is_done_is_skipped_and_what_is_not_is_done(flights: Path, model: Model, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    list(classify_batch(listed(flights)[:2], model, maps))
    before = {path: path.stat().st_mtime_ns for path in maps.glob("*.tif")}
    again = list(classify_batch(listed(flights), model, maps))
    assert [outcome.status for outcome in again] == ["skipped", "skipped", "done"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    more = list(classify_batch(listed(flights)[:1], model, maps, options=BatchOptions(overwrite=True)))
    assert [outcome.status for outcome in more] == ["skipped"], "an interrupted batch goes on with --overwrite too"
    everything = BatchOptions(overwrite=True, restart=True)
    more = list(classify_batch(listed(flights)[:1], model, maps, options=everything))
    assert [outcome.status for outcome in more] == ["done"]


def test_what_is_missing_beside_a_map_is_said_and_made_with_it(
    flights: Path, model: Model, tmp_path: Path
) -> None:
    scenes = listed(flights)[:1]
    list(classify_batch(scenes, model, tmp_path))
    layers = ["confidence", "disagreement"]
    message = (
        r"line0 has a class map but no confidence and no disagreement: give --overwrite .* or another --output-dir"
    )
    with pytest.raises(OutputError, match=message):
        list(classify_batch(scenes, model, tmp_path, options=BatchOptions(layers=layers)))
    again = BatchOptions(layers=layers, overwrite=True)
    assert [o.status for o in classify_batch(scenes, model, tmp_path, options=again)] == ["done"]
    assert [o.status for o in classify_batch(scenes, model, tmp_path, options=again)] == ["skipped"]


def test_a_map_never_lies_beside_layers_of_another_model(flights: Path, model: Model, tmp_path: Path) -> None:
    scenes, both = listed(flights)[:1], BatchOptions(layers=["confidence"])
    list(classify_batch(scenes, model, tmp_path, options=both))
    assert [o.status for o in classify_batch(scenes, model, tmp_path)] == ["skipped"], "its own may lie there"
    other = random_model(bands=4, seed=1)
    before = (tmp_path / "line0_map.tif").read_bytes()
    stray = r"line0_confidence.tif is there, but by another model, and would lie beside the new map: ask for it as"
    with pytest.raises(OutputError, match=stray):
        list(classify_batch(scenes, other, tmp_path, options=BatchOptions(overwrite=True)))
    assert (tmp_path / "line0_map.tif").read_bytes() == before
    (tmp_path / "line0_map.tif").unlink()
    with pytest.raises(OutputError, match=stray):
        list(classify_batch(scenes, other, tmp_path))
    with pytest.raises(OutputError, match=r"by another model: give --overwrite"):
        list(classify_batch(scenes, other, tmp_path, options=both))
    again = BatchOptions(layers=["confidence"], overwrite=True)
    assert [o.status for o in classify_batch(scenes, other, tmp_path, options=again)] == ["done"]


def test_a_model_with_the_same_weights_and_other_names_is_another_one(
    flights: Path, model: Model, tmp_path: Path
) -> None:
    scenes = listed(flights)[:1]
    list(classify_batch(scenes, model, tmp_path))
    renamed = replace(model, classes=ClassTable.from_names([f"new {name}" for name in model.classes.names]))
    with pytest.raises(OutputError, match="but by another model"):
        list(classify_batch(scenes, renamed, tmp_path))


def test_a_scene_whose_header_was_corrected_is_not_done(model: Model, tmp_path: Path) -> None:
    cube = np.random.default_rng(0).integers(0, 4000, (4, 14, 17)).astype(np.int16)
    path = write_raster(tmp_path / "line.dat", cube, driver="ENVI", interleave="bip")
    scenes = find_scenes([str(path)])
    list(classify_batch(scenes, model, tmp_path))
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text() + "data ignore value = 7\n")
    with pytest.raises(OutputError, match=r"line_map.tif is there, but of another scene, or its files, bands"):
        list(classify_batch(scenes, model, tmp_path))
    done = list(classify_batch(scenes, model, tmp_path, options=BatchOptions(overwrite=True)))
    assert [outcome.status for outcome in done] == ["done"]
    assert [outcome.status for outcome in classify_batch(scenes, model, tmp_path)] == ["skipped"]
    scaled = BatchOptions(scale=0.5)
    with pytest.raises(OutputError, match="scale or masks have changed"):
        list(classify_batch(scenes, model, tmp_path, options=scaled))


def test_headers_archives_and_products_in_folders_are_recognised_as_done(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).integers(0, 4000, (8, 14, 17)).astype(np.int16)
    header = write_raster(tmp_path / "raw.dat", cube, driver="ENVI").with_suffix(".hdr")
    product = write_enmap(tmp_path / "enmap")
    with ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.write(write_raster(tmp_path / "inside.tif", cube), "inside.tif")
    scenes = find_scenes([str(header), str(product), f"/vsizip/{tmp_path / 'packed.zip'}/inside.tif"])
    for status in ("done", "skipped"):
        found = classify_batch(scenes, random_model(bands=8), tmp_path / "maps")
        assert [outcome.status for outcome in found] == [status] * 3, status


def test_a_map_in_another_precision_than_asked_for_is_not_done(
    flights: Path, model: Model, tmp_path: Path
) -> None:
    scenes = listed(flights)[:1]
    list(classify_batch(scenes, model, tmp_path, options=BatchOptions(precision="bfloat16")))
    assert [outcome.status for outcome in classify_batch(scenes, model, tmp_path)] == ["skipped"]
    with pytest.raises(OutputError, match="was computed in bfloat16"):
        list(classify_batch(scenes, model, tmp_path, options=BatchOptions(precision="float32")))


def test_a_map_by_another_model_or_of_a_changed_scene_is_never_taken_for_done(
    flights: Path, model: Model, tmp_path: Path
) -> None:
    list(classify_batch(listed(flights), model, tmp_path / "maps"))
    with pytest.raises(OutputError, match="but by another model"):
        list(classify_batch(listed(flights), random_model(bands=4, seed=1), tmp_path / "maps"))
    first = Path(listed(flights)[0].path)
    with rasterio.open(first, "r+") as dataset:
        dataset.write(dataset.read() + 7)
    with pytest.raises(OutputError, match="but of another scene"):
        list(classify_batch(listed(flights), model, tmp_path / "maps"))


def test_an_unfinished_run_by_another_model_is_discarded_if_asked(flights: Path, tmp_path: Path) -> None:
    scenes, maps, other = listed(flights)[:1], tmp_path / "maps", random_model(bands=4, seed=9)

    def killed(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(
            classify_batch(scenes, random_model(bands=4), maps, options=BatchOptions(tile_size=8), on_tile=killed)
        )
    with pytest.raises(OutputError, match="--restart"):
        list(classify_batch(scenes, other, maps, options=BatchOptions(tile_size=8)))
    done = list(classify_batch(scenes, other, maps, options=BatchOptions(tile_size=8, restart=True)))
    assert [outcome.status for outcome in done] == ["done"]
    other.save(tmp_path / "other.safetensors")
    again = call("batch", scenes[0].path, "-o", maps, "-m", tmp_path / "other.safetensors", "--restart")
    assert "is done already: skipped" in again.output, again.output


def test_a_scene_that_goes_on_is_told_with_what_is_left_of_it(flights: Path, model: Model, tmp_path: Path) -> None:
    def killed(*_: int) -> None:
        raise KeyboardInterrupt

    options = BatchOptions(tile_size=8)
    with pytest.raises(KeyboardInterrupt):
        list(classify_batch(listed(flights)[:1], model, tmp_path, options=options, on_tile=killed))
    model.save(tmp_path / "m.safetensors")
    paths = [scene.path for scene in listed(flights)[:2]]
    told = call("batch", *paths, "-o", tmp_path, "-m", tmp_path / "m.safetensors", "--tile-size", 8).stderr
    assert told == "scene goes on with an unfinished run: 1 of 6 tiles are done\n"


def test_a_map_that_a_kill_left_without_its_legend_gets_it(
    flights: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, maps, rename = listed(flights)[:1], tmp_path / "maps", Path.replace

    def killed(self: Path, to: Path) -> Path:
        if to.name == "line0_map.tif.aux.xml":
            raise KeyboardInterrupt
        return rename(self, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            list(classify_batch(scenes, model, maps))
    assert (maps / "line0_map.tif").exists()
    for status in ("done", "skipped"):
        assert [outcome.status for outcome in classify_batch(scenes, model, maps)] == [status]
        assert (maps / "line0_map.tif.aux.xml").exists()


def test_a_scene_that_fails_stops_the_batch_or_not(flights: Path, model: Model, tmp_path: Path) -> None:
    broken = flights / "day0" / "line1a.tif"
    broken.write_bytes(b"II*\0 no tiff")
    with pytest.raises(SceneError, match=r"line1a(.|\n)*not tried: 1 of 4; --on-error continue"):
        list(classify_batch(listed(flights), model, tmp_path / "stopped"))
    with pytest.raises(SceneError) as last:
        list(classify_batch(listed(flights)[:3], model, tmp_path / "last"))
    assert not hasattr(last.value, "__notes__"), "all were tried"
    assert [line["status"] for line in manifest(tmp_path / "stopped")] == ["done", "done", "failed"]
    outcomes: list[Outcome] = []
    with pytest.raises(BatchError, match="1 of 4 scenes failed"):
        outcomes.extend(classify_batch(listed(flights), model, tmp_path / "on", on_error="continue"))
    lines = manifest(tmp_path / "on")
    assert [line["status"] for line in lines] == ["done", "done", "failed", "done"]
    assert "line1a.tif" in lines[2]["error"]
    assert not (tmp_path / "on" / "line1a_map.tif").exists()


def test_a_line_that_was_torn_spoils_no_other(flights: Path, model: Model, tmp_path: Path) -> None:
    list(classify_batch(listed(flights)[:1], model, tmp_path))
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(path.read_bytes()[:-40])  # as a full disk or a power cut leaves it
    torn = path.read_text()
    list(classify_batch(listed(flights), model, tmp_path))
    first, *others = path.read_text().splitlines()
    assert first == torn
    assert [json.loads(line)["status"] for line in others] == ["skipped", "done", "done"]


def test_odd_names_stop_no_batch(flights: Path, model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.safetensors")
    scene = flights / "day0" / "line0.tif"
    (flights / "day0" / "odd\udcff.tif").write_bytes(scene.read_bytes())
    (flights / "day0" / "loop.tif").symlink_to("loop.tif")
    words = ("-o", tmp_path / "maps", "-m", tmp_path / "m.safetensors", "--on-error", "continue")
    done = call("batch", flights / "day0" / "*.tif", *words)
    assert done.exit_code == BatchError.exit_code, done.output
    assert "2 of 4 scenes failed" in done.output
    lines = {Path(line["scene"]).name: line for line in manifest(tmp_path / "maps")}
    assert {name: line["status"] for name, line in lines.items()} == {
        "line0.tif": "done", "line2.tif": "done", "loop.tif": "failed", "odd\udcff.tif": "failed",
    }  # fmt: skip
    assert lines["odd\udcff.tif"]["error"].endswith(
        r"odd\udcff.tif has a name, or a folder, that is not UTF-8: rename that"
    )
    assert "loop.tif does not exist" in lines["loop.tif"]["error"]


def test_what_was_assumed_of_a_scene_is_told(flights: Path, model: Model, tmp_path: Path) -> None:
    replace(model, mean=model.mean / 1e4, std=model.std / 1e4).save(tmp_path / "m.safetensors")
    scene = flights / "day0" / "line0.tif"
    done = call("batch", scene, "-o", tmp_path / "maps", "-m", tmp_path / "m.safetensors")
    assert done.exit_code == 0, done.output
    (line,) = manifest(tmp_path / "maps")
    assert "taken as 0.0001 times what they say" in line["notes"][0]
    assert done.stderr == f"Note on {scene}: {line['notes'][0]}\n"


def test_paths_are_found_as_text_is(flights: Path) -> None:
    scene = flights / "day0" / "line0.tif"
    assert find_scenes(scene) == find_scenes(str(scene)) == find_scenes([scene]) == find_scenes([str(scene)])


def test_scenes_of_a_generator_are_not_replaced_either(flights: Path, model: Model) -> None:
    scene = flights / "day0" / "line0.tif"
    scene.with_name("line0_map.tif").write_bytes(scene.read_bytes())
    scenes: Any = iter(listed(scene.parent))
    with pytest.raises(InputError, match=r"line0_map\.tif is a scene of this batch"):
        list(classify_batch(scenes, model, scene.parent, options=BatchOptions(overwrite=True)))


def test_no_scene_of_the_batch_is_replaced(flights: Path, model: Model) -> None:
    scene = flights / "day0" / "line0.tif"
    other = scene.with_name("line0_map.tif")
    other.write_bytes(scene.read_bytes())
    with pytest.raises(
        InputError, match=r"line0_map\.tif is a scene of this batch and would be the map of .*line0\.tif"
    ):
        list(classify_batch(listed(scene.parent), model, scene.parent, options=BatchOptions(overwrite=True)))
    beside = other.rename(other.with_name("line0_map.tif.ovr"))
    with pytest.raises(
        InputError, match=r"line0_map\.tif\.ovr is a scene of this batch and would go with the map"
    ):
        list(classify_batch(find_scenes([scene, beside]), model, scene.parent))
    assert beside.read_bytes() == scene.read_bytes()
    assert not list(scene.parent.glob("*.jsonl"))


@given(count=st.integers(0, 40), of=st.integers(1, 12))
def test_shards_share_a_list_without_overlap(count: int, of: int) -> None:
    scenes = [ListedScene(name=f"{i:03}", path=f"{i}.tif") for i in range(count)]
    parts = [Shard(number=number, of=of).pick(scenes) for number in range(1, of + 1)]
    assert sorted((scene for part in parts for scene in part), key=lambda s: s.name) == scenes
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "a/b", "1/2/3", "-1/2", "1/²"])
def test_shards_that_make_no_sense(text: str) -> None:
    with pytest.raises(InputError, match="I/N"):
        Shard.parse(text)


@pytest.mark.parametrize(("number", "of"), [(0, 2), (3, 2), (1, 0), (-1, 2)])
def test_a_shard_that_counts_otherwise_loses_no_scene_in_silence(number: int, of: int) -> None:
    with pytest.raises(InputError, match=f"shard {number}/{of} is not I/N with I from 1 to N"):
        Shard(number=number, of=of)
    with pytest.raises(InputError, match="number must be a whole number"):
        Shard(number=1.5, of=2)  # type: ignore[arg-type]


def test_the_shards_of_a_batch_do_all_of_it(flights: Path, model: Model, tmp_path: Path) -> None:
    for number in (1, 2):
        list(classify_batch(listed(flights), model, tmp_path, shard=Shard(number=number, of=2)))
    assert len(list(tmp_path.glob("*_map.tif"))) == 3
    assert [len(manifest(tmp_path, f"manifest-{i}-of-2.jsonl")) for i in (1, 2)] == [2, 1]


def test_scenes_are_found_by_paths_patterns_and_lists(flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (flights / "day0" / "line0.hdr").write_text("a header is no scene")
    (flights / "list.txt").write_text("# two of them\nday0/line0.tif\n\n  day1/*.tif  \n", encoding="utf-8-sig")
    monkeypatch.chdir(flights.parent)
    assert [s.name for s in find_scenes(["flights/day?/*"])] == ["line0", "line1", "line2"]
    assert [s.path for s in find_scenes(["@flights/list.txt"])] == [
        "flights/day0/line0.tif",
        "flights/day1/line1.tif",
    ]
    assert [s.name for s in find_scenes(["@flights/list.txt", "flights/day1/line1.tif"])] == ["line0", "line1"]
    assert [s.path for s in find_scenes(["https://example.org/a*.tif"])] == ["https://example.org/a*.tif"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no scene"),
        (["nothing*.tif"], "nothing"),
        (["@missing.txt"], "missing.txt"),
        (["@nested.txt"], "nested.txt"),
    ],
)
def test_lists_that_cannot_be_used(
    given: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nested.txt").write_text("@nested.txt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, SceneError), match=message):
        find_scenes(given)


def test_a_file_named_twice_is_taken_once(flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (flights / "list.txt").write_text("day0/line0.tif\nday1/../day0/line0.tif\n")
    monkeypatch.chdir(flights)
    found = find_scenes([str(flights / "day0" / "*.tif"), "@list.txt", "day0/line2.tif"])
    assert [scene.name for scene in found] == ["line0", "line2"]


@pytest.mark.parametrize(
    ("scene", "name"),
    [
        ("https://data.example/day0/line0.tif?signature=a/b.c", "line0"),
        ("/vsicurl/https://data.example/line0.tif?v=1.2", "line0"),
        ("s3://bucket/day0/line0.tif", "line0"),
    ],
)
def test_maps_of_scenes_at_addresses_are_not_named_after_a_signature(scene: str, name: str) -> None:
    assert find_scenes(scene) == [ListedScene(name=name, path=scene)]


def test_parts_of_one_file_are_several_scenes(flights: Path) -> None:
    pages = [f"GTIFF_DIR:{page}:{flights / 'day0' / 'line0.tif'}" for page in (1, 2)]
    assert find_scenes(pages[1]) == [ListedScene(name="line0", path=pages[1])]
    with pytest.raises(InputError, match="'line0' is the name of several"):
        find_scenes(pages)


def test_maps_beside_scenes_are_no_scenes(flights: Path, model: Model) -> None:
    layers, notes = BatchOptions(layers=["confidence"]), list[str]()
    list(classify_batch(listed(flights)[:1], model, flights / "day0", options=layers))
    found = find_scenes([str(flights / "**" / "*.tif")], on_note=notes.append)
    assert [scene.name for scene in found] == ["line0", "line1", "line2"]
    assert len(notes) == 1
    assert "left out: " in notes[0]
    assert "line0_confidence.tif" in notes[0]
    assert "line0_map.tif" in notes[0]
    with pytest.raises(InputError, match=r"names rasters that cssd-geo wrote .* and no scene: name the scenes"):
        find_scenes([str(flights / "day0" / "*_map.tif")])


def test_two_scenes_of_one_name_are_refused_before_any_work(flights: Path) -> None:
    (flights / "day1" / "line0.tif").write_bytes(b"")
    with pytest.raises(InputError, match=r"line0.*day0.*day1"):
        listed(flights)


def item(href: str, **more: Any) -> dict[str, Any]:
    asset = {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"]} | more
    thumbnail = {"href": "t.png", "type": "image/png", "roles": ["thumbnail"]}
    return {"type": "Feature", "stac_version": "1.0.0", "id": "line/0", "assets": {"cube": asset, "t": thumbnail}}


def test_stac_items_and_collections_of_them(flights: Path) -> None:
    path = flights / "item.json"
    path.write_text(json.dumps(item("./day0/line0.tif")))
    assert find_scenes([str(path)]) == [ListedScene(name="line_0", path=str(flights / "day0" / "line0.tif"))]
    second = item("day1/line1.tif") | {"id": "second"}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [item("day0/line0.tif"), second]}))
    assert [scene.name for scene in find_scenes([str(path)])] == ["line_0", "second"]


def test_an_item_with_several_rasters_wants_a_choice(flights: Path) -> None:
    two = item("day0/line0.tif")
    two["assets"]["mask"] = {"href": "m.tif", "type": "image/tiff", "roles": ["data"]}
    path = flights / "item.json"
    path.write_text(json.dumps(two))
    with pytest.raises(SceneError, match=r"cube, mask.*--asset"):
        read_items(str(path))
    assert read_items(str(path), asset="mask")[0][1].endswith("m.tif")
    with pytest.raises(SceneError, match="--asset"):
        read_items(str(path), asset="other")


@pytest.mark.parametrize(
    "href", ["../x.tif", "/etc/passwd", "https://example.org/x.tif", "s3://b/x.tif", "/vsicurl/x"]
)
def test_items_do_not_lead_out_of_their_folder_unless_asked(href: str, tmp_path: Path) -> None:
    path = tmp_path / "item.json"
    path.write_text(json.dumps(item(href)))
    with pytest.raises(SceneError, match="--follow-links"):
        read_items(str(path))
    assert read_items(str(path), follow_links=True)[0][1].endswith(href.removeprefix("../"))


@pytest.mark.parametrize(
    "words", ["GTIFF_DIR:1:{}", '<VRTDataset><SimpleSource name="{}"/></VRTDataset>', "file://{}"]
)
def test_what_an_item_names_is_a_path_and_nothing_else_that_gdal_knows(
    words: str, flights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "items").mkdir()
    monkeypatch.chdir(tmp_path / "items")
    Path("item.json").write_text(json.dumps(item(words.format(flights / "day0" / "line0.tif"))))
    with pytest.raises(SceneError, match=r"does not exist|outside of its folder"):
        open_scene(read_items("item.json")[0][1])


def test_links_of_the_file_system_do_not_lead_out_either(flights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "items"
    folder.mkdir()
    (folder / "inside").symlink_to(flights)
    (folder / "item.json").write_text(json.dumps(item("inside/day0/line0.tif")))
    with pytest.raises(SceneError, match="outside of its folder"):
        read_items(str(folder / "item.json"))


@pytest.mark.parametrize(
    ("text", "largest", "says"),
    [
        ("{", 100, "cannot be read as a STAC item: "),
        ("[" * 100_000, 200_000, "cannot be read as a STAC item: "),
        ('{"type": "Feature"}', 18, "has more than 0 MB: split it into smaller collections"),
        ('{"type": "Feature"}', 19, "is no STAC item: it needs a type, an id and assets"),
    ],
)
def test_a_file_that_is_no_json_or_too_large_holds_no_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, largest: int, says: str
) -> None:
    monkeypatch.setattr(stac, "_LARGEST", largest)
    (tmp_path / "item.json").write_text(text)
    with pytest.raises(SceneError, match=rf"item\.json {says}"):
        read_items(str(tmp_path / "item.json"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*item("x"), "features", "href"]), inner)
    ),
    max_leaves=8,
)


@given(
    document=JSON
    | JSON.map(lambda roles: item("x.tif", roles=roles))
    | st.dictionaries(st.sampled_from(["id", "assets", "type", "features"]), JSON).map(lambda d: item("x.tif") | d)
)
def test_whatever_an_item_holds_it_is_read_or_refused(
    document: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("stac") / "item.json"
    path.write_text(json.dumps(document))
    try:
        found = read_items(str(path))
    except SceneError as error:
        assert str(path) in str(error)  # noqa: PT017 - either may happen
    else:
        assert all("/" not in name and place for name, place in found)


def test_bands_scale_and_masks_hold_for_every_scene(flights: Path, model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.safetensors")
    area = write_polygons(tmp_path / "area.gpkg", [(pixel_box(2, 3, 5, 6), "here")])
    pattern = flights / "**" / "*.tif"
    words = ("-m", tmp_path / "m.safetensors", "--scale", "0.5", "--aoi", area, "--bands", "4,3,2,1")
    done = call("batch", pattern, "-o", tmp_path / "maps", *words)
    assert done.exit_code == 0, done.output
    for number in range(3):
        with rasterio.open(tmp_path / "maps" / f"line{number}_map.tif") as dataset:
            found = dataset.read(1) > 0
        assert (found.sum(), found[2:7, 3:9].all()) == (30, True)


def test_the_command(flights: Path, model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.safetensors")
    words = (
        "batch",
        flights / "**" / "*.tif",
        "-o",
        tmp_path / "maps",
        "-m",
        tmp_path / "m.safetensors",
        "--confidence",
    )
    first = call(*words)
    assert first.exit_code == 0, first.output
    assert first.output.count("written") == 3
    assert (tmp_path / "maps" / "line2_confidence.tif").exists()
    assert call(*words).output.count("skipped") == 3
    idle = call(*words, "--shard", "5/8")
    assert idle.exit_code == 0
    assert idle.output.splitlines() == ["Note: shard 5/8 has none of the 3 scenes: nothing is left for this job."]
    (flights / "day0" / "zero.tif").write_bytes(b"")
    failed = call(*words, "--on-error", "continue")
    assert failed.exit_code == BatchError.exit_code
    assert "1 of 4 scenes failed" in failed.output
    assert load_model(tmp_path / "m.safetensors").digest() == model.digest()


def test_on_a_terminal_what_became_of_a_scene_begins_a_line_below_its_bar(
    flights: Path,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model.save(tmp_path / "m.safetensors")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", sys.stderr)  # both on one terminal
    words = ("batch", flights / "*" / "*.tif", "-o", tmp_path / "maps", "-m", tmp_path / "m.safetensors")
    main([str(word) for word in words], standalone_mode=False)
    lines = capsys.readouterr().err.split("\n")
    assert ["100%" in line for line in lines] == [True, False] * 3 + [False]
    assert all(re.match(r"\S+_map.tif written", line) for line in lines[1::2])


def test_a_scene_for_which_memory_does_not_suffice_does_not_end_a_batch(
    flights: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Any]] = []

    def short_once(scene: Any, *args: Any, **options: Any) -> Any:
        if held:
            gc.collect(0)
            assert held[0]() is None, "what the frames of an error hold is freed before the next scene"
            return classify(scene, *args, **options)
        taken = np.zeros(1000)
        held.append(weakref.ref(taken))
        raise MemoryError("a test's")

    monkeypatch.setattr("cssd_geo.batch.classify", short_once)
    outcomes: list[Outcome] = []
    with pytest.raises(BatchError, match="1 of 3 scenes failed"):
        outcomes.extend(classify_batch(listed(flights), model, tmp_path / "maps", on_error="continue"))
    assert [line["status"] for line in manifest(tmp_path / "maps")] == ["failed", "done", "done"]
    assert manifest(tmp_path / "maps")[0]["error"] == "a test's"


def test_hectares_of_a_projection_that_is_not_true_to_area_are_told(model: Model, tmp_path: Path) -> None:
    mercator = {"crs": "EPSG:3857", "transform": Affine(30, 0, -9_680_000, 0, -30, 4_930_000)}
    path = write_raster(tmp_path / "s.tif", np.ones((4, 9, 8), np.int16), **mercator)
    done = list(classify_batch(listed(tmp_path), model, tmp_path / "maps"))
    assert len(done) == 1
    assert "shows areas 1.7" in done[0].notes[-1]
    assert path.exists()
