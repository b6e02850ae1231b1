"""The examples run as they are, only smaller."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from scipy.io import savemat

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
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
    text = run(sys.executable, "-W", "error", EXAMPLES / "api_notebook.py", tmp_path)
    assert "look at" in text.splitlines()[-1]
    assert (tmp_path / "notebook.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_lines_that_make_a_geotiff_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    documented = (EXAMPLES.parent / "docs" / "formats.md").read_text()
    cube = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)  # row, column, band
    monkeypatch.chdir(tmp_path)
    savemat("PaviaU.mat", {"paviaU": cube})
    savemat("PaviaU_gt.mat", {"paviaU_gt": cube[..., 0]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        exec(documented.split("```python")[1].split("```")[0], {})  # noqa: S102 - our own
        with rasterio.open("scene.tif") as scene, rasterio.open("labels.tif") as labels:
            np.testing.assert_array_equal(scene.read(), np.moveaxis(cube, 2, 0))
            np.testing.assert_array_equal(labels.read(1), cube[..., 0])
