"""The hidden controls of the turns' buttons, and the line that says that an earlier question is being edited."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr


@dataclass(frozen=True, kw_only=True)
class TurnsPanel:
    """Hidden fields. turns.js writes into the first two, the program into the others.

    action: "ACTION:TURN:NUMBER", where the number counts clicks. editing: id of the turn in whose place the question in
    the box is asked; "" for a new turn. undo: "TURN:NUMBER:WORDS" after a turn was deleted. asked: "NUMBER:QUESTION"
    after a question was taken, which is then removed from the box unless another one stands there by now.
    """

    action: gr.Textbox
    editing: gr.Textbox
    undo: gr.Textbox
    asked: gr.Textbox


def build() -> TurnsPanel:
    """Lay out the hidden fields."""
    action = gr.Textbox("", visible="hidden", elem_id="turn-action")
    editing = gr.Textbox("", visible="hidden", elem_id="turn-editing")
    undo = gr.Textbox("", visible="hidden", elem_id="turn-undo")
    asked = gr.Textbox("", visible="hidden", elem_id="turn-asked")
    return TurnsPanel(action=action, editing=editing, undo=undo, asked=asked)
