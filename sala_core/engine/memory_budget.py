"""Whether a reading fits into memory, told before it begins."""

from sala_core.engine.engine import Engine
from sala_core.engine.memory_plan import MemoryPlan, Settings, free_device_bytes, plan_memory
from sala_core.errors import MemoryBudgetError
from sala_core.model.state import KvKind, SalaState

MAX_TOKENS = 1 << 21
"""The longest stream a session takes: what the published model was shown to hold (arXiv:2602.11761)."""

ROOM_TOKENS = 4096
"""So many tokens more than a stream has now are made room for, so that questions and answers move nothing."""

_RESERVE_BYTES = 256 << 20
_SMALL_BYTES = 50 << 20
_GIB = 2**30


def plan_for(engine: Engine, num_tokens: int, kv: KvKind | None = None) -> MemoryPlan:
    """What a stream of `num_tokens` tokens takes of the engine's device. kv: if keys and values were held so."""
    settings = Settings(kv=kv or engine.model.kv, chunk_tokens=engine.chunk_tokens)
    return plan_memory(engine.size, num_tokens, settings, on_card=engine.model.device.type == "cuda")


def state_bytes_per_token(engine: Engine) -> int:
    """What one more token adds to a state, on average: keys and values of the sparse layers, and their pooled keys."""
    return max(1, round(plan_for(engine, 1 << 20).kv_bytes / 2**20))


def check_budget(engine: Engine, num_tokens: int, *, state: SalaState | None = None) -> None:
    """Raise MemoryBudgetError if a stream of `num_tokens` tokens is too long for a session, or for free memory.

    state: what of it is in memory already.
    """
    if num_tokens > MAX_TOKENS:
        raise MemoryBudgetError(
            f"{num_tokens:,} tokens are more than a session holds ({MAX_TOKENS:,}); "
            "read fewer files, or use another session"
        )
    needed, free = _needed(engine, num_tokens, state), _free_bytes(engine)
    if sum(needed.values()) > free:
        parts = [f"{count / _GIB:.1f} {name}" for name, count in needed.items() if count > _SMALL_BYTES]
        raise MemoryBudgetError(
            f"{num_tokens:,} tokens need {sum(needed.values()) / _GIB:.1f} GiB{_listed(parts)} and "
            f"{max(0, free) / _GIB:.1f} GiB is free; {_what_fits(engine, free, state)}"
            "close other programs, or read fewer files"
        )


def tokens_that_fit(engine: Engine, *, state: SalaState | None = None) -> int:
    """The longest stream that fits now. state: what of it is in memory already."""
    return _longest(engine, _free_bytes(engine), state, engine.model.kv)


def _needed(engine: Engine, num_tokens: int, state: SalaState | None, kv: KvKind | None = None) -> dict[str, int]:
    """Bytes by what they are for, beyond the weights and the state held."""
    plan = plan_for(engine, num_tokens + ROOM_TOKENS, kv)
    held = state.reserved_bytes - plan.linear_bytes if state else 0
    growing = state.largest_buffer_bytes if state and plan.kv_bytes > held else 0  # the old rows while they are copied
    return {
        "keys and values": max(0, plan.kv_bytes - held) + growing,
        "linear states": plan.saving_bytes + (0 if state else plan.linear_bytes),
        "computing": plan.activation_bytes * 5 // 4,  # what allocators lose to gaps
        "answering": plan.answer_bytes,
    }


def _what_fits(engine: Engine, free: int, state: SalaState | None) -> str:
    own = _longest(engine, free, state, engine.model.kv)
    texts = [f"{own:,} tokens fit"] if own else []
    if engine.model.kv == "plain":
        quantized = _longest(engine, free + (state.reserved_bytes if state else 0), None, "int8")
        if quantized > own:
            texts.append(f"{quantized:,} with --kv int8")
    return ", ".join(texts) + "; " if texts else ""


def _longest(engine: Engine, free: int, state: SalaState | None, kv: KvKind) -> int:
    low, high = 0, MAX_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        if sum(_needed(engine, middle, state, kv).values()) <= free:
            low = middle
        else:
            high = middle - 1
    return low


def _listed(parts: list[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _free_bytes(engine: Engine) -> int:
    return free_device_bytes(engine.model.device) - _RESERVE_BYTES
