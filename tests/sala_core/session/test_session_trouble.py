"""After damage, full disks, other models and other writers, a session loses nothing but time."""

import contextlib
import json
import os
import shutil

import pytest
from reading_helpers import (
    GREEDY,
    assert_equal_states,
    last,
    restored,
    rows,
)

from sala_core import Engine
from sala_core.errors import DiskFullError, IngestError, SessionBusyError, SessionNotFoundError, StateMismatchError
from sala_core.events import ReadProgress
from sala_core.session.session import Session

pytestmark = pytest.mark.usefixtures("short_segments")


@pytest.fixture
def engine(session_engine):
    return session_engine


def stream_ids(library):
    row = library.session("demo")
    return library.token_ids(row.id, 0, row.num_tokens).tolist()


def test_a_path_that_is_not_there_changes_nothing(engine, library, read, write_book, tmp_path):
    read(library, "demo", write_book(num_lines=20))
    before = rows(library, "demo")
    with (
        Session.open(library, engine, "demo") as session,
        pytest.raises(IngestError, match="gone"),
    ):
        list(session.read([write_book("other.txt", 20, 5), tmp_path / "gone.txt"]))
    assert rows(library, "demo") == before


@pytest.mark.parametrize("suffix", ["segment", "snapshot"])
@pytest.mark.parametrize("which", [0, -1])
def test_damage_on_disk_is_reported_discarded_and_read_again(engine, library, read, write_book, suffix, which):
    book = write_book(num_lines=220)
    total = read(library, "demo", book).tokens_read
    before, head = restored(library, engine, "demo"), library.session("demo").head
    with Session.open(library, engine, "demo") as session:
        chain = session.state._store.chain(head)
    names = [row.name for row in chain if suffix == "segment" or row.has_snapshot]
    file = library.states_folder / f"{names[which]}.{suffix}.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    receipt = read(library, "demo", book)
    if suffix == "snapshot" and which == 0:
        # An earlier snapshot is only looked at when a session branches off there.
        assert (receipt.tokens_read, receipt.warnings) == (0, ())
        return
    assert len(receipt.warnings) == 1
    assert names[which] in receipt.warnings[0]
    assert receipt.tokens_read >= (total if which == 0 else 1)
    assert receipt.tokens_read + receipt.tokens_reused == total
    assert library.session("demo").head == head
    assert_equal_states(restored(library, engine, "demo"), before)
    assert read(library, "demo", book).warnings == ()


@pytest.mark.parametrize("damage", ["folder", "pipe", "link", "empty", "missing"])
@pytest.mark.parametrize("suffix", ["segment", "snapshot"])
def test_an_object_in_the_place_of_the_head_s_file_leaves_no_session_stuck(
    engine, library, read, write_book, damage, suffix
):
    book = write_book(num_lines=60)
    total = read(library, "demo", book).tokens_read
    before, head = restored(library, engine, "demo"), library.session("demo").head
    path = library.states_folder / f"{head}.{suffix}.safetensors"
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "link":
        path.symlink_to(path.with_name("nowhere"))
    elif damage == "empty":
        path.touch()
    with Session.open(library, engine, "demo") as session:
        answer = last(session.ask("Who came?", GREEDY))
    assert len(answer.warnings) == 1
    assert head in answer.warnings[0]
    assert answer.tokens_reused < total, "what was lost is read again"
    with Session.open(library, engine, "demo") as session:
        assert last(session.ask("And then?", GREEDY)).warnings == ()
        store = session.state._store
        assert path.is_file()
        assert_equal_states(before, state_at(engine, store, head))


def state_at(engine, store, head):
    """The state of a checkpoint."""
    state = engine.new_state()
    for row in store.chain(head):
        state.append_segment(store.load_segment(row.name), row.end)
    state.restore_snapshot(store.load_snapshot(head), row.end)
    return state


def test_a_session_whose_record_of_states_is_broken_reads_them_again(engine, library, read, write_book):
    book = write_book(num_lines=220)
    total = read(library, "demo", book).tokens_read
    head = library.session("demo").head
    with library.database.write() as conn:
        conn.execute("UPDATE checkpoints SET checksum = 'damaged' WHERE name = ?", [head])
    receipt = read(library, "demo", book)
    assert receipt.tokens_read + receipt.tokens_reused == total
    assert receipt.warnings
    assert library.session("demo").position == total


def test_two_first_readings_at_once_make_one_session_and_the_loser_hears_who_reads(
    engine, library, read, write_book, monkeypatch
):
    book, real = write_book(num_lines=20), library.session
    with Session.open(library, engine, "demo", create=True) as session:
        list(session.read([book]))
        answers = iter([SessionNotFoundError("not there yet")])

        def seen_before_it_was_made(name):
            for error in answers:
                raise error
            return real(name)

        monkeypatch.setattr(library, "session", seen_before_it_was_made)
        with pytest.raises(SessionBusyError, match="in use by this program"):
            Session.open(library, engine, "demo", create=True)


def test_damaged_texts_and_messages_are_mended_when_the_session_is_used(engine, library, read, write_book):
    read(library, "demo", write_book("a.txt", 60, 1))
    with Session.open(library, engine, "demo") as session:
        said = last(session.ask("Who came?", GREEDY)).text
    with library.database.write() as conn:
        (trigger,) = conn.execute("SELECT sql FROM sqlite_master WHERE name = 'messages_checksum_update'").fetchone()
        conn.execute("DROP TRIGGER messages_checksum_update")
        conn.execute("UPDATE messages SET text = 'never said'")
        conn.execute(trigger)
        conn.execute("UPDATE token_runs SET ids = zeroblob(length(ids))")
    with Session.open(library, engine, "demo") as session:
        answer = last(session.ask("And then?", GREEDY))
    assert any("record" in warning for warning in answer.warnings)
    assert [row.text for row in library.messages(library.session("demo").id)][:2] == ["Who came?", said]


def test_a_damaged_text_is_made_anew_from_its_tokens(engine, library, read, write_book):
    books = write_book("a.txt", 60, 1), write_book("b.txt", 60, 2)
    read(library, "demo", *books)
    whole = library.fork_session(library.session("demo").id, "whole")
    with Session.open(library, engine, whole.id) as session:
        expected = last(session.ask("Who came?", GREEDY))
    assert {item.document for item in expected.evidence} == {"a.txt", "b.txt"}
    (damaged,) = (row for row in library.documents(whole.id) if row.name == "a.txt")
    file = library.documents_folder / f"{damaged.id}.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with Session.open(library, engine, "demo") as session:
        answer = last(session.ask("Who came?", GREEDY))
        assert (answer.text, answer.evidence) == (expected.text, expected.evidence)
    (warning,) = answer.warnings
    assert "a.txt" in warning
    assert "made anew from its tokens" in warning
    assert file.read_bytes() == data
    assert read(library, "demo", *books).tokens_read == 0


def test_another_models_session_is_refused_until_it_is_handed_over(engine, library, read, write_book, other_model):
    book = write_book(num_lines=40)
    read(library, "demo", book)
    with Session.open(library, engine, "demo") as session:
        last(session.ask("Who came?", GREEDY))
    before, ids = rows(library, "demo"), stream_ids(library)
    other = Engine.load(other_model, dtype="float32")
    with Session.open(library, other, "demo") as session:
        for attempt in (lambda: session.read([book]), lambda: session.ask("And then?", GREEDY)):
            with pytest.raises(StateMismatchError, match=str(engine.name)):
                list(attempt())
        assert rows(library, "demo") == before
        session.reset()
        receipt = last(session.read([]))
        assert (receipt.tokens_read, receipt.tokens_reused) == (len(ids), 0)
        assert stream_ids(library) == ids
        assert rows(library, "demo")[3] == before[3]
        assert session.row.model == other.name
        last(session.ask("And then?", GREEDY))
    assert len(library.messages(library.session("demo").id)) == 4
    with Session.open(library, engine, "demo") as session, pytest.raises(StateMismatchError):
        list(session.read([]))


def test_with_another_tokenizer_the_stream_is_tokenized_again(
    engine, library, read, write_book, random_model, tmp_path
):
    book = write_book(num_lines=30)
    read(library, "demo", book)
    with Session.open(library, engine, "demo") as session:
        said = last(session.ask("Who came?", GREEDY)).text
    ids = stream_ids(library)
    folder = shutil.copytree(random_model, tmp_path / "few-merges")
    description = json.loads((folder / "tokenizer.json").read_text())
    description["model"]["merges"] = description["model"]["merges"][:1000]
    (folder / "tokenizer.json").write_text(json.dumps(description))
    other = Engine.load(folder, dtype="float32")
    with Session.open(library, other, "demo") as session:
        session.reset()
        receipt = last(session.read([book]))
        assert receipt.tokens_read == session.row.num_tokens > len(ids)
        assert [part.kind for part in library.parts(session.row.id)] == ["system", "document", "user", "assistant"]
        assert last(session.ask("And then?", GREEDY)).tokens_generated == 8
    again = stream_ids(library)[: receipt.tokens_read]
    before, _, rewritten = other.tokenizer.decode(again).rpartition("<|im_start|>assistant\n")
    assert rewritten == f"{said}<|im_end|>\n"
    assert before == engine.tokenizer.decode(ids).rpartition("<|im_start|>assistant\n")[0]


def test_a_full_disk_leaves_everything_usable(engine, open_library, read, write_book):
    book, free = write_book(num_lines=220), open_library("free")
    read(free, "demo", book)
    used = free.usage().states_bytes
    tight = open_library("tight", max_state_bytes=used // 2)
    with Session.open(tight, engine, "demo", create=True) as session:
        with pytest.raises(DiskFullError, match="allowed"):
            list(session.read([book]))
        position = session.row.position
        assert 0 < position < session.row.num_tokens
        with pytest.raises(DiskFullError):
            list(session.ask("Who came?", GREEDY))
        assert session.row.num_messages == 0
    tight.close()
    with Session.open(open_library("tight"), engine, "demo") as session:
        receipt = last(session.read([book]))
        assert receipt.tokens_reused >= position
        assert session.row.head == free.session("demo").head


def test_a_disk_that_fills_up_during_an_answer_loses_only_the_answer(engine, open_library, read, write_book):
    book = write_book(num_lines=40)
    library = open_library("library")
    read(library, "demo", book)
    before = rows(library, "demo")
    full = open_library("library", max_state_bytes=library.usage().states_bytes + 100)
    with Session.open(full, engine, "demo") as session:
        with pytest.raises(DiskFullError):
            list(session.ask("Who came?", GREEDY))
        assert rows(full, "demo") == before
        full.max_state_bytes = None
        assert last(session.ask("Who came?", GREEDY)).tokens_reused == before[1]


def test_an_open_session_is_busy_and_a_closed_one_is_free(engine, library, other_model, tmp_path):
    with contextlib.ExitStack() as stack:
        stack.enter_context(Session.open(library, engine, "demo", create=True))
        with pytest.raises(SessionBusyError, match="in use by this program"):
            Session.open(library, engine, "demo")
    with Session.open(library, engine, "demo") as session:
        session.close()
        Session.open(library, engine, "demo").close()
    with pytest.raises(SessionNotFoundError):
        Session.open(library, engine, "nobody")


def test_a_state_kept_in_memory_takes_up_what_another_session_object_wrote(engine, library, read, write_book):
    read(library, "demo", write_book(num_lines=60))
    with Session.open(library, engine, "demo") as session:
        last(session.ask("Who came?", GREEDY))
        kept = session.state
    with Session.open(library, engine, "demo", state=kept) as session:
        phases = {event.phase for event in session.read([]) if isinstance(event, ReadProgress)}
        assert phases == set()
    with Session.open(library, engine, "demo") as session:
        last(session.ask("And then?", GREEDY))
        expected = session.state.state
    with Session.open(library, engine, "demo", state=kept) as session:
        assert [event for event in session.read([]) if isinstance(event, ReadProgress)] == []
        assert_equal_states(kept.state, expected)
