"""Any turn can be asked again, changed, deleted or branched off; documents are not read again, nothing bad remains."""

import pytest
from reading_helpers import GREEDY, SEGMENT_TOKENS, assert_equal_states, last, restored, rows

from sala_core import SamplingParams
from sala_core.errors import LibraryError
from sala_core.session.session import Session

pytestmark = pytest.mark.usefixtures("short_segments", "one_thread")

WILD = SamplingParams(temperature=9.0, max_tokens=12, seed=3)


@pytest.fixture
def counted(session_engine, monkeypatch):
    """Lists (position, tokens) of every prefill."""
    seen = []
    read = session_engine.read

    def counting(state, ids, **options):
        seen.append((state.position, len(ids)))
        return read(state, ids, **options)

    monkeypatch.setattr(session_engine, "read", counting)
    return seen


@pytest.fixture
def talk(library, session_engine, write_book):
    """talk(name, *questions) reads a book into a session and asks; a question in capitals is answered wildly."""
    book = write_book(num_lines=150)

    def start(name, *questions):
        with Session.open(library, session_engine, name, create=True) as session:
            last(session.read([book]))
            for question in questions:
                last(session.ask(question, WILD if question.isupper() else GREEDY))

    return start


def texts(library, name):
    return [message.text for message in library.messages(name)]


def questions(library, name):
    return [message.text for message in library.messages(name) if message.role == "user"]


def tokens(library, name):
    return library.token_ids(name, 0, library.session(name).num_tokens).tolist()


def document_end(library, name):
    return max(part.end for part in library.parts(name) if part.document_id is not None)


def test_a_wild_turn_that_is_asked_again_leaves_no_trace(talk, library, session_engine, counted):
    talk("clean", "Who came?")
    talk("bad", "WHO CAME?", "And then?")
    bad = library.turns("bad")[0]
    counted.clear()
    with Session.open(library, session_engine, "bad") as session:
        answer = last(session.ask("Who came?", GREEDY, instead_of=bad.id))
    assert answer.document_tokens_read == 0
    assert all(position >= document_end(library, "bad") for position, _ in counted), "no document token is read again"
    assert tokens(library, "bad") == tokens(library, "clean")
    assert texts(library, "bad") == texts(library, "clean")
    assert_equal_states(restored(library, session_engine, "bad"), restored(library, session_engine, "clean"))
    assert library.session("bad").head == library.session("clean").head
    assert [row.stats.document_tokens_read for row in library.messages("bad") if row.stats] == [0]


def test_a_regenerated_answer_in_an_open_session_is_that_of_a_new_process(talk, library, session_engine, counted):
    talk("kept", "Who came?", "And then?")
    talk("reopened", "Who came?", "And then?")
    with Session.open(library, session_engine, "kept") as session:
        list(session.state.catch_up(lambda: False))
        state = session.state.state
        counted.clear()
        last(session.regenerate(library.turns("kept")[0].answer_id, GREEDY))
        assert session.state.state is state, "the state in memory is rewound, not loaded again"
        assert sum(count for _, count in counted) < 80
    with Session.open(library, session_engine, "reopened") as session:
        last(session.regenerate(library.turns("reopened")[0].id, GREEDY))
    assert tokens(library, "kept") == tokens(library, "reopened")
    assert_equal_states(restored(library, session_engine, "kept"), restored(library, session_engine, "reopened"))


def test_versions_can_be_switched_and_keep_what_follows_them(talk, library, session_engine, counted):
    talk("demo", "Who came?", "And then?", "Where to?")
    before = rows(library, "demo")
    first = library.turns("demo")[0]
    with Session.open(library, session_engine, "demo") as session:
        last(session.ask("Who went?", GREEDY, instead_of=first.id))
        last(session.ask("Why?", GREEDY))
        changed = rows(library, "demo")
        (turn, follower) = library.turns("demo")
        assert (turn.version, len(turn.versions), follower.version, len(follower.versions)) == (2, 2, 1, 1)
    change = library.show_version("demo", turn.id, -1)
    assert (change.document_tokens, change.turn_tokens) == (0, 0)
    assert rows(library, "demo") == before
    assert [turn.version for turn in library.turns("demo")] == [1, 1, 1]
    with pytest.raises(LibraryError, match="no such version"):
        library.show_version("demo", first.id, -1)
    library.show_version("demo", first.id, 1)
    assert rows(library, "demo") == changed
    counted.clear()
    with Session.open(library, session_engine, "demo") as session:
        last(session.ask("Really?", GREEDY))
    assert all(position >= document_end(library, "demo") for position, _ in counted)


def test_the_state_in_memory_follows_a_switch_without_loading_the_documents(talk, library, session_engine, monkeypatch):
    talk("demo", "Who came?", "And then?")
    with Session.open(library, session_engine, "demo") as session:
        last(session.ask("Who went?", GREEDY, instead_of=library.turns("demo")[0].id))
        held = session.state
    state = held.state
    library.show_version("demo", library.turns("demo")[0].id, -1)
    loaded = []
    restore = held._rows.restore
    monkeypatch.setattr(held._rows, "restore", lambda state, chain: loaded.extend(chain) or restore(state, chain))
    with Session.open(library, session_engine, "demo", state=held) as session:
        list(session.state.catch_up(lambda: False))
        assert session.state.state is state
        assert (session.state.tokens_read, len(loaded)) == (0, 2)
    assert_equal_states(state, restored(library, session_engine, "demo"))


def test_a_deleted_turn_is_as_if_it_had_never_been(talk, library, session_engine, counted):
    talk("clean", "Who came?")
    talk("bad", "Who came?", "WHO CAME?")
    change = library.delete_turn("bad", library.turns("bad")[1].answer_id)
    assert (change.document_tokens, change.turn_tokens) == (0, 0)
    assert tokens(library, "bad") == tokens(library, "clean")
    assert texts(library, "bad") == texts(library, "clean")
    assert library.session("bad").head == library.session("clean").head
    for name in ("clean", "bad"):
        with Session.open(library, session_engine, name) as session:
            last(session.ask("And then?", GREEDY))
    assert_equal_states(restored(library, session_engine, "bad"), restored(library, session_engine, "clean"))


def test_turns_behind_a_deleted_one_stay_and_are_read_without_it(talk, library, session_engine, counted):
    talk("demo", "WHO CAME?", "And then?")
    change = library.delete_turn("demo", library.turns("demo")[0].id)
    assert change.document_tokens == 0
    assert change.turn_tokens == library.turns("demo")[0].end - library.turns("demo")[0].start
    assert questions(library, "demo") == ["And then?"]
    counted.clear()
    with Session.open(library, session_engine, "demo") as session:
        list(session.state.catch_up(lambda: False))
    assert sum(count for _, count in counted) == change.turn_tokens
    after = restored(library, session_engine, "demo")
    library.drop_state("demo")
    with Session.open(library, session_engine, "demo") as session:
        list(session.state.catch_up(lambda: False))
    assert_equal_states(restored(library, session_engine, "demo"), after)


def test_a_turn_that_comes_back_stands_where_it_was(talk, library, session_engine):
    talk("demo", "Who came?", "And then?", "Where to?")
    before = rows(library, "demo")
    change = library.delete_turn("demo", library.turns("demo")[1].id)
    assert questions(library, "demo") == ["Who came?", "Where to?"]
    back = library.restore_turn("demo", change.deleted)
    assert (back.document_tokens, back.turn_tokens) == (0, 0)
    assert rows(library, "demo") == before


def test_after_the_last_turn_is_deleted_its_other_version_is_shown(talk, library, session_engine):
    talk("demo", "Who came?", "And then?")
    with Session.open(library, session_engine, "demo") as session:
        last(session.ask("And now?", GREEDY, instead_of=library.turns("demo")[1].id))
    library.delete_turn("demo", library.turns("demo")[1].id)
    assert questions(library, "demo") == ["Who came?", "And then?"]
    assert [turn.versions for turn in library.turns("demo")] == [(turn.id,) for turn in library.turns("demo")]


def test_a_branch_shares_everything_up_to_its_turn(talk, library, session_engine, counted, write_book):
    talk("demo", "Who came?", "And then?")
    with Session.open(library, session_engine, "demo") as session:
        last(session.ask("And now?", GREEDY, instead_of=library.turns("demo")[1].id))
        last(session.read([write_book("later.txt", 40, 7)]))
    change = library.branch_session("demo", "branch", library.turns("demo")[0].id)
    assert (change.document_tokens, change.turn_tokens, change.left_out) == (0, 0, 1)
    assert (questions(library, "branch"), library.hidden_turns("branch")) == (["Who came?"], [])
    assert [source.name for source in library.sources("branch")] == ["book.txt"]
    counted.clear()
    with Session.open(library, session_engine, "branch") as session:
        last(session.ask("Where to?", GREEDY))
    assert all(position >= document_end(library, "branch") for position, _ in counted)
    assert len(library.turns("demo")[1].versions) == 2
    library.branch_session("demo", "second", library.turns("demo")[1].id)
    library.fork_session("demo", "whole")
    for name in ("second", "whole"):
        assert [len(turn.versions) for turn in library.turns(name)] == [1, 2]
        library.delete_turn(name, library.turns(name)[1].id)
        assert questions(library, name) == ["Who came?", "And then?"]


def test_documents_read_after_a_turn_stand_before_its_new_version_and_are_counted(
    talk, library, session_engine, write_book
):
    talk("demo", "Who came?")
    later = write_book("later.txt", 40, 7)
    with Session.open(library, session_engine, "demo") as session:
        last(session.read([later]))
        (turn,) = library.turns("demo")
        answer = last(session.ask("Who went?", GREEDY, instead_of=turn.id))
    assert answer.document_tokens_read == turn.document_tokens_behind > 0
    assert [part.kind for part in library.parts("demo")] == ["system", "document", "document", "user", "assistant"]
    talk("other")
    with Session.open(library, session_engine, "other") as session:
        last(session.read([later]))
        last(session.ask("Who went?", GREEDY))
    assert tokens(library, "demo") == tokens(library, "other")
    assert_equal_states(restored(library, session_engine, "demo"), restored(library, session_engine, "other"))


def test_a_version_that_ends_before_its_first_word_changes_nothing(talk, library, session_engine):
    talk("demo", "Who came?", "And then?")
    before = rows(library, "demo")
    with Session.open(library, session_engine, "demo") as session:
        asking = session.ask("Who?", GREEDY, instead_of=library.turns("demo")[0].id)
        next(asking)
        asking.close()
        assert rows(library, "demo") == before
        seen = []
        for event in session.ask(
            "Who?", GREEDY, instead_of=library.turns("demo")[1].id, should_stop=lambda: bool(seen)
        ):
            seen.append(event)
        assert rows(library, "demo") == before
        last(session.ask("Where to?", GREEDY))
    talk("other", "Who came?", "And then?", "Where to?")
    assert tokens(library, "demo") == tokens(library, "other")


def test_where_a_snapshot_is_gone_what_is_read_again_is_counted(talk, library, session_engine, counted):
    talk("demo", "Who came?")
    (turn,) = library.turns("demo")
    with library.database.write() as conn:  # as a quota does
        gone = "UPDATE checkpoints SET snapshot_bytes = 0, snapshot_checksum = NULL WHERE end_token = ?"
        conn.execute(gone, [turn.start])
    counted.clear()
    with Session.open(library, session_engine, "demo") as session:
        answer = last(session.regenerate(turn.id, GREEDY))
    again = sum(count for position, count in counted if position < turn.start)
    assert answer.document_tokens_read == again
    assert 0 < again <= 2 * SEGMENT_TOKENS, "no more than an interval"
    counted.clear()
    with Session.open(library, session_engine, "demo") as session:
        answer = last(session.regenerate(library.turns("demo")[0].id, GREEDY))
    assert answer.document_tokens_read == 0, "the snapshot is there again"


def test_a_question_stopped_before_its_first_word_is_not_kept(talk, library, session_engine):
    talk("demo", "Who came?")
    before = rows(library, "demo")
    seen = []
    with Session.open(library, session_engine, "demo") as session:
        for event in session.ask("And then?", GREEDY, should_stop=lambda: bool(seen)):
            seen.append(event)
    assert seen
    assert rows(library, "demo") == before


def test_evidence_stays_with_its_version(talk, library, session_engine):
    talk("demo", "Who came?")
    shown = library.messages("demo")[1]
    with Session.open(library, session_engine, "demo") as session:
        last(session.ask("Who went?", GREEDY, instead_of=library.turns("demo")[0].id))
    library.show_version("demo", library.turns("demo")[0].id, -1)
    assert library.messages("demo")[1] == shown
    assert shown.evidence


def test_another_model_reads_the_versions_too(talk, library, session_engine, other_model):
    from sala_core import Engine

    talk("demo", "Who came?")
    with Session.open(library, session_engine, "demo") as session:
        last(session.ask("Who went?", GREEDY, instead_of=library.turns("demo")[0].id))
    other = Engine.load(other_model, dtype="float32")
    with Session.open(library, other, "demo") as session:
        session.reset()
        last(session.read([]))
    library.show_version("demo", library.turns("demo")[0].id, -1)
    with Session.open(library, other, "demo") as session:
        last(session.ask("And then?", GREEDY))
    assert questions(library, "demo") == ["Who came?", "And then?"]
