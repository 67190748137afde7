"""Linear attention with a constant decay per head (Lightning Attention, arXiv:2401.04658)."""

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.lightning_attention import reference
from sala_kernels.lightning_attention.inputs import DecodeInputs
from sala_kernels.lightning_attention.reference import lightning_log_decay
from sala_kernels.positions import MAX_TOKENS, Position, check_position

__all__ = [
    "lightning_advance",
    "lightning_attention",
    "lightning_decode",
    "lightning_log_decay",
    "lightning_verify",
]


def lightning_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    log_decay: Tensor,
    *,
    scale: float,
    chunk: int = 64,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Linear attention over T tokens (prefill): S_t = exp(log_decay) S_(t-1) + k_t^T v_t, o_t = scale q_t S_t.

    Returns o [B, T, H, V] in q's dtype, and the state after the last token in the computing dtype, which is float64 if
    q is float64 and float32 otherwise. No argument is changed. Raises ValueError if shapes or dtypes do not match.
    The reference works in chunks. Its memory is linear in T: T * chunk scores and T / chunk states. Gradients flow
    through all its arguments. Where gradients are disabled, "auto" on a CPU computes the attention within chunks in q's
    dtype; the states are not rounded.
    The kernels have no gradients. They multiply in the inputs' dtype and accumulate in float32.

    Args:
        q: [B, T, H, K].
        k, v: [B, T, Hk, K] and [B, T, Hk, V], of q's dtype, any strides. Hk divides H, and head h of q uses head
            h // (H / Hk) of k and v.
        state: [B, H, K, V], before the first token.
        log_decay: [H], not positive, per token.
        scale: factor of the queries.
        chunk: tokens of a chunk of the reference.
        backend: see `sala_kernels.backend.use_triton`.
    """
    _check(q, k, v, state, log_decay, leading=2)
    if use_triton(backend, q, k, v, state, log_decay):
        from sala_kernels.lightning_attention import kernels_prefill

        return kernels_prefill.lightning_attention(q, k, v, state, log_decay, scale=scale)
    rounded = backend != "reference" and not torch.is_grad_enabled()
    return reference.lightning_attention(q, k, v, state, log_decay, scale=scale, chunk=chunk, rounded=rounded)


def lightning_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    log_decay: Tensor,
    *,
    scale: float,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 1e-6,
    cos_sin: Tensor | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Advance every sequence by one token: S <- exp(log_decay) S + k^T v. Returns o = scale q S, [B, H, V].

    q and k are first normalized as by `rms_norm` and rotated as by `apply_rotary`, where the weights and angles are
    given. o has q's dtype. Raises ValueError if shapes or dtypes do not match.

    Args:
        q: [B, H, K].
        k, v: [B, Hk, K] and [B, Hk, V], of q's dtype, any strides. Hk divides H.
        state: [B, H, K, V] fp32 (or fp64 in the reference), contiguous, updated in place.
        log_decay: [H].
        scale: factor of the queries.
        q_norm, k_norm: [K], weights of the norms, or None.
        eps: added to the mean squares of the norms.
        cos_sin: [2, B, K / 2] or [2, 1, K / 2], or None.
        backend: see `sala_kernels.backend.use_triton`.
    """
    _check(q, k, v, state, log_decay, leading=1)
    inputs = DecodeInputs(q, k, v, state, log_decay, scale, q_norm, k_norm, eps, cos_sin)
    if use_triton(backend, *inputs.tensors):
        from sala_kernels.lightning_attention import kernels_decode

        return kernels_decode.lightning_decode(inputs)
    return reference.lightning_decode(inputs)


def lightning_verify(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: Tensor,
    log_decay: Tensor,
    *,
    scale: float,
    q_norm: Tensor | None = None,
    k_norm: Tensor | None = None,
    eps: float = 1e-6,
    cos_sin: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Compute what `lightning_decode` returns for T tokens of one sequence in turn, without changing the state.

    Speculative decoding verifies draft tokens by it. Returns o [T, H, V], with the bits of `lightning_decode`, and the
    normalized and rotated k [T, Hk, K] for `lightning_advance`, both in q's dtype. Raises ValueError if shapes or
    dtypes do not match.

    Args:
        q: [T, H, K], T <= 16.
        k, v: [T, Hk, K] and [T, Hk, V], of q's dtype, any strides. Hk divides H.
        state: [H, K, V] fp32 (or fp64 in the reference), contiguous, before the first token.
        log_decay: [H].
        scale: factor of the queries.
        q_norm, k_norm: [K], weights of the norms, or None.
        eps: added to the mean squares of the norms.
        cos_sin: [2, T, K / 2] or None.
        backend: see `sala_kernels.backend.use_triton`.
    """
    T = q.shape[0]
    if T > MAX_TOKENS:
        raise ValueError(f"{T} tokens were given; at most {MAX_TOKENS} are supported")
    _check(q[None], k[None], v[None], state[None], log_decay, leading=2)
    inputs = DecodeInputs(q, k, v, state, log_decay, scale, q_norm, k_norm, eps, cos_sin)
    if use_triton(backend, *inputs.tensors):
        from sala_kernels.lightning_attention import kernels_decode

        return kernels_decode.lightning_verify(inputs)
    return reference.lightning_verify(inputs)


def lightning_advance(
    states: Tensor, ks: Tensor, vs: Tensor, log_decay: Tensor, count: Position, *, backend: Backend = "auto"
) -> None:
    """Advance the states of L layers by the first `count` of T tokens, in one launch: S <- exp(log_decay) S + k^T v.

    The states get the bits that `lightning_decode` gives them token by token. Raises ValueError if shapes or dtypes do
    not match.

    Args:
        states: [L, H, K, V] fp32 (or fp64 in the reference), contiguous, updated in place.
        ks: [L, T, Hk, K] from `lightning_verify`, T <= 16, any strides. Hk divides H.
        vs: [L, T, Hk, V] of the same dtype, any strides.
        log_decay: [H], the same in every layer.
        count: accepted tokens, from 0 to T, a number, or int64 [1] on the device.
        backend: see `sala_kernels.backend.use_triton`.
    """
    L, H, K, V = states.shape
    T, kv_heads = ks.shape[1:3]
    check_position(count, T, ks.device)
    if ks.shape != (L, T, kv_heads, K) or vs.shape != (L, T, kv_heads, V) or H % kv_heads or log_decay.shape != (H,):
        raise ValueError(
            f"ks {list(ks.shape)}, vs {list(vs.shape)} and log_decay {list(log_decay.shape)} do not fit states "
            f"{list(states.shape)}"
        )
    if T > MAX_TOKENS or (isinstance(count, int) and not 0 <= count <= T):
        raise ValueError(f"{count} of {T} tokens were asked for; at most {MAX_TOKENS} are supported")
    if use_triton(backend, states, ks, vs, log_decay):
        from sala_kernels.lightning_attention import kernels_decode

        kernels_decode.lightning_advance(states, ks, vs, log_decay, count)
    else:
        reference.lightning_advance(states, ks, vs, log_decay, int(count))


def _check(q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor, *, leading: int) -> None:
    """Raise ValueError if shapes do not match. leading: number of dimensions before the heads."""
    B, H, K = q.shape[0], q.shape[-2], q.shape[-1]
    kv_heads, V = v.shape[-2:]
    if not q.ndim == k.ndim == v.ndim == leading + 2 or k.shape != (*q.shape[:leading], kv_heads, K):
        raise ValueError(f"q {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)} do not fit each other")
    if v.shape[:leading] != q.shape[:leading] or H % kv_heads:
        raise ValueError(f"v {list(v.shape)} does not fit q {list(q.shape)}")
    if state.shape != (B, H, K, V) or log_decay.shape != (H,):
        raise ValueError(
            f"state is {list(state.shape)} and log_decay {list(log_decay.shape)}; needed are {[B, H, K, V]} and {[H]}"
        )
