"""Turns of a model that thinks: what is asked for, what is stored, and what later turns read."""

import itertools
import random

import pytest
import torch
from reading_helpers import assert_equal_states, last, restored, tokens_in
from scripted_model import in_turn, script_model

from sala_core import SamplingParams, Token
from sala_core.errors import SettingsError
from sala_core.session.session import Session

THOUGHT = 'They ask who came. "the prince" came, I think.'
SAID = 'It says "the prince came" somewhere.'


@pytest.fixture
def ids_of(thinker):
    return lambda text: thinker.tokenizer.encode_content(text).tolist()


@pytest.fixture
def play(thinker, monkeypatch, ids_of):
    def script(thinking, answer=SAID, opening="<think>\n"):
        opened = thinker.tokenizer.encode_control(opening).tolist()
        script_model(monkeypatch, thinker, in_turn(thinker, itertools.chain(opened, thinking), ids_of(answer)))

    return script


def stream(library, name):
    row = library.session(name)
    return library.token_ids(row.id, 0, row.num_tokens)


def endless(ids_of):
    choice = random.Random(3)
    return itertools.chain.from_iterable(ids_of(f" {choice.randrange(10**6)}") for _ in itertools.count())


def test_a_turn_keeps_its_thinking_apart_and_says_how_it_ended(thinker, library, write_book, play, ids_of):
    play([*ids_of(THOUGHT), *thinker.chat.thinking_end.tolist()])
    with Session.open(library, thinker, "demo", create=True) as session:
        list(session.read([write_book(num_lines=30)]))
        answer = last(session.ask("Who came?", SamplingParams(temperature=0, max_tokens=40, think=True)))
    assert (answer.thinking, answer.text) == (THOUGHT, SAID)
    assert (answer.think, answer.thinking_budget, answer.thinking_end) == (True, 8192, "model")
    assert answer.tokens_thinking == answer.tokens_generated - len(ids_of(SAID)) - 1  # the blank line between them
    assert answer.seconds_thinking > 0
    assert not any("They ask" in quotation.text for quotation in answer.quotations)
    said = library.messages(library.session("demo").id)[-1]
    assert (said.text, said.thinking, said.stats) == (SAID, THOUGHT, answer.stats)
    ids = stream(library, "demo")
    text = thinker.tokenizer.decode(ids)
    assert text.endswith(f"<|im_start|>assistant\n<think>\n{THOUGHT}\n</think>\n\n{SAID}<|im_end|>\n")


def test_a_spent_budget_is_part_of_the_saved_turn_and_reading_it_again_gives_the_same(
    thinker, library, write_book, play, ids_of
):
    play(endless(ids_of))
    with Session.open(library, thinker, "demo", create=True) as session:
        list(session.read([write_book(num_lines=30)]))
        sampling = SamplingParams(temperature=0, thinking_budget=40)
        events = list(session.ask("Who came?", sampling))
        first = session.state.state
        before = stream(library, "demo")
        assert events[-1].thinking_end == "budget"
        assert events[-1].text == SAID
        assert tokens_in(events) == before[-len(tokens_in(events)) - 2 : -2].tolist()
        session.reset()
        list(session.read([]))
    assert stream(library, "demo").tolist() == before.tolist()
    again = restored(library, thinker, "demo")
    assert again.position == first.position == len(before)
    assert (again.linear_states - first.linear_states).abs().max() < 1e-3


@pytest.mark.parametrize("tokens", [6, 20])
def test_thinking_that_is_stopped_is_closed_in_the_stream(thinker, library, play, ids_of, tokens):
    play(endless(ids_of))
    seen = []
    with Session.open(library, thinker, "demo", create=True) as session:
        for event in session.ask("Who?", SamplingParams(temperature=0), should_stop=lambda: len(seen) >= tokens):
            if isinstance(event, Token):
                seen.append(event)
        assert (event.finish_reason, event.thinking_end, event.text) == ("stopped", "open", "")
        assert event.tokens_generated == event.tokens_thinking == tokens
        text = thinker.tokenizer.decode(stream(library, "demo"))
        assert text.endswith("\n</think>\n\n<|im_end|>\n")
        assert text.count("<think>") == text.count("</think>") == 1
        assert session.row.position == session.row.num_tokens


def test_what_is_stopped_before_a_word_is_thought_is_not_kept(thinker, library, play, ids_of):
    play(endless(ids_of))
    seen = []
    with Session.open(library, thinker, "demo", create=True) as session:
        for event in session.ask("Who?", SamplingParams(temperature=0), should_stop=lambda: bool(seen)):
            if isinstance(event, Token):
                seen.append(event)
        assert not seen[0].text.strip()
        assert library.messages(session.row.id) == []


def test_without_thinking_the_question_ends_with_an_empty_block(thinker, library, play, ids_of):
    play(ids_of("Nobody came."), opening="")
    empty = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    with Session.open(library, thinker, "demo", create=True) as session:
        answer = last(session.ask("Who?", SamplingParams(temperature=0, think=False, max_tokens=4)))
        assert (answer.think, answer.tokens_thinking, answer.thinking, answer.seconds_thinking) == (False, 0, "", None)
        assert thinker.tokenizer.decode(stream(library, "demo")).count(empty) == 1
        last(session.ask("Who?", SamplingParams(temperature=0, max_tokens=4)))
    assert thinker.tokenizer.decode(stream(library, "demo")).count(empty) == 1


def test_a_model_that_does_not_think_refuses_to_and_keeps_its_state(session_engine, library):
    with Session.open(library, session_engine, "demo", create=True) as session:
        with pytest.raises(SettingsError, match="does not think before it answers: its chat template has no <think>"):
            list(session.ask("Who?", SamplingParams(think=True)))
        answer = last(session.ask("Who?", SamplingParams(temperature=0, think=False, max_tokens=2)))
    assert (answer.think, answer.thinking_budget, answer.tokens_thinking) == (False, None, 0)


@pytest.mark.parametrize("before", ["So. ", "So it was the gardener. "])  # the second ends as a copy does
@pytest.mark.parametrize("drafted", [True, False])
def test_an_answer_that_loops_is_stored_and_remembered_without_its_copies(
    thinker, library, play, ids_of, before, drafted, monkeypatch
):
    monkeypatch.setattr("sala_core.session.turn.drafts_gain", lambda _model: drafted)
    play(thinker.chat.thinking_end.tolist(), before + "It was the gardener. " * 99)
    with Session.open(library, thinker, "demo", create=True) as session:
        answer = last(session.ask("Who?", SamplingParams(temperature=0, max_tokens=2000)))
        assert answer.finish_reason == "repetition"
        assert answer.text == f"{before}It was the gardener."
        assert library.messages(library.session("demo").id)[-1].text == answer.text
        ids = stream(library, "demo")
        text = thinker.tokenizer.decode(ids)
        assert text.endswith(f"\n</think>\n\n{answer.text}<|im_end|>\n")
        state, check = session.state.state, thinker.new_state()
        list(thinker.read(check, ids))
        assert state.position == len(ids)
        assert torch.allclose(state.linear_states, check.linear_states, atol=1e-4)
        assert session.state.drafts().propose() is not None
        assert len(session.state.drafts()) == len(ids)
    assert_equal_states(restored(library, thinker, "demo"), state)
