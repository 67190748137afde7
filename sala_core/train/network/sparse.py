"""Block-sparse attention with gradients through the selected blocks, not through the selection (InfLLM-V2).

Keys are gathered for a few queries at a time, in the forward and the backward pass, so memory is linear in T.
"""

from __future__ import annotations

from typing import Any

import torch
from sala_kernels import BlockLayout, block_attention, block_scores, choose_blocks, compress_keys
from torch import Tensor

_GATHERED_ELEMENTS = 1 << 25  # of keys gathered at once in the backward pass


def is_dense(num_tokens: int, layout: BlockLayout) -> bool:
    """Whether every query of a row of `num_tokens` tokens attends to all tokens before it."""
    return (num_tokens - 1) // layout.block < layout.max_blocks


def differentiable_blocks(q: Tensor, k: Tensor, v: Tensor, *, scale: float, layout: BlockLayout) -> Tensor:
    """Attention of every query to its initial, local and selected blocks, from position 0. Returns [B, T, H, dv].

    Rows are computed one by one: at lengths with block selection a batch has few.

    Args:
        q: [B, T, H, d].
        k: [B, T, Hk, d], of q's dtype.
        v: [B, T, Hk, dv], of q's dtype.
        scale: factor of the attention scores.
        layout: blocks of the model.
    """
    rows = []
    for row in zip(q, k, v, strict=True):
        chosen = select_blocks(row[0], row[1], scale=scale, layout=layout)
        rows.append(_Blocks.apply(*row, chosen, scale, layout))
    return torch.stack(rows)


@torch.no_grad()
def select_blocks(q: Tensor, k: Tensor, *, scale: float, layout: BlockLayout) -> Tensor:
    """The top-k blocks of every query, as the engine selects them: [Hk, T, slots], -1 in empty slots.

    Args:
        q: [T, H, d].
        k: [T, Hk, d].
        scale: factor of the attention scores.
        layout: blocks of the model.
    """
    with torch.autocast(q.device.type, enabled=False):
        keys, tiles = k.detach().transpose(0, 1).contiguous(), []
        fine = compress_keys(keys, size=2 * layout.stride, stride=layout.stride)
        coarse = compress_keys(keys, size=8 * layout.stride, stride=4 * layout.stride)
        step = 1024 if q.is_cuda else layout.block
        for start in range(0, len(q), step):
            part = q.detach()[start : start + step]
            scores = block_scores(part, fine, coarse, position=start, scale=scale, layout=layout)
            tiles.append(choose_blocks(scores, position=start, layout=layout))
        return torch.cat(tiles, 1)


class _Blocks(torch.autograd.Function):
    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, scale: float, layout: BlockLayout) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            keys, values = k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()
            return block_attention(q, keys, values, chosen, position=0, scale=scale, layout=layout)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        q, k, v, chosen, ctx.scale, ctx.layout = inputs
        ctx.save_for_backward(q, k, v, chosen)

    @staticmethod
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, chosen = ctx.saved_tensors
        layout, dtype = ctx.layout, torch.float64 if q.dtype == torch.float64 else torch.float32
        T, Hk, d = k.shape
        keys, values = (x.transpose(0, 1).to(dtype).contiguous() for x in (k, v))  # [Hk, T, .]
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(keys), torch.zeros_like(values)
        most = max(1, _GATHERED_ELEMENTS // max(1, Hk * layout.slots * layout.block * d))
        start = 0
        while start < T:
            stop = min(T, start + most, (start // layout.block + 1) * layout.block)
            part = slice(start, stop)
            tile = _Tile(q[part].to(dtype), do[part].to(dtype), chosen[:, part], start, ctx.scale, layout)
            dq[part] = tile.backward(keys, values, dk, dv).to(q.dtype)
            start = stop
        return dq, dk.transpose(0, 1).to(k.dtype), dv.transpose(0, 1).to(v.dtype), None, None, None


class _Tile:
    """Backward pass of t queries that lie in one block.

    near: tokens of the initial and local blocks (of all blocks, if all are attended to), the same for every query.
    far: tokens of the blocks that each query selected.
    """

    def __init__(self, q: Tensor, do: Tensor, chosen: Tensor, start: int, scale: float, layout: BlockLayout) -> None:
        """q: [t, H, d] from token `start` on; do: [t, H, dv], gradient of the output; chosen: [Hk, t, slots]."""
        self.scale, self.layout = scale, layout
        t, H, _ = q.shape
        Hk = chosen.shape[0]
        self.q, self.do = (x.view(t, Hk, H // Hk, -1).transpose(0, 1) for x in (q, do))  # [Hk, t, G, .]
        own, end, device = start // layout.block, start + t, q.device
        first = layout.init * layout.block
        local = max((own - layout.local + 1) * layout.block, first)
        self.sparse = own >= layout.max_blocks and layout.slots > 0
        ranges = [(0, first), (local, end)] if own >= layout.max_blocks else [(0, end)]
        self.near = torch.cat([torch.arange(a, b, device=device) for a, b in ranges])
        self.future = self.near > torch.arange(start, end, device=device)[:, None]  # [t, near]: the causal mask
        steps = torch.arange(layout.block, device=device)
        self.far = (chosen.clamp(min=0)[..., None] * layout.block + steps).flatten(2)  # [Hk, t, slots * block]
        self.empty = (chosen < 0).repeat_interleave(layout.block, -1)

    def backward(self, keys: Tensor, values: Tensor, dk: Tensor, dv: Tensor) -> Tensor:
        """Return the gradient of q, [t, H, d], and add those of keys and values to dk and dv in place.

        keys, dk: [Hk, T, d]; values, dv: [Hk, T, dv].
        """
        near_k, near_v = keys[:, None, self.near], values[:, None, self.near]  # [Hk, 1, near, .]
        s = [(self.q @ near_k.mT).masked_fill(self.future[:, None], -torch.inf)]
        dp = [self.do @ near_v.mT]
        if self.sparse:
            far_k, far_v = _gather_rows(keys, self.far), _gather_rows(values, self.far)
            s.append((self.q @ far_k.mT).masked_fill(self.empty[:, :, None], -torch.inf))
            dp.append(self.do @ far_v.mT)
        p = (torch.cat(s, -1) * self.scale).softmax(-1)  # [Hk, t, G, keys]
        dp_all = torch.cat(dp, -1)
        ds = p * (dp_all - (p * dp_all).sum(-1, keepdim=True)) * self.scale
        n = len(self.near)
        dq = ds[..., :n] @ near_k
        dk.index_add_(1, self.near, _sum_over_queries(ds[..., :n], self.q))
        dv.index_add_(1, self.near, _sum_over_queries(p[..., :n], self.do))
        if self.sparse:
            dq = dq + ds[..., n:] @ far_k
            _add_rows(dk, self.far, ds[..., n:].mT @ self.q)
            _add_rows(dv, self.far, p[..., n:].mT @ self.do)
        return dq.transpose(0, 1).flatten(1, 2)


def _gather_rows(x: Tensor, tokens: Tensor) -> Tensor:
    """Rows of x [Hk, T, d] at tokens [Hk, t, n] -> [Hk, t, n, d]."""
    return torch.stack([part[rows] for part, rows in zip(x, tokens, strict=True)])


def _add_rows(x: Tensor, tokens: Tensor, update: Tensor) -> None:
    """Add update [Hk, t, n, d] to the rows of x [Hk, T, d] at tokens [Hk, t, n]. In place."""
    for part, rows, values in zip(x, tokens, update, strict=True):
        part.index_add_(0, rows.flatten(), values.flatten(0, 1))


def _sum_over_queries(weights: Tensor, x: Tensor) -> Tensor:
    """weights [Hk, t, G, n]^T x [Hk, t, G, d], summed over queries and heads -> [Hk, n, d]."""
    return weights.flatten(1, 2).mT @ x.flatten(1, 2)
