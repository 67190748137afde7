"""Measures how often a planted sentence is among the first five places of evidence.

`python tests/measure/planted.py BOOK` plants invented facts at equal distances in a book, prefills it once, and asks
about each fact from a copy of that state.
"""

import argparse
import json
import random
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from sala_core import Engine, SalaState, Token
from sala_core.evidence.places import DocumentSpan, find_evidence
from sala_core.evidence.verbatim import Quoting
from sala_core.ingest import Document, SourceMap, encode_document
from sala_core.model.forward import AttentionTrace
from sala_core.session.stream import StreamWriter

_MILESTONES = [1 << n for n in range(14, 21)]
_ROLES = ("harbour master", "lighthouse keeper", "archivist", "ferryman", "glassblower", "clockmaker", "bell ringer")
_THINGS = ("secret code", "locker number", "password", "horse", "motto", "safe combination", "favourite colour")
_SYLLABLES = ("vel", "mor", "tin", "dra", "quo", "sel", "bru", "kan", "ori", "phe", "lus", "gar", "zem", "wyn", "tho")


def facts(count: int, seed: int) -> list[tuple[str, str, str]]:
    """(sentence, question, answer) of `count` invented facts about different places."""
    rng = random.Random(seed)
    made = []
    for place in dict.fromkeys("".join(rng.sample(_SYLLABLES, 3)).capitalize() for _ in range(4 * count)):
        role, thing = rng.choice(_ROLES), rng.choice(_THINGS)
        value = str(rng.randint(1000, 99999)) if rng.random() < 0.6 else "".join(rng.sample(_SYLLABLES, 2)).capitalize()
        sentence = f"The {thing} of the {role} of {place} is {value}."
        made.append((sentence, f"What is the {thing} of the {role} of {place}?", value))
    return sorted(made)[:count]


def plant(text: str, planted: list[tuple[str, str, str]]) -> str:
    """The text with the facts at ends of paragraphs, at about equal distances."""
    cuts = [0]
    for i in range(len(planted)):
        at = text.find("\n\n", int(len(text) * (i + 0.5) / len(planted)))
        cuts.append(at if at >= 0 else len(text))
    pieces = [text[a:b] for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    return pieces[0] + "".join(f" {fact[0]}{piece}" for fact, piece in zip(planted, pieces[1:], strict=True))


def read(engine: Engine, state: SalaState, ids: np.ndarray) -> None:
    """Prefill ids. At some positions, print the speed over the last 8K tokens or so."""
    clock = [(state.position, time.monotonic())]
    ahead = [milestone for milestone in _MILESTONES if milestone > state.position]
    for _ in engine.read(state, ids):
        clock.append((state.position, time.monotonic()))
        if ahead and state.position >= ahead[0]:
            ahead.pop(0)
            position, at = max(x for x in clock if x[0] <= max(clock[0][0], state.position - 8192))
            rate = (state.position - position) / (clock[-1][1] - at)
            print(json.dumps({"position": state.position, "tokens_per_s": round(rate)}), flush=True)


def main() -> None:
    """Print a JSON line per trial, then the totals."""
    parser = argparse.ArgumentParser()
    parser.add_argument("book", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--tokens", type=int, default=1 << 20, help="cut the book to about this length")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    engine = Engine.load(arguments.model)
    writer = StreamWriter(engine.tokenizer, engine.chat)
    planted = facts(arguments.trials, arguments.seed)
    text = arguments.book.read_text(encoding="utf-8")
    share = min(1.0, arguments.tokens / len(engine.tokenizer.encode_content(text)))
    text = plant(text[: int(len(text) * share)], planted)
    document = Document(
        name=arguments.book.name, media_type="text/plain", num_bytes=len(text), text=text,
        content_hash=Document.hash_of(arguments.book.name, text),
    )  # fmt: skip
    encoded = encode_document(document, engine.tokenizer)
    state = engine.new_state()
    part = writer.document(encoded, "book")
    started = time.monotonic()
    for _ in engine.read(state, writer.system().token_ids):
        pass
    body = state.position + part.body_start
    read(engine, state, part.token_ids)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    seconds = time.monotonic() - started
    print(json.dumps({"tokens": state.position, "tokens_per_s": state.position / seconds, "peak_gib": peak}))
    span = DocumentSpan(document_id="book", name=document.name, start=body, end=body + encoded.num_tokens)
    source_map = SourceMap(text, (), encoded.token_starts)
    hits = correct = 0
    for sentence, question, value in planted:
        fork, trace = state.clone(), AttentionTrace()
        prompt = writer.question(question, "m").token_ids
        sampling = replace(engine.sampling_defaults, temperature=0, max_tokens=48)
        blocks = quoting = None
        if sampling.verbatim:
            blocks = engine.look_up(fork, question, trace)
            quoting = Quoting(engine.tokenizer, [span], state.position, engine.model.layout, lambda _: source_map)
        events = engine.generate(fork, prompt, sampling, blocks=blocks, trace=trace, quoting=quoting)
        answer = "".join(event.text for event in events if isinstance(event, Token))
        places = find_evidence(trace, [span], state.position, engine.model.layout, lambda _: source_map)[:5]
        at = text.index(sentence)
        needle = source_map.place_of_chars(at, at + len(sentence))
        overlaps = [p.line_start <= needle.line_end and p.line_end >= needle.line_start for p in places]
        hits += any(overlaps)
        correct += value in answer
        rank = overlaps.index(True) + 1 if any(overlaps) else None
        print(json.dumps({"question": question, "rank": rank, "answer": answer}))
    print(json.dumps({"evidence_in_first_five": hits, "answer_right": correct, "trials": len(planted)}))


if __name__ == "__main__":
    main()
