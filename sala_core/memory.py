"""Whether a reading fits into memory, told before it begins."""

import psutil

from sala_core.engine import Engine
from sala_core.errors import MemoryBudgetError

MAX_TOKENS = 1 << 21
"""The longest stream a session takes: what the published model was shown to hold (arXiv:2602.11761)."""

_RESERVE_BYTES = 256 << 20


def state_bytes_per_token(engine: Engine) -> int:
    """What one more token adds to a state: keys and values of the sparse layers, and their pooled keys."""
    config, sparse = engine.config, engine.config.sparse_config
    row = config.num_key_value_heads * config.head_dim * engine.model.dtype.itemsize
    pooled = row / sparse.kernel_stride + row / sparse.coarse_stride
    return max(1, round(len(config.sparse_layers) * (2 * row + pooled)))


def check_budget(engine: Engine, num_tokens: int, *, held_tokens: int = 0) -> None:
    """Raise MemoryBudgetError if a stream of `num_tokens` tokens is too long for a session, or for free memory.

    held_tokens: so many of them are in memory already.
    """
    if num_tokens > MAX_TOKENS:
        raise MemoryBudgetError(
            f"{num_tokens:,} tokens are more than a session holds ({MAX_TOKENS:,}); "
            "read fewer files, or use another session"
        )
    needed = (num_tokens - held_tokens) * state_bytes_per_token(engine)
    free = _free_bytes(engine) - _RESERVE_BYTES
    if needed > free:
        raise MemoryBudgetError(
            f"{num_tokens:,} tokens need {needed / 2**30:.1f} GiB of state and {max(0, free) / 2**30:.1f} GiB is free; "
            "close other programs, or read fewer files"
        )


def _free_bytes(engine: Engine) -> int:
    on_card = engine.free_device_bytes()
    return psutil.virtual_memory().available if on_card is None else on_card
