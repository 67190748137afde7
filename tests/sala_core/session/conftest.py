"""A library, and a session in it that has read a short text."""

import pytest
from reading_helpers import FERRY, last

from sala_core.session.session import Session
from sala_core.store import Library


@pytest.fixture
def library(tmp_path):
    opened = Library.open(tmp_path / "library")
    yield opened
    opened.close()


@pytest.fixture
def session(library, talking_engine, tmp_path):
    (tmp_path / "town.txt").write_text(FERRY, encoding="utf-8")
    with Session.open(library, talking_engine, "town", create=True) as opened:
        last(opened.read([tmp_path / "town.txt"]))
        yield opened
