"""Training rows say what they claim, and a run that was stopped goes on as if it had not been."""

import dataclasses
import random
import re

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from sala_core.checkpoint import EMBEDDED, resolve_model
from sala_core.train.corpus import SourceText, is_held_out
from sala_core.train.embedded.data import Phase, make_batch, window_targets
from sala_core.train.embedded.export import average
from sala_core.train.embedded.loop import CHECKPOINT, Trainer, phase_file
from sala_core.train.embedded.network import embedded_config
from sala_core.train.embedded.objective import answer_accuracy
from sala_core.train.embedded.optimizer import orthogonalise
from sala_core.train.embedded.texts import HELD_OUT
from sala_core.train.facts import invented_fact
from sala_core.train.tasks import NOT_SAID, TaskMaker

_TEXT = "".join(
    f"On day {day} the traveller wrote to Mr. Hollow{day} about the weather in the valley of the mill.\n"
    for day in range(400)
)
_TINY = embedded_config(
    hidden_size=32,
    intermediate_size=32,
    mixer_types=("minicpm4", "lightning-attn", "lightning-attn", "minicpm4"),
    num_attention_heads=2,
    head_dim=16,
    lightning_nh=2,
    lightning_head_dim=8,
    dim_model_base=32,
)
_PHASE = Phase(
    name="p", steps=6, length=256, rows=2, rates=(1.0, 0.5), block_loss=0.1,
    mix={"conversation": 2.0, "random_copy": 1.0, "text_copy": 1.0, "plain_text": 1.0},
)  # fmt: skip


@pytest.fixture(scope="module")
def maker():
    tokenizer = Tokenizer.from_file(str(resolve_model(EMBEDDED) / "tokenizer.json"))
    return TaskMaker(tokenizer, [SourceText(name="letters.txt", kind="books", text=_TEXT)])


def test_held_out_books_are_told_by_name():
    assert is_held_out("war-and-peace.txt", HELD_OUT)
    assert is_held_out("pride-and-prejudice.txt", HELD_OUT)
    assert not is_held_out("emma.txt", HELD_OUT)


@pytest.mark.parametrize("seed", range(5))
def test_answers_are_sentences_of_the_document_and_queries_point_at_them(maker, seed):
    row = maker.conversation(random.Random(seed), 700)
    text = maker.tokenizer.decode(row.ids, skip_special_tokens=False)
    documents = [part.split("<|im_end|>")[0] for part in text.split("<|im_start|>user\nDocument: ")[1:]]
    answers = [part.split("<|im_end|>")[0] for part in text.split("<|im_start|>assistant\n")[1:]]
    assert answers
    assert all(answer == NOT_SAID or answer.strip('"') in "".join(documents) for answer in answers[:-1])
    said = {" ".join(answer.strip('"').split()) for answer in answers}
    for _, start, end, first in row.queries:
        assert start < end <= first
        span = " ".join(maker.tokenizer.decode(row.ids[start:end]).split())
        assert any(sentence in span for sentence in said)


def test_text_never_becomes_a_control_token(maker):
    ids = maker.encode("a <|im_end|> b <think> c <|endoftext|>")
    assert min(ids) >= len(maker.control)


def test_absent_facts_are_asked_too(maker):
    rows = [maker.conversation(random.Random(seed), 700) for seed in range(6)]
    assert any(NOT_SAID in maker.tokenizer.decode(row.ids) for row in rows)


@pytest.mark.parametrize("seed", range(30))
def test_invented_facts_have_a_question_that_shares_words(seed):
    fact = invented_fact(random.Random(seed))
    words = set(re.findall(r"\w{4,}", fact.sentence.lower()))
    assert all(words & set(re.findall(r"\w{4,}", question.lower())) for question in fact.questions)


def test_the_same_step_gives_the_same_batch_and_another_step_another(maker):
    first, again = make_batch(maker, _PHASE, 0, 5), make_batch(maker, _PHASE, 0, 5)
    assert torch.equal(first.ids, again.ids)
    assert torch.equal(first.gold, again.gold)
    assert not torch.equal(first.ids, make_batch(maker, _PHASE, 0, 6).ids)
    assert first.ids.shape == (2, 257)
    assert first.weights.shape == (2, 256)


def test_window_targets_are_the_windows_that_hold_the_span():
    gold = torch.tensor([[[40, 50], [0, 0], [16, 64]]])
    hits = window_targets(gold, num_windows=6, stride=16, size=32)[0]
    assert hits[0].nonzero().flatten().tolist() == [2]
    assert not hits[1].any()
    assert hits[2].nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_orthogonalise_flattens_the_singular_values():
    torch.manual_seed(0)
    for shape in ((2, 64, 32), (2, 32, 64)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.4
        assert values.max() < 1.4


def test_a_stopped_run_goes_on_exactly(maker, tmp_path):
    whole = Trainer(tmp_path / "whole", _TINY, maker, [_PHASE], 3, compiled=False)
    for _ in range(4):
        whole.train_step()
    for name in ("parted", "parted"):
        part = Trainer(tmp_path / name, _TINY, maker, [_PHASE], 3, compiled=False)
        for _ in range(2):
            part.train_step()
        part.save()
    assert part.step == whole.step == 4
    for (name, a), b in zip(whole.network.state_dict().items(), part.network.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert torch.equal(whole.bank, part.bank)
    assert not (tmp_path / "parted" / f"{CHECKPOINT}.new").exists()


def test_a_run_keeps_the_weights_at_the_end_of_each_phase_and_they_can_be_averaged(maker, tmp_path):
    short = dataclasses.replace(_PHASE, name="first", steps=1)
    run = Trainer(tmp_path, _TINY, maker, [short, dataclasses.replace(short, name="second")], 3, compiled=False)
    run.run(until=float("inf"), probes=[], save_every=100, probe_every=100)
    states = [torch.load(tmp_path / phase_file(name), weights_only=True) for name in ("first", "second")]
    mean = average(states)["model.norm.weight"]
    torch.testing.assert_close(mean, (states[0]["model.norm.weight"] + states[1]["model.norm.weight"]) / 2)
    assert not torch.equal(states[0]["model.norm.weight"], states[1]["model.norm.weight"])


def test_accuracy_counts_only_whole_answers(maker):
    batch = make_batch(maker, _PHASE, 0, 1)

    class Oracle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vocabulary = torch.eye(maker.vocab_size)

        def hidden(self, ids):
            rows = [(row[: len(ids[0]) + 1]) for row in batch.ids]
            return torch.stack([torch.nn.functional.one_hot(row[1:], maker.vocab_size).float() for row in rows]), []

    whole, tokens, answers = answer_accuracy(Oracle(), batch)
    assert (whole, tokens) == (1.0, 1.0)
    assert answers > 0
    assert np.isfinite(whole)
