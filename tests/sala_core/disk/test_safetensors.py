"""State files are plain safetensors files."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from sala_core.disk.safetensors import decode_tensors, encode_tensors

TENSORS = {
    "k.0": torch.randn(2, 5, 8).bfloat16(),
    "state.1": torch.randn(2, 4, 4),
    "empty": torch.empty(2, 0, 8, dtype=torch.bfloat16),
    "flag": torch.tensor(True),
    "text": torch.arange(5, dtype=torch.uint8),
}


def encode(tensors=TENSORS, metadata=None) -> bytes:
    """The whole file."""
    return b"".join(encode_tensors(tensors, metadata or {"name": "x"}))


def test_the_safetensors_library_reads_what_we_write(tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(encode())
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"name": "x"}
        assert set(file.keys()) == set(TENSORS)
        for name, tensor in TENSORS.items():
            assert file.get_tensor(name).dtype == tensor.dtype
            assert torch.equal(file.get_tensor(name), tensor)


def test_we_read_what_the_safetensors_library_writes():
    tensors, metadata = decode_tensors(memoryview(bytearray(save(TENSORS, {"name": "y"}))))
    assert metadata == {"name": "y"}
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_tensor_bytes_are_aligned_to_64_bytes():
    data = encode()
    assert (int.from_bytes(data[:8], "little") + 8) % 64 == 0


def test_a_dtype_outside_the_format_is_refused():
    with pytest.raises(ValueError, match="complex64"):
        encode({"z": torch.zeros(1, dtype=torch.complex64)})


def header(**entry) -> bytes:
    """A file with one tensor entry and eight bytes of data."""
    text = json.dumps({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 64,
        (5).to_bytes(8, "little") + b"[1,2]",
        header(dtype="F1"),
        header(shape=[3]),
        header(shape=[-2]),
        header(data_offsets=[8, 16]),
        header(data_offsets=[-8, 0]),
        header(extra=1),
    ],
)
def test_bytes_in_another_layout_are_a_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        decode_tensors(memoryview(bytearray(data)))


def test_the_smallest_valid_header_is_read():
    tensors, metadata = decode_tensors(memoryview(bytearray(header())))
    assert tensors["t"].tolist() == [0.0, 0.0]
    assert metadata == {}
