"""Files are whole or absent."""

import os

import pytest

from sala_core.disk.files import format_bytes, stage_file, write_file


def test_a_staged_file_is_deleted_if_it_is_not_published(tmp_path):
    with stage_file(tmp_path / "target", [memoryview(b"abc")]) as staged:
        assert staged.path.read_bytes() == b"abc"
        assert staged.path.parent == tmp_path
        assert (staged.num_bytes, len(staged.checksum)) == (3, 32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode bits")
def test_a_written_file_replaces_the_earlier_one_and_has_the_given_mode(tmp_path):
    target = tmp_path / "target"
    write_file(target, [memoryview(b"ab"), memoryview(b"c")])
    assert target.stat().st_mode & 0o777 == 0o600
    write_file(target, [memoryview(b"new")], mode=0o644)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (16 << 20, "16.0 MiB"), (1 << 41, "2.0 TiB")],
)
def test_sizes_are_formatted_with_units(num_bytes, text):
    assert format_bytes(num_bytes) == text
