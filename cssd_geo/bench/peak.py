"""`python -m cssd_geo.bench.peak WORDS` runs `cssd-geo WORDS` and says how much memory that took."""

import sys
from pathlib import Path

from cssd_geo.cli import main
from cssd_geo.errors import CssdGeoError


def peak_bytes() -> int:
    """Peak resident memory of this process: what it is since it began, not what its parent was (Linux).

    Raises:
        CssdGeoError: where the system does not tell.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    if not found:
        raise CssdGeoError("this system does not tell the peak memory of a process: measured on Linux only")
    return found[0]


if __name__ == "__main__":
    main(sys.argv[1:], standalone_mode=False)
    sys.stdout.write(f"{peak_bytes()}\n")
