"""Attention of one token in a sparse layer: append its key and value, score the blocks, choose, attend."""

from math import log

import torch
from sala_kernels import BlockLayout, QuantizedRows, append_rows, compress_new_keys, num_windows
from torch import Tensor

from sala_core.model.state import SparseCache

_LOG2_E = 1 / log(2)  # for exp2, which a CPU computes in a third of the time of exp
_WINDOWS_AT_ONCE = 1 << 13  # pooled keys converted to float32 at a time


class SparseStep:
    """One layer over the rows that its cache has reserved. Valid until the cache's buffers move."""

    def __init__(self, cache: SparseCache, layout: BlockLayout, num_heads: int, mass: Tensor | None) -> None:
        """Prepare the buffers.

        Args:
            cache: of the layer.
            layout: sizes of blocks, and how many are initial, local and chosen.
            num_heads: query heads.
            mass: [capacity] fp32, each key's attention is added to it. None: untraced.
        """
        self._rows, self._layout, self._mass = cache.reserved(), layout, mass
        kv_heads, _, d = self._rows.fine.shape
        self._groups = (kv_heads, num_heads // kv_heads, d)
        self._index = torch.arange(self._rows.fine.shape[1])
        self._picked = torch.empty(kv_heads, layout.init + layout.slots, dtype=torch.int64)
        self._picked[:, : layout.init] = self._index[: layout.init]
        self._chosen = self._picked[:, layout.init :]
        self._keys = _Gathered(self._rows.keys, layout)
        self._values = _Gathered(self._rows.values, layout)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, position: int) -> Tensor:
        """Append one token's key and value, and return its attention, [kv heads, query heads of each, dv].

        Args:
            q: [heads, d], multiplied by the attention's scale.
            k, v: [kv heads, d] and [kv heads, dv].
            position: of the token.
        """
        self._append(k, v, position)
        layout, queries = self._layout, q.view(self._groups)
        own = position // layout.block
        if own < layout.max_blocks:
            keys, values = self._keys.first(position + 1), self._values.first(position + 1)
        else:
            self._choose(queries, position, own)
            start = (own - layout.local + 1) * layout.block
            keys = self._keys.chosen(self._picked, start, position + 1)
            values = self._values.chosen(self._picked, start, position + 1)
        p = torch.bmm(queries, keys.transpose(1, 2)).softmax(-1)
        if self._mass is not None:
            self._add_mass(self._mass, p.sum(1), position, own)
        return torch.bmm(p, values)

    def _append(self, k: Tensor, v: Tensor, position: int) -> None:
        rows, stride = self._rows, self._layout.stride
        if isinstance(rows.keys, Tensor) and isinstance(rows.values, Tensor):
            rows.keys[:, position].copy_(k)
            rows.values[:, position].copy_(v)
        else:
            append_rows(k[None], v[None], rows.keys, rows.values, position=position)
        if (position + 1) % stride == 0:  # no window ends elsewhere
            for out, strides in ((rows.fine, 1), (rows.coarse, 4)):
                compress_new_keys(
                    rows.keys, out, position=position, num_tokens=1, size=2 * strides * stride, stride=strides * stride
                )

    def _choose(self, queries: Tensor, position: int, own: int) -> None:
        """Write the chosen blocks of each kv head to `_chosen`: of equal scores, the earlier block's."""
        layout = self._layout
        stop = own - layout.local + 1
        best = self._scores(queries, position, stop)[:, layout.init :]
        # distinct keys that order the scores, which are not negative, by value, then by lowest index
        order = best.contiguous().view(torch.int32).to(torch.int64).bitwise_left_shift_(32)
        order.sub_(self._index[: order.shape[1]])
        torch.add(order.topk(layout.slots, sorted=False).indices, layout.init, out=self._chosen)

    def _scores(self, queries: Tensor, position: int, stop: int) -> Tensor:
        """The scores of the first `stop` blocks, [kv heads, stop], as `sala_kernels.block_scores` defines them."""
        layout = self._layout
        stride, per_block = layout.stride, layout.block // layout.stride
        seen = num_windows(position + 1, 2 * stride, stride)
        s = self._products(queries, self._rows.fine, min(seen, stop * per_block))
        if num_coarse := num_windows(position + 1, 8 * stride, 4 * stride):
            coarse = self._products(queries, self._rows.coarse, num_coarse)
            top = coarse.amax(-1, keepdim=True)
            lse = coarse.sub_(top).exp2_().sum(-1, keepdim=True).log2_().add_(top)
            s.sub_(lse)
        p = s.exp2_().sum(1)
        if p.shape[1] < stop * per_block:
            p = torch.nn.functional.pad(p, (0, stop * per_block - p.shape[1]))
        blocks = p.view(len(p), stop, per_block)
        best = blocks.amax(-1)
        torch.maximum(best[:, 1:], blocks[:, :-1, -1], out=best[:, 1:])  # a block's last window overlaps the next block
        return best

    def _products(self, queries: Tensor, pooled: Tensor, count: int) -> Tensor:
        """Base-2 scores of the first `count` pooled keys, [kv heads, group, count]."""
        if pooled.dtype == torch.float32:
            return torch.bmm(queries, pooled[:, :count].transpose(1, 2)).mul_(_LOG2_E)
        out = torch.empty(*queries.shape[:2], count)
        for start in range(0, count, _WINDOWS_AT_ONCE):
            end = min(count, start + _WINDOWS_AT_ONCE)
            out[..., start:end] = torch.bmm(queries, pooled[:, start:end].float().transpose(1, 2))
        return out.mul_(_LOG2_E)

    def _add_mass(self, mass: Tensor, share: Tensor, position: int, own: int) -> None:
        """share: [kv heads, keys], probabilities of the keys in the order in which they were gathered."""
        layout = self._layout
        if own < layout.max_blocks:
            mass[: position + 1] += share.sum(0)
            return
        count = self._picked.shape[1] * layout.block
        mass[(own - layout.local + 1) * layout.block : position + 1] += share[:, count:].sum(0)
        blocks = mass[: own * layout.block].view(own, layout.block)
        blocks.index_add_(0, self._picked.view(-1), share[:, :count].reshape(-1, layout.block))


class _Gathered:
    """Float32 copies of the rows that one token attends to, [kv heads, n, d], in a buffer that is used again."""

    def __init__(self, rows: Tensor | QuantizedRows, layout: BlockLayout) -> None:
        """rows: all reserved rows of keys, or of values."""
        kv_heads, capacity, d = rows.shape
        self._rows, self._dim = rows, d
        self._out = torch.empty(kv_heads, layout.max_blocks * layout.block, d)
        count = layout.init + layout.slots
        whole = capacity - capacity % layout.block
        data = rows if isinstance(rows, Tensor) else rows.data
        self._parts = [_Part(data[:, :whole].unflatten(1, (-1, layout.block)).flatten(2), count)]
        if not isinstance(rows, Tensor):
            self._parts.append(_Part(rows.scale[:, :whole].unflatten(1, (-1, layout.block)), count))

    def first(self, count: int) -> Tensor:
        """The first `count` rows."""
        if isinstance(self._rows, Tensor) and self._rows.dtype == torch.float32:
            return self._rows[:, :count]
        self._convert(0, count, 0)
        return self._out[:, :count]

    def chosen(self, picked: Tensor, start: int, end: int) -> Tensor:
        """The rows of the blocks `picked` [kv heads, n], then the rows start ... end - 1."""
        data, *scales = [part.gather(picked) for part in self._parts]
        count = data.shape[1] * (data.shape[2] // self._dim)
        out = self._out[:, :count]
        out.copy_(_numbers(data).view(out.shape))
        if scales:
            out.mul_(scales[0].view(*out.shape[:2], 1))
        self._convert(start, end, count)
        return self._out[:, : count + end - start]

    def _convert(self, start: int, end: int, place: int) -> None:
        out = self._out[:, place : place + end - start]
        if isinstance(self._rows, Tensor):
            out.copy_(self._rows[:, start:end])
        else:
            out.copy_(_numbers(self._rows.data[:, start:end])).mul_(self._rows.scale[:, start:end, None])


class _Part:
    """Blocks [kv heads, blocks, numbers], of which some are copied."""

    def __init__(self, blocks: Tensor, count: int) -> None:
        self._blocks = list(blocks)
        self._out = blocks.new_empty(len(blocks), count, blocks.shape[2])
        self._outs = list(self._out)

    def gather(self, picked: Tensor) -> Tensor:
        """The blocks `picked` [kv heads, count], in a buffer that the next call overwrites."""
        for blocks, index, out in zip(self._blocks, picked, self._outs, strict=True):
            torch.index_select(blocks, 0, index, out=out)
        return self._out


def _numbers(data: Tensor) -> Tensor:
    """Stored bytes as numbers: those of e4m3 are stored as uint8."""
    return data.view(torch.float8_e4m3fn) if data.dtype == torch.uint8 else data
