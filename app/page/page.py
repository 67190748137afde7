"""The page: three columns over one workspace. Work runs in jobs, which the page submits and follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from app.page.handlers import Handlers
from app.page.panels import Panels, build_panels
from app.page.theme import page_options

if TYPE_CHECKING:
    from app.page.reading_plan.plans import Plans
    from sala_core.session.workspace import Workspace

__all__ = ["build_page", "page_options"]

QUEUE_POLL_S = 0.5


def build_page(workspace: Workspace, plans: Plans | None = None) -> gr.Blocks:
    """Build the page over `workspace`, for `gr.mount_gradio_app(app, page, path, **page_options())`.

    plans: of readings, shared with the server's routes; None for its own.
    """
    with gr.Blocks(title="Sala", analytics_enabled=False, fill_width=True) as page:
        panels = build_panels()
        Wiring(panels, Handlers(workspace, panels, plans)).connect(page)
    page.queue(api_open=False)
    # Nothing is ever queued, but Gradio polls its queue 1,000 times a second, which takes 6% of a core from the model.
    page._queue.sleep_when_free = page._queue.progress_update_sleep_when_free = QUEUE_POLL_S
    return page


class Wiring:
    """Which control calls which handler.

    No event uses Gradio's queue. Handlers are short, and the queue answers through an event stream: if the stream is
    closed and opened at the same moment, an answer can be lost, and the page waits forever.
    """

    def __init__(self, panels: Panels, handlers: Handlers) -> None:
        self._panels = panels
        self._handlers = handlers
        self._outputs = panels.outputs()
        self._here: list[Component] = [panels.session, panels.library.search]

    def connect(self, page: gr.Blocks) -> None:
        """Add every event to the `gr.Blocks` that is open."""
        panels, handlers = self._panels, self._handlers
        self._on([page.load], handlers.load, [])
        changes = [panels.clock.tick, panels.session.change, panels.job.change]
        known: list[Component] = [panels.session, panels.job, panels.stamp, panels.library.search]
        self._on(changes, handlers.watch, known, trigger_mode="always_last")
        self._on([panels.pulse.tick], handlers.pulse, [panels.session, panels.job], panels.live(), trigger_mode="once")
        self._connect_library()
        self._connect_header()
        self._connect_reading()
        self._connect_talk()
        self._connect_forms()

    def _connect_library(self) -> None:
        library, handlers = self._panels.library, self._handlers
        self._on([library.new.click], handlers.new, [])
        self._on([library.sessions.select], handlers.open, [library.search])
        self._on([library.search.change], handlers.search, self._here, trigger_mode="always_last")

    def _connect_header(self) -> None:
        header, handlers = self._panels.header, self._handlers
        self._on([header.rename.click], handlers.ask_name, self._here)
        self._on([header.save_name.click, header.new_name.submit], handlers.rename, [*self._here, header.new_name])
        self._on([header.fork.click], handlers.fork, self._here, trigger_mode="once")
        self._on([header.keep_name.click], handlers.close_forms, [])
        sessions, panel = handlers.sessions, self._panels.sessions
        self._on([panel.open.change], sessions.open, [panel.open, self._panels.library.search])
        self._on([panel.pin.click], sessions.pin, self._here)
        self._on([header.delete.click], sessions.delete, self._here, trigger_mode="once")
        self._on([panel.own_model.click], sessions.use_own_model, [self._panels.session], trigger_mode="once")

    def _connect_reading(self) -> None:
        panels, handlers = self._panels, self._handlers
        reading = panels.reading
        self._on([reading.upload_target.change], handlers.follow, [panels.session, reading.upload_target])
        self._on([reading.read_path.click, reading.path.submit], handlers.read_path, [panels.session, reading.path])
        self._on([reading.stop.click], handlers.stop_reading, [panels.session])
        self._on([panels.continue_work.click], handlers.continue_work, [panels.session])
        self._on([panels.reread.click], handlers.reread, [panels.session])

    def _connect_talk(self) -> None:
        panels, handlers = self._panels, self._handlers
        box = panels.box
        asked: list[Component] = [panels.session, box.question, panels.turns.editing]
        self._on([box.send.click, box.question.submit], handlers.ask, asked)
        self._on([box.stop.click], handlers.stop, [panels.session, panels.job, box.question])
        target: list[Component] = [panels.session, panels.turns.action, panels.library.search]
        self._on([panels.turns.action.change], handlers.turns.act, target)

    def _connect_forms(self) -> None:
        panels, space = self._panels, self._handlers.space
        self._on([panels.free_space.click], space.open, [])
        self._on([panels.space.choice.input], space.choose, [panels.space.choice], trigger_mode="always_last")
        self._on([panels.space.free.click], space.free, [*self._here, panels.space.choice], trigger_mode="once")
        self._on([panels.space.keep.click], space.close, [])
        self._connect_sources()

    def _connect_sources(self) -> None:
        panels, sources = self._panels, self._handlers.sources
        target: list[Component] = [panels.session, panels.remove.target]
        self._on([panels.remove.target.change], sources.press, target)
        self._on([panels.remove.confirm.click], sources.remove, target, trigger_mode="once")
        self._on([panels.remove.keep.click], sources.close, [])
        self._on([panels.reading.watch.input], sources.watch, [panels.session, panels.reading.watch])

    def _on(
        self,
        triggers: list[Callable[..., Any]],
        handler: Callable[..., Any],
        inputs: list[Component],
        outputs: list[Block] | None = None,
        trigger_mode: Literal["once", "multiple", "always_last"] | None = None,
    ) -> None:
        gr.on(
            triggers,
            handler,
            inputs,
            outputs or self._outputs,
            trigger_mode=trigger_mode,
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )
