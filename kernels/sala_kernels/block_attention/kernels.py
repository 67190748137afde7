"""Launch the Triton kernels of `sala_kernels.block_attention`."""

import math
from typing import Any

import torch
import triton
from torch import Tensor

from sala_kernels.block_attention.kernels_decode import key_mass, merge_splits, split_keys
from sala_kernels.block_attention.kernels_prefill import chosen_blocks, shared_keys
from sala_kernels.block_attention.tiles import choose_tiles
from sala_kernels.blocks import BlockLayout
from sala_kernels.kv_quantization import QuantizedRows
from sala_kernels.kv_quantization.kernels import FP8_UNIT, dequantize_rows
from sala_kernels.launch import capability, launch
from sala_kernels.positions import MAX_TOKENS, Position

_MAX_GROUP = 128
_MAX_DIM = 256
_MAX_SPLIT_QUERIES = MAX_TOKENS  # most queries whose keys are split; more queries occupy a GPU as tiles of queries
_SPLITS = 96  # programs for the keys of a query that chooses blocks: two tiles each in the released model
_DENSE_SPLITS = 256  # programs for the keys of a query that attends to all
_MASS_PROGRAMS = 512  # a few for each multiprocessor of a large GPU
_PASS_QUERIES = 8192  # queries of a pass, whose outputs over the shared keys are stored in float32

_Rows = Tensor | QuantizedRows


def block_attention(
    q: Tensor,
    k: _Rows,
    v: _Rows,
    chosen: Tensor | None,
    *,
    position: Position,
    scale: float,
    layout: BlockLayout,
    mass: Tensor | None,
) -> Tensor:
    """Launch the kernels of `sala_kernels.block_attention.block_attention`."""
    T, H, _ = q.shape
    _check(q, k, v, chosen, position, scale, layout.slots)
    if mass is not None:
        _check_mass(mass, position, T, k.shape[1])
    work = _Work(q, k, v, chosen, position, scale, layout)
    out = q.new_empty(T, H, v.shape[2])
    if T <= _MAX_SPLIT_QUERIES:
        lses = work.split(out)
    else:
        lses = torch.empty(T, H, 1, dtype=torch.float32, device=q.device)
        work.prefill(out, lses[..., 0] if mass is not None else None)
    if mass is not None:
        work.add_mass(mass, lses)
    return out


def add_key_mass(
    q: Tensor,
    k: _Rows,
    chosen: Tensor | None,
    mass: Tensor,
    *,
    position: Position,
    count: Position,
    scale: float,
    layout: BlockLayout,
) -> None:
    """Launch the kernels of `sala_kernels.block_attention.add_key_mass`. The second of two adds to `mass`."""
    _check(q, k, k, chosen, position, scale, layout.slots)
    _check_mass(mass, position, q.shape[0], k.shape[1])
    work = _Work(q, k, None, chosen, position, scale, layout, count)
    work.add_mass(mass, work.split(None))


class _Work:
    """The launches of one call."""

    def __init__(
        self,
        q: Tensor,
        k: _Rows,
        v: _Rows | None,
        chosen: Tensor | None,
        position: Position,
        scale: float,
        layout: BlockLayout,
        count: Position | None = None,
    ) -> None:
        """Prepare the arguments of all launches.

        Args:
            q, k, chosen, position, scale, layout: as in `block_attention`.
            v: values, or None if only probabilities are needed.
            count: queries that count, or None for all.
        """
        end = k.shape[1]  # upper bound of where the keys of the last query end
        if isinstance(position, int):
            end = position + q.shape[0]
        if (end - 1) // layout.block < layout.max_blocks:
            chosen = None
        self.q = q if q.stride(2) == 1 else q.contiguous()
        self.k, self.v, self.count, self.end = k, v, count, end
        self.chosen = chosen if chosen is None or chosen.stride(2) == 1 else chosen.contiguous()
        self.position, self.layout = position, layout
        self.score_scale = scale * math.log2(math.e)
        self.kv_heads, self.group = k.shape[0], q.shape[1] // k.shape[0]
        self.columns_k, self.columns_v = (
            max(16, triton.next_power_of_2(x.shape[2])) for x in (k, k if v is None else v)
        )
        self.tiles = choose_tiles(
            q.dtype,
            self.group,
            k.shape[2] if v is None else max(k.shape[2], v.shape[2]),
            capability(q),
            quantized=isinstance(k, QuantizedRows) or isinstance(v, QuantizedRows),
        )

    def split(self, out: Tensor | None) -> Tensor:
        """Split every query's keys over programs and, if there are values, merge the parts into `out`.

        Returns the log2 of each part's sum of weights, [T, H, splits].
        """
        T, H = self.q.shape[:2]
        tiles, max_splits = self._tiles_and_splits()
        splits = min(tiles, max_splits)
        lses = torch.empty(T, H, splits, dtype=torch.float32, device=self.q.device)
        parts = None if out is None else torch.empty(T, H, splits, out.shape[2], dtype=torch.float32, device=out.device)
        launch(
            split_keys,
            (T, splits, self.kv_heads),
            **(self.tiles.keys_only if out is None else self.tiles.split).arguments,
            **self._queries(0, T),
            **self._keys(),
            **self._values(),
            **self._chosen(0, T),
            parts=parts,
            lses=lses,
            count=self.count,
            INIT=self.layout.init,
            LOCAL=self.layout.local,
        )
        if out is not None:
            rows = triton.next_power_of_2(max_splits)
            columns = min(self.columns_v, max(16, 4096 // rows))
            launch(
                merge_splits,
                (T * H, triton.cdiv(out.shape[2], columns)),
                num_warps=4,
                parts=parts,
                lses=lses,
                out=out,
                splits=splits,
                DV=out.shape[2],
                SPLITS=rows,
                COLUMNS=columns,
            )
        return lses

    def prefill(self, out: Tensor, lse: Tensor | None) -> None:
        """Attend to the shared keys in tiles of queries, then, where queries choose, to each query's own blocks."""
        T, H, DV = out.shape
        if self.chosen is None or self.layout.slots == 0:
            self._shared_keys(0, T, out, lse)
            return
        size = min(T, _PASS_QUERIES)
        shared = torch.empty(size, H, DV, dtype=torch.float32, device=out.device)
        lses = torch.empty(T, H, dtype=torch.float32, device=out.device) if lse is None else lse
        for start in range(0, T, size):
            stop = min(T, start + size)
            self._shared_keys(start, stop, shared, lses[start:stop])
            launch(
                chosen_blocks,
                (stop - start, self.kv_heads),
                **self.tiles.chosen.arguments,
                **self._queries(start, stop),
                **self._keys(),
                **self._values(),
                **self._chosen(start, stop),
                shared=shared,
                lse=lses[start:stop],
                out=out[start:stop],
                SLOTS=self.layout.slots,
            )

    def _shared_keys(self, start: int, stop: int, out: Tensor, lse: Tensor | None) -> None:
        """The first launch of a pass over the queries start ... stop - 1.

        Quantized rows are dequantized before it, once for all tiles. They are few, except where attention is dense.
        """
        assert isinstance(self.position, int)
        assert self.v is not None
        layout, end = self.layout, self.position + stop
        own = (self.position + start) // layout.block
        first = gap = 0
        if self.chosen is not None and own >= layout.max_blocks:
            first = layout.init * layout.block
            gap = (own - layout.local + 1) * layout.block - first
        k, v = (_dequantized(x, self.q.dtype, end - gap, first, gap) for x in (self.k, self.v))
        tiles = triton.cdiv(stop - start, self.tiles.shared.rows // self.group)
        launch(
            shared_keys,
            (tiles, self.kv_heads),
            **self.tiles.shared.arguments,
            **self._queries(start, stop),
            k=k,
            v=v,
            out=out,
            lse=lse,
            T=stop - start,
            gap_k=0 if k is self.k else gap,
            gap_v=0 if v is self.v else gap,
            num_tiles=tiles,
            score_scale=self.score_scale,
            stride_k_head=k.stride(0),
            stride_v_head=v.stride(0),
            STRIDE_K=k.stride(1),
            STRIDE_V=v.stride(1),
            DV=v.shape[2],
            COLUMNS_V=self.columns_v,
            INIT=layout.init,
            LOCAL=layout.local,
            DENSE=self.chosen is None,
        )

    def add_mass(self, mass: Tensor, lses: Tensor) -> None:
        """Add every key's probability, summed over heads and queries, to `mass`. lses: [T, H, splits]."""
        T = self.q.shape[0]
        tiles, max_splits = self._tiles_and_splits()
        launch(
            key_mass,
            (T, min(tiles, max_splits, max(1, _MASS_PROGRAMS // (T * self.kv_heads))), self.kv_heads),
            **self.tiles.keys_only.arguments,
            **self._queries(0, T),
            **self._keys(),
            **self._chosen(0, T),
            lses=lses,
            mass=mass,
            count=self.count,
            splits=lses.shape[2],
            num_keys=mass.shape[0],
            INIT=self.layout.init,
            LOCAL=self.layout.local,
            SPLITS=1 if lses.shape[2] == 1 else triton.next_power_of_2(max_splits),
        )

    def _tiles_and_splits(self) -> tuple[int, int]:
        """Most tiles of a query's keys, and most programs that split them."""
        choosing = self.layout.max_blocks * self.layout.block
        keys = self.end if self.chosen is None else min(self.end, choosing)
        return triton.cdiv(keys, self.tiles.split.keys), _SPLITS if keys <= choosing else _DENSE_SPLITS

    def _queries(self, start: int, stop: int) -> dict[str, Any]:
        q = self.q[start:stop]
        return {
            "q": q,
            "position": self.position + start if isinstance(self.position, int) else self.position,
            "stride_q": q.stride(0),
            "stride_q_head": q.stride(1),
            "G": self.group,
            "D": q.shape[2],
            "COLUMNS_K": self.columns_k,
            "BLOCK": self.layout.block,
            "MAX_BLOCKS": self.layout.max_blocks,
            "PRECISION": "ieee" if q.dtype == torch.float32 else "tf32",
        }

    def _keys(self) -> dict[str, Any]:
        k, scale = _stored(self.k)
        return {
            "k": k,
            "k_scale": scale,
            "score_scale": self.score_scale * (FP8_UNIT.value if k.dtype == torch.uint8 else 1.0),
            "stride_k_head": k.stride(0),
            "stride_k_scale_head": 0 if scale is None else scale.stride(0),
            "STRIDE_K": k.stride(1),
        }

    def _values(self) -> dict[str, Any]:
        if self.v is None:
            no_strides = {"stride_v_head": 0, "stride_v_scale_head": 0, "STRIDE_V": 0}
            return {"v": None, "v_scale": None, "DV": 0, "COLUMNS_V": 16, **no_strides}
        v, scale = _stored(self.v)
        return {
            "v": v,
            "v_scale": scale,
            "stride_v_head": v.stride(0),
            "stride_v_scale_head": 0 if scale is None else scale.stride(0),
            "STRIDE_V": v.stride(1),
            "DV": v.shape[2],
            "COLUMNS_V": self.columns_v,
        }

    def _chosen(self, start: int, stop: int) -> dict[str, Any]:
        chosen = None if self.chosen is None else self.chosen[:, start:stop]
        return {
            "chosen": chosen,
            "stride_chosen_head": 0 if chosen is None else chosen.stride(0),
            "stride_chosen": 0 if chosen is None else chosen.stride(1),
        }


def _stored(x: _Rows) -> tuple[Tensor, Tensor | None]:
    return (x.data, x.scale) if isinstance(x, QuantizedRows) else (x, None)


def _dequantized(x: _Rows, dtype: torch.dtype, count: int, first: int, gap: int) -> Tensor:
    """x if it is not quantized. Otherwise `count` dequantized rows: the first `first`, then those `gap` later."""
    if isinstance(x, Tensor):
        return x
    out = torch.empty(x.shape[0], count, x.shape[2], dtype=dtype, device=x.data.device)
    dequantize_rows(x, out, first=first, gap=gap)
    return out


def _check_mass(mass: Tensor, position: Position, num_tokens: int, num_keys: int) -> None:
    """Raise ValueError if the kernels cannot add to `mass`."""
    needed = position + num_tokens if isinstance(position, int) else 0
    if mass.dtype != torch.float32 or mass.shape[0] < needed or mass.stride(0) != 1:
        raise ValueError(f"mass must be contiguous fp32 [{num_keys}], found {list(mass.shape)} {mass.dtype}")


def _check(q: Tensor, k: _Rows, v: _Rows, chosen: Tensor | None, position: Position, scale: float, slots: int) -> None:
    """Raise ValueError if the kernels do not support the inputs."""
    T, H, d = q.shape
    if k.shape[0] != v.shape[0] or H % k.shape[0] or H // k.shape[0] > _MAX_GROUP:
        raise ValueError(f"{H} query heads, {k.shape[0]} of keys, {v.shape[0]} of values: at most {_MAX_GROUP} to one")
    if k.shape[2] != d or max(d, v.shape[2]) > _MAX_DIM:
        raise ValueError(f"heads of {d}, {k.shape[2]}, {v.shape[2]} numbers: q's and k's alike, none over {_MAX_DIM}")
    if isinstance(position, int) and min(k.shape[1], v.shape[1]) < position + T:
        raise ValueError(f"{position + T} keys are attended to; {k.shape[1]} keys and {v.shape[1]} values are given")
    for data, row_scale in (_stored(k), _stored(v)):
        if data.dtype != (q.dtype if row_scale is None else data.dtype) or data.stride(2) != 1:
            raise ValueError(f"keys and values must be {q.dtype} as queries are, or quantized, and dense in d")
        if row_scale is not None and row_scale.stride(1) != 1:
            raise ValueError("the scales of a head must be contiguous")
    if chosen is not None and chosen.shape != (k.shape[0], T, slots):
        raise ValueError(f"chosen must be {[k.shape[0], T, slots]}, found {list(chosen.shape)}")
    if not scale > 0:
        raise ValueError(f"scale must be positive, found {scale}")
