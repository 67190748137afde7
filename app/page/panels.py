"""The controls of the page, each built in its region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr
from gradio.blocks import Block

from app.page import conversation, reading, session_list, space
from app.page.layout import regions
from app.page.sessions import panel as sessions_panel
from app.page.sessions.panel import SessionsPanel
from app.page.source_viewer import panel as source_viewer
from app.page.turns import panel as turns_panel
from app.page.turns.panel import TurnsPanel

IDLE_TICK_S = 1.0
ASK_TICK_S = 0.08
READ_TICK_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Header:
    """The open session's name, what can be done with it, and the form to change its name."""

    title: gr.Markdown
    actions: gr.Row
    rename: gr.Button
    pin: gr.Button
    fork: gr.Button
    delete: gr.Button
    rename_form: gr.Row
    new_name: gr.Textbox
    save_name: gr.Button
    keep_name: gr.Button


@dataclass(frozen=True, kw_only=True)
class RemoveForm:
    """The question before a document is removed. `target` is hidden: page.js writes the document's id into it."""

    target: gr.Textbox
    form: gr.Row
    question: gr.Markdown
    confirm: gr.Button
    keep: gr.Button


@dataclass(frozen=True, kw_only=True)
class Panels:
    """All of the page.

    `session`, `job` and `stamp` are invisible. The browser keeps in them what its window shows, so that the window
    survives a restart of the server. `clock` asks every second whether anything has changed; `pulse` asks many times a
    second while a job runs.
    """

    session: gr.Textbox
    job: gr.Textbox
    stamp: gr.Textbox
    clock: gr.Timer
    pulse: gr.Timer
    toast: gr.Markdown
    library: session_list.LibraryPanel
    meter: gr.Markdown
    free_space: gr.Button
    model: gr.Markdown
    header: Header
    sessions: SessionsPanel
    space: space.SpacePanel
    banner: gr.Markdown
    notice: gr.Markdown
    continue_work: gr.Button
    reread: gr.Button
    talk: conversation.Conversation
    box: conversation.QuestionBox
    settings_note: gr.Markdown
    reading: reading.ReadingPanel
    evidence_heading: gr.Markdown
    evidence: gr.Markdown
    cost: gr.Markdown
    documents: gr.Markdown
    remove: RemoveForm
    turns: TurnsPanel

    def outputs(self) -> list[Block]:
        """Every control, for events that may change any of them."""
        return list(_controls(self))

    def live(self) -> list[Block]:
        """The few controls that change many times a second."""
        talk = self.talk
        words = [talk.status, talk.live, talk.waiting]
        return [self.job, self.pulse, *words, self.reading.progress]


def _controls(group: Any) -> Iterator[Block]:
    for field in fields(group):
        value = getattr(group, field.name)
        if isinstance(value, Block):
            yield value
        else:
            yield from _controls(value)


def build_panels() -> Panels:
    """Lay out the page inside the `gr.Blocks` that is open."""
    session = gr.Textbox("", visible="hidden", elem_id="session-id")
    job = gr.Textbox("", visible="hidden", elem_id="job-id")
    stamp = gr.Textbox("", visible="hidden", elem_id="stamp")
    clock = gr.Timer(IDLE_TICK_S)
    pulse = gr.Timer(ASK_TICK_S, active=False)
    toast = gr.Markdown("", elem_id="toast", latex_delimiters=[])
    open_target, undo = sessions_panel.build_hidden()
    turns = turns_panel.build()
    with regions.frame():
        with regions.banner():
            gr.Markdown(session_list.brand_html(), elem_id="brand", latex_delimiters=[])
            model = gr.Markdown("", elem_id="model", latex_delimiters=[])
            with regions.bar_actions():
                gr.Button("Models", size="sm", scale=0, min_width=0, elem_id="open-models")
                gr.Button("Settings", size="sm", scale=0, min_width=0, elem_id="settings")
                gr.Button("Keyboard", size="sm", scale=0, min_width=0, elem_id="show-keys")
        with regions.navigation():
            library_panel = session_list.build()
            with gr.Column(elem_id="nav-foot"):
                meter = gr.Markdown("", elem_id="meter", latex_delimiters=[])
                free_space = gr.Button("Free space", size="sm", visible=False, elem_id="free-space")
                gr.Button("Bin", size="sm", min_width=0, elem_id="open-bin")
        with regions.conversation():
            header = _build_header()
            space_panel = space.build()
            banner = gr.Markdown("", elem_id="banner", latex_delimiters=[])
            talk = conversation.build_conversation()
            with gr.Row(elem_id="notice-row"):
                notice = gr.Markdown("", elem_id="notice", latex_delimiters=[])
                continue_work = gr.Button("Continue reading", size="sm", scale=0, visible=False, elem_id="continue")
                reread = gr.Button("Read again", size="sm", scale=0, visible=False, elem_id="reread")
                own_model = sessions_panel.build_own_model()
            box = conversation.build_question_box()
            settings_note = gr.Markdown("", elem_id="settings-note", latex_delimiters=[])
        regions.tabs()
        with regions.complementary():
            with regions.side_panel("evidence"):
                evidence_heading = gr.Markdown("## Evidence", visible=False, elem_classes="panel-heading")
                evidence = gr.Markdown("", elem_id="evidence", latex_delimiters=[])
                cost = gr.Markdown("", elem_id="cost", latex_delimiters=[])
            with regions.side_panel("source"):
                source_viewer.build()
            with regions.side_panel("sources"):
                reading_panel = reading.build()
                remove = _build_remove_form()
                documents = gr.Markdown("", elem_id="documents", latex_delimiters=[])
    return Panels(
        session=session,
        job=job,
        stamp=stamp,
        clock=clock,
        pulse=pulse,
        toast=toast,
        library=library_panel,
        meter=meter,
        free_space=free_space,
        model=model,
        header=header,
        sessions=SessionsPanel(open=open_target, undo=undo, pin=header.pin, own_model=own_model),
        space=space_panel,
        banner=banner,
        notice=notice,
        continue_work=continue_work,
        reread=reread,
        talk=talk,
        box=box,
        settings_note=settings_note,
        reading=reading_panel,
        documents=documents,
        remove=remove,
        turns=turns,
        evidence_heading=evidence_heading,
        evidence=evidence,
        cost=cost,
    )


def _build_remove_form() -> RemoveForm:
    target = gr.Textbox("", visible="hidden", elem_id="remove-target")
    with gr.Row(elem_id="remove-form", elem_classes="form-row", visible=False) as form:
        question = gr.Markdown("", latex_delimiters=[])
        confirm = gr.Button("Remove", variant="stop", size="sm", scale=0, min_width=72, elem_id="confirm-remove")
        keep = gr.Button("Keep", size="sm", scale=0, min_width=72, elem_id="keep-source")
    return RemoveForm(target=target, form=form, question=question, confirm=confirm, keep=keep)


def _build_header() -> Header:
    with gr.Row(elem_id="header"):
        title = gr.Markdown("", elem_id="title", latex_delimiters=[])
        with gr.Row(elem_id="session-actions", visible=False) as actions:
            rename = gr.Button("Rename", size="sm", scale=0, min_width=0, elem_id="rename")
            pin = sessions_panel.build_pin()
            fork = gr.Button("Fork", size="sm", scale=0, min_width=0, elem_id="fork")
            gr.Button("Export", size="sm", scale=0, min_width=0, elem_id="open-export")
            delete = gr.Button("Delete", size="sm", scale=0, min_width=0, elem_id="delete")
    with gr.Row(elem_id="rename-form", elem_classes="form-row", visible=False) as rename_form:
        new_name = gr.Textbox(label="New name", show_label=False, container=False, max_length=120, elem_id="new-name")
        save_name = gr.Button("Save", variant="primary", size="sm", scale=0, min_width=72, elem_id="save-name")
        keep_name = gr.Button("Cancel", size="sm", scale=0, min_width=72)
    return Header(
        title=title,
        actions=actions,
        rename=rename,
        pin=pin,
        fork=fork,
        delete=delete,
        rename_form=rename_form,
        new_name=new_name,
        save_name=save_name,
        keep_name=keep_name,
    )
