"""A small library with every kind of file: two sessions that share a text and states, a conversation, a copy."""

import os
import shutil
from pathlib import Path

import numpy as np
import torch

from sala_core.ingest.document import Document, EncodedDocument
from sala_core.store import Library, MessageDraft, PartDraft
from sala_core.store.states import StateStore

FINGERPRINT = "model-a"
TEXT = "It was the best of times,\nit was the worst of times.\n"
_LARGEST_STATE_BYTES = 20_000
"""Larger files of this library are its database and the copy of it, under whatever names."""
TURN = np.array([1, 2, 3, 4, 5], dtype=np.int32)


def make_library(folder: Path) -> None:
    """Make the library. It is closed afterwards."""
    with Library.open(folder) as library:
        document = library.put_document(encoded(), "tokenizer-a")
        session = library.create_session("tale", model="A", fingerprint=FINGERPRINT)
        ids = np.concatenate([[7, 8], encoded().token_ids, [9]])
        parts = [
            PartDraft(kind="system", token_ids=np.arange(5)),
            PartDraft(kind="document", token_ids=ids, document_id=document, body_start=2),
        ]
        library.append_parts(session.id, parts)
        store = StateStore(library, FINGERPRINT)
        end = library.session("tale").num_tokens
        library.set_head(session.id, save(store, None, library.token_ids(session.id, 0, end), 0), end)
        add_turn(library, store)
        library.fork_session(session.id, "copy")
        assert library.keep_copy()


def add_turn(library: Library, store: StateStore, answer: str = "The best of times.") -> None:
    """Add a question and its answer to the session, with the state after them."""
    row = library.session("tale")
    question, reply = (MessageDraft(role=role, text=text) for role, text in (("user", "What?"), ("assistant", answer)))
    parts = [
        PartDraft(kind="user", token_ids=TURN[:3], message_id=question.id),
        PartDraft(kind="assistant", token_ids=TURN[3:], message_id=reply.id),
    ]
    head = save(store, row.head, TURN, row.num_tokens)
    library.commit_turn(row.id, parts, [question, reply], head, row.num_tokens + len(TURN))


def save(store: StateStore, parent: str | None, ids: np.ndarray, start: int) -> str:
    """Save a state of these tokens after `parent`."""
    return store.save(
        parent=parent,
        token_ids=ids,
        start=start,
        segment={"k.0": torch.full((2, len(ids), 4), float(start))},
        snapshot={"state.1": torch.full((2, 2), float(start))},
        keep=True,
    )


def encoded(text: str = TEXT) -> EncodedDocument:
    """A text, with one token for each character."""
    document = Document(
        name="tale.txt",
        media_type="text/plain",
        num_bytes=len(text),
        text=text,
        page_starts=(0, len(text) // 2),
        warnings=(),
        content_hash=Document.hash_of("tale.txt", text),
    )
    ids = np.array([ord(char) for char in text], dtype=np.int32)
    return EncodedDocument(document=document, token_ids=ids, token_starts=np.arange(len(ids), dtype=np.int64))


def content(folder: Path, *, with_texts: bool = True) -> dict[str, object]:
    """All that a library holds, without times: equal for libraries that hold the same.

    with_texts: load the texts too, which raises CorruptStateError for a damaged one.
    """
    with Library.open(folder) as library:
        found: dict[str, object] = {}
        binned = {f"{row.name}, in the bin": row for row in library.sessions_in_bin()}
        for name, row in ({row.name: row for row in library.sessions()} | binned).items():
            ids = library.token_ids(row.id, 0, row.num_tokens)
            messages = [(message.id, message.role, message.text) for message in library.messages(row.id)]
            parts = [(part.kind, part.start, part.end, part.document_id) for part in library.parts(row.id)]
            hidden = [(turn.id, turn.parent, turn.content) for turn in library.hidden_turns(row.id)]
            found[name] = (row.id, row.model, row.head, row.position, ids.tolist(), messages, parts, hidden)
        if not with_texts:
            return found
        names = {each.id for row in library.sessions() for each in library.documents(row.id)}
        found["texts"] = [library.load_document(name).document for name in sorted(names)]
        return found


def linked_copy(folder: Path, target: Path) -> Path:
    """A copy of a closed library whose files are links: all but databases are replaced when they are changed."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target, symlinks=True, copy_function=_link)
    return target


def _link(source: str, target: str) -> None:
    is_changed_in_place = os.path.getsize(source) > _LARGEST_STATE_BYTES
    if os.path.isfile(source) and is_changed_in_place:
        shutil.copyfile(source, target)
    else:
        os.link(source, target, follow_symlinks=False)


def copy_of(folder: Path, target: Path) -> Path:
    """A copy of a closed library."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    return target
