"""Keys and values that are kept as int8 on disk, while memory has the model's number format."""

import pytest
import torch
from reading_helpers import GREEDY, assert_equal_states, last, restored, tensors, tokens_in

from sala_core import Engine
from sala_core.disk.files import checksum
from sala_core.disk.layout import decode_header
from sala_core.disk.safetensors import encode_tensors
from sala_core.errors import StateMismatchError
from sala_core.session.session import Session
from sala_core.session.stored_rows import int8
from sala_core.store.checkpoints import SEGMENT_SUFFIX
from sala_core.store.portable.export import export_session
from sala_core.store.portable.import_session import import_session
from sala_core.store.states import StateStore

KNOWN_BYTES = "464530a591512915e62aa483fa4ae8ca"
pytestmark = pytest.mark.usefixtures("short_segments")


@pytest.fixture(params=["float32", "bfloat16"])
def engine(request, random_model):
    return Engine.load(random_model, dtype=request.param, kv_at_rest="int8")


@pytest.fixture
def plain(engine, random_model):
    return Engine.load(random_model, dtype=str(engine.model.dtype).removeprefix("torch."))


@pytest.fixture
def books(write_book):
    return [write_book("a.txt", 90, 1), write_book("b.txt", 121, 2)]


def read(library, engine, name, *paths):
    """Read files into a session. Returns the state in memory, after all was written."""
    with Session.open(library, engine, name, create=True) as session:
        last(session.read(paths))
        return session.state.state


def test_the_state_in_memory_is_the_one_that_is_loaded_in_the_models_own_format(library, engine, books):
    held = read(library, engine, "demo", *books)
    loaded = restored(library, engine, "demo")
    assert held is not loaded
    assert_equal_states(loaded, held)
    assert {cache.keys.dtype for cache in loaded.sparse.values()} == {engine.model.dtype}


def test_a_session_closed_after_every_step_ends_as_one_that_stayed_in_memory(library, engine, books):
    with Session.open(library, engine, "open", create=True) as session:
        last(session.read(books[:1]))
        first = tokens_in(session.ask("Who came?", GREEDY))
        last(session.read(books[1:]))
        second = tokens_in(session.ask("And who went?", GREEDY))
    for paths, question, answer in ((books[:1], "Who came?", first), (books[1:], "And who went?", second)):
        with Session.open(library, engine, "closed", create=True) as session:
            last(session.read(paths))
        with Session.open(library, engine, "closed") as session:
            assert tokens_in(session.ask(question, GREEDY)) == answer
    assert_equal_states(restored(library, engine, "closed"), restored(library, engine, "open"))


def test_stored_keys_and_values_are_within_half_a_step_of_those_computed_in_float64(library, random_model, write_book):
    precise = Engine.load(random_model, dtype="float64")
    rounded = Engine.load(random_model, dtype="float64", kv_at_rest="int8")
    book = write_book("short.txt", 40, 3)  # one segment: nothing is computed from rounded keys
    exact, kept = (tensors(read(library, each, str(number), book)) for number, each in enumerate((precise, rounded)))
    for name, computed in exact.items():
        if name.startswith(("k.", "v.")):
            step = computed.abs().amax(-1, keepdim=True) / 127
            assert ((kept[name] - computed).abs() <= 0.5001 * step).all()
            assert not torch.equal(kept[name], computed)
        else:
            assert torch.equal(kept[name], computed), "pooled keys and recurrent states are not rounded"


def test_files_hold_one_byte_a_number_and_take_about_half_or_a_quarter(library, engine, plain, books):
    read(library, engine, "small", *books)
    read(library, plain, "large", *books)
    small, large = (library.session_state_bytes(library.session(name).id) for name in ("small", "large"))
    size = engine.model.dtype.itemsize
    segments = sum(
        row.segment_bytes for row in StateStore(library, engine.fingerprint).chain(library.session("small").head)
    )
    whole = sum(
        row.segment_bytes for row in StateStore(library, plain.fingerprint).chain(library.session("large").head)
    )
    assert segments < whole * {2: 0.75, 4: 0.45}[size]
    assert small < large
    head = library.session("small").head
    data = (library.states_folder / (head + SEGMENT_SUFFIX)).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    dtypes = {
        name.split(".")[0]: at.spec.dtype for name, at in decode_header(data[8:start], len(data) - start)[0].items()
    }
    own = {2: "BF16", 4: "F32"}[size]
    assert dtypes == {"k": "I8", "v": "I8", "k_scale": "F32", "v_scale": "F32", "k1": own, "k2": own}


def test_a_session_keeps_the_format_in_which_it_was_read(library, engine, plain, books):
    read(library, engine, "int8", books[0])
    read(library, plain, "same", books[0])
    before = {name: library.session(name).fingerprint for name in ("int8", "same")}
    assert before == {"int8": engine.fingerprint, "same": plain.fingerprint}
    assert engine.fingerprint != plain.fingerprint
    for each in (engine, plain):
        for name in before:
            with Session.open(library, each, name) as session:
                answer = last(session.ask("Who came?", GREEDY))
                assert answer.tokens_reused > 0
    assert {name: library.session(name).fingerprint for name in before} == before
    with Session.open(library, plain, "int8") as session:
        session.reset()
        last(session.read([]))
    assert library.session("int8").fingerprint == plain.fingerprint


def test_where_memory_has_one_byte_a_number_it_is_stored_as_it_is(library, random_model, books):
    engines = [Engine.load(random_model, dtype="float32", kv="int8", kv_at_rest=kind) for kind in ("same", "int8")]
    assert engines[0].fingerprint == engines[1].fingerprint
    held = read(library, engines[1], "demo", *books)
    assert_equal_states(restored(library, engines[0], "demo"), held)


def test_another_models_states_are_still_refused(library, engine, other_model, books):
    read(library, engine, "demo", books[0])
    other = Engine.load(other_model, dtype="float32", kv_at_rest="int8")
    assert other.at_rest(engine.fingerprint) is None
    with Session.open(library, other, "demo") as session, pytest.raises(StateMismatchError):
        last(session.ask("Who came?", GREEDY))


@pytest.mark.parametrize("at", [100, -1, -3000])
def test_a_flipped_bit_in_a_rounded_segment_is_noticed_and_read_again(library, engine, books, at):
    before = read(library, engine, "demo", *books)
    file = max(library.states_folder.glob(f"*{SEGMENT_SUFFIX}"), key=lambda each: each.stat().st_mtime_ns)
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)
    with Session.open(library, engine, "demo") as session:
        last(session.read([]))
        assert session.state.tokens_read > 0
        assert_equal_states(session.state.state, before)


def test_a_session_in_a_file_is_taken_in_with_its_rounded_state(open_library, engine, plain, books, tmp_path):
    ours, theirs = open_library("ours"), open_library("theirs")
    read(ours, engine, "demo", *books)
    export_session(ours, "demo", tmp_path / "demo.sala")
    first, *others = plain.stored_fingerprints
    done = import_session(theirs, tmp_path / "demo.sala", fingerprint=first, others=others)
    assert not done.is_other_model
    assert done.state_tokens == theirs.session("demo").position > 0
    assert_equal_states(restored(theirs, plain, "demo"), restored(ours, engine, "demo"))


@torch.inference_mode()
def test_known_rows_are_stored_in_the_bytes_in_which_the_first_version_stored_them(small_engine):
    """Files of this version open in later ones."""
    state, fresh = small_engine.new_state(), small_engine.new_state()
    state.reserve(64)
    for name, rows in state.segment(0, 64).items():
        numbers = torch.arange(rows.numel()).view(rows.shape) * (36 + len(name)) % 255 - 127
        rows.copy_(numbers / 64)
    state.set_position(64)
    segment = int8.rounded_segment(state, 0, 64)
    assert set(segment) == set(int8.stored_form(state, 0, 64))
    assert checksum(b"".join(encode_tensors(segment, {}))) == KNOWN_BYTES
    fresh.reserve(64)
    int8.write_rows(fresh, segment, 0, 64)
    assert all(torch.equal(rows, fresh.segment(0, 64)[name]) for name, rows in state.segment(0, 64).items())
