"""The evidence of an answer: the passages that the model attended to most. `source_viewer.js` opens them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app import wording
from app.page.markup import block, escape, tag
from sala_core.events import Evidence

MAX_SHOWN = 16
_MIN_WIDTH, _MIN_SHARE = 50, 0.75  # characters of wrapped prose in a line; of the longest line, by the shortest one


def evidence_html(evidence: Sequence[Evidence], message_id: str, *, is_found: bool = False, given_to: str = "") -> str:
    """Ranked passages; '' for none.

    The message and the passages' keys are classes, because the page leaves panels no other attribute.

    Args:
        evidence: the best first; scores are shown relative to the best.
        message_id: of the answer.
        is_found: a finder ranked them.
        given_to: the engine elsewhere that was given them, with these numbers.
    """
    if not evidence:
        return ""
    best = max(item.score for item in evidence) or 1.0
    passages = [_passage_html(index, item, item.score / best) for index, item in enumerate(evidence[:MAX_SHOWN])]
    why = "that fit the question best" if is_found else "the model attended to most while it answered"
    if given_to:
        why = f"that the reader found and {given_to} was given, with the numbers by which it names them"
    note = tag("p", escape(f"The passages {why}."), class_="hint")
    return block(note, *passages, class_=f"evidence message-{message_id}")


def _passage_html(index: int, item: Evidence, share: float) -> str:
    where = wording.place(item.page, item.line_start, item.line_end, item.rows, item.document)
    text = _joined(item.text) if item.page is not None or _is_wrapped(item.text) else item.text
    return tag(
        "div",
        tag("span", str(index + 1), class_="rank"),
        tag("span", escape(item.document), class_="doc"),
        tag("span", where, class_="where"),
        f'<meter min="0" max="1" value="{share:.3f}" aria-label="Relative weight {share:.0%}"></meter>',
        tag("span", escape(f"Columns: {item.header}"), class_="columns") if item.header else "",
        tag("span", escape(_trimmed(text)), class_="snippet"),
        class_=f"place key-e{index}",
    )


def _is_wrapped(text: str) -> bool:
    """Whether the lines of a text end where a width ends: all but the last of each paragraph are about as long."""
    paragraphs = [part.split("\n") for part in re.split(r"\n\s*\n", text.strip("\n"))]
    inner = [len(line) for lines in paragraphs for line in lines[1:-1]]
    begins = [line[:1] for lines in paragraphs for line in lines]
    width = max(inner, default=0)
    return width >= _MIN_WIDTH and min(inner) >= _MIN_SHARE * width and not any(first.isspace() for first in begins)


def _joined(text: str) -> str:
    """A passage without the ends of its lines, where they say nothing; paragraphs stay."""
    return "\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


def _trimmed(text: str, max_chars: int = 420) -> str:
    text = re.sub(r"\n\s*\n", "\n", text.strip("\n"))
    return text if len(text) <= max_chars else text[:max_chars].rsplit(" ", 1)[0] + " …"
