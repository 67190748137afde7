"""A conversation as one HTML file: no script, nothing that is fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import TYPE_CHECKING

from app import wording
from app.page.export.as_markdown import place_of
from app.page.export.mathml import formula_html
from app.page.markdown.parser import parse, render
from app.page.markdown.quotations import mark_quotations
from app.page.markdown.writer import write
from app.page.markup import escape, tag
from app.remote.words import answered_by
from sala_core.events import AnswerStats

if TYPE_CHECKING:
    from sala_core.store.rows import DocumentRow, MessageRow, SessionRow

_MARK = re.compile(r'<button [^>]*class="mark"[^>]*?title="([^"]*)"[^>]*>(.*?)</button>')
_FORMULA = re.compile(r'<span class="formula( formula-display)?">([^<]*)</span>')
_BUTTON = re.compile(r"<button .*?</button>")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#23211e, #e9e6e1); --soft: light-dark(#5f5a52, #b3aea6);
  --paper: light-dark(#fbfaf8, #17181a); --rule: light-dark(#e2ded6, #313437); --panel: light-dark(#f3f1ec, #1d1f21); }
body { max-width: 44rem; margin: 3rem auto; padding: 0 1.25rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.6 system-ui, sans-serif;
  overflow-wrap: anywhere; }
h1, h2 { font-family: ui-serif, Charter, Georgia, serif; font-weight: 500; line-height: 1.3; }
h2 { margin: 2.6rem 0 .8rem; padding-top: 1.2rem; border-top: 1px solid var(--rule); font-size: 1.2rem; }
.mark { padding: 0 .5em; border-radius: .6em; background: var(--panel); color: var(--soft); font-size: .78em;
  white-space: nowrap; }
.soft, .evidence, summary, .code-head { color: var(--soft); font-size: .88rem; }
.evidence p { margin: .2rem 0 .7rem; font-family: ui-serif, Charter, Georgia, serif; }
pre { padding: .7rem .9rem; overflow-x: auto; background: var(--panel); border-radius: .5rem; }
math[display="block"] { margin: .8rem 0; overflow-x: auto; }
code, .formula { font: .88em ui-monospace, monospace; }
table { border-collapse: collapse; } th, td { padding: .25rem .7rem; border: 1px solid var(--rule); text-align: left; }
blockquote { margin-left: 0; padding-left: 1rem; border-left: 3px solid var(--rule); }
@media print { body { margin: 0; } h2 { break-after: avoid; } }
"""


def html_page(
    row: SessionRow,
    documents: Sequence[DocumentRow],
    messages: Sequence[MessageRow],
    notes: Mapping[str, tuple[str, ...]],
) -> str:
    """The whole conversation, rendered as on the page; formulas as MathML.

    Args:
        row: the session.
        documents: its sources, in reading order.
        messages: its conversation.
        notes: about a document or an answer, by its id.
    """
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(row.name)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
    )
    parts = [tag("h1", escape(row.name)), _documents(row, documents, notes)]
    for message in messages:
        if message.role == "user":
            parts.append(tag("h2", _plain(render(message.text, breaks=True)).removeprefix("<p>").removesuffix("</p>")))
        else:
            parts.append(_answer(message, notes.get(message.id, ())))
    return head + "\n".join(parts) + "\n</main>\n</body>\n</html>"


def _documents(row: SessionRow, documents: Sequence[DocumentRow], notes: Mapping[str, tuple[str, ...]]) -> str:
    if not documents:
        return tag("p", "Nothing was read.", class_="soft")
    items = []
    for document in documents:
        facts = [wording.plural(document.num_tokens, "token")]
        facts += [wording.plural(document.num_pages, "page")] if document.num_pages else []
        facts += list(notes.get(document.id, ()))
        items.append(tag("li", escape(f"{document.name}: {', '.join(facts)}")))
    return tag("div", tag("p", escape(f"Read by {row.model}:")), tag("ul", *items), class_="soft")


def _answer(message: MessageRow, notes: Sequence[str]) -> str:
    stats = message.stats or AnswerStats()
    parts = []
    if message.thinking.strip():
        title = wording.thought_for(stats.seconds_thinking, stats.thinking_end)
        parts.append(tag("details", tag("summary", escape(title)), _plain(render(message.thinking))))
    tokens = parse(message.text)
    mark_quotations(tokens, stats.quotations)
    parts.append(_plain(write(tokens)) if message.text.strip() else tag("p", "No answer was written.", class_="soft"))
    if stats.written_by is not None:
        parts.append(tag("p", escape(" ".join(answered_by(stats.written_by))), class_="soft"))
    parts += [tag("p", escape(f"Answered from {note}."), class_="soft") for note in notes]
    if message.evidence:
        items = [
            tag("li", escape(place_of(each)), tag("p", escape(" ".join(each.text.split()))))
            for each in message.evidence
        ]
        parts.append(tag("details", tag("summary", "Evidence"), tag("ol", *items), class_="evidence", open=""))
    return tag("section", *parts)


def _plain(shown: str) -> str:
    """HTML of the page without its buttons; the mark of a quotation becomes text, and formulas become MathML."""
    marked = _MARK.sub(r'<span class="mark" title="\1">\2</span>', shown)
    return _FORMULA.sub(
        lambda found: formula_html(unescape(found[2]), is_display=bool(found[1])), _BUTTON.sub("", marked)
    )
