"""A reading that would not fit into memory is refused before it begins, with figures."""

from types import SimpleNamespace

import pytest

from sala_core import memory
from sala_core.errors import MemoryBudgetError

MIB = 1 << 20
FREE = 512 * MIB
"""Half of it is kept back for everything else."""


@pytest.fixture
def free(monkeypatch):
    """free(num_bytes) makes so much memory available."""

    def give(num_bytes):
        monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=num_bytes))

    return give


def test_bytes_per_token_are_what_a_state_grows_by(engine, ids):
    state = engine.new_state()
    empty = state.num_bytes
    engine.forward(state, ids)
    predicted = memory.state_bytes_per_token(engine) * len(ids)
    if engine.config.sparse_layers:
        assert state.num_bytes - empty == pytest.approx(predicted, rel=0.05)
    else:
        assert state.num_bytes == empty


def test_what_fits_is_let_through(small_engine, free):
    free(FREE)
    memory.check_budget(small_engine, 1)
    memory.check_budget(small_engine, 500_000)


def test_what_does_not_fit_is_refused_with_the_figures_and_a_next_step(small_engine, free):
    each = memory.state_bytes_per_token(small_engine)
    free(FREE)
    too_many = 400 * MIB // each
    with pytest.raises(MemoryBudgetError, match=rf"^{too_many:,} tokens need 0\.4 GiB .* 0\.2 GiB is free; .*fewer"):
        memory.check_budget(small_engine, too_many)


def test_a_machine_without_memory_is_reported_as_such(small_engine, free):
    free(1 << 20)
    with pytest.raises(MemoryBudgetError, match=r"0\.0 GiB is free"):
        memory.check_budget(small_engine, 1000)


def test_tokens_already_in_memory_are_not_counted_again(small_engine, free):
    free(FREE)
    too_many = 400 * MIB // memory.state_bytes_per_token(small_engine)
    memory.check_budget(small_engine, too_many, held_tokens=too_many // 2)


def test_a_stream_longer_than_a_session_is_refused_whatever_is_free(small_engine, free):
    free(1 << 50)
    memory.check_budget(small_engine, memory.MAX_TOKENS)
    with pytest.raises(MemoryBudgetError, match=r"2,097,153 tokens are more than a session holds"):
        memory.check_budget(small_engine, memory.MAX_TOKENS + 1)


def test_on_a_card_the_free_memory_of_the_card_counts(small_engine, free, monkeypatch):
    free(1 << 50)
    monkeypatch.setattr(small_engine, "free_device_bytes", lambda: FREE)
    with pytest.raises(MemoryBudgetError, match=r"0\.2 GiB is free"):
        memory.check_budget(small_engine, 2_000_000)


def test_a_full_card_is_full(small_engine, free, monkeypatch):
    """No free byte on the card does not mean that the computer's own memory may be used."""
    free(1 << 50)
    monkeypatch.setattr(small_engine, "free_device_bytes", lambda: 0)
    with pytest.raises(MemoryBudgetError, match=r"0\.0 GiB is free"):
        memory.check_budget(small_engine, 1000)
