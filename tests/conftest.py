"""Fixtures that every package's tests share."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--kills N`: how often the tests of crash safety kill their writer."""
    parser.addoption("--kills", type=int, default=20, metavar="N", help="kills in each kill -9 loop (20)")


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden checkpoints, free text and sample documents beside the repository."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("the folder ../shared with golden checkpoints and documents is not here")
    return folder
