"""The command line as an analyst meets it: the whole way, and one clear line where something is wrong."""

import csv
import io
import json
import math
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from safetensors.torch import save
from scenes import NORTH_UP, fill_sample, pixel_box, random_model, write_polygons, write_raster, write_two_fields

from cssd_geo import __version__, errors
from cssd_geo.budget import parse_size
from cssd_geo.calibration import Calibration
from cssd_geo.cli import main
from cssd_geo.cli.progress import EpochProgress, PixelProgress
from cssd_geo.learning.fitting import Epoch
from cssd_geo.model import load_model

COMMANDS = ("batch", "bench", "classify", "demo", "evaluate", "info", "sample", "train")
QUICK = ("--epochs", "1", "--windows-per-class", "6", "--shots", "8", "--no-baseline")


@dataclass(frozen=True, kw_only=True)
class World:
    """A folder with a scene, labels, a trained model, its map, and all that was printed meanwhile."""

    folder: Path
    truth: NDArray[np.uint8]
    training: Result
    classification: Result


def call(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, quick_baselines: None) -> World:  # noqa: ARG001 - they are in use
    folder = tmp_path_factory.mktemp("world")
    truth = write_two_fields(folder).truth
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("cssd_geo.cli.progress._LOG_SECONDS", math.inf)  # what is told is not the machine's speed
        training = call(
            "train", "two_fields.tif", "labels.gpkg", "-o", "m.safetensors", "--report", "report.json",
            "--epochs", 4, "--device", "cpu",
        )  # fmt: skip
        classification = call(
            "classify", "two_fields.tif", "-o", "map.tif", "-m", "m.safetensors", "--confidence", "confidence.tif",
            "--disagreement", "disagreement.tif", "--probabilities", "probabilities.tif", "--tile-size", 40,
            "--precision", "float32",
        )  # fmt: skip
    return World(folder=folder, truth=truth, training=training, classification=classification)


@pytest.fixture
def inside(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The world's folder, as the current one."""
    monkeypatch.chdir(world.folder)
    monkeypatch.delenv("CSSD_GEO_MODEL", raising=False)
    return world.folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def require_failure(words: tuple[Any, ...], *, code: int, says: str, folder: Path) -> None:
    """Check for one clear line, the exit code, and that nothing was written or changed."""
    before = contents(folder)
    result = call(*words)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    *usage, line = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert not usage or usage[0].startswith("Usage: ")
    assert re.search(says, line), line
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert contents(folder) == before


# ---- the whole way ------------------------------------------------------------------------------------------


def test_out_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def hungry(*_: object, **__: object) -> None:
        raise MemoryError("42 MiB wanted")

    monkeypatch.setattr("cssd_geo.products.open_scene", hungry)
    done = CliRunner().invoke(main, ["info", "scene.tif"])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: out of memory: end other programs")


@pytest.mark.parametrize("words", [
    ["evaluate", "map.tif", "labels.csv", "--csv", "labels.csv"],
    ["train", "s.tif", "labels.json", "-o", "m.safetensors", "--report", "labels.json"],
    ["info", "scene.png", "--quicklook", "scene.png"],
    ["sample", "map.gpkg", "-o", "map.gpkg"],
])  # fmt: skip
def test_no_input_is_replaced(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in words:
        if "." in name:
            Path(name).write_bytes(b"dear")
    done = CliRunner().invoke(main, [*words, "--overwrite"])
    assert done.exit_code == 6, done.output
    assert "is read here and would be replaced" in done.stderr
    assert all(Path(name).read_bytes() == b"dear" for name in words if "." in name)


def test_training_reports_what_it_held_out_and_how_good_it_is(world: World) -> None:
    result = world.training
    assert result.exit_code == 0, result.output
    assert "held out" in result.stdout
    assert "overall accuracy (OA)" in result.stdout
    for name in (
        "OA, 95 % interval",
        "calibration error",
        "  spectral head",
        "random forest",
        "support vector machine",
    ):
        assert f"\n{name}" in result.stdout
    assert result.stdout.endswith("Model written to m.safetensors\n")
    report = json.loads((world.folder / "report.json").read_text())
    assert report["map"]["overall_accuracy"] > 0.9
    assert set(report) == {"split", "apart", "map", "reliability", "main", "spectral", "baselines"}


def test_a_log_gets_few_lines(world: World) -> None:
    assert len(world.training.stderr.splitlines()) == 6, "three folds and all labels begin, the end, the tests"
    assert world.classification.stderr == ""


def test_the_map_is_right_on_the_same_grid_and_empty_without_data(world: World) -> None:
    assert world.classification.exit_code == 0, world.classification.output
    truth = world.truth
    with rasterio.open(world.folder / "map.tif") as dataset:
        found = dataset.read(1)
        assert dataset.transform == NORTH_UP
        assert dataset.nodata == 0
    assert ((found == 0) == (truth == 0)).all()
    assert (found == truth)[truth > 0].mean() > 0.9
    for name in ("confidence", "disagreement"):
        with rasterio.open(world.folder / f"{name}.tif") as dataset:
            assert ((dataset.read(1) == 255) == (truth == 0)).all()
            assert (dataset.dtypes, dataset.nodata, dataset.transform) == (("uint8",), 255, NORTH_UP)
            assert dataset.descriptions == (f"{name} in percent",)
    with rasterio.open(world.folder / "probabilities.tif") as dataset:
        np.testing.assert_allclose(dataset.read().sum(0)[truth > 0], 1, rtol=1e-5)


def test_classify_counts_every_pixel(world: World) -> None:
    counts = re.findall(r"^(\w+) +([\d,]+) pixels", world.classification.stdout, re.MULTILINE)
    assert [name for name, _ in counts] == ["maize", "wheat", "unclassified"]
    assert sum(int(count.replace(",", "")) for _, count in counts) == 60 * 90
    assert "map.tif written: 5,400 pixels" in world.classification.stdout


@pytest.mark.usefixtures("inside")
def test_evaluate_prints_and_writes_what_it_found(tmp_path: Path) -> None:
    table, picture = tmp_path / "matrix.csv", tmp_path / "matrix.png"
    result = call("evaluate", "map.tif", "labels.gpkg", "--csv", table, "--png", picture)
    assert result.exit_code == 0, result.output
    assert "overall accuracy (OA)" in result.stdout
    rows = list(csv.reader(io.StringIO(table.read_text())))
    assert rows[0] == ["reference / map", "maize", "wheat", "unclassified", "total"]
    assert sum(int(row[-1]) for row in rows[1:-1]) == int(rows[-1][-1])
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert picture.stat().st_size > 5000


@pytest.mark.usefixtures("inside")
def test_evaluate_prints_json_alone() -> None:
    facts = json.loads(call("evaluate", "map.tif", "labels.gpkg", "--json").stdout)
    assert facts["overall_accuracy"] > 0.8
    assert facts["unclassified"] > 0
    assert [note[:11] for note in facts["notes"]] == ["labels.gpkg"]


@pytest.mark.usefixtures("inside")
def test_evaluate_leaves_excluded_polygons_out(tmp_path: Path) -> None:
    trained = write_polygons(tmp_path / "trained.gpkg", [(pixel_box(5, 8, 12, 14), "maize")])
    whole = json.loads(call("evaluate", "map.tif", "labels.gpkg", "--json").stdout)
    left = call("evaluate", "map.tif", "labels.gpkg", "--json", "--exclude", trained, "--buffer", 3).stdout
    assert json.loads(left)["total"] == whole["total"] - 12 * 14
    note = f"168 of {whole['total']:,} reference pixels lie in trained.gpkg or nearer than 3 pixels to it"
    assert json.loads(left)["notes"] == [*whole["notes"], f"{note}, and were left out."]


def test_a_sample_is_drawn_labelled_and_evaluated(inside: Path, tmp_path: Path, world: World) -> None:
    points = tmp_path / "new points.gpkg"
    drawn = call("sample", inside / "map.tif", "-o", points, "--size", 200, "--seed", 3)
    assert drawn.exit_code == 0, drawn.output
    assert re.search(r"^maize +[\d,]+ pixels +[\d.]+ % +\d+ drawn$", drawn.stdout, re.MULTILINE)
    assert "points.gpkg written: 200 points" in drawn.stdout
    assert shlex.split(drawn.stdout.splitlines()[-1])[2:] == [str(inside / "map.tif"), str(points), "--stratified"]
    empty = call("evaluate", inside / "map.tif", points, "--stratified")
    assert (empty.exit_code, "no feature has a class in field 'class_name': fill it" in empty.stderr) == (4, True)
    fill_sample(points, {1: "maize", 2: "wheat"}, world.truth)
    words = ("evaluate", inside / "map.tif", points, "--stratified")
    text = call(*words).stdout
    parts = ("Counts of the sample, not weighted by area", "kappa", "Accuracy of the map, by area")
    assert sorted(parts, key=text.index) == list(parts)
    whole = json.loads(call(*words, "--json").stdout)
    assert whole["description"] == "Counts of the sample, not weighted by area: see stratified"
    facts = whole["stratified"]
    assert facts["description"].startswith("accuracy of the map, by area")
    assert facts["unit"] == "ha"
    assert facts["total_area"] == pytest.approx((world.truth > 0).sum() * 0.09)
    assert facts["overall_accuracy"]["value"] > 0.85
    plain = json.loads(call(*words[:-1], "--json").stdout)
    assert not {"stratified", "description"} & plain.keys()
    assert any("give --stratified" in note for note in plain["notes"])


@pytest.mark.usefixtures("inside")
def test_info_knows_the_model_and_the_scene() -> None:
    facts = json.loads(call("info", "m.safetensors", "--json").stdout)
    assert facts["header"]["provenance"]["scene"]["name"] == "two_fields.tif"
    assert facts["header"]["provenance"]["options"]["epochs"] == 4
    assert json.loads(call("info", "two_fields.tif", "--json").stdout)["size"]["bands"] == 12


def test_bands_areas_and_masks_are_chosen_alike_in_train_classify_and_info(inside: Path, tmp_path: Path) -> None:
    aoi = write_polygons(tmp_path / "aoi.gpkg", [(pixel_box(0, 0, 60, 65), "in")])
    mask = write_raster(tmp_path / "mask.tif", np.pad(np.ones((1, 50, 90), np.uint8), ((0, 0), (0, 10), (0, 0))))
    choice = ("--aoi", aoi, "--valid-mask", mask, "--bands", "12,1-6")
    model, output = tmp_path / "m.safetensors", tmp_path / "map.tif"
    scene = inside / "two_fields.tif"
    trained = call("train", scene, inside / "labels.gpkg", "-o", model, *QUICK, "--split", "none", *choice)
    assert trained.exit_code == 0, trained.output
    assert "labelled pixels are excluded by a mask or an area of interest" in trained.stdout
    assert len(load_model(model).bands) == 7
    done = call("classify", scene, "-o", output, "-m", model, *choice)
    assert done.exit_code == 0, done.output
    with rasterio.open(output) as dataset:
        found = dataset.read(1) > 0
    expected = np.zeros((60, 90), bool)
    expected[:50, :65] = True
    expected[40:46, 10:21] = False
    np.testing.assert_array_equal(found, expected)
    told = call("info", scene, *choice, "-m", model, "--json", "--quicklook", tmp_path / "look.png")
    facts = json.loads(told.stdout)
    assert facts["plan"]["fits"]
    assert facts["bands"]["numbers"] == "12, 1-6"
    assert facts["values"]["masked_share"] == pytest.approx(1 - 50 * 65 / 5400)
    assert len(facts["quicklook"]["bands"]) == 3
    assert (tmp_path / "look.png").read_bytes().startswith(b"\x89PNG")


def test_a_dry_run_prints_the_plan_and_writes_nothing(inside: Path) -> None:
    before = contents(inside)
    result = call(
        "classify", "two_fields.tif", "-o", "new.tif", "--tile-size", 32, "--dry-run", "-m", "m.safetensors"
    )
    assert result.exit_code == 0
    assert "plan    tiles: 6 (2 down, 3 across, each 32 x 32), halo 8 before, 7 after" in result.stdout
    assert "2 tiles were read and classified on trial, nothing was written" in result.stdout
    assert re.search(
        r"^disk    \d+ kB until all tiles are done, \d+ kB at most .*; .* are free$", result.stdout, re.MULTILINE
    )
    assert re.search(r"^time    .* to .*, by the trial \(reading .*, computing .*\)$", result.stdout, re.MULTILINE)
    assert contents(inside) == before


def untimed(plan: str) -> str:
    return re.sub("^(disk|time) .*", "", plan, flags=re.MULTILINE)


def test_a_dry_run_tells_the_memory_and_keeps_to_what_it_may_take(inside: Path) -> None:
    plan = ("classify", inside / "two_fields.tif", "-o", "new.tif", "-m", inside / "m.safetensors", "--dry-run")
    refused = call(*plan, "--memory", "1MB")
    amount = refused.stderr.partition("at least ")[2].partition(",")[0]
    told, tiles = [], []
    for memory in (amount, "1GB", "4 GiB"):
        result = call(*plan, "--memory", memory)
        assert result.exit_code == 0, result.output
        line = re.search(r"^memory  (.+) at most, on top of the program itself$", result.stdout, re.MULTILINE)
        assert line is not None, result.stdout
        told.append(parse_size(line[1].replace(",", "")))
        tiles.append(untimed(result.stdout))
        assert told[-1] <= 1.05 * parse_size(memory)
    assert tiles[1] == tiles[2] == untimed(call(*plan).stdout), (
        "1 GB is the default, and plenty for so small a scene"
    )
    assert "tiles: 1 (1 down, 1 across, each 60 x 90)" in tiles[1]
    assert "reads   0.1 MB, halos included (1.00 times the pixels)" in tiles[1]


def test_neither_memory_nor_tile_size_changes_the_map(inside: Path, tmp_path: Path) -> None:
    old = (inside / "map.tif").read_bytes()
    words = ("classify", inside / "two_fields.tif", "-o", tmp_path / "map.tif", "-m", inside / "m.safetensors")
    for options in (("--memory", "800MB"), ("--tile-size", 11, "--memory", "1")):
        result = call(*words, "--overwrite", "--precision", "float32", *options)
        assert result.exit_code == 0, result.output
        assert (tmp_path / "map.tif").read_bytes() == old


def test_bfloat16_gives_nearly_the_same_map(inside: Path, tmp_path: Path) -> None:
    """The main head alone, and not so sharp that all probabilities are 0 or 1: the other one is always float32."""
    model = replace(load_model(inside / "m.safetensors"), calibration=Calibration(main=0.1, spectral=0.0))
    model.save(tmp_path / "m.safetensors")
    words = ("classify", inside / "two_fields.tif", "-m", tmp_path / "m.safetensors", "--device", "cpu")
    found = []
    for name in ("float32", "bfloat16"):
        outputs = ("-o", tmp_path / f"{name}.tif", "--probabilities", tmp_path / f"{name}_shares.tif")
        result = call(*words, *outputs, "--precision", name)
        assert result.exit_code == 0, result.output
        with rasterio.open(outputs[1]) as ids, rasterio.open(outputs[3]) as shares:
            found.append((ids.read(1), shares.read()))
    (exact, exact_shares), (short, short_shares) = found
    valid = exact > 0
    np.testing.assert_array_equal(short > 0, valid)
    assert (short != exact)[valid].mean() < 0.01
    difference = np.abs(short_shares - exact_shares)[:, valid]
    assert 1e-6 < difference.max() < 0.1, "it is another computation, but nearly the same"


def test_with_overwrite_outputs_are_replaced(inside: Path) -> None:
    old = (inside / "map.tif").read_bytes()
    again = ("classify", "two_fields.tif", "-o", "map.tif", "-m", "m.safetensors", "--overwrite")
    assert call(*again, "--precision", "float32").exit_code == 0
    assert (inside / "map.tif").read_bytes() == old, "tile size changes nothing, so the same map"


def test_the_model_can_come_from_the_variable_or_the_folder(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ("classify", inside / "two_fields.tif", "-o", "new.tif", "--dry-run")
    monkeypatch.setenv("CSSD_GEO_MODEL", str(inside / "m.safetensors"))
    assert str(inside / "m.safetensors") in call(*plan).stdout
    monkeypatch.delenv("CSSD_GEO_MODEL")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "only.safetensors").write_bytes((inside / "m.safetensors").read_bytes())
    assert "models/only.safetensors" in call(*plan).stdout


@pytest.mark.usefixtures("inside")
def test_an_even_and_an_odd_window_and_the_published_network_train(tmp_path: Path) -> None:
    for words in (("--window", 1), ("--window", 4), ("--window", 7, "--published")):
        path = tmp_path / "w.safetensors"
        options = ("--overwrite", "--split", "none", *QUICK, *words)
        result = call("train", "two_fields.tif", "labels.gpkg", "-o", path, *options)
        assert result.exit_code == 0, result.output
        config = load_model(path).network.config
        assert (config.window, config.strided_spectral) == (words[1], "--published" in words)


@pytest.mark.usefixtures("inside")
def test_without_a_hold_out_a_report_is_not_promised(tmp_path: Path) -> None:
    words = ("train", "two_fields.tif", "labels.gpkg", "-o", tmp_path / "m.safetensors", "--split", "none", *QUICK)
    require_failure(
        (*words, "--report", tmp_path / "r.json"), code=2, says="--report .* --split none", folder=tmp_path
    )
    result = call(*words)
    assert result.exit_code == 0
    assert result.stdout.count("the accuracy is not known") == 1


def test_a_scene_without_usable_pixels_gives_an_empty_map_and_a_warning(inside: Path, tmp_path: Path) -> None:
    empty = write_raster(tmp_path / "empty.tif", np.full((12, 9, 13), -1, np.int16), nodata=-1)
    result = call("classify", empty, "-o", tmp_path / "map.tif", "-m", inside / "m.safetensors")
    assert result.exit_code == 0
    assert "no pixel of the scene is valid" in result.stderr


# ---- help ---------------------------------------------------------------------------------------------------


def test_help_does_not_wait_for_torch() -> None:
    code = """
import sys
from cssd_geo.cli import main
for words in ([], *([name] for name in sys.argv[1:])):
    main([*words, "--help"], standalone_mode=False)
    found = {"torch", "rasterio"} & sys.modules.keys()
    found and sys.exit(f"{words}: {found}")
"""
    done = subprocess.run([sys.executable, "-c", code, *COMMANDS], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^Usage: ", done.stdout, re.MULTILINE)) == 1 + len(COMMANDS)


def test_help_names_every_command_and_version_is_the_package_s() -> None:
    text = call("--help").stdout
    assert all(re.search(rf"^  {name}  .+\.$", text, re.MULTILINE) for name in COMMANDS)
    assert call("--version").stdout == f"cssd-geo, version {__version__}\n"


def test_every_exit_code_is_explained() -> None:
    kinds: list[type[errors.CssdGeoError]] = [errors.CssdGeoError, *errors.CssdGeoError.__subclasses__()]
    codes = {kind.__name__: kind.exit_code for kind in kinds}
    document = (Path(__file__).parents[1] / "docs" / "reliability.md").read_text()
    for name, code in codes.items():
        assert re.search(rf"^\| {code} \| .*`{name}`", document, re.MULTILINE), name
    told = " ".join(call("--help").stdout.split("Exit codes: ")[1].split())
    assert {int(code) for code in re.findall(r"\b([2-9]) ", told)} == set(codes.values()) - {1}
    assert "128 + signal" in told


# ---- wrong input --------------------------------------------------------------------------------------------


TRAIN = ("train", "two_fields.tif", "labels.gpkg", "-o", "{new}.safetensors")
CLASSIFY = ("classify", "two_fields.tif", "-o", "{new}.tif", "-m", "m.safetensors")
EVALUATE = ("evaluate", "map.tif", "labels.gpkg")
SAMPLE = ("sample", "map.tif", "-o", "{new}.gpkg")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("train", "no.tif", "labels.gpkg", "-o", "{new}.safetensors"), 3, "no.tif does not exist"),
        (
            ("train", "labels.gpkg", "labels.gpkg", "-o", "{new}.safetensors"),
            3,
            "is a vector, and a scene is a raster: where both are given, the scene comes first",
        ),
        (("train", "two_fields.tif", "no.gpkg", "-o", "{new}.safetensors"), 4, "no.gpkg does not exist"),
        (
            ("train", "two_fields.tif", "report.json", "-o", "{new}.safetensors"),
            4,
            "is no vector, and cannot be read as a raster of classes",
        ),
        ((*TRAIN, "--class-field", "crop"), 4, "no field 'crop'; choose --class-field from: class_name"),
        ((*TRAIN, "--layer", "crops"), 4, "has no layer 'crops'; choose --layer from: labels$"),
        (
            ("train", "two_fields.tif", "map.tif", *TRAIN[3:], "--all-touched"),
            2,
            "--all-touched is for vectors, which map.tif is not: leave it out",
        ),
        ((*TRAIN, "--epochs", "0"), 2, "epochs must be at least 1, not 0"),
        ((*TRAIN, "--epochs", "many"), 2, "'many' is not a valid integer"),
        ((*TRAIN, "--window", "0"), 2, "window must be from 1 to 64, not 0"),
        ((*TRAIN, "--window", "1000"), 2, "window must be from 1 to 64, not 1000"),
        ((*TRAIN, "--learning-rate", "nan"), 2, "learning_rate must be at least"),
        ((*TRAIN, "--learning-rate", "inf"), 2, "learning_rate must be at least"),
        ((*TRAIN, "--folds", "1"), 2, "folds must be from 2 to 20, not 1"),
        ((*TRAIN, "--split", "folds"), 2, "'folds' is not one of"),
        ((*TRAIN, "--published", "--whitening", "always"), 2, "exclude each other, .*: leave one of them out"),
        ((*TRAIN, "--seed", "-1"), 2, "seed must be from 0"),
        ((*TRAIN, "--seed", "9" * 30), 2, "seed must be from 0"),
        ((*TRAIN, "--report", "report.json"), 6, "report.json exists: .* --overwrite"),
        ((*TRAIN, "--report", "{new}.txt"), 6, r"does not end in \.json"),
        ((*TRAIN[:-1], "m.safetensors"), 6, "m.safetensors exists: .* --overwrite"),
        ((*TRAIN[:-1], "{new}.pt"), 6, r"does not end in \.safetensors"),
        ((*TRAIN[:-1], "no/m.safetensors"), 6, "there is no folder no"),
        ((*TRAIN[:-1], "two_fields.tif/m.safetensors"), 6, "there is no folder two_fields.tif"),
        ((*TRAIN[:-1], "/proc/m.safetensors"), 6, "/proc takes no new file"),
        ((*TRAIN[:-1], "x" * 250 + ".safetensors"), 2, "name of more than 255 bytes"),
        ((*TRAIN[:-1], "x" * 230 + ".safetensors"), 6, "name of more than 200 bytes"),
        (
            ("classify", "two_fields.tif", "-m", "m.safetensors", "-o", "x" * 246 + ".tif"),
            6,
            "more than 200 bytes",
        ),
        ((*TRAIN[:-1], ""), 2, "path is empty"),
        (("classify", "no.tif", *CLASSIFY[2:]), 3, "no.tif does not exist"),
        (("classify", "report.json", *CLASSIFY[2:]), 3, "not a raster"),
        (("classify", "map.tif", *CLASSIFY[2:]), 3, "has 1 bands but the model was trained on 12"),
        (("classify", "caf\udce9.tif", *CLASSIFY[2:]), 2, "is not UTF-8: rename that file or folder"),
        ((*CLASSIFY[:-1], "no.safetensors"), 5, "no.safetensors does not exist"),
        ((*CLASSIFY[:-1], "."), 5, "is no file"),
        ((*CLASSIFY[:-1], "two_fields.tif"), 5, "not a model file"),
        ((*CLASSIFY[:4],), 5, r"which model\? ./models holds no model"),
        ((*CLASSIFY, "--tile-size", "0"), 2, "Invalid value for '--tile-size': 0 is not in the range x>=1"),
        ((*CLASSIFY, "--tile-size", "large"), 2, "'large' is not a valid integer"),
        (
            ("classify", "labels.gpkg", "-o", "{new}.tif", "-m", "m.safetensors"),
            3,
            "is a vector, and a scene is a raster",
        ),
        (("classify", ".", "-o", "{new}.tif", "-m", "m.safetensors"), 3, r'a folder, .* cssd-geo batch "\*.tif"$'),
        ((*CLASSIFY, "--memory", "lots"), 2, "'lots' is no size of memory: .* such as 800MB, 1.5GB or 2GiB"),
        ((*CLASSIFY, "--memory", "-1GB"), 2, "'-1GB' is no size of memory"),
        ((*CLASSIFY, "--memory", ""), 2, "'' is no size of memory"),
        ((*CLASSIFY, "--memory", "1MB"), 2, r"1 MB of memory are too little .*: give at least [\d.]+ [MG]B, "),
        ((*CLASSIFY, "--memory", "0", "--dry-run"), 2, "0 B of memory are too little"),
        (
            (*CLASSIFY, "--dry-run", "--workers", "2"),
            2,
            "on this machine alone: leave --scheduler and --workers out",
        ),
        ((*CLASSIFY, "--dry-run", "--scheduler", "tcp://here:1"), 2, "on this machine alone"),
        ((*CLASSIFY, "--precision", "half"), 2, "'half' is not one of 'auto', 'float32', 'bfloat16'"),
        ((*CLASSIFY, "--device", "tpu"), 2, "'tpu' is not one of"),
        ((*CLASSIFY, "--confidence", "confidence.tif"), 6, "confidence.tif exists: .* --overwrite"),
        ((*CLASSIFY, "--confidence", "{new}.tif"), 6, "would be the class map and the confidence"),
        ((*CLASSIFY, "--disagreement", "disagreement.tif"), 6, "disagreement.tif exists: .* --overwrite"),
        ((*CLASSIFY, "--disagreement", "{new}.tif"), 6, "would be the class map and the disagreement"),
        ((*CLASSIFY, "--disagreement", "a.tif", "--confidence", "a.tif"), 6, "be the confidence and the dis"),
        ((*CLASSIFY, "--disagreement", "two_fields.tif", "--overwrite"), 6, "be the scene and the disagreement"),
        ((*CLASSIFY, "--disagreement", "{new}.png"), 6, r"does not end in \.tif"),
        ((*CLASSIFY, "--disagreement", "no/a.tif"), 6, "there is no folder no"),
        ((*CLASSIFY, "--probabilities", "{new}.png"), 6, r"does not end in \.tif"),
        ((*CLASSIFY, "-o", "map.tif"), 6, "map.tif exists: .* --overwrite"),
        ((*CLASSIFY, "-o", "two_fields.tif", "--overwrite"), 6, "would be the scene and the class map: each"),
        ((*CLASSIFY, "-o", "m.safetensors/map.tif"), 6, "there is no folder m.safetensors"),
        ((*CLASSIFY, "-o", "/proc/map.tif"), 6, "/proc takes no new file"),
        ((*CLASSIFY, "-o", "."), 6, r"\. is a folder: name a file, for example result\.tif"),
        (("evaluate", "no.tif", "labels.gpkg"), 3, "no.tif does not exist"),
        (("evaluate", "map.tif", "no.gpkg"), 4, "no.gpkg"),
        (
            ("evaluate", "labels.gpkg", "map.tif"),
            3,
            "labels.gpkg is no class map, but map.tif is: give that first",
        ),
        (("evaluate", "confidence.tif", "labels.gpkg"), 3, "holds confidence in percent: give the class map"),
        (("evaluate", "two_fields.tif", "labels.gpkg"), 3, "holds 12 bands of int16; a class raster has one"),
        (("evaluate", "map.tif", "two_fields.tif"), 4, "holds 12 bands of int16; a class raster has one"),
        (("evaluate", "probabilities.tif", "labels.gpkg"), 3, "a class map has whole numbers"),
        (("evaluate", "map.tif", "report.json"), 4, "cannot be used as a reference"),
        ((*EVALUATE, "--class-field", "crop"), 4, "no field 'crop'"),
        ((*EVALUATE, "--exclude", "no.gpkg"), 4, "no.gpkg"),
        ((*EVALUATE, "--exclude", "labels.gpkg"), 4, "no pixel to compare"),
        (
            (*EVALUATE, "--exclude", "labels.gpkg", "--exclude-layer", "x"),
            4,
            "no layer 'x'; choose --exclude-layer from: labels",
        ),
        ((*EVALUATE, "--exclude-layer", "x"), 2, r"a layer \('x'\) of which excluded polygons"),
        ((*EVALUATE, "--buffer", "-1"), 2, "buffer is a number of pixels from 0 to 10000, not -1"),
        ((*EVALUATE, "--buffer", "3"), 2, "a buffer of 3 pixels around which polygons"),
        (("evaluate", "map.tif", "map.tif", "--layer", "x"), 2, "--layer x is for vectors, which map.tif is not"),
        ((*EVALUATE, "--csv", "{new}.txt"), 6, r"does not end in \.csv"),
        ((*EVALUATE, "--png", "/proc/a.png"), 6, "/proc takes no new file"),
        ((*EVALUATE, "--stratified"), 4, "labels.gpkg holds other shapes than points: .*cssd-geo sample"),
        (("evaluate", "map.tif", "map.tif", "--stratified"), 4, "map.tif is no vector: .*cssd-geo sample"),
        ((*EVALUATE, "--stratified", "--exclude", "labels.gpkg"), 2, "leave one of them out"),
        (("sample", "no.tif", *SAMPLE[2:]), 3, "no.tif does not exist"),
        (("sample", "labels.gpkg", *SAMPLE[2:]), 3, "labels.gpkg is a vector, and a class map is a raster"),
        (("sample", "probabilities.tif", *SAMPLE[2:]), 3, "a class map has whole numbers"),
        (("sample", "disagreement.tif", *SAMPLE[2:]), 3, "holds disagreement in percent: give the class map"),
        (("sample", "two_fields.tif", *SAMPLE[2:]), 3, "holds 12 bands of int16; a class raster has one"),
        ((*SAMPLE[:-1], "labels.gpkg"), 6, "labels.gpkg exists: .* --overwrite"),
        ((*SAMPLE[:-1], "{new}.shp"), 6, r"does not end in \.gpkg"),
        ((*SAMPLE[:-1], "/proc/a.gpkg"), 6, "/proc takes no new file"),
        ((*SAMPLE, "--size", "0"), 2, "0 is not in the range x>=1"),
        (
            (*SAMPLE, "--size", "99"),
            2,
            "99 pixels are too few for 2 classes .*: ask for 100 or more, or lower --per-",
        ),
        ((*SAMPLE, "--per-class-least", "1"), 2, "at least 2 pixels for its variance, not 1"),
        ((*SAMPLE, "--users-accuracy", "95"), 2, "fraction above 0 and below 1, not 95"),
        ((*SAMPLE, "--standard-error", "nan"), 2, "fraction above 0 and below 1, not nan"),
        (
            (*SAMPLE, "--size", "120", "--standard-error", "-3"),
            2,
            "a size of 120 leaves nothing to find .*: leave it",
        ),
        ((*SAMPLE, "--size", "120", "--users-accuracy", "7"), 2, "a size of 120 leaves nothing to find"),
        ((*SAMPLE, "--seed", "-1"), 2, "seed must be from 0 to 4294967295, not -1"),
        (("info", "no.tif"), 3, "no.tif does not exist"),
        (("info", "no.safetensors"), 5, "does not exist"),
        (("info", "labels.gpkg"), 3, "is a vector"),
        (("info", "two_fields.tif", "--quicklook", "{new}.jpg"), 6, r"does not end in \.png"),
        (("info", "two_fields.tif", "--quicklook", "no/a.png"), 6, "there is no folder no"),
        (("info", "m.safetensors", "--quicklook", "{new}.png"), 2, "options of scenes have no meaning"),
        (("info", "m.safetensors", "--scale", "0"), 2, "options of scenes have no meaning"),
        (("info", "two_fields.tif", "-m", "no.safetensors"), 5, "no.safetensors does not exist"),
        ((*TRAIN, "--bands", "1-50"), 2, "there is no band 50; the scene has bands 1 to 12"),
        ((*TRAIN, "--bands", "450-900nm"), 2, "those of the scene are not known: count bands"),
        ((*TRAIN, "--aoi", "no.gpkg"), 3, "no.gpkg does not exist"),
        ((*CLASSIFY, "--bands", "1-5"), 3, "has 5 bands but the model was trained on 12"),
        ((*CLASSIFY, "--bands", "5-1"), 2, "runs backwards"),
        ((*CLASSIFY, "--aoi", "map.tif"), 3, "map.tif is no vector .* --valid-mask"),
        (
            (*CLASSIFY, "--aoi", "labels.gpkg", "--aoi-layer", "x"),
            3,
            "no layer 'x'; choose --aoi-layer from: labels",
        ),
        ((*CLASSIFY, "--aoi-layer", "x"), 2, "Name its file too"),
        ((*CLASSIFY, "--valid-mask", "labels.gpkg"), 3, "is a vector, not a raster: give it as area of interest"),
        ((*CLASSIFY, "--valid-mask", "probabilities.tif"), 3, "holds 2 bands of float32"),
        (("demo", "-o", "labels.gpkg"), 6, "cannot be made"),
        (("demo", "--epochs", "0"), 2, "epochs must be at least 1"),
        (("guess",), 2, "No such command 'guess': choose from batch, bench, classify, demo, "),
        (("clasify",), 2, r"No such command 'clasify': did you mean classify\?$"),
        (("train",), 2, "Missing argument 'SCENE LABELS"),
        (("train", "two_fields.tif", *TRAIN[3:]), 2, "two_fields.tif has no labels: .* SCENE LABELS"),
    ],
)
def test_wrong_input_is_one_clear_line(words: tuple[str, ...], code: int, says: str, inside: Path) -> None:
    require_failure(tuple(w.replace("{new}", "new") for w in words), code=code, says=says, folder=inside)


def test_a_path_in_a_folder_whose_name_is_not_utf_8_is_refused(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    (folder / "map.tif").write_bytes((inside / "map.tif").read_bytes())
    monkeypatch.chdir(folder)
    require_failure(("info", "map.tif"), code=2, says="is not UTF-8: rename that", folder=folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("words", [TRAIN, CLASSIFY])
def test_a_gpu_that_is_not_there_is_an_error(words: tuple[str, ...], inside: Path) -> None:
    given = tuple(word.replace("{new}", "new") for word in words)
    require_failure((*given, "--device", "cuda"), code=2, says="torch sees no CUDA GPU", folder=inside)


@pytest.mark.usefixtures("inside")
def test_an_existing_table_or_picture_is_kept(tmp_path: Path) -> None:
    for option in ("--csv", "--png"):
        path = tmp_path / f"a.{option[2:]}"
        path.write_text("mine")
        require_failure((*EVALUATE, option, path), code=6, says="exists: .* --overwrite", folder=tmp_path)
        assert call(*EVALUATE, option, path, "--overwrite").exit_code == 0
        assert path.read_bytes() != b"mine"


BOX, OTHER = pixel_box(2, 3, 9, 9), pixel_box(40, 50, 9, 9)
FAR = pixel_box(5000, 5000, 9, 9)


@pytest.mark.parametrize(
    ("shapes", "crs", "says"),
    [
        ([(BOX, "a"), (OTHER, "b")], None, "has no CRS"),
        ([(FAR, "a"), (pixel_box(6000, 0, 9, 9), "b")], "EPSG:32633", "no pixel of the scene is labelled"),
        ([(BOX, "a"), (OTHER, "a")], "EPSG:32633", "one class only"),
        ([(BOX, 1.5), (OTHER, 2.5)], "EPSG:32633", "has no field with classes"),
        ([(BOX, "a"), (pixel_box(40, 50, 1, 1), "b")], "EPSG:32633", "too few labelled pixels for b"),
    ],
)
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_labels_that_cannot_be_used(
    shapes: list[Any], crs: str | None, says: str, inside: Path, tmp_path: Path
) -> None:
    labels = write_polygons(tmp_path / "l.gpkg", shapes, field="crop", crs=crs)
    words = ("train", inside / "two_fields.tif", labels, "-o", tmp_path / "m.safetensors", *QUICK)
    require_failure(words, code=4, says=says, folder=tmp_path)


def test_one_class_only_cannot_be_trained(inside: Path, tmp_path: Path) -> None:
    labels = write_polygons(tmp_path / "l.gpkg", [(BOX, "a"), (OTHER, "a")], field="crop")
    words = ("train", inside / "two_fields.tif", labels, "-o", tmp_path / "m.safetensors", "--class-field", "crop")
    require_failure(words, code=4, says=r"one class only \(a: 162 pixels\)", folder=tmp_path)


def _truncated(model: Path) -> bytes:
    return model.read_bytes()[:2000]


def _foreign(_: Path) -> bytes:
    return save({"layer": torch.zeros(3)})


def _newer(model: Path) -> bytes:
    weights, header = load_model(model).network.state_dict(), load_model(model).header() | {"format_version": 3}
    return save(weights, metadata={"cssd_geo": json.dumps(header)})


def _not_json(model: Path) -> bytes:
    return save(load_model(model).network.state_dict(), metadata={"cssd_geo": "{"})


def _nan(model: Path) -> bytes:
    weights = load_model(model).network.state_dict()
    weights["teacher.bias"] = torch.full_like(weights["teacher.bias"], float("nan"))
    return save(weights, metadata={"cssd_geo": json.dumps(load_model(model).header())})


def _vast(model: Path) -> bytes:
    header = load_model(model).header()
    header["network"] = header["network"] | {"window": 10**9}
    return save(load_model(model).network.state_dict(), metadata={"cssd_geo": json.dumps(header)})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_truncated, "damaged: .* Copy it again"),
        (_foreign, "weights of another program"),
        (_newer, "version 3, this program reads 2: update"),
        (_not_json, "damaged model"),
        (_nan, "weights are not finite"),
        (_vast, "window is 1000000000 pixels"),
    ],
)
def test_a_damaged_model_is_refused(damage: Any, says: str, inside: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(damage(inside / "m.safetensors"))
    words = ("classify", "two_fields.tif", "-o", tmp_path / "map.tif", "-m", tmp_path / "bad.safetensors")
    require_failure(words, code=5, says=says, folder=tmp_path)
    require_failure(("info", tmp_path / "bad.safetensors"), code=5, says=says, folder=tmp_path)


class _Trap:
    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.system, ("touch executed",)


def test_a_pickle_is_not_executed_whatever_its_name(inside: Path, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(pickle.dumps(_Trap()))
    words = ("classify", inside / "two_fields.tif", "-o", tmp_path / "map.tif", "-m", tmp_path / "m.safetensors")
    require_failure(words, code=5, says="not a model file", folder=tmp_path)
    assert not (inside / "executed").exists()


def test_of_two_models_one_must_be_named(inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("a", "b"):
        (tmp_path / "models" / f"{name}.safetensors").write_bytes((inside / "m.safetensors").read_bytes())
    words = ("classify", inside / "two_fields.tif", "-o", "map.tif")
    require_failure(
        words, code=5, says=r"2 models \(models/a\.safetensors, models/b\.safetensors\)", folder=tmp_path
    )


def test_a_variable_that_names_no_model_is_an_error(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSSD_GEO_MODEL", "gone.safetensors")
    words = ("classify", "two_fields.tif", "-o", "new.tif")
    require_failure(
        words, code=5, says="CSSD_GEO_MODEL is set to gone.safetensors, which does not exist", folder=inside
    )


def test_a_scene_that_ends_too_soon_leaves_no_output(inside: Path, tmp_path: Path) -> None:
    data = (inside / "two_fields.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) // 2])
    words = ("classify", tmp_path / "cut.tif", "-o", tmp_path / "map.tif", "-m", inside / "m.safetensors")
    require_failure(words, code=3, says="cut.tif cannot be read at row", folder=tmp_path)


def test_a_real_terminal_sees_the_same(tmp_path: Path) -> None:
    words = ("sample", tmp_path / "no.tif", "-o", tmp_path / "p.gpkg")  # fails before torch is needed
    command = [sys.executable, "-m", "cssd_geo.cli", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_what_a_terminal_would_obey_is_shown_instead(inside: Path, tmp_path: Path) -> None:
    scene = write_raster(tmp_path / "scene.img", np.ones((2, 3, 4), np.int16), driver="ENVI")
    with scene.with_suffix(".hdr").open("a", encoding="utf-8") as header:
        header.write("sensor type = \x1b]0;title\x07\x9b31mred\n")
    model = replace(load_model(inside / "m.safetensors"), provenance={"options": {"\x1b[2J": 1}})
    model.save(tmp_path / "m.safetensors")
    for words in (("info", scene), ("info", scene, "--json"), ("info", tmp_path / "m.safetensors")):
        said = CliRunner().invoke(main, [*map(str, words)], color=True).output  # as to a terminal
        assert r"\u001b" in said
        assert not re.search(r"[^\n -~\xa0-\uffff]", said)
    assert r"\u009b31mred" in call("info", scene).output


def test_an_interrupt_after_the_end_is_no_traceback() -> None:
    late = "import atexit, os, signal; atexit.register(os.kill, os.getpid(), signal.SIGINT)"
    command = [sys.executable, "-c", f"{late}; from cssd_geo.cli import main; main(['info', 'no.tif'])"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (-signal.SIGINT, 1)


def test_a_full_disk_to_which_it_prints_is_one_line(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, write_through=True))
        with pytest.raises(SystemExit) as ended:
            main(["info", str(world.folder / "m.safetensors")])
        monkeypatch.undo()
    assert ended.value.code == errors.OutputError.exit_code
    said = "Error: what is printed cannot be written: No space left on device. What is in files is whole"
    assert capsys.readouterr().err.strip() == said


# ---- progress -----------------------------------------------------------------------------------------------


def epochs_of_two() -> Iterator[Epoch]:
    """Those of two trainings, taking turns, as if side by side."""
    figures: dict[str, Any] = {"epochs": 50, "loss": 1.0, "accuracy": 0.5, "windows": 100, "runs": 2}
    for number in range(1, 51):
        yield from (Epoch(run=run, number=number, **figures) for run in (1, 2))


def test_epochs_in_a_log_are_few(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with EpochProgress() as progress:
        for epoch in epochs_of_two():
            now += 0.5
            progress(epoch)
    *lines, last = capsys.readouterr().err.splitlines()
    assert last == "testing on what was held out"
    state = "loss 1.000, 50.0 % of training windows right, 200 windows/s"
    assert lines == [
        f"{run:<10}  epoch {number:>3}/50  {state}, {left} s left"
        for run, number, left in (
            ("all labels", 1, 50),
            ("fold 1/1", 1, 49),
            ("fold 1/1", 31, 19),
            ("fold 1/1", 50, 0),
        )
    ]


def test_epochs_on_a_terminal_are_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with EpochProgress() as progress:
        for epoch in epochs_of_two():
            progress(epoch)
        sys.stderr.write("what comes next\n")
    text = capsys.readouterr().err
    assert text.endswith("\nwhat comes next\n")
    assert "train 2 models: 100%" in text
    assert "100/100 epochs" in text
    assert "windows/s, loss 1.00" in text


def test_pixels_in_a_log_are_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with PixelProgress("classify") as progress:
        for done in range(1, 101):
            now += 1
            progress(10 * done, 1000)
        progress.go_on(7, 7)
    lines = capsys.readouterr().err.splitlines()
    told = [f"classify: {p} %, 10 pixels/s, {100 - p} s left" for p in (30, 60, 90)]
    again = "classify goes on with an unfinished run: 7 of 7 tiles are done, making the outputs"
    assert lines == [*told, "classify: 100 %, making the outputs", again]


def test_a_short_run_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with PixelProgress("classify") as progress:
        progress(10, 20)
        progress(20, 20)
    assert capsys.readouterr().err == ""


def test_the_rate_in_a_log_is_of_what_came_since_a_run_went_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with PixelProgress("classify") as progress:
        progress.go_on(5, 10)
        for done in (600, 800):
            now += 40
            progress(done, 1000)
        progress.restart()
        now += 40
        progress(200, 1000)
    lines = capsys.readouterr().err.splitlines()[1:]
    told = ((80, 40), (20, 160))
    assert lines == [f"classify: {percent} %, 5 pixels/s, {left} s left" for percent, left in told]


def test_progress_does_without_anybody_who_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(0, 9999, 100))
    monkeypatch.setattr(sys, "stderr", None)  # as Python has it where the stream is closed
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    with PixelProgress("classify") as progress:
        progress(10, 1000)


def test_pixels_on_a_terminal_are_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with PixelProgress("classify") as progress:
        progress(10, 1000)
        progress(1000, 1000)
    text = capsys.readouterr().err
    assert "100%" in text
    assert "px/s" in text
    assert "making the outputs" in text


@pytest.mark.usefixtures("inside")
def test_a_model_of_another_sensor_is_refused(tmp_path: Path) -> None:
    random_model(bands=11, dtype=torch.float32).save(tmp_path / "other.safetensors")
    words = ("classify", "two_fields.tif", "-o", tmp_path / "map.tif", "-m", tmp_path / "other.safetensors")
    require_failure(words, code=3, says="has 12 bands but the model was trained on 11", folder=tmp_path)


@pytest.mark.parametrize(("quota", "expected"), [(None, None), (1.5, "2")])
def test_torch_is_told_how_much_time_a_container_has(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: str | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("cssd_geo.cli.cpu_quota", lambda: quota)
    monkeypatch.setattr("cssd_geo.cli.processors", lambda: 2)
    assert CliRunner().invoke(main, ["info", "--help"]).exit_code == 0
    assert os.environ.get("OMP_NUM_THREADS") == expected
