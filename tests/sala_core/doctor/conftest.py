"""What the tests of the doctor share: an examination, and groups whose functions are in `broken_checks`."""

import os
from pathlib import Path

import pytest

from sala_core.doctor.groups import Group
from sala_core.doctor.records import Examination


@pytest.fixture
def examination(tmp_path):
    """Of the embedded model, with a library that does not exist."""
    return Examination(model="embedded", device="cpu", kv="auto", library=tmp_path / "library", quick=True)


@pytest.fixture
def broken(monkeypatch, root):
    """broken(name, limit_s) is a group of the checks "first" and "second" in `broken_checks`."""
    folders = [str(root), str(root / "kernels"), str(Path(__file__).resolve().parent)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))

    def group(name, limit_s=60.0):
        return Group(names=("first", "second"), function=f"broken_checks:{name}", limit_s=limit_s)

    return group
