"""Packages of an interrupted installation."""

import pytest

from app.setup.partial_packages import remove_partial_metadata


def package(folder, record):
    """A package of one file of 5 bytes, with this RECORD."""
    (folder / "quux").mkdir(parents=True)
    (folder / "quux" / "a, b.py").write_text("x = 1")
    (folder / "quux-1.dist-info").mkdir()
    if record is not None:
        (folder / "quux-1.dist-info" / "RECORD").write_text(record)


@pytest.mark.skipif("sys.platform == 'win32'", reason="the folder has another name on Windows")
@pytest.mark.parametrize(
    ("record", "complete"),
    [
        ('"quux/a, b.py",sha256=0,5\nquux-1.dist-info/RECORD,,\nquux/__pycache__/a.pyc,,\n', True),
        ('"quux/a, b.py",sha256=0,6\n', False),
        ('"quux/a, b.py",sha256=0,5\nquux/c.py,sha256=0,0\n', False),
        ('"quux/a, b.py",sha256=0,many\n', False),
        (None, False),
    ],
    ids=["complete", "too short", "a file is missing", "damaged", "no RECORD"],
)
def test_only_complete_packages_keep_their_metadata(tmp_path, record, complete):
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    package(packages, record)
    remove_partial_metadata(tmp_path)
    assert (packages / "quux-1.dist-info").exists() == complete
