"""Eviction deletes only states, and only those that may go; garbage collection only what no session needs."""

import os
import time

import pytest

from sala_core.store import MessageDraft, PartDraft
from sala_core.store.checkpoints import SEGMENT_SUFFIX


def age(library):
    """Let the database be older than all files."""
    with library.database.write() as conn:
        conn.execute("UPDATE library SET value = '0' WHERE key = 'born_at'")


def set_used(library, **times) -> None:
    """Set when checkpoints were last used."""
    with library.database.write() as conn:
        for name, used_at in times.items():
            conn.execute("UPDATE checkpoints SET used_at = ? WHERE name = ?", [used_at, name])


def test_usage_counts_every_kind_and_equals_what_is_on_disk(library, save, new_session, encoded):
    new_session()
    save(keep=True)
    library.put_document(encoded(), "t")
    (library.states_folder / ".stray.tmp").write_bytes(bytes(123))
    usage = library.usage()
    assert usage.stray_bytes == 123
    assert min(usage.segments_bytes, usage.snapshots_bytes, usage.documents_bytes, usage.database_bytes) > 0
    on_disk = sum(
        path.stat().st_size for path in library.folder.rglob("*") if path.is_file() and path.parent.name != "locks"
    )
    assert usage.total_bytes == on_disk
    assert usage.states_bytes == usage.segments_bytes + usage.snapshots_bytes


def test_the_state_bytes_of_a_session_include_its_whole_chain(library, store, save, new_session):
    session = new_session()
    assert library.session_state_bytes(session) == 0
    last = save(save(keep=True))
    library.set_head(session, last, 8)
    assert library.session_state_bytes(session) == sum(row.num_bytes for row in store.chain(last))


def test_eviction_shortens_the_least_recently_used_chain_from_its_end(library, store, save, new_session):
    old, new = new_session("old"), new_session("new")
    first = save(keep=True)
    middle = save(first, snapshot=False)
    last = save(middle)
    other = save(salt=5)
    library.set_head(old, last, 12)
    library.set_head(new, other, 4)
    set_used(library, **{first: 1, middle: 1, last: 1, other: 2})
    before = library.usage().states_bytes
    freed = library.evict(before - 1)
    assert freed == before - library.usage().states_bytes > 0
    assert (library.session(old).head, library.session(old).position) == (first, 4)
    assert not store.has(middle), "a run without a later snapshot is of no use"
    assert store.load_snapshot(first)
    assert library.session(new).head == other
    library.evict(0)
    assert library.usage().states_bytes == 0
    assert (library.session(old).head, library.session(old).position) == (None, 0)
    assert list(library.states_folder.iterdir()) == []


def test_eviction_keeps_texts_tokens_and_messages(library, save, new_session, encoded):
    session = new_session()
    document = library.put_document(encoded(), "t")
    parts = [PartDraft(kind="document", token_ids=[1], document_id=document)]
    library.commit_turn(session, parts, [MessageDraft(role="user", text="x")], save(), 4)
    library.evict(0)
    assert library.load_document(document) == encoded()
    assert len(library.token_ids(session, 0, 65)) == 65
    assert len(library.messages(session)) == 1


def test_eviction_does_nothing_if_everything_fits(library, save):
    save()
    assert library.evict(library.usage().states_bytes) == 0


def test_loading_a_snapshot_marks_its_chain_as_used(library, store, save):
    first = save(keep=True)
    second = save(first)
    other = save(salt=3)
    set_used(library, **{first: 1, second: 1, other: 2})
    store.load_snapshot(second)
    library.evict(library.usage().states_bytes - 1)
    assert store.has(second)
    assert not store.has(other)


def test_eviction_keeps_the_states_of_a_locked_session_and_those_it_is_adding(library, store, save, new_session):
    session = new_session()
    head = save(keep=True)
    library.set_head(session, head, 4)
    ahead = save(head)
    other = save(salt=2)
    with library.lock_session(session):
        library.evict(0)
        assert (store.has(head), store.has(ahead), store.has(other)) == (True, True, False)
    library.evict(0)
    assert not store.has(head)


def test_garbage_is_what_no_head_needs_and_was_not_used_recently(library, store, save, new_session, encoded):
    session = new_session()
    head = save(keep=True)
    library.set_head(session, head, 4)
    orphan = save(save(salt=7, keep=True), salt=7)
    document = library.put_document(encoded(), "t")
    strays = [library.states_folder / ".left.tmp", library.states_folder / ("0" * 32 + SEGMENT_SUFFIX)]
    strays.append(library.documents_folder / "unknown.safetensors")
    for path in strays:
        path.write_bytes(bytes(50))
    assert store.collect_garbage() == 0
    assert all(path.exists() for path in strays)
    long_ago = time.time() - 7200
    age(library)
    for path in strays:
        os.utime(path, (long_ago, long_ago))
    assert library.collect_garbage() == 150
    assert store.has(orphan)
    assert library.collect_garbage(min_age_s=0) > 0
    assert not store.has(orphan)
    assert store.load_snapshot(head)
    assert library.usage().stray_bytes == 0
    assert not (library.documents_folder / f"{document}.safetensors").exists()


def test_garbage_collection_keeps_the_ancestors_of_a_recent_checkpoint(library, store, save):
    first = save(keep=True)
    second = save(first)
    set_used(library, **{first: 1})
    library.collect_garbage()
    assert [row.name for row in store.chain(second)] == [first, second]


def test_a_document_in_a_session_is_not_garbage(library, new_session, encoded):
    session = new_session()
    document = library.put_document(encoded(), "t")
    library.append_parts(session, [PartDraft(kind="document", token_ids=[1], document_id=document)])
    library.collect_garbage(min_age_s=0)
    assert library.load_document(document) == encoded()


def test_a_registered_file_is_not_removed(library, save):
    name = save()
    path = library.states_folder / (name + SEGMENT_SUFFIX)
    assert library.remove_files([path, library.states_folder / "missing"]) == 0
    assert path.exists()


@pytest.mark.parametrize("damaged", [True, False])
def test_deleting_works_even_if_files_are_missing(library, save, new_session, damaged):
    session = new_session()
    state = save()
    library.set_head(session, state, 4)
    if damaged:
        (library.states_folder / (state + SEGMENT_SUFFIX)).unlink()
    library.delete_session(session)
    assert list(library.states_folder.iterdir()) == []
