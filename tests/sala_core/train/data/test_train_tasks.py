"""Answers in conversations quote the documents, and the recorded positions point at the quoted sentences."""

import random
import re

import pytest
from tokenizers import Tokenizer

from sala_core.model.checkpoint import EMBEDDED, resolve_model
from sala_core.train.data.batches import answer_positions
from sala_core.train.data.corpus import SourceText
from sala_core.train.data.facts import invented_fact
from sala_core.train.data.tasks import NOT_SAID, TaskMaker

TEXT = "".join(
    f"On day {day} the traveller wrote to Mr. Hollow{day} about the weather in the valley of the mill.\n"
    for day in range(400)
)


@pytest.fixture(scope="module")
def maker():
    tokenizer = Tokenizer.from_file(str(resolve_model(EMBEDDED) / "tokenizer.json"))
    return TaskMaker(tokenizer, [SourceText(name="letters.txt", kind="books", text=TEXT)])


def documents_and_answers(maker, row):
    text = maker.tokenizer.decode(row.ids, skip_special_tokens=False)
    documents = [part.split("<|im_end|>")[0] for part in text.split("<|im_start|>user\nDocument: ")[1:]]
    return documents, [part.split("<|im_end|>")[0] for part in text.split("<|im_start|>assistant\n")[1:]]


@pytest.mark.parametrize("seed", range(8))
def test_answers_quote_the_documents_and_queries_point_at_the_quoted_sentences(maker, seed):
    row = maker.conversation(random.Random(seed), 700)
    documents, answers = documents_and_answers(maker, row)
    quoted = [quotation for answer in answers if answer != NOT_SAID for quotation in answer[1:-1].split('" "')]
    assert quoted
    assert all(quotation in "".join(documents) for quotation in quoted)
    sentences = {" ".join(quotation.split()) for quotation in quoted}
    for _, start, end, turn_start in row.queries:
        assert start < end <= turn_start
        span = " ".join(maker.tokenizer.decode(row.ids[start:end]).split())
        assert any(sentence in span for sentence in sentences)


@pytest.mark.parametrize("seed", range(8))
def test_turns_are_questions_about_the_documents_before_them(maker, seed):
    row = maker.conversation(random.Random(seed), 700)
    inside = {token for start, end in row.documents for token in range(start, end)}
    assert row.turns
    for start, answer, spans in row.turns:
        question = maker.tokenizer.decode(row.ids[start:answer], skip_special_tokens=False)
        assert question.startswith("<|im_start|>user\n")
        assert question.endswith("<|im_end|>\n<|im_start|>assistant\n")
        reply = maker.tokenizer.decode(row.ids[answer:]).split("\n")[0]
        for first, after in spans:
            assert set(range(first, after)) <= inside
            assert after <= start
            assert maker.tokenizer.decode(row.ids[first:after]).strip()[:8] in reply


@pytest.mark.parametrize("seed", range(4))
def test_memory_has_the_first_tokens_of_the_sentence_as_it_is_quoted(maker, seed):
    row, num_tokens = maker.conversation(random.Random(seed), 700), 0
    for position, firsts in row.memory:
        beginning = [token for token in firsts if token >= 0]
        before, words = maker.tokenizer.decode(row.ids[: position + 1]), maker.tokenizer.decode(beginning)
        text = before + maker.tokenizer.decode(row.ids[position + 1 : position + 40])
        starts = [match.start() for match in re.finditer(re.escape(words), before)]
        assert any(
            maker.encode('"' + text[at : at + 40])[1 : 1 + len(beginning)] == beginning
            and (text[at - 1] == "\n" or text[at - 2] in ".:;?!")
            for at in starts
        )
        num_tokens += len(beginning)
    assert num_tokens > len(row.memory) > 5


def test_text_never_becomes_a_control_token(maker):
    assert min(maker.encode("a <|im_end|> b <think> c <|endoftext|>")) >= len(maker.control)


def test_some_questions_are_about_absent_facts(maker):
    rows = [maker.conversation(random.Random(seed), 700) for seed in range(6)]
    assert any(NOT_SAID in maker.tokenizer.decode(row.ids) for row in rows)


def test_answers_quote_several_sentences_if_several_facts_have_one_key(maker):
    rows = [maker.conversation(random.Random(seed), 700) for seed in range(30)]
    assert any('" "' in answer for row in rows for answer in documents_and_answers(maker, row)[1])


@pytest.mark.parametrize("seed", range(30))
def test_invented_facts_have_a_question_that_shares_words(seed):
    fact = invented_fact(random.Random(seed))
    words = set(re.findall(r"\w{4,}", fact.sentence.lower()))
    assert all(words & set(re.findall(r"\w{4,}", question.lower())) for question in fact.questions)


def test_answer_positions_have_fixed_shapes_and_come_from_the_rows(maker):
    rows = [maker.conversation(random.Random(0), 300), maker.random_copy(random.Random(0), 300)]
    positions = answer_positions(rows, 256, [5, 6])
    assert positions.queries.shape == positions.turn_starts.shape == positions.valid.shape == (2, 64)
    assert positions.beginnings.shape == (2, 16, 4)
    usable = {query for query in rows[0].queries if query[0] < 256}
    columns = (positions.queries, positions.gold, positions.turn_starts, positions.valid)
    queries = {
        (int(query), *map(int, span), int(turn_start))
        for query, span, turn_start, valid in zip(*(column[0] for column in columns), strict=True)
        if valid
    }
    assert queries
    assert queries <= usable
    assert len(queries) == min(64, len(usable))
    memory = set(zip(positions.memory[0].tolist(), map(tuple, positions.beginnings[0].tolist()), strict=True))
    assert memory & set(rows[0].memory)
    assert memory <= {*rows[0].memory, (0, (-1, -1, -1, -1))}
    assert not positions.valid[1].any()
    assert positions.documents.shape == (2, 256)
    assert set(positions.documents[0].nonzero().flatten().tolist()) == {
        token for start, end in rows[0].documents for token in range(start, min(end, 256))
    }
    questions = {
        (int(tokens.clamp(min=0)[0]), tuple((a, b) for a, b in spans.tolist() if b))
        for tokens, spans in zip(positions.questions[0], positions.answers[0], strict=True)
        if tokens[0] >= 0
    }
    assert questions
    assert questions <= {(start, tuple(spans)) for start, _, spans in rows[0].turns}
    assert (positions.questions[1] == -1).all()
    assert (positions.beginnings[1] == -1).all()
