"""A conversation as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from app import wording
from app.page.question_lists.table import escaped
from app.remote.words import answered_by

if TYPE_CHECKING:
    from sala_core.events import Evidence, Quotation
    from sala_core.store.rows import DocumentRow, MessageRow, SessionRow

_CODE = re.compile(r"(^(`{3,}|~{3,}).*?^\2[`~]*\s*$|`[^`\n]*`)", re.MULTILINE | re.DOTALL)
_ACTIVE = re.compile(r"<(?=[A-Za-z/!?])|(?<!\\)!(?=\[)")
"""What another program would run or fetch: elements of HTML and pictures."""


def markdown_text(
    row: SessionRow,
    documents: Sequence[DocumentRow],
    messages: Sequence[MessageRow],
    notes: Mapping[str, tuple[str, ...]],
) -> str:
    """The whole conversation; each answer is followed by its quotations and passages with their places.

    Args:
        row: the session.
        documents: its sources, in reading order.
        messages: its conversation.
        notes: about a document or an answer, by its id.
    """
    lines = [f"# {escaped(row.name)}", "", f"Read by {escaped(row.model)}:" if documents else "Nothing was read.", ""]
    for document in documents:
        pages = f", {wording.plural(document.num_pages, 'page')}" if document.num_pages else ""
        more = "".join(f"; {note}" for note in notes.get(document.id, ()))
        tokens = wording.plural(document.num_tokens, "token")
        lines.append(f"- {escaped(document.name)}: {tokens}{pages}{escaped(more)}")
    number = 0
    for message in messages:
        if message.role == "user":
            number += 1
            lines += ["", f"## {number}. {escaped(' '.join(message.text.split()))}", ""]
        else:
            lines += _answer(message, notes.get(message.id, ()))
    return "\n".join(lines) + "\n"


def _answer(message: MessageRow, notes: Sequence[str]) -> list[str]:
    lines = []
    stats = message.stats
    if message.thinking.strip():
        title = wording.thought_for(stats.seconds_thinking if stats else None)
        lines += [f"> {title}:", ">", *(f"> {line}" for line in disarmed(message.thinking).splitlines()), ""]
    lines.append(disarmed(message.text) if message.text.strip() else "*No answer was written.*")
    if stats is not None and stats.written_by is not None:
        lines += ["", f"*{escaped(' '.join(answered_by(stats.written_by)))}*"]
    lines += [f"\n*Answered from {escaped(note)}.*" for note in notes]
    quotations = stats.quotations if stats else ()
    if quotations:
        lines += ["", "Word for word:", ""]
        lines += [f"- “{escaped(' '.join(each.text.split()))}” ({escaped(place_of(each))})" for each in quotations]
    if message.evidence:
        lines += ["", "Evidence:", ""]
        for rank, each in enumerate(message.evidence, start=1):
            lines.append(f"{rank}. {escaped(place_of(each))}: {escaped(' '.join(each.text.split()))}")
    return lines


def place_of(passage: Evidence | Quotation) -> str:
    """Document and place of a passage, in words."""
    rows = getattr(passage, "rows", None)
    where = wording.place(passage.page, passage.line_start, passage.line_end, rows, passage.document)
    return f"{passage.document}, {where}"


def disarmed(text: str) -> str:
    """An answer's own Markdown without what another program would run or fetch: HTML and pictures become text."""
    pieces, end = [], 0
    for code in _CODE.finditer(text):
        pieces += [_ACTIVE.sub(r"\\\g<0>", text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, _ACTIVE.sub(r"\\\g<0>", text[end:])])
