"""What `session.json` says: the parts of the stream, the conversation and the checkpoints, checked when it is read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

from sala_core.errors import ArchiveError
from sala_core.events import AnswerStats, Evidence
from sala_core.store.listing.marks import MAX_PROMPT_CHARS
from sala_core.store.rows import MessageRow, PartRow
from sala_core.store.turns.tree import HiddenTurn, hidden_from_json, hidden_to_json

_KINDS = ("system", "document", "user", "assistant")
_ROLES = ("user", "assistant")
_MAX_ID_CHARS = 64
_MAX_STATUS_CHARS = 20
_MAX_TOKENS = 1 << 31


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One checkpoint of the state, in the order of the stream. keep: whether its snapshot stays."""

    name: str
    start: int
    end: int
    keep: bool
    has_snapshot: bool


@dataclass(frozen=True, kw_only=True)
class PortableSession:
    """A session without its texts, tokens and tensors.

    documents: (id, fingerprint of its tokenizer) of every text, those that only earlier answers refer to included.
    """

    name: str
    model: str
    fingerprint: str
    documents: tuple[tuple[str, str], ...]
    parts: tuple[PartRow, ...]
    messages: tuple[MessageRow, ...]
    checkpoints: tuple[Checkpoint, ...]
    hidden: tuple[HiddenTurn, ...] = ()
    """Versions of turns that are not shown."""
    system_prompt: str = ""
    """The session's own; "" for the program's."""

    @property
    def num_tokens(self) -> int:
        """Length of the stream."""
        return self.parts[-1].end if self.parts else 0

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {
            "name": self.name,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "documents": [list(each) for each in self.documents],
            "parts": [asdict(part) for part in self.parts],
            "messages": [_message_object(message) for message in self.messages],
            "checkpoints": [asdict(checkpoint) for checkpoint in self.checkpoints],
            "hidden_turns": [hidden_to_json(turn) for turn in self.hidden],
            "system_prompt": self.system_prompt,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote. Raises ArchiveError for anything that such a record cannot say."""
        try:
            made = cls(
                name=str(raw["name"]),
                model=str(raw["model"]),
                fingerprint=str(raw["fingerprint"]),
                documents=tuple((str(name), str(tokenizer)) for name, tokenizer in raw["documents"]),
                parts=tuple(_part(number, item) for number, item in enumerate(raw["parts"])),
                messages=tuple(_message(item) for item in raw["messages"]),
                checkpoints=tuple(_checkpoint(item) for item in raw["checkpoints"]),
                hidden=tuple(hidden_from_json(item) for item in raw.get("hidden_turns", ())),
                system_prompt=str(raw.get("system_prompt", "")),
            )
            made._check()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ArchiveError(
                f"what the file says of the session cannot be ({type(error).__name__}: {error}); export it again"
            ) from error
        return made

    def _check(self) -> None:
        """Raise ValueError where parts contradict each other."""
        _check_runs([(part.start, part.end) for part in self.parts], may_be_empty=True)
        _check_runs([(each.start, each.end) for each in self.checkpoints], may_be_empty=False)
        if self.num_tokens >= _MAX_TOKENS or (self.checkpoints and self.checkpoints[-1].end > self.num_tokens):
            raise ValueError(f"{self.num_tokens:,} tokens")
        self.system_prompt.encode()  # half of a surrogate pair cannot be stored
        if len(self.system_prompt) > MAX_PROMPT_CHARS:
            raise ValueError(f"a system prompt of {len(self.system_prompt):,} characters")
        known, messages = {name for name, _ in self.documents}, [message.id for message in self.messages]
        messages += [str(message["id"]) for turn in self.hidden for message in turn.messages]
        if len(known) != len(self.documents) or len(set(messages)) != len(messages):
            raise ValueError("an id stands there twice")
        for part in self.parts:
            if (part.document_id is not None) != (part.kind == "document") or part.kind not in _KINDS:
                raise ValueError(f"a part of kind {part.kind[:20]!r}")
            if part.document_id is not None and part.document_id not in known:
                raise ValueError("a part of a document that is not there")
            if part.message_id is not None and part.message_id not in messages:
                raise ValueError("a part of a message that is not there")


def _check_runs(runs: Sequence[tuple[int, int]], *, may_be_empty: bool) -> None:
    """Raise ValueError unless the runs follow each other from 0 on without gaps."""
    for (_, before), (start, _) in pairwise([(0, 0), *runs]):
        if start != before:
            raise ValueError(f"a run begins at token {start:,} instead of {before:,}")
    if any(end < start or (end == start and not may_be_empty) for start, end in runs):
        raise ValueError("a run ends before it begins")


def _part(number: int, raw: Mapping[str, Any]) -> PartRow:
    document, message = raw["document_id"], raw["message_id"]
    part = PartRow(
        ordinal=number,
        kind=str(raw["kind"]),
        start=int(raw["start"]),
        end=int(raw["end"]),
        document_id=None if document is None else str(document),
        body_start=int(raw["body_start"]),
        message_id=None if message is None else str(message),
    )
    if not 0 <= part.body_start <= part.end - part.start:
        raise ValueError(f"a part of {part.end - part.start:,} tokens with its body at {part.body_start:,}")
    return part


def _checkpoint(raw: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(
        name=str(raw["name"]),
        start=int(raw["start"]),
        end=int(raw["end"]),
        keep=bool(raw["keep"]),
        has_snapshot=bool(raw["has_snapshot"]),
    )


def _message_object(message: MessageRow) -> dict[str, Any]:
    return {
        "id": message.id,
        "role": message.role,
        "text": message.text,
        "thinking": message.thinking,
        "status": message.status,
        "evidence": [item.to_json() for item in message.evidence],
        "stats": None if message.stats is None else message.stats.to_json(),
        "created_at": message.created_at,
    }


def _message(raw: Mapping[str, Any]) -> MessageRow:
    stats = raw["stats"]
    message = MessageRow(
        id=str(raw["id"]),
        role=str(raw["role"]),
        text=str(raw["text"]),
        thinking=str(raw["thinking"]),
        status=str(raw["status"]),
        evidence=tuple(Evidence.from_json(item) for item in raw["evidence"]),
        stats=None if stats is None else AnswerStats.from_json(stats),
        created_at=float(raw["created_at"]),
    )
    if message.role not in _ROLES or not 0 < len(message.id) <= _MAX_ID_CHARS:
        raise ValueError(f"a message {message.id[:_MAX_ID_CHARS]!r} of {message.role[:20]!r}")
    if len(message.status) > _MAX_STATUS_CHARS or not math.isfinite(message.created_at):
        raise ValueError("a message with an impossible status or time")
    return message
