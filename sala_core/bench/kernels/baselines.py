"""Baselines of an operation, by torch and flash-linear-attention, on the same input tensors.

The inputs are found by name among the variables that the prepared call of the `Workload` closes over.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import sala_kernels.backend
from sala_kernels import Int4Matrix, int4_dequantize
from torch import Tensor
from torch.nn.functional import linear, silu

Call = Callable[[], object]
_MIN_NOISE_NUMBERS = 4096  # smaller tensors are weights and decays, which keep their values


def baselines(operation: str, call: Call) -> Iterator[tuple[str, Call]]:
    """(name, call) of every other implementation that exists on this machine. call: the operation itself."""
    inputs = closure_inputs(call)
    on_card = any(x.device.type == "cuda" for x in inputs.values() if isinstance(x, Tensor))
    if on_card:
        yield "torch, the reference", lambda: _by_reference(call)
    others = {"int4_linear": _unpacked_linear, "block_attention": _dense_attention, "lightning_attention": _fla}
    if operation in others:
        yield from others[operation](inputs)


def closure_inputs(call: Call) -> dict[str, Any]:
    """The variables that a prepared call closes over, by name."""
    return dict(inspect.getclosurevars(call).nonlocals) if inspect.isfunction(call) else {}


def fill_with_noise(call: Call) -> None:
    """Fill large constant inputs with random values: products of zeros use less power, and so run faster."""
    for value in closure_inputs(call).values():
        for x in value if isinstance(value, list | tuple) else [value]:
            if isinstance(x, Int4Matrix):
                x.words.random_(-(2**31), 2**31)
                x.scales.uniform_(0.5, 1.5).mul_(x.in_features**-0.5 / 4)
            elif isinstance(x, Tensor) and x.is_floating_point() and x.numel() > _MIN_NOISE_NUMBERS and _is_constant(x):
                x.normal_()


def _is_constant(x: Tensor) -> bool:
    sample = x[..., :64].reshape(-1)[: 1 << 20]
    return x.itemsize > 1 and bool((sample == sample[0]).all())


def _by_reference(call: Call) -> object:
    with reference_only():
        return call()


@contextmanager
def reference_only() -> Iterator[None]:
    """A context in which `backend="auto"` chooses the reference, as on a machine without Triton."""
    module: Any = sala_kernels.backend
    before = module.has_triton
    module.has_triton = lambda: False
    try:
        yield
    finally:
        module.has_triton = before


def _unpacked_linear(inputs: dict[str, Any]) -> Iterator[tuple[str, Call]]:
    """The same product, or SwiGLU, with unpacked matrices in the dtype of the input."""
    x = inputs.get("x")
    matrices = [inputs.get("matrix")] if "matrix" in inputs else [inputs.get("gate"), inputs.get("up")]
    packed = [matrix for matrix in matrices if isinstance(matrix, Int4Matrix)]
    if not isinstance(x, Tensor) or len(packed) != len(matrices):
        return
    unpacked = [int4_dequantize(matrix, x.dtype) for matrix in packed]
    if len(unpacked) == 1:
        yield "torch F.linear, bf16 matrix", lambda: linear(x, unpacked[0])
    else:
        yield "torch F.linear, bf16 matrices", lambda: silu(linear(x, unpacked[0])) * linear(x, unpacked[1])


def _dense_attention(inputs: dict[str, Any]) -> Iterator[tuple[str, Call]]:
    """Attention over every key, to show what block selection saves. Not for quantized keys and values."""
    q, rows = inputs.get("q"), inputs.get("rows")
    if not isinstance(q, Tensor) or not isinstance(rows, list) or not all(isinstance(x, Tensor) for x in rows):
        return
    from torch.nn.attention.bias import causal_lower_right
    from torch.nn.functional import scaled_dot_product_attention

    T, n = q.shape[0], rows[0].shape[1]
    queries, keys, values = q.transpose(0, 1)[None], rows[0][None], rows[1][None]
    mask = causal_lower_right(T, n) if 1 < T < n else None

    def attend() -> Tensor:
        return scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=mask,
            is_causal=n == T,
            enable_gqa=True,  # type: ignore[arg-type]
        )

    if mask is None or q.device.type == "cuda":  # a CPU would materialize the mask, T x n
        yield "torch SDPA, every key", attend


def _fla(inputs: dict[str, Any]) -> Iterator[tuple[str, Call]]:
    """flash-linear-attention, if it is installed: the recurrence alone, without the norms and RoPE of q and k."""
    if importlib.util.find_spec("fla") is None:
        return
    q, k, v, state, decay = (inputs.get(name) for name in ("q", "k", "v", "state", "decay"))
    if not all(isinstance(x, Tensor) for x in (q, k, v, state, decay)):
        return
    assert isinstance(q, Tensor)
    module = importlib.import_module("fla.ops.simple_gla")
    prefill = q.ndim == 4
    name = "chunk_simple_gla" if prefill else "fused_recurrent_simple_gla"
    operation = getattr(module, name)
    if not prefill:  # [B, H, K] -> [B, 1, H, K]
        q, k, v = (x[:, None] for x in (q, k, v) if isinstance(x, Tensor))
    scale = q.shape[-1] ** -0.5
    yield (
        f"flash-linear-attention {name}",
        lambda: operation(q, k, v, g_gamma=decay, scale=scale, initial_state=state, output_final_state=True),
    )
