"""A local model: each question starts from the same state, evidence is ranked, and losses need no large matrices."""

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from eval_helpers import task_named
from scripted_model import script_model

from sala_core import Engine
from sala_core.errors import SettingsError
from sala_core.evals import LocalModel, TextSource
from sala_core.evals.records import EvalProgress, EvidenceRank, Message, Question, Reading, Reply
from sala_core.evals.suites.perplexity import bins, measure_losses, summarize_losses
from sala_core.events import PromptProgress


def replies(model, reading, stop=lambda: False):
    return [event for event in model.answers(reading, reading.questions, stop) if isinstance(event, Reply)]


def test_a_rewound_state_equals_the_earlier_one_bit_by_bit(model):
    engine = model.engine
    ids = torch.randint(100, 8000, (700,), generator=torch.Generator().manual_seed(0))
    for length in (1, 63, 64, 500, 641):
        state = engine.new_state()
        list(engine.read(state, ids[:length]))
        copy, fork = state.clone(), state.mark()
        for _ in range(2):
            list(engine.read(state, ids[200:257]))
            fork.rewind()
            assert state.position == length
            for mine, theirs in (
                (state.segment(0, length), copy.segment(0, length)),
                (state.snapshot(), copy.snapshot()),
            ):
                assert mine.keys() == theirs.keys()
                assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert torch.equal(engine.forward(state, ids[300:400]), engine.forward(copy, ids[300:400]))


def test_each_question_is_answered_as_if_it_were_the_only_one(make, model):
    suite, task = task_named("niah_multikey_1")
    reading = make(suite, task)
    together = replies(model, reading)
    assert len(together) == 5
    for question, reply in zip(reading.questions, together, strict=True):
        (alone,) = [e for e in model.answers(reading, [question], lambda: False) if isinstance(e, Reply)]
        assert (alone.text, alone.answer_tokens, alone.evidence) == (reply.text, reply.answer_tokens, reply.evidence)
    assert together[0].read_s > 0
    assert {reply.read_s for reply in together[1:]} == {0.0}
    assert max(reply.prompt_tokens for reply in together) == 2048


def test_one_prefill_serves_all_questions(make, model, monkeypatch):
    suite, task = task_named("niah_single_1")
    read = []
    whole = Engine.read
    monkeypatch.setattr(
        Engine, "read", lambda self, state, ids, **kw: read.append(len(ids)) or whole(self, state, ids, **kw)
    )
    replies(model, make(suite, task))
    assert len([n for n in read if n > 1000]) == 1


def test_the_embedded_model_attends_to_the_planted_line(make):
    """It was trained for that, so this fails if lines, spans or traces are assigned wrongly."""
    model = LocalModel(Engine.load("embedded", device="cpu"), max_tokens=24)
    suite, task = task_named("niah_single_2")
    found = replies(model, make(suite, task, length=3000, counter=model))
    assert sum(reply.evidence.share for reply in found) >= 4
    assert sum(reply.evidence.rank == 1 for reply in found) >= 3


@pytest.mark.parametrize("verbatim", [True, False])
def test_every_question_of_a_verbatim_model_is_looked_up(make, random_model, monkeypatch, verbatim):
    model = LocalModel(Engine.load(random_model, device="cpu"), max_tokens=2, verbatim=verbatim)
    looked_up = []
    look_up = Engine.look_up
    monkeypatch.setattr(
        Engine, "look_up", lambda self, state, text, trace: looked_up.append(text) or look_up(self, state, text, trace)
    )
    reading = make(*task_named("niah_multikey_1"), length=1024, counter=model)
    replies(model, reading)
    assert looked_up == [question.text for question in reading.questions if verbatim]


def test_places_are_ranked_by_attention(make, model, monkeypatch):
    from sala_core.evals import local

    suite, task = task_named("niah_multivalue")
    reading = make(suite, task)
    text, question = reading.document.text, reading.questions[0]
    lines = [text[:start].count("\n") + 1 for start, _ in question.needles]

    class Place:
        def __init__(self, line):
            self.line_start = self.line_end = line

    away = [Place(10_000 + i) for i in range(8)]
    monkeypatch.setattr(local, "find_evidence", lambda *a: [away[0], Place(lines[0]), *away[1:4], Place(lines[1])])
    (reply,) = [e for e in model.answers(reading, [question], lambda: False) if isinstance(e, Reply)]
    first_five = {line for line in lines if line == lines[0]}
    assert reply.evidence.rank == 2
    assert reply.evidence.share == len([line for line in lines if line in first_five]) / 4


def test_it_stops_between_chunks_and_between_tokens(make, model):
    suite, task = task_named("niah_single_1")
    reading = make(suite, task, length=4096)
    events = list(model.answers(reading, reading.questions, lambda: True))
    assert len(events) == 1
    assert isinstance(events[0], PromptProgress)
    answered = []

    def stop():
        return bool(answered)

    for event in model.answers(reading, reading.questions, stop):
        if isinstance(event, Reply):
            answered.append(event)
    assert len(answered) == 1


def test_losses_equal_those_of_one_pass_and_no_matrix_is_large(model, book, monkeypatch):
    engine, sizes = model.engine, []
    whole = Engine.forward
    monkeypatch.setattr(
        Engine, "forward", lambda self, state, ids, **kw: sizes.append(len(ids)) or whole(self, state, ids, **kw)
    )
    monkeypatch.setattr("sala_core.evals.suites.perplexity._LOGIT_BYTES", 4 * engine.config.vocab_size * 100)
    texts = TextSource([book])
    *progress, done = measure_losses(engine, texts, Random(1), 1500, lambda: False)
    assert all(isinstance(event, EvalProgress) for event in progress)
    assert max(sizes) <= 100
    assert progress[-1].tokens_done == progress[-1].tokens_total == done["bins"][-1]["end"]
    head = 1500 - progress[-1].tokens_total
    ids = np.concatenate([
        engine.chat.message("system", engine.tokenizer.encode_content(_system())),
        engine.chat.message_prefix("user"),
        engine.tokenizer.encode_content("Document: text.txt\n\n" ),
    ])  # fmt: skip
    body = engine.tokenizer.encode_content(texts.text(Random(1), 8 * 1500))[: 1500 - len(ids)]
    assert len(ids) == head
    tokens = torch.as_tensor(np.concatenate([ids, body]), dtype=torch.int64)
    logs = whole(engine, engine.new_state(), tokens).log_softmax(-1)
    wanted = -logs[head - 1 : -1].gather(1, tokens[head:, None])[:, 0]
    for one in done["bins"]:
        assert one["nats"] == pytest.approx(float(wanted[one["start"] : one["end"]].mean()), abs=2e-3)


def _system():
    from sala_core.text.prompt import SYSTEM_PROMPT

    return SYSTEM_PROMPT


def test_bins_double_and_cover_all_tokens():
    assert bins(100) == [(0, 100)]
    assert bins(1500) == [(0, 256), (256, 512), (512, 1024), (1024, 1500)]
    assert bins(512) == [(0, 256), (256, 512)]


def test_losses_of_several_texts_are_averaged_with_an_interval():
    records = [
        {"length": 4096, "bins": [{"start": 0, "end": 256, "nats": n, "runs": [n - 0.1, n + 0.1]}]} for n in (2.0, 3.0)
    ]
    (row,) = summarize_losses(records)
    assert (row.task, row.n, row.mean) == ("tokens 0-255", 512, 2.5)
    assert 1.9 <= row.low < row.mean < row.high <= 3.1
    assert math.isfinite(row.high)


@pytest.mark.parametrize("think", [True, False])
def test_thinking_is_switched_and_counted_apart_from_the_answer(make, thinker, monkeypatch, think):
    model = LocalModel(thinker, max_tokens=3, think=think)
    ids = {text: thinker.tokenizer.encode_content(text).tolist() for text in ("Let me see.", "Yes.")}
    opened = thinker.tokenizer.encode_control("<think>\n").tolist() if think else []
    thought = [*opened, *ids["Let me see."], *thinker.chat.thinking_end.tolist()] if think else []
    script = [*thought, *ids["Yes."], min(thinker.tokenizer.eos_token_ids)]
    script_model(monkeypatch, thinker, lambda before: script[len(before)])
    suite, task = task_named("niah_single_1")
    reading = make(suite, task, length=512, counter=model)
    reply, *_ = replies(model, reading)
    assert reply.text == "Yes."
    assert reply.answer_tokens == len(script) - 1
    assert reply.prompt_tokens <= 512
    assert model.identity()["thinking"] == ("on" if think else "off")
    assert "thinking" not in LocalModel(thinker).identity()


def test_a_model_that_cannot_think_refuses_to(model):
    with pytest.raises(SettingsError, match="does not think"):
        LocalModel(model.engine, think=True)


def test_a_model_that_only_finds_is_measured_as_the_program_answers(talking_engine, monkeypatch):
    found = replace(talking_engine.sampling_defaults, verbatim=True, only_quotes=True)
    monkeypatch.setattr(talking_engine, "sampling_defaults", found, raising=False)
    text = "Nobody came. The ferryman of Tavelun is called Osrik. It rained."
    start = text.index("Osrik")
    needle = (start, start + 5)
    asked = "What is the ferryman of Tavelun called?"
    question = Question(text=asked, gold=("Osrik",), max_tokens=8, needles=(needle,))
    message = Message(role="user", text=text, document="text")

    model = LocalModel(talking_engine)
    (reply,) = replies(model, Reading(messages=(message,), questions=(question,), system="Answer."))

    assert reply.text == '"The ferryman of Tavelun is called Osrik."'
    assert reply.evidence == EvidenceRank(rank=1, share=1.0)
    assert model.identity()["quotations"] == "found"
    assert LocalModel(talking_engine, verbatim=True).identity()["quotations"] == "verbatim"
