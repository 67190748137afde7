"""`sala_kernels.block_attention` for many queries on a CPU: a chosen block is read once for all that chose it.

The reference copies every query's blocks, hundreds of kilobytes a query, and waits for memory. Here the pairs of query
and chosen block are sorted by block and cut into groups of a few queries; each group is one small matrix product. A few
groups at a time go from scores to weighted values, while the scores are in the processor's cache; each block has its
own highest score, and the blocks of a query are joined at the end.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import log

import torch
from torch import Tensor
from torch.nn.functional import embedding, embedding_bag

from sala_kernels.block_attention import reference
from sala_kernels.blocks import BlockLayout
from sala_kernels.kv_quantization.rows import QuantizedRows

_QUERIES = 1024  # grouped together
_MOST_QUERIES_A_GROUP = 32
_SCORES_CACHED = 1 << 17  # computed at once: they stay in the processor's cache
_LOG2_E = 1 / log(2)  # powers of two: a CPU computes them in a third of the time


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
    out = q.new_empty(T, q.shape[1], v.shape[-1])
    # queries that choose nothing; of those that choose, the first ones have no blocks to choose from
    near = T if chosen is None or not layout.slots else min(T, max(0, layout.max_blocks * layout.block - position))
    dense = chosen is None or bool(layout.slots)
    _shared_blocks(out[:near], q[:near], k, v, _tiles(near, position, layout, dense=dense), scale, mass)
    for start in range(near, T, _QUERIES):
        assert chosen is not None
        stop = min(T, start + _QUERIES)
        part, tile = q[start:stop], chosen[:, start:stop]
        _chosen_blocks(out[start:stop], part, k, v, tile, position + start, scale, layout, mass)
    return out


def _shared_blocks(
    out: Tensor,
    q: Tensor,
    k: Tensor | QuantizedRows,
    v: Tensor | QuantizedRows,
    tiles: "list[_Tile]",
    scale: float,
    mass: Tensor | None,
) -> None:
    """No query of q [T, H, d] chooses; out [T, H, dv] is written."""
    kv_heads = k.shape[0]
    queries = _queries(q, kv_heads, scale)
    results = out.unflatten(1, (kv_heads, -1)).transpose(0, 1)
    for tile, scored in zip(tiles, _near_scores(queries, k, v, tiles), strict=True):
        start, stop, _ = tile
        part = _softmax([scored], 1, keep=mass is not None)
        results[:, start:stop] = (part.weighed / part.total[..., None]).unflatten(1, (stop - start, -1))
        if mass is not None:
            (powers,) = part.powers
            for power, total in zip(powers, part.total, strict=True):
                _add_near_mass(mass, [power], 1 / total, [tile])


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
    T = len(q)
    kv_heads, _, slots = chosen.shape
    queries = _queries(q, kv_heads, scale)
    G = queries.shape[2]
    keep = mass is not None
    tiles = _tiles(T, position, layout, dense=False)
    near = _softmax(_near_scores(queries, k, v, tiles), 1, keep=keep)
    near_top, near_total, near_weighed = (x.unflatten(1, (T, -1)) for x in (near.top, near.total, near.weighed))
    size = _group_size(T * slots, (position + T) // layout.block)
    results = out.view(T, kv_heads, G, -1)
    for h, (keys, values, groups) in enumerate(zip(_heads(k), _heads(v), _group(chosen, size), strict=True)):
        far = _softmax(_far_scores(queries[h], keys, values, groups, layout.block), 0, keep=keep)
        rows = groups.rows(T, G)  # [T, G, slots]
        top = far.top.view(-1)[rows].masked_fill_((chosen[h] < 0)[:, None], -torch.inf)
        highest = torch.maximum(near_top[h], top.amax(-1))
        share, near_share = torch.exp2(top - highest[..., None]), torch.exp2(near_top[h] - highest)
        whole = (share * far.total.view(-1)[rows]).sum(-1) + near_share * near_total[h]
        share /= whole[..., None]
        near_share /= whole
        far_part = embedding_bag(
            rows.flatten(0, 1),
            far.weighed.flatten(0, 1),
            mode="sum",
            per_sample_weights=share.flatten(0, 1).to(far.weighed.dtype),
        )
        results[:, h] = (near_weighed[h] * near_share[..., None]).add_(far_part.view(T, G, -1))
        if mass is not None:
            _add_near_mass(mass, [x[h] for x in near.powers], near_share.flatten(), tiles)
            _add_far_mass(mass, torch.cat(far.powers), share, rows, groups.block)


def _queries(q: Tensor, kv_heads: int, scale: float) -> Tensor:
    """q [T, H, d] as scores in powers of two need it: [kv heads, T, G, d], wide."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return (q.to(dtype) * (scale * _LOG2_E)).unflatten(1, (kv_heads, -1)).transpose(0, 1).contiguous()


@dataclass(frozen=True, kw_only=True)
class _Softmax:
    """Some keys' part in the softmax of some rows, [..., rows]; parts are joined by their `top`.

    top: the highest score. total: the sum of 2^(score - top). weighed: [..., rows, dv], the values weighed by that.
    powers: 2^(score - top), in the pieces they were computed in; empty where they are not kept.
    """

    top: Tensor
    total: Tensor
    weighed: Tensor
    powers: list[Tensor]


def _softmax(pieces: Iterable[tuple[Tensor, Tensor]], dim: int, *, keep: bool) -> _Softmax:
    """Of rows in pieces along `dim`: scores [batch, rows, keys], changed in place, and values [batch, keys, dv]."""
    tops, totals, weighed, kept = [], [], [], []
    for scores, values in pieces:
        top = scores.amax(-1)
        powers = scores.sub_(top[..., None]).exp2_()
        tops.append(top)
        totals.append(powers.sum(-1))
        weighed.append(torch.bmm(powers.to(values.dtype), values))
        if keep:
            kept.append(powers)
    return _Softmax(
        top=torch.cat(tops, dim), total=torch.cat(totals, dim), weighed=torch.cat(weighed, dim), powers=kept
    )


_Tile = tuple[int, int, list[tuple[int, int]]]
"""Queries start ... stop - 1, of one block, and the ranges of tokens that all of them attend to."""


def _tiles(T: int, position: int, layout: BlockLayout, *, dense: bool) -> list[_Tile]:
    return [
        (start, stop, reference.shared_ranges((position + start) // layout.block, position + stop, layout, dense=dense))
        for start, stop in reference.tiles(T, position, layout.block)
    ]


def _near_scores(
    queries: Tensor, k: Tensor | QuantizedRows, v: Tensor | QuantizedRows, tiles: list[_Tile]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores and values of keys that all of a tile attend to: queries [kv heads, T, G, d] -> [kv heads, rows, keys]."""
    kv_heads, _, G, d = queries.shape
    for start, stop, ranges in tiles:
        keys, values = (reference.rows_in(x, ranges) for x in (k, v))
        tile = queries[:, start:stop].reshape(kv_heads, -1, d)
        scores = torch.bmm(tile, keys.to(tile.dtype).transpose(1, 2))
        reference.hide_future(scores.view(kv_heads, stop - start, G, -1), stop - start)
        yield scores, values


def _far_scores(
    queries: Tensor, k: Tensor | QuantizedRows, v: Tensor | QuantizedRows, groups: "_Groups", block: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Scores and values of one kv head's chosen blocks: queries [T, G, d], k [1, n, d] -> [groups, size * G, block]."""
    T, G, d = queries.shape
    slots = len(groups.place) // T
    query = (groups.pair // slots).view(len(groups.block), -1)
    step = max(1, _SCORES_CACHED // (query.shape[1] * G * block))
    for start in range(0, len(query), step):
        picked = groups.block[None, None, start : start + step]
        keys, values = (reference.gather(x, picked, block).view(-1, block, x.shape[-1]) for x in (k, v))
        rows = embedding(query[start : start + step], queries.view(T, G * d)).view(len(keys), -1, d)
        yield torch.bmm(rows, keys.to(rows.dtype).transpose(1, 2)), values


def _add_near_mass(mass: Tensor, powers: list[Tensor], share: Tensor, tiles: list[_Tile]) -> None:
    """powers: of each tile, [tile * G, keys]; share: [T * G], what each row's power counts."""
    shares = share.split([len(power) for power in powers])
    for (_, _, ranges), power, of_tile in zip(tiles, powers, shares, strict=True):
        reference.add_range_mass(mass, (of_tile[None] @ power)[None], ranges)


def _add_far_mass(mass: Tensor, powers: Tensor, share: Tensor, rows: Tensor, blocks: Tensor) -> None:
    """powers: [groups, size * G, block]; share, rows: [T, G, slots], what each row's power counts; blocks: [groups]."""
    count, num_rows, block = powers.shape
    weights = share.new_zeros(count * num_rows)  # rows that no pair is in count nothing
    weights[rows] = share
    of_group = torch.bmm(weights.view(count, 1, num_rows), powers)[:, 0]
    whole = len(mass) - len(mass) % block
    mass[:whole].view(-1, block).index_add_(0, blocks, of_group.to(mass.dtype))


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """Pairs of query and chosen block, [T * slots] of them, in groups that share a block.

    block: [groups] of each group; pair: [groups * size], the pair in each place (any, where a group is not full);
    place: [T * slots], the place of each pair.
    """

    block: Tensor
    pair: Tensor
    place: Tensor

    def rows(self, num_queries: int, heads: int) -> Tensor:
        """Where a query's heads are among the rows [groups * size * heads]: [T, heads, slots]."""
        place = self.place.view(num_queries, 1, -1)
        return place * heads + torch.arange(heads, device=place.device)[:, None]


def _group_size(num_pairs: int, num_blocks: int) -> int:
    """Twice the pairs a block has on average: popular blocks have more. What is chosen must not decide, or later
    tokens would be felt, if only in the last bit."""
    mean = 2 * num_pairs // num_blocks
    return min(_MOST_QUERIES_A_GROUP, max(4, 1 << mean.bit_length() - 1 if mean else 0))


def _group(chosen: Tensor, size: int) -> list[_Groups]:
    """chosen: [kv heads, T, slots]; size: of a group, in pairs."""
    blocks, order = chosen.clamp(min=0).flatten(1).sort(stable=True)
    return [_group_sorted(*pairs, size) for pairs in zip(blocks, order, strict=True)]


def _group_sorted(blocks: Tensor, order: Tensor, size: int) -> _Groups:
    """blocks: [T * slots] chosen ones, ascending; order: the pair of each."""
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


def _heads(x: Tensor | QuantizedRows) -> list[Tensor | QuantizedRows]:
    """Every kv head alone, [1, n, d]."""
    if isinstance(x, Tensor):
        return [x[h : h + 1] for h in range(x.shape[0])]
    return [QuantizedRows(data=x.data[h : h + 1], scale=x.scale[h : h + 1]) for h in range(x.shape[0])]
