"""The gain of prompt lookup where answers quote: the embedded model answers questions about planted sentences.

It was trained to answer with a sentence of the text, so most of an answer can be drafted. Accepted tokens are counted
whether or not the sentence is the one asked about.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sala_core.assets import ASSETS
from sala_core.bench.models.answer_job import AnswerJob
from sala_core.bench.records import ModelRow
from sala_core.bench.timing import synchronize
from sala_core.engine.engine import Engine, Finished, Token
from sala_core.engine.sampling import SamplingParams
from sala_core.engine.speculation import DraftIndex
from sala_core.model.checkpoint import EMBEDDED
from sala_core.model.state import SalaState
from sala_core.session.stream import StreamWriter

_FACTS = (
    ("horse", "archivist", "Quoorikan", "67012"),
    ("password", "ferryman", "Thotinquo", "Lusphe"),
    ("locker number", "clockmaker", "Garzemphe", "4471"),
    ("motto", "harbour master", "Tindratho", "Wynori"),
    ("secret code", "glassblower", "Oriseltho", "92903"),
    ("horse", "lighthouse keeper", "Tinthovel", "92949"),
    ("favourite colour", "bell ringer", "Drazemtin", "Pheq"),
    ("safe combination", "ferryman", "Lusbrugar", "38732"),
)
_MAX_ANSWER_TOKENS = 64


@dataclass(kw_only=True)
class _Totals:
    """Over all answers: tokens, forward passes, and seconds after each answer's first token."""

    tokens: int = 0
    passes: int = 0
    seconds: float = 0.0


def measure_prompt_lookup(job: AnswerJob) -> Iterator[ModelRow]:
    """Two rows over the answers to all questions: without drafts, and with drafts."""
    engine = Engine.load(EMBEDDED, device=job.device, dtype="float32", kv=job.kv)
    writer = StreamWriter(engine.tokenizer, engine.chat)
    ids = np.concatenate([writer.system().token_ids, writer.written_answer(_text(engine, job.length), "").token_ids])
    state = engine.new_state()
    state.reserve(len(ids) + 1024)
    for _ in engine.read(state, ids):
        pass
    totals = {False: _Totals(), True: _Totals()}
    same = True
    for thing, role, place, _ in _FACTS:
        question = writer.question(f"What is the {thing} of the {role} of {place}?", "").token_ids
        answers = [_ask(engine, state.clone(), ids, question, totals[drafted], drafted=drafted) for drafted in totals]
        same &= answers[0] == answers[1]
    job = replace(job, length=len(ids), weights="fp32", kv=engine.model.kv)
    row = replace(job.row, what="speculation", runs=len(_FACTS))
    plain, drafted = totals[False], totals[True]
    text = f"{len(_FACTS)} answers that quote"
    yield replace(row, new_tokens=plain.tokens, ms_per_token=_per_token(plain), note=f"{text}, without drafts")
    note = (
        f"{text}, with drafts: {drafted.tokens / drafted.passes:.1f} tokens a pass, "
        f"{_per_token(plain) / _per_token(drafted):.2f} times the speed, {'the same' if same else 'other'} answers"
    )
    yield replace(row, new_tokens=drafted.tokens, ms_per_token=_per_token(drafted), note=note)


def _per_token(totals: _Totals) -> float:
    """Milliseconds per token after the first of each answer."""
    return 1e3 * totals.seconds / max(1, totals.tokens - len(_FACTS))


def _text(engine: Engine, num_tokens: int) -> str:
    """The program's own prose, about `num_tokens` tokens, with the facts planted at equal distances."""
    prose = "\n\n".join(
        file.read_text(encoding="utf-8") for file in sorted((ASSETS / "quantize" / "calibration").glob("*.md"))
    )
    share = num_tokens / len(engine.tokenizer.encode_content(prose))
    paragraphs = (prose * (1 + int(share)))[: int(len(prose) * share)].split("\n\n")
    for n, (thing, role, place, value) in enumerate(_FACTS):
        at = int((n + 0.5) * len(paragraphs) / len(_FACTS))
        paragraphs[at] += f" The {thing} of the {role} of {place} is {value}."
    return "\n\n".join(paragraphs)


def _ask(
    engine: Engine, state: SalaState, ids: np.ndarray, question: np.ndarray, totals: _Totals, *, drafted: bool
) -> tuple[int, ...]:
    """Answer one question and add it to `totals`. Returns the tokens of the answer."""
    drafts = DraftIndex(np.concatenate([ids, question])) if drafted else None
    sampling = SamplingParams(temperature=0, stop_repetition=False, max_tokens=_MAX_ANSWER_TOKENS)
    started = None
    answer: tuple[int, ...] = ()
    for event in engine.generate(state, question, sampling, drafts=drafts):
        if isinstance(event, Token) and started is None:
            started = time.perf_counter()
        elif isinstance(event, Finished):
            answer, totals.passes = event.ids, totals.passes + event.passes
    synchronize(engine.model.device)
    if started is not None:
        totals.seconds += time.perf_counter() - started
    totals.tokens += len(answer)
    return answer
