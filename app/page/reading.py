"""Sources: what to read, the progress of a reading, its receipt, and the session's documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from app import wording
from app.page.markup import block, escape, tag
from sala_core.events import ReadPhase, ReadProgress, ReadReceipt

if TYPE_CHECKING:
    from sala_core.session.workspace import JobView
    from sala_core.store.rows import DocumentRow, JobRow

MAX_LISTED = 200
MAX_UNFOLDED = 3
"""Longer lists of skipped files or warnings are shown folded."""
_PHASES: dict[ReadPhase, str] = {
    "preparing": "Preparing",
    "restoring": "Picking up where it stopped",
    "reading": "Reading",
}


@dataclass(frozen=True, kw_only=True)
class ReadingPanel:
    """The right column's controls.

    `upload_target` is hidden: upload.js writes into it the session that reads what was uploaded.
    """

    upload_target: gr.Textbox
    path: gr.Textbox
    read_path: gr.Button
    progress: gr.Markdown
    stop: gr.Button
    receipt: gr.Markdown


def build() -> ReadingPanel:
    """Lay out the right column's upper part."""
    gr.Markdown("## Sources", elem_classes="panel-heading")
    upload_target = gr.Textbox("", visible="hidden", elem_id="upload-target")
    gr.Button("Drop books, PDFs, code or whole folders here\nor click to choose files", elem_id="drop")
    gr.Button("Choose a folder", size="sm", elem_id="choose-folder")
    with gr.Row(elem_id="path-row"):
        path = gr.Textbox(
            placeholder="/path/to/a/folder",
            label="Path of a folder or file",
            show_label=False,
            container=False,
            elem_id="path",
        )
        read_path = gr.Button("Read", size="sm", scale=0, min_width=72, elem_id="read-path")
    gr.Markdown("", elem_id="upload", latex_delimiters=[])
    progress = gr.Markdown("", elem_id="progress", latex_delimiters=[])
    stop = gr.Button("Stop reading", size="sm", visible=False, elem_id="stop-reading")
    receipt = gr.Markdown("", elem_id="receipt", latex_delimiters=[])
    return ReadingPanel(
        upload_target=upload_target, path=path, read_path=read_path, progress=progress, stop=stop, receipt=receipt
    )


def progress_html(job: JobView) -> str:
    """The running reading: phase, file, a bar, tokens, speed and time left."""
    progress = job.progress
    if job.status == "queued" or not isinstance(progress, ReadProgress):
        return block(tag("p", "Waiting for the model", class_="phase"), "<progress></progress>", class_="progress")
    done, total = progress.tokens_done, progress.tokens_total
    is_counted = bool(total) and progress.phase != "preparing"
    bar = f'<progress max="{total}" value="{done}"></progress>' if is_counted else "<progress></progress>"
    head = [tag("span", escape(_PHASES[progress.phase]), class_="phase")]
    if is_counted:
        head.append(tag("span", f"{done / total:.0%}", class_="percent"))
    facts = _facts(progress) if progress.phase != "preparing" else []
    if progress.files_total > 1:
        facts.insert(0, f"file {min(progress.files_done + 1, progress.files_total)} of {progress.files_total}")
    return block(
        tag("p", *head, class_="progress-head"),
        bar,
        tag("p", escape(progress.file), class_="progress-file"),
        tag("p", escape(" · ".join(facts)), class_="progress-facts"),
        class_="progress",
    )


def _facts(progress: ReadProgress) -> list[str]:
    facts = [f"{wording.count(progress.tokens_done)} of {wording.count(progress.tokens_total)} tokens"]
    if progress.tokens_per_s:
        facts.append(f"{wording.count(round(progress.tokens_per_s))} tokens/s")
    if progress.seconds_left is not None:
        facts.append(f"{wording.duration(progress.seconds_left)} left")
    return facts


def receipt_html(job: JobRow | None) -> str:
    """The receipt of the last reading: counts, warnings, and every skipped file with its reason."""
    if job is None or not isinstance(job.result, ReadReceipt):
        return ""
    receipt = job.result
    words = [wording.plural(receipt.files, "file")]
    if receipt.pages:
        words.append(wording.plural(receipt.pages, "page"))
    words.append(f"{wording.count(receipt.tokens_read)} tokens read in {wording.duration(receipt.seconds)}")
    if receipt.tokens_reused:
        words.append(f"{wording.count(receipt.tokens_reused)} known already")
    head = "Stopped; what was read is kept" if receipt.stopped else "Reading finished"
    parts = [tag("p", tag("strong", head), tag("span", escape(" · ".join(words))), class_="receipt-head")]
    skipped = [(item.name, item.reason) for item in receipt.skipped]
    parts.extend(_listing(f"{wording.plural(len(skipped), 'file')} skipped", skipped))
    warnings = [("", warning) for warning in receipt.warnings]
    parts.extend(_listing(wording.plural(len(warnings), "warning"), warnings))
    return block(*parts, class_="receipt")


def _listing(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    items = [
        tag(
            "li",
            tag("span", escape(name), class_="doc") if name else "",
            tag("span", escape(reason), class_="reason"),
        )
        for name, reason in rows[:MAX_LISTED]
    ]
    if len(rows) > MAX_LISTED:
        items.append(tag("li", f"and {wording.count(len(rows) - MAX_LISTED)} more", class_="hint"))
    unfolded = {"open": ""} if len(rows) <= MAX_UNFOLDED else {}
    return [tag("details", tag("summary", title), tag("ul", *items), class_="listing", **unfolded)]


def documents_html(documents: Sequence[DocumentRow]) -> str:
    """The session's documents, in the order in which they were read."""
    if not documents:
        return ""
    items = [
        tag(
            "li",
            tag("span", escape(row.name), class_="doc"),
            tag("span", _document_facts(row), class_="reason"),
        )
        for row in documents[:MAX_LISTED]
    ]
    if len(documents) > MAX_LISTED:
        items.append(tag("li", f"and {wording.count(len(documents) - MAX_LISTED)} more", class_="hint"))
    head = tag("h3", f"Read in this session <span>{len(documents)}</span>")
    return block(head, tag("ul", *items), class_="documents")


def _document_facts(row: DocumentRow) -> str:
    facts = [wording.plural(row.num_pages, "page")] if row.num_pages else []
    facts.append(f"{wording.short_count(row.num_tokens)} tokens")
    return " · ".join(facts)
