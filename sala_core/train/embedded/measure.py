"""Measures an exported model on held-out books: perplexity, quoting, planted sentences, where it looked."""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from sala_core.answering import Finished
from sala_core.checkpoint import resolve_model
from sala_core.engine import Engine
from sala_core.model import AttentionTrace
from sala_core.prompt import SYSTEM_PROMPT
from sala_core.sampling import SamplingParams
from sala_core.state import SalaState
from sala_core.train.embedded.texts import read_corpus, read_held_out
from sala_core.train.tasks import Question, Reading, Row, TaskMaker

_GREEDY = SamplingParams(temperature=0, max_tokens=96)


@dataclass(frozen=True, kw_only=True)
class Score:
    """Shares of `questions`: answer given verbatim; sentence in the block (five blocks) looked at most."""

    kind: str
    context_tokens: int
    questions: int
    exact: float
    first_block: float
    five_blocks: float


def perplexity(engine: Engine, maker: TaskMaker, rng: random.Random, *, runs: int, length: int) -> float:
    """exp of the mean next-token loss over `runs` excerpts of `length` tokens, each from an empty state."""
    total = 0.0
    for _ in range(runs):
        ids = torch.tensor(maker.passage(rng, length)[1])
        logits = engine.forward(engine.new_state(), ids)
        total += F.cross_entropy(logits[:-1].float(), ids[1:]).item()
    return float(np.exp(total / runs))


def ask(engine: Engine, state: SalaState, maker: TaskMaker, question: str) -> tuple[str, AttentionTrace]:
    """The greedy answer to a question about what `state` (left as it is) has read, and where it looked."""
    prompt = np.concatenate(
        [
            engine.chat.message("user", np.array(maker.encode(question), np.int32)),
            engine.chat.generation_prompt(),
        ]
    )
    trace = AttentionTrace()
    for event in engine.generate(state.clone(), prompt, _GREEDY, trace=trace):
        if isinstance(event, Finished):
            return engine.tokenizer.decode(list(event.ids)), trace
    raise AssertionError("generate ended without Finished")


def rank_of_span(engine: Engine, trace: AttentionTrace, start: int, end: int, asked_at: int) -> int:
    """Rank (from 1) of the best block of [start, end) by attention drawn; first and local blocks left out."""
    layout = engine.model.layout
    mass = sum(held[:asked_at].float() for held in trace.mass.values())
    assert isinstance(mass, torch.Tensor)
    mass[: layout.init * layout.block] = 0
    local = (asked_at // layout.block - layout.local + 1) * layout.block
    if local > end:
        mass[local:] = 0
    blocks = F.pad(mass, (0, -len(mass) % layout.block)).view(-1, layout.block).sum(1)
    best = blocks[start // layout.block : (end - 1) // layout.block + 1].max()
    return int((blocks > best).sum()) + 1


def measure(
    engine: Engine, maker: TaskMaker, rng: random.Random, *, length: int, documents: int, questions: int
) -> list[Score]:
    """Read `documents` excerpts of `length` tokens with planted facts; ask up to `questions` of each kind."""
    found: dict[str, list[tuple[bool, int]]] = {"planted": [], "quote": []}
    for _ in range(documents):
        row = Row()
        maker.message(row, "system", maker.encode(SYSTEM_PROMPT))
        reading = maker.read_document(row, rng, length)
        state = engine.new_state()
        for _done in engine.read(state, row.ids):
            pass
        planted = [sentence for sentence, _ in reading.planted]
        asked = {"planted": 0, "quote": 0}
        for question in maker.questions(rng, reading.body, reading.planted):
            if question.start < 0:
                continue
            kind = "planted" if reading.body[question.start : question.end] in planted else "quote"
            if asked[kind] < questions:
                asked[kind] += 1
                found[kind].append(_try(engine, state, maker, question, reading))
    return [_score(kind, length, results) for kind, results in found.items() if results]


def _try(engine: Engine, state: SalaState, maker: TaskMaker, question: Question, reading: Reading) -> tuple[bool, int]:
    wanted = " ".join(reading.body[question.start : question.end].split())
    answer, trace = ask(engine, state, maker, question.text)
    gold = np.searchsorted(reading.starts, [question.start, question.end - 1], side="right") - 1
    start, end = reading.first + int(gold[0]), reading.first + int(gold[1]) + 1
    return wanted in " ".join(answer.split()), rank_of_span(engine, trace, start, end, state.position)


def _score(kind: str, length: int, results: list[tuple[bool, int]]) -> Score:
    count = len(results)
    return Score(
        kind=kind,
        context_tokens=length,
        questions=count,
        exact=round(sum(right for right, _ in results) / count, 3),
        first_block=round(sum(rank == 1 for _, rank in results) / count, 3),
        five_blocks=round(sum(rank <= 5 for _, rank in results) / count, 3),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="sala_core.train.embedded.measure", description=__doc__)
    parser.add_argument("model", help="folder of the exported model, or 'embedded'")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--documents", type=int, default=4)
    parser.add_argument("--questions", type=int, default=5, help="questions of each kind a document")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="the engine's own choice if not given")
    arguments = parser.parse_args()
    engine = Engine.load(arguments.model, dtype=arguments.dtype)
    tokenizer = Tokenizer.from_file(str(resolve_model(arguments.model) / "tokenizer.json"))
    maker = TaskMaker(tokenizer, read_held_out(arguments.corpus))
    maker.frequency = TaskMaker(tokenizer, list(read_corpus(arguments.corpus))).frequency
    rng = random.Random(arguments.seed)
    print(json.dumps({"perplexity": round(perplexity(engine, maker, rng, runs=4, length=2048), 2)}), flush=True)
    for length in arguments.lengths:
        for score in measure(
            engine, maker, rng, length=length, documents=arguments.documents, questions=arguments.questions
        ):
            print(json.dumps(asdict(score)), flush=True)


if __name__ == "__main__":
    main()
