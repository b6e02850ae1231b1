"""The examples run as they are, only smaller."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning
from scenes import UTM, coordinate_cube, write_raster
from scipy.io import savemat

from cssd_geo.bands import Bands
from cssd_geo.errors import SceneError
from cssd_geo.products import open_scene

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STRICT = ("-W", "error", "-W", "ignore:Use `@` matmul:PendingDeprecationWarning")  # as in pyproject.toml
SMALL = {"EPOCHS": "1", "SIZE": "136 168", "PYTHON": sys.executable}


def run(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def test_the_command_line_on_an_envi_scene(tmp_path: Path) -> None:
    text = run(EXAMPLES / "envi_command_line.sh", tmp_path / "new")
    assert "overall accuracy (OA)" in text
    facts = json.loads((tmp_path / "new" / "model.json").read_text())
    bands = facts["header"]["bands"]
    assert len(bands["wavelength_nm"]) == len(bands["fwhm_nm"]) == 48
    assert not all(bands["good"])
    assert facts["header"]["provenance"]["scale"] == {"scale": [0.0001], "offset": [0.0]}
    with (
        rasterio.open(tmp_path / "new" / "scene.img") as scene,
        rasterio.open(tmp_path / "new" / "map.tif") as found,
    ):
        assert scene.driver == "ENVI"
        assert (found.transform, found.crs, found.shape) == (scene.transform, scene.crs, scene.shape)
    assert (tmp_path / "new" / "confusion.png").is_file()


def test_the_notebook(tmp_path: Path) -> None:
    text = run(sys.executable, *STRICT, EXAMPLES / "api_notebook.py", tmp_path)
    assert "look at" in text.splitlines()[-1]
    assert (tmp_path / "notebook.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def run_documented(word: str) -> None:
    """Run the lines of docs/formats.md in which a word stands."""
    _, *blocks = (EXAMPLES.parent / "docs" / "formats.md").read_text().split("```python")
    (lines,) = [lines for block in blocks if word in (lines := block.split("```")[0])]
    exec(lines, {})  # noqa: S102 - our own


def test_the_lines_that_make_a_geotiff_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)  # row, column, band
    monkeypatch.chdir(tmp_path)
    savemat("PaviaU.mat", {"paviaU": cube})
    savemat("PaviaU_gt.mat", {"paviaU_gt": cube[..., 0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        run_documented("PaviaU")
        with rasterio.open("scene.tif") as scene, rasterio.open("labels.tif") as labels:
            np.testing.assert_array_equal(scene.read(), np.moveaxis(cube, 2, 0))
            np.testing.assert_array_equal(labels.read(1), cube[..., 0])


def test_the_lines_that_write_wavelengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_raster(tmp_path / "scene.tif", coordinate_cube(3, 4, 5))
    run_documented("update_tags(wavelength_nm=")
    bands = open_scene("scene.tif").bands
    assert (bands.wavelength_nm, bands.fwhm_nm) == ((503.0, 510.0, 519.0), (13.0, 13.0, 14.0))


def test_the_lines_that_make_a_geotiff_of_tanager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = coordinate_cube(3, 4, 5).astype(np.float32)
    with h5py.File("ortho_sr.h5", "w") as file:
        cube = file.create_dataset("HDFEOS/GRIDS/HYP/Data Fields/surface_reflectance", data=values)
        cube.attrs.update(wavelengths=[400.0, 500.0, 600.0], fwhm=[5.0, 5.0, 6.0], good_wavelengths=[1, 1, 0])
        cube.attrs["_FillValue"] = np.float32(-9999)
        file["HDFEOS/GRIDS/HYP"].attrs["epsg_code"] = 32633
        file["HDFEOS INFORMATION/StructMetadata.0"] = np.bytes_(
            "UpperLeftPointMtrs=(400000.00,5800000.00)\n\t\tLowerRightMtrs=(400150.00,5799880.00)\n"
        )
    with pytest.raises(SceneError, match=r"in attributes, .*docs/formats\.md, Planet Tanager"):
        open_scene("ortho_sr.h5")
    run_documented("HDFEOS")
    scene = open_scene("scene.tif")
    np.testing.assert_array_equal(scene.cube, values)
    assert scene.bands == Bands(
        good=(True, True, False), wavelength_nm=(400.0, 500.0, 600.0), fwhm_nm=(5.0, 5.0, 6.0)
    )
    assert (scene.grid.transform, scene.grid.crs) == (Affine(30, 0, 400_000, 0, -30, 5_800_000), UTM)
    assert set(scene.nodata) == {-9999}
