"""Lightning attention with gradients. The backward pass is the same operation, once forwards and twice in reverse time.

With S_t = exp(g) S_{t-1} + k_t^T v_t and o_t = scale q_t S_t, the gradient of q is the operation itself on
(do, v, k), and the gradients of k and v are the operation on (v, do, q) and (k, q, do) in reverse time. So the forward
kernels, the Triton ones included, also compute the gradients. Only q, k, v and the initial state are saved.
"""

from __future__ import annotations

from typing import Any

import torch
from sala_kernels import lightning_attention
from torch import Tensor

_SEGMENT_TOKENS = 4096  # the reference sums over pairs of chunks; segments keep its cost linear in T
_CHUNK_TOKENS = 64


def differentiable_lightning(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, *, scale: float) -> Tensor:
    """`sala_kernels.lightning_attention` from a zero state, with gradients. Memory is linear in T.

    Returns [B, T, H, V] in q's dtype.

    Args:
        q: [B, T, H, K].
        k: [B, T, Hk, K].
        v: [B, T, Hk, V].
        log_decay: [H]; has no gradient.
        scale: factor of q.
    """
    B, _, H, K = q.shape
    repeats = H // k.shape[2]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, 2), v.repeat_interleave(repeats, 2)
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    empty = torch.zeros(B, H, K, v.shape[-1], dtype=dtype, device=q.device)
    return differentiable_lightning_from(q, k, v, empty, log_decay, scale)[0]


def differentiable_lightning_from(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """As `differentiable_lightning`, from a given state; also returns the final state [B, H, K, V].

    Args:
        q, k: [B, T, H, K].
        v: [B, T, H, V].
        state: [B, H, K, V], the initial state.
        log_decay: [H]; has no gradient.
        scale: factor of q.
    """
    out: tuple[Tensor, Tensor] = _Lightning.apply(q, k, v, state, log_decay, scale)
    return out


class _Lightning(torch.autograd.Function):
    @staticmethod
    def forward(
        q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor, scale: float
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(q.device.type, enabled=False):
            return _scan(q, k, v, state, log_decay, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, do: Tensor, d_state: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs. do: of the output; d_state: of the final state."""
        q, k, v, state, log_decay = ctx.saved_tensors
        scale, decay = ctx.scale, torch.exp(log_decay.to(state.dtype))[:, None, None]
        dq, _ = _scan(do, v, k, state.mT, log_decay, scale)
        end = d_state / (decay * scale)  # initial state of the recurrence in reverse time
        reversed_q, reversed_k, reversed_v, reversed_do = (x.flip(1) for x in (q, k, v, do))
        dv, start = _scan(reversed_k, reversed_q, reversed_do, end, log_decay, scale)
        dk, _ = _scan(reversed_v, reversed_do, reversed_q, end.mT, log_decay, scale)
        return dq, dk.flip(1), dv.flip(1), start * decay * scale, None, None


def _scan(q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The operation, at most `_SEGMENT_TOKENS` tokens at a time."""
    outs = []
    for start in range(0, q.shape[1], _SEGMENT_TOKENS):
        part = slice(start, start + _SEGMENT_TOKENS)
        o, state = lightning_attention(
            q[:, part], k[:, part], v[:, part], state, log_decay, scale=scale, chunk=_CHUNK_TOKENS
        )
        outs.append(o)
    return (outs[0] if len(outs) == 1 else torch.cat(outs, 1)), state
