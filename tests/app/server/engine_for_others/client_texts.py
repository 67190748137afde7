"""Sessions as a client offers them to an engine, with made texts, and what one does with them."""

import secrets
from dataclasses import dataclass, field

from sala_core.events import ReadReceipt
from sala_core.ingest import Document
from sala_core.remote.engine import EngineSettings, PastTurn, TextDocument, Written
from sala_core.stopping import never

_NAMES = ("Ada", "Bruno", "Clara", "Dario", "Edith", "Felix", "Greta", "Hugo")
_THINGS = ("the brass key", "a blue lantern", "the old map", "a silver bell", "the green ledger", "a cracked mirror")
_PLACES = ("in the harbor office", "behind the mill", "under the stone bridge", "in the north tower", "at the inn")
QUESTION = "Where did Clara hide the brass key?"


def story(number: int, sentences: int) -> str:
    """A text that no other number gives, with some 20 tokens a sentence."""
    lines = [
        f"Chapter {number} of the account that clerk {number} wrote.",
        "Clara hid the brass key in the salt cellar.",
    ]
    for index in range(sentences):
        name, thing = _NAMES[(index * 3 + number) % 8], _THINGS[(index * 5 + number) % 6]
        lines.append(f"On day {index} of account {number} {name} carried {thing} {_PLACES[(index + number) % 5]}.")
    return "\n".join(lines)


@dataclass(kw_only=True)
class Text:
    """A session as its client offers it to an engine."""

    documents: list[TextDocument]
    turns: list[PastTurn] = field(default_factory=list)
    session_id: str = field(default_factory=lambda: secrets.token_hex(16))

    def passages(self, limit: int) -> list:
        raise AssertionError("another Sala finds the places itself")


def text_document(name: str, text: str) -> TextDocument:
    document = Document(
        name=name,
        media_type="text/plain",
        num_bytes=len(text.encode()),
        text=text,
        content_hash=Document.hash_of(name, text),
    )
    return TextDocument(
        id=document.content_hash[:16],
        name=name,
        content_hash=document.content_hash,
        num_chars=len(text),
        num_tokens=len(text) // 4,
        text=lambda: text,
        load=lambda: document,
    )


def a_text(number: int, sentences: int = 40) -> Text:
    return Text(documents=[text_document(f"account {number}.txt", story(number, sentences))])


def read(engine, text, should_stop=never):
    events = list(engine.read(text, should_stop=should_stop))
    return events[-1] if events and isinstance(events[-1], ReadReceipt) else None


def ask(engine, text, question=QUESTION, **settings):
    """The answer's text, and its end."""
    events = list(engine.ask(text, question, EngineSettings(**settings), should_stop=never))
    return "".join(event.text for event in events if isinstance(event, Written)), events[-1]
