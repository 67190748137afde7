"""A `.sala` file taken into a library: the texts first, then the state, and in one transaction at the end the session.

An import that is stopped or killed leaves no session. The same command then finds the texts and the checkpoints that
are stored already, and goes on behind them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from sala_core.disk.safetensors import decode_tensors
from sala_core.errors import ArchiveError, SessionExistsError, SessionNotFoundError
from sala_core.store.checkpoints import SEGMENT_SUFFIX, SNAPSHOT_SUFFIX
from sala_core.store.database import insert_row
from sala_core.store.documents import decode_document
from sala_core.store.library import Library
from sala_core.store.listing.marks import set_marks
from sala_core.store.portable.container import SESSION, TOKENS, Archive
from sala_core.store.portable.records import Checkpoint, PortableSession
from sala_core.store.rows import PartDraft
from sala_core.store.states import StateStore
from sala_core.store.streams import message_columns
from sala_core.store.turns.tree import put_hidden

_ID_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was taken in. state_tokens: how many tokens of the session need not be read again. notes: what was not."""

    name: str
    model: str
    num_documents: int
    num_messages: int
    num_tokens: int
    state_tokens: int
    is_other_model: bool
    notes: tuple[str, ...]


def import_session(
    library: Library,
    source: Path,
    *,
    name: str | None = None,
    fingerprint: str | None = None,
    others: Collection[str] = (),
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Imported:
    """Take a session in. Its state is taken only if it is of the model with this fingerprint; the rest always is.

    Args:
        library: receives the session.
        source: the file.
        name: what the session is called here; None for its own name.
        fingerprint: of the model in use; None leaves the state out.
        others: further fingerprints of states that it can continue.
        report: called with (members so far, members in all).

    Raises ArchiveError if the file is damaged, incomplete or no such file; SessionExistsError if the name is taken;
    LibraryError for an invalid name; DiskFullError. Nothing can be seen of the session then.
    """
    with Archive(source) as archive:
        session = PortableSession.from_json(archive.load_json(SESSION))
        name = session.name if name is None else name
        _check_name(library, name)
        total = len(archive.members)
        tokens = _tokens(archive, session)
        for number, (document_id, tokenizer) in enumerate(session.documents):
            _take_document(library, archive, session, tokens, document_id, tokenizer)
            report(number + 1, total)
        notes: list[str] = []
        parent, head, position = None, None, 0
        is_other = fingerprint is not None and session.fingerprint not in (fingerprint, *others)
        if fingerprint is not None and session.checkpoints and not is_other:
            store = StateStore(library, session.fingerprint)
            done = len(session.documents)
            for checkpoint in session.checkpoints:
                try:
                    _take_checkpoint(store, archive, checkpoint, parent, tokens)
                except ArchiveError as error:
                    notes.append(
                        f"the state from token {checkpoint.start:,} on was refused, and is read again: {error}"
                    )
                    break
                parent = checkpoint.name
                if checkpoint.has_snapshot:
                    head, position = checkpoint.name, checkpoint.end
                done += 1 + checkpoint.has_snapshot
                report(done, total)
        _add_session(library, session, name, tokens, head, position)
        report(total, total)
    return Imported(
        name=name,
        model=session.model,
        num_documents=len(session.documents),
        num_messages=len(session.messages),
        num_tokens=session.num_tokens,
        state_tokens=position,
        is_other_model=is_other,
        notes=tuple(notes),
    )


def _check_name(library: Library, name: str) -> None:
    try:
        library.session(name)
    except SessionNotFoundError:
        return
    raise SessionExistsError(f"a session called {name!r} exists already; import it under another name: --name NEW")


def _tokens(archive: Archive, session: PortableSession) -> np.ndarray:
    """The token stream, int32 [n]."""
    data = archive.load(TOKENS)
    if len(data) != session.num_tokens * _ID_BYTES:
        raise ArchiveError(
            f"{archive.path} has {len(data):,} bytes of tokens for {session.num_tokens:,}; export it again"
        )
    tokens = np.frombuffer(data, dtype="<i4")
    if tokens.size and int(tokens.min()) < 0:
        raise ArchiveError(f"{archive.path} has a token with the id {tokens.min()}; export it again")
    return tokens


def _take_document(
    library: Library, archive: Archive, session: PortableSession, tokens: np.ndarray, document_id: str, tokenizer: str
) -> None:
    """Store one text, checked as if it had just been read.

    Args:
        library: receives it.
        archive: holds it.
        session: its place in the stream.
        tokens: the stream, int32 [n].
        document_id: its id, which is the checksum of its file.
        tokenizer: fingerprint of the tokenizer that made its token ids.
    """
    data = archive.load(f"documents/{document_id}.safetensors")
    try:
        encoded, _ = decode_document(data)
        for part in session.parts:
            start = part.start + part.body_start
            own = tokens[start : min(start + encoded.num_tokens, part.end)]
            if part.document_id == document_id and not np.array_equal(own, encoded.token_ids):
                raise ValueError("its tokens are not those of the stream")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"the text {document_id} cannot be used ({error}); export the session again") from error
    if library.put_document(encoded, tokenizer) != document_id:
        raise ArchiveError(f"the text {encoded.document.name!r} is not the one that the session names; export it again")


def _take_checkpoint(
    store: StateStore, archive: Archive, checkpoint: Checkpoint, parent: str | None, tokens: np.ndarray
) -> None:
    """Store one checkpoint, unless it is stored. Raises ArchiveError if it is damaged, or not that of these tokens.

    Args:
        store: of the model that made it.
        archive: holds it.
        checkpoint: which.
        parent: the name of the one before it.
        tokens: the stream, int32 [n].
    """
    ids = tokens[checkpoint.start : checkpoint.end]
    if store.name(parent, ids) != checkpoint.name:
        raise ArchiveError(f"{checkpoint.name} is not the state of the tokens before {checkpoint.end:,}")
    if store.has(checkpoint.name) and (not checkpoint.has_snapshot or store.checkpoint(checkpoint.name).has_snapshot):
        return
    store.save(
        parent=parent,
        token_ids=ids,
        start=checkpoint.start,
        segment=_tensors(archive, checkpoint, SEGMENT_SUFFIX),
        snapshot=_tensors(archive, checkpoint, SNAPSHOT_SUFFIX) if checkpoint.has_snapshot else None,
        keep=checkpoint.keep,
    )


def _tensors(archive: Archive, checkpoint: Checkpoint, suffix: str) -> dict[str, Tensor]:
    file = checkpoint.name + suffix
    try:
        tensors, metadata = decode_tensors(archive.load(f"states/{file}"))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ArchiveError(f"{file} is no state ({error})") from error
    told = metadata.get("name"), metadata.get("start"), metadata.get("end")
    if told != (checkpoint.name, str(checkpoint.start), str(checkpoint.end)):
        raise ArchiveError(f"{file} holds another state")
    return tensors


def _add_session(
    library: Library, session: PortableSession, name: str, tokens: np.ndarray, head: str | None, position: int
) -> None:
    """Add the session with its stream, conversation and head, in one transaction.

    Args:
        library: receives it.
        session: what the file says.
        name: what it is called here.
        tokens: the stream, int32 [n].
        head, position: the last checkpoint with a snapshot, and where it ends; None and 0 for none.
    """
    parts = [
        PartDraft(
            kind=part.kind,
            token_ids=tokens[part.start : part.end],
            document_id=part.document_id,
            body_start=part.body_start,
            message_id=part.message_id,
        )
        for part in session.parts
    ]
    in_stream = {part.document_id for part in session.parts}
    with library.database.write() as conn:
        row = library.create_session(name, model=session.model, fingerprint=session.fingerprint)
        if session.system_prompt:
            set_marks(conn, row.id, system_prompt=session.system_prompt)
        library.append_parts(row.id, parts)
        for document_id, _ in session.documents:
            if document_id not in in_stream:
                insert_row(conn, "former_documents", {"session_id": row.id, "document_id": document_id})
        for ordinal, message in enumerate(session.messages):
            own = {"session_id": row.id, "ordinal": ordinal, "created_at": message.created_at}
            insert_row(conn, "messages", {**own, **message_columns(message)})
        for turn in session.hidden:
            put_hidden(conn, row.id, turn)
        if head is not None:
            library.set_head(row.id, head, position)
