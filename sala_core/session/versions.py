"""Other versions of a turn: where the state has to be before one is asked for, and their tokens for another model."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from sala_core.errors import LibraryError
from sala_core.events import ReadProgress
from sala_core.session.context import SessionContext
from sala_core.session.planning.timing import catch_up
from sala_core.store import TurnRow
from sala_core.store.turns.tree import HiddenTurn


def find_turn(context: SessionContext, turn_id: str) -> TurnRow:
    """The shown turn with this question or answer. Raises LibraryError if there is none."""
    for turn in context.library.turns(context.session_id):
        if turn_id in (turn.id, turn.answer_id):
            return turn
    raise LibraryError("this turn is not part of the conversation any more; look at the session again")


def question_of(context: SessionContext, turn: TurnRow) -> str:
    """The text of a turn's question."""
    return next(row.text for row in context.library.messages(context.session_id) if row.id == turn.id)


def go_before(context: SessionContext, turn_id: str, should_stop: Callable[[], bool]) -> Iterator[ReadProgress]:
    """Bring the state to where a turn begins, so that another version of it can be asked for.

    The session itself is not changed, except that documents which were read after the turn then stand before it, and
    are read again. Everything else continues from the nearest snapshot. Raises as `SessionState.catch_up`; LibraryError
    if there is no such turn.
    """
    library, state = context.library, context.state
    if find_turn(context, turn_id).document_tokens_behind:
        library.gather_documents(context.session_id, turn_id)
    yield from catch_up(context, should_stop)
    if state.state is not None and not should_stop():
        yield from state.go_back_to(find_turn(context, turn_id).start)


def retokenized_versions(context: SessionContext) -> list[HiddenTurn]:
    """The versions that are not shown, with their tokens made anew by the tokenizer of the context's engine."""
    writer = context.writer
    made = []
    for turn in context.library.hidden_turns(context.session_id):
        question, answer = turn.messages
        asked = np.asarray(writer.past_question(question["text"], question["id"]).token_ids, np.int32)
        answered = np.asarray(writer.written_answer(answer["text"], answer["id"]).token_ids, np.int32)
        made.append(replace(turn, tokens=(asked, answered)))
    return made
