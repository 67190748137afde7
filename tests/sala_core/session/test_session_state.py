"""How a state comes back, what of it stays on disk, and that memory and disk say the same."""

import psutil
import pytest
import torch
from reading_helpers import SEGMENT_TOKENS, assert_equal_states, last, restored

from sala_core import Engine, SamplingParams
from sala_core.engine import memory_budget, memory_plan
from sala_core.errors import MemoryBudgetError, StateMismatchError
from sala_core.session.session import Session

GREEDY = SamplingParams(temperature=0.0, max_tokens=4)


@pytest.fixture
def engine(session_engine):
    return session_engine


def memory_for(engine, num_tokens):
    """What psutil would say where a new session could take so many tokens, and no more."""
    needed = sum(memory_budget._needed_bytes(engine, num_tokens, None).values())
    return psutil.virtual_memory()._replace(available=(256 << 20) + needed)


@pytest.mark.usefixtures("short_segments")
def test_memory_and_disk_hold_the_same_bits_after_reading_and_after_every_turn(engine, library, write_book):
    with Session.open(library, engine, "demo", create=True) as session:
        steps = [
            lambda: session.read([write_book("a.txt", 100, 1)]),
            lambda: session.ask("Who came?", GREEDY),
            lambda: session.read([write_book("b.txt", 30, 2)]),
            lambda: session.ask("And then?", GREEDY),
        ]
        for number, step in enumerate(steps):
            last(step())
            library.fork_session(session.row.id, f"copy {number}")
            copy = restored(library, engine, f"copy {number}")
            assert_equal_states(session.state.state, copy)
            assert copy.position == session.row.num_tokens
            ids = [5, 6, 7]
            assert torch.equal(engine.forward(session.state.state.clone(), ids), engine.forward(copy, ids)), (
                "a restored state must compute the same"
            )


@pytest.mark.usefixtures("short_segments")
def test_only_kept_snapshots_and_the_heads_stay_on_disk(engine, library, write_book):
    with Session.open(library, engine, "demo", create=True) as session:
        last(session.read([write_book(num_lines=360)]))
        chain = session.state._store.chain(session.row.head)
    ends = [row.end for row in chain if row.has_snapshot]
    assert len(chain) >= 5
    assert ends == [*range(2 * SEGMENT_TOKENS, chain[-1].end, 2 * SEGMENT_TOKENS), chain[-1].end]
    assert len(list(library.states_folder.glob("*.snapshot.safetensors"))) == len(ends)
    assert len(list(library.states_folder.glob("*.segment.safetensors"))) == len(chain)


@pytest.mark.usefixtures("short_segments")
def test_a_state_is_loaded_once_and_its_time_is_measured(engine, library, write_book):
    with Session.open(library, engine, "demo", create=True) as session:
        last(session.read([write_book(num_lines=60)]))
    with Session.open(library, engine, "demo") as session:
        events = list(session.state.catch_up(lambda: False))
        assert {event.phase for event in events} == {"restoring"}
        assert events[-1].tokens_done == session.row.num_tokens
        assert session.state.load_s > 0
        assert (session.state.tokens_read, session.state.tokens_reused) == (0, session.row.num_tokens)
        assert list(session.state.catch_up(lambda: False)) == []
        session.state.forget()
        assert list(session.state.catch_up(lambda: False)) != []


def test_a_reading_that_does_not_fit_is_refused_before_it_begins(engine, library, write_book, monkeypatch):
    free = memory_for(engine, 1000)
    with Session.open(library, engine, "demo", create=True) as session:
        before = session.row
        with monkeypatch.context() as patch:
            patch.setattr(memory_plan.psutil, "virtual_memory", lambda: free)
            with pytest.raises(MemoryBudgetError, match=r"tokens need .* GiB is free; [\d,]+ tokens fit"):
                list(session.read([write_book()]))
        assert session.row == before
        receipt = last(session.read([write_book()]))
        assert receipt.tokens_read == session.row.num_tokens > 1000


def test_what_is_in_memory_already_needs_no_further_memory(engine, library, write_book, monkeypatch):
    with Session.open(library, engine, "demo", create=True) as session:
        last(session.read([write_book("long.txt", 150, 1)]))
        free = memory_for(engine, 1000)
        monkeypatch.setattr(memory_plan.psutil, "virtual_memory", lambda: free)
        before = session.state.state
        assert last(session.read([write_book("short.txt", 20, 2)])).tokens_read == session.row.num_tokens > 1000
        assert session.state.state is before, "its memory is used again, and it begins again at a fixed place"
        session.state.forget()
        with pytest.raises(MemoryBudgetError):
            list(session.ask("Who came?", GREEDY))


def test_a_stream_longer_than_the_maximum_is_refused(engine, library, write_book, monkeypatch):
    monkeypatch.setattr(memory_budget, "MAX_TOKENS", 500)
    with Session.open(library, engine, "demo", create=True) as session:
        with pytest.raises(MemoryBudgetError, match=r"more than a session holds \(500\)"):
            list(session.read([write_book()]))
        assert session.row.num_documents == 0


def test_reserved_buffers_are_not_moved_by_questions_and_answers(engine, library, write_book):
    with Session.open(library, engine, "demo", create=True) as session:
        last(session.read([write_book("long.txt", 150, 1)]))
        state = session.state.state
        key, capacity = state.buffers_key(), state.capacity
        assert capacity == state.position + memory_budget.HEADROOM_TOKENS
        for _ in range(2):
            last(session.ask("Who came?", GREEDY))
        assert session.state.state is state
        assert state.buffers_key() == key
        last(session.read([write_book("more.txt", 500, 3)]))
        assert state.capacity == state.position + memory_budget.HEADROOM_TOKENS > capacity


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("kv", ["int8", "fp8"])
def test_quantized_keys_and_values_come_back_bit_by_bit_and_in_half_the_space(random_model, library, write_book, kv):
    plain, small = (Engine.load(random_model, dtype="float32", kv=each) for each in ("plain", kv))
    book = write_book(num_lines=220)
    for engine in (plain, small):
        with Session.open(library, engine, engine.model.kv, create=True) as session:
            last(session.read([book]))
            last(session.ask("Who came?", GREEDY))
            kept = session.state.state
        assert_equal_states(kept, restored(library, engine, engine.model.kv))
        assert kept.kv == engine.model.kv
    sizes = {name: library.session_state_bytes(library.session(name).id) for name in ("plain", kv)}
    assert sizes[kv] < 0.6 * sizes["plain"]
    with Session.open(library, small, "plain") as session, pytest.raises(StateMismatchError, match="--again"):
        last(session.ask("Who came?", GREEDY))
