"""The look-up spells a question's words as a text does, attends to every key, and leaves the state unchanged."""

import numpy as np
import pytest
import torch

from sala_core import SamplingParams
from sala_core.evidence.lookup import MAX_LOOKUP_TOKENS, attend_to_question, question_ids
from sala_core.evidence.places import DocumentSpan
from sala_core.evidence.verbatim import Quoting
from sala_core.model.forward import AttentionTrace

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "The ticket number of Igor is 4948. That of Lena, whom nobody knew, was never told to anyone. " * 60


def ids_of(text, engine):
    return engine.tokenizer.encode_content(text)


def points_of(table, block):
    """What the keys of [tokens, keys] count, pair by pair: always the most attention that is left."""
    left, points = np.where(table >= 0.002, table, 0), np.zeros(table.shape[1])
    while left.any():
        token, key = np.unravel_index(left.argmax(), left.shape)
        points[key] = np.log1p((100 * table[token, key]) ** 2)
        left[:, key] = 0
        left[token, key // block * block : (key // block + 1) * block] = 0
    return torch.from_numpy(points).float()


@pytest.mark.parametrize("asked", ["Who?", "What is the ticket number of “Igor”, and that of Lena? " * 3])
def test_every_key_is_paired_with_the_token_that_attends_to_it_most_and_the_state_stays_the_same(talking_engine, asked):
    engine, chat, tokenizer = talking_engine, talking_engine.chat, talking_engine.tokenizer
    model, state, found = engine.model, engine.new_state(), AttentionTrace()
    list(engine.read(state, ids_of(TEXT, engine)))
    before = state.clone()
    first = engine.config.sparse_layers[0]
    found.buffer(first, 3, model.device).fill_(0.25)

    blocks = attend_to_question(model, chat, state, question_ids(tokenizer, asked), found)
    assert state.position == before.position
    assert torch.equal(state.linear_states, before.linear_states)
    mine, theirs = (one.segment(0, one.position) for one in (state, before))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    seen = []
    model.prefill(before, torch.tensor(chat.message_prefix("user").tolist()), dense=True)
    counted = [*question_ids(tokenizer, asked), *chat.message_suffix("user")]
    for token in counted:
        trace = AttentionTrace()
        model.prefill(before, torch.tensor([int(token)]), dense=True, trace=trace)
        seen.append(trace.mass[first][: state.position] / engine.config.num_attention_heads)
    points = points_of(torch.stack(seen).numpy(), model.layout.block)
    wanted = points.sqrt()
    wanted[:3] += 0.25
    assert set(found.mass) == {first}
    assert (found.mass[first][: len(points)] - wanted).abs().quantile(0.99) < 0.02, "few pairs are on the edge"
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
        blocks = attend_to_question(engine.model, engine.chat, state, ids_of("Who?", engine), AttentionTrace())
        assert blocks.tolist() == [-1] * engine.model.layout.slots


def test_a_question_is_prefilled_with_the_blocks_that_the_look_up_found(talking_engine, monkeypatch):
    engine, chat = talking_engine, talking_engine.chat
    question = "What is the ticket number of Igor?"
    text = ids_of(TEXT, engine)
    state, read_with = engine.new_state(), []
    list(engine.read(state, text))
    asked = question_ids(engine.tokenizer, question)
    wanted = attend_to_question(engine.model, chat, state.clone(), asked, AttentionTrace())
    prefill = type(engine.model).prefill

    def spied(model, state, ids, **options):
        if not options.get("dense"):
            read_with.append(options["blocks"])
        return prefill(model, state, ids, **options)

    monkeypatch.setattr(type(engine.model), "prefill", spied)
    span = DocumentSpan(document_id="text", name="text", start=0, end=len(text))
    quoting = Quoting(engine.tokenizer, [span], len(text), engine.model.layout, lambda _: None)
    sampling = SamplingParams(temperature=0, max_tokens=1)
    for asked, expected in ((question, wanted.tolist()), (question * 40, None)):  # the second is too long
        prompt = np.concatenate([chat.message("user", ids_of(asked, engine)), chat.generation_prompt()])
        read_with.clear()
        fork, trace = state.clone(), AttentionTrace()
        blocks = engine.look_up(fork, asked, trace)
        list(engine.generate(fork, prompt, sampling, blocks=blocks, trace=trace, quoting=quoting))
        assert read_with
        assert all((None if found is None else found.tolist()) == expected for found in read_with)


@pytest.mark.parametrize("excess", [0, 1])
def test_a_question_that_is_too_long_gets_no_look_up(talking_engine, excess):
    engine, trace = talking_engine, AttentionTrace()
    state = engine.new_state()
    list(engine.read(state, ids_of(TEXT, engine)))
    word = len(question_ids(engine.tokenizer, " a a")) - len(question_ids(engine.tokenizer, " a"))
    question = " a" * ((MAX_LOOKUP_TOKENS + excess) // word)
    assert len(question_ids(engine.tokenizer, question)) == MAX_LOOKUP_TOKENS + excess
    assert (engine.look_up(state, question, trace) is None) == bool(excess)
    assert bool(trace.mass) == (not excess)


def test_a_question_goes_one_way(talking_engine, monkeypatch):
    """The look-up takes the text that the session has: no token is turned back into text for it."""
    engine = talking_engine
    state = engine.new_state()
    list(engine.read(state, ids_of(TEXT, engine)))
    monkeypatch.setattr(type(engine.tokenizer), "decode", lambda *_: pytest.fail("decoded a question"))
    assert engine.look_up(state, "What is the ticket number of “Igor”?", AttentionTrace()) is not None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("tokens", "keys"), [(1, 5), (3, 130), (40, 200)])
def test_a_question_s_tokens_and_the_keys_of_a_block_are_paired_one_to_one(
    talking_engine, monkeypatch, tokens, keys, seed
):
    """Attention as it would be: a few keys of each token draw most, many something."""
    engine, rng = talking_engine, np.random.default_rng(seed)
    first, heads = engine.config.sparse_layers[0], engine.config.num_attention_heads
    question = ids_of(" a" * tokens, engine)
    table = rng.dirichlet(np.full(keys, 0.05), tokens + 2).astype(np.float32)  # and the message's end
    given = iter(np.array_split(table, range(16, len(table), 16)))

    def prefill(state, ids, *, dense, num_layers, trace=None):
        assert (dense, num_layers) == (True, first + 1)
        if trace is not None:
            trace.buffer(first, keys + len(ids), ids.device)[:, :keys] = torch.from_numpy(next(given)) * heads

    state, found = engine.new_state(), AttentionTrace()
    state.reserve(keys + 64)
    state.position = keys
    monkeypatch.setattr(engine.model, "prefill", prefill)
    attend_to_question(engine.model, engine.chat, state, question, found)
    assert next(given, None) is None
    drawn = found.mass[first][:keys].square()
    torch.testing.assert_close(drawn, points_of(table, engine.model.layout.block), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("opening", "closing"), ["“”", '""', "''", "‘’", "``", "«»", "„“"])
@pytest.mark.parametrize("word", ["thrown", "Deck", "parse_args", "Kutúzov’s"])
def test_a_quoted_word_is_spelled_as_after_a_space(talking_engine, opening, closing, word):
    tokenizer = talking_engine.tokenizer
    spelled = question_ids(tokenizer, f"Where does it say {opening}{word}{closing}, and why?")
    assert tokenizer.decode(spelled) == f" Where does it say {word}, and why?"
    plain = tokenizer.encode_content(f" {word}").tolist()
    assert any(spelled[at : at + len(plain)].tolist() == plain for at in range(len(spelled)))


def test_apostrophes_stay_within_words_and_words_after_a_line_are_spelled_as_after_a_space(talking_engine):
    tokenizer = talking_engine.tokenizer
    spelled = question_ids(tokenizer, "Don't ask\nwho Anne's friend isn’t.\n\n(Or do.)")
    assert tokenizer.decode(spelled) == " Don't ask\n who Anne's friend isn’t.\n\n(Or do.)"


def test_a_question_may_speak_of_control_tokens(talking_engine):
    tokenizer = talking_engine.tokenizer
    spelled = question_ids(tokenizer, 'What is "<|im_end|>"?')
    assert not tokenizer.is_control(spelled).any()
    assert tokenizer.decode(spelled) == " What is <|im_end|>?"
    assert question_ids(tokenizer, tokenizer.decode(spelled)).tolist() == spelled.tolist()
