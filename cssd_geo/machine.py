"""What the machine gives: memory and processors, also where a container or a batch system allows less; letters."""

import ctypes
import locale
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cssd_geo.options import DEFAULT_MEMORY

_PROGRAM = 500_000_000
"""Bytes of the program itself, before the first tile: 0.35 GB as measured (docs/performance.md), with a margin."""
_LEAST = 100_000_000
_STARTED = os.getpid()
"""The process that imported this."""


def default_memory(needed: int = 0, limit: int | None = None) -> int:
    """Bytes for `memory` where the user says nothing: `DEFAULT_MEMORY`, less where the machine has little.

    Args:
        needed: by a scene of large blocks; where that is more than `DEFAULT_MEMORY` it counts instead, but the
            program then takes no more than half of the limit.
        limit: what the whole program may take; None: `memory_limit`.
    """
    limit = memory_limit() if limit is None else limit
    if limit is None:
        return max(DEFAULT_MEMORY, needed)
    more = min(needed, limit // 2 - _PROGRAM)
    return max(_LEAST, min(max(DEFAULT_MEMORY, more), limit - _PROGRAM))


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that this program may take: the least of what Linux' control groups and the machine allow.

    Args:
        root: where /proc and /sys are.

    Returns:
        None where the system does not tell.
    """
    files = _control_files("memory", ("memory.max", "memory.limit_in_bytes"), root)
    known = [_number(path) for path in files]
    machine = _machine_memory() if root == Path("/") else None
    return min((limit for limit in (*known, machine) if limit), default=None)


def processors(root: Path = Path("/")) -> int:
    """Processors that this program may use: those that it is bound to, as far as its time is not limited.

    A process that was forked off has one: threads of libraries, such as GDAL's, do not survive a fork, and it
    would wait for them.

    Args:
        root: as for `memory_limit`.
    """
    if os.getpid() != _STARTED:
        return 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Processors' worth of time that Linux' control groups allow (`docker run --cpus`); None where not limited.

    Args:
        root: as for `memory_limit`.
    """
    shares = []
    for path in _control_files("cpu", ("cpu.max", "cpu.cfs_quota_us"), root):
        if path.name == "cpu.max":  # "quota period", or "max period"
            quota, _, period = _text(path).partition(" ")
        else:
            quota, period = _text(path), _text(path.with_name("cpu.cfs_period_us"))
        if quota.isdecimal() and period.isdecimal() and int(period):
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def _control_files(controller: str, names: tuple[str, str], root: Path) -> Iterator[Path]:
    """Files that may hold a limit of the groups that this process is in; those of the groups above bind as well.

    `names` are of versions 2 and 1 of control groups.
    """
    groups = root / "sys/fs/cgroup"
    unified, own_tree = (groups, names[0]), (groups / controller, names[1])
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2) if line.count(":") > 1 else ("", "", "")
        if controllers == "" or controller in controllers.split(","):
            top, name = own_tree if controllers else unified
            own = top / path.lstrip("/")
            yield from (folder / name for folder in (own, *own.parents) if folder.is_relative_to(top))
    yield from (top / name for top, name in (unified, own_tree))


def _text(path: Path) -> str:
    """What a small file of the system says; empty where there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None  # "max": no limit


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def use_plain_letters() -> None:
    """Let `i` and `I` be one letter to the C library, as to GDAL, also where people write Turkish or Azeri.

    GDAL compares words of headers without regard to case. There it took `interleave = bil` for bsq, and would have
    made a map of that.
    """
    if ctypes.CDLL(None).strcasecmp(b"i", b"I"):
        for plain in ("C.UTF-8", "C"):
            with suppress(locale.Error):
                locale.setlocale(locale.LC_CTYPE, plain)
                return
