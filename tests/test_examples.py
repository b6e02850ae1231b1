"""The examples run as they are, only smaller."""

import json
import os
import runpy
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from multiprocessing.connection import Client, Listener
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from rasterio.errors import NotGeoreferencedWarning
from scenes import UTM, coordinate_cube, write_raster
from scipy.io import savemat

from cssd_geo.bands import Bands
from cssd_geo.cli import main
from cssd_geo.errors import SceneError
from cssd_geo.products import open_scene

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = {"EPOCHS": "1", "SIZE": "136 168"}
RELAY = """#!{python} -IS
import os, sys
from multiprocessing.connection import Client
with Client({address}) as test:
    test.send((os.getcwd(), sys.argv[1:], sys.stdin.read() if sys.argv[1] == "-" else ""))
    said, complaint, code = test.recv()
sys.stdout.write(said), sys.stderr.write(complaint), sys.exit(code)
"""


def run_script(script: Path, folder: Path) -> str:
    """Run a shell script; what it gives to Python is done in this process, which has torch already.

    Returns:
        What it said.
    """
    with Listener(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        relay = folder.parent / "python"
        relay.write_text(RELAY.format(python=sys.executable, address=listener.address))
        relay.chmod(0o755)
        ran = thread.submit(run, script, folder, PYTHON=str(relay))
        ran.add_done_callback(lambda _: Client(listener.address).close())
        while True:
            with listener.accept() as asked:
                if ran.done():
                    return ran.result()
                asked.send(answer(*asked.recv()))


def run(*command: str | Path, **environment: str) -> str:
    environment = os.environ | SMALL | environment
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def answer(folder: str, words: list[str], code: str) -> tuple[str, str, int]:
    """What Python says and complains of, and its exit status, for code or a command of ours."""
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        if words[0] == "-":
            exec(code, {})  # noqa: S102 - our own
            return "", "", 0
        assert words[:2] == ["-m", "cssd_geo.cli"]
        done = CliRunner().invoke(main, words[2:])
        return done.stdout, done.stderr, done.exit_code


@pytest.mark.usefixtures("quick_baselines")
def test_the_command_line_on_an_envi_scene(tmp_path: Path) -> None:
    text = run_script(EXAMPLES / "envi_command_line.sh", tmp_path / "new")
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


@pytest.mark.usefixtures("quick_baselines")
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["api_notebook.py", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "api_notebook.py"), run_name="__main__")
    assert "look at" in capsys.readouterr().out.splitlines()[-1]
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
