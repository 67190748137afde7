"""A library as a simple model predicts it: what each operation makes of the sessions, and how it is done for real."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import conversation_model
import numpy as np
from conversation_model import Session, Turn, as_seen, with_turn
from made_library import FINGERPRINT, encoded, save

from sala_core.store import Library, MessageDraft, PartDraft, SessionRow
from sala_core.store.portable.export import export_session
from sala_core.store.portable.import_session import import_session
from sala_core.store.states import StateStore

SYSTEM = (1, 2, 3)
ANSWER = (6, 7, 8)
IN_BIN = "~"
"""How the keys of sessions in the bin begin: a number follows, in the order in which they came there."""

Model = dict[str, Session]


@dataclass(frozen=True)
class Operation:
    """One operation. name: a key of WORK. arguments: of its functions."""

    name: str
    arguments: tuple[Any, ...] = ()


def observe(library: Library) -> dict[str, object]:
    """What a library holds, in the terms of `seen`."""
    found: dict[str, object] = {row.name: _observed(library, row) for row in library.sessions()}
    for number, row in enumerate(reversed(library.sessions_in_bin())):
        found[f"{IN_BIN}{number}"] = (row.name, _observed(library, row))
    return found


def seen(model: Model) -> dict[str, object]:
    """What a library looks like that holds what the model says."""
    return {
        key: (session.was, as_seen(session, tokens_of)) if key.startswith(IN_BIN) else as_seen(session, tokens_of)
        for key, session in model.items()
    }


def _observed(library: Library, row: SessionRow) -> object:
    ids = library.token_ids(row.id, 0, row.num_tokens).tolist()
    parts = tuple((part.kind, tuple(ids[part.start : part.end])) for part in library.parts(row.id))
    messages = tuple((each.role, each.text) for each in library.messages(row.id))
    texts = {each.id: each.text for each in library.messages(row.id)} | {"": ""}
    hidden = library.hidden_turns(row.id)
    texts |= {turn.id: turn.messages[0]["text"] for turn in hidden}
    others = frozenset((texts[turn.id], texts[turn.parent], turn.order) for turn in hidden)
    versions = tuple(tuple(texts[each] for each in turn.versions) for turn in library.turns(row.id))
    return parts, messages, others, versions


def tokens_of(turn: Turn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of a turn's question and answer."""
    return (4, 10 + turn.number), ANSWER


def predict(model: Model, operation: Operation) -> Model:
    """What the model becomes by an operation that succeeds."""
    return {**WORK[operation.name][1](dict(model), *operation.arguments)}


def perform(library: Library, operation: Operation) -> object:
    """Do an operation; return what it returns. Raises SalaError."""
    return WORK[operation.name][0](library, *operation.arguments)


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


def _drafts(turn: Turn) -> tuple[list[PartDraft], list[MessageDraft]]:
    messages = [MessageDraft(role="user", text=turn.text), MessageDraft(role="assistant", text=turn.answer)]
    parts = [
        PartDraft(kind=message.role, token_ids=np.array(ids), message_id=message.id)
        for message, ids in zip(messages, tokens_of(turn), strict=True)
    ]
    return parts, messages


def _ask(library: Library, name: str, turn: Turn, has_state: bool) -> None:
    with library.lock_session(name) as row:
        head, position = row.head, row.position
        if has_state:
            ids = np.array(sum(tokens_of(turn), ()), dtype=np.int32)
            head, position = _state(library, row, ids), row.num_tokens + len(ids)
        library.commit_turn(row.id, *_drafts(turn), head, position)


def _ask_again(library: Library, name: str, index: int, turn: Turn) -> None:
    with library.lock_session(name) as row:
        former = library.turns(name)[index]
        library.commit_turn(row.id, *_drafts(turn), None, 0, instead_of=former.id)


def _turn_id(library: Library, name: str, index: int) -> str:
    return library.turns(name)[index].id


def _remove(library: Library, name: str, number: int) -> None:
    with library.lock_session(name) as row:
        parts = library.parts(row.id)
        documents = [part for part in parts if part.kind == "document"]
        gone = documents[number % len(documents)] if documents else None
        kept = [part for part in parts if part is not gone]
        library.change_stream(row.id, kept, [], head=None, position=0)


def _without(session: Session, number: int) -> Session:
    places = [index for index, part in enumerate(session.parts) if part[0] == "document"]
    gone = places[number % len(places)] if places else None
    return replace(session, parts=tuple(part for index, part in enumerate(session.parts) if index != gone))


def _limit(library: Library, num_bytes: int | None) -> None:
    library.set_quota(num_bytes)
    if num_bytes is not None:
        library.make_room(num_bytes)


def _read_model(model: Model, name: str, text: str, _has_state: bool) -> Model:
    part = ("document", tuple(encoded(text).token_ids.tolist()))
    return model | {name: replace(model[name], parts=(*model[name].parts, part))}


def _unchanged(model: Model, *_: Any) -> Model:
    return model


def _archive(library: Library, number: int) -> Path:
    return library.folder.with_name(f"{number}.sala")


def binned(model: Model) -> list[Session]:
    """The sessions in the bin, in the order in which they came there."""
    keys = sorted((key for key in model if key.startswith(IN_BIN)), key=lambda key: int(key[1:]))
    return [model[key] for key in keys]


def _with_bin(model: Model, sessions: list[Session]) -> Model:
    live = {key: session for key, session in model.items() if not key.startswith(IN_BIN)}
    return live | {f"{IN_BIN}{number}": session for number, session in enumerate(sessions)}


def _bin_model(model: Model, name: str) -> Model:
    session = replace(model.pop(name), was=name)
    return _with_bin(model, [*binned(model), session])


def _restore(library: Library, number: int) -> None:
    library.restore_session(list(reversed(library.sessions_in_bin()))[number].id)


def _restore_model(model: Model, number: int) -> Model:
    sessions = binned(model)
    session = sessions.pop(number)
    name, count = session.was, 1
    while name in model:
        count += 1
        name = f"{session.was} ({count})"
    return _with_bin(model, sessions) | {name: replace(session, was="")}


def _of_session(change: Callable[..., Session]) -> Callable[..., Model]:
    """A change of one session, as one of the model."""
    return lambda model, name, *arguments: model | {name: change(model[name], *arguments)}


WORK: dict[str, tuple[Callable[..., object], Callable[..., Model]]] = {
    "create": (_create, lambda model, name: model | {name: Session((("system", SYSTEM),))}),
    "read": (_read, _read_model),
    "ask": (_ask, _of_session(lambda session, turn, _has_state: with_turn(session, turn))),
    "gather": (
        lambda library, name, index: library.gather_documents(name, _turn_id(library, name, index)),
        _of_session(conversation_model.gathered),
    ),
    "ask again": (_ask_again, _of_session(conversation_model.asked_again)),
    "show version": (
        lambda library, name, index, step: library.show_version(name, _turn_id(library, name, index), step),
        _of_session(conversation_model.other_version),
    ),
    "delete turn": (
        lambda library, name, index: library.delete_turn(name, _turn_id(library, name, index)).deleted,
        _of_session(conversation_model.without_turn),
    ),
    "restore turn": (
        lambda library, name, deleted, _before, _index: library.restore_turn(name, deleted),
        _of_session(lambda session, _deleted, before, index: conversation_model.restored(session, before, index)),
    ),
    "branch": (
        lambda library, name, new, index: library.branch_session(name, new, _turn_id(library, name, index)),
        lambda model, name, new, index: model | {new: conversation_model.branched(model[name], index)},
    ),
    "bin": (lambda library, name: library.bin_session(name), _bin_model),
    "restore": (_restore, _restore_model),
    "empty bin": (lambda library: library.empty_bin(-1.0), lambda model: _with_bin(model, [])),
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
