"""One answer to another program: a turn of a session that serves it, and a short one that leaves no trace."""

from collections.abc import Callable, Generator
from dataclasses import dataclass

from sala_core.engine.generate import Token
from sala_core.engine.release_memory import release_memory
from sala_core.engine.sampling import SamplingParams
from sala_core.errors import ModelError
from sala_core.events import Answer, PromptProgress, ReadProgress
from sala_core.session.context import SessionContext
from sala_core.session.index_ahead import index_ahead
from sala_core.session.planning.timing import catch_up
from sala_core.session.served.conversation import asked_words
from sala_core.session.served.layout import continued_question
from sala_core.session.turn import Turn


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question. is_open: it stands in the message of the text before it. is_raw: that message has no role."""

    text: str
    is_open: bool = False
    is_raw: bool = False


class ServedTurn(Turn):
    """A turn whose question may stand in the message of the text before it."""

    def __init__(self, context: SessionContext, asked: Asked, sampling: SamplingParams | None) -> None:
        """Prepare the turn. Raises ModelError for a text without roles where the model only finds."""
        super().__init__(context, asked.text, sampling)
        if asked.is_open:
            self._prompt = continued_question(
                asked.text, self._message.id, context.engine, is_raw=asked.is_raw, think=self._sampling.think
            )
        if self._sampling.finds:
            if asked.is_raw:
                raise ModelError("this model only finds: it cannot go on with a text; ask a question in a chat")
            self._asked = asked_words(asked.text)


def ask_served(
    context: SessionContext, asked: Asked, sampling: SamplingParams, should_stop: Callable[[], bool]
) -> Generator[ReadProgress | PromptProgress | Token | Answer, None, None]:
    """Read what is unread of the session, then answer; the last event is the Answer, which is saved by then.

    Args:
        context: the session, whose lock is held.
        asked: the question.
        sampling: of the answer.
        should_stop: ends the answer when it returns True.

    Raises as `Session.ask`.
    """
    context.engine.chat.generation_prompt(sampling.think)
    if sampling.finds:
        index_ahead(context)
    yield from catch_up(context, should_stop)
    if context.state.state is None or should_stop():
        return
    saved = False
    try:
        saved = yield from ServedTurn(context, asked, sampling).run(should_stop)
    finally:
        if not saved:
            context.state.forget()
        release_memory()
