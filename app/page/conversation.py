"""The conversation: finished turns, the turn being written, and the question box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import gradio as gr

from app import wording
from app.page.markdown.parser import parse, render
from app.page.markdown.quotations import mark_quotations
from app.page.markdown.streaming import GrowingMarkdown
from app.page.markdown.writer import write
from app.page.markup import block, escape, tag
from app.page.source_viewer.places import places_html
from app.page.turns.queue_words import waiting_words
from app.page.turns.tools import note_html, tools_html
from sala_core.events import AnswerStats, PromptProgress, Quotation

if TYPE_CHECKING:
    from sala_core.session.workspace import JobView
    from sala_core.store.rows import MessageRow
    from sala_core.store.turns.operations import TurnRow

_ENDINGS = {
    "stopped": "Stopped here.",
    "length": "Cut at the length limit.",
    "repetition": "Ended here, because the model only repeated itself. The copies are left out.",
}


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """The scrolling part of the middle column. `history`, `live` and `waiting` are shown by talk.js."""

    welcome: gr.Markdown
    history: gr.Markdown
    status: gr.Markdown
    live: gr.Markdown
    waiting: gr.Markdown


@dataclass(frozen=True, kw_only=True)
class QuestionBox:
    """The controls below the conversation."""

    question: gr.Textbox
    send: gr.Button
    stop: gr.Button


def build_conversation() -> Conversation:
    """Lay out the scrolling part: welcome, finished turns, and the turn being written."""
    with gr.Column(elem_id="scroller"), gr.Column(elem_id="thread"):
        welcome = gr.Markdown("", elem_id="welcome", latex_delimiters=[])
        history = gr.Markdown("", elem_id="history", latex_delimiters=[])
        live = gr.Markdown("", elem_id="live", latex_delimiters=[])
        status = gr.Markdown("", elem_id="live-status", latex_delimiters=[])
        waiting = gr.Markdown("", elem_id="waiting", latex_delimiters=[])
    return Conversation(welcome=welcome, history=history, status=status, live=live, waiting=waiting)


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
        gr.Button("Questions", size="sm", scale=0, min_width=0, elem_id="open-questions")
        send = gr.Button("Ask", variant="primary", size="sm", scale=0, min_width=84, elem_id="send")
        stop = gr.Button("Stop", variant="stop", size="sm", scale=0, min_width=84, visible=False, elem_id="stop")
    return QuestionBox(question=question, send=send, stop=stop)


def history_html(
    messages: Sequence[MessageRow],
    pending_question: str = "",
    outdated: Mapping[str, tuple[str, ...]] | None = None,
    turns: Mapping[str, TurnRow] | None = None,
    before: str = "",
) -> str:
    """Finished turns. An answer's thinking comes before it, collapsed.

    Args:
        messages: of the session.
        pending_question: the one that is being answered; "" for none.
        outdated: by message id, what answers refer to that is not in the session any more.
        turns: by the id of the answer, the turns.
        before: id of the turn in whose place the pending question is asked: it and what follows it are not shown then.
    """
    former, shown, question = outdated or {}, [], ""
    for message in messages:
        if before and before == message.id:
            break
        if message.role == "user":
            question = message.text
            shown.append(question_html(message.text))
        else:
            tools = tools_html((turns or {}).get(message.id), question)
            shown.append(answer_html(message, former.get(message.id, ()), tools))
    if pending_question:
        shown.append(question_html(pending_question))
    return "".join(shown)


def question_html(text: str) -> str:
    """A question, with its line breaks."""
    return tag("article", tag("div", render(text, breaks=True), class_="message"), class_="turn user-row")


def answer_html(message: MessageRow, outdated: tuple[str, ...] = (), turn_tools: str = "") -> str:
    """A finished answer with its thinking. Its verified quotations are marked with their place.

    outdated: what it refers to that is not in the session any more. turn_tools: HTML of what can be done with its turn.
    """
    stats = message.stats or AnswerStats()
    thinking = ""
    if message.thinking.strip():
        title = wording.thought_for(stats.seconds_thinking, stats.thinking_end)
        thinking = _thinking_html(title, _rendered(message.thinking))
    shown = _rendered(message.text, stats.quotations)
    if not message.text.strip():
        shown = tag("p", "No answer was written. Regenerate it, or delete the turn.", class_="ending")
    ending = _ENDINGS.get(stats.finish_reason, "")
    note = (tag("p", ending, class_="ending") if ending else "") + note_html(stats)
    note += tag("p", escape(f"Answered from {', '.join(outdated)}."), class_="ending") if outdated else ""
    copy = tag("button", "Copy answer", type="button", class_="copy", data_copy=message.text)
    tools = tag("div", copy if message.text.strip() else "", turn_tools, class_="tools")
    message_part, places = tag("div", shown, note, class_="message"), places_html(message.evidence)
    return tag("article", thinking, message_part, places, tools, class_="turn bot-row", data_message=message.id)


@lru_cache(maxsize=512)
def _rendered(text: str, quotations: tuple[Quotation, ...] = ()) -> str:
    tokens = parse(text)
    mark_quotations(tokens, quotations)
    return write(tokens)


def _thinking_html(title: str, shown: str) -> str:
    return tag("details", tag("summary", title), tag("div", shown, class_="thought"), class_="thinking")


def live_html(job: JobView) -> str:
    """The answer that is being written, with its thinking; '' until the first word."""
    if not job.text and not job.thinking.strip():
        return ""
    shown = _growing(job.id, "text").render(job.text)
    thinking = ""
    if job.thinking.strip():
        thinking = _thinking_html(thinking_title(job), _growing(job.id, "thinking").render(job.thinking))
    return tag("article", thinking, tag("div", shown, class_="message"), class_="turn bot-row")


@lru_cache(maxsize=16)
def _growing(job_id: str, part: str) -> GrowingMarkdown:
    """The rendered state of a running job's text or thinking. All windows share it."""
    return GrowingMarkdown()


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


def live_status_html(job: JobView) -> str:
    """What the model does until the first word arrives; '' afterwards."""
    if job.status == "queued":
        words = waiting_words(job.waiting)
    elif not job.is_own:
        words = "Asked by a command or another window"
    elif job.text or job.thinking:
        return ""
    else:
        done, total = (job.progress.tokens_done, job.progress.tokens_total) if job.progress is not None else (0, 0)
        words = (
            f"Reading {wording.count(done)} of {wording.count(total)} tokens" if total > 64 else "Reading the question"
        )
        if isinstance(job.progress, PromptProgress) and job.progress.reader:
            done_words = f"{wording.count(done)} of " if done else ""
            words = f"{job.progress.reader} reads {done_words}{wording.plural(total, 'token')}. {job.progress.note}"
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
        head, text = "Reading", "You can close this window; the reading goes on. You can ask meanwhile."
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
            class_="welcome welcome-ready",
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
