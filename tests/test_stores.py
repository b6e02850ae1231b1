"""Stores of strangers: what opening one must not do, whatever it claims."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from cssd_geo.errors import SceneError
from cssd_geo.products import open_scene


def write_zarr(path: Path, zarr_format: Any = 2) -> Path:
    axes = {"wavelength": np.linspace(450, 900, 5), "y": -30.0 * np.arange(6), "x": 30.0 * np.arange(7)}
    cube = xr.DataArray(np.ones((5, 6, 7), np.float32), axes, dims=tuple(axes))
    cube.to_dataset(name="reflectance").to_zarr(path, group="inner", zarr_format=zarr_format, consolidated=False)
    return path


class Program:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._folder),)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_a_zarr_store_runs_no_code_even_where_its_reader_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    array = write_zarr(tmp_path / "scene.zarr") / "inner" / "wavelength"
    metadata = json.loads((array / ".zarray").read_text())
    metadata |= {"dtype": "|O", "fill_value": "", "compressor": None, "filters": [{"id": "vlen-utf8"}]}
    codec = {"id": "pickle", "protocol": 5}
    metadata[place] = [codec] if place == "filters" else codec
    (array / ".zarray").write_text(json.dumps(metadata))
    (array / "0").write_bytes(pickle.dumps(Program(tmp_path / "run")))
    monkeypatch.setenv("NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE", "1")  # which counts when numcodecs is imported
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    with pytest.raises(SceneError, match="wavelength is stored by the codec 'pickle', which runs code"):
        open_scene(tmp_path / "scene.zarr")
    assert not (tmp_path / "run").exists()


def test_a_codec_of_that_name_is_refused_in_the_third_version_too(tmp_path: Path) -> None:
    metadata = write_zarr(tmp_path / "scene.zarr", 3) / "inner" / "wavelength" / "zarr.json"
    array = json.loads(metadata.read_text())
    array["codecs"] = [{"name": "numcodecs.pickle", "configuration": {"protocol": 5}}]
    metadata.write_text(json.dumps(array))
    with pytest.raises(SceneError, match="stored by the codec 'pickle'"):
        open_scene(tmp_path / "scene.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_sound_zarr_stores_are_opened(tmp_path: Path, zarr_format: int) -> None:
    assert open_scene(write_zarr(tmp_path / "scene.zarr", zarr_format)).grid.width == 7


@pytest.mark.parametrize("kind", ["hdf5", "zarr 2", "zarr 3"])
def test_coordinates_that_no_scene_has_are_refused_unread(tmp_path: Path, kind: str) -> None:
    rows = 40_000_000
    if kind == "hdf5":
        path = tmp_path / "scene.nc"
        with h5py.File(path, "w") as file:
            file.create_dataset("reflectance", (5, rows, 4), "f4", chunks=(5, 1000, 4))
            file.create_dataset("y", (rows,), "f8", chunks=(1_000_000,)).make_scale("y")
    else:
        path = write_zarr(tmp_path / "scene.zarr", int(kind[-1]))
        metadata = path / "inner" / "y" / (".zarray" if kind == "zarr 2" else "zarr.json")
        metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"shape": [rows]}))
    with pytest.raises(SceneError, match=r"y claims 40,000,000 values in a line; scenes have 10,000,000 at most"):
        open_scene(path)


@pytest.mark.parametrize(
    "written", ["http://127.0.0.1:9/crs", " HTTPS://127.0.0.1:9/crs", "/vsicurl/http://127.0.0.1:9/crs"]
)
def test_a_crs_is_not_looked_up_elsewhere(tmp_path: Path, written: str) -> None:
    axes = {"wavelength": np.linspace(450, 900, 5), "y": -30.0 * np.arange(6), "x": 30.0 * np.arange(7)}
    cube = xr.DataArray(np.ones((5, 6, 7), np.float32), axes, dims=tuple(axes), attrs={"grid_mapping": "crs"})
    store = cube.to_dataset(name="reflectance").assign(crs=((), 0, {"crs_wkt": written}))
    store.to_netcdf(tmp_path / "scene.nc", engine="h5netcdf")
    with pytest.raises(SceneError, match="is an address or a path, which is not followed"):
        open_scene(tmp_path / "scene.nc")
