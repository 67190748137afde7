"""The file that says what an installation was made from."""

import pytest

from app.setup.stamp import Stamp


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"pyproject": 1}', "\x00"])
def test_a_damaged_stamp_counts_as_none(tmp_path, damage):
    (tmp_path / "stamp").write_text(damage)
    assert Stamp.load(tmp_path / "stamp") is None


def test_a_stamp_of_an_older_version_is_read(tmp_path):
    (tmp_path / "stamp").write_text('{"pyproject": "a", "extras": ["test"], "executable": "b"}')
    assert Stamp.load(tmp_path / "stamp") == Stamp(pyproject="a", extras=("test",), executable="b", torch_build="")


def test_a_stamp_is_read_as_it_was_saved(tmp_path):
    stamp = Stamp(pyproject="a", extras=("x", "y"), executable="b", torch_choice="cuda", torch_build="cpu")
    stamp.save(tmp_path / "stamp.json")
    assert Stamp.load(tmp_path / "stamp.json") == stamp
