"""The state: what it holds after any number of tokens, and that copies and pieces of it are the same bit by bit."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sala_kernels import compress_keys

from sala_core.errors import StateMismatchError
from sala_core.state import GrowingBuffer

pytestmark = pytest.mark.usefixtures("one_thread")


def tensors(state):
    return {**state.segment(0, state.position), **state.snapshot()}


def assert_equal_bits(found, expected):
    assert found.position == expected.position
    ours, theirs = tensors(found), tensors(expected)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].dtype == tensor.dtype for name, tensor in theirs.items())
    assert [name for name, tensor in theirs.items() if not torch.equal(ours[name], tensor)] == []


def edges(engine, longest):
    """0, 1, and a token before, at and after the end of every block and window."""
    sparse = engine.config.sparse_config
    ends = set(range(0, longest, sparse.block_size))
    ends |= set(range(sparse.kernel_size, longest, sparse.kernel_stride))
    ends |= set(range(sparse.coarse_size, longest, sparse.coarse_stride))
    named = {0, 1, 31, 32, 127, 128}
    return sorted({end + near for end in ends | named for near in (-1, 0, 1) if 0 <= end + near < longest})


def test_after_any_number_of_tokens_exactly_the_whole_windows_are_pooled(engine, ids):
    """Token by token over every edge; the pooled keys are those of all keys at once, bit by bit."""
    sparse, state = engine.config.sparse_config, engine.new_state()
    for n in range(len(ids) + 1):
        for cache in state.sparse.values():
            assert (cache.keys.shape[1], cache.values.shape[1]) == (n, n)
            for pooled, size, stride in (
                (cache.fine, sparse.kernel_size, sparse.kernel_stride),
                (cache.coarse, sparse.coarse_size, sparse.coarse_stride),
            ):
                assert pooled.shape[1] == len(range(0, n - size + 1, stride))
        if n < len(ids):
            engine.forward(state, ids[n : n + 1])
    for cache in state.sparse.values():
        keys = cache.keys.contiguous()
        assert torch.equal(cache.fine, compress_keys(keys, size=sparse.kernel_size, stride=sparse.kernel_stride))
        assert torch.equal(cache.coarse, compress_keys(keys, size=sparse.coarse_size, stride=sparse.coarse_stride))


def test_a_state_of_every_length_can_be_copied_and_gone_on_from(engine, ids):
    whole = engine.forward(engine.new_state(), ids)
    state = engine.new_state()
    for n in edges(engine, min(290, 12 * engine.config.sparse_config.block_size)):
        engine.forward(state, ids[state.position : n])
        copy, other = state.clone(), state.clone()
        assert_equal_bits(copy, state)
        after = engine.forward(copy, ids[n : n + 17])
        assert state.position == n
        assert torch.equal(engine.forward(other, ids[n : n + 17]), after)
        assert_equal_bits(copy, other)
        torch.testing.assert_close(after, whole[n : n + 17], rtol=0, atol=1e-4)


def test_spare_room_in_the_buffers_is_never_read(engine, ids):
    state = engine.new_state()
    engine.forward(state, ids[:200])
    copy = state.clone()
    copy.reserve(2000)
    with torch.inference_mode():
        for cache in copy.sparse.values():
            for buffer in cache.buffers.values():
                buffer.reserved[:, buffer.length :] = torch.nan
    assert torch.equal(engine.forward(copy, ids[200:]), engine.forward(state, ids[200:]))
    assert_equal_bits(copy, state)


def test_advancing_a_copy_leaves_the_original_as_it_was(engine, ids):
    state = engine.new_state()
    engine.forward(state, ids[:150])
    before = {name: tensor.clone() for name, tensor in tensors(state).items()}
    copy = state.clone()
    engine.forward(copy, ids[150:])
    engine.forward(state.clone(), ids[:1])
    assert (state.position, copy.position) == (150, 330)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(state).items())


def test_num_bytes_counts_every_tensor_held(engine, ids):
    state = engine.new_state()
    for piece in (ids[:0], ids[:1], ids[:129], ids):
        engine.forward(state, piece)
        held = sum(tensor.numel() * tensor.element_size() for tensor in tensors(state).values())
        assert state.num_bytes == held
    state.reserve(10_000)
    assert state.num_bytes == held


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_segments_and_the_last_snapshot_rebuild_the_state(engine, ids, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(ids)), max_size=8)))
    state, pieces = engine.new_state(), []
    for a, b in pairwise([0, *cuts, len(ids)]):
        engine.forward(state, ids[a:b])
        pieces.append(({name: x.clone() for name, x in state.segment(a, b).items()}, b))
    rebuilt = engine.new_state()
    if data.draw(st.booleans()):
        rebuilt.reserve(len(ids))
    for segment, end in pieces:
        rebuilt.append_segment(segment, end)
    rebuilt.restore_snapshot(state.snapshot(), len(ids))
    assert_equal_bits(rebuilt, state)
    assert torch.equal(engine.forward(rebuilt, ids[:70]), engine.forward(state, ids[:70]))
    assert_equal_bits(rebuilt, state)


def test_a_state_that_the_model_has_advanced_takes_stored_segments_too(small_engine, ids):
    """Another session has read the same text further; this one goes on with what that one stored."""
    further, state = small_engine.new_state(), small_engine.new_state()
    small_engine.forward(further, ids)
    small_engine.forward(further.clone(), ids)
    small_engine.forward(state, ids[:100])
    for end in (200, 330):
        state.append_segment(further.segment(state.sparse[0].keys.shape[1], end), end)
    state.restore_snapshot(further.snapshot(), 330)
    assert state.position == 330
    assert torch.equal(state.segment(100, 330)["k1.3"], further.segment(100, 330)["k1.3"])


def test_a_segment_that_does_not_fit_is_refused(small_engine, ids):
    state = small_engine.new_state()
    small_engine.forward(state, ids[:64])
    segment = state.segment(0, 64)
    changes = {
        "k.0": segment["k.0"][:, :-1],
        "v.3": segment["v.3"][..., :-1],
        "k1.0": segment["k1.0"][:1],
        "k2.3": segment["k2.3"].double(),
    }
    for name, tensor in changes.items():
        with pytest.raises(StateMismatchError, match=name):
            small_engine.new_state().append_segment({**segment, name: tensor}, 64)
    with pytest.raises(StateMismatchError, match=r"v\.0"):
        small_engine.new_state().append_segment({k: v for k, v in segment.items() if k != "v.0"}, 64)
    with pytest.raises(StateMismatchError, match="expected 65 rows"):
        small_engine.new_state().append_segment(segment, 65)


def test_a_snapshot_that_does_not_fit_is_refused(small_engine, ids):
    state = small_engine.new_state()
    small_engine.forward(state, ids[:64])
    snapshot = state.snapshot()
    for changed in (snapshot["state.1"][:-1], snapshot["state.1"].bfloat16()):
        with pytest.raises(StateMismatchError, match=r"state\.1"):
            state.clone().restore_snapshot({**snapshot, "state.1": changed}, 64)
    with pytest.raises(StateMismatchError, match=r"state\.2"):
        state.clone().restore_snapshot({"state.1": snapshot["state.1"]}, 64)
    with pytest.raises(StateMismatchError, match="position 65"):
        state.clone().restore_snapshot(snapshot, 65)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 900), max_size=10))
def test_a_growing_buffer_holds_what_was_appended(lengths):
    buffer = GrowingBuffer(2, 3, torch.float32, torch.device("cpu"))
    given, capacities = [torch.empty(2, 0, 3)], set()
    for i, length in enumerate(lengths):
        given.append(torch.full((2, length, 3), float(i)))
        buffer.append(given[-1])
        capacities.add(buffer.capacity)
        assert buffer.length == sum(lengths[: i + 1])
        assert buffer.num_bytes == buffer.length * 2 * 3 * 4
    assert torch.equal(buffer.rows, torch.cat(given, 1))
    assert torch.equal(buffer.clone().rows, buffer.rows)


def test_a_growing_buffer_is_copied_rarely_and_wastes_little():
    buffer = GrowingBuffer(1, 1, torch.float32, torch.device("cpu"))
    capacities = []
    for _ in range(60):
        buffer.append(torch.zeros(1, 500, 1))
        if not capacities or capacities[-1] != buffer.capacity:
            capacities.append(buffer.capacity)
    assert len(capacities) < 20
    assert capacities[-1] <= 1.25 * buffer.length


def test_reserving_makes_later_appends_copy_nothing():
    buffer = GrowingBuffer(1, 2, torch.bfloat16, torch.device("cpu"))
    buffer.append(torch.ones(1, 3, 2))
    buffer.reserve(5000)
    place = buffer.reserved.data_ptr()
    buffer.append(torch.full((1, 4997, 2), 2.0))
    assert (buffer.reserved.data_ptr(), buffer.length) == (place, 5000)
    assert torch.equal(buffer.rows[0, :4, 0], torch.tensor([1, 1, 1, 2], dtype=torch.bfloat16))
