"""The buttons under each turn, its versions, and what a version has cost. turns.js sends their clicks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import wording
from app.page.markup import escape, tag
from app.remote.words import answered_by
from sala_core.events import AnswerStats

if TYPE_CHECKING:
    from sala_core.store.turns.operations import TurnRow

ACTIONS = {"regenerate": "Regenerate", "edit": "Edit", "delete": "Delete turn", "branch": "Branch here"}
"""Action -> the name of its button."""


def tools_html(turn: TurnRow | None, question: str) -> str:
    """The buttons under a turn; "" for a message that is no turn. question: its text, which "Edit" begins with."""
    if turn is None:
        return ""
    buttons = [
        _button(name, action, turn, **({"data_question": question} if action == "edit" else {}))
        for action, name in ACTIONS.items()
    ]
    return "".join([*buttons, *_versions(turn)])


def note_html(stats: AnswerStats) -> str:
    """What is to be known of how an answer came about: read again for it, asked during a reading, written elsewhere."""
    notes = []
    if stats.document_tokens_read is not None:
        notes.append(f"{wording.plural(stats.document_tokens_read, 'document token')} re-read")
    if stats.read_so_far is not None:
        done, total = map(wording.count, stats.read_so_far)
        notes.append(f"answered from the first {done} of {total} tokens")
    note = tag("p", escape(" · ".join(notes)), class_="ending turn-note") if notes else ""
    return note + _written_html(stats)


def _written_html(stats: AnswerStats) -> str:
    """Which engine elsewhere has written an answer, from what, and what was checked here; "" for the model here."""
    if stats.written_by is None:
        return ""
    receipt = tag("p", escape(" ".join(answered_by(stats.written_by))), class_="ending turn-note written-by")
    return receipt + "".join(tag("p", escape(words), class_="ending turn-note written-by") for words in stats.warnings)


def _versions(turn: TurnRow) -> list[str]:
    count = len(turn.versions)
    if count == 1:
        return []
    before = _button("‹", "previous", turn, aria_label="Previous version") if turn.version > 1 else ""
    behind = _button("›", "next", turn, aria_label="Next version") if turn.version < count else ""
    return [before, tag("span", f"{turn.version} of {count}", class_="version"), behind]


def _button(words: str, action: str, turn: TurnRow, **attributes: str) -> str:
    return tag("button", words, type="button", class_="turn-tool", data_action=action, data_turn=turn.id, **attributes)
