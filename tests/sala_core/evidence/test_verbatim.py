"""What stands in quotation marks is a sentence of the documents that was looked at; the rest is as without."""

import numpy as np
import pytest
import torch
from sala_kernels import BlockLayout
from scripted_model import replace_logits

from sala_core import Finished, SamplingParams, Token
from sala_core.engine.speculation import DraftIndex
from sala_core.evidence.places import DocumentSpan
from sala_core.evidence.verbatim import Candidate, Quoting
from sala_core.ingest import SourceMap
from sala_core.model.forward import AttentionTrace

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ("Ada", "Bruno", "Cleo", "Dora", "Emil", "Fanny", "Gustav", "Hanna", "Igor", "Jutta", "Karl", "Lena")
SENTENCES = [f"The ticket number of {name} is {1237 * (n + 3)}." for n, name in enumerate(NAMES * 4)]
TEXT = " ".join(SENTENCES)


class Book:
    """TEXT in a state of the engine, with a question after it that `mass` says how it was looked at."""

    def __init__(self, engine):
        self.engine, self.ids = engine, None
        self.ids, self.starts = engine.tokenizer.encode_content_with_offsets(TEXT)
        self.lines = SourceMap(TEXT, (), self.starts)
        self.span = DocumentSpan(document_id="book", name="book.txt", start=0, end=len(self.ids))
        self.layout = BlockLayout(stride=16, block=64, init=1, local=1, slots=4)

    def quoting(self):
        return Quoting(self.engine.tokenizer, [self.span], len(self.ids), self.layout, lambda _: self.lines)

    def trace(self, looked_at):
        """looked_at: {sentence's index: attention}."""
        trace = AttentionTrace()
        mass = trace.buffer(0, len(self.ids), torch.device("cpu"))
        for index, value in looked_at.items():
            start = TEXT.index(SENTENCES[index])
            first, last = self.lines.tokens_of_chars(start, start + len(SENTENCES[index]))
            mass[first : last + 1] = value / (last + 1 - first)
        return trace


@pytest.fixture(scope="module")
def book(talking_engine):
    return Book(talking_engine)


@pytest.fixture
def opening(talking_engine, monkeypatch):
    """The model's first words are a quotation mark, then what it would say after it."""
    marks = talking_engine.tokenizer.encode_content('"').tolist()
    whole, left = talking_engine.model.logits, list(marks)

    def logits(hidden):
        if not left:
            return whole(hidden)
        return torch.zeros(len(hidden), 8192).index_fill(1, torch.tensor([left.pop(0)]), 100.0)

    replace_logits(monkeypatch, talking_engine, logits)


def answer(book, sampling, quoting, trace, **options):
    state = book.engine.new_state()
    list(book.engine.read(state, book.ids))
    asked = book.engine.tokenizer.encode_content("Which?")
    events = list(book.engine.generate(state, asked, sampling, quoting=quoting, trace=trace, **options))
    return events, state, [*book.ids.tolist(), *asked.tolist()]


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, Token))


def test_candidates_are_the_sentences_that_were_looked_at_whole_and_in_order(book):
    found = book.quoting().candidates(book.trace({20: 3.0, 33: 1.0, 7: 2.0}))
    assert [one.text for one in found[:3]] == [SENTENCES[20], SENTENCES[7], SENTENCES[33]]
    assert [one.share for one in found[:3]] == pytest.approx([9 / 14, 4 / 14, 1 / 14], abs=0.03)


def test_what_draws_at_one_word_counts_more_than_what_draws_everywhere(book):
    trace = book.trace({20: 3.0})
    mass = trace.buffer(0, len(book.ids), torch.device("cpu"))
    first, _ = book.lines.tokens_of_chars(TEXT.index(SENTENCES[31]) + 20, TEXT.index(SENTENCES[31]) + 21)
    mass[first] = 2.0
    assert book.quoting().candidates(trace)[0].text == SENTENCES[31]


def test_where_nothing_was_looked_at_nothing_is_held_to_the_documents(book, talking_engine):
    quoting = book.quoting()
    mark = int(talking_engine.tokenizer.encode_content('"')[0])
    assert quoting.opens_quotation(mark)
    assert quoting.continuation(mark, AttentionTrace()) == []
    assert not quoting.opens_quotation(mark), "the second mark closes the model's own words"
    assert quoting.opens_quotation(mark)


@pytest.mark.parametrize(("opener", "closing"), [('"', '"'), ("“", "”"), (' "', '"')])
def test_the_sentence_is_closed_as_it_was_opened(book, talking_engine, opener, closing):
    *_, opening = talking_engine.tokenizer.encode_content(opener).tolist()
    said = book.quoting().continuation(opening, book.trace({20: 1.0}))
    whole = talking_engine.tokenizer.decode([opening, *said])
    assert whole.strip().endswith(f"{SENTENCES[20]}{closing}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("The ferry left in the\nmorning and came back.", "The ferry left in the morning and came back."),
        ("call(first,\n    second)", "call(first,\n    second)"),
        ("a mix-\nture of both", "a mix-\nture of both"),
    ],
    ids=["prose", "code", "divided word"],
)
def test_line_breaks_of_prose_are_no_part_of_a_quotation(book, talking_engine, monkeypatch, text, shown):
    quoting = book.quoting()
    monkeypatch.setattr(quoting, "candidates", lambda trace: [Candidate(text=text, share=1.0)])
    opening = talking_engine.tokenizer.encode_content('"').tolist()[0]
    ids = quoting.continuation(opening, AttentionTrace())
    assert talking_engine.tokenizer.decode([opening, *ids]).strip() == f'"{shown}"'


def test_an_answer_that_opens_with_a_mark_quotes_and_goes_on(book, opening):
    trace = book.trace({20: 1e9})
    events, state, before = answer(book, SamplingParams(temperature=0, max_tokens=40), book.quoting(), trace)
    assert text_of(events).startswith(f'"{SENTENCES[20]}"')
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.passes < len(finished.ids)
    told = [event.id for event in events if isinstance(event, Token) and event.id is not None]
    assert tuple(told) == finished.ids
    assert state.position == len(before) + len(told)
    check = book.engine.new_state()
    list(book.engine.read(check, [*before, *told]))
    assert torch.allclose(state.linear_states, check.linear_states, atol=1e-4)


@pytest.mark.parametrize("longest", [4, 12])
def test_what_a_quotation_s_own_tokens_look_at_is_no_evidence(book, opening, longest):
    asked, trace = book.engine.tokenizer.encode_content("Which?"), book.trace({20: 1e3})
    state = book.engine.new_state()
    list(book.engine.read(state, book.ids))
    list(book.engine.read(state, asked, trace=trace))
    found = book.trace({20: 1e3})
    events, *_ = answer(book, SamplingParams(temperature=0, max_tokens=longest), book.quoting(), found)
    assert f'"{SENTENCES[20]}"'.startswith(text_of(events))
    assert set(found.mass) == set(trace.mass)
    for layer, mass in trace.mass.items():
        n = min(len(mass), len(found.mass[layer]))
        assert torch.equal(found.mass[layer][:n], mass[:n])
        assert not found.mass[layer][n:].any()


def test_drafts_change_nothing(book, opening):
    params = SamplingParams(temperature=0, max_tokens=40)
    index = DraftIndex(np.concatenate([book.ids, book.engine.tokenizer.encode_content("Which?")]))
    events, _, before = answer(book, params, book.quoting(), book.trace({20: 1e9}), drafts=index)
    assert text_of(events).startswith(f'"{SENTENCES[20]}"')
    assert len(index) == len(before) + len(events[-1].ids)


@pytest.mark.parametrize("longest", [1, 2, 5, 12])
def test_the_longest_answer_ends_a_quotation_too(book, opening, longest):
    params = SamplingParams(temperature=0, max_tokens=longest)
    events, state, before = answer(book, params, book.quoting(), book.trace({20: 1e9}))
    assert len(events[-1].ids) == longest
    assert events[-1].reason == "length"
    assert f'"{SENTENCES[20]}"'.startswith(text_of(events))
    assert state.position == len(before) + longest


def test_a_stop_string_ends_a_quotation_too(book, opening):
    params = SamplingParams(temperature=0, max_tokens=40, stop=(" number",))
    events, *_ = answer(book, params, book.quoting(), book.trace({20: 1e9}))
    assert text_of(events) == '"The ticket'
    assert events[-1].reason == "stop_string"


def test_no_sentence_is_quoted_twice(book, talking_engine):
    quoting, trace = book.quoting(), book.trace({20: 2.0, 30: 1.0})
    mark = int(talking_engine.tokenizer.encode_content('"')[0])
    said = [talking_engine.tokenizer.decode(quoting.continuation(mark, trace)) for _ in range(2)]
    assert said == [f'{SENTENCES[20]}"', f'{SENTENCES[30]}"']
