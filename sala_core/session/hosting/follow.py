"""Brings a session's stream to what its client has ordered: what is there already stays, with its state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sala_core.engine.memory_budget import check_budget
from sala_core.errors import EngineChangedError
from sala_core.ingest import Document, encode_document
from sala_core.remote.sala.order import OrderedTurn, StreamOrder
from sala_core.session.context import SessionContext
from sala_core.session.folders.new_stream import Part, cost
from sala_core.session.hosting.turn_tokens import TurnTokens
from sala_core.store import MessageDraft, MessageRow, PartDraft, PartRow
from sala_core.store.states import StateStore
from sala_core.store.turns.given import set_given_stream


@dataclass(frozen=True, kw_only=True)
class Given:
    """An order, and where what it names is.

    order: the whole stream. fingerprint: of the states of the model that the client expects. names: parcel hash ->
    content hash of the documents that were loaded before. load: a document by its parcel's hash; raises
    UploadGoneError. turns: the client's turns.
    """

    order: StreamOrder
    fingerprint: str
    names: dict[str, str]
    load: Callable[[str], Document]
    turns: TurnTokens


def check_expected(context: SessionContext, given: Given) -> None:
    """Raise EngineChangedError if the order was made for another model than this one, or another number format."""
    engine = context.engine
    if engine.fingerprint != given.fingerprint:
        raise EngineChangedError(f"the server has another model or number format now: {engine.name}; ask again")


def follow(context: SessionContext, given: Given) -> None:
    """Give the session the ordered stream. Nothing is prefilled yet, and what both have in common keeps its state.

    Raises UploadGoneError for a document that is not here, MemoryBudgetError for a stream that does not fit; nothing
    is changed then.
    """
    library, session_id = context.library, context.session_id
    parts = [_system(context, given.order), *_documents(context, given)]
    turns, messages = _turns(context, given)
    parts += turns
    stored = library.parts(session_id)
    if list(parts) == stored:
        return
    store = StateStore(library, context.row.fingerprint)
    price = cost(library, store, context.row, parts, chunk_tokens=context.engine.chunk_tokens)
    check_budget(context.engine, price.tokens, state=context.state.state)
    kept = {part.message_id for part in parts if isinstance(part, PartRow) and part.message_id}
    set_given_stream(library, session_id, parts, kept, messages, head=price.head, position=price.position)
    if price.tokens - price.tokens_read > price.position:  # more of it is stored than the state in memory goes on from
        context.state.forget()


def _system(context: SessionContext, order: StreamOrder) -> Part:
    """The system message: the one that is there if it says the same."""
    wanted = context.writer.system(order.system_prompt)
    stored = context.library.parts(context.session_id)
    if stored and stored[0].kind == "system":
        ids = context.library.token_ids(context.session_id, 0, stored[0].end)
        if ids.tolist() == wanted.token_ids.tolist():
            return stored[0]
    return wanted


def _documents(context: SessionContext, given: Given) -> list[Part]:
    library, tokenizer = context.library, context.engine.tokenizer
    rows = {row.id: row for row in library.documents(context.session_id)}
    own = {
        rows[part.document_id].content_hash: part
        for part in library.parts(context.session_id)
        if part.document_id is not None and rows[part.document_id].tokenizer_fingerprint == tokenizer.fingerprint
    }
    parts: list[Part] = []
    for name in given.order.documents:
        if (known := own.get(given.names.get(name, ""))) is not None:
            parts.append(known)
            continue
        document = given.load(name)
        given.names[name] = document.content_hash
        if (known := own.get(document.content_hash)) is not None:
            parts.append(known)
            continue
        encoded = encode_document(document, tokenizer)
        document_id = library.put_document(encoded, tokenizer.fingerprint)
        parts.append(context.writer.document(encoded, document_id))
    return parts


def _turns(context: SessionContext, given: Given) -> tuple[list[Part], list[MessageDraft]]:
    """The parts of the ordered turns, and the messages of those that the session does not have."""
    library, session_id = context.library, context.session_id
    stored = {part.message_id: part for part in library.parts(session_id) if part.message_id}
    shown = library.messages(session_id)
    own = _pairs(shown)
    parts: list[Part] = []
    messages: list[MessageDraft] = []
    is_same = True
    for index, turn in enumerate(given.order.turns):
        pair = own[index] if index < len(own) else None
        is_same = is_same and pair is not None and _is(turn, *pair) and {row.id for row in pair} <= stored.keys()
        if is_same and pair is not None:
            parts += [stored[row.id] for row in pair]
        else:
            drafts = [MessageDraft(role="user", text=turn.question), MessageDraft(role="assistant", text=turn.answer)]
            parts += _drafts(context, given.turns, turn, drafts)
            messages += drafts
    return parts, messages


def _drafts(
    context: SessionContext, known: TurnTokens, turn: OrderedTurn, messages: Sequence[MessageDraft]
) -> list[PartDraft]:
    question, answer = (message.id for message in messages)
    if (ids := known.get(turn, context.engine.tokenizer.fingerprint)) is not None:
        return [
            PartDraft(kind="user", token_ids=ids[0], message_id=question),
            PartDraft(kind="assistant", token_ids=ids[1], message_id=answer),
        ]
    writer = context.writer
    return [writer.past_question(turn.question, question), writer.written_answer(turn.answer, answer)]


def _pairs(messages: Sequence[MessageRow]) -> list[tuple[MessageRow, MessageRow]]:
    return [
        (question, answer)
        for question, answer in zip(messages[::2], messages[1::2], strict=False)
        if (question.role, answer.role) == ("user", "assistant")
    ]


def _is(turn: OrderedTurn, question: MessageRow, answer: MessageRow) -> bool:
    """Whether these are the turn's texts; white space at line ends and such is not told by every client."""
    texts = ((turn.question, question.text), (turn.answer, answer.text))
    return all(ours.split() == theirs.split() for ours, theirs in texts)
