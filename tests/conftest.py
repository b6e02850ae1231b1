"""Fixtures that many tests use."""

import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from cssd_geo.compute import kernels

settings.register_profile("search", deadline=None)
settings.register_profile("gate", deadline=None, derandomize=True)  # what lands does not hang on luck
settings.load_profile("gate" if "CI" in os.environ else "search")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--examples", type=int, default=1, metavar="N", help="N times the examples of each property")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    times = config.getoption("--examples")
    for item in items if times > 1 else ():
        test: Any = getattr(item, "obj", None)
        if hasattr(test, "hypothesis"):
            # Settings are read from the test when it runs; Hypothesis has no public way to change them afterwards.
            own = test._hypothesis_internal_use_settings
            test._hypothesis_internal_use_settings = settings(own, max_examples=times * own.max_examples)


@pytest.fixture(scope="session", autouse=True)
def _one_thread_a_test() -> None:
    """Tests run in parallel processes; threads that wait for each other would make them slower, not faster."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the programs that they start


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the real scenes are not here ({SHARED}); they are not part of the project")
    return SHARED


_FASTEST = (*kernels.generations(), "")[0]


@pytest.fixture(
    scope="module",
    params=[(_FASTEST, 3), *((each, 1) for each in kernels.generations() or [_FASTEST])],
    ids=lambda each: f"{each[0].lstrip('_') or 'any'} processor, {each[1]} threads",
)
def each_processor(request: pytest.FixtureRequest) -> Iterator[None]:
    """As on each generation of processors that this one is or can stand in for."""
    usual, (generation, threads) = torch.get_num_threads(), request.param
    torch.set_num_threads(threads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_LIBRARY", kernels.load(generation))
        yield
    torch.set_num_threads(usual)


@pytest.fixture(scope="module", params=["compiled", "torch"])
def kernels_or_torch(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to compute what lies between products."""
    if request.param == "compiled" and not kernels.compiled():
        pytest.skip("installed without a compiler")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(kernels, "_LIBRARY", None)
        yield


@pytest.fixture(scope="module")
def quick_baselines() -> Iterator[None]:
    """Few trees, and a search among one, where baselines only have to be there."""
    baselines = import_module("cssd_geo.learning.baselines")  # not at once: scikit-learn takes a second to import
    forest = baselines.RandomForestClassifier
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "RandomForestClassifier", lambda _, **options: forest(5, **options))
        patch.setattr(baselines, "_GRID", {"svc__C": [10.0], "svc__gamma": [0.01]})
        yield
