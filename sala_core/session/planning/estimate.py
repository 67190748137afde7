"""What a reading would take on this machine: time, memory and disk; and whether it fits."""

import shutil
from collections.abc import Collection
from dataclasses import replace

from sala_core.engine.engine import Engine
from sala_core.engine.memory_budget import HEADROOM_TOKENS, check_budget, plan_for
from sala_core.engine.memory_plan import free_device_bytes, kv_bytes, linear_bytes
from sala_core.errors import MemoryBudgetError
from sala_core.model.state import SalaState
from sala_core.session.planning.measured import Measured, Stretch
from sala_core.session.planning.records import Additions, Estimate
from sala_core.session.planning.shared import SharedStart, shared_start
from sala_core.session.planning.speed import Speed, model_key
from sala_core.session.stream import SNAPSHOT_TOKENS
from sala_core.store import Library, SessionRow

_RESERVED_BYTES = 256 << 20
_TEXT_BYTES_PER_TOKEN = 18
"""Of a stored document: its text, 4 bytes for each id and 8 for where each token begins."""
_MIN_MEASURED_TOKENS = 4096
_MAX_MEASURED_SESSIONS = 5


def estimate(
    library: Library,
    engine: Engine,
    session: SessionRow | None,
    additions: Additions,
    *,
    first: Stretch | None = None,
    state: SalaState | None = None,
    measured: Measured | None = None,
) -> Estimate:
    """Estimate a reading.

    Args:
        library: where it would be kept.
        engine: reads it.
        session: which session; None for a new one.
        additions: what is to be read.
        first: a measured speed for a machine that has not read anything yet.
        state: the session's state, if it is in memory.
        measured: what this machine has read; None for the user's cache folder.
    """
    known, kept, again = _before(library, session, additions.replaced)
    tokens = kept + additions.num_tokens
    stretches = (measured or Measured()).stretches(model_key(engine))
    is_first = not stretches
    stretches = stretches or ([first] if first is not None else [])
    shared = _shared(library, engine, session, additions)
    num_read = again + additions.num_tokens - shared.num_tokens
    known += shared.num_tokens
    disk_bytes = int(num_read * _disk_bytes_per_token(library, engine, tokens))
    disk_free_bytes = shutil.disk_usage(library.folder).free
    plan = plan_for(engine, tokens + HEADROOM_TOKENS)
    return Estimate(
        tokens=tokens,
        tokens_new=additions.num_tokens,
        tokens_again=again,
        seconds=Speed(stretches).seconds(known, known + num_read) if stretches else None,
        is_first=is_first,
        memory_bytes=plan.kv_bytes + plan.linear_bytes + plan.saving_bytes + plan.activation_bytes + plan.answer_bytes,
        memory_free_bytes=free_device_bytes(engine.model.device) + (state.reserved_bytes if state else 0),
        disk_bytes=disk_bytes,
        disk_free_bytes=disk_free_bytes,
        refusal=_refusal(engine, tokens, state) or _no_room(library, disk_bytes, disk_free_bytes),
        tokens_shared=shared.num_tokens,
        shared_with=shared.session,
    )


def _shared(library: Library, engine: Engine, session: SessionRow | None, additions: Additions) -> SharedStart:
    """What another session has read of a session that is read from its beginning."""
    if session is not None and session.num_documents:
        return SharedStart()
    own = session.system_prompt if session is not None else ""
    found = shared_start(library, engine.fingerprint, own, additions.files)
    return replace(found, num_tokens=min(found.num_tokens, additions.num_tokens))


def _before(library: Library, session: SessionRow | None, replaced: Collection[str]) -> tuple[int, int, int]:
    """(where the reading begins, tokens of the session that stay, those of them that are read again or for the first
    time)."""
    if session is None:
        return 0, 0, 0
    parts = library.parts(session.id)
    ids = {row.id for row in library.documents(session.id) if row.content_hash in replaced}
    gone = sum(part.end - part.start for part in parts if part.document_id in ids)
    start = min((part.start for part in parts if part.document_id in ids), default=session.position)
    known = library.last_kept_token(session.head, start) if session.head and ids else min(start, session.position)
    return known, session.num_tokens - gone, session.num_tokens - gone - known


def _disk_bytes_per_token(library: Library, engine: Engine, num_tokens: int) -> float:
    """Of states and texts: as the library's sessions of this model have it, otherwise computed."""
    sessions = [row for row in library.sessions() if row.fingerprint == engine.fingerprint]
    read = [row for row in sessions if row.position >= _MIN_MEASURED_TOKENS][:_MAX_MEASURED_SESSIONS]
    if read:
        num_bytes = sum(library.session_state_bytes(row.id) for row in read)
        return num_bytes / sum(row.position for row in read) + _TEXT_BYTES_PER_TOKEN
    length = max(num_tokens, _MIN_MEASURED_TOKENS)
    snapshots = linear_bytes(engine.config) * (2 + length // SNAPSHOT_TOKENS)
    return (kv_bytes(engine.size, engine.model.kv, length) + snapshots) / length + _TEXT_BYTES_PER_TOKEN


def _refusal(engine: Engine, num_tokens: int, state: SalaState | None) -> str:
    try:
        check_budget(engine, num_tokens, state=state)
    except MemoryBudgetError as error:
        return str(error)
    return ""


def _no_room(library: Library, num_bytes: int, free_bytes: int) -> str:
    """Why the disk has no room for so many bytes, or ""."""
    gb, quota = 1e9, library.max_state_bytes
    if num_bytes + _RESERVED_BYTES > free_bytes:
        return (
            f"it takes about {num_bytes / gb:.1f} GB of disk and {free_bytes / gb:.1f} GB is free; "
            "read fewer files, or free some space"
        )
    if quota is not None and num_bytes > quota:
        return (
            f"it takes about {num_bytes / gb:.1f} GB of disk and the library's quota is {quota / gb:.1f} GB; "
            "read fewer files, or raise it with `quota`"
        )
    return ""
