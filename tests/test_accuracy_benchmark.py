"""The accuracy benchmark runs as a user would run it, and goes on where it was stopped."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "accuracy"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARK), "--data", ".", "--scenes", "salinas", "--shots", "4", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two crops in four fields each, as published cubes come: .mat files with one array."""
    random = np.random.default_rng(0)
    truth = np.zeros((50, 76), np.uint8)
    for i, (row, col) in enumerate(np.ndindex(2, 4)):
        truth[row * 30 : row * 30 + 12, col * 20 : col * 20 + 14] = 1 + (i + row) % 2
    spectra = random.normal(1000, 200, size=(3, 12))
    cube = spectra[truth] + random.normal(0, 40, size=(*truth.shape, 12))
    savemat(tmp_path / "Salinas_corrected.mat", {"salinas_corrected": cube.astype(np.int16)})
    savemat(tmp_path / "Salinas_gt.mat", {"salinas_gt": truth})
    return tmp_path


def test_a_run_is_gone_on_with_and_the_table_has_means(folder: Path) -> None:
    first = run(
        folder, "--seeds", "1330", "--methods", "random forest", "published", "--splits", "random", "apart"
    )
    assert first.returncode == 0, first.stderr
    rows = [json.loads(line) for line in (folder / "accuracy.jsonl").read_text().splitlines()]
    assert [(r["split"], r["method"]) for r in rows] == [
        (split, method) for split in ("random", "apart") for method in ("random forest", "published")
    ]
    assert all(r["train"] == 8 and r["oa"] > 80 for r in rows)
    second = run(folder, "--seeds", "1330", "1220", "--methods", "random forest", "--splits", "apart")
    assert second.returncode == 0, second.stderr
    lines = (folder / "accuracy.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines[:4]] == rows, "what was there is kept"
    assert len(lines) == 5, "and not run again"
    assert "| salinas | apart | 4 | random forest | 2 |" in second.stdout
    assert run(folder, "--table").stdout == second.stdout[second.stdout.index("| scene") :]


def test_a_missing_scene_is_one_clear_line(folder: Path) -> None:
    (folder / "Salinas_gt.mat").unlink()
    done = run(folder, "--methods", "random forest")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Salinas_gt.mat is missing.")
    assert done.stderr.count("\n") == 1
