"""The conversation: finished turns, the turn being written, and the question box."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from app import wording
from app.page.markup import block, code_blocks, escape, safe_markdown, tag
from sala_core.events import AnswerStats, Quotation

if TYPE_CHECKING:
    from sala_core.session.workspace import JobView
    from sala_core.store.rows import MessageRow

_ENDINGS = {
    "stopped": "Stopped here.",
    "length": "Cut at the length limit.",
    "repetition": "Ended here, because the model only repeated itself. The copies are left out.",
}
_CLOSING_QUOTES = "\"'”’»“`*_"


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """The scrolling part of the middle column."""

    welcome: gr.Markdown
    history: gr.Chatbot
    status: gr.Markdown
    thinking_box: gr.Accordion
    thinking: gr.Markdown
    live: gr.Markdown


@dataclass(frozen=True, kw_only=True)
class QuestionBox:
    """The controls below the conversation. `settings` opens the form above them."""

    question: gr.Textbox
    settings: gr.Button
    send: gr.Button
    stop: gr.Button


def build_conversation() -> Conversation:
    """Lay out the scrolling part: welcome, finished turns, and the turn being written."""
    with gr.Column(elem_id="scroller"), gr.Column(elem_id="thread"):
        welcome = gr.Markdown("", elem_id="welcome")
        history = gr.Chatbot(
            [],
            label="Conversation",
            show_label=False,
            container=False,
            height="auto",
            autoscroll=False,
            layout="bubble",
            buttons=["copy"],
            feedback_options=None,
            sanitize_html=True,
            allow_tags=False,
            group_consecutive_messages=False,
            allow_file_downloads=False,
            elem_id="history",
        )
        with gr.Accordion("Thinking", open=False, visible=False, elem_id="live-thinking") as thinking_box:
            thinking = gr.Markdown("", latex_delimiters=[])
        live = gr.Markdown("", elem_id="live")
        status = gr.Markdown("", elem_id="live-status", latex_delimiters=[])
    return Conversation(
        welcome=welcome,
        history=history,
        status=status,
        thinking_box=thinking_box,
        thinking=thinking,
        live=live,
    )


def build_question_box() -> QuestionBox:
    """Lay out the question box with Ask and Stop."""
    with gr.Row(elem_id="composer"):
        question = gr.Textbox(
            placeholder="Ask about what was read",
            label="Question",
            show_label=False,
            container=False,
            lines=1,
            max_lines=8,
            max_length=20_000,
            scale=1,
            elem_id="question",
        )
        settings = gr.Button("Settings", size="sm", scale=0, min_width=0, elem_id="settings")
        send = gr.Button("Ask", variant="primary", size="sm", scale=0, min_width=84, elem_id="send")
        stop = gr.Button("Stop", variant="stop", size="sm", scale=0, min_width=84, visible=False, elem_id="stop")
    return QuestionBox(question=question, settings=settings, send=send, stop=stop)


def history_messages(messages: Sequence[MessageRow], pending_question: str = "") -> list[dict[str, Any]]:
    """Finished turns in the format of `gr.Chatbot`. An answer's thinking comes before it, collapsed."""
    shown: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "user":
            shown.append({"role": "user", "content": safe_markdown(message.text)})
            continue
        if message.thinking.strip():
            stats = message.stats or AnswerStats()
            words = wording.thought_for(stats.seconds_thinking, stats.thinking_end)
            title = {"title": words, "status": "done"}
            shown.append({"role": "assistant", "content": safe_markdown(message.thinking), "metadata": title})
        shown.append({"role": "assistant", "content": answer_markdown(message)})
    if pending_question:
        shown.append({"role": "user", "content": safe_markdown(pending_question)})
    return shown


def answer_markdown(message: MessageRow) -> str:
    """A finished answer. Its verified quotations are marked with their place."""
    stats = message.stats or AnswerStats()
    text = mark_quotations(safe_markdown(message.text), stats.quotations)
    if not text.strip():
        text = "*No answer was written.*"
    ending = _ENDINGS.get(stats.finish_reason, "")
    return f"{text}\n\n*{ending}*" if ending else text


def cost_html(stats: AnswerStats | None) -> str:
    """The cost of an answer: tokens generated, reused and read, and seconds; '' where nothing is recorded."""
    if stats is None:
        return ""
    words: list[str] = []
    if stats.tokens_generated is not None:
        words.append(f"{wording.plural(stats.tokens_generated, 'token')} written")
    if stats.tokens_reused:
        words.append(f"{wording.count(stats.tokens_reused)} remembered, {wording.count(stats.tokens_read)} read")
    parts = (stats.seconds_load, stats.seconds_prefill, stats.seconds_decode)
    seconds = [part for part in parts if part is not None]
    if seconds:
        words.append(wording.duration(sum(seconds)))
    return block(escape(" · ".join(words)), class_="hint") if words else ""


def mark_quotations(markdown: str, quotations: Sequence[Quotation]) -> str:
    """Put a check mark and the place behind each passage that stands word for word in a source.

    markdown: already made safe. A passage that is not found in it, for example because of formatting, stays unmarked.
    """
    for quotation in quotations:
        position = _end_of(quotation.text, markdown)
        if position is not None:
            markdown = markdown[:position] + _mark(quotation) + markdown[position:]
    return markdown


def _end_of(passage: str, markdown: str) -> int | None:
    """Where the mark of a passage goes: behind its closing quotation mark, or behind its code block."""
    for spelling in (safe_markdown(passage), passage):
        words = [re.escape(word) for word in spelling.split()]
        if not words:
            return None
        match = re.search(r"[\s>]+".join(words) + rf"[.,;:!?]?[{re.escape(_CLOSING_QUOTES)}]*", markdown)
        if match is not None:
            end = match.end()
            return next((code.end() for code in code_blocks(markdown) if code.start() < end < code.end()), end)
    return None


def _mark(quotation: Quotation) -> str:
    page = quotation.page
    short = f"p. {page}" if page is not None else f"line {quotation.line_start}"
    where = wording.place(page, quotation.line_start, quotation.line_end)
    title = f"Stands word for word in {quotation.document}, {where}"
    return f' [✓ {short}](#evidence "{_link_title(title)}")'


def _link_title(text: str) -> str:
    """Text for the title of a Markdown link: without line breaks, and without anything that could close the title."""
    return re.sub(r"[\s\\]+", " ", escape(text))


def live_status_html(job: JobView) -> str:
    """What the model does until the first word arrives; '' afterwards."""
    if job.status == "queued":
        words = "Waiting for the model"
    elif job.text or job.thinking:
        return ""
    else:
        done, total = (job.progress.tokens_done, job.progress.tokens_total) if job.progress is not None else (0, 0)
        words = (
            f"Reading {wording.count(done)} of {wording.count(total)} tokens" if total > 64 else "Reading the question"
        )
    return block(tag("span", class_="pulse"), escape(words), class_="live-status")


def thinking_title(job: JobView) -> str:
    """The title of the thinking while the answer is written: how long it goes on, or how long it took."""
    if not job.is_thinking:
        return wording.thought_for(job.thinking_s)
    return f"Thinking for {wording.duration(job.thinking_s or 0)}"


def welcome_html(num_documents: int, num_messages: int, active_kind: str, *, is_read: bool = True) -> str:
    """The text in place of an empty conversation; '' once there is a conversation.

    Args:
        num_documents, num_messages: of the session.
        active_kind: kind of the running job; '' for none.
        is_read: whether all documents are read.
    """
    if num_messages or active_kind == "ask":
        return ""
    if active_kind:
        head, text = "Reading", "You can close this window; the reading goes on. Ask as soon as it is done."
        return block(tag("h2", head), tag("p", text), class_="welcome")
    if num_documents and not is_read:
        waiting = f"{wording.plural(num_documents, 'document')} waiting, in part or in whole, to be read."
        return block(
            tag("h2", "Not all is read yet"),
            tag("p", f"{waiting} Continue the reading below, or ask: then the rest is read first."),
            class_="welcome",
        )
    if num_documents:
        read = f"{wording.plural(num_documents, 'document')} read from the first word to the last."
        return block(
            tag("h2", "Ready for your questions"),
            tag("p", f"{read} What would you like to know?"),
            class_="welcome",
        )
    steps = (
        (
            "Give it something to read",
            "Drop books, PDFs, code or a whole folder anywhere on this page, or type a folder’s path.",
        ),
        ("It reads all of it, once", "You can watch, stop, close the window. Nothing is read twice."),
        ("Ask", "Each answer shows the pages and lines it rests on."),
    )
    items = (tag("li", tag("strong", head), tag("span", text)) for head, text in steps)
    return block(tag("h2", "What shall we read?"), tag("ol", *items), class_="welcome")
