"""Whether 4-bit matrices stay packed in memory, by the device, the dtype and the size of the model.

A card's kernels multiply packed matrices, so they always stay packed there. On a CPU packing saves memory, and time
where weights no longer fit into the caches; a small model reads faster with matrices that are dequantized once.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from sala_kernels import auto_selects_triton

Packing = Literal["card", "cpu"]
"""Layout of packed matrices: `Int4Matrix`, or `CpuInt4Matrix`."""

MIN_PACKED_PARAMETERS = 1 << 28
"""Parameters from which a model stays packed on a CPU: 0.5 GiB in bfloat16. A constant, as states are bound to it."""

_ON_CPU = (torch.bfloat16, torch.float32)


def packing_for(shapes: Mapping[str, tuple[int, ...]], device: torch.device, dtype: torch.dtype) -> Packing | None:
    """How the 4-bit matrices of a model are kept; None if they are dequantized.

    Args:
        shapes: name and shape of every tensor, as `expected_shapes` returns them.
        device: of the weights.
        dtype: of the activations.
    """
    if auto_selects_triton(device, dtype):
        return "card"
    is_large = sum(map(math.prod, shapes.values())) >= MIN_PACKED_PARAMETERS
    return "cpu" if device.type == "cpu" and is_large and dtype in _ON_CPU else None
