"""What a question looks for."""

import pytest

from sala_core.finder.question import AnswerKind, parse_question, with_context


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Who killed the snake?", AnswerKind.PERSON),
        ("Where does Lena live?", AnswerKind.PLACE),
        ("How many sisters has she?", AnswerKind.NUMBER),
        ("When was the treaty signed?", AnswerKind.NUMBER),
        ("Why did he leave?", AnswerKind.REASON),
        ("How does the cache work?", AnswerKind.MANNER),
        ("What is a snapshot?", AnswerKind.THING),
        ("Warum ging er fort?", AnswerKind.REASON),
    ],
)
def test_the_kind_of_answer_follows_from_the_question_word(question: str, kind: AnswerKind) -> None:
    assert parse_question(question).kind is kind


def test_words_of_grammar_are_not_looked_for() -> None:
    assert parse_question("Which hotel did the Count direct him to?").sought == ("hotel", "count", "direct")
    assert parse_question("Which hotel did the Count direct him to?").category == "hotel"


def test_names_are_what_is_capitalized_inside_and_numbers() -> None:
    assert parse_question("What did Quincey say about Harry Potter in 1897?").names == (
        "quincey",
        "harry",
        "potter",
        "1897",
    )


@pytest.mark.parametrize("text", ["hello", "Thanks!", "Thank you, good night", "What is it?", "???", ""])
def test_a_greeting_or_a_question_without_a_word_is_empty(text: str) -> None:
    assert parse_question(text).is_empty


@pytest.mark.parametrize("text", ["Who is Lena?", "thanks to whom did Lena win?", "42?"])
def test_a_question_with_a_word_is_not(text: str) -> None:
    assert not parse_question(text).is_empty


@pytest.mark.parametrize(
    "question",
    [
        "Quote the sentence that mentions “Borostol” and “candles”.",
        "Which sentence of the text speaks of “Borostol” and “candles”?",
        "Which passage is about “Borostol” and “candles”? Quote it.",
        "Find the passage with “Borostol” and “candles”.",
        "Please show me the lines about Borostol and candles",
    ],
)
def test_words_that_ask_for_a_sentence_are_not_looked_for(question: str) -> None:
    assert parse_question(question).sought == ("borostol", "candles")


@pytest.mark.parametrize(
    "question",
    ["What are all the numbers of elder-owl in the text?", "According to this book, what numbers has elder owl?"],
)
def test_the_text_itself_is_not_looked_for(question: str) -> None:
    assert set(parse_question(question).sought) == {"numbers", "elder", "owl"}


def test_a_pronoun_refers_back_unless_a_name_stands_there() -> None:
    asked = parse_question("Where does she live?")

    assert asked.refers_back
    assert not parse_question("Where does Lena keep her dog?").refers_back
    assert with_context(asked, ("lena",)).sought == ("live", "lena")
