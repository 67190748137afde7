"""Sources: what to read, the progress of a reading, its receipt, and the session's documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from app import wording
from app.page.markup import block, escape, tag
from app.page.turns.queue_words import waiting_words
from sala_core.events import ReadPhase, ReadPlan, ReadProgress, ReadReceipt

if TYPE_CHECKING:
    from app.page.view import SessionView
    from sala_core.session.workspace import JobView
    from sala_core.store.rows import JobRow, SourceRow

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
    plan: gr.Markdown
    path: gr.Textbox
    read_path: gr.Button
    watch: gr.Checkbox
    watch_note: gr.Markdown
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
            placeholder="/path/to/a/folder or https://…",
            label="Path of a folder or file, or an address",
            show_label=False,
            container=False,
            elem_id="path",
        )
        read_path = gr.Button("Read", size="sm", scale=0, min_width=72, elem_id="read-path")
    watch = gr.Checkbox(
        False, label="Watch this folder", container=False, interactive=True, visible=False, elem_id="watch-folder"
    )
    watch_note = gr.Markdown("", elem_id="watch-note", latex_delimiters=[])
    plan = gr.Markdown("", elem_id="plan", latex_delimiters=[])
    gr.Markdown("", elem_id="upload", latex_delimiters=[])
    progress = gr.Markdown("", elem_id="progress", latex_delimiters=[])
    stop = gr.Button("Stop reading", size="sm", visible=False, elem_id="stop-reading")
    receipt = gr.Markdown("", elem_id="receipt", latex_delimiters=[])
    return ReadingPanel(
        upload_target=upload_target,
        plan=plan,
        path=path,
        read_path=read_path,
        watch=watch,
        watch_note=watch_note,
        progress=progress,
        stop=stop,
        receipt=receipt,
    )


def progress_html(job: JobView) -> str:
    """The running reading: phase, file, a bar, tokens, speed and time left."""
    progress = job.progress
    if job.status == "queued" or not isinstance(progress, ReadProgress):
        is_behind = job.waiting is not None and (job.waiting.place > 1 or job.waiting.seconds != 0)
        words = waiting_words(job.waiting) if is_behind else "Waiting for the model"
        return block(tag("p", words, class_="phase"), "<progress></progress>", class_="progress")
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
        "" if job.is_own else tag("p", "Read by a command, which can stop it.", class_="progress-facts"),
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
    if receipt.tokens_shared:
        shared = wording.plural(receipt.tokens_shared, "token")
        words.append(f"shared with {receipt.shared_with}: {shared} not read again")
    elif receipt.tokens_reused:
        words.append(f"{wording.count(receipt.tokens_reused)} known already")
    head = "Stopped; what was read is kept" if receipt.stopped else "Reading finished"
    parts = [tag("p", tag("strong", head), tag("span", escape(" · ".join(words))), class_="receipt-head")]
    parts.extend(_changes(receipt.plan))
    skipped = [(item.name, item.reason) for item in receipt.skipped]
    parts.extend(_listing(f"{wording.plural(len(skipped), 'file')} skipped", skipped))
    warnings = [("", warning) for warning in receipt.warnings]
    parts.extend(_listing(wording.plural(len(warnings), "warning"), warnings))
    return block(*parts, class_="receipt")


def _changes(plan: ReadPlan) -> list[str]:
    """What a reading has replaced, taken out, or found to be gone; nothing where files were only new."""
    again = f"replaced, {wording.plural(plan.tokens_again, 'token')} read again"
    rows = [(name, again) for name in plan.changed]
    rows += [(name, "removed") for name in plan.removed]
    rows += [(name, "moved") for name in plan.moved]
    rows += [(name, "gone; its text stays until you remove it") for name in plan.gone]
    return _listing(wording.plural(len(rows), "change"), rows)


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


def watch_update(view: SessionView | None) -> dict[str, Any]:
    """The switch "Watch this folder": there for a session that was read from a folder of this computer."""
    return gr.update(visible=view is not None and bool(view.watchable), value=view is not None and view.is_watched)


def watch_note_html(sources: Sequence[SourceRow], note: str) -> str:
    """The line under the switch: what hinders the watching, or why files that were dropped are not watched."""
    if not note and any(source.is_upload for source in sources):
        note = "Browsers do not tell where dropped files are: drop a changed file again, or read it by its path."
    return block(tag("p", escape(note)), class_="hint") if note else ""
