"""Sessions, documents and messages as the JSON objects of `sessions`, `show` and the export."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sala_core.store.rows import DocumentRow, MessageRow, SessionRow, SourceRow


def session_object(row: SessionRow, state_bytes: int) -> dict[str, Any]:
    """Return the JSON object of a session. state_bytes: of its saved state, with what other sessions share."""
    return {
        "name": row.name,
        "id": row.id,
        "model": row.model,
        "tokens": row.num_tokens,
        "tokens_saved": row.position,
        "state_bytes": state_bytes,
        "bytes_written": row.bytes_written,
        "num_documents": row.num_documents,
        "num_messages": row.num_messages,
        "created_at": _iso(row.created_at),
        "updated_at": _iso(row.updated_at),
        "pinned": row.pinned,
        "deleted_at": None if row.binned_at is None else _iso(row.binned_at),
    }


def document_object(row: DocumentRow, source: SourceRow | None = None) -> dict[str, Any]:
    """Return the JSON object of a document. `pages` is 0 if the format has no pages. source: its file, if known."""
    return {
        "id": row.id,
        "name": row.name,
        "media_type": row.media_type,
        "bytes": row.num_bytes,
        "pages": row.num_pages,
        "tokens": row.num_tokens,
        "warnings": list(row.warnings),
        "path": source.path if source is not None and not source.is_upload else None,
        "status": source.status if source is not None else "unknown",
    }


def message_object(row: MessageRow, outdated: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the JSON object of a message. outdated: what an answer refers to that is not in the session any more."""
    return {
        "id": row.id,
        "role": row.role,
        "text": row.text,
        "thinking": row.thinking,
        "status": row.status,
        "evidence": [item.to_json() for item in row.evidence],
        "quotations": [item.to_json() for item in row.stats.quotations] if row.stats else [],
        "answered_from": list(outdated),
        **({"written_by": row.stats.written_by.to_json()} if row.stats and row.stats.written_by else {}),
        "created_at": _iso(row.created_at),
    }


def _iso(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, tz=UTC).isoformat(timespec="seconds")
