"""The definition of `sala_kernels.block_attention` in PyTorch."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import embedding

from sala_kernels.blocks import BlockLayout
from sala_kernels.kv_quantization.reference import dequantize_rows
from sala_kernels.kv_quantization.rows import QuantizedRows


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
    """The definition of `sala_kernels.block_attention.block_attention`.

    It computes the queries of one block at a time. They share the initial and local blocks and differ in the chosen
    blocks. Memory does not grow with T.

    Args:
        q, k, v, chosen, scale, layout, mass: as there.
        position: as there, a number.
    """
    T, H, _ = q.shape
    out = q.new_empty(T, H, v.shape[-1])
    for start, stop in tiles(T, position, layout.block):
        tile = chosen[:, start:stop] if chosen is not None else None
        rows = mass[start:stop] if mass is not None and mass.dim() == 2 else mass
        out[start:stop] = _tile(q[start:stop], k, v, tile, position + start, scale, layout, rows)
    return out


def tiles(num_queries: int, position: int, block: int) -> Iterator[tuple[int, int]]:
    """Divide `num_queries` queries from `position` on by block: yields the first query of each part and its end."""
    start = 0
    while start < num_queries:
        stop = min(num_queries, start + block - (position + start) % block)
        yield start, stop
        start = stop


def add_key_mass(
    q: Tensor,
    k: Tensor | QuantizedRows,
    chosen: Tensor | None,
    mass: Tensor,
    *,
    position: int,
    count: int,
    scale: float,
    layout: BlockLayout,
) -> None:
    """The definition of `sala_kernels.block_attention.add_key_mass`: what `block_attention` adds to mass.

    Args:
        q, k, chosen, mass, scale, layout: as there.
        position, count: as there, numbers.
    """
    if count:
        picked = None if chosen is None else chosen[:, :count]
        block_attention(q[:count], k, k, picked, position=position, scale=scale, layout=layout, mass=mass)


def _tile(
    q: Tensor,
    k: Tensor | QuantizedRows,
    v: Tensor | QuantizedRows,
    chosen: Tensor | None,
    position: int,
    scale: float,
    layout: BlockLayout,
    mass: Tensor | None,
) -> Tensor:
    """Attention of queries of one block. Shapes as in `block_attention`."""
    T, H, d = q.shape
    kv_heads = k.shape[0]
    G = H // kv_heads
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    end = position + T
    own = position // layout.block
    if own < layout.max_blocks:
        chosen = None
    ranges = shared_ranges(own, end, layout, dense=chosen is None)
    shared_k, shared_v = (rows_in(x, ranges) for x in (k, v))
    queries = (q.to(dtype) * scale).view(T, kv_heads, G, d).transpose(0, 1)  # [kv heads, T, G, d]
    s = (queries.reshape(kv_heads, T * G, d) @ shared_k.to(dtype).transpose(1, 2)).view(kv_heads, T, G, -1)
    hide_future(s, T)
    num_shared = s.shape[-1]
    if chosen is not None:
        chosen_k, chosen_v = gather(k, chosen, layout.block), gather(v, chosen, layout.block)
        chosen_scores = queries @ chosen_k.to(dtype).transpose(2, 3)  # [kv heads, T, G, slots * block]
        if bool((chosen < 0).any()):
            empty = (chosen < 0).repeat_interleave(layout.block, -1)[:, :, None]
            chosen_scores = chosen_scores.masked_fill(empty, -torch.inf)
        s = torch.cat([s, chosen_scores], -1)
    p = s.softmax(-1)
    shared_sum = p[..., :num_shared].to(shared_v.dtype).reshape(kv_heads, T * G, num_shared) @ shared_v
    o = shared_sum.view(kv_heads, T, G, -1)
    if chosen is not None:
        o = o + p[..., num_shared:].to(shared_v.dtype) @ chosen_v
    if mass is not None:
        per_key = p.sum(2)  # [kv heads, T, keys]
        add_range_mass(mass, per_key, ranges)
        if chosen is not None:
            add_chosen_mass(mass, per_key[..., num_shared:], chosen, layout.block)
    return o.transpose(0, 1).reshape(T, H, -1).to(q.dtype)


def hide_future(scores: Tensor, num_queries: int) -> None:
    """Set scores [kv heads, T, G, keys] of keys after a query to -inf. The last T keys are those of the T queries."""
    later = scores.new_full((num_queries, num_queries), -torch.inf).triu_(1)
    scores[..., -num_queries:] += later[:, None]


def shared_ranges(own: int, end: int, layout: BlockLayout, dense: bool) -> list[tuple[int, int]]:
    """Return the token ranges to which all queries of a block attend: initial and local blocks, or everything.

    Args:
        own: index of the queries' block.
        end: end of the last query's token.
        layout: sizes of blocks.
        dense: whether attention is dense.
    """
    local = (own - layout.local + 1) * layout.block
    first = layout.init * layout.block
    if dense or local <= first:
        return [(0, end)]
    return [(0, first), (local, end)] if first else [(local, end)]


def rows_in(x: Tensor | QuantizedRows, ranges: list[tuple[int, int]]) -> Tensor:
    """The rows start ... stop - 1 of every range, of all heads. Quantized rows are returned in float32."""
    if isinstance(x, Tensor):
        rows = [x[:, start:stop] for start, stop in ranges]
    else:
        rows = [dequantize_rows(x.tokens(start, stop), torch.float32) for start, stop in ranges]
    return torch.cat(rows, 1) if len(rows) > 1 else rows[0]


def gather(x: Tensor | QuantizedRows, chosen: Tensor, block: int) -> Tensor:
    """The rows of the chosen blocks: [kv heads, n, d], [kv heads, T, S] -> [kv heads, T, S * block, d].

    Quantized rows are returned in float32. `embedding` copies whole blocks; indexing takes four times as long on a CPU.
    """
    if isinstance(x, QuantizedRows):
        data, scale = gather(x.data, chosen, block), gather(x.scale[..., None], chosen, block)
        return dequantize_rows(QuantizedRows(data=data, scale=scale[..., 0]), torch.float32)
    kv_heads, n, d = x.shape
    blocks = x[:, : n - n % block].view(kv_heads, n // block, block * d)
    picked = [embedding(index, rows) for index, rows in zip(chosen.clamp(min=0), blocks, strict=True)]
    together = torch.stack(picked) if kv_heads > 1 else picked[0]
    return together.view(kv_heads, chosen.shape[1], -1, d)


def add_range_mass(mass: Tensor, per_key: Tensor, ranges: list[tuple[int, int]]) -> None:
    """Add the probabilities per_key [kv heads, T, keys] to `mass`, [n] or each query's own [T, n], in place.

    per_key holds the tokens of `pieces` in order.
    """
    column = 0
    for a, b in ranges:
        mass[..., a:b] += per_key[..., column : column + b - a].sum((0, 1) if mass.dim() == 1 else 0)
        column += b - a


def add_chosen_mass(mass: Tensor, per_key: Tensor, chosen: Tensor, block: int) -> None:
    """Add the probabilities of the chosen blocks' tokens to `mass` in place.

    Args:
        mass: [n].
        per_key: [kv heads, T, slots * block].
        chosen: [kv heads, T, slots].
        block: tokens of a block.
    """
    tokens = chosen.clamp(min=0)[..., None] * block + torch.arange(block, device=mass.device)
    mass.index_add_(0, tokens.reshape(-1), per_key.reshape(-1).to(mass.dtype))
