"""What `classify --dry-run` prints."""

from typing import TYPE_CHECKING

from cssd_geo.budget import shown
from cssd_geo.cli.terminal import say

if TYPE_CHECKING:
    from cssd_geo.forecast import Forecast, Trial
    from cssd_geo.runs.layers import DiskSpace

_MINUTE, _HOUR = 60, 3600


def show(forecast: "Forecast", *, overwrite: bool = False) -> None:
    """Print a forecast, a line for each matter; `overwrite`: whether outputs that exist would be replaced."""
    plan, trial = forecast.plan, forecast.trial
    shape = f"{plan.rows} down, {plan.cols} across, each {plan.tile_height} x {plan.tile_width}"
    say(f"plan    tiles: {len(plan)} ({shape}), halo {plan.halo.before} before, {plan.halo.after} after")
    overlap = plan.pixels_read / (plan.height * plan.width)
    say(f"reads   {forecast.bytes_read / 1e6:,.1f} MB, halos included ({overlap:.2f} times the pixels)")
    say(f"memory  {shown(forecast.memory)} at most, on top of the program itself")
    if forecast.gpu_free is not None and trial.gpu_bytes is not None:
        free = shown(forecast.gpu_free, down=True)
        say(f"gpu     {shown(trial.gpu_bytes)} of its memory in the trial, {free} are free")
    say(f"disk    {_room(forecast.room)}")
    say(f"time    {_time(trial)}")
    if forecast.tiles_done:
        say(
            f"output  {forecast.tiles_done} tiles of an unfinished run are done: the command that it was begun "
            "with goes on with the others, any other one will be refused without --restart"
        )
    if forecast.in_the_way and not overwrite:
        there = ", ".join(map(str, forecast.in_the_way))
        say(f"output  {there}: there already, so the run will be refused without --overwrite")
    tried = "1 tile was" if trial.tiles == 1 else f"{trial.tiles} tiles were"
    say(f"{tried} read and classified on trial, nothing was written (--dry-run).")


def _room(room: "DiskSpace") -> str:
    needed, free = room.unfinished + room.finished, shown(room.free, down=True)
    line = f"{shown(room.unfinished)} until all tiles are done, {shown(needed)} at most while outputs are made"
    if room.unfinished > room.free:
        return f"{line}: {free} are free, {shown(room.unfinished - room.free)} are missing"
    return f"{line}; {free} are free"


def _time(trial: "Trial") -> str:
    best, worst = trial.seconds
    parts = f"reading {_duration(trial.reading)}, computing {_duration(trial.computing)}"
    return f"{_duration(best)} to {_duration(worst)}, by the trial ({parts})"


def _duration(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    return f"{seconds / _MINUTE:.1f} min" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"
