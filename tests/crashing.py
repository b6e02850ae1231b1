"""Runs of `classify` that are killed: a script, so that torch is loaded once and each run is a quick fork.

The parent itself runs nothing: threads of libraries do not survive a fork.

python tests/crashing.py random FOLDER KILLS SEED    at random moments, by SIGKILL
python tests/crashing.py each FOLDER                 before each change that others see

The folder "undisturbed" beside FOLDER gets the outputs of a run that is not killed.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from scenes import random_model, write_raster

from cssd_geo.classification import classify
from cssd_geo.model import Model
from cssd_geo.runs import unfinished

OUTPUTS = ("map.tif", "probabilities.tif")
SIDE = "map.tif.aux.xml"
CHANGES = ("write", "replace", "unlink", "mkdir", "rmdir")
"""Functions of `os` by which the program makes a change that others see. No kill takes what `fsync` adds."""
_KILLED = 77
"""Exit status of a run that ended as a kill would have ended it."""
_MOST_MOMENTS = 1000


def write_scene(folder: Path) -> Path:
    """61 x 83 pixels with holes, so that tiles of 8 pixels are 88."""
    cube = np.random.default_rng(4).uniform(500, 2500, (5, 61, 83)).astype(np.int16)
    cube[:, 20:31, 40:60] = -9999
    return write_raster(folder / "scene.tif", cube, nodata=-9999, tiled=True, blockxsize=16, blockysize=16)


def run(folder: Path, model: Model, tile_size: int, *, overwrite: bool = False) -> None:
    """The same command, each time."""
    classify(
        folder / "scene.tif",
        model,
        folder / "map.tif",
        probabilities=folder / "probabilities.tif",
        tile_size=tile_size,
        device="cpu",
        precision="float32",
        overwrite=overwrite,
    )


def fork(work: Callable[[], None]) -> int:
    """Start a child that works and exits with 0, or with 1 and a traceback."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - it must not return into the parent's code
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return child


def run_undisturbed(folder: Path, tile_size: int) -> None:
    """Let a run beside the folder make what those that are killed are compared with."""
    model = random_model(bands=5, seed=5)
    status = os.waitpid(fork(lambda: run(folder.parent / "undisturbed", model, tile_size)), 0)[1]
    require(os.waitstatus_to_exitcode(status) == 0, "the undisturbed run failed")


def kill_at_random(folder: Path, kills: int, seed: int) -> None:
    """Kill until it was so many times, then let it end; begin anew whenever a run has made it."""
    model, chance, done = random_model(bands=5, seed=5), random.Random(seed), 0  # noqa: S311 - no secret
    rounds = 0
    while True:
        child = fork(lambda: run(folder, model, 8))
        time.sleep(chance.uniform(0.0, 0.25))
        if done < kills:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            done += 1
            if not is_at_its_end(folder):
                continue
        else:
            require(os.waitstatus_to_exitcode(status) == 0, "a run that was not killed failed")
            require_nothing_else(folder)
        rounds += 1
        if done == kills:  # and what was killed last was at its end, or has been let end
            break
        for name in OUTPUTS:
            (folder / name).rename(folder / f"{name}.{rounds}")
        (folder / SIDE).unlink()
    sys.stdout.write(f"{done} kills, {rounds} runs made it\n")


def is_at_its_end(folder: Path) -> bool:
    """Whether all that a run still has to do is to tidy up and exit."""
    return (folder / "map.tif").exists() and not (folder / ".map.tif.unfinished" / "journal").exists()


def kill_at_each_change(folder: Path, first: int) -> None:
    """Kill before the n-th change, for each n; each time the next run must end well."""
    model = random_model(bands=5, seed=5)
    old = {name: (folder / name).read_bytes() for name in (*OUTPUTS, SIDE) if (folder / name).exists()}
    for moment in range(first, _MOST_MOMENTS):
        status = os.waitpid(fork(lambda: run_until(moment, folder, model, overwrite=bool(old))), 0)[1]  # noqa: B023
        finished = os.waitstatus_to_exitcode(status) == 0
        require(finished or os.waitstatus_to_exitcode(status) == _KILLED, f"moment {moment}: it failed")
        require_whole(folder, old)
        replace = bool(old) or is_at_its_end(folder)
        again = os.waitpid(fork(lambda: run(folder, model, 64, overwrite=replace)), 0)[1]  # noqa: B023
        require(os.waitstatus_to_exitcode(again) == 0, f"moment {moment}: the next run failed")
        require_nothing_else(folder)
        require_whole(folder, {})
        if finished:
            sys.stdout.write(f"{moment - 1} moments\n")
            return
        for name in (*OUTPUTS, SIDE):
            (folder / name).unlink()
        for name, data in old.items():
            (folder / name).write_bytes(data)


def run_until(moment: int, folder: Path, model: Model, *, overwrite: bool) -> None:
    """Run, but end before the `moment`-th change."""
    left = moment

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(_KILLED)
            return function(*args, **options)

        return call

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    run(folder, model, 64, overwrite=overwrite)


def require_whole(folder: Path, old: dict[str, bytes]) -> None:
    """Each output is as it was, or whole and new; where the map is new, so is all, but for its legend: it has none
    or its own."""
    new = []
    for name in OUTPUTS:
        path = folder / name
        if path.exists() and path.read_bytes() != old.get(name):
            with rasterio.open(folder.parent / "undisturbed" / name) as one, rasterio.open(path) as other:
                require(np.array_equal(one.read(), other.read(), equal_nan=True), f"{name} differs")
            new.append(name)
    require("map.tif" not in new or len(new) == len(OUTPUTS), f"the map is new, but only {new} are")
    own = (folder.parent / "undisturbed" / SIDE).read_bytes() if "map.tif" in new else old.get(SIDE)
    require(not (folder / SIDE).exists() or (folder / SIDE).read_bytes() == own, "the legend is of another map")


def require_nothing_else(folder: Path) -> None:
    """A run that has ended well leaves its outputs, and nothing but these."""
    require((folder / SIDE).exists(), "the map has no legend")
    hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    require(not hidden, f"left behind: {hidden}")


def require(condition: object, complaint: str) -> None:
    """End with a complaint."""
    if not condition:
        sys.exit(complaint)


if __name__ == "__main__":
    torch.set_num_threads(1)
    unfinished._SYNC_SECONDS = 0.0
    place = Path(sys.argv[2])
    match sys.argv[1]:
        case "random":
            run_undisturbed(place, 8)
            kill_at_random(place, int(sys.argv[3]), int(sys.argv[4]))
        case "each":
            run_undisturbed(place, 64)
            kill_at_each_change(place, 1)
            for name in (*OUTPUTS, SIDE):
                (place / name).write_bytes(b"the old one")
            kill_at_each_change(place, 9)  # until then it is as without outputs
