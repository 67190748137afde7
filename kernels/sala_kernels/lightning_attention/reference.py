"""The definition of `sala_kernels.lightning_attention`, in PyTorch, in chunks."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from sala_kernels.rotary.reference import qk_norm_rotary


def lightning_log_decay(num_heads: int, device: torch.device | str = "cpu") -> Tensor:
    """The logarithm of every head's decay per token, [H] fp32, negative: ALiBi's slopes, the same in every layer.

    For a power of two: -2^(-8(j+1)/H); otherwise the slopes of the next lower power of two m, then every second
    slope of 2m until there are enough.
    """

    def slopes(n: int) -> list[float]:
        return [2.0 ** (-8.0 * (j + 1) / n) for j in range(n)]

    m = 2 ** math.floor(math.log2(num_heads))
    values = slopes(m) + slopes(2 * m)[::2][: num_heads - m]
    return -torch.tensor(values, dtype=torch.float32, device=device)


def lightning_attention(
    q: Tensor, k: Tensor, v: Tensor, state: Tensor, log_decay: Tensor, *, scale: float, chunk: int = 64, rounded: bool
) -> tuple[Tensor, Tensor]:
    """As `sala_kernels.lightning_attention.lightning_attention`. rounded: what passes within a chunk, scores and what
    they weigh, is rounded to q's dtype; the states are not."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    within = q.dtype if rounded else dtype
    T, H = q.shape[1:3]
    C = min(chunk, T)
    N = -(-T // C)
    decay = log_decay.to(dtype)[:, None]
    k, v = _every_head(k, H), _every_head(v, H)
    queries, keys, values = (_chunks(x, N, C).contiguous() for x in (q, k, v))
    step = torch.arange(C, device=q.device, dtype=dtype)
    length = torch.full((N,), C, device=q.device, dtype=dtype)
    length[-1] = T - (N - 1) * C

    # within a chunk: scores decay with the distance
    distance = step[:, None] - step[None, :]
    mask = torch.where(distance >= 0, scale * torch.exp(decay[..., None] * distance.clamp(min=0)), 0.0)
    scores = (queries.to(within) @ keys.to(within).transpose(-1, -2)).mul_(mask[:, None].to(within))
    intra = scores @ values.to(within)  # [B, H, N, C, V]

    # across chunks: what each chunk adds at its end, summed with the decay of the chunks between
    to_end = length[:, None] - 1 - step  # [N, C]; negative behind the last token, where keys are zero
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
    """[B, T, H, D] -> [B, H, N, C, D], zeros behind the last token."""
    missing = num_chunks * chunk - x.shape[1]
    whole = pad(x, (0, 0, 0, 0, 0, missing)) if missing else x
    return whole.unflatten(1, (num_chunks, chunk)).permute(0, 3, 1, 2, 4)


def _every_head(x: Tensor, num_heads: int) -> Tensor:
    """[..., Hk, D] -> [..., H, D]: every head of x for as many neighbouring heads."""
    return x if x.shape[-2] == num_heads else x.repeat_interleave(num_heads // x.shape[-2], -2)


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
) -> Tensor:
    """As `sala_kernels.lightning_attention.lightning_decode`."""
    dtype = state.dtype
    q, k = qk_norm_rotary(q, k, q_norm, k_norm, cos_sin, eps=eps)
    _advance(state, k, v, log_decay)
    return ((q.to(dtype) * scale)[..., None, :] @ state).squeeze(-2).to(q.dtype)


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
) -> tuple[Tensor, Tensor]:
    """As `sala_kernels.lightning_attention.lightning_verify`."""
    q, k = qk_norm_rotary(q, k, q_norm, k_norm, cos_sin, eps=eps)
    state = state.clone()[None]
    tokens = zip(q[:, None], k[:, None], v[:, None], strict=True)
    return torch.cat([lightning_decode(*token, state, log_decay, scale=scale) for token in tokens]), k.contiguous()


def lightning_advance(states: Tensor, ks: Tensor, vs: Tensor, log_decay: Tensor, count: int) -> None:
    """As `sala_kernels.lightning_attention.lightning_advance`."""
    for t in range(count):
        _advance(states, ks[:, t], vs[:, t], log_decay)


def _advance(states: Tensor, k: Tensor, v: Tensor, log_decay: Tensor) -> None:
    """By one token: states [B, H, K, V], in place; k [B, Hk, K]; v [B, Hk, V]."""
    H, dtype = states.shape[1], states.dtype
    k, v = _every_head(k, H), _every_head(v, H)
    states.mul_(torch.exp(log_decay.to(dtype))[:, None, None])
    states.add_(k.to(dtype)[..., :, None] * v.to(dtype)[..., None, :])
