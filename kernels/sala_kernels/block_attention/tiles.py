"""Tile sizes of the block attention kernels."""

from dataclasses import dataclass

import torch
import triton


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Rows (queries x heads) and keys of a program's tile, its warps, and the stages of its load pipeline."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int

    @property
    def arguments(self) -> dict[str, int]:
        """The arguments of a launch."""
        return {"ROWS": self.rows, "KEYS": self.keys, "num_warps": self.num_warps, "num_stages": self.num_stages}


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """The tiles of `shared_keys`, of `chosen_blocks` and of `split_keys`; `keys_only` where no values are read."""

    shared: Tile
    chosen: Tile
    split: Tile
    keys_only: Tile


def choose_tiles(dtype: torch.dtype, group: int, d: int, capability: int, *, quantized: bool) -> Tiles:
    """Choose the tiles of all kernels.

    `shared_keys` is bound by tensor cores: it needs large tiles and loads ahead of their use. The other kernels are
    bound by memory and use small tiles: the more programs a multiprocessor holds, the better they hide each other's
    loads. float32 has no tensor cores and keeps its operands in registers, so it needs many warps.

    Args:
        dtype: of the queries.
        group: query heads of a kv head.
        d: numbers of a key or of a value, whichever has more.
        capability: compute capability, 10 * major + minor.
        quantized: whether keys or values are quantized.
    """
    heads, columns = max(16, triton.next_power_of_2(group)), triton.next_power_of_2(d)
    warps = 8 if heads > 16 else 4
    if dtype == torch.float32:
        keys = 64 if columns <= 64 else 16
        small = Tile(rows=heads, keys=keys, num_warps=8, num_stages=1)
        shared = Tile(rows=max(32, heads), keys=keys, num_warps=8, num_stages=1)
        return Tiles(shared=shared, chosen=small, split=small, keys_only=small)
    hopper = capability == 90
    if columns > 128:
        shared = Tile(rows=max(64, heads), keys=32, num_warps=8, num_stages=2)
    else:
        keys = 128 if hopper else 64
        masked = d < columns  # masks take registers
        shared = Tile(
            rows=128,
            keys=keys // 2 if masked else keys,
            num_warps=4 if columns <= 64 and not hopper else 8,
            num_stages=2 if hopper else 3,
        )
    few = columns > 128 or heads > 32 or (capability > 80 and not hopper and not quantized)
    chosen = Tile(rows=heads, keys=32 if few else 64, num_warps=warps, num_stages=2)
    split = Tile(rows=heads, keys=32, num_warps=warps, num_stages=2 if quantized else 3)
    keys_only = Tile(rows=heads, keys=32, num_warps=warps, num_stages=3)
    return Tiles(shared=shared, chosen=chosen, split=split, keys_only=keys_only)
