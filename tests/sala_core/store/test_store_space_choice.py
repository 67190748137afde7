"""The bytes that can be freed equal those freed; a session without its state keeps everything else."""

import os

import pytest

from sala_core.errors import SessionBusyError, SessionNotFoundError
from sala_core.store import MessageDraft, PartDraft
from sala_core.store.checkpoints import SEGMENT_SUFFIX

OLD = 1.0


def test_dropping_a_state_keeps_texts_tokens_and_messages(library, save, new_session, encoded):
    session = new_session()
    document = library.put_document(encoded(), "t")
    parts = [PartDraft(kind="document", token_ids=[1], document_id=document)]
    library.commit_turn(session, parts, [MessageDraft(role="user", text="x")], save(keep=True), 4)
    updated = library.session(session).updated_at
    expected = library.droppable_bytes([session])
    assert library.drop_state(session) == expected > 0
    row = library.session(session)
    assert (row.head, row.position, row.num_tokens, row.updated_at) == (None, 0, 65, updated)
    assert library.load_document(document) == encoded()
    assert len(library.messages(session)) == 1
    assert library.usage().states_bytes == 0
    assert list(library.states_folder.iterdir()) == []
    assert library.drop_state(session) == library.droppable_bytes([session]) == 0


def test_states_shared_with_a_fork_stay_and_count_only_for_both(library, store, save, new_session):
    session = new_session()
    shared = save(keep=True)
    library.set_head(session, shared, 4)
    fork = library.fork_session(session, "fork").id
    own = save(shared, keep=True)
    library.set_head(fork, own, 8)
    both = library.usage().states_bytes
    assert library.droppable_bytes([session]) == 0
    assert 0 < library.droppable_bytes([fork]) < library.droppable_bytes([session, fork]) == both
    expected = library.droppable_bytes([fork])
    assert library.drop_state(fork) == expected
    assert library.session(session).head == shared
    assert store.load_snapshot(shared)
    assert library.drop_state(session) == both - expected


def test_a_locked_session_keeps_its_state(library, save, new_session):
    session = new_session()
    library.set_head(session, save(), 4)
    with library.lock_session(session), pytest.raises(SessionBusyError):
        library.drop_state(session)
    assert library.session(session).position == 4
    with pytest.raises(SessionNotFoundError):
        library.drop_state("nobody")
    assert library.droppable_bytes(["nobody"]) == 0


def test_garbage_bytes_equal_the_bytes_collected(library, save, new_session, encoded):
    session = new_session()
    needed = save(keep=True)
    library.set_head(session, needed, 4)
    save(needed, salt=3)
    save(salt=7)
    library.put_document(encoded(), "t")
    stray = library.states_folder / ("0" * 32 + SEGMENT_SUFFIX)
    stray.write_bytes(bytes(500))
    assert library.garbage_bytes() == 0, "everything is recent"
    with library.database.write() as conn:
        conn.execute("UPDATE checkpoints SET used_at = ?", [OLD])
        conn.execute("UPDATE documents SET used_at = ?", [OLD])
    for path in [*library.states_folder.iterdir(), *library.documents_folder.iterdir()]:
        os.utime(path, (OLD, OLD))
    counted = library.garbage_bytes()
    assert counted > 500
    assert library.collect_garbage() == counted
    assert library.garbage_bytes() == 0
    assert library.session(session).head == needed
