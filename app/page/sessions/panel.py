"""Controls that concern whole sessions: hidden ones for scripts, and buttons beside a session's name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr


@dataclass(frozen=True, kw_only=True)
class SessionsPanel:
    """`open` is hidden: a script writes the id of the session to open into it. `undo` is hidden too: the program writes
    what was deleted into it. `pin` keeps the session at the top; `own_model` loads the model that has read it."""

    open: gr.Textbox
    undo: gr.Textbox
    pin: gr.Button
    own_model: gr.Button


def build_hidden() -> tuple[gr.Textbox, gr.Textbox]:
    """Lay out `open` and `undo`."""
    return (
        gr.Textbox("", visible="hidden", elem_id="open-target"),
        gr.Textbox("", visible="hidden", elem_id="undo-target"),
    )


def build_pin() -> gr.Button:
    """Lay out the button beside the session's name."""
    return gr.Button("Pin", size="sm", scale=0, min_width=0, elem_id="pin")


def build_own_model() -> gr.Button:
    """Lay out the button beside the notice on a session of another model."""
    return gr.Button("Open with its own model", size="sm", scale=0, visible=False, elem_id="own-model")


def panel_changes(panel: SessionsPanel, *, pinned: bool, has_own_model: bool) -> dict[Any, Any]:
    """What the controls show.

    Args:
        panel: the controls.
        pinned: whether the open session is pinned.
        has_own_model: whether the open session was read by another model than the active one.
    """
    return {
        panel.pin: gr.update(value="Unpin" if pinned else "Pin"),
        panel.own_model: gr.update(visible=has_own_model),
    }
