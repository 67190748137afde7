"""Questions of a list are asked from one state, see neither each other nor the conversation, and leave no trace."""

from dataclasses import replace

import pytest
from reading_helpers import GREEDY, last, rows

from sala_core.events import Answer
from sala_core.session.lists.aside import end_of_documents
from sala_core.session.session import Session

pytestmark = pytest.mark.usefixtures("short_segments")

QUESTIONS = ("Who came?", "Where is the river?", "Who came?")


def answers(session, questions=QUESTIONS):
    aside = session.aside()
    list(aside.prepare(lambda: False))
    assert aside.is_ready
    return [last(aside.ask(question, GREEDY, lambda: False)) for question in questions]


def test_answers_depend_on_no_other_question_and_no_conversation(session_engine, library, write_book):
    with Session.open(library, session_engine, "demo", create=True) as session:
        last(session.read([write_book()]))
        first, second, again = answers(session)
        assert isinstance(first, Answer)
        assert (again.text, again.evidence) == (first.text, first.evidence)
        assert [each.tokens_read for each in (second, again)] == [
            len(session_engine.chat.message("user", session_engine.tokenizer.encode_content(question)))
            + len(session_engine.chat.generation_prompt())
            for question in QUESTIONS[1:]
        ]
        backwards = answers(session, QUESTIONS[::-1])
        assert [each.text for each in backwards] == [again.text, second.text, first.text]
        last(session.ask("A question of the conversation?", GREEDY))
        assert [each.text for each in answers(session)] == [first.text, second.text, again.text]


def test_a_model_that_only_finds_does_not_look_at_the_conversation(session_engine, library, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("Natasha lives in Moscow, by the river.\nPierre lives in a garden of Smolensk.\n" * 3)
    finds = replace(GREEDY, max_tokens=64, verbatim=True, only_quotes=True)
    with Session.open(library, session_engine, "demo", create=True) as session:
        last(session.read([book]))
        texts = []
        for question in ("Where does Pierre live?", "Where does Natasha live?"):
            last(session.ask(question, finds))
            aside = session.aside()
            list(aside.prepare(lambda: False))
            texts.append(last(aside.ask("And where does he live?", finds, lambda: False)).text)
    assert texts[0] == texts[1]


def test_a_list_leaves_the_session_as_it_was(session_engine, library, write_book):
    with Session.open(library, session_engine, "demo", create=True) as session:
        last(session.read([write_book()]))
        last(session.ask("Who came?", GREEDY))
        before, state = rows(library, "demo"), session.state.state.position
        answers(session)
        assert rows(library, "demo") == before
        follow_up = last(session.ask("And then?", GREEDY))
        assert session.state.state.position > state
    with Session.open(library, session_engine, "demo") as session:
        again = last(session.ask("And then?", GREEDY))
    assert follow_up.tokens_reused + follow_up.tokens_read <= again.tokens_reused


def test_a_follow_up_after_a_list_answers_as_without_it(session_engine, open_library, write_book):
    book, texts = write_book(), []
    for name in ("with", "without"):
        with Session.open(open_library(name), session_engine, "demo", create=True) as session:
            last(session.read([book]))
            last(session.ask("Who came?", GREEDY))
            if name == "with":
                answers(session)
            texts.append(last(session.ask("And then?", GREEDY)).text)
    assert texts[0] == texts[1]


def test_a_stopped_question_gives_no_answer_and_the_next_one_is_whole(session_engine, library, write_book):
    with Session.open(library, session_engine, "demo", create=True) as session:
        last(session.read([write_book(num_lines=20)]))
        aside = session.aside()
        list(aside.prepare(lambda: False))
        assert not any(isinstance(event, Answer) for event in aside.ask("Who?", GREEDY, lambda: True))
        assert aside.is_ready
        assert isinstance(last(aside.ask("Who?", GREEDY, lambda: False)), Answer)


def test_turns_behind_the_documents_are_left_out_and_those_between_them_stay(session_engine, library, write_book):
    with Session.open(library, session_engine, "demo", create=True) as session:
        last(session.read([write_book(num_lines=12)]))
        last(session.ask("Who came?", GREEDY))
        last(session.read([write_book("second.txt", num_lines=12, seed=1)]))
        parts = library.parts(session.row.id)
        assert end_of_documents(parts) == parts[-1].end
        last(session.ask("And then?", GREEDY))
        assert end_of_documents(library.parts(session.row.id)) == parts[-1].end
