"""The benchmark scripts run, small; what they measure is not judged here."""

import runpy
from pathlib import Path


def test_rates_are_measured() -> None:
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "rates.py"))
    rates = script["measure"](6, 3, 48, 32)
    assert set(rates) == {"patch by patch", "dense, one tile of 128 x 128", "file to file, float32"}
    assert all(rate > 0 for rate in rates.values())
