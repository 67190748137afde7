"""A stream that does not fit into memory is refused before prefill begins, with figures."""

import re
from types import SimpleNamespace

import pytest
import torch

from sala_core import Engine
from sala_core.engine import memory_budget, memory_plan
from sala_core.errors import MemoryBudgetError

pytestmark = pytest.mark.usefixtures("one_thread")  # so that every machine counts one chunk at a time

MIB = 1 << 20
FREE = 512 * MIB
"""Half of it is kept free for everything else."""


@pytest.fixture
def free(monkeypatch):
    """free(num_bytes) sets the free memory of the system."""

    def set_free(num_bytes):
        monkeypatch.setattr(memory_plan.psutil, "virtual_memory", lambda: SimpleNamespace(available=num_bytes))

    return set_free


def bytes_per_token(engine):
    """Average bytes that a token adds to a state: keys, values and pooled keys of the sparse layers."""
    return max(1, round(memory_budget.plan_for(engine, 1 << 20).kv_bytes / 2**20))


def longest(engine, state=None):
    """The longest stream that `check_budget` accepts, found by bisection."""
    low, high = 0, memory_budget.MAX_TOKENS
    while low < high:
        middle = (low + high + 1) // 2
        try:
            memory_budget.check_budget(engine, middle, state=state)
            low = middle
        except MemoryBudgetError:
            high = middle - 1
    return low


def test_planned_bytes_per_token_equal_the_growth_of_a_state(engine, ids):
    state = engine.new_state()
    empty = state.num_bytes
    engine.forward(state, ids)
    predicted = bytes_per_token(engine) * len(ids)
    if engine.config.sparse_layers:
        assert state.num_bytes - empty == pytest.approx(predicted, rel=0.05)
    else:
        assert state.num_bytes == empty


def test_a_stream_that_fits_is_accepted(small_engine, free):
    free(FREE)
    memory_budget.check_budget(small_engine, 1)
    memory_budget.check_budget(small_engine, 300_000)


def test_a_stream_that_does_not_fit_is_refused_with_figures_and_a_next_step(small_engine, free):
    free(FREE)
    too_many = 400 * MIB // bytes_per_token(small_engine)
    needed = r"need 0\.8 GiB \(0\.4 keys and values, 0\.4 computing\) and 0\.2 GiB is free"
    message = rf"^{too_many:,} tokens {needed}; .*read fewer files$"
    with pytest.raises(MemoryBudgetError, match=message):
        memory_budget.check_budget(small_engine, too_many)


def test_the_message_names_the_longest_streams_that_fit(small_engine, make_model, free):
    free(FREE)
    with pytest.raises(MemoryBudgetError) as refused:
        memory_budget.check_budget(small_engine, memory_budget.MAX_TOKENS)
    plain, quantized = re.search(r"; ([\d,]+) tokens fit, ([\d,]+) with --kv int8; ", str(refused.value)).groups()
    assert longest(small_engine) == memory_budget.tokens_that_fit(small_engine) == int(plain.replace(",", ""))
    smaller = Engine.load(make_model(), dtype="float32", kv="int8")
    assert longest(smaller) == int(quantized.replace(",", "")) > longest(small_engine)
    with pytest.raises(MemoryBudgetError) as refused:
        memory_budget.check_budget(smaller, memory_budget.MAX_TOKENS)
    assert "--kv" not in str(refused.value)


def test_a_machine_without_free_memory_is_reported(small_engine, free):
    free(1 << 20)
    with pytest.raises(MemoryBudgetError, match=r"0\.0 GiB is free; close other"):
        memory_budget.check_budget(small_engine, 1000)
    assert memory_budget.tokens_that_fit(small_engine) == 0


def test_memory_that_the_state_has_reserved_is_not_counted_again(small_engine, free):
    free(FREE)
    most = longest(small_engine)
    state = small_engine.new_state()
    state.reserve(most + memory_budget.HEADROOM_TOKENS)
    free(FREE - state.reserved_bytes)
    memory_budget.check_budget(small_engine, most, state=state)
    with pytest.raises(MemoryBudgetError):
        memory_budget.check_budget(small_engine, most)
    with pytest.raises(MemoryBudgetError):
        memory_budget.check_budget(small_engine, most + 5000, state=state)


def test_the_copy_of_a_growing_buffer_is_counted(small_engine, free):
    """While a state grows, the old and the new rows of one buffer are both in memory."""
    state = small_engine.new_state()
    state.reserve(100_000)
    free(1 << 50)
    new = memory_budget._needed_bytes(small_engine, 200_000, None)["keys and values"]
    grown = memory_budget._needed_bytes(small_engine, 200_000, state)["keys and values"]
    reserved = state.reserved_bytes - memory_plan.linear_bytes(small_engine.config)
    assert grown == new - reserved + state.largest_buffer_bytes


def test_a_stream_longer_than_a_session_is_refused_whatever_memory_is_free(small_engine, free):
    free(1 << 50)
    memory_budget.check_budget(small_engine, memory_budget.MAX_TOKENS)
    with pytest.raises(MemoryBudgetError, match=r"2,097,153 tokens are more than a session holds"):
        memory_budget.check_budget(small_engine, memory_budget.MAX_TOKENS + 1)


def test_free_memory_of_a_card_includes_the_cache_of_torch(monkeypatch, free):
    free(1 << 50)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (300 * MIB, 8192 * MIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700 * MIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 500 * MIB)
    assert memory_plan.free_device_bytes(torch.device("cuda")) == 500 * MIB
    assert memory_plan.free_device_bytes(torch.device("cpu")) == 1 << 50


@pytest.mark.parametrize("card_free", [0, 400 * MIB])
def test_system_memory_does_not_count_for_a_full_card(small_engine, free, monkeypatch, card_free):
    """Not even if the card has no free byte."""
    free(1 << 50)
    monkeypatch.setattr(memory_budget, "free_device_bytes", lambda device: card_free)
    with pytest.raises(MemoryBudgetError, match=r"0\.[01] GiB is free"):
        memory_budget.check_budget(small_engine, 2_000_000)
