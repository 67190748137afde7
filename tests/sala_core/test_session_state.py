"""Where checkpoints end, how a state comes back, and that memory and disk say the same."""

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reading_helpers import SEGMENT_TOKENS, assert_equal_states, last, restored

from sala_core import SamplingParams, memory, stream
from sala_core.errors import MemoryBudgetError
from sala_core.evidence import DocumentSpan
from sala_core.memory import state_bytes_per_token
from sala_core.session import Session
from sala_core.store import PartRow
from sala_core.stream import SEGMENT_TOKENS as GRID
from sala_core.stream import SNAPSHOT_TOKENS, FileFinder, segment_ends

GREEDY = SamplingParams(temperature=0.0, max_tokens=4)


def parts_of(lengths):
    """A system message of 40 tokens, then documents of these lengths."""
    parts, start = [], 0
    for ordinal, length in enumerate([40, *lengths]):
        kind, document = ("document", f"d{ordinal}") if ordinal else ("system", None)
        end = start + length
        parts.append(
            PartRow(
                ordinal=ordinal, kind=kind, start=start, end=end, document_id=document, body_start=0, message_id=None
            )
        )
        start = end
    return parts


@given(
    lengths=st.lists(st.integers(1, 3 * SNAPSHOT_TOKENS), min_size=1, max_size=6),
    at=st.integers(0, 10_000),
)
def test_a_reading_left_at_any_checkpoint_goes_on_with_the_same_ones(lengths, at):
    parts = parts_of(lengths)
    total = parts[-1].end
    ends = segment_ends(parts, 0, total)
    places = [end for end, _ in ends]
    assert places == sorted(set(places))
    assert places[-1] == total
    assert max(b - a for a, b in zip([0, *places], places, strict=False)) <= GRID
    done = at % len(ends)
    assert segment_ends(parts, places[done], total) == ends[done + 1 :]
    kept = {end for end, keep in ends if keep}
    books = {part.end for part in parts[1:] if part.end - part.start >= SNAPSHOT_TOKENS}
    assert kept == {total} | books | set(range(SNAPSHOT_TOKENS, total + 1, SNAPSHOT_TOKENS))


@given(first=st.lists(st.integers(1, 3 * SNAPSHOT_TOKENS), min_size=1, max_size=3), more=st.integers(1, SNAPSHOT_TOKENS))
def test_what_comes_later_moves_no_checkpoint_before_a_kept_one(first, more):
    parts, longer = parts_of(first), parts_of([*first, more])
    total = parts[-1].end
    shared = [end for end, _ in segment_ends(parts, 0, total)][:-1]
    assert [end for end, _ in segment_ends(longer, 0, longer[-1].end)][: len(shared)] == shared


def test_a_stream_that_is_read_has_no_checkpoint_to_come():
    parts = parts_of([100])
    assert segment_ends(parts, 140, 140) == []
    assert segment_ends(parts, 100, 140) == [(140, True)]


def test_the_file_of_a_position_is_the_last_that_began_before_it():
    spans = [
        DocumentSpan(document_id="a", name="a.txt", start=50, end=100),
        DocumentSpan(document_id="b", name="b.txt", start=110, end=110),
        DocumentSpan(document_id="c", name="c.txt", start=120, end=200),
    ]
    files = FileFinder(spans)
    assert files.count == 3
    assert [files.at(position) for position in (0, 49, 50, 109, 110, 119, 120, 500)] == [
        (0, ""),
        (0, ""),
        (0, "a.txt"),
        (0, "a.txt"),
        (1, "b.txt"),
        (1, "b.txt"),
        (2, "c.txt"),
        (2, "c.txt"),
    ]
    assert FileFinder([]).at(7) == (0, "")


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
            assert torch.equal(
                engine.forward(session.state.state.clone(), ids), engine.forward(copy, ids)
            ), "a restored state must compute the same"


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
def test_a_state_is_loaded_once_and_its_time_told(engine, library, write_book):
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


def test_too_long_a_reading_is_refused_before_it_begins_and_can_be_continued(
    engine, library, write_book, monkeypatch
):
    free = psutil.virtual_memory()._replace(available=(256 << 20) + 1000 * state_bytes_per_token(engine))
    with Session.open(library, engine, "demo", create=True) as session:
        with monkeypatch.context() as patch:
            patch.setattr(memory.psutil, "virtual_memory", lambda: free)
            with pytest.raises(MemoryBudgetError, match=r"tokens need .* GiB is free"):
                list(session.read([write_book()]))
        assert session.row.position == 0
        receipt = last(session.read([]))
        assert receipt.tokens_read == session.row.num_tokens > 1000


def test_a_token_takes_the_bytes_that_the_budget_counts(engine):
    state = engine.new_state()
    fixed = state.num_bytes
    for _ in engine.read(state, [7] * 2048):
        pass
    assert (state.num_bytes - fixed) / 2048 == pytest.approx(state_bytes_per_token(engine), rel=0.02)


def test_segments_are_whole_chunks():
    assert stream.SEGMENT_TOKENS % SEGMENT_TOKENS == 0
    assert SNAPSHOT_TOKENS % GRID == 0
