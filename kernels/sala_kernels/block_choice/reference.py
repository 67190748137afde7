"""The definition of `sala_kernels.block_choice`, in PyTorch."""

import torch
from torch import Tensor

from sala_kernels.blocks import BlockLayout

_GROUP = 8  # blocks searched together


def choose_blocks(scores: Tensor, *, position: int, layout: BlockLayout) -> Tensor:
    """As `sala_kernels.block_choice.choose_blocks`."""
    kv_heads, T, num_blocks = scores.shape
    query_blocks = torch.arange(position, position + T, device=scores.device) // layout.block
    first, end = layout.init, int(query_blocks[-1]) - layout.local + 1  # candidates of the last query
    width = max(0, min(end, num_blocks) - first)
    chosen = scores.new_full((kv_heads, T, layout.slots), -1, dtype=torch.int64)
    if width == 0 or layout.slots == 0:
        return chosen
    candidates = scores[..., first : first + width]
    sure = min(width, max(0, int(query_blocks[0]) - layout.local + 1 - first))  # candidates of the first query
    sure -= sure % _GROUP
    block = torch.arange(first, first + width, device=scores.device)
    late = block[sure:] > query_blocks[:, None] - layout.local
    tail = candidates[..., sure:].masked_fill(late, -torch.inf)
    best = _top(candidates[..., :sure], tail, min(layout.slots, width))
    hidden = (best + first > query_blocks[:, None] - layout.local) | (candidates.gather(-1, best) == -torch.inf)
    found = torch.where(hidden, num_blocks, best + first).sort(-1).values
    chosen[..., : found.shape[-1]] = found.masked_fill_(found == num_blocks, -1)
    return chosen


def _top(scores: Tensor, tail: Tensor, count: int) -> Tensor:
    """Indices [..., count] of the largest of scores [..., n] and, behind them, tail [..., m]; of equal ones the first.

    n is a multiple of the group's size. The best of `count` lie in the `count` groups with the best maxima, or in the
    tail, so only those are searched.
    """
    n = scores.shape[-1]
    if n <= 3 * _GROUP * count:
        return _order(torch.cat([scores, tail], -1)).topk(count, dim=-1, sorted=False).indices
    groups = scores.unflatten(-1, (-1, _GROUP))
    best = groups.amax(-1)
    whole = best.shape[-1] - best.shape[-1] % _GROUP
    group = _top(best[..., :whole], best[..., whole:], count).sort(-1).values
    member = groups.gather(-2, group[..., None].expand(*group.shape, _GROUP)).flatten(-2)
    within = _order(torch.cat([member, tail], -1)).topk(count, dim=-1, sorted=False).indices
    of_group = group.gather(-1, (within // _GROUP).clamp(max=count - 1)) * _GROUP + within % _GROUP
    return torch.where(within < count * _GROUP, of_group, within - count * _GROUP + n)


def _order(scores: Tensor) -> Tensor:
    """Distinct int64 keys that order scores (none negative but -inf) by value, then by lowest index.

    Neighbouring blocks share a window, so equal scores are common and a plain top-k would choose at random.
    """
    bits = scores.view(torch.int32).to(torch.int64) << 32
    index = torch.arange(scores.shape[-1], device=scores.device)
    return torch.where(scores == -torch.inf, -(1 << 32) - index, bits - index)  # below every score of 0


def selected_mask(chosen: Tensor, *, position: int, num_blocks: int, layout: BlockLayout) -> Tensor:
    """All blocks that each query attends to, always-kept ones included: [kv heads, T, num_blocks] bool."""
    kv_heads, T, _ = chosen.shape
    block = torch.arange(num_blocks, device=chosen.device)
    own = (torch.arange(position, position + T, device=chosen.device) // layout.block)[:, None]
    kept = ((block < layout.init) | (block > own - layout.local)) & (block <= own)
    mask = torch.zeros(kv_heads, T, num_blocks + 1, dtype=torch.bool, device=chosen.device)
    mask.scatter_(-1, torch.where(chosen < 0, num_blocks, chosen), True)
    return mask[..., :num_blocks] | kept
