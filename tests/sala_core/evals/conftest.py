"""A small random model under evaluation, and readings made for it."""

import sys
from pathlib import Path
from random import Random

import pytest

from sala_core import Engine
from sala_core.evals import EvalPlan, LocalModel, TextSource
from sala_core.evals.run import make_reading
from sala_core.evals.words import names

sys.path.append(str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def model(random_model) -> LocalModel:
    """Random weights: answers are fast and meaningless."""
    return LocalModel(Engine.load(random_model, device="cpu"), max_tokens=6)


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """A text of 600 paragraphs with names, line breaks and direct speech."""
    rng = Random(0)
    paragraphs = [
        "On day {} Captain {} of the brig {} wrote about the barrel of {}, which the\n"
        "steward had painted in the harbour of {}. “It leaks,” said {}. Nobody answered\n"
        "him, for the tide near {} was turning and the pilot {} had already come aboard with his dog. "
        "The lamp of {} was lit and {} raised the anchor before the sixth bell of {}.".format(i, *names(rng, 10))
        for i in range(600)
    ]
    file = tmp_path_factory.mktemp("texts") / "book.txt"
    file.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return file


@pytest.fixture
def make(model, book):
    """make(suite, task, length=2048, group=0, own=True, **plan) -> reading."""
    sources = {True: TextSource(), False: TextSource([book])}

    def reading(suite, task, *, length=2048, group=0, own=True, counter=model, **plan):
        return make_reading(EvalPlan(suite=suite, texts=sources[own], **plan), task, length, group, counter)

    return reading
