"""Finds the session that a conversation goes on with, so that nothing is appended twice; a difference makes a fork."""

from collections.abc import Callable, Collection, Sequence
from itertools import takewhile

from sala_core.engine.engine import Engine
from sala_core.session.served.conversation import Exchange
from sala_core.session.served.layout import Laid, exchange_signature, reply_signature, text_signature
from sala_core.session.stream import TEXT, StreamWriter
from sala_core.store import Library, MessageDraft, SessionRow, TurnRow

OF = "of-{}"
"""Key of the forks of a session, by its id."""


def session_for(library: Library, laid: Laid, engine: Engine, is_free: Callable[[str], bool]) -> SessionRow:
    """The session that holds exactly this conversation up to its question. One that holds its beginning is continued.

    Args:
        library: holds them.
        laid: the conversation.
        engine: that will read it.
        is_free: whether nobody else is about to write to a session, by its id.
    """
    wanted = [piece.signature for piece in laid.tail]
    best: tuple[int, SessionRow] | None = None
    for row in library.served_sessions(laid.key):
        if engine.at_rest(row.fingerprint) is None or not is_free(row.id):
            continue
        found = _tail_of(library, row, sum(len(piece.parts) for piece in laid.base))
        if found == wanted[: len(found)] and (best is None or len(found) > best[0]):
            best = (len(found), row)
    if best is None:
        row = library.create_served(laid.key, model=engine.name, fingerprint=engine.fingerprint, parts=laid.parts)
        if laid.messages:
            library.append_turn(row.id, [], laid.messages)
        return library.session(row.id)
    num_known, row = best
    missing = laid.tail[num_known:]
    if missing:
        library.append_turn(
            row.id,
            [part for piece in missing for part in piece.parts],
            [message for piece in missing for message in piece.messages],
        )
    return library.session(row.id)


def fork_for(
    library: Library, session: SessionRow, turns: Sequence[Exchange], engine: Engine, is_free: Callable[[str], bool]
) -> SessionRow:
    """A session that has what `session` has read, and exactly these turns: a fork made earlier, or a new one.

    Args:
        library: holds them.
        session: what is asked about.
        turns: the earlier turns of the conversation.
        engine: that answers.
        is_free: whether nobody else is about to write to a session, by its id.
    """
    wanted = [exchange_signature(each.question, each.answer) for each in turns]
    key = OF.format(session.id)
    documents = [row.id for row in library.documents(session.id)]
    best, can_go_on, num_turns = session, False, -1
    for row in [session, *library.served_sessions(key)]:
        if not _has(library, row, documents, session.fingerprint):
            continue
        found = turn_signatures(library, row.id)
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(found, wanted, strict=False)))
        goes_on = row.id != session.id and common == len(found) and is_free(row.id)
        if (common, goes_on) > (num_turns, can_go_on):
            best, can_go_on, num_turns = row, goes_on, common
    fork = best if can_go_on else library.fork_served(best.id, key, num_turns)
    _append(library, fork, turns[num_turns:], engine)
    return library.session(fork.id)


def shown_exchanges(library: Library, session_id: str) -> list[tuple[TurnRow, Exchange]]:
    """The turns that a session shows, in order, with their texts."""
    texts = {row.id: row.text for row in library.messages(session_id)}
    return [
        (turn, Exchange(question=texts[turn.id], answer=texts[turn.answer_id])) for turn in library.turns(session_id)
    ]


def turn_signatures(library: Library, session_id: str) -> list[str]:
    """The signatures of the turns that a session shows, in order."""
    return [exchange_signature(said.question, said.answer) for _, said in shown_exchanges(library, session_id)]


def _has(library: Library, row: SessionRow, documents: Collection[str], fingerprint: str) -> bool:
    """Whether a fork still has the same documents as its session, read by the same model."""
    return row.fingerprint == fingerprint and [each.id for each in library.documents(row.id)] == list(documents)


def _append(library: Library, row: SessionRow, turns: Sequence[Exchange], engine: Engine) -> None:
    """Append turns that the client has and the session has not: they are read, and not answered again."""
    writer = StreamWriter(engine.tokenizer, engine.chat)
    for turn in turns:
        question = MessageDraft(role="user", text=turn.question)
        answer = MessageDraft(role="assistant", text=turn.answer)
        parts = [writer.past_question(turn.question, question.id), writer.written_answer(turn.answer, answer.id)]
        library.append_turn(row.id, parts, [question, answer])


def _tail_of(library: Library, row: SessionRow, num_base: int) -> list[str]:
    """The signatures of what stands behind the base of a session, as `Piece` has them."""
    texts = {message.id: message.text for message in library.messages(row.id)}
    parts = library.parts(row.id)[num_base:]
    signatures, index = [], 0
    while index < len(parts):
        part = parts[index]
        follower = parts[index + 1] if index + 1 < len(parts) else None
        if part.kind == "user" and follower is not None and follower.message_id is not None:
            signatures.append(exchange_signature(texts.get(part.message_id or "", ""), texts[follower.message_id]))
            index += 2
            continue
        ids = library.token_ids(row.id, part.start, part.end)
        signatures.append((text_signature if part.kind == TEXT else reply_signature)(ids))
        index += 1
    return signatures
