"""A library as a simple model predicts it: what each operation makes of the sessions, and how it is done for real."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made_library import FINGERPRINT, encoded, save

from sala_core.store import Library, MessageDraft, PartDraft, SessionRow
from sala_core.store.portable.export import export_session
from sala_core.store.portable.import_session import import_session
from sala_core.store.states import StateStore

SYSTEM = (1, 2, 3)
QUESTION, ANSWER = (4, 5), (6, 7, 8)


@dataclass(frozen=True)
class Session:
    """A session: (kind, tokens) of its parts, (role, text) of its messages."""

    parts: tuple[tuple[str, tuple[int, ...]], ...] = ()
    messages: tuple[tuple[str, str], ...] = ()


Model = dict[str, Session]


@dataclass(frozen=True)
class Operation:
    """One operation. name: a key of WORK. arguments: of its functions."""

    name: str
    arguments: tuple[Any, ...] = ()


def observe(library: Library) -> Model:
    """What a library holds, in the model's terms."""
    found = {}
    for row in library.sessions():
        ids = library.token_ids(row.id, 0, row.num_tokens).tolist()
        parts = tuple((part.kind, tuple(ids[part.start : part.end])) for part in library.parts(row.id))
        found[row.name] = Session(parts, tuple((each.role, each.text) for each in library.messages(row.id)))
    return found


def predict(model: Model, operation: Operation) -> Model:
    """What the model becomes by an operation that succeeds."""
    return {**WORK[operation.name][1](dict(model), *operation.arguments)}


def perform(library: Library, operation: Operation) -> None:
    """Do an operation. Raises SalaError."""
    WORK[operation.name][0](library, *operation.arguments)


def _state(library: Library, row: SessionRow, ids: np.ndarray) -> str:
    """Save the state of what the session has not read yet, and of these tokens behind it."""
    unread = np.concatenate([library.token_ids(row.id, row.position, row.num_tokens), ids])
    return save(StateStore(library, FINGERPRINT), row.head, unread, row.position)


def _create(library: Library, name: str) -> None:
    with library.database.write():
        row = library.create_session(name, model="A", fingerprint=FINGERPRINT)
        library.append_parts(row.id, [PartDraft(kind="system", token_ids=np.array(SYSTEM))])


def _read(library: Library, name: str, text: str, has_state: bool) -> None:
    with library.lock_session(name) as row:
        document = library.put_document(encoded(text), "tokenizer-a")
        ids = encoded(text).token_ids
        head, position = row.head, row.position
        if has_state:
            head, position = _state(library, row, ids), row.num_tokens + len(ids)
        parts = [*library.parts(row.id), PartDraft(kind="document", token_ids=ids, document_id=document)]
        library.change_stream(row.id, parts, library.sources(row.id), head=head, position=position)


def _ask(library: Library, name: str, text: str, has_state: bool) -> None:
    with library.lock_session(name) as row:
        question, answer = MessageDraft(role="user", text=text), MessageDraft(role="assistant", text=text[::-1])
        parts = [
            PartDraft(kind="user", token_ids=np.array(QUESTION), message_id=question.id),
            PartDraft(kind="assistant", token_ids=np.array(ANSWER), message_id=answer.id),
        ]
        head, position = row.head, row.position
        if has_state:
            ids = np.array(QUESTION + ANSWER, dtype=np.int32)
            head, position = _state(library, row, ids), row.num_tokens + len(ids)
        library.commit_turn(row.id, parts, [question, answer], head, position)


def _remove(library: Library, name: str, number: int) -> None:
    with library.lock_session(name) as row:
        parts = library.parts(row.id)
        documents = [part for part in parts if part.kind == "document"]
        gone = documents[number % len(documents)] if documents else None
        kept = [part for part in parts if part is not gone]
        library.change_stream(row.id, kept, [], head=None, position=0)


def _without(session: Session, number: int) -> Session:
    places = [index for index, (kind, _) in enumerate(session.parts) if kind == "document"]
    gone = places[number % len(places)] if places else None
    return Session(tuple(part for index, part in enumerate(session.parts) if index != gone), session.messages)


def _limit(library: Library, num_bytes: int | None) -> None:
    library.set_quota(num_bytes)
    if num_bytes is not None:
        library.make_room(num_bytes)


def _read_model(model: Model, name: str, text: str, _has_state: bool) -> Model:
    part = ("document", tuple(encoded(text).token_ids.tolist()))
    return model | {name: Session((*model[name].parts, part), model[name].messages)}


def _ask_model(model: Model, name: str, text: str, _has_state: bool) -> Model:
    parts = (*model[name].parts, ("user", QUESTION), ("assistant", ANSWER))
    return model | {name: Session(parts, (*model[name].messages, ("user", text), ("assistant", text[::-1])))}


def _unchanged(model: Model, *_: Any) -> Model:
    return model


def _archive(library: Library, number: int) -> Path:
    return library.folder.with_name(f"{number}.sala")


WORK: dict[str, tuple[Callable[..., object], Callable[..., Model]]] = {
    "create": (_create, lambda model, name: model | {name: Session((("system", SYSTEM),))}),
    "read": (_read, _read_model),
    "ask": (_ask, _ask_model),
    "remove": (_remove, lambda model, name, number: model | {name: _without(model[name], number)}),
    "fork": (
        lambda library, name, new: library.fork_session(name, new),
        lambda model, name, new: model | {new: model[name]},
    ),
    "rename": (
        lambda library, name, new: library.rename_session(name, new),
        lambda model, name, new: {new if each == name else each: session for each, session in model.items()},
    ),
    "delete": (
        lambda library, name: library.delete_session(name),
        lambda model, name: {each: session for each, session in model.items() if each != name},
    ),
    "drop state": (lambda library, name: library.drop_state(name), _unchanged),
    "evict": (lambda library, num_bytes: library.evict(num_bytes), _unchanged),
    "limit": (_limit, _unchanged),
    "collect": (lambda library: library.collect_garbage(min_age_s=0), _unchanged),
    "copy": (lambda library: library.keep_copy(), _unchanged),
    "export": (
        lambda library, name, number: export_session(library, name, _archive(library, number)),
        _unchanged,
    ),
    "import": (
        lambda library, name, number, _session: import_session(
            library, _archive(library, number), name=name, fingerprint=FINGERPRINT
        ),
        lambda model, name, _number, session: model | {name: session},
    ),
}
"""Operation -> how it is done for real, and what the model becomes."""
