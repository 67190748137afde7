"""The list of sources in HTML. page.js adds the buttons, by the classes of the items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from app import wording
from app.page.markup import block, escape, tag
from sala_core.events import ReadReceipt

if TYPE_CHECKING:
    from sala_core.store.rows import DocumentRow, JobRow, PartRow, SourceRow

MAX_LISTED = 200
_ON_DISK = {"changed": "changed on disk", "gone": "gone from its place; its text stays"}


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What the list is made of.

    documents, parts, position: of the session, and how far it is read. sources: the files behind the documents.
    on_disk: "changed" or "gone", by content hash. waiting: readings that have not begun. last: the last reading.
    """

    documents: Sequence[DocumentRow]
    parts: Sequence[PartRow] = ()
    position: int | None = None
    sources: Sequence[SourceRow] = ()
    on_disk: Mapping[str, str] = field(default_factory=dict)
    waiting: Sequence[JobRow] = ()
    last: JobRow | None = None


def sources_html(facts: SourceFacts) -> str:
    """Every source with its state: read, waiting, failed and why, changed on disk, gone."""
    unread = _unread(facts)
    failed = _failed(facts)
    waiting = [(job.id, Path(path).name) for job in facts.waiting for path in _paths(job)]
    if not (facts.documents or failed or waiting):
        return ""
    files = {source.content_hash: source for source in facts.sources}
    items = [_item(row, files.get(row.content_hash), facts, is_read=row.id not in unread) for row in facts.documents]
    if len(items) > MAX_LISTED:
        items[MAX_LISTED:] = [tag("li", f"and {wording.count(len(items) - MAX_LISTED)} more", class_="hint")]
    items += [_line(name, "waiting", "waiting", f"waits job-{job_id}") for job_id, name in waiting]
    items += [_line(name, "failed", f"failed: {reason}", "fails") for name, reason in failed]
    number = len(facts.documents)
    num_read = number - sum(row.id in unread for row in facts.documents)
    head = wording.count(number) if num_read == number else f"{wording.count(num_read)} of {wording.count(number)}"
    return block(tag("h3", f"Read in this session <span>{head}</span>"), tag("ul", *items), class_="documents")


def _item(row: DocumentRow, source: SourceRow | None, facts: SourceFacts, *, is_read: bool) -> str:
    fate = facts.on_disk.get(row.content_hash, "")
    if not fate and source is not None and source.status in ("gone", "unreadable"):
        fate = "gone"
    is_begun = any(part.document_id == row.id and part.start < (facts.position or 0) for part in facts.parts)
    state = fate or ("read" if is_read else "waiting")
    words = [_ON_DISK[fate]] if fate else [] if is_read else ["being read" if is_begun else "waiting"]
    if row.num_pages:
        words.append(wording.plural(row.num_pages, "page"))
    words.append(f"{wording.short_count(row.num_tokens)} tokens")
    if source is not None and source.num_changes:
        words.append("replaced" if source.num_changes == 1 else f"replaced {wording.count(source.num_changes)} times")
    return tag(
        "li",
        tag("span", escape(row.name), class_="doc"),
        tag("span", escape(" · ".join(words)), class_="reason"),
        class_=f"source id-{row.id} is-{state}",
    )


def _line(name: str, state: str, words: str, classes: str) -> str:
    doc, reason = tag("span", escape(name), class_="doc"), tag("span", escape(words), class_="reason")
    return tag("li", doc, reason, class_=f"source-line is-{state} {classes}")


def _unread(facts: SourceFacts) -> set[str | None]:
    """Ids of documents that are not read to their end."""
    if facts.position is None:
        return set()
    return {part.document_id for part in facts.parts if part.document_id and part.end > facts.position}


def _failed(facts: SourceFacts) -> list[tuple[str, str]]:
    """(name, reason) of what the last reading could not read although its format is known."""
    if facts.last is None or not isinstance(facts.last.result, ReadReceipt):
        return []
    names = {row.name for row in facts.documents}
    return [(item.name, item.reason) for item in facts.last.result.skipped if item.is_failed and item.name not in names]


def _paths(job: JobRow) -> Sequence[str]:
    return getattr(job.request, "paths", ())
