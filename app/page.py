"""The page: three columns over one workspace. Work runs in jobs; the page submits them and tails them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from app.handlers import Handlers
from app.panels import Panels, build_panels
from app.theme import page_options

if TYPE_CHECKING:
    from sala_core.workspace import Workspace

__all__ = ["build_page", "page_options"]

IDLE_TICK_S = 1.0
# Gradio's queue sums up its last 10,000 events with pandas after every event; a ticking page can not afford that.
_QUEUE_LIMITS = {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**12)}


def build_page(workspace: Workspace) -> gr.Blocks:
    """The page over `workspace`, for `gr.mount_gradio_app(app, page, path, **page_options())`."""
    os.environ.update(_QUEUE_LIMITS)
    with gr.Blocks(title="Sala", analytics_enabled=False, fill_width=True) as page:
        panels = build_panels()
        Wiring(panels, Handlers(workspace, panels)).connect(page, gr.Timer(IDLE_TICK_S))
    page.queue(default_concurrency_limit=None, api_open=False)
    return page


class Wiring:
    """Which control calls which handler."""

    def __init__(self, panels: Panels, handlers: Handlers) -> None:
        self._panels = panels
        self._handlers = handlers
        self._outputs = panels.outputs()
        self._here: list[Component] = [panels.session, panels.library.search]

    def connect(self, page: gr.Blocks, clock: gr.Timer) -> None:
        """Add every event to the `gr.Blocks` that is open."""
        panels, handlers = self._panels, self._handlers
        self._on(page.load, handlers.load, [])
        gr.on(
            [clock.tick, panels.session.change, panels.job.change],
            handlers.follow,
            [panels.session, panels.job, panels.stamp, panels.library.search],
            self._outputs,
            trigger_mode="once",
            show_progress="hidden",
            api_visibility="private",
        )
        self._connect_library()
        self._connect_header()
        self._connect_reading()
        self._connect_talk()

    def _connect_library(self) -> None:
        library, handlers = self._panels.library, self._handlers
        self._on(library.new.click, handlers.new, [])
        self._on(library.sessions.select, handlers.open, [library.search])
        self._on(library.search.change, handlers.search, self._here, trigger_mode="always_last")

    def _connect_header(self) -> None:
        header, handlers = self._panels.header, self._handlers
        self._on(header.rename.click, handlers.ask_name, self._here)
        for trigger in (header.save_name.click, header.new_name.submit):
            self._on(trigger, handlers.rename, [*self._here, header.new_name])
        self._on(header.delete.click, handlers.ask_delete, self._here)
        self._on(header.confirm_delete.click, handlers.delete, self._here)
        for trigger in (header.keep_name.click, header.keep.click):
            self._on(trigger, handlers.close_forms, [])

    def _connect_reading(self) -> None:
        panels, handlers = self._panels, self._handlers
        reading = panels.reading
        self._on(reading.files.upload, handlers.read_uploads, [panels.session, reading.files])
        for trigger in (reading.read_path.click, reading.path.submit):
            self._on(trigger, handlers.read_path, [panels.session, reading.path])
        self._on(reading.stop.click, handlers.stop, [panels.session, panels.job])
        self._on(panels.go_on.click, handlers.go_on, [panels.session])
        self._on(panels.reread.click, handlers.reread, [panels.session])

    def _connect_talk(self) -> None:
        panels, handlers = self._panels, self._handlers
        box = panels.box
        for trigger in (box.send.click, box.question.submit):
            self._on(trigger, handlers.ask, [panels.session, box.question])
        self._on(box.stop.click, handlers.stop, [panels.session, panels.job])

    def _on(
        self,
        trigger: Callable[..., Any],
        handler: Callable[..., Any],
        inputs: list[Component],
        **options: Any,
    ) -> None:
        trigger(handler, inputs, self._outputs, show_progress="hidden", api_visibility="private", **options)
