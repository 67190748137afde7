"""An empty library, a store of states in it, and small states to save."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlite_calls import GO_ON, SKIP, find_vfs, watched

from sala_core.ingest.document import Document, EncodedDocument
from sala_core.store import Library, PartDraft
from sala_core.store.states import StateStore

FINGERPRINT = "model-a"


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """An empty library."""
    with Library.open(tmp_path / "library") as opened:
        yield opened


@pytest.fixture
def store(library: Library) -> StateStore:
    """The states of one model."""
    return StateStore(library, FINGERPRINT)


@pytest.fixture
def save(store: StateStore) -> Callable[..., str]:
    """Save a small checkpoint of `num_tokens` tokens after `parent`; `salt` changes the tokens."""

    def save_checkpoint(parent=None, *, num_tokens=4, salt=0, snapshot=True, keep=False, into=None) -> str:
        target = into or store
        start = 0 if parent is None else target.checkpoint(parent).end
        ids = np.arange(start, start + num_tokens, dtype=np.int32) + 1000 * salt
        return target.save(
            parent=parent,
            token_ids=ids,
            start=start,
            segment={"k.0": torch.full((2, num_tokens, 8), float(start + salt))},
            snapshot={"state.1": torch.full((2, 4, 4), float(start + salt))} if snapshot else None,
            keep=keep,
        )

    return save_checkpoint


@pytest.fixture
def new_session(library: Library) -> Callable[..., str]:
    """Create a session with `num_tokens` tokens in its stream; return its id."""

    def create(name="book", *, num_tokens=64, fingerprint=FINGERPRINT) -> str:
        session = library.create_session(name, model="A", fingerprint=fingerprint)
        if num_tokens:
            library.append_parts(
                session.id, [PartDraft(kind="system", token_ids=np.arange(num_tokens, dtype=np.int32))]
            )
        return session.id

    return create


@pytest.fixture
def encoded() -> Callable[..., EncodedDocument]:
    """Make an encoded document from a text, with one token per character."""

    def encode(text="It was the best of times.\n", name="tale.txt", page_starts=(), warnings=()) -> EncodedDocument:
        return EncodedDocument(
            document=Document(
                name=name,
                media_type="text/plain",
                num_bytes=len(text.encode()),
                text=text,
                page_starts=page_starts,
                warnings=warnings,
                content_hash=Document.hash_of(name, text),
            ),
            token_ids=np.array([ord(char) for char in text], dtype=np.int32),
            token_starts=np.arange(len(text), dtype=np.int64),
        )

    return encode


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What only checks a library need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    if find_vfs() is None:
        yield
        return
    with watched(lambda call, *_: SKIP if call == "sync" else GO_ON):
        yield
