"""State files: equal bit for bit after loading; refused if they are damaged or belong to another model."""

import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reading_helpers import tensors

from sala_core import Engine
from sala_core.errors import CorruptStateError, ModelError, StateMismatchError
from sala_core.model.forward import SalaModel

pytestmark = pytest.mark.usefixtures("one_thread")
in_one_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def filled(engine, ids):
    state = engine.new_state()
    engine.forward(state, ids)
    return state


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 63, 64, 127, 128, 129, 320])
def test_a_loaded_state_equals_the_saved_one(engine, ids, tmp_path, n):
    state = filled(engine, ids[:n])
    engine.save_state(state, tmp_path / "state")
    loaded = engine.load_state(str(tmp_path / "state"))
    assert loaded.position == n
    assert loaded.num_bytes == state.num_bytes
    expected = tensors(state)
    assert [name for name, tensor in tensors(loaded).items() if not torch.equal(tensor, expected[name])] == []
    assert torch.equal(engine.forward(loaded, ids[n:]), engine.forward(state, ids[n:]))


def test_bfloat16_states_are_loaded_bit_for_bit(make_model, ids, tmp_path):
    engine = Engine.load(make_model(), dtype="bfloat16")
    state = filled(engine, ids[:200])
    engine.save_state(state, tmp_path / "state")
    loaded = engine.load_state(tmp_path / "state")
    for name, tensor in tensors(state).items():
        assert torch.equal(tensors(loaded)[name], tensor), name
    assert torch.equal(engine.forward(loaded, ids[200:]), engine.forward(state, ids[200:]))


def test_a_loaded_state_does_not_share_memory_with_its_file(small_engine, ids, tmp_path):
    file = tmp_path / "state"
    state = filled(small_engine, ids[:100])
    small_engine.save_state(state, file)
    loaded = small_engine.load_state(file)
    file.write_bytes(b"\xff" * file.stat().st_size)
    assert all(torch.equal(tensors(loaded)[name], tensor) for name, tensor in tensors(state).items())


def test_saving_again_replaces_the_file_and_leaves_nothing_beside_it(small_engine, ids, tmp_path):
    for n in (10, 40):
        small_engine.save_state(filled(small_engine, ids[:n]), tmp_path / "state")
    assert small_engine.load_state(tmp_path / "state").position == 40
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


def test_the_state_of_another_model_dtype_or_config_is_refused(make_model, ids, tmp_path):
    folder = make_model(seed=0)
    engine = Engine.load(folder, dtype="float32")
    engine.save_state(filled(engine, ids[:50]), tmp_path / "state")
    others = [
        Engine.load(make_model(seed=1), dtype="float32"),
        Engine.load(folder, dtype="bfloat16"),
        Engine.load(make_model(seed=0, rope_theta=5e5), dtype="float32"),
        Engine.load(make_model(seed=0, tokenizer=True), dtype="float32"),
    ]
    for other in others:
        with pytest.raises(StateMismatchError, match=r"another model, dtype or version .* read the documents again"):
            other.load_state(tmp_path / "state")
    assert len({engine.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_a_copy_of_the_model_elsewhere_shares_its_states(make_model, ids, tmp_path):
    folder = make_model()
    engine = Engine.load(folder, dtype="float32")
    engine.save_state(filled(engine, ids[:50]), tmp_path / "state")
    shutil.copytree(folder, tmp_path / "copy")
    assert Engine.load(tmp_path / "copy", dtype="float32").load_state(tmp_path / "state").position == 50


def test_a_model_without_a_folder_has_no_states_to_save(small_engine, tmp_path):
    engine = Engine(SalaModel(small_engine.config, small_engine.model.weights), name="in memory")
    with pytest.raises(ModelError, match="in memory was not loaded from a folder"):
        engine.save_state(engine.new_state(), tmp_path / "state")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def stored(small_engine, ids, tmp_path_factory):
    """The bytes of a saved state, and a path for damaged copies."""
    file = tmp_path_factory.mktemp("states") / "state"
    small_engine.save_state(filled(small_engine, ids[:40]), file)
    return file.read_bytes(), file


@in_one_folder
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_detected(small_engine, stored, place, bit):
    good, file = stored
    damaged = bytearray(good)
    damaged[int(place * len(good))] ^= 1 << bit
    file.write_bytes(damaged)
    with pytest.raises(CorruptStateError, match="damaged"):
        small_engine.load_state(file)


@in_one_folder
@given(length=st.one_of(st.integers(0, 40), st.floats(0, 1, exclude_max=True)))
def test_a_truncated_file_is_detected(small_engine, stored, length):
    good, file = stored
    file.write_bytes(good[: length if isinstance(length, int) else int(length * len(good))])
    with pytest.raises(CorruptStateError, match=r"state"):
        small_engine.load_state(file)


def test_a_missing_file_is_reported_with_its_path(small_engine, tmp_path):
    with pytest.raises(CorruptStateError, match="nowhere"):
        small_engine.load_state(tmp_path / "nowhere")
