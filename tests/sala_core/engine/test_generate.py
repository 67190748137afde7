"""`generate`: the tokens that `forward` gives, the text to show, and a state that matches the yielded tokens."""

import pytest
import torch
from reading_helpers import tokens_in
from scripted_model import replace_logits

from sala_core import Engine, Finished, PromptProgress, SamplingParams, Token
from sala_core.engine.generate import TextStreamer
from sala_core.model.forward import AttentionTrace

pytestmark = pytest.mark.usefixtures("one_thread")
GREEDY = SamplingParams(temperature=0, max_tokens=12)


def answer(engine, prompt, sampling, state=None, **options):
    """(events, state) of a complete answer."""
    state = state or engine.new_state()
    return list(engine.generate(state, prompt, sampling, **options)), state


def texts(events, *, thinking=False):
    return "".join(event.text for event in events if isinstance(event, Token) and event.thinking == thinking)


@pytest.fixture
def script(talking_engine, monkeypatch):
    """script(text, *more_ids) makes the model generate exactly these tokens, then EOS. Returns their ids."""

    def play(text, *more):
        ids = [*talking_engine.tokenizer.encode_content(text).tolist(), *more]
        left = iter([*ids, *[min(talking_engine.tokenizer.eos_token_ids)] * 2])

        def logits(hidden):
            return torch.zeros(len(hidden), 8192).index_fill(1, torch.tensor([next(left)]), 100.0)

        replace_logits(monkeypatch, talking_engine, logits)
        return ids

    return play


def test_greedy_decoding_equals_repeated_argmax_of_forward(small_engine, ids):
    prompt = ids[:200]
    events, state = answer(small_engine, prompt, GREEDY)
    check = small_engine.new_state()
    expected, logits = [], small_engine.forward(check, prompt)
    while (best := int(logits[-1].argmax())) not in (2, 3) and len(expected) < 12:
        expected.append(best)
        logits = small_engine.forward(check, [best])
    assert tokens_in(events) == expected
    assert events[-1] == Finished(reason="length" if len(expected) == 12 else "stop", ids=tuple(expected))
    assert state.position == 200 + len(expected)
    for i in check.linear:  # the steps of a small model add in another order than the forward pass
        torch.testing.assert_close(state.linear[i], check.linear[i], rtol=1e-6, atol=2e-5)


def test_the_same_seed_gives_the_same_tokens(small_engine, ids):
    def tokens(seed):
        return tokens_in(answer(small_engine, ids[:50], SamplingParams(temperature=1.0, seed=seed, max_tokens=20))[0])

    assert tokens(7) == tokens(7)
    assert len({tuple(tokens(seed)) for seed in range(5)}) > 1


def test_progress_counts_the_prompt_on_the_chunk_grid(small_engine, ids, monkeypatch):
    monkeypatch.setattr(small_engine, "chunk_tokens", 64)
    state = small_engine.new_state()
    small_engine.forward(state, ids[:10])
    events, _ = answer(small_engine, ids[10:200], GREEDY, state)
    progress = [event for event in events if isinstance(event, PromptProgress)]
    assert progress == [PromptProgress(tokens_done=done, tokens_total=190) for done in (54, 118, 182, 190)]
    assert events[: len(progress)] == progress


def test_a_state_can_be_continued_after_an_answer(small_engine, ids):
    events, state = answer(small_engine, ids[:100], GREEDY)
    after = small_engine.forward(state, ids[200:220])
    whole = small_engine.new_state()
    stream = [*ids[:100].tolist(), *tokens_in(events), *ids[200:220].tolist()]
    expected = small_engine.forward(whole, stream)[-20:]
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", range(0, 16, 3))
def test_after_a_close_at_any_event_the_state_matches_the_yielded_events(small_engine, ids, monkeypatch, count):
    monkeypatch.setattr(small_engine, "chunk_tokens", 64)
    state = small_engine.new_state()
    iterator = small_engine.generate(state, ids[:200], GREEDY)
    seen = [event for _, event in zip(range(count), iterator, strict=False)]
    iterator.close()
    read = max((event.tokens_done for event in seen if isinstance(event, PromptProgress)), default=0)
    assert state.position == read + len(tokens_in(seen))


@pytest.mark.parametrize("calls", [1, 3, 4, 5, 9])
def test_should_stop_ends_an_answer_without_finished(small_engine, ids, monkeypatch, calls):
    """It is called after each of the prompt's four chunks and before every token."""
    monkeypatch.setattr(small_engine, "chunk_tokens", 64)
    left = iter([False] * (calls - 1) + [True])
    events, state = answer(small_engine, ids[:200], GREEDY, should_stop=lambda: next(left))
    assert not any(isinstance(event, Finished) for event in events)
    assert len(tokens_in(events)) == max(0, calls - 5)
    assert state.position == min(200, 64 * calls) + len(tokens_in(events))


def test_max_tokens_ends_with_length(script, talking_engine):
    ids = script("one two three four five six seven")
    events, state = answer(talking_engine, [5, 6], SamplingParams(max_tokens=3))
    assert events[-1] == Finished(reason="length", ids=tuple(ids[:3]))
    assert state.position == 2 + 3
    assert texts(events) == talking_engine.tokenizer.decode(ids[:3])


def test_an_eos_token_ends_the_answer_and_is_neither_shown_nor_in_the_state(script, talking_engine):
    ids = script("The whale swam.")
    events, state = answer(talking_engine, [5, 6], SamplingParams())
    assert events[-1] == Finished(reason="stop", ids=tuple(ids))
    assert tokens_in(events) == ids
    assert texts(events) == "The whale swam."
    assert state.position == 2 + len(ids)


def test_without_a_tokenizer_the_eos_tokens_of_the_config_end_the_answer(small_engine, monkeypatch):
    left = iter([50, 51, 3])

    def logits(hidden):
        return torch.zeros(1, 97).index_fill(1, torch.tensor([next(left)]), 100.0)

    replace_logits(monkeypatch, small_engine, logits)
    events, _ = answer(small_engine, [1], GREEDY)
    assert events[-1] == Finished(reason="stop", ids=(50, 51))
    assert texts(events) == ""


@pytest.mark.parametrize("stop", ["sw", " swam.", "whale", "T", "m. It"])
def test_a_stop_string_ends_the_answer_and_is_not_shown(script, talking_engine, stop):
    text = "The whale swam. It dived."
    ids = script(text)
    events, state = answer(talking_engine, [5, 6], SamplingParams(stop=("never generated", stop)))
    assert texts(events) == text[: text.index(stop)]
    finished = events[-1]
    assert finished.reason == "stop_string"
    assert finished.ids == tuple(tokens_in(events)) == tuple(ids[: len(finished.ids)])
    assert stop in talking_engine.tokenizer.decode(finished.ids)
    assert state.position == 2 + len(finished.ids)


def test_text_held_back_for_a_stop_string_that_never_comes_is_shown_at_the_end(script, talking_engine):
    script("The whale swam")
    events, _ = answer(talking_engine, [5], SamplingParams(stop=("swam away",)))
    assert texts(events) == "The whale swam"
    assert events[-1].reason == "stop"


def test_characters_of_several_tokens_are_shown_whole(script, talking_engine):
    text = "naïve 日本語 😀👩‍🚀 end"
    ids = script(text)
    events, _ = answer(talking_engine, [5], SamplingParams())
    assert tokens_in(events) == ids
    assert texts(events) == text
    assert not any("\ufffd" in event.text for event in events if isinstance(event, Token))


def test_a_think_block_is_separated_from_the_answer(script, talking_engine):
    ids = script("<think>\nWho swam? The whale.\n</think>\n\nThe whale.")
    events, _ = answer(talking_engine, [5], SamplingParams())
    assert texts(events, thinking=True) == "Who swam? The whale."
    assert texts(events) == "The whale."
    assert events[-1].ids == tuple(ids)
    events_flat = [event.thinking for event in events if isinstance(event, Token) and event.text]
    assert events_flat == sorted(events_flat, reverse=True)


def test_without_a_splitter_the_tags_are_text(script, talking_engine):
    streamer = TextStreamer(talking_engine.tokenizer, SamplingParams(), None)
    ids = script("<think>So</think> yes")
    events = [event for token in ids for event in streamer.push(token)] + list(streamer.flush())
    assert texts(events) == "<think>So</think> yes"


def test_an_unfinished_think_block_is_thinking_to_the_end(script, talking_engine):
    script("<think>It goes on and on")
    events, _ = answer(talking_engine, [5], SamplingParams(stop=("and",)))
    assert texts(events) == ""
    assert texts(events, thinking=True).rstrip() == "It goes on"
    assert (events[-1].reason, events[-1].thinking_end) == ("stop_string", "open")


def test_an_empty_prompt_is_refused(small_engine):
    state = small_engine.new_state()
    with pytest.raises(ValueError, match="at least one prompt token"):
        next(small_engine.generate(state, []))
    assert state.position == 0


def test_the_trace_covers_the_prompt_and_every_token_of_the_answer(small_engine, ids):
    trace = AttentionTrace()
    events, state = answer(small_engine, ids[:100], GREEDY, trace=trace)
    assert state.position == 100 + len(tokens_in(events))
    for mass in trace.mass.values():
        assert float(mass.sum()) == pytest.approx(4 * state.position, rel=1e-5)


def test_defaults_of_sampling_come_from_the_model_folder(make_model):
    folder = make_model()
    (folder / "generation_config.json").write_text('{"do_sample": false, "top_p": 0.8}')
    assert Engine.load(folder).sampling_defaults == SamplingParams(temperature=0, top_p=0.8)
