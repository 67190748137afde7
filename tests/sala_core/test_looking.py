"""A question finds words as a text spells them, looks at every key, and leaves the state as it was."""

import numpy as np
import pytest
import torch

from sala_core.looking import look, words_of_a_text
from sala_core.model import AttentionTrace

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "The ticket number of Igor is 4948. That of Lena, whom nobody knew, was never told to anyone. " * 12


@pytest.mark.parametrize("asked", ["Who?", "What is the ticket number of “Igor”, and that of Lena? " * 3])
def test_a_question_s_tokens_count_each_by_itself_and_the_state_stays_as_it_was(talking_engine, asked):
    engine, tokenizer = talking_engine, talking_engine.tokenizer
    prompt = engine.chat.message("user", tokenizer.encode_content(asked))
    state, found = engine.new_state(), AttentionTrace()
    list(engine.read(state, tokenizer.encode_content(TEXT)))
    before = state.clone()
    first = engine.config.sparse_layers[0]
    found.buffer(first, 3, engine.model.device).fill_(0.25)

    look(engine.model, tokenizer, state, torch.from_numpy(prompt).long(), found)
    assert state.position == before.position
    assert torch.equal(state.linear_states, before.linear_states)
    mine, theirs = (one.segment(0, one.position) for one in (state, before))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    points = torch.zeros(before.position)
    for token in torch.from_numpy(words_of_a_text(tokenizer, prompt)):
        trace = AttentionTrace()
        engine.model.advance(before, token[None], dense=True, trace=trace)
        points += (trace.mass[first][: len(points)] / (engine.config.num_attention_heads / 8)).square().log1p()
    wanted = points.sqrt()
    wanted[:3] += 0.25
    assert set(found.mass) == {first}
    assert torch.allclose(found.mass[first][: len(points)], wanted, atol=1e-3)
    assert points.any()


def test_a_sentence_with_each_word_once_is_meant_more_than_one_with_a_word_thrice(talking_engine, monkeypatch):
    """Attention as it would be: three tokens of a question, one of them at three keys of the second sentence."""
    engine = talking_engine
    first, heads = engine.config.sparse_layers[0], engine.config.num_attention_heads
    shares = torch.tensor([[0, 0, 0, 1 / 3, 1 / 3, 1 / 3], [0.5, 0, 0, 0.5, 0, 0], [0, 0.5, 0, 0, 0, 0]]) * heads

    def advance(state, ids, *, dense, trace, num_layers):
        assert (dense, num_layers) == (True, first + 1)
        trace.buffer(first, 6 + len(ids), ids.device)[:, :6] = shares[: len(ids)]

    state, found = engine.new_state(), AttentionTrace()
    state.reserve(64)
    state.position = 6
    monkeypatch.setattr(engine.model, "advance", advance)
    question = torch.from_numpy(engine.tokenizer.encode_content(" a b c")).long()
    assert len(question) == 3
    look(engine.model, engine.tokenizer, state, question, found)
    points = found.mass[first][:6].square()
    wanted = (shares / heads * 8).square().log1p().sum(0)
    torch.testing.assert_close(points, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("opening", "closing"), ["“”", '""', "''", "‘’", "``", "«»", "„“"])
@pytest.mark.parametrize("word", ["thrown", "Deck", "parse_args", "Kutúzov’s"])
def test_a_quoted_word_is_spelt_as_after_a_space(talking_engine, opening, closing, word):
    tokenizer = talking_engine.tokenizer
    quoted = tokenizer.encode_content(f"Where does it say {opening}{word}{closing}, and why?")
    spelt = words_of_a_text(tokenizer, quoted)
    assert tokenizer.decode(spelt) == f"Where does it say {word}, and why?"
    plain = tokenizer.encode_content(f" {word}").tolist()
    assert any(spelt[at : at + len(plain)].tolist() == plain for at in range(len(spelt)))


def test_apostrophes_stay_within_words_and_words_after_a_line_are_spelt_as_after_a_space(talking_engine):
    tokenizer = talking_engine.tokenizer
    spelt = words_of_a_text(tokenizer, tokenizer.encode_content("Don't ask\nwho Anne's friend isn’t.\n\n(Or do.)"))
    assert tokenizer.decode(spelt) == "Don't ask\n who Anne's friend isn’t.\n\n(Or do.)"


def test_control_tokens_stay_and_those_in_a_question_s_text_stay_text(talking_engine):
    chat, tokenizer = talking_engine.chat, talking_engine.tokenizer
    asked = tokenizer.encode_content('What is "<|im_end|>"?')
    prompt = np.concatenate([chat.message("user", asked), chat.generation_prompt()])
    spelt = words_of_a_text(tokenizer, prompt)
    assert spelt[tokenizer.is_control(spelt)].tolist() == prompt[tokenizer.is_control(prompt)].tolist()
    assert tokenizer.decode(spelt).count("<|im_end|>") == tokenizer.decode(prompt).count("<|im_end|>") == 2
    assert words_of_a_text(tokenizer, spelt).tolist() == spelt.tolist()
