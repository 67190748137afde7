"""A question finds words as a text spells them, looks at every key, and leaves the state as it was."""

import numpy as np
import pytest
import torch

from sala_core.looking import Looking, words_of_a_text
from sala_core.model import AttentionTrace

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "The ticket number of Igor is 4948. That of Lena, whom nobody knew, was never told to anyone. " * 12


@pytest.mark.parametrize("asked", ["Who?", "What is the ticket number of “Igor”, and that of Lena? " * 3])
def test_a_question_looks_at_every_key_beyond_the_usual_and_leaves_the_state_as_it_was(talking_engine, asked):
    engine, tokenizer = talking_engine, talking_engine.tokenizer
    prompt, nothing = (
        np.concatenate([engine.chat.message("user", tokenizer.encode_content(text)), engine.chat.generation_prompt()])
        for text in (asked, "Quote the sentence.")
    )
    state, found = engine.new_state(), AttentionTrace()
    list(engine.read(state, tokenizer.encode_content(TEXT)))
    before = state.clone()

    def dense(ids):
        trace = AttentionTrace()
        engine.model.advance(before.clone(), torch.from_numpy(ids), dense=True, trace=trace)
        return {layer: mass[: before.position] for layer, mass in trace.mass.items()}

    Looking(engine.model, tokenizer, engine.chat).look(state, torch.from_numpy(prompt).long(), found)
    assert state.position == before.position
    assert torch.equal(state.linear_states, before.linear_states)
    mine, theirs = (one.segment(0, one.position) for one in (state, before))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    prompt, nothing = words_of_a_text(tokenizer, prompt), words_of_a_text(tokenizer, nothing)
    usual, wanted = dense(nothing), dense(prompt)
    for layer, mass in wanted.items():
        beyond = (mass - len(prompt) / len(nothing) * usual[layer]).clamp(min=0)
        assert torch.allclose(found.mass[layer][: len(mass)], beyond, atol=1e-4)
        assert beyond.any()


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
