"""The examples run as they are, only smaller."""

import json
import os
import subprocess
import sys
from pathlib import Path

import rasterio

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
