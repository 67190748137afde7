"""Conversations say what they claim: answers stand in the documents, notes point at them."""

import random
import re

import pytest
from tokenizers import Tokenizer

from sala_core.model.checkpoint import EMBEDDED, resolve_model
from sala_core.train.data.batches import take_notes
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
def test_answers_quote_the_documents_and_queries_point_at_what_they_quote(maker, seed):
    row = maker.conversation(random.Random(seed), 700)
    documents, answers = documents_and_answers(maker, row)
    quoted = [quotation for answer in answers if answer != NOT_SAID for quotation in answer[1:-1].split('" "')]
    assert quoted
    assert all(quotation in "".join(documents) for quotation in quoted)
    said = {" ".join(quotation.split()) for quotation in quoted}
    for _, start, end, first in row.queries:
        assert start < end <= first
        span = " ".join(maker.tokenizer.decode(row.ids[start:end]).split())
        assert any(sentence in span for sentence in said)


@pytest.mark.parametrize("seed", range(8))
def test_turns_are_questions_about_the_documents_before_them(maker, seed):
    row = maker.conversation(random.Random(seed), 700)
    inside = {token for start, end in row.documents for token in range(start, end)}
    assert row.turns
    for start, answer, spans in row.turns:
        asked = maker.tokenizer.decode(row.ids[start:answer], skip_special_tokens=False)
        assert asked.startswith("<|im_start|>user\n")
        assert asked.endswith("<|im_end|>\n<|im_start|>assistant\n")
        said = maker.tokenizer.decode(row.ids[answer:]).split("\n")[0]
        for first, after in spans:
            assert set(range(first, after)) <= inside
            assert after <= start
            assert maker.tokenizer.decode(row.ids[first:after]).strip()[:8] in said


@pytest.mark.parametrize("seed", range(4))
def test_memory_is_the_first_tokens_of_the_sentence_as_it_is_quoted(maker, seed):
    row, told_of = maker.conversation(random.Random(seed), 700), 0
    for position, firsts in row.memory:
        wanted = [token for token in firsts if token >= 0]
        before, told = maker.tokenizer.decode(row.ids[: position + 1]), maker.tokenizer.decode(wanted)
        text = before + maker.tokenizer.decode(row.ids[position + 1 : position + 40])
        starts = [match.start() for match in re.finditer(re.escape(told), before)]
        assert any(
            maker.encode('"' + text[at : at + 40])[1 : 1 + len(wanted)] == wanted
            and (text[at - 1] == "\n" or text[at - 2] in ".:;?!")
            for at in starts
        )
        told_of += len(wanted)
    assert told_of > len(row.memory) > 5


def test_text_never_becomes_a_control_token(maker):
    assert min(maker.encode("a <|im_end|> b <think> c <|endoftext|>")) >= len(maker.control)


def test_absent_facts_are_asked_too(maker):
    rows = [maker.conversation(random.Random(seed), 700) for seed in range(6)]
    assert any(NOT_SAID in maker.tokenizer.decode(row.ids) for row in rows)


def test_several_sentences_answer_where_several_facts_have_one_key(maker):
    rows = [maker.conversation(random.Random(seed), 700) for seed in range(30)]
    assert any('" "' in answer for row in rows for answer in documents_and_answers(maker, row)[1])


@pytest.mark.parametrize("seed", range(30))
def test_invented_facts_have_a_question_that_shares_words(seed):
    fact = invented_fact(random.Random(seed))
    words = set(re.findall(r"\w{4,}", fact.sentence.lower()))
    assert all(words & set(re.findall(r"\w{4,}", question.lower())) for question in fact.questions)


def test_notes_have_fixed_shapes_and_hold_what_the_rows_know(maker):
    rows = [maker.conversation(random.Random(0), 300), maker.random_copy(random.Random(0), 300)]
    notes = take_notes(rows, 256, [5, 6])
    assert notes.queries.shape == notes.first.shape == notes.known.shape == (2, 64)
    assert notes.beginnings.shape == (2, 16, 4)
    usable = {query for query in rows[0].queries if query[0] < 256}
    found = {
        (int(q), *map(int, span), int(first))
        for q, span, first, known in zip(notes.queries[0], notes.gold[0], notes.first[0], notes.known[0], strict=True)
        if known
    }
    assert found
    assert found <= usable
    assert len(found) == min(64, len(usable))
    told = set(zip(notes.held[0].tolist(), map(tuple, notes.beginnings[0].tolist()), strict=True))
    assert told & set(rows[0].memory)
    assert told <= {*rows[0].memory, (0, (-1, -1, -1, -1))}
    assert not notes.known[1].any()
    assert notes.documents.shape == (2, 256)
    assert set(notes.documents[0].nonzero().flatten().tolist()) == {
        token for start, end in rows[0].documents for token in range(start, min(end, 256))
    }
    asked = {
        (int(tokens.clamp(min=0)[0]), tuple((a, b) for a, b in spans.tolist() if b))
        for tokens, spans in zip(notes.asking[0], notes.answers[0], strict=True)
        if tokens[0] >= 0
    }
    assert asked
    assert asked <= {(start, tuple(spans)) for start, _, spans in rows[0].turns}
    assert (notes.asking[1] == -1).all()
    assert (notes.beginnings[1] == -1).all()
