"""Saving during the prefill: in order, of the state at that moment, with a bounded queue; no failure is lost."""

import threading
import time
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_helpers import SEGMENT_TOKENS, assert_equal_states, last, restored

from sala_core.engine.memory_plan import PENDING_SAVES
from sala_core.errors import DiskFullError
from sala_core.session.segment_writer import SegmentWriter
from sala_core.session.session import Session
from sala_core.store.states import StateStore

CPU = torch.device("cpu")
NO_CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=[pytest.mark.gpu, NO_CARD])]


def ones(value, device=CPU):
    return {"k.0": torch.full((2, 3, 4), float(value), device=device)}


class Saved:
    """Remembers what it was given; `gate` holds it back."""

    def __init__(self):
        self.values, self.threads, self.places = [], set(), set()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, segment, snapshot):
        assert self.gate.wait(20)
        self.threads.add(threading.current_thread().name)
        self.places.add(segment["k.0"].data_ptr())
        self.values.append((float(segment["k.0"].mean()), float(snapshot["state.0"].mean())))


@pytest.fixture(params=DEVICES, ids=str)
def device(request):
    return request.param


def test_saves_run_in_order_on_another_thread_with_the_tensors_of_the_moment(device):
    writer, saved = SegmentWriter(device), Saved()
    states = torch.zeros(3, 4, 4, device=device)
    for value in range(7):
        states.fill_(value)
        writer.put(ones(value, device), {"state.0": states}, saved)
        states.fill_(-1)
    writer.flush()
    assert saved.values == [(value, value) for value in range(7)]
    assert len(saved.threads) == 1
    assert threading.current_thread().name not in saved.threads
    assert len(saved.places) <= PENDING_SAVES


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(1, 5)), max_size=6), st.integers(0, 9))
def test_copies_are_equal_and_contiguous_whatever_the_layout(shapes, start):
    kinds = (torch.float32, torch.int8, torch.bfloat16, torch.uint8, torch.float64)
    tensors = {
        f"t.{i}": torch.randn(heads, 30, dim).mul(9).to(kinds[i % len(kinds)])[:, start : start + rows]
        for i, (heads, rows, dim) in enumerate(shapes)
    }
    tensors["scale"] = torch.randn(2, 20)[:, start : start + 4]
    found = []
    writer = SegmentWriter(CPU)
    writer.put(tensors, {}, lambda segment, snapshot: found.append({k: v.clone() for k, v in segment.items()}))
    writer.flush()
    assert found[0].keys() == tensors.keys()
    assert all(torch.equal(found[0][name], tensor) for name, tensor in tensors.items())


def test_the_queue_is_bounded_and_a_full_one_blocks():
    writer, saved = SegmentWriter(CPU), Saved()
    saved.gate.clear()
    for value in range(PENDING_SAVES):
        writer.put(ones(value), {"state.0": torch.zeros(1)}, saved)
    threading.Timer(0.3, saved.gate.set).start()
    started = time.monotonic()
    writer.put(ones(9), {"state.0": torch.zeros(1)}, saved)
    assert time.monotonic() - started > 0.2
    writer.flush()
    assert [segment for segment, _ in saved.values] == [*range(PENDING_SAVES), 9]


@pytest.mark.parametrize("by_flush", [True, False])
def test_a_failure_is_raised_once_and_the_saves_behind_it_are_dropped(by_flush):
    writer, saved = SegmentWriter(CPU), Saved()

    def fail(segment, snapshot):
        saved.gate.wait(20)
        raise DiskFullError("full")

    saved.gate.clear()
    writer.put(ones(1), {}, fail)
    writer.put(ones(2), {"state.0": torch.zeros(1)}, saved)
    saved.gate.set()
    next_step = writer.flush if by_flush else partial(writer.put, ones(3), {"state.0": torch.zeros(1)}, saved)
    with pytest.raises(DiskFullError, match="full"):
        next_step()
    writer.flush()
    assert saved.values == []
    writer.put(ones(4), {"state.0": torch.zeros(1)}, saved)
    writer.flush()
    assert saved.values == [(4.0, 0.0)]


@pytest.fixture
def slow_saves(monkeypatch):
    """Saving takes longer than reading; the list receives the end of every run that is stored."""
    stored, save = [], StateStore.save

    def slowly(self, **given):
        time.sleep(0.1)
        name = save(self, **given)
        stored.append(given["start"] + len(given["token_ids"]))
        return name

    monkeypatch.setattr(StateStore, "save", slowly)
    return stored


@pytest.mark.usefixtures("short_segments")
def test_a_finished_reading_is_on_disk_bit_by_bit(session_engine, library, write_book, slow_saves):
    with Session.open(library, session_engine, "demo", create=True) as session:
        receipt = last(session.read([write_book(num_lines=300)]))
        assert receipt.tokens_read == slow_saves[-1] == session.row.position == session.row.num_tokens
        assert slow_saves == [*range(SEGMENT_TOKENS, slow_saves[-1], SEGMENT_TOKENS), slow_saves[-1]]
        kept = session.state.state
    assert_equal_states(kept, restored(library, session_engine, "demo"))


@pytest.mark.usefixtures("short_segments")
@pytest.mark.parametrize("how", ["closed", "stopped", "abandoned"])
def test_nothing_is_written_after_the_lock_is_released(session_engine, library, write_book, slow_saves, how):
    session = Session.open(library, session_engine, "demo", create=True)
    stopping = threading.Event()
    reading = session.read([write_book(num_lines=300)], should_stop=stopping.is_set)
    for event in reading:
        if getattr(event, "tokens_done", 0) >= 2 * SEGMENT_TOKENS:
            break
    if how == "closed":
        reading.close()
    elif how == "stopped":
        stopping.set()
        assert last(reading).stopped
    session.close()
    before, position = list(slow_saves), library.session("demo").position
    assert before[-1] == position >= SEGMENT_TOKENS
    time.sleep(0.3)
    assert (slow_saves, library.session("demo").position) == (before, position)
    reading.close()
    with Session.open(library, session_engine, "demo") as again:
        receipt = last(again.read([]))
    assert receipt.tokens_reused == position


@pytest.mark.usefixtures("short_segments")
def test_a_failed_save_keeps_earlier_segments_and_the_next_reading_continues(
    session_engine, library, write_book, monkeypatch
):
    save, calls = StateStore.save, []

    def fail_once(self, **given):
        calls.append(given["start"])
        if len(calls) == 3:
            raise DiskFullError("the disk is full")
        return save(self, **given)

    monkeypatch.setattr(StateStore, "save", fail_once)
    with Session.open(library, session_engine, "demo", create=True) as session:
        with pytest.raises(DiskFullError, match="the disk is full"):
            last(session.read([write_book(num_lines=500)]))
        assert session.row.position == 2 * SEGMENT_TOKENS
        assert len(calls) == 3
        receipt = last(session.read([]))
        assert receipt.tokens_reused == 2 * SEGMENT_TOKENS
        kept = session.state.state
    assert_equal_states(kept, restored(library, session_engine, "demo"))
