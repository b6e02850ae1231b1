"""The accuracy benchmark runs as a user would run it, and goes on where it was stopped."""

import hashlib
import importlib
import json
import re
import runpy
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "accuracy"


WORDS = ("--data", ".", "--scenes", "salinas", "--shots", "4")


def run(folder: Path, *words: str) -> str:
    """Run it in this process, which has imported what takes the longest, and return what it said."""
    said = StringIO()
    with chdir(folder), redirect_stdout(said), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(BENCHMARK), *WORDS, *words])
        runpy.run_path(str(BENCHMARK), run_name="__main__")
    return said.getvalue()


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


@pytest.fixture
def _few_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARK)
    methods = importlib.import_module("methods")
    monkeypatch.setattr(methods, "TrainingOptions", partial(methods.TrainingOptions, epochs=8))


@pytest.mark.usefixtures("_few_epochs")
def test_a_run_is_gone_on_with_and_the_table_has_means(folder: Path) -> None:
    run(folder, "--seeds", "1330", "--methods", "random forest", "published", "--splits", "random", "apart")
    rows = [json.loads(line) for line in (folder / "accuracy.jsonl").read_text().splitlines()]
    assert [(r["split"], r["method"]) for r in rows] == [
        (split, method) for split in ("random", "apart") for method in ("random forest", "published")
    ]
    assert all(r["train"] == 8 and r["oa"] > 80 for r in rows)
    second = run(folder, "--seeds", "1330", "1220", "--methods", "random forest", "--splits", "apart")
    lines = (folder / "accuracy.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines[:4]] == rows, "what was there is kept"
    assert len(lines) == 5, "and not run again"
    assert "| salinas | apart | 4 | random forest | 2 |" in second
    assert run(folder, "--table") == second[second.index("| scene") :]
    assert [r["distance"] for r in rows] == [None, None, 17, 17]
    nearer = [line.replace('"distance": 17', '"distance": 16') for line in lines]
    (folder / "accuracy.jsonl").write_text("\n".join(nearer))
    assert "apart" not in run(folder, "--table"), "what tested nearer to the training fields does not count"
    assert run(folder, "--table", "--distance", "16") == second[second.index("| scene") :]


def test_samples_that_cannot_train_or_leave_nothing_to_test_are_passed_over(folder: Path) -> None:
    words = ("--seeds", "1330", "--methods", "random forest", "--splits", "random")
    done = run(folder, *words, "--shots", "all", "grid10", "grid5")
    assert "skipped, no pixel is left to test: {'scene': 'salinas', 'split': 'random', 'shots': 'all'" in done
    assert "skipped, a class has fewer than 3 training pixels" not in done
    assert "| salinas | random | grid10 |" in done
    assert "| salinas | random | grid5 |" in done


def test_a_split_that_holds_nothing_out_ends_no_run(folder: Path) -> None:
    words = ("--seeds", "1330", "--methods", "random forest", "--splits", "apart", "random", "--distance", "400")
    done = run(folder, *words)
    assert "skipped, " in done
    assert "'split': 'apart'" in done
    assert "| salinas | random | 4 | random forest | 1 |" in done
    assert "| all |" not in done


def test_matlabs_newer_files_are_the_same_scene(folder: Path) -> None:
    """Version 7.3 is HDF5 with the axes in the other order; what is no array in it is passed over."""
    words = ("--seeds", "1330", "--methods", "random forest", "--splits", "apart")
    older = run(folder, *words)
    (folder / "accuracy.jsonl").unlink()
    for name in ("Salinas_corrected.mat", "Salinas_gt.mat"):
        (array,) = [v for v in loadmat(folder / name).values() if isinstance(v, np.ndarray)]
        with h5py.File(folder / name, "w", userblock_size=512) as file:
            file["array"] = array.T
            file.create_group("#refs#")
        with (folder / name).open("r+b") as written:
            written.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    newer = run(folder, *words)
    assert newer.split("seconds=")[0] == older.split("seconds=")[0]


def test_a_missing_scene_is_one_clear_line(folder: Path) -> None:
    (folder / "Salinas_gt.mat").unlink()
    with pytest.raises(SystemExit) as ended:
        run(folder, "--methods", "random forest")
    assert re.fullmatch(r"Error: Salinas_gt\.mat is missing: put the scene there.*", str(ended.value.code))


@pytest.fixture
def public() -> Iterator[ModuleType]:
    """The benchmark's module that downloads."""
    sys.path.insert(0, str(BENCHMARK))
    yield importlib.import_module("public")
    sys.path.remove(str(BENCHMARK))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """Address of a server with the files of one scene, as their home has them, and what it was asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    for place in ("a/a3/Salinas_corrected.mat", "f/fa/Salinas_gt.mat", "6/67/Indian_pines_corrected.mat"):
        (tmp_path / "home" / place).parent.mkdir(parents=True)
        (tmp_path / "home" / place).write_text(place)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "home"))) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_public_scene_is_fetched_once(
    public: ModuleType, served: tuple[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, asked = served
    for _ in range(2):
        public.fetch_scene("salinas", tmp_path / "data", home)
    assert asked == ["/a/a3/Salinas_corrected.mat", "/f/fa/Salinas_gt.mat"]
    said = capsys.readouterr().out
    for file in ("a/a3/Salinas_corrected.mat", "f/fa/Salinas_gt.mat"):
        fetched = tmp_path / "data" / Path(file).name
        assert fetched.read_text() == file
        assert f"{fetched}: SHA-256 {hashlib.sha256(file.encode()).hexdigest()}\n" in said


def test_without_a_network_nothing_is_left_behind(public: ModuleType, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(public.PublicSceneError, match=r"PaviaU\.mat cannot be fetched .* put it into .* by hand"):
        public.fetch_scene("pavia_university", tmp_path / "data", f"http://127.0.0.1:{port}")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_that_is_not_what_it_was_is_refused(
    public: ModuleType, served: tuple[str, list[str]], tmp_path: Path
) -> None:
    home, asked = served
    with pytest.raises(public.PublicSceneError, match=r"Indian_pines_corrected\.mat is not the file that it was"):
        public.fetch_scene("indian_pines", tmp_path / "data", home)
    assert asked == ["/6/67/Indian_pines_corrected.mat"]
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_a_scene_that_is_another_one_is_refused(folder: Path) -> None:
    known = r"are not salinas as it is known: \(50, 76, 12\) with .* instead of \(512, 217, 204\) with 54,129"
    with pytest.raises(SystemExit, match=known):
        run(folder, "--fetch", "--methods", "random forest")
