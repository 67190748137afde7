"""An engine, and what a machine has measured."""

import pytest

from sala_core import Engine
from sala_core.session.planning.measured import Measured


@pytest.fixture(scope="module")
def engine(random_model):
    return Engine.load(random_model)


@pytest.fixture
def measured(tmp_path):
    opened = Measured(tmp_path / "cache")
    yield opened
    opened.close()
