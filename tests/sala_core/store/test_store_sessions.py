"""Sessions are found by any text, forked without copies, and deleted without harm to others."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sala_core.errors import LibraryError, SessionBusyError, SessionExistsError, SessionNotFoundError
from sala_core.store import MessageDraft, PartDraft


def names(rows) -> list[str]:
    """The names of sessions, sorted."""
    return sorted(row.name for row in rows)


def test_a_new_session_is_found_by_name_and_id(library):
    made = library.create_session("War and Peace", model="A", fingerprint="f")
    assert library.session("War and Peace") == made
    assert library.session(made.id) == made
    assert (made.head, made.position, made.num_tokens, made.num_documents, made.num_messages) == (
        None,
        0,
        0,
        0,
        0,
    )
    assert (made.model, made.fingerprint) == ("A", "f")
    with pytest.raises(SessionNotFoundError, match="Peace"):
        library.session("Peace")


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\0", "x" * 201, "\udcff"])
def test_invalid_names_are_refused(library, name):
    with pytest.raises(LibraryError, match="cannot be a session's name"):
        library.create_session(name, model="A", fingerprint="f")
    assert library.sessions() == []


def test_names_are_unique_but_a_session_may_keep_its_own(library, new_session):
    first, second = new_session("one"), new_session("two")
    with pytest.raises(SessionExistsError):
        library.create_session("one", model="A", fingerprint="f")
    with pytest.raises(SessionExistsError):
        library.rename_session(second, "one")
    with pytest.raises(SessionExistsError):
        library.fork_session(first, "two")
    assert library.rename_session(first, "one").name == "one"
    assert library.rename_session(first, "three").id == first
    assert names(library.sessions()) == ["three", "two"]


def test_the_most_recently_used_session_comes_first(library, new_session):
    first, second = new_session("one"), new_session("two")
    assert [row.id for row in library.sessions()] == [second, first]
    library.append_parts(first, [PartDraft(kind="user", token_ids=[1])])
    assert [row.id for row in library.sessions()] == [first, second]


@pytest.fixture
def searchable(library, new_session, encoded):
    """Two sessions with documents and messages."""
    tale, novel = new_session("A tale"), new_session("战争与和平")
    document = library.put_document(encoded(name="src/Ownership_rules.rs"), "t")
    library.append_parts(tale, [PartDraft(kind="document", token_ids=[1], document_id=document)])
    library.commit_turn(novel, [], [MessageDraft(role="user", text='Who is "Pierre"? 50% of C++?')], None, 0)
    return library


@pytest.mark.parametrize(
    ("search", "found"),
    [
        (None, ["A tale", "战争与和平"]),
        ("  ", ["A tale", "战争与和平"]),
        ("TALE", ["A tale"]),
        ("ownership", ["A tale"]),
        ("rules.rs", ["A tale"]),
        ("pierre", ["战争与和平"]),
        ("ierr", ["战争与和平"]),
        ("战争", ["战争与和平"]),
        ("战争与", ["战争与和平"]),
        ("pierre 和平", ["战争与和平"]),
        ("pierre tale", []),
        ("C++", ["战争与和平"]),
        ('"Pierre"?', ["战争与和平"]),
        ("50%", ["战争与和平"]),
        ("5_%", []),
        ("NOT", []),
        ("nowhere", []),
    ],
)
def test_search_finds_words_in_names_documents_and_messages(searchable, search, found):
    assert names(searchable.sessions(search)) == sorted(found)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(search=st.one_of(st.text(), st.text(alphabet="\"'*^:(){}+-~ ANDORNOTEAR\0\ud800%_\\", max_size=12)))
def test_any_text_is_a_valid_search(searchable, search):
    assert len(searchable.sessions(search)) <= 2


def test_search_follows_renames_and_deletions(library, new_session):
    session = new_session("before")
    library.rename_session(session, "after")
    assert library.sessions("before") == []
    assert names(library.sessions("after")) == ["after"]
    library.delete_session(session)
    assert library.sessions("after") == []
    new_session("fresh")
    assert library.sessions("after") == []


def test_a_fork_copies_rows_and_shares_files(library, store, save, new_session, encoded):
    session = new_session()
    document = library.put_document(encoded(), "t")
    message = MessageDraft(role="user", text="Who?")
    first = save(keep=True)
    library.commit_turn(
        session,
        [PartDraft(kind="document", token_ids=[1, 2], document_id=document, message_id=message.id)],
        [message],
        first,
        4,
    )
    before = {path: path.stat().st_mtime_ns for path in library.folder.rglob("*.safetensors")}
    with library.database.read() as conn:
        runs = conn.execute("SELECT count(*) FROM token_runs").fetchone()[0]
    fork = library.fork_session(session, "branch")
    assert {path: path.stat().st_mtime_ns for path in library.folder.rglob("*.safetensors")} == before
    with library.database.read() as conn:
        assert conn.execute("SELECT count(*) FROM token_runs").fetchone()[0] == runs
    assert (fork.head, fork.position, fork.num_tokens, fork.num_documents, fork.num_messages) == (
        first,
        4,
        66,
        1,
        1,
    )
    assert library.parts(fork.id) == library.parts(session)
    assert library.messages(fork.id) == library.messages(session)
    library.append_parts(fork.id, [PartDraft(kind="user", token_ids=[9])])
    assert library.session(session).num_tokens == 66
    assert names(library.sessions("who")) == ["book", "branch"]


def test_deleting_one_session_keeps_the_files_of_its_fork(library, store, save, new_session, encoded):
    session = new_session()
    shared, own = library.put_document(encoded(), "t"), library.put_document(encoded("other"), "t")
    library.append_parts(session, [PartDraft(kind="document", token_ids=[1], document_id=shared)])
    first = save(keep=True)
    library.set_head(session, first, 4)
    fork = library.fork_session(session, "branch").id
    library.append_parts(session, [PartDraft(kind="document", token_ids=[7, 7], document_id=own)])
    second = save(first)
    library.set_head(session, second, 8)
    freed = library.delete_session(session)
    assert freed > 0
    assert store.load_snapshot(first)
    assert not store.has(second)
    assert library.load_document(shared).document.text == encoded().document.text
    assert library.token_ids(fork, 64, 65).tolist() == [1]
    with pytest.raises(LibraryError, match="not in the library"):
        library.document(own)
    library.delete_session(fork)
    assert list(library.folder.rglob("*.safetensors")) == []
    assert library.usage().states_bytes == 0
    with library.database.read() as conn:
        for table in ("parts", "messages", "token_runs", "documents", "checkpoints", "sessions"):
            assert conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0


def test_deleting_a_fork_drops_the_rolling_snapshot_that_only_it_used(library, store, save, new_session):
    session = new_session()
    first = save()
    library.set_head(session, first, 4)
    fork = library.fork_session(session, "branch").id
    second = save(first)
    library.set_head(session, second, 8)
    assert store.checkpoint(first).has_snapshot
    library.delete_session(fork)
    assert [row.has_snapshot for row in store.chain(second)] == [False, True]


def test_a_session_held_for_writing_is_not_deleted(library, new_session):
    session = new_session()
    with library.lock_session(session), pytest.raises(SessionBusyError):
        library.delete_session(session)
    library.delete_session(session)
    with pytest.raises(SessionNotFoundError):
        library.session(session)
    assert [path.name for path in library.locks_folder.iterdir()] == ["library.lock"]


def test_sessions_of_other_programs_are_in_no_list_and_their_names_are_reserved(library, new_session):
    new_session("mine")
    others = [f"for others: {'0' * 32} abc", f"api: key {'1' * 32}"]
    for name in others:
        new_session(name)
    assert [row.name for row in library.sessions()] == ["mine"]
    assert {row.name for row in library.sessions_of_others()} == set(others)
    assert [row.name for row in library.sessions_of_others("for others: ")] == others[:1]
    assert library.search_hits("others") == []
    for name in ("for others: mine", "api: mine"):
        with pytest.raises(LibraryError, match="another beginning"):
            library.rename_session(library.session("mine").id, name)
