"""Linear attention with a constant decay per head (Lightning Attention, arXiv:2401.04658)."""

import torch
from torch import Tensor

from sala_kernels.backend import Backend, use_triton
from sala_kernels.lightning_attention import reference
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
    """Attend linearly over T tokens: S_t = exp(log_decay) S_{t-1} + k_t^T v_t, o_t = scale q_t S_t.

    q: [B, T, H, K]; k: [B, T, Hk, K]; v: [B, T, Hk, V]; any strides, one float dtype, computed in float32 (float64 if q
    is). Hk divides H, and head h reads head h // (H / Hk) of k and v. state: [B, H, K, V], the state before the first
    token. log_decay: [H], <= 0. Returns o [B, T, H, V] in q's dtype and the state after the last token, in the
    computing dtype. Nothing is changed in place. chunk: tokens that the reference takes at a time; its memory is
    linear in T, T * chunk scores and T / chunk states, and gradients flow through every argument of it, not of the
    kernels. The kernels multiply in the inputs' dtype and add in float32. Where no gradient is wanted, "auto" on a CPU
    rounds scores, and what they weigh, to q's dtype; the states are not rounded. Raises ValueError for shapes or dtypes
    that do not fit.
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
    """Advance every sequence by one token: S <- exp(log_decay) S + k^T v, o = scale q S.

    q: [B, H, K]; k: [B, Hk, K]; v: [B, Hk, V]; any strides, one float dtype; Hk divides H. log_decay: [H].
    state: [B, H, K, V] fp32 (fp64 too in the reference), contiguous, updated in place.
    Before that, q and k are normalised by their weights [K], if given, as by `rms_norm`, and turned by cos_sin
    [2, B, K / 2] or [2, 1, K / 2], if given, as by `apply_rotary`.
    Returns [B, H, V] in q's dtype. Raises ValueError for shapes or dtypes that do not fit.
    """
    _check(q, k, v, state, log_decay, leading=1)
    if use_triton(backend, q, k, v, state, log_decay, q_norm, k_norm, cos_sin):
        from sala_kernels.lightning_attention import kernels_decode

        return kernels_decode.lightning_decode(
            q, k, v, state, log_decay, scale=scale, q_norm=q_norm, k_norm=k_norm, eps=eps, cos_sin=cos_sin
        )
    return reference.lightning_decode(
        q, k, v, state, log_decay, scale=scale, q_norm=q_norm, k_norm=k_norm, eps=eps, cos_sin=cos_sin
    )


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
    """What `lightning_decode`, called for T tokens of one sequence one after another, would return; the state is kept.

    q: [T, H, K]; k: [T, Hk, K]; v: [T, Hk, V], T <= 16; any strides, one float dtype; Hk divides H. log_decay: [H].
    state: [H, K, V] fp32 (fp64 too in the reference), contiguous, before the first token; not changed.
    q_norm, k_norm: [K] or None; cos_sin: [2, T, K / 2] or None, as of `lightning_decode`.
    Returns o [T, H, V], with the bits that `lightning_decode` gives, and k as normalised and turned, [T, Hk, K], for
    `lightning_advance`; both in q's dtype. Raises ValueError for shapes or dtypes that do not fit.
    """
    T = q.shape[0]
    if T > MAX_TOKENS:
        raise ValueError(f"{T} tokens were given; at most {MAX_TOKENS} are taken")
    _check(q[None], k[None], v[None], state[None], log_decay, leading=2)
    if use_triton(backend, q, k, v, state, log_decay, q_norm, k_norm, cos_sin):
        from sala_kernels.lightning_attention import kernels_decode

        return kernels_decode.lightning_verify(
            q, k, v, state, log_decay, scale=scale, q_norm=q_norm, k_norm=k_norm, eps=eps, cos_sin=cos_sin
        )
    return reference.lightning_verify(
        q, k, v, state, log_decay, scale=scale, q_norm=q_norm, k_norm=k_norm, eps=eps, cos_sin=cos_sin
    )


def lightning_advance(
    states: Tensor, ks: Tensor, vs: Tensor, log_decay: Tensor, count: Position, *, backend: Backend = "auto"
) -> None:
    """Advance the states of L layers by the first `count` of T tokens: S <- exp(log_decay) S + k^T v. In one launch.

    states: [L, H, K, V] fp32 (fp64 too in the reference), contiguous, changed in place, to the bits that
    `lightning_decode` gives token by token. ks: [L, T, Hk, K] from `lightning_verify`, normalised and turned; vs:
    [L, T, Hk, V], of the same dtype; any strides; T <= 16; Hk divides H. log_decay: [H], of every layer.
    count: from 0 to T, a number, or int64 [1] on the device. Raises ValueError for shapes or dtypes that do not fit.
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
        raise ValueError(f"{count} of {T} tokens were asked for; at most {MAX_TOKENS} are taken")
    if use_triton(backend, states, ks, vs, log_decay):
        from sala_kernels.lightning_attention import kernels_decode

        kernels_decode.lightning_advance(states, ks, vs, log_decay, count)
    else:
        reference.lightning_advance(states, ks, vs, log_decay, int(count))


def _check(q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor, *, leading: int) -> None:
    """`leading`: dimensions before the heads."""
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
