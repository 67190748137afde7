"""Torch's form of an operation, and flash-linear-attention's, on the very inputs that ours is timed on.

The inputs are those that the prepared call holds (the variables its closure names), so both use the same tensors.
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
_NOISE_FROM = 4096  # smaller tensors are weights and decays: their values stay


def baselines(operation: str, call: Call) -> Iterator[tuple[str, Call]]:
    """(name, call) of every other form that this operation has here, besides `call` itself."""
    inputs = held_inputs(call)
    on_card = any(x.device.type == "cuda" for x in inputs.values() if isinstance(x, Tensor))
    if on_card:
        yield "torch, the reference", lambda: _by_reference(call)
    special = {"int4_linear": _plain_matrices, "block_attention": _every_key, "lightning_attention": _fla}
    if operation in special:
        yield from special[operation](inputs)


def held_inputs(call: Call) -> dict[str, Any]:
    """The variables that a prepared call closes over."""
    return dict(inspect.getclosurevars(call).nonlocals) if inspect.isfunction(call) else {}


def fill_with_noise(call: Call) -> None:
    """Give large constant inputs random values: zeros draw less power, and run faster, than a text would."""
    for value in held_inputs(call).values():
        for x in value if isinstance(value, list | tuple) else [value]:
            if isinstance(x, Int4Matrix):
                x.words.random_(-(2**31), 2**31)
                x.scales.uniform_(0.5, 1.5).mul_(x.in_features**-0.5 / 4)
            elif isinstance(x, Tensor) and x.is_floating_point() and x.numel() > _NOISE_FROM and _is_constant(x):
                x.normal_()


def _is_constant(x: Tensor) -> bool:
    part = x[..., :64].reshape(-1)[: 1 << 20]
    return x.itemsize > 1 and bool((part == part[0]).all())


def _by_reference(call: Call) -> object:
    with reference_only():
        return call()


@contextmanager
def reference_only() -> Iterator[None]:
    """Within, operations that choose by themselves are computed by torch, as where Triton is not installed."""
    module: Any = sala_kernels.backend
    before = module.has_triton
    module.has_triton = lambda: False
    try:
        yield
    finally:
        module.has_triton = before


def _plain_matrices(inputs: dict[str, Any]) -> Iterator[tuple[str, Call]]:
    """The same product with the matrix in bf16."""
    x = inputs.get("x")
    matrices = [inputs.get("matrix")] if "matrix" in inputs else [inputs.get("gate"), inputs.get("up")]
    packed = [matrix for matrix in matrices if isinstance(matrix, Int4Matrix)]
    if not isinstance(x, Tensor) or len(packed) != len(matrices):
        return
    plain = [int4_dequantize(matrix, x.dtype) for matrix in packed]
    if len(plain) == 1:
        yield "torch F.linear, bf16 matrix", lambda: linear(x, plain[0])
    else:
        yield "torch F.linear, bf16 matrices", lambda: silu(linear(x, plain[0])) * linear(x, plain[1])


def _every_key(inputs: dict[str, Any]) -> Iterator[tuple[str, Call]]:
    """Flash attention over every key: what choosing blocks saves. On quantized rows there is none."""
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

    if mask is None or q.device.type == "cuda":  # a CPU would make the mask, T x n
        yield "torch SDPA, every key", attend


def _fla(inputs: dict[str, Any]) -> Iterator[tuple[str, Call]]:
    """flash-linear-attention, where it is installed: the recurrence alone, q and k normed and turned before."""
    if importlib.util.find_spec("fla") is None:
        return
    q, k, v, state, decay = (inputs.get(name) for name in ("q", "k", "v", "state", "decay"))
    if not all(isinstance(x, Tensor) for x in (q, k, v, state, decay)):
        return
    assert isinstance(q, Tensor)
    module = importlib.import_module("fla.ops.simple_gla")
    prefill = q.ndim == 4
    name = "chunk_simple_gla" if prefill else "fused_recurrent_simple_gla"
    form = getattr(module, name)
    if not prefill:  # [B, H, K] to one token each
        q, k, v = (x[:, None] for x in (q, k, v) if isinstance(x, Tensor))
    scale = q.shape[-1] ** -0.5
    yield (
        f"flash-linear-attention {name}",
        lambda: form(q, k, v, g_gamma=decay, scale=scale, initial_state=state, output_final_state=True),
    )
