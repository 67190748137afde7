"""The definition of `sala_kernels.lightning_attention` in PyTorch. Prefill works in chunks."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from sala_kernels.lightning_attention.inputs import DecodeInputs
from sala_kernels.rotary.reference import qk_norm_rotary


def lightning_log_decay(num_heads: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the logarithm of every head's decay per token, [H] fp32: minus the ALiBi slopes, the same in all layers.

    If H is a power of two, head j has slope 2^(-8(j+1)/H). Otherwise the slopes are those of the largest power of two m
    below H, then every second slope of 2m for the remaining heads.
    """

    def slopes(n: int) -> list[float]:
        return [2.0 ** (-8.0 * (j + 1) / n) for j in range(n)]

    m = 2 ** math.floor(math.log2(num_heads))
    values = slopes(m) + slopes(2 * m)[::2][: num_heads - m]
    return -torch.tensor(values, dtype=torch.float32, device=device)


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor, *, scale: float, chunk: int = 64, rounded: bool
) -> tuple[Tensor, Tensor]:
    """The definition of `sala_kernels.lightning_attention.lightning_attention`.

    Args:
        q, k, v, state, log_decay, scale, chunk: as there.
        rounded: compute the attention within chunks in q's dtype. States are not rounded.
    """
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    chunk_dtype = q.dtype if rounded else dtype
    T, H = q.shape[1:3]
    C = min(chunk, T)
    N = -(-T // C)
    decay = log_decay.to(dtype)[:, None]
    k, v = _every_head(k, H), _every_head(v, H)
    queries, keys, values = (_chunks(x, N, C).contiguous() for x in (q, k, v))
    step = torch.arange(C, device=q.device, dtype=dtype)
    length = torch.full((N,), C, device=q.device, dtype=dtype)
    length[-1] = T - (N - 1) * C

    # within a chunk: scores decay with the distance of query and key
    distance = step[:, None] - step[None, :]
    mask = torch.where(distance >= 0, scale * torch.exp(decay[..., None] * distance.clamp(min=0)), 0.0)
    scores = (queries.to(chunk_dtype) @ keys.to(chunk_dtype).transpose(-1, -2)).mul_(mask[:, None].to(chunk_dtype))
    intra = scores @ values.to(chunk_dtype)  # [B, H, N, C, V]

    # across chunks: what each chunk adds to the state at its end, decayed over the chunks in between
    to_end = length[:, None] - 1 - step  # [N, C]; negative after the last token, where keys are zero
    fade = torch.exp(decay[..., None] * to_end.clamp(min=0))  # [H, N, C]
    added = (keys * fade[..., None]).transpose(-1, -2) @ values.to(dtype)  # [B, H, N, K, V]
    end = torch.cumsum(length, 0)
    start = end - length
    gap = start[:, None] - end[None, :]  # tokens from the end of chunk m to the start of chunk n
    passing = torch.where(gap >= 0, torch.exp(decay[..., None] * gap.clamp(min=0)), 0.0)  # [H, N, N]
    before = (passing @ added.flatten(-2)).view_as(added)
    before = before + torch.exp(decay * start)[..., None, None] * state.to(dtype)[:, :, None]
    from_start = scale * torch.exp(decay * (step + 1))  # [H, C]
    inter = (queries * from_start[:, None, :, None]) @ before

    o = inter.add_(intra).permute(0, 2, 3, 1, 4).to(q.dtype).flatten(1, 2)[:, :T]
    after = torch.exp(decay * length[-1])[..., None] * before[:, :, -1] + added[:, :, -1]
    return o, after


def _chunks(x: Tensor, num_chunks: int, chunk: int) -> Tensor:
    """[B, T, H, D] -> [B, H, N, C, D], zeros after the last token."""
    missing = num_chunks * chunk - x.shape[1]
    whole = pad(x, (0, 0, 0, 0, 0, missing)) if missing else x
    return whole.unflatten(1, (num_chunks, chunk)).permute(0, 3, 1, 2, 4)


def _every_head(x: Tensor, num_heads: int) -> Tensor:
    """[..., Hk, D] -> [..., H, D]: each head of x repeated for H / Hk neighboring heads."""
    return x if x.shape[-2] == num_heads else x.repeat_interleave(num_heads // x.shape[-2], -2)


def lightning_decode(inputs: DecodeInputs) -> Tensor:
    """The definition of `sala_kernels.lightning_attention.lightning_decode`."""
    q, k = _norm_and_rotate(inputs)
    return _decode(q, k, inputs.v, inputs.state, inputs.log_decay, inputs.scale)


def lightning_verify(inputs: DecodeInputs) -> tuple[Tensor, Tensor]:
    """The definition of `sala_kernels.lightning_attention.lightning_verify`."""
    q, k = _norm_and_rotate(inputs)
    state = inputs.state.clone()[None]
    tokens = zip(q[:, None], k[:, None], inputs.v[:, None], strict=True)
    return torch.cat([_decode(*token, state, inputs.log_decay, inputs.scale) for token in tokens]), k.contiguous()


def lightning_advance(states: Tensor, ks: Tensor, vs: Tensor, log_decay: Tensor, count: int) -> None:
    """The definition of `sala_kernels.lightning_attention.lightning_advance`.

    Args:
        states, ks, vs, log_decay, count: as there.
    """
    for t in range(count):
        _advance(states, ks[:, t], vs[:, t], log_decay)


def _norm_and_rotate(inputs: DecodeInputs) -> tuple[Tensor, Tensor]:
    """q and k, normalized and rotated."""
    return qk_norm_rotary(inputs.q, inputs.k, inputs.q_norm, inputs.k_norm, inputs.cos_sin, eps=inputs.eps)


def _decode(q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor, scale: float) -> Tensor:
    """Advance state [B, H, K, V] by one token, in place. Returns o [B, H, V]."""
    _advance(state, k, v, log_decay)
    return ((q.to(state.dtype) * scale)[..., None, :] @ state).squeeze(-2).to(q.dtype)


def _advance(states: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> None:
    """Advance states [B, H, K, V] by one token, k [B, Hk, K] and v [B, Hk, V], in place."""
    H, dtype = states.shape[1], states.dtype
    k, v = _every_head(k, H), _every_head(v, H)
    states.mul_(torch.exp(log_decay.to(dtype))[:, None, None])
    states.add_(k.to(dtype)[..., :, None] * v.to(dtype)[..., None, :])
