"""Questions that leave no trace: each is asked from a copy of what the session has read, without its conversation."""

from collections.abc import Callable, Iterator
from itertools import takewhile

from sala_core.engine.generate import Token
from sala_core.engine.release_memory import release_memory
from sala_core.engine.sampling import SamplingParams
from sala_core.events import Answer, PromptProgress, ReadProgress
from sala_core.session.context import SessionContext
from sala_core.session.planning.timing import catch_up
from sala_core.session.remote.turn import Writer, WrittenTurn
from sala_core.session.turn import Turn
from sala_core.store import PartDraft, PartRow

_OF_A_CONVERSATION = ("user", "assistant")


class AsideTurn(Turn):
    """A turn that is not stored, and has none before it."""

    def _turn_before(self) -> str:
        """Empty: a question of a list follows no other one."""
        return ""

    def _save(self, part: PartDraft, answer: Answer, answer_id: str) -> None:
        """Do nothing: the state is rewound afterwards, and the library keeps no message."""


class Aside:
    """Asks an open session without changing it.

    The state is taken to the place where the last document ends and no turn has begun yet; a turn that stands before a
    document is part of what was read. Each question begins there, so no answer depends on another one, nor on the order
    in which they are asked.
    """

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._place: int | None = None

    def prepare(self, should_stop: Callable[[], bool]) -> Iterator[ReadProgress]:
        """Read what is unread, and go to the place; `is_ready` tells whether it is reached. Raises as `Session.ask`."""
        context = self._context
        yield from catch_up(context, should_stop)
        if context.state.state is None or should_stop():
            return
        place = end_of_documents(context.library.parts(context.session_id))
        if context.state.state.position != place:
            yield from context.state.go_back_to(place)
        self._place = place

    @property
    def is_ready(self) -> bool:
        """Whether the state stands at the place."""
        state = self._context.state.state
        return state is not None and self._place == state.position

    def ask(
        self,
        question: str,
        sampling: SamplingParams | None,
        should_stop: Callable[[], bool],
        writer: Writer | None = None,
    ) -> Iterator[ReadProgress | PromptProgress | Token | Answer]:
        """Ask; the last event is the Answer. There is none if it is stopped before a word. For use after `prepare`.

        Args:
            question, sampling, should_stop, writer: as `Session.ask` takes them.

        Raises EngineError of a writer.
        """
        assert self.is_ready
        state = self._context.state
        mark = state.pause()
        try:
            if writer is not None:
                yield from WrittenTurn(self._context, question, writer, is_aside=True).run(should_stop)
            else:
                yield from AsideTurn(self._context, question, sampling).run(should_stop)
        finally:
            mark.rewind()
            state.resume()
            state.tokens_read, state.load_s = 0, 0.0  # the next question reads only itself
            state.tokens_reused = self._place or 0
            release_memory()


def end_of_documents(parts: list[PartRow]) -> int:
    """Where the turns begin that stand behind all documents."""
    behind = list(takewhile(lambda part: part.kind in _OF_A_CONVERSATION, reversed(parts)))
    return behind[-1].start if behind else parts[-1].end
