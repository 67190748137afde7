"""Figures before an installation, and the check of the disk."""

import shutil
import tempfile
from types import SimpleNamespace

import pytest

from app.setup.download_size import Size, in_words, missing_space


@pytest.mark.parametrize(
    ("megabytes", "words"), [(332, "330 MB"), (994, "990 MB"), (996, "1.0 GB"), (1500, "1.5 GB"), (2940, "2.9 GB")]
)
def test_sizes_in_words(megabytes, words):
    assert in_words(megabytes) == words


def test_a_disk_that_is_too_small_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_840 * 10**6))
    assert missing_space(Size(download=340, disk=1500), tmp_path) == ""
    problem = missing_space(Size(download=341, disk=1500), tmp_path)
    assert problem.startswith(f"the installation needs 1.8 GB in {tmp_path} and 1.8 GB is free; free space there")
