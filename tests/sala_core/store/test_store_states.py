"""Checkpoints are loaded correctly or refused."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sala_core.errors import CorruptStateError, DiskFullError, StateError, StateMismatchError
from sala_core.store import Library
from sala_core.store.checkpoints import SEGMENT_SUFFIX, SNAPSHOT_SUFFIX
from sala_core.store.states import StateStore

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8, torch.int64, torch.bool]


@st.composite
def tensors(draw):
    """A dict of tensors with random names, shapes (empty ones too), dtypes and bits."""
    result = {}
    for name in draw(st.lists(st.from_regex(r"[a-z0-9.]{1,8}", fullmatch=True), unique=True, max_size=4)):
        shape = draw(st.lists(st.integers(0, 5), max_size=4))
        dtype = draw(st.sampled_from(DTYPES))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        bits = torch.randint(0, 2, shape, generator=generator).bool()
        result[name] = bits if dtype == torch.bool else (torch.randn(shape, generator=generator) * 9).to(dtype)
    return result


def same(left, right) -> bool:
    """Equal names, dtypes, shapes and bits."""
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(segment=tensors(), snapshot=tensors(), salt=st.integers(0, 2**30))
def test_save_then_load_is_the_identity(store, segment, snapshot, salt):
    ids = np.array([salt, salt + len(segment), len(snapshot)], dtype=np.int32)
    store.discard(store.name(None, ids))
    name = store.save(parent=None, token_ids=ids, start=0, segment=segment, snapshot=snapshot, keep=False)
    assert same(store.load_segment(name), segment)
    assert same(store.load_snapshot(name), snapshot)


def test_loaded_tensors_are_writable_copies(store, save):
    name = save()
    store.load_segment(name)["k.0"].fill_(7.0)
    assert store.load_segment(name)["k.0"].eq(0.0).all()


def test_a_transposed_tensor_is_saved_by_value_and_not_changed(store):
    tensor = torch.arange(12.0).reshape(3, 4).T
    name = store.save(parent=None, token_ids=np.array([1]), start=0, segment={"k": tensor}, snapshot=None, keep=True)
    assert torch.equal(store.load_segment(name)["k"], torch.arange(12.0).reshape(3, 4).T)
    assert not tensor.is_contiguous()


def test_the_name_depends_on_parent_tokens_and_model(store, library):
    ids = np.array([1, 2, 3], dtype=np.int32)
    names = {
        store.name(None, ids),
        store.name("p", ids),
        store.name(None, ids[:2]),
        store.name(None, ids[::-1]),
        StateStore(library, "model-b").name(None, ids),
    }
    assert len(names) == 5
    assert store.name(None, ids.astype(np.int64)) == store.name(None, ids)


def test_a_chain_runs_from_the_first_token_to_its_end(store, save):
    first = save(num_tokens=4)
    second = save(first, num_tokens=6)
    third = save(second, num_tokens=1)
    assert [(row.name, row.start, row.end) for row in store.chain(third)] == [
        (first, 0, 4),
        (second, 4, 10),
        (third, 10, 11),
    ]
    assert store.has(third)
    assert not store.has("nothing")


def test_saving_again_changes_no_file_but_adds_a_missing_snapshot_and_raises_keep(store, library, save):
    name = save(snapshot=False)
    path = library.states_folder / (name + SEGMENT_SUFFIX)
    before = path.stat()
    assert not store.checkpoint(name).has_snapshot
    assert save(snapshot=True, keep=True) == name
    assert save(snapshot=False, keep=False) == name
    row = store.checkpoint(name)
    assert row.has_snapshot
    assert row.keep
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert store.load_snapshot(name)["state.1"].shape == (2, 4, 4)


@pytest.mark.parametrize("suffix", [SEGMENT_SUFFIX, SNAPSHOT_SUFFIX])
@pytest.mark.parametrize("place", [0, 8, 300, -1])
def test_one_flipped_bit_is_refused(store, library, save, suffix, place):
    name = save()
    path = library.states_folder / (name + suffix)
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    load = store.load_segment if suffix == SEGMENT_SUFFIX else store.load_snapshot
    with pytest.raises(CorruptStateError, match="checksum"):
        load(name)


@pytest.mark.parametrize("damage", ["short", "long", "missing"])
def test_a_missing_file_or_one_of_another_length_is_refused(store, library, save, damage):
    name = save()
    path = library.states_folder / (name + SEGMENT_SUFFIX)
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[:-1] if damage == "short" else data + b"\0")
    with pytest.raises(CorruptStateError, match=name):
        store.load_segment(name)


def test_an_undamaged_file_of_another_checkpoint_is_refused(store, library, save):
    name, other = save(), save(salt=1)
    source, target = (library.states_folder / (item + SEGMENT_SUFFIX) for item in (other, name))
    target.write_bytes(source.read_bytes())
    with library.database.write() as conn:
        conn.execute(
            "UPDATE checkpoints SET segment_checksum = ? WHERE name = ?",
            [store.checkpoint(other).segment_checksum, name],
        )
    with pytest.raises(CorruptStateError, match="another state"):
        store.load_segment(name)


def test_discard_frees_a_damaged_checkpoint_for_saving_again(store, library, save, new_session):
    first = save(keep=True)
    second = save(first)
    third = save(second)
    session = new_session()
    library.set_head(session, third, 12)
    assert store.discard(second) > 0
    assert (library.session(session).head, library.session(session).position) == (first, 4)
    assert not store.has(third)
    assert save(first) == second
    assert store.discard("unknown") == 0


def test_discard_moves_heads_past_checkpoints_without_a_snapshot(store, library, save, new_session):
    first = save(keep=True)
    last = save(save(first, snapshot=False))
    session = new_session()
    library.set_head(session, last, 12)
    store.discard(last)
    assert (library.session(session).head, library.session(session).position) == (first, 4)


def test_a_run_that_another_process_has_stored_since_is_unchanged(store, library, save, monkeypatch):
    real = store._commit

    def commit_after_another(*arguments):
        monkeypatch.undo()
        meanwhile = store.checkpoint(save())
        return [*real(*arguments), meanwhile.name]

    monkeypatch.setattr(store, "_commit", commit_after_another)
    name = save(keep=True)
    assert store.checkpoint(name).keep
    assert store.load_segment(name)
    assert len(list(library.states_folder.iterdir())) == 2


def test_another_models_state_is_refused_with_both_fingerprints(store, library, save):
    name = save()
    other = StateStore(library, "model-b")
    for call in (other.load_segment, other.load_snapshot, other.checkpoint, other.chain):
        with pytest.raises(StateMismatchError, match=r"model-a.*model-b"):
            call(name)
    assert not other.has(name)
    with pytest.raises(StateMismatchError):
        save(name, into=other)


def test_a_state_of_a_newer_format_is_refused(store, library, save):
    name = save()
    with library.database.write() as conn:
        conn.execute("UPDATE checkpoints SET format = 2")
    with pytest.raises(StateMismatchError, match="format 2"):
        store.load_segment(name)
    assert not store.has(name)


def test_a_run_that_does_not_follow_its_parent_is_refused(store, save):
    name = save(num_tokens=4)
    arguments = {"token_ids": np.array([1]), "segment": {}, "snapshot": None, "keep": False}
    for parent, start in ((name, 3), (None, 4), ("unknown", 4)):
        with pytest.raises(StateError):
            store.save(parent=parent, start=start, **arguments)
    with pytest.raises(StateError, match="at least one token"):
        store.save(parent=None, start=0, **(arguments | {"token_ids": np.array([], dtype=np.int32)}))


def test_unknown_names_are_refused(store):
    for call in (store.load_segment, store.load_snapshot, store.checkpoint, store.chain):
        with pytest.raises(StateError, match="read the session again"):
            call("unknown")


def test_a_rolling_snapshot_is_dropped_once_the_next_is_stored(store, library, save):
    first = save()
    second = save(first)
    third = save(second)
    assert [row.has_snapshot for row in store.chain(third)] == [False, False, True]
    with pytest.raises(StateError, match="no snapshot"):
        store.load_snapshot(first)
    assert len(list(library.states_folder.glob("*" + SNAPSHOT_SUFFIX))) == 1
    assert len(list(library.states_folder.glob("*" + SEGMENT_SUFFIX))) == 3


def test_a_rolling_snapshot_stays_until_a_later_run_has_a_snapshot(store, save):
    first = save()
    second = save(first, snapshot=False)
    assert store.checkpoint(first).has_snapshot
    third = save(second)
    assert [row.has_snapshot for row in store.chain(third)] == [False, False, True]


def test_kept_snapshots_and_those_of_a_head_stay(store, library, save, new_session):
    session = new_session()
    kept = save(keep=True)
    head = save(kept)
    library.set_head(session, head, 8)
    last = save(head)
    assert [row.has_snapshot for row in store.chain(last)] == [True, True, True]
    library.set_head(session, last, 12)
    assert [row.has_snapshot for row in store.chain(last)] == [True, False, True]


def test_moving_a_head_back_keeps_the_snapshot_ahead(store, library, save, new_session):
    session = new_session()
    first = save(keep=True)
    second = save(first)
    library.set_head(session, second, 8)
    library.set_head(session, first, 4)
    assert store.checkpoint(second).has_snapshot


def test_a_full_quota_is_refused_with_sizes_and_nothing_is_stored(tmp_path, save):
    with Library.open(tmp_path / "small", max_state_bytes=3000) as library:
        small = StateStore(library, "model-a")
        first = save(into=small)
        with pytest.raises(DiskFullError, match=r"4.1 KiB .* use 1.0 KiB of the 2\.9 KiB allowed"):
            save(first, num_tokens=64, into=small)
        assert {path.name for path in library.states_folder.iterdir()} == {
            first + SEGMENT_SUFFIX,
            first + SNAPSHOT_SUFFIX,
        }
        assert small.load_snapshot(first)


def test_threads_saving_the_same_run_store_it_once(store, library, save):
    errors = []

    def work():
        try:
            for salt in range(5):
                save(save(salt=salt), salt=salt)
        except StateError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with library.database.read() as conn:
        assert conn.execute("SELECT count(*) FROM checkpoints").fetchone()[0] == 10
    assert not list(library.states_folder.glob(".*"))


def test_a_row_records_sizes_and_times(store, library, save):
    row = store.checkpoint(save(keep=True))
    assert row.segment_bytes == (library.states_folder / (row.name + SEGMENT_SUFFIX)).stat().st_size
    assert row.num_bytes == row.segment_bytes + row.snapshot_bytes
    assert row == replace(row, keep=True, start=0, end=4, parent=None)
