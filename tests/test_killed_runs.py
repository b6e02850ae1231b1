"""Killed at any moment, the same command goes on, and the outputs are those of an undisturbed run."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from crashing import OUTPUTS, write_scene

SCRIPT = Path(__file__).with_name("crashing.py")


def call(*words: object) -> str:
    done = subprocess.run([sys.executable, SCRIPT, *map(str, words)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder for each way to end."""
    for name in ("undisturbed", "killed"):
        (tmp_path / name).mkdir()
    write_scene(tmp_path / "killed")
    shutil.copy(tmp_path / "killed" / "scene.tif", tmp_path / "undisturbed")
    return tmp_path


def require_same(world: Path, found: list[Path]) -> None:
    for path in found:
        name = path.name.partition(".tif")[0] + ".tif"
        with rasterio.open(world / "undisturbed" / name) as one, rasterio.open(path) as other:
            np.testing.assert_array_equal(other.read(), one.read())
            assert str(other.profile) == str(one.profile), "NaN is not NaN"
            assert other.tags() == one.tags()


def test_killed_at_random_moments_it_goes_on(world: Path) -> None:
    said = call("random", world / "killed", 30, 1)
    assert said.startswith("30 kills")
    found = [path for name in OUTPUTS for path in (world / "killed").glob(f"{name}*") if "aux" not in path.name]
    assert len(found) == len(OUTPUTS) * int(said.split()[2])
    require_same(world, found)


def test_killed_before_any_change_it_goes_on(world: Path) -> None:
    """Without outputs, and then with old ones to replace."""
    said = call("each", world / "killed").splitlines()
    assert len(said) == 2
    assert all(int(line.split()[0]) > 15 for line in said), said
    require_same(world, [world / "killed" / name for name in OUTPUTS])
