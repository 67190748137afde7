"""Where a search has found its words: the name of a session, of a document, or a message with the words around."""

from dataclasses import dataclass
from typing import Literal

from sala_core.store.base import LibraryBase
from sala_core.store.sessions import FOR_OTHERS, SERVED

MAX_HITS = 60
_AROUND_CHARS = 70
_NAMES = """
SELECT s.id AS session_id, s.name AS session, 'name' AS kind, '' AS item, '' AS role, s.name AS text
  FROM sessions s WHERE {match_name} AND {listed}
UNION ALL
SELECT DISTINCT s.id, s.name, 'document', d.id, '', d.name FROM documents d
  JOIN parts p ON p.document_id = d.id JOIN sessions s ON s.id = p.session_id WHERE {match_document} AND {listed}
"""
_MESSAGES = """
SELECT s.id AS session_id, s.name AS session, 'message' AS kind, m.id AS item, m.role AS role, m.text AS text
  FROM messages m JOIN sessions s ON s.id = m.session_id WHERE {match_message} AND {listed}
  ORDER BY s.updated_at DESC, s.row, m.ordinal LIMIT ?
"""
_LISTED = (
    "s.id NOT IN (SELECT session_id FROM session_marks WHERE binned_at IS NOT NULL)"
    f" AND s.name NOT GLOB '{SERVED}*' AND s.name NOT GLOB '{FOR_OTHERS}*'"
)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One place that a search has found. The text is before + found + after, shortened."""

    session_id: str
    session: str
    kind: Literal["name", "document", "message"]
    item: str
    """Id of the document or message; "" for a session's name."""
    role: str
    """"user" or "assistant" of a message."""
    before: str
    found: str
    after: str


class Hits(LibraryBase):
    """The part of the library that finds words."""

    def search_hits(self, search: str, limit: int = MAX_HITS) -> list[Hit]:
        """The places that contain these words: names first, then messages, of the session used last first.

        search: words as typed. A place must contain the whole text or, where none does, its longest word; case is
        ignored. limit: at most so many hits.
        """
        text = " ".join(search.replace("\0", " ").split())
        words = sorted(text.split(), key=len, reverse=True)
        for wanted in dict.fromkeys([text, *words[:1]]):
            if wanted and (hits := self._hits(wanted, limit)):
                return hits
        return []

    def _hits(self, wanted: str, limit: int) -> list[Hit]:
        match = {
            f"match_{kind}": f"instr(lower({column}), lower(?))"
            for kind, column in (("name", "s.name"), ("document", "d.name"), ("message", "m.text"))
        }
        with self.database.read() as conn:
            rows = conn.execute(_NAMES.format(listed=_LISTED, **match), [wanted, wanted]).fetchall()[:limit]
            if len(rows) < limit:
                query = _MESSAGES.format(listed=_LISTED, **match)
                rows += conn.execute(query, [wanted, limit - len(rows)]).fetchall()
        return [
            Hit(
                session_id=row["session_id"],
                session=row["session"],
                kind=row["kind"],
                item=row["item"],
                role=row["role"],
                **_around(row["text"], wanted),
            )
            for row in rows
        ]


def _around(text: str, wanted: str) -> dict[str, str]:
    """The first occurrence of `wanted` in a text, with the characters before and behind it on one line."""
    at = max(0, text.lower().find(wanted.lower()))
    before, found, after = text[:at], text[at : at + len(wanted)], text[at + len(wanted) :]
    cut_before = "…" + before[-_AROUND_CHARS:] if len(before) > _AROUND_CHARS else before
    cut_after = after[:_AROUND_CHARS] + "…" if len(after) > _AROUND_CHARS else after
    return {"before": _one_line(cut_before), "found": _one_line(found), "after": _one_line(cut_after)}


def _one_line(text: str) -> str:
    return "".join(" " if char.isspace() else char for char in text)
