"""`sala_kernels.block_attention` for many queries on a CPU: a chosen block is read once for all that chose it.

The reference copies every query's blocks, hundreds of kilobytes a query, and waits for memory. Here the pairs of query
and chosen block are sorted by block and cut into groups of a few queries; each group is one small matrix product.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sala_kernels.block_attention import reference
from sala_kernels.blocks import BlockLayout
from sala_kernels.kv_quantization.rows import QuantizedRows

_QUERIES = 1024  # scored together: their scores stay near the processor
_MOST_QUERIES_A_GROUP = 32


def block_attention(
    q: Tensor,
    k: Tensor | QuantizedRows,
    v: Tensor | QuantizedRows,
    chosen: Tensor | None,
    *,
    position: int,
    scale: float,
    layout: BlockLayout,
    mass: Tensor | None = None,
) -> Tensor:
    """As `sala_kernels.block_attention.block_attention`."""
    T = q.shape[0]
    dense = T if chosen is None or not layout.slots else min(T, max(0, layout.max_blocks * layout.block - position))
    out = q.new_empty(T, q.shape[1], v.shape[-1])
    if dense:
        early = None if chosen is None else chosen[:, :dense]
        out[:dense] = reference.block_attention(
            q[:dense], k, v, early, position=position, scale=scale, layout=layout, mass=mass
        )
    for start in range(dense, T, _QUERIES):
        assert chosen is not None
        stop = min(T, start + _QUERIES)
        part, tile = q[start:stop], chosen[:, start:stop]
        _chosen_blocks(out[start:stop], part, k, v, tile, position + start, scale, layout, mass)
    return out


def _chosen_blocks(
    out: Tensor,
    q: Tensor,
    k: Tensor | QuantizedRows,
    v: Tensor | QuantizedRows,
    chosen: Tensor,
    position: int,
    scale: float,
    layout: BlockLayout,
    mass: Tensor | None,
) -> None:
    """All queries of q [T, H, d] choose; out [T, H, dv] is written."""
    T, H, d = q.shape
    kv_heads, block = k.shape[0], layout.block
    G = H // kv_heads
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    queries = (q.to(dtype) * scale).view(T, kv_heads, G, d).transpose(0, 1)  # [kv heads, T, G, d]
    size = _group_size(chosen[0].numel(), (position + T) // block)
    groups = [_group(picked, size) for picked in chosen]
    far = torch.stack([_far_scores(*x, block) for x in zip(queries, _heads(k), groups, strict=True)])
    empty = chosen < 0
    if bool(empty.any()):
        far.masked_fill_(empty[..., None, None], -torch.inf)
    top, total = far.amax((2, 4)), far.new_empty(kv_heads, T, G)  # far: [kv heads, T, slots, G, block]
    near = far.new_empty(kv_heads, T, G, v.shape[-1])
    kept: list[tuple[Tensor, list[tuple[int, int]], int, int]] = []
    start = 0
    while start < T:
        own = (position + start) // block
        stop = min(T, (own + 1) * block - position)
        pieces = reference.shared_ranges(own, position + stop, layout, dense=False)
        shared_k, shared_v = (torch.cat([reference.rows_between(x, a, b) for a, b in pieces], 1) for x in (k, v))
        tile = queries[:, start:stop].reshape(kv_heads, -1, d)
        s = torch.bmm(tile, shared_k.to(dtype).transpose(1, 2)).view(kv_heads, stop - start, G, -1)
        reference.hide_future(s, stop - start)
        peak = torch.maximum(top[:, start:stop], s.amax(-1))
        s.sub_(peak[..., None]).exp_()
        top[:, start:stop] = peak
        torch.sum(s, -1, out=total[:, start:stop])
        weighed = torch.bmm(s.view(kv_heads, -1, s.shape[-1]).to(shared_v.dtype), shared_v)
        near[:, start:stop] = weighed.view(kv_heads, stop - start, G, -1)
        if mass is not None:
            kept.append((s, pieces, start, stop))
        start = stop
    far.sub_(top[:, :, None, :, None]).exp_()
    total += far.sum((2, 4))
    for h, (values, group) in enumerate(zip(_heads(v), groups, strict=True)):
        near[h] += _far_values(far[h], values, group, block)
    near /= total[..., None]
    out.copy_(near.transpose(0, 1).reshape(T, H, -1))
    if mass is not None:
        for s, pieces, start, stop in kept:
            reference.add_range_mass(mass, (s / total[:, start:stop, :, None]).sum(2), pieces)
        far /= total[:, :, None, :, None]
        reference.add_chosen_mass(mass, far.sum(3), chosen, block)


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """Pairs of query and chosen block, [T * slots] of them, in groups that share a block.

    block: [groups] of each group; pair: [groups * size], the pair in each place (any, where a group is not full);
    place: [T * slots], the place of each pair.
    """

    block: Tensor
    pair: Tensor
    place: Tensor


def _group_size(num_pairs: int, num_blocks: int) -> int:
    """Four times the pairs a block has on average: popular blocks have more. What is chosen must not decide, or later
    tokens would be felt, if only in the last bit."""
    mean = 4 * num_pairs // num_blocks
    return min(_MOST_QUERIES_A_GROUP, max(4, 1 << mean.bit_length() - 1 if mean else 0))


def _group(chosen: Tensor, size: int) -> _Groups:
    """chosen: [T, slots]; size: of a group, in pairs."""
    blocks, order = chosen.clamp(min=0).flatten().sort(stable=True)
    count = len(blocks)
    first = torch.ones(count, dtype=torch.bool, device=blocks.device)
    first[1:] = blocks[1:] != blocks[:-1]
    index = torch.arange(count, device=blocks.device)
    rank = index - index[first][first.cumsum(0) - 1]  # among the pairs of its block
    opens = rank % size == 0
    group = opens.cumsum(0) - 1
    places = group * size + rank % size
    pair = torch.zeros(int(group[-1] + 1) * size, dtype=torch.int64, device=blocks.device)
    pair[places] = order
    place = torch.empty_like(order)
    place[order] = places
    return _Groups(block=blocks[opens], pair=pair, place=place)


def _far_scores(queries: Tensor, keys: Tensor | QuantizedRows, groups: _Groups, block: int) -> Tensor:
    """queries [T, G, d], keys [1, n, d] -> [T, slots, G, block]."""
    T, G, d = queries.shape
    slots = len(groups.place) // T
    rows = queries.view(T, G * d).index_select(0, groups.pair // slots).view(len(groups.block), -1, d)
    picked = reference.gather(keys, groups.block[None, None], block).view(len(groups.block), block, d)
    s = torch.bmm(rows, picked.to(queries.dtype).transpose(1, 2)).view(-1, G * block)
    return s.index_select(0, groups.place).view(T, slots, G, block)


def _far_values(weights: Tensor, values: Tensor | QuantizedRows, groups: _Groups, block: int) -> Tensor:
    """weights [T, slots, G, block], values [1, n, dv] -> [T, G, dv]."""
    T, slots, G, _ = weights.shape
    picked = reference.gather(values, groups.block[None, None], block).view(len(groups.block), block, -1)
    rows = weights.view(T * slots, -1).to(picked.dtype).index_select(0, groups.pair)
    o = torch.bmm(rows.view(len(groups.block), -1, block), picked).view(len(groups.pair), -1)
    return o.index_select(0, groups.place).view(T, slots, G, -1).sum(1, dtype=weights.dtype)


def _heads(x: Tensor | QuantizedRows) -> list[Tensor | QuantizedRows]:
    """Every kv head alone, [1, n, d]."""
    if isinstance(x, Tensor):
        return [x[h : h + 1] for h in range(x.shape[0])]
    return [QuantizedRows(data=x.data[h : h + 1], scale=x.scale[h : h + 1]) for h in range(x.shape[0])]
