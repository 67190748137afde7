"""The regions that controls are built in. `layout.js` gives them their roles and makes the tabs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import gradio as gr


@dataclass(frozen=True, kw_only=True)
class SidePanel:
    """A panel of the right side. name: its element is `panel-NAME`. title: the name of its tab."""

    name: str
    title: str


SIDE_PANELS = (
    SidePanel(name="evidence", title="Evidence"),
    SidePanel(name="source", title="Source"),
    SidePanel(name="sources", title="Sources"),
)
"""In the order of their tabs."""
_TITLES = {panel.name: panel.title for panel in SIDE_PANELS}


def layout_script() -> str:
    """The script that tells `layout.js` the panels."""
    return f"window.salaPanels = {json.dumps([asdict(panel) for panel in SIDE_PANELS])};"


def frame() -> gr.Row:
    """The whole page; the regions are built inside."""
    return gr.Row(elem_id="frame")


def banner() -> gr.Row:
    """The bar at the top."""
    return gr.Row(elem_id="bar")


def bar_actions() -> gr.Row:
    """The buttons at the right end of the bar."""
    return gr.Row(elem_id="bar-actions")


def navigation() -> gr.Column:
    """The left side: sessions."""
    return gr.Column(elem_id="nav", min_width=0)


def conversation() -> gr.Column:
    """The middle: conversation and question box."""
    return gr.Column(elem_id="main", min_width=0)


def tabs() -> gr.Markdown:
    """The place of the tabs. `layout.js` makes them."""
    return gr.Markdown("", elem_id="tabs", latex_delimiters=[])


def complementary() -> gr.Column:
    """The right side: one panel at a time."""
    return gr.Column(elem_id="side", min_width=0)


def side_panel(name: str) -> gr.Column:
    """A panel of the right side. name: one of SIDE_PANELS; raises KeyError for another."""
    assert _TITLES[name]
    return gr.Column(elem_id=f"panel-{name}", elem_classes="side-panel", min_width=0)


def sheets() -> gr.Column:
    """The place of forms over the page."""
    return gr.Column(elem_id="sheets")


def sheet(name: str, title: str) -> gr.Column:
    """A form over the page, hidden. Its heading is `title`; its last button closes it."""
    form = gr.Column(elem_id=name, elem_classes="sheet", visible=False)
    with form:
        gr.Markdown(f"## {title}", elem_classes="panel-heading")
    return form
