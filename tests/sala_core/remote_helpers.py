"""A session as an engine elsewhere sees it, made up."""

from dataclasses import dataclass, field

from sala_core.events import Evidence
from sala_core.remote.engine import PastTurn, TextDocument, Written

LINE = "The ferryman of Tavelun never rows at night, whatever the harbor master says. "


def passage(number: int) -> Evidence:
    """A passage that the reader here found."""
    text = f"Passage {number}. {LINE * 6}"
    return Evidence(
        document="town.txt", document_id="d", page=None, line_start=number, line_end=number, text=text, score=0.1
    )


@dataclass
class Given:
    """A `SessionText`."""

    text: str = LINE * 500
    turns: list[PastTurn] = field(default_factory=list)
    session_id: str = "s"
    asked_for: int = 0
    """How often passages were wanted."""

    @property
    def documents(self) -> list[TextDocument]:
        return [
            TextDocument(
                id="d",
                name="town.txt",
                content_hash=str(hash(self.text)),
                num_chars=len(self.text),
                num_tokens=len(self.text) // 4,
                text=lambda: self.text,
            )
        ]

    def passages(self, limit: int) -> list[Evidence]:
        self.asked_for += 1
        return [passage(number) for number in range(1, limit + 1)]


def text_of(events) -> str:
    """The answer, without its thinking."""
    return "".join(event.text for event in events if isinstance(event, Written) and not event.thinking)
