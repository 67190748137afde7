"""The evidence of an answer: the passages that the model attended to most."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from app import wording
from app.page.markup import block, escape, tag
from sala_core.events import Evidence

MAX_SHOWN = 12
CONTEXT_LINES = 12


def evidence_html(evidence: Sequence[Evidence], source: Callable[[str], str | None]) -> str:
    """Ranked passages, each of which opens to the lines around it.

    evidence: the best first; scores are shown relative to the best. source: returns a document's whole text by its id,
    or None where the library does not have it.
    """
    if not evidence:
        return ""
    best = max(item.score for item in evidence) or 1.0
    passages = [
        _passage_html(rank, item, item.score / best, source(item.document_id))
        for rank, item in enumerate(evidence[:MAX_SHOWN], start=1)
    ]
    note = tag("p", "The passages the model attended to most while it answered.", class_="hint")
    return block(note, *passages, class_="evidence")


def _passage_html(rank: int, item: Evidence, share: float, source: str | None) -> str:
    where = wording.place(item.page, item.line_start, item.line_end, item.rows, item.document)
    head = tag(
        "summary",
        tag("span", str(rank), class_="rank"),
        tag("span", escape(item.document), class_="doc"),
        tag("span", where, class_="where"),
        f'<meter min="0" max="1" value="{share:.3f}" aria-label="Relative weight {share:.0%}"></meter>',
        tag("span", escape(_trimmed(item.text)), class_="snippet"),
    )
    return tag("details", head, _context_html(item, source), class_="place")


def _trimmed(text: str, max_chars: int = 420) -> str:
    text = re.sub(r"\n\s*\n", "\n", text.strip("\n"))
    return text if len(text) <= max_chars else text[:max_chars].rsplit(" ", 1)[0] + " …"


def _context_html(item: Evidence, source: str | None) -> str:
    if source is None:
        return tag("p", "The document is no longer in the library.", class_="hint")
    lines = source.split("\n")
    first, last = clipped_lines(item, len(lines))
    begin, end = max(1, first - CONTEXT_LINES), min(len(lines), last + CONTEXT_LINES)
    rows = [
        tag(
            "div",
            tag("span", str(number), class_="line-number"),
            tag("span", escape(lines[number - 1]) or "&nbsp;", class_="line-text"),
            class_="line line-hit" if first <= number <= last else "line",
        )
        for number in range(begin, end + 1)
    ]
    header = [tag("p", escape(f"Columns: {item.header}"), class_="hint")] if item.header else []
    return tag("div", *header, *rows, class_="context", role="group", aria_label="Surrounding text")


def clipped_lines(item: Evidence, num_lines: int) -> tuple[int, int]:
    """First and last line of a passage, from 1, clipped to the document's lines."""
    first = min(max(1, item.line_start), num_lines)
    last = min(max(first, item.line_end), num_lines)
    return first, last
