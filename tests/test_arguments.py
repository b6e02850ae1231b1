"""Arguments of another kind are refused by name, before any work; a text is never taken for true."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from scenes import random_model, write_raster

import cssd_geo
from cssd_geo.errors import InputError, ModelFileError
from cssd_geo.scenes.scene_lists import ListedScene

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene, a class map and a model."""
    folder = tmp_path_factory.mktemp("arguments")
    write_raster(folder / "scene.tif", np.full((5, 6, 7), 1500, np.int16))
    write_raster(folder / "map.tif", np.ones((1, 6, 7), np.uint8), nodata=0)
    (folder / "there.tif").touch()
    (folder / "there.gpkg").touch()
    random_model(bands=5).save(folder / "model.safetensors")
    return folder


def _classify(folder: Path, **options: Any) -> Any:
    return cssd_geo.classify(folder / "scene.tif", folder / "model.safetensors", folder / "there.tif", **options)


def _open(folder: Path, **options: Any) -> Any:
    return cssd_geo.open_scene(folder / "scene.tif", **options)


def _train(folder: Path, **options: Any) -> Any:
    given = {"scene": folder / "scene.tif", "labels": folder / "map.tif"} | options
    return cssd_geo.train(given.pop("scene"), given.pop("labels"), **given)


def _evaluate(folder: Path, **options: Any) -> Any:
    given = {"reference": folder / "map.tif"} | options
    return cssd_geo.evaluate(folder / "map.tif", given.pop("reference"), **given)


def _sample(folder: Path, **options: Any) -> Any:
    return cssd_geo.sample(folder / "map.tif", folder / "there.gpkg", **options)


def _batch(folder: Path, **options: Any) -> Any:
    scene = ListedScene(name="scene", path=str(folder / "scene.tif"))
    given: dict[str, Any] = {"scenes": [scene], "model": folder / "model.safetensors"} | options
    return list(cssd_geo.classify_batch(given.pop("scenes"), given.pop("model"), folder / "maps", **given))


def _find(_: Path, **options: Any) -> Any:
    return cssd_geo.find_scenes(**options)


def _batch_options(_: Path, **options: Any) -> Any:
    return cssd_geo.BatchOptions(**options)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (_classify, "overwrite"),
        (_classify, "restart"),
        (_open, "follow_links"),
        (_train, "all_touched"),
        (_evaluate, "stratified"),
        (_sample, "overwrite"),
        (_batch_options, "overwrite"),
        (_batch_options, "restart"),
        (_batch_options, "follow_links"),
    ],
)
def test_a_text_is_neither_true_nor_false(call: Call, name: str, folder: Path) -> None:
    for value in ("no", "False", 1):
        with pytest.raises(InputError, match=f"{name} must be true or false, not {value!r}"):
            call(folder, **{name: value})
    assert not (folder / "there.tif").stat().st_size
    assert not (folder / "there.gpkg").stat().st_size


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (_open, {"scale": "0.0001"}, "scale must be a number, not '0.0001'"),
        (_open, {"scale": True}, "scale must be a number, not True"),
        (_open, {"bands": 3}, 'bands are chosen by numbers from 1 or by a text, such as "1-50.*, not by 3'),
        (_open, {"aoi": shapely.box(0, 0, 1, 1)}, "area of interest are given by their paths, not as Polygon"),
        (
            _open,
            {"valid_mask": np.ones((6, 7))},
            "a mask .* given by their paths, not as ndarray: write it to a file",
        ),
        (_train, {"scene": None}, r"several are given as \[\(scene, labels\), ...\]"),
        (_train, {"options": {"epochs": 5}}, r"options must be TrainingOptions\(...\), not dict"),
        (_train, {"remap": {"a": "b"}}, r"remapped by a .csv or .yaml file, not a dict: write one, such as"),
        (_evaluate, {"remap": {"a": "b"}}, r"remapped by a .csv or .yaml file, not a dict: write one, such as"),
        (_evaluate, {"reference": None}, "are paths, not NoneType"),
        (_sample, {"standard_error": "0.01"}, "standard_error must be a number, not '0.01'"),
        (_sample, {"users_accuracy": None}, "users_accuracy must be a number, not None"),
        (_batch, {"scenes": ["scene.tif"]}, "each scene must be one that find_scenes found, not str"),
        (_batch, {"options": {"memory": 5}}, r"options must be BatchOptions\(...\), not dict"),
        (_batch, {"shard": "1/2"}, r'shard must be a Shard, such as Shard.parse\("2/8"\), not str'),
        (_find, {"given": None}, "given by their paths, not as NoneType"),
        (_find, {"given": ["a.tif", 5]}, "given by their paths, not as int"),
        (_batch_options, {"layers": ["map"]}, "layer 'map' is unknown; choose from confidence"),
        (_batch_options, {"memory": "2GB"}, "memory must be a whole number, not '2GB'"),
        (_batch_options, {"device": "gpu"}, "device 'gpu' is unknown; choose from auto"),
    ],
)
def test_what_is_of_another_kind_is_named(call: Call, options: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        call(folder, **options)


def test_a_model_that_is_one_already_and_a_path_for_an_array_are_told_as_what_they_are(folder: Path) -> None:
    model: Any = cssd_geo.load_model(folder / "model.safetensors")
    with pytest.raises(ModelFileError, match="is loaded by the path of its file, not Model"):
        cssd_geo.load_model(model)
    with pytest.raises(ModelFileError, match="a model is a Model, or the path of its file, not NoneType"):
        cssd_geo.classify(folder / "scene.tif", None, folder / "new.tif")  # type: ignore[call-overload]
    path: Any
    for path in ("scene.tif", Path("scene.tif")):
        with pytest.raises(InputError, match=r"not of a path: open_scene\('scene.tif'\) opens a file"):
            cssd_geo.scene_of_array(path)


def test_layers_of_a_batch_may_be_gone_through_once_or_be_one_name() -> None:
    layers: Any
    for layers in ("confidence", ["confidence"], iter(["confidence"])):
        assert cssd_geo.BatchOptions(layers=layers).layers == ("confidence",)


def test_a_batch_takes_the_path_of_a_model(folder: Path) -> None:
    assert [outcome.status for outcome in _batch(folder)] == ["done"]
