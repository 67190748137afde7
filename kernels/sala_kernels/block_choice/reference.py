"""The definition of `sala_kernels.block_choice` in PyTorch."""

import torch
from torch import Tensor

from sala_kernels.blocks import BlockLayout

_GROUP = 8  # blocks of a group, which `_top` ranks by its highest score


def choose_blocks(scores: Tensor, *, position: int, layout: BlockLayout) -> Tensor:
    """The definition of `sala_kernels.block_choice.choose_blocks`."""
    kv_heads, T, num_blocks = scores.shape
    query_blocks = torch.arange(position, position + T, device=scores.device) // layout.block
    first, end = layout.init, int(query_blocks[-1]) - layout.local + 1  # candidates of the last query
    width = max(0, min(end, num_blocks) - first)
    chosen = scores.new_full((kv_heads, T, layout.slots), -1, dtype=torch.int64)
    if width == 0 or layout.slots == 0:
        return chosen
    candidates = scores[..., first : first + width]
    # blocks that are candidates of every query
    num_common = min(width, max(0, int(query_blocks[0]) - layout.local + 1 - first))
    num_common -= num_common % _GROUP
    block = torch.arange(first, first + width, device=scores.device)
    too_late = block[num_common:] > query_blocks[:, None] - layout.local
    tail = candidates[..., num_common:].masked_fill(too_late, -torch.inf)
    best = _top(candidates[..., :num_common], tail, min(layout.slots, width))
    excluded = (best + first > query_blocks[:, None] - layout.local) | (candidates.gather(-1, best) == -torch.inf)
    found = torch.where(excluded, num_blocks, best + first).sort(-1).values
    chosen[..., : found.shape[-1]] = found.masked_fill_(found == num_blocks, -1)
    return chosen


def _top(scores: Tensor, tail: Tensor, count: int) -> Tensor:
    """Indices [..., count] of the largest values of scores [..., n] followed by tail [..., m], the first of equal ones.

    n is a multiple of the group size. The `count` largest values lie in the tail or in the `count` groups with the
    largest maxima. Only those are searched.
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
    """Distinct int64 keys that order scores (not negative, or -inf) by value, then by lowest index.

    Neighboring blocks share a window, so equal scores are common. A plain top-k would choose among them at random.
    """
    bits = scores.view(torch.int32).to(torch.int64) << 32
    index = torch.arange(scores.shape[-1], device=scores.device)
    return torch.where(scores == -torch.inf, -(1 << 32) - index, bits - index)  # below the keys of score 0


def selected_mask(chosen: Tensor, *, position: int, num_blocks: int, layout: BlockLayout) -> Tensor:
    """Return which blocks each query attends to, [kv heads, T, num_blocks] bool: initial, chosen and local ones.

    Args:
        chosen: [kv heads, T, slots] from `choose_blocks`.
        position: of the first query.
        num_blocks: blocks of the mask.
        layout: as in `choose_blocks`.
    """
    kv_heads, T, _ = chosen.shape
    block = torch.arange(num_blocks, device=chosen.device)
    own = (torch.arange(position, position + T, device=chosen.device) // layout.block)[:, None]
    always = ((block < layout.init) | (block > own - layout.local)) & (block <= own)
    mask = torch.zeros(kv_heads, T, num_blocks + 1, dtype=torch.bool, device=chosen.device)
    mask.scatter_(-1, torch.where(chosen < 0, num_blocks, chosen), True)
    return mask[..., :num_blocks] | always
