"""The memory budget: whether a stream fits into free memory, checked before prefill begins."""

from sala_core.engine.engine import Engine
from sala_core.engine.memory_plan import DeviceSettings, MemoryPlan, free_device_bytes, plan_memory
from sala_core.errors import MemoryBudgetError
from sala_core.model.state import KvKind, SalaState

MAX_TOKENS = 1 << 21
"""Maximum stream length of a session: the longest that the published model was shown to handle (arXiv:2602.11761)."""

HEADROOM_TOKENS = 4096
"""Tokens that a state reserves beyond its stream, so that questions and answers do not make its buffers grow."""

_RESERVE_BYTES = 256 << 20  # of free memory, kept for everything that is not counted
_SMALL_BYTES = 50 << 20  # parts below this are not named in messages
_GIB = 2**30


def plan_for(engine: Engine, num_tokens: int, kv: KvKind | None = None) -> MemoryPlan:
    """Memory that a stream of `num_tokens` tokens needs on the engine's device. kv: another KV format than its own."""
    settings = DeviceSettings(kv=kv or engine.model.kv, chunk_tokens=engine.chunk_tokens)
    return plan_memory(engine.size, num_tokens, settings, on_card=engine.model.device.type == "cuda")


def check_budget(engine: Engine, num_tokens: int, *, state: SalaState | None = None) -> None:
    """Raise MemoryBudgetError if a stream of `num_tokens` tokens is too long for a session or for free memory.

    state: the part of the stream that is in memory already.
    """
    if num_tokens > MAX_TOKENS:
        raise MemoryBudgetError(
            f"{num_tokens:,} tokens are more than a session holds ({MAX_TOKENS:,}); "
            "read fewer files, or use another session"
        )
    needed, free = _needed_bytes(engine, num_tokens, state), _free_bytes(engine)
    if sum(needed.values()) > free:
        parts = [f"{count / _GIB:.1f} {name}" for name, count in needed.items() if count > _SMALL_BYTES]
        by_part = f" ({', '.join(parts)})" if parts else ""
        raise MemoryBudgetError(
            f"{num_tokens:,} tokens need {sum(needed.values()) / _GIB:.1f} GiB{by_part} and "
            f"{max(0, free) / _GIB:.1f} GiB is free; {_fitting_lengths(engine, free, state)}"
            "close other programs, or read fewer files"
        )


def tokens_that_fit(engine: Engine, *, state: SalaState | None = None) -> int:
    """Length of the longest stream that fits into free memory. state: the part that is in memory already."""
    return _longest_stream(engine, _free_bytes(engine), state, engine.model.kv)


def _needed_bytes(engine: Engine, num_tokens: int, state: SalaState | None, kv: KvKind | None = None) -> dict[str, int]:
    """Bytes by purpose, in addition to the weights and to the memory that `state` has allocated."""
    plan = plan_for(engine, num_tokens + HEADROOM_TOKENS, kv)
    allocated = state.reserved_bytes - plan.linear_bytes if state else 0
    copied = state.largest_buffer_bytes if state and plan.kv_bytes > allocated else 0  # a buffer's old rows as it grows
    return {
        "keys and values": max(0, plan.kv_bytes - allocated) + copied,
        "linear states": plan.saving_bytes + (0 if state else plan.linear_bytes),
        "computing": plan.activation_bytes * 5 // 4,  # with the allocator's fragmentation
        "answering": plan.answer_bytes,
    }


def _fitting_lengths(engine: Engine, free: int, state: SalaState | None) -> str:
    """The part of the message that names the longest stream that fits, for this KV format and for int8."""
    fitting = _longest_stream(engine, free, state, engine.model.kv)
    texts = [f"{fitting:,} tokens fit"] if fitting else []
    if engine.model.kv == "plain":
        quantized = _longest_stream(engine, free + (state.reserved_bytes if state else 0), None, "int8")
        if quantized > fitting:
            texts.append(f"{quantized:,} with --kv int8")
    return ", ".join(texts) + "; " if texts else ""


def _longest_stream(engine: Engine, free: int, state: SalaState | None, kv: KvKind) -> int:
    low, high = 0, MAX_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        if sum(_needed_bytes(engine, middle, state, kv).values()) <= free:
            low = middle
        else:
            high = middle - 1
    return low


def _free_bytes(engine: Engine) -> int:
    return free_device_bytes(engine.model.device) - _RESERVE_BYTES
