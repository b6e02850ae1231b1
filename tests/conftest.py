"""Fixtures that many tests use."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("whatever the machine does", deadline=None)
settings.load_profile("whatever the machine does")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _one_thread_a_test() -> None:
    """Tests run in parallel processes; threads that wait for each other would make them slower, not faster."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the real scenes are not here ({SHARED}); they are not part of the project")
    return SHARED
