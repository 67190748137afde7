"""The layout without torch writes and reads the same bytes as the one with torch."""

import numpy as np
import pytest
import torch

from sala_core.disk.layout import decode_arrays, encode_arrays, encode_header
from sala_core.disk.safetensors import decode_tensors, encode_tensors

ARRAYS = {
    "text": np.frombuffer(b"abc", dtype=np.uint8),
    "ids": np.arange(7, dtype="<i4"),
    "starts": np.arange(6, dtype=np.int64).reshape(2, 3).T,
    "empty": np.empty((2, 0), dtype=np.float32),
    "flag": np.array(True),
}
METADATA = {"name": "x", "place": "ü"}


def file_of(arrays=ARRAYS) -> memoryview:
    """The whole file."""
    return memoryview(bytearray(b"".join(encode_arrays(arrays, METADATA))))


def test_arrays_and_equal_tensors_are_the_same_bytes():
    tensors = {name: torch.from_numpy(array.copy()) for name, array in ARRAYS.items()}
    assert bytes(file_of()) == b"".join(encode_tensors(tensors, METADATA))
    read, metadata = decode_tensors(file_of())
    assert metadata == METADATA
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_arrays_come_back_equal_and_share_the_files_memory():
    data = file_of()
    arrays, metadata = decode_arrays(data)
    assert metadata == METADATA
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(arrays[name], array)
    arrays["ids"][0] = 99
    assert decode_arrays(data)[0]["ids"][0] == 99


def test_a_dtype_or_a_name_outside_the_format_is_refused():
    with pytest.raises(ValueError, match="complex64"):
        list(encode_arrays({"z": np.zeros(1, dtype=np.complex64)}, {}))
    with pytest.raises(ValueError, match=">i4"):
        list(encode_arrays({"z": np.zeros(1, dtype=">i4")}, {}))
    with pytest.raises(ValueError, match="__metadata__"):
        encode_header({"__metadata__": None}, {})


def test_bfloat16_is_refused_because_numpy_does_not_have_it():
    data = memoryview(bytearray(b"".join(encode_tensors({"k": torch.zeros(2).bfloat16()}, {}))))
    with pytest.raises(ValueError, match="'k' is BF16"):
        decode_arrays(data)
