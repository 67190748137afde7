"""The state: its rows after any number of tokens; copies, segments and snapshots are equal bit for bit."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_helpers import assert_equal_states, tensors
from sala_kernels import compress_keys, dequantize_rows

from sala_core import Engine
from sala_core.errors import StateMismatchError

pytestmark = pytest.mark.usefixtures("one_thread")


def edges(engine, longest):
    """0, 1, and the positions one before, at and one after the end of every block and window."""
    sparse = engine.config.sparse_config
    ends = set(range(0, longest, sparse.block_size))
    ends |= set(range(sparse.kernel_size, longest, sparse.kernel_stride))
    ends |= set(range(sparse.coarse_size, longest, sparse.coarse_stride))
    named = {0, 1, 31, 32, 127, 128}
    return sorted({end + near for end in ends | named for near in (-1, 0, 1) if 0 <= end + near < longest})


def test_exactly_the_complete_windows_are_pooled_after_any_number_of_tokens(engine, ids):
    """Token by token over every edge. The pooled keys equal those of all keys at once, bit for bit."""
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


def test_a_state_of_every_length_can_be_copied_and_continued(engine, ids):
    whole = engine.forward(engine.new_state(), ids)
    state = engine.new_state()
    for n in edges(engine, min(290, 12 * engine.config.sparse_config.block_size)):
        engine.forward(state, ids[state.position : n])
        copy, other = state.clone(), state.clone()
        assert_equal_states(copy, state)
        after = engine.forward(copy, ids[n : n + 17])
        assert state.position == n
        assert torch.equal(engine.forward(other, ids[n : n + 17]), after)
        assert_equal_states(copy, other)
        torch.testing.assert_close(after, whole[n : n + 17], rtol=0, atol=1e-4)


def test_spare_capacity_of_the_buffers_is_never_read(engine, ids):
    state = engine.new_state()
    engine.forward(state, ids[:200])
    copy = state.clone()
    copy.reserve(2000)
    with torch.inference_mode():
        for cache in copy.sparse.values():
            for buffer in cache.buffers.values():
                buffer.reserved[:, buffer.length :] = torch.nan
    assert torch.equal(engine.forward(copy, ids[200:]), engine.forward(state, ids[200:]))
    assert_equal_states(copy, state)


def test_advancing_a_copy_leaves_the_original_as_it_was(engine, ids):
    state = engine.new_state()
    engine.forward(state, ids[:150])
    before = {name: tensor.clone() for name, tensor in tensors(state).items()}
    copy = state.clone()
    engine.forward(copy, ids[150:])
    engine.forward(state.clone(), ids[:1])
    assert (state.position, copy.position) == (150, 330)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(state).items())


def test_num_bytes_counts_every_tensor_of_the_state(engine, ids):
    state = engine.new_state()
    for piece in (ids[:0], ids[:1], ids[:129], ids):
        engine.forward(state, piece)
        held = sum(tensor.numel() * tensor.element_size() for tensor in tensors(state).values())
        assert state.num_bytes == held
    state.reserve(10_000)
    assert state.num_bytes == held
    assert state.reserved_bytes >= held


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
    assert_equal_states(rebuilt, state)
    assert torch.equal(engine.forward(rebuilt, ids[:70]), engine.forward(state, ids[:70]))
    assert_equal_states(rebuilt, state)


def test_stored_segments_can_be_appended_to_a_state_that_the_model_has_advanced(small_engine, ids):
    """Another session has read more of the same text. This one continues with the segments that it stored."""
    further, state = small_engine.new_state(), small_engine.new_state()
    small_engine.forward(further, ids)
    small_engine.forward(further.clone(), ids)
    small_engine.forward(state, ids[:100])
    for end in (200, 330):
        state.append_segment(further.segment(state.sparse[0].keys.shape[1], end), end)
    state.restore_snapshot(further.snapshot(), 330)
    assert state.position == 330
    assert torch.equal(state.segment(100, 330)["k1.3"], further.segment(100, 330)["k1.3"])


def test_a_segment_of_another_shape_or_dtype_is_refused(small_engine, ids):
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


def test_a_snapshot_of_another_shape_dtype_or_position_is_refused(small_engine, ids):
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


@pytest.fixture(params=["plain", "int8", "fp8"])
def kv_engine(request, make_model):
    """A small model for every number format of the KV cache."""
    return Engine.load(make_model(), dtype="float32", kv=request.param)


def test_windows_are_pooled_from_the_stored_keys(kv_engine, ids):
    """Pooling restored keys again therefore gives the same bits."""
    sparse, state = kv_engine.config.sparse_config, kv_engine.new_state()
    for a, b in pairwise([0, 1, 70, 200, 201, 330]):
        kv_engine.forward(state, ids[a:b])
    for cache in state.sparse.values():
        keys = cache.keys if isinstance(cache.keys, torch.Tensor) else dequantize_rows(cache.keys)
        for pooled, size, stride in (
            (cache.fine, sparse.kernel_size, sparse.kernel_stride),
            (cache.coarse, sparse.coarse_size, sparse.coarse_stride),
        ):
            assert torch.equal(pooled, compress_keys(keys.contiguous(), size=size, stride=stride))


def test_quantized_states_are_close_to_plain_ones_and_smaller(make_model, ids):
    plain = Engine.load(make_model(), dtype="float32")
    state = plain.new_state()
    expected = plain.forward(state, ids[:90])  # these queries attend to all tokens, so no choice of blocks can differ
    for kv, error in (("int8", 0.02), ("fp8", 0.1)):
        engine = Engine.load(make_model(), dtype="float32", kv=kv)
        other = engine.new_state()
        logits = engine.forward(other, ids[:90])
        assert 0 < (logits - expected).square().mean().sqrt() < error * expected.square().mean().sqrt()
        assert other.num_bytes < state.num_bytes
        assert {name: x.dtype for name, x in other.segment(0, 90).items() if name.endswith(".0")} == {
            "k.0": torch.int8 if kv == "int8" else torch.uint8,
            "k_scale.0": torch.float32,
            "v.0": torch.int8 if kv == "int8" else torch.uint8,
            "v_scale.0": torch.float32,
            "k1.0": torch.float32,
            "k2.0": torch.float32,
        }


def test_a_state_of_every_kv_format_is_copied_and_rebuilt_bit_for_bit(kv_engine, ids):
    state = kv_engine.new_state()
    kv_engine.forward(state, ids[:200])
    rebuilt = kv_engine.new_state()
    for a, b in pairwise([0, 1, 64, 65, 200]):
        rebuilt.append_segment({name: x.clone() for name, x in state.segment(a, b).items()}, b)
    rebuilt.restore_snapshot(state.snapshot(), 200)
    copy = state.clone()
    after = kv_engine.forward(state, ids[200:])
    for other in (rebuilt, copy):
        assert other.position == 200
        assert torch.equal(kv_engine.forward(other, ids[200:]), after)
        assert_equal_states(other, state)


def test_a_segment_of_another_kv_format_is_refused(make_model, ids):
    states = {}
    for kv in ("plain", "int8", "fp8"):
        engine = Engine.load(make_model(), dtype="float32", kv=kv)
        states[kv] = engine.new_state()
        engine.forward(states[kv], ids[:64])
    for kv, state in states.items():
        for other in states.keys() - {kv}:
            empty = states[other].clone()
            empty.set_position(0)
            with pytest.raises(StateMismatchError, match=r"segment tensor k(_scale)?\.0"):
                empty.append_segment(state.segment(0, 64), 64)


def test_the_linear_states_are_one_tensor_with_a_view_per_layer(engine, ids):
    state = engine.new_state()
    engine.forward(state, ids[:50])
    assert state.linear_states.shape[0] == len(engine.config.lightning_layers)
    assert state.linear_states.is_contiguous()
    for each in (state, state.clone()):
        for i, layer in enumerate(engine.config.lightning_layers):
            assert each.linear[layer].data_ptr() == each.linear_states[i].data_ptr()
            assert torch.equal(each.linear[layer], state.linear_states[i])


def test_rows_written_at_a_device_position_equal_appended_rows(kv_engine, ids):
    """One or several tokens at a time, over the rows of a rejected pass. No buffer moves, no length changes."""
    state, written = kv_engine.new_state(), kv_engine.new_state()
    kv_engine.forward(state, ids)
    written.reserve(400)
    key = written.buffers_key()
    generator = torch.Generator().manual_seed(1)
    k, v = torch.randn(2, 330, 2, 8, generator=generator)
    for layer, cache in written.sparse.items():
        expected = kv_engine.new_state().sparse[layer]
        expected.append(k.transpose(0, 1), v.transpose(0, 1))
        start = 0
        for length in [1, 1, 7, 16, 1, 6] * 9 + [16] * 2:
            position = torch.tensor([start])
            cache.write(torch.randn(length, 2, 8), torch.randn(length, 2, 8), position)
            cache.write(k[start : start + length], v[start : start + length], position)
            start += length
        assert (start, cache.buffers["k"].length) == (320, 0)
        cache.set_length(320)
        for name, buffer in cache.buffers.items():
            rows = expected.buffers[name].parts(*expected.row_range(name, 0, 320))
            for part, found in buffer.parts(0, buffer.length).items():
                assert torch.equal(found, rows[part]), (name, part)
    assert written.buffers_key() == key


def test_setting_the_position_back_and_forth_changes_no_bit(kv_engine, ids):
    state = kv_engine.new_state()
    kv_engine.forward(state, ids)
    expected = {name: x.clone() for name, x in state.segment(0, 330).items()}
    state.set_position(100)
    assert (state.position, {cache.keys.shape[1] for cache in state.sparse.values()}) == (100, {100})
    assert all(torch.equal(x, expected[name][:, : x.shape[1]]) for name, x in state.segment(0, 100).items())
    state.set_position(330)
    assert all(torch.equal(x, expected[name]) for name, x in state.segment(0, 330).items())
    for beyond in (-1, state.capacity + 1):
        with pytest.raises(ValueError, match="do not fit"):
            state.set_position(beyond)


def test_the_buffers_key_changes_exactly_when_a_buffer_moves(kv_engine, ids):
    state = kv_engine.new_state()
    state.reserve(2000)
    key = state.buffers_key()
    kv_engine.forward(state, ids)
    state.set_position(10)
    assert (state.buffers_key(), state.capacity) == (key, 2000)
    assert state.clone().buffers_key() != key
    assert hash(key) is not None
    state.reserve(2001)
    assert state.buffers_key() != key


def test_reserved_rows_extend_to_the_capacity(kv_engine, ids):
    sparse, state = kv_engine.config.sparse_config, kv_engine.new_state()
    kv_engine.forward(state, ids)
    state.reserve(5000)
    for cache in state.sparse.values():
        reserved = cache.reserved()
        assert [x.shape[1] for x in reserved] == [
            5000,
            5000,
            len(range(0, 5001 - sparse.kernel_size, sparse.kernel_stride)),
            len(range(0, 5001 - sparse.coarse_size, sparse.coarse_stride)),
        ]
        assert torch.equal(reserved.fine[:, : cache.fine.shape[1]], cache.fine)
        assert torch.equal(reserved.coarse[:, : cache.coarse.shape[1]], cache.coarse)
