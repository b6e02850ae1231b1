"""What the machine gives: memory, also where a container or a batch system allows less than there is."""

import os
from collections.abc import Iterator
from pathlib import Path

from cssd_geo.options import DEFAULT_MEMORY

_PROGRAM = 500_000_000
"""Bytes of the program itself, before the first tile."""
_LEAST = 100_000_000


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
    known = [_number(path) for path in _limits(root)]
    machine = _machine_memory() if root == Path("/") else None
    return min((limit for limit in (*known, machine) if limit), default=None)


def _limits(root: Path) -> Iterator[Path]:
    """Files with the limits of the groups that this process is in; those of the groups above bind as well."""
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2) if line.count(":") > 1 else ("", "", "")
        top, name = (groups, "memory.max") if not controllers else (groups / "memory", "memory.limit_in_bytes")
        if controllers in ("", "memory"):
            own = top / path.lstrip("/")
            yield from (folder / name for folder in (own, *own.parents) if folder.is_relative_to(top))
    yield groups / "memory.max"
    yield groups / "memory/memory.limit_in_bytes"


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # "max": no limit


def _machine_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
