"""How messages are arranged, and how a long one is divided into a text and its question."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sala_core.errors import ConversationError
from sala_core.session.served.conversation import (
    Exchange,
    Reply,
    Said,
    Text,
    asked_words,
    clean,
    conversation,
    divided,
    raw_text,
    turns_of,
)

LONG = "A line of a long text that goes on.\n" * 80
QUESTION = "Who was it?"


def said(*pairs):
    return [Said(role=role, text=text) for role, text in pairs]


def test_leading_system_messages_are_one_and_a_later_one_counts_as_the_users():
    sent = conversation(said(("system", "A."), ("system", "B."), ("user", "x"), ("system", "C.")), finds=False)
    assert (sent.system, sent.items, sent.question) == ("A.\n\nB.", (Text(text="x"),), "C.")


def test_answered_messages_are_exchanges_and_unanswered_ones_texts():
    sent = conversation(
        said(("assistant", "Hello."), ("user", "book"), ("user", "q"), ("assistant", "a"), ("user", QUESTION)),
        finds=False,
    )
    assert sent.items == (Reply(text="Hello."), Text(text="book"), Exchange(question="q", answer="a"))


def test_a_question_behind_a_long_text_stays_in_its_message():
    sent = conversation(said(("user", f"{LONG}\n{QUESTION}")), finds=False)
    assert sent.items == (Text(text=f"{LONG}\n", is_open=True),)
    assert (sent.question, sent.is_open) == (QUESTION, True)
    earlier = conversation(said(("user", f"{LONG}\n{QUESTION}"), ("assistant", "He."), ("user", "Why?")), finds=False)
    assert earlier.items[1] == Exchange(question=QUESTION, answer="He.", is_open=True)


def test_a_model_that_finds_gets_text_and_question_apart_wherever_the_question_stands():
    for message in (f"{LONG}\n{QUESTION}", f"{QUESTION}\n\n{LONG}"):
        assert divided(message, finds=True) == (LONG.strip(), QUESTION)
    assert divided("It rained in the port. " * 20 + QUESTION, finds=True)[1] == QUESTION
    assert divided(f"Short. {QUESTION}", finds=True) == ("", f"Short. {QUESTION}")


def test_files_that_a_program_has_acknowledged_are_searched_too():
    files = "notes.md\n```\nThe key is brass.\n```\n"
    sent = conversation(said(("user", files), ("assistant", "Ok."), ("user", QUESTION)), finds=True)
    assert sent.items == (Text(text=files), Reply(text="Ok."))
    asked = conversation(said(("user", "Tell me of it."), ("assistant", "It is."), ("user", QUESTION)), finds=True)
    assert asked.items == (Exchange(question="Tell me of it.", answer="It is."),)


@given(st.text(alphabet="ab .\n?", max_size=200), st.integers(0, 120))
def test_a_divided_message_is_whole_again(tail, repeats):
    message = "A line of text.\n" * repeats * 2 + tail
    text, question = divided(message, finds=False)
    assert text + question == message
    if text:
        assert any(c.isalnum() for c in question)
        assert len(question) <= 2000


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("Question: Who was it?\nAnswer:", "Who was it?"),
        ("Use the context.\nQuestion: Who was it?\nHelpful Answer:", "Who was it?"),
        ("Who was it?", "Who was it?"),
        ("Q: Who was it?", "Who was it?"),
    ],
)
def test_labels_are_no_part_of_what_is_looked_for(question, words):
    assert asked_words(question) == words


def test_a_conversation_without_a_question_is_refused():
    for messages in (said(), said(("system", "x")), said(("user", "x"), ("assistant", "y")), said(("user", "  "))):
        with pytest.raises(ConversationError, match="last message"):
            conversation(messages, finds=False)
        with pytest.raises(ConversationError):
            turns_of(messages)


def test_turns_of_a_session_join_what_the_user_said_in_a_row():
    system, turns, question = turns_of(
        said(("system", "S"), ("user", "a"), ("user", "b"), ("assistant", "c"), ("user", "d"))
    )
    assert (system, turns, question) == ("S", (Exchange(question="a\n\nb", answer="c"),), "d")
    with pytest.raises(ConversationError, match="behind no question"):
        turns_of(said(("assistant", "x"), ("user", "y")))


def test_texts_become_what_documents_may_hold():
    assert clean("a\r\nb\rc\0d\ud800e") == "a\nb\ncd?e"


def test_a_text_without_roles_is_divided_so_that_both_parts_hold_something():
    for prompt in ("ab", "one two", LONG, f"{LONG}tail"):
        sent = raw_text(prompt)
        assert sent.items[0].text + sent.question == prompt
        assert sent.items[0].text
        assert sent.question
    with pytest.raises(ConversationError):
        raw_text("a")
