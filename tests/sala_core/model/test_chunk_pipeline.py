"""Pipelined chunks: their order in every layer, errors, and the same states as one chunk after another."""

import threading
import time

import pytest
import torch

from sala_core.model.chunk_pipeline import LayerOrder, run_pipelined
from sala_core.model.forward import SalaModel


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model(small_engine):
    return small_engine.model


def same(state, other):
    """Whether two states hold the same bits."""
    parts = zip(state.sparse.values(), other.sparse.values(), strict=True)
    pairs = [(a.buffers[name].rows, b.buffers[name].rows) for a, b in parts for name in a.buffers]
    return all(torch.equal(*pair) for pair in [*pairs, (state.linear_states, other.linear_states)])


def test_every_layer_is_entered_in_order_and_by_one_at_a_time():
    inside, entered = [threading.Lock() for _ in range(4)], []

    def compute(chunk: int, order: LayerOrder) -> int:
        time.sleep(0.01 * (7 - chunk))  # the last chunk reaches its first layer first
        for layer in range(4):
            with order.take(chunk, layer):
                assert inside[layer].acquire(blocking=False)
                entered.append((layer, chunk))
                inside[layer].release()
        return 10 * chunk

    assert run_pipelined(compute, 7) == [10 * chunk for chunk in range(7)]
    for layer in range(4):
        assert [chunk for at, chunk in entered if at == layer] == list(range(7))


def test_a_chunk_does_not_wait_for_the_one_before_it_to_end():
    second_entered = threading.Event()

    def compute(chunk: int, order: LayerOrder) -> bool:
        with order.take(chunk, 0):
            pass
        if chunk == 1:
            second_entered.set()
        return second_entered.wait(20)

    assert run_pipelined(compute, 2) == [True, True]


@pytest.mark.parametrize("failing", [0, 1, 4])
def test_an_error_in_a_chunk_is_raised_and_no_other_chunk_waits_forever(failing):
    def compute(chunk: int, order: LayerOrder) -> None:
        for layer in range(3):
            with order.take(chunk, layer):
                if chunk == failing and layer == 1:
                    raise MemoryError(f"chunk {chunk}")

    with pytest.raises(MemoryError, match=f"chunk {failing}"):
        run_pipelined(compute, 5)
    assert run_pipelined(lambda chunk, order: chunk, 3) == [0, 1, 2]


def test_each_chunk_uses_one_thread_and_other_threads_keep_their_setting():
    assert run_pipelined(lambda chunk, order: torch.get_num_threads(), 3) == [1, 1, 1]
    assert torch.get_num_threads() == 3
    results = []
    other = threading.Thread(target=lambda: results.append((torch.zeros(1 << 16).add_(1), torch.get_num_threads())))
    other.start()
    other.join()
    assert results[0][1] == 3


@pytest.mark.parametrize("sizes", [[64, 64], [64, 64, 64, 8], [5, 1, 100, 1, 1, 30], [1, 1]])
def test_pipelined_chunks_give_the_same_state_as_one_after_another(model, ids, sizes):
    """Bit for bit, from any position, with more chunks than threads, and with chunks of one token."""
    for begin in (0, 37):
        chunks = list(ids[begin : begin + sum(sizes)].split(sizes))
        state, other = model.new_state(), model.new_state()
        if begin:
            model.prefill(state, ids[:begin])
            model.prefill(other, ids[:begin])
        found = model.prefill_pipelined(state, chunks)
        torch.set_num_threads(1)
        for chunk in chunks:
            expected = model.prefill(other, chunk, last_only=True)
        torch.set_num_threads(3)
        assert torch.equal(found, expected)
        assert state.position == other.position == begin + sum(sizes)
        assert same(state, other)


def test_read_advances_by_all_chunks_that_are_computed_at_once(small_engine, ids, monkeypatch):
    monkeypatch.setattr(small_engine, "chunk_tokens", 64)
    calls = []
    prefill_pipelined = SalaModel.prefill_pipelined

    def record(model, state, chunks):
        calls.append([len(chunk) for chunk in chunks])
        return prefill_pipelined(model, state, chunks)

    monkeypatch.setattr(SalaModel, "prefill_pipelined", record)
    state, other = small_engine.new_state(), small_engine.new_state()
    seen = []
    for done, hidden in small_engine.read(state, ids[:300]):
        assert state.position == done
        seen.append((done, hidden))
    assert [done for done, _ in seen] == [192, 300]
    assert calls == [[64, 64, 64], [64, 44]]
    torch.set_num_threads(1)
    sequential = dict(small_engine.read(other, ids[:300]))
    assert len(calls) == 2
    assert all(torch.equal(hidden, sequential[done]) for done, hidden in seen)
    assert same(state, other)
