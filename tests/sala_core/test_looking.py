"""A question finds words as a text spells them, looks at every key, and leaves the state as it was."""

import numpy as np
import pytest
import torch

from sala_core import SamplingParams
from sala_core.evidence import DocumentSpan
from sala_core.looking import look, words_of_a_text
from sala_core.model import AttentionTrace
from sala_core.quoting import Quoting

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "The ticket number of Igor is 4948. That of Lena, whom nobody knew, was never told to anyone. " * 60


def ids_of(text, engine):
    return engine.tokenizer.encode_content(text)


@pytest.mark.parametrize("asked", ["Who?", "What is the ticket number of “Igor”, and that of Lena? " * 3])
def test_a_question_s_tokens_count_each_by_itself_and_the_state_stays_as_it_was(talking_engine, asked):
    engine, chat, tokenizer = talking_engine, talking_engine.chat, talking_engine.tokenizer
    model, state, found = engine.model, engine.new_state(), AttentionTrace()
    list(engine.read(state, ids_of(TEXT, engine)))
    before = state.clone()
    first = engine.config.sparse_layers[0]
    found.buffer(first, 3, model.device).fill_(0.25)

    blocks = look(model, tokenizer, chat, state, ids_of(asked, engine), found)
    assert state.position == before.position
    assert torch.equal(state.linear_states, before.linear_states)
    mine, theirs = (one.segment(0, one.position) for one in (state, before))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    points = torch.zeros(before.position)
    model.advance(before, torch.tensor(chat.message_prefix("user").tolist()), dense=True)
    counted = [*words_of_a_text(tokenizer, ids_of(asked, engine)), *chat.message_suffix("user")]
    for token in counted:
        trace = AttentionTrace()
        model.advance(before, torch.tensor([int(token)]), dense=True, trace=trace)
        points += (trace.mass[first][: len(points)] / (engine.config.num_attention_heads / 8)).square().log1p()
    wanted = points.sqrt()
    wanted[:3] += 0.25
    assert set(found.mass) == {first}
    assert torch.allclose(found.mass[first][: len(points)], wanted, atol=1e-3)
    assert points.any()

    layout = model.layout
    candidates = range(layout.init, len(points) // layout.block - layout.local + 1)
    assert len(candidates) > layout.slots
    drawn = {block: float(points[block * layout.block : (block + 1) * layout.block].sum()) for block in candidates}
    assert blocks.tolist() == sorted(blocks.tolist())
    assert set(blocks.tolist()) < set(candidates)
    least = sorted(drawn.values())[-layout.slots]
    assert min(drawn[block] for block in blocks.tolist()) == pytest.approx(least, rel=1e-2)


def test_after_a_short_text_there_is_no_block_to_choose(talking_engine):
    engine = talking_engine
    for text in ("", "Igor."):
        state = engine.new_state()
        list(engine.read(state, ids_of(text, engine)))
        blocks = look(engine.model, engine.tokenizer, engine.chat, state, ids_of("Who?", engine), AttentionTrace())
        assert blocks.tolist() == [-1] * engine.model.layout.slots


def test_a_question_is_read_with_the_blocks_that_it_looked_at(talking_engine, monkeypatch):
    engine, chat = talking_engine, talking_engine.chat
    asked = ids_of("What is the ticket number of Igor?", engine)
    text = ids_of(TEXT, engine)
    state, read_with = engine.new_state(), []
    list(engine.read(state, text))
    wanted = look(engine.model, engine.tokenizer, chat, state.clone(), asked, AttentionTrace())
    advance = type(engine.model).advance

    def spied(model, state, ids, **options):
        if not options.get("dense"):
            read_with.append(options["blocks"])
        return advance(model, state, ids, **options)

    monkeypatch.setattr(type(engine.model), "advance", spied)
    span = DocumentSpan(document_id="text", name="text", start=0, end=len(text))
    quoting = Quoting(engine.tokenizer, [span], len(text), engine.model.layout, lambda _: None)
    sampling = SamplingParams(temperature=0, max_tokens=1)
    for prompt, blocks in (
        (np.concatenate([chat.message("user", asked), chat.generation_prompt()]), wanted.tolist()),
        (asked, None),  # no question of a conversation
        (np.concatenate([chat.message("user", np.tile(asked, 40)), chat.generation_prompt()]), None),  # too long
    ):
        read_with.clear()
        list(engine.generate(state.clone(), prompt, sampling, trace=AttentionTrace(), quoting=quoting))
        assert read_with
        assert all((None if found is None else found.tolist()) == blocks for found in read_with)


def test_a_sentence_with_each_word_once_is_meant_more_than_one_with_a_word_thrice(talking_engine, monkeypatch):
    """Attention as it would be: three tokens of a question, one of them at three keys of the second sentence."""
    engine = talking_engine
    first, heads = engine.config.sparse_layers[0], engine.config.num_attention_heads
    shares = torch.tensor([[0, 0, 0, 1 / 3, 1 / 3, 1 / 3], [0.5, 0, 0, 0.5, 0, 0], [0, 0.5, 0, 0, 0, 0]]) * heads

    def advance(state, ids, *, dense, num_layers, trace=None):
        assert (dense, num_layers) == (True, first + 1)
        if trace is not None:
            trace.buffer(first, 6 + len(ids), ids.device)[: len(shares), :6] = shares

    state, found = engine.new_state(), AttentionTrace()
    state.reserve(64)
    state.position = 6
    monkeypatch.setattr(engine.model, "advance", advance)
    question = ids_of(" a b c", engine)
    assert len(question) == 3
    look(engine.model, engine.tokenizer, engine.chat, state, question, found)
    points = found.mass[first][:6].square()
    wanted = (shares / heads * 8).square().log1p().sum(0)
    torch.testing.assert_close(points, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("opening", "closing"), ["“”", '""', "''", "‘’", "``", "«»", "„“"])
@pytest.mark.parametrize("word", ["thrown", "Deck", "parse_args", "Kutúzov’s"])
def test_a_quoted_word_is_spelt_as_after_a_space(talking_engine, opening, closing, word):
    tokenizer = talking_engine.tokenizer
    quoted = tokenizer.encode_content(f"Where does it say {opening}{word}{closing}, and why?")
    spelt = words_of_a_text(tokenizer, quoted)
    assert tokenizer.decode(spelt) == f" Where does it say {word}, and why?"
    plain = tokenizer.encode_content(f" {word}").tolist()
    assert any(spelt[at : at + len(plain)].tolist() == plain for at in range(len(spelt)))


def test_apostrophes_stay_within_words_and_words_after_a_line_are_spelt_as_after_a_space(talking_engine):
    tokenizer = talking_engine.tokenizer
    spelt = words_of_a_text(tokenizer, tokenizer.encode_content("Don't ask\nwho Anne's friend isn’t.\n\n(Or do.)"))
    assert tokenizer.decode(spelt) == " Don't ask\n who Anne's friend isn’t.\n\n(Or do.)"


def test_a_question_may_speak_of_control_tokens(talking_engine):
    tokenizer = talking_engine.tokenizer
    spelt = words_of_a_text(tokenizer, tokenizer.encode_content('What is "<|im_end|>"?'))
    assert not tokenizer.is_control(spelt).any()
    assert tokenizer.decode(spelt) == " What is <|im_end|>?"
    assert words_of_a_text(tokenizer, spelt).tolist() == spelt.tolist()
