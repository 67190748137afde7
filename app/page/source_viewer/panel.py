"""Where the source viewer is."""

from __future__ import annotations

import gradio as gr


def build() -> None:
    """Lay out the panel; `source_viewer.js` fills it. No handler changes it."""
    gr.Markdown("", elem_id="source", latex_delimiters=[])
