"""Torch tensors in the safetensors file layout. The layout itself is in `sala_core.disk.layout`."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from sala_core.disk.layout import Block, Spec, decode_blocks, encode_header

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def encode_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[memoryview]:
    """Yield the file's bytes in order. Contiguous CPU tensors are not copied.

    tensors: name -> tensor of any shape and of a dtype in `_DTYPES`. metadata: strings. Raises ValueError for
    another dtype.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ValueError(f"cannot store tensor {name!r} of {tensor.dtype}")
    specs = {name: Spec(dtype=_NAMES[tensor.dtype], shape=tuple(tensor.shape)) for name, tensor in tensors.items()}
    header, names = encode_header(specs, metadata)
    yield header
    for name in names:
        if tensors[name].numel():
            yield tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def decode_tensors(data: memoryview) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata. The tensors share the memory of `data`, which must be writable.

    Raises ValueError if the bytes are not in this layout.
    """
    blocks, metadata = decode_blocks(data)
    return {name: _tensor(block) for name, block in blocks.items()}, metadata


def spec_of(tensor: Tensor) -> Spec:
    """What a header says about a tensor. Raises ValueError for a dtype that is not in `_DTYPES`."""
    if tensor.dtype not in _NAMES:
        raise ValueError(f"cannot store a tensor of {tensor.dtype}")
    return Spec(dtype=_NAMES[tensor.dtype], shape=tuple(tensor.shape))


def memory_of(tensor: Tensor) -> list[memoryview]:
    """The writable memory of a CPU tensor in C order, in as few pieces as are contiguous.

    tensor: of any shape; a slice of rows of [heads, rows, d] gives one piece a head. Raises ValueError if the elements
    of the last dimension do not follow each other.
    """
    if not tensor.numel():
        return []
    if tensor.is_contiguous():
        return [tensor.detach().reshape(-1).view(torch.uint8).numpy().data]
    if tensor.dim() < 2:
        raise ValueError("the last dimension of the tensor is not contiguous")
    return [piece for part in tensor for piece in memory_of(part)]


def _tensor(block: Block) -> Tensor:
    dtype = _DTYPES[block.spec.dtype]
    if not block.data:
        return torch.empty(block.spec.shape, dtype=dtype)
    return torch.frombuffer(block.data, dtype=dtype).reshape(block.spec.shape)
