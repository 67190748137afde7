"""What a session uses: tokens by what they are, memory and disk."""

from dataclasses import dataclass

from sala_core.store import Library

_BY_KIND = """
SELECT coalesce(sum(end_token - start_token), 0) AS every,
       coalesce(sum(iif(kind = 'document', end_token - start_token, 0)), 0) AS documents
FROM parts WHERE session_id = ?
"""
_THINKING = """
SELECT coalesce(sum(json_extract(m.stats, '$.tokens_thinking')), 0) AS thinking
FROM parts p JOIN messages m ON m.session_id = p.session_id AND m.id = p.message_id
WHERE p.session_id = ? AND p.kind = 'assistant'
"""


@dataclass(frozen=True, kw_only=True)
class TokenUse:
    """Tokens of a session's stream. conversation: system prompt, questions, and answers without their thinking."""

    documents: int
    conversation: int
    thinking: int


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Use of a session and of the machine. tokens_free: tokens that still fit the model and the free memory.

    used: what the session's tokens are. saved_s: seconds of reading that opening it from disk has saved so far, by the
    rule of `sala_core.session.planning.timing.catch_up`.
    """

    tokens_read: int
    tokens_pending: int
    tokens_free: int
    state_bytes: int
    library_bytes: int
    process_bytes: int
    used: TokenUse
    saved_s: float


def token_use(library: Library, session_id: str) -> TokenUse:
    """Count the tokens of a session's stream by what they are. session_id: its id; an unknown one has none."""
    with library.database.read() as conn:
        row = conn.execute(_BY_KIND, [session_id]).fetchone()
        thinking = int(conn.execute(_THINKING, [session_id]).fetchone()["thinking"])
    rest = int(row["every"]) - int(row["documents"])
    thinking = min(thinking, rest)
    return TokenUse(documents=int(row["documents"]), conversation=rest - thinking, thinking=thinking)
