"""A file that is read straight into memory has the bytes and the checksum of one that is read whole."""

import os
from contextlib import suppress

import pytest
import torch

from sala_core.disk.files import checksum
from sala_core.disk.safetensors import encode_tensors, memory_of, spec_of
from sala_core.disk.scatter import read_into

SHAPES = {"k.0": (2, 700, 64), "v.0": (2, 700, 64), "k1.0": (2, 43, 64), "k_scale.0": (2, 700), "none": (2, 0, 64)}


def tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Random numbers, scales in float32 and the others in bfloat16."""
    return torch.randn(shape).to(torch.float32 if "scale" in name else torch.bfloat16)


STORED = {name: tensor(name, shape) for name, shape in SHAPES.items()}


def rows_of_buffers() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Buffers of more rows than the file has, full of 7, and the rows 5 ... of each that it belongs into."""
    buffers = {name: torch.full_like(x, 7).repeat(1, 2, *[1] * (x.dim() - 2)) for name, x in STORED.items()}
    buffers["none"] = torch.empty(2, 9, 64, dtype=torch.bfloat16)
    return buffers, {name: buffers[name][:, 5 : 5 + STORED[name].shape[1]] for name in STORED}


@pytest.fixture
def file(tmp_path):
    """The stored tensors as a file."""
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"".join(encode_tensors(STORED, {"name": "x"})))
    return path


def read(path, rows, num_bytes=None):
    """Read a file into the rows."""
    place = {name: memory_of(part) for name, part in rows.items()}
    return read_into(path, path.stat().st_size if num_bytes is None else num_bytes, lambda specs: place)


def test_rows_in_the_middle_of_buffers_get_the_files_bytes_and_no_other_row_changes(file):
    buffers, rows = rows_of_buffers()
    digest, metadata = read(file, rows)
    assert (digest, metadata) == (checksum(file.read_bytes()), {"name": "x"})
    for name, stored in STORED.items():
        assert torch.equal(rows[name], stored)
        if stored.numel():
            assert buffers[name][:, :5].eq(7).all()
            assert buffers[name][:, 5 + stored.shape[1] :].eq(7).all()


def test_the_header_names_shape_and_dtype_of_what_is_asked_for(file):
    seen = {}

    def place(specs):
        seen.update(specs)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        read_into(file, file.stat().st_size, place)
    assert seen == {name: spec_of(stored) for name, stored in STORED.items()}


@pytest.mark.parametrize("at", [0, 7, 8, 20, 300, -1, -5000])
def test_a_flipped_bit_changes_the_checksum_or_is_refused(file, at):
    data = bytearray(file.read_bytes())
    before = checksum(data)
    data[at] ^= 1
    file.write_bytes(data)
    with suppress(ValueError, EOFError):
        assert read(file, rows_of_buffers()[1])[0] != before


def test_memory_of_another_size_is_refused_before_a_byte_beyond_it_is_written(file):
    _, rows = rows_of_buffers()
    rows["v.0"] = rows["v.0"][:, :-1]
    with pytest.raises(ValueError, match=r"v\.0"):
        read(file, rows)


def test_a_file_of_another_length_is_refused(file):
    size = file.stat().st_size
    with pytest.raises(EOFError):
        read(file, rows_of_buffers()[1], size + 1)
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ValueError, match="follow the last array"):
        read(file, rows_of_buffers()[1])
    for cut in (0, 4, 8, 100):
        file.write_bytes(file.read_bytes()[:cut])
        with pytest.raises((EOFError, ValueError)):
            read(file, rows_of_buffers()[1])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_or_a_folder_is_an_error_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match=r"."):
            read_into(path, 100, lambda specs: {})


def test_memory_with_gaps_between_elements_is_refused():
    with pytest.raises(ValueError, match="last dimension"):
        memory_of(torch.zeros(4, 6)[:, ::2])
