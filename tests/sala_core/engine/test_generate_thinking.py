"""Thinking that has a limit, answers that are counted after it, and loops that end."""

import itertools
import random

import pytest
import torch
from reading_helpers import tokens_in
from scripted_model import in_turn, script_model

from sala_core import Finished, SamplingParams, Token
from sala_core.engine.speculation import DraftIndex
from sala_core.model.forward import AttentionTrace

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = [5, 6, 7]
MORE = "The whale swam on, and nobody saw it again before the winter came over the bay."


@pytest.fixture
def ids_of(talking_engine):
    return lambda text: talking_engine.tokenizer.encode_content(text).tolist()


@pytest.fixture
def play(talking_engine, monkeypatch):
    """play(thinking, answer) scripts the model. thinking: ids after the opening tag, may be endless."""

    def script(thinking, answer, opening="<think>\n"):
        opened = talking_engine.tokenizer.encode_content(opening).tolist()  # its <think> token ends answers here
        script_model(monkeypatch, talking_engine, in_turn(talking_engine, itertools.chain(opened, thinking), answer))
        return len(opened)

    return script


def words(ids_of, seed=0):
    """Endless text without a loop."""
    choice = random.Random(seed)
    return itertools.chain.from_iterable(ids_of(f" {choice.randrange(10**6)}") for _ in itertools.count())


def texts(events, *, thinking):
    return "".join(event.text for event in events if isinstance(event, Token) and event.thinking == thinking)


def run(engine, state=None, **options):
    """(events, Finished, state)"""
    trace, drafts, stop = (options.pop(name, None) for name in ("trace", "drafts", "should_stop"))
    state = state or engine.new_state()
    params = SamplingParams(**{"temperature": 0, **options})
    more = {} if stop is None else {"should_stop": stop}
    events = list(engine.generate(state, PROMPT, params, trace=trace, drafts=drafts, **more))
    return events, events[-1], state


def test_thinking_is_closed_at_its_limit_and_the_answer_follows(talking_engine, play, ids_of):
    play(words(ids_of), ids_of("The whale."))
    events, end, state = run(talking_engine, thinking_budget=50)
    closing = talking_engine.chat.thinking_end.tolist()
    assert list(end.ids[50 : 50 + len(closing)]) == closing
    assert (end.reason, end.thinking_end, end.thinking_tokens) == ("stop", "budget", 50 + len(closing))
    assert texts(events, thinking=False) == "The whale."
    assert talking_engine.tokenizer.decode(end.ids[:50]).split("<think>")[1].strip() == texts(events, thinking=True)
    assert tokens_in(events) == list(end.ids)
    assert state.position == len(PROMPT) + len(end.ids)
    check = talking_engine.new_state()
    list(talking_engine.read(check, [*PROMPT, *end.ids]))
    assert torch.allclose(state.linear_states, check.linear_states, atol=1e-4)


@pytest.mark.parametrize("temperature", [0, 0.9])
@pytest.mark.parametrize("budget", [20, 47, 64])
def test_drafts_change_neither_the_limit_nor_what_follows(talking_engine, play, ids_of, budget, temperature):
    known = [*itertools.islice(words(ids_of), 200)]
    plain = []
    for drafts in (None, DraftIndex([*known, *ids_of(MORE), *known, *PROMPT])):
        play(known, ids_of(MORE))
        options = {"thinking_budget": budget, "max_tokens": 9, "temperature": temperature, "seed": 1}
        _, end, _ = run(talking_engine, drafts=drafts, **options)
        plain.append(end)
    assert plain[0] == plain[1]
    assert plain[1].passes < plain[0].passes - 5
    assert plain[0].reason == "length"
    assert len(plain[0].ids) - plain[0].thinking_tokens == 9


@pytest.mark.parametrize("drafted", [False, True])
@pytest.mark.parametrize("longest", [1, 3, 8])
def test_the_answer_is_counted_from_the_end_of_its_thinking(talking_engine, play, ids_of, longest, drafted):
    thought = ids_of(f"{MORE}\n</think>\n\n")  # the tags are text, of several tokens each
    play(thought, ids_of(MORE))
    drafts = DraftIndex([*thought, *ids_of(MORE), 9, 9, *PROMPT]) if drafted else None
    events, end, _ = run(talking_engine, max_tokens=longest, drafts=drafts)
    assert (end.reason, end.thinking_end) == ("length", "model")
    assert len(end.ids) - end.thinking_tokens in (longest, longest + 1)  # the blank line may belong to the tag's token
    answer = talking_engine.tokenizer.decode(end.ids[end.thinking_tokens :])
    assert answer.lstrip() == texts(events, thinking=False)
    assert MORE.startswith(answer.strip())


def test_a_closing_tag_that_the_model_is_writing_at_the_limit_stays_its_own(talking_engine, play, ids_of):
    tag = ids_of("\n</think>\n\n")
    assert len(tag) > 3
    for cut in range(1, len(tag)):
        opened = play([*ids_of(MORE), *tag], ids_of("Yes."))
        events, end, _ = run(talking_engine, thinking_budget=opened + len(ids_of(MORE)) + cut)
        assert talking_engine.tokenizer.decode(end.ids).count("</think>") == 1
        assert texts(events, thinking=True) == MORE
        assert texts(events, thinking=False) == "Yes."


def test_a_tag_that_is_begun_for_ever_does_not_defeat_the_limit(talking_engine, play, ids_of):
    play(itertools.repeat(ids_of("<")[0]), ids_of("Yes."))
    events, end, _ = run(talking_engine, thinking_budget=40, stop_repetition=False)
    assert texts(events, thinking=False) == "Yes."
    assert end.thinking_end == "budget"
    assert end.thinking_tokens <= 40 + len("</think>") + len(talking_engine.chat.thinking_end)


@pytest.mark.parametrize("drafted", [False, True])
def test_a_loop_in_the_thinking_ends_it(talking_engine, play, ids_of, drafted):
    play(itertools.cycle(ids_of(" Wait, the bay is not a lake, is it?")), ids_of("No."))
    events, end, _ = run(talking_engine, drafts=DraftIndex(PROMPT) if drafted else None)
    assert (end.reason, end.thinking_end) == ("stop", "repetition")
    assert 160 <= end.thinking_tokens < 200
    assert texts(events, thinking=False) == "No."
    assert drafted == (end.passes < 60)


@pytest.mark.parametrize("drafted", [False, True])
def test_an_answer_that_only_repeats_itself_ends_and_the_copies_are_counted(talking_engine, play, ids_of, drafted):
    loop = ids_of(" It was the old gardener of Vela.")
    play([*ids_of("I think so."), *loop * 60], (), opening="")
    events, end, state = run(talking_engine, drafts=DraftIndex(PROMPT) if drafted else None, max_tokens=5000)
    assert end.reason == "repetition"
    assert len(end.ids) < 200 + len(loop)
    shown = texts(events, thinking=False)
    assert (
        shown[: len(shown) - end.repeated_chars] == "I think so. It was the old gardener of Vela"
    )  # ". It was ... Vela" is the run
    assert state.position == len(PROMPT) + len(end.ids)


def test_a_loop_goes_on_where_it_is_allowed(talking_engine, play, ids_of):
    play(ids_of(" no") * 500, (), opening="")
    _, end, _ = run(talking_engine, max_tokens=400, stop_repetition=False)
    assert (end.reason, len(end.ids), end.repeated_chars) == ("length", 400, 0)


def test_an_end_token_inside_the_thinking_ends_only_the_thinking(talking_engine, play, ids_of):
    play(ids_of("It swam"), ids_of("The whale."))
    events, end, _ = run(talking_engine)
    assert texts(events, thinking=True) == "It swam"
    assert texts(events, thinking=False) == "The whale."
    assert (end.reason, end.thinking_end) == ("stop", "model")


def test_nothing_is_quoted_while_thinking(talking_engine, play, ids_of):
    class Quoting:
        asked = 0

        def opens_quotation(self, token):
            return talking_engine.tokenizer.decode([token]).strip() == '"'

        def continuation(self, opening, trace):
            self.asked += 1
            return ids_of('A sentence."')

    mark, quoting = ids_of('"'), Quoting()
    said = [*ids_of("He said"), *mark, *ids_of("so"), *mark]
    play(itertools.chain(said, words(ids_of)), [*mark, *ids_of('A sentence." indeed')])
    state, params = talking_engine.new_state(), SamplingParams(temperature=0, thinking_budget=30)
    trace = AttentionTrace()
    events = list(talking_engine.generate(state, PROMPT, params, trace=trace, quoting=quoting))
    assert quoting.asked == 1
    assert texts(events, thinking=False) == '"A sentence." indeed'


def test_the_attention_of_thinking_is_no_evidence(talking_engine, play, ids_of):
    for budget, drafts in ((10, None), (60, None), (60, DraftIndex([*itertools.islice(words(ids_of), 90), *PROMPT]))):
        trace = AttentionTrace()
        play(words(ids_of), ids_of("The whale."))
        _, end, _ = run(talking_engine, thinking_budget=budget, trace=trace, drafts=drafts)
        counted = len(PROMPT) + len(end.ids) - end.thinking_tokens
        for mass in trace.mass.values():
            assert float(mass.sum()) == pytest.approx(4 * counted, rel=1e-4)


@pytest.mark.parametrize("calls", [1, 12, 24, 26, 27, 28, 30])
def test_a_stop_at_any_pass_leaves_a_state_that_matches_the_tokens(talking_engine, play, ids_of, calls):
    play(words(ids_of), ids_of(MORE))
    left = iter([False] * calls)
    events, last, state = run(talking_engine, thinking_budget=24, should_stop=lambda: next(left, True))
    assert not isinstance(last, Finished)
    assert state.position == len(PROMPT) + len(tokens_in(events))
    assert [event.thinking for event in events if isinstance(event, Token)][-1:] in ([], [calls <= 25])
