"""From a session's view to what each control shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.page import answer_settings, conversation, evidence, meter, reading, session_list
from app.page.earlier.window import earlier_button, num_folded
from app.page.markup import carrier, escape, tag
from app.page.panels import ASK_TICK_S, READ_TICK_S, Panels
from app.page.sessions.panel import panel_changes
from app.page.sources.source_list import sources_html
from app.page.turns.waiting_questions import waiting_html
from app.page.view import SessionView, notice_html
from sala_core.store.rows import READING_KINDS

if TYPE_CHECKING:
    from sala_core.session.workspace import JobView, ModelInfo
    from sala_core.store.rows import SessionRow

Changes = dict[Any, Any]
"""Control -> its new value or `gr.update(...)`. Controls that are not in it stay as they are."""


def render_page(
    panels: Panels,
    info: ModelInfo,
    rows: list[SessionRow],
    sizes: Mapping[str, int],
    view: SessionView | None,
    search: str,
    settings: answer_settings.AnswerSettings,
) -> Changes:
    """Every control except the forms.

    Args:
        panels: the page's controls.
        info: the model.
        rows: the sessions to list.
        sizes: bytes of their saved states, by id.
        view: the open session; None for none.
        search: what `rows` were searched for.
        settings: the user's answer settings.
    """
    row = view.row if view is not None else None
    active = view.active if view is not None else None
    chosen = row.id if row is not None and any(each.id == row.id for each in rows) else None
    changes: Changes = {
        panels.session: row.id if row is not None else "",
        panels.job: active.id if active is not None else "",
        panels.pulse: _pulse(active),
        panels.library.sessions: gr.update(choices=session_list.session_choices(rows, sizes), value=chosen),
        panels.library.empty: session_list.empty_html(search, len(rows)),
        panels.header.title: session_list.title_html(row),
        panels.header.actions: gr.update(visible=row is not None),
        **panel_changes(
            panels.sessions,
            pinned=row is not None and row.pinned,
            has_own_model=view is not None and active is None and bool(view.refusal) and view.row.model != info.name,
        ),
        panels.banner: meter.banner_html(info),
        panels.free_space: gr.update(visible=view is not None),
        panels.settings_note: answer_settings.note_html(settings),
        panels.model: meter.model_html(info),
        panels.meter: meter.meter_html(view.meter, at_work=active is not None) if view is not None else "",
    }
    changes |= render_idle(panels)
    if active is not None:
        changes |= render_job(panels, active, view.reading, view.waiting) if view is not None else {}
    changes |= _render_notice(panels, view)
    changes |= _render_talk(panels, view)
    return changes | _render_side(panels, view)


def _render_notice(panels: Panels, view: SessionView | None) -> Changes:
    return {
        panels.notice: notice_html(view),
        panels.continue_work: gr.update(
            visible=view is not None and (view.can_continue or view.offered_question is not None),
            value=_continue_words(view) if view is not None else "",
        ),
        panels.reread: gr.update(visible=view is not None and view.active is None and bool(view.refusal)),
    }


def _continue_words(view: SessionView) -> str:
    if view.offered_question is not None:
        return "Ask again"
    return "Read again" if view.is_freed else "Continue reading"


def _render_talk(panels: Panels, view: SessionView | None) -> Changes:
    talk, box = panels.talk, panels.box
    active = view.active.kind if view is not None and view.active is not None else ""
    turns = {turn.answer_id: turn for turn in view.turns} if view is not None else {}
    before = view.pending_turn if view is not None else ""
    is_asked = active == "ask" and view is not None and view.active is not None and view.active.is_own
    messages = view.messages if view is not None else []
    folded = num_folded(len(messages))
    pending = view.pending_question if view is not None else ""
    documents = len(view.documents) if view is not None else 0
    is_read = view is None or view.row.position >= view.row.num_tokens
    changes: Changes = {
        talk.welcome: conversation.welcome_html(documents, len(messages), active, is_read=is_read),
        talk.history: carrier(
            earlier_button(folded)
            + conversation.history_html(
                messages[folded:], pending, view.outdated if view is not None else {}, turns, before
            )
        ),
        talk.waiting: waiting_html(view.waiting if view is not None else []),
        box.send: gr.update(visible=True),
        box.stop: gr.update(visible=is_asked, value="Stop", interactive=True),
    }
    return changes


def _render_side(panels: Panels, view: SessionView | None) -> Changes:
    side = panels.reading
    is_reading = view is not None and view.reading is not None
    is_own = view is not None and view.reading is not None and view.reading.is_own
    answers = [message for message in view.messages if message.role == "assistant"] if view is not None else []
    passages, cost = "", ""
    if view is not None and answers:
        stats = answers[-1].stats
        is_found = stats is not None and stats.confidence is not None
        by = stats.written_by if stats is not None else None
        given_to = by.engine if by is not None and by.basis == "passages" else ""
        passages = evidence.evidence_html(answers[-1].evidence, answers[-1].id, is_found=is_found, given_to=given_to)
        cost = conversation.cost_html(stats)
    changes: Changes = {
        side.stop: gr.update(visible=is_reading and is_own, value="Stop reading", interactive=True),
        side.receipt: reading.receipt_html(view.last_reading) if view is not None and not is_reading else "",
        panels.documents: sources_html(view.listed) if view is not None and view.listed is not None else "",
        side.watch: reading.watch_update(view),
        side.watch_note: reading.watch_note_html(view.sources, view.watch_note) if view is not None else "",
        panels.evidence: passages,
        panels.cost: cost,
        panels.evidence_heading: gr.update(visible=bool(passages)),
    }
    return changes


def _pulse(active: JobView | None) -> gr.Timer:
    """The fast timer. It is always started; the handler `pulse` stops it if no job runs."""
    return gr.Timer(READ_TICK_S if active is not None and active.kind in READING_KINDS else ASK_TICK_S, active=True)


def render_job(
    panels: Panels, job: JobView, reading_job: JobView | None = None, waiting: Sequence[JobView] = ()
) -> Changes:
    """The controls that change while a job runs: the answer, or the progress of the reading.

    Args:
        panels: the page's controls.
        job: what runs.
        reading_job: the reading that is suspended while `job`, a question, is answered; None for none.
        waiting: the questions behind it.
    """
    if job.kind in READING_KINDS:
        return {panels.reading.progress: reading.progress_html(job)}
    talk = panels.talk
    changes: Changes = {
        talk.live: carrier(conversation.live_html(job)),
        talk.status: conversation.live_status_html(job),
        talk.waiting: waiting_html(waiting),
    }
    if reading_job is not None:
        changes[panels.reading.progress] = reading.progress_html(reading_job)
    return changes


def render_idle(panels: Panels) -> Changes:
    """The same controls while no job runs."""
    talk = panels.talk
    return {part: "" for part in (talk.live, talk.status, talk.waiting, panels.reading.progress)}


def toast_html(words: str, number: int) -> str:
    """A short message that disappears by itself. number: counts messages, so that the same one is shown again."""
    return tag("div", escape(words), class_=f"toast toast-{number % 2}", role="alert")
