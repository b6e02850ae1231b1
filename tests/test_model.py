"""The model file: exact, whole or absent, and safe to open whoever wrote it."""

import json
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save
from scenes import random_model, with_bands, write_two_fields

from cssd_geo.bands import Bands
from cssd_geo.calibration import Calibration
from cssd_geo.classes import ClassTable
from cssd_geo.errors import InputError, ModelFileError, OutputError
from cssd_geo.files import fingerprints
from cssd_geo.files.fingerprints import fingerprint
from cssd_geo.files.json_values import json_ready
from cssd_geo.model import Model, find_model, load_model
from cssd_geo.options import TrainingOptions
from cssd_geo.spectra.alignment import Alignment
from cssd_geo.training import train

Header = dict[str, Any]
CLASSES = [{"id": 1, "name": "a", "colour": [0, 0, 0]}]


@pytest.fixture
def model() -> Model:
    made = with_bands(
        random_model(bands=5, dtype=torch.float32),
        Bands(
            good=(True, True, False, True, True, True), wavelength_nm=(450.1, 500.0, 550.0, 600.0, 650.0, 700.0)
        ),
    )
    return replace(made, provenance={"scene": {"name": "Köln 水.tif"}, "accuracy": None, "seed": 3})


def write(path: Path, header: Header | str, weights: dict[str, torch.Tensor]) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(save(weights, metadata={"cssd_geo": text}))
    return path


def changed(model: Model, key: str, value: Any) -> Header:
    """The header with one value replaced; `key` is its path, with dots."""
    header: Header = json.loads(json.dumps(model.header()))
    *parents, last = key.split(".")
    place = header
    for parent in parents:
        place = place[parent]
    place[last] = value
    return header


def weights_of(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


# ---- whole and exact ----------------------------------------------------------------------------------------


def test_a_model_shows_itself_in_one_line() -> None:
    assert repr(random_model(bands=5, classes=2)) == (
        "<Model of 2 classes: class 0, class 1; 5 bands, 5 good, wavelengths unknown>"
    )


def test_models_that_make_other_maps_have_other_digests() -> None:
    model = random_model(bands=7)
    renamed = ClassTable.from_names([f"new {name}" for name in model.classes.names])
    others = [
        random_model(bands=7, seed=1),
        replace(model, mean=model.mean + 1),
        replace(model, std=model.std * 2),
        replace(model, classes=renamed),
        replace(model, calibration=Calibration(main=0.25, spectral=3.0)),
        with_bands(model, Bands(good=(True,) * 7, wavelength_nm=tuple(range(400, 470, 10)))),
    ]
    assert len({each.digest() for each in [model, *others]}) == 1 + len(others)
    assert replace(model, provenance={"made": "elsewhere"}).digest() == model.digest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_model_comes_back_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    model = random_model(bands=7, dtype=dtype)
    model.save(tmp_path / "m.safetensors")
    found = load_model(tmp_path / "m.safetensors")
    assert found.header() == model.header()
    assert found.digest() == model.digest()
    assert weights_of(found).keys() == weights_of(model).keys()
    for name, tensor in weights_of(found).items():
        assert tensor.dtype == weights_of(model)[name].dtype
        assert torch.equal(tensor, weights_of(model)[name])
    np.testing.assert_array_equal(found.mean, model.mean)
    np.testing.assert_array_equal(found.std, model.std)
    assert not found.network.training


def test_bands_classes_and_provenance_come_back(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.safetensors")
    found = load_model(tmp_path / "m.safetensors")
    assert (found.bands, found.classes, found.calibration) == (model.bands, model.classes, model.calibration)
    assert found.provenance == model.provenance


def test_the_same_model_is_the_same_bytes(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "a.safetensors")
    model.save(tmp_path / "b.safetensors")
    load_model(tmp_path / "a.safetensors").save(tmp_path / "c.safetensors")
    first = (tmp_path / "a.safetensors").read_bytes()
    assert first == (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "c.safetensors").read_bytes()


def test_a_failed_write_leaves_the_old_model(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")

    def full(_: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", len(data))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        model.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_rename_leaves_the_old_model(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        model.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["file/m.safetensors", "no/m.safetensors", "x" * 300])
def test_where_no_file_can_be_the_error_says_so(name: str, model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        model.save(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_model_that_diverged_is_not_written(model: Model, tmp_path: Path) -> None:
    model.network.teacher.bias.data[0] = float("nan")
    with pytest.raises(InputError, match="lower learning rate"):
        model.save(tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_seed_alone_decides_the_model(tmp_path: Path) -> None:
    fields = write_two_fields(tmp_path)

    def digest(seed: int) -> str:
        options = TrainingOptions(epochs=1, windows_per_class=6, shots=8, split="none", seed=seed)
        return train(fields.scene, fields.labels, options=options).model.digest()

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_normalisation_is_what_it_says(model: Model) -> None:
    scale, offset = np.linspace(1, 2, 6), np.linspace(-3, 3, 6)
    stored, good = np.arange(6.0) * 100, model.bands.good_indexes
    gain, bias = model.normalisation(Alignment.one_to_one(good), scale, offset)
    expected = ((scale * stored + offset)[good] - model.mean) / model.std
    np.testing.assert_allclose(gain * stored[good] + bias, expected)
    weights = np.random.default_rng(0).uniform(size=(5, 4))
    other = Alignment(bands=np.array([4, 0, 3, 1]), weights=weights, exact=False)
    gain, bias = model.normalisation(other, scale, offset)
    expected = (weights @ (scale * stored + offset)[other.bands] - model.mean) / model.std
    np.testing.assert_allclose(gain @ stored[other.bands] + bias, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": np.zeros(4)}, "4 means"),
        ({"std": np.zeros(5)}, "deviations positive"),
        ({"mean": np.full(5, np.nan)}, "must be finite"),
        ({"mean": np.zeros((5, 2))}, "one number a band"),
        ({"bands": Bands(good=(True,) * 4)}, "4 good bands, 5 inputs"),
        ({"classes": random_model(classes=2).classes}, "2 classes, 3 outputs"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], message: str, model: Model) -> None:
    with pytest.raises(InputError, match=message):
        replace(model, **change)


# ---- damaged, foreign and hostile files ---------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 7, 100, 1000, -1, -4000])
def test_a_truncated_file_is_refused(keep: int, model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.safetensors")
    (tmp_path / "m.safetensors").write_bytes((tmp_path / "m.safetensors").read_bytes()[:keep])
    with pytest.raises(ModelFileError, match=r"m\.safetensors is not a model file .* Copy it again"):
        load_model(tmp_path / "m.safetensors")


def test_weights_of_another_program_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(save({"layer.weight": torch.zeros(3)}))
    with pytest.raises(ModelFileError, match="weights of another program"):
        load_model(tmp_path / "m.safetensors")


class _Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_is_not_executed(zipped: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    mark, path = tmp_path / "executed", tmp_path / "m.safetensors"
    if zipped:
        torch.save({"model": _Trap(mark)}, path)
    else:
        path.write_bytes(pickle.dumps(_Trap(mark)))
    with pytest.raises(ModelFileError):
        load_model(path)
    assert not mark.exists()


@pytest.mark.parametrize("version", [1, 3, 0, None, "2", True, 2.0])
def test_another_version_is_refused_with_advice(version: Any, model: Model, tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", changed(model, "format_version", version), weights_of(model))
    with pytest.raises(ModelFileError, match=f"version {version!r}, this program reads 2: update cssd-geo"):
        load_model(path)


@pytest.mark.parametrize(
    "text", ["{not json", "", "[]", "null", '"x"', "[" * 100_000, "{}", '{"format_version": 1}']
)
def test_a_header_that_is_none_is_refused(text: str, model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="damaged model"):
        load_model(write(tmp_path / "m.safetensors", text, weights_of(model)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network", []), ("network.bands", 4), ("network.bands", -1), ("network.bands", 5.0), ("network.more", 1),
        ("network.sharpness", "x"), ("network.sharpness", 10**400), ("network.window", 10**6),
        ("network.window", 10**30), ("network.activation", 1), ("bands", "x"), ("bands.good", [True] * 5),
        ("bands.wavelength_nm", [float("nan")] * 6), ("bands.wavelength_nm", [10**400] * 6),
        ("statistics", []), ("statistics.mean", [[1, 2]] * 5), ("statistics.mean", [10**400] * 5),
        ("statistics.std", [0] * 5), ("statistics.std", [float("inf")] * 5), ("statistics.mean", ["x"] * 5),
        ("classes", []), ("classes", CLASSES), ("classes", [{"id": float("inf")}]), ("classes", {"id": 1}),
        ("calibration", {}), ("calibration.main", 10**400), ("calibration.main", float("nan")),
        ("calibration.pixels", float("inf")), ("provenance", [1]), ("provenance", {"scene": "x"}),
        ("provenance.options", {"seed": "\ud800"}), ("provenance.options", json.loads("[" * 900 + "]" * 900)),
    ],
)  # fmt: skip
def test_a_header_with_a_bad_value_is_refused(key: str, value: Any, model: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="damaged model"):
        load_model(write(tmp_path / "m.safetensors", changed(model, key, value), weights_of(model)))


@pytest.mark.parametrize("key", ["network", "bands", "statistics", "classes", "calibration", "provenance"])
def test_a_header_without_a_part_is_refused(key: str, model: Model, tmp_path: Path) -> None:
    header = changed(model, key, None)
    del header[key]
    with pytest.raises(ModelFileError, match=key):
        load_model(write(tmp_path / "m.safetensors", header, weights_of(model)))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("teacher.bias", lambda w: torch.full_like(w, float("nan")), "not finite"),
        ("teacher.bias", lambda w: torch.full_like(w, float("inf")), "not finite"),
        ("teacher.bias", lambda w: w.double(), "all float32 or all float64"),
        ("teacher.bias", lambda w: w.half(), "all float32 or all float64"),
        ("teacher.bias", lambda w: w.to(torch.complex64), "all float32 or all float64"),
        ("teacher.bias", lambda w: w.to(torch.int64), "all float32 or all float64"),
        ("teacher.bias", lambda w: w[:-1], "size mismatch"),
        ("more", lambda _: torch.zeros(2), "Unexpected key"),
        ("teacher.bias", None, "Missing key"),
        ("spatial_norm.running_var", lambda w: -w, "variances"),
    ],
)
def test_bad_weights_are_refused(name: str, damage: Any, message: str, model: Model, tmp_path: Path) -> None:
    weights = weights_of(model)
    old = weights.pop(name, torch.zeros(1))
    if damage is not None:
        weights[name] = damage(old)
    with pytest.raises(ModelFileError, match=message):
        load_model(write(tmp_path / "m.safetensors", model.header(), weights))


def test_sizes_that_a_header_only_claims_take_no_memory(model: Model, tmp_path: Path) -> None:
    claims = ("network.bands", "network.classes", "network.spectral_features", "network.window")
    for i, key in enumerate(claims):
        write(tmp_path / f"{i}.safetensors", changed(model, key, 1_000_000), weights_of(model))
    tensor = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    header = json.dumps({"w": tensor, "__metadata__": {"cssd_geo": json.dumps(model.header())}}).encode()
    (tmp_path / "tensor.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (tmp_path / "header.safetensors").write_bytes(struct.pack("<Q", 90_000_000) + b"{}")
    (tmp_path / "lie.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    code = """
import resource, sys
from cssd_geo.model import ModelFileError, load_model
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        load_model(path)
    except ModelFileError:
        continue
    sys.exit(f"{path} was loaded")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    paths = sorted(map(str, tmp_path.iterdir()))
    assert len(paths) == 7
    done = subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 60_000, "kilobytes"


# ---- which model --------------------------------------------------------------------------------------------


def test_the_model_given_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSSD_GEO_MODEL", "other.safetensors")
    assert find_model("a.safetensors") == Path("a.safetensors")


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where models are looked for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_else_the_variable_else_the_only_one(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models / "one.safetensors").touch()
    (models / "readme.txt").touch()
    Path("there.safetensors").touch()
    monkeypatch.setenv("CSSD_GEO_MODEL", "there.safetensors")
    assert find_model(None) == Path("there.safetensors")
    monkeypatch.setenv("CSSD_GEO_MODEL", "")
    assert find_model(None) == Path("models/one.safetensors")


def test_none_or_two_models_are_an_error(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CSSD_GEO_MODEL", raising=False)
    with pytest.raises(ModelFileError, match=r"\./models holds no model: name one with --model"):
        find_model(None)
    for name in ("one", "two"):
        (models / f"{name}.safetensors").touch()
    with pytest.raises(ModelFileError, match=r"2 models .*one\.safetensors.*two\.safetensors"):
        find_model(None)


# ---- plain values -------------------------------------------------------------------------------------------


def test_json_ready_replaces_what_json_lacks() -> None:
    value = {1: [np.float32(0.5), float("nan"), (np.int64(3), float("inf"))], "t": True, "n": None}
    plain = json_ready(value)
    assert plain == {"1": [0.5, None, [3, None]], "t": True, "n": None}
    json.dumps(plain, allow_nan=False)


def test_a_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(5 << 20))
    first = fingerprint(path)
    assert fingerprint(path) == first
    with path.open("r+b") as file:
        file.seek(3 << 20)
        file.write(b"x")
    assert fingerprint(path) != first
    path.write_bytes(b"")
    assert len(fingerprint(path)) == 64


def test_a_fingerprint_of_a_folder_reads_no_more_than_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_PIECE", 10)
    for files, seen, step in ((2, 320, 1), (60, 10, 37), (500, 10, 97)):
        folder = tmp_path / str(files)
        folder.mkdir()
        for number in range(files):
            (folder / f"{number:03}").write_bytes(bytes(1000))
        before, found = fingerprint(folder), []
        for place in (*range(10), *range(10, 1000, step)):
            (folder / "000").write_bytes(bytes(place) + b"x" + bytes(999 - place))
            found.append(fingerprint(folder) != before)
        assert found[:10] == [True] * 10
        assert sum(found) == seen


def test_a_fingerprint_looks_most_into_the_largest_file_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "_PIECE", 10)
    for number in range(33):
        (tmp_path / f"{number:03}").write_bytes(bytes(5))
    (tmp_path / "shard").write_bytes(bytes(10_000))
    before = fingerprint(tmp_path)
    (tmp_path / "shard").write_bytes(bytes(5_000) + b"x" * 5_000)
    assert fingerprint(tmp_path) != before


def test_what_is_neither_a_model_nor_a_path_is_named() -> None:
    wrong: Any
    for wrong in (None, {}):
        with pytest.raises(ModelFileError, match=f"the path of its file, not {type(wrong).__name__}"):
            load_model(wrong)


def test_a_name_that_is_too_long_for_a_file_is_one_that_is_not_there() -> None:
    with pytest.raises(ModelFileError, match="does not exist or is no file"):
        load_model("m" * 300)
