"""Stored segments go straight into a state's rows, verified, without memory beside the state."""

import threading
import tracemalloc

import pytest
from reading_helpers import assert_equal_states, last

from sala_core.disk.safetensors import encode_tensors
from sala_core.errors import CorruptStateError, StateError
from sala_core.session.session import Session
from sala_core.session.stored_rows.restore import StoredRows
from sala_core.store.checkpoints import SEGMENT_SUFFIX

pytestmark = pytest.mark.usefixtures("short_segments")


@pytest.fixture
def stored(library, session_engine, write_book):
    """(state in memory, its chain, the rows of its kind) of a session of four segments."""
    with Session.open(library, session_engine, "demo", create=True) as session:
        last(session.read([write_book("a.txt", 300, 1)]))
        state = session.state.state
    rows = StoredRows(library, session_engine, session_engine.fingerprint)
    chain = rows.store.chain(library.session("demo").head)
    assert len(chain) >= 3
    return state, chain, rows


def file_of(library, row):
    return library.states_folder / (row.name + SEGMENT_SUFFIX)


def restore(rows, state, chain):
    """Restore all; returns the names in the order in which they came."""
    names = []
    for name, arrive in rows.restore(state, chain):
        arrive()
        names.append(name)
    return names


def test_segments_arrive_in_order_and_give_the_same_rows(session_engine, stored):
    state, chain, rows = stored
    fresh = session_engine.new_state()
    assert restore(rows, fresh, chain) == [row.name for row in chain]
    fresh.restore_snapshot(rows.store.load_snapshot(chain[-1].name), chain[-1].end)
    assert_equal_states(fresh, state)


def test_segments_can_follow_rows_that_are_there(session_engine, stored):
    state, chain, rows = stored
    fresh = session_engine.new_state()
    restore(rows, fresh, chain[:1])
    restore(rows, fresh, chain[1:])
    fresh.restore_snapshot(rows.store.load_snapshot(chain[-1].name), chain[-1].end)
    assert_equal_states(fresh, state)


def test_nothing_is_allocated_beside_the_state(session_engine, stored):
    _, chain, rows = stored
    fresh = session_engine.new_state()
    fresh.reserve(chain[-1].end)
    tracemalloc.start()
    restore(rows, fresh, chain)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < chain[0].segment_bytes // 2, "not even half of one segment"


@pytest.mark.parametrize("at", [3, 60, 5000, -1])
def test_a_damaged_segment_raises_and_its_rows_do_not_count(library, session_engine, stored, at):
    _, chain, rows = stored
    file = file_of(library, chain[1])
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)
    fresh = session_engine.new_state()
    with pytest.raises(CorruptStateError, match=chain[1].name):
        restore(rows, fresh, chain)
    assert {cache.keys.shape[1] for cache in fresh.sparse.values()} == {chain[0].end}


def test_sound_bytes_of_other_tensors_are_damage(library, session_engine, stored):
    _, chain, rows = stored
    state = session_engine.new_state()
    state.reserve(chain[-1].end)
    tensors = state.segment(0, chain[0].end - 1)
    file_of(library, chain[0]).write_bytes(b"".join(encode_tensors(tensors, {})))
    with pytest.raises(CorruptStateError):
        restore(rows, state, chain)


def test_a_segment_that_was_deleted_meanwhile_is_missing_and_not_damaged(session_engine, stored):
    _, chain, rows = stored
    rows.store.discard(chain[1].name)
    with pytest.raises(StateError, match="deleted just now") as raised:
        restore(rows, session_engine.new_state(), chain)
    assert not isinstance(raised.value, CorruptStateError)


def test_closing_it_early_waits_for_what_is_under_way(session_engine, stored):
    _, chain, rows = stored
    restoring = rows.restore(session_engine.new_state(), chain)
    next(restoring)[1]()
    restoring.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sala-load")]
