"""A question is answered from what is read so far, while its session reads; the reading goes on with the same bits."""

import pytest
from reading_helpers import GREEDY, assert_equal_states, last, restored

from sala_core.engine.generate import Token
from sala_core.events import ReadProgress
from sala_core.session.session import Session

pytestmark = pytest.mark.usefixtures("short_segments", "one_thread")


@pytest.fixture
def quiet(open_library, session_engine):
    """quiet(*paths) reads them without a question, in a library of its own; returns library, name."""

    def read(*paths):
        library = open_library("quiet")
        with Session.open(library, session_engine, "quiet", create=True) as session:
            last(session.read(paths))
        return library, "quiet"

    return read


def chunks(events):
    """Pass over a reading's events, and stop at each chunk of the model."""
    for event in events:
        if isinstance(event, ReadProgress) and event.phase == "reading":
            yield event


def test_a_question_during_a_reading_is_answered_from_what_was_read(library, session_engine, write_book, quiet):
    book = write_book(num_lines=400)
    other, name = quiet(book)
    head, end = other.session(name).head, other.session(name).num_tokens
    with Session.open(library, session_engine, "busy", create=True) as session:
        reading = session.read([book])
        steps = chunks(reading)
        assert not session.can_ask_meanwhile
        position = [next(steps) for _ in range(2)][-1].tokens_done
        assert session.can_ask_meanwhile
        events = list(session.ask_meanwhile("Who came?", GREEDY))
        answer = events[-1]
        assert answer.read_so_far == (position, end)
        assert any(isinstance(event, Token) for event in events)
        assert [row.stats.read_so_far for row in library.messages("busy") if row.stats] == [(position, end)]
        receipt = last(reading)
        assert not receipt.stopped
        assert session.row.position == session.row.num_tokens > end
        assert [part.kind for part in library.parts("busy")] == ["system", "document", "user", "assistant"]
        assert head in {row.name for row in session.state._store.chain(session.row.head)}, "the tokens are the same"
        last(session.ask("And then?", GREEDY))
    assert_equal_states_until(restored(library, session_engine, "busy"), restored(other, session_engine, name), end)


def assert_equal_states_until(first, second, end):
    """The keys and values of the first `end` tokens are equal bit for bit."""
    ours, theirs = first.segment(0, end), second.segment(0, end)
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)


def test_a_reading_that_was_asked_and_killed_is_continued_with_its_turn_behind(
    library, session_engine, write_book, quiet
):
    books = [write_book("a.txt", 200), write_book("b.txt", 200, 3)]
    other, name = quiet(*books)
    with Session.open(library, session_engine, "killed", create=True) as session:
        steps = chunks(session.read(books))
        next(steps)
        answer = last(session.ask_meanwhile("Who came?", GREEDY))
        assert {item.document for item in answer.evidence} == {"a.txt"}
        next(steps)
        steps.close()
    assert library.session("killed").position < library.session("killed").num_tokens
    with Session.open(library, session_engine, "killed") as session:
        receipt = last(session.read(books))
        assert (receipt.stopped, session.row.position) == (False, session.row.num_tokens)
    end = other.session(name).num_tokens
    kinds = [part.kind for part in library.parts("killed")]
    assert kinds == ["system", "document", "document", "user", "assistant"]
    state = restored(library, session_engine, "killed")
    assert_equal_states_until(state, restored(other, session_engine, name), end)


def test_a_stopped_question_during_a_reading_leaves_nothing(library, session_engine, write_book, quiet):
    book = write_book(num_lines=200)
    other, name = quiet(book)
    with Session.open(library, session_engine, "busy", create=True) as session:
        reading = session.read([book])
        next(chunks(reading))
        asked = session.ask_meanwhile("Who came?", GREEDY, should_stop=lambda: True)
        assert [event for event in asked if isinstance(event, Token)] == []
        last(reading)
    assert library.messages("busy") == []
    assert_equal_states(restored(library, session_engine, "busy"), restored(other, session_engine, name))


def test_documents_prepared_while_a_question_is_answered_are_read_behind_it(library, session_engine, write_book):
    first, second = write_book("a.txt", 30), write_book("b.txt", 30, 3)
    with Session.open(library, session_engine, "demo", create=True) as session:
        last(session.read([first]))
        reading = session.read([second])
        assert next(reading).phase == "preparing"
        last(session.ask("Who came?", GREEDY))
        receipt = last(reading)
        assert not receipt.stopped
        assert [part.kind for part in library.parts("demo")] == ["system", "document", "user", "assistant", "document"]
        assert session.row.position == session.row.num_tokens
