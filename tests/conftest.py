"""What all tests share: the event loop, hypothesis profiles, and where recorded data lies."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# No deadline: timings are benchmarks, and a loaded machine is no defect. A failure prints what reproduces it.
settings.register_profile("dev", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
# The same examples each time, so that a red build is red again when it is looked into.
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
PROFILE = "ci" if os.environ.get("CI") else "dev"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", PROFILE))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio. The scope is the widest, so that async fixtures may have any."""
    return "asyncio"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of recorded data, which is not part of the repository."""
    named = os.environ.get("HOLDFAST_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recorded data in {folder}; HOLDFAST_DATA names its folder")
    return folder
