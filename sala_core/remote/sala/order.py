"""What a client wants another Sala to hold of a session: which documents, then which turns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

MAX_DOCUMENTS = 100_000
MAX_TURNS = 10_000
_HASH_CHARS = 64


@dataclass(frozen=True, kw_only=True)
class OrderedTurn:
    """A question and its answer, as the client keeps them."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class StreamOrder:
    """A session's whole stream, told by its contents. Equal orders give equal token streams, on any server.

    documents: SHA-256 of their parcels, in reading order. turns: the shown ones, the oldest first; they stand behind
    all documents. So a fork, another version of a turn and a session that the server has lost need no calls of their
    own: the client says what it wants, and the server reads what it does not have.
    """

    documents: tuple[str, ...] = ()
    turns: tuple[OrderedTurn, ...] = ()
    system_prompt: str = ""

    def to_json(self) -> dict[str, Any]:
        """The record as JSON types."""
        return {
            "documents": list(self.documents),
            "turns": [[turn.question, turn.answer] for turn in self.turns],
            "system_prompt": self.system_prompt,
        }

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """The record that `to_json` wrote. Raises ValueError for anything else."""
        if not isinstance(raw, Mapping):
            raise ValueError("the order is no object")
        documents, turns, system_prompt = (raw.get(key) for key in ("documents", "turns", "system_prompt"))
        if not isinstance(documents, list) or len(documents) > MAX_DOCUMENTS or not all(map(is_hash, documents)):
            raise ValueError("the order's documents are none")
        if len(set(documents)) < len(documents):
            raise ValueError("a document is ordered twice")
        if not isinstance(turns, list) or len(turns) > MAX_TURNS or not all(map(_is_turn, turns)):
            raise ValueError("the order's turns are none")
        if not isinstance(system_prompt, str):
            raise ValueError("the order's system prompt is none")
        ordered = tuple(OrderedTurn(question=question, answer=answer) for question, answer in turns)
        return cls(documents=tuple(documents), turns=ordered, system_prompt=system_prompt)


def is_hash(value: Any) -> bool:
    """Whether it is a SHA-256 in lower-case hexadecimal."""
    return isinstance(value, str) and len(value) == _HASH_CHARS and set(value) <= set("0123456789abcdef")


def _is_turn(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) and text for text in value)
