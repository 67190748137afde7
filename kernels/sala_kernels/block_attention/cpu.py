"""The CPU path of `sala_kernels.block_attention` for long inputs: more than 16 queries.

It reads a chosen block once for all queries that chose it. (The reference copies every query's blocks, hundreds of
kilobytes for a query, and waits for memory.) The pairs of query and chosen block are sorted by block and divided into
groups of a few queries, each of which is one small matrix product. A few groups at a time are computed from scores to
weighted values, so that the scores stay in the processor's cache. Each part of a softmax has its own highest score, and
the parts of a query are merged at the end.

The keys of a query are of two kinds. Shared keys are those to which all queries of its block attend: the initial and
local blocks, or all keys where attention is dense. The others are those of its chosen blocks.
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

MAX_QUERIES = 1024
"""Queries whose pairs are grouped together, at most."""

_WEIGHTED_NUMBERS = 1 << 25  # of the weighted values of these pairs: four times 64 MiB in bfloat16, with copies
_MAX_GROUP = 32  # most queries of a group
_SCORES_CACHED = 1 << 17  # scores computed at a time: they fit in the processor's cache
_LOG2_E = 1 / log(2)  # for exp2, which a CPU computes in a third of the time of exp


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
    """Compute `sala_kernels.block_attention.block_attention` on a CPU, for many queries.

    Args:
        q, k, v, chosen, scale, layout, mass: as there.
        position: as there, a number.
    """
    T = q.shape[0]
    out = q.new_empty(T, q.shape[1], v.shape[-1])
    # the first queries choose no blocks: there are none to choose from
    first = T if chosen is None or not layout.slots else min(T, max(0, layout.max_blocks * layout.block - position))
    dense = chosen is None or bool(layout.slots)
    _attend_shared(out[:first], q[:first], k, v, _tiles(first, position, layout, dense=dense), scale, mass)
    step = queries_at_once(layout.slots, q.shape[1] // k.shape[0], v.shape[-1])
    for start in range(first, T, step):
        assert chosen is not None
        stop = min(T, start + step)
        part, tile = q[start:stop], chosen[:, start:stop]
        _attend_chosen(out[start:stop], part, k, v, tile, position + start, scale, layout, mass)
    return out


def queries_at_once(slots: int, heads: int, dim: int) -> int:
    """Queries whose pairs with chosen blocks are in memory at once: fewer for large models, a power of two.

    Args:
        slots: chosen blocks of a query.
        heads: query heads of a kv head.
        dim: numbers of a value.
    """
    most = _WEIGHTED_NUMBERS // max(1, slots * heads * dim)
    return min(MAX_QUERIES, 1 << max(5, most.bit_length() - 1))


def _attend_shared(
    out: Tensor,
    q: Tensor,
    k: Tensor | QuantizedRows,
    v: Tensor | QuantizedRows,
    tiles: "list[_Tile]",
    scale: float,
    mass: Tensor | None,
) -> None:
    """Write the attention of queries that choose no blocks, q [T, H, d], to out [T, H, dv]."""
    kv_heads = k.shape[0]
    queries = _queries(q, kv_heads, scale)
    results = out.unflatten(1, (kv_heads, -1)).transpose(0, 1)
    for tile, scored in zip(tiles, _shared_scores(queries, k, v, tiles), strict=True):
        start, stop, _ = tile
        part = _softmax([scored], 1, keep=mass is not None)
        results[:, start:stop] = (part.weighted / part.total[..., None]).unflatten(1, (stop - start, -1))
        if mass is not None:
            (weights,) = part.weights
            for of_head, total in zip(weights, part.total, strict=True):
                _add_shared_mass(mass, [of_head], 1 / total, [tile])


def _attend_chosen(
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
    """Write the attention of queries that all choose blocks, q [T, H, d], to out [T, H, dv]."""
    T = len(q)
    kv_heads, _, slots = chosen.shape
    queries = _queries(q, kv_heads, scale)
    G = queries.shape[2]
    keep = mass is not None
    tiles = _tiles(T, position, layout, dense=False)
    shared = _softmax(_shared_scores(queries, k, v, tiles), 1, keep=keep)
    shared_top, shared_total, shared_sum = (
        x.unflatten(1, (T, -1)) for x in (shared.top, shared.total, shared.weighted)
    )
    size = _group_size(T * slots, (position + T) // layout.block)
    results = out.view(T, kv_heads, G, -1)
    for h, (keys, values, groups) in enumerate(zip(_heads(k), _heads(v), _group(chosen, size), strict=True)):
        blocks = _softmax(_chosen_scores(queries[h], keys, values, groups, layout.block), 0, keep=keep)
        rows = groups.rows(T, G)  # [T, G, slots]
        top = blocks.top.view(-1)[rows].masked_fill_((chosen[h] < 0)[:, None], -torch.inf)
        highest = torch.maximum(shared_top[h], top.amax(-1))
        factor, shared_factor = torch.exp2(top - highest[..., None]), torch.exp2(shared_top[h] - highest)
        total = (factor * blocks.total.view(-1)[rows]).sum(-1) + shared_factor * shared_total[h]
        factor /= total[..., None]
        shared_factor /= total
        block_sum = embedding_bag(
            rows.flatten(0, 1),
            blocks.weighted.flatten(0, 1),
            mode="sum",
            per_sample_weights=factor.flatten(0, 1).to(blocks.weighted.dtype),
        )
        results[:, h] = (shared_sum[h] * shared_factor[..., None]).add_(block_sum.view(T, G, -1))
        if mass is not None:
            _add_shared_mass(mass, [x[h] for x in shared.weights], shared_factor.flatten(), tiles)
            _add_chosen_mass(mass, torch.cat(blocks.weights), factor, rows, groups.block)


def _queries(q: Tensor, kv_heads: int, scale: float) -> Tensor:
    """q [T, H, d] as [kv heads, T, G, d] in the computing dtype, scaled for base-2 scores."""
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    return (q.to(dtype) * (scale * _LOG2_E)).unflatten(1, (kv_heads, -1)).transpose(0, 1).contiguous()


@dataclass(frozen=True, kw_only=True)
class _Softmax:
    """The softmax of some rows over some of their keys, not normalized. Parts are merged by their `top`.

    Attributes:
        top: [..., rows], the highest score.
        total: [..., rows], the sum of the weights 2^(score - top).
        weighted: [..., rows, dv], the sum of the values times their weights.
        weights: the weights [batch, rows, keys] of each piece, or empty if they are not kept.
    """

    top: Tensor
    total: Tensor
    weighted: Tensor
    weights: list[Tensor]


def _softmax(pieces: Iterable[tuple[Tensor, Tensor]], dim: int, *, keep: bool) -> _Softmax:
    """Softmax of pieces along `dim`: scores [batch, rows, keys], changed in place, and values [batch, keys, dv]."""
    tops, totals, weighted, kept = [], [], [], []
    for scores, values in pieces:
        top = scores.amax(-1)
        weights = scores.sub_(top[..., None]).exp2_()
        tops.append(top)
        totals.append(weights.sum(-1))
        weighted.append(torch.bmm(weights.to(values.dtype), values))
        if keep:
            kept.append(weights)
    return _Softmax(
        top=torch.cat(tops, dim), total=torch.cat(totals, dim), weighted=torch.cat(weighted, dim), weights=kept
    )


_Tile = tuple[int, int, list[tuple[int, int]]]
"""First query of a tile, its end, and the ranges of shared tokens. All queries of a tile are of one block."""


def _tiles(T: int, position: int, layout: BlockLayout, *, dense: bool) -> list[_Tile]:
    return [
        (start, stop, reference.shared_ranges((position + start) // layout.block, position + stop, layout, dense=dense))
        for start, stop in reference.tiles(T, position, layout.block)
    ]


def _shared_scores(
    queries: Tensor, k: Tensor | QuantizedRows, v: Tensor | QuantizedRows, tiles: list[_Tile]
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each tile of queries [kv heads, T, G, d], scores [kv heads, rows, keys] and values of the shared keys."""
    kv_heads, _, G, d = queries.shape
    for start, stop, ranges in tiles:
        keys, values = (reference.rows_in(x, ranges) for x in (k, v))
        tile = queries[:, start:stop].reshape(kv_heads, -1, d)
        scores = torch.bmm(tile, keys.to(tile.dtype).transpose(1, 2))
        reference.hide_future(scores.view(kv_heads, stop - start, G, -1), stop - start)
        yield scores, values


def _chosen_scores(
    queries: Tensor, k: Tensor | QuantizedRows, v: Tensor | QuantizedRows, groups: "_Groups", block: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """For a few groups at a time, scores [groups, size * G, block] and values of the chosen blocks of one kv head.

    queries: [T, G, d]. k, v: [1, n, .].
    """
    T, G, d = queries.shape
    slots = len(groups.place) // T
    query = (groups.pair // slots).view(len(groups.block), -1)
    step = max(1, _SCORES_CACHED // (query.shape[1] * G * block))
    for start in range(0, len(query), step):
        picked = groups.block[None, None, start : start + step]
        keys, values = (reference.gather(x, picked, block).view(-1, block, x.shape[-1]) for x in (k, v))
        rows = embedding(query[start : start + step], queries.view(T, G * d)).view(len(keys), -1, d)
        yield torch.bmm(rows, keys.to(rows.dtype).transpose(1, 2)), values


def _add_shared_mass(mass: Tensor, weights: list[Tensor], factor: Tensor, tiles: list[_Tile]) -> None:
    """Add the probabilities of shared keys. weights: of each tile, [tile * G, keys]. factor: [T * G], of each row."""
    factors = factor.split([len(of_tile) for of_tile in weights])
    for (_, _, ranges), of_tile, tile_factor in zip(tiles, weights, factors, strict=True):
        reference.add_range_mass(mass, (tile_factor[None] @ of_tile)[None], ranges)


def _add_chosen_mass(mass: Tensor, weights: Tensor, factor: Tensor, rows: Tensor, blocks: Tensor) -> None:
    """Add the probabilities of keys of chosen blocks.

    weights: [groups, size * G, block]. factor, rows: [T, G, slots], of each pair and head. blocks: [groups].
    """
    count, num_rows, block = weights.shape
    factors = factor.new_zeros(count * num_rows)  # 0 for rows without a pair
    factors[rows] = factor
    of_group = torch.bmm(factors.view(count, 1, num_rows), weights)[:, 0]
    whole = len(mass) - len(mass) % block
    mass[:whole].view(-1, block).index_add_(0, blocks, of_group.to(mass.dtype))


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """The T * slots pairs of query and chosen block, in groups that share a block.

    Attributes:
        block: [groups], the block of each group.
        pair: [groups * size], the pair in each place; any pair in an empty place.
        place: [T * slots], the place of each pair.
    """

    block: Tensor
    pair: Tensor
    place: Tensor

    def rows(self, num_queries: int, heads: int) -> Tensor:
        """The indices [T, heads, slots] of a query's heads among the rows [groups * size * heads]."""
        place = self.place.view(num_queries, 1, -1)
        return place * heads + torch.arange(heads, device=place.device)[:, None]


def _group_size(num_pairs: int, num_blocks: int) -> int:
    """Pairs of a group: twice the average number of pairs of a block, as popular blocks have more.

    It must not depend on which blocks are chosen: a query's last bits would then depend on later queries.
    """
    mean = 2 * num_pairs // num_blocks
    return min(_MAX_GROUP, max(4, 1 << mean.bit_length() - 1 if mean else 0))


def _group(chosen: Tensor, size: int) -> list[_Groups]:
    """Group the pairs of each kv head. chosen: [kv heads, T, slots]. size: pairs of a group."""
    blocks, order = chosen.clamp(min=0).flatten(1).sort(stable=True)
    return [_group_sorted(*pairs, size) for pairs in zip(blocks, order, strict=True)]


def _group_sorted(blocks: Tensor, order: Tensor, size: int) -> _Groups:
    """Group sorted pairs. blocks: [T * slots], the chosen blocks, ascending. order: the pair of each."""
    count = len(blocks)
    first = torch.ones(count, dtype=torch.bool, device=blocks.device)
    first[1:] = blocks[1:] != blocks[:-1]
    index = torch.arange(count, device=blocks.device)
    rank = index - index[first][first.cumsum(0) - 1]  # rank among the pairs of its block
    opens = rank % size == 0
    group = opens.cumsum(0) - 1
    places = group * size + rank % size
    pair = torch.zeros(int(group[-1] + 1) * size, dtype=torch.int64, device=blocks.device)
    pair[places] = order
    place = torch.empty_like(order)
    place[order] = places
    return _Groups(block=blocks[opens], pair=pair, place=place)


def _heads(x: Tensor | QuantizedRows) -> list[Tensor | QuantizedRows]:
    """Each kv head of x as [1, n, d]."""
    if isinstance(x, Tensor):
        return [x[h : h + 1] for h in range(x.shape[0])]
    return [QuantizedRows(data=x.data[h : h + 1], scale=x.scale[h : h + 1]) for h in range(x.shape[0])]
