"""Measures readings while they run: the speed at each position, and what opening a session from disk saved."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

from sala_core.errors import ModelError
from sala_core.events import ReadProgress
from sala_core.session.context import SessionContext
from sala_core.session.planning.measured import STRETCH_TOKENS, Measured
from sala_core.session.planning.speed import Speed, model_key
from sala_core.session.state import SessionState


def catch_up(
    context: SessionContext, should_stop: Callable[[], bool], measured: Measured | None = None
) -> Iterator[ReadProgress]:
    """`SessionState.catch_up`, measured. The time that the caller takes between two events does not count.

    Saved time: whenever the state was not in memory and was restored from disk, the seconds that this machine takes to
    read as many tokens (by what it has measured with this model), less the seconds that restoring took. An opening that
    only went on with a state in memory saves nothing, and so does one on a machine that has not read with this model.

    Afterwards `SessionState.read_s` has the seconds of reading. measured: where speed and savings are noted; None for
    the user's cache folder. Raises as `SessionState.catch_up`.
    """
    state, measured = context.state, measured or Measured()
    was_in_memory, state.read_s = state.state is not None, 0.0
    try:
        model = model_key(context.engine)
    except ModelError:  # a model that was not loaded from a folder has no name
        yield from state.catch_up(should_stop)
        return
    yield from _timed(state, should_stop, measured, model)
    if was_in_memory or not state.tokens_reused or state.state is None:
        return
    stretches = measured.stretches(model)
    if stretches:
        saved_s = Speed(stretches).seconds(0, state.tokens_reused) - state.load_s
        measured.add_opening(context.session_id, saved_s)


def _timed(
    state: SessionState, should_stop: Callable[[], bool], measured: Measured, model: str
) -> Iterator[ReadProgress]:
    """Pass on the progress, and note how long its tokens took, a stretch at a time."""
    start, end, seconds = -1, -1, 0.0
    with closing(state.catch_up(should_stop)) as events:
        try:
            while True:
                began = time.monotonic()
                event = next(events, None)
                if event is None:
                    return
                if event.phase == "reading":
                    seconds += time.monotonic() - began
                    state.read_s += time.monotonic() - began
                    start, end = state.tokens_reused if start < 0 else start, event.tokens_done
                if end - start >= STRETCH_TOKENS:
                    measured.add_reading(model, start, end, seconds)
                    start, seconds = end, 0.0
                yield event
        finally:
            measured.add_reading(model, start, end, seconds)
