"""Memory and processors that control groups allow, in both of their versions, at whatever level they say so."""

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cssd_geo.machine import cpu_quota, default_memory, memory_limit, processors
from cssd_geo.options import DEFAULT_MEMORY


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({f"{V2}/memory.max": "max\n"}, None),
        ({f"{V2}/memory.max": "2000000000\n"}, 2_000_000_000),
        ({f"{V1}/memory.limit_in_bytes": "3000000\n"}, 3_000_000),
        ({"proc/self/cgroup": "0::/job/step\n", f"{V2}/job/memory.max": "7", f"{V2}/job/step/memory.max": "9"}, 7),
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                f"{V2}/job/memory.max": "max",
                f"{V2}/job/step/memory.max": "9",
            },
            9,
        ),
        (
            {"proc/self/cgroup": "3:cpu:/a\n5:memory:/a/b\n", f"{V1}/a/memory.limit_in_bytes": "5"}
            | {f"{V2}/a/memory.max": "1"},
            5,
        ),
        ({"proc/self/cgroup": "nonsense\n0::/../../etc\n", f"{V2}/memory.max": "4"}, 4),
    ],
)
def test_the_least_limit_counts(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    assert memory_limit(write(tmp_path, files)) == expected


CPU1 = "sys/fs/cgroup/cpu"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({f"{V2}/cpu.max": "max 100000\n"}, None),
        ({f"{V2}/cpu.max": "150000 100000\n"}, 1.5),
        ({f"{V2}/cpu.max": "nonsense\n"}, None),
        ({f"{V2}/cpu.max": "5 0\n"}, None),
        ({f"{CPU1}/cpu.cfs_quota_us": "-1\n", f"{CPU1}/cpu.cfs_period_us": "100000\n"}, None),
        ({f"{CPU1}/cpu.cfs_quota_us": "300000\n", f"{CPU1}/cpu.cfs_period_us": "100000\n"}, 3.0),
        (
            {"proc/self/cgroup": "0::/job/step\n"}
            | {f"{V2}/job/cpu.max": "200000 100000", f"{V2}/job/step/cpu.max": "max 100000"},
            2.0,
        ),
        (
            {"proc/self/cgroup": "4:cpu,cpuacct:/a\n"}
            | {f"{CPU1}/a/cpu.cfs_quota_us": "50000", f"{CPU1}/a/cpu.cfs_period_us": "100000"},
            0.5,
        ),
    ],
)
def test_the_least_quota_of_processors_counts(
    files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    root, bound = write(tmp_path, files), len(os.sched_getaffinity(0))
    assert cpu_quota(root) == expected
    assert processors(root) == (bound if expected is None else max(1, min(bound, math.ceil(expected))))


def test_this_machine_tells() -> None:
    found = memory_limit()
    assert found is not None
    assert found > 100_000_000


@given(limit=st.integers(1, 10**13), needed=st.integers(0, 10**11))
def test_the_default_leaves_room_for_the_program(limit: int, needed: int) -> None:
    memory = default_memory(needed, limit)
    assert memory == DEFAULT_MEMORY or memory + 500_000_000 <= limit or memory == 100_000_000
    if memory > DEFAULT_MEMORY:
        assert memory <= needed
        assert memory + 500_000_000 <= limit / 2, "the machine has other things to do"
    if needed <= DEFAULT_MEMORY:
        assert memory <= DEFAULT_MEMORY
