"""The figures of the model card count what they say."""

import random
from types import SimpleNamespace

import pytest
import torch
from sala_kernels import BlockLayout
from tokenizers import Tokenizer

from sala_core.checkpoint import EMBEDDED, resolve_model
from sala_core.engine import Engine
from sala_core.train.corpus import SourceText
from sala_core.train.embedded.measure import measure, perplexity, rank_of_span
from sala_core.train.tasks import TaskMaker

_LAYOUT = BlockLayout(stride=16, block=64, init=1, local=2, slots=3)


@pytest.mark.parametrize(("start", "end", "rank"), [(320, 340, 1), (640, 650, 2), (200, 210, 3), (0, 20, 4)])
def test_rank_counts_blocks_that_drew_more_and_leaves_out_first_and_local_ones(start, end, rank):
    mass = torch.zeros(1000)
    mass[10], mass[990] = 9.0, 9.0
    mass[330], mass[645], mass[205] = 3.0, 2.0, 1.0
    engine = SimpleNamespace(model=SimpleNamespace(layout=_LAYOUT))
    trace = SimpleNamespace(mass={0: mass / 2, 4: mass / 2})
    assert rank_of_span(engine, trace, start, end, asked_at=1000) == rank


def test_the_embedded_model_can_be_measured():
    text = "".join(
        f"On day {day} Mr. Hollow{day} wrote to the miller about rain and about bread. " for day in range(200)
    )
    tokenizer = Tokenizer.from_file(str(resolve_model(EMBEDDED) / "tokenizer.json"))
    maker = TaskMaker(tokenizer, [SourceText(name="letters.txt", kind="books", text=text)])
    engine = Engine.load(EMBEDDED, dtype="float32")
    scores = measure(engine, maker, random.Random(0), length=300, documents=1, questions=1)
    assert {score.kind for score in scores} <= {"planted", "quote"}
    assert all(score.questions == 1 and score.exact in (0, 1) and score.five_blocks in (0, 1) for score in scores)
    assert 1 < perplexity(engine, maker, random.Random(0), runs=1, length=128) < tokenizer.get_vocab_size()
