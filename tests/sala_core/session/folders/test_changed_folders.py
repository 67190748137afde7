"""A folder that is read again: what changed replaces its old text, what is gone is said, and the rest costs nothing."""

import os
import sys

import pytest
from reading_helpers import GREEDY, SEGMENT_TOKENS, assert_equal_states, last, restored, text_of, tokens_in

from sala_core import Engine
from sala_core.session.folders import new_stream
from sala_core.session.folders.survey import Survey
from sala_core.session.session import Session
from sala_core.store import PartDraft

pytestmark = pytest.mark.usefixtures("short_segments")
NAMES = ("a.txt", "b.txt", "c.txt")


@pytest.fixture
def engine(session_engine):
    return session_engine


@pytest.fixture
def shelf(tmp_path):
    """A folder of three texts of some 1,400 tokens each, all older than two seconds."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        write(folder / name, text_of(120, seed))
    return folder


def write(path, text, age_s=60.0):
    """Write a file that was last changed `age_s` seconds ago."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (path.stat().st_mtime - age_s,) * 2)


def read(library, engine, *paths, name="demo", **options):
    """Read into a session; returns the receipt, and checks that it cost what was said before."""
    with Session.open(library, engine, name, create=True) as session:
        receipt = last(session.read(paths, **options))
    if not receipt.is_declined:
        assert receipt.tokens_read == receipt.plan.tokens_read
        assert library.session(name).num_tokens == receipt.plan.tokens
    return receipt


def documents(library, name="demo"):
    """Names and texts of the documents in a session, in the order of its stream."""
    rows = library.documents(library.session(name).id)
    return [(row.name, library.load_document(row.id).document.text) for row in rows]


def names_in(library, name="demo"):
    return [document.removeprefix("shelf/") for document, _ in documents(library, name)]


def stream_text(library, engine, name="demo"):
    """The text of the session's whole token stream."""
    row = library.session(name)
    return engine.tokenizer.decode(library.token_ids(row.id, 0, row.num_tokens).tolist())


def state_of_the_same_stream(engine, other, library, name="demo"):
    """The state of a session in an empty library that reads the stream of `name` from its beginning."""
    row = library.session(name)
    fresh = other.create_session("fresh", model=engine.name, fingerprint=engine.fingerprint)
    for part in library.parts(row.id):
        document = None
        if part.document_id is not None:
            document = other.put_document(library.load_document(part.document_id), engine.tokenizer.fingerprint)
        ids = library.token_ids(row.id, part.start, part.end)
        draft = PartDraft(kind=part.kind, token_ids=ids, document_id=document, body_start=part.body_start)
        other.append_parts(fresh.id, [draft])
    with Session.open(other, engine, "fresh") as session:
        receipt = last(session.read([]))
        assert receipt.tokens_read == row.num_tokens
        return session.state.state


def test_an_unchanged_folder_is_not_even_opened(engine, library, shelf, monkeypatch):
    monkeypatch.setattr("sala_core.session.folders.file_state._SETTLED_NS", 0)
    first = read(library, engine, shelf)
    monkeypatch.setattr(sys.modules["sala_core.ingest.prepare"], "load_document", None)
    monkeypatch.setattr("sala_core.session.folders.survey.hash_of", None)
    again = read(library, engine, shelf)
    assert (again.files, again.tokens, again.tokens_read) == (3, first.tokens, 0)
    assert (again.plan.unchanged, again.plan.changed, again.plan.new) == (3, (), ())


def test_a_changed_file_replaces_its_old_text_and_what_follows_is_read_again(
    engine, library, shelf, open_library, monkeypatch
):
    monkeypatch.setattr(new_stream, "STABLE_TOKENS", 10**9)
    read(library, engine, shelf)
    with Session.open(library, engine, "demo") as session:
        last(session.ask("Who came?", GREEDY))
    before = library.session("demo").num_tokens
    start = next(part.start for part in library.parts(library.session("demo").id) if part.ordinal == 2)
    write(shelf / "b.txt", "The ferry is called Marigold.\n" + text_of(119, 7), age_s=30)
    receipt = read(library, engine, shelf)
    assert receipt.plan.changed == ("shelf/b.txt",)
    assert receipt.tokens_reused == start // (2 * SEGMENT_TOKENS) * 2 * SEGMENT_TOKENS
    assert 0 < receipt.plan.tokens_new < receipt.plan.tokens_read
    assert names_in(library) == ["a.txt", "b.txt", "c.txt"]
    kinds = [part.kind for part in library.parts(library.session("demo").id)]
    assert kinds == ["system", "document", "document", "document", "user", "assistant"]
    text = stream_text(library, engine)
    assert text.count("called Marigold") == 1
    assert text_of(120, 1)[:200] not in text
    assert "Who came?" in text
    assert abs(library.session("demo").num_tokens - before) < 50
    state = restored(library, engine, "demo")
    fresh = state_of_the_same_stream(engine, open_library("other"), library)
    assert_equal_states(state, fresh)


def test_what_stands_far_before_a_change_is_restored(engine, library, shelf, open_library):
    write(shelf / "a.txt", text_of(400, 5))
    read(library, engine, shelf)
    write(shelf / "c.txt", text_of(120, 9), age_s=30)
    receipt = read(library, engine, shelf)
    start = library.parts(library.session("demo").id)[3].start
    assert receipt.tokens_reused >= 2 * SEGMENT_TOKENS
    assert start - receipt.tokens_reused <= 2 * SEGMENT_TOKENS
    state = restored(library, engine, "demo")
    assert_equal_states(state, state_of_the_same_stream(engine, open_library("other"), library))


def test_text_added_at_the_end_of_the_last_file_costs_only_that(engine, library, shelf):
    read(library, engine, shelf)
    write(shelf / "c.txt", text_of(120, 2) + text_of(20, 8), age_s=30)
    receipt = read(library, engine, shelf)
    assert receipt.plan.changed == ("shelf/c.txt",)
    assert receipt.tokens_reused >= 4 * SEGMENT_TOKENS - 2 * SEGMENT_TOKENS
    assert receipt.tokens_read < 2 * SEGMENT_TOKENS + 400


def test_a_file_that_changes_moves_behind_the_stable_ones_and_is_cheap_from_then_on(
    engine, library, shelf, monkeypatch
):
    monkeypatch.setattr(new_stream, "STABLE_TOKENS", 100)
    write(shelf / "b.txt", text_of(300, 4))
    read(library, engine, shelf)
    write(shelf / "a.txt", text_of(30, 11), age_s=50)
    first = read(library, engine, shelf)
    assert names_in(library) == ["b.txt", "c.txt", "a.txt"]
    write(shelf / "a.txt", text_of(30, 12), age_s=40)
    second = read(library, engine, shelf)
    assert names_in(library) == ["b.txt", "c.txt", "a.txt"]
    assert first.tokens_reused == 0
    assert second.tokens_read < 400 + SEGMENT_TOKENS < second.tokens_reused


def test_a_new_file_costs_only_its_own_tokens(engine, library, shelf):
    read(library, engine, shelf)
    with Session.open(library, engine, "demo") as session:
        last(session.ask("Who came?", GREEDY))
    position = library.session("demo").position
    write(shelf / "d.txt", text_of(40, 6))
    receipt = read(library, engine, shelf)
    assert receipt.plan.new == ("shelf/d.txt",)
    assert receipt.plan.tokens_again == 0
    assert receipt.tokens_read == receipt.plan.tokens_new == library.session("demo").num_tokens - position


def test_a_file_that_is_gone_stays_until_the_user_says_so(engine, library, shelf):
    read(library, engine, shelf)
    (shelf / "b.txt").unlink()
    kept = read(library, engine, shelf)
    assert (kept.plan.gone, kept.plan.removed, kept.tokens_read) == (("shelf/b.txt",), (), 0)
    assert names_in(library) == ["a.txt", "b.txt", "c.txt"]
    status = {row.name: row.status for row in library.sources(library.session("demo").id)}
    assert status == {"shelf/a.txt": "present", "shelf/b.txt": "gone", "shelf/c.txt": "present"}
    dropped = read(library, engine, shelf, drop_gone=True)
    assert (dropped.plan.gone, dropped.plan.removed) == ((), ("shelf/b.txt",))
    assert names_in(library) == ["a.txt", "c.txt"]
    assert text_of(120, 1)[:200] not in stream_text(library, engine)


def test_a_moved_file_is_recognized_and_takes_its_new_name_where_that_is_cheap(engine, library, shelf, monkeypatch):
    read(library, engine, shelf)
    (shelf / "c.txt").rename(shelf / "z.txt")
    receipt = read(library, engine, shelf)
    assert (receipt.plan.moved, receipt.plan.new, receipt.plan.gone) == (("shelf/c.txt -> shelf/z.txt",), (), ())
    assert documents(library)[2] == ("shelf/z.txt", text_of(120, 2))
    monkeypatch.setattr(new_stream, "STABLE_TOKENS", 0)
    monkeypatch.setattr("sala_core.session.reading.STABLE_TOKENS", 0)
    (shelf / "a.txt").rename(shelf / "y.txt")
    receipt = read(library, engine, shelf)
    assert (receipt.plan.moved, receipt.tokens_read) == (("shelf/a.txt -> shelf/y.txt",), 0)
    assert names_in(library) == ["a.txt", "b.txt", "z.txt"]
    write(shelf / "y.txt", text_of(120, 15), age_s=30)
    receipt = read(library, engine, shelf)
    assert receipt.plan.changed == ("shelf/a.txt",)
    assert sorted(names_in(library)) == ["b.txt", "y.txt", "z.txt"]


def test_a_file_that_cannot_be_opened_now_keeps_its_text_with_a_note(engine, library, shelf):
    read(library, engine, shelf)
    (shelf / "b.txt").chmod(0)
    receipt = read(library, engine, shelf, drop_gone=True)
    assert names_in(library) == ["a.txt", "b.txt", "c.txt"]
    assert [text for text in receipt.warnings if "its earlier text stays" in text]
    assert {row.status for row in library.sources(library.session("demo").id) if "b.txt" in row.name} == {"unreadable"}
    (shelf / "b.txt").chmod(0o600)
    assert read(library, engine, shelf).tokens_read == 0


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 8], ids=["empty", "binary"])
def test_a_file_whose_new_content_is_not_read_does_not_keep_its_old_text(engine, library, shelf, content):
    read(library, engine, shelf)
    (shelf / "b.txt").write_bytes(content)
    receipt = read(library, engine, shelf)
    assert names_in(library) == ["a.txt", "c.txt"]
    assert [text for text in receipt.warnings if "its earlier text is removed" in text]


def test_a_file_that_became_a_folder_is_gone_and_its_files_are_new(engine, library, shelf):
    read(library, engine, shelf)
    (shelf / "b.txt").unlink()
    (shelf / "b.txt").mkdir()
    write(shelf / "b.txt" / "part.txt", text_of(10, 21))
    receipt = read(library, engine, shelf, drop_gone=True)
    assert (receipt.plan.removed, receipt.plan.new) == (("shelf/b.txt",), ("shelf/b.txt/part.txt",))


def test_a_file_that_changes_while_it_is_read_is_read_again(engine, library, shelf, monkeypatch):
    versions = iter([text_of(50, 31), text_of(50, 32)])
    add = Survey.add

    def changed_meanwhile(survey, document):
        if document.name.endswith("b.txt") and (text := next(versions, None)):
            (shelf / "b.txt").write_text(text)
        return add(survey, document)

    monkeypatch.setattr(Survey, "add", changed_meanwhile)
    receipt = read(library, engine, shelf)
    assert dict(documents(library))["shelf/b.txt"] == text_of(50, 32)
    assert (receipt.files, receipt.warnings) == (3, ())


def test_a_file_that_never_rests_is_read_with_a_warning_and_again_the_next_time(engine, library, shelf, monkeypatch):
    add, number = Survey.add, iter(range(100))

    def changed_meanwhile(survey, document):
        if document.name.endswith("b.txt"):
            (shelf / "b.txt").write_text(f"Version {next(number)}.\n")
        return add(survey, document)

    with monkeypatch.context() as patch:
        patch.setattr(Survey, "add", changed_meanwhile)
        receipt = read(library, engine, shelf)
    assert [text for text in receipt.warnings if "changed while it was read" in text]
    read(library, engine, shelf)
    assert dict(documents(library))["shelf/b.txt"] == (shelf / "b.txt").read_text()


def test_a_change_that_size_and_time_do_not_show_is_seen(engine, library, shelf):
    (shelf / "b.txt").write_text("The dog is called Bello.\n")
    moment = (shelf / "b.txt").stat()
    read(library, engine, shelf)
    (shelf / "b.txt").write_text("The dog is called Rufus.\n")
    os.utime(shelf / "b.txt", ns=(moment.st_atime_ns, moment.st_mtime_ns))
    assert read(library, engine, shelf).plan.changed == ("shelf/b.txt",)


def test_of_two_files_with_one_text_only_the_changed_one_is_replaced(engine, library, shelf):
    write(shelf / "c.txt", text_of(120, 1))
    read(library, engine, shelf)
    write(shelf / "c.txt", text_of(120, 17), age_s=30)
    receipt = read(library, engine, shelf)
    assert receipt.plan.changed == ("shelf/c.txt",)
    assert dict(documents(library)) == {
        "shelf/a.txt": text_of(120, 0), "shelf/b.txt": text_of(120, 1), "shelf/c.txt": text_of(120, 17)
    }  # fmt: skip


def test_one_text_that_two_folders_hold_stays_while_one_of_them_has_it(engine, library, shelf, tmp_path):
    other = tmp_path / "elsewhere" / "shelf"
    other.mkdir(parents=True)
    write(other / "a.txt", text_of(120, 0))
    read(library, engine, shelf)
    assert read(library, engine, other).tokens_read == 0
    write(other / "a.txt", text_of(120, 41), age_s=30)
    read(library, engine, other)
    assert [text for name, text in documents(library) if name == "shelf/a.txt"] == [text_of(120, 0), text_of(120, 41)]


def test_documents_of_an_earlier_version_are_known_by_their_names(engine, library, shelf):
    read(library, engine, shelf)
    library.put_sources(library.session("demo").id, [])
    write(shelf / "b.txt", text_of(120, 51), age_s=30)
    receipt = read(library, engine, shelf)
    assert (receipt.plan.changed, receipt.plan.new) == (("shelf/b.txt",), ())
    assert len(library.sources(library.session("demo").id)) == 3


def test_a_plan_that_is_declined_changes_nothing(engine, library, shelf):
    read(library, engine, shelf)
    before = library.parts(library.session("demo").id), library.sources(library.session("demo").id)
    write(shelf / "a.txt", text_of(120, 61), age_s=30)
    plans = []
    receipt = read(library, engine, shelf, approve=lambda plan: plans.append(plan))
    assert (receipt.is_declined, receipt.stopped) == (True, False)
    assert plans == [receipt.plan]
    assert plans[0].changed == ("shelf/a.txt",)
    assert (library.parts(library.session("demo").id), library.sources(library.session("demo").id)) == before


def test_earlier_evidence_still_finds_the_text_it_was_taken_from(engine, library, shelf):
    read(library, engine, shelf)
    with Session.open(library, engine, "demo") as session:
        evidence = last(session.ask("Who came?", GREEDY)).evidence
    for seed, name in enumerate(NAMES):
        write(shelf / name, text_of(60, 70 + seed), age_s=30)
    read(library, engine, shelf)
    library.collect_garbage(min_age_s=0)
    assert evidence
    for item in evidence:
        assert item.text in library.load_document(item.document_id).document.text
    old = {item.document_id for item in evidence}
    library.delete_session("demo")
    assert not [file for file in library.documents_folder.iterdir() if file.stem in old]


def test_answers_after_a_change_are_those_of_a_fresh_session(engine, library, shelf, open_library, monkeypatch):
    monkeypatch.setattr(new_stream, "STABLE_TOKENS", 10**9)
    read(library, engine, shelf)
    write(shelf / "b.txt", text_of(100, 81), age_s=30)
    read(library, engine, shelf)
    other = open_library("other")
    read(other, engine, shelf)
    with Session.open(library, engine, "demo") as changed, Session.open(other, engine, "demo") as fresh:
        for question in ("Who came?", "And then?"):
            ours, theirs = list(changed.ask(question, GREEDY)), list(fresh.ask(question, GREEDY))
            assert tokens_in(ours) == tokens_in(theirs)
            assert ours[-1].evidence == theirs[-1].evidence
        assert_equal_states(changed.state.state, fresh.state.state)


def test_a_removed_document_leaves_and_stays_out_until_it_is_named(engine, library, shelf):
    read(library, engine, shelf)
    row = next(row for row in library.documents(library.session("demo").id) if row.name == "shelf/b.txt")
    with Session.open(library, engine, "demo") as session:
        receipt = last(session.remove([row.id]))
    assert (receipt.plan.removed, receipt.tokens_read) == (("shelf/b.txt",), receipt.plan.tokens_read)
    assert names_in(library) == ["a.txt", "c.txt"]
    again = read(library, engine, shelf)
    assert again.tokens_read == 0
    assert "removed" in again.skipped[-1].reason
    assert names_in(library) == ["a.txt", "c.txt"]
    read(library, engine, shelf / "b.txt")
    assert names_in(library)[2] == "b.txt"


def test_a_fork_keeps_the_old_text_and_knows_its_files(engine, library, shelf):
    read(library, engine, shelf)
    library.fork_session("demo", "copy")
    write(shelf / "b.txt", text_of(120, 91), age_s=30)
    read(library, engine, shelf)
    assert dict(documents(library, "copy"))["shelf/b.txt"] == text_of(120, 1)
    receipt = read(library, engine, shelf, name="copy")
    assert receipt.plan.changed == ("shelf/b.txt",)
    assert receipt.tokens_read == 0
    assert (receipt.shared_with, receipt.tokens_shared > 0) == ("demo", True)


def test_a_receipt_names_the_session_whose_state_served(engine, library, shelf):
    first = read(library, engine, shelf)
    assert (first.shared_with, first.tokens_shared) == ("", 0)
    second = read(library, engine, shelf, name="other")
    assert (second.shared_with, second.tokens_shared) == ("demo", first.tokens_read)
    assert read(library, engine, shelf, name="other").shared_with == ""


def test_a_sessions_own_state_is_not_called_another_sessions(engine, library, shelf):
    read(library, engine, shelf)
    old = (shelf / "c.txt").read_text()
    write(shelf / "c.txt", text_of(120, 95), age_s=30)
    read(library, engine, shelf)
    write(shelf / "c.txt", old, age_s=20)
    receipt = read(library, engine, shelf)
    assert (receipt.plan.changed, receipt.tokens_read) == (("shelf/c.txt",), 0)
    assert (receipt.shared_with, receipt.tokens_shared) == ("", 0)


def test_a_changed_fact_is_answered_from_the_new_text_alone(library, tmp_path):
    embedded = Engine.load("embedded", "cpu", dtype="float32")
    notes = tmp_path / "notes"
    notes.mkdir()
    write(notes / "bay.txt", "Rain fell on two days in May.\nThe water of the bay stayed cold until June.\n" * 8)
    write(notes / "port.txt", "The port has two piers.\nThe harbor master is called Elena Voss.\n")
    read(library, embedded, notes)
    with Session.open(library, embedded, "demo") as session:
        before = last(session.ask("Who is the harbor master?"))
    assert "Elena Voss" in before.text
    write(notes / "port.txt", "The port has two piers.\nThe harbor master is called Marcus Thiel.\n", age_s=30)
    assert read(library, embedded, notes).plan.changed == ("notes/port.txt",)
    with Session.open(library, embedded, "demo") as session:
        after = last(session.ask("Who is the harbor master?"))
    assert "Marcus Thiel" in after.text
    assert [quotation.text for quotation in after.quotations if "Elena" in quotation.text] == []
    assert [item.text for item in after.evidence if "Elena" in item.text] == []
    outdated = library.outdated_answers(library.session("demo").id)
    answers = [message.id for message in library.messages(library.session("demo").id) if message.role == "assistant"]
    assert outdated == {answers[0]: ("an earlier version of notes/port.txt",)}


def test_an_answer_says_that_its_files_are_gone_or_have_changed(engine, library, shelf):
    read(library, engine, shelf)
    for name in NAMES:
        (shelf / name).unlink()
    write(shelf / "a.txt", "Another text.\n", age_s=20)
    with Session.open(library, engine, "demo") as session:
        answer = last(session.ask("Who came?", GREEDY))
    named = {item.document for item in answer.evidence}
    assert {text.split(":")[0] for text in answer.warnings} == named
    for text in answer.warnings:
        assert ("has changed" if text.startswith("shelf/a.txt") else "is gone now") in text


def test_an_unpacked_book_is_one_file_that_has_changed_only_if_something_in_it_has(library, engine, tmp_path):
    book = tmp_path / "Book.epub"
    for name, text in {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": (
            '<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
            'full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
        ),
        "book.opf": (
            '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/><manifest><item id="a" '
            'href="a.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="a"/></spine>'
            "</package>"
        ),
        "a.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><body><p>The key lies under a stone.</p></body></html>',
    }.items():
        (book / name).parent.mkdir(parents=True, exist_ok=True)
        write(book / name, text)
    first = read(library, engine, book)
    assert (first.files, first.warnings) == (1, ())
    assert read(library, engine, book).plan.tokens_read == 0
    write(book / "a.xhtml", (book / "a.xhtml").read_text().replace("stone", "plank"))
    again = read(library, engine, book)
    assert (again.plan.changed, again.warnings) == (("Book.epub",), ())
