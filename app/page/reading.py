"""Sources: what to read, how far the reading is, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from app import wording
from app.page.markup import block, escape, tag

if TYPE_CHECKING:
    from sala_core.session.workspace import JobView
    from sala_core.store.rows import DocumentRow, JobRow

MAX_LISTED = 200
MAX_UNFOLDED = 3
"""Skipped files and warnings are folded away where there are more."""
_PHASES = {"preparing": "Preparing", "restoring": "Picking up where it stopped", "reading": "Reading"}


@dataclass(frozen=True, kw_only=True)
class ReadingPanel:
    """The right column's controls. `given` is invisible: upload.js writes the session there that reads what came."""

    upload_target: gr.Textbox
    path: gr.Textbox
    read_path: gr.Button
    progress: gr.Markdown
    stop: gr.Button
    receipt: gr.Markdown


def build() -> ReadingPanel:
    """Lay out the right column's upper part."""
    gr.Markdown("## Sources", elem_classes="panel-heading")
    upload_target = gr.Textbox("", visible="hidden", elem_id="given")
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
    if job.status == "queued" or not progress:
        return block(tag("p", "Waiting for the model", class_="phase"), "<progress></progress>", class_="progress")
    phase = str(progress.get("phase", "reading"))
    done, total = int(progress.get("tokens_done", 0)), int(progress.get("tokens_total", 0))
    files_done, files_total = int(progress.get("files_done", 0)), int(progress.get("files_total", 0))
    bar = (
        f'<progress max="{total}" value="{done}"></progress>'
        if total and phase != "preparing"
        else "<progress></progress>"
    )
    head = [tag("span", escape(_PHASES.get(phase, phase.capitalize())), class_="phase")]
    if total and phase != "preparing":
        head.append(tag("span", f"{done / total:.0%}", class_="percent"))
    facts = _facts(progress, done, total) if phase != "preparing" else []
    if files_total > 1:
        facts.insert(0, f"file {min(files_done + 1, files_total)} of {files_total}")
    return block(
        tag("p", *head, class_="progress-head"),
        bar,
        tag("p", escape(str(progress.get("file", ""))), class_="progress-file"),
        tag("p", escape(" · ".join(facts)), class_="progress-facts"),
        class_="progress",
    )


def _facts(progress: dict[str, Any], done: int, total: int) -> list[str]:
    facts = [f"{wording.count(done)} of {wording.count(total)} tokens"]
    speed, left = float(progress.get("tokens_per_s") or 0), progress.get("seconds_left")
    if speed:
        facts.append(f"{wording.count(round(speed))} tokens/s")
    if left is not None:
        facts.append(f"{wording.duration(float(left))} left")
    return facts


def receipt_html(job: JobRow | None) -> str:
    """What the last reading brought: counts, warnings, and every skipped file with its reason."""
    if job is None or job.result is None:
        return ""
    result = job.result
    words = [wording.plural(int(result["files"]), "file")]
    if result["pages"]:
        words.append(wording.plural(int(result["pages"]), "page"))
    read, seconds = wording.count(int(result["tokens_read"])), wording.duration(float(result["seconds"]))
    words.append(f"{read} tokens read in {seconds}")
    if result["tokens_reused"]:
        words.append(f"{wording.count(int(result['tokens_reused']))} known already")
    head = "Stopped; what was read is kept" if result["stopped"] else "Reading finished"
    parts = [tag("p", tag("strong", head), tag("span", escape(" · ".join(words))), class_="receipt-head")]
    skipped = [(str(item["name"]), str(item["reason"])) for item in result["skipped"]]
    parts.extend(_listing(f"{wording.plural(len(skipped), 'file')} skipped", skipped))
    warnings = [("", str(warning)) for warning in result["warnings"]]
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
    """The documents of the session in reading order."""
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
