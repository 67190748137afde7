"""Inputs on which `block_attention` is compared, and its workloads in the released model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sala_kernels.backend import Backend
from sala_kernels.block_attention import add_key_mass, block_attention
from sala_kernels.block_choice import choose_blocks
from sala_kernels.blocks import BlockLayout
from sala_kernels.inspection.cases import BF16_LIMIT, FLOAT32, Comparison, Numbers, Workload, at_position
from sala_kernels.kv_quantization import Kind, QuantizedRows, quantize_rows
from sala_kernels.positions import MAX_TOKENS

TENSOR_CORE_KERNELS = frozenset({"shared_keys", "chosen_blocks", "split_keys", "key_mass"})

_HEADS, _KV_HEADS, _DIM = 32, 2, 128
_RELEASED = BlockLayout(stride=16, block=64, init=1, local=33, slots=62)
_FIGURE = BlockLayout(stride=16, block=64, init=1, local=33, slots=30)  # 64 blocks in all, a window of 2,048 tokens


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """Sizes of one comparison."""

    layout: BlockLayout
    position: int
    T: int
    heads: int
    kv_heads: int
    d: int
    dv: int
    kind: Kind | None = None
    dense: bool = False
    known: bool = True  # whether the host knows the position
    count: int | None = None  # only the mass of this many queries is compared
    spare: int = 7  # rows of the cache after the last key
    bf16: bool = True  # whether it is compared in bfloat16 too: of long cases in the interpreter, one of each kind

    @property
    def name(self) -> str:
        block, place = self.layout.block, f"{self.position}+{self.T}"
        how = "dense" if self.dense else f"blocks of {block}"
        how += "" if self.known else ", a tensor,"
        how += "" if self.count is None else f" mass of {self.count}"
        return f"{how} {place}, heads {self.heads}/{self.kv_heads} of {self.d}, {self.dv} {self.kind or ''}".rstrip()

    @property
    def comparison(self) -> Comparison:
        return Comparison(
            name=self.name, run=partial(_attend, shape=self), bf16_limit=BF16_LIMIT if self.bf16 else None
        )


def comparisons() -> Iterator[Comparison]:
    """Prefill and decode, sparse and dense, around where choosing begins; odd head ratios and sizes; quantized rows."""
    large = BlockLayout(stride=16, block=64, init=1, local=2, slots=2)
    middle = BlockLayout(stride=8, block=16, init=1, local=3, slots=2)
    small = BlockLayout(stride=4, block=4, init=0, local=2, slots=4)
    for shape in [
        _Shape(layout=large, position=310, T=19, heads=4, kv_heads=2, d=24, dv=40, bf16=False),
        _Shape(layout=large, position=330, T=21, heads=2, kv_heads=1, d=80, dv=16),
        _Shape(layout=large, position=401, T=5, heads=16, kv_heads=1, d=16, dv=16),
        _Shape(layout=middle, position=60, T=45, heads=3, kv_heads=1, d=32, dv=16, bf16=False),
        _Shape(layout=middle, position=200, T=1, heads=24, kv_heads=3, d=48, dv=64),
        _Shape(layout=small, position=20, T=40, heads=1, kv_heads=1, d=16, dv=16),
        _Shape(layout=large, position=33, T=45, heads=5, kv_heads=1, d=128, dv=128, dense=True),
        _Shape(layout=large, position=130, T=3, heads=6, kv_heads=2, d=100, dv=200, dense=True),
    ]:
        yield shape.comparison
    for shape in [
        _Shape(layout=middle, position=4, T=16, heads=3, kv_heads=1, d=32, dv=16, known=False),
        _Shape(layout=middle, position=94, T=4, heads=6, kv_heads=2, d=24, dv=40, known=False),
        _Shape(layout=large, position=400, T=1, heads=16, kv_heads=1, d=128, dv=128, known=False),
        _Shape(layout=large, position=400, T=2, heads=4, kv_heads=2, d=32, dv=48, kind="int8", known=False),
        _Shape(layout=large, position=100, T=2, heads=2, kv_heads=1, d=16, dv=16, dense=True, known=False),
        _Shape(layout=middle, position=190, T=5, heads=6, kv_heads=2, d=24, dv=24, known=False, count=3),
        _Shape(layout=middle, position=40, T=3, heads=3, kv_heads=1, d=16, dv=16, kind="fp8", known=False, count=3),
        _Shape(layout=middle, position=190, T=2, heads=2, kv_heads=1, d=16, dv=16, known=False, count=0),
        _Shape(layout=middle, position=190, T=4, heads=2, kv_heads=1, d=16, dv=16, count=1),
    ]:
        yield shape.comparison
    kinds: tuple[Kind, ...] = ("int8", "fp8")
    for T in range(1, MAX_TOKENS + 1):  # every size of a tail; keys end anywhere in a tile, and the cache behind them
        for kind in (None, *kinds) if T % 5 == 1 else kinds:
            shape = _Shape(
                layout=small,
                position=37 + T,
                T=T,
                heads=1,
                kv_heads=1,
                d=16,
                dv=16,
                kind=kind,
                dense=True,
                known=T % 3 > 0,
                spare=T % 4,
                bf16=T in (1, 11, MAX_TOKENS),
            )
            yield shape.comparison
    for kind in (None, *kinds):
        for T, known in ((17, True), (2, False)):  # the released model's heads
            shape = _Shape(
                layout=large, position=600, T=T, heads=16, kv_heads=1, d=_DIM, dv=_DIM, kind=kind, known=known
            )
            yield shape.comparison
    for kind in kinds:
        for position, T in ((330, 17), (400, 2)):
            shape = _Shape(
                layout=large, position=position, T=T, heads=4, kv_heads=2, d=32, dv=48, kind=kind, bf16=T == 2
            )
            yield shape.comparison


def workloads() -> Iterator[Workload]:
    """The released model's prefill and decode, and the shape of the published figure (one of its two sequences)."""
    for name, T, n, layout in (
        ("prefill 8,192 at 64K", 8192, 2**16, _RELEASED),
        ("prefill 8,192 at 1M", 8192, 2**20, _RELEASED),
        ("prefill 128K, 64 blocks in all", 2**17, 2**17, _FIGURE),
        ("decode at 64K", 1, 2**16, _RELEASED),
        ("decode at 1M", 1, 2**20, _RELEASED),
        ("dense prefill 4,096", 4096, 4096, None),
    ):
        kinds: tuple[Kind | None, ...] = (None, "int8", "fp8") if layout is _RELEASED else (None,)
        for kind in kinds:
            yield _workload(f"{name} {kind or 'bf16'}", T, n, layout, kind)
    yield _workload("decode at 64K bf16, with every key's mass", 1, 2**16, _RELEASED, None, traced=True)
    for length, n in (("64K", 2**16), ("1M", 2**20)):
        for T in (1, 16):
            for kind in (None, "int8", "fp8"):
                name = f"{T} at a tensor, {length} {kind or 'bf16'}"
                yield _workload(name, T, n, _RELEASED, kind, known=False)
                if length == "64K" and T == 16:
                    yield _workload(f"mass of {name}", T, n, _RELEASED, kind, traced=True, known=False, counted=True)


def _attend(backend: Backend, device: torch.device, numbers: Numbers = FLOAT32, *, shape: _Shape) -> Sequence[Tensor]:
    """Keys and values are views of larger caches whose other rows are NaN."""
    generator = torch.Generator().manual_seed(shape.position + shape.T)
    n, capacity, layout = shape.position + shape.T, shape.position + shape.T + shape.spare, shape.layout
    given = n if shape.known else capacity  # a decode step is given all rows
    q = numbers.rows(torch.randn(shape.T, shape.heads, shape.d, generator=generator).to(device))
    rows: list[Tensor | QuantizedRows] = []
    for width in (shape.d, shape.dv):
        x = numbers.rows(torch.randn(shape.kv_heads, n, width, generator=generator).to(device))
        if shape.kind is None:
            cache = torch.full((shape.kv_heads, capacity, width), torch.nan, dtype=numbers.row_dtype, device=device)
            cache[:, :n] = x
            rows.append(cache[:, :given])
        else:
            quantized = QuantizedRows.empty((shape.kv_heads, capacity, width), shape.kind, device)
            quantized.data.fill_(0x7F)
            quantized.scale.fill_(torch.nan)
            quantize_rows(x, shape.kind, out=quantized.tokens(0, n), backend="reference")
            rows.append(quantized.tokens(0, given))
    chosen = None
    if not shape.dense:
        scores = torch.rand(shape.kv_heads, shape.T, -(-n // layout.block), generator=generator)
        chosen = choose_blocks(scores, position=shape.position, layout=layout)
        chosen[:, ::3, ::2] = -1
        chosen = chosen.to(device)
    mass = torch.full((rows[0].shape[1],), 0.5, device=device)
    position = at_position(shape.position, device, known=shape.known)
    if shape.count is None:
        out = block_attention(
            q, rows[0], rows[1], chosen, position=position, scale=0.3, layout=layout, mass=mass, backend=backend
        )
        return [out, mass]
    count = at_position(shape.count, device, known=shape.known)
    add_key_mass(q, rows[0], chosen, mass, position=position, count=count, scale=0.3, layout=layout, backend=backend)
    return [mass]


def _workload(
    name: str,
    T: int,
    n: int,
    layout: BlockLayout | None,
    kind: Kind | None,
    *,
    traced: bool = False,
    known: bool = True,
    counted: bool = False,
) -> Workload:
    """A workload at the last T of n tokens; layout None is dense, counted is `add_key_mass` alone.

    Bytes: queries and output once, keys and values once, at most those that are attended to. FLOPs: two for every query
    head and every number of a key and of a value to which it attends.
    """
    position = n - T
    if layout is None:
        seen = T * position + T * (T + 1) // 2  # pairs of query and key
        read = n
    else:
        seen = sum(_num_keys(at, layout) for at in range(position, n))
        read = min(n, seen)
    row_bytes = 2 * _DIM if kind is None else _DIM + 4
    passes = 2 + traced - counted  # over keys, values, and keys again for the mass
    return Workload(
        name=name,
        prepare=partial(_prepare, T=T, n=n, layout=layout, kind=kind, traced=traced, known=known, counted=counted),
        num_bytes=2 * 2 * T * _HEADS * _DIM + passes * _KV_HEADS * read * row_bytes,
        num_flops=2 * passes * seen * _HEADS * _DIM,
    )


def _num_keys(at: int, layout: BlockLayout) -> int:
    """Keys that the query at `at` attends to."""
    return min(at + 1, (layout.max_blocks - 1) * layout.block + at % layout.block + 1)


def _prepare(
    device: torch.device,
    T: int,
    n: int,
    layout: BlockLayout | None,
    kind: Kind | None,
    traced: bool,
    known: bool,
    counted: bool,
) -> Callable[[], object]:
    q = torch.empty(T, _HEADS, _DIM, dtype=torch.bfloat16, device=device).normal_()
    rows: list[Tensor | QuantizedRows] = []
    for _ in range(2):
        x = torch.empty(_KV_HEADS, n, _DIM, dtype=torch.bfloat16, device=device).normal_()
        rows.append(x if kind is None else quantize_rows(x, kind, backend="reference"))
    chosen = None if layout is None else _random_blocks(T, n - T, layout, device)
    mass = torch.zeros(n, device=device) if traced else None
    call: dict[str, Any] = {
        "position": at_position(n - T, device, known=known),
        "scale": _DIM**-0.5,
        "layout": layout or _RELEASED,
        "mass": mass,
    }
    # baselines find their inputs among the variables of the returned function
    if counted:
        keys, count = rows[0], at_position(T, device, known=False)
        return lambda: add_key_mass(q, keys, chosen, count=count, **call)
    return lambda: block_attention(q, rows[0], rows[1], chosen, **call)


def _random_blocks(T: int, position: int, layout: BlockLayout, device: torch.device) -> Tensor:
    """Random chosen blocks [kv heads, T, slots], spread over all candidates of a query, in random order."""
    own = torch.arange(position, position + T, device=device) // layout.block
    candidates = (own - layout.local + 1 - layout.init).clamp(min=0)[None, :, None]
    part = torch.randperm(layout.slots, device=device) + torch.rand(_KV_HEADS, T, layout.slots, device=device)
    return layout.init + (part / layout.slots * candidates).long()
